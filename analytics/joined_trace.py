"""Reads traces that several processes made: each has recorded its part in a run of its own."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.span_places import spans_named
from fillpath.exporters.joined_traces import joined_with

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def spans_of_traces(
    connection: DuckDBPyConnection, run_id: str, trace_ids: Collection[str]
) -> list[ChainSpan]:
    """Read the spans of traces: those of a run, and those of the runs that are joined with it.

    Args:
        connection: A connection with the views `spans` and `raw_spans`.
        run_id: The run.
        trace_ids: The traces, in hex.
    """
    spans = spans_named(connection, run_id, "trace_id", trace_ids)
    row = connection.execute("SELECT coalesce(getvariable('joins_traces'), false)").fetchone()
    if row is None or not row[0] or not spans:
        return spans
    condition = " OR ".join(["trace_id = unhex(?)"] * len(trace_ids))
    others = connection.execute(
        f"SELECT DISTINCT run_id FROM raw_spans WHERE ({condition}) AND run_id <> ?",  # noqa: S608
        [*trace_ids, run_id],
    ).fetchall()
    for (other,) in others:
        spans += spans_named(connection, other, "trace_id", trace_ids)
    return joined_with(run_id, spans)


def in_causal_order(spans: Iterable[ChainSpan]) -> list[ChainSpan]:
    """Put each span behind its parent; those of a run in the order of sequence if that goes.

    Clocks of several machines differ, so their times decide only what nothing else does.
    """
    by_sequence = sorted(spans, key=lambda span: span.sequence)
    if len({span.run_id for span in by_sequence}) < 2:
        return by_sequence
    by_id = {span.span_id: span for span in by_sequence}
    children: dict[str | None, list[ChainSpan]] = {}
    for span in by_sequence:
        parent = span.parent_span_id if span.parent_span_id in by_id else None
        children.setdefault(parent, []).append(span)
    ordered: list[ChainSpan] = []
    waiting = [(span.start_time or 0, span.span_id) for span in children.get(None, ())]
    heapq.heapify(waiting)
    while waiting:
        _, span_id = heapq.heappop(waiting)
        ordered.append(by_id[span_id])
        for child in children.get(span_id, ()):
            heapq.heappush(waiting, (child.start_time or 0, child.span_id))
    if len(ordered) < len(by_sequence):  # parents in a circle: made up
        known = {span.span_id for span in ordered}
        ordered += [span for span in by_sequence if span.span_id not in known]
    return ordered
