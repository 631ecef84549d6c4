"""The way `otel`: events leave through the processors of an OpenTelemetry SDK."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased

from fillpath.exporters import provider_lanes
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_processor import LakeProcessor
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.instrumentation import (
    CriticalEventProcessor,
    CriticalEventSampler,
    EventSampler,
    Tracing,
)
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.spool import Field, FieldKind
from fillpath.instrumentation.zero_code import arrange_processors

NO_CHANCE = EventSampler(rate=0.0)


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def provider_of(*processors: SpanProcessor, sampler: Sampler | None = None) -> TracerProvider:
    provider = TracerProvider(sampler=sampler, resource=Resource({"service.name": "host"}))
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def exporting(provider: TracerProvider, **parts: Any) -> Tracing:
    return Tracing("run", provider=provider, **parts)


def names(memory: InMemorySpanExporter) -> list[str]:
    return [span.name for span in memory.get_finished_spans()]


def rows_of(data: Path) -> list[dict[str, Any]]:
    with EventStore(data).connect() as connection:
        result = connection.execute("SELECT * FROM raw_spans ORDER BY sequence")
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]


# -- What comes out -------------------------------------------------------------------------------


def test_events_and_the_hosts_own_spans_are_one_trace(memory: InMemorySpanExporter) -> None:
    provider = provider_of(SimpleSpanProcessor(memory))
    host = provider.get_tracer("host")
    with exporting(provider, portfolio="fund/desk") as tracing:
        assert tracing.tracer_provider is provider
        tracer = tracing.tracer
        with tracer.event("BAR", symbol="AAPL", attributes={"trading.bar.close": Decimal("1.50")}):
            with host.start_as_current_span("call of a broker"):
                pass
            with tracer.event("ORDER", event_time=5):
                pass
        bar_ids = tracer.emitter("TICK", fields=["trading.tick.price"])(7, None, 2.5)
    assert bar_ids is not None
    spans: dict[str, Any] = {span.name: span for span in memory.get_finished_spans()}
    assert set(spans) == {"call of a broker", "publish BAR", "publish ORDER", "publish TICK"}
    bar = spans["publish BAR"]
    for child in ("call of a broker", "publish ORDER"):
        assert spans[child].parent is not None
        assert spans[child].parent.span_id == bar.context.span_id
        assert spans[child].context.trace_id == bar.context.trace_id
        assert bar.start_time <= spans[child].start_time <= spans[child].end_time <= bar.end_time
    assert bar.attributes["trading.bar.close"] == "1.50"
    assert spans["publish ORDER"].attributes["trading.event.time_unix_nano"] == 5
    assert spans["publish TICK"].attributes["trading.tick.price"] == 2.5
    assert bar.resource.attributes["trading.portfolio.namespace"] == "fund/desk"
    assert bar.resource.attributes["trading.run.id"] == "run"
    assert bar.resource.attributes["service.name"] == "host/fund/desk"


VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=8),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.lists(st.integers(0, 9), max_size=3),
)
KEYS = st.sampled_from(
    ["a", "b", "trading.bar.close", "trading.order.quantity", "trading.order.id"]
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["emit", "open", "nest", "close", "fail", "delivery"]),
        st.sampled_from(["BAR", "ORDER", "FILL", "SIGNAL"]),
        st.integers(0, 1 << 20),
        st.dictionaries(KEYS, VALUES, max_size=3),
    ),
    max_size=30,
)


def act(tracing: Tracing, steps: list[tuple[str, str, int, dict[str, Any]]]) -> None:
    """Do what a host may do; some events never end."""
    tracer = tracing.tracer
    emit = tracer.emitter("TICK", symbol="X", fields=[Field("p", FieldKind.DECIMAL, 2), "q"])
    causes: list[Any] = [None]
    still_open: list[Any] = []
    for number, (step, kind, place, attributes) in enumerate(steps):
        cause = causes[place % len(causes)]
        if step == "emit":
            causes.append(emit(number, cause, number + 0.25, float(number)))
        elif step == "delivery":
            run = tracer.open(kind, operation="process", handler="h", parent=cause)
            causes.append(tracer.open("ORDER", parent=run, symbol="X", attributes=attributes))
            tracer.close(run)
            still_open.append(causes[-1])
        elif step in {"open", "nest"}:
            links = [each for each in causes[-2:] if each is not None]
            name: dict[str, Any] = (
                {"correlation_id": f"chain-{place % 3}"} if place % 5 == 0 else {}
            )
            event = tracer.open(
                kind, parent=cause, symbol="X", attributes=attributes, links=links, **name
            )
            causes.append(event)
            still_open.append(event)
        elif still_open:
            error = ValueError("no") if step == "fail" else None
            event = still_open.pop(place % len(still_open))
            tracer.close(event, error=error, attributes=attributes)


@settings(max_examples=12, deadline=None)
@given(STEPS, st.booleans())
def test_the_lake_gets_the_same_rows_as_by_a_spool(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, str, int, dict[str, Any]]],
    sampled: bool,
) -> None:
    folder = tmp_path_factory.mktemp("lakes")
    provider = provider_of(
        SimpleSpanProcessor(ParquetSpanExporter(folder / "otel")),
        sampler=CriticalEventSampler(NO_CHANCE) if sampled else None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_SAMPLING_RATE", "0")
        with exporting(provider) as tracing:
            act(tracing, steps)
        provider.shutdown()
        how = {"writer": "inline", "lake_sampling": "policy" if sampled else "all"}
        with Tracing("run", data=folder / "spool", service_name="host", **how) as tracing:  # type: ignore[arg-type]
            act(tracing, steps)
    aside = {"start_time", "duration"}
    ways = [
        [{k: v for k, v in row.items() if k not in aside} for row in rows_of(folder / way)]
        if (folder / way / "lake").exists()
        else []
        for way in ("otel", "spool")
    ]
    assert ways[0] == ways[1]
    (one,), (other,) = (EventStore(folder / way).run_records() for way in ("otel", "spool"))
    assert one.completeness == other.completeness
    assert (one.status, one.parameters) == (other.status, other.parameters)


def test_a_run_that_fails_counts_as_crashed(tmp_path: Path) -> None:
    provider = provider_of(SimpleSpanProcessor(ParquetSpanExporter(tmp_path)))
    tracing = exporting(provider).start()
    tracing.note_engine("Engine", "1")
    tracing.tracer.open("BAR")
    tracing.stop(error=ValueError("host"))
    provider.shutdown()
    (run,) = EventStore(tmp_path).run_records()
    assert (run.status, run.error, run.engine) == ("Crashed", "ValueError: host", "Engine")
    (row,) = rows_of(tmp_path)
    assert row["duration"] is None


def test_a_session_may_end_after_the_sdk(tmp_path: Path) -> None:
    provider = provider_of(SimpleSpanProcessor(ParquetSpanExporter(tmp_path)))
    with exporting(provider) as tracing, tracing.tracer.event("BAR"):
        publish(tracing, 100)
        provider.shutdown()
        publish(tracing, 100)
    assert len(rows_of(tmp_path)) == 201
    (run,) = EventStore(tmp_path).run_records()
    assert (run.status, run.published, run.kept) == ("Ended", 201, 201)


def test_spans_of_the_host_are_in_the_run(tmp_path: Path) -> None:
    provider = provider_of(SimpleSpanProcessor(ParquetSpanExporter(tmp_path)))
    with exporting(provider) as tracing, tracing.tracer.event("BAR"):
        provider.get_tracer("host").start_span("call").end()
    provider.shutdown()
    assert {row["run_id"] for row in rows_of(tmp_path)} == {"run"}
    (run,) = EventStore(tmp_path).run_records()
    assert (run.published, run.kept) == (2, 2)


# -- Samplers -------------------------------------------------------------------------------------


def test_an_event_that_a_span_of_the_host_names_is_kept_with_its_ancestors(
    memory: InMemorySpanExporter,
) -> None:
    sampler = CriticalEventSampler(NO_CHANCE)
    provider = provider_of(SimpleSpanProcessor(memory), sampler=sampler)
    host = provider.get_tracer("host")
    with exporting(provider) as tracing:
        tracer = tracing.tracer
        for number in range(3000):
            with tracer.event("FEATURES"), tracer.event("MODEL"):
                if number % 1000 == 500:
                    with host.start_as_current_span("call"):
                        pass
    assert sorted(names(memory)) == sorted(["call", "publish FEATURES", "publish MODEL"] * 3)
    ids = {span.context.span_id for span in memory.get_finished_spans()}
    assert all(s.parent is None or s.parent.span_id in ids for s in memory.get_finished_spans())


@pytest.mark.parametrize(("sampler", "share"), [(TraceIdRatioBased(0.25), 0.25), (ALWAYS_OFF, 0)])
def test_another_sampler_decides_on_chains(
    sampler: Sampler, share: float, memory: InMemorySpanExporter, tmp_path: Path
) -> None:
    lake = SimpleSpanProcessor(ParquetSpanExporter(tmp_path))
    provider = provider_of(SimpleSpanProcessor(memory), lake, sampler=sampler)
    with exporting(provider) as tracing:
        for _ in range(2000):
            with tracing.tracer.event("BAR"), tracing.tracer.event("ORDER"):
                pass
    provider.shutdown()
    chains = {span.context.trace_id for span in memory.get_finished_spans()}
    assert abs(len(chains) / 2000 - share) < 0.05  # our ids count up, and are scattered first
    assert len(memory.get_finished_spans()) == 2 * len(chains)
    (run,) = EventStore(tmp_path).run_records()
    assert (run.published, run.kept) == (4000, 2 * len(chains))
    assert run.sampled_out == 4000 - run.kept


# -- Processors that are slow, stuck or broken ----------------------------------------------------


class Slow(SpanExporter):
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.number = 0
        self.go_on = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go_on.wait(self.seconds)
        self.number += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def publish(tracing: Tracing, number: int) -> None:
    emit = tracing.tracer.emitter("BAR", fields=["x"])
    for each in range(number):
        emit(each, None, 1.5)


def test_a_small_queue_is_waited_for() -> None:
    slow = Slow(0.001)
    queue = BatchSpanProcessor(slow, max_queue_size=64, max_export_batch_size=32)
    provider = provider_of(queue)
    with exporting(provider) as tracing:
        publish(tracing, 5000)
    provider.force_flush()
    assert slow.number == 5000
    provider.shutdown()


@pytest.mark.parametrize("delivery", ["lossless", "live"])
def test_a_backend_that_stands_still_is_passed_by(
    delivery: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(provider_lanes, "PATIENCE_SECONDS", 0.2)
    stuck = Slow(60)
    queue = BatchSpanProcessor(stuck, max_queue_size=64, max_export_batch_size=32)
    provider = provider_of(queue, SimpleSpanProcessor(ParquetSpanExporter(tmp_path)))
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING), exporting(provider, delivery=delivery) as tracing:
        publish(tracing, 9000)
    assert time.monotonic() - begun < 10
    stuck.go_on.set()
    provider.shutdown()
    missed = next(r for r in caplog.records if "had no room" in r.getMessage())
    assert "fillpath otlp replay run" in missed.getMessage()
    assert isinstance(missed.args, tuple)
    assert stuck.number == 9000 - int(str(missed.args[1]))
    (run,) = EventStore(tmp_path).run_records()
    assert run.published == run.kept == len(rows_of(tmp_path)) == 9000


class Broken(SpanProcessor):
    """Raises, or publishes itself."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then
        self.number = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.number += 1
        self.then()


def test_a_processor_that_raises_does_not_reach_the_host_nor_the_lake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("broken")

    broken = Broken(fail)
    provider = provider_of(broken, SimpleSpanProcessor(ParquetSpanExporter(tmp_path)))
    with exporting(provider) as tracing:
        publish(tracing, 9000)
    provider.shutdown()
    assert broken.number == 9000
    assert len(rows_of(tmp_path)) == 9000
    assert caplog.text.count("broken") >= 1


def test_a_processor_may_publish_itself(memory: InMemorySpanExporter) -> None:
    left = [10]

    def more() -> None:
        if left[0]:
            left[0] -= 1
            publish(tracing, 600)

    provider = provider_of(Broken(more), SimpleSpanProcessor(memory))
    with exporting(provider) as tracing:
        publish(tracing, 5000)
        deadline = time.monotonic() + 20
        while left[0] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(memory.get_finished_spans()) == 5000 + 10 * 600


def test_a_processor_may_come_later(memory: InMemorySpanExporter) -> None:
    provider = provider_of(Broken(lambda: None))
    with exporting(provider) as tracing:
        provider.add_span_processor(SimpleSpanProcessor(memory))
        publish(tracing, 10)
    assert len(memory.get_finished_spans()) == 10


def test_without_an_exporter_the_session_says_what_is_missing() -> None:
    with pytest.raises(FillpathError, match="no exporter") as caught:
        Tracing("run", way="otel").start()
    assert "opentelemetry-instrument" in str(caught.value.next_command)
    assert Tracing.active() is None


def test_a_forked_child_exports_nothing(memory: InMemorySpanExporter) -> None:
    provider = provider_of(SimpleSpanProcessor(memory))
    with exporting(provider) as tracing:
        emit = tracing.tracer.emitter("BAR")
        for _ in range(100):
            emit()
        child = os.fork()
        if child == 0:
            for _ in range(2000):
                emit()
            os._exit(len(memory.get_finished_spans()) > 100)
        assert os.waitpid(child, 0)[1] == 0
        for _ in range(100):
            emit()
    assert len(memory.get_finished_spans()) == 200


# -- What `opentelemetry-instrument` has arranged -------------------------------------------------


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ParquetSpanExporter]:
    exporter = ParquetSpanExporter(tmp_path)
    yield exporter
    exporter.shutdown()


def test_processors_are_arranged_once(
    lake: ParquetSpanExporter, memory: InMemorySpanExporter, tmp_path: Path
) -> None:
    provider = provider_of(
        BatchSpanProcessor(lake), SimpleSpanProcessor(memory), sampler=CriticalEventSampler("0")
    )
    for _ in range(2):
        arrange_processors(provider)
    (first,) = provider_lanes_of(provider)
    assert isinstance(first, CriticalEventProcessor)
    kinds = [type(one) for one in provider_lanes.processors_of(provider)]
    assert kinds == [LakeProcessor, SimpleSpanProcessor]
    host = provider.get_tracer("host")
    with (
        host.start_as_current_span("publish BAR"),
        host.start_as_current_span("process BAR"),
        host.start_as_current_span("publish FILL"),
    ):
        pass
    with exporting(provider) as tracing, tracing.tracer.event("BAR"), tracing.tracer.event("FILL"):
        pass
    provider.shutdown()
    assert names(memory) == [
        "publish FILL",
        "process BAR",
        "publish BAR",
        "publish BAR",
        "publish FILL",
    ]
    assert len(rows_of(tmp_path)) == 5


def provider_lanes_of(provider: Any) -> tuple[SpanProcessor, ...]:
    """Processors of a provider as the SDK has them."""
    found: tuple[SpanProcessor, ...] = provider._active_span_processor._span_processors
    return found


def test_a_provider_that_is_none_of_the_sdk_is_left_alone() -> None:
    arrange_processors(trace.NoOpTracerProvider())
    arrange_processors(None)


def test_a_lake_that_is_slow_holds_an_application_up(
    lake: ParquetSpanExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fillpath.exporters.lake_processor.MOST_WAITING", 50)
    provider = provider_of(LakeProcessor(lake))
    host = provider.get_tracer("host")
    threads = [
        threading.Thread(target=lambda: [host.start_span("x").end() for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert provider.force_flush()
    assert len(rows_of(tmp_path)) == 2000
    provider.shutdown()


def test_a_live_application_is_not_held_up_and_what_is_dropped_is_counted(
    lake: ParquetSpanExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fillpath.exporters.lake_processor.MOST_WAITING", 50)
    processor = LakeProcessor(lake, lossless=False)
    provider = provider_of(processor)
    host = provider.get_tracer("host")
    with processor._exporting:  # the lake takes nothing for a while
        for _ in range(500):
            host.start_span("x").end()
    provider.shutdown()
    (run,) = EventStore(tmp_path).run_records()
    assert run.published == 500
    assert run.kept == len(rows_of(tmp_path)) < 500
    assert run.completeness[0]["dropped"] == {"queue_full": 500 - run.kept}


def test_a_flush_tells_whether_all_has_arrived(lake: ParquetSpanExporter, tmp_path: Path) -> None:
    provider = provider_of(LakeProcessor(lake))
    stuck = Slow(60)
    with exporting(provider) as tracing:
        publish(tracing, 100)
        assert tracing.flush(10.0)
        assert len(rows_of(tmp_path)) == 100
        provider.add_span_processor(BatchSpanProcessor(stuck))
        publish(tracing, 100)
        begun = time.monotonic()
        assert not tracing.flush(0.5)
        assert time.monotonic() - begun < 1.5
        stuck.go_on.set()
    assert tracing.flush()
    provider.shutdown()


BY_CODE = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
from fillpath.instrumentation import NautilusInstrumentor, Tracing
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
trace.set_tracer_provider(provider)
named = {"tracer_provider": provider} if sys.argv[1] == "named" else {}
NautilusInstrumentor().instrument(**named)
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
print(Tracing.active().way)
engine.dispose()
"""


@pytest.mark.parametrize(("named", "way"), [("named", "otel"), ("global", "spool")])
def test_an_engine_takes_a_provider_of_the_hosts_code_if_it_is_named(named: str, way: str) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", BY_CODE, named],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FILLPATH_WRITER": "none"},
    )
    assert done.stdout == f"{way}\n"
    assert ('"name": "publish SYSTEM"' in done.stderr) == (way == "otel")
