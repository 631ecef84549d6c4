"""Changes of an account that a statement shows and nothing before it explains."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from fillpath.analytics.account_entries import AccountEntries
from fillpath.analytics.bookings import Amounts
from fillpath.analytics.ledger_events import SpanRef

_MOST_WAITING: Final = 16


@dataclass(slots=True)
class UnexplainedChange:
    """One such change.

    Attributes:
        ref: The statement.
        amounts: By currency.
        as_funding: Those of them that pass as financing; the others are differences.
    """

    ref: SpanRef
    amounts: dict[str, Decimal] = field(default_factory=dict)
    as_funding: set[str] = field(default_factory=set)


@dataclass(slots=True)
class UnexplainedChanges:
    """Those of one account. What explains one may still be published, after the statement.

    Attributes:
        entries: Where they stand as financing or as differences.
        waiting: The latest, for which fills may still come; the oldest first.
    """

    entries: AccountEntries
    waiting: list[UnexplainedChange] = field(default_factory=list)
    _all: list[UnexplainedChange] = field(default_factory=list)

    def add(self, ref: SpanRef, change: Amounts, as_funding: Collection[str]) -> None:
        """Take a change that no event explains yet.

        Args:
            ref: The statement.
            change: By currency.
            as_funding: The currencies in which it passes as financing.
        """
        made = UnexplainedChange(ref, dict(change), set(as_funding))
        for currency, amount in change.items():
            if currency in made.as_funding:
                self.entries.fund(ref, currency, amount)
            else:
                self.entries.sum(currency).difference += amount
        self._all.append(made)
        self.waiting = [*self.waiting, made][-_MOST_WAITING:]

    def take_back(self, change: UnexplainedChange) -> None:
        """Undo `add`: the change is explained after all."""
        self._all = [one for one in self._all if one is not change]
        for currency in list(change.amounts):
            self._take_back_amount(change, currency)

    def _take_back_amount(self, change: UnexplainedChange, currency: str) -> None:
        amount = change.amounts.pop(currency)
        if currency in change.as_funding:
            self.entries.unfund(change.ref, currency, amount)
        else:
            self.entries.sum(currency).difference -= amount

    def explained_by(self, currency: str, amount: Decimal) -> bool:
        """Tell whether a cash flow that came late is the latest change of its currency.

        If it is, the change is taken back.
        """
        change = next((one for one in reversed(self._all) if currency in one.amounts), None)
        if change is None or change.amounts[currency] != amount:
            return False
        self._take_back_amount(change, currency)
        if not change.amounts:
            self.take_back(change)
            self.waiting = [one for one in self.waiting if one is not change]
        return True

    def sentences(self) -> Iterator[str]:
        """Say what neither an event nor financing explains, each once."""
        told = (
            f"The account changed by {amount} {currency} without a fill or a cash flow that was "
            "published."
            for one in self._all
            for currency, amount in one.amounts.items()
            if currency not in one.as_funding
        )
        yield from dict.fromkeys(told)
