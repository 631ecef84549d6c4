"""Rounding amounts so that they still add up: by largest remainder (Hamilton's method).

Every amount is cut to whole minor units, and the units that the sum then lacks go to the amounts
that lost most. No amount ends up further than one minor unit from its exact value.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal

from fillpath.analytics.exact import ZERO, minor_unit, rounded


def round_together(
    amounts: Sequence[Decimal], digits: int, total: Decimal | None = None
) -> list[Decimal]:
    """Round amounts to a currency's digits so that they add up to their rounded sum.

    Args:
        amounts: Exact; in `exact_arithmetic`.
        digits: Decimal places.
        total: What they are to add up to instead, in whole minor units; a total that is further
            off than one unit an amount is spread evenly first.

    Returns:
        An amount for each; of equal remainders the earlier one is raised first.
    """
    if not amounts:
        return []
    unit = minor_unit(digits)
    cut = [amount.quantize(unit, ROUND_FLOOR) for amount in amounts]
    if total is None:
        total = rounded(sum(amounts, ZERO), digits)
    missing = int((total - sum(cut, ZERO)) / unit)
    each, rest = divmod(missing, len(amounts))
    order = sorted(range(len(amounts)), key=lambda at: cut[at] - amounts[at])
    for place, at in enumerate(order):
        cut[at] += unit * (each + (place < rest))
    return cut


def share_out(total: Decimal, weights: Sequence[Decimal], digits: int) -> list[Decimal]:
    """Share an amount in proportion to weights, each share rounded, their sum exactly the amount.

    Args:
        total: In `exact_arithmetic`; what of it is finer than the digits goes to the heaviest.
        weights: Not negative; all zero counts as all equal.
        digits: Decimal places of the shares.
    """
    weight = sum(weights, ZERO)
    if not weight:
        weights, weight = [Decimal(1)] * len(weights), Decimal(len(weights))
    coarse = rounded(total, digits)
    exact = [coarse * one / weight for one in weights]
    shares = round_together(exact, digits, coarse)
    heaviest = max(range(len(weights)), key=lambda at: weights[at])
    shares[heaviest] += total - coarse
    return shares
