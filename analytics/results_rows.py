"""Computes the results of one run from the lake: the rows of every table of the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import ZERO, average, decimal_places, exact_arithmetic, trimmed
from fillpath.analytics.garbage_collection import without_cycle_search
from fillpath.analytics.latency_rows import latency_tables
from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.analytics.ledger_events import CASH_FLOW_KINDS
from fillpath.analytics.order_causes import make_order_causes, order_signals
from fillpath.analytics.order_reasons import order_reasons
from fillpath.analytics.price_feeds import read_price_feeds
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.regimes import find_regimes
from fillpath.analytics.run_backtests import comparable_backtests
from fillpath.analytics.run_lookup import RUN_COLUMNS
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.signal_results import signal_tables
from fillpath.analytics.slice_rows import pnl_rollups, pnl_slices
from fillpath.analytics.slices import SliceLabels
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.analytics.tearsheet import tearsheet_tables
from fillpath.analytics.trade_attribution import attribute_trades
from fillpath.analytics.trading_events import keep_trading_events
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.semconv import EventType, Fill, Order

_SEED_PARAMETERS: Final = ("seed", "random_seed")
_LEDGER_NEEDS: Final = (
    EventType.FILL,
    EventType.POSITION_OPEN,
    EventType.POSITION_CHANGE,
    EventType.POSITION_CLOSE,
    EventType.PORTFOLIO,
    EventType.CORPORATE_ACTION,
    *CASH_FLOW_KINDS,
)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a run came to.

    Attributes:
        run: The row of table ``runs``, by column.
        tables: The rows of the other tables.
        ledger: What they were made of.
    """

    run: dict[str, Any]
    tables: dict[str, TableRows]
    ledger: Ledger


@without_cycle_search()
def compute_results(connection: duckdb.DuckDBPyConnection, run_id: str) -> RunResults:
    """Compute everything that is kept about a run.

    Args:
        connection: Has the views ``spans`` and ``runs``.
        run_id: The run.

    Raises:
        NotFound: The lake has no such run.
    """
    run, kinds = _run(connection, run_id)
    keep_trading_events(connection, run_id)
    make_order_causes(connection, run_id)
    feeds = read_price_feeds(connection, run_id)
    regimes = find_regimes(connection, run_id, feeds)
    labels = SliceLabels(
        signals=order_signals(connection),
        reasons=order_reasons(connection, run_id),
        regime=regimes.at,
    )
    ledger = compute_ledger(connection, run_id, labels)
    ledger = replace(ledger, accounts=tuple(_with_losses(ledger.accounts, kinds)))
    with exact_arithmetic():
        fills = [_fill(row) for row in _rows(connection, "fills", run_id)]
        tables = {
            "completeness": _table(
                "portfolio event_type published kept sampled_out dropped dropped_by_reason",
                map(_completeness, kinds),
            ),
            "orders": _orders(connection, run_id, fills),
            "fills": _table(
                "portfolio sequence fill_id client_order_id order_id position_id strategy symbol "
                "venue side quantity price commission commission_currency currency event_time "
                "trace_id span_id",
                fills,
            ),
            **latency_tables(connection, run_id, live=run["mode"] == "live"),
            **_ledger_tables(ledger),
        }
        tables |= attribute_trades(
            connection,
            run_id,
            ledger,
            tables["orders"],
            tables["fills"],
            labels.reasons,
            labels.regime,
        )
        tables |= tearsheet_tables(connection, run_id, run["parameters"], ledger.accounts, tables)
        tables["regimes"] = regimes.table()
        tables["funnel"] = _funnel(connection, run_id)
        tables |= signal_tables(
            connection,
            run_id,
            orders=tables["orders"],
            fills=tables["fills"],
            trips=ledger.trips,
            feeds=feeds,
        )
    return RunResults(run, tables, ledger)


def _run(
    connection: duckdb.DuckDBPyConnection, run_id: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Give the row of a run, and what became of its events by portfolio and kind."""
    cursor = connection.execute("SELECT * FROM runs WHERE run_id = ?", [run_id])
    names = [column[0] for column in cursor.description or ()]
    found = cursor.fetchone()
    if found is None:
        raise NotFound(f"There is no run '{run_id}'.", next_command="fillpath runs list")
    known = dict(zip(names, found, strict=True))
    run = {name: known[name] for name in RUN_COLUMNS}
    run["parameters"] = json.loads(run["parameters"] or "{}")
    metadata = json.loads(known.get("metadata") or "{}")
    seeds = (metadata.get("seed"), *(run["parameters"].get(name) for name in _SEED_PARAMETERS))
    seed = next((one for one in seeds if one is not None), None)
    run["backtests"] = comparable_backtests(metadata.get("backtests") or (), run["parameters"])
    run["code_version"] = metadata.get("code_version")
    run["seed"] = None if seed is None else str(seed)
    extent = connection.execute(read_sql("run_extent"), {"run_id": run_id}).fetchone()
    run["data_from"], run["data_to"] = (None, None) if extent is None else extent[:2]
    return run, json.loads(known.get("completeness") or "[]")


def _table(columns: str, rows: Iterable[Row]) -> TableRows:
    return TableRows(columns.split(), list(rows))


_PATHS: Final = {
    "orders": {
        "order_quantity": Order.QUANTITY,
        "trigger_price": Order.TRIGGER_PRICE,
        "reject_reason": Order.REJECT_REASON,
    },
    "fills": {"commission_currency": Fill.COMMISSION_CURRENCY},
}


def _rows(connection: duckdb.DuckDBPyConnection, name: str, run_id: str) -> Iterator[Row]:
    paths = {parameter: json_path(key) for parameter, key in _PATHS[name].items()}
    yield from connection.execute(read_sql(name), {**paths, "run_id": run_id}).fetchall()


def _fill(row: Row) -> Row:
    """Drop the zeros that the lake's columns pad numbers with."""
    return tuple(trimmed(value, 0) if isinstance(value, Decimal) else value for value in row)


def _funnel(connection: duckdb.DuckDBPyConnection, run_id: str) -> TableRows:
    cursor = connection.execute(read_sql("funnel"), {"run_id": run_id})
    return TableRows([column[0] for column in cursor.description or ()], cursor.fetchall())


def _orders(connection: duckdb.DuckDBPyConnection, run_id: str, fills: Iterable[Row]) -> TableRows:
    filled: dict[tuple[str, str], Decimal] = {}
    paid: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for portfolio, _, _, client_order_id, *_, quantity, price, _, _, _, _, _, _ in fills:
        key = (portfolio, client_order_id)
        cost, finest = paid.get(key, (ZERO, price))
        paid[key] = (cost + quantity * price, min(finest, price, key=_exponent))
        filled[key] = filled.get(key, ZERO) + quantity
    rows = []
    for row in _rows(connection, "orders", run_id):
        portfolio, client_order_id, sequence = row[:3]
        quantity, price = map(_number, row[9:11])
        done = filled.get((portfolio, client_order_id))
        mean = None
        if done:
            cost, finest = paid[portfolio, client_order_id]
            mean = average(cost, done, finest)
        numbers = (quantity, price, done or ZERO, mean)
        rows.append((portfolio, sequence, client_order_id, *row[3:9], *numbers, *row[11:]))
    return _table(
        "portfolio sequence client_order_id order_id strategy symbol venue side order_type "
        "quantity price filled_quantity average_price status reject_reason event_time trace_id "
        "span_id",
        rows,
    )


def _exponent(price: Decimal) -> int:
    return -decimal_places(price)


def _number(digits: str | None) -> Decimal | None:
    """Read a host's number; None if it is none, or not a finite one."""
    try:
        number = Decimal(digits or "NaN")
    except InvalidOperation:
        return None
    return trimmed(number, 0) if number.is_finite() else None


def _completeness(row: dict[str, Any]) -> Row:
    dropped: dict[str, int] = row.get("dropped") or {}
    names = ("portfolio", "event_type", "published", "kept", "sampled_out")
    return *(row[name] for name in names), sum(dropped.values()), dropped


def _with_losses(
    accounts: Iterable[AccountReconciliation], kinds: Iterable[dict[str, Any]]
) -> Iterator[AccountReconciliation]:
    """Fail the accounts of portfolios of which something is missing that the ledger needs."""
    lost: Counter[str] = Counter()
    for row in kinds:
        if row["event_type"] in _LEDGER_NEEDS:
            lost[row["portfolio"]] += row["published"] - row["kept"]
    for account in accounts:
        count = lost[account.portfolio]
        if not count:
            yield account
            continue
        note = f"{count} events of fills, positions, accounts or cash flows are not in the lake."
        status = ReconciliationStatus.FAILED
        yield replace(account, status=status, notes=(note, *account.notes))


def _ledger_tables(ledger: Ledger) -> dict[str, TableRows]:
    equity = (
        (
            point.ref.portfolio,
            point.ref.sequence,
            point.account_id,
            point.currency,
            point.balance,
            point.equity,
            point.ref.event_time,
            point.ref.trace_id,
            point.ref.span_id,
        )
        for point in ledger.equity
    )
    stated = [one for one in ledger.accounts if one.start is not None]
    balances = (
        (a.portfolio, a.account_id, a.account_type, a.currency, a.start, a.end) for a in stated
    )
    return {
        "pnl_slices": pnl_slices(ledger.slices),
        "pnl_rollups": pnl_rollups(ledger.slices),
        "balances": _table(
            "portfolio account_id account_type currency start_balance end_balance", balances
        ),
        "reconciliation": _table(
            "portfolio account_id account_type currency status start_balance end_balance realized "
            "commission rounding conversion funding held not_booked difference engine_realized "
            "cash_flow transfers realized_fifo unrealized unrealized_fifo engine_unrealized notes",
            map(_reconciliation, ledger.accounts),
        ),
        "equity": _table(
            "portfolio sequence account_id currency balance equity event_time trace_id span_id",
            equity,
        ),
    }


def _reconciliation(account: AccountReconciliation) -> Row:
    return (
        account.portfolio,
        account.account_id,
        account.account_type,
        account.currency,
        account.status.value,
        account.start,
        account.end,
        account.realized,
        account.commission,
        account.rounding,
        account.conversion,
        account.funding,
        account.held,
        account.not_booked,
        account.difference,
        account.engine_realized,
        account.cash_flow,
        account.transfers,
        account.realized_fifo,
        account.unrealized,
        account.unrealized_fifo,
        account.engine_unrealized,
        list(account.notes),
    )
