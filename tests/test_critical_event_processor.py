"""The span processor of the `otel` way: what a critical event needs is sampled after the fact."""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags, TraceState

from fillpath.instrumentation import CriticalEventProcessor, CriticalEventSampler, EventSampler
from fillpath.instrumentation.semconv import (
    Event,
    EventType,
    Resource,
    Sampling,
    Signal,
    Trading,
)

NOTHING_BY_CHANCE = EventSampler(rate=0.0, context=0)


class Setup:
    """A real SDK with the sampler and the processor, and what comes out of it."""

    def __init__(
        self,
        policy: EventSampler = NOTHING_BY_CHANCE,
        held: int = 1000,
        behind: Callable[[InMemorySpanExporter], Any] = SimpleSpanProcessor,
        **parts: Any,
    ) -> None:
        self.exporter = InMemorySpanExporter()
        self.processor = CriticalEventProcessor(behind(self.exporter), policy, held)
        sampler = CriticalEventSampler(policy, record_all=True)
        self.provider = TracerProvider(sampler=sampler, **parts)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("test")

    def publish(self, kind: str, parent: trace.Span | None = None, **attributes: Any) -> trace.Span:
        """Begin an event."""
        context = trace.set_span_in_context(parent) if parent is not None else None
        given = {Resource.PORTFOLIO: "a", Trading.SYMBOL: "X", **attributes}
        return self.tracer.start_span(f"publish {kind}", context, attributes=given)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def reasons(self) -> dict[str, object]:
        return {span.name: (span.attributes or {})[Sampling.REASON] for span in self.spans}


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_ended_and_open_ancestors_of_a_critical_event_are_handed_on(setup: Setup) -> None:
    bar = setup.publish(EventType.BAR)
    bar.end()
    handler = setup.tracer.start_span("process BAR", trace.set_span_in_context(bar))
    features = setup.publish(EventType.FEATURES, handler)
    features.end()
    setup.publish(EventType.BAR).end()
    assert setup.spans == []
    order = setup.publish(EventType.ORDER, features)
    order.end()
    assert setup.reasons == {
        "publish BAR": "ancestor",
        "publish FEATURES": "ancestor",
        "publish ORDER": "critical",
    }
    handler.end()
    assert setup.reasons["process BAR"] == "ancestor"
    assert setup.processor.counts() == {
        "ended": 5,
        "kept": {"ancestor": 3, "critical": 1},
        "let_go": {},
        "held": 1,
        "missing_ancestors": 0,
    }


def test_a_handed_on_span_is_the_one_that_was_recorded() -> None:
    setup = Setup(span_limits=SpanLimits(max_span_attributes=5))
    state = TraceState([("vendor", "x")])
    remote = SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(0), trace_state=state)
    link = trace.Link(SpanContext(5, 6, is_remote=False), {"why": "entry"})
    bar = setup.tracer.start_span(
        "publish BAR",
        trace.set_span_in_context(trace.NonRecordingSpan(remote)),
        attributes={"n": 1, "m": 2, Event.TYPE: EventType.BAR},
        links=[link],
        start_time=100,
    )
    bar.set_attribute("late", "yes")
    bar.add_event("something", {"x": 1.5})
    bar.set_status(StatusCode.OK)
    for number in range(3):
        bar.set_attribute(f"more {number}", number)
    bar.end(200)
    setup.publish(EventType.FILL, bar).end()
    found, fill = setup.spans
    assert found.context is not None
    assert fill.parent is not None
    assert (found.context.trace_id, found.context.span_id) == (7, fill.parent.span_id)
    assert found.context.trace_flags.sampled
    assert found.context.trace_state == state
    assert found.parent == remote
    attributes = dict(found.attributes or {})
    assert attributes.pop(Sampling.REASON) == "ancestor"
    assert attributes.pop(Sampling.PROBABILITY) == 1.0
    assert attributes == {
        Event.TYPE: EventType.BAR,
        "late": "yes",
        **{f"more {n}": n for n in range(3)},
    }
    assert found.dropped_attributes == 2
    assert [event.name for event in found.events] == ["something"]
    assert [each.context.span_id for each in found.links] == [6]
    assert (found.start_time, found.end_time) == (100, 200)
    assert found.status.status_code is StatusCode.OK
    assert found.resource is fill.resource
    assert found.instrumentation_scope == fill.instrumentation_scope
    found.to_json()


def test_neighbours_on_either_side_are_handed_on() -> None:
    setup = Setup(EventSampler(rate=0.0, context=2))
    for number in range(4):
        setup.publish(EventType.BAR, n=number).end()
        setup.publish(EventType.BAR, None, n=10 + number, **{Trading.SYMBOL: "Y"}).end()
    setup.publish(EventType.FILL, n=99).end()
    for number in range(4, 8):
        setup.publish(EventType.BAR, n=number).end()
    found = {(span.attributes or {})["n"]: span for span in setup.spans}
    assert sorted(found, key=str) == [2, 3, 4, 5, 99]
    assert {(found[n].attributes or {})[Sampling.REASON] for n in (2, 3, 4, 5)} == {"context"}


def test_only_a_signal_that_changes_something_is_critical(setup: Setup) -> None:
    for value in (0, 1, 1, "flat", 1):
        name = {Signal.NAME: "trend", Signal.VALUE: value}
        setup.publish(EventType.SIGNAL, None, **name).end()
    values = [(span.attributes or {})[Signal.VALUE] for span in setup.spans]
    assert values == [1, "flat", 1]


def test_a_span_that_fails_is_critical_and_other_spans_follow_the_sampler(setup: Setup) -> None:
    bar = setup.publish(EventType.BAR)
    handler = setup.tracer.start_span("process BAR", trace.set_span_in_context(bar))
    handler.set_status(StatusCode.ERROR, "no")
    handler.end()
    bar.end()
    assert setup.reasons == {"process BAR": "critical", "publish BAR": "ancestor"}
    setup.exporter.clear()
    fill = setup.publish(EventType.FILL)
    setup.tracer.start_span("GET /quote", trace.set_span_in_context(fill)).end()
    setup.tracer.start_span("process FILL", trace.set_span_in_context(fill)).end()
    setup.tracer.start_span("GET /other").end()
    fill.end()
    assert setup.reasons == {"GET /quote": "context", "publish FILL": "critical"}


def test_the_ring_is_bounded_and_what_left_it_is_counted() -> None:
    setup = Setup(held=10)
    first = setup.publish(EventType.BAR)
    first.end()
    for _ in range(30):
        setup.publish(EventType.BAR).end()
    setup.publish(EventType.FILL, first).end()
    counts = setup.processor.counts()
    assert counts == {
        "ended": 32,
        "kept": {"critical": 1},
        "let_go": {"ring_full": 21},
        "held": 10,
        "missing_ancestors": 1,
    }
    setup.provider.force_flush()
    assert setup.processor.counts() == counts
    setup.provider.shutdown()
    counts = setup.processor.counts()
    assert counts["let_go"] == {"ring_full": 21, "shutdown": 10}
    assert (counts["ended"], counts["held"]) == (32, 0)


def test_spans_reach_the_exporter_behind_a_batch_processor() -> None:
    setup = Setup(behind=lambda exporter: exporter)
    bar = setup.publish(EventType.BAR)
    bar.end()
    setup.publish(EventType.FILL, bar).end()
    assert setup.provider.force_flush()
    assert setup.reasons == {"publish BAR": "ancestor", "publish FILL": "critical"}
    setup.provider.shutdown()
    setup = Setup(behind=BatchSpanProcessor)
    setup.publish(EventType.FILL).end()
    setup.provider.shutdown()  # which exports what waits
    assert list(setup.reasons) == ["publish FILL"]


class _Ids(IdGenerator):
    """Ids that count, so that a run can be repeated."""

    def __init__(self) -> None:
        self._next = 0

    def generate_trace_id(self) -> int:
        self._next += 1
        return self._next

    generate_span_id = generate_trace_id


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 1.0]), st.integers(0, 3))
def test_no_span_that_is_handed_on_lacks_an_ancestor(seed: int, rate: float, context: int) -> None:
    chance = random.Random(seed)
    policy = EventSampler(rate=rate, context=context)
    runs = []
    for _ in range(2):
        chance.seed(seed)
        setup = Setup(policy, id_generator=_Ids())
        spans: list[trace.Span] = []
        open_: list[trace.Span] = []
        for _ in range(150):
            parent = chance.choice(spans) if spans and chance.random() < 0.8 else None
            kind = chance.choices(["BAR", "FEATURES", "ORDER"], [20, 20, 1])[0]
            span = setup.publish(kind, parent)
            spans.append(span)
            if chance.random() < 0.5:
                span.end()
            else:
                open_.append(span)
            if open_ and chance.random() < 0.4:
                open_.pop(chance.randrange(len(open_))).end()
        for span in reversed(open_):
            span.end()
        found = {s.context.span_id: s for s in setup.spans if s.context is not None}
        for kept in found.values():
            assert kept.parent is None or kept.parent.span_id in found
        assert len(found) == len(setup.spans)
        orders = {s for s in spans if getattr(s, "name", "") == "publish ORDER"}
        assert {s.get_span_context().span_id for s in orders} <= set(found)
        counts = setup.processor.counts()
        assert counts["missing_ancestors"] == 0
        assert counts["ended"] == 150 == sum(counts["kept"].values()) + counts["held"]
        assert sum(counts["kept"].values()) == len(found)
        runs.append(
            sorted((i, str((s.attributes or {})[Sampling.REASON])) for i, s in found.items())
        )
    assert runs[0] == runs[1]


def test_threads_lose_no_span(setup: Setup) -> None:
    def work() -> None:
        for _ in range(100):
            bar = setup.publish(EventType.BAR)
            bar.end()
            setup.publish(EventType.FILL, bar).end()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert setup.processor.counts()["kept"] == {"ancestor": 400, "critical": 400}


def test_a_span_that_cannot_be_handled_is_counted_and_the_host_goes_on(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        setup.processor.on_end(ReadableSpan("publish BAR", None))
        broken = ReadableSpan("publish BAR", SpanContext(1, 2, is_remote=False))
        broken._attributes = 7  # type: ignore[assignment]
        setup.processor.on_end(broken)
    assert setup.processor.counts()["let_go"] == {"processor_error": 2}
    assert len(caplog.records) == 1


def test_a_span_that_waits_holds_none_of_the_sdks_objects(setup: Setup) -> None:
    setup.publish(EventType.BAR).end()
    gc.collect()
    assert not [
        one
        for one in gc.get_objects()
        # By its type: other tests leave objects whose class cannot be asked for.
        if issubclass(type(one), trace.Span) and "BAR" in str(one)
    ]
