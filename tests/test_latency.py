"""Latency of hops and handlers: beside a slow walk over every chain, and as the tables keep it."""

from __future__ import annotations

import itertools
import random
import sys
from collections import defaultdict
from pathlib import Path

import duckdb
import numpy as np
import pytest

from fillpath.analytics import latency_measuring
from fillpath.analytics.exponential_histogram import ExponentialHistogram, added, rank
from fillpath.analytics.latency import (
    DAY,
    MOST_PERIODS,
    PERIODS,
    QUANTILES,
    Durations,
    HopGroup,
    period_for,
    place_on_the_way,
)
from fillpath.analytics.latency_measuring import measure
from fillpath.analytics.latency_rows import latency_tables
from fillpath.analytics.order_causes import make_order_causes
from fillpath.analytics.shard_load import TableRows

sys.path.append(str(Path(__file__).parent))

from made_spans import RUN, SECOND, MadeSpans
from walked_chains import Row, Walk, is_event, walked

STATUSES = (
    "INITIALIZED", "SUBMITTED", "ACCEPTED", "NEW", "accepted", "PENDING_UPDATE", "CANCELED",
    "DENIED", None,
)  # fmt: skip


def made_at_random(seed: int, events: int = 120, *, ids: bool = True) -> MadeSpans:
    """Chains of every shape: deep, wide, across portfolios, with orders of all fates."""
    source = random.Random(seed)
    spans = MadeSpans()
    clock = 1_000 * SECOND
    for _ in range(events):
        clock += source.choice([0, 300, 40_000, 5_000_000])
        earlier = spans.rows[-12:]
        parent = source.choice([None, *earlier]) if earlier else None
        kind = source.choice(
            ["BAR", "TICK", "FEATURES", "SIGNAL", "SIGNAL", "ORDER", "ORDER", "FILL", "SYSTEM"]
        )
        columns: Row = {
            "portfolio": source.choice(["fund/a", "fund/b"]),
            "strategy": source.choice([None, "Trend-1", "Mean-2"]),
            # Sometimes a thread reads an earlier clock.
            "start_time": clock - source.choice([0, 0, 0, 0, 60_000, 6_000_000]),
            "parent_span_id": parent["span_id"] if parent else None,
            "trace_id": parent["trace_id"] if parent else f"{len(spans.rows) + 1:032x}",
        }
        if source.random() < 0.02:
            columns["start_time"] = None
        if source.random() < 0.2:
            columns |= {
                "span_kind": "CONSUMER",
                "name": f"process {kind}",
                "handler": source.choice(["A.on_bar", "B.on_bar", None]),
                "end_time": clock + source.randrange(2_000_000),
            }
        elif kind in {"ORDER", "FILL"}:
            if ids or source.random() < 0.5:
                columns["client_order_id"] = f"O-{source.randrange(1 + events // 6)}"
            if kind == "ORDER":
                columns["status"] = source.choice(STATUSES)
        spans.add(kind, **columns)
    return spans


def measured_hops(durations: Durations) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    columns = (durations.group, durations.sequence, durations.duration)
    for group, sequence, duration in zip(*(one.tolist() for one in columns), strict=True):
        found[durations.groups[group].hop].append((sequence, duration))
    return {hop: sorted(times) for hop, times in found.items()}


def measure_made(spans: MadeSpans, *, live: bool = False) -> Durations:
    with spans.connect() as connection:
        return measure(connection, RUN, live=live)


@pytest.mark.parametrize("seed", range(16))
def test_every_hop_is_what_a_walk_over_the_chains_finds(seed: int) -> None:
    spans = made_at_random(seed)
    durations = measure_made(spans)
    expected = walked(spans.rows)
    forward = {hop: [one for one in times if one[1] >= 0] for hop, times in expected.items()}
    assert measured_hops(durations) == {hop: times for hop, times in forward.items() if times}
    backwards = {hop: sum(duration < 0 for _, duration in times) for hop, times in expected.items()}
    summaries = durations.summaries(lambda group: group.hop)
    assert {hop: one.backwards for (hop, _), one in summaries.items()} == backwards


def test_a_clock_that_ran_backwards_is_counted_and_in_no_number() -> None:
    spans = MadeSpans()
    for apart in (700, -5, 0, -9):
        chain(spans, {"event_type": "BAR"}, {"event_type": "SIGNAL"}, apart=apart)
    chain(spans, {"event_type": "TICK"}, {"event_type": "SIGNAL"}, apart=-1)
    summaries = measure_made(spans).summaries(lambda group: group.hop)
    one = summaries["BAR → SIGNAL", None]
    assert one.backwards == 2
    assert one.quantiles == (0, 700, 700)
    assert one.histogram == ExponentialHistogram.of([0, 700])
    nothing = summaries["TICK → SIGNAL", None]
    assert (nothing.backwards, nothing.quantiles) == (1, (None, None, None))
    assert nothing.slowest is None


@pytest.mark.parametrize("seed", range(10))
def test_a_hop_belongs_to_the_nearest_strategy_and_to_the_portfolio_of_its_end(seed: int) -> None:
    spans = made_at_random(seed)
    walk = Walk(spans.rows)
    expected = {}
    for row in spans.rows:
        way = [row, *(walk.above(row) if is_event(row) else ())]
        named = (one["strategy"] for one in way if one["strategy"] is not None)
        expected[row["sequence"]] = (row["portfolio"], next(named, None))
    durations = measure_made(spans)
    for group, sequence in zip(durations.group.tolist(), durations.sequence.tolist(), strict=True):
        one = durations.groups[group]
        assert (one.portfolio, one.strategy) == expected[sequence], one
        handler = spans.rows[sequence - 1].get("handler")
        assert one.handler == (handler if one.is_handled else None)


@pytest.mark.parametrize("seed", range(5))
def test_traces_without_a_hop_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = made_at_random(seed)
    expected = measured_hops(measure_made(spans))
    monkeypatch.setattr(latency_measuring, "MANY_EVENTS", 10)
    assert measured_hops(measure_made(spans)) == expected


@pytest.mark.parametrize("seed", range(10))
def test_orders_and_their_signals_are_those_of_all_other_results(seed: int) -> None:
    spans = made_at_random(seed)
    with spans.connect() as connection:
        make_order_causes(connection, RUN)
        expected = connection.execute(
            "SELECT sequence, start_time - signal_start AS duration FROM order_causes "
            "WHERE duration >= 0 AND sequence IN "
            "(SELECT sequence FROM spans WHERE event_type = 'ORDER') ORDER BY 1"
        ).fetchall()
        durations = measure(connection, RUN, live=False)
    assert measured_hops(durations).get("SIGNAL → ORDER", []) == expected


def chain(spans: MadeSpans, *steps: Row, clock: int = 5 * SECOND, apart: int = 1_000) -> None:
    """Publish events each of which causes the next."""
    parent: Row | None = None
    for place, step in enumerate(steps):
        columns = {
            "start_time": clock + place * apart,
            "parent_span_id": parent["span_id"] if parent else None,
            "trace_id": parent["trace_id"] if parent else f"{len(spans.rows) + 1:032x}",
            **step,
        }
        parent = spans.add(columns.pop("event_type"), **columns)


def test_a_host_without_order_ids_has_its_hops_by_cause() -> None:
    spans = MadeSpans()
    for clock in (5, 6):
        chain(
            spans,
            {"event_type": "TICK"},
            {"event_type": "SIGNAL", "strategy": "S"},
            {"event_type": "ORDER"},
            {"event_type": "ORDER", "status": "ACKNOWLEDGED"},
            {"event_type": "FILL"},
            {"event_type": "FILL"},
            clock=clock * SECOND,
        )
    durations = measure_made(spans)
    hops = {
        hop: [duration for _, duration in times] for hop, times in measured_hops(durations).items()
    }
    assert hops == {
        "TICK → SIGNAL": [1_000] * 2,
        "SIGNAL → ORDER": [1_000] * 2,
        "ORDER → ACCEPTED": [1_000] * 2,
        "ACCEPTED → FILL": [1_000] * 2,
        "TICK → FILL": [4_000, 5_000] * 2,
    }
    # What names no strategy has that of the nearest cause that does.
    assert {group.strategy for group in durations.groups} == {"S"}


def test_a_fill_that_no_market_event_caused_has_the_way_of_its_order() -> None:
    spans = MadeSpans()
    chain(
        spans,
        {"event_type": "BAR"},
        {"event_type": "ORDER", "client_order_id": "O-1", "status": "INITIALIZED"},
    )
    chain(spans, {"event_type": "FILL", "client_order_id": "O-1"}, clock=7 * SECOND)
    hops = measured_hops(measure_made(spans))
    assert hops["BAR → FILL"] == [(3, 2 * SECOND)]
    assert hops["ORDER → FILL"] == [(3, 2 * SECOND - 1_000)]


def test_spans_that_name_each_other_as_parents_end_nothing() -> None:
    spans = MadeSpans()
    spans.add("SIGNAL", start_time=5, parent_span_id=f"{2:016x}", trace_id="a" * 32)
    spans.add("SYSTEM", start_time=6, parent_span_id=f"{1:016x}", trace_id="a" * 32)
    spans.add("BAR", start_time=1)
    assert measured_hops(measure_made(spans)) == {}


def test_a_very_long_chain_has_the_cause_at_its_far_end() -> None:
    spans = MadeSpans()
    links = [{"event_type": "SYSTEM"}] * 3_000
    chain(spans, {"event_type": "BAR"}, *links, {"event_type": "SIGNAL"}, apart=7)
    assert measured_hops(measure_made(spans)) == {"BAR → SIGNAL": [(3_002, 3_001 * 7)]}


def test_publish_delay_is_told_of_live_runs_only() -> None:
    spans = MadeSpans()
    spans.add("BAR", start_time=10_500, event_time=10_000)
    spans.add("BAR", start_time=20_000, event_time=20_400)
    spans.add("TICK", start_time=30_000, event_time=None)
    assert measured_hops(measure_made(spans)) == {}
    durations = measure_made(spans, live=True)
    assert measured_hops(durations) == {"event time → BAR": [(1, 500)]}
    (summary,) = durations.summaries(lambda group: group.hop).values()
    assert (summary.histogram.count, summary.backwards) == (1, 1)


def test_a_run_without_events_has_no_latency() -> None:
    durations = measure_made(MadeSpans())
    assert durations.extent is None
    assert durations.summaries(lambda group: group) == {}
    spans = MadeSpans()
    spans.add("BAR", start_time=5)
    assert measure_made(spans).summaries(lambda group: group, SECOND) == {}


def values_of(durations: Durations, hop: str, portfolio: str | None = None) -> list[int]:
    def wanted(group: HopGroup) -> bool:
        return group.hop == hop and portfolio in {None, group.portfolio}

    groups = durations.group.tolist()
    return [
        duration
        for group, duration in zip(groups, durations.duration.tolist(), strict=True)
        if wanted(durations.groups[group])
    ]


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_of_a_run_are_exact(seed: int) -> None:
    durations = measure_made(made_at_random(seed, 400))
    summaries = durations.summaries(lambda group: (group.portfolio, group.hop))
    connection = duckdb.connect()
    for ((portfolio, hop), _), one in summaries.items():
        values = values_of(durations, hop, portfolio)
        if not values:
            assert one.quantiles == (None, None, None)
            continue
        expected = connection.execute(
            "SELECT quantile_disc(v, 0.5), quantile_disc(v, 0.9), quantile_disc(v, 0.99) "
            "FROM (SELECT unnest($values) AS v)",
            {"values": values},
        ).fetchone()
        assert one.quantiles == expected
        assert one.histogram == ExponentialHistogram.of(values)
        assert one.slowest is not None
        slowest = [
            sequence
            for sequence, duration in measured_hops(durations)[hop]
            if duration == max(values)
        ]
        assert one.slowest[1] in slowest


def test_histograms_of_periods_and_strategies_add_up_to_that_of_the_run() -> None:
    durations = measure_made(made_at_random(3, 400))
    extent = durations.extent
    assert extent is not None
    whole = {key[0]: one for key, one in durations.summaries(lambda group: group.hop).items()}
    for period in (1_000_000, SECOND, DAY):
        parts: dict[str, list[ExponentialHistogram]] = defaultdict(list)
        backwards: dict[str, int] = defaultdict(int)
        for (group, start), one in durations.summaries(lambda group: group, period).items():
            assert start is not None
            assert start % period == 0
            parts[group.hop].append(one.histogram)
            backwards[group.hop] += one.backwards
        assert {hop: added(one) for hop, one in parts.items()} == {
            hop: one.histogram for hop, one in whole.items()
        }
        assert backwards == {hop: one.backwards for hop, one in whole.items()}


def test_summaries_of_runs_put_together_tell_quantiles_within_their_bound() -> None:
    runs = [measure_made(made_at_random(seed, 300)) for seed in (1, 2, 3)]
    by_run = [one.summaries(lambda group: group.hop) for one in runs]
    for key in set.intersection(*(set(one) for one in by_run)):
        first, second, third = (one[key] for one in by_run)
        total = first + second + third
        values = sorted(value for run in runs for value in values_of(run, key[0]))
        assert total.histogram == ExponentialHistogram.of(values)
        assert total.backwards == first.backwards + second.backwards + third.backwards
        for told, part in zip(total.quantiles, QUANTILES, strict=True):
            if not values:
                assert told is None
                continue
            exact = values[rank(len(values), part) - 1]
            assert told == pytest.approx(exact, rel=total.histogram.relative_error + 1e-9, abs=0.5)


def test_a_period_is_the_shortest_of_which_sixty_will_do() -> None:
    assert period_for([]) == period_for([None]) == PERIODS[0]
    for period in PERIODS[:-1]:
        assert period_for([(0, (MOST_PERIODS - 1) * period)]) <= period
        assert period_for([(0, MOST_PERIODS * period)]) > period
    assert period_for([(0, SECOND), (59 * SECOND, 60 * SECOND)]) == PERIODS[1]
    for shorter, longer in itertools.pairwise(PERIODS):
        assert longer % shorter == 0


def test_hops_are_told_in_the_order_of_the_way() -> None:
    hops = ["BAR → handled", "BAR → FILL", "SIGNAL → ORDER", "event time → BAR", "BAR → SIGNAL"]
    assert sorted(hops, key=place_on_the_way) == [
        "event time → BAR", "BAR → SIGNAL", "BAR → FILL", "SIGNAL → ORDER", "BAR → handled",
    ]  # fmt: skip


def rows_of(table: TableRows) -> list[Row]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_the_tables_have_every_breakdown_and_histograms_over_time() -> None:
    spans = made_at_random(11, 500)
    with spans.connect() as connection:
        durations = measure(connection, RUN, live=False)
        tables = latency_tables(connection, RUN, live=False)
    expected = walked(spans.rows)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    traces = {row["trace_id"] for row in spans.rows}
    for row in rows_of(tables["latency"]):
        counts[row["breakdown"]][row["hop"]] += row["count"] + row["backwards"]
        assert (row["slowest_trace_id"] in traces) == (row["count"] > 0)
    every = {hop: len(times) for hop, times in expected.items()}
    assert counts["hop"] == counts["strategy"] == every
    assert counts["handler"] == {h: n for h, n in every.items() if h.endswith("handled")}
    total: dict[str, int] = defaultdict(int)
    for row in rows_of(tables["latency_histograms"]):
        total[row["hop"]] += row["count"]
        assert sum(row["bucket_counts"]) + row["zero_count"] == row["count"]
    assert total == {hop: len(times) for hop, times in measured_hops(durations).items()}


@pytest.mark.parametrize("seed", range(3))
def test_the_slowest_chains_are_in_different_traces(seed: int) -> None:
    spans = made_at_random(seed, 600)
    trace_of = {row["sequence"]: row["trace_id"] for row in spans.rows}
    expected: dict[str, list[int]] = {}
    for hop, times in walked(spans.rows).items():
        longest: dict[str, int] = {}
        for sequence, duration in times:
            if duration >= 0 and spans.rows[sequence - 1]["portfolio"] == "fund/a":
                trace = trace_of[sequence]
                longest[trace] = max(duration, longest.get(trace, 0))
        expected[hop] = sorted(longest.values(), reverse=True)[:10]
    with spans.connect() as connection:
        tables = latency_tables(connection, RUN, live=False)
    for row in rows_of(tables["latency"]):
        if row["breakdown"] == "hop" and row["portfolio"] == "fund/a":
            assert [one["duration"] for one in row["slowest"]] == expected[row["hop"]]
            assert len({one["trace_id"] for one in row["slowest"]}) == len(row["slowest"])
        elif row["breakdown"] != "hop":
            assert row["slowest"] == []


def test_who_measured_is_told_apart_by_portfolio_and_strategy() -> None:
    spans = MadeSpans()
    for portfolio, strategy in (("a", "X"), ("a", "Y"), ("b", "X"), ("b", "X")):
        chain(
            spans,
            {"event_type": "BAR", "portfolio": portfolio},
            {"event_type": "SIGNAL", "portfolio": portfolio, "strategy": strategy},
        )
    durations = measure_made(spans)
    counts = {
        (group.portfolio, group.strategy): one.histogram.count
        for (group, _), one in durations.summaries(lambda group: group).items()
    }
    assert counts == {("a", "X"): 1, ("a", "Y"): 1, ("b", "X"): 2}
    assert np.all(durations.duration == 1_000)
