"""Chains as trees: found by any id, grown around what was asked for, drawn without harm."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from duckdb import DuckDBPyConnection
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.output import inert, plain_decimal, print_json
from fillpath.analytics.span_words import short_trace
from fillpath.analytics.trace_loading import Trace, load_trace, trace_document
from fillpath.analytics.trace_lookup import ID_COLUMNS, Target, find_target
from fillpath.analytics.trace_tree import DEEPEST, Chain, chain_document, grow_chain
from fillpath.analytics.trace_view import print_trace
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import NotFound, UsageError
from fillpath.instrumentation.semconv import EventType, Order

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, Market, record_market


def span(sequence: int, parent: int | None, event_type: str = "ORDER") -> ChainSpan:
    values: dict[str, Any] = dict.fromkeys(ChainSpan.__dataclass_fields__)
    values.update(
        run_id="run",
        trace_id="0" * 32,
        span_id=f"{sequence:016x}",
        parent_span_id=None if parent is None else f"{parent:016x}",
        sequence=sequence,
        name=f"publish {event_type}",
        span_kind="PRODUCER",
        event_type=event_type,
        start_time=sequence * 1000,
        attributes={},
        links=(),
    )
    return ChainSpan(**values)


@st.composite
def forests(draw: st.DrawFn) -> tuple[list[ChainSpan], list[str]]:
    size = draw(st.integers(1, 40))
    spans = []
    for sequence in range(1, size + 1):
        # 0 stands for a root, 10_000 for a parent that is nowhere.
        parent = draw(st.sampled_from([0, 10_000, *range(1, sequence)]))
        spans.append(span(sequence, parent or None, draw(st.sampled_from(["BAR", "ORDER"]))))
    focus = draw(st.lists(st.sampled_from(spans), max_size=4))
    return draw(st.permutations(spans)), [one.span_id for one in focus]


def shown(chain: Chain) -> list[str]:
    return [node.span.span_id for node in chain.nodes()]


@given(forests(), st.one_of(st.none(), st.integers(0, 40)))
def test_every_span_is_shown_or_counted(
    forest: tuple[list[ChainSpan], list[str]], limit: int | None
) -> None:
    spans, focus = forest
    chain = grow_chain(spans, focus, limit=limit)
    drawn = shown(chain)
    hidden = sum(node.hidden.total() for node in chain.nodes()) + chain.hidden.total()
    assert len(drawn) == len(set(drawn))
    assert len(drawn) + hidden == len(spans) == chain.total
    for node in chain.nodes():
        assert all(child.parent is node for child in node.children)
        numbers = [child.span.sequence for child in node.children]
        assert numbers == sorted(numbers)
    by_id = {one.span_id: one for one in spans}
    for span_id in focus:
        above: str | None = span_id
        while above in by_id:
            assert above in drawn
            above = by_id[above].parent_span_id
    if limit is None:
        assert len(drawn) == len(spans)
    elif not focus:
        assert len(drawn) == min(limit, len(spans))


@given(forests())
def test_the_document_holds_every_span_once(forest: tuple[list[ChainSpan], list[str]]) -> None:
    spans, focus = forest
    waiting = list(chain_document(grow_chain(spans, focus))["roots"])
    found = []
    while waiting:
        document = waiting.pop()
        found.append(document["span_id"])
        for child in document["children"]:
            assert child["parent_span_id"] == document["span_id"]
        waiting += document["children"]
    assert sorted(found) == sorted(one.span_id for one in spans)


def test_a_focus_shows_what_led_to_it_and_what_came_of_it() -> None:
    spans = [
        span(1, None, "BAR"),
        span(2, 1, "SIGNAL"),
        span(3, 2),
        span(4, 3, "FILL"),
        span(5, 4, "PORTFOLIO"),
        *(span(number, 1, "SIGNAL") for number in range(6, 18)),
    ]
    chain = grow_chain(spans, [spans[3].span_id], limit=60)
    assert [node.span.sequence for node in chain.nodes()] == [1, 2, 3, 4, 5]
    assert dict(chain.roots[0].hidden) == {"SIGNAL": 12}
    drawn = draw(Trace(target("BAR"), (chain,), {}))
    assert "… 12 more events under this bar (12 SIGNAL); --all shows them" in drawn


def target(value: str) -> Target:
    return Target("trace", "trace_id", value, "run", None)


def test_a_deep_chain_can_still_be_read() -> None:
    depth = 5000
    chain = grow_chain([span(number, number - 1 or None) for number in range(1, depth + 1)])
    document = json.loads(json.dumps(chain_document(chain)))
    levels, node, count = 0, document["roots"][0], 1
    while node["children"]:
        assert all(child["parent_span_id"] for child in node["children"])
        count += len(node["children"])
        node, levels = node["children"][0], levels + 1
    assert levels == DEEPEST
    assert count == depth
    lines = draw(Trace(target("x"), (chain,), {}), width=100).splitlines()
    assert max(map(len, lines)) <= 100


def draw(trace: Trace, *, width: int = 100, **settings: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, **settings)  # type: ignore[arg-type]
    print_trace(console, trace)
    return out.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market") / "data"
    record_market(folder, "first", trades=2)
    record_market(folder, "second")
    record_market(folder, "other", portfolio="fund/other")
    with Tracing("third", data=folder, writer="inline") as tracing:
        here = Market(tracing)
        here.trade()
        beside = Market(tracing, portfolio="fund/beside", symbol="EMCA")
        beside.trade()
        beside.finish()
        here.finish()
    return folder


@pytest.fixture
def lake(data: Path) -> Iterator[DuckDBPyConnection]:
    with EventStore(data).connect() as connection:
        yield connection


@pytest.mark.parametrize("column", ID_COLUMNS)
def test_every_kind_of_id_is_found(lake: DuckDBPyConnection, column: str) -> None:
    for (value,) in lake.execute(
        f"SELECT DISTINCT {column} FROM spans WHERE run_id = 'first' AND {column} IS NOT NULL"
    ).fetchall():
        found = find_target(lake, value, run="first", kind=ID_COLUMNS[column])
        assert (found.column, found.value, found.run_id) == (column, value, "first")
        trace = load_trace(lake, found, everything=True)
        inside = [node.span for chain in trace.chains for node in chain.nodes()]
        assert any(getattr(one, column) == value for one in inside)


def test_latest_is_the_last_fill_of_the_last_run(lake: DuckDBPyConnection) -> None:
    found = find_target(lake, "latest")
    newest = lake.execute(
        "SELECT fill_id, portfolio FROM spans WHERE run_id = 'third' AND event_type = 'FILL' "
        "ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    assert (found.value, found.portfolio) == newest
    assert found.run_id == "third"
    assert find_target(lake, "latest", run="fir").value == "F-4"


def test_an_id_in_several_runs_is_the_newest_ones(lake: DuckDBPyConnection) -> None:
    found = find_target(lake, "O-2", portfolio="fund/desk")
    assert found.run_id == "third"
    assert "3 runs" in found.notes[0]
    assert find_target(lake, "O-2", run="first").notes == ()


def test_an_id_in_several_portfolios_is_the_last_ones(lake: DuckDBPyConnection) -> None:
    found = find_target(lake, "F-1", run="third")
    assert found.portfolio == "fund/beside"
    assert any("fund/desk" in note for note in found.notes)
    assert find_target(lake, "F-1", run="third", portfolio="fund/desk").portfolio == "fund/desk"


def test_a_unique_beginning_is_enough(lake: DuckDBPyConnection) -> None:
    (trace_id,) = lake.execute(  # type: ignore[misc]
        "SELECT trace_id FROM spans WHERE run_id = 'first' AND status = 'DENIED'"
    ).fetchone()
    # All chains of a run begin alike, and the sequence of the first event stands at the end.
    beginning = trace_id[:31]
    for given_id in (beginning, beginning.upper(), trace_id.upper(), short_trace(trace_id)):
        assert find_target(lake, given_id).value == trace_id
    assert find_target(lake, str(UUID(trace_id))).value == trace_id


def test_an_ambiguous_beginning_names_the_candidates(lake: DuckDBPyConnection) -> None:
    with pytest.raises(UsageError) as raised:
        find_target(lake, "O-", run="second")
    assert raised.value.exit_code == 2
    for order in ("O-1", "O-2", "O-3"):
        assert order in raised.value.message


@pytest.mark.parametrize("wrong", ["F-77", "", "  ", "'; DROP TABLE spans; --", "%", "x" * 300])
def test_an_unknown_id_is_not_found(lake: DuckDBPyConnection, wrong: str) -> None:
    with pytest.raises((NotFound, UsageError)) as raised:
        find_target(lake, wrong)
    assert raised.value.exit_code == (5 if wrong.strip() else 2)
    if wrong == "F-77":
        assert "nearest is 'F-" in raised.value.message
        assert raised.value.next_command is not None
        assert raised.value.next_command.startswith("fillpath trace show F-")


def test_an_exit_names_its_entry_and_the_entry_its_exit(lake: DuckDBPyConnection) -> None:
    exit_drawn = draw(load_trace(lake, find_target(lake, "F-2", run="first")), width=200)
    assert "↩ entry BUY 10 ACME @ 100.5" in exit_drawn
    assert "fill F-1" in exit_drawn
    entry = load_trace(lake, find_target(lake, "F-1", run="first"))
    assert [one.fill_id for one in entry.followers] == ["F-2"]
    assert "↪ exit SELL 10 ACME @ 99.25" in draw(entry, width=200)


def test_the_path_from_bar_to_fill(lake: DuckDBPyConnection) -> None:
    drawn = draw(load_trace(lake, find_target(lake, "F-1", run="first")), width=120)
    lines = [line[11:] for line in drawn.splitlines()]
    expected = [
        r"BAR ACME O 100.5 H 100.5 L 100.5 C 100.5  2023-11-15 22:13:20",
        r"└─ → Trend-1.on_bar",
        r"   ├─ SIGNAL trend = 1",
        r"   │  └─ ORDER INITIALIZED BUY 10 ACME market",
        r"   │     │  order O-1",
        r"   │     └─ COMMAND SubmitOrder",
        r"   │        └─ ORDER SUBMITTED",
        r"   │           └─  FILL  BUY 10 ACME @ 100.5  commission 1.25 USD ◀",
        r"   │              │  venue order V-1  fill F-1  position ACME-Trend-1",
    ]
    start = lines.index(expected[0])
    assert lines[start : start + len(expected)] == expected
    assert "PORTFOLIO XNAS-001 balance 1,000.50 USD" in drawn
    assert "… 2 more events under this handler (2 SIGNAL); --all shows them" in drawn
    everything = draw(load_trace(lake, find_target(lake, "F-1", run="first"), everything=True))
    assert "SIGNAL trend = ignored 1" in everything
    assert "--all" not in everything


def test_latency_is_counted_from_the_parent(lake: DuckDBPyConnection) -> None:
    trace = load_trace(lake, find_target(lake, "F-1", run="first"))
    for node in trace.chains[0].nodes():
        if node.parent is not None:
            assert node.latency == node.span.start_time - node.parent.span.start_time
            assert node.latency is not None
            assert node.latency >= 0


def test_a_position_is_shown_in_its_last_cycle(lake: DuckDBPyConnection) -> None:
    found = find_target(lake, "ACME-Trend-1", run="first")
    trace = load_trace(lake, found)
    assert trace.cycles == 2
    fills = {node.span.fill_id for chain in trace.chains for node in chain.nodes() if node.focus}
    assert fills - {None} == {"F-3", "F-4"}
    assert "opened 2 times, shown is the last" in draw(trace)
    assert len(load_trace(lake, found, everything=True).chains) == 4


def test_a_refusal_is_shown_with_its_reason(lake: DuckDBPyConnection) -> None:
    drawn = draw(
        load_trace(lake, find_target(lake, "O-5", run="first")),
        width=160,
        force_terminal=True,
        color_system="standard",
    )
    line = next(line for line in drawn.splitlines() if "DENIED" in line)
    reason = re.search(r"\x1b\[([0-9;]*)mnotional 98,000,000 is more than 1,000,000\x1b", line)
    assert reason is not None
    assert reason[1] == "31"


def test_an_order_in_many_chains_shows_the_telling_ones(tmp_path: Path) -> None:
    with Tracing("many", data=tmp_path, writer="inline") as tracing:
        market = Market(tracing)
        submitted, named = market.order(market.bar("100"), "BUY", "10")
        for _ in range(20):
            changed = {**named, Order.STATUS: "UPDATED"}
            market.publish(EventType.ORDER, market.bar("101"), changed)
        market.fill(submitted, named, "100")
        market.finish()
    with EventStore(tmp_path).connect() as connection:
        found = find_target(connection, "O-1")
        trace = load_trace(connection, found)
        assert len(trace.chains) == 4
        assert trace.other_chains == 17
        assert any(node.span.is_fill for node in trace.chains[0].nodes())
        assert "17 more chains of this order; --all shows them" in draw(trace)
        everything = load_trace(connection, found, everything=True)
        assert len(everything.chains) == 21
        assert len(trace_document(everything)["chains"]) == 21


@pytest.mark.parametrize("width", [40, 80, 200])
def test_hostile_names_are_inert(tmp_path: Path, width: int) -> None:
    record_market(
        tmp_path, "hostile", strategy=HOSTILE, symbol=HOSTILE + "x" * 300, portfolio=HOSTILE
    )
    with EventStore(tmp_path).connect() as connection:
        trace = load_trace(connection, find_target(connection, "latest"), everything=True)
    drawn = draw(trace, width=width)
    assert "<script>" in drawn.replace("\n", "")
    assert "[red]" in drawn.replace("\n", "")  # as text: rich's markup would have been eaten
    for character in drawn:
        assert character == "\n" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
    drawn_tree = drawn.splitlines()[4:]
    assert max(cell_len(line) for line in drawn_tree) <= max(width, 11 + 36 + 36)


def test_the_document_keeps_every_digit(
    lake: DuckDBPyConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_target(lake, "F-1", run="first")
    print_json(trace_document(load_trace(lake, found, everything=True)))
    document = json.loads(capsys.readouterr().out)
    waiting = [root for chain in document["chains"] for root in chain["roots"]]
    fill = None
    while waiting:
        one = waiting.pop()
        waiting += one["children"]
        if one["focus"]:
            fill = one
    assert fill is not None
    assert (fill["quantity"], fill["price"], fill["commission"]) == ("10", "100.5", "1.25")
    assert isinstance(fill["start_time"], int)
    assert fill["attributes"]["trading.fill.commission_currency"] == "USD"


@given(st.text(max_size=400), st.one_of(st.none(), st.integers(8, 60)))
def test_inert_text_obeys_nobody(text: str, longest: int | None) -> None:
    plain = inert(text, longest)
    assert longest is None or len(plain) <= longest
    assert not {unicodedata.category(one) for one in plain} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1.500", "1.5"),
        ("1E+3", "1000"),
        ("0E-9", "0"),
        ("-0.00", "0"),
        ("1E-18", f"0.{'0' * 17}1"),
    ],
)
def test_decimals_are_written_plainly(value: str, written: str) -> None:
    assert plain_decimal(Decimal(value)) == written
