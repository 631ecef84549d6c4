"""Trades and orders of a run, with all that they came from and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import quotient
from fillpath.analytics.execution_rows import execution_rows
from fillpath.analytics.executions import FilledPart, OrderKey, order_executions
from fillpath.analytics.ledger import Ledger
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.lone_fills import lone_fills
from fillpath.analytics.market_prices import MarketPrices
from fillpath.analytics.price_worth import PriceWorth
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.trade_rows import RegimeAt, TradeContext, no_regime, trade_rows

_FILL_STARTS: Final = (
    "SELECT sequence, start_time FROM spans "
    "WHERE run_id = $run_id AND event_type = 'FILL' AND span_kind <> 'CONSUMER'"
)


def attribute_trades(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    ledger: Ledger,
    orders: TableRows,
    fills: TableRows,
    reasons: Mapping[OrderKey, str],
    regime_at: RegimeAt = no_regime,
) -> dict[str, TableRows]:
    """Make the rows of the tables ``executions`` and ``trades``.

    Args:
        connection: Has the views of the lake and the table ``order_causes``.
        run_id: The run.
        ledger: Its trades and splits.
        orders: The rows of table ``orders``.
        fills: The rows of table ``fills``.
        reasons: Why each order was sent.
        regime_at: The regime of a portfolio's symbol at a sequence, if there is one.
    """
    prices, trips = MarketPrices(connection, run_id), ledger.trips
    by_order: dict[OrderKey, list[FilledPart]] = {}
    currencies: dict[OrderKey, str] = {}
    every_fill = list(_dicts(fills))
    last_fills = {(f["portfolio"], f["client_order_id"]): f["sequence"] for f in every_fill}
    for fill in every_fill:
        key = fill["portfolio"], fill["client_order_id"]
        currencies[key] = fill["currency"] or ""
        # An order that waits over a split is filled in two kinds of shares.
        place = fill["portfolio"], fill["symbol"] or "", fill["sequence"]
        price = ledger.actions.of_price(*place, fill["price"], units_of=last_fills[key])
        quantity = fill["quantity"]
        if price != fill["price"]:
            quantity = quotient(quantity * fill["price"], price)
        by_order.setdefault(key, []).append(
            FilledPart(
                quantity,
                price,
                fill["commission"] or Decimal(0),
                fill["commission_currency"],
            )
        )
    every_order = list(_dicts(orders))
    executions = order_executions(
        connection,
        run_id,
        prices,
        orders=every_order,
        fills=by_order,
        worths=_worths(every_order, trips, currencies),
        reasons=reasons,
        actions=ledger.actions,
        last_fills=last_fills,
    )
    worths = {fill.ref.sequence: PriceWorth.of(fill) for fill in _fills_of(trips)}
    alone = lone_fills(connection, run_id, prices, worths)
    starts = connection.execute(_FILL_STARTS, {"run_id": run_id}).fetchall()
    context = TradeContext(prices, executions, alone, dict(starts), ledger.actions, regime_at)
    return {"executions": execution_rows(executions), "trades": trade_rows(trips, context)}


def _dicts(table: TableRows) -> Iterable[dict[str, Any]]:
    return (dict(zip(table.columns, row, strict=True)) for row in table.rows)


def _worths(
    orders: Iterable[Mapping[str, Any]],
    trips: Iterable[RoundTrip],
    currencies: Mapping[OrderKey, str],
) -> dict[OrderKey, PriceWorth]:
    """Say what prices are worth: by each order's fills, else by others of its instrument."""
    fills = list(_fills_of(trips))
    by_order = {_order_key(fill): PriceWorth.of(fill) for fill in fills}
    by_instrument = {(fill.symbol, fill.venue): PriceWorth.of(fill) for fill in fills}
    worths = {}
    for order in orders:
        key = order["portfolio"], order["client_order_id"]
        place = order["symbol"] or "", order["venue"] or ""
        usual = by_instrument.get(place) or PriceWorth(currency=currencies.get(key, ""))
        worths[key] = by_order.get(key, usual)
    return worths


def _fills_of(trips: Iterable[RoundTrip]) -> Iterator[FillEvent]:
    for trip in trips:
        for fill, _ in (*trip.entries, *trip.exits):
            yield fill


def _order_key(fill: FillEvent) -> OrderKey:
    return fill.ref.portfolio, fill.client_order_id or ""
