"""NautilusTrader's backtests for the benchmark of engines: untraced, traced, with spans of the SDK.

They are the demo's. The peer is a subscriber of the same shape as the adapter's that opens and ends
a span of OpenTelemetry's SDK for every message, with the same attributes but without its cause.
"""

from __future__ import annotations

import datetime as dt
import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nautilus_trader.common.component import MessageBus
from nautilus_trader.model.instruments import Instrument
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Tracer

from fillpath.instrumentation import Tracing
from fillpath.instrumentation.nautilus import NautilusInstrumentor
from fillpath.instrumentation.nautilus_events import describe
from fillpath.instrumentation.semconv import PUBLISH, Event, Trading, span_name
from harness import Prepared, Size
from peers import NullExporter, sdk_provider
from published import published

_EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
_PLAIN: Final = (str, int, float, bool)


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtests, for `harness.alternate`.

    Args:
        size: Which backtests.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    # Some versions of the engine call a method that newer versions of pandas deprecate.
    warnings.filterwarnings("ignore", message=".*utcnow", category=DeprecationWarning)
    backtests = _backtests(size)
    kernel: Any = importlib.import_module("nautilus_trader.system.kernel")

    @contextmanager
    def untraced() -> Iterator[Callable[[], int]]:
        yield _ready(backtests)

    @contextmanager
    def traced() -> Iterator[Callable[[], int]]:
        instrumentor = NautilusInstrumentor()
        with tempfile.TemporaryDirectory() as folder:
            with Tracing("benchmark", data=folder, writer="none") as session:
                instrumentor.instrument()
                try:
                    yield _ready(backtests)
                finally:
                    instrumentor.uninstrument()
            events.append(published(session))

    @contextmanager
    def spanned() -> Iterator[Callable[[], int]]:
        exporter = NullExporter()
        provider = sdk_provider(exporter, 100_000)
        buses = _SpanBuses(provider)
        original, kernel.MessageBus = kernel.MessageBus, buses.build
        try:
            yield _ready(backtests)
        finally:
            kernel.MessageBus = original
            provider.shutdown()
            spans.append(buses.spans)

    return {"untraced": untraced, "traced": traced, "sdk": spanned}


def _backtests(size: Size) -> list[Callable[[], Any]]:
    sys.path.insert(0, str(_EXAMPLES))  # what lies beside an example is importable by its own name
    demo = importlib.import_module("demo_backtest")
    builders = {
        Size.TINY: [demo.equities_engine],
        Size.USUAL: [demo.fx_engine],
        Size.FULL: [demo.equities_engine, demo.fx_engine],
    }[size]
    end = dt.datetime(2008, 3, 1, tzinfo=dt.UTC) if size == Size.TINY else None

    def runner(build: Callable[[], Any]) -> Callable[[], Callable[[], None]]:
        def prepare() -> Callable[[], None]:
            engine = build()

            def run() -> None:
                engine.run(end=end)
                engine.dispose()

            return run

        return prepare

    return [runner(build) for build in builders]


def _ready(backtests: list[Callable[[], Any]]) -> Callable[[], int]:
    runs = [prepare() for prepare in backtests]

    def work() -> int:
        for run in runs:
            run()
        return 1

    return work


class _SpanBuses:
    """Builds buses that open a span for every message that the adapter would record."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer: Tracer = provider.get_tracer("benchmark")
        self.spans = 0

    def build(self, *args: Any, **kwargs: Any) -> MessageBus:
        kwargs.setdefault("name", MessageBus.__name__)
        bus = _SpanBus(*args, **kwargs)
        bus.take = self._span
        return bus

    def _span(self, message: Any, instruments: dict[Any, Instrument]) -> None:
        if isinstance(message, Instrument):
            instruments[message.id] = message
        said = describe(message, instruments)
        attributes = {
            key: value if isinstance(value, _PLAIN) else str(value)
            for key, value in {
                **said.attributes,
                Event.TYPE: said.event_type,
                Event.TIME: said.event_time,
                Trading.STRATEGY: said.strategy,
                Trading.SYMBOL: said.symbol,
                Trading.VENUE: said.venue,
            }.items()
            if value is not None
        }
        name = span_name(PUBLISH, said.event_type)
        self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()
        self.spans += 1


class _SpanBus(MessageBus):
    take: Callable[[Any, dict[Any, Instrument]], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._instruments: dict[Any, Instrument] = {}
        self._last: Any = None
        super().subscribe("*", self._on_published, 2**31 - 1)

    def _on_published(self, message: Any) -> None:
        if message is not self._last:
            self._last = message
            self.take(message, self._instruments)

    def send(self, endpoint: str, msg: Any) -> None:
        """Send a message; a command is one that the adapter records."""
        if endpoint != "ExecEngine.process":
            self._on_published(msg)
        super().send(endpoint, msg)
