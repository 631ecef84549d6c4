"""Why each order was sent: by the host's word, else by what the order is and what led to it."""

from __future__ import annotations

import re
from typing import Final

import duckdb

from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import Order

STOP: Final = "stop"
LIMIT: Final = "limit"
SIGNAL: Final = "signal"
END_OF_RUN: Final = "end of run"
MARKET: Final = "market"

_PATHS: Final = {
    "order_reason": Order.REASON,
    "reduce_only": Order.REDUCE_ONLY,
    "parent_id": Order.PARENT_ID,
    "linked_ids": Order.LINKED_IDS,
}
_ENDING: Final = re.compile(r"(?:^|_)(?:stop|dispose|finish|shut_?down)(?:_|$)", re.IGNORECASE)


def order_reasons(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[tuple[str, str], str]:
    """Tell why each order of a run was sent; why a position was closed is its last exit's reason.

    The host's own word (`trading.order.reason`) stands as it is. Else a stop or trailing stop is
    `stop`; a limit order that only closes (a leg of a bracket or of an OCO pair, or reduce-only) is
    `limit`; an order whose nearest cause is a signal is `signal`; one of a call-back at the end,
    such as `on_stop`, or of one after the last market data of its portfolio, is `end of run`; any
    other is `market`: the market itself, or what a handler made of a fill.

    Args:
        connection: Has the view ``spans`` and the table ``order_causes``.
        run_id: The run.

    Returns:
        The reason by portfolio and client order id.
    """
    parameters = {name: json_path(key) for name, key in _PATHS.items()} | {"run_id": run_id}
    rows = connection.execute(read_sql("order_reasons"), parameters).fetchall()
    return {(portfolio, order_id): _reason(*facts) for portfolio, order_id, *facts in rows}


def is_stop(order_type: str | None) -> bool:
    """Tell whether an order of this type waits for a price that is worse than the market's."""
    word = (order_type or "").upper()
    return "STOP" in word or "TRAILING" in word


def is_conditional(order_type: str | None) -> bool:
    """Tell whether an order of this type waits for a trigger before it is to be filled."""
    return is_stop(order_type) or "TOUCHED" in (order_type or "").upper()


def _reason(
    host_reason: str | None,
    order_type: str | None,
    is_leg: bool,
    from_signal: bool,
    from_system: bool,
    handler: str,
    after_the_market: bool,
) -> str:
    if host_reason:
        return host_reason
    if is_stop(order_type):
        return STOP
    word = (order_type or "").upper()
    if is_leg and ("LIMIT" in word or "TOUCHED" in word):
        return LIMIT
    if from_signal:
        return SIGNAL
    if from_system and (after_the_market or _ENDING.search(handler.rpartition(".")[2])):
        return END_OF_RUN
    return MARKET
