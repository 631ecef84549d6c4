"""A home-made bus for the benchmark of engines: untraced, wrapped, with spans of the SDK.

A backtest of the usual sort: bars are published, a strategy crosses two averages and publishes a
signal, which becomes an order, which becomes a fill. Events are dataclasses. The peer opens a span
of the SDK around every event, with the same fields as attributes.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from fillpath.instrumentation import TracedEventBus, Tracing
from harness import Figure, Prepared, Size, alternate, figure
from peers import NullExporter, sdk_provider
from published import published

_MINUTE: Final = 60 * 10**9
_BEGIN: Final = 10**18


@dataclass
class Bar:
    """Prices of a minute."""

    symbol: str
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass
class Signal:
    """What a strategy thinks."""

    symbol: str
    timestamp: int
    strategy: str
    strength: float


@dataclass
class Order:
    """What is to be traded."""

    symbol: str
    timestamp: int
    order_id: str
    side: str
    quantity: float


@dataclass
class Fill:
    """What was traded."""

    symbol: str
    timestamp: int
    fill_id: str
    order_id: str
    side: str
    quantity: float
    price: float


class Bus:
    """The usual bus."""

    def __init__(self) -> None:
        self.handlers: dict[type, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: type, handler: Callable[[Any], None]) -> None:
        """Call the handler with every event of this class."""
        self.handlers.setdefault(kind, []).append(handler)

    def publish(self, event: Any) -> None:
        """Tell everyone who is to know."""
        for handler in self.handlers.get(type(event), ()):
            handler(event)


class SpanBus(Bus):
    """Opens a span for every event."""

    def __init__(self, tracer: Any) -> None:
        super().__init__()
        self.spans = 0
        self._span = tracer.start_as_current_span

    def publish(self, event: Any) -> None:
        """Tell everyone, within a span."""
        self.spans += 1
        with self._span(f"publish {type(event).__name__.upper()}", attributes=vars(event)):
            super().publish(event)


class _Crossing:
    """A strategy, and who trades what it says."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.closes: deque[float] = deque(maxlen=20)
        self.is_long = False
        self.traded = 0
        for kind, handler in ((Bar, self.on_bar), (Signal, self.on_signal), (Order, self.on_order)):
            bus.subscribe(kind, handler)

    def on_bar(self, bar: Bar) -> None:
        closes = self.closes
        closes.append(bar.close)
        if len(closes) == 20:
            is_long = sum(list(closes)[-5:]) / 5 > sum(closes) / 20
            if is_long != self.is_long:
                self.is_long = is_long
                strength = 1.0 if is_long else -1.0
                self.bus.publish(Signal(bar.symbol, bar.timestamp, "crossing", strength))

    def on_signal(self, signal: Signal) -> None:
        self.traded += 1
        side = "BUY" if signal.strength > 0 else "SELL"
        self.bus.publish(Order(signal.symbol, signal.timestamp, f"O-{self.traded}", side, 10.0))

    def on_order(self, order: Order) -> None:
        price = self.closes[-1]
        made = f"F-{self.traded}"
        self.bus.publish(
            Fill(order.symbol, order.timestamp, made, order.order_id, order.side, 10.0, price)
        )


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtest, for `harness.alternate`.

    Args:
        size: How many bars.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    return _variants(_bars(size.pick(200, 20_000, 100_000)), _Crossing, events, spans)


def figures(size: Size) -> dict[str, Figure]:
    """Measure a bar whose handler causes nothing."""
    bars = _bars(size.pick(200, 20_000, 100_000))
    found = _variants(bars, lambda bus: bus.subscribe(Bar, _ignore), [], [])
    costs = alternate(found, rounds=size.pick(1, 3, 7))
    alone, ours, theirs = (costs[name].cpu / len(bars) / 1e3 for name in found)
    peer = "a span of the SDK for each event"
    return {"added to a bar that causes nothing": figure(ours - alone, "µs", peer=(peer, theirs))}


def _ignore(_: Bar) -> None:
    """Cause nothing."""


def _bars(count: int) -> list[Bar]:
    random = Random(7)
    price, bars = 100.0, []
    for number in range(count):
        price = max(1.0, price + random.gauss(0.0, 0.05))
        at = _BEGIN + number * _MINUTE
        bars.append(Bar("ACME", at, price, price + 0.1, price - 0.1, price, 5e3))
    return bars


def _variants(
    bars: list[Bar], connect: Callable[[Any], Any], events: list[int], spans: list[int]
) -> dict[str, Prepared]:
    def ready(bus: Any) -> Callable[[], int]:
        connect(bus)

        def work() -> int:
            for bar in bars:
                bus.publish(bar)
            return 1

        return work

    @contextmanager
    def untraced() -> Iterator[Callable[[], int]]:
        yield ready(Bus())

    @contextmanager
    def traced() -> Iterator[Callable[[], int]]:
        with tempfile.TemporaryDirectory() as folder:
            with Tracing("benchmark", data=folder, writer="none") as session:
                yield ready(TracedEventBus(Bus()))
            events.append(published(session))

    @contextmanager
    def spanned() -> Iterator[Callable[[], int]]:
        provider = sdk_provider(NullExporter(), 100_000)
        bus = SpanBus(provider.get_tracer("benchmark"))
        yield ready(bus)
        provider.shutdown()
        spans.append(bus.spans)

    return {"untraced": untraced, "traced": traced, "sdk": spanned}
