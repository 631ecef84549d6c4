"""Cash flows that the host has told and no statement of the account has shown yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from fillpath.analytics.account_entries import AccountEntries
from fillpath.analytics.bookings import Amounts, bring
from fillpath.analytics.exact import ZERO
from fillpath.analytics.ledger_events import CashFlowEvent


class WaitingFlows:
    """The cash flows of one account that wait to be booked, in order.

    Args:
        entries: Where they are booked.
        digits: Decimal places by currency.
    """

    def __init__(self, entries: AccountEntries, digits: Mapping[str, int]) -> None:
        self._entries = entries
        self._digits = digits
        self._waiting: list[CashFlowEvent] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __getitem__(self, place: int) -> CashFlowEvent:
        return self._waiting[place]

    def add(self, event: CashFlowEvent) -> None:
        """Have one wait for the statement that shows it."""
        self._waiting.append(event)

    def amount(self, event: CashFlowEvent) -> tuple[str, Decimal]:
        """Tell the currency and amount that one comes to in this account."""
        entries = self._entries
        return bring(
            event.currency, event.amount, entries.base_currency, entries.rates, self._digits
        )

    def less(self, change: Amounts, count: int) -> dict[str, Decimal]:
        """Give what is left of a change of the account without the first few of them."""
        left = dict(change)
        for event in self._waiting[:count]:
            currency, amount = self.amount(event)
            left[currency] = left.get(currency, ZERO) - amount
        return {currency: amount for currency, amount in left.items() if amount}

    def book(self, count: int | None = None) -> None:
        """Book the first few of them, or all."""
        for event in self._waiting[:count]:
            self._entries.flow(event, *self.amount(event))
        del self._waiting[:count]

    def finish(self) -> Iterator[tuple[CashFlowEvent, str, Decimal]]:
        """Book all that no statement has shown, and tell each with what it came to."""
        for event in self._waiting:
            currency, amount = self.amount(event)
            self._entries.flow(event, currency, amount)
            yield event, currency, amount
        self._waiting.clear()
