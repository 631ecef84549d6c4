"""The sampling policy as a sampler of the OpenTelemetry SDK, for any application that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from fillpath.instrumentation.event_sampler import (
    KEEP_CONTEXT,
    KEEP_CRITICAL,
    SAMPLED_OUT,
    EventSampler,
    parse_rate,
)
from fillpath.instrumentation.semconv import PROCESS, PUBLISH, Event, Sampling

_OPERATIONS: Final = (PUBLISH, PROCESS)


class CriticalEventSampler(Sampler):
    """Samples every critical event, what a sampled parent causes, and a share of the other traces.

    The share is decided by a hash of the trace id, so that a trace stays together and foreign ids
    need not be random. A span is sampled when it begins, before it is known what it will cause: a
    critical event below parents that were not sampled is sampled without them.

    Register it by `OTEL_TRACES_SAMPLER=fillpath`; `OTEL_TRACES_SAMPLER_ARG` is the rate.

    Args:
        policy: The policy, or the rate of the policy that the environment describes (a number or
            its text), or None or an empty text for that policy as it is.

    Raises:
        UsageError: When the rate is not a number from 0 to 1.
    """

    def __init__(self, policy: EventSampler | float | str | None = None) -> None:
        if not isinstance(policy, EventSampler):
            rate = "" if policy is None else str(policy).strip()
            policy = EventSampler.from_environment()
            if rate:
                policy = replace(policy, rate=parse_rate(rate))
        self.policy = policy

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
        if self.policy.is_critical(_event_type(name, attributes), attributes):
            decision = KEEP_CRITICAL
        elif not parent.is_valid:
            decision = self.policy.decide_by_rate(trace_id)
        elif parent.trace_flags.sampled:
            decision = KEEP_CONTEXT
        else:
            decision = SAMPLED_OUT
        if not decision.kept:
            return SamplingResult(Decision.DROP, None, trace_state)
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

    def get_description(self) -> str:
        """Describe the sampler for the SDK's logs."""
        kinds = ",".join(sorted(self.policy.critical_kinds))
        return f"CriticalEventSampler{{rate={self.policy.rate},critical={kinds}}}"


def _event_type(name: str, attributes: Attributes) -> str:
    given = (attributes or {}).get(Event.TYPE)
    if isinstance(given, str):
        return given
    operation, _, event_type = name.partition(" ")
    return event_type if operation in _OPERATIONS else ""
