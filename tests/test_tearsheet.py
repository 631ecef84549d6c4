"""The figures of a tearsheet: each reckoned two ways, and what is undefined is said to be so."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fillpath.analytics import cli, tearsheet
from fillpath.analytics.daily_returns import (
    DatedAmount,
    Series,
    capital_of,
    daily_series,
    daily_sums,
    read_transfers,
    with_currencies,
)
from fillpath.analytics.drawdowns import deepest_fall, drawdowns, underwater
from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.figure_definitions import BY_NAME, FIGURES, why_undefined
from fillpath.analytics.figure_meaning import MINIMUM_DAYS
from fillpath.analytics.figure_text import figure_text
from fillpath.analytics.market_time import DAY, MarketTime, periods_per_year
from fillpath.analytics.results_rows import RunResults, compute_results
from fillpath.analytics.return_statistics import (
    day_figures,
    monthly_returns,
    return_statistics,
    win_rate_interval,
)
from fillpath.analytics.run_lookup import RUN_COLUMNS
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.trade_statistics import TradeResult, exposure, trade_figures
from fillpath.instrumentation.semconv import CashFlow, EventType

sys.path.append(str(Path(__file__).parent))

from figures_by_hand import Figures, by_hand
from made_spans import RUN, MadeSpans
from recorded_market import HOSTILE, record_market

D = Decimal
ROOT = Path(__file__).parents[1]
MONDAY = 19_723  # 2024-01-01, in days since 1970
DERANDOMISED = settings(derandomize=True, deadline=None, max_examples=60)


def dates(count: int, first: int = MONDAY) -> list[dt.date]:
    """So many weekdays."""
    days = (dt.date(1970, 1, 1) + dt.timedelta(first + place) for place in range(count * 2))
    return [day for day in days if day.weekday() < 5][:count]


def returns_of(count: int, seed: int = 1) -> list[float]:
    return list(np.random.default_rng(seed).normal(0.0008, 0.012, count))


a_return = some.floats(-0.2, 0.25).map(lambda value: round(value, 4))


# -- Returns, by empyrical and by hand -------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(("count", "periods", "seed"), [(20, 252, 1), (260, 365, 2), (777, 52, 3)])
def test_figures_of_returns_are_what_their_definitions_say(
    count: int, periods: int, seed: int
) -> None:
    returns = returns_of(count, seed)
    assert return_statistics(returns, periods) == pytest.approx(by_hand(returns, periods), rel=1e-6)


def test_every_statistical_figure_has_two_ways() -> None:
    statistical = {one.name for one in FIGURES if one.statistical}
    assert set(by_hand(returns_of(30), 252)) == statistical - {"win_rate_low", "win_rate_high"}


@DERANDOMISED
@given(some.lists(a_return, min_size=MINIMUM_DAYS, max_size=60))
def test_figures_of_returns_do_not_depend_on_the_money(returns: list[float]) -> None:
    """A thousand times the money makes the same returns."""

    def of(scale: int) -> Figures:
        equity, days = D(100_000 * scale), {}
        for place, one in enumerate(returns):
            days[MONDAY + place] = equity * D(str(one))
            equity += days[MONDAY + place]
        with exact_arithmetic():
            starts = {("book", "USD"): D(100_000 * scale)}
            series = daily_series({("book", "USD"): days}, {}, starts, MarketTime())[1]
        return return_statistics(series.returns, 252)

    small, large = of(1), of(1000)
    for name, value in small.items():
        assert large[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9))


@DERANDOMISED
@given(some.lists(some.floats(-3, 3) | some.sampled_from([0.0, -1.0, 1.0]), max_size=40))
def test_no_returns_make_a_figure_that_is_no_number(returns: list[float]) -> None:
    for value in return_statistics(returns, 252).values():
        assert value is None or math.isfinite(value)


def test_a_year_takes_days_enough() -> None:
    few = return_statistics(returns_of(MINIMUM_DAYS - 1), 252)
    assert {few[name] for name in ("cagr", "sharpe", "sharpe_error", "sortino", "calmar")} == {None}
    assert few["total_return"] is not None
    assert few["max_drawdown"] is not None
    figures = few | {"days": MINIMUM_DAYS - 1, "trades": 0}
    assert why_undefined("sharpe", figures) == "19 days with a return are too few, it takes 20"


def test_a_run_without_a_loss_has_no_ratio_to_losses() -> None:
    figures = return_statistics([0.01, 0.02] * 15, 252) | {"days": 30}
    assert figures["sortino"] is figures["calmar"] is figures["omega"] is None
    assert why_undefined("calmar", figures) == "there was no drawdown"
    assert figures["sharpe"] is not None


def test_a_run_that_never_moved_has_no_sharpe_ratio() -> None:
    figures = return_statistics([0.0] * 30, 252)
    assert figures["sharpe"] is figures["skew"] is figures["sharpe_error"] is None
    assert figures["total_return"] == figures["max_drawdown"] == figures["annual_volatility"] == 0


def test_months_are_compounded_as_empyrical_does() -> None:
    import empyrical
    import pandas as pd

    days, returns = dates(300), returns_of(300)
    series = pd.Series(returns, index=pd.DatetimeIndex(days))
    theirs = empyrical.aggregate_returns(series, "monthly")
    ours = monthly_returns(days, returns)
    assert list(ours) == list(theirs.index)
    assert list(ours.values()) == pytest.approx(list(theirs))
    figures = day_figures(days, returns)
    assert figures["best_month"] == pytest.approx(theirs.max())
    assert figures["worst_month"] == pytest.approx(theirs.min())
    assert (figures["best_day"], figures["worst_day"]) == (max(returns), min(returns))
    assert figures["positive_days"] == pytest.approx((series > 0).mean())


# -- Drawdowns -------------------------------------------------------------------------------------


@DERANDOMISED
@given(some.lists(a_return, min_size=1, max_size=40))
def test_drawdowns_are_those_of_brute_force(returns: list[float]) -> None:
    days = dates(len(returns))
    path = [1.0]
    for one in returns:
        path.append(path[-1] * (1 + one))
    below = [path[place] / max(path[: place + 1]) - 1 for place in range(1, len(path))]
    below = [depth if depth < -1e-12 else 0.0 for depth in below]
    assert underwater(returns) == pytest.approx(below)
    found = drawdowns(days, returns)
    covered: set[int] = set()
    for fall in found:
        trough = days.index(fall.trough)
        end = days.index(fall.last)
        start = next(p for p in range(trough, -2, -1) if p == -1 or below[p] == 0)
        inside = range(start + 1, end + (fall.recovered is None))
        assert fall.depth == pytest.approx(min(below[place] for place in inside))
        assert fall.depth == pytest.approx(below[trough])
        assert fall.peak == days[max(start, 0)]
        assert all(below[place] < 0 for place in inside)
        assert fall.recovered is None or below[end] == 0
        covered.update(inside)
    assert covered == {place for place, depth in enumerate(below) if depth < 0}
    assert [fall.depth for fall in found] == sorted(fall.depth for fall in found)


def test_a_drawdown_has_its_dates() -> None:
    days = dates(7)  # Monday the 1st to Tuesday the 9th
    first, second = drawdowns(days, [0.10, -0.20, 0.05, 0.30, -0.01, 0.0, 0.001])
    assert first.depth == pytest.approx(-0.2)
    assert [d.day for d in (first.peak, first.trough, first.last)] == [1, 2, 4]
    assert (first.days, first.recovery_days) == (3, 2)
    assert second.recovered is None
    assert [d.day for d in (second.peak, second.trough, second.last)] == [4, 5, 9]
    assert (second.days, second.recovery_days) == (5, None)


@DERANDOMISED
@given(some.lists(some.decimals(-1000, 1000, places=2), max_size=30))
def test_the_deepest_fall_in_money_is_that_of_brute_force(amounts: list[Decimal]) -> None:
    path = [sum(amounts[:place], D(0)) for place in range(len(amounts) + 1)]
    deepest = min(later - one for place, one in enumerate(path) for later in path[place:])
    assert deepest_fall(amounts) == deepest


# -- Days ------------------------------------------------------------------------------------------


def an_amount(day: float | None, amount: str, portfolio: str = "book") -> DatedAmount:
    time = None if day is None else int((MONDAY + day) * DAY)
    return DatedAmount(portfolio, "USD", time, D(amount))


def series_of(
    *amounts: DatedAmount,
    start: str | None = "1000",
    transfers: Sequence[DatedAmount] = (),
    market: Sequence[int] = (),
    capital: Decimal | None = None,
) -> Series:
    starts = {} if start is None else {("book", "USD"): D(start)}
    days = MarketTime({"book": [MONDAY + day for day in market]})
    with exact_arithmetic():
        found = daily_series(daily_sums(amounts), daily_sums(transfers), starts, days, capital)
    assert found[0].days == found[1].days  # one portfolio is all of the run
    return found[1]


def test_equity_is_carried_forward_on_days_of_the_market_only() -> None:
    series = series_of(an_amount(0.5, "100"), an_amount(7.2, "-11"), market=[0, 1, 2, 3, 4, 7])
    assert [(day.day.day, day.equity) for day in series.days] == [
        (1, D(1100)),
        (2, D(1100)),
        (3, D(1100)),
        (4, D(1100)),
        (5, D(1100)),
        (8, D(1089)),
    ]
    assert series.returns == [0.1, 0, 0, 0, 0, -0.01]


def test_a_deposit_is_no_return() -> None:
    moved = [an_amount(1, "1000"), an_amount(2, "-500")]
    series = series_of(an_amount(0, "0"), an_amount(1, "100"), an_amount(2, "80"), transfers=moved)
    assert series.returns == [0, 100 / 2000, 80 / 1600]
    assert [day.equity for day in series.days] == [D(1000), D(2100), D(1680)]


def test_an_account_that_is_empty_at_first_has_returns_from_its_deposit_on() -> None:
    series = series_of(
        an_amount(0, "0"), an_amount(2, "5"), start="0", transfers=[an_amount(1, "100")]
    )
    assert [day.ratio for day in series.days] == [None, 0, 0.05]
    assert series.return_days == [dt.date(2024, 1, 2), dt.date(2024, 1, 3)]


def test_a_ruin_is_a_return_and_nothing_follows_it() -> None:
    series = series_of(*(an_amount(day, a) for day, a in enumerate(["10", "-1200", "500", "900"])))
    assert [day.ratio for day in series.days] == [0.01, -1200 / 1010, None, None]
    figures = return_statistics(series.returns * 15, 252)
    assert figures["cagr"] is None
    assert return_statistics(series.returns, 252)["max_drawdown"] == pytest.approx(-1200 / 1010)


def test_without_a_start_balance_there_is_profit_and_no_return() -> None:
    series = series_of(an_amount(0, "10"), an_amount(1, "-4"), start=None)
    assert [(day.equity, day.pnl, day.ratio) for day in series.days] == [
        (None, D(10), None),
        (None, D(-4), None),
    ]


@pytest.mark.parametrize(
    ("parameters", "capital"),
    [
        ({"initial_cash": 50_000}, D(50_000)),
        ({"Starting_Balance": "100_000.50"}, D("100000.50")),
        ({"capital": 1e6, "fast": 10}, D(1_000_000)),
        ({"capital": "1,000,000"}, D(1_000_000)),
        ({"initial_cash": -5, "capital": 7}, D(7)),
        ({"capital": "much"}, None),
        ({"capital": True}, None),
        ({"capital": "NaN"}, None),
        ({"capital": ["100"]}, None),
        ({}, None),
    ],
)
def test_parameters_name_the_capital(parameters: dict[str, Any], capital: Decimal | None) -> None:
    assert capital_of(parameters) == capital


def test_capital_from_parameters_stands_in_for_a_statement() -> None:
    series = series_of(an_amount(0, "10"), an_amount(1, "-4"), start=None, capital=D(100))
    assert series.returns == [0.1, -4 / 110]


def test_an_amount_without_a_time_belongs_to_the_day_before_it() -> None:
    amounts = [an_amount(None, "1"), an_amount(3, "2"), an_amount(None, "4"), an_amount(5, "8")]
    assert daily_sums(amounts) == {("book", "USD"): {MONDAY + 3: D(7), MONDAY + 5: D(8)}}
    assert daily_sums([an_amount(None, "1")]) == {}


some_amounts = some.lists(
    some.builds(
        an_amount,
        some.none() | some.floats(0, 30),
        some.decimals(-500, 500, places=3).map(str),
        some.sampled_from(["book", "desk", "fund/x"]),
    ),
    min_size=1,
    max_size=30,
).filter(lambda amounts: any(one.event_time is not None for one in amounts))


@DERANDOMISED
@given(some_amounts, some_amounts)
def test_days_add_up_to_the_total_exactly(
    amounts: list[DatedAmount], transfers: list[DatedAmount]
) -> None:
    starts = {(name, "USD"): D(10**6) for name in ("book", "desk", "fund/x")}
    with exact_arithmetic():
        found = daily_series(daily_sums(amounts), daily_sums(transfers), starts, MarketTime())
        for series in found:
            own = [a for a in amounts if series.portfolio in {"", a.portfolio}]
            moved = [a for a in transfers if series.portfolio in {"", a.portfolio}]
            assert sum((day.pnl for day in series.days), D(0)) == sum((a.amount for a in own), D(0))
            if series.days:
                end = series.start + sum(a.amount for a in own + moved)  # type: ignore[operator]
                assert series.days[-1].equity == end
        whole, parts = found[0], found[1:]
        assert whole.portfolio == ""
        assert whole.start == sum((part.start or D(0) for part in parts), D(0))


def test_the_whole_run_has_currencies_that_every_portfolio_has() -> None:
    pnl = {(p, c): {MONDAY: D(1)} for p, c in [("a", "USD"), ("a", "EUR"), ("b", "USD")]}
    found = daily_series(pnl, {}, {("a", "USD"): D(5), ("b", "USD"): D(6)}, MarketTime())
    assert [(one.portfolio, one.currency, one.start) for one in found] == [
        ("", "USD", D(11)),
        ("a", "EUR", None),
        ("a", "USD", D(5)),
        ("b", "USD", D(6)),
    ]


@pytest.mark.parametrize(
    ("week", "gap", "periods"),
    [
        ([0, 1, 2, 3, 4], 7, 252),
        ([0, 1, 2, 3, 4, 6], 7, 312),
        ([0, 1, 2, 3, 4, 5, 6], 7, 365),
        ([2], 7, 52),
        ([0], 30, 12),
        ([0], 91, 4),
        ([0], 365, 1),
    ],
)
def test_the_days_themselves_tell_how_many_make_a_year(
    week: list[int], gap: int, periods: int
) -> None:
    first = dt.date(2024, 1, 1)
    days = [first + dt.timedelta(gap * number + day) for number in range(30) for day in week]
    assert periods_per_year(days) == periods
    assert periods_per_year(days[:1]) is None


# -- Trades ----------------------------------------------------------------------------------------


def a_trade(net: str, entry: int | None = 0, leave: int | None = 1, **more: Any) -> TradeResult:
    return TradeResult("book", "USD", leave is None, D(net), entry, leave, **more)


def test_figures_of_trades_are_those_of_a_small_example() -> None:
    hour = 3600 * 10**9
    nets = ["100", "50", "-30", "0", "-20", "-40", "90"]
    trades = [a_trade(net, 0, (place + 1) * hour) for place, net in enumerate(nets)]
    trades += [a_trade("1000", 3 * hour, None)]  # open
    figures = trade_figures(trades)
    assert {name: value for name, value in figures.items() if value is not None} == {
        "trades": 7,
        "win_rate": 3 / 7,
        "profit_factor": 240 / 90,
        "expectancy": pytest.approx(150 / 7),
        "average_win": 80,
        "average_loss": -30,
        "payoff_ratio": pytest.approx(80 / 30),
        "largest_win": 100,
        "largest_loss": -40,
        "longest_winning_streak": 2,
        "longest_losing_streak": 2,
        "mean_holding_time": 4 * 3600,
        "median_holding_time": 4 * 3600,
    }


@DERANDOMISED
@given(some.lists(some.decimals(-50, 50, places=1), min_size=1, max_size=40), some.randoms())
def test_figures_of_trades_are_those_of_plain_loops(nets: list[Decimal], chance: Any) -> None:
    trades = [a_trade(str(net), 0, place + 1) for place, net in enumerate(nets)]
    shuffled = list(trades)
    chance.shuffle(shuffled)
    figures = trade_figures(shuffled)
    values = [float(net) for net in nets]
    wins, losses = [v for v in values if v > 0], [v for v in values if v < 0]
    rows = {"win": 0, "loss": 0}
    longest = dict(rows)
    for value in values:
        rows = {
            "win": rows["win"] + 1 if value > 0 else 0,
            "loss": rows["loss"] + 1 if value < 0 else 0,
        }
        longest = {name: max(longest[name], rows[name]) for name in rows}
    assert figures["longest_winning_streak"] == longest["win"]
    assert figures["longest_losing_streak"] == longest["loss"]
    assert figures["win_rate"] == len(wins) / len(values)
    assert figures["expectancy"] == pytest.approx(np.mean(values), abs=1e-9)
    expected = sum(wins) / -sum(losses) if losses else None
    assert figures["profit_factor"] == (None if expected is None else pytest.approx(expected))
    assert figures["largest_win"] == (max(wins) if wins else None)
    assert figures["average_loss"] == (pytest.approx(np.mean(losses)) if losses else None)


def test_excursions_are_averaged_over_the_trades_that_have_them() -> None:
    trades = [
        a_trade("1", favourable_excursion=D(10), adverse_excursion=D(-4)),
        a_trade("2", favourable_excursion=D(20), adverse_excursion=D(0)),
        a_trade("3"),
    ]
    figures = trade_figures(trades)
    assert figures["average_favourable_excursion"] == 15
    assert figures["average_adverse_excursion"] == -2


@DERANDOMISED
@given(
    some.lists(some.tuples(some.integers(0, 40), some.none() | some.integers(0, 20)), max_size=8)
)
def test_exposure_is_that_of_counted_moments(spells: list[tuple[int, int | None]]) -> None:
    trades = [a_trade("1", entry, None if n is None else entry + n) for entry, n in spells]
    end = max([50, *(t.exit_time or 0 for t in trades)])
    open_at = [
        any(
            (t.entry_time or 0) <= moment < (t.exit_time if t.exit_time is not None else end)
            for t in trades
        )
        for moment in range(end)
    ]
    assert exposure(trades, (0, 50)) == pytest.approx(sum(open_at) / end)


def test_exposure_takes_time() -> None:
    assert exposure([], None) is None
    assert exposure([a_trade("1", 5, 5)], (5, 5)) is None
    assert exposure([a_trade("1", None, None)], (0, 10)) == 0


def test_the_interval_of_the_win_rate_is_wilsons() -> None:
    wins, trades, z = 14, 37, 1.959963984540054
    share = wins / trades
    middle = (share + z**2 / (2 * trades)) / (1 + z**2 / trades)
    half = z * math.sqrt(share * (1 - share) / trades + z**2 / (4 * trades**2))
    half /= 1 + z**2 / trades
    assert win_rate_interval(wins, trades) == pytest.approx((middle - half, middle + half))


# -- A run -----------------------------------------------------------------------------------------


def results_of(spans: MadeSpans, **parameters: Any) -> RunResults:
    """Compute everything about what was published."""
    run = dict.fromkeys((*RUN_COLUMNS, "completeness"))
    run |= {"run_id": RUN, "parameters": json.dumps(parameters), "completeness": "[]"}
    with spans.connect() as connection:
        connection.register("runs", pa.Table.from_pylist([run]))
        return compute_results(connection, RUN)


def figures_of(results: RunResults) -> dict[tuple[str, str], Figures]:
    found: dict[tuple[str, str], Figures] = {}
    for portfolio, currency, name, value in results.tables["figures"].rows:
        found.setdefault((str(portfolio), str(currency)), {})[str(name)] = value  # type: ignore[assignment]
    return found


def at(row: dict[str, Any], day: float) -> None:
    row["event_time"] = int((MONDAY + day) * DAY)


def a_month(spans: MadeSpans) -> MadeSpans:
    """Trade once a week through 30 weekdays, with a statement after every fill."""
    balance, paid = D(10_000), D(0)
    at(spans.account(USD=balance), 0)
    for place, day in enumerate(dates(30)):
        offset = (day - dates(1)[0]).days
        price = D(100) + (place * 7) % 11
        spans.bar(price)
        at(spans.rows[-1], offset)
        if place % 5 in {1, 3}:
            side = "BUY" if place % 5 == 1 else "SELL"
            at(spans.fill(side, 10, price, commission="1.5"), offset + 0.1)
            profit = D(0) if side == "BUY" else 10 * (price - paid)
            paid = price
            balance += profit - D("1.5")
            at(spans.account(USD=balance), offset + 0.2)
    return spans


def test_the_figures_of_a_run_follow_from_its_fills() -> None:
    results = results_of(a_month(MadeSpans()))
    (account,) = results.ledger.accounts
    assert account.end is not None
    assert account.start == 10_000
    figures = figures_of(results)
    assert set(figures) == {("", "USD"), ("fund/book", "USD")}
    assert figures["", "USD"] == figures["fund/book", "USD"]
    own = figures["fund/book", "USD"]
    assert list(own) == [one.name for one in FIGURES]
    prices = [100 + (place * 7) % 11 for place in range(30)]
    nets = [10 * (prices[w + 3] - prices[w + 1]) - 3 for w in range(0, 30, 5)]
    assert own["net_pnl"] == sum(nets) == float(account.end - account.start)
    assert own["commission"] == -18
    assert own["gross_pnl"] == sum(nets) + 18
    assert own["end_equity"] == 10_000 + sum(nets)
    assert own["total_return"] == pytest.approx(sum(nets) / 10_000)
    assert (own["trades"], own["days"], own["periods_per_year"]) == (6, 30, 252)
    assert own["win_rate"] == sum(net > 0 for net in nets) / 6
    notional = sum(10 * prices[w + place] for w in range(0, 30, 5) for place in (1, 3))
    days = results.tables["daily_returns"]
    equity = [float(row[3]) for row in days.rows if row[0] == ""]  # type: ignore[arg-type]
    assert own["turnover"] == pytest.approx(notional / np.mean(equity))
    assert own["annual_turnover"] == pytest.approx(notional / np.mean(equity) * 252 / 30)
    # Six spells of two days each, from Monday to Friday of the sixth week.
    assert own["exposure"] == pytest.approx(6 * 2 / (5 * 7 + 4))
    assert own["sharpe"] is not None
    for name, value in own.items():
        assert (why_undefined(name, own) is None) == (value is not None)


def test_open_positions_are_marked_at_each_days_last_price() -> None:
    results = results_of(a_month(MadeSpans()))
    prices = [D(100) + (place * 7) % 11 for place in range(30)]
    held, before, equity, expected = 0, D(0), D(10_000), []
    for place, price in enumerate(prices):
        gained = held * (price - before)
        if place % 5 in {1, 3}:
            held = 10 if place % 5 == 1 else 0
            gained -= D("1.5")
        equity, before = equity + gained, price
        expected.append((gained, equity))
    table = results.tables["daily_returns"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    own = [(row["pnl"], row["equity"]) for row in rows if row["portfolio"] == "fund/book"]
    assert own == expected


def test_a_deposit_that_a_statement_shows_is_no_profit() -> None:
    spans = MadeSpans()
    at(spans.account(USD="1000"), 0)
    at(spans.fill("BUY", 1, 100, commission="2"), 0.1)
    at(spans.account(USD="998"), 0.2)
    keys = {CashFlow.TYPE: "DEPOSIT", CashFlow.AMOUNT: "500", CashFlow.CURRENCY: "USD"}
    at(spans.add(EventType.CASH_FLOW, keys), 1)
    at(spans.account(USD="1498"), 1.1)
    at(spans.fill("SELL", 1, 112, commission="2"), 2)
    at(spans.account(USD="1508"), 2.1)
    results = results_of(spans)
    rows = [row[3:] for row in results.tables["daily_returns"].rows if row[0] == "fund/book"]
    assert rows == [
        (D(998), D(0), D(-2), -2 / 1000),
        (D(1498), D(500), D(0), 0.0),
        (D(1508), D(0), D(10), 10 / 1498),
    ]
    own = figures_of(results)["fund/book", "USD"]
    assert (own["transfers"], own["net_pnl"], own["end_equity"]) == (500, 8, 1508)


def test_a_run_without_statements_has_profit_but_no_returns() -> None:
    spans = MadeSpans(account_id=None)
    for place, day in enumerate(dates(30)):
        offset = (day - dates(1)[0]).days
        spans.bar(100 + place)
        at(spans.rows[-1], offset)
        at(spans.fill("BUY" if place % 2 == 0 else "SELL", 10, 100 + place), offset + 0.1)
    own = figures_of(results_of(spans))["fund/book", "USD"]
    assert own["net_pnl"] == 15 * 10
    assert own["max_drawdown_amount"] == 0
    assert own["total_return"] is own["sharpe"] is own["turnover"] is own["start_equity"] is None
    assert own["days"] == 0
    assert own["win_rate"] == 1
    why = why_undefined("sharpe", own)
    assert why == "no start equity is known, so there are no returns"
    funded = figures_of(results_of(spans, initial_cash="1000"))["", "USD"]
    assert funded["total_return"] == pytest.approx(150 / 1000)
    assert funded["days"] == 30


def test_deposits_and_withdrawals_are_read_as_hosts_publish_them() -> None:
    spans = MadeSpans()
    keys = {CashFlow.TYPE: "DEPOSIT", CashFlow.AMOUNT: "500", CashFlow.CURRENCY: "USD"}
    at(spans.add(EventType.CASH_FLOW, keys), 1)
    at(spans.add("WITHDRAWAL", {"trading.withdrawal.amount": "100"}, currency="USD"), 2)
    with spans.connect() as connection:
        moved = list(read_transfers(connection, RUN))
    assert [(one.amount, one.currency) for one in moved] == [(D(500), "USD"), (D(-100), "USD")]


def test_a_transfer_without_a_currency_is_in_the_only_one_of_its_portfolio() -> None:
    unnamed = [replace(an_amount(0, "5", portfolio), currency="") for portfolio in ("a", "b")]
    keys = [("a", "EUR"), ("b", "EUR"), ("b", "USD")]
    assert [one.currency for one in with_currencies(unnamed, keys)] == ["EUR", ""]


def test_whoever_pays_in_without_a_statement_begins_with_nothing() -> None:
    series = series_of(
        an_amount(1, "10"), an_amount(2, "11"), start=None, transfers=[an_amount(1, "100")]
    )
    assert series.start == 0
    assert series.returns == [0.1, 0.1]


def test_fills_priced_in_a_foreign_currency_leave_the_turnover_undefined() -> None:
    spans = MadeSpans()
    at(spans.account(base="USD", USD="10000"), 0)
    at(spans.fill("BUY", 1, 1000, currency="JPY", commission="1", commission_currency="USD"), 1)
    with spans.connect() as connection:
        slices = TableRows(
            ["portfolio", "currency", "kind", "event_time", "amount"],
            [["fund/book", "USD", "commission", (MONDAY + 1) * DAY, D(-1)]],
        )
        trades = TableRows(["portfolio", "currency", "open_quantity"], [])
        tables = tearsheet.tearsheet_tables(
            connection,
            RUN,
            {"capital": 1},
            spans.ledger().accounts,
            {"pnl_slices": slices, "trades": trades},
        )
    values = {(row[0], row[2]): row[3] for row in tables["figures"].rows}
    assert values["fund/book", "turnover"] is None
    assert values["fund/book", "net_pnl"] == -1


def test_without_the_libraries_the_plain_figures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = figures_of(results_of(a_month(MadeSpans())))["", "USD"]
    monkeypatch.setattr(tearsheet, "has_libraries", lambda: False)
    plain = figures_of(results_of(a_month(MadeSpans())))["", "USD"]
    left_out = {one.name for one in FIGURES if one.statistical}
    assert plain == {name: value for name, value in whole.items() if name not in left_out}
    assert why_undefined("sharpe", plain) is not None


def test_an_empty_run_has_no_figures() -> None:
    results = results_of(MadeSpans())
    assert results.tables["figures"].rows == results.tables["daily_returns"].rows == []
    spans = MadeSpans()
    spans.bar("1")
    spans.rows[-1]["event_time"] = None
    assert results_of(spans).tables["figures"].rows == []


# -- How they are shown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("net_pnl", -1234.5, "\N{MINUS SIGN}1,234.50"),
        ("cagr", 0.12345, "12.34\N{NARROW NO-BREAK SPACE}%"),
        ("sharpe", 1.234, "1.23"),
        ("autocorrelation", -0.01234, "\N{MINUS SIGN}0.012"),
        ("trades", 1234.0, "1,234"),
        ("max_drawdown_days", 1.0, "1\N{NO-BREAK SPACE}day"),
        ("mean_holding_time", 7260.0, "2\N{NO-BREAK SPACE}h 01\N{NO-BREAK SPACE}min"),
        ("mean_holding_time", 86400.0 * 18.42, "18.4\N{NO-BREAK SPACE}days"),
        ("sharpe", None, "\N{EN DASH}"),
        ("worst_day", -0.0, "0.00\N{NARROW NO-BREAK SPACE}%"),
    ],
)
def test_figures_are_shown_in_their_units(name: str, value: float | None, text: str) -> None:
    assert figure_text(BY_NAME[name], value, 2).text == text


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "data"
    record_market(folder, "run-a", trades=3, portfolio=HOSTILE)
    return folder


def test_the_command_shows_figures_and_why_some_are_missing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data", str(data), "figures", "latest", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run_id"] == "run-a"
    whole, own = document["series"]
    assert (whole["portfolio"], whole["currency"], own["currency"]) == ("", "USD", "USD")
    assert list(whole["figures"]) == [one.name for one in FIGURES]
    undefined = {name for name, value in whole["figures"].items() if value is None}
    assert undefined == set(whole["undefined"])
    assert whole["figures"]["trades"] == 3
    assert cli.main(["--data", str(data), "figures", "run-a"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert re.search(r"Closed trades +3\n", shown)
    assert "7 days with a return are too few, it takes 20: CAGR, Volatility" in shown
    assert cli.main(["--data", str(data), "figures", "run-a", "--portfolio", "none"]) == 5
    assert "has no portfolio 'none' with figures" in capsys.readouterr().err


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = ROOT / "docs" / "generate_figures.py"
    spec = importlib.util.spec_from_file_location("generate_figures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.smoke
def test_the_page_of_figures_is_current(generator: ModuleType) -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert page == generator.page(), "run python docs/generate_figures.py"
    for one in FIGURES:
        assert f"`{one.name}`" in page
        assert one.definition.endswith(".")


def test_running_the_generator_of_figures_writes_the_page(tmp_path: Path) -> None:
    copy = tmp_path / "generate_figures.py"
    copy.write_bytes((ROOT / "docs" / copy.name).read_bytes())
    subprocess.run([sys.executable, str(copy)], check=True)
    page = (ROOT / "docs" / "figures.md").read_bytes()
    assert (tmp_path / "figures.md").read_bytes() == page


def test_definitions_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(FIGURES) == len({one.label for one in FIGURES})
