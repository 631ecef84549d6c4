"""The chains that a report embeds, read from the lake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import trimmed
from fillpath.analytics.report_format import is_trace_id
from fillpath.analytics.report_model import SpanLink, Trace, TraceSpan
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.semconv import (
    Account,
    Command,
    EventType,
    Order,
    Position,
    Signal,
)

MOST_SPANS: Final = 300
"""A chain with more is cut: its first spans stay, and those that lead to a fill."""
_AT_ONCE: Final = 5_000
_NUMBERS: Final = ("quantity", "price", "commission")
_POSITIONS: Final = frozenset(
    {EventType.POSITION_OPEN, EventType.POSITION_CHANGE, EventType.POSITION_CLOSE}
)


def read_traces(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    trace_ids: Iterable[str],
    most_spans: int = MOST_SPANS,
) -> tuple[Trace, ...]:
    """Read chains of a run, in the order asked for.

    Args:
        connection: Has the views ``spans`` and ``raw_spans``.
        run_id: The run.
        trace_ids: The chains; one that the lake does not have is left out.
        most_spans: How many spans of a chain to keep.
    """
    wanted = list(dict.fromkeys(filter(is_trace_id, trace_ids)))
    chains: dict[str, list[dict[str, Any]]] = {}
    for span in _spans_of(connection, run_id, wanted):
        chains.setdefault(span.pop("trace_id"), []).append(span)
    traces = []
    for trace_id in wanted:
        spans = chains.get(trace_id)
        if spans:
            kept = _kept(spans, most_spans)
            total = len(spans) if len(kept) < len(spans) else None
            traces.append(Trace(trace_id, tuple(map(_span, kept)), total))
    return tuple(traces)


def _spans_of(
    connection: duckdb.DuckDBPyConnection, run_id: str, trace_ids: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Read the spans of traces, in order.

    They are found by the column that the files are sorted by, and only then decoded.
    """
    if not trace_ids:
        return
    names = ", ".join(f"unhex('{trace_id}')" for trace_id in trace_ids)
    query = f"SELECT sequence FROM raw_spans WHERE run_id = ? AND trace_id IN ({names})"  # noqa: S608 - hex digits only
    found = sorted(connection.execute(query, [run_id]).fetchall())
    for start in range(0, len(found), _AT_ONCE):
        chosen = ", ".join(str(sequence) for (sequence,) in found[start : start + _AT_ONCE])
        statement = read_sql("trace_spans").replace("(chosen)", f"({chosen})")
        cursor = connection.execute(statement, {"run_id": run_id})
        columns = [column[0] for column in cursor.description or ()]
        for row in cursor.fetchall():
            yield dict(zip(columns, row, strict=True))


def _kept(spans: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Cut a long chain without taking a span's parent away."""
    if len(spans) <= most:
        return list(spans)
    by_id = {span["span_id"]: span for span in spans}
    # A parent comes before its children, so the first spans need no others.
    kept = {span["span_id"] for span in spans[: most // 2]}
    fills = [span for span in spans if span["event_type"] == EventType.FILL]
    for span in (*fills, *spans):
        way = []
        at: dict[str, Any] | None = span
        while at is not None and at["span_id"] not in kept:
            way.append(at["span_id"])
            at = by_id.get(at["parent_span_id"])
        if len(kept) + len(way) <= most:
            kept.update(way)
    return [span for span in spans if span["span_id"] in kept]


def _span(row: Mapping[str, Any]) -> TraceSpan:
    values = dict(row)
    attributes = json.loads(values.pop("attributes") or "{}")
    links = json.loads(values.pop("links") or "[]")
    for name in _NUMBERS:
        if values[name] is not None:
            values[name] = trimmed(values[name], 0)
    return TraceSpan(
        **values,
        detail=_detail(values["event_type"], values["span_kind"], attributes),
        links=tuple(SpanLink(link["trace_id"], link["span_id"]) for link in links),
    )


def _detail(event_type: str, span_kind: str, attributes: Mapping[str, Any]) -> str | None:
    """Say what else a reader should see at once."""
    if span_kind == "CONSUMER":
        return None
    if event_type == EventType.SIGNAL:
        return _joined(" = ", attributes.get(Signal.NAME), attributes.get(Signal.VALUE))
    if event_type == EventType.COMMAND:
        return _joined("", attributes.get(Command.NAME))
    if event_type == EventType.ORDER:
        return _joined("", attributes.get(Order.REJECT_REASON))
    if event_type == EventType.PORTFOLIO:
        balances = attributes.get(Account.BALANCES) or ()
        totals = [_joined(" ", one.get("total"), one.get("currency")) for one in balances]
        return _joined(" ", "balance", ", ".join(filter(None, totals))) if totals else None
    if event_type in _POSITIONS:
        held = _joined(" ", attributes.get(Position.SIDE), attributes.get(Position.QUANTITY))
        realized = attributes.get(Position.REALIZED_PNL)
        profit = _joined(" ", realized, attributes.get(Position.CURRENCY)) if realized else None
        return _joined(", realized ", held, profit)
    return None


def _joined(separator: str, *parts: object) -> str | None:
    told = [str(part) for part in parts if part not in (None, "")]
    return separator.join(told) or None
