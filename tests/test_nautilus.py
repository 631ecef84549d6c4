"""Traced NautilusTrader backtests: they trade as untraced ones do, and every fill has its causes.

The host scripts write down what the engine itself knows; that is the oracle.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus_hosts import (
    BY_WALL_CLOCK,
    ENDS_IN_ERROR,
    Row,
    TracedHost,
    rows_of,
    run_host,
    without_times,
)

pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")

# NautilusTrader 1.231 calls what pandas 3 has put on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:Timestamp.utcnow is deprecated")

HOSTS = sorted((Path(__file__).parent / "hosts").glob("nautilus_*.py"))


def _param(script: Path) -> Any:
    marks = [pytest.mark.smoke] if script.stem == "nautilus_brackets" else []
    return pytest.param(script, id=script.stem, marks=marks)


@pytest.fixture(scope="module", params=map(_param, HOSTS))
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TracedHost:
    script: Path = request.param
    folder = tmp_path_factory.mktemp(script.stem)
    plain = run_host(script, folder / "plain.json")
    traced = run_host(script, folder / "traced.json", data=folder / "data")
    return TracedHost(script.stem, plain, traced, DataFolder(folder / "data"))


def test_tracing_changes_no_trade(host: TracedHost) -> None:
    if host.name in BY_WALL_CLOCK:
        assert without_times(host.traced) == without_times(host.plain)
    else:
        assert host.traced == host.plain


def test_every_fill_of_the_engine_is_a_span(host: TracedHost) -> None:
    """Ids, side, digits and currencies of each fill equal the engine's own."""
    spans = host.rows(
        """
        select portfolio, client_order_id, fill_id, order_id, strategy, symbol || '.' || venue
            as instrument, position_id, side, quantity, price, commission, currency,
            attributes->>'trading.fill.commission_currency' as commission_currency
        from spans where event_type = 'FILL'
        """
    )
    assert len(spans) == sum(len(run["fills"]) for run in host.truth)
    found = sorted(
        (
            row["client_order_id"], row["fill_id"], row["order_id"], row["strategy"],
            row["instrument"], row["side"], row["quantity"], row["price"], row["commission"],
            row["currency"], row["commission_currency"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            fill["client_order_id"], fill["trade_id"], fill["venue_order_id"], fill["strategy_id"],
            fill["instrument_id"], fill["side"], Decimal(fill["last_qty"]),
            Decimal(fill["last_px"]), Decimal(fill["commission"]), fill["currency"],
            fill["commission_currency"],
        )
        for run in host.truth
        for fill in run["fills"]
    )  # fmt: skip
    assert found == expected


def test_every_order_event_on_the_bus_is_one_span(host: TracedHost) -> None:
    """As many of each kind as another subscriber of the same bus counted.

    There may be more where the engine sends an event to its own parts only (an emulated order
    that trails), or stops before it publishes one; those are in the order's own history then.
    """
    published: Counter[str] = Counter()
    applied: Counter[str] = Counter()
    for run in host.truth:
        for name, count in run["published"]["events.order.*"].items():
            published[status_of(name)] += count
        applied.update(status_of(name) for order in run["orders"] for name in order["events"])
    rows = host.rows(
        """
        select case event_type when 'FILL' then 'FILLED' else status end as status,
            count(*) as spans
        from spans where name in ('publish ORDER', 'publish FILL') group by all
        """
    )
    spans = {row["status"]: row["spans"] for row in rows}
    assert set(spans) == set(published)
    for status, count in spans.items():
        assert published[status] <= count <= max(published[status], applied[status]), status


def status_of(event_name: str) -> str:
    """Status that an engine's event class stands for."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event_name.removeprefix("Order")).upper()


def test_the_spans_of_an_order_tell_its_history(host: TracedHost) -> None:
    """The states that the engine put the order in, in order.

    The engine applies two changes without publishing them (the PENDING_CANCEL of
    `cancel_all_orders`, the UPDATED of an order that an algorithm cuts in pieces), and publishes
    some that the order then refuses.
    """
    spans = host.rows(
        """
        select portfolio, client_order_id, list(
            case event_type when 'FILL' then 'FILLED' else status end order by sequence) as states
        from spans where name in ('publish ORDER', 'publish FILL') group by 1, 2
        """
    )
    found = sorted((row["client_order_id"], row["states"]) for row in spans)
    expected = sorted(
        (order["client_order_id"], [status_of(name) for name in order["events"]])
        for run in host.truth
        for order in run["orders"]
    )
    assert [order_id for order_id, _ in found] == [order_id for order_id, _ in expected]
    for (order_id, told), (_, applied) in zip(found, expected, strict=True):
        remaining = iter(told)
        published = [state for state in applied if state not in ("PENDING_CANCEL", "UPDATED")]
        assert all(state in remaining for state in published), order_id


def test_no_span_lacks_its_parent(host: TracedHost) -> None:
    orphans = host.rows(
        """
        select c.span_id from spans c left join spans p
            on p.span_id = c.parent_span_id and p.trace_id = c.trace_id
        where c.parent_span_id is not null and p.span_id is null
        """
    )
    assert orphans == []


def test_a_cause_comes_before_what_it_caused(host: TracedHost) -> None:
    wrong = host.rows(
        """
        select c.span_id from spans c join spans p on p.span_id = c.parent_span_id
        where p.sequence >= c.sequence or p.start_time > c.start_time
            or p.portfolio <> c.portfolio
        """
    )
    assert wrong == []


def test_an_event_lies_inside_its_cause_or_behind_it(host: TracedHost) -> None:
    """What is caused at once is over before its cause is; the rest begins after that."""
    crossing = host.rows(
        """
        select c.name, p.name as cause, count(*) as spans from spans c
        join spans p on p.span_id = c.parent_span_id
        where c.start_time < p.end_time and c.end_time > p.end_time
        group by all
        """
    )
    assert crossing == []


def test_every_fill_leads_to_the_market(host: TracedHost) -> None:
    roots = host.rows(
        """
        with recursive path as (
            select span_id as fill, span_id, parent_span_id, event_type, sequence from spans
            where name = 'publish FILL'
            union all
            select path.fill, p.span_id, p.parent_span_id, p.event_type, p.sequence
            from path join spans p on p.span_id = path.parent_span_id
        )
        select event_type, count(*) as fills, max(sequence) as last from path
        where parent_span_id is null
        group by event_type
        """
    )
    fills = sum(row["fills"] for row in roots)
    assert fills == sum(len(run["fills"]) for run in host.truth)
    # A call-back that ran before the first market event, or by a live clock, has nothing above it.
    first = host.rows("select min(sequence) n from spans where event_type in ('BAR','TICK','BOOK')")
    others = [row for row in roots if row["event_type"] not in ("BAR", "TICK", "BOOK", "SIGNAL")]
    assert all(row["event_type"] == "SYSTEM" for row in others)
    if host.name not in BY_WALL_CLOCK:
        assert all(row["last"] < first[0]["n"] for row in others)


def test_every_published_event_is_accounted_for(host: TracedHost) -> None:
    (run,) = host.rows(
        "select published, kept, sampled_out, dropped, completeness, status from runs"
    )
    spans = host.rows(
        """
        select portfolio, event_type, count(*) as kept from spans
        where name like 'publish %' group by all
        """
    )
    counted = json.loads(run["completeness"])
    assert run["status"] == ("Crashed" if host.name in ENDS_IN_ERROR else "Ended")
    assert run["published"] == run["kept"] + run["sampled_out"] + run["dropped"]
    assert {(c["portfolio"], c["event_type"]): c["published"] for c in counted} == {
        (row["portfolio"], row["event_type"]): row["kept"] for row in spans
    }


def test_nothing_is_left_unfinished(host: TracedHost) -> None:
    assert host.rows("select * from spans where end_time is null or end_time < start_time") == []


def test_market_events_equal_what_the_engine_published(host: TracedHost) -> None:
    """As many bars and ticks as another subscriber of the same bus counted."""
    engine = {"BAR": 0, "TICK": 0}
    for run in host.truth:
        for name, count in run["published"]["data.*"].items():
            kind = {"Bar": "BAR", "QuoteTick": "TICK", "TradeTick": "TICK"}.get(name)
            if kind:
                engine[kind] += count
    spans = host.rows(
        "select event_type, count(*) n from spans where name like 'publish %' group by 1"
    )
    counted = {row["event_type"]: row["n"] for row in spans}
    assert {kind: counted.get(kind, 0) for kind in engine} == engine


# -- Causes where the engine's queues leave no stack of deliveries --------------------------------


def of_host(*names: str) -> pytest.MarkDecorator:
    """Run a test with these hosts only."""
    return pytest.mark.parametrize(
        "host", [_param(script) for script in HOSTS if script.stem in names], indirect=True
    )


def caused(host: TracedHost, condition: str) -> list[Row]:
    """Events and their causes, where a condition holds of the event `c` and its cause `p`."""
    rows = host.rows(
        f"""
        select c.sequence, c.client_order_id as order_id, c.status, c.quantity, c.links,
            p.span_id as cause_id, p.client_order_id as cause_order_id, p.event_type as cause,
            p.name as cause_name, p.status as cause_status, p.handler,
            p.attributes->>'trading.command.name' as command
        from spans c left join spans p on p.span_id = c.parent_span_id
        where {condition} order by 1
        """
    )
    return [{**row, "links": json.loads(row["links"])} for row in rows]


@of_host("nautilus_brackets", "nautilus_live")
def test_a_leg_is_cancelled_under_its_siblings_fill(host: TracedHost) -> None:
    placed = {row["order_id"]: row for row in caused(host, "c.status = 'INITIALIZED'")}
    cancelled = caused(host, "c.status = 'CANCELED' and p.event_type <> 'COMMAND'")
    under_fills = [row for row in cancelled if row["cause"] == "FILL"]
    assert under_fills
    for row in cancelled:
        # Another leg's fill or cancellation, or that of the entry.
        assert (row["cause"], row["cause_status"]) in (("FILL", "FILLED"), ("ORDER", "CANCELED"))
        own, other = placed[row["order_id"]], placed[row["cause_order_id"]]
        assert own["order_id"] != other["order_id"]
        assert own["cause_id"] == other["cause_id"]
        assert row["links"]  # its own last state


@of_host("nautilus_order_types")
def test_an_exit_at_the_time_of_its_entry_links_to_it(host: TracedHost) -> None:
    pairs = host.rows(
        """
        select entry.span_id as entry, out.links from spans entry join spans out
            on out.event_time = entry.event_time and out.position_id = entry.position_id
            and out.symbol = entry.symbol and out.sequence > entry.sequence
        where entry.event_type = 'FILL' and out.event_type = 'FILL' and entry.side <> out.side
        """
    )
    assert pairs
    for row in pairs:
        assert row["entry"] in {link["span_id"] for link in json.loads(row["links"])}


@of_host("nautilus_brackets", "nautilus_live")
def test_the_orders_of_a_bracket_precede_its_command(host: TracedHost) -> None:
    commands = caused(host, "c.attributes->>'trading.command.name' = 'SubmitOrderList'")
    assert commands
    for row in commands:
        assert (row["cause"], row["cause_status"], len(row["links"])) == ("ORDER", "INITIALIZED", 2)


@of_host("nautilus_order_types", "nautilus_live")
def test_an_update_belongs_to_the_command_that_modified(host: TracedHost) -> None:
    asked = caused(host, "c.attributes->>'trading.command.name' = 'ModifyOrder'")
    updated = caused(host, "c.status = 'UPDATED'")
    by_command = [row for row in updated if row["command"] == "ModifyOrder"]
    assert asked
    assert by_command
    assert all(row["order_id"] == row["cause_order_id"] for row in by_command)
    wanted = {row["order_id"] for row in asked if row["cause_status"] == "PENDING_UPDATE"}
    assert {row["order_id"] for row in updated} & wanted == {r["order_id"] for r in by_command}


@of_host("nautilus_hedging")
def test_what_is_left_to_reduce_is_changed_and_cancelled_by_the_fills_that_leave_it(
    host: TracedHost,
) -> None:
    """And an order that trails is moved by the market, whatever was filled meanwhile."""
    rows = caused(host, "c.strategy = 'Leaver-002' and c.status in ('UPDATED', 'CANCELED')")
    left = [row for row in rows if row["cause"] == "FILL"]
    assert [row["status"] for row in left] == ["UPDATED"] * 3 + ["CANCELED"] * 3
    assert len({row["cause_id"] for row in left[:3]}) == len({row["cause_id"] for row in left[3:]})
    assert all(row["links"] for row in left)  # its own last state
    trailed = [row for row in rows if row not in left]
    assert any(row["sequence"] > left[2]["sequence"] for row in trailed)
    assert all(row["cause_order_id"] == row["order_id"] for row in trailed)


@of_host("nautilus_exec_algorithm", "nautilus_live")
def test_what_an_algorithm_spawns_lies_under_the_primary_order(host: TracedHost) -> None:
    spawned = caused(host, "c.status = 'INITIALIZED' and c.client_order_id like '%-E%'")
    assert spawned
    for row in spawned:
        assert row["cause_order_id"] == row["order_id"].rpartition("-E")[0]


@of_host("nautilus_timers", "nautilus_live")
def test_an_order_without_a_delivery_is_caused_by_the_running_call_back(host: TracedHost) -> None:
    rows = caused(host, "c.status = 'INITIALIZED' and p.event_type = 'SYSTEM'")
    assert {row["handler"] for row in rows} == {
        "nautilus_timers": {
            "Clockwork.on_event",  # of the engine's default timer
            "Clockwork.on_start",
            "Clockwork.on_rebalance",
            "Clockwork.on_turn_round",
            "Clockwork.on_stop",
        },
        "nautilus_live": {"ByTheClock.on_time", "Scripted.on_stop"},
    }[host.name]


@of_host("nautilus_live")
def test_an_order_of_a_task_is_caused_by_the_handler_that_began_it(host: TracedHost) -> None:
    (row,) = caused(host, "c.status = 'INITIALIZED' and c.quantity = 11000")
    assert (row["cause_name"], row["handler"]) == ("process TICK", "ByTheClock.on_quote_tick")


@of_host("nautilus_live")
def test_a_live_fill_leads_across_the_queues_to_the_handler_of_its_strategy(
    host: TracedHost,
) -> None:
    handlers = host.rows(
        """
        with recursive path as (
            select client_order_id, strategy as owner, span_id, parent_span_id, name, strategy,
                handler from spans where event_type = 'FILL'
            union all
            select path.client_order_id, owner, p.span_id, p.parent_span_id, p.name, p.strategy,
                p.handler
            from path join spans p on p.span_id = path.parent_span_id
        )
        select client_order_id, handler, owner, strategy from path where handler is not null
        """
    )
    fills = host.truth[0]["fills"]
    assert sorted(row["client_order_id"] for row in handlers) == sorted(
        fill["client_order_id"] for fill in fills
    )
    assert all(row["owner"] == row["strategy"] for row in handlers)
    told = Counter(row["handler"] for row in handlers)
    assert told == {
        "Scripted.on_quote_tick": 11,
        "ByBars.on_bar": 11,
        "ByTheClock.on_quote_tick": 4,
        "ByTheClock.on_time": 1,
        "Scripted.on_stop": 1,
    }


@of_host("nautilus_live")
def test_a_command_that_waits_behind_a_burst_of_quotes_is_recorded_once(host: TracedHost) -> None:
    commands = caused(host, "c.attributes->>'trading.command.name' = 'SubmitOrder'")
    times = Counter(row["order_id"] for row in commands)
    worked = {row["order_id"].rpartition("-E")[0] for row in commands if "-E" in row["order_id"]}
    # What an algorithm works is submitted to it, and by it.
    assert {order for order, count in times.items() if count > 1} == worked
    waited = host.rows(
        """
        select count(*) as quotes from spans q, spans c, spans o
        where c.attributes->>'trading.command.name' = 'SubmitOrder' and c.quantity is null
            and o.status = 'SUBMITTED' and o.parent_span_id = c.span_id and q.event_type = 'TICK'
            and q.sequence > c.sequence and q.sequence < o.sequence
        group by c.sequence order by 1 desc limit 1
        """
    )
    assert waited[0]["quotes"] > 250


@of_host("nautilus_live")
def test_profit_and_orders_of_a_live_node_equal_its_own(host: TracedHost) -> None:
    """To the cent, though a cancellation crosses a fill: the order stays filled."""
    (run,) = host.truth
    with EventStore(host.data).connect(["host"]) as connection:
        results = compute_results(connection, "host")
    (account,) = results.ledger.accounts
    (balance,) = run["accounts"][0]["balances"]
    assert account.status is ReconciliationStatus.RECONCILED
    assert (account.start, account.end) == (Decimal(balance["start"]), Decimal(balance["final"]))
    assert account.difference == 0
    columns = results.tables["orders"].columns
    orders = [dict(zip(columns, row, strict=True)) for row in results.tables["orders"].rows]
    assert {row["client_order_id"]: row["status"] for row in orders} == {
        order["client_order_id"]: order["status"] for order in run["orders"]
    }


def tree_of(data: DataFolder, columns: str) -> list[Row]:
    """All spans of a lake without run id and wall clock."""
    return rows_of(data, f"select {columns} from spans order by sequence")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[DataFolder]:
    """The same host recorded three times: one run id twice, then another."""
    script = Path(__file__).parent / "hosts" / "nautilus_brackets.py"
    folders = []
    for number, run_id in enumerate(("same", "same", "other")):
        folder = tmp_path_factory.mktemp(f"again{number}")
        run_host(script, folder / "report.json", data=folder / "data", run_id=run_id)
        folders.append(DataFolder(folder / "data"))
    return folders


_WITHOUT_CLOCK = "* exclude (run_id, start_time, end_time, duration)"
_WITHOUT_IDS = (
    "* exclude (run_id, start_time, end_time, duration, trace_id, span_id, parent_span_id,"
    " correlation_id, links)"
)


def test_the_same_run_id_gives_the_same_ids(twice: list[DataFolder]) -> None:
    assert tree_of(twice[0], _WITHOUT_CLOCK) == tree_of(twice[1], _WITHOUT_CLOCK)


def test_another_run_id_gives_the_same_tree(twice: list[DataFolder]) -> None:
    shape = """select c.sequence, p.sequence as parent from spans c
        left join spans p on p.span_id = c.parent_span_id order by 1"""
    assert rows_of(twice[0], shape) == rows_of(twice[2], shape)
    assert tree_of(twice[0], _WITHOUT_IDS) == tree_of(twice[2], _WITHOUT_IDS)
    ids = "select span_id from spans"
    assert rows_of(twice[0], ids) != rows_of(twice[2], ids)


def test_the_page_about_the_engine_is_true(tmp_path: Path) -> None:
    """Its example runs, reconciles, and shows the tree that the page shows."""
    pytest.importorskip("backtesting", reason="its prices are not installed (extra 'backtesting')")
    page = (Path(__file__).parents[1] / "docs" / "nautilus.md").read_text(encoding="utf-8")
    one_line, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = tmp_path / "my_backtest.py"
    script.write_text(one_line + example)
    environment = {**os.environ, "FILLPATH_DATA": str(tmp_path / "data"), "FILLPATH_RUN_ID": "fx"}
    environment["PYTHONWARNINGS"] = "ignore"  # other packages' own
    subprocess.run([sys.executable, str(script)], check=True, env=environment, timeout=120)

    def fillpath(*command: str) -> str:
        program = [sys.executable, "-m", "fillpath.analytics.cli", *command]
        return subprocess.run(
            program, check=True, capture_output=True, text=True, env=environment, timeout=120
        ).stdout

    assert json.loads(fillpath("attribution", "fx", "--reconcile", "--json"))["reconciled"]
    shown = fillpath("trace", "show", "latest", "--run", "fx", "--all")
    (tree,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    def told(line: str) -> str:
        return re.sub(r"^\s*(\+[\d.]+ \S+)?[\s│├└─]*", "", line)

    shown_lines = {told(line) for line in shown.splitlines()}
    for line in map(told, tree.splitlines()):
        assert any(each.startswith(line) for each in shown_lines), line
