"""A small engine that trades by chance, recorded for real, and its own log of what happened.

It makes what attribution has to cope with: bars, quotes and trades of the same instrument, orders
with a signal, without one and in answer to a fill, resting limits and stops that fill in pieces,
cancelled rests, shorts, flips, several strategies, host's own prices and reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from fillpath.instrumentation import OpenEvent, Tracing
from fillpath.instrumentation.semconv import Bar, EventType, Fill, Order, Signal, Tick

D = Decimal
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@dataclass
class Logged:
    """An event as the engine knows it; its place in the log, from 1, is its sequence."""

    kind: str
    time: int
    symbol: str
    strategy: str
    attributes: dict[str, Any]
    cause: int | None


@dataclass
class RandomTrading:
    """Trades by chance.

    Args:
        tracing: The session.
        seed: Decides everything.
        portfolio: Namespace of everything.
        with_market: Whether market data is published.
    """

    tracing: Tracing
    seed: int
    portfolio: str = "fund/random"
    with_market: bool = True
    log: list[Logged] = field(default_factory=list)
    opened: list[OpenEvent] = field(default_factory=list)
    time: int = START
    resting: list[dict[str, Any]] = field(default_factory=list)
    orders: int = 0
    held: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.prices = {"ACME": D("100.00"), "BETA": D("20.00")}

    def publish(
        self,
        kind: str,
        symbol: str,
        attributes: Mapping[str, Any],
        *,
        cause: int | None = None,
        strategy: str = "",
    ) -> int:
        """Publish an event; gives its sequence."""
        event = self.tracing.tracer.open(
            kind,
            portfolio=self.portfolio,
            strategy=strategy or None,
            symbol=symbol,
            venue="SIM",
            event_time=self.time,
            attributes=dict(attributes),
            parent=None if cause is None else self.opened[cause - 1],
        )
        self.opened.append(event)
        self.log.append(Logged(kind, self.time, symbol, strategy, dict(attributes), cause))
        return len(self.log)

    def run(self, steps: int) -> None:
        """Let time pass."""
        for _ in range(steps):
            self.time += self.random.choice((1, 1, 30)) * SECOND
            for symbol in self.prices:
                if self.random.random() < 0.7:
                    self.step(symbol)
        for event in reversed(self.opened):
            self.tracing.tracer.close(event)

    def step(self, symbol: str) -> None:
        """Move the price, fill what rests before or after anybody hears of it, and act."""
        old = self.prices[symbol]
        new = self.prices[symbol] = max(D(5), old + D(self.random.randrange(-60, 61)) / 100)
        engine_first = self.random.random() < 0.5
        if engine_first:
            self.fill_resting(symbol, None)
        market = self.market(symbol, old, new)
        if not engine_first:
            self.fill_resting(symbol, market)
        for strategy in ("A", "B"):
            if self.random.random() < 0.3:
                self.act(symbol, strategy, market)

    def market(self, symbol: str, old: Decimal, new: Decimal) -> int | None:
        """Publish a bar of one of two lengths, a quote or a trade."""
        if not self.with_market:
            return None
        what = self.random.choice(("bar", "bar", "long bar", "quote", "trade"))
        if what == "quote":
            half = D(self.random.randrange(1, 6)) / 100
            return self.publish(
                EventType.TICK, symbol, {Tick.BID: str(new - half), Tick.ASK: str(new + half)}
            )
        if what == "trade":
            return self.publish(EventType.TICK, symbol, {Tick.PRICE: str(new), Tick.SIZE: "5"})
        high, low = max(old, new) + D("0.07"), min(old, new) - D("0.11")
        texts = {Bar.OPEN: str(old), Bar.HIGH: str(high), Bar.LOW: str(low), Bar.CLOSE: str(new)}
        return self.publish(EventType.BAR, symbol, {**texts, Bar.TYPE: what})

    def act(self, symbol: str, strategy: str, market: int | None) -> None:
        """Cancel something, or send an order, after a signal or not."""
        mine = [
            one for one in self.resting if (one["symbol"], one["strategy"]) == (symbol, strategy)
        ]
        if mine and self.random.random() < 0.4:
            one = self.random.choice(mine)
            self.resting.remove(one)
            state = {**one["named"], Order.STATUS: self.random.choice(("CANCELED", "EXPIRED"))}
            self.publish(EventType.ORDER, symbol, state, cause=one["last"], strategy=strategy)
            return
        cause = market
        if self.random.random() < 0.6:
            strength = round(self.random.uniform(-1, 1), 3)
            signal = {Signal.NAME: "chance", Signal.STRENGTH: strength}
            cause = self.publish(EventType.SIGNAL, symbol, signal, cause=market, strategy=strategy)
            if self.random.random() < 0.3:  # it takes a while, and the market moves on
                self.time += SECOND
                self.market(symbol, self.prices[symbol], self.prices[symbol] + D("0.03"))
        self.send(symbol, strategy, cause)

    def send(self, symbol: str, strategy: str, cause: int | None) -> None:
        """Send an order; a market order fills at once, in one piece or two, or partly."""
        self.orders += 1
        kind = self.random.choice(("MARKET", "MARKET", "LIMIT", "STOP_MARKET"))
        closing = "SELL" if self.held[symbol, strategy] > 0 else "BUY"
        named: dict[str, Any] = {
            Order.CLIENT_ID: f"O-{self.orders}",
            Order.SIDE: self.random.choice(("BUY", "SELL", closing, closing)),
            Order.TYPE: kind,
            Order.QUANTITY: str(self.random.randrange(1, 9)),
        }
        first = dict(named)
        if self.random.random() < 0.15:
            first[Order.DECISION_PRICE] = str(self.prices[symbol] + D("0.25"))
        if self.random.random() < 0.15:
            first[Order.REASON] = "a whim"
        if kind == "LIMIT" and self.random.random() < 0.3:
            first[Order.REDUCE_ONLY] = True
        if kind == "STOP_MARKET" and self.random.random() < 0.6:
            first[Order.TRIGGER_PRICE] = str(self.prices[symbol] + D("0.40"))
        if kind == "LIMIT":
            first[Order.PRICE] = str(self.prices[symbol] - D("0.15"))
        last = self.publish(
            EventType.ORDER,
            symbol,
            {**first, Order.STATUS: "INITIALIZED"},
            cause=cause,
            strategy=strategy,
        )
        for state in ("SUBMITTED", "ACCEPTED"):
            if self.random.random() < 0.8:
                if self.random.random() < 0.3:
                    self.market(symbol, self.prices[symbol], self.prices[symbol] - D("0.02"))
                last = self.publish(
                    EventType.ORDER,
                    symbol,
                    {**named, Order.STATUS: state},
                    cause=last,
                    strategy=strategy,
                )
        one: dict[str, Any] = {
            "symbol": symbol,
            "strategy": strategy,
            "named": named,
            "last": last,
            "left": int(named[Order.QUANTITY]),
        }
        if kind == "MARKET":
            self.fill(one, self.random.randrange(1, one["left"] + 1))
        if one["left"]:
            self.resting.append(one)

    def fill_resting(self, symbol: str, _market: int | None) -> None:
        """Fill some of what rests."""
        for one in [one for one in self.resting if one["symbol"] == symbol]:
            if self.random.random() < 0.4:
                fill = self.fill(one, self.random.randrange(1, one["left"] + 1))
                if self.random.random() < 0.2:
                    self.send(symbol, one["strategy"], fill)

    def fill(self, one: dict[str, Any], quantity: int) -> int:
        """Fill a part of an order."""
        one["left"] -= quantity
        sign = 1 if one["named"][Order.SIDE] == "BUY" else -1
        self.held[one["symbol"], one["strategy"]] += sign * quantity
        if not one["left"] and one in self.resting:
            self.resting.remove(one)
        price = self.prices[one["symbol"]] + D(self.random.randrange(-9, 10)) / 100
        numbers = {
            Fill.ID: f"F-{len(self.log)}",
            Fill.PRICE: str(price),
            Fill.QUANTITY: str(quantity),
            Fill.COMMISSION: str(D(quantity) * D("0.05")),
            Fill.CURRENCY: "USD",
            Fill.COMMISSION_CURRENCY: "USD",
            Order.STATUS: "PARTIALLY_FILLED" if one["left"] else "FILLED",
        }
        return self.publish(
            EventType.FILL,
            one["symbol"],
            {**one["named"], **numbers},
            cause=one["last"],
            strategy=one["strategy"],
        )


def record_random_trading(
    data: Path, run_id: str, seed: int, *, steps: int = 120, **given: Any
) -> list[Logged]:
    """Record a run; gives the engine's own log of it."""
    with Tracing(run_id, data=data, writer="inline") as tracing:
        trading = RandomTrading(tracing, seed, **given)
        trading.run(steps)
    return trading.log
