"""Reads the events of a stream as spans, and the spans that led to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.chain_span import ChainSpan, select_spans
from fillpath.analytics.event_stream import EventStream
from fillpath.exporters.schema import STATUS_CODE, STATUS_DESCRIPTION

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_AT: Final = "run_id = ? AND sequence BETWEEN ? AND ? AND sequence IN (SELECT unnest(?::BIGINT[]))"
_IDENTITIES: Final = f"""
    SELECT hash(span_id), lower(hex(span_id)), status_code, status_message
    FROM raw_spans WHERE {_AT}
"""  # noqa: S608 - ours


def read_events(
    connection: DuckDBPyConnection, stream: EventStream, places: Collection[int]
) -> dict[int, ChainSpan]:
    """Read events by their places; a handler's error is shown among the attributes.

    Args:
        connection: A connection with the views `spans` and `raw_spans`.
        stream: The events of the run.
        places: Which.
    """
    if not places:
        return {}
    wanted = {int(stream.span[place]): place for place in places}
    given = _given(stream.run_id, [int(stream.sequence[place]) for place in places])
    named = connection.execute(_IDENTITIES, given).fetchall()
    by_id = {row[1]: (wanted[row[0]], row[2], row[3]) for row in named if row[0] in wanted}
    found: dict[int, ChainSpan] = {}
    for span in select_spans(connection, _AT, given):
        if span.span_id in by_id:
            place, status, message = by_id[span.span_id]
            error = {STATUS_CODE: status, STATUS_DESCRIPTION: message}
            known = {key: value for key, value in error.items() if value is not None}
            found[place] = replace(span, attributes={**span.attributes, **known})
    return found


def read_path(
    connection: DuckDBPyConnection, stream: EventStream, event: int, most: int
) -> tuple[list[ChainSpan], int]:
    """Read the spans that led to an event, itself last.

    Args:
        connection: A connection with the view `spans`.
        stream: The events of the run.
        event: Place of the event.
        most: How many spans to read at most: the first cause and the last ones.

    Returns:
        The spans, and how many between the first and the second were left out.
    """
    path = stream.path(event)
    left_out = max(len(path) - most, 0)
    shown = path if not left_out else [path[0], *path[left_out + 1 :]]
    spans = select_spans(connection, _AT, _given(stream.run_id, shown))
    # Positions can be shared; only one of those at a position is the cause of the next.
    chain: list[ChainSpan] = []
    by_id = {span.span_id: span for span in spans}
    events = read_events(connection, stream, [event])
    span: ChainSpan | None = events.get(event)
    while span is not None:
        chain.append(span)
        by_id.pop(span.span_id, None)
        span = by_id.get(span.parent_span_id or "")
    if left_out:
        chain += [one for one in spans if one.sequence == path[0]][:1]
    return chain[::-1], left_out


def _given(run_id: str, sequences: Sequence[int]) -> list[Any]:
    return [run_id, min(sequences), max(sequences), list(sequences)]
