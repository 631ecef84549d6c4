"""What a report says of latency, from a walk over every chain: sorted lists and plain counting."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from numbers_shown import figures_of
from reckoned_by_hand import Figures, Reckoning, moment, took
from walked_chains import Walk, is_event

SECOND = 10**9
NONE = "\N{EN DASH}"
PERIODS = {1: "1 second", 10: "10 seconds", 60: "1 minute", 600: "10 minutes"}


class Latencies:
    """Every hop of a run: what it is, whose, when it ended, and how long it took."""

    def __init__(self, run: Reckoning) -> None:
        self.run = run
        by_sequence = {event["sequence"]: event for event in run.events}
        walk = Walk(run.events)
        self.hops: list[dict[str, Any]] = []
        for hop, times in walk.found.items():
            for sequence, duration in times:
                event = by_sequence[sequence]
                way = [event, *(walk.above(event) if is_event(event) else ())]
                strategies = (one["strategy"] for one in way if one["strategy"] is not None)
                row = {
                    "hop": hop,
                    "strategy": next(strategies, None) or NONE,
                    "event": event,
                }
                self.hops.append(row | {"took": duration, "handler": event["handler"] or NONE})
        self.forward = [one for one in self.hops if one["took"] >= 0]

    def figures(self) -> Figures:
        where = self.run.portfolio
        tables: dict[tuple[str, str], list[int]] = defaultdict(list)
        handlers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for one in self.forward:
            hop, strategy = one["hop"], one["strategy"]
            tables["Wall-clock latency by hop", f"{hop} · {where}"].append(one["took"])
            if hop.endswith("handled"):
                table = "How long handlers ran, those with the highest 99th percentile first"
                row = f"{one['handler']} · {hop.partition(' ')[0]} · {where} · {strategy}"
                handlers[table, row].append(one["took"])
            else:
                table = "Wall-clock latency by hop and strategy"
                tables[table, f"{hop} · {where} · {strategy}"].append(one["took"])
        for (table, row), times in (tables | handlers).items():
            yield table, row, "Count", [f"{len(times):,}"]
            for column, time in self._quantiles(times):
                yield table, row, column, figures_of(took(time))
        whole = {one["hop"] for one in self.forward} & {"BAR → FILL", "TICK → FILL"}
        assert whole, "a run that trades has a way from the market to a fill"
        yield from self._over_time(max(whole))
        yield from self._slowest(whole)
        heading = "Slowest chains"
        by_strategy = sum(table.endswith("by hop and strategy") for table, _ in tables)
        yield heading, "By strategy #", "summary", [str(by_strategy)]
        yield heading, "By handler # the slowest first", "summary", [f"{len(handlers)},"]

    @staticmethod
    def _quantiles(times: list[int]) -> list[tuple[str, int]]:
        ordered = sorted(times)
        shares = [("p50", 50), ("p90", 90), ("p99", 99), ("Slowest", 100)]
        return [(name, ordered[-(-len(ordered) * part // 100) - 1]) for name, part in shares]

    def _over_time(self, hop: str) -> Figures:
        """Quantiles of periods, each told by the middle of its bucket."""
        ends = [one["event"]["start_time"] // SECOND for one in self.forward]
        length = next(one for one in PERIODS if max(ends) // one - min(ends) // one < 60)
        if min(ends) // length == max(ends) // length:
            return
        periods: dict[int, list[int]] = defaultdict(list)
        for one in self.forward:
            if one["hop"] == hop:
                period = one["event"]["start_time"] // SECOND // length
                periods[period].append(one["took"])
        heading = f"Over time {hop}"
        unit = PERIODS[length].partition(" ")[2]
        yield heading, f"The numbers, in periods of # {unit}", "summary", [str(length)]
        base = max(2 ** (1 / fineness(times)) for times in periods.values())
        error = 100 * (base - 1) / (base + 1)
        table = (
            "From histograms of all portfolios: quantiles are at most "
            f"{error:.1f} % off, counts and the slowest are exact"
        )
        for period, times in periods.items():
            row = moment(period * length * SECOND)
            yield table, row, "From", [row]
            yield table, row, "Count", [f"{len(times):,}"]
            for column, time in self._quantiles(times):
                is_end = time in {min(times), max(times)}
                told = time if is_end else middle_of_bucket(time, times)
                yield table, row, column, figures_of(took(told))

    def _slowest(self, hops: set[str]) -> Figures:
        chains = [one for one in self.forward if one["hop"] in hops]
        chains.sort(key=lambda one: (-one["took"], one["event"]["start_time"]))
        seen: list[str] = []
        for one in chains:
            trace = one["event"]["trace_id"]
            if trace in seen or len(seen) == 10:
                continue
            seen.append(trace)
            place = ("The chains that took longest", f"#{len(seen)}")
            yield (*place, "Took", figures_of(took(one["took"])))
            yield (*place, "At", [moment(one["event"]["start_time"])])


def bucket(time: int, parts: int) -> int:
    """Which bucket a duration is in, of so many for each power of two; none has its lower end."""
    return math.ceil(math.log2(time) * parts - 1e-9) - 1


def fineness(times: list[int]) -> int:
    """Buckets for each power of two: 64, or half as many until 160 hold all durations."""
    parts = 64
    while bucket(max(times), parts) - bucket(min(times), parts) >= 160:
        parts //= 2
    return parts


def middle_of_bucket(time: int, times: list[int]) -> int:
    """The harmonic mean of the least and the greatest whole number in the bucket of a duration."""
    parts = fineness(times)
    ends = (bucket(time, parts), bucket(time, parts) + 1)
    below, high = (math.floor(2 ** (end / parts) + 1e-9) for end in ends)
    low = below + 1
    middle = (4 * low * high + low + high) // (2 * (low + high))
    return min(max(middle, min(times)), max(times))
