"""The ledger of real backtests equals the engine's own reports, to the last digit.

The host scripts write down what the engine itself knows; that is the oracle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fillpath.analytics.fifo_matches import disagreements, fifo_matches
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_rows import RunResults, compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")

HOSTS = sorted((Path(__file__).parent / "hosts").glob("nautilus_*.py"))
RUN = "host"
SMOKE_HOST = "nautilus_brackets"
Row = dict[str, Any]


@dataclass(frozen=True)
class Reckoned:
    """A host's backtest: what the engine said, and what the ledger makes of the spans."""

    engines: dict[str, Row]
    results: RunResults

    def rows(self, table: str) -> list[Row]:
        given = self.results.tables[table]
        return [dict(zip(given.columns, row, strict=True)) for row in given.rows]

    @property
    def accounts(self) -> dict[tuple[str, str, str], AccountReconciliation]:
        return {(a.portfolio, a.account_id, a.currency): a for a in self.results.ledger.accounts}


def reckon(script: Path, folder: Path) -> Reckoned:
    report, data = folder / "report.json", folder / "data"
    recording = ["--data", str(data), "--run-id", RUN, "--writer", "inline"]
    command = [sys.executable, "-m", "fillpath.instrumentation", *recording]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    done = subprocess.run(
        [*command, str(script), str(report)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert report.exists(), done.stderr[-4000:]
    engines: dict[str, Row] = {}
    for run in json.loads(report.read_text(encoding="utf-8"))["runs"]:
        name = run["trader_id"].lower().replace("-", "/")
        again = sum(known.startswith(name) for known in engines)
        engines[f"{name}/{again + 1}" if again else name] = run
    with EventStore(DataFolder(data)).connect([RUN]) as connection:
        return Reckoned(engines, compute_results(connection, RUN))


@pytest.fixture(scope="module")
def reckoned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Reckoned]]]:
    """Every host that is asked for, two at a time."""
    wanted = set(map(_host_of, request.session.items))
    with ThreadPoolExecutor(2) as pool:
        yield {
            host.stem: pool.submit(reckon, host, tmp_path_factory.mktemp(host.stem))
            for host in HOSTS
            if host.stem in wanted
        }


def _host_of(item: Any) -> str | None:
    if item.path != Path(__file__) or not hasattr(item, "callspec"):
        return None
    name: str = item.callspec.params["run"]
    return name


def _param(host: Path) -> Any:
    # The balances of a live node are compared in test_nautilus.py too.
    marks = {SMOKE_HOST: [pytest.mark.smoke], "nautilus_live": [pytest.mark.full]}
    return pytest.param(host.stem, marks=marks.get(host.stem, []))


@pytest.fixture(params=map(_param, HOSTS))
def run(request: pytest.FixtureRequest, reckoned: dict[str, Future[Reckoned]]) -> Reckoned:
    return reckoned[request.param].result()


def test_balances_are_the_engines(run: Reckoned) -> None:
    expected = {
        (portfolio, account["account_id"], balance["currency"]): (
            Decimal(balance["start"]),
            Decimal(balance["final"]),
        )
        for portfolio, engine in run.engines.items()
        for account in engine["accounts"]
        for balance in account["balances"]
    }
    assert {key: (one.start, one.end) for key, one in run.accounts.items()} == expected


def test_every_account_follows_from_its_fills(run: Reckoned) -> None:
    for account in run.accounts.values():
        assert account.status is ReconciliationStatus.RECONCILED, account.notes
        assert account.difference == 0
        assert account.start is not None
        assert account.end == account.start + account.profit + account.held + account.not_booked


def test_the_slices_of_an_account_are_its_change_and_what_is_open(run: Reckoned) -> None:
    """First in first out and average cost differ fill by fill, and add up to the same cent."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for one in run.results.ledger.slices:
        sums[one.ref.portfolio, one.account_id, one.currency] += one.amount  # type: ignore[assignment]
    expected: Counter[tuple[str, str, str]] = Counter()
    for key, account in run.accounts.items():
        change = account.change
        assert change is not None
        expected[key] = change - account.held - account.not_booked + account.unrealized  # type: ignore[assignment]
        assert expected[key] == account.profit + account.unrealized
    assert {k: v for k, v in sums.items() if v} == {k: v for k, v in expected.items() if v}


def test_queue_and_sql_match_alike(run: Reckoned) -> None:
    ledger = run.results.ledger
    with duckdb.connect() as connection:
        assert fifo_matches(connection, ledger.legs) is not None
        assert disagreements(connection, ledger.legs, ledger.matches) == []


def test_commissions_are_the_engines(run: Reckoned) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for portfolio, engine in run.engines.items():
        for account in engine["accounts"]:
            for currency, amount in account["commissions"].items():
                expected[portfolio, account["account_id"], currency] = Decimal(amount)  # type: ignore[assignment]
    found = {key: -one.commission for key, one in run.accounts.items() if one.commission}
    assert found == {key: amount for key, amount in expected.items() if amount}


def test_fills_are_the_engines(run: Reckoned) -> None:
    expected = sorted(
        (
            fill["client_order_id"],
            fill["trade_id"],
            fill["strategy_id"],
            fill["side"],
            Decimal(fill["last_qty"]),
            Decimal(fill["last_px"]),
            Decimal(fill["commission"]),
            fill["commission_currency"],
            fill["currency"],
            fill["ts_event"],
        )
        for engine in run.engines.values()
        for fill in engine["fills"]
    )
    columns = (
        "client_order_id",
        "fill_id",
        "strategy",
        "side",
        "quantity",
        "price",
        "commission",
        "commission_currency",
        "currency",
        "event_time",
    )
    assert sorted(tuple(row[c] for c in columns) for row in run.rows("fills")) == expected


def test_orders_stand_where_the_engine_left_them(run: Reckoned) -> None:
    expected = {
        (portfolio, order["client_order_id"]): (
            order["side"],
            order["type"],
            order["status"],
            # What an execution algorithm cuts off an order, the engine does not publish.
            None if "OrderUpdated" in order["events"] else Decimal(order["quantity"]),
            Decimal(order["filled_qty"]),
        )
        for portfolio, engine in run.engines.items()
        for order in engine["orders"]
    }
    found = {
        (row["portfolio"], row["client_order_id"]): (
            row["side"],
            row["order_type"],
            row["status"],
            None
            if expected[row["portfolio"], row["client_order_id"]][3] is None
            else row["quantity"],
            row["filled_quantity"],
        )
        for row in run.rows("orders")
    }
    assert found == expected


def test_profit_of_each_strategy_is_the_engines(run: Reckoned) -> None:
    """By its positions, commissions taken off, where nothing had to be converted."""
    for portfolio, engine in run.engines.items():
        bases = {account["account_id"]: account["base_currency"] for account in engine["accounts"]}
        profits: Counter[tuple[str, str]] = Counter()
        for trip in run.results.ledger.trips:
            if trip.opened_by.ref.portfolio == portfolio:
                strategy = trip.opened_by.strategy
                for currency, amount in trip.realized_by_currency.items():
                    profits[strategy, currency] += amount  # type: ignore[assignment]
                for currency, amount in trip.commissions_by_currency.items():
                    profits[strategy, currency] -= amount  # type: ignore[assignment]
        for strategy, by_currency in engine["realized_pnl"].items():
            fills = [fill for fill in engine["fills"] if fill["strategy_id"] == strategy]
            currencies = {bases[fill["account_id"]] for fill in fills} - {None} | by_currency.keys()
            if len(currencies) == 1:
                (currency,) = currencies
                assert profits[strategy, currency] == Decimal(by_currency[currency]), strategy


def test_open_positions_are_the_engines(run: Reckoned) -> None:
    expected = {
        (portfolio, position["position_id"]): (position["side"], Decimal(position["quantity"]))
        for portfolio, engine in run.engines.items()
        for position in engine["open_positions"]
    }
    found = {
        (row["portfolio"], row["position_id"]): (row["direction"], row["open_quantity"])
        for row in run.rows("trades")
        if row["open_quantity"]
    }
    assert found == expected


def test_unrealized_profit_is_the_engines(run: Reckoned) -> None:
    """Where the engine values at the price that the ledger takes: the last bar or trade."""
    marks = {
        (trip.opened_by.ref.portfolio, trip.opened_by.symbol, trip.opened_by.strategy): trip
        for trip in run.results.ledger.trips
        if trip.is_open
    }
    for portfolio, engine in run.engines.items():
        if "QuoteTick" in engine["published"]["data.*"]:
            continue
        for position in engine["open_positions"]:
            symbol = position["instrument_id"].rpartition(".")[0]
            one = marks[portfolio, symbol, position["strategy_id"]]
            amount, currency = position["unrealized_pnl"].split()
            assert (one.currency, one.unrealized) == (currency, Decimal(amount))


def test_trades_add_up_to_the_accounts(run: Reckoned) -> None:
    realized: Counter[tuple[str, str]] = Counter()
    charged: Counter[tuple[str, str]] = Counter()
    for trip in run.results.ledger.trips:
        for currency, amount in trip.realized_by_currency.items():
            realized[trip.opened_by.ref.portfolio, currency] += amount  # type: ignore[assignment]
        for currency, amount in trip.commissions_by_currency.items():
            charged[trip.opened_by.ref.portfolio, currency] += amount  # type: ignore[assignment]
    of_accounts: Counter[tuple[str, str]] = Counter()
    for account in run.accounts.values():
        of_accounts[account.portfolio, account.currency] += account.realized  # type: ignore[assignment]
    of_slices: Counter[tuple[str, str]] = Counter()
    for one in run.results.ledger.slices:
        if one.kind == "commission":
            of_slices[one.ref.portfolio, one.currency] -= one.amount  # type: ignore[assignment]
    for ours, theirs in ((realized, of_accounts), (charged, of_slices)):
        assert {k: v for k, v in ours.items() if v} == {k: v for k, v in theirs.items() if v}


def test_equity_ends_at_the_profit(run: Reckoned) -> None:
    """What a portfolio is worth in the end is what it started with and earned."""
    last = {(p.ref.portfolio, p.account_id, p.currency): p for p in run.results.ledger.equity}
    worth: Counter[tuple[str, str]] = Counter()
    for key, account in run.accounts.items():
        assert account.start is not None
        assert last[key].balance == account.end
        worth[account.portfolio, account.currency] += (  # type: ignore[assignment]
            last[key].equity - account.start - account.not_booked
        )
    earned: Counter[tuple[str, str]] = Counter()
    for one in run.results.ledger.slices:
        earned[one.ref.portfolio, one.currency] += one.amount  # type: ignore[assignment]
    assert {k: v for k, v in worth.items() if v} == {k: v for k, v in earned.items() if v}
