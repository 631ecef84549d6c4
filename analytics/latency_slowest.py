"""Finds the chains that took longest, and which traces they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from fillpath.analytics.latency import Durations, HopGroup
from fillpath.analytics.latency_hops import Integers

if TYPE_CHECKING:
    import duckdb

Key = TypeVar("Key", bound=Hashable)
_AT_A_TIME: Final = 64


@dataclass(frozen=True, slots=True)
class SlowChain:
    """A hop that took long, and where it is.

    Attributes:
        run_id: The run.
        trace_id: The trace that it ended in, 32 hex digits.
        sequence: The event that ended it.
        start: When that event began, nanoseconds since the epoch.
        duration: Nanoseconds.
        group: What was measured, and whose it is.
    """

    run_id: str
    trace_id: str
    sequence: int
    start: int
    duration: int
    group: HopGroup


def slowest_chains(
    connection: duckdb.DuckDBPyConnection,
    durations: Durations,
    key: Callable[[HopGroup], Key | None],
    most: int,
) -> dict[Key, list[SlowChain]]:
    """Find the longest durations that are in different traces.

    Args:
        connection: Has the view ``spans``.
        durations: Of the run.
        key: What a group belongs to; None leaves it out.
        most: How many at most.

    Returns:
        By what `key` gave, the longest first.
    """
    waiting = {found: places[::-1] for found, _, places in durations.parts(key)}
    found: dict[Key, list[SlowChain]] = {one: [] for one in waiting}
    size = max(most, 1) * 2 + _AT_A_TIME
    while waiting and most > 0:
        looked_at = {one: places[:size] for one, places in waiting.items()}
        sequences = durations.sequence[np.concatenate(list(looked_at.values()))]
        traces = traces_of(connection, durations.run_id, set(sequences.tolist()))
        for one, places in looked_at.items():
            _add_chains(durations, places, traces, found[one], most)
        waiting = {
            one: places[size:]
            for one, places in waiting.items()
            if len(found[one]) < most and places.size > size
        }
        size *= 8
    return found


def traces_of(
    connection: duckdb.DuckDBPyConnection, run_id: str, sequences: Iterable[int]
) -> dict[int, str]:
    """Tell which trace some events of a run are in, by their sequence."""
    rows = connection.execute(
        "SELECT sequence, trace_id FROM spans "
        "WHERE run_id = $run_id AND sequence IN (SELECT unnest($sequences::BIGINT[]))",
        {"run_id": run_id, "sequences": sorted(sequences)},
    ).fetchall()
    return dict(rows)


def _add_chains(
    durations: Durations,
    places: Integers,
    traces: dict[int, str],
    chains: list[SlowChain],
    most: int,
) -> None:
    known = {chain.trace_id for chain in chains}
    for place in places.tolist():
        sequence = int(durations.sequence[place])
        trace_id = traces.get(sequence)
        if len(chains) == most or trace_id is None or trace_id in known:
            continue
        known.add(trace_id)
        chains.append(
            SlowChain(
                durations.run_id,
                trace_id,
                sequence,
                int(durations.start[place]),
                int(durations.duration[place]),
                durations.groups[durations.group[place]],
            )
        )
