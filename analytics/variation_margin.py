"""Futures that are settled every day: what their positions are paid before they are closed.

Such a payment moves the cash, and is no profit of its own: it is a part of what the position will
have earned, or lost, once it is closed. So it counts as held, until a fill realises the profit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from fillpath.analytics.account_entries import AccountEntries
from fillpath.analytics.exact import ZERO, minor_unit, quotient
from fillpath.analytics.ledger_events import CashFlowEvent, SpanRef
from fillpath.analytics.position_book import FLOAT_NOISE, Execution

_HALF: Final = Decimal("0.5")


@dataclass(slots=True)
class _Contract:
    """One instrument of an account.

    Attributes:
        paid: What open positions have been paid so far, if a fill pays the rest of its profit.
        held: Quantity of all open positions.
        payments: How many there were.
        turnover: What was traded and paid, by which the doubles of an engine are uncertain.
        last: The last payment.
    """

    paid: Decimal = ZERO
    held: Decimal = ZERO
    payments: int = 0
    turnover: Decimal = ZERO
    last: SpanRef | None = None


@dataclass(slots=True)
class VariationMargin:
    """Follows the payments of one account, by symbol and currency."""

    _contracts: dict[tuple[str, str], _Contract] = field(default_factory=dict)

    def note(self, event: CashFlowEvent) -> None:
        """Take a cash flow; only those that pay a position matter."""
        if event.is_margin:
            contract = self._contracts.setdefault((event.symbol, event.currency), _Contract())
            contract.paid += event.amount
            contract.payments += 1
            contract.turnover += abs(event.amount)
            contract.last = event.ref

    def take(self, execution: Execution) -> Execution:
        """Take a fill; gives it with what the part that it closes has been paid before."""
        fill = execution.fill
        if not fill.is_margined:
            return execution
        place = fill.symbol, fill.settlement_currency
        contract = self._contracts.setdefault(place, _Contract())
        closed, paid = execution.closed, ZERO
        if closed:
            paid = contract.paid
            if closed < contract.held:
                paid = quotient(paid * closed, contract.held)
        contract.paid -= paid
        contract.held += fill.quantity - 2 * closed
        contract.turnover += execution.notional
        return replace(execution, margin=paid)

    def finish(self, entries: AccountEntries, digits: Mapping[str, int]) -> Iterator[str]:
        """See that what is closed was paid its profit, no more and no less.

        Args:
            entries: Of the account; what doubles leave over is rounded off in them, what exchange
                rates made between payments and profit is told, and any more is a difference.
            digits: Decimal places by currency.

        Yields:
            A sentence for each instrument that was not.
        """
        for (symbol, told_in), contract in self._contracts.items():
            currency = entries.base_currency or told_in
            left = entries.margins.get((symbol, currency), ZERO)
            if contract.held or not left or contract.last is None:
                continue
            entries.sum(currency).held -= left
            if currency != told_in:
                entries.convert(contract.last, symbol, currency, left)
                continue
            # Each payment may be rounded, and a double knows about 14 digits of the notional.
            once = minor_unit(digits[currency]) * _HALF + contract.turnover * FLOAT_NOISE
            if abs(left) <= once * (contract.payments + 1):
                entries.round_off(contract.last, {currency: left})
                continue
            entries.sum(currency).difference += left
            yield (
                f"{symbol} is closed, and its variation margin was {abs(left)} {currency} "
                f"{'more' if left > 0 else 'less'} than it has earned."
            )
