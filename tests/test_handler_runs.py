"""The run of a handler is an event only when something asks for it, and then the very same one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.event_span import HandlerRun
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import Cause
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.spool import NO_TIME, SpoolReader


class Session:
    """A session of a test, and what it recorded."""

    def __init__(self, data: Path) -> None:
        self.tracing = Tracing("run", data=data, writer="none")
        self.tracing.start()
        self.tracer: EventTracer = self.tracing.tracer
        self._folder = data / "spool" / "run"

    def place(self, handler: str = "Trend.on_bar") -> Any:
        return self.tracer.place("BAR", operation=PROCESS, strategy="trend", handler=handler)

    @contextmanager
    def handling(self, cause: Cause | None, handler: str = "Trend.on_bar") -> Iterator[HandlerRun]:
        run = self.tracer.enter_run(self.place(handler), cause, NO_TIME)
        try:
            yield run
        except BaseException as error:
            self.tracer.leave_run(run, error)
            raise
        self.tracer.leave_run(run)

    def emit(self, kind: str, **parts: Any) -> Any:
        event = self.tracer.open(kind, **parts)
        self.tracer.close(event)
        return event

    def events(self) -> dict[int, RecordedEvent]:
        self.tracing.stop()
        spool = SpoolEvents()
        found: dict[int, RecordedEvent] = {}
        for block in SpoolReader(self._folder).blocks():
            found.update((event.sequence, event) for event in spool.feed(block))
        return dict(sorted(found.items()))

    def tree(self) -> list[tuple[Any, ...]]:
        """All that was recorded but its clocks: what it is, its cause, whether it has ended."""
        return [
            (
                event.sequence,
                event.parent,
                event.root,
                event.site.operation,
                event.site.event_type,
                event.site.handler,
                (event.end or 0) >= (event.start or 0),
            )
            for event in self.events().values()
        ]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    yield made
    made.tracing.stop()


def test_a_run_that_causes_nothing_never_becomes_an_event(session: Session) -> None:
    bar = session.emit("BAR")
    with session.handling(bar) as run:
        assert not session.tracer.is_idle
    assert run.made is None
    assert session.tracer.is_idle
    assert [event.site.event_type for event in session.events().values()] == ["BAR"]


@pytest.mark.parametrize("by_handle", [False, True])
def test_what_a_run_causes_has_it_as_its_cause(session: Session, *, by_handle: bool) -> None:
    bar: Any = session.emit("BAR")
    if by_handle:
        bar = session.tracer.emitter("BAR", fields=["close"])(NO_TIME, None, 1.0)
    with session.handling(bar) as run:
        order = session.emit("ORDER")
    events = session.events()
    recorded = events[events[order.sequence].parent]
    assert recorded.site.operation == PROCESS
    assert recorded.site.handler == "Trend.on_bar"
    assert recorded.parent == (bar[0] if by_handle else bar.sequence)
    caused = events[order.sequence]
    assert recorded.end is not None
    assert recorded.start is not None
    assert caused.end is not None
    assert caused.start is not None
    assert recorded.end - recorded.start == run.ended - run.began
    assert recorded.start <= caused.start <= caused.end <= recorded.end


def test_a_cause_of_another_session_is_no_cause(tmp_path: Path) -> None:
    other = Session(tmp_path / "other")
    bar = other.emit("BAR")
    other.tracing.stop()
    session = Session(tmp_path)
    with session.handling(bar):
        session.emit("ORDER")
    assert [event.parent for event in session.events().values()] == [0, 1]  # the run, the order


def test_a_failure_is_recorded_and_goes_on(session: Session) -> None:
    bar = session.emit("BAR")
    with pytest.raises(ZeroDivisionError), session.handling(bar):
        1 / 0  # noqa: B018 - it is to raise
    (run,) = (e for e in session.events().values() if e.site.operation == PROCESS)
    assert run.extra["error"]["type"] == "ZeroDivisionError"


def test_a_cancelled_run_is_no_failure(session: Session) -> None:
    with pytest.raises(asyncio.CancelledError), session.handling(session.emit("BAR")):
        raise asyncio.CancelledError
    assert len(session.events()) == 1


def test_a_users_own_span_and_what_a_run_causes_nest_alike(session: Session) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    bar = session.emit("BAR")
    with (
        session.handling(bar) as run,
        provider.get_tracer("host").start_as_current_span("call the broker"),
    ):
        session.emit("ORDER")
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == session.tracer.span_context(run.event).span_id
    assert span.parent.trace_id == session.tracer.span_context(bar).trace_id
    assert [event.parent for event in session.events().values()] == [0, 1, 2]


def test_a_run_is_a_span_that_can_be_printed_and_asked(session: Session) -> None:
    with session.handling(session.emit("BAR")):
        current = trace.get_current_span()
        assert isinstance(current, HandlerRun)
        assert "NonRecordingSpan" in repr(current)
        assert not current.is_recording()
        current.set_attribute("host.key", 1)
        current.end()  # it is not the host's to end
        assert current.get_span_context().is_valid
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_context_around_stays_as_it_was(session: Session) -> None:
    token = context.attach(context.set_value("host.key", "kept"))
    with session.handling(session.emit("BAR")):
        assert context.get_value("host.key") == "kept"
    assert dict(context.get_current()) == {"host.key": "kept"}
    context.detach(token)


def test_a_task_left_behind_names_the_run_that_started_it(session: Session) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        session.emit("ORDER")

    async def main() -> HandlerRun:
        with session.handling(session.emit("BAR")) as run:
            task = asyncio.create_task(later())
        assert run.made is None
        await task
        return run

    run = asyncio.run(main())
    events = session.events()
    (recorded,) = (e for e in events.values() if e.site.operation == PROCESS)
    (order,) = (e for e in events.values() if e.site.event_type == "ORDER")
    assert order.parent == recorded.sequence
    assert recorded.end is not None
    assert recorded.start is not None
    assert recorded.end - recorded.start == run.ended - run.began
    assert order.start is not None
    assert recorded.end < order.start


def test_threads_that_ask_while_a_run_ends_get_one_event_that_has_ended(session: Session) -> None:
    bar = session.emit("BAR")
    for _ in range(50):
        begin = threading.Barrier(4)
        with session.handling(bar) as run:
            contexts = [contextvars.copy_context() for _ in range(3)]

            def ask(begin: threading.Barrier = begin) -> None:
                begin.wait()
                session.emit("ORDER")

            threads = [threading.Thread(target=each.run, args=(ask,)) for each in contexts]
            for thread in threads:
                thread.start()
            begin.wait()
        for thread in threads:
            thread.join()
        assert run.event.closed
    tree = session.tree()
    assert [row[3] for row in tree].count(PROCESS) == 50
    assert all(row[-1] for row in tree)


def test_a_generator_that_goes_on_in_another_context_does_no_harm(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    bar = session.emit("BAR")

    def steps() -> Iterator[None]:
        with session.handling(bar):
            yield
            session.emit("ORDER")

    generator = steps()
    contextvars.copy_context().run(next, generator)
    with caplog.at_level(logging.WARNING):
        contextvars.copy_context().run(list, generator)
    assert not caplog.records
    assert session.tracer.is_idle
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_context_that_is_kept_does_not_keep_the_runs_before_it(session: Session) -> None:
    bar = session.emit("BAR")
    with session.handling(bar) as outer, session.handling(bar):
        kept = contextvars.copy_context()
    gone = weakref.ref(outer.event)
    outer.made = None
    del outer
    gc.collect()
    assert gone() is None
    del kept


def test_in_a_run_of_a_portfolio_that_is_off_nothing_is_current(tmp_path: Path) -> None:
    with Tracing("run", data=tmp_path, writer="none", portfolio="fund") as tracing:
        tracer = tracing.tracer
        tracer.takes = lambda portfolio: portfolio == "fund"
        place = tracer.place("BAR", operation=PROCESS, portfolio="other", handler="on_bar")
        run = tracer.enter_run(place, None, NO_TIME)
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert tracer.current is tracer.nothing
        tracer.leave_run(run)
        assert tracer.is_idle


def test_a_run_that_begins_after_the_end_of_the_session_is_nothing(session: Session) -> None:
    session.tracing.stop()
    run = session.tracer.enter_run(session.place(), None, NO_TIME)
    assert not run.get_span_context().is_valid
    session.tracer.leave_run(run, ZeroDivisionError())
    assert not session.events()


Tree = list[Any]
"""Each node is one of event, run, span; and what happens in it."""
nodes: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.sampled_from(["event", "run", "span"]), st.just([])),
    lambda inner: st.tuples(st.sampled_from(["event", "run", "span"]), st.lists(inner, max_size=3)),
    max_leaves=12,
)


def eagerly(session: Session, tree: Tree) -> None:
    """Record a tree with every run an event from the start."""
    tracer = session.tracer
    spans = session.tracing.tracer_provider.get_tracer("host")
    for kind, inner in tree:
        if kind == "span":
            with spans.start_as_current_span("call"):
                eagerly(session, inner)
        elif kind == "event":
            with tracer.event("ORDER"):
                eagerly(session, inner)
        else:
            run = tracer.open("BAR", operation=PROCESS, strategy="trend", handler="Trend.on_bar")
            with tracer.handling(run):
                eagerly(session, inner)
            tracer.close(run)


def lazily(session: Session, tree: Tree) -> None:
    tracer = session.tracer
    spans = session.tracing.tracer_provider.get_tracer("host")
    for kind, inner in tree:
        if kind == "span":
            with spans.start_as_current_span("call"):
                lazily(session, inner)
        elif kind == "event":
            with tracer.event("ORDER"):
                lazily(session, inner)
        else:
            cause = tracer.current
            if tracer.enclosing is not None:
                cause = tracer.enclosing(cause)
            with session.handling(cause):
                lazily(session, inner)


@given(st.lists(nodes, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_tree_is_recorded_as_if_every_run_were_an_event(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for way in (eagerly, lazily):
            session = Session(Path(folder) / way.__name__)
            way(session, tree)
            found.append(session.tree())
    assert found[0] == found[1]
