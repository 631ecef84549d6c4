"""The rows of the tables of latency that are kept of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fillpath.analytics.latency import period_for
from fillpath.analytics.latency_measuring import measure
from fillpath.analytics.latency_slowest import SlowChain, slowest_chains, traces_of
from fillpath.analytics.shard_load import TableRows

if TYPE_CHECKING:
    import duckdb

_LATENCY: Final = (
    "breakdown portfolio strategy handler hop count backwards min mean p50 p90 p99 max "
    "slowest_trace_id slowest"
)
_HISTOGRAMS: Final = (
    "portfolio strategy handler hop period_start count sum min max scale zero_count bucket_offset "
    "bucket_counts slowest_trace_id"
)

SLOWEST: Final = 10
"""How many of the slowest chains of a hop are kept."""


def latency_tables(
    connection: duckdb.DuckDBPyConnection, run_id: str, *, live: bool
) -> dict[str, TableRows]:
    """Compute the rows of the tables ``latency`` and ``latency_histograms``; see `measure`."""
    measured = measure(connection, run_id, live=live)
    period = period_for([measured.extent])
    by_breakdown = {
        "hop": measured.summaries(lambda group: group._replace(strategy=None, handler=None)),
        "strategy": measured.summaries(lambda group: group._replace(handler=None)),
        "handler": measured.summaries(lambda group: group if group.is_handled else None),
    }
    in_time = measured.summaries(lambda group: group, period)
    chains = slowest_chains(
        connection, measured, lambda group: (group.portfolio, group.hop), SLOWEST
    )
    every = [*by_breakdown.values(), in_time]
    slowest = {one.slowest[1] for part in every for one in part.values() if one.slowest}
    traces = traces_of(connection, run_id, slowest)
    latency = [
        (
            breakdown,
            *group,
            one.histogram.count,
            one.backwards,
            one.histogram.min if one.histogram.count else None,
            one.histogram.mean,
            *one.quantiles,
            one.histogram.max if one.histogram.count else None,
            traces.get(one.slowest[1]) if one.slowest else None,
            [
                _slow_chain(chain)
                for chain in chains.get((group.portfolio, group.hop), ())
                if breakdown == "hop"
            ],
        )
        for breakdown, summaries in by_breakdown.items()
        for (group, _), one in summaries.items()
    ]
    histograms = [
        (
            *group,
            start,
            one.histogram.count,
            one.histogram.sum,
            one.histogram.min,
            one.histogram.max,
            one.histogram.scale,
            one.histogram.zero_count,
            one.histogram.offset,
            list(one.histogram.counts),
            traces.get(one.slowest[1]) if one.slowest else None,
        )
        for (group, start), one in in_time.items()
        if one.histogram.count
    ]
    return {
        "latency": TableRows(_LATENCY.split(), latency),
        "latency_histograms": TableRows(_HISTOGRAMS.split(), histograms),
    }


def _slow_chain(chain: SlowChain) -> dict[str, object]:
    return {
        "trace_id": chain.trace_id,
        "duration": chain.duration,
        "start_time": chain.start,
        "strategy": chain.group.strategy,
        "handler": chain.group.handler,
    }
