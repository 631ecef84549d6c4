"""How large and how deep the traces of a run are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MOST_ROUNDS: Final = 40
"""Doublings after which parents go in a circle, as a host's own spans may."""
_LINKS: Final = (
    "SELECT trace_id::BLOB AS trace_id, span_id::BLOB AS span_id, "
    "parent_span_id::BLOB AS parent_span_id FROM raw_spans WHERE run_id = ?"
)
_ABOUT: Final = """
SELECT lower(hex(trace_id)), arg_min(span_id, sequence), count(DISTINCT portfolio),
    min(portfolio), arg_min(name, sequence), first(symbol ORDER BY sequence),
    min(start_time), max(start_time + coalesce(duration, 0)),
    count(*) FILTER (name = 'publish FILL')
FROM raw_spans
WHERE run_id = $run_id AND trace_id IN (SELECT unhex(unnest($trace_ids)))
GROUP BY trace_id
"""


@dataclass(frozen=True, slots=True)
class TraceSize:
    """A trace, and what a viewer has to draw of it; times in nanoseconds since the epoch.

    Attributes:
        trace_id: In hex.
        events: Its spans.
        depth: How many causes stand one above the other, its first event counted.
        span_id: Its first span, in hex.
        portfolio: Its portfolio; None where it has several or none.
        name: Name of its first span.
        symbol: What that is about, if anything.
        start: Wall clock at its beginning.
        end: Wall clock at its end.
        fills: How many fills are in it.
    """

    trace_id: str
    events: int
    depth: int
    span_id: str
    portfolio: str | None
    name: str
    symbol: str | None
    start: int
    end: int
    fills: int


@dataclass(frozen=True, slots=True)
class TraceSizes:
    """The traces of a run in numbers.

    Attributes:
        traces: How many there are.
        events: How many spans they have together.
        largest: Those with the most spans, the largest first.
        deepest: Those with the most causes above one another, the deepest first.
    """

    traces: int
    events: int
    largest: tuple[TraceSize, ...]
    deepest: tuple[TraceSize, ...]


def trace_sizes(connection: DuckDBPyConnection, run_id: str, most: int) -> TraceSizes:
    """Find the largest and the deepest traces of a run.

    Args:
        connection: A connection with the view `raw_spans`.
        run_id: The run; its whole id.
        most: How many of each.
    """
    found = connection.sql(_LINKS, params=[run_id]).to_arrow_table()
    if not found.num_rows:
        return TraceSizes(0, 0, (), ())
    traces = found["trace_id"].combine_chunks().dictionary_encode()
    which = traces.indices.to_numpy(zero_copy_only=False)
    names = traces.dictionary
    events = np.bincount(which, minlength=len(names))
    heights = _heights(which, _numbers(found["span_id"]), _numbers(found["parent_span_id"]))
    depth = np.zeros(len(names), np.int64)
    np.maximum.at(depth, which, heights + 1)
    largest = np.lexsort((-depth, -events))[:most]
    deepest = np.lexsort((-events, -depth))[:most]
    wanted = {int(one): names[int(one)].as_py().hex() for one in (*largest, *deepest)}
    about = _about(connection, run_id, sorted(set(wanted.values())))

    def told(number: Any) -> TraceSize:
        trace_id = wanted[int(number)]
        size = int(events[number]), int(depth[number])
        return TraceSize(trace_id, *size, *about[trace_id])

    return TraceSizes(
        len(names), found.num_rows, tuple(map(told, largest)), tuple(map(told, deepest))
    )


def _numbers(ids: Any) -> npt.NDArray[np.uint64]:
    """Span ids as numbers; 0, which no span id is, where there is none."""
    whole = pc.fill_null(ids, bytes(8)).cast(pa.binary(8)).combine_chunks()
    numbers: npt.NDArray[np.uint64] = np.frombuffer(whole.buffers()[1], ">u8").astype(np.uint64)
    return numbers[whole.offset : whole.offset + len(whole)]


def _heights(
    which: npt.NDArray[Any], span: npt.NDArray[np.uint64], parent: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """For each span, how many causes it has above it in its trace."""
    order = np.argsort(span, kind="stable")
    places = np.minimum(np.searchsorted(span, parent, sorter=order), len(span) - 1)
    above = order[places]
    itself = np.arange(len(span))
    known = (parent != 0) & (span[above] == parent) & (which[above] == which)
    above = np.where(known, above, itself)
    height: npt.NDArray[np.int64] = known.astype(np.int64)
    for _ in range(_MOST_ROUNDS):
        further = above[above]
        if np.array_equal(further, above):
            break
        height += height[above]
        above = further
    return height


def _about(
    connection: DuckDBPyConnection, run_id: str, trace_ids: list[str]
) -> dict[str, tuple[Any, ...]]:
    rows = connection.execute(_ABOUT, {"run_id": run_id, "trace_ids": trace_ids}).fetchall()
    return {
        trace_id: (
            span_id.hex(),
            portfolio if portfolios == 1 else None,
            name or "",
            symbol,
            start or 0,
            end or 0,
            fills,
        )
        for trace_id, span_id, portfolios, portfolio, name, symbol, start, end, fills in rows
    }
