"""`FILLPATH_ENABLED` and `OTEL_SDK_DISABLED`: nothing, a share of the runs, or some portfolios."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.parquet_span_exporter import ParquetSpanExporter
from fillpath.instrumentation import NautilusInstrumentor, TracedEventBus, Tracing
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.rollout import Rollout
from fillpath.instrumentation.settings import recording_enabled, rollout

OFF = [("FILLPATH_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")]
NOTHING = [
    *OFF,
    ("FILLPATH_ENABLED", " OFF "),
    ("FILLPATH_ENABLED", "no"),
    ("FILLPATH_ENABLED", "0"),
]
RUNS = [f"run-{number}" for number in range(4000)]


class Bus:
    """A host's bus."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: str, handler: Callable[[Any], None]) -> None:
        self.handlers.setdefault(kind, []).append(handler)

    def publish(self, event: dict[str, Any]) -> None:
        for handler in self.handlers.get(event["type"], []):
            handler(event)


def rows_of(data: Path, columns: str = "name, portfolio") -> list[tuple[Any, ...]]:
    """Rows of the lake, in order."""
    with EventStore(data).connect() as connection:
        return connection.execute(f"SELECT {columns} FROM spans ORDER BY sequence").fetchall()


def is_complete(data: Path) -> bool:
    """Whether published = kept + sampled out + dropped, and the lake holds what was kept."""
    (run,) = EventStore(data).run_records()
    rows = run.completeness
    return (
        all(
            row["published"] == row["kept"] + row["sampled_out"] + sum(row["dropped"].values())
            for row in rows
        )
        and not any(row["dropped"] for row in rows)
        and run.kept == len(rows_of(data)) == run.published
    )


# -- What it may say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", Rollout()),
        ("true", Rollout()),
        ("On", Rollout()),
        ("1", Rollout()),
        ("100%", Rollout()),
        ("false", Rollout(0.0)),
        ("0", Rollout(0.0)),
        ("0%", Rollout(0.0)),
        ("0.25", Rollout(0.25)),
        (" 25 % ", Rollout(0.25)),
        (".5", Rollout(0.5)),
        ("1e-3", Rollout(0.001)),
        ("fund/desk", Rollout(1.0, ("fund/desk",))),
        ("fund/desk/", Rollout(1.0, ("fund/desk",))),
        ("fund/desk/*, fund2/book", Rollout(1.0, ("fund/desk/*", "fund2/book"))),
        ("10%,fund/desk,fund/desk", Rollout(0.1, ("fund/desk",))),
        ("fund/desk, 0.1", Rollout(0.1, ("fund/desk",))),
    ],
)
def test_a_switch_is_a_word_a_share_or_portfolios(text: str, meaning: Rollout) -> None:
    assert Rollout.parse(text) == meaning
    assert Rollout.parse(str(meaning)) == meaning


@pytest.mark.parametrize(
    "text",
    ["1.5", "-0.1", "150%", "-1%", "10%,20%", "fund//desk", "/", "true,fund", "a,,b", "x%", ","],
)
def test_a_switch_that_makes_no_sense_is_an_error_at_the_start(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", text)
    with pytest.raises(UsageError, match="FILLPATH_ENABLED is") as caught:
        Tracing()
    assert caught.value.next_command
    assert recording_enabled()  # nobody is to lose a run by a typing error that nobody sees


@pytest.mark.parametrize(("name", "value"), NOTHING)
def test_a_switch_that_is_off_is_off(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert not recording_enabled()
    assert not Tracing().enabled


def test_the_switch_of_opentelemetry_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "true")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    assert rollout() == Rollout(0.0)


SEGMENTS = st.text("abc", min_size=1, max_size=3)
NAMESPACES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(st.text("abc*", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


def fits(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern with `*` for any characters; by trying every length."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(pattern[1:], text[begin:]) for begin in range(len(text) + 1))
    return bool(text) and text[0] == pattern[0] and fits(pattern[1:], text[1:])


@given(st.lists(PATTERNS, min_size=1, max_size=3), NAMESPACES)
@example(["a/b"], "a/b/c")
@example(["a/b"], "a/bc")
@example(["a/*"], "a")
@example(["*"], "a/b")
def test_a_pattern_stands_for_a_namespace_and_all_below_it(
    patterns: list[str], namespace: str
) -> None:
    segments = namespace.split("/")
    expected = False
    for pattern in patterns:
        parts = pattern.split("/")
        head = segments[: len(parts)]
        expected |= len(head) == len(parts) and all(map(fits, parts, head))
    assert Rollout.parse(",".join(patterns)).takes_portfolio(namespace) == expected


@given(st.text("abc-9", min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_run_that_is_in_at_a_share_is_in_at_every_higher_one(
    run_id: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert Rollout(low).takes_run(run_id) <= Rollout(high).takes_run(run_id)
    assert Rollout(1.0).takes_run(run_id)
    assert not Rollout(0.0).takes_run(run_id)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
def test_a_share_of_the_runs_is_that_share(share: float) -> None:
    taken = sum(Rollout(share).takes_run(run) for run in RUNS) / len(RUNS)
    assert abs(taken - share) < 4 * (share * (1 - share) / len(RUNS)) ** 0.5


# -- A share of the runs --------------------------------------------------------------------------


def test_a_run_outside_the_share_is_as_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "50%")
    inside = next(run for run in RUNS if Rollout(0.5).takes_run(run))
    outside = next(run for run in RUNS if not Rollout(0.5).takes_run(run))
    for run in (outside, inside):
        with Tracing(run, data=tmp_path, writer="inline") as tracing:
            assert tracing.running == (run == inside)
            bus = TracedEventBus(Bus(), tracing)
            bus.publish({"type": "BAR"})
            with tracing.tracer.event("BAR"):
                pass
    assert rows_of(tmp_path, "DISTINCT run_id, sequence") == [(inside, 1), (inside, 2)]


# -- Some portfolios ------------------------------------------------------------------------------

PLACES = ("fund/desk/book", "fund/desk", "fund/other", "fund2/book", None)
DOORS = ("emitter", "open", "event")
TREES = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from(PLACES), st.sampled_from(DOORS)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(TREES)
def test_other_portfolios_are_not_recorded_and_what_they_cause_begins_a_chain(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[int, str | None, str]]
) -> None:
    data = tmp_path_factory.mktemp("data")
    taken = {"fund/desk/book", "fund/desk"}
    expected: list[tuple[str, str, str | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_ENABLED", "fund/desk")
        with Tracing("run", data=data, writer="inline", portfolio="fund/desk/book") as tracing:
            tracer = tracing.tracer
            causes: list[Any] = []
            recorded: list[bool] = []
            for number, (parent, portfolio, door) in enumerate(tree):
                place = parent % (number + 1)
                cause = causes[place] if place < number else None
                kind = f"E{number}"
                if door == "emitter":
                    causes.append(tracer.emitter(kind, portfolio=portfolio)(number, cause))
                elif door == "open":
                    event = tracer.open(kind, portfolio=portfolio, parent=cause)
                    tracer.close(event)
                    causes.append(event)
                else:
                    with tracer.event(kind, portfolio=portfolio, parent=cause) as event:
                        causes.append(event)
                named = portfolio or "fund/desk/book"
                recorded.append(named in taken)
                if recorded[-1]:
                    above = f"publish E{place}" if place < number and recorded[place] else None
                    expected.append((f"publish {kind}", named, above))
    found = rows_of(data, "name, portfolio, span_id, parent_span_id") if expected else []
    names = {row[2]: row[0] for row in found}
    assert sorted((n, p, names.get(above)) for n, p, _, above in found) == sorted(expected)
    assert all(above is None or above in names for *_, above in found)


def test_in_a_handler_of_another_portfolio_nothing_is_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "fund/desk")
    with Tracing("run", data=tmp_path, writer="inline", portfolio="fund/desk") as tracing:
        tracer = tracing.tracer
        spans = tracing.tracer_provider.get_tracer("host")
        with tracer.event("A"), tracer.event("B", portfolio="else"), tracer.event("C"):
            assert trace.get_current_span().get_span_context().is_valid
        with (
            spans.start_as_current_span("publish D"),
            spans.start_as_current_span(
                "publish E", attributes={"trading.portfolio.namespace": "else"}
            ) as left_out,
        ):
            assert not left_out.is_recording()
            with spans.start_as_current_span("publish F"):
                pass
    found = rows_of(tmp_path, "name, parent_span_id IS NULL")
    assert found == [(f"publish {name}", True) for name in "ACDF"]
    assert is_complete(tmp_path)


def test_a_bus_records_the_events_of_the_portfolios_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "fund/*")
    with Tracing("run", data=tmp_path, writer="inline", portfolio="else") as tracing:
        bus = TracedEventBus(Bus(), tracing)
        for kind, portfolio in (("BAR", "fund/a"), ("SIGNAL", None), ("ORDER", "fund/b")):
            after = {"BAR": "SIGNAL", "SIGNAL": "ORDER"}.get(kind)
            following = {"type": after, "portfolio": "fund/b" if after == "ORDER" else None}
            if after is not None:
                bus.subscribe(kind, lambda _, event=following: bus.publish(event))
            del portfolio
        bus.publish({"type": "BAR", "payload": {"portfolio": "fund/a"}})
    found = rows_of(tmp_path, "name, portfolio, parent_span_id IS NULL")
    assert ("publish BAR", "fund/a", True) in found
    assert ("publish ORDER", "fund/b", True) in found  # its cause, the SIGNAL, is not there
    assert {portfolio for _, portfolio, _ in found} == {"fund/a", "fund/b"}
    assert is_complete(tmp_path)


def test_it_is_said_when_no_portfolio_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "flase")
    with (
        caplog.at_level(logging.WARNING),
        Tracing("run", data=tmp_path, writer="inline") as tracing,
        tracing.tracer.event("BAR"),
    ):
        pass
    assert "Nothing of run 'run' was recorded: no event's portfolio fits" in caplog.text


def test_the_exporter_leaves_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number, enabled in enumerate(("fund/desk", "false", "1.5")):
        monkeypatch.setenv("FILLPATH_ENABLED", enabled)
        provider = TracerProvider()
        data = tmp_path / str(number)
        provider.add_span_processor(SimpleSpanProcessor(ParquetSpanExporter(data)))
        tracer = provider.get_tracer("host")
        for portfolio in ("fund/desk/book", "fund/other"):
            tracer.start_span("x", attributes={"trading.portfolio.namespace": portfolio}).end()
        provider.shutdown()
    assert rows_of(tmp_path / "0") == [("x", "fund/desk/book")]
    assert not (tmp_path / "1").exists()
    assert len(rows_of(tmp_path / "2")) == 2  # a host must not lose spans by a typing error
    assert "FILLPATH_ENABLED is '1.5'" in caplog.text


# -- Engines --------------------------------------------------------------------------------------

ENGINES = """
import sys
from fillpath.instrumentation import NautilusInstrumentor, Tracing
NautilusInstrumentor().instrument()
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
for trader in ("FUND-001", "OTHER-001"):
    engine = BacktestEngine(
        BacktestEngineConfig(trader_id=trader, logging=LoggingConfig(bypass_logging=True))
    )
    print(trader, type(engine.kernel.msgbus).__name__)
    engine.dispose()
print(Tracing.active() is not None)
"""


@pytest.mark.parametrize(
    ("enabled", "names"),
    [
        ("0.0001", ("MessageBus", "MessageBus")),
        ("fund", ("TracedMessageBus", "MessageBus")),
        ("1.5", ("MessageBus", "MessageBus")),
    ],
)
def test_an_engine_that_is_left_out_has_its_own_bus(
    tmp_path: Path, enabled: str, names: tuple[str, str]
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    settings_ = {"FILLPATH_ENABLED": enabled, "FILLPATH_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENGINES],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **settings_, "FILLPATH_RUN_ID": "run", "FILLPATH_WRITER": "none"},
    )
    assert done.stdout.split() == [
        "FUND-001",
        names[0],
        "OTHER-001",
        names[1],
        str(enabled == "fund"),
    ]
    assert ("untraced: FILLPATH_ENABLED is '1.5'" in done.stderr) == (enabled == "1.5")
    assert (tmp_path / "data").exists() == (enabled == "fund")


# -- What it costs --------------------------------------------------------------------------------


def cheapest(loop: Callable[[int], None], number: int = 2000, rounds: int = 40) -> float:
    """Nanoseconds of this thread for one turn, in the best of many short rounds."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.thread_time_ns()
        loop(number)
        best = min(best, (time.thread_time_ns() - begun) / number)
    return best


@pytest.mark.parametrize(("name", "value"), OFF)
def test_switched_off_a_door_costs_next_to_nothing(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with Tracing() as tracing:
        tracer = tracing.tracer
        emit = tracer.emitter("BAR", symbol="AAPL", fields=["x", "y"])
        spans = tracing.tracer_provider.get_tracer("host")
        host, event = Bus(), {"type": "BAR"}
        bus = TracedEventBus(host)
        assert bus is host

        def emitted(number: int) -> None:
            for _ in range(number):
                emit(1, None, 1.5, 2.5)

        def opened(number: int) -> None:
            for _ in range(number):
                tracer.close(tracer.open("BAR", symbol="AAPL", attributes=event))

        def handled(number: int) -> None:
            for _ in range(number):
                with tracer.event("BAR", symbol="AAPL"):
                    pass

        def spanned(number: int) -> None:
            for _ in range(number):
                with spans.start_as_current_span("x", attributes=event):
                    pass

        for loop in (emitted, opened, handled, spanned):
            # `make bench ONLY=disabled` says that it is less than half of this on a quiet machine.
            assert cheapest(loop) < 1000, loop.__name__


def test_switched_off_the_instrumentor_patches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")
    kernel = pytest.importorskip("nautilus_trader.system.kernel")
    monkeypatch.setenv("FILLPATH_ENABLED", "false")
    before = kernel.MessageBus
    instrumentor = NautilusInstrumentor()
    instrumentor.instrument()
    try:
        assert kernel.MessageBus is before
    finally:
        instrumentor.uninstrument()
    assert kernel.MessageBus is before
