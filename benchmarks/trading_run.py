"""A run of a bar strategy with accounts, as an engine would have it recorded, at any length.

Bars of ten symbols whose prices walk at random, features of five strategies on each, and trades:
signal, order, command, submission, acceptance, fill, position and account, twice. Prices are whole
cents, so the account follows from the fills to the cent.
"""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from fillpath.instrumentation import OpenEvent, Tracing
from fillpath.instrumentation.semconv import (
    Account,
    Bar,
    Command,
    EventType,
    Fill,
    Order,
    Position,
    Signal,
)

PORTFOLIO: Final = "fund/desk/book"
VENUE: Final = "XNAS"
SYMBOLS: Final = ("AAPL", "AMZN", "FB", "GOOG", "IBM", "INTC", "MSFT", "NFLX", "ORCL", "TSLA")
STRATEGIES: Final = tuple(f"Crossing-{number}" for number in range(1, 6))
START: Final = 1_704_186_000_000_000_000
MINUTE: Final = 60_000_000_000
START_BALANCE: Final = Decimal("10000000.00")
EVENTS_OF_A_TRADE: Final = 16
_CENT: Final = Decimal("0.01")


class TradingRun:
    """Publishes the run, event by event."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.tracer
        self._random = random.Random(11)
        self._time = START
        self._cents = {symbol: 10_000 + 1_000 * n for n, symbol in enumerate(SYMBOLS)}
        self._held: dict[tuple[str, str], tuple[int, int]] = {}
        self._balance = START_BALANCE
        self._fills = 0
        names = (Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE)
        self._bars = {
            symbol: self._tracer.emitter(
                EventType.BAR, portfolio=PORTFOLIO, venue=VENUE, symbol=symbol, fields=names
            )
            for symbol in SYMBOLS
        }
        self._features = {
            (symbol, strategy): self._tracer.emitter(
                EventType.FEATURES,
                symbol=symbol,
                strategy=strategy,
                fields=("feature.momentum", "feature.deviation"),
                portfolio=PORTFOLIO,
                venue=VENUE,
            )
            for symbol in SYMBOLS
            for strategy in STRATEGIES
        }

    def publish(self, events: int, fills: int) -> None:
        """Publish about so many events with so many fills among them, evenly spread."""
        self._account(None)
        per_bar = 1 + len(STRATEGIES)
        bars = (events - fills * EVENTS_OF_A_TRADE // 2) // per_bar
        done = 0
        for number in range(bars):
            symbol = SYMBOLS[number % len(SYMBOLS)]
            if symbol == SYMBOLS[0]:
                self._time += MINUTE
            price = self._cents[symbol] = max(
                500, self._cents[symbol] + self._random.randint(-12, 12)
            )
            bar = self._bars[symbol](
                self._time, None, price / 100, (price + 3) / 100, (price - 4) / 100, price / 100
            )
            for strategy in STRATEGIES:
                self._features[symbol, strategy](self._time, bar, 0.01, -0.2)
            while done < (number + 1) * fills // bars:
                self._fill(symbol, self._random.choice(STRATEGIES), price, bar)
                done += 1

    def _open(
        self, kind: str, cause: Any, attributes: dict[str, Any], symbol: str, strategy: str
    ) -> OpenEvent:
        return self._tracer.open(
            kind,
            portfolio=PORTFOLIO,
            strategy=strategy,
            symbol=symbol,
            venue=VENUE,
            event_time=self._time,
            attributes=attributes,
            parent=cause,
        )

    def _fill(self, symbol: str, strategy: str, price: int, bar: Any) -> None:
        self._fills += 1
        key = (symbol, strategy)
        held = self._held.pop(key, None)
        quantity = held[0] if held else self._random.choice((-1, 1)) * self._random.randint(10, 400)
        buys = (quantity > 0) != (held is not None)
        size = abs(quantity)
        commission = (Decimal(size * price) / 100 * Decimal("0.0005")).quantize(_CENT)
        named = {
            Order.CLIENT_ID: f"O-20240102-{self._fills:07d}",
            Order.SIDE: "BUY" if buys else "SELL",
            Order.TYPE: "MARKET",
            Order.QUANTITY: str(size),
        }
        value: dict[str, Any] = {Signal.NAME: "crossing", Signal.VALUE: "1" if buys else "-1"}
        value[Signal.STRENGTH] = round(self._random.uniform(0.1, 1.0), 3)
        opened = [self._open(EventType.SIGNAL, bar, value, *key)]
        for kind, more in (
            (EventType.ORDER, {Order.STATUS: "INITIALIZED"}),
            (EventType.COMMAND, {Command.NAME: "SubmitOrder"}),
            (EventType.ORDER, {Order.STATUS: "SUBMITTED"}),
            (EventType.ORDER, {Order.STATUS: "ACCEPTED", Order.ID: f"V-{self._fills}"}),
        ):
            opened.append(self._open(kind, opened[-1], named | more, *key))
        position = f"{symbol}-{strategy}"
        traded = {
            Order.ID: f"V-{self._fills}",
            Order.STATUS: "FILLED",
            Fill.ID: f"F-{self._fills}",
            Fill.PRICE: f"{Decimal(price) / 100:.2f}",
            Fill.QUANTITY: str(size),
            Fill.COMMISSION: str(commission),
            Fill.CURRENCY: "USD",
            Fill.COMMISSION_CURRENCY: "USD",
            Position.ID: position,
        }
        opened.append(self._open(EventType.FILL, opened[-1], named | traded, *key))
        earned = Decimal((price - held[1]) * held[0]) / 100 if held else Decimal(0)
        self._balance += earned - commission
        state = {
            Position.ID: position,
            Position.SIDE: "FLAT" if held else "LONG" if buys else "SHORT",
            Position.QUANTITY: "0" if held else str(size),
            Position.AVERAGE_OPEN_PRICE: f"{Decimal(held[1] if held else price) / 100:.2f}",
            Position.CURRENCY: "USD",
        }
        if held:
            state[Position.REALIZED_PNL] = str(earned - commission)
        else:
            self._held[key] = (quantity, price)
        kind = EventType.POSITION_CLOSE if held else EventType.POSITION_OPEN
        opened.append(self._open(kind, opened[-1], state, *key))
        self._account(opened[-1])
        for event in reversed(opened):
            self._tracer.close(event)

    def _account(self, cause: OpenEvent | None) -> None:
        total = str(self._balance)
        balance = {"currency": "USD", "total": total, "free": total, "locked": "0"}
        stated = {Account.ID: "XNAS-001", Account.TYPE: "MARGIN", Account.BALANCES: [balance]}
        event = self._tracer.open(
            EventType.PORTFOLIO,
            portfolio=PORTFOLIO,
            event_time=self._time,
            attributes=stated,
            parent=cause,
        )
        self._tracer.close(event)


def record_trading_run(folder: Path, run_id: str, events: int, fills: int) -> None:
    """Record a run of about so many events into the lake of a data folder."""
    with Tracing(run_id, data=folder, writer="inline", parameters={"seed": 11}) as tracing:
        TradingRun(tracing).publish(events, fills)
