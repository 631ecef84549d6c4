"""Trades: from the fill that opens a position to the one that brings it back to flat."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from fillpath.analytics.exact import ZERO, average
from fillpath.analytics.ledger_events import FillEvent


@dataclass(slots=True)
class RoundTrip:
    """One position from flat to flat, or still open.

    Attributes:
        opened_by: The first entry fill; portfolio, strategy and symbol are its.
        position_id: The engine's id of the position, if it names positions.
        direction: `LONG` or `SHORT`.
        entered: Quantity of all entries.
        exited: Quantity of all exits.
        realized_by_currency: Profit of what was closed, before commission.
        commissions_by_currency: Commissions; positive is a cost.
        unrealized_by_currency: Profit of what is still held, at the last price, if there is one.
        entries: The fills that opened it or added to it, and how much of each did.
        exits: The fills that closed it or a part of it, and how much of each did.
        closed_by: The last exit fill; ``None`` while nothing is closed.
        open_quantity: What is still held.
    """

    opened_by: FillEvent
    position_id: str | None
    direction: str
    entered: Decimal = ZERO
    exited: Decimal = ZERO
    realized_by_currency: dict[str, Decimal] = field(default_factory=dict)
    commissions_by_currency: dict[str, Decimal] = field(default_factory=dict)
    unrealized_by_currency: dict[str, Decimal] = field(default_factory=dict)
    entries: list[tuple[FillEvent, Decimal]] = field(default_factory=list)
    exits: list[tuple[FillEvent, Decimal]] = field(default_factory=list)
    closed_by: FillEvent | None = None
    open_quantity: Decimal = ZERO
    _entry_cost: Decimal = ZERO
    _exit_cost: Decimal = ZERO

    @property
    def trade_id(self) -> str:
        """Name of the trade, the same in every load of the run: where its first fill is.

        A fill that turns a position closes one trade and opens another, so the span that opens it
        names one trade only.
        """
        return self.opened_by.ref.span_id

    @property
    def currency(self) -> str:
        """The currency that `realized` and `commission` are in: the account's, or the price's."""
        amounts = (
            self.realized_by_currency,
            self.unrealized_by_currency,
            self.commissions_by_currency,
        )
        named = (currency for by_currency in amounts for currency in by_currency)
        return next(named, self.opened_by.settlement_currency)

    @property
    def realized(self) -> Decimal:
        """Profit of what was closed, before commission, in `currency`."""
        return self.realized_by_currency.get(self.currency, ZERO)

    @property
    def unrealized(self) -> Decimal | None:
        """Profit of what is still held, in `currency`; ``None`` without a price."""
        return self.unrealized_by_currency.get(self.currency)

    @property
    def is_open(self) -> bool:
        """Whether something is still held."""
        return bool(self.open_quantity)

    @property
    def commission(self) -> Decimal:
        """Commissions in `currency`; positive is a cost."""
        return self.commissions_by_currency.get(self.currency, ZERO)

    @property
    def entry_price(self) -> Decimal:
        """Average price of the entries, weighted by quantity, rounded."""
        return average(self._entry_cost, self.entered, self.opened_by.price)

    @property
    def exit_price(self) -> Decimal | None:
        """Average price of the exits, rounded; ``None`` while nothing is closed."""
        if not self.exited:
            return None
        return average(self._exit_cost, self.exited, self.opened_by.price)

    def enter(self, fill: FillEvent, quantity: Decimal) -> None:
        """Take note of an entry."""
        self.entries.append((fill, quantity))
        self.entered += quantity
        self._entry_cost += quantity * fill.price

    def leave(self, fill: FillEvent, quantity: Decimal) -> None:
        """Take note of an exit."""
        self.closed_by = fill
        self.exits.append((fill, quantity))
        self.exited += quantity
        self._exit_cost += quantity * fill.price

    def realize(self, amount: Decimal, currency: str) -> None:
        """Take note of a profit."""
        so_far = self.realized_by_currency.get(currency, ZERO)
        self.realized_by_currency[currency] = so_far + amount

    def charge(self, amount: Decimal, currency: str) -> None:
        """Take note of a commission."""
        so_far = self.commissions_by_currency.get(currency, ZERO)
        self.commissions_by_currency[currency] = so_far + amount
