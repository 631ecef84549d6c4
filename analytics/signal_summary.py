"""Signals and regimes of one run, read back from the results and brought together for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.exact import ZERO
from fillpath.analytics.market_time import DAY
from fillpath.analytics.signal_outcomes import REASONS, USED
from fillpath.instrumentation.semconv import EventType

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import ResultsManager

Row = Mapping[str, Any]

_CLASSIFIED_KINDS: Final = (EventType.BAR, EventType.TICK)


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many signals of one name had one fate.

    Attributes:
        portfolio: Namespace.
        strategy: The engine's id of the strategy; ``None`` if none.
        name: What the strategy calls the signal.
        reason: One of `REASONS`.
        count: How many.
        trace_id: The trace of the last of them.
    """

    portfolio: str
    strategy: str | None
    name: str | None
    reason: str
    count: int
    trace_id: str | None

    @property
    def is_used(self) -> bool:
        """Whether an order of the signal was filled or is open still."""
        return self.reason in USED


@dataclass(frozen=True, slots=True)
class RegimeTime:
    """How long an instrument was in one regime, and how often.

    Attributes:
        portfolio: Namespace.
        symbol: The instrument; ``None`` for the whole portfolio.
        name: The regime.
        source: ``host`` or ``classifier``.
        spells: How many stays.
        events: Price events in it.
        share: Part of the price events with a regime, of this instrument, from 0 to 1.
        time: Simulated time in it, nanoseconds, the last stay left out; ``None`` if unknown.
        trace_id: The trace of the event that began the longest stay.
    """

    portfolio: str
    symbol: str | None
    name: str
    source: str
    spells: int
    events: int
    share: Decimal
    time: int | None
    trace_id: str | None

    @property
    def time_text(self) -> str:
        """The time as it is shown; empty if unknown."""
        return "" if self.time is None else simulated_span(self.time)


@dataclass(frozen=True, slots=True)
class RegimeProfit:
    """What lots earned that were entered in one regime.

    Attributes:
        name: The regime; ``None`` for lots that were entered in none, and for what is no lot's.
        currency: Currency of the amount.
        amount: Sum of all slices.
        trace_id: The entry of the largest trade that was entered in it.
    """

    name: str | None
    currency: str
    amount: Decimal
    trace_id: str | None


def reason_counts(results: ResultsManager, run_id: str) -> list[ReasonCount]:
    """Count the signals of each name by what came of them."""
    counts = [ReasonCount(**row) for row in results.read("signal_reasons", run_id=run_id)]
    return sorted(
        counts,
        key=lambda one: (
            one.portfolio,
            one.strategy or "",
            one.name or "",
            REASONS.index(one.reason),
        ),
    )


def unused_signals(results: ResultsManager, run_id: str, most: int | None = None) -> list[Row]:
    """Read the signals that led to nothing, by column of table ``signals``.

    Args:
        results: Where the run is loaded.
        run_id: The run; its whole id.
        most: How many of each name and reason; all when None.
    """
    return list(results.read("unused_signals", run_id=run_id, used=list(USED), most=most))


def regime_times(regimes: Sequence[Row]) -> list[RegimeTime]:
    """Add up the stays of each instrument in each regime; takes rows of table ``regimes``."""
    all_events: dict[tuple[Any, ...], int] = {}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in regimes:
        key = (row["portfolio"], row["symbol"])
        all_events[key] = all_events.get(key, 0) + row["events"]
        groups.setdefault((*key, row["name"], row["source"]), []).append(row)
    times = []
    for (portfolio, symbol, name, source), rows in groups.items():
        events = sum(row["events"] for row in rows)
        whole = all_events[portfolio, symbol]
        lengths = [
            row["end_time"] - row["event_time"]
            for row in rows
            if row["end_time"] is not None and row["event_time"] is not None
        ]
        longest = max(rows, key=lambda row: row["events"])
        times.append(
            RegimeTime(
                portfolio,
                symbol,
                name,
                source,
                len(rows),
                events,
                Decimal(events) / whole if whole else ZERO,
                sum(lengths) if lengths else None,
                longest["trace_id"],
            )
        )
    return sorted(times, key=lambda one: (one.portfolio, one.symbol or "", one.source, one.name))


def regime_profits(results: ResultsManager, run_id: str) -> list[RegimeProfit]:
    """Read the profit of a run by the regime of its entries."""
    return [RegimeProfit(**row) for row in results.read("pnl_by_regime", run_id=run_id)]


def simulated_span(nanoseconds: int) -> str:
    """Write a stretch of simulated time: days where it is long."""
    if nanoseconds < 2 * DAY:
        return report_format.duration(nanoseconds)
    days = (Decimal(nanoseconds) / DAY).quantize(Decimal("0.1"))
    return f"{report_format.number(days)}\N{NO-BREAK SPACE}d"


def unclassified(completeness: Iterable[Row]) -> Iterator[str]:
    """Say of which prices something is missing, so that they are not classified.

    Takes rows of table ``completeness``.
    """
    for row in completeness:
        if row["event_type"] in _CLASSIFIED_KINDS and row["kept"] < row["published"]:
            missing = row["published"] - row["kept"]
            yield (
                f"{row['portfolio']}: {missing:,} of {row['published']:,} {row['event_type']} "
                "events are not in the lake, so its market is not classified."
            )
