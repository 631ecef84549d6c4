"""The sampling policy as a span processor: what a critical event needs is sampled after the fact.

A sampler decides when a span begins, and cannot know what the span will cause. This processor
decides when it has ended. Spans that nothing wants yet wait as plain tuples in a ring; a critical
event takes its ancestors and neighbours out of it and hands them on.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import StatusCode

from fillpath.instrumentation.critical_event_sampler import (
    MOST_SERIES,
    event_type_of,
    place_of_event,
)
from fillpath.instrumentation.event_sampler import (
    KEEP_ANCESTOR,
    KEEP_CONTEXT,
    KEEP_CRITICAL,
    SAMPLED_OUT,
    Decision,
    EventSampler,
)
from fillpath.instrumentation.held_spans import (
    HeldSpan,
    Ring,
    SpanKey,
    counts_of,
    key_of,
    key_of_parent,
)
from fillpath.instrumentation.sampling_stream import SamplingStream
from fillpath.instrumentation.semconv import Event, Sampling

_log = logging.getLogger(__name__)

DEFAULT_HELD: Final = 10_000
"""Spans that wait in the ring."""
LET_GO_RING_FULL: Final = "ring_full"
"""Nothing wanted the span while it was among the newest ones."""
LET_GO_SHUTDOWN: Final = "shutdown"
"""Nothing had wanted the span when the processor was shut down."""
LET_GO_ERROR: Final = "processor_error"
"""The span could not be handled; the log tells why."""


class _Open:
    """A span that has begun: its parent, and whether something wants it."""

    __slots__ = ("parent", "wanted")

    def __init__(self, parent: SpanKey | None) -> None:
        self.parent = parent
        self.wanted: Decision | None = None


class CriticalEventProcessor(SpanProcessor):
    """Hands on critical events with all their ancestors and neighbours, and a share of the rest.

    Put it between the SDK and the processor that exports, with a sampler that records everything:

        provider = TracerProvider(sampler=CriticalEventSampler(record_all=True))
        provider.add_span_processor(CriticalEventProcessor(BatchSpanProcessor(exporter)))

    A critical event is one by its kind or an attribute, or a span whose status is Error. Ancestors
    that go on are handed on when they end. One that left the ring cannot be brought back; it is
    counted. Spans that stand for no event (a call to a broker) follow the sampler's decision. A
    handed-on span has the flag `sampled`, and `trading.sampling.reason` and `.probability`.

    `force_flush` flushes what was handed on; spans in the ring stay there. `shutdown` lets them go.

    Args:
        next_one: Processor, or exporter, to hand spans on to; an exporter is put behind a
            `BatchSpanProcessor`.
        policy: The policy; by default the one that the environment describes.
        held: How many ended spans may wait in the ring.

    Raises:
        UsageError: When the environment describes no policy.

    Attributes:
        next_one: The processor that spans are handed on to.
    """

    def __init__(
        self,
        next_one: SpanProcessor | SpanExporter,
        policy: EventSampler | None = None,
        held: int = DEFAULT_HELD,
    ) -> None:
        self.next_one: SpanProcessor = (
            BatchSpanProcessor(next_one) if isinstance(next_one, SpanExporter) else next_one
        )
        self.policy = EventSampler.from_environment() if policy is None else policy
        self._stream = SamplingStream[SpanKey](self.policy, MOST_SERIES)
        # A signal handler of the host may end a span at any point of the code below.
        self._lock = threading.RLock()
        self._open = Ring(max(held, 1))
        self._held = Ring(max(held, 0))
        self._given = Ring(max(held, 1))
        self._kept: Counter[str] = Counter()
        self._let_go: Counter[str] = Counter()
        self._missing = 0
        self._over = self._complained = False

    def counts(self) -> dict[str, Any]:
        """Tell what became of the spans: `ended` = `kept` + `let_go` + `held`.

        Returns:
            `ended`, `kept` and `let_go` by reason, `held` now, and `missing_ancestors`: how often
            the parent of a span that is handed on was known no more.
        """
        with self._lock:
            kept, let_go, held = counts_of(self._kept), counts_of(self._let_go), len(self._held)
            return {
                "ended": sum(kept.values()) + sum(let_go.values()) + held,
                "kept": kept,
                "let_go": let_go,
                "held": held,
                "missing_ancestors": self._missing,
            }

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Take note of a span that begins."""
        context = span.get_span_context()
        if context is not None:
            with self._lock:
                self._open.put(key_of(context), _Open(key_of_parent(span.parent)))
        self.next_one.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Decide on a span that has ended, and hand on what is kept because of it."""
        ready: list[ReadableSpan] = []
        try:
            with self._lock:
                self._take(span, ready)
        except Exception as error:  # noqa: BLE001 - the host must not fail of its observer
            self._let_go[LET_GO_ERROR] += 1
            self._complain(error)
        for one in ready:
            self.next_one.on_end(one)

    def _take(self, span: ReadableSpan, ready: list[ReadableSpan]) -> None:
        context = span.context
        if context is None or self._over:
            self._let_go[LET_GO_SHUTDOWN if self._over else LET_GO_ERROR] += 1
            return
        key = key_of(context)
        opened = self._open.pop(key, None)
        # The SDK's own mapping takes a lock for every look into it.
        attributes = dict(span.attributes or {})
        decision, neighbours = self._decide(
            span, attributes, key, sampled=context.trace_flags.sampled
        )
        if not decision.kept and opened is not None and opened.wanted is not None:
            decision = opened.wanted
        if not decision.kept:
            if self._held.put(key, HeldSpan.of(span, context, attributes)):
                self._let_go[LET_GO_RING_FULL] += 1
            return
        self._give_ancestors(key_of_parent(span.parent), ready)
        told = attributes.get(Sampling.REASON)
        if not (context.trace_flags.sampled and told == decision.reason):
            span = HeldSpan.of(span, context, attributes).released(decision)
        self._give(key, span, decision, ready)
        for neighbour in neighbours:
            held = self._held.pop(neighbour, None)
            if held is not None:
                self._give_ancestors(held.parent_key, ready)
                self._give(neighbour, held.released(KEEP_CONTEXT), KEEP_CONTEXT, ready)

    def _decide(
        self, span: ReadableSpan, attributes: dict[str, Any], key: SpanKey, *, sampled: bool
    ) -> tuple[Decision, list[SpanKey]]:
        """Judge a span; gives the neighbours that it wants, too."""
        failed = span.status.status_code is StatusCode.ERROR
        event_type = event_type_of(span.name, attributes)
        decision = KEEP_CRITICAL if failed else SAMPLED_OUT
        place = place_of_event(attributes)
        if event_type:
            time = attributes.get(Event.TIME)
            event_time = time if isinstance(time, int) else None
            decision = self._stream.judge(
                key, key[1], event_type, place, attributes, event_time, failed=failed
            )
        elif failed:
            self._stream.expect_neighbours(place)
        if sampled and not decision.kept:
            reason, share = attributes.get(Sampling.REASON), attributes.get(Sampling.PROBABILITY)
            decision = Decision(str(reason), share) if isinstance(share, float) else KEEP_CONTEXT
        is_critical = decision.reason == KEEP_CRITICAL.reason
        if is_critical and event_type:
            self._stream.expect_neighbours(place)  # the sampler may have known better
        return decision, self._stream.neighbours(place) if is_critical else []

    def _give(
        self, key: SpanKey, span: ReadableSpan, decision: Decision, ready: list[ReadableSpan]
    ) -> None:
        self._kept[decision.reason or ""] += 1
        self._given.put(key, None)
        ready.append(span)

    def _give_ancestors(self, key: SpanKey | None, ready: list[ReadableSpan]) -> None:
        """Hand on the ancestors that have ended, the nearest last, and mark those that go on."""
        found: list[tuple[SpanKey, HeldSpan]] = []
        while key is not None and key not in self._given:
            held = self._held.pop(key, None)
            opened = self._open.get(key)
            if held is not None:
                found.append((key, held))
                key = held.parent_key
            elif opened is not None and opened.wanted is None:
                opened.wanted = KEEP_ANCESTOR
                key = opened.parent
            else:
                self._missing += opened is None
                break
        for ancestor, held in reversed(found):
            self._give(ancestor, held.released(KEEP_ANCESTOR), KEEP_ANCESTOR, ready)

    def shutdown(self) -> None:
        """Let go what waits in the ring, and shut down what is behind."""
        with self._lock:
            self._over = True
            self._let_go[LET_GO_SHUTDOWN] += len(self._held)
            self._held.clear()
        self.next_one.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush what was handed on; what waits in the ring may still be wanted or not."""
        return self.next_one.force_flush(timeout_millis)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.warning("fillpath could not sample a span: %r", error, exc_info=error)
