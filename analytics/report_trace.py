"""A trace as the lines of an indented tree, in an order that a page can be written in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from fillpath.analytics.report_checks import orphans
from fillpath.analytics.report_format import duration, readable_number, timestamp
from fillpath.analytics.report_model import Trace, TraceSpan
from fillpath.instrumentation.semconv import CRITICAL_EVENT_TYPES, EventType

# Deeper spans are shown at this depth: browsers stop nesting at 512 elements, readers long before.
DEEPEST = 32

# Lines of all trees together: what keeps a report well below three megabytes.
MOST_LINES_IN_ALL = 1500
FEWEST_LINES = 40

_TONES: Mapping[str, str] = {
    EventType.SIGNAL: "signal",
    EventType.COMMAND: "order",
    EventType.ORDER: "order",
    EventType.FILL: "fill",
    EventType.POSITION_OPEN: "position",
    EventType.POSITION_CHANGE: "position",
    EventType.POSITION_CLOSE: "position",
    EventType.RISK_BREACH: "alarm",
    EventType.ERROR: "alarm",
}
_REFUSED = frozenset({"DENIED", "REJECTED"})


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One span of a tree.

    Attributes:
        span: The span.
        depth: Its distance from the root; may be deeper than it is shown.
        opens: Whether the next line is the first of its children.
        closes: How many lists of children end after it.
        orphan: Whether it names a parent that is not in the trace.
    """

    span: TraceSpan
    depth: int
    opens: bool
    closes: int
    orphan: bool

    @property
    def delivery(self) -> bool:
        """Whether it stands for a handler's run."""
        return self.span.span_kind == "CONSUMER"

    @property
    def deeper_than_shown(self) -> bool:
        """Whether its indentation understates its depth."""
        return self.depth > DEEPEST

    @property
    def tone(self) -> str:
        """What family of events it belongs to, for its colour."""
        return _TONES.get(self.span.event_type, "plain")

    @property
    def refused(self) -> bool:
        """Whether an order was denied or rejected here."""
        return self.span.status in _REFUSED

    @property
    def what(self) -> str:
        """What happened: side, quantity, symbol and price, as far as they are known."""
        span = self.span
        words: list[str | None] = [
            span.side,
            None if span.quantity is None else readable_number(span.quantity),
            span.symbol,
            None if span.price is None else f"@ {readable_number(span.price)}",
        ]
        if span.event_type == EventType.ORDER:
            words.append(span.order_type)
        return " ".join(word for word in words if word)

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """The engine's names of what happened."""
        span = self.span
        named = (
            ("order", span.client_order_id),
            ("venue order", span.order_id),
            ("fill", span.fill_id),
            ("position", span.position_id),
        )
        return tuple((name, value) for name, value in named if value)

    @property
    def took(self) -> str | None:
        """How long it lasted on the wall clock, if that is known."""
        if self.span.end_time is None:
            return None
        return duration(self.span.end_time - self.span.start_time)


@dataclass(frozen=True, slots=True)
class TraceTree:
    """A trace ready to be shown.

    Attributes:
        trace: What it was made from.
        lines: Its spans, each after its parent.
        root: The first span.
    """

    trace: Trace
    lines: tuple[TreeLine, ...]
    root: TraceSpan

    @property
    def left_out(self) -> int:
        """How many spans of the trace are not embedded."""
        return max(0, (self.trace.total_spans or 0) - len(self.trace.spans))

    @property
    def lasted(self) -> str:
        """Wall-clock time from the first start to the last end."""
        spans = self.trace.spans
        last = max(span.end_time or span.start_time for span in spans)
        return duration(last - min(span.start_time for span in spans))

    def offset(self, line: TreeLine) -> str:
        """Return when the span started on the wall clock, seen from the root."""
        return "+" + duration(max(0, line.span.start_time - self.root.start_time))

    def later(self, line: TreeLine) -> str | None:
        """Return the span's simulated time where it differs from the root's."""
        time = line.span.event_time
        if time is None or (time == self.root.event_time and line.span is not self.root):
            return None
        return timestamp(time)


def lines_for_each(traces: int) -> int:
    """Return how many lines each of so many trees may have."""
    return max(FEWEST_LINES, MOST_LINES_IN_ALL // max(1, traces))


def shortened(trace: Trace, most: int) -> Trace:
    """Return the trace with at most so many spans, and what was left out counted.

    Kept are, in this order and each with all its ancestors: fills, other critical events, the rest;
    the earliest first. A chain of causes longer than `most` is left out as a whole.
    """
    if len(trace.spans) <= most:
        return trace
    by_id = {span.span_id: span for span in trace.spans}

    def weight(span: TraceSpan) -> tuple[bool, bool, int]:
        kind = span.event_type
        return kind != EventType.FILL, kind not in CRITICAL_EVENT_TYPES, span.sequence

    kept: set[str] = set()
    for span in sorted(by_id.values(), key=weight):
        chain: set[str] = set()
        above: TraceSpan | None = span
        while above is not None and above.span_id not in kept and above.span_id not in chain:
            chain.add(above.span_id)
            above = by_id.get(above.parent_span_id or "")
        if len(kept) + len(chain) <= most:
            kept |= chain
    return replace(
        trace,
        spans=tuple(span for span in trace.spans if span.span_id in kept),
        total_spans=max(len(trace.spans), trace.total_spans or 0),
    )


def trace_tree(trace: Trace) -> TraceTree:
    """Return the tree of a trace that has at least one span.

    Spans whose parent is missing, and spans caught in a circle of parents, stand as roots.
    """
    by_id = {span.span_id: span for span in trace.spans}
    lost = orphans(trace)
    children: defaultdict[str | None, list[TraceSpan]] = defaultdict(list)
    for span in sorted(by_id.values(), key=lambda span: span.sequence):
        children[None if span.span_id in lost else span.parent_span_id].append(span)

    placed: list[tuple[TraceSpan, int]] = []
    seen: set[str] = set()
    for root in (*children[None], *by_id.values()):
        placed.extend(_descend(root, children, seen))
    shown = [min(depth, DEEPEST) for _, depth in placed]
    lines = [
        TreeLine(
            span,
            depth,
            opens=following > here,
            closes=max(0, here - following),
            orphan=span.span_id in lost,
        )
        for (span, depth), here, following in zip(placed, shown, [*shown[1:], 0], strict=True)
    ]
    return TraceTree(replace(trace, spans=tuple(by_id.values())), tuple(lines), lines[0].span)


def _descend(
    root: TraceSpan, children: Mapping[str | None, Iterable[TraceSpan]], seen: set[str]
) -> Iterator[tuple[TraceSpan, int]]:
    """Yield a span and what it caused, depth first, without recursion and without repeats."""
    waiting = [(root, 0)]
    while waiting:
        span, depth = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield span, depth
        below = list(children.get(span.span_id, ()))
        waiting.extend((child, depth + 1) for child in reversed(below))
