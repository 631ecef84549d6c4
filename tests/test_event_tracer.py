"""Causes are exact, whatever threads, tasks and handlers do; and nothing reaches the host."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, Event
from fillpath.instrumentation.spool import BlockType, EventRecord, Flag, SpoolReader
from fillpath.instrumentation.spool_writer import SpoolWriter

RUN_ID = "run"
KEY = identity.run_key(RUN_ID)


@dataclass
class Recorded:
    """What a spool holds."""

    events: dict[int, RecordedEvent] = field(default_factory=dict)
    unfinished: list[int] = field(default_factory=list)
    records: list[EventRecord] = field(default_factory=list)
    published: dict[tuple[str, str], int] = field(default_factory=dict)
    dropped: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    def of(self, event_type: str, operation: str = PUBLISH) -> list[RecordedEvent]:
        return [
            event
            for event in self.events.values()
            if (event.site.event_type, event.site.operation) == (event_type, operation)
        ]

    def one(self, event_type: str, operation: str = PUBLISH) -> RecordedEvent:
        (event,) = self.of(event_type, operation)
        return event


def recorded(folder: Path) -> Recorded:
    """Read a run, and check what holds for every run: parents first, and no event uncounted."""
    run, spool = Recorded(), SpoolEvents()
    for block in SpoolReader(folder).blocks():
        if block.type is BlockType.EVENTS:
            run.records += block.events()
        for event in spool.feed(block):
            assert event.sequence not in run.events
            run.events[event.sequence] = event
            if not event.finished:
                run.unfinished.append(event.sequence)
    begun: set[int] = set()
    for record in run.records:
        if record.flags & Flag.FINISH:
            assert record.sequence in begun
            continue
        assert record.sequence not in begun, "recorded twice"
        assert record.parent < record.sequence
        assert record.parent == 0 or record.parent in begun, "the parent comes after its child"
        begun.add(record.sequence)
    for count in spool.counts:
        run.published[count.portfolio, count.event_type] = count.published
        run.dropped[count.portfolio, count.event_type] = count.dropped
    kept: dict[tuple[str, str], int] = {}
    for event in run.events.values():
        if event.site.operation != PROCESS:
            place = event.site.portfolio, event.site.event_type
            kept[place] = kept.get(place, 0) + 1
    assert {
        place: number - sum(run.dropped[place].values())
        for place, number in run.published.items()
        if number != sum(run.dropped[place].values())
    } == kept
    return run


class Session:
    """A tracer and what it has recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(SpoolWriter(folder, {"run_id": RUN_ID}))
        self.tracer = EventTracer(RUN_ID, self.recorder, "demo/fx")

    def end(self) -> Recorded:
        self.tracer.stop()
        self.recorder.stop({})
        return recorded(self.folder)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path / RUN_ID)
    yield session
    session.end()


@pytest.fixture
def tracer(session: Session) -> EventTracer:
    return session.tracer


def emit(tracer: EventTracer, event_type: str, **parts: Any) -> OpenEvent:
    event = tracer.open(event_type, **parts)
    tracer.close(event)
    return event


@contextmanager
def delivery(tracer: EventTracer, event: OpenEvent, name: str = "on_event") -> Iterator[OpenEvent]:
    run = tracer.open(event.event_type, operation=PROCESS, handler=name, parent=event)
    with tracer.handling(run):
        yield run
    tracer.close(run)


# -- Causes --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_what_a_handler_publishes_is_caused_by_its_run(session: Session) -> None:
    tracer = session.tracer
    with tracer.event("BAR", symbol="AAPL") as bar, delivery(tracer, bar) as run:
        signal = emit(tracer, "SIGNAL")
    run_of = session.end()
    assert run_of.one("BAR").parent == 0
    assert run_of.one("BAR", PROCESS).parent == bar.sequence
    assert run_of.one("SIGNAL").parent == run.sequence
    assert {event.root for event in run_of.events.values()} == {bar.sequence}
    assert signal.chain.trace_id == identity.trace_id(KEY, bar.sequence)


def test_a_delivery_that_causes_nothing_is_not_recorded(session: Session) -> None:
    with session.tracer.event("BAR") as bar, delivery(session.tracer, bar):
        pass
    assert [e.site.event_type for e in session.end().events.values()] == ["BAR"]


def test_an_explicit_parent_wins_over_the_running_handler(session: Session) -> None:
    tracer = session.tracer
    submitted = emit(tracer, "ORDER")
    with tracer.event("BAR"):
        emit(tracer, "FILL", parent=submitted)
        emit(tracer, "HEARTBEAT", parent=None)
    run = session.end()
    assert run.one("FILL").parent == submitted.sequence
    assert run.one("HEARTBEAT").parent == 0


def test_further_causes_are_links(session: Session) -> None:
    tracer = session.tracer
    entry, exit_signal = emit(tracer, "FILL"), emit(tracer, "SIGNAL")
    never_recorded = tracer.open("BAR", operation=PROCESS)
    emit(tracer, "CLOSE", parent=exit_signal, links=(entry, never_recorded))
    assert session.end().one("CLOSE").links == [tracer.address(entry)]


def test_an_event_of_another_session_is_no_parent_but_can_be_linked(
    session: Session, tmp_path: Path
) -> None:
    other = Session(tmp_path / "other")
    foreign = emit(other.tracer, "SIGNAL")
    emit(session.tracer, "ORDER", parent=foreign, links=[foreign])
    other.end()
    order = session.end().one("ORDER")
    assert order.parent == 0
    assert order.links == [other.tracer.address(foreign)]


def test_threads_keep_their_causes_apart(session: Session) -> None:
    tracer = session.tracer
    together = threading.Barrier(4)

    def trade(name: str) -> None:
        for _ in range(100):
            with tracer.event("BAR", symbol=name) as bar, delivery(tracer, bar):
                together.wait()
                with tracer.event("SIGNAL", symbol=name):
                    emit(tracer, "ORDER", symbol=name)

    threads = [threading.Thread(target=trade, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = session.end()
    assert run.published["demo/fx", "ORDER"] == 400
    for event in run.events.values():
        if event.parent:
            parent = run.events[event.parent]
            assert {event.site.symbol, parent.site.symbol, None} in ({None, n} for n in "abcd")
            assert parent.root == event.root


def test_threads_that_share_a_cause_write_it_once_and_first(session: Session) -> None:
    """Many children appear at the same moment below an event that was not written yet."""
    tracer = session.tracer
    for _ in range(60):
        bar = tracer.open("BAR")
        run = tracer.open("BAR", operation=PROCESS, parent=bar)
        together = threading.Barrier(5)

        def child(run: OpenEvent = run, together: threading.Barrier = together) -> None:
            together.wait()
            emit(tracer, "ORDER", parent=run)

        def end(
            run: OpenEvent = run, bar: OpenEvent = bar, together: threading.Barrier = together
        ) -> None:
            together.wait()
            tracer.close(run)
            tracer.close(bar)

        threads = [threading.Thread(target=child) for _ in range(4)]
        threads.append(threading.Thread(target=end))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(session.end().of("ORDER")) == 240


def test_tasks_keep_their_causes_apart(session: Session) -> None:
    tracer = session.tracer

    async def trade(name: str) -> None:
        with tracer.event("BAR", symbol=name) as bar, delivery(tracer, bar):
            await asyncio.sleep(0)
            with tracer.event("SIGNAL", symbol=name):
                await asyncio.sleep(0)
                emit(tracer, "ORDER", symbol=name)

    async def main() -> None:
        await asyncio.gather(*(trade(f"{n}") for n in range(20)))

    asyncio.run(main())
    run = session.end()
    for order in run.of("ORDER"):
        signal = run.events[order.parent]
        assert run.events[signal.parent].root == order.root
        assert signal.site.symbol == order.site.symbol


def test_a_task_left_behind_names_the_handler_that_started_it(session: Session) -> None:
    tracer = session.tracer

    async def later() -> None:
        await asyncio.sleep(0.001)
        emit(tracer, "ORDER")

    async def main() -> None:
        with tracer.event("BAR") as bar, delivery(tracer, bar):
            task = asyncio.create_task(later())
        await task

    asyncio.run(main())
    run = session.end()
    handler = run.one("BAR", PROCESS)
    assert run.one("ORDER").parent == handler.sequence
    assert handler.parent == run.one("BAR").sequence
    assert handler.finished
    assert handler.end is not None
    order_start = run.one("ORDER").start
    assert order_start is not None
    assert handler.end < order_start


def test_a_thread_keeps_the_cause_if_the_host_hands_it_the_context(session: Session) -> None:
    tracer = session.tracer
    with tracer.event("BAR") as bar:
        copied = contextvars.copy_context()
        thread = threading.Thread(target=copied.run, args=(lambda: emit(tracer, "ORDER"),))
        thread.start()
        thread.join()
    assert session.end().one("ORDER").parent == bar.sequence


def test_a_generator_that_goes_on_in_another_context_does_no_harm(session: Session) -> None:
    tracer = session.tracer
    bar = tracer.open("BAR")

    def handler() -> Iterator[None]:
        with tracer.entered(bar):
            yield
            emit(tracer, "ORDER")

    generator = handler()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(lambda: list(generator))
    assert tracer.current is None
    assert len(session.end().of("ORDER")) == 1


trees: st.SearchStrategy[list[Any]] = st.recursive(
    st.just([]), lambda inner: st.lists(st.tuples(st.booleans(), inner), max_size=4), max_leaves=25
)


@settings(max_examples=40)
@given(st.lists(trees, max_size=4))
def test_any_tree_of_events_is_recorded_as_it_was(forest: list[Any]) -> None:
    """Parents stand before children in the spool, and every event is counted and recorded."""
    expected: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name) / RUN_ID)
        tracer = session.tracer

        def grow(tree: list[Any], above: OpenEvent | None) -> None:
            for by_handler, below in tree:
                with tracer.event(f"KIND_{len(below)}") as event:
                    expected[event.sequence] = above.sequence if above else 0
                    if by_handler and below:
                        with delivery(tracer, event) as run:
                            grow(below, run)
                        expected[run.sequence] = event.sequence
                    else:
                        grow(below, event)

        for tree in forest:
            grow(tree, None)
        run = session.end()
    assert {event.sequence: event.parent for event in run.events.values()} == expected
    assert not run.unfinished


# -- Chains --------------------------------------------------------------------------------------


def test_the_host_names_a_chain(session: Session) -> None:
    with session.tracer.event("BAR", correlation_id="trade-7") as bar:
        same = emit(session.tracer, "SIGNAL", correlation_id="trade-7")
        silent = emit(session.tracer, "ORDER")
    assert same.chain is silent.chain is bar.chain
    assert bar.chain.trace_id == identity.trace_id_of_correlation(RUN_ID, "trade-7")
    run = session.end()
    assert {event.extra["correlation_id"] for event in run.events.values()} == {"trade-7"}


def test_a_uuid_names_a_chain_in_any_spelling(session: Session) -> None:
    spelt = "01234567-89ab-cdef-0123-456789abcdef"
    with session.tracer.event("BAR", correlation_id=spelt) as bar:
        other = emit(session.tracer, "SIGNAL", correlation_id=spelt.replace("-", "").upper())
    assert other.chain is bar.chain
    assert bar.chain.trace_id == int(spelt.replace("-", ""), 16)


def test_the_trace_id_of_a_chain_is_a_name_of_it(session: Session) -> None:
    with session.tracer.event("BAR") as bar:
        name = f"{bar.chain.trace_id:032x}"
        assert emit(session.tracer, "SIGNAL", correlation_id=name).chain is bar.chain


def test_another_name_within_a_chain_is_kept_beside_the_cause(session: Session) -> None:
    tracer = session.tracer
    with (
        tracer.event("BAR", correlation_id="market") as bar,
        tracer.event("SIGNAL", correlation_id="trade-1") as signal,
    ):
        order = emit(tracer, "ORDER")
    run = session.end()
    assert order.chain is signal.chain is bar.chain
    assert run.one("SIGNAL").parent == bar.sequence
    for event in run.events.values():
        assert event.root == bar.sequence
        assert event.extra["correlation_id"] == "market"
    named = "messaging.message.conversation_id"
    assert run.one("SIGNAL").attributes == run.one("ORDER").attributes == {named: "trade-1"}
    assert run.one("BAR").attributes == {}


def test_names_that_change_at_every_event_break_no_chain(session: Session) -> None:
    """Some hosts give every event a correlation id of its own."""
    with (
        session.tracer.event("BAR", correlation_id="1"),
        session.tracer.event("SIGNAL", correlation_id="2"),
    ):
        emit(session.tracer, "ORDER", correlation_id="3")
    run = session.end()
    assert len({event.root for event in run.events.values()}) == 1
    assert run.one("ORDER").attributes == {"messaging.message.conversation_id": "3"}


def test_a_chain_named_by_the_host_joins_events_without_a_common_cause(session: Session) -> None:
    one, other = (emit(session.tracer, "BAR", correlation_id="c") for _ in range(2))
    assert one.chain.trace_id == other.chain.trace_id


def test_an_empty_name_is_no_name(session: Session) -> None:
    one, other = (emit(session.tracer, "BAR", correlation_id="", event_id="") for _ in range(2))
    assert one.chain.trace_id != other.chain.trace_id
    assert all(not event.extra for event in session.end().events.values())


# -- What is recorded ----------------------------------------------------------------------------


def test_all_parts_of_an_event(session: Session) -> None:
    event = session.tracer.open(
        "FILL",
        portfolio="fund/desk",
        strategy="S-1",
        symbol="EUR/USD",
        venue="XNAS",
        handler="Strategy.on_bar",
        event_time=1_700_000_000_000_000_001,
        attributes={"trading.fill.price": Decimal("1.50")},
        event_id="fill-1",
    )
    session.tracer.close(event, attributes={"trading.fill.quantity": 3})
    found = session.end().one("FILL")
    assert found.attributes == {
        "trading.fill.price": Decimal("1.50"),
        "trading.fill.quantity": 3,
    }
    assert found.site[2:8] == ("FILL", "fund/desk", "S-1", "EUR/USD", "XNAS", "Strategy.on_bar")
    assert found.event_time == 1_700_000_000_000_000_001
    assert found.extra == {"event_id": "fill-1"}
    assert found.start is not None
    assert found.end is not None
    assert found.start <= found.end


def test_what_becomes_known_after_a_child_is_added(session: Session) -> None:
    with session.tracer.event("ORDER", attributes={"a": object()}) as order:
        emit(session.tracer, "FILL")
        session.tracer.close(order, attributes={"b": object(), "c": 1})
    found = session.end().one("ORDER")
    assert found.attributes == {
        "a": "<object>",
        "b": "<object>",
        "c": 1,
        Event.REPLACED: ["a", "b"],
    }


@pytest.mark.parametrize("has_child", [False, True])
def test_replaced_fields_of_both_times_are_named(session: Session, *, has_child: bool) -> None:
    event = session.tracer.open("ORDER", attributes={"a": object()})
    if has_child:
        emit(session.tracer, "FILL", parent=event)
    session.tracer.close(event, attributes={"b": object()})
    assert session.end().one("ORDER").attributes[Event.REPLACED] == ["a", "b"]


def test_attributes_are_copied_when_the_event_opens(session: Session) -> None:
    book = {"levels": [1, 2]}
    event = session.tracer.open("BOOK", attributes=book)
    book["levels"].append(3)
    book["late"] = []
    session.tracer.close(event)
    assert session.end().one("BOOK").attributes == {"levels": [1, 2]}


def test_a_function_gives_attributes_when_the_first_child_appears(session: Session) -> None:
    calls = []

    def attributes() -> dict[str, int]:
        calls.append(1)
        return {"a": 1}

    event = session.tracer.open("BAR", attributes=attributes)
    assert not calls
    emit(session.tracer, "SIGNAL", parent=event)
    session.tracer.close(event)
    assert len(calls) == 1
    assert session.end().one("BAR").attributes == {"a": 1}


def test_an_exception_is_recorded_and_goes_on_unchanged(session: Session) -> None:
    failure = ValueError("no quote")

    def fail() -> None:
        with session.tracer.event("BAR") as bar, session.tracer.event("SIGNAL", parent=bar):
            raise failure

    with pytest.raises(ValueError, match="no quote") as caught:
        fail()
    assert caught.value is failure
    assert failure.__context__ is None
    run = session.end()
    for event in run.events.values():
        assert event.extra["error"] == {"type": "ValueError", "message": "no quote"}
    assert all(r.flags & Flag.ERROR for r in run.records if not r.flags & Flag.BEGIN)


class MuteError(Exception):
    """Cannot be printed."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("mute")


def test_an_exception_that_cannot_be_printed_goes_on_unchanged(session: Session) -> None:
    with pytest.raises(MuteError), session.tracer.event("BAR"):
        raise MuteError
    assert session.end().one("BAR").extra["error"] == {
        "type": "MuteError",
        "message": "<MuteError>",
    }


@pytest.mark.parametrize("stop", [GeneratorExit, asyncio.CancelledError])
def test_being_stopped_from_outside_is_no_error(
    session: Session, stop: type[BaseException]
) -> None:
    with pytest.raises(stop), session.tracer.event("BAR"):
        raise stop
    assert session.end().one("BAR").extra == {}


def test_a_delivery_that_failed_is_recorded_even_if_it_caused_nothing(session: Session) -> None:
    with session.tracer.event("BAR") as bar:
        run = session.tracer.open("BAR", operation=PROCESS, parent=bar)
        session.tracer.close(run, error=ValueError("x"))
    found = session.end().one("BAR", PROCESS)
    assert found.parent == bar.sequence
    assert found.extra["error"]["type"] == "ValueError"


def test_closing_twice_is_closing_once(session: Session) -> None:
    event = session.tracer.open("BAR")
    session.tracer.close(event)
    session.tracer.close(event, error=ValueError("late"))
    assert session.end().one("BAR").extra == {}


# -- Whatever a host hands over ------------------------------------------------------------------


class Hostile:
    """Raises when it is printed or compared."""

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> NoReturn:
        raise RuntimeError("hostile")

    __repr__ = __str__


class HostileMapping(dict[str, Any]):
    """Raises when it is read."""

    def items(self) -> NoReturn:
        raise RuntimeError("hostile")


@pytest.mark.parametrize("value", ["\ud800", "x" * 10_000, 7, Hostile(), b"x", ["list"], "é\n\0"])
@pytest.mark.parametrize(
    "part",
    ["portfolio", "strategy", "symbol", "venue", "handler", "correlation_id", "event_id"],
)
def test_any_name_can_be_recorded(session: Session, part: str, value: Any) -> None:
    emit(session.tracer, "ORDER", **{part: value})
    emit(session.tracer, value)
    assert len(session.end().events) == 2


@pytest.mark.parametrize("value", [2**63, -(2**70), "noon", 1.5, Hostile(), float("nan")])
def test_an_impossible_event_time_is_no_event_time(session: Session, value: Any) -> None:
    emit(session.tracer, "ORDER", event_time=value)
    emit(session.tracer, "FILL", event_time=5)
    run = session.end()
    assert run.one("ORDER").event_time is None
    assert run.one("FILL").event_time == 5


def raising() -> NoReturn:
    raise RuntimeError("hostile")


@pytest.mark.parametrize("attributes", [HostileMapping(a=1), raising, lambda: HostileMapping(a=1)])
def test_attributes_that_cannot_be_read_cost_only_themselves(
    session: Session, attributes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        emit(session.tracer, "ORDER", attributes=attributes)
    assert session.end().one("ORDER").attributes == {Event.REPLACED: ["*"]}


def test_no_lock_is_held_while_a_host_prints_its_objects(session: Session) -> None:
    """Two threads, each with a lock of the host's, one of them taken while attributes are read."""
    tracer = session.tracer
    host_lock = threading.Lock()
    printing = threading.Event()

    class Guarded:
        def __str__(self) -> str:
            printing.set()
            with host_lock:
                return "guarded"

    shared = tracer.open("BAR")

    def publish_under_lock() -> None:
        with host_lock:
            printing.wait(10)
            emit(tracer, "ORDER", parent=shared)

    thread = threading.Thread(target=publish_under_lock, daemon=True)
    thread.start()
    tracer.close(tracer.open("FILL"), attributes={"a": Guarded()})
    emit(tracer, "FILL", attributes=lambda: {"a": Guarded()})
    thread.join(10)
    assert not thread.is_alive()


def test_an_adapter_that_fails_is_kept_from_the_host_and_counted(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with session.tracer.guarded(losing="ORDER"):
                raise ValueError("adapter")
    assert len([r for r in caplog.records if "could not record" in r.message]) == 1
    run = session.end()
    assert run.dropped == {("demo/fx", "ORDER"): {"adapter_error": 3}}


# -- Stopping ------------------------------------------------------------------------------------


def test_an_event_that_is_open_at_the_end_is_unfinished(session: Session) -> None:
    with session.tracer.event("BAR") as bar:
        run = session.end()
        emit(session.tracer, "LATE")
    assert run.unfinished == [bar.sequence]
    assert recorded(session.folder).published == {("demo/fx", "BAR"): 1}


def test_what_is_published_after_the_end_is_neither_counted_nor_recorded(session: Session) -> None:
    emit(session.tracer, "BAR")
    session.tracer.stop()
    with session.tracer.event("LATE") as late, delivery(session.tracer, late):
        emit(session.tracer, "ORDER")
        assert not session.tracer.span_context(late).is_valid  # nothing may name what is nowhere
    assert list(session.end().published) == [("demo/fx", "BAR")]


@pytest.mark.parametrize("attempt", range(10))
def test_stopping_while_handlers_run_keeps_the_counts_right(session: Session, attempt: int) -> None:
    tracer = session.tracer
    running = threading.Barrier(4)
    ending = threading.Event()

    def trade() -> None:
        running.wait()
        while not ending.is_set():
            with tracer.event("BAR") as bar, delivery(tracer, bar):
                emit(tracer, "ORDER")

    threads = [threading.Thread(target=trade) for _ in range(3)]
    for thread in threads:
        thread.start()
    running.wait()
    for _ in range(attempt * 100):
        emit(tracer, "SIGNAL")
    session.end()  # checks the counts
    ending.set()
    for thread in threads:
        thread.join()
    recorded(session.folder)


def test_ended_events_do_not_keep_their_ancestors_alive(session: Session) -> None:
    tracer = session.tracer
    last = emit(tracer, "BAR")
    for _ in range(2000):
        last = emit(tracer, "BAR", parent=last)
    del _
    gc.collect()
    # By type(): other tests leave objects behind whose __class__ raises.
    assert sum(issubclass(type(each), OpenEvent) for each in gc.get_objects()) < 100


# -- OpenTelemetry -------------------------------------------------------------------------------


@pytest.fixture
def otel() -> Iterator[tuple[trace.Tracer, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("host"), exporter
    provider.shutdown()


def test_a_users_own_span_nests_under_the_event(
    session: Session, otel: tuple[trace.Tracer, InMemorySpanExporter]
) -> None:
    host_tracer, exporter = otel
    with session.tracer.event("BAR") as bar, delivery(session.tracer, bar) as run:
        found = trace.get_current_span().get_span_context()
        with host_tracer.start_as_current_span("call the broker"):
            emit(session.tracer, "ORDER")
        assert trace.get_current_span().get_span_context() == found
    assert not trace.get_current_span().get_span_context().is_valid
    assert found.trace_id == identity.trace_id(KEY, bar.sequence)
    assert found.span_id == identity.span_id(KEY, run.sequence)
    assert found.trace_flags.sampled
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (found.trace_id, found.span_id)
    # The event that was published meanwhile is the handler's.
    assert session.end().one("ORDER").parent == run.sequence


def test_asking_for_the_ids_records_the_delivery(session: Session) -> None:
    with session.tracer.event("BAR") as bar, delivery(session.tracer, bar) as run:
        ids = trace.get_current_span().get_span_context()
    found = session.end().one("BAR", PROCESS)
    assert found.sequence == run.sequence
    assert identity.span_id(KEY, found.sequence) == ids.span_id


# -- Reproducible --------------------------------------------------------------------------------


TWICE = """
import sys
from pathlib import Path
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.spool_writer import SpoolWriter
recorder = Recorder(SpoolWriter(Path(sys.argv[1]), {}))
tracer = EventTracer("same", recorder, "p")
for n in range(50):
    with tracer.event("BAR", attributes={"set": {str(i) for i in range(9)}, "x": object()}):
        with tracer.event("ORDER", symbol=str(n)):
            pass
tracer.stop()
recorder.stop({})
"""


def test_a_rerun_gives_the_same_ids_and_attributes(tmp_path: Path) -> None:
    runs: list[list[Any]] = []
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", TWICE, str(tmp_path / name)], check=True)
        run = recorded(tmp_path / name)
        runs.append([(e.sequence, e.parent, e.site, e.attributes) for e in run.events.values()])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 100
