"""Traced basana: it trades as it does untraced, every fill has its causes, and the books agree.

The host scripts write down what basana's exchange itself knows; that is the oracle.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import unittest.mock
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import BasanaInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder

bs = pytest.importorskip("basana", reason="the engine is not installed (extra 'basana')")

from basana.backtesting import liquidity  # noqa: E402 - the engine is there
from basana.backtesting.exchange import Exchange  # noqa: E402
from basana.core.event import Event  # noqa: E402
from basana.core.event_sources.trading_signal import TradingSignalSource  # noqa: E402
from basana.external.binance.trades import Trade, TradeEvent  # noqa: E402

# basana 1.11 reads a property of its own fills that it has put on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:Use price instead:DeprecationWarning")

FOLDER = Path(__file__).parent / "hosts"
HOSTS = ["orders", "margin", "currencies", "digits", "signals", "realtime", "sweep"]
ALL_HOSTS = """
import random, runpy, sys
import numpy
folder, reports, data, *names = sys.argv[1:]
sys.path.insert(0, folder)
random.seed(7), numpy.random.seed(7)
if data:
    from fillpath.instrumentation import BasanaInstrumentor, Tracing
    BasanaInstrumentor().instrument()
for name in names:
    sys.argv = [name, f"{reports}/{name}.json"]
    if data:
        with Tracing(name, data=data, writer="inline"):
            runpy.run_path(f"{folder}/basana_{name}.py", run_name="__main__")
    else:
        runpy.run_path(f"{folder}/basana_{name}.py", run_name="__main__")
with open(f"{reports}/dice", "w") as file:
    print(random.random(), numpy.random.random(), file=file)
"""
"""Runs the hosts one after the other in one process; traced if a data folder is named."""
PAIR = bs.Pair("ACME", "USD")
FIRST = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
Row = dict[str, Any]


def rows_of(data: DataFolder, query: str) -> list[Row]:
    with EventStore(data).connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@dataclass(frozen=True)
class Hosts:
    """All hosts, run alone and run traced."""

    plain: Path
    traced: Path
    data: DataFolder
    kept: dict[str, dict[str, Row]] = dataclasses.field(default_factory=dict)

    def runs(self, name: str) -> list[Row]:
        text = (self.plain / f"{name}.json").read_text(encoding="utf-8")
        found: list[Row] = json.loads(text)["runs"]
        return found

    def rows(self, name: str, query: str) -> list[Row]:
        return rows_of(
            self.data, f"with spans as (select * from spans where run_id = '{name}') {query}"
        )

    def events(self, name: str) -> dict[str, Row]:
        if name not in self.kept:
            rows = self.rows(name, "select * from spans order by portfolio, sequence")
            for row in rows:
                row["about"] = json.loads(row["attributes"])
                row["links"] = json.loads(row["links"] or "[]")
            self.kept[name] = {row["span_id"]: row for row in rows}
        return self.kept[name]


def run_hosts(reports: Path, data: Path | None) -> None:
    reports.mkdir()
    arguments = [str(FOLDER), str(reports), "" if data is None else str(data), *HOSTS]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    done = subprocess.run(
        [sys.executable, "-c", ALL_HOSTS, *arguments],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    folder = tmp_path_factory.mktemp("basana")
    run_hosts(folder / "plain", None)
    run_hosts(folder / "traced", folder / "data")
    data = DataFolder(folder / "data")
    catch_up(data)  # the workers' runs; every command does so that reads
    return Hosts(folder / "plain", folder / "traced", data)


@pytest.fixture(scope="module")
def ledgers(hosts: Hosts) -> dict[str, Ledger]:
    with EventStore(hosts.data).connect() as connection:
        return {name: compute_ledger(connection, name) for name in HOSTS if name != "sweep"}


# -- The hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*(f"{name}.json" for name in HOSTS), "dice"])
def test_tracing_changes_no_trade_and_no_random_number(hosts: Hosts, name: str) -> None:
    assert (hosts.traced / name).read_bytes() == (hosts.plain / name).read_bytes()


PORTFOLIOS = ["default", "default/2", "default/3", "default/4"]
TYPES = {
    "MarketOrder": "MARKET",
    "LimitOrder": "LIMIT",
    "StopOrder": "STOP_MARKET",
    "StopLimitOrder": "STOP_LIMIT",
}


def orders_recorded(hosts: Hosts, name: str) -> list[list[Row]]:
    """Orders that the exchange has taken, by portfolio, as they came; each its events in order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in hosts.events(name).values():
        if row["event_type"] in {"ORDER", "FILL"}:
            found.setdefault((row["portfolio"], row["client_order_id"]), []).append(row)
    taken = [rows for rows in found.values() if rows[-1]["status"] != "REJECTED"]
    return sorted(taken, key=lambda rows: (rows[0]["portfolio"], rows[0]["sequence"]))


@pytest.mark.parametrize("name", ["orders", "margin", "currencies", "signals"])
def test_orders_and_fills_are_the_exchanges_to_the_last_digit(hosts: Hosts, name: str) -> None:
    recorded = orders_recorded(hosts, name)
    orders = [order for run in hosts.runs(name) for order in run["orders"]]
    assert len(recorded) == len(orders)
    for events, order in zip(recorded, orders, strict=True):
        base, quote = order["pair"].split("/")
        first, last = events[0], events[-1]
        assert [row["status"] for row in events[:2]] == ["INITIALIZED", "ACCEPTED"]
        assert first["order_type"] == TYPES[order["type"]]
        ended = {"COMPLETED": "FILLED", "CANCELED": "CANCELED"}
        if order["state"] in ended:
            assert last["status"] == ended[order["state"]]
        found = []
        for row in events:
            assert (row["symbol"], row["side"]) == (order["pair"], order["side"])
            if row["event_type"] == "FILL":
                about = row["about"]
                assert row["currency"] == quote
                assert about["trading.instrument.base_currency"] == base
                currency = about["trading.fill.commission_currency"]
                fee = {currency: row["commission"]} if row["commission"] else {}
                found.append((row["event_time"], row["quantity"], row["price"], fee))
            else:
                assert row["quantity"] == Decimal(order["amount"])
        assert found == [
            (
                int(dt.datetime.fromisoformat(fill["when"]).timestamp()) * 10**9,
                abs(Decimal(fill["balances"][base])),
                Decimal(fill["price"]),
                {symbol: -Decimal(amount) for symbol, amount in fill["fees"].items()},
            )
            for fill in order["fills"]
        ]


@pytest.mark.parametrize("name", ["orders", "margin", "currencies", "signals", "realtime"])
def test_every_order_and_fill_goes_back_to_a_bar_or_a_call_back(hosts: Hosts, name: str) -> None:
    events = hosts.events(name)
    assert sum(row["event_type"] == "FILL" for row in events.values()) == sum(
        len(order["fills"]) for run in hosts.runs(name) for order in run["orders"]
    )
    for row in events.values():
        if row["event_type"] not in {"ORDER", "FILL", "SIGNAL", "CASH_FLOW"}:
            continue
        here = row
        while here["parent_span_id"] is not None:
            parent = parent_of(events, here)
            assert parent["sequence"] < here["sequence"]
            assert parent["portfolio"] == here["portfolio"]
            here = parent
        assert here["name"] in {"publish BAR", "publish SYSTEM"}


def parent_of(events: dict[str, Row], row: Row) -> Row:
    return events[row["parent_span_id"]]


def test_a_fill_follows_from_its_orders_state_and_links_the_bar(hosts: Hosts) -> None:
    events = hosts.events("orders")
    for row in events.values():
        if row["event_type"] != "FILL":
            continue
        parent = parent_of(events, row)
        assert (parent["status"], parent["client_order_id"]) == ("ACCEPTED", row["client_order_id"])
        linked = [events[link["span_id"]] for link in row["links"]]
        (bar,) = [one for one in linked if one["event_type"] == "BAR"]
        assert bar["sequence"] < row["sequence"]
        assert bar["event_time"] == row["event_time"] + 86_400 * 10**9  # it ends the day


def test_a_brackets_other_leg_is_cancelled_under_the_fill_that_led_to_it(hosts: Hosts) -> None:
    events = hosts.events("orders")
    cancelled = [
        row
        for row in events.values()
        if row["status"] == "CANCELED" and row["strategy"] == "Bracketed"
    ]
    assert len(cancelled) == 5
    for row in cancelled:
        handler = parent_of(events, row)
        fill = parent_of(events, handler)
        assert (handler["name"], handler["handler"]) == ("process FILL", "Bracketed.on_order")
        assert fill["event_type"] == "FILL"
        assert fill["client_order_id"] != row["client_order_id"]
        last = events[row["links"][0]["span_id"]]
        assert (last["status"], last["client_order_id"]) == ("ACCEPTED", row["client_order_id"])


def test_what_was_refused_and_what_the_exchange_gave_up_say_why(hosts: Hosts) -> None:
    events = hosts.events("orders")
    reasons = [
        (row["status"], row["about"].get("trading.order.reject.reason"))
        for row in events.values()
        if row["status"] in {"REJECTED", "CANCELED"} and row["strategy"] != "Bracketed"
    ]
    assert reasons == [
        ("CANCELED", "not enough liquidity"),
        ("REJECTED", "Not enough USD available to hold"),
        ("REJECTED", "0.5 exceeds maximum precision of 0 decimal digits"),
        ("REJECTED", "99.999 exceeds maximum precision of 2 decimal digits"),
        ("CANCELED", None),
        ("CANCELED", "not enough liquidity"),
    ]
    given_up = next(
        row
        for row in events.values()
        if row["status"] == "CANCELED" and row["strategy"] == "Various"
    )
    assert parent_of(events, given_up)["status"] == "ACCEPTED"
    assert events[given_up["links"][0]["span_id"]]["event_type"] == "BAR"


def test_orders_belong_to_the_strategy_whose_signal_they_follow(hosts: Hosts) -> None:
    events = hosts.events("signals")
    by_strategy: Counter[str] = Counter()
    for row in events.values():
        if row["status"] != "INITIALIZED":
            continue
        above = parent_of(events, row)
        if above["name"] == "process SIGNAL":
            assert above["handler"] == "PositionManager.on_signal"
            above = parent_of(events, above)
        if above["event_type"] == "SIGNAL":
            by_strategy[row["strategy"]] += 1
            assert (above["strategy"], above["symbol"]) == (row["strategy"], row["symbol"])
            side = {"long": "BUY", "neutral": "SELL"}[above["about"]["trading.signal.value"]]
            assert row["side"] == side
            assert parent_of(events, above)["handler"].endswith(".on_bar")
    assert by_strategy == {"Crossing": 27, "Crossing-2": 13, "Basket": 4}


def test_whatever_code_of_the_users_asks_for_an_order_is_its_cause(hosts: Hosts) -> None:
    """A task left behind, a scheduled job, an event of the user's own, the script, the start."""
    events = hosts.events("signals")
    found: dict[tuple[str, str, str], tuple[int, ...]] = {}
    for row in events.values():
        if row["status"] == "INITIALIZED" and row["strategy"] in {"Careless", "main"}:
            above = parent_of(events, row)
            root = above
            while root["parent_span_id"] is not None:
                root = parent_of(events, root)
            key = above["name"], above["handler"], root["name"]
            found[key] = (*found.get(key, ()), int(row["quantity"]))
    assert found == {
        ("publish SYSTEM", "main", "publish SYSTEM"): (5,),
        ("publish SYSTEM", "Careless.on_start", "publish SYSTEM"): (1,),
        ("process BAR", "Careless.on_bar", "publish BAR"): (3, 4),  # 4: by the task
        ("process SYSTEM", "Careless.before_all", "publish BAR"): (2,),
        ("process SYSTEM", "Careless.job", "publish BAR"): (5,),
        ("process Alarm", "Careless.on_alarm", "publish BAR"): (7,),
    }
    (job,) = [row for row in events.values() if row["handler"] == "Careless.job"]
    assert parent_of(events, job)["handler"] == "Careless.on_bar"
    (alarm,) = [row for row in events.values() if row["name"] == "publish Alarm"]
    assert alarm["about"] == {"trading.alarm.level": 7}
    assert parent_of(events, alarm)["handler"] == "Careless.on_bar"


def test_an_exception_is_recorded_on_the_handler_that_raised_it(hosts: Hosts) -> None:
    (failed,) = [row for row in hosts.events("signals").values() if row["status_code"] == "ERROR"]
    assert (failed["name"], failed["handler"]) == ("process BAR", "Careless.on_bar")
    assert "stumbled after an order" in failed["status_message"]


def test_in_real_time_handlers_side_by_side_keep_their_own_events(hosts: Hosts) -> None:
    events = hosts.events("realtime")
    asked = [row for row in events.values() if row["status"] == "INITIALIZED"]
    causes = sorted((parent_of(events, row)["handler"], int(row["quantity"])) for row in asked)
    assert causes == [
        ("Live.on_bar", 20), ("Live.on_bar", 40), ("Live.on_bar", 50), ("Live.on_idle", 1)
    ]  # fmt: skip


# -- The books ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in HOSTS if name != "sweep"])
def test_balances_follow_from_the_fills_and_are_the_exchanges(
    hosts: Hosts, ledgers: dict[str, Ledger], name: str
) -> None:
    accounts = {(a.portfolio, a.currency): a for a in ledgers[name].accounts}
    for portfolio, run in zip(PORTFOLIOS, hosts.runs(name), strict=False):
        for symbol, balance in run["balances"].items():
            account = accounts.pop((portfolio, symbol))
            assert account.status is ReconciliationStatus.RECONCILED, account.notes
            assert account.difference == 0
            assert account.end == Decimal(balance["total"])
            paid = sum((Decimal(loan["paid"].get(symbol, 0)) for loan in run["loans"]), Decimal(0))
            fees = sum((Decimal(o["fees"].get(symbol, 0)) for o in run["orders"]), Decimal(0))
            if symbol == "BNB":  # neither bought nor paid with
                paid, fees = fees, Decimal(0)
            assert account.commission == -fees
            if name != "digits" or symbol != "BTC":  # there, it is what coarse digits make
                assert account.cash_flow == -paid
    assert not accounts


def test_what_coarse_digits_make_is_told(hosts: Hosts) -> None:
    """To the digits of the currency, of which the pair has fewer."""
    found = Counter[tuple[str, str]]()
    for row in hosts.events("digits").values():
        if row["event_type"] == "CASH_FLOW":
            found[row["portfolio"], row["about"]["trading.cash_flow.type"]] += 1
    fills = [sum(len(o["fills"]) for o in run["orders"]) for run in hosts.runs("digits")]
    coarse, fine, tick, significant = fills
    assert found == {
        ("default", "ROUNDING"): coarse,
        ("default/2", "FEE"): fine,
        ("default/3", "ROUNDING"): tick,
        ("default/4", "ROUNDING"): significant,
    }


@pytest.mark.parametrize(
    ("name", "start"), [("orders", 100_000), ("margin", 20_000), ("realtime", 100_000)]
)
def test_the_whole_profit_is_what_the_balances_are_worth_more(
    hosts: Hosts, ledgers: dict[str, Ledger], name: str, start: int
) -> None:
    (run,) = hosts.runs(name)
    ((pair, price),) = run["prices"].items()
    base, quote = pair.split("/")
    totals = {symbol: Decimal(each["total"]) for symbol, each in run["balances"].items()}
    worth = totals[quote] + totals[base] * Decimal(price)
    (account,) = [a for a in ledgers[name].accounts if a.currency == quote]
    assert account.profit + account.unrealized == worth - start
    assert sum(s.amount for s in ledgers[name].slices) == worth - start


def test_each_backtest_of_a_sweep_is_a_run_with_its_parameters(hosts: Hosts) -> None:
    runs = rows_of(
        hosts.data,
        "select run_id, parameters, status from runs where run_id like 'sweep.%' order by 2",
    )
    found = {json.loads(row["parameters"])["days"]: row["run_id"] for row in runs}
    for row in runs:  # not what may be a secret
        assert json.loads(row["parameters"]).keys() == {"days", "size"}
        assert json.loads(row["parameters"])["size"] == "10"
    assert {row["status"] for row in runs} == {"Ended"}
    assert sorted(found) == [3, 8, 15]
    with EventStore(hosts.data).connect() as connection:
        for run in hosts.runs("sweep"):
            ledger = compute_ledger(connection, found[run["days"]])
            totals = {s: Decimal(each["total"]) for s, each in run["balances"].items()}
            assert {a.currency: a.end for a in ledger.accounts} == totals
            assert {a.status for a in ledger.accounts} == {ReconciliationStatus.RECONCILED}


# -- Attaching and letting go ---------------------------------------------------------------------


@pytest.fixture
def instrumentor() -> Iterator[BasanaInstrumentor]:
    found = BasanaInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


class Paper(Exchange):
    """An exchange of the user's own, which is no strategy all the same."""


class Buyer:
    """Buys one on every bar."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.seen = 0

    async def on_bar(self, event: Any) -> None:
        self.seen += 1
        await asyncio.sleep(0)
        await self.exchange.create_market_order(bs.OrderOperation.BUY, PAIR, Decimal(1))


def made_market(days: int = 6, dispatcher: Any = None) -> tuple[Any, Paper]:
    """A dispatcher with an exchange, on which something costs 10 dollars and a day more."""
    dispatcher = dispatcher or bs.backtesting_dispatcher()
    bars = bs.FifoQueueEventSource()
    for day in range(days):
        price = Decimal(10 + day)
        begin = FIRST + day * DAY
        bar = bs.Bar(begin, PAIR, price, price, price, price, Decimal(1000), DAY)
        bars.push(bs.BarEvent(begin + DAY, bar))
    exchange = Paper(
        dispatcher,
        {"USD": Decimal(1000)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
    )
    exchange.add_bar_source(bars)
    return dispatcher, exchange


def all_attributes() -> dict[tuple[str, str], Any]:
    """Every attribute of every class and module of basana."""
    package = importlib.import_module("basana")
    found: dict[tuple[str, str], Any] = {}
    for module in pkgutil.walk_packages(package.__path__, "basana."):
        if module.name.startswith(("basana.external", "basana.backtesting.charts")):
            continue  # wants what is not installed
        home = importlib.import_module(module.name)
        for name, value in vars(home).items():
            found[module.name, name] = value
            if isinstance(value, type):
                found.update({(f"{module.name}.{name}", n): v for n, v in vars(value).items()})
    return found


@pytest.mark.smoke
def test_uninstrument_leaves_the_very_objects_that_were_there(
    instrumentor: BasanaInstrumentor,
) -> None:
    all_attributes()  # imports add names to the packages
    before = all_attributes()
    instrumentor.instrument()
    instrumentor.instrument()  # twice is once
    meanwhile = all_attributes()
    changed = {key for key, value in before.items() if meanwhile[key] is not value}
    assert len(changed) >= len(["run", "schedule", "push", "add_order"])
    instrumentor.uninstrument()
    after = all_attributes()
    assert after.keys() == before.keys()
    assert [key for key, value in before.items() if after[key] is not value] == []


def test_a_dispatcher_that_was_built_before_is_traced_from_its_run_on(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    dispatcher, exchange = made_market()
    exchange.subscribe_to_bar_events(PAIR, Buyer(exchange).on_bar)
    instrumentor.instrument()
    with Tracing("late", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    data = DataFolder(tmp_path)
    rows = rows_of(data, "select price from spans where event_type = 'FILL'")
    assert [row["price"] for row in rows] == [11, 12, 13, 14, 15]
    rows = rows_of(data, "select distinct strategy from spans where strategy is not null")
    assert rows == [{"strategy": "Buyer"}]


def test_letting_go_in_the_middle_of_a_run_harms_nothing(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    instrumentor.instrument()
    dispatcher, exchange = made_market()
    buyer = Buyer(exchange)
    exchange.subscribe_to_bar_events(PAIR, buyer.on_bar)
    bars = Counter[str]()

    async def let_go(event: Any) -> None:
        bars["seen"] += 1
        if bars["seen"] == 3:
            instrumentor.uninstrument()

    exchange.subscribe_to_bar_events(PAIR, let_go)
    with Tracing("half", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    balance = asyncio.run(exchange.get_balance("USD"))
    assert balance.total == 1000 - 11 - 12 - 13 - 14 - 15
    assert buyer.seen == 6
    rows = rows_of(DataFolder(tmp_path), "select price from spans where event_type = 'FILL'")
    assert [row["price"] for row in rows] == [11, 12]


def test_without_a_session_the_first_run_starts_one_as_the_environment_says(
    instrumentor: BasanaInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path))
    monkeypatch.setenv("FILLPATH_WRITER", "inline")
    instrumentor.instrument()
    dispatcher, exchange = made_market()
    exchange.subscribe_to_bar_events(PAIR, Buyer(exchange).on_bar)
    asyncio.run(dispatcher.run())
    session = Tracing.active()
    assert session is not None
    session.stop()
    rows = rows_of(DataFolder(tmp_path), "select price from spans where event_type = 'FILL'")
    assert len(rows) == 5


def test_handlers_that_run_at_the_same_time_are_each_the_cause_of_their_own(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    """Each one waits in the middle, so that the others run meanwhile."""
    instrumentor.instrument()
    dispatcher, exchange = made_market(8, bs.backtesting_dispatcher(max_concurrent=4))

    class Waiting:
        def __init__(self, turns: int) -> None:
            self.turns = turns

        async def on_bar(self, event: Any) -> None:
            for _ in range(self.turns):
                await asyncio.sleep(0)
            amount = Decimal(self.turns + 1)
            await exchange.create_market_order(bs.OrderOperation.BUY, PAIR, amount)

    for turns in (3, 0, 2, 1):
        exchange.subscribe_to_bar_events(PAIR, Waiting(turns).on_bar)
    with Tracing("together", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    rows = rows_of(
        DataFolder(tmp_path),
        """
        select a.strategy, b.strategy as handler, a.quantity, a.event_time, c.event_time as bar
        from spans a join spans b on a.parent_span_id = b.span_id
        join spans c on b.parent_span_id = c.span_id
        where a.status = 'INITIALIZED'
        """,
    )
    assert len(rows) == 4 * 8
    amounts = {"Waiting": 4, "Waiting-2": 1, "Waiting-3": 3, "Waiting-4": 2}
    for row in rows:
        assert row["strategy"] == row["handler"]
        assert row["quantity"] == amounts[row["strategy"]]
        assert row["event_time"] == row["bar"]


def test_a_signal_from_a_task_of_before_the_run_is_its_strategys(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    """Nothing of basana's has called the task, so its signal begins a chain."""
    instrumentor.instrument()
    dispatcher, exchange = made_market()

    third_day = asyncio.Event()

    class Model(TradingSignalSource):
        async def think(self) -> None:
            await third_day.wait()
            self.push(bs.TradingSignal(dispatcher.now(), bs.Position.LONG, PAIR))

    async def on_bar(event: Any) -> None:
        if event.when == FIRST + 3 * DAY:
            third_day.set()
            await asyncio.sleep(0)

    async def on_signal(signal: Any) -> None:
        await exchange.create_market_order(bs.OrderOperation.BUY, PAIR, Decimal(3))

    async def main() -> None:
        model = Model(dispatcher)
        model.subscribe_to_trading_signals(on_signal)
        exchange.subscribe_to_bar_events(PAIR, on_bar)
        await asyncio.gather(model.think(), dispatcher.run())

    with Tracing("model", data=tmp_path, writer="inline"):
        asyncio.run(main())
    rows = rows_of(
        DataFolder(tmp_path),
        """
        select name, strategy, parent_span_id is null as is_root from spans
        where event_type in ('SIGNAL', 'FILL') order by sequence
        """,
    )
    assert [tuple(row.values()) for row in rows] == [
        ("publish SIGNAL", "Model", True),
        ("publish FILL", "Model", False),
    ]


class Answering:
    """Has any attribute that it is asked for, as a proxy or a mock has."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    async def __call__(self, event: Any) -> None:
        pass


class OfTheClass:
    """Keeps everything on the class."""

    exchange: ClassVar[Exchange]

    @classmethod
    async def on_bar(cls, event: Any) -> None:
        await cls.exchange.create_market_order(bs.OrderOperation.BUY, PAIR, Decimal(1))


def test_handlers_may_be_mocks_proxies_and_methods_of_classes(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    instrumentor.instrument()
    dispatcher, OfTheClass.exchange = made_market()
    mock = unittest.mock.AsyncMock()
    for handler in (mock, Answering(), OfTheClass.on_bar):
        OfTheClass.exchange.subscribe_to_bar_events(PAIR, handler)
    with Tracing("odd", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    assert mock.await_count == 6
    rows = rows_of(DataFolder(tmp_path), "select strategy, handler from spans where handler <> ''")
    assert {tuple(row.values()) for row in rows} == {("OfTheClass", "OfTheClass.on_bar")}


def test_coarse_digits_are_told_when_the_currency_has_more_elsewhere(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    """As what another exchange trades, or what the pair of another currency does."""
    instrumentor.instrument()
    dispatcher = bs.backtesting_dispatcher()
    crossed = bs.Pair("OIL", "ACME")
    buy_every_day(dispatcher, bs.PairInfo(3, 2), (PAIR, crossed))
    buy_every_day(dispatcher, bs.PairInfo(8, 5), (PAIR,))
    with Tracing("digits", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    assert statuses_of(tmp_path, "digits") == [ReconciliationStatus.RECONCILED] * 5


@pytest.mark.parametrize("places", [(2, 5), (5, 2), (2, 8, 3)], ids=str)
def test_dispatchers_one_after_another_may_book_a_currency_in_other_digits(
    instrumentor: BasanaInstrumentor, tmp_path: Path, places: tuple[int, ...]
) -> None:
    """What a coarse account rounds is rounding, however fine the others of the run are."""
    instrumentor.instrument()
    with Tracing("digits", data=tmp_path, writer="inline"):
        for quote in places:
            dispatcher = bs.backtesting_dispatcher()
            buy_every_day(dispatcher, bs.PairInfo(3, quote), (PAIR,))
            asyncio.run(dispatcher.run(stop_signals=[]))
    found = statuses_of(tmp_path, "digits")
    assert found == [ReconciliationStatus.RECONCILED] * 2 * len(places)


def buy_every_day(dispatcher: Any, digits: Any, pairs: tuple[Any, ...]) -> None:
    """Give a dispatcher an exchange of these digits, on which a handler buys at each bar."""
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(1000), "ACME": Decimal(500)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        default_pair_info=digits,
    )
    for number, pair in enumerate(pairs):
        bars = bs.FifoQueueEventSource(priority=10 * digits.quote_precision + number)
        for day in range(6):
            price = Decimal("10.07123") + day
            bar = bs.Bar(FIRST, pair, price, price, price, price, Decimal(1000), DAY)
            bars.push(bs.BarEvent(FIRST + day * DAY, bar))
        exchange.add_bar_source(bars)
        buy = partial(exchange.create_market_order, bs.OrderOperation.BUY, pair)

        async def on_bar(event: Any, buy: Any = buy) -> None:
            await buy(Decimal("1.333"))

        exchange.subscribe_to_bar_events(pair, on_bar)


def statuses_of(folder: Path, run_id: str) -> list[ReconciliationStatus]:
    catch_up(DataFolder(folder))
    with EventStore(DataFolder(folder)).connect([run_id]) as connection:
        return [account.status for account in compute_ledger(connection, run_id).accounts]


@dataclasses.dataclass
class News(Event):
    """An event that cannot be hashed, as a dataclass is that compares."""

    when: dt.datetime
    headline: str


class FILL(Event):
    """A user's own, which is called as fillpath calls an execution."""

    def __init__(self, when: dt.datetime) -> None:
        super().__init__(when)
        self.price = "what the news paid"
        self.quantity = 3
        self._secret = 1


@dataclasses.dataclass(slots=True)
class Order(Event):
    """In slots, with structures in it."""

    when: dt.datetime
    status: str
    levels: list[Decimal]
    until: dt.date
    source: dict[str, int]
    position: Any
    side: Any = bs.OrderOperation.BUY


def test_events_of_the_users_keep_their_fields_and_are_none_of_fillpaths_kinds(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    instrumentor.instrument()
    dispatcher, exchange = made_market()
    levels, until = [Decimal("1.50"), Decimal(2)], dt.date(2024, 2, 1)
    own = [
        FILL(FIRST + DAY),
        Order(FIRST + DAY, "NEW", levels, until, {"a": 1}, News(FIRST, "in it")),
    ]

    async def on_any(event: Any) -> None:
        await exchange.create_market_order(bs.OrderOperation.BUY, PAIR, Decimal(2))

    dispatcher.subscribe(bs.FifoQueueEventSource(events=own), on_any)
    with Tracing("own", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    rows = rows_of(
        DataFolder(tmp_path),
        "select name, price, quantity, status, attributes from spans "
        "where name in ('publish FILL_EVENT', 'publish Order') order by sequence",
    )
    told = [
        {key: value for key, value in json.loads(row["attributes"]).items() if "_event." in key}
        for row in rows
    ]
    assert [(r["name"], r["price"], r["quantity"], r["status"]) for r in rows] == [
        ("publish FILL_EVENT", None, None, None),
        ("publish Order", None, None, None),
    ]
    assert told[0] == {
        "trading.fill_event.price": "what the news paid",
        "trading.fill_event.quantity": 3,
    }
    assert {key.rpartition(".")[2] for key in told[1]} == {
        "status", "levels", "until", "source", "position", "side",
    }  # fmt: skip
    assert told[1]["trading.order_event.status"] == "NEW"
    assert told[1]["trading.order_event.side"] == "BUY"
    assert told[1]["trading.order_event.until"] == "2024-02-01"
    assert told[1]["trading.order_event.position"]["headline"] == "in it"
    assert set(statuses_of(tmp_path, "own")) == {ReconciliationStatus.RECONCILED}


def test_events_of_any_kind_are_causes_trades_of_real_exchanges_among_them(
    instrumentor: BasanaInstrumentor, tmp_path: Path
) -> None:
    instrumentor.instrument()
    dispatcher, exchange = made_market()
    told = {"e": "trade", "t": 1, "T": 1_704_153_600_000, "p": "10.25", "q": "0.5"}
    trades = bs.FifoQueueEventSource(events=[TradeEvent(FIRST + DAY, Trade(PAIR, told))])
    news = bs.FifoQueueEventSource(events=[News(FIRST + DAY, "up"), News(FIRST + 2 * DAY, "up")])
    heard: list[Any] = []

    async def on_any(event: Any) -> None:
        heard.append(event)
        await exchange.create_market_order(bs.OrderOperation.BUY, PAIR, Decimal(2))

    dispatcher.subscribe(trades, on_any)
    dispatcher.subscribe(news, on_any)
    with Tracing("news", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    assert vars(heard[-1]) == {"when": FIRST + 2 * DAY, "headline": "up"}
    rows = rows_of(
        DataFolder(tmp_path),
        """
        select c.name, c.symbol, c.price, c.attributes::json->>'trading.news.headline' as headline
        from spans a join spans b on a.parent_span_id = b.span_id
        join spans c on b.parent_span_id = c.span_id
        where a.status = 'INITIALIZED' order by c.name, c.sequence
        """,
    )
    assert [tuple(row.values()) for row in rows] == [
        ("publish News", None, None, "up"),
        ("publish News", None, None, "up"),
        ("publish TICK", "ACME/USD", Decimal("10.25"), None),
    ]


def test_what_basana_logs_about_a_failing_handler_names_the_handler(
    instrumentor: BasanaInstrumentor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor.instrument()
    dispatcher, exchange = made_market()
    dispatcher.stop_on_handler_exceptions = True

    async def fail(event: Any) -> None:
        raise KeyError("no such thing")

    exchange.subscribe_to_bar_events(PAIR, fail)
    with Tracing("failing", data=tmp_path, writer="inline"):
        asyncio.run(dispatcher.run())
    assert dispatcher.stopped
    assert f'"handler": "{fail}"' in caplog.text
    rows = rows_of(
        DataFolder(tmp_path), "select name, handler from spans where status_code = 'ERROR'"
    )
    assert rows == [{"name": "process BAR", "handler": "fail"}]


# -- Zero code, and the page ----------------------------------------------------------------------

WAYS = {
    "fillpath run": ["-m", "fillpath.analytics.cli", "run"],
    "opentelemetry-instrument": [str(Path(sys.executable).with_name("opentelemetry-instrument"))],
}


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.full] * (way == "fillpath run")) for way in WAYS]
)
def test_a_script_is_traced_without_a_change_to_it(hosts: Hosts, way: str, tmp_path: Path) -> None:
    script, report = str(FOLDER / "basana_orders.py"), tmp_path / "orders.json"
    command = [*WAYS[way], script, str(report)]
    if way == "opentelemetry-instrument":
        command.insert(1, sys.executable)
        none = dict.fromkeys(("TRACES", "METRICS", "LOGS"), "none")
        settings = {f"OTEL_{signal}_EXPORTER": value for signal, value in none.items()}
    else:
        command.insert(0, sys.executable)
        settings = {}
    environment = {**os.environ, **settings, "FILLPATH_WRITER": "none"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert report.read_bytes() == (hosts.plain / "orders.json").read_bytes()
    data = DataFolder(tmp_path / "data")
    catch_up(data)
    (run,) = rows_of(data, "select engine, engine_version, status from runs")
    assert (run["engine"], run["status"]) == ("basana", "Ended")
    (count,) = rows_of(data, "select count(*) as fills from spans where event_type = 'FILL'")
    assert count["fills"] == 32


PAGE = (Path(__file__).parents[1] / "docs" / "basana.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(len(re.findall(r"^```python$", PAGE, re.MULTILINE))))
def test_the_examples_of_the_page_run_and_are_recorded(number: int, tmp_path: Path) -> None:
    example = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[number]
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    environment = {**os.environ, "FILLPATH_WRITER": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "fillpath.instrumentation", str(script)],
        capture_output=True, text=True, env=environment, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    data = DataFolder(tmp_path / "data")
    catch_up(data)
    fills = rows_of(data, "select count(*) as fills from spans where event_type = 'FILL'")
    assert fills[0]["fills"] > 0
