"""A small market, recorded for real: bars, signals, orders, fills and positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fillpath.instrumentation import OpenEvent, Tracing
from fillpath.instrumentation.semconv import (
    PROCESS,
    Account,
    Bar,
    Command,
    EventType,
    Fill,
    Order,
    Position,
    Risk,
    Signal,
)

DAY = 86_400_000_000_000
START = 1_700_000_000_000_000_000
HOSTILE = "[red]<script>\x1b[31m\u202e'; DROP TABLE spans; --\n🚀"


@dataclass
class Market:
    """Publishes what an engine would, into a running session.

    Args:
        tracing: The session.
        portfolio: Namespace of everything it publishes.
        strategy: Id of the strategy.
        symbol: The instrument.
    """

    tracing: Tracing
    portfolio: str = "fund/desk"
    strategy: str = "Trend-1"
    symbol: str = "ACME"
    orders: int = 0
    fills: int = 0
    time: int = START
    entry: OpenEvent | None = None
    seen: list[OpenEvent] = field(default_factory=list)

    def publish(
        self,
        event_type: str,
        cause: OpenEvent | None,
        attributes: Mapping[str, Any] | None = None,
        *,
        links: tuple[OpenEvent, ...] = (),
        operation: str = "publish",
    ) -> OpenEvent:
        """Publish one event."""
        handler = "Trend.on_bar" if operation == PROCESS else None
        event = self.tracing.tracer.open(
            event_type,
            operation=operation,
            portfolio=self.portfolio,
            strategy=None
            if event_type == EventType.BAR and operation != PROCESS
            else self.strategy,
            symbol=self.symbol,
            venue="XNAS",
            handler=handler,
            event_time=self.time,
            attributes=attributes or {},
            parent=cause,
            links=links,
        )
        self.seen.append(event)
        return event

    def bar(self, close: str) -> OpenEvent:
        """Publish a day's bar and deliver it; gives the delivery."""
        self.time += DAY
        prices = dict.fromkeys((Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE), close)
        bar = self.publish(EventType.BAR, None, prices)
        return self.publish(EventType.BAR, bar, operation=PROCESS)

    def signal(self, cause: OpenEvent, value: str) -> OpenEvent:
        """Publish a signal."""
        return self.publish(EventType.SIGNAL, cause, {Signal.NAME: "trend", Signal.VALUE: value})

    def order(self, cause: OpenEvent, side: str, quantity: str) -> tuple[OpenEvent, dict[str, Any]]:
        """Submit a market order; gives its last event and what names it."""
        self.orders += 1
        named = {
            Order.CLIENT_ID: f"O-{self.orders}",
            Order.SIDE: side,
            Order.TYPE: "MARKET",
            Order.QUANTITY: quantity,
        }
        made = self.publish(EventType.ORDER, cause, {**named, Order.STATUS: "INITIALIZED"})
        command = self.publish(EventType.COMMAND, made, {**named, Command.NAME: "SubmitOrder"})
        submitted = self.publish(EventType.ORDER, command, {**named, Order.STATUS: "SUBMITTED"})
        return submitted, named

    def deny(self, cause: OpenEvent, reason: str) -> OpenEvent:
        """Have an order denied by a risk rule."""
        self.orders += 1
        denied = {
            Order.CLIENT_ID: f"O-{self.orders}",
            Order.SIDE: "BUY",
            Order.TYPE: "LIMIT",
            Order.STATUS: "DENIED",
            Order.QUANTITY: "1000000",
            Order.PRICE: "99.5",
            Order.REJECT_REASON: reason,
            Risk.RULE: "MAX_NOTIONAL",
        }
        return self.publish(EventType.ORDER, cause, denied)

    def fill(self, cause: OpenEvent, named: Mapping[str, Any], price: str) -> OpenEvent:
        """Fill an order as a whole; an exit links to the fill that it closes."""
        self.fills += 1
        is_exit = self.entry is not None
        attributes = {
            **named,
            Order.ID: f"V-{self.fills}",
            Order.STATUS: "FILLED",
            Fill.ID: f"F-{self.fills}",
            Fill.PRICE: price,
            Fill.QUANTITY: named[Order.QUANTITY],
            Fill.COMMISSION: "1.25",
            Fill.CURRENCY: "USD",
            Fill.COMMISSION_CURRENCY: "USD",
            Position.ID: f"{self.symbol}-{self.strategy}",
        }
        links = () if self.entry is None else (self.entry,)
        fill = self.publish(EventType.FILL, cause, attributes, links=links)
        position: dict[str, Any] = {
            Position.ID: f"{self.symbol}-{self.strategy}",
            Position.SIDE: "FLAT" if is_exit else "LONG",
            Position.QUANTITY: "0" if is_exit else named[Order.QUANTITY],
            Position.AVERAGE_OPEN_PRICE: price,
            Position.CURRENCY: "USD",
        }
        if is_exit:
            position[Position.REALIZED_PNL] = "-12.5"
        kind = EventType.POSITION_CLOSE if is_exit else EventType.POSITION_OPEN
        moved = self.publish(kind, fill, position, links=links)
        balance = {"currency": "USD", "total": "1000.5", "free": "1000.5", "locked": "0"}
        self.publish(
            EventType.PORTFOLIO, moved, {Account.ID: "XNAS-001", Account.BALANCES: [balance]}
        )
        self.entry = None if is_exit else fill
        return fill

    def trade(self, *, others: int = 0) -> None:
        """Buy on one bar and sell on the next.

        Args:
            others: How many more signals the entry's handler publishes, before the one it trades.
        """
        handler = self.bar("100.5")
        for number in range(others):
            self.signal(handler, f"ignored {number}")
        submitted, named = self.order(self.signal(handler, "1"), "BUY", "10")
        self.fill(submitted, named, "100.5")
        handler = self.bar("99.25")
        submitted, named = self.order(handler, "SELL", "10")
        self.fill(submitted, named, "99.25")

    def finish(self) -> None:
        """End every event, the last one first."""
        for event in reversed(self.seen):
            self.tracing.tracer.close(event)


def record_market(data: Path, run_id: str, *, trades: int = 1, **names: Any) -> None:
    """Record a run with some trades and a denied order, and bring it into the lake.

    Args:
        data: The data folder.
        run_id: Name of the run.
        trades: How many trades.
        names: Portfolio, strategy or symbol instead of the usual ones.
    """
    with Tracing(run_id, data=data, writer="inline") as tracing:
        market = Market(tracing, **names)
        for _ in range(trades):
            market.trade(others=2)
        market.deny(market.bar("98"), "notional 98,000,000 is more than 1,000,000")
        market.finish()
