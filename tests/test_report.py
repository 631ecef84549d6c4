"""The HTML report: what it says, that its sums are right, and that names in it stay text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import pytest

from fillpath.analytics import report_format
from fillpath.analytics.report import render_report, report_checks, write_report
from fillpath.analytics.report_checks import orphans
from fillpath.analytics.report_model import (
    EngineFigures,
    EquityPoint,
    EquitySeries,
    Evidence,
    ReportData,
    Trace,
    TraceSpan,
)
from fillpath.analytics.report_trace import DEEPEST, shortened, trace_tree
from fillpath.instrumentation.errors import FillpathError, MissingExtra

sys.path.append(str(Path(__file__).parent))

from report_sample import HOSTILE, hostile, sample

D = Decimal
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
VENDOR = Path(__file__).parents[1] / "analytics" / "vendor"
INLINE = {"a", "bdi", "code", "span", "time"}
VOID = {"meta", "link", "br", "img", "rect", "path", "use", "input", "hr"}


@dataclass
class Element:
    """An element with what is inside it, in order."""

    tag: str
    attributes: dict[str, str]
    parent: Element | None = None
    content: list[Element | str] = field(default_factory=list)

    @property
    def children(self) -> list[Element]:
        return [part for part in self.content if isinstance(part, Element)]

    @property
    def raw(self) -> str:
        return "".join(part if isinstance(part, str) else part.raw for part in self.content)

    @property
    def text(self) -> str:
        return " ".join(self._words().split())

    def _words(self) -> str:
        words = "".join(part if isinstance(part, str) else part._words() for part in self.content)
        return words if self.tag in INLINE else f" {words} "

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        found = []
        for child in self.children:
            wanted = {key.rstrip("_"): value for key, value in attributes.items()}
            if tag in {"", child.tag} and all(
                value in child.attributes.get(key, "").split() for key, value in wanted.items()
            ):
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found


class Page(HTMLParser):
    """A parsed page; every element that is opened must be closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self._open = Element("", {})
        self.feed(text)
        self.close()
        assert self._open is self.root, f"<{self._open.tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open)
        assert len(element.attributes) == len(attrs), f"<{tag}> names an attribute twice"
        self._open.content.append(element)
        if tag not in VOID:
            self._open = element

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open.tag == tag, f"</{tag}> closes <{self._open.tag}>"
        assert self._open.parent is not None
        self._open = self._open.parent

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        self._open.content.append(data)


def page_of(data: ReportData) -> Element:
    return Page(render_report(data)).root


@pytest.fixture(scope="module")
def shown() -> Element:
    return page_of(sample())


def to_number(text: str) -> Decimal:
    return D(text.split(maxsplit=1)[0].replace(",", "").replace(MINUS, "-").replace("+", ""))


def section(page: Element, name: str) -> Element:
    return page.one("section", id=name)


# What it says


def test_the_run_card_names_what_ran(shown: Element) -> None:
    head = shown.one("header").text
    assert shown.one("h1").text == "demo-20261122-153104-7f3a Ended"
    assert "NautilusTrader 1.221.0 · backtest · 2013-03-02 to 2016-12-31, simulated" in head
    assert "ran for 4.21 s" in head
    for words in ("Events 12,399", "Orders 427", "Fills 427", "Trades 176", "./.fillpath/lake"):
        assert words in head
    assert "All 16 checks hold" in head


def test_many_parameters_are_folded_away_from_the_results() -> None:
    data = sample()
    for count, is_folded in ((8, False), (9, True)):
        given = {f"fast-{number}": str(number) for number in reversed(range(count))}
        head = page_of(replace(data, run=replace(data.run, parameters=given))).one("header")
        folded = [one for one in head.all("details") if "Parameters" in one.text]
        assert bool(folded) is is_folded
        shown_names = [one.text for one in head.all("dt") if one.text.startswith("fast-")]
        assert shown_names == sorted(given)


def test_an_account_stands_beside_the_engines_own(shown: Element) -> None:
    first, second = section(shown, "accounts").all("article")
    assert first.one("p", class_="result").text.startswith("+4,617.10 USD")
    rows = [[cell.text for cell in row.children] for row in first.one("tbody").all("tr")]
    assert rows == [
        ["Start balance", "100,000.00", "100,000.00", "0.00 ✓ equal"],
        ["P&L", "4,955.50", "4,955.50", "0.00 ✓ equal"],
        ["Commission", f"{MINUS}338.40", f"{MINUS}338.40", "0.00 ✓ equal"],
        ["End balance", "104,617.10", "104,617.10", "0.00 ✓ equal"],
    ]
    assert "✓ equal to the engine's account" in first.text
    assert f"{MINUS}281.48 EUR" in second.text


@pytest.mark.parametrize("breakdown", ["portfolio", "strategy", "symbol"])
def test_every_breakdown_adds_up_to_the_total_shown(shown: Element, breakdown: str) -> None:
    tables = [
        table
        for table in section(shown, "pnl").all("table")
        if table.one("caption").text.startswith(f"P&L by {breakdown},")
    ]
    totals = {}
    for table in tables:
        currency = table.one("caption").text[-3:]
        amounts = [
            [to_number(amount.text) for amount in row.all("span", class_="amount")]
            for row in table.one("tbody").all("tr")
        ]
        shown_total = [to_number(a.text) for a in table.one("tfoot").all("span", class_="amount")]
        assert [sum(column) for column in zip(*amounts, strict=True)] == shown_total
        for *parts, total in (*amounts, shown_total):
            assert sum(parts) == total
        totals[currency] = shown_total[-1]
    assert totals == {"USD": D("4806.60"), "EUR": D("-266.68")}


def test_currencies_are_never_added_together(shown: Element) -> None:
    both = D("4806.60") - D("266.68")
    assert f"{both:,.2f}" not in shown.text
    for table in section(shown, "pnl").all("table"):
        assert not {"demo/equities", "demo/fx"} <= set(table.text.split())


def test_the_completeness_equation_is_shown_and_holds(shown: Element) -> None:
    tables = section(shown, "completeness").all("table")
    assert len(tables) == 3
    for table in tables:
        for row in table.all("tr")[1:]:
            words = [cell.text for cell in row.children]
            assert words[2::2][:3] == ["=", "+", "+"]
            published, kept, sampled, dropped = (to_number(words[place]) for place in (1, 3, 5, 7))
            assert published == kept + sampled + dropped
            assert words[8] == "✓ holds"


def test_orders_are_counted_by_type_and_status(shown: Element) -> None:
    table = section(shown, "orders").one("table")
    heads = [cell.text for cell in table.one("thead").all("th")]
    assert heads == ["Type", "FILLED", "CANCELED", "EXPIRED", "DENIED", "All"]
    _, limit, _ = table.one("tbody").all("tr")
    assert [cell.text.split()[0] for cell in limit.children] == [
        "LIMIT",
        "61",
        "42",
        "6",
        DASH,
        "109",
    ]
    assert table.one("tfoot").text == "All 336 73 6 12 427"


def test_latency_is_written_in_units_of_its_size(shown: Element) -> None:
    row = section(shown, "latency").all("tbody")[0].all("tr")[0]
    assert [cell.text for cell in row.children][1:7] == [
        "demo/equities", "286", "18.7 µs", "33.7 µs", "113 µs", "1.28 ms",
    ]  # fmt: skip


# Everything leads to its trace


def test_every_row_leads_to_a_trace(shown: Element) -> None:
    for name in ("pnl", "funnel", "latency", "trades"):
        for row in section(shown, name).all("tr"):
            if row.parent is not None and row.parent.tag == "tbody":
                assert row.all("", class_="trace"), row.text
    for cell in section(shown, "orders").one("tbody").all("td"):
        assert cell.text == DASH or cell.all("", class_="trace") or "total" in str(cell.attributes)


def test_links_point_at_something_in_the_page(shown: Element) -> None:
    ids = [element.attributes["id"] for element in shown.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for link in shown.all("a"):
        assert link.attributes["href"].removeprefix("#") in ids
    assert len(shown.all("details", class_="trace-tree")) == 20


@pytest.mark.parametrize("data", [sample(), hostile(sample())], ids=["plain", "hostile"])
def test_commands_can_be_pasted_into_a_shell(data: ReportData, tmp_path: Path) -> None:
    commands = {button.attributes["data-copy"] for button in page_of(data).all("button")}
    assert len(commands) > 20
    prefix = [report_format.printable(word) for word in data.command]
    script = "show() { printf '%s\\0' \"$@\"; printf '\\n'; }\n" + "".join(
        f"show {command}\n" for command in sorted(commands)
    )
    answer = subprocess.run(
        ["bash", "-s"], input=script, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert not answer.stderr
    assert not list(tmp_path.iterdir())
    for command, line in zip(sorted(commands), answer.stdout.split("\0\n"), strict=False):
        words = line.split("\0")
        assert words == shlex.split(command)
        assert words[: len(prefix)] == prefix
        assert words[len(prefix)] in {"sql", "trace"}


def test_a_tree_hangs_each_span_below_its_cause(shown: Element) -> None:
    for trace in sample().traces:
        tree = shown.one("details", id=f"trace-{trace.trace_id}")
        items = {item.attributes["id"]: item for item in tree.all("li")}
        assert len(items) == len(trace.spans)
        for span in trace.spans:
            above = items[f"span-{span.span_id}"].parent
            while above is not None and above.tag != "li":
                above = above.parent
            expected = span.parent_span_id and f"span-{span.parent_span_id}"
            assert (above.attributes["id"] if above else None) == expected


def test_traces_of_a_run_are_told_apart_by_their_short_ids() -> None:
    # As a recorder makes ids: the first 22 digits are the run's.
    traces = tuple(
        replace(trace, trace_id=f"3fad3d{0:016}{number:010x}")
        for number, trace in enumerate(sample().traces, 0x8294)
    )
    trades = tuple(
        replace(trade, entry_trace_id=trace.trace_id, exit_trace_id=trace.trace_id)
        for trade, trace in zip(sample().largest_trades, traces, strict=False)
    )
    page = page_of(replace(sample(), traces=traces, largest_trades=trades))
    for trade in trades:
        short = f"3fad3d…{trade.entry_trace_id[-4:]}"
        tree = page.one("details", id=f"trace-{trade.entry_trace_id}")
        assert short in [code.text for code in tree.one("summary").all("code")]
        links = [
            a
            for a in page.all("a", class_="trace")
            if a.attributes["href"].endswith(tree.attributes["id"])
        ]
        assert {link.text for link in links} == {short}


def test_an_exit_links_to_its_entry(shown: Element) -> None:
    trade = sample().largest_trades[0]
    leave = shown.one("details", id=f"trace-{trade.exit_trace_id}")
    assert f"#trace-{trade.entry_trace_id}" in [a.attributes["href"] for a in leave.all("a")]


def a_span(name: str, parent: str | None, sequence: int) -> TraceSpan:
    return TraceSpan(name, sequence, "publish BAR", "BAR", "PRODUCER", 5, parent_span_id=parent)


def test_a_tree_shows_orphans_circles_and_any_depth() -> None:
    spans = [a_span("lost", "gone", 3), a_span("x", "y", 4), a_span("y", "x", 5)]
    chain = [a_span(f"{n}", f"{n - 1}" if n else None, 10 + n) for n in range(1_000)]
    tree = trace_tree(Trace("t", (*spans, *reversed(chain))))
    assert sorted(line.span.span_id for line in tree.lines) == sorted(
        span.span_id for span in (*spans, *chain)
    )
    assert [line.span.span_id for line in tree.lines if line.orphan] == ["lost"]
    assert max(line.depth for line in tree.lines) == 999
    page = page_of(replace(sample(), traces=(Trace("a" * 32, tree.trace.spans, 4_000),)))
    assert "its parent gone is missing" in page.text
    assert "2,997 more events of this trace are in the lake" in page.text
    assert "1 of 16 checks fails" in page.text
    deepest, above = 0, page.one("li", id="span-999")
    while above.parent is not None:
        above, deepest = above.parent, deepest + (above.tag == "ol")
    assert deepest == DEEPEST + 1


def test_a_long_chain_is_shortened_to_what_led_to_its_fills() -> None:
    root = a_span("0", None, 0)
    rest = [a_span(f"{n}", f"{n - 1}" if n % 40 else "0", n) for n in range(1, 2_000)]
    fills = [
        replace(span, event_type="FILL") for span in rest if span.sequence in {77, 1_234, 1_999}
    ]
    spans = (root, *(s for s in rest if s.sequence not in {f.sequence for f in fills}), *fills)
    short = shortened(Trace("t", spans), 200)
    assert 150 < len(short.spans) <= 200
    assert short.total_spans == 2_000
    assert {fill.span_id for fill in fills} <= {span.span_id for span in short.spans}
    assert not orphans(short)
    assert shortened(short, 200) is short


def test_a_report_of_a_large_run_is_still_small() -> None:
    data = sample()
    points = tuple(
        EquityPoint(n * 10**15, D(100_000 + n % 977), None, "a" * 32) for n in range(5_000)
    )
    series = tuple(EquitySeries(f"fund/book-{n}", "USD", points) for n in range(40))
    traces = tuple(
        replace(trace, spans=tuple(
            replace(trace.spans[0], span_id=f"{n}-{trace.trace_id}", sequence=n) for n in range(900)
        ))
        for trace in data.traces
    )  # fmt: skip
    text = render_report(replace(data, equity=series, traces=traces))
    assert len(text.encode()) < 3_000_000
    assert text.count("more events of this trace are in the lake") == len(traces)


# Its checks can fail


def off_by_a_cent(data: ReportData) -> ReportData:
    engine = replace(data.accounts[0].engine, end_balance=D("104617.11"))
    return replace(data, accounts=(replace(data.accounts[0], engine=engine), *data.accounts[1:]))


def wrong_balance(data: ReportData) -> ReportData:
    ours = replace(data.accounts[0].fillpath, other=D("0.01"))
    return replace(data, accounts=(replace(data.accounts[0], fillpath=ours), *data.accounts[1:]))


def lost_event(data: ReportData) -> ReportData:
    row = data.completeness[0]
    return replace(data, completeness=(replace(row, kept=row.kept - 1), *data.completeness[1:]))


def missing_strategy(data: ReportData) -> ReportData:
    return replace(data, pnl_by_strategy=data.pnl_by_strategy[1:])


def wrong_parts(data: ReportData) -> ReportData:
    row = data.pnl_by_symbol[0]
    wrong = replace(row.amounts, rounding=row.amounts.rounding + 1)
    back = replace(
        data.pnl_by_symbol[1],
        amounts=replace(
            data.pnl_by_symbol[1].amounts, rounding=data.pnl_by_symbol[1].amounts.rounding - 1
        ),
    )
    rows = (replace(row, amounts=wrong), back, *data.pnl_by_symbol[2:])
    return replace(data, pnl_by_symbol=rows)


def forgotten_orders(data: ReportData) -> ReportData:
    return replace(data, orders=data.orders[1:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (off_by_a_cent, f"End balance differs by {MINUS}0.01"),
        (wrong_balance, "start and changes do not give the end balance"),
        (lost_event, "does not hold"),
        (missing_strategy, "the rows and the total shown do not add up"),
        (wrong_parts, "parts do not add up"),
        (forgotten_orders, "not equal to the run's 427 orders"),
    ],
)
def test_a_wrong_number_is_flagged(damage: Callable[[ReportData], ReportData], words: str) -> None:
    data = damage(sample())
    failed = [check for check in report_checks(data) if check.passed is False]
    assert len(failed) == 1
    page = page_of(data)
    assert "1 of 16 checks fails" in page.text
    assert words in page.text
    assert page.one("details", id="checks").all("a")[0].text == failed[0].name


def test_what_could_not_be_compared_is_not_called_equal() -> None:
    data = sample()
    silent = tuple(replace(account, engine=EngineFigures()) for account in data.accounts)
    page = page_of(replace(data, accounts=silent))
    assert "14 of 16 checks hold" in page.text
    assert "the engine reports no account to compare with" in page.text
    assert "equal to the engine's account" not in section(page, "accounts").text.replace("own", "")


def test_sections_without_rows_say_what_they_would_show() -> None:
    page = page_of(ReportData(run=replace(sample().run, events=0, orders=0, fills=0, trades=0)))
    for name in ("accounts", "completeness", "equity", "pnl", "funnel", "orders", "latency"):
        assert section(page, name).all("p", class_="empty"), name
    assert len(section(page, "trades").all("p", class_="empty")) == 2
    assert not page.all("table")
    assert "No check could be made" in page.text


def test_a_run_that_did_not_end_says_so_first() -> None:
    run = replace(sample().run, status="Crashed", ended_at=None)
    page = page_of(replace(sample(), run=run, notices=("Three records could not be read.",)))
    first, second = page.all("p", class_="notice")
    assert "did not end by itself" in first.text
    assert second.text == "Three records could not be read."


def test_evidence_is_optional_everywhere() -> None:
    data = sample()
    bare = tuple(replace(row, evidence=Evidence()) for row in data.pnl_by_strategy)
    page = page_of(replace(data, pnl_by_strategy=bare))
    assert DASH in section(page, "pnl").text


# One file, inert


def test_names_that_want_to_break_out_stay_text() -> None:
    data = hostile(sample())
    text = render_report(data)
    text.encode("utf-8")
    page = Page(text).root
    plain = Page(render_report(sample())).root
    # Not one element more or less, and every one of the same kind in the same place.
    assert [e.tag for e in page.all()] == [e.tag for e in plain.all()]
    assert not page.all("img")
    run_id = report_format.printable(data.run.run_id)
    assert page.one("h1").children[0].raw == run_id
    for name in HOSTILE:
        assert report_format.printable(name).split()[0][:60] in page.text
    for row in json.loads(section(page, "pnl").all("script")[0].raw)["rows"]:
        assert row["name"] in {s.strategy for s in data.pnl_by_strategy}
    for block in page.all("script", type="application/json"):
        assert not set("<>&") & set(block.raw)
        assert block.raw.isascii()


@pytest.mark.parametrize("data", [sample(), hostile(sample())], ids=["plain", "hostile"])
def test_the_policy_allows_the_pages_own_blocks_and_nothing_else(data: ReportData) -> None:
    page = page_of(data)
    policy = next(
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy

    def source(block: Element) -> str:
        digest = hashlib.sha256(block.raw.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    running = [s for s in page.all("script") if s.attributes.get("type") != "application/json"]
    (style,) = page.all("style")
    assert f"script-src {' '.join(map(source, running))};" in policy
    assert f"style-src {source(style)};" in policy
    for element in page.all():
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "style" not in element.attributes
        for name in ("src", "href", "action", "data"):
            value = element.attributes.get(name, "#")
            assert value.startswith("#") or value == "data:,", (element.tag, value)


def test_the_file_is_small_and_the_same_every_time(tmp_path: Path) -> None:
    path = write_report(sample(), tmp_path / "new" / "report.html")
    assert path.stat().st_size < 1_400_000
    assert path.read_text(encoding="utf-8") == render_report(sample())
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_report_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FillpathError, match="cannot be written to"):
        write_report(sample(), tmp_path / "file" / "report.html")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match="report"):
        render_report(sample())


def test_the_vendored_runtime_is_what_was_built_for_this_altair() -> None:
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    wanted = json.loads((VENDOR / "package.json").read_text())["dependencies"]["vega-lite"]
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    assert wanted.split(".")[0] == major
    assert int(wanted.split(".")[1]) >= int(minor)
    licences = (VENDOR / "THIRD_PARTY_LICENSES.txt").read_text()
    for package in ("vega-lite 6", "vega-interpreter 2", "vega-parser 7", "d3-scale 4"):
        assert f"\n{package}." in licences
