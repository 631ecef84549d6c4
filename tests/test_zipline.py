"""Traced zipline algorithms: they trade as untraced ones do, and every fill has its causes.

The host scripts write down what the engine itself knows; that is the oracle. They run in this
process, because the engine takes seconds to import.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from fillpath.analytics.cli import app
from fillpath.analytics.fifo_matches import disagreements, fifo_matches
from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import Tracing, ZiplineInstrumentor
from fillpath.instrumentation.runner import main as run_recorded
from fillpath.instrumentation.settings import DataFolder

pytest.importorskip("zipline", reason="the engine is not installed (extra 'zipline')")
pd = pytest.importorskip("pandas")

pytestmark = [
    # zipline 3.2 writes its asset tables by what pandas 2.2 and 3 have put on their way out.
    pytest.mark.filterwarnings("ignore:DataFrameGroupBy.apply operated on the grouping columns"),
    pytest.mark.filterwarnings("ignore:Timestamp.utcnow is deprecated"),
    # What zipline 3.2 says of times on import, NumPy 2.5 has put on its way out.
    pytest.mark.filterwarnings("ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning"),
    # It leaves the databases of bundles open, which Python 3.13 says when they are collected.
    pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <sqlite3:pytest.PytestUnraisableExceptionWarning"
    ),
    # zipline 3.2 makes arrays of one element numbers, and zeros a share of nothing.
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered:RuntimeWarning"),
]

HOSTS = Path(__file__).parent / "hosts"
RECONCILED = ("zipline_orders", "zipline_minutes", "zipline_two_algorithms", "zipline_futures")
Row = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prices for all hosts, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIPLINE_ROOT", str(tmp_path_factory.mktemp("zipline")))
        patch.syspath_prepend(HOSTS)
        yield
    gc.collect()  # what the engine leaves open is told here, and not in somebody else's test


def run_host(name: str, report: Path, *arguments: str) -> Any:
    """Run a host; gives the engine's own report."""
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", str(report), *arguments])
        module.main()
    return json.loads(report.read_text(encoding="utf-8"))


def traced(data: Path, body: Callable[[], Any], **settings: Any) -> Any:
    """Do something with the engine under a recording session."""
    instrumentor = ZiplineInstrumentor()
    with Tracing("host", data=data, writer="inline", otlp="off", **settings):
        instrumentor.instrument()
        try:
            return body()
        finally:
            instrumentor.uninstrument()


def rows_of(data: Path, query: str) -> list[Row]:
    with EventStore(DataFolder(data)).connect() as connection:
        return told(connection, query)


def told(connection: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    result = connection.execute(query)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@dataclass
class TracedHost:
    """One host, run alone and run traced."""

    name: str
    plain: Any
    traced: Any
    data: Path

    @property
    def truth(self) -> dict[str, Row]:
        """What the engine said of each run, by its portfolio."""
        runs: dict[str, Row] = self.traced["runs"]
        return {
            f"default/{n}" if n > 1 else "default": runs[name]
            for n, name in enumerate(self.order, start=1)
        }

    @property
    def order(self) -> list[str]:
        known = {"zipline_minutes": ["daily", "minute"], "zipline_two_algorithms": [
            "leveraged", "hold"], "zipline_futures": ["daily", "minute"]}  # fmt: skip
        return known.get(self.name, ["run"])

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        return EventStore(DataFolder(self.data)).connect(["host"])

    @cached_property
    def ledger(self) -> Ledger:
        return compute_ledger(self.connection, "host")

    def rows(self, query: str) -> list[Row]:
        return told(self.connection, query)


Recorded = Callable[[str], TracedHost]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Runs a host alone and traced, once for all who ask."""
    done: dict[str, TracedHost] = {}

    def record(name: str) -> TracedHost:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            plain = run_host(name, folder / "plain.json")
            report = traced(folder / "data", lambda: run_host(name, folder / "traced.json"))
            done[name] = TracedHost(name, plain, report, folder / "data")
        return done[name]

    yield record
    for host in done.values():
        host.connection.close()


@pytest.fixture(params=RECONCILED)
def host(request: pytest.FixtureRequest, recorded: Recorded) -> TracedHost:
    return recorded(request.param)


@pytest.fixture
def orders(recorded: Recorded) -> TracedHost:
    """What was recorded of the host with all kinds of orders."""
    return recorded("zipline_orders")


def test_tracing_changes_no_trade(host: TracedHost) -> None:
    """Fills, orders, positions and every day's cash and value; and what chance gave a strategy."""
    assert host.traced == host.plain


def test_every_transaction_of_the_engine_is_one_fill(host: TracedHost) -> None:
    spans = host.rows(
        "select portfolio, symbol, side, quantity, price, client_order_id, currency, "
        "coalesce(commission::double, (attributes->>'trading.fill.commission')::double) "
        "as commission from spans where event_type = 'FILL' order by sequence"
    )
    for portfolio, truth in host.truth.items():
        found = [
            (
                span["symbol"],
                float(span["quantity"]) * (1 if span["side"] == "BUY" else -1),
                float(span["price"]),
                span["currency"],
                span["client_order_id"] is None,
            )
            for span in spans
            if span["portfolio"] == portfolio
        ]
        expected = [
            (one["symbol"], one["amount"], float(one["price"]), "USD", one["order"] is None)
            for one in truth["transactions"]
        ]
        assert found == expected
        charged: dict[str, float] = {}
        for span in spans:
            if span["portfolio"] == portfolio and span["client_order_id"] is not None:
                order = span["client_order_id"]
                charged[order] = charged.get(order, 0.0) + span["commission"]
        said = sorted(float(one["commission"]) for one in truth["orders"].values())
        by_order = sorted(one for one in charged.values() if one)
        assert by_order == pytest.approx([one for one in said if one], abs=1e-12)


def test_orders_end_as_the_engine_says(host: TracedHost) -> None:
    words = {0: "OPEN", 1: "FILLED", 2: "CANCELLED", 3: "REJECTED", 4: "HELD"}
    rows = host.rows(
        "select portfolio, symbol, status from spans where client_order_id is not null "
        "and event_type in ('ORDER', 'FILL') and name like 'publish %' "
        "qualify row_number() over (partition by portfolio, client_order_id "
        "order by sequence desc) = 1"
    )
    for portfolio, truth in host.truth.items():
        found = Counter(
            (one["symbol"], one["status"]) for one in rows if one["portfolio"] == portfolio
        )
        expected = Counter(
            (one["symbol"], words[one["status"]]) for one in truth["orders"].values()
        )
        assert found == expected


def test_every_order_and_fill_goes_back_to_a_bar_or_a_call_of_the_engines(host: TracedHost) -> None:
    spans = host.rows(
        "select span_id, parent_span_id, sequence, event_type, name, handler from spans "
        "where run_id = 'host'"
    )
    by_id = {span["span_id"]: span for span in spans}
    roots = set()
    for span in spans:
        if span["event_type"] not in {"ORDER", "FILL"}:
            continue
        one = span
        while one["parent_span_id"] is not None:
            parent = by_id[one["parent_span_id"]]
            assert parent["sequence"] < one["sequence"]
            one = parent
        roots.add(one["event_type"])
    assert roots == {"BAR"}


def test_profit_is_the_engines_own(host: TracedHost) -> None:
    """What all slices come to is what the engine's portfolio is worth more than was put in."""
    for portfolio, truth in host.truth.items():
        (account,) = [a for a in host.ledger.accounts if a.portfolio == portfolio]
        assert account.status.value == "reconciled", account.notes
        last = truth["days"][-1]
        capital = 50_000.0 if host.name == "zipline_minutes" else 100_000.0
        profit = sum(
            (one.amount for one in host.ledger.slices if one.ref.portfolio == portfolio),
            Decimal(0),
        )
        worth = float(profit + account.transfers) + capital
        assert worth == pytest.approx(float(last["value"]), abs=1e-7)
        assert account.end is not None
        assert float(account.end) == pytest.approx(float(last["cash"]), abs=1e-7)


def test_the_queue_of_lots_and_sql_agree(host: TracedHost) -> None:
    ledger = host.ledger
    with duckdb.connect() as connection:
        assert fifo_matches(connection, ledger.legs) is not None
        assert disagreements(connection, ledger.legs, ledger.matches) == []


def test_what_is_open_at_the_end_is_what_the_engine_holds(host: TracedHost) -> None:
    for portfolio, truth in host.truth.items():
        found: Counter[str] = Counter()
        for trip in host.ledger.trips:
            if trip.opened_by.ref.portfolio == portfolio and trip.is_open:
                sign = 1 if trip.direction == "LONG" else -1
                found[trip.opened_by.symbol] += sign * trip.open_quantity  # type: ignore[assignment]
        held = {one["symbol"]: one["amount"] for one in truth["positions"]}
        assert {symbol: float(amount) for symbol, amount in found.items()} == held


def test_equity_ends_each_day_at_the_value_of_the_portfolio(host: TracedHost) -> None:
    """With splits in between, and dividends that were paid."""
    for portfolio, truth in host.truth.items():
        points = [p for p in host.ledger.equity if p.ref.portfolio == portfolio]
        at_close: dict[int | None, float] = {}
        for point in points:  # money that comes in overnight does so at the time of the close
            at_close.setdefault(point.ref.event_time, float(point.equity))
        for day in truth["days"]:
            moment = pd.Timestamp(day["day"]).value
            assert at_close[moment] == pytest.approx(float(day["value"]), rel=1e-9), day["day"]


@pytest.mark.parametrize("portfolio", ["default", "default/2"])
def test_each_contract_has_earned_what_its_transactions_and_its_last_price_make(
    recorded: Recorded, portfolio: str
) -> None:
    """And the engine's cash has all of it already, also of what is open."""
    futures = recorded("zipline_futures")
    truth = futures.truth[portfolio]
    size = {
        name: m
        for name, (_, _, m, _) in importlib.import_module("zipline_futures").CONTRACTS.items()
    }
    expected: Counter[str] = Counter()
    for one in truth["transactions"]:
        expected[one["symbol"]] -= one["amount"] * float(one["price"]) * size.get(one["symbol"], 1)
    for one in truth["positions"]:
        worth = one["amount"] * float(one["last_sale_price"]) * size.get(one["symbol"], 1)
        expected[one["symbol"]] += worth
    found: Counter[str] = Counter()
    for one in futures.ledger.slices:
        if one.ref.portfolio == portfolio and one.kind in {"realized", "unrealized"}:
            found[one.symbol] += float(one.amount)  # type: ignore[assignment]
    assert found.keys() == expected.keys()
    for symbol, amount in expected.items():  # the engine keeps multipliers in 32 bits
        assert found[symbol] == pytest.approx(amount, abs=1e-5), symbol


def test_what_a_future_pays_each_day_is_a_cash_flow_of_its_own_and_no_profit(
    recorded: Recorded,
) -> None:
    futures = recorded("zipline_futures")
    (row,) = futures.rows(
        "select count(distinct symbol) as symbols, count(*) > 100 as are_many from spans where "
        "attributes->>'trading.cash_flow.type' = 'VARIATION_MARGIN' and portfolio = 'default'"
    )
    assert row == {"symbols": 4, "are_many": True}
    assert not [one for one in futures.ledger.slices if one.kind == "cash_flow"]
    # By minutes the engine pays every minute; one line a day and fill says so.
    (row,) = futures.rows(
        "select count(*) < 100 as are_few from spans where portfolio = 'default/2' "
        "and event_type in ('CASH_FLOW', 'PORTFOLIO')"
    )
    assert row["are_few"]


def test_what_the_engine_closes_by_itself_says_so(recorded: Recorded) -> None:
    rows = recorded("zipline_futures").rows(
        "select symbol, attributes->>'trading.order.reason' as reason from spans "
        "where event_type = 'FILL' and client_order_id is null"
    )
    assert {(row["symbol"], row["reason"]) for row in rows} == {
        ("MSH05", "auto_close"),
        ("IBH05", "auto_close"),
    }


def own_portal(change: float) -> Any:
    """A data portal that makes other prices of those of the hosts' bundle, and counts its work."""
    from zipline.data import bundles
    from zipline.data.data_portal import DataPortal
    from zipline.utils.calendar_utils import get_calendar

    market = importlib.import_module("zipline_market")
    market.use_bundle()
    data = bundles.load(market.BUNDLE)

    class Own(DataPortal):  # type: ignore[misc, unused-ignore]
        calls = 0

        def get_scalar_asset_spot_value(
            self, asset: Any, field: str, dt: Any, data_frequency: str
        ) -> Any:
            self.calls += 1
            value = super().get_scalar_asset_spot_value(asset, field, dt, data_frequency)
            return value * change if field in {"price", "close"} else value

        get_spot_value = get_scalar_asset_spot_value

    return Own(
        data.asset_finder,
        trading_calendar=get_calendar("XNYS"),
        first_trading_day=data.equity_daily_bar_reader.first_trading_day,
        equity_daily_reader=data.equity_daily_bar_reader,
        adjustment_reader=data.adjustment_reader,
    )


def algorithm_of(portal: Any, **functions: Any) -> Any:
    from zipline.algorithm import TradingAlgorithm
    from zipline.finance.trading import SimulationParameters
    from zipline.utils.calendar_utils import get_calendar

    first, last = pd.Timestamp("2004-10-04"), pd.Timestamp("2004-10-29")
    calendar = get_calendar("XNYS")
    return TradingAlgorithm(
        sim_params=SimulationParameters(
            start_session=first,
            end_session=last,
            trading_calendar=calendar,
            capital_base=100_000.0,
            data_frequency="daily",
        ),
        data_portal=portal,
        trading_calendar=calendar,
        benchmark_returns=pd.Series(
            0.0, index=calendar.sessions_in_range(first, last).tz_localize("UTC")
        ),
        **{"initialize": begin, "handle_data": buy_each_day, **functions},
    )


def ledger_of(data: Path) -> Ledger:
    with EventStore(DataFolder(data)).connect(["host"]) as connection:
        return compute_ledger(connection, "host")


def test_a_portal_of_the_users_own_decides_what_is_held_is_worth(tmp_path: Path) -> None:
    """Its prices are the engine's, and nobody else asks it for any."""
    plain_portal, portal = own_portal(1.25), own_portal(1.25)
    plain = algorithm_of(plain_portal).run()
    perf = traced(tmp_path, lambda: algorithm_of(portal).run())
    assert perf["portfolio_value"].tolist() == plain["portfolio_value"].tolist()
    assert portal.calls == plain_portal.calls
    ledger = ledger_of(tmp_path)
    (account,) = ledger.accounts
    assert account.status.value == "reconciled", account.notes
    at_close = {point.ref.event_time: float(point.equity) for point in ledger.equity}
    for day, value in perf["portfolio_value"].items():
        assert at_close[pd.Timestamp(day).value] == pytest.approx(value, rel=1e-9)
    profit = float(sum((one.amount for one in ledger.slices), Decimal(0)))
    assert profit + 100_000 == pytest.approx(perf["portfolio_value"].iloc[-1], rel=1e-9)


def test_a_run_that_is_stepped_through_is_traced_as_one_that_is_run(tmp_path: Path) -> None:
    def step() -> list[Any]:
        return list(algorithm_of(own_portal(1.0)).get_generator())

    plain = step()
    days = traced(tmp_path, step)
    assert [one["daily_perf"]["ending_cash"] for one in days[:-1]] == [
        one["daily_perf"]["ending_cash"] for one in plain[:-1]
    ]
    ledger = ledger_of(tmp_path)
    (account,) = ledger.accounts
    assert account.status.value == "reconciled", account.notes
    assert float(account.end or 0) == pytest.approx(days[-2]["daily_perf"]["ending_cash"])
    (run,) = rows_of(tmp_path, "select status, parameters->>'capital_base' as capital from runs")
    assert run == {"status": "Ended", "capital": "100000.0"}


def test_a_run_that_is_left_in_the_middle_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    def step() -> None:
        algorithm = algorithm_of(own_portal(1.0))
        days = algorithm.get_generator()
        for _ in range(5):
            next(days)
        days.close()
        assert not {n for n in vars(algorithm.blotter) if callable(vars(algorithm.blotter)[n])}

    traced(tmp_path, step)
    (row,) = rows_of(tmp_path, "select count(*) as fills from spans where event_type = 'FILL'")
    assert row["fills"] == 4
    assert ledger_of(tmp_path).accounts[0].status.value == "reconciled"


def parents(host: TracedHost, where: str) -> list[tuple[str, str | None, str | None]]:
    """Kind of the parent, its handler and its status, of the events that a condition names."""
    return [
        (row["name"], row["handler"], row["status"])
        for row in host.rows(
            "select p.name, p.handler, p.status from spans c join spans p "
            f"on c.parent_span_id = p.span_id where {where} order by c.sequence",
        )
    ]


def test_a_target_is_the_signal_that_its_order_follows_from(orders: TracedHost) -> None:
    found = orders.rows(
        "select p.attributes->>'trading.signal.name' as signal, count(*) as orders from spans c "
        "join spans p on c.parent_span_id = p.span_id where c.event_type = 'ORDER' "
        "and p.event_type = 'SIGNAL' group by 1 order by 1",
    )
    assert [row["signal"] for row in found] == ["target", "target_percent"]
    plain = parents(orders, "c.event_type = 'ORDER' and c.status = 'OPEN'")
    assert ("process BAR", "handle_data", None) in plain
    assert ("process BAR", "rebalance", None) not in plain  # those have targets


def test_a_target_that_is_made_of_others_stays_the_signal_of_its_own_order(
    recorded: Recorded,
) -> None:
    found = recorded("zipline_two_algorithms").rows(
        "select p.attributes->>'trading.signal.name' as signal, c.event_type as kind, "
        "count(*) as events from spans c join spans p on c.parent_span_id = p.span_id "
        "where p.event_type = 'SIGNAL' group by all order by all"
    )
    times = found[0]["events"]
    assert times > 3
    assert [(row["signal"], row["kind"], row["events"]) for row in found] == [
        ("target", "ORDER", times),
        ("target_percent", "ORDER", times),
        ("target_percent", "SIGNAL", times),
    ]


def test_numbers_of_numpy_are_parameters_too(recorded: Recorded) -> None:
    (run,) = recorded("zipline_two_algorithms").rows(
        "select parameters->>'first' as first, parameters->>'symbol' as symbol from runs"
    )
    assert run == {"first": "5", "symbol": "AAPL"}


def test_a_cancellation_follows_from_who_asked_for_it(orders: TracedHost) -> None:
    found = Counter(parents(orders, "c.status = 'CANCELLED'"))
    assert found == {
        ("process BAR", "handle_data", None): 4,
        ("process SYSTEM", "auto_close", None): 1,
    }
    (links,) = {
        row["links"]
        for row in orders.rows(
            "select json_array_length(links) as links from spans where status = 'CANCELLED'",
        )
    }
    assert links == 1  # the state before


def test_a_split_is_what_changes_the_orders_that_wait(orders: TracedHost) -> None:
    assert parents(orders, "c.status = 'UPDATED'") == [("publish CORPORATE_ACTION", None, None)] * 3
    changed = orders.rows(
        "select quantity, price from spans where status = 'UPDATED' and price is not null",
    )
    assert [(row["quantity"], row["price"]) for row in changed] == [
        (200, 15),
        (102, 25),
        (42, 5),
    ]


def test_what_the_engine_closes_by_itself_has_a_cause_and_its_entry_as_a_link(
    orders: TracedHost,
) -> None:
    assert parents(orders, "c.event_type = 'FILL' and c.client_order_id is null") == [
        ("process SYSTEM", "auto_close", None)
    ]


def test_dividends_are_cash_flows_and_those_on_borrowed_shares_are_paid(orders: TracedHost) -> None:
    flows = orders.rows(
        "select symbol, attributes->>'trading.cash_flow.type' as kind, "
        "attributes->>'trading.cash_flow.amount' as amount from spans "
        "where event_type = 'CASH_FLOW' order by sequence",
    )
    assert [(f["symbol"], f["kind"], round(float(f["amount"]), 2)) for f in flows] == [
        ("MSFT", "DIVIDEND", round(753 * 3.08, 2)),
        ("IBM", "DIVIDEND", round(-300 * 0.18, 2)),
        ("MSFT", "DIVIDEND", round(919 * 0.08, 2)),
    ]


def test_a_control_that_logs_is_a_breach_and_the_order_goes_on(orders: TracedHost) -> None:
    breaches = orders.rows(
        "select attributes->>'trading.risk.rule' as rule, attributes->>'trading.risk.limit' as top "
        "from spans where event_type = 'RISK_BREACH'",
    )
    assert {(row["rule"], row["top"]) for row in breaches} == {("MaxOrderSize", "40")}


def test_a_fill_links_to_the_bar_it_was_filled_at(orders: TracedHost) -> None:
    rows = orders.rows(
        "select f.symbol = b.symbol and f.event_time = b.event_time as same from ("
        'select symbol, event_time, unnest(from_json(links, \'[{"span_id": "VARCHAR"}]\')).span_id '
        "as link from spans where event_type = 'FILL') f join spans b on b.span_id = f.link "
        "where b.event_type = 'BAR'",
    )
    assert len(rows) == 37
    assert all(row["same"] for row in rows)


def test_what_user_code_raises_is_on_its_span_and_reaches_the_host(tmp_path: Path) -> None:
    from zipline.errors import TradingControlViolation

    module = importlib.import_module("zipline_user_error")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["host", str(tmp_path / "report.json")])
        with pytest.raises(TradingControlViolation, match="LongOnly"):
            traced(tmp_path / "data", module.main)
    (failed,) = rows_of(
        tmp_path / "data", "select name, handler from spans where status_code = 'ERROR'"
    )
    assert failed == {"name": "process BAR", "handler": "handle_data"}
    (breach,) = rows_of(
        tmp_path / "data",
        "select p.handler, c.attributes->>'trading.risk.rule' as rule from spans c join spans p "
        "on c.parent_span_id = p.span_id where c.event_type = 'RISK_BREACH'",
    )
    assert breach == {"handler": "handle_data", "rule": "LongOnly"}
    (run,) = rows_of(tmp_path / "data", "select status from runs")
    assert run["status"] == "Crashed"


def test_each_worker_of_a_sweep_records_its_run_and_parameters(tmp_path: Path) -> None:
    plain = run_host("zipline_sweep", tmp_path / "plain.json")
    report = traced(tmp_path / "data", lambda: run_host("zipline_sweep", tmp_path / "traced.json"))
    assert report == plain
    catch_up(DataFolder(tmp_path / "data"))  # as every command does that reads
    found = rows_of(
        tmp_path / "data",
        "select parameters->>'fast' as fast, parameters->>'weight' as weight, (select count(*) "
        "from spans where run_id = runs.run_id and event_type = 'FILL') as fills from runs "
        "where parameters->>'fast' is not null order by all",
    )
    expected = sorted(
        (name.split()[1].strip(","), name.split()[3], len(run["transactions"]))
        for name, run in plain["runs"].items()
    )
    assert [(row["fast"], row["weight"], row["fills"]) for row in found] == expected


def everything_of_the_engine() -> dict[tuple[str, ...], Any]:
    """All attributes of all loaded modules of the engine, and of their classes."""
    found: dict[tuple[str, ...], Any] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "zipline" or module is None:
            continue
        for key, value in list(vars(module).items()):
            found[name, key] = value
            if inspect.isclass(value) and value.__module__.startswith("zipline"):
                found.update({(name, key, k): v for k, v in list(vars(value).items())})
    return found


def test_uninstrument_puts_back_exactly_what_was_there(tmp_path: Path) -> None:
    importlib.import_module("zipline")
    before = everything_of_the_engine()
    instrumentor = ZiplineInstrumentor()
    instrumentor.instrument()
    instrumentor.instrument()
    during = everything_of_the_engine()
    instrumentor.uninstrument()
    after = everything_of_the_engine()
    assert {key for key in before if before[key] is not during.get(key)}
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] is not after[key]] == []


def short(**settings: Any) -> Any:
    """Run a few weeks on the hosts' bundle."""
    market = importlib.import_module("zipline_market")
    return market.run(**{**market.days(last="2004-10-29"), **settings})


def buy_each_day(context: Any, data: Any) -> None:
    context.order(context.asset, 10)


def begin(context: Any) -> None:
    context.asset = context.symbol("AAPL")
    context.day = 0


def test_uninstrument_in_the_middle_of_a_run_is_harmless(tmp_path: Path) -> None:
    def let_go(context: Any, data: Any) -> None:
        context.day += 1
        if context.day == 5:
            ZiplineInstrumentor().uninstrument()
        buy_each_day(context, data)

    plain = short(initialize=begin, handle_data=buy_each_day)
    perf = traced(tmp_path, lambda: short(initialize=begin, handle_data=let_go))
    assert perf["portfolio_value"].tolist() == plain["portfolio_value"].tolist()
    (row,) = rows_of(tmp_path, "select count(*) as fills from spans where event_type = 'FILL'")
    assert 3 <= row["fills"] <= 4


def test_an_algorithm_built_before_is_traced_and_left_as_it_was(tmp_path: Path) -> None:
    """With a blotter of the user's own, whose methods are not the engine's."""
    from zipline.algorithm import TradingAlgorithm
    from zipline.finance.blotter import SimulationBlotter

    host = importlib.import_module("zipline_two_algorithms")

    class Own(SimulationBlotter):  # type: ignore[misc, unused-ignore]
        def order(self, asset: Any, amount: int, style: Any, order_id: Any = None) -> Any:
            return super().order(asset, amount * 2, style, f"own-{len(self.orders)}")

    built: list[Any] = []
    run = TradingAlgorithm.run

    def keep(algorithm: Any, *args: Any) -> Any:
        built.append(algorithm)
        return pd.DataFrame()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TradingAlgorithm, "run", keep)
        host.leveraged()
    (algorithm,) = built
    algorithm.blotter = Own()
    algorithm.set_max_leverage = lambda _: None  # which buying twice as much breaks, or not
    before = [dict(vars(one)) for one in (algorithm, algorithm.blotter)]
    random.seed(3)
    assert TradingAlgorithm.run is run
    perf = traced(tmp_path, lambda: algorithm.run())  # noqa: PLW0108 - looked up when traced
    fills = rows_of(
        tmp_path, "select client_order_id from spans where event_type = 'FILL' order by sequence"
    )
    assert [row["client_order_id"] for row in fills] == [
        one["order_id"] for day in perf["transactions"] for one in day
    ]
    assert fills[0]["client_order_id"] == "own-0"
    for was, one in zip(before, (algorithm, algorithm.blotter), strict=True):
        added = vars(one).keys() - was.keys()
        assert not {name for name in added if callable(vars(one)[name])}, added


HANDLED = {"strategy": "dual", "handler": "handle_data", "runs": 7}


def first_handler(data: Path) -> list[Row]:
    return rows_of(
        data,
        "select strategy, handler, count(*) over () as runs from spans "
        "where name = 'process BAR' order by sequence limit 1",
    )


ZERO_CODE = """
import sys
sys.path.insert(0, {hosts!r})
import zipline_market
from zipline.api import order, symbol

def initialize(context):
    context.asset = symbol("AAPL")

def handle_data(context, data):
    order(context.asset, 5)

zipline_market.run(
    **zipline_market.days(last="2004-10-12"), initialize=initialize, handle_data=handle_data
)
"""


def test_a_script_is_traced_by_the_runner_though_the_engine_is_imported_already(
    tmp_path: Path,
) -> None:
    script = tmp_path / "dual.py"
    script.write_text(ZERO_CODE.format(hosts=str(HOSTS)), encoding="utf-8")
    recording = ["--data", str(tmp_path / "data"), "--writer", "inline", "--otlp", "off"]
    assert run_recorded([*recording, str(script)]) == 0
    assert first_handler(tmp_path / "data") == [HANDLED]


def run_zero_code(command: list[str], folder: Path) -> list[Row]:
    script = folder / "dual.py"
    script.write_text(ZERO_CODE.format(hosts=str(HOSTS)), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FILLPATH_", "OTEL_"))}
    environment |= {"FILLPATH_DATA": str(folder / "data"), "OTEL_TRACES_EXPORTER": "none",
                    "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}  # fmt: skip
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [*command, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return first_handler(folder / "data")


BIN = Path(sys.executable).parent
COMMANDS = {
    "fillpath run": [str(BIN / "fillpath"), "run"],
    "python -m fillpath.instrumentation": [sys.executable, "-m", "fillpath.instrumentation"],
    "opentelemetry-instrument": [str(BIN / "opentelemetry-instrument"), sys.executable],
}


@pytest.mark.full
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_script_is_traced_without_a_change(command: list[str], tmp_path: Path) -> None:
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    assert run_zero_code(command, tmp_path) == [HANDLED]


def test_the_page_about_the_engine_is_true(tmp_path: Path) -> None:
    """Its example runs, reconciles, and leaves the tree that the page shows."""
    page = (Path(__file__).parents[1] / "docs" / "zipline.md").read_text(encoding="utf-8")
    one_line, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = compile(one_line + example, str(tmp_path / "dual.py"), "exec")
    names: dict[str, Any] = {"__name__": "__main__"}
    traced(tmp_path / "data", lambda: exec(code, names))  # noqa: S102 - the page's example
    with EventStore(DataFolder(tmp_path / "data")).connect(["host"]) as connection:
        ledger = compute_ledger(connection, "host")
    (account,) = ledger.accounts
    assert account.status.value == "reconciled", account.notes
    profit = sum((one.amount for one in ledger.slices), Decimal(0))
    value = float(names["perf"]["portfolio_value"].iloc[-1])
    assert float(profit) + 100_000 == pytest.approx(value, abs=1e-7)
    shown = CliRunner().invoke(
        app, ["trace", "show", "latest", "--run", "host", "--data", str(tmp_path / "data")]
    ).stdout  # fmt: skip
    (tree,) = re.findall(r"^```text\n( .*?)^```", page, re.MULTILINE | re.DOTALL)

    def shorn(line: str) -> str:
        return re.sub(r"order [0-9a-f]{32}|^\s*([+][\d.]+ \S+)?[\s│├└─]*", "", line)

    assert set(map(shorn, tree.splitlines())) <= set(map(shorn, shown.splitlines()))
