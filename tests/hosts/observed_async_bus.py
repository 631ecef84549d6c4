"""A home-made engine on an asynchronous bus that tells observers what it does, under its lock.

Its events are of one class, with a kind from an Enum and a dictionary for the rest; ids and causes
are there and always empty, times are milliseconds or missing. Handlers are methods, functions,
partials and objects that can be called; one fails now and then, and the bus carries on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from functools import partial
from typing import Any

from paper_trading import MOST_AT_ONCE, PORTFOLIOS, STRATEGIES, Account, Trade, Wishes, prices

DAY = 86_400_000


class Kind(Enum):
    """What an event is."""

    BAR = auto()
    SIGNAL = auto()
    ORDER = auto()
    FILL = auto()
    PORTFOLIO = auto()


@dataclass
class Event:
    """What happened."""

    event_type: Kind
    payload: dict[str, Any]
    timestamp: int | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


Handler = Callable[[Event], Awaitable[None]]


@dataclass
class Bus:
    """Awaits the handlers of an event's kind, one by one."""

    observers: list[Any] = field(default_factory=list)
    handlers: dict[Kind, list[Handler]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def subscribe(self, kind: Kind, handler: Handler) -> None:
        self.handlers[kind].append(handler)

    def tell(self, what: str, *said: Any) -> None:
        with self.lock:  # not one that can be taken twice
            for observer in self.observers:
                getattr(observer, what)(*said)

    async def publish(self, event: Event) -> None:
        self.tell("on_publish", event)
        for handler in self.handlers[event.event_type]:
            try:
                await handler(event)
            except RuntimeError as error:
                self.tell("on_error", event, handler, error)
            else:
                self.tell("on_delivered", event, handler)


class Strategy:
    """Wants something in every portfolio."""

    def __init__(self, bus: Any, name: str, size: int) -> None:
        self.bus, self.strategy, self.wishes = bus, name, Wishes(size)

    async def __call__(self, bar: Event) -> None:
        symbol, close = bar.payload["symbol"], bar.payload["close"]
        wanted = self.wishes.of(symbol, close)
        await asyncio.sleep(0)
        if wanted is None:
            return
        for name in PORTFOLIOS:
            said = {"portfolio": name, "strategy": self.strategy, "symbol": symbol}
            await self.bus.publish(Event(Kind.SIGNAL, {**said, "value": wanted}, bar.timestamp))


class Engine:
    """Everything else."""

    def __init__(self, bus: Any = None) -> None:
        self.bus: Any = Bus() if bus is None else bus
        self.accounts = {name: Account(name) for name in PORTFOLIOS}
        self.last: dict[str, Decimal] = {}
        self.waiting: list[dict[str, Any]] = []
        self.failures = 0
        self.bus.subscribe(Kind.BAR, self.on_bar)
        for name, size in STRATEGIES.items():
            self.bus.subscribe(Kind.BAR, Strategy(self.bus, name, size))
        self.bus.subscribe(Kind.SIGNAL, partial(self.on_signal, "USD"))
        self.bus.subscribe(Kind.ORDER, self.on_order)
        self.bus.subscribe(Kind.FILL, self.on_fill)
        self.bus.subscribe(Kind.FILL, self.audit)

    async def on_bar(self, bar: Event) -> None:
        self.last[bar.payload["symbol"]] = bar.payload["close"]
        waiting, self.waiting = self.waiting, []
        for order in waiting:
            if order["symbol"] == bar.payload["symbol"]:
                await self.fill(order, bar.timestamp)
            else:
                self.waiting.append(order)

    async def on_signal(self, currency: str, signal: Event) -> None:
        said = dict(signal.payload)
        place = (said["strategy"], said["symbol"])
        order = self.accounts[said["portfolio"]].order_for(*place, said.pop("value"))
        if order is None:
            return
        order_id, change, is_refused = order
        said |= {"order_id": order_id, "side": "BUY" if change > 0 else "SELL"}
        said |= {"quantity": abs(change), "currency": currency, "status": "SUBMITTED"}
        if is_refused:
            said |= {"status": "REJECTED", "reason": "more than may be held"}
        await self.bus.publish(Event(Kind.ORDER, said))

    async def on_order(self, order: Event) -> None:
        if order.payload["status"] == "SUBMITTED":
            await self.fill(order.payload, None)

    async def fill(self, order: dict[str, Any], when: int | None) -> None:
        number = min(order["quantity"], MOST_AT_ONCE)
        signed = number if order["side"] == "BUY" else -number
        place = (order["strategy"], order["symbol"], order["order_id"])
        trade = self.accounts[order["portfolio"]].book(*place, signed, self.last[order["symbol"]])
        order["quantity"] -= number  # the order's own event is long published
        if order["quantity"]:
            self.waiting.append(order)
        await self.bus.publish(Event(Kind.FILL, fill_of(trade), when))

    async def on_fill(self, fill: Event) -> None:
        name = fill.payload["portfolio"]
        said = {"portfolio": name, "account_id": name, "account_type": "CASH"}
        said |= {"base_currency": "USD", "balances": self.accounts[name].statement()}
        await self.bus.publish(Event(Kind.PORTFOLIO, said, fill.timestamp))

    async def audit(self, fill: Event) -> None:
        if fill.payload["order_id"].endswith("5"):
            self.failures += 1
            raise RuntimeError("cannot audit")

    async def trade(self) -> None:
        for day, closes in prices():
            for symbol, price in closes.items():
                said = {"symbol": symbol, "close": price}
                await self.bus.publish(Event(Kind.BAR, said, 1_704_229_200_000 + day * DAY))

    def run(self) -> None:
        asyncio.run(self.trade())


def fill_of(trade: Trade) -> dict[str, Any]:
    return {
        "portfolio": trade.portfolio,
        "strategy": trade.strategy,
        "symbol": trade.symbol,
        "order_id": trade.order_id,
        "side": trade.side,
        "quantity": trade.quantity,
        "price": trade.price,
        "commission": trade.commission,
        "currency": "USD",
    }
