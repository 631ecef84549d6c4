"""The rows of table ``executions``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from fillpath.analytics.executions import OrderExecution
from fillpath.analytics.shard_load import TableRows

_COLUMNS: Final = (
    "portfolio sequence client_order_id strategy symbol venue side order_type status reason signal "
    "signal_strength signal_trace_id signal_span_id quantity filled_quantity decision_time "
    "decision_price arrival_time arrival_price average_price last_price currency delay_cost "
    "impact_cost commission opportunity_cost shortfall slippage market_to_signal signal_to_order "
    "order_to_ack ack_to_fill trace_id span_id"
)
_ORDER_FIELDS: Final = (
    "portfolio",
    "sequence",
    "client_order_id",
    "strategy",
    "symbol",
    "venue",
    "side",
    "order_type",
    "status",
)


def execution_rows(executions: Iterable[OrderExecution]) -> TableRows:
    """Make the rows, in the order of the orders."""
    return TableRows(_COLUMNS.split(), [_row(one) for one in executions])


def signal_strength(facts: Mapping[str, Any]) -> float | None:
    """The strength of the signal that led to an order; its value if it tells no strength."""
    for name in ("signal_strength", "signal_value"):
        try:
            number = float(facts[name])
        except (TypeError, ValueError):
            continue
        return number if abs(number) < float("inf") else None
    return None


def hops(facts: Mapping[str, Any]) -> Iterator[int | None]:
    """Wall clock from market to signal, on to the order, its acknowledgement and its first fill."""
    market, signal, order = facts["market_start"], facts["signal_start"], facts["start_time"]
    accepted, filled = facts["accepted_start"], facts["filled_start"]
    if (facts["market_sequence"] or 0) > (facts["signal_sequence"] or 0):
        signal, from_market = None, None  # the signal was before, and about something else
    else:
        from_market = _elapsed(market, signal)
    yield from_market
    yield _elapsed(market if signal is None else signal, order)
    yield _elapsed(order, accepted)
    yield _elapsed(order if accepted is None else accepted, filled)


def _elapsed(start: int | None, end: int | None) -> int | None:
    return None if start is None or end is None else end - start


def _row(one: OrderExecution) -> tuple[Any, ...]:
    order, facts = one.order, one.facts
    average: Decimal | None = order["average_price"]
    return (
        *(order[name] for name in _ORDER_FIELDS),
        one.reason,
        facts["signal_name"],
        signal_strength(facts),
        facts["signal_trace_id"],
        facts["signal_span_id"],
        order["quantity"],
        order["filled_quantity"],
        facts["decision_time"],
        one.decision_price,
        facts["arrival_time"],
        one.arrival_price,
        average,
        one.last_price,
        one.worth.currency or None,
        one.delay_cost,
        one.impact_cost,
        one.commission,
        one.opportunity_cost,
        one.shortfall,
        one.slippage,
        *hops(facts),
        order["trace_id"],
        order["span_id"],
    )
