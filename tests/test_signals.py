"""Signals: what came of them, whether their strength said anything, and for how long it did."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fillpath.analytics.results_rows import compute_results
from fillpath.analytics.signal_decay import (
    HORIZONS,
    Decay,
    Forecasts,
    decay_rows,
    forward_returns,
    independent_signals,
)
from fillpath.analytics.signal_outcomes import REASONS
from fillpath.analytics.signal_strength import BUCKETS, bucket_numbers, hit_rate, strength_of
from fillpath.instrumentation.semconv import EventType, Signal

sys.path.append(str(Path(__file__).parent))

from made_spans import RUN, SECOND, MadeSpans

Row = dict[str, Any]
TREND = {"strategy": "Trend-1", "symbol": "ACME", "venue": "SIM"}


def tables_of(spans: MadeSpans) -> dict[str, list[Row]]:
    with spans.connect() as connection:
        tables = compute_results(connection, RUN).tables
        return {
            name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for name, table in tables.items()
        }


def signal(spans: MadeSpans, value: object, strength: object = None, **columns: Any) -> Row:
    keys = {Signal.NAME: "trend", Signal.VALUE: value, Signal.STRENGTH: strength}
    return spans.add(EventType.SIGNAL, keys, **{**TREND, **columns})


def caused(cause: Row, **columns: Any) -> Row:
    return {**columns, "parent_span_id": cause["span_id"], "trace_id": cause["trace_id"]}


def order(spans: MadeSpans, cause: Row, name: str, *statuses: str, **columns: Any) -> Row:
    given = {**TREND, "side": "BUY", "quantity": "10", "client_order_id": name, **columns}
    for status in statuses:
        cause = spans.add(EventType.ORDER, **caused(cause, **given, status=status))
    return cause


def fill(spans: MadeSpans, cause: Row, name: str, side: str, quantity: int, price: str) -> None:
    # The engine's account says nothing here: it is the profit of the fills that counts.
    spans.fill(side, quantity, price, **caused(cause, client_order_id=name))


# -- Strength --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "strength", "side", "expected"),
    [
        ("1", None, None, 1.0),
        ("-0.25", None, None, -0.25),
        ("100", "0.5", None, 0.5),
        ("BUY", None, None, 1.0),
        ("short", None, None, -1.0),
        (" Sell ", "0.75", None, -0.75),
        ("LONG", "0.75", None, 0.75),
        ("LONG", "-0.75", None, -0.75),
        ("-1", "0.75", None, -0.75),
        ("-40", "0.75", None, 0.75),
        (None, "0.75", "SELL", -0.75),
        (None, None, "SELL", -1.0),
        ("3", None, "SELL", -3.0),
        ("flat", None, None, 0.0),
        ("nan", None, None, 0.0),
        ("0", None, None, 0.0),
        ("inf", None, None, None),
        ("crossing", None, None, None),
        ("true", None, None, 1.0),
        (None, None, None, None),
    ],
)
def test_a_strength_is_signed_whatever_the_host_calls_it(
    value: str | None, strength: str | None, side: str | None, expected: float | None
) -> None:
    assert strength_of(value, strength, side) == expected


@given(st.lists(st.sampled_from([0.0, 0.1, -0.1, 1, 2, -2, 3.5, 7, 9, 11, 13]) | st.floats(-5, 5)))
@settings(derandomize=True, deadline=None)
def test_buckets_hold_equal_strengths_together_and_the_weakest_first(values: list[float]) -> None:
    numbers = bucket_numbers(values)
    pairs = sorted((abs(value), number) for value, number in zip(values, numbers, strict=True))
    assert [number for _, number in pairs] == sorted(numbers)
    assert set(numbers) == set(range(1, max(numbers, default=0) + 1))
    assert len(set(numbers)) <= BUCKETS
    by_size = defaultdict(set)
    for size, number in pairs:
        by_size[size].add(number)
    assert all(len(its) == 1 for its in by_size.values())
    if len(by_size) <= BUCKETS:
        assert len(set(numbers)) == len(by_size)


def test_buckets_of_different_strengths_are_of_one_size() -> None:
    numbers = bucket_numbers([*range(100)])
    assert np.bincount(numbers).tolist() == [0, *[20] * 5]
    assert set(bucket_numbers([0.5, -0.5, 0.5])) == {1}


@pytest.mark.parametrize(("hits", "of"), [(0, 1), (1, 1), (3, 10), (57, 100), (0, 0)])
def test_hit_rates_have_wilsons_interval(hits: int, of: int) -> None:
    rate, low, high = hit_rate(hits, of)
    if not of:
        assert (rate, low, high) == (None, None, None)
        return
    z = stats.norm.ppf(0.975)
    middle = (hits / of + z**2 / (2 * of)) / (1 + z**2 / of)
    reach = z / (1 + z**2 / of) * math.sqrt(hits / of * (1 - hits / of) / of + (z / (2 * of)) ** 2)
    assert rate == hits / of
    assert low == pytest.approx(middle - reach, abs=1e-12)
    assert high == pytest.approx(middle + reach, abs=1e-12)


# -- What came of it -------------------------------------------------------------------------------


class Expected:
    """Signals with the reason that they are to have."""

    def __init__(self) -> None:
        self.spans = MadeSpans()
        self.reasons: dict[int, str] = {}
        self.spans.bar("100")

    def signal(self, reason: str, value: object = 1, **columns: Any) -> Row:
        row = signal(self.spans, value, **columns)
        self.reasons[row["sequence"]] = reason
        return row

    def check(self) -> list[Row]:
        rows = tables_of(self.spans)["signals"]
        assert {row["sequence"]: row["reason"] for row in rows} == self.reasons
        return rows


def test_signals_without_an_order_are_told_apart_by_what_was_held() -> None:
    run = Expected()
    run.signal("flat", 0)
    run.signal("flat", "FLAT")
    run.signal("flat", 0, symbol=None)
    run.signal("no order")
    run.signal("no order", "whatever")
    entry = run.signal("filled")
    sent = order(run.spans, entry, "O-1", "SUBMITTED")
    fill(run.spans, sent, "O-1", "BUY", 10, "100")
    run.signal("already positioned")
    run.signal("no order", -1)
    run.signal("no order", 0)
    run.signal("no order", 0, symbol=None)
    run.signal("no order", 1, strategy="Other")
    run.signal("no order", 1, symbol="INIT")
    run.signal("already positioned", 1, strategy=None)
    leave = run.signal("filled", -1)
    sent = order(run.spans, leave, "O-2", "SUBMITTED", side="SELL", quantity="10")
    fill(run.spans, sent, "O-2", "SELL", 10, "90")
    run.signal("flat", 0)
    short = run.signal("filled", -1)
    sent = order(run.spans, short, "O-3", "SUBMITTED", side="SELL", quantity="5")
    fill(run.spans, sent, "O-3", "SELL", 5, "90")
    run.signal("already positioned", "SELL")
    run.signal("no order")
    rows = run.check()
    # Ten at 100 sold at 90 belong to their entry, and a short of five at 90 is open at 100.
    profits = {row["sequence"]: row["pnl"] for row in rows if row["pnl"] is not None}
    assert profits == {entry["sequence"]: Decimal(-100), short["sequence"]: Decimal(-50)}


def test_signals_with_orders_are_told_apart_by_how_these_ended() -> None:
    run = Expected()
    spans = run.spans
    entry = run.signal("filled")
    sent = order(spans, entry, "O-1", "INITIALIZED", "SUBMITTED", "ACCEPTED")
    fill(spans, sent, "O-1", "BUY", 4, "100")
    fill(spans, sent, "O-1", "BUY", 6, "100")
    order(spans, entry, "O-2", "SUBMITTED", "ACCEPTED", "CANCELED", side="SELL")
    part = run.signal("partly filled")
    sent = order(spans, part, "O-3", "SUBMITTED")
    fill(spans, sent, "O-3", "BUY", 3, "101")
    order(spans, sent, "O-3", "CANCELED")
    order(spans, run.signal("working"), "O-4", "SUBMITTED", "ACCEPTED")
    order(spans, run.signal("working"), "O-4a", "INITIALIZED")
    order(spans, run.signal("cancelled"), "O-5", "SUBMITTED", "CANCELED")
    order(spans, run.signal("expired"), "O-6", "ACCEPTED", "EXPIRED")
    order(spans, run.signal("rejected by venue"), "O-7", "SUBMITTED", "REJECTED")
    denied = run.signal("rejected by risk")
    order(spans, denied, "O-8", "INITIALIZED", "DENIED")
    limit = spans.add(EventType.RISK_BREACH, **caused(run.signal("rejected by risk"), **TREND))
    order(spans, limit, "O-9", "REJECTED")
    spans.add(EventType.RISK_BREACH, **caused(run.signal("rejected by risk"), **TREND))
    bracket = run.signal("rejected by risk")
    order(spans, bracket, "O-10", "INITIALIZED", "DENIED")
    order(spans, bracket, "O-11", "INITIALIZED", side="SELL")
    outcomes = {row["sequence"]: row["outcome"] for row in run.check()}
    told = {"flat", "no order", "already positioned"}
    assert set(run.reasons.values()) == set(REASONS) - told
    assert {n for n, outcome in outcomes.items() if outcome == "denied"} == {denied["sequence"]}
    assert list(outcomes.values()).count("no_order") == 1


def test_an_order_belongs_to_the_signals_above_it_and_to_those_it_is_linked_to() -> None:
    spans = MadeSpans()
    first = signal(spans, 0.5)
    second = signal(spans, 1, **caused(first))
    aside = signal(spans, 0.25)
    sent = order(spans, second, "O-1", "SUBMITTED")
    fill(spans, sent, "O-1", "BUY", 10, "100")
    spans.bar("101")
    with spans.connect() as connection:
        link = f'[{{"trace_id": "{aside["trace_id"]}", "span_id": "{aside["span_id"]}"}}]'
        connection.execute(
            "CREATE TABLE linked AS SELECT * REPLACE ("
            f"CASE event_type WHEN 'ORDER' THEN CAST('{link}' AS JSON) ELSE links END AS links) "
            "FROM spans"
        )
        connection.execute("CREATE OR REPLACE VIEW spans AS SELECT * FROM linked")
        table = compute_results(connection, RUN).tables["signals"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["reason"] for row in rows] == ["filled"] * 3
    assert [row["pnl"] for row in rows] == [None, Decimal(10), None]


# -- Against a brute-force reckoning ---------------------------------------------------------------


def seeded_market(seed: int) -> MadeSpans:
    """Signals of random strength, some of which are traded for a while, at random prices."""
    random = np.random.default_rng(seed)
    spans = MadeSpans()
    price = 100.0
    waiting: list[tuple[int, str, str]] = []
    for number in range(220):
        price = round(price * math.exp(random.normal(0, 0.01)), 2)
        spans.bar(f"{price:.2f}")
        for due, side, name in [one for one in waiting if one[0] <= number]:
            waiting.remove((due, side, name))
            away = "SELL" if side == "BUY" else "BUY"
            given: Row = {"client_order_id": f"X-{name}", "position_id": name}
            spans.fill(away, 10, f"{price:.2f}", commission="1.25", **given)
        if random.random() < 0.6:
            strength = round(float(random.normal()), 2)
            one = signal(spans, strength)
            if random.random() < 0.5:
                side, name = ("BUY" if strength > 0 else "SELL"), f"P-{number}"
                sent = order(spans, one, name, "SUBMITTED", side=side)
                given = caused(sent, client_order_id=name, position_id=name)
                spans.fill(side, 10, f"{price:.2f}", commission="0.75", **given)
                waiting.append((number + int(random.integers(1, 30)), side, name))
    return spans


def profits_of(spans: MadeSpans) -> tuple[dict[str, Decimal], set[str]]:
    """Reckon by cash what each position came to, and which ones were closed."""
    last = next(row["price"] for row in reversed(spans.rows) if row["event_type"] == "BAR")
    profit: dict[str, Decimal] = defaultdict(Decimal)
    held: dict[str, Decimal] = defaultdict(Decimal)
    for row in spans.rows:
        if row["event_type"] == EventType.FILL:
            signed = (1 if row["side"] == "BUY" else -1) * Decimal(row["quantity"])
            profit[row["position_id"]] -= signed * Decimal(row["price"]) + Decimal(
                row["commission"]
            )
            held[row["position_id"]] += signed
    for name, quantity in held.items():
        profit[name] += quantity * Decimal(last)
    return profit, {name for name, quantity in held.items() if not quantity}


def truths_of(spans: MadeSpans) -> list[dict[Any, Any]]:
    """Go through the events for each signal: its strength, its position, what prices did then."""
    closes = [(r["sequence"], float(r["price"])) for r in spans.rows if r["event_type"] == "BAR"]
    orders = {r["parent_span_id"]: r for r in spans.rows if r["event_type"] == EventType.ORDER}
    truths = []
    for row in spans.rows:
        if row["event_type"] == EventType.SIGNAL:
            seen = [price for sequence, price in closes if sequence < row["sequence"]]
            ahead = [price for sequence, price in closes if sequence > row["sequence"]]
            future: dict[Any, Any] = {
                h: ahead[h - 1] / seen[-1] - 1 for h in HORIZONS if len(ahead) >= h
            }
            truths.append(
                {
                    "strength": row["attributes"][Signal.VALUE],
                    "trade": orders.get(row["span_id"], {}).get("client_order_id"),
                    "trace_id": row["trace_id"],
                    **future,
                }
            )
    return truths


@pytest.mark.parametrize("seed", range(2))
def test_signals_and_strengths_equal_a_reckoning_from_the_events(seed: int) -> None:
    spans = seeded_market(seed)
    tables = tables_of(spans)
    profit, closed = profits_of(spans)
    truths = truths_of(spans)
    for row, truth in zip(tables["signals"], truths, strict=True):
        assert row["strength"] == truth["strength"]
        returns = {h: truth[h] for h in HORIZONS if h in truth}
        assert {int(h): r for h, r in row["returns"].items()} == pytest.approx(returns, abs=1e-12)
        assert row["pnl"] == (profit[truth["trade"]] if truth["trade"] else None)
        assert row["reason"] in {"filled", "no order", "already positioned"}
        assert (row["reason"] == "filled") == bool(truth["trade"])

    rows = tables["signal_strength"]
    assert len(rows) == BUCKETS
    assert sum(row["signals"] for row in rows) == len(truths)
    assert max(row["signals"] for row in rows) < len(truths) / 4
    for row in rows:
        inside = [one for one in truths if row["low"] <= abs(one["strength"]) <= row["high"]]
        traded = [one for one in inside if one["trade"]]
        done = [one["trade"] for one in traded if one["trade"] in closed]
        hits = sum(profit[name] > 0 for name in done)
        assert (row["signals"], row["traded"], row["hits"]) == (len(inside), len(done), hits)
        assert row["pnl"] == sum((profit[one["trade"]] for one in traded), Decimal())
        assert row["currency"] == "USD"
        largest = max(traded, key=lambda one: abs(profit[one["trade"]]))
        assert row["trace_id"] == largest["trace_id"]


@pytest.mark.parametrize("seed", range(2))
def test_decay_equals_a_reckoning_by_pandas(seed: int) -> None:
    spans = seeded_market(seed)
    truths = pd.DataFrame(truths_of(spans))
    rows = tables_of(spans)["signal_decay"]
    assert [row["horizon"] for row in rows] == list(HORIZONS)
    for row in rows:
        known = truths[["strength", row["horizon"]]].dropna()
        strength, future = known.strength, known[row["horizon"]]
        assert row["signals"] == len(known)
        assert row["information_coefficient"] == pytest.approx(
            strength.corr(future, method="spearman"), abs=1e-12
        )
        aimed = known[strength != 0]
        right = np.sign(aimed.strength) == np.sign(aimed[row["horizon"]])
        assert row["hit_rate"] == pytest.approx(right.mean())
        mean = (np.sign(aimed.strength) * aimed[row["horizon"]]).mean()
        assert row["mean_return"] == pytest.approx(mean)
        if row["low"] is not None:
            assert row["low"] < row["information_coefficient"] < row["high"]


def test_without_scipy_signals_are_told_and_their_statistics_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "scipy" else found(name)
    )
    tables = tables_of(seeded_market(1))
    assert tables["signals"]
    assert tables["signal_strength"] == tables["signal_decay"] == []


# -- Information coefficient -----------------------------------------------------------------------


def decay_of(
    strengths: Any, prices: Any, places: Any = None, horizon: int | None = None
) -> dict[int, Decay]:
    places = np.arange(len(strengths)) if places is None else np.asarray(places)
    forecasts = Forecasts(np.asarray(strengths, dtype=float), places, np.asarray(prices))
    rows = {row.horizon: row for row in decay_rows([forecasts])}
    return rows if horizon is None else {horizon: rows[horizon]}


def random_walk(length: int, seed: int) -> Any:
    return np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, length)))


def test_strengths_that_are_the_next_returns_foretell_them_perfectly_and_no_longer() -> None:
    prices = random_walk(400, 1)
    strengths = prices[1:] / prices[:-1] - 1
    rows = decay_of(strengths[:-60], prices)
    first = rows[1]
    assert first.information_coefficient == pytest.approx(1)
    assert (first.hit_rate, first.signals) == (1, 339)
    assert first.low is not None
    assert first.low > 0.999
    assert first.p_value is not None
    assert first.p_value < 1e-9
    coefficients = [rows[h].information_coefficient or 0 for h in HORIZONS]
    assert coefficients[0] > coefficients[1] > coefficients[2] > max(coefficients[3:])
    assert coefficients[1] == pytest.approx(0.69, abs=0.08)  # 6/π · asin(1/(2√2))
    opposite = decay_of(-strengths[:-60], prices)[1]
    assert opposite.information_coefficient == pytest.approx(-1)
    assert opposite.hit_rate == 0


def test_the_interval_is_bonett_and_wrights_where_nothing_overlaps() -> None:
    prices = random_walk(201, 2)
    strengths = np.random.default_rng(3).normal(size=200) + 20 * np.diff(np.log(prices))
    row = decay_of(strengths, prices)[1]
    coefficient = stats.spearmanr(strengths, prices[1:] / prices[:-1]).statistic
    reach = 1.959963984540054 * math.sqrt((1 + coefficient**2 / 2) / (200 - 3))
    assert row.information_coefficient == pytest.approx(coefficient)
    assert row.low == pytest.approx(math.tanh(math.atanh(coefficient) - reach))
    assert row.high == pytest.approx(math.tanh(math.atanh(coefficient) + reach))
    z = math.atanh(coefficient) * math.sqrt(200 - 3)
    assert row.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 60)), min_size=10, max_size=30),
    st.integers(1, 20),
    st.integers(0, 9),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_overlaps_are_counted_as_a_sum_over_all_pairs_would(
    signals: list[tuple[float, int]], horizon: int, division: int
) -> None:
    ranks = stats.rankdata([strength for strength, _ in signals])
    if ranks.std() == 0:
        return
    parts = [signals[:division], signals[division:]]
    places = [np.sort(np.array([place for _, place in part], dtype=np.int64)) for part in parts]
    u = (ranks - ranks.mean()) / ranks.std()
    owner = [0] * division + [1] * (len(signals) - division)
    at = np.concatenate(places)
    shared = sum(
        u[i] * u[j] * max(0.0, 1 - abs(int(at[i]) - int(at[j])) / horizon)
        for i in range(len(u))
        for j in range(len(u))
        if owner[i] == owner[j]
    )
    expected = len(u) / max(1.0, shared / len(u))
    assert independent_signals(ranks, places, horizon) == pytest.approx(expected)


def test_repeated_signals_are_as_certain_as_there_are_independent_ones() -> None:
    prices = random_walk(1000, 4)
    slow = np.repeat(np.random.default_rng(5).normal(size=25), 40)[:950]
    quick = np.random.default_rng(5).normal(size=950)
    widths = {}
    for name, strengths in (("slow", slow), ("quick", quick)):
        row = decay_of(strengths, prices)[20]
        assert row.low is not None
        assert row.high is not None
        widths[name] = row.high - row.low
    assert widths["slow"] > 3 * widths["quick"]


@pytest.mark.parametrize(
    ("strengths", "prices"),
    [
        ([0.5] * 50, random_walk(120, 1)),
        (np.random.default_rng(1).normal(size=50), np.ones(120)),
        (np.random.default_rng(1).normal(size=9), random_walk(120, 1)),
        ([float("nan")] * 50, random_walk(120, 1)),
        ([], random_walk(120, 1)),
    ],
)
def test_too_few_or_constant_signals_have_no_coefficient(strengths: Any, prices: Any) -> None:
    for row in decay_of(strengths, prices).values():
        assert row.information_coefficient is row.low is row.high is row.p_value is None


def test_signals_within_few_windows_have_a_coefficient_without_an_interval() -> None:
    rows = decay_of(np.random.default_rng(1).normal(size=60), random_walk(120, 1))
    assert rows[10].low is not None
    assert rows[50].information_coefficient is not None
    assert rows[50].low is rows[50].p_value is None


def test_returns_begin_at_the_price_in_force_and_end_so_many_prices_later() -> None:
    prices = np.array([100.0, 110.0, 99.0, 0.0, 50.0])
    places = np.array([-1, 0, 1, 2, 3, 4])
    one = forward_returns(prices, places, 1)
    assert one[1:3].tolist() == pytest.approx([0.1, -0.1])
    assert np.isnan(one[[0, 3, 4, 5]]).all()
    assert forward_returns(prices, places, 2)[1] == pytest.approx(-0.01)


@pytest.mark.full
@pytest.mark.parametrize(
    ("count", "horizon", "memory"),
    [(100, 1, 0.0), (100, 20, 0.0), (300, 20, 0.9), (400, 50, 0.95), (60, 5, 0.5)],
)
def test_intervals_of_noise_hold_zero_at_about_their_nominal_rate(
    count: int, horizon: int, memory: float
) -> None:
    random = np.random.default_rng(17)
    held = 0
    for _ in range(500):
        prices = np.exp(np.cumsum(random.normal(0, 0.01, count + 51)))
        noise = random.normal(size=count) * math.sqrt(1 - memory**2)
        strengths = np.empty(count)
        last = random.normal()
        for place, shock in enumerate(noise):
            last = strengths[place] = memory * last + shock
        row = decay_of(strengths, prices, horizon=horizon)[horizon]
        assert row.low is not None
        assert row.high is not None
        held += row.low <= 0 <= row.high
    assert 0.93 <= held / 500 <= 0.985


def test_signals_without_an_instrument_or_prices_still_have_a_row() -> None:
    spans = MadeSpans()
    signal(spans, 1, symbol=None)
    signal(spans, 1, symbol="NEVER")
    signal(spans, "odd", symbol="ACME", event_time=5 * SECOND)
    spans.bar("100")
    tables = tables_of(spans)
    assert [row["price"] for row in tables["signals"]] == [None] * 3
    assert [row["returns"] for row in tables["signals"]] == [{}] * 3
    assert [row["signals"] for row in tables["signal_strength"]] == [2]
    assert {row["signals"] for row in tables["signal_decay"]} == {0}
