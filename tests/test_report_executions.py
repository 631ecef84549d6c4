"""The report's section of slippage and shortfall: every number from the rows, added up by hand."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import write_report
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_executions import COSTS, WORST, read_executions
from fillpath.analytics.report_format import money
from fillpath.analytics.report_sections import ReportSource
from fillpath.analytics.results_manager import ResultsManager
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from random_trading import record_random_trading

D = Decimal
Row = dict[str, Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportSource]:
    data = tmp_path_factory.mktemp("data")
    record_random_trading(data, "run", 2)
    folder = DataFolder(data)
    with open_results_database(folder) as database, ResultsManager(database) as results:
        store = EventStore(folder)
        results.load(store, "run")
        with store.connect(["run"], further_views=()) as connection:
            yield ReportSource(results, store, connection, results.run("run"), {})


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(D("0.01"), ROUND_HALF_UP)


def test_every_number_of_the_section_is_a_sum_of_rows(source: ReportSource) -> None:
    rows = source.results.rows("executions", "run")
    parts = read_executions(source)
    assert parts is not None
    assert [part.currency for part in parts] == sorted({row["currency"] for row in rows})
    (part,) = parts
    columns = {"strategy": "strategy", "order type": "order_type", "symbol": "symbol"}
    for title, shown in part.tables:
        column = columns[title]
        assert len(shown) == len({row[column] for row in rows})
        for one in shown:
            inside = [row for row in rows if row[column] in one.names]
            check(one, inside)
    check(part.total, rows)
    costly = sorted((row["shortfall"] for row in rows if row["shortfall"]), reverse=True)[:WORST]
    assert [one.shortfall for one in part.worst] == [cents(cost) for cost in costly if cost > 0]
    assert all(one.order["trace_id"] for one in part.worst)


def check(shown: Any, rows: list[Row]) -> None:
    known = [row for row in rows if row["shortfall"] is not None]
    assert (shown.orders, shown.unknown) == (len(rows), len(rows) - len(known))
    for name in COSTS:
        column = name if name == "commission" else f"{name}_cost"
        assert getattr(shown, name) == cents(sum((row[column] for row in known), D(0)))
    assert shown.shortfall == cents(sum((row["shortfall"] for row in known), D(0)))
    slippages = [row["slippage"] for row in rows if row["slippage"] is not None]
    assert shown.slippage == (statistics.median(slippages) if slippages else None)
    assert shown.filled == sum(row["filled_quantity"] > 0 for row in rows)


def test_the_chart_goes_from_the_decision_to_the_shortfall(source: ReportSource) -> None:
    (part,) = read_executions(source) or ()
    steps = [row for row in part.chart.rows if row["panel"] == 0]
    assert [row["name"] for row in steps] == [*COSTS, "shortfall"]
    assert steps[0]["a"] == 0
    for before, after in pairwise(steps[:-1]):
        assert after["a"] == before["z"]
    assert steps[-1]["z"] == pytest.approx(steps[-2]["z"], abs=0.05)
    assert len(part.chart.specs) == 3  # all orders, and two strategies


def test_the_page_shows_them_with_their_traces(source: ReportSource, tmp_path: Path) -> None:
    data = report_data(source.results, source.store, "run")
    page = write_report(data, tmp_path / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="executions"')[2].partition("</section>")[0]
    (part,) = read_executions(source) or ()
    for _, rows in part.tables:
        for row in rows:
            assert row.trace_id
            assert row.trace_id in section
            for amount in (row.delay, row.impact, row.commission, row.opportunity, row.shortfall):
                assert f">{money(amount, 2)}</span>" in section
    for one in part.worst:
        assert one.order["trace_id"] in section
