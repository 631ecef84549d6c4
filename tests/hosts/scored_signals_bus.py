"""A home-made engine with signals of different strengths, shorts, flips and regimes of its own.

It takes the parts of ``examples/home_made_bus.py`` and has what that one lacks: orders that reach
the market a day after they were decided on, fills at a worse price than the market's, some orders
that are given up, positions that are halved, turned and held short, and a host that calls the
market of one instrument bull or bear after a while.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from decimal import Decimal

from fillpath.examples import home_made_bus
from fillpath.examples.home_made_bus import (
    BarEvent,
    Book,
    Broker,
    Bus,
    Event,
    Feed,
    FillEvent,
    OrderEvent,
    PortfolioEvent,
    Risk,
    Strategy,
)
from fillpath.instrumentation import TracedEventBus, Tracing

DAYS = 220
SLIP = Decimal("0.03")
numbers = itertools.count(1)


@dataclass
class SignalEvent(home_made_bus.SignalEvent):
    """What a strategy wants to hold, and how sure it is; a doubt is below zero."""

    name: str
    strength: float


@dataclass
class RegimeChangeEvent(Event):
    """The market is of another kind."""

    state: str


class ScoredStrategy(Strategy):
    """Goes with the distance from the average, or against it; halves what it doubts."""

    def on_bar(self, bar: BarEvent) -> None:
        """Say what it wants, whenever that is something else."""
        closes = self.closes[bar.symbol]
        closes.append(bar.close)
        if len(closes) < (closes.maxlen or 0):
            return
        score = round(float(bar.close * len(closes) / sum(closes, Decimal()) - 1) * 100, 1)
        score = -score if self.contrarian else score
        before = self.wanted[bar.symbol]
        wanted = 100 if score > 0.4 else -100 if score < -0.8 else 0 if score < -0.2 else before
        if 0 < score <= 0.1 and abs(before) == 100:
            wanted = before // 2
        if wanted != before or (len(closes) == closes.maxlen and bar.timestamp.day % 9 == 0):
            self.wanted[bar.symbol] = wanted
            place = (bar.symbol, bar.timestamp, self.strategy_id, wanted, bar.close)
            self.bus.publish(SignalEvent(*place, f"{self.strategy_id} score", score))


class SlowBroker(Broker):
    """Takes an order at the next bar, and fills it at the open of the one after, a bit worse."""

    def on_bar(self, bar: BarEvent) -> None:
        """Take, fill, or give up."""
        for order in [one for one in self.waiting.values() if one.symbol == bar.symbol]:
            number = int(order.order_id.rpartition("-")[2])
            if order.status == "SUBMITTED":
                taken = replace(order, status="ACCEPTED", event_id=f"a-{next(numbers)}")
                taken.timestamp = bar.timestamp
                self.waiting[order.order_id] = taken
                self.bus.publish(taken)
            elif number % 11 == 0:
                del self.waiting[order.order_id]
                gone = replace(order, status="CANCELED", event_id=f"c-{next(numbers)}")
                gone.timestamp = bar.timestamp
                self.bus.publish(gone)
            else:
                worse = SLIP if order.side == "BUY" else -SLIP
                self.fill(order, bar, bar.open + worse)

    def fill(self, order: OrderEvent, bar: BarEvent, price: Decimal) -> None:
        """Execute an order as a whole; nothing guards what was bought."""
        del self.waiting[order.order_id]
        commission = (order.quantity * price * Decimal("0.0004")).quantize(Decimal("0.01"))
        name, told = f"F-{next(numbers)}", (order.side, order.quantity, price, commission)
        place = (order.symbol, bar.timestamp, order.strategy, order.order_id, name)
        self.bus.publish(FillEvent(*place, *told, "USD", order.event_id))


class SignedBook(Book):
    """Cash, and what is held, long or short."""

    def on_fill(self, fill: FillEvent) -> None:
        """Book an execution."""
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        self.cash -= signed * fill.price + fill.commission
        self.held[fill.strategy, fill.symbol] += signed
        balance = {"currency": "USD", "total": self.cash, "free": self.cash, "locked": Decimal(0)}
        self.bus.publish(
            PortfolioEvent(fill.symbol, fill.timestamp, "cash-2", "CASH", "USD", [balance])
        )


class Caller:
    """Calls one market bull or bear by its last 30 closes, from the hundredth day on."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.state = bus, ""
        self.closes: list[Decimal] = []
        bus.subscribe(BarEvent, self.on_bar)

    def on_bar(self, bar: BarEvent) -> None:
        """Say so when it changes."""
        if bar.symbol != "INIT":
            return
        self.closes.append(bar.close)
        state = "bull" if bar.close > self.closes[max(0, len(self.closes) - 30)] else "bear"
        if len(self.closes) >= 100 and state != self.state:
            self.state = state
            self.bus.publish(RegimeChangeEvent(bar.symbol, bar.timestamp, state))


def main() -> None:
    """Run it."""
    with Tracing(portfolio="scored/book"):
        bus = TracedEventBus(Bus())
        Caller(bus)
        SlowBroker(bus)
        book = SignedBook(bus, Decimal(80_000))
        risk = Risk(bus, book, max_value=Decimal(30_000))
        bus.subscribe(SignalEvent, risk.on_signal)
        ScoredStrategy(bus, "follow", 15)
        ScoredStrategy(bus, "oppose", 8, contrarian=True)
        for bars in zip(
            Feed("ACME", "101.50", seed=4, days=DAYS),
            Feed("INIT", "47.25", seed=9, days=DAYS),
            strict=True,
        ):
            for bar in bars:
                bus.publish(bar)


if __name__ == "__main__":
    main()
