"""Arithmetic for money: decimal, never binary, with digits enough that nothing is rounded unasked.

A sum, difference or product of amounts is exact here. A quotient is not, in general; it is rounded
to `SMALLEST`, far below any currency's digits, and whoever divides keeps the remainder.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from decimal import localcontext as _localcontext
from functools import cache
from typing import Final

SMALLEST: Final = Decimal("1e-24")
"""What a quotient is rounded to."""
ZERO: Final = Decimal(0)

# A product of two 38-digit columns and a multiplier, summed over any number of rows.
_CONTEXT: Final = Context(
    prec=150, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow]
)


def exact_arithmetic() -> AbstractContextManager[Context]:
    """Enter the arithmetic of this module."""
    return _localcontext(_CONTEXT)


def rounded(amount: Decimal, digits: int) -> Decimal:
    """Round an amount to a currency's digits, halves away from zero as engines do."""
    return amount.quantize(minor_unit(digits), ROUND_HALF_UP, _CONTEXT)


def quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """Divide and round to `SMALLEST`."""
    return _CONTEXT.divide(dividend, divisor).quantize(SMALLEST, ROUND_HALF_UP, _CONTEXT)


@cache
def minor_unit(digits: int) -> Decimal:
    """Return the smallest amount of a currency: 0.01 for two digits."""
    return Decimal(1).scaleb(-digits)


def decimal_places(amount: Decimal) -> int:
    """Return how many decimal places an amount needs, trailing zeros aside."""
    exponent = amount.normalize(_CONTEXT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def average(total: Decimal, quantity: Decimal, like: Decimal) -> Decimal:
    """Return an average price, with four digits more than a price like it has."""
    places = decimal_places(like) + 4
    return trimmed(rounded(quotient(total, quantity), places), 0)


def trimmed(amount: Decimal, digits: int) -> Decimal:
    """Drop trailing zeros beyond a currency's digits; the value stays."""
    padded = amount.quantize(minor_unit(max(digits, 0)), context=_CONTEXT)
    # Where that has cut nothing off, the amount needs no more digits.
    return padded if padded == amount else amount.normalize(_CONTEXT)
