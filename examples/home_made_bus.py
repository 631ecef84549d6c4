"""A home-made event-driven engine: a bus, a feed, strategies, risk, a broker, a book.

Run it with ``python examples/home_made_bus.py``; it trades made-up prices and prints its trades.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

CENT = Decimal("0.01")
ids = itertools.count(1)


@dataclass
class Event:
    """What every event has."""

    symbol: str
    timestamp: datetime
    event_id: str = field(default_factory=lambda: f"e-{next(ids)}", kw_only=True)


@dataclass
class BarEvent(Event):
    """Prices of one day."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass
class SignalEvent(Event):
    """A strategy wants to hold some shares."""

    strategy: str
    value: int
    price: Decimal


@dataclass
class OrderEvent(Event):
    """An order that is new or changes its state."""

    strategy: str
    order_id: str
    side: str
    quantity: int
    order_type: str
    status: str
    price: Decimal | None = None
    reason: str | None = None


@dataclass
class RiskBreachEvent(Event):
    """An order that a rule forbids."""

    strategy: str
    rule: str
    limit: Decimal
    value: Decimal


@dataclass
class FillEvent(Event):
    """An execution; the order may have waited for it since an earlier day."""

    strategy: str
    order_id: str
    fill_id: str
    side: str
    quantity: int
    price: Decimal
    commission: Decimal
    currency: str
    causation_id: str


@dataclass
class PortfolioEvent(Event):
    """The account after a fill."""

    account_id: str
    account_type: str
    base_currency: str
    balances: list[dict[str, Any]]


class Bus:
    """Hands each event to the handlers of its class, at once and in the order they came."""

    def __init__(self) -> None:
        self._handlers: dict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)

    def subscribe(self, kind: type[Event], handler: Callable[[Any], None]) -> None:
        """Call the handler with every event of this class."""
        self._handlers[kind].append(handler)

    def publish(self, event: Event) -> None:
        """Tell everyone who is to know."""
        for handler in self._handlers[type(event)]:
            handler(event)


class Feed:
    """Makes up prices: the same ones in every run."""

    def __init__(self, symbol: str, start: str, seed: int, days: int = 250) -> None:
        self.symbol, self.days, self._price = symbol, days, Decimal(start)
        self._random = random.Random(seed)  # noqa: S311 - prices, not secrets

    def __iter__(self) -> Iterator[BarEvent]:
        day = datetime(2024, 1, 2, 21, tzinfo=UTC)
        for _ in range(self.days):
            prices = [self._price]
            for _ in range(3):
                change = Decimal(self._random.gauss(0.0004, 0.012))
                prices.append((prices[-1] * (1 + change)).quantize(CENT))
            self._price = prices[-1]
            yield BarEvent(self.symbol, day, prices[0], max(prices), min(prices), prices[-1])
            day += timedelta(days=1)


class Strategy:
    """Wants to be long while the price is above its average, or below it for a contrarian."""

    def __init__(self, bus: Bus, name: str, days: int, *, contrarian: bool = False) -> None:
        self.bus, self.strategy_id, self.contrarian = bus, name, contrarian
        self.closes: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=days))
        self.wanted: dict[str, int] = defaultdict(int)
        bus.subscribe(BarEvent, self.on_bar)

    def on_bar(self, bar: BarEvent) -> None:
        """Compare the close with the average of the last closes."""
        closes = self.closes[bar.symbol]
        closes.append(bar.close)
        if len(closes) < (closes.maxlen or 0):
            return
        above = bar.close > sum(closes, Decimal()) / len(closes)
        wanted = 100 if above is not self.contrarian else 0
        if wanted != self.wanted[bar.symbol]:
            self.wanted[bar.symbol] = wanted
            self.bus.publish(
                SignalEvent(bar.symbol, bar.timestamp, self.strategy_id, wanted, bar.close)
            )


class Risk:
    """Turns signals into orders, unless there are too many shares of a kind already."""

    def __init__(self, bus: Bus, book: Book, max_value: Decimal) -> None:
        self.bus, self.book, self.max_value = bus, book, max_value
        bus.subscribe(SignalEvent, self.on_signal)

    def on_signal(self, signal: SignalEvent) -> None:
        """Send the order that brings the strategy to what it wants."""
        place = (signal.symbol, signal.timestamp, signal.strategy)
        change = signal.value - self.book.held[signal.strategy, signal.symbol]
        if change == 0:
            return
        side = "BUY" if change > 0 else "SELL"
        order = OrderEvent(*place, f"O-{next(ids)}", side, abs(change), "MARKET", "SUBMITTED")
        value = (self.book.shares_of(signal.symbol) + change) * signal.price
        if side == "BUY" and value > self.max_value:
            order.status, order.reason = "REJECTED", f"more than {self.max_value} of one share"
            self.bus.publish(RiskBreachEvent(*place, "max_value", self.max_value, value))
        self.bus.publish(order)


class Broker:
    """Fills market orders at the next day's open, and guards what was bought with a stop."""

    def __init__(self, bus: Bus, stop: Decimal = Decimal("0.96")) -> None:
        self.bus, self.stop = bus, stop
        self.waiting: dict[str, OrderEvent] = {}
        bus.subscribe(OrderEvent, self.on_order)
        bus.subscribe(BarEvent, self.on_bar)

    def on_order(self, order: OrderEvent) -> None:
        """Take a new order; one that sells makes the stop of its strategy void."""
        if order.status != "SUBMITTED":
            return
        for other in list(self.waiting.values()):
            same = (other.strategy, other.symbol) == (order.strategy, order.symbol)
            if same and order.order_type == "MARKET":
                del self.waiting[other.order_id]
        self.waiting[order.order_id] = order

    def on_bar(self, bar: BarEvent) -> None:
        """Fill what this day's prices reach."""
        for order in [o for o in self.waiting.values() if o.symbol == bar.symbol]:
            if order.price is None:
                self.fill(order, bar, bar.open)
            elif bar.low <= order.price:
                self.fill(order, bar, min(order.price, bar.open))

    def fill(self, order: OrderEvent, bar: BarEvent, price: Decimal) -> None:
        """Execute an order as a whole."""
        del self.waiting[order.order_id]
        place = (order.symbol, bar.timestamp, order.strategy)
        commission = max(Decimal(1), (order.quantity * price * Decimal("0.0005")).quantize(CENT))
        self.bus.publish(
            FillEvent(
                *place,
                order.order_id,
                f"F-{next(ids)}",
                order.side,
                order.quantity,
                price,
                commission,
                currency="USD",
                causation_id=order.event_id,
            )
        )
        if order.side == "BUY":
            stop = (price * self.stop).quantize(CENT, ROUND_HALF_UP)
            name = f"O-{next(ids)}"
            self.bus.publish(
                OrderEvent(*place, name, "SELL", order.quantity, "STOP", "SUBMITTED", stop)
            )


@dataclass
class Trade:
    """Shares that were bought and sold again."""

    strategy: str
    symbol: str
    quantity: int
    bought: Decimal
    sold: Decimal
    profit: Decimal


class Book:
    """A cash account, and what it holds for whom."""

    def __init__(self, bus: Bus, cash: Decimal) -> None:
        self.bus, self.cash = bus, cash
        self.held: dict[tuple[str, str], int] = defaultdict(int)
        self.entries: dict[tuple[str, str], FillEvent] = {}
        self.trades: list[Trade] = []
        bus.subscribe(FillEvent, self.on_fill)

    def shares_of(self, symbol: str) -> int:
        """Shares that all strategies hold together."""
        return sum(number for (_, held), number in self.held.items() if held == symbol)

    def on_fill(self, fill: FillEvent) -> None:
        """Book an execution, and the trade if it ends one."""
        key = (fill.strategy, fill.symbol)
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        self.cash -= signed * fill.price + fill.commission
        self.held[key] += signed
        if signed > 0:
            self.entries[key] = fill
        else:
            entry = self.entries.pop(key)
            profit = (fill.price - entry.price) * fill.quantity - entry.commission - fill.commission
            self.trades.append(Trade(*key, fill.quantity, entry.price, fill.price, profit))
        balance = {"currency": "USD", "total": self.cash, "free": self.cash, "locked": Decimal(0)}
        self.bus.publish(
            PortfolioEvent(fill.symbol, fill.timestamp, "cash-1", "CASH", "USD", [balance])
        )


class Engine:
    """Puts the parts together on one bus."""

    def __init__(self, bus: Bus, cash: Decimal = Decimal(100_000)) -> None:
        self.bus = bus
        self.feeds = [Feed("ACME", "101.50", seed=4), Feed("INIT", "47.25", seed=9)]
        self.broker = Broker(bus)
        self.book = Book(bus, cash)
        self.risk = Risk(bus, self.book, max_value=Decimal(20_500))
        self.strategies = [
            Strategy(bus, "trend", 20),
            Strategy(bus, "quick-trend", 5),
            Strategy(bus, "contrarian", 10, contrarian=True),
        ]

    def run(self) -> None:
        """Trade all days; everything that a day's prices cause happens before the next day."""
        for bars in zip(*self.feeds, strict=True):
            for bar in bars:
                self.bus.publish(bar)

    def report(self) -> str:
        """The trades, and what is left in the account."""
        lines = [
            f"{trade.strategy:12} {trade.symbol} {trade.quantity:4} "
            f"{trade.bought:>8} -> {trade.sold:>8} {trade.profit:>10}"
            for trade in self.book.trades
        ]
        return "\n".join([*lines, f"{len(lines)} trades, cash {self.book.cash} USD"])


if __name__ == "__main__":
    engine = Engine(Bus())
    engine.run()
    print(engine.report())
