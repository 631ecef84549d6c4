"""The sampling policy as a sampler of the OpenTelemetry SDK, for any application that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from fillpath.instrumentation.event_sampler import (
    KEEP_CONTEXT,
    KEEP_CRITICAL,
    SAMPLED_OUT,
    EventSampler,
    parse_rate,
)
from fillpath.instrumentation.event_sampler import Decision as PolicyDecision
from fillpath.instrumentation.sampling_stream import Place, SignalMemory, signal_name
from fillpath.instrumentation.semconv import (
    PROCESS,
    PUBLISH,
    Event,
    EventType,
    Resource,
    Sampling,
    Signal,
    Trading,
)
from fillpath.instrumentation.signal_meaning import signal_meaning

MOST_SERIES: Final = 10_000
"""Signals, and series of events, that are remembered; the oldest are forgotten."""


class CriticalEventSampler(Sampler):
    """Samples every critical event, what a sampled parent causes, and a share of the other traces.

    The share is decided by a hash of the trace id, so that a trace stays together and foreign ids
    need not be random. A span is sampled when it begins, before it is known what it will cause: a
    critical event below parents that were not sampled is sampled without them. With `record_all`
    and a `CriticalEventProcessor` behind it, they are sampled as well.

    Register it by `OTEL_TRACES_SAMPLER=fillpath`; `OTEL_TRACES_SAMPLER_ARG` is the rate.

    Args:
        policy: The policy, or the rate of the policy that the environment describes (a number or
            its text), or None or an empty text for that policy as it is.
        record_all: Also record what is not sampled, for a `CriticalEventProcessor` to decide on.
            Then events that are not critical are left to it whatever their parents are.

    Raises:
        UsageError: When the rate is not a number from 0 to 1.
    """

    def __init__(
        self, policy: EventSampler | float | str | None = None, *, record_all: bool = False
    ) -> None:
        if not isinstance(policy, EventSampler):
            rate = "" if policy is None else str(policy).strip()
            policy = EventSampler.from_environment()
            if rate:
                policy = replace(policy, rate=parse_rate(rate))
        self.policy = policy
        self.record_all = record_all
        self._signals = SignalMemory(MOST_SERIES)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on a span that is about to begin."""
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            trace_state = parent.trace_state
        decision = self._decide(parent, trace_id, name, attributes)
        if not decision.kept:
            left_out = Decision.RECORD_ONLY if self.record_all else Decision.DROP
            return SamplingResult(left_out, attributes if self.record_all else None, trace_state)
        # The SDK gives the span these attributes and no others, so its own are among them.
        return SamplingResult(
            Decision.RECORD_AND_SAMPLE,
            {
                **(attributes or {}),
                Sampling.REASON: decision.reason or "",
                Sampling.PROBABILITY: decision.probability,
            },
            trace_state,
        )

    def _decide(
        self, parent: SpanContext, trace_id: int, name: str, attributes: Attributes
    ) -> PolicyDecision:
        event_type = event_type_of(name, attributes)
        if event_type and self._is_critical(event_type, attributes or {}):
            return KEEP_CRITICAL
        if self.record_all and (event_type or name.startswith(f"{PROCESS} ")):
            return SAMPLED_OUT
        if not parent.is_valid:
            return self.policy.decide_by_rate(trace_id)
        return KEEP_CONTEXT if parent.trace_flags.sampled else SAMPLED_OUT

    def _is_critical(self, event_type: str, attributes: Mapping[str, Any]) -> bool:
        critical = event_type in self.policy.critical_kinds
        if critical and event_type == EventType.SIGNAL:
            name = signal_name(attributes.get(Signal.NAME))
            meaning = signal_meaning(attributes)
            critical = self._signals.changes(place_of_event(attributes), name, meaning)
        return critical or self.policy.is_critical_by(event_type, attributes)

    def get_description(self) -> str:
        """Describe the sampler for the SDK's logs."""
        kinds = ",".join(sorted(self.policy.critical_kinds))
        return f"CriticalEventSampler{{rate={self.policy.rate},critical={kinds}}}"


def event_type_of(name: str, attributes: Attributes) -> str:
    """Kind of event that a span stands for; empty for a handler's run and any other span."""
    operation, _, event_type = name.partition(" ")
    if operation == PROCESS:
        return ""
    given = (attributes or {}).get(Event.TYPE)
    if isinstance(given, str):
        return given
    return event_type if operation == PUBLISH else ""


def place_of_event(attributes: Mapping[str, Any]) -> Place:
    """Where a span's event belongs."""
    keys = (Resource.PORTFOLIO, Trading.SYMBOL, Trading.STRATEGY)
    portfolio, symbol, strategy = (
        None if (given := attributes.get(key)) is None else str(given) for key in keys
    )
    return Place(portfolio, symbol, strategy)
