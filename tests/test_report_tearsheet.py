"""The tearsheet of a report: what it shows follows from the rows, in the page and in a browser."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fillpath.analytics.drawdowns import underwater
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_text import figure_text
from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import render_report
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_sections import ReportSource
from fillpath.analytics.report_tearsheet import Tearsheet, read_tearsheet
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.rolling_figures import rolling_points, rolling_window
from fillpath.analytics.trade_distribution import MOST_BINS_A_SIDE, ResultOfTrade, distribution
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from headless_chromium import a_browser
from recorded_market import DAY, HOSTILE, Market

D = Decimal
TRADES = 30
DERANDOMISED = settings(derandomize=True, deadline=None, max_examples=60)


def record(data: Path, run_id: str, *portfolios: str) -> None:
    """Trade once every second day, in each portfolio, at prices by chance."""
    chance = random.Random(7)
    with Tracing(run_id, data=data, writer="inline") as tracing:
        for portfolio in portfolios:
            market = Market(tracing, portfolio=portfolio)
            for _ in range(TRADES):
                for side, price in (("BUY", "100"), ("SELL", f"{chance.gauss(100.4, 3):.2f}")):
                    handler = market.bar(price)
                    cause, named = market.order(market.signal(handler, "1"), side, "1")
                    market.fill(cause, named, price)
            market.finish()


@dataclass
class Loaded:
    """A run, its rows, its tearsheet and its page."""

    rows: dict[str, list[dict[str, Any]]]
    sheet: Tearsheet
    page: str


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsManager]:
    folder = DataFolder(tmp_path_factory.mktemp("results"))
    with open_results_database(folder) as database, ResultsManager(database) as manager:
        yield manager


@pytest.fixture(scope="module")
def loaded(results: ResultsManager, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = DataFolder(tmp_path_factory.mktemp("sheet") / "data")
    record(folder.path, "two", "fund/desk", HOSTILE)
    store = EventStore(folder)
    results.load(store, "two")
    with store.connect(["two"]) as connection:
        sheet = read_tearsheet(ReportSource(results, store, connection, results.run("two"), {}))
    rows = {
        table: results.rows(table, "two")
        for table in ("figures", "daily_returns", "trades", "pnl_slices")
    }
    return Loaded(rows, sheet, render_report(report_data(results, store, "two")))


def test_the_page_has_every_figure_of_every_portfolio(loaded: Loaded) -> None:
    assert loaded.sheet.columns[0] == (None, "USD")
    assert {name for name, _ in loaded.sheet.columns} == {None, "fund/desk", HOSTILE}
    values = {(r["portfolio"] or None, r["name"]): r["value"] for r in loaded.rows["figures"]}
    shown = [
        re.sub(r"<[^>]+>", "", unescape(cell)).split("\N{HORIZONTAL ELLIPSIS}")[0].strip()
        for cell in re.findall(r'<td data-figure="figure\..*?">(.*?)</td>', loaded.page, re.DOTALL)
    ]
    cells = iter(shown)
    rows = [row for group in loaded.sheet.groups for row in group.rows]
    assert [row.definition for row in rows] == list(FIGURES)
    assert {row.is_more for row in rows} == {False, True}
    for definition in [row.definition for row in sorted(rows, key=lambda row: row.is_more)]:
        for portfolio, _ in loaded.sheet.columns:
            text = figure_text(definition, values[portfolio, definition.name], 2).text
            assert next(cells).startswith(text)
    assert next(cells, None) is None


def test_months_drawdowns_and_trades_follow_from_the_rows(loaded: Loaded) -> None:
    for sheet in loaded.sheet.sheets:
        rows = [
            row
            for row in loaded.rows["daily_returns"]
            if row["portfolio"] == (sheet.portfolio or "") and row["currency"] == sheet.currency
        ]
        assert [row["return"] for row in rows] == list(sheet.returns)
        growth: dict[tuple[int, int], float] = {}
        for row in rows:
            key = row["day"].year, row["day"].month
            growth[key] = growth.get(key, 1) * (1 + row["return"])
        shown = {
            (year.year, number): month.ratio
            for year in sheet.years
            for number, month in enumerate(year.months, start=1)
            if month is not None
        }
        assert shown == pytest.approx({key: value - 1 for key, value in growth.items()})
        for year in sheet.years:
            whole = math.prod(v for (y, _), v in growth.items() if y == year.year)
            assert year.ratio == pytest.approx(whole - 1)
        below = underwater(sheet.returns)
        assert sheet.drawdowns[0].drawdown.depth == pytest.approx(min(below))
        assert len(sheet.drawdowns) <= 5
        trades = [
            row
            for row in loaded.rows["trades"]
            if sheet.portfolio in {None, row["portfolio"]} and not row["open_quantity"]
        ]
        assert sum(one.count for one in sheet.bins) == len(trades)
        for one in sheet.bins:
            nets = [row["realized_pnl"] - row["commission"] for row in trades]
            inside = sum(one.low <= net < one.high for net in nets)
            assert inside == one.count if not one.is_open else inside < one.count


def test_a_drawdown_is_linked_to_the_trade_that_lost_most_in_it(loaded: Loaded) -> None:
    sheet = next(one for one in loaded.sheet.sheets if one.portfolio == "fund/desk")
    for row in sheet.drawdowns:
        fall = row.drawdown
        inside = [
            (trade["realized_pnl"] - trade["commission"], trade["exit_trace_id"])
            for trade in loaded.rows["trades"]
            if trade["portfolio"] == "fund/desk"
            and fall.peak <= _day(trade["exit_time"]) <= fall.trough
        ]
        assert row.evidence.trace_id == min(inside)[1]


def _day(nanoseconds: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(nanoseconds // DAY)


def test_days_add_up_to_the_slices(loaded: Loaded) -> None:
    slices: dict[tuple[str, dt.date], Decimal] = {}
    for row in loaded.rows["pnl_slices"]:
        for portfolio in ("", row["portfolio"]):
            key = portfolio, _day(row["event_time"])
            slices[key] = slices.get(key, D(0)) + row["amount"]
    days = {(r["portfolio"], r["day"]): r["pnl"] for r in loaded.rows["daily_returns"]}
    assert {key: pnl for key, pnl in days.items() if pnl} == {k: v for k, v in slices.items() if v}


def test_an_empty_run_says_what_would_be_there(
    results: ResultsManager, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = DataFolder(tmp_path_factory.mktemp("empty") / "data")
    with Tracing("empty", data=folder.path, writer="inline") as tracing:
        market = Market(tracing)
        market.bar("1")
        market.finish()
    store = EventStore(folder)
    results.load(store, "empty")
    page = render_report(report_data(results, store, "empty"))
    assert "No fill and no account in this run. Here stand return and risk" in page


def test_a_browser_draws_the_tearsheet(loaded: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(loaded.page, encoding="utf-8")
    with a_browser(tmp_path / "profile") as browser:
        for width, dark in ((1280, False), (400, True)):
            browser.open(path, width=width, dark=dark)
            drawn = browser.run(
                "[...document.querySelectorAll('#tearsheet figure[data-chart]')]"
                ".map(one => one.dataset.chart + one.querySelectorAll('.plot svg').length)"
            )
            assert drawn == ["drawn3", "drawn1"] * 3
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.complaints == []
        assert browser.requests == [path.as_uri()] * 2


# -- What it is drawn from -------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "window"), [(29, None), (30, 10), (120, 40), (5000, 63)])
def test_a_window_is_63_days_or_a_third_of_the_run(days: int, window: int | None) -> None:
    assert rolling_window(days) == window


def test_rolling_figures_are_those_of_empyrical() -> None:
    import empyrical

    returns = np.random.default_rng(5).normal(0.001, 0.01, 200)
    returns[40:80] = 0.0  # a window without any movement has no Sharpe ratio
    days = [dt.date(2024, 1, 1) + dt.timedelta(place) for place in range(200)]
    below = underwater(returns)
    points = rolling_points(days, list(returns), below, 30, 365, most=1000)
    assert [point.below for point in points] == below
    assert [point.day for point in points] == days
    for place, point in enumerate(points):
        if place < 29:
            assert point.sharpe is point.volatility is None
            continue
        window = returns[place - 29 : place + 1]
        theirs = empyrical.annual_volatility(window, annualization=365)
        assert point.volatility == pytest.approx(theirs, abs=1e-12)
        if np.ptp(window):
            assert point.sharpe == pytest.approx(empyrical.sharpe_ratio(window, annualization=365))
        else:
            assert point.sharpe is None


def test_a_long_run_is_thinned_out_and_keeps_its_depths() -> None:
    returns = list(np.random.default_rng(6).normal(0, 0.01, 5000))
    days = [dt.date(2000, 1, 1) + dt.timedelta(place) for place in range(5000)]
    below = underwater(returns)
    points = rolling_points(days, returns, below, 63, 252, most=400)
    assert 300 < len(points) <= 401
    assert (points[0].day, points[-1].day) == (days[0], days[-1])
    assert min(point.below for point in points) == min(below)


@DERANDOMISED
@given(some.lists(some.decimals(-100_000, 100_000, places=2), min_size=1, max_size=60))
def test_every_trade_is_in_one_bin(nets: list[Decimal]) -> None:
    bins = distribution([ResultOfTrade(net, None, str(net)) for net in nets])
    assert sum(one.count for one in bins) == len(nets)
    assert len(bins) <= 2 * MOST_BINS_A_SIDE
    for before, after in pairwise(bins):
        assert before.high == after.low
    for place, one in enumerate(bins):
        assert one.high <= 0 or one.low >= 0
        first, last = place == 0, place == len(bins) - 1
        inside = [
            net
            for net in nets
            if (first and one.is_open and net < one.high)
            or (last and one.is_open and net >= one.low)
            or one.low <= net < one.high
        ]
        if not (one.is_open and first and last):
            assert len(inside) == one.count
        if inside:
            assert one.trace_id in {str(net) for net in inside}


def test_no_trades_make_no_bins() -> None:
    assert distribution([]) == ()
    (only,) = distribution([ResultOfTrade(D(0), None, None)] * 3)
    assert (only.count, only.low) == (3, D(0))
