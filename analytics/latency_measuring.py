"""Reads a run's events from the lake and measures how long its hops and handlers took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fillpath.analytics.exponential_histogram import bucket_indices
from fillpath.analytics.latency import HANDLED, WAY_TO_THE_FILL, Durations, HopGroup
from fillpath.analytics.latency_hops import ChainEvents, Hashes, Integers
from fillpath.analytics.sql_files import read_sql
from fillpath.instrumentation.semconv import DEFAULT_PORTFOLIO, PROCESS, EventType

if TYPE_CHECKING:
    import duckdb

MANY_EVENTS: Final = 2_000_000
"""From so many on, the traces that have no hop are left in the lake: choosing takes time, too."""
_PROCESS: Final = f"{PROCESS} "


def measure(connection: duckdb.DuckDBPyConnection, run_id: str, *, live: bool) -> Durations:
    """Measure every hop and handler of a run.

    Args:
        connection: Has the views ``spans`` and ``trace_divisions``.
        run_id: The run.
        live: Whether an event's own time is that of a clock, so that the time from it to its
            publication means something. In a backtest it is simulated.
    """
    rows = connection.execute(read_sql("latency_names"), {"run_id": run_id}).fetchall()
    names = _Names(rows)
    found = _Collected(names)
    chains = ChainEvents(_events(connection, run_id), names.nameless)
    for one in chains.hops():
        hops = np.full(one.sequence.size, found.number(one.hop))
        found.add(hops, one.who, one.decided_by, one.sequence, one.start, one.duration)
    parameters = {"run_id": run_id, "live": live}
    times = connection.execute(read_sql("latency_times"), parameters).fetchnumpy()
    order = np.argsort(times["sequence"], kind="stable")
    times = {name: np.asarray(values)[order] for name, values in times.items()}
    who = times["who"]
    hops = np.array([found.number(hop) for hop in names.hops], np.int64)[names.places(who)]
    found.add(hops, who, who, times["sequence"], times["start_time"], times["duration"], own=True)
    return found.durations(run_id)


def _events(connection: duckdb.DuckDBPyConnection, run_id: str) -> Mapping[str, Any]:
    events = connection.execute(
        "SELECT count(*) FROM spans WHERE run_id = $run_id", {"run_id": run_id}
    ).fetchone()
    query = read_sql("latency")
    if events is not None and events[0] > MANY_EVENTS:
        connection.execute(read_sql("latency_traces"), {"run_id": run_id})
        query += "  AND hash(trace_id) IN (SELECT trace FROM latency_traces)"
    return connection.execute(query, {"run_id": run_id}).fetchnumpy()


class _Names:
    """Who makes events: names by hash."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        ordered = sorted(rows, key=lambda row: int(row[0]))
        self._hashes: Hashes = np.array([row[0] for row in ordered], np.uint64)
        self.portfolios = [row[1] or DEFAULT_PORTFOLIO for row in ordered]
        self.strategies = [row[2] or None for row in ordered]
        self.handlers = [(row[3] or None) if row[4] else None for row in ordered]
        self.hops = [_own_hop(row[4], row[5] or "") for row in ordered]
        self.nameless = self._hashes[[strategy is None for strategy in self.strategies]]

    def places(self, who: Hashes) -> NDArray[np.int64]:
        """Find hashes in the lists of names."""
        return np.searchsorted(self._hashes, who)


def _own_hop(is_handler: bool, event: str) -> str:
    """The hop that an event makes without another one."""
    if not is_handler:
        return f"{WAY_TO_THE_FILL[0]} → {event}"
    if event.startswith(_PROCESS):
        event = event.removeprefix(_PROCESS)
    return f"{event or EventType.DELIVERY} → {HANDLED}"


class _Collected:
    """Durations as they are found, with the numbers of their names."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._hops: dict[str, int] = {}
        self._parts: list[tuple[Integers, ...]] = []
        self._groups: dict[HopGroup, int] = {}

    def number(self, hop: str) -> int:
        """Number a hop."""
        return self._hops.setdefault(hop, len(self._hops))

    def add(
        self,
        hops: Integers,
        who: Hashes,
        decided_by: Hashes,
        sequence: Integers,
        start: Integers,
        duration: Integers,
        *,
        own: bool = False,
    ) -> None:
        """Add durations; `own` ones may be those of handlers, whose names count."""
        names = self._names
        size = len(names.portfolios)
        both = names.places(who) * size + names.places(decided_by)
        found, places = np.unique(hops * size * size + both, return_inverse=True)
        listed = list(self._hops)
        numbers = []
        for one in found.tolist():
            hop, (maker, decider) = one // size**2, divmod(one % size**2, size)
            handler = names.handlers[maker] if own else None
            group = HopGroup(
                names.portfolios[maker], names.strategies[decider], handler, listed[hop]
            )
            numbers.append(self._groups.setdefault(group, len(self._groups)))
        of_group = np.array(numbers, np.int64)[places] if numbers else places
        self._parts.append((of_group, sequence, start, duration))

    def durations(self, run_id: str) -> Durations:
        """Bring everything together, in order."""
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        # Stable, so that a run is always told alike.
        order = np.argsort(columns[3], kind="stable")
        group, sequence, start, duration = (np.asarray(column)[order] for column in columns)
        split = int(np.searchsorted(duration, 0))
        return Durations(
            run_id,
            tuple(self._groups),
            group[split:].astype(np.int32),
            sequence[split:],
            start[split:],
            duration[split:],
            bucket_indices(duration[split:]),
            group[:split].astype(np.int32),
            start[:split],
        )
