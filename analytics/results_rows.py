"""Computes the results of one run from the lake: the rows of every table of the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import ZERO, average, decimal_places, exact_arithmetic, trimmed
from fillpath.analytics.latency_rows import latency_tables
from fillpath.analytics.ledger import Ledger, compute_ledger
from fillpath.analytics.order_causes import make_order_causes
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.semconv import EventType, Fill, Order, Signal

RUN_COLUMNS: Final = (
    "run_id",
    "mode",
    "status",
    "service_name",
    "engine",
    "engine_version",
    "started_at",
    "ended_at",
    "parameters",
    "published",
    "kept",
    "sampled_out",
    "dropped",
)
_LEDGER_NEEDS: Final = (
    EventType.FILL,
    EventType.POSITION_OPEN,
    EventType.POSITION_CHANGE,
    EventType.POSITION_CLOSE,
    EventType.PORTFOLIO,
)
_RUN: Final = f"SELECT {', '.join(RUN_COLUMNS)}, completeness FROM runs WHERE run_id = $run_id"  # noqa: S608 - names of our own

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


def compute_results(connection: duckdb.DuckDBPyConnection, run_id: str) -> RunResults:
    """Compute everything that is kept about a run.

    Args:
        connection: Has the views ``spans`` and ``runs``.
        run_id: The run.

    Raises:
        NotFound: The lake has no such run.
    """
    found = connection.execute(_RUN, {"run_id": run_id}).fetchone()
    if found is None:
        raise NotFound(f"There is no run '{run_id}'.", next_command="fillpath runs list")
    *values, completeness = found
    run = dict(zip(RUN_COLUMNS, values, strict=True))
    run["parameters"] = json.loads(run["parameters"] or "{}")
    kinds = json.loads(completeness or "[]")
    make_order_causes(connection, run_id)
    ledger = compute_ledger(connection, run_id)
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
            "signals": _table(
                "portfolio sequence strategy symbol name value event_time outcome trace_id span_id",
                _rows(connection, "signals", run_id),
            ),
            **latency_tables(connection, run_id, live=run["mode"] == "live"),
            **_ledger_tables(ledger),
        }
    return RunResults(run, tables, ledger)


def _table(columns: str, rows: Iterable[Row]) -> TableRows:
    return TableRows(columns.split(), list(rows))


_PATHS: Final = {
    "orders": {
        "order_quantity": Order.QUANTITY,
        "trigger_price": Order.TRIGGER_PRICE,
        "reject_reason": Order.REJECT_REASON,
    },
    "fills": {"commission_currency": Fill.COMMISSION_CURRENCY},
    "signals": {"signal_name": Signal.NAME, "signal_value": Signal.VALUE},
}


def _rows(connection: duckdb.DuckDBPyConnection, name: str, run_id: str) -> Iterator[Row]:
    paths = {parameter: json_path(key) for parameter, key in _PATHS[name].items()}
    yield from connection.execute(read_sql(name), {**paths, "run_id": run_id}).fetchall()


def _fill(row: Row) -> Row:
    """Drop the zeros that the lake's columns pad numbers with."""
    return tuple(trimmed(value, 0) if isinstance(value, Decimal) else value for value in row)


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
    return None if digits is None else trimmed(Decimal(digits), 0)


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
        note = f"{count} events of fills, positions and accounts did not reach the lake."
        status = account.status
        if status is ReconciliationStatus.RECONCILED:
            status = ReconciliationStatus.FAILED
        yield replace(account, status=status, notes=(note, *account.notes))


def _ledger_tables(ledger: Ledger) -> dict[str, TableRows]:
    slices = (
        (
            one.ref.portfolio,
            one.strategy or None,
            one.symbol or None,
            one.currency,
            one.kind,
            one.ref.sequence,
            one.ref.event_time,
            one.amount,
            one.fill_id,
            one.ref.trace_id,
            one.ref.span_id,
        )
        for one in ledger.slices
    )
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
        "trades": _table(
            "portfolio trade_id entry_sequence position_id strategy symbol venue direction "
            "quantity open_quantity entry_time exit_time entry_price exit_price realized_pnl "
            "unrealized_pnl commission currency entry_trace_id entry_span_id exit_trace_id "
            "exit_span_id",
            map(_trade, ledger.trips),
        ),
        "pnl_slices": _table(
            "portfolio strategy symbol currency kind sequence event_time amount fill_id trace_id "
            "span_id",
            slices,
        ),
        "balances": _table(
            "portfolio account_id account_type currency start_balance end_balance", balances
        ),
        "reconciliation": _table(
            "portfolio account_id account_type currency status start_balance end_balance realized "
            "commission rounding conversion funding held not_booked difference engine_realized "
            "notes",
            map(_reconciliation, ledger.accounts),
        ),
        "equity": _table(
            "portfolio sequence account_id currency balance equity event_time trace_id span_id",
            equity,
        ),
    }


def _trade(trip: RoundTrip) -> Row:
    entry, leave = trip.opened_by, trip.closed_by
    exit_price = trip.exit_price
    return (
        entry.ref.portfolio,
        trip.trade_id,
        entry.ref.sequence,
        trip.position_id,
        entry.strategy or None,
        entry.symbol or None,
        entry.venue or None,
        trip.direction,
        trimmed(trip.entered, 0),
        trimmed(trip.open_quantity, 0),
        entry.ref.event_time,
        leave.ref.event_time if leave and not trip.is_open else None,
        trimmed(trip.entry_price, 0),
        None if exit_price is None else trimmed(exit_price, 0),
        trip.realized,
        trip.unrealized,
        trip.commission,
        trip.currency,
        entry.ref.trace_id,
        entry.ref.span_id,
        leave.ref.trace_id if leave else None,
        leave.ref.span_id if leave else None,
    )


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
        list(account.notes),
    )
