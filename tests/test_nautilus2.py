"""Traced NautilusTrader 2.x backtests: they trade as untraced ones do, every fill has its causes.

The host scripts write down what the engine itself knows; that is the oracle. NautilusTrader 1.x has
the same name, so these tests have an environment of their own (`make test-nautilus2`); elsewhere
they are not collected.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.results_rows import RunResults, compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import NautilusInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder

HERE = Path(__file__).parent
HOSTS = sorted((HERE / "hosts").glob("nautilus2_*.py"))
CAUSES_OF_ORDERS = {
    "nautilus2_netting": {
        "Flips.on_quote": 5,
        "SIGNAL": 1,
        "Yen.on_quote": 2,
        "Changes.on_quote": 5,
        "Changes.on_hour": 3,
        "Changes.on_time_event": 1,
        "Changes.on_order_filled": 1,
        "Changes.on_stop": 1,
    },
    "nautilus2_brackets": {"SIGNAL": 174, "Brackets.on_position_closed": 4, "Brackets.on_stop": 1},
    "nautilus2_hedging": {"Hedger.on_quote": 14},
    # The halves follow from what the algorithm made of the whole, the order that is sent from the
    # one that was emulated.
    "nautilus2_algorithm": {"Configured.on_quote": 1, "Patient.on_quote": 2, "ORDER": 3},
    "nautilus2_node": {"SIGNAL": 26, "Breakout.on_stop": 1, "RoundTrip.on_quote": 3},
    "nautilus2_cash": {"Spot.on_quote": 13},
}
"""By host: how many orders follow from what handler, or else kind of event."""
MODULES = ("backtest", "trading", "common", "model", "portfolio", "live")
Row = dict[str, Any]


@dataclass
class TracedHost:
    """One host script, run alone and run traced."""

    name: str
    plain: str
    traced: str
    data: DataFolder
    results: RunResults

    @property
    def engines(self) -> dict[str, Row]:
        """What the engine says of each run, by the namespace that it is recorded under."""
        found: dict[str, Row] = {}
        for run in json.loads(self.plain)["runs"]:
            name = run["trader_id"].lower().replace("-", "/")
            again = sum(known.startswith(name) for known in found)
            found[f"{name}/{again + 1}" if again else name] = run
        return found

    def of_engines(self, table: str) -> list[Row]:
        return [{**row, "portfolio": p} for p, run in self.engines.items() for row in run[table]]

    def rows(self, query: str) -> list[Row]:
        return rows_of(self.data, query)


def rows_of(data: DataFolder, query: str) -> list[Row]:
    """Rows of a query over the lake, as maps."""
    with EventStore(data).connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with only the given settings of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FILLPATH_", "OTEL_"))}
    kept.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=kept | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "fillpath could not" not in done.stderr, done.stderr[-4000:]
    return done


def recording(folder: Path) -> tuple[str, ...]:
    """Arguments that run a script traced."""
    place = ("--data", str(folder), "--run-id", "host", "--writer", "inline")
    return ("-m", "fillpath.instrumentation", *place)


@pytest.fixture(scope="module", params=HOSTS, ids=lambda script: script.stem)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TracedHost:
    script: Path = request.param
    folder = tmp_path_factory.mktemp(script.stem)
    plain, traced, data = folder / "plain.json", folder / "traced.json", folder / "data"
    run_python(str(script), str(plain))
    run_python(*recording(data), str(script), str(traced))
    with EventStore(DataFolder(data)).connect(["host"]) as connection:
        results = compute_results(connection, "host")
    return TracedHost(script.stem, plain.read_text(), traced.read_text(), DataFolder(data), results)


# -- What the engine did is what is recorded ------------------------------------------------------


def test_tracing_changes_no_trade(host: TracedHost) -> None:
    assert host.traced == host.plain


def test_every_fill_of_the_engine_is_a_span(host: TracedHost) -> None:
    """Ids, side, digits and currencies of each fill equal those of the engine's own report."""
    spans = host.rows("select * from spans where event_type = 'FILL'")
    found = sorted(
        (
            row["portfolio"], row["client_order_id"], row["fill_id"], row["order_id"],
            row["strategy"], f"{row['symbol']}.{row['venue']}", row["position_id"], row["side"],
            row["order_type"], row["quantity"], row["price"], row["currency"], row["commission"],
            row["event_time"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            fill["portfolio"], fill["client_order_id"], fill["trade_id"], fill["venue_order_id"],
            fill["strategy_id"], fill["instrument_id"], fill["position_id"], fill["order_side"],
            fill["order_type"], Decimal(fill["last_qty"]), Decimal(fill["last_px"]),
            fill["currency"], Decimal(fill["commission"].split()[0]), fill["ts_event"],
        )
        for fill in host.of_engines("fills")
    )  # fmt: skip
    assert found == expected
    assert len(found) >= 4


def test_the_spans_of_an_order_tell_its_history(host: TracedHost) -> None:
    """The states that the engine put each order in, in order, whoever was told of them."""
    spans = host.rows(
        "select portfolio, client_order_id, event_type, status from spans"
        " where event_type in ('ORDER', 'FILL') order by sequence"
    )
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in spans:
        state = "FILL" if row["event_type"] == "FILL" else row["status"]
        found[row["portfolio"], row["client_order_id"]].append(state)
    words = {"OrderPendingUpdate": "PENDING_UPDATE", "OrderPendingCancel": "PENDING_CANCEL"}
    words["OrderFilled"] = "FILL"
    expected = {
        (order["portfolio"], order["client_order_id"]): [
            words.get(event) or event.removeprefix("Order").upper() for event in order["events"]
        ]
        for order in host.of_engines("orders")
    }
    assert found == expected
    reasons = host.rows(
        "select attributes->>'trading.order.reject.reason' as reason from spans"
        " where event_type = 'ORDER' and reason is not null"
    )
    known = Counter(reason for order in host.of_engines("orders") for reason in order["reasons"])
    assert Counter(row["reason"] for row in reasons) == known


def test_orders_stand_where_the_engine_left_them(host: TracedHost) -> None:
    table = host.results.tables["orders"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    found = {
        (row["portfolio"], row["client_order_id"]): (
            row["side"], row["order_type"], row["status"], row["quantity"], row["filled_quantity"],
        )
        for row in rows
    }  # fmt: skip
    expected = {
        (order["portfolio"], order["client_order_id"]): (
            order["side"], order["type"], order["status"], Decimal(order["quantity"]),
            Decimal(order["filled_qty"]),
        )
        for order in host.of_engines("orders")
    }  # fmt: skip
    assert found == expected


def test_closed_positions_realized_what_the_engine_reports(host: TracedHost) -> None:
    spans = host.rows(
        "select portfolio, strategy, position_id, attributes->>'trading.position.realized_pnl' as"
        " pnl, attributes->>'trading.position.currency' as currency,"
        " attributes->>'trading.position.opening_order_id' as opened,"
        " attributes->>'trading.position.closing_order_id' as closed"
        " from spans where event_type = 'POSITION_CLOSE'"
    )
    found = sorted(
        (
            row["portfolio"], row["strategy"], row["position_id"], row["opened"], row["closed"],
            Decimal(row["pnl"]), row["currency"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            row["portfolio"], row["strategy_id"], row["position_id"], row["opening_order_id"],
            row["closing_order_id"], Decimal(row["realized_pnl"].split()[0]),
            row["realized_pnl"].split()[1],
        )
        for row in host.of_engines("positions")
        if row["side"] == "FLAT"
    )  # fmt: skip
    assert found == expected


def test_statements_are_what_the_accounts_held(host: TracedHost) -> None:
    """First the start; after the last fill of each moment what the engine's own report says."""
    spans = host.rows("select * from spans where event_type = 'PORTFOLIO' order by sequence")
    times_of_fills = {(row["portfolio"], row["ts_event"]) for row in host.of_engines("fills")}
    said: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    at: dict[tuple[str, str, int], Decimal] = {}
    for row in spans:
        attributes = json.loads(row["attributes"])
        for balance in attributes["trading.account.balances"]:
            total = Decimal(balance["total"])
            said[row["portfolio"], balance["currency"]].append(total)
            at[row["portfolio"], balance["currency"], row["event_time"]] = total
    for portfolio, engine in host.engines.items():
        (account,) = engine["accounts"]
        for currency, ends in account["balances"].items():
            assert said[portfolio, currency][0] == Decimal(ends["start"])
            assert said[portfolio, currency][-1] == Decimal(ends["final"])
            for time, total in account["totals"][currency].items():
                if (portfolio, int(time)) in times_of_fills:
                    assert at[portfolio, currency, int(time)] == Decimal(total)


def start_of(account: Row, currency: str) -> Decimal:
    """What was held at the start; of a currency that came later the engine's report begins then."""
    first = {one: min(map(int, totals)) for one, totals in account["totals"].items()}
    is_new = first[currency] > min(first.values())
    return Decimal(0 if is_new else account["balances"][currency]["start"])


def test_profit_from_the_spans_is_the_engines_own(host: TracedHost) -> None:
    """The ledger reconciles with the statements, and these with the engine's own figures."""
    accounts = {(a.portfolio, a.account_id, a.currency): a for a in host.results.ledger.accounts}
    assert accounts
    for portfolio, engine in host.engines.items():
        (account,) = engine["accounts"]
        for currency, ends in account["balances"].items():
            found = accounts.pop((portfolio, account["account_id"], currency))
            assert found.status == "reconciled", found.notes
            assert found.difference == 0
            assert found.end == Decimal(ends["final"])
            assert found.start == start_of(account, currency)
            # Commissions taken off, as the engine does.
            engines = Decimal(engine["realized_pnls"][0].get(currency, 0))
            if account["type"] != "CASH":
                assert found.profit == engines
                continue
            # Of each fill the engine rounds what it reports, to the eight digits of a coin.
            assert abs(found.profit - engines) <= Decimal("1e-8") * len(engine["fills"])
    assert not accounts


# -- Causes ---------------------------------------------------------------------------------------


def test_every_order_and_fill_has_a_cause_that_was_recorded_before(host: TracedHost) -> None:
    loose = host.rows(
        """
        select child.sequence, child.event_type from spans child
        left join spans parent on parent.span_id = child.parent_span_id
        where child.event_type in ('ORDER', 'FILL', 'COMMAND', 'SIGNAL')
            and (parent.sequence is null or parent.sequence >= child.sequence)
            or child.parent_span_id is not null and parent.sequence is null
        """
    )
    assert not loose


def test_every_fill_leads_to_the_market_or_to_a_call_back(host: TracedHost) -> None:
    roots = host.rows(
        """
        select distinct root.event_type from spans fill
        join spans root on root.sequence = fill.root_sequence where fill.event_type = 'FILL'
        """
    )
    assert {row["event_type"] for row in roots} <= {"BAR", "TICK", "SYSTEM"}


def parents_of(host: TracedHost, condition: str) -> list[Row]:
    return host.rows(
        f"""
        select child.sequence, child.client_order_id, parent.event_type, parent.handler,
            parent.client_order_id as parents_order, parent.status as parents_status,
            parent.attributes->>'trading.command.name' as command, child.links
        from spans child join spans parent on parent.span_id = child.parent_span_id
        where {condition}
        """
    )


def test_a_cancelled_leg_hangs_under_the_fill_of_its_sibling(host: TracedHost) -> None:
    cancelled = parents_of(host, "child.event_type = 'ORDER' and child.status = 'CANCELED'")
    if host.name != "nautilus2_brackets":
        assert {row["command"] for row in cancelled} <= {"CancelOrder", "CancelAllOrders"}
        return
    kinds = Counter(row["command"] or row["event_type"] for row in cancelled)
    assert kinds["FILL"] > 20
    assert kinds["CancelOrder"] > 0
    for row in cancelled:
        assert row["command"] or row["parents_order"] != row["client_order_id"]
        assert json.loads(row["links"])  # the order's own last state


def test_changes_hang_under_their_command(host: TracedHost) -> None:
    changed = parents_of(host, "child.event_type = 'ORDER' and child.status = 'UPDATED'")
    by_command = [row for row in changed if row["event_type"] == "COMMAND"]
    # What the algorithm spawns, it takes off the order that was submitted to it.
    usual = {"SubmitOrder"} if host.name == "nautilus2_algorithm" else {"ModifyOrder"}
    assert {row["command"] for row in by_command} <= usual
    if host.name in ("nautilus2_brackets", "nautilus2_netting"):
        assert by_command


def test_orders_follow_from_the_handler_or_signal_they_came_of(host: TracedHost) -> None:
    new = parents_of(host, "child.event_type = 'ORDER' and child.status = 'INITIALIZED'")
    causes = Counter(row["handler"] or row["event_type"] for row in new)
    assert dict(causes) == CAUSES_OF_ORDERS[host.name]
    if host.name == "nautilus2_algorithm":
        own = [row for row in new if row["event_type"] == "ORDER"]
        assert {row["parents_order"] in row["client_order_id"] for row in own} == {True}


def test_an_error_in_the_users_code_is_on_its_handler(host: TracedHost) -> None:
    failed = host.rows("select handler, status_message from spans where status_code = 'ERROR'")
    if host.name == "nautilus2_netting":
        assert [row["handler"] for row in failed] == ["Flips.on_quote"]
        assert "the strategy's own error" in failed[0]["status_message"]
    else:
        assert not failed


def test_data_that_two_strategies_are_given_are_one_event(host: TracedHost) -> None:
    (found,) = host.rows(
        "select count(*) as events from spans where event_type in ('BAR', 'TICK')"
        " and name like 'publish%'"
    )
    assert found["events"] == sum(run["totals"][0] for run in host.engines.values())


# -- Attaching and letting go ---------------------------------------------------------------------


def tiny_engine(monkeypatch: pytest.MonkeyPatch, *, tag: str = "T") -> Any:
    """An engine whose strategy buys at the third quote and sells at the sixth."""
    monkeypatch.syspath_prepend(str(HERE / "hosts"))
    rust = importlib.import_module("rust_engine")
    model = importlib.import_module("nautilus_trader.model")
    instrument = rust.pair("EUR/USD")

    class Tiny(rust.ScriptedStrategy):  # type: ignore[name-defined]
        def script(self) -> dict[int, Any]:
            return {3: lambda: self.send("BUY"), 6: lambda: self.send("SELL")}

        def send(self, side: str) -> None:
            amount = model.Quantity.from_int(10_000)
            self.submit_order(
                self.order_factory.market(instrument.id, model.OrderSide.from_str(side), amount)
            )

    engine = rust.quiet_engine(f"TINY-{tag}")
    rust.add_margin_venue(engine)
    engine.add_instrument(instrument)
    engine.add_data(rust.quotes(instrument, [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]))
    strategy = Tiny(instrument, tag=tag)
    engine.add_strategy(strategy)
    return engine, strategy


def what_is_there() -> dict[tuple[str, str, str], Any]:
    """Every attribute of every class of the engine's."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"nautilus_trader.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type):
                for attribute, value in vars(kind).items():
                    found[name, kind.__name__, attribute] = value
    return found


@pytest.fixture
def instrumentor() -> Iterator[NautilusInstrumentor]:
    found = NautilusInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


def test_uninstrument_puts_back_the_very_objects(instrumentor: NautilusInstrumentor) -> None:
    before = what_is_there()
    instrumentor.instrument()
    instrumentor.instrument()
    assert any(value is not before[key] for key, value in what_is_there().items())
    instrumentor.uninstrument()
    after = what_is_there()
    assert after.keys() == before.keys()
    assert all(value is before[key] for key, value in after.items())


def test_an_engine_that_was_built_before_is_traced_from_its_next_run_on(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, strategy = tiny_engine(monkeypatch)
    kept = dict(vars(strategy))
    state = random.getstate()
    with Tracing("late", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert random.getstate() == state
    assert vars(strategy).keys() == kept.keys()  # nothing of ours stays on it
    rows = rows_of(DataFolder(tmp_path), "select event_type, portfolio, handler from spans")
    counted = Counter(row["event_type"] for row in rows)
    assert (counted["FILL"], counted["TICK"]) == (2, 7)
    assert {row["portfolio"] for row in rows} == {"tiny/t"}
    assert "Tiny.on_quote" in {row["handler"] for row in rows}


def test_runs_of_one_engine_go_on_until_it_is_reset(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrumentor.instrument()
    rust_ns = 60_000_000_000
    engine, _ = tiny_engine(monkeypatch)
    with Tracing("parts", data=tmp_path, writer="inline"):
        start = importlib.import_module("rust_engine").MONDAY_NS
        engine.run(end=start + 4 * rust_ns, streaming=True)
        engine.run(start=start + 5 * rust_ns, streaming=True)
        engine.end()
        engine.reset()
        engine.run()
    rows = rows_of(
        DataFolder(tmp_path),
        "select portfolio, count(*) filter (event_type = 'FILL') as fills from spans"
        " group by portfolio order by portfolio",
    )
    assert [row["portfolio"] for row in rows] == ["tiny/t", "tiny/t/2"]
    assert rows[0]["fills"] >= 1


def test_letting_go_in_the_middle_of_a_run_leaves_the_run_alone(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = tiny_engine(monkeypatch)
    alone.run()
    engine, strategy = tiny_engine(monkeypatch)
    script = strategy.script

    def letting_go() -> dict[int, Any]:
        return {**script(), 5: instrumentor.uninstrument}

    strategy.script = letting_go
    with Tracing("half", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert len(engine.cache.orders()) == len(alone.cache.orders()) == 2
    rows = rows_of(DataFolder(tmp_path), "select event_type from spans")
    counted = Counter(row["event_type"] for row in rows)
    assert (counted["FILL"], counted["TICK"]) == (1, 5)


def test_a_command_that_the_engine_refuses_is_none(
    instrumentor: NautilusInstrumentor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Orders instead of their ids, as 1.x takes them: the engine says so itself."""
    engine, strategy = tiny_engine(monkeypatch)
    script = strategy.script
    refused = []

    def with_orders() -> None:
        order = strategy.cache.orders()[0]
        for command in (strategy.modify_order, strategy.cancel_order, strategy.cancel_orders):
            try:
                command(order)
            except TypeError as error:
                refused.append(error)

    strategy.script = lambda: {**script(), 5: with_orders}
    with Tracing("refused", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert len(refused) == 3
    assert caplog.records == []
    rows = rows_of(DataFolder(tmp_path), "select event_type from spans")
    assert Counter(row["event_type"] for row in rows)["COMMAND"] == 2  # the orders sent


def test_an_engine_runs_untraced_when_nothing_can_be_recorded(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "file" / "data"))
    instrumentor.instrument()
    engine, _ = tiny_engine(monkeypatch)
    engine.run()
    assert len(engine.cache.orders()) == 2


def test_the_cause_that_an_event_names_is_preferred(tmp_path: Path) -> None:
    """Native ids are there in some modes of the engine; then no rule is asked."""
    model = importlib.import_module("nautilus_trader.model")
    orders = importlib.import_module("fillpath.instrumentation.nautilus_rust_orders")
    engine_run = importlib.import_module("fillpath.instrumentation.engine_run")
    fields: Row = {
        "trader_id": "T-1", "strategy_id": "S-1", "instrument_id": "EUR/USD.SIM",
        "account_id": "SIM-001", "ts_event": 1, "ts_init": 1, "reconciliation": False,
        "venue_order_id": "V-1", "causation_id": None,
    }  # fmt: skip
    first = "aaaaaaaa-0000-4000-8000-000000000001"
    with Tracing("named", data=tmp_path, writer="inline") as session:
        recorder = orders.OrderRecorder(engine_run.EngineRun(session, "named"), lambda _: None)
        recorder.cache = importlib.import_module("nautilus_trader.common").Cache()

        def event(kind: str, order: str, number: int, cause: str | None) -> Any:
            return getattr(model, kind).from_dict(
                fields
                | {
                    "client_order_id": order,
                    "event_id": f"aaaaaaaa-0000-4000-8000-{number:012}",
                    "causation_id": cause,
                }
            )

        accepted = recorder.order_event(event("OrderAccepted", "O-1", 1, None))
        expired = recorder.order_event(event("OrderExpired", "O-2", 2, first))
        assert recorder.order_event(event("OrderExpired", "O-2", 2, first)) is expired
    assert accepted is not None
    rows = rows_of(
        DataFolder(tmp_path), "select span_id, parent_span_id from spans order by sequence"
    )
    assert rows[1]["parent_span_id"] == rows[0]["span_id"]


def test_an_unknown_release_gets_one_warning_that_names_the_tested_ones(
    instrumentor: NautilusInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(NautilusInstrumentor, "version", "2.7.0")
    monkeypatch.setattr(NautilusInstrumentor, "_warned", set())
    with caplog.at_level(logging.WARNING):
        instrumentor.instrument()
        instrumentor.uninstrument()
        instrumentor.instrument()
    (warning,) = caplog.records
    assert "2.7.0" in warning.getMessage()
    assert re.search(r">=2\.0\.0rc\d", warning.getMessage())


def test_a_release_without_what_is_patched_is_left_alone(
    instrumentor: NautilusInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rust = importlib.import_module("fillpath.instrumentation.nautilus_rust")
    wanted = {**rust.PROBES, "nautilus_trader.trading": ("Strategy.of_tomorrow",)}
    monkeypatch.setattr(rust, "PROBES", wanted)
    before = what_is_there()
    instrumentor.instrument()
    assert all(value is before[key] for key, value in what_is_there().items())
    assert "Strategy.of_tomorrow" in caplog.text


# -- Without a change to the script ---------------------------------------------------------------


@pytest.mark.parametrize("way", ["fillpath run", "opentelemetry-instrument"])
def test_a_script_is_traced_as_it_is(way: str, tmp_path: Path) -> None:
    script, data = HERE / "hosts" / "nautilus2_hedging.py", tmp_path / "data"
    before: tuple[str, ...] = ("-m", "fillpath.analytics.cli", "run")
    if way != "fillpath run":
        before = (str(Path(sys.executable).with_name(way)), sys.executable)
    run_python(
        *before,
        str(script),
        str(tmp_path / "report.json"),
        FILLPATH_DATA=str(data),
        FILLPATH_WRITER="inline",
        OTEL_TRACES_EXPORTER="none",
    )
    rows = rows_of(DataFolder(data), "select event_type from spans where event_type = 'FILL'")
    assert len(rows) == 14


SWEEP = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from nautilus_trader.model import OrderSide, Quantity, StrategyId
from nautilus_trader.trading import Strategy, StrategyConfig
from rust_engine import SIM, USD, add_margin_venue, pair, quiet_engine, quotes

EURUSD = pair("EUR/USD")


class Config(StrategyConfig):
    def __new__(cls, amount):
        return super().__new__(cls, strategy_id=StrategyId("Buyer-1"), order_id_tag="1")

    def __init__(self, amount):
        self.amount = amount


class Buyer(Strategy):
    seen = 0

    def on_start(self):
        self.subscribe_quotes(EURUSD.id)

    def on_quote(self, quote):
        self.seen += 1
        if self.seen == 3:
            amount = Quantity.from_int(self.config.amount)
            self.submit_order(self.order_factory.market(EURUSD.id, OrderSide.BUY, amount))


def backtest(amount):
    engine = quiet_engine("SWEEP-001")
    add_margin_venue(engine)
    engine.add_instrument(EURUSD)
    engine.add_data(quotes(EURUSD, [1.1, 1.2, 1.3, 1.4]))
    engine.add_strategy(Buyer(Config(amount)))
    engine.run()
    return str(engine.cache.account_for_venue(SIM).balance_total(USD))


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        print(*pool.map(backtest, [1000, 2000, 3000]))
"""


def test_each_backtest_of_a_sweep_over_processes_is_a_run_with_its_parameters(
    tmp_path: Path,
) -> None:
    script, data = tmp_path / "sweep.py", tmp_path / "data"
    script.write_text(SWEEP)
    hosts = {"PYTHONPATH": str(HERE / "hosts")}
    alone = run_python(str(script), **hosts).stdout
    assert run_python(*recording(data), str(script), **hosts).stdout == alone
    catch_up(DataFolder(data))
    rows = rows_of(DataFolder(data), "select run_id, quantity from spans where event_type = 'FILL'")
    amounts = {row["run_id"]: int(row["quantity"]) for row in rows}
    runs = rows_of(DataFolder(data), "select run_id, parameters from runs")
    given = {row["run_id"]: json.loads(row["parameters"] or "{}").get("amount") for row in runs}
    assert sorted(amounts.values()) == [1000, 2000, 3000]
    assert {run_id: given[run_id] for run_id in amounts} == amounts


def test_the_example_of_the_page_is_traced(tmp_path: Path) -> None:
    page = (HERE.parent / "docs" / "nautilus-2.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script, data = tmp_path / "my_backtest.py", tmp_path / "data"
    script.write_text(example)
    done = run_python(*recording(data), str(script))
    rows = rows_of(
        DataFolder(data),
        "select attributes from spans where event_type = 'PORTFOLIO' order by sequence",
    )
    (balance,) = json.loads(rows[-1]["attributes"])["trading.account.balances"]
    assert done.stdout.strip() == f"{balance['total']} USD"
    assert f"balance {Decimal(balance['total']):,} USD" in page


