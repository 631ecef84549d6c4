"""backtrader, the real engine: what it trades is not changed, and nothing that it does is missed.

The hosts write down what the engine itself knows; that is the oracle. They run in this process,
untraced and traced, because most of a process's time would be its start.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import random
import re
import subprocess
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import Tracing, backtrader_words
from fillpath.instrumentation.backtrader import BacktraderInstrumentor
from fillpath.instrumentation.backtrader_run import BacktraderRun
from fillpath.instrumentation.settings import DataFolder

pytest.importorskip("backtesting", reason="the hosts use the prices that it ships")
with warnings.catch_warnings():
    # backtrader's texts have escapes that newer Pythons warn of when they compile them.
    warnings.simplefilter("ignore")
    bt: Any = pytest.importorskip("backtrader", reason="not installed (extra 'backtrader')")

pytestmark = [
    # backtrader reads the clock with a method that newer Pythons deprecate.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    # It forks its workers from a process in which fillpath watches the writer in a thread.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

HOSTS = Path(__file__).parent / "hosts"
NAMES = (
    "brackets",
    "shared_book",
    "margin",
    "cheats",
    "signals",
    "fractions",
    "leverage",
    "user_error",
    "live",
    "optimised",
)
RUN = "host"
NOISE = Decimal("1e-6")
Row = dict[str, Any]

COLUMNS = """
    run_id, portfolio, sequence, span_id, parent_span_id, name, event_type, strategy, symbol, side,
    status, client_order_id, position_id, links, status_code, handler,
    coalesce(price::varchar, attributes ->> '$."trading.fill.price"') as price,
    coalesce(quantity::varchar, attributes ->> '$."trading.fill.quantity"') as quantity,
    attributes ->> '$."exception.type"' as exception,
    attributes ->> '$."exception.message"' as message,
    attributes ->> '$."trading.signal.value"' as signal,
    attributes ->> '$."trading.order.reject.reason"' as refused,
    attributes ->> '$."trading.order.linked_ids"' as linked_ids,
    attributes ->> '$."trading.cash_flow.type"' as flow
"""


@dataclass(frozen=True)
class Traced:
    """A host's runs: what the engine said without us and with us, its spans, its accounts.

    Every run is a portfolio of the one recorded run that all hosts are in.
    """

    plain: bytes
    traced: bytes
    portfolios: list[str]
    spans: list[Row]
    accounts: dict[str, AccountReconciliation]

    @property
    def runs(self) -> list[Row]:
        found: list[Row] = json.loads(self.traced)["runs"]
        return found

    def of(self, event_type: str, run: int | None = None) -> list[Row]:
        wanted = self.portfolios if run is None else [self.portfolios[run]]
        name = f"publish {event_type}"
        return [s for s in self.spans if s["name"] == name and s["portfolio"] in wanted]

    def parent(self, span: Row) -> Row | None:
        return next((s for s in self.spans if s["span_id"] == span["parent_span_id"]), None)


def rows_of(folder: DataFolder, where: str = "true") -> list[Row]:
    with EventStore(folder).connect() as connection:
        cursor = connection.execute(f"select {COLUMNS} from spans where {where} order by sequence")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def run_host(name: str, report: Path) -> bytes:
    """Run a host in this process, with orders numbered from one as in a process of its own."""
    order = importlib.import_module("backtrader.order").OrderBase
    before, sys.argv, order.refbasis = sys.argv, ["host", str(report)], count(1)
    try:
        importlib.import_module(f"backtrader_{name}").main()
    finally:
        sys.argv = before
    return report.read_bytes()


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    sys.path.insert(0, str(HOSTS))
    yield
    sys.path.remove(str(HOSTS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    return DataFolder(tmp_path_factory.mktemp("backtrader") / "data")


@pytest.fixture(scope="module")
def traced(hosts: None, data: DataFolder) -> dict[str, Traced]:
    """Run every host, untraced and then traced; all in one session, because that takes a while."""
    plain, told, numbers = {}, {}, count(1)
    portfolios: dict[str, list[str]] = {}
    report = data.path.parent / "report.json"
    for name in NAMES:
        plain[name] = run_host(name, report)
    with Tracing(RUN, data=data.path, writer="inline"):
        BacktraderInstrumentor().instrument()
        for name in NAMES:
            told[name] = run_host(name, report)
            runs = 5 if name == "optimised" else len(json.loads(told[name])["runs"])
            found = [f"default/{number}" for _, number in zip(range(runs), numbers, strict=False)]
            portfolios[name] = ["default" if one == "default/1" else one for one in found]
        BacktraderInstrumentor().uninstrument()
    with EventStore(data).connect([RUN]) as connection:
        accounts = compute_results(connection, RUN).ledger.accounts
    spans = rows_of(data, f"run_id = '{RUN}'")
    return {
        name: Traced(
            plain[name],
            told[name],
            portfolios[name],
            [span for span in spans if span["portfolio"] in portfolios[name]],
            {a.portfolio: a for a in accounts if a.portfolio in portfolios[name]},
        )
        for name in NAMES
    }


# -- What must hold for every host -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_traced_and_untraced_runs_trade_identically(traced: dict[str, Traced], name: str) -> None:
    host = traced[name]
    assert host.traced == host.plain
    assert all(run.get("random", True) for run in host.runs)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_each_fill_of_the_engine_is_one_span_with_its_numbers(
    traced: dict[str, Traced], name: str
) -> None:
    host = traced[name]
    for number, run in enumerate(host.runs):
        fills = host.of("FILL", number)
        recorded = Counter(
            (
                int(fill["client_order_id"]),
                float(fill["quantity"]) * (1 if fill["side"] == "BUY" else -1),
                float(fill["price"]),
            )
            for fill in fills
        )
        told = Counter(
            (fill["order"], float(fill["size"]), float(fill["price"]))
            for strategy in run["strategies"]
            for fill in strategy["fills"]
        )
        if run["error"] is None:
            assert recorded == told
            assert told
        orders = {order["client_order_id"] for order in host.of("ORDER", number)}
        assert {fill["client_order_id"] for fill in fills} <= orders


@pytest.mark.parametrize("name", NAMES)
def test_each_order_and_fill_goes_back_to_a_bar_or_a_call_of_the_engine(
    traced: dict[str, Traced], name: str
) -> None:
    host = traced[name]
    by_id = {span["span_id"]: span for span in host.spans}
    for span in host.spans:
        above = by_id.get(span["parent_span_id"])
        assert above is None or above["sequence"] < span["sequence"]
        if span["event_type"] in {"ORDER", "FILL"}:
            root = span
            while root["parent_span_id"] is not None:
                root = by_id[root["parent_span_id"]]
            assert root["name"] in {"publish BAR", "publish SYSTEM"}


@pytest.mark.parametrize("name", NAMES)
def test_every_account_reconciles_with_the_brokers_own_cash_and_value(
    traced: dict[str, Traced], name: str
) -> None:
    host = traced[name]
    assert host.accounts.keys() == set(host.portfolios)
    for account in host.accounts.values():
        assert account.status == ReconciliationStatus.RECONCILED, account.notes
    for number, run in enumerate(host.runs):
        if "cash" not in run or name == "optimised":  # its runs are in processes as well
            continue
        account = host.accounts[host.portfolios[number]]
        assert account.start == Decimal(run["start"])
        assert account.end is not None
        if account.account_type == "CASH":
            assert abs(account.end - Decimal(run["cash"])) < NOISE
        phantom = value_of_margin_that_rose(name, number, account.unrealized)
        value = account.end - account.held + account.unrealized + phantom
        assert abs(value - Decimal(run["value"])) < NOISE


def value_of_margin_that_rose(name: str, number: int, unrealized: Decimal) -> Decimal:
    """What the engine counts as value when its automatic margin follows the price up."""
    return unrealized / 1000 * 50 if (name, number) == ("margin", 1) else Decimal(0)


@pytest.mark.parametrize("name", ["brackets", "cheats", "signals", "margin", "live", "fractions"])
def test_the_realized_profit_is_what_the_engine_says_of_its_executions(
    traced: dict[str, Traced], name: str
) -> None:
    host = traced[name]
    for number, run in enumerate(host.runs):
        pnl = sum(Decimal(fill["pnl"]) for one in run["strategies"] for fill in one["fills"])
        assert abs(host.accounts[host.portfolios[number]].realized - pnl) < NOISE


def test_the_profit_of_closed_trades_is_what_the_engine_says_of_them(
    traced: dict[str, Traced],
) -> None:
    for name, number in (("brackets", 0), ("cheats", 0), ("cheats", 4)):
        host = traced[name]
        (strategy,) = host.runs[number]["strategies"]
        told = sum(Decimal(trade[3]) for trade in strategy["trades"])
        account = host.accounts[host.portfolios[number]]
        assert strategy["trades"]
        assert abs(account.realized + account.commission - told) < NOISE


# -- Causes -------------------------------------------------------------------------------------


def test_the_cancellation_of_a_linked_order_hangs_under_the_fill_or_end_of_its_sibling(
    traced: dict[str, Traced],
) -> None:
    host = traced["brackets"]
    above: Counter[tuple[str, str | None]] = Counter()
    for order in host.of("ORDER"):
        if order["status"] != "CANCELED":
            continue
        parent = host.parent(order)
        assert parent is not None
        above[parent["name"], parent["status"]] += 1
        if parent["event_type"] == "FILL":
            assert parent["client_order_id"] != order["client_order_id"]
            assert order["links"]
    assert above["publish FILL", "FILLED"] > 20  # one of two legs, or of an OCO pair
    assert above["publish ORDER", "EXPIRED"] > 5  # a bracket whose entry expired
    assert above["publish ORDER", "CANCELED"] > 0  # the leg beside one that the strategy cancelled
    assert above["process BAR", None] > 0  # what the strategy cancelled


def test_the_legs_of_a_bracket_and_of_a_pair_name_each_other(traced: dict[str, Traced]) -> None:
    host = traced["brackets"]
    submitted = [o for o in host.of("ORDER", 0) if o["status"] == "SUBMITTED"]
    linked = {o["client_order_id"]: json.loads(o["linked_ids"] or "[]") for o in submitted}
    first = min(linked, key=int)
    assert linked[first] == [str(int(first) + 1), str(int(first) + 2)]
    pairs = [o for o in host.of("ORDER", 1) if o["linked_ids"]]
    assert pairs


def test_what_is_ordered_on_hearing_of_a_fill_follows_from_that_fill(
    traced: dict[str, Traced],
) -> None:
    host = traced["brackets"]
    new = [o for o in host.of("ORDER", 1) if o["status"] == "INITIALIZED"]
    handlers = [host.parent(order) for order in new]
    reactions = [h for h in handlers if h is not None and h["handler"] == "Pairs.notify_order"]
    assert reactions
    for handler in reactions:
        fill = host.parent(handler)
        assert handler["name"] == "process FILL"
        assert fill is not None
        assert fill["name"] == "publish FILL"


def test_partial_fills_are_siblings_and_their_sum_is_the_order(traced: dict[str, Traced]) -> None:
    host = traced["margin"]
    fills = host.of("FILL", 0)
    by_order: dict[str, list[Row]] = {}
    for fill in fills:
        by_order.setdefault(fill["client_order_id"], []).append(fill)
    several = [parts for parts in by_order.values() if len(parts) > 1]
    assert several
    for parts in several:
        assert len({fill["parent_span_id"] for fill in parts}) == 1
        assert {fill["status"] for fill in parts[:-1]} == {"PARTIALLY_FILLED"}
    refused = [o for o in host.of("ORDER", 0) if o["status"] == "REJECTED"]
    assert refused
    assert all("Margin" in order["refused"] for order in refused)


def test_strategies_that_share_a_position_are_told_apart_and_their_book_is_netted(
    traced: dict[str, Traced],
) -> None:
    host = traced["shared_book"]
    fills = host.of("FILL", 0)
    assert {fill["strategy"] for fill in fills} == {"Crossing-1", "Crossing-2", "Accumulating"}
    assert {fill["position_id"] for fill in fills} == {"GOOG", "TWIN"}
    turned = [p for p in host.of("POSITION_OPEN", 0) if p["position_id"] == "GOOG"]
    assert len(turned) > 3
    kinds = {flow["flow"] for flow in host.of("CASH_FLOW", 0)}
    assert kinds == {"INTEREST", "DEPOSIT"}


def test_what_closes_a_position_leads_to_the_fill_that_opened_it_also_after_a_flip(
    traced: dict[str, Traced],
) -> None:
    host = traced["shared_book"]
    opened_by: dict[str, str] = {}
    positions = [s for s in host.spans if s["portfolio"] == host.portfolios[0] and s["position_id"]]
    for span in positions:
        place = span["position_id"]
        if span["name"] == "publish POSITION_CLOSE":
            assert [link["span_id"] for link in json.loads(span["links"])] == [opened_by.pop(place)]
        elif span["name"] == "publish POSITION_OPEN":
            opened_by[place] = span["parent_span_id"]
    fills = {span["span_id"] for span in host.of("FILL", 0)}
    assert set(opened_by.values()) <= fills


def test_a_signal_is_recorded_when_it_says_something_else_and_orders_follow_from_it(
    traced: dict[str, Traced],
) -> None:
    host = traced["signals"]
    signals = host.of("SIGNAL")
    assert {signal["signal"] for signal in signals} <= {"1", "0", "-1"}
    assert len(signals) < len(host.of("BAR")) / 3
    new = [o for o in host.of("ORDER", 1) if o["status"] == "INITIALIZED"]
    parents = Counter((host.parent(order) or {})["name"] for order in new)
    assert parents["publish SIGNAL"] > 5


def test_fills_within_the_bar_timers_and_histories_have_their_causes(
    traced: dict[str, Traced],
) -> None:
    host = traced["cheats"]
    handlers = {span["handler"]: span["name"].split()[1] for span in host.spans if span["handler"]}
    assert handlers == {
        "AtTheOpen.next_open": "BAR",
        "AtTheOpen.stop": "SYSTEM",
        "AtTheClose.next": "BAR",
        "Timed.start": "SYSTEM",
        "Timed.notify_timer": "SYSTEM",
        "Cerebro.add_order_history": "SYSTEM",
    }


def test_an_exception_of_the_users_is_on_its_handlers_span_and_reaches_the_host(
    traced: dict[str, Traced],
) -> None:
    host = traced["user_error"]
    assert [run["error"] for run in host.runs[:2]] == ["division by zero", "notified"]
    failed = [span for span in host.spans if span["status_code"] == "ERROR"][:2]
    assert [span["handler"] for span in failed] == ["Failing.next", "Failing.notify_order"]
    assert [span["exception"] for span in failed] == ["ZeroDivisionError", "ArithmeticError"]


def test_what_fails_outside_of_a_handler_is_an_event_that_names_the_code_and_the_error(
    traced: dict[str, Traced],
) -> None:
    host = traced["user_error"]
    failed = [span for span in host.spans if span["status_code"] == "ERROR"][2:]
    assert [(s["name"], s["strategy"], s["handler"], s["message"]) for s in failed] == [
        ("publish SYSTEM", "Unmade", "Unmade.__init__", "no strategy"),
        ("publish SYSTEM", "WithIndicator", "FailingIndicator.__init__", "no indicator"),
        ("publish SYSTEM", "WithIndicator", "FailingIndicator.next", "no handler"),
        ("publish SYSTEM", "Sized", "FailingAnalyzer.notify_cashvalue", "no handler"),
        ("publish SYSTEM", "Sized", "FailingObserver.next", "no handler"),
        ("process BAR", "Sized", "Sized.next", "no size"),
    ]
    assert [run["error"] for run in host.runs[2:]] == [span["message"] for span in failed]
    in_the_market = {span["span_id"] for span in host.spans if span["event_type"] == "BAR"}
    assert {span["parent_span_id"] for span in failed[2:]} <= in_the_market


# -- Optimisation -------------------------------------------------------------------------------


def test_each_run_of_an_optimisation_in_processes_is_a_recorded_run_with_its_parameters(
    traced: dict[str, Traced], data: DataFolder
) -> None:
    catch_up(data)  # as every command does that reads
    with EventStore(data).connect() as connection:
        found = connection.execute(
            "select parameters, status from runs where run_id <> ? order by run_id", [RUN]
        ).fetchall()
    periods = Counter(json.loads(parameters)["period"] for parameters, _ in found)
    assert periods == {5: 2, 10: 2, 20: 2}  # with results sent back, and with whole strategies
    assert {status for _, status in found} == {"Ended"}
    fills = Counter(span["run_id"] for span in rows_of(data, "name = 'publish FILL'"))
    assert len(fills) == 7


# -- Attaching and letting go ------------------------------------------------------------------


class Buying(bt.Strategy):  # type: ignore[misc, unused-ignore]  # no types
    """Buys once, and uninstruments half-way if it is asked to."""

    params = (("let_go_at", 0),)

    def next(self) -> None:
        if len(self) == self.p.let_go_at:
            BacktraderInstrumentor().uninstrument()
        if len(self) in {3, 20}:
            self.buy(size=1)


def small_engine(kind: Any = Buying, **settings: Any) -> Any:
    host = importlib.import_module("host_backtrader")
    cerebro = bt.Cerebro(stdstats=False)
    until = datetime(2004, 10, 15)  # noqa: DTZ001  # backtrader wants naive times
    cerebro.adddata(host.feed("GOOG", todate=until), name="GOOG")
    cerebro.addstrategy(kind, **settings)
    return cerebro


def attributes_of_the_engine() -> dict[tuple[str, str], Any]:
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "backtrader" or module is None:
            continue
        for key, value in vars(module).items():
            found[name, key] = value
            if isinstance(value, type) and value.__module__.startswith("backtrader"):
                found |= {(value.__qualname__, k): v for k, v in vars(value).items()}
    found |= {("Buying", key): value for key, value in vars(Buying).items()}
    return found


def test_uninstrument_puts_back_the_very_objects_also_in_the_users_classes(
    hosts: None, tmp_path: Path
) -> None:
    small_engine().run()  # the engine makes some of its attributes when they are first used
    before = attributes_of_the_engine()
    with Tracing(RUN, data=tmp_path, writer="none"):
        BacktraderInstrumentor().instrument()
        BacktraderInstrumentor().instrument()  # a second time changes nothing
        small_engine().run()
        BacktraderInstrumentor().uninstrument()
    after = attributes_of_the_engine()
    assert after.keys() == before.keys()
    own_caches = {"_icache", "_acache"}  # the engine empties them in each run
    changed = [key for key in before if after[key] is not before[key] and key[1] not in own_caches]
    assert changed == []


def test_classes_of_the_users_are_wrapped_only_while_they_run_and_none_is_kept(
    hosts: None, tmp_path: Path
) -> None:
    """They may be sent to workers (by joblib); a loop that makes its own each time may be long."""
    is_own: set[bool] = set()

    def backtest() -> weakref.ref[type]:
        class Passing(Buying):
            def next(self) -> None:
                super().next()
                is_own.add(vars(Passing)["next"] is method)

        method, inherited = vars(Passing)["next"], vars(Buying)["next"]
        small_engine(Passing).run()
        assert vars(Passing)["next"] is method
        assert vars(Buying)["next"] is inherited
        return weakref.ref(Passing)

    BacktraderInstrumentor().instrument()
    try:
        with Tracing(RUN, data=tmp_path, writer="none"):
            first, _ = backtest(), backtest()  # the engine itself keeps the last one of a name
        gc.collect()
    finally:
        BacktraderInstrumentor().uninstrument()
    assert is_own == {False}
    assert first() is None


def test_an_engine_that_was_built_before_is_traced_from_its_next_run_on_and_only_once(
    hosts: None, tmp_path: Path
) -> None:
    cerebro = small_engine()
    cerebro.run()
    with Tracing(RUN, data=tmp_path, writer="inline"):
        BacktraderInstrumentor().instrument()
        BacktraderInstrumentor().instrument()
        cerebro.run()
        BacktraderInstrumentor().uninstrument()
        cerebro.run()
    assert Counter(row["name"] for row in rows_of(DataFolder(tmp_path)))["publish FILL"] == 2


def test_to_uninstrument_in_the_middle_of_a_run_ends_the_record_and_harms_nothing(
    hosts: None, tmp_path: Path
) -> None:
    (whole,) = small_engine().run()
    with Tracing(RUN, data=tmp_path, writer="inline"):
        BacktraderInstrumentor().instrument()
        (strategy,) = small_engine(let_go_at=10).run()
    assert strategy.broker.getcash() == whole.broker.getcash()
    assert Counter(row["name"] for row in rows_of(DataFolder(tmp_path)))["publish FILL"] == 1


def test_the_global_random_generators_are_not_touched(hosts: None, tmp_path: Path) -> None:
    before, before_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global one
    with Tracing(RUN, data=tmp_path, writer="none"):
        BacktraderInstrumentor().instrument()
        small_engine().run()
        BacktraderInstrumentor().uninstrument()
    assert random.getstate() == before
    assert str(np.random.get_state()) == str(before_numpy)  # noqa: NPY002  # the global one


def test_what_the_adapter_fails_at_does_not_reach_the_host(
    hosts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("of ours")

    for name in ("created", "executed", "changed", "advance", "_body", "settle"):
        monkeypatch.setattr(BacktraderRun, name, fail)
    (plain,) = small_engine().run()
    with Tracing(RUN, data=tmp_path, writer="none"), caplog.at_level(logging.CRITICAL):
        BacktraderInstrumentor().instrument()
        (traced,) = small_engine().run()
        BacktraderInstrumentor().uninstrument()
    assert traced.broker.getvalue() == plain.broker.getvalue()


# -- Without touching code ----------------------------------------------------------------------

BIN = Path(sys.executable).parent
COMMANDS = {
    "fillpath run": [str(BIN / "fillpath"), "run"],
    "python -m": [sys.executable, "-m", "fillpath.instrumentation"],
    "opentelemetry-instrument": [str(BIN / "opentelemetry-instrument"), sys.executable],
}
WAYS = list(COMMANDS)


@pytest.mark.parametrize(
    "way",
    ["opentelemetry-instrument", *(pytest.param(way, marks=pytest.mark.full) for way in WAYS[:2])],
)
def test_a_script_is_traced_as_it_is_and_its_crash_is_the_runs(way: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    environment |= {"FILLPATH_DATA": str(tmp_path / "data"), "OTEL_TRACES_EXPORTER": "none"}
    environment |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    environment |= {"FILLPATH_WRITER": "none"}
    script = str(HOSTS / "backtrader_user_error.py")
    done = subprocess.run(
        [*COMMANDS[way], script, str(tmp_path / "report.json"), "--crash"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    folder = DataFolder(tmp_path / "data")
    catch_up(folder)
    with EventStore(folder).connect() as connection:
        rows = connection.execute("select status, engine from runs").fetchall()
    ((status, engine),) = rows
    assert status == "Crashed"
    assert engine.startswith("backtrader")
    assert Counter(row["name"] for row in rows_of(folder))["publish FILL"] == 11


@pytest.mark.parametrize("shows_tree", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_page_about_the_engine_is_true(tmp_path: Path, *, shows_tree: bool) -> None:
    page = (Path(__file__).parents[1] / "docs" / "backtrader.md").read_text(encoding="utf-8")
    one_line, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "FILLPATH_DATA": str(tmp_path), "FILLPATH_RUN_ID": "goog"}
    environment |= {"FILLPATH_WRITER": "none", "PYTHONWARNINGS": "ignore"}  # others' warnings

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], check=True, capture_output=True, text=True, env=environment
        )
        return done.stdout

    (tmp_path / "my_backtest.py").write_text(one_line + example)
    value = Decimal(run(str(tmp_path / "my_backtest.py")).strip())
    catch_up(DataFolder(tmp_path))
    with EventStore(DataFolder(tmp_path)).connect(["goog"]) as connection:
        (account,) = compute_results(connection, "goog").ledger.accounts
    assert account.status == ReconciliationStatus.RECONCILED
    assert round(account.end or 0, 2) == value  # it ends without a position
    if not shows_tree:
        return
    shown = run("-m", "fillpath.analytics.cli", "trace", "show", "latest", "--all")
    (tree,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    seen = {told(line) for line in shown.splitlines()}
    for line in map(told, tree.splitlines()):
        assert any(each.startswith(line) for each in seen), line


def told(line: str) -> str:
    """What a line of a tree says, without the branches and the time that it took."""
    return re.sub(r"^\s*(\+[\d.]+ \S+)?[\s│├└─]*", "", line)


# -- Words --------------------------------------------------------------------------------------


EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # backtrader's times are naive


@given(st.datetimes(min_value=EPOCH))
def test_a_time_is_the_engines_own_to_ten_microseconds(moment: Any) -> None:
    days = bt.date2num(moment)
    ours = backtrader_words.time_of(days)
    exact = (moment - EPOCH) // timedelta(microseconds=1)
    assert ours is not None
    assert abs(ours // 1_000 - exact) <= 24  # a double cannot tell more, in the year 9999
    whole = bt.date2num(moment.replace(microsecond=0))
    if moment.year < 2500:
        assert (backtrader_words.time_of(whole) or 0) % 1_000_000_000 == 0


@given(st.lists(st.sampled_from(["", "A", "A#2", "B", "data0"]), max_size=6))
def test_feeds_always_have_names_that_differ(names: list[str]) -> None:
    class Feed:
        def __init__(self, name: str) -> None:
            self._name = name

    found = backtrader_words.feed_names([Feed(name) for name in names])
    assert len(set(found)) == len(names)


def test_the_parameters_of_several_strategies_are_told_apart_as_their_events_are() -> None:
    tried = [(Buying, (), {"let_go_at": 1}), (bt.Strategy, (), {}), (Buying, (), {})]
    found = backtrader_words.parameters_of(tried)
    assert found == {"Buying-1.let_go_at": 1, "Buying-2.let_go_at": 0}
    assert backtrader_words.parameters_of(tried[:1]) == {"let_go_at": 1}


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=-1e12, max_value=1e12))
def test_a_profit_keeps_all_the_digits_that_its_size_can_hold(profit: float, size: float) -> None:
    told = backtrader_words.profit_of(profit, size)
    doubt = max(Decimal("1e-12"), abs(Decimal(size)) * Decimal("1e-14"))
    assert abs(told - Decimal(repr(profit))) <= doubt
