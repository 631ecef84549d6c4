"""The sampling policy, and the SDK sampler that follows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from fillpath.instrumentation import identity
from fillpath.instrumentation.critical_event_sampler import CriticalEventSampler
from fillpath.instrumentation.critical_when import Operator
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_sampler import CriticalWhen, EventSampler
from fillpath.instrumentation.semconv import (
    CRITICAL_EVENT_TYPES,
    Event,
    EventType,
    Fill,
    Sampling,
    Signal,
)
from fillpath.instrumentation.settings import (
    ENV_CRITICAL_KINDS,
    ENV_SAMPLING_CONTEXT,
    ENV_SAMPLING_RATE,
)
from fillpath.instrumentation.signal_meaning import FLAT, meaning_of, signal_meaning

RATES = st.floats(0.0, 1.0)
IDS = st.integers(1, (1 << 128) - 1)


@settings(deadline=None)
@given(st.sampled_from(sorted(CRITICAL_EVENT_TYPES)), IDS, RATES)
def test_critical_kinds_are_kept_at_any_rate(kind: str, event_id: int, rate: float) -> None:
    decision = EventSampler(rate=rate).decide(kind, event_id)
    assert (decision.kept, decision.reason, decision.probability) == (True, "critical", 1.0)


@settings(deadline=None)
@given(IDS, RATES, RATES)
def test_what_a_rate_keeps_a_higher_rate_keeps(event_id: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if EventSampler(rate=low).decide(EventType.BAR, event_id).kept:
        assert EventSampler(rate=high).decide(EventType.BAR, event_id).kept


@settings(deadline=None)
@given(IDS, RATES)
def test_the_same_event_gets_the_same_answer(event_id: int, rate: float) -> None:
    first = EventSampler(rate=rate).decide(EventType.TICK, event_id)
    assert first == EventSampler(rate=rate).decide(EventType.TICK, event_id)
    assert first.kept == (first.reason == "random")
    assert first.probability == rate


def test_the_answer_is_the_same_in_every_version() -> None:
    kept = [n for n in range(1, 60) if EventSampler(rate=0.2).decide(EventType.TICK, n).kept]
    assert kept == [5, 15, 16, 19, 26, 27, 32, 34, 36, 38, 39, 56, 58]


@pytest.mark.parametrize("ids", ["ours", "counter", "high bits only"])
def test_the_rate_is_met_whatever_the_ids(ids: str) -> None:
    key = identity.run_key("run")
    numbers: dict[str, Callable[[int], int]] = {
        "ours": lambda n: identity.span_id(key, n),
        "counter": lambda n: n,
        "high bits only": lambda n: n << 96,
    }
    number = numbers[ids]
    policy = EventSampler(rate=0.1)
    kept = sum(policy.decide(EventType.BAR, number(n)).kept for n in range(1, 20_001))
    assert 1_830 < kept < 2_170  # four standard deviations


@settings(deadline=None)
@given(
    st.frozensets(st.text(min_size=1), max_size=4),
    RATES,
    st.lists(
        st.builds(
            CriticalWhen,
            st.text(min_size=1),
            st.sampled_from(["==", "!=", ">", "<=", "exists"]),
            st.none() | st.integers() | st.text(),
            st.none() | st.text(),
        ),
        max_size=3,
    ),
    st.integers(0, 50),
)
def test_a_policy_survives_being_stored(
    kinds: frozenset[str], rate: float, conditions: list[CriticalWhen], context: int
) -> None:
    policy = EventSampler(kinds, rate, tuple(conditions), context)
    assert EventSampler.from_dict(policy.to_dict()) == policy


@pytest.mark.parametrize(
    ("operator", "value", "actual", "expected"),
    [
        ("!=", 0, Decimal("0.00"), False),
        ("!=", 0, "0.5", True),
        (">=", 100, Decimal("100.0"), True),
        (">", "99.5", 99, False),
        ("<", 1, float("nan"), False),
        ("==", "BUY", "BUY", True),
        ("!=", "BUY", "SELL", True),
        (">", "A", "B", False),
        ("exists", None, False, True),
        ("exists", None, None, False),
        ("==", True, True, True),
    ],
)
def test_an_attribute_can_make_an_event_critical(
    operator: Operator, value: object, actual: object, expected: bool
) -> None:
    condition = CriticalWhen("k", operator, value, EventType.BAR)  # type: ignore[arg-type]
    policy = EventSampler(rate=0.0, critical_when=(condition,))
    assert policy.decide(EventType.BAR, 1, {"k": actual}).kept is expected
    assert not policy.decide(EventType.TICK, 1, {"k": actual}).kept
    assert not policy.decide(EventType.BAR, 1, {}).kept


def test_the_environment_describes_a_policy() -> None:
    assert EventSampler.from_environment({}) == EventSampler()
    policy = EventSampler.from_environment(
        {
            ENV_SAMPLING_RATE: " 0.25 ",
            ENV_CRITICAL_KINDS: "FILL, MY_KIND,",
            ENV_SAMPLING_CONTEXT: "7",
        }
    )
    assert policy == EventSampler(frozenset({"FILL", "MY_KIND"}), 0.25, context=7)


@pytest.mark.parametrize("rate", ["ten", "1.01", "-0.1", "nan", "inf"])
def test_a_rate_that_is_none_is_a_usage_error(rate: str) -> None:
    with pytest.raises(UsageError, match="rate"):
        EventSampler.from_environment({ENV_SAMPLING_RATE: rate})


@pytest.mark.parametrize("context", ["ten", "-1", "1.5", "1000000"])
def test_a_context_that_is_none_is_a_usage_error(context: str) -> None:
    with pytest.raises(UsageError, match="context"):
        EventSampler.from_environment({ENV_SAMPLING_CONTEXT: context})


@pytest.mark.parametrize(
    "value", [None, False, 0, 0.0, -0.0, Decimal("0.00"), "0", "", " Flat ", "none", float("nan")]
)
def test_no_opinion_is_flat_however_it_is_said(value: object) -> None:
    assert meaning_of(value) == FLAT


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, Decimal("1.00"), True),
        (1, "1", True),
        (1, True, True),
        ("BUY", " buy", True),
        ("BUY", "SELL", False),
        (1, -1, False),
        (0.1, "0.1", True),
        ("1e400", "inf", False),
        ([1], [2], False),
        ("\ud800", "\ud801", False),
    ],
)
def test_signals_mean_the_same_where_their_values_are_the_same(
    one: object, other: object, same: bool
) -> None:
    assert (meaning_of(one) == meaning_of(other)) is same
    assert (
        signal_meaning({Signal.VALUE: one, Signal.STRENGTH: 1})
        == signal_meaning({Signal.STRENGTH: other})
    ) is same


def test_an_unknown_operator_or_part_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="operator"):
        CriticalWhen("k", "~", 1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no sampling policy"):
        EventSampler.from_dict({"critical_when": [{"colour": "red"}]})


# The SDK sampler.


def _record(sampler: Sampler) -> tuple[trace.Tracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


def _by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_critical_spans_are_sampled_below_parents_that_are_not() -> None:
    tracer, exporter = _record(CriticalEventSampler(0.0))
    with tracer.start_as_current_span("publish BAR"), tracer.start_as_current_span("publish FILL"):
        tracer.start_span("GET /quote").end()
    spans = _by_name(exporter)
    assert set(spans) == {"publish FILL", "GET /quote"}
    fill, call = spans["publish FILL"].attributes or {}, spans["GET /quote"].attributes or {}
    assert fill[Sampling.REASON] == "critical"
    assert fill[Sampling.PROBABILITY] == 1.0
    assert call[Sampling.REASON] == "context"


def test_the_attribute_names_the_kind_before_the_name_does() -> None:
    tracer, exporter = _record(CriticalEventSampler(0.0))
    tracer.start_span("order accepted", attributes={Event.TYPE: EventType.ORDER}).end()
    tracer.start_span("publish FILL", attributes={Event.TYPE: "MY_KIND"}).end()
    assert set(_by_name(exporter)) == {"order accepted"}


@pytest.mark.parametrize("name", ["publish FILL", "GET /quote"])
def test_a_sampled_span_keeps_the_attributes_it_began_with(name: str) -> None:
    # The SDK takes the sampler's attributes for the whole of the span's.
    tracer, exporter = _record(CriticalEventSampler(1.0))
    tracer.start_span(name, attributes={Fill.ID: "T-1", Fill.QUANTITY: "3", "own": 1}).end()
    attributes = dict(_by_name(exporter)[name].attributes or {})
    assert attributes.pop(Sampling.REASON) in ("critical", "random")
    assert attributes.pop(Sampling.PROBABILITY) == 1.0
    assert attributes == {Fill.ID: "T-1", Fill.QUANTITY: "3", "own": 1}


def test_a_trace_stays_together_and_the_rate_is_met() -> None:
    tracer, exporter = _record(CriticalEventSampler(0.3))
    for _ in range(2_000):
        with tracer.start_as_current_span("publish BAR"):
            tracer.start_span("publish FEATURES").end()
    spans = exporter.get_finished_spans()
    bars = [span for span in spans if span.name == "publish BAR"]
    assert len(spans) == 2 * len(bars)
    assert 500 < len(bars) < 700
    attributes = bars[0].attributes or {}
    assert attributes[Sampling.REASON] == "random"
    assert attributes[Sampling.PROBABILITY] == 0.3


def test_the_sampler_passes_over_signals_that_repeat_and_runs_of_handlers() -> None:
    tracer, exporter = _record(CriticalEventSampler(0.0))
    for value in (0, 1, 1, -1):
        for strategy in ("S", "T"):
            attributes = {Signal.VALUE: value, "trading.strategy.id": strategy}
            tracer.start_span("publish SIGNAL", attributes=attributes).end()
    tracer.start_span("process FILL").end()
    values = [(span.attributes or {})[Signal.VALUE] for span in exporter.get_finished_spans()]
    assert values == [1, 1, -1, -1]


def test_a_sampler_that_records_everything_marks_what_is_critical() -> None:
    tracer, exporter = _record(CriticalEventSampler(1.0, record_all=True))
    for name in ("publish BAR", "process BAR", "publish FILL", "GET /quote"):
        span = tracer.start_span(name, attributes={"own": 1})
        assert span.is_recording()
        span.end()
    assert set(_by_name(exporter)) == {"publish FILL", "GET /quote"}


@pytest.mark.parametrize("sampled", [True, False])
def test_a_remote_parent_is_respected_and_its_tracestate_kept(sampled: bool) -> None:
    state = TraceState([("vendor", "x")])
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    remote = SpanContext(7, 9, is_remote=True, trace_flags=flags, trace_state=state)
    context = trace.set_span_in_context(NonRecordingSpan(remote))
    sampler = CriticalEventSampler(1.0)
    result = sampler.should_sample(context, 7, "publish BAR")
    assert (result.decision is Decision.RECORD_AND_SAMPLE) is sampled
    assert result.trace_state == state
    critical = sampler.should_sample(context, 7, "publish FILL")
    assert critical.decision is Decision.RECORD_AND_SAMPLE
    assert critical.trace_state == state


def test_the_sampler_takes_a_rate_a_text_a_policy_or_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENV_SAMPLING_RATE, "0.5")
    monkeypatch.setenv(ENV_CRITICAL_KINDS, "X")
    kinds = frozenset({"X"})
    assert CriticalEventSampler().policy == EventSampler(kinds, 0.5)
    assert CriticalEventSampler("").policy == EventSampler(kinds, 0.5)
    assert CriticalEventSampler("0.25").policy == EventSampler(kinds, 0.25)
    assert CriticalEventSampler(1).policy == EventSampler(kinds, 1.0)
    assert CriticalEventSampler(EventSampler(rate=0.0)).policy == EventSampler(rate=0.0)
    assert "rate=0.5" in CriticalEventSampler().get_description()
    with pytest.raises(UsageError):
        CriticalEventSampler("many")


def test_the_sdk_finds_the_sampler_by_its_entry_point(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk._configuration import _OTelSDKConfigurator\n"
        "_OTelSDKConfigurator().configure()  # what opentelemetry-distro does\n"
        "print(trace.get_tracer_provider().sampler.get_description())\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env={
            **os.environ,
            "OTEL_TRACES_SAMPLER": "fillpath",
            "OTEL_TRACES_SAMPLER_ARG": "0.125",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("CriticalEventSampler{rate=0.125,"), done.stderr
