"""Regimes: what the host says, else what prices showed by then, and never what comes later."""

from __future__ import annotations

import math
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.price_feeds import Floats
from fillpath.analytics.regime_classifier import WINDOW, classify
from fillpath.analytics.regimes import CLASSIFIER, HOST, Regimes, read_regimes
from fillpath.instrumentation.semconv import Bar, EventType, Regime

sys.path.append(str(Path(__file__).parent))

from made_spans import RUN, MadeSpans
from regimes_by_hand import slow_names

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BOOK = "fund/book"


def regimes_of(spans: MadeSpans) -> Regimes:
    with spans.connect() as connection:
        return read_regimes(connection, RUN)


def walk(length: int, seed: int, scale: float = 0.01) -> Floats:
    steps = np.random.default_rng(seed).standard_t(4, length) * scale
    return np.exp(np.cumsum(steps)) * 100


def bars(
    spans: MadeSpans, prices: Floats, length: int = DAY, *, start: int = 0, **columns: Any
) -> None:
    for place, price in enumerate(prices, start=start):
        given = {"symbol": "ACME", "venue": "SIM", "event_time": place * length, **columns}
        spans.add(EventType.BAR, price=f"{price:.6f}", **given)


def says(
    spans: MadeSpans, name: str | None, kind: str = EventType.REGIME_CHANGE, **given: Any
) -> None:
    spans.add(kind, {Regime.NAME: name}, **given)


# -- The classifier ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_daily_bars_are_classified_as_the_definition_says(seed: int) -> None:
    prices = walk(160, seed)
    found = classify(prices, np.arange(160) * DAY)
    assert found.names.tolist() == slow_names(prices)
    assert len(set(slow_names(prices))) > 4


def test_an_hourly_market_is_classified_by_its_days_as_soon_as_it_has_enough() -> None:
    prices = walk(24 * 60, 7)
    found = classify(prices, np.arange(len(prices)) * HOUR).names.tolist()
    by_hours = slow_names(prices[: 24 * 41])
    assert found[: 24 * 41] == by_hours
    by_days = slow_names(prices[23::24])
    for hour in range(24 * 41, len(prices)):
        # Day 41 is the first of which 41 are over; a day is over when the next one's bar comes.
        assert found[hour] == by_days[hour // 24 - 1]


def test_ticks_are_classified_by_minutes_at_least_and_only_by_ticks_without_times() -> None:
    prices = walk(6000, 3, 0.0001)
    by_minutes = classify(prices, np.arange(6000) * 1_000_000_000, is_tick=True).names.tolist()
    assert by_minutes[: 60 * 41] == [None] * 60 * 41
    assert by_minutes[60 * 41] == slow_names(prices[59::60])[40]
    assert classify(prices, None, is_tick=True).names[40] == slow_names(prices[:41])[40]


@pytest.mark.parametrize(
    ("prices", "name"),
    [
        ([100.0] * 60, "calm, sideways"),
        ([100 * 1.01**day for day in range(60)], "calm, up"),
        ([100 * 0.99**day for day in range(60)], "calm, down"),
        ([100.0, 101.0] * 30, "calm, sideways"),
        ([-1.0] * 60, None),
        ([0.0, 100.0] * 30, None),
        ([float("nan")] * 60, None),
    ],
)
def test_markets_without_surprises_have_the_regime_one_expects(
    prices: list[float], name: str | None
) -> None:
    names = classify(np.array(prices), np.arange(60) * DAY).names
    assert set(names[:40]) == {None}
    assert set(names[40:]) == {name}


def test_a_price_below_zero_ends_the_regime_until_it_is_out_of_the_window() -> None:
    prices = walk(100, 1)
    prices[60] = -5
    names = classify(prices, np.arange(100) * DAY).names
    assert set(names[60 : 62 + WINDOW - 1]) == {None}
    assert None not in set(names[41:60]) | set(names[82:])


def test_a_million_bars_take_about_a_second() -> None:
    prices = walk(1_000_000, 5, 0.0005)
    started = time.process_time()
    found = classify(prices, np.arange(1_000_000) * MINUTE)
    assert time.process_time() - started < 10, "ten times what it takes"
    assert found.names[-1] is not None


# -- In a run -------------------------------------------------------------------------------------


def test_a_close_counts_from_its_own_event_on() -> None:
    spans = MadeSpans()
    prices = walk(120, 11)
    bars(spans, prices)
    regimes = regimes_of(spans)
    names = slow_names(prices)
    assert [regimes.at(BOOK, "ACME", sequence) for sequence in range(1, 121)] == names
    spells = regimes.spells
    assert spells[0].sequence == 41
    assert all(one.source == CLASSIFIER for one in spells)
    assert sum(one.events for one in spells) == 120 - 40
    assert [one.end_time for one in spells] == [*(s.event_time for s in spells[1:]), None]
    assert all(a.name != b.name for a, b in pairwise(spells))
    assert spells[0].span_id == f"{41:016x}"


def test_the_host_is_believed_from_its_first_word_on_and_the_classifier_until_then() -> None:
    spans = MadeSpans()
    prices = walk(100, 2)
    bars(spans, prices[:60])
    says(spans, "bull", symbol="ACME")
    bars(spans, prices[60:80], start=60)
    says(spans, "bull", EventType.CLASSIFICATION, symbol="ACME")
    says(spans, "bear", symbol="ACME", event_time=80 * DAY)
    bars(spans, prices[80:], start=80)
    regimes = regimes_of(spans)
    names = [regimes.at(BOOK, "ACME", sequence) for sequence in range(1, 104)]
    assert names[:60] == slow_names(prices[:60])
    assert names[60:82] == ["bull"] * 22
    assert names[82:] == ["bear"] * 21
    *classified, bull, bear = regimes.spells
    assert {one.source for one in classified} == {CLASSIFIER}
    assert classified[-1].end_time == bull.event_time
    assert sum(one.events for one in classified) == 20
    assert (bull.source, bull.name, bull.events, bull.end_time) == (HOST, "bull", 20, 80 * DAY)
    assert (bear.name, bear.events, bear.end_time, bear.volatility) == ("bear", 20, None, None)


def test_the_nearest_word_counts_and_the_instruments_own_before_everybodys() -> None:
    spans = MadeSpans("fund")
    says(spans, "fund-wide")
    spans.portfolio = "default"
    says(spans, "everywhere")
    spans.portfolio = "other/book"
    says(spans, "elsewhere")
    says(spans, "elsewhere's", symbol="ACME")
    spans.portfolio = "fund/book"
    says(spans, "the book's")
    says(spans, "ACME's", symbol="ACME")
    spans.portfolio = "fund"
    says(spans, "fund's INIT", symbol="INIT")
    regimes = regimes_of(spans)
    assert regimes.at("fund/book", "ACME", 99) == "ACME's"
    assert regimes.at("fund/book", "ACME", 5) == "the book's"
    assert regimes.at("fund/book", "ACME", 4) == "fund-wide"
    assert regimes.at("fund/book", "INIT", 99) == "fund's INIT"
    assert regimes.at("fund/other", "ACME", 99) == "fund-wide"
    assert regimes.at("somebody", "ACME", 99) == "everywhere"
    assert regimes.at("somebody", "ACME", 1) is None
    assert regimes.at("other/book", "INIT", 99) == "elsewhere"


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"trading.regime.name": "crisis"}, "crisis"),
        ({"trading.regime_change.state": "crisis"}, "crisis"),
        ({"trading.regime_change.cluster": 3}, "3"),
        ({"trading.regime_change.value": 1.5, "trading.regime_change.new": "risk-off"}, "risk-off"),
        ({"trading.regime_change.colour": "blue"}, None),
        ({"trading.regime.name": ""}, None),
    ],
)
def test_a_host_may_have_its_own_word_for_the_name(
    attributes: dict[str, Any], name: str | None
) -> None:
    spans = MadeSpans()
    spans.add(EventType.REGIME_CHANGE, attributes)
    assert regimes_of(spans).at(BOOK, "ACME", 1) == name


def test_another_feed_takes_nothing_from_the_one_that_was_classified_first() -> None:
    prices = walk(60, 4)
    alone = MadeSpans()
    bars(alone, prices)
    spans = MadeSpans()
    for place, price in enumerate(prices):
        # A quote at the very beginning and now and then, and the same bars from another place.
        if place % 7 == 0:
            spans.quote(1, 3)
        for name in ("1-DAY-LAST", "1-DAY-BID"):
            spans.add(
                EventType.BAR,
                {Bar.TYPE: name},
                price=str(price if name == "1-DAY-LAST" else 5 + place % 2),
                symbol="ACME",
                venue="SIM",
                event_time=place * DAY,
            )
    found = regimes_of(spans)
    named = {one.name for one in regimes_of(alone).spells}
    assert {one.name for one in found.spells} == named
    assert sum(one.events for one in found.spells) == 20


def test_prices_that_only_another_portfolio_has_are_everybodys() -> None:
    spans = MadeSpans("market")
    bars(spans, walk(60, 4))
    regimes = regimes_of(spans)
    assert regimes.at("fund/book", "ACME", 60) == regimes.at("market", "ACME", 60) is not None
    assert regimes.at("fund/book", "INIT", 60) is None


@pytest.mark.parametrize("lost", [0, 1])
def test_prices_that_are_not_all_in_the_lake_are_not_classified(lost: int) -> None:
    spans = MadeSpans()
    bars(spans, walk(60, 4))
    completeness = (
        f'[{{"portfolio": "{BOOK}", "event_type": "BAR", "published": {60 + lost}, "kept": 60}}]'
    )
    with spans.connect() as connection:
        connection.execute(
            f"CREATE OR REPLACE VIEW runs AS SELECT '{RUN}' AS run_id, "
            f"'{completeness}' AS completeness"
        )
        regimes = read_regimes(connection, RUN)
    assert bool(regimes.spells) is not bool(lost)
    assert [feed.symbol for feed in regimes.left_out] == ["ACME"] * lost


def test_regimes_are_read_beside_a_result_that_is_not_fetched_to_its_end() -> None:
    spans = MadeSpans()
    bars(spans, walk(60, 4))
    with spans.connect() as connection:
        connection.execute("SELECT run_id FROM spans").fetchone()
        assert read_regimes(connection, RUN).spells


# -- What comes later changes nothing --------------------------------------------------------------


def some_run(seed: int, length: int) -> MadeSpans:
    """A market of hours and days, in which hosts say something now and then."""
    random = np.random.default_rng(seed)
    spans = MadeSpans()
    prices = dict.fromkeys(("ACME", "INIT"), 100.0)
    clock = 0
    step = int(random.choice([DAY, HOUR, 7 * HOUR, MINUTE]))
    for _ in range(length):
        clock += step * int(random.integers(0, 3))
        spans.portfolio = str(
            random.choice([BOOK, "fund", "default", "market"], p=[0.85, 0.05, 0.05, 0.05])
        )
        symbol = str(random.choice(list(prices)))
        draw = random.random()
        if draw < 0.008:
            says(
                spans,
                str(random.choice(["bull", "bear"])),
                symbol=symbol if random.random() < 0.6 else None,
                event_time=clock,
            )
        elif draw < 0.1:
            spans.quote(prices[symbol] * 0.999, prices[symbol] * 1.001, symbol)
        else:
            prices[symbol] *= math.exp(float(random.normal(0, 0.01)))
            kind = str(random.choice(["A", "B"], p=[0.9, 0.1]))
            spans.add(
                EventType.BAR,
                {Bar.TYPE: kind},
                price=f"{prices[symbol]:.5f}",
                symbol=symbol,
                venue="SIM",
                event_time=clock,
            )
    return spans


def answers(spans: MadeSpans, until: int) -> list[str | None]:
    regimes = regimes_of(spans)
    return [
        regimes.at(portfolio, symbol, sequence)
        for portfolio in (BOOK, "fund", "elsewhere")
        for symbol in ("ACME", "INIT")
        for sequence in range(1, until + 1)
    ]


def test_the_run_that_is_tampered_with_has_regimes_of_both_kinds() -> None:
    found = [regimes_of(some_run(seed, 300)) for seed in range(4)]
    assert {spell.source for regimes in found for spell in regimes.spells} == {HOST, CLASSIFIER}
    assert len({spell.name for regimes in found for spell in regimes.spells}) > 5


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    until=st.integers(150, 299),
    change=st.sampled_from(["cut", "another", "shuffled", "some left out", "a host speaks"]),
)
def test_no_later_event_changes_a_regime(seed: int, until: int, change: str) -> None:
    spans = some_run(seed, 300)
    expected = answers(spans, until)
    head, tail = spans.rows[:until], spans.rows[until:]
    random = np.random.default_rng(seed + 1)
    if change == "cut":
        tail = []
    elif change == "another":
        tail = some_run(seed + 1, 300 + until).rows[until:]
    elif change == "shuffled":
        order = random.permutation(len(tail))
        tail = [
            {**tail[place], "sequence": one["sequence"]}
            for one, place in zip(tail, order, strict=True)
        ]
    elif change == "some left out":
        tail = [row for row in tail if random.random() < 0.5]
    else:
        spoken = MadeSpans()
        says(spoken, "quite another")
        tail = [{**spoken.rows[0], "sequence": until + 1}, *tail[1:]]
    spans.rows = [*head, *tail]
    assert answers(spans, until) == expected
