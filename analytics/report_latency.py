"""Latency in a report: by hop, strategy and handler, over time, and the chains that took longest.

Quantiles of one portfolio's hop, of its strategies and of handlers are exact; over time they come
from histograms, and the page says how far off they may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exponential_histogram import ExponentialHistogram, from_row
from fillpath.analytics.latency import PERIODS, QUANTILES, WHOLE_WAYS, HopGroup, place_on_the_way

if TYPE_CHECKING:
    from fillpath.analytics.charts import ChartFigure
    from fillpath.analytics.report_sections import ReportSource
    from fillpath.analytics.results_manager import Row

MOST_ROWS: Final = 60
"""Rows of the tables by strategy and by handler; the others are counted."""
MOST_CHAINS: Final = 10
"""Chains in the list of the slowest."""
_PERIOD_WORDS: Final = (
    *("1 second", "10 seconds", "1 minute", "10 minutes", "1 hour"),
    *("1 day", "7 days", "28 days"),
)


@dataclass(frozen=True, slots=True)
class HopLatency:
    """Wall-clock durations that belong together, in nanoseconds.

    Attributes:
        hop: From what to what, such as ``SIGNAL → ORDER``.
        portfolio: Namespace.
        count: How many were measured.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        max: The slowest.
        strategy: The strategy's id; ``None`` if there is none or all are together.
        handler: ``Class.method`` of a handler's run.
        trace_id: The trace of the slowest.
    """

    hop: str
    portfolio: str
    count: int
    p50: int
    p90: int
    p99: int
    max: int
    strategy: str | None = None
    handler: str | None = None
    trace_id: str | None = None

    @property
    def ends(self) -> tuple[str, str]:
        """From what, and to what."""
        source, _, target = self.hop.partition(" → ")
        return source, target


@dataclass(frozen=True, slots=True)
class PeriodLatency:
    """The durations of one period; its start is by the wall clock, nanoseconds since the epoch."""

    start: int
    count: int
    p50: int
    p90: int
    p99: int
    max: int
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class LatencyOverTime:
    """One hop, period by period.

    Attributes:
        hop: Which.
        period: Length of a period, nanoseconds.
        relative_error: How far off a quantile may be, as a part of it.
        points: The periods that have any.
    """

    hop: str
    period: int
    relative_error: float
    points: tuple[PeriodLatency, ...]

    @property
    def period_words(self) -> str:
        """Its length in words."""
        return _PERIOD_WORDS[PERIODS.index(self.period)]

    @property
    def chart(self) -> ChartFigure:
        """Its chart."""
        from fillpath.analytics.charts import latency_over_time_figure

        return latency_over_time_figure(self)


@dataclass(frozen=True, slots=True)
class SlowestChain:
    """A chain that took long: its hop, whose it was, when it ended, and how long it took."""

    hop: str
    portfolio: str
    strategy: str | None
    start: int
    duration: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class LatencySection:
    """What the section shows.

    Attributes:
        hops: By hop and portfolio, along the way to the fill, handlers last.
        by_strategy: Hops by strategy.
        more_strategies: How many more such rows there are.
        handlers: By handler, the slowest (by p99) first.
        more_handlers: How many more such rows there are.
        over_time: The way to the fill over time, if there are several periods.
        slowest: The chains that took longest, in different traces.
        backwards: How often the clock ran backwards; these are in no other number.
        sampled_out: How many events are not in the lake because the run was sampled.
    """

    hops: tuple[HopLatency, ...] = ()
    by_strategy: tuple[HopLatency, ...] = ()
    more_strategies: int = 0
    handlers: tuple[HopLatency, ...] = ()
    more_handlers: int = 0
    over_time: tuple[LatencyOverTime, ...] = ()
    slowest: tuple[SlowestChain, ...] = ()
    backwards: int = 0
    sampled_out: int = 0

    @property
    def chart(self) -> ChartFigure:
        """The range of each hop."""
        from fillpath.analytics.charts import latency_figure

        return latency_figure(self.hops)


NO_LATENCY: Final = LatencySection()
"""The section of a run without chains; it says what it would show."""


def read_latency(source: ReportSource) -> LatencySection:
    """Read the section of a run."""
    run_id = source.run.run_id
    rows: dict[str, list[Row]] = {"hop": [], "strategy": [], "handler": []}
    for row in source.results.rows("latency", run_id):
        rows[row["breakdown"]].append(row)
    strategies = sorted(
        (one for one in _hops(rows["strategy"]) if not _is_handled(one.hop)),
        key=lambda one: (place_on_the_way(one.hop), one.portfolio, one.strategy or ""),
    )
    handlers = sorted(_hops(rows["handler"]), key=lambda one: (-one.p99, -one.max))
    return LatencySection(
        hops=tuple(
            sorted(_hops(rows["hop"]), key=lambda one: (place_on_the_way(one.hop), one.portfolio))
        ),
        by_strategy=tuple(strategies[:MOST_ROWS]),
        more_strategies=max(len(strategies) - MOST_ROWS, 0),
        handlers=tuple(handlers[:MOST_ROWS]),
        more_handlers=max(len(handlers) - MOST_ROWS, 0),
        over_time=tuple(_over_time(source.results.rows("latency_histograms", run_id))),
        slowest=tuple(_slowest(rows["hop"])),
        backwards=sum(row["backwards"] for row in rows["hop"]),
        sampled_out=source.run.sampled_out or 0,
    )


def _hops(rows: Iterable[Row]) -> Iterator[HopLatency]:
    names = ("hop", "portfolio", "count", "p50", "p90", "p99", "max", "strategy", "handler")
    for row in rows:
        if row["count"]:
            yield HopLatency(
                **{name: row[name] for name in names}, trace_id=row["slowest_trace_id"]
            )


def _is_handled(hop: str) -> bool:
    return HopGroup("", None, None, hop).is_handled


def _whole_or_any(hops: Iterable[str]) -> set[str]:
    """The ways from the market to the fill; without any, every hop, or else the handlers."""
    every = set(hops)
    return every & WHOLE_WAYS or {hop for hop in every if not _is_handled(hop)} or every


def _over_time(rows: Sequence[Row]) -> Iterator[LatencyOverTime]:
    """Put portfolios and strategies together, period by period, for the hop that is told most."""
    wanted = _whole_or_any(row["hop"] for row in rows)
    periods: dict[str, dict[int, list[Row]]] = {hop: {} for hop in wanted}
    for row in rows:
        if row["hop"] in wanted:
            periods[row["hop"]].setdefault(row["period_start"], []).append(row)
    starts = sorted({row["period_start"] for row in rows})
    if not wanted or len(starts) < 2:
        return
    # Every start is a multiple of the period's length.
    length = next(one for one in reversed(PERIODS) if not any(start % one for start in starts))
    totals = {
        hop: sum(row["count"] for of_period in parts.values() for row in of_period)
        for hop, parts in periods.items()
    }
    hop = min(wanted, key=lambda one: (-totals[one], place_on_the_way(one)))
    points, errors = [], []
    for start, of_period in sorted(periods[hop].items()):
        histogram = ExponentialHistogram()
        for row in of_period:
            histogram += from_row(row)
        longest = max(of_period, key=lambda row: row["max"])
        told: dict[str, Any] = {f"p{part}": histogram.quantile(part) for part in QUANTILES}
        points.append(
            PeriodLatency(
                start, histogram.count, **told, max=histogram.max,
                trace_id=longest["slowest_trace_id"],
            )
        )  # fmt: skip
        errors.append(histogram.relative_error)
    yield LatencyOverTime(hop, length, max(errors), tuple(points))


def _slowest(rows: Iterable[Row]) -> Iterator[SlowestChain]:
    of_hops = [row for row in rows if row["slowest"]]
    wanted = _whole_or_any(row["hop"] for row in of_hops)
    chains = [
        SlowestChain(
            row["hop"],
            row["portfolio"],
            chain["strategy"],
            chain["start_time"],
            chain["duration"],
            chain["trace_id"],
        )
        for row in of_hops
        if row["hop"] in wanted
        for chain in row["slowest"]
    ]
    seen: set[str] = set()
    for chain in sorted(chains, key=lambda one: (-one.duration, one.start)):
        if chain.trace_id not in seen and len(seen) < MOST_CHAINS:
            seen.add(chain.trace_id)
            yield chain
