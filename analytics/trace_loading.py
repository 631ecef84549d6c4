"""What an id stands for: the chains it is in, what they link to, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.chain_span import ChainSpan, span_document
from fillpath.analytics.joined_trace import spans_of_traces
from fillpath.analytics.span_places import fills_linked_to, spans_by_id, spans_named
from fillpath.analytics.trace_lookup import Target
from fillpath.analytics.trace_tree import Chain, chain_document, grow_chain
from fillpath.instrumentation.semconv import EventType

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_SPANS: Final = 60
"""Spans of one chain that are shown unless all are asked for."""
MOST_CHAINS: Final = 4
"""Chains that are shown of an order or a position that is in many, unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What an id stands for: its chains, and what they link to.

    Args:
        target: What was asked for.
        chains: In the order of sequence.
        linked: Spans that the chains link to, by span id.
        followers: Fills that link to a fill asked for: its exits.
        other_chains: How many chains of the target are not shown.
        cycles: For a position, how often it was opened; a netting engine uses the id again.
    """

    target: Target
    chains: tuple[Chain, ...]
    linked: Mapping[str, ChainSpan]
    followers: tuple[ChainSpan, ...] = ()
    other_chains: int = 0
    cycles: int = 0


def load_trace(
    connection: DuckDBPyConnection, target: Target, *, everything: bool = False
) -> Trace:
    """Read the chains of a target.

    Args:
        connection: A connection with the views `spans` and `raw_spans`.
        target: What `find_target` found.
        everything: Leave nothing out.
    """
    asked = spans_of(connection, target)
    cycles = 0
    if target.column == "position_id":
        cycles = sum(_opens(span) for span in asked) or 1
        if not everything:
            asked = _last_cycle(asked)
    trace_ids = list(dict.fromkeys(span.trace_id for span in asked))
    shown = trace_ids if everything else _most_telling(trace_ids, asked)
    whole_chain = target.column in {"trace_id", "correlation_id"}
    focus = frozenset() if whole_chain else frozenset(span.span_id for span in asked)
    by_trace: dict[str, list[ChainSpan]] = {trace_id: [] for trace_id in shown}
    for span in spans_of_traces(connection, target.run_id, shown):
        by_trace[span.trace_id].append(span)
    limit = None if everything else MOST_SPANS
    chains = tuple(grow_chain(spans, focus, limit=limit) for spans in by_trace.values())
    fills = [span for span in asked if span.is_fill]
    runs = {span.run_id for spans in by_trace.values() for span in spans}
    if set(target.other_runs) <= runs:
        target = replace(target, other_runs=())
    return Trace(
        target,
        chains,
        linked=_linked(connection, target.run_id, chains),
        followers=_followers(connection, target.run_id, fills),
        other_chains=len(trace_ids) - len(shown),
        cycles=cycles,
    )


def trace_document(trace: Trace) -> dict[str, Any]:
    """Give what an id stands for as one nested document."""
    target = trace.target
    return {
        "id": target.value,
        "kind": target.kind,
        "run_id": target.run_id,
        "portfolio": target.portfolio,
        "notes": list(target.notes),
        "chains": [chain_document(chain) for chain in trace.chains],
        "linked": [span_document(span) for span in trace.linked.values()],
        "closed_by": [span_document(span) for span in trace.followers],
    }


def spans_of(connection: DuckDBPyConnection, target: Target) -> list[ChainSpan]:
    """Read the spans that have the id of a target, in the order of sequence."""
    return spans_named(connection, target.run_id, target.column, [target.value], target.portfolio)


def _opens(span: ChainSpan) -> bool:
    return span.event_type == EventType.POSITION_OPEN and not span.is_delivery


def _last_cycle(asked: list[ChainSpan]) -> list[ChainSpan]:
    """Keep what belongs to the last time a position was opened."""
    start = max((number for number, span in enumerate(asked) if _opens(span)), default=0)
    # The fill that opened it comes just before.
    while start > 0 and asked[start - 1].span_id == asked[start].parent_span_id:
        start -= 1
    return asked[start:]


def _most_telling(trace_ids: list[str], asked: list[ChainSpan]) -> list[str]:
    """Choose the chain where it began, those with a fill, and the last ones."""
    if len(trace_ids) <= MOST_CHAINS:
        return trace_ids
    filled = dict.fromkeys(span.trace_id for span in asked if span.is_fill)
    preferred = dict.fromkeys((trace_ids[0], *reversed(filled), *reversed(trace_ids)))
    chosen = set(list(preferred)[:MOST_CHAINS])
    return [trace_id for trace_id in trace_ids if trace_id in chosen]


def _linked(
    connection: DuckDBPyConnection, run_id: str, chains: Iterable[Chain]
) -> dict[str, ChainSpan]:
    wanted = {
        link.span_id for chain in chains for node in chain.nodes() for link in node.span.links
    }
    return {span.span_id: span for span in spans_by_id(connection, run_id, wanted)}


def _followers(
    connection: DuckDBPyConnection, run_id: str, fills: list[ChainSpan]
) -> tuple[ChainSpan, ...]:
    if not fills:
        return ()
    return tuple(span for span in fills_linked_to(connection, run_id, fills) if span.is_fill)
