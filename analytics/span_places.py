"""Reads spans by id through the view `spans` without reading the whole lake.

The view shows ids in hex, and a comparison with hex has to look at every span. So the ids are found
as the bytes that they are in the files, where statistics and Bloom filters tell what cannot hold
them, and the view is asked for the places that were found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.chain_span import ChainSpan, select_spans
from fillpath.instrumentation import identity

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BINARY_DIGITS: Final = {"trace_id": 32, "span_id": 16}
"""Columns that are bytes in the files, and how many hex digits their ids have."""


def spans_named(
    connection: DuckDBPyConnection,
    run_id: str,
    column: str,
    values: Collection[str],
    portfolio: str | None = None,
) -> list[ChainSpan]:
    """Read the spans of a run that have one of these ids, in the order of sequence.

    Args:
        connection: A connection with the views `spans` and `raw_spans`.
        run_id: The run.
        column: The column of the view that holds the id; one of ours.
        values: Ids as the view shows them.
        portfolio: Read those of this portfolio only.
    """
    condition, given = _condition(column, values)
    if portfolio is not None:
        condition += " AND portfolio = ?"
        given.append(portfolio)
    return _spans_at(connection, run_id, condition, given)


def spans_by_id(
    connection: DuckDBPyConnection, run_id: str, span_ids: Collection[str]
) -> list[ChainSpan]:
    """Read spans of a run by their span ids, in the order of sequence."""
    tag = identity.tag_of(identity.run_key(run_id))
    sequences, others = [], []
    for span_id in span_ids:
        address = identity.sequence_of_span(int(span_id, 16))
        if address is not None and address[0] == tag:
            sequences.append(address[1])
        else:
            others.append(span_id)
    found = _between(connection, run_id, sequences, list(span_ids))
    missing = {*others, *span_ids} - {span.span_id for span in found}
    if missing:
        found += spans_named(connection, run_id, "span_id", missing)
        found.sort(key=lambda span: span.sequence)
    return found


def fills_linked_to(
    connection: DuckDBPyConnection, run_id: str, fills: Sequence[ChainSpan]
) -> list[ChainSpan]:
    """Read the fills of a run that link to one of these."""
    condition = (
        "event_type = 'FILL' AND sequence > ? AND list_has_any("
        "list_transform(links, lambda link: link.span_id), "
        "list_transform(?::VARCHAR[], lambda id: unhex(id)))"
    )
    ids = [fill.span_id for fill in fills]
    return _spans_at(connection, run_id, condition, [fills[0].sequence, ids])


def hex_range(prefix: str, digits: int) -> tuple[str, str]:
    """Give the smallest and the largest id of so many hex digits that begin so."""
    return prefix.ljust(digits, "0"), prefix.ljust(digits, "f")


def _condition(column: str, values: Collection[str]) -> tuple[str, list[Any]]:
    """Write a condition on `raw_spans`, with a question mark for each of the values."""
    if column in BINARY_DIGITS:
        return _any(f"{column} = unhex(?)", values)
    condition, given = _any(f"{column} = ?", values)
    if column == "correlation_id":  # where the host gave no name, it is the trace id
        digits = BINARY_DIGITS["trace_id"]
        ids = [value for value in values if is_hex(value) and len(value) == digits]
        if ids:
            by_trace, more = _any("trace_id = unhex(?)", ids)
            condition = f"({condition} OR (correlation_id IS NULL AND {by_trace}))"
            given += more
    return condition, given


def _any(condition: str, values: Collection[str]) -> tuple[str, list[Any]]:
    return f"({' OR '.join([condition] * len(values)) or 'false'})", list(values)


def is_hex(text: str) -> bool:
    """Tell whether it is made of lower-case hex digits alone."""
    return bool(text) and set("0123456789abcdef").issuperset(text)


def _spans_at(
    connection: DuckDBPyConnection, run_id: str, condition: str, values: Sequence[Any]
) -> list[ChainSpan]:
    rows = connection.execute(
        f"SELECT sequence, lower(hex(span_id)) FROM raw_spans "  # noqa: S608 - ours
        f"WHERE run_id = ? AND {condition}",
        [run_id, *values],
    ).fetchall()
    return _between(connection, run_id, [row[0] for row in rows], [row[1] for row in rows])


def _between(
    connection: DuckDBPyConnection, run_id: str, sequences: list[int], span_ids: list[str]
) -> list[ChainSpan]:
    if not sequences:
        return []
    # The ends skip files and row groups, the list what lies between, the ids what shares a place.
    return select_spans(
        connection,
        "run_id = ? AND sequence BETWEEN ? AND ? AND sequence IN (SELECT unnest(?::BIGINT[])) "
        "AND span_id IN (SELECT unnest(?::VARCHAR[]))",
        [run_id, min(sequences), max(sequences), sequences, span_ids],
    )
