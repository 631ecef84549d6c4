"""A home-made engine of the commonest sort: a queue, and a loop that asks each event's type.

Its events have no ids. Each portfolio counts its orders from one, prices come without a time zone,
an order's events are one object that changes, and one component fails now and then.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from paper_trading import (
    MOST_AT_ONCE,
    PORTFOLIOS,
    STRATEGIES,
    Account,
    Wishes,
    prices,
)


@dataclass
class MarketEvent:
    """The prices of a day."""

    type: ClassVar[str] = "BAR"
    symbol: str
    datetime: datetime
    close: float


@dataclass
class SignalEvent:
    """A strategy wants to hold some shares in a portfolio."""

    type: ClassVar[str] = "SIGNAL"
    portfolio: str
    strategy_id: str
    symbol: str
    datetime: datetime
    value: int


@dataclass
class OrderEvent:
    """An order, whatever became of it."""

    type: ClassVar[str] = "ORDER"
    portfolio: str
    strategy_id: str
    symbol: str
    datetime: datetime
    order_id: str
    direction: str
    quantity: int
    status: str = "SUBMITTED"
    reason: str | None = None


@dataclass
class FillEvent:
    """Shares that were bought or sold."""

    type: ClassVar[str] = "FILL"
    portfolio: str
    strategy_id: str
    symbol: str
    timeindex: datetime
    exchange: str
    order_id: str
    direction: str
    quantity: int
    price: Decimal
    commission: Decimal
    currency: str = "USD"


@dataclass
class AccountEvent:
    """The account after a fill."""

    type: ClassVar[str] = "PORTFOLIO"
    portfolio: str
    timeindex: datetime
    account_id: str
    account_type: str
    base_currency: str
    balances: list[dict[str, object]]


class Strategy:
    """Puts what it wants into the queue, for every portfolio."""

    def __init__(self, events: Any, name: str, size: int) -> None:
        self.events, self.strategy_id, self.wishes = events, name, Wishes(size)

    def calculate_signals(self, bar: MarketEvent) -> None:
        wanted = self.wishes.of(bar.symbol, Decimal(str(bar.close)))
        if wanted is not None:
            for name in PORTFOLIOS:
                self.events.put(
                    SignalEvent(name, self.strategy_id, bar.symbol, bar.datetime, wanted)
                )


class Broker:
    """Fills at the day's close, some shares at once and the rest on the following days."""

    def __init__(self, events: Any, accounts: dict[str, Account]) -> None:
        self.events, self.accounts = events, accounts
        self.last: dict[str, Decimal] = {}
        self.waiting: list[tuple[OrderEvent, int]] = []

    def on_bar(self, bar: MarketEvent) -> None:
        self.last[bar.symbol] = Decimal(str(bar.close))
        waiting, self.waiting = self.waiting, []
        for order, rest in waiting:
            if order.symbol == bar.symbol:
                self.fill(order, rest, bar.datetime)
            else:
                self.waiting.append((order, rest))

    def execute_order(self, order: OrderEvent) -> None:
        if order.status == "SUBMITTED":
            self.fill(order, order.quantity, order.datetime)

    def fill(self, order: OrderEvent, rest: int, when: datetime) -> None:
        number = min(rest, MOST_AT_ONCE)
        signed = number if order.direction == "BUY" else -number
        account = self.accounts[order.portfolio]
        place = (order.strategy_id, order.symbol, order.order_id)
        trade = account.book(*place, signed, self.last[order.symbol])
        self.events.put(
            FillEvent(
                order.portfolio,
                order.strategy_id,
                order.symbol,
                when,
                "PAPER",
                order.order_id,
                order.direction,
                number,
                trade.price,
                trade.commission,
            )
        )
        if rest > number:
            self.waiting.append((order, rest - number))
        order.status = "PARTIALLY_FILLED" if rest > number else "FILLED"
        order.quantity = 0  # too late for what was put into the queue


class Desk:
    """Turns signals into orders, and tells what is in the accounts."""

    def __init__(self, events: Any, accounts: dict[str, Account]) -> None:
        self.events, self.accounts = events, accounts

    def update_signal(self, signal: SignalEvent) -> None:
        account = self.accounts[signal.portfolio]
        place = (signal.strategy_id, signal.symbol)
        order = account.order_for(*place, signal.value)
        if order is None:
            return
        order_id, change, is_refused = order
        side = "BUY" if change > 0 else "SELL"
        event = OrderEvent(signal.portfolio, *place, signal.datetime, order_id, side, abs(change))
        if is_refused:
            event.status, event.reason = "REJECTED", "more than may be held"
        self.events.put(event)

    def update_fill(self, fill: FillEvent) -> None:
        account = self.accounts[fill.portfolio]
        kind = (f"cash of {fill.portfolio}", "CASH", "USD")
        self.events.put(AccountEvent(fill.portfolio, fill.timeindex, *kind, account.statement()))


class Engine:
    """The loop."""

    def __init__(self, events: Any = None) -> None:
        self.events: Any = queue.Queue() if events is None else events
        self.accounts = {name: Account(name) for name in PORTFOLIOS}
        self.strategies = [Strategy(self.events, *each) for each in STRATEGIES.items()]
        self.broker = Broker(self.events, self.accounts)
        self.desk = Desk(self.events, self.accounts)
        self.last: dict[str, Decimal] = {}
        self.failures = 0

    def check(self, order: OrderEvent) -> None:
        """Fail, as something in every engine does."""
        if order.order_id.endswith("5"):
            raise RuntimeError(f"cannot check {order.order_id}")

    def run(self) -> None:
        for day, closes in prices():
            self.last = closes
            when = datetime(2024, 1, 2, 21) + timedelta(days=day)  # noqa: DTZ001 - naive, on purpose
            for symbol, price in closes.items():
                self.events.put(MarketEvent(symbol, when, float(price)))
            while True:
                try:
                    event = self.events.get(False)
                except queue.Empty:
                    break
                try:
                    if event.type == "BAR":
                        self.broker.on_bar(event)
                        for strategy in self.strategies:
                            strategy.calculate_signals(event)
                    elif event.type == "SIGNAL":
                        self.desk.update_signal(event)
                    elif event.type == "ORDER":
                        self.broker.execute_order(event)
                        self.check(event)
                    elif event.type == "FILL":
                        self.desk.update_fill(event)
                except RuntimeError:
                    self.failures += 1
