"""Signals and regimes of one run, read back from the results and brought together for a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.signal_outcomes import REASONS, USED
from fillpath.instrumentation.semconv import EventType

Row = Mapping[str, Any]

CLASSIFIED_KINDS = (EventType.BAR, EventType.TICK)


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


@dataclass(frozen=True, slots=True)
class RegimeProfit:
    """What lots earned that were entered in one regime.

    Attributes:
        name: The regime; ``None`` for lots that were entered in none, and for what is no lot's.
        currency: Currency of the amount.
        amount: Sum of all slices.
        trace_id: The trace of the slice that moved most.
    """

    name: str | None
    currency: str
    amount: Decimal
    trace_id: str | None


def reason_counts(signals: Iterable[Row]) -> list[ReasonCount]:
    """Count the signals of each name by what came of them; takes rows of table ``signals``."""
    groups: dict[tuple[str, str | None, str | None, str], list[Row]] = {}
    for row in signals:
        key = (row["portfolio"], row["strategy"], row["name"], row["reason"])
        groups.setdefault(key, []).append(row)
    counts = [ReasonCount(*key, len(rows), rows[-1]["trace_id"]) for key, rows in groups.items()]
    return sorted(
        counts,
        key=lambda one: (
            one.portfolio,
            one.strategy or "",
            one.name or "",
            REASONS.index(one.reason),
        ),
    )


def unused(signals: Iterable[Row]) -> list[Row]:
    """Choose the signals that led to nothing."""
    return [row for row in signals if row["reason"] not in USED]


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


def regime_profits(slices: Iterable[Row]) -> list[RegimeProfit]:
    """Add up profit by the regime of its entry; takes rows of table ``pnl_slices``."""
    sums: dict[tuple[str | None, str], Decimal] = {}
    largest: dict[tuple[str | None, str], Row] = {}
    with exact_arithmetic():
        for row in slices:
            key = (row.get("regime"), row["currency"])
            sums[key] = sums.get(key, ZERO) + row["amount"]
            if key not in largest or abs(row["amount"]) > abs(largest[key]["amount"]):
                largest[key] = row
    ordered = sorted(sums, key=lambda key: (key[1], key[0] is None, key[0] or ""))
    return [RegimeProfit(*key, sums[key], largest[key]["trace_id"]) for key in ordered]


def unclassified(completeness: Iterable[Row]) -> Iterator[str]:
    """Say of which prices something is missing, so that they are not classified.

    Takes rows of table ``completeness``.
    """
    for row in completeness:
        if row["event_type"] in CLASSIFIED_KINDS and row["kept"] < row["published"]:
            missing = row["published"] - row["kept"]
            yield (
                f"{row['portfolio']}: {missing:,} of {row['published']:,} {row['event_type']} "
                "events are not in the lake, so its market is not classified."
            )
