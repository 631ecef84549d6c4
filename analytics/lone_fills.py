"""Fills that name no order, taken as orders of their own: their chain tells what led to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import duckdb

from fillpath.analytics.executions import (
    FilledPart,
    OrderExecution,
    execution_at,
    moments_of,
)
from fillpath.analytics.market_prices import MarketPrices
from fillpath.analytics.order_reasons import MARKET, SIGNAL, STOP, is_stop
from fillpath.analytics.price_worth import PriceWorth
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Order, Signal

_ANY: Final = (
    "SELECT 1 FROM spans WHERE run_id = $run_id AND event_type = 'FILL' "
    "AND span_kind <> 'CONSUMER' AND client_order_id IS NULL LIMIT 1"
)
_PATHS: Final = {
    "signal_name": Signal.NAME,
    "signal_value": Signal.VALUE,
    "signal_strength": Signal.STRENGTH,
    "decision_price": Order.DECISION_PRICE,
    "order_reason": Order.REASON,
    "trigger_price": Order.TRIGGER_PRICE,
}


def lone_fills(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    prices: MarketPrices,
    worths: Mapping[int, PriceWorth],
) -> dict[int, OrderExecution]:
    """Reckon the prices of fills without an order's id, each as an order filled at once.

    Args:
        connection: Has the views ``spans`` and ``trace_divisions``.
        run_id: The run.
        prices: Prices of the market.
        worths: What prices are worth, by the fill's sequence.

    Returns:
        By the fill's sequence; none if every fill names its order.
    """
    if connection.execute(_ANY, {"run_id": run_id}).fetchone() is None:
        return {}
    parameters = {name: json_path(path) for name, path in _PATHS.items()} | {"run_id": run_id}
    cursor = connection.execute(read_sql("lone_fills"), parameters)
    names = [column[0] for column in cursor.description or ()]
    rows = [_row(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
    moments = {row["fill_sequence"]: list(moments_of(row, row)) for row in rows}
    found = prices.at(moment for triple in moments.values() for moment in triple)
    return {
        row["fill_sequence"]: execution_at(
            row,
            row,
            _reason(row),
            worths.get(row["fill_sequence"], PriceWorth()),
            [FilledPart(row["filled_quantity"], row["average_price"])],
            [found.get(moment) for moment in moments[row["fill_sequence"]]],
        )
        for row in rows
    }


def _row(facts: dict[str, Any]) -> dict[str, Any]:
    """Complete what a row of an order would have."""
    return {**facts, "quantity": facts["filled_quantity"], "status": None, "only_closes": False}


def _reason(facts: Mapping[str, Any]) -> str:
    if facts["reason"]:
        return str(facts["reason"])
    if is_stop(facts["order_type"]):
        return STOP
    return SIGNAL if facts["from_signal"] else MARKET
