"""Sections of a report: the attribution from its rows, the packed trades, and a user's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fillpath.analytics import report_own_sections, report_trades
from fillpath.analytics.cli import main
from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import render_report
from fillpath.analytics.report_attribution import DIMENSIONS, MOST_ROWS, read_attribution
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_own_sections import own_templates
from fillpath.analytics.report_sections import ReportSource, Section
from fillpath.analytics.report_trades import pack_trades, read_trades, unpack_trades
from fillpath.analytics.results_manager import ResultsManager
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import record_market
from report_sample import Rows, attribution_rows, sample, trade_rows, with_sections

D = Decimal
RUN = "run-1"
DOCS = Path(__file__).parents[1] / "docs" / "report.md"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sections")
    record_market(folder, RUN, trades=4)
    record_market(folder, "other", trades=1)
    return folder


@pytest.fixture(scope="module")
def source(data: Path) -> Iterator[ReportSource]:
    store = EventStore(DataFolder(data))
    with open_results_database(store.folder) as database, ResultsManager(database) as results:
        results.load(store, RUN)
        with store.connect([RUN]) as connection:
            yield ReportSource(results, store, connection, results.run(RUN), {})


# Attribution


def test_every_breakdown_is_the_sum_of_its_slices(source: ReportSource) -> None:
    attribution = read_attribution(source)
    assert attribution is not None
    slices = source.results.rows("pnl_slices", RUN)
    assert slices
    broken_down = {one.dimension for one in attribution.breakdowns}
    assert {"portfolio", "strategy", "symbol", "month", "hour"} <= broken_down
    for one in attribution.breakdowns:
        assert one.holds
        for row in one.rows:
            if one.dimension not in slices[0]:
                continue
            for kind, amount in row.amounts.items():
                assert amount == sum(
                    found["amount"]
                    for found in slices
                    if (found[one.dimension], found["kind"], found["currency"])
                    == (row.name, kind, one.currency)
                )
    for dimension in ("portfolio", "strategy", "symbol"):
        by_hand = {
            (one.names[dimension], one.currency): one.total
            for one in source.results.pnl_by(RUN, dimension)
        }
        assert by_hand == {
            (row.name, one.currency): row.total
            for one in attribution.breakdowns
            if one.dimension == dimension
            for row in one.rows
        }


def test_a_rows_evidence_is_the_trace_of_its_largest_amount(source: ReportSource) -> None:
    attribution = read_attribution(source)
    assert attribution is not None
    slices = source.results.rows("pnl_slices", RUN)
    (strategies,) = [one for one in attribution.breakdowns if one.dimension == "strategy"]
    for row in strategies.rows:
        largest = max(abs(one["amount"]) for one in slices if one["strategy"] == row.name)
        traces = {
            one["trace_id"]
            for one in slices
            if one["strategy"] == row.name and abs(one["amount"]) == largest
        }
        assert row.evidence.trace_id in traces


def attribution_of(rows: list[dict[str, Any]], start: str, end: str) -> Any:
    ends = {"currency": "USD", "start_equity": D(start), "end_equity": D(end), "trace_id": None}
    found = Rows(pnl_breakdowns=rows, equity_ends=[ends], transfers=[])
    source: Any = SimpleNamespace(results=found, run=SimpleNamespace(run_id="x"))
    return read_attribution(source)


def test_a_waterfall_says_what_the_slices_do_not_explain() -> None:
    rows = attribution_rows()
    total = sum((row["amount"] for row in rows if row["dimension"] == "total"), D(0))
    right = attribution_of(rows, "1000", str(1000 + total)).waterfalls[0]
    assert right.holds
    wrong = attribution_of(rows, "1000", str(1007 + total)).waterfalls[0]
    assert not wrong.holds
    (step,) = [step for step in wrong.steps if step.key == "unexplained"]
    assert step.amount == 7
    for waterfall in (right, wrong):
        for before, after in zip(waterfall.steps[:-2], waterfall.steps[1:-1], strict=True):
            assert before.after == after.before
            assert after.after == after.before + after.amount
        assert waterfall.steps[-2].after == waterfall.steps[-1].after


def test_many_rows_and_many_strategies_are_added_up() -> None:
    names = [f"S{number}" for number in range(200)]
    rows = attribution_rows(names)
    attribution = attribution_of(rows, "0", "1")
    by_name = {one.dimension: one for one in attribution.breakdowns}
    table = by_name["strategy"]
    assert len(table.rows) == MOST_ROWS
    assert table.rows[-1].label == "141 others"
    assert table.holds
    assert sum((row.total for row in table.rows), D(0)) == table.total.total
    (waterfall,) = attribution.waterfalls
    realized = [step.amount for step in waterfall.steps if step.key == "strategy"]
    assert len(realized) == 12
    assert sum(realized) == table.total.amounts["realized"]


def test_a_run_without_profit_has_no_attribution() -> None:
    assert attribution_of([], "0", "0") is None


# Trades


def test_trades_are_unpacked_as_they_were() -> None:
    rows = trade_rows(500)
    packed, inside = pack_trades(rows, 10**9)
    assert inside == 500
    columns = unpack_trades(packed)
    for place, row in enumerate(rows):
        for name in ("portfolio", "strategy", "symbol", "currency", "exit_reason"):
            column = columns[name]
            assert column["names"][column["codes"][place]] == (row[name] or "")
        for name in ("quantity", "entry_price", "pnl", "commission", "net"):
            assert D(columns[name][place]) == row[name]
        entry = (columns["base"] + columns["from"][place]) * 10**9 + columns["from_ns"][place]
        assert entry == row["entry_time"]
        assert columns["prefix"] + columns["entry"][place] == row["entry_trace_id"]
        leave = columns["exit"][place]
        same = row["exit_trace_id"] in {None, row["entry_trace_id"]}
        assert leave == "" if same else columns["prefix"] + leave == row["exit_trace_id"]
        assert (columns["to"][place] is None) == (row["exit_time"] is None)


def test_trades_that_do_not_fit_are_counted() -> None:
    rows = trade_rows(2_000)
    packed, inside = pack_trades(rows, most_bytes=20_000)
    assert len(packed) <= 20_000
    assert 100 < inside < 2_000
    nets = unpack_trades(packed)["net"]
    assert [D(net) for net in nets] == [row["net"] for row in rows[:inside]]
    assert pack_trades(rows[:1], most_bytes=10)[1] == 0


def test_the_table_of_a_run_has_its_trades(source: ReportSource) -> None:
    table = read_trades(source)
    assert table is not None
    assert table.total == table.inside == 4
    assert table.left_out == 0
    rows = source.results.rows("trades", RUN)
    assert sorted(trade.entry_time for trade in table.first) == [row["entry_time"] for row in rows]


def test_a_page_says_how_many_trades_it_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_trades, "MOST_BYTES", 10_000)
    page = render_report(with_sections(sample(), trades=1_000))
    inside = int(re.findall(r"The (\d+) of 1,000 trades with the largest results", page)[0])
    assert 50 < inside < 500


# A user's own


def report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[str, str]:
    page = tmp_path / "report.html"
    code = main(["--data", str(data), "report", RUN, "-o", str(page), *words])
    _, err = capsys.readouterr()
    assert code == 0, err
    return page.read_text(encoding="utf-8"), err


def test_the_example_of_the_docs_is_a_section(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"^```html\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "fees.html").write_text(example)
    page, err = report(data, tmp_path, capsys, "--templates", str(tmp_path / "own"))
    assert not err
    own = page[page.index('<section id="own-fees"') :].partition("</section>")[0]
    assert ">Fees by venue</h2>" in own
    # Eight fills of 1.25 of this run, and none of the other's.
    assert '<td>8</td><td><span class="amount positive">10.00</span></td>' in own
    assert '<li><a href="#own-fees">Fees by venue</a></li>' in page


def test_a_folder_in_the_environment_counts_and_parts_are_included(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "_part.html").write_text("<b>{{ pnl_by() | length }} currency</b>")
    (tmp_path / "own" / "my_numbers.html").write_text(
        '{% include "_part.html" %} {{ results("trades") | length }} trades <i>{{ run.run_id }}</i>'
    )
    monkeypatch.setenv("FILLPATH_REPORT_TEMPLATES", str(tmp_path / "own"))
    page, _ = report(data, tmp_path, capsys)
    assert ">My numbers</h2>\n<b>1 currency</b> 4 trades <i>run-1</i>" in page
    assert page.count('<section id="own-') == 1


FAILING = {
    "a": ("{# A #}\n\n{{ run.__class__.__mro__ }}", "a.html, line 3: SecurityError"),
    "b": ("{{ sql.__globals__ }}", "b.html, line 1: SecurityError"),
    "c": ("{{ data.sections[0].section.read.__globals__ }}", "c.html, line 1: SecurityError"),
    "d": ("{{ nothing }}", "d.html, line 1: UndefinedError: 'nothing' is undefined"),
    "e": ("\n{% if %}", "e.html, line 2: TemplateSyntaxError"),
    "f": ('{{ sql("SELECT * FROM nowhere") }}', "Table with name nowhere does not exist"),
    "g": ('{{ sql("DROP VIEW spans") }}', "not a query"),
    "h": ("{{ sql(\"SELECT * FROM read_text('/etc/hostname')\") }}", "Permission"),
    "i": ('{{ results("pg_authid") }}', "There is no table of results"),
    "j": ('{% include "../../../etc/passwd" %}', "TemplateNotFound"),
}


def test_a_template_that_fails_or_breaks_out_says_so_and_the_report_is_made(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (template, _) in FAILING.items():
        (tmp_path / f"{name}.html").write_text(template)
    page, err = report(data, tmp_path, capsys, "--templates", str(tmp_path))
    said = [line for line in err.splitlines() if line.startswith("The section")]
    for (_, words), line in zip(FAILING.values(), said, strict=True):
        assert words in line
    assert page.count("This section could not be made") == len(FAILING)
    assert '<section id="trades"' in page


def test_what_a_template_writes_from_data_is_escaped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.html").write_text("{{ sql(\"SELECT '<script>alert(1)</script>' AS x\")[0].x }}")
    page, _ = report(data, tmp_path, capsys, "--templates", str(tmp_path))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_template_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"t\.html cannot be read"):
        own_templates(tmp_path)


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    points: list[EntryPoint] = []
    monkeypatch.setattr(report_own_sections, "entry_points", lambda group: points)
    return points


def test_a_package_brings_a_section(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    brought: list[EntryPoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine.html").write_text(
        '<section id="mine"><h2>Mine</h2>{{ ui.amount(section.total, "USD") }}</section>'
    )
    module = SimpleNamespace(
        GOOD=Section("mine", "Mine", "mine.html", lambda s: {"total": D(7)}, tmp_path),
        NONE=Section("none", "None", "mine.html", lambda s: None, tmp_path),
        BAD=Section("bad", "Bad", "mine.html", lambda s: 1 / 0, tmp_path),
        OTHER="no section",
    )
    monkeypatch.setitem(sys.modules, "a_package", module)
    group = report_own_sections.ENTRY_POINTS
    brought += [EntryPoint(name, f"a_package:{name}", group) for name in ("GOOD", "NONE", "BAD")]
    page, err = report(data, tmp_path, capsys)
    assert '<section id="mine"><h2>Mine</h2><span class="amount positive">7.00</span>' in page
    assert 'id="none"' not in page
    assert "ZeroDivisionError" in err
    brought.append(EntryPoint("other", "a_package:OTHER", group))
    assert main(["--data", str(data), "report", RUN]) == 2
    assert "is no Section" in capsys.readouterr().err


def test_all_dimensions_are_named_in_the_docs() -> None:
    text = " ".join(DOCS.read_text().split())
    for title, _ in DIMENSIONS.values():
        assert title.split(",")[0].removesuffix(" of the day") in text


def test_the_sections_of_a_run_are_in_the_contents(source: ReportSource) -> None:
    data = report_data(source.results, source.store, RUN)
    page = render_report(replace(data, made_at=None))
    keys = re.findall(r'<li><a href="#([a-z-]+)">', page[: page.index("<main>")])
    assert [filled.section.key for filled in data.sections] == keys[-len(data.sections) :]
    for key in keys:
        assert f'id="{key}"' in page
