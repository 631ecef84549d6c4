"""Reads the events of NautilusTrader 2.x; `nautilus_events` reads those of 1.x.

Everything is copied out as plain values in the engine's own digits; no event is kept or changed.
Random identifiers that the engine makes anew in every run (its UUIDs) are left out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.engine_run import NOWHERE, Instrument
from fillpath.instrumentation.nautilus_denials import risk_attributes
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME

_ORDER_STATUS: Final = {
    "OrderModifyRejected": "MODIFY_REJECTED",
    "OrderCancelRejected": "CANCEL_REJECTED",
    "OrderPendingUpdate": "PENDING_UPDATE",
    "OrderPendingCancel": "PENDING_CANCEL",
    "OrderFillVoided": "FILL_VOIDED",
}
_POSITION_EVENTS: Final = {
    "PositionOpened": EventType.POSITION_OPEN,
    "PositionChanged": EventType.POSITION_CHANGE,
    "PositionClosed": EventType.POSITION_CLOSE,
}


def instrument_of(instrument_id: Any) -> Instrument:
    """Symbol and venue of an engine's instrument id."""
    return Instrument(instrument_id.symbol.value, instrument_id.venue.value)


def about(data: Any) -> Instrument:
    """What any data of the engine's are about; nothing if they name no instrument."""
    owner = data.bar_type if hasattr(data, "bar_type") else data
    instrument_id = getattr(owner, "instrument_id", None)
    return NOWHERE if instrument_id is None else instrument_of(instrument_id)


def time_of(event: Any) -> int | None:
    """Simulated time of an event; before the first market event it stands at 0, which is none."""
    time = getattr(event, "ts_event", None)
    return time if isinstance(time, int) and 0 < time < -NO_TIME else None


def contract_of(instrument: Any) -> dict[str, Any]:
    """Multiplier and currencies of an instrument, as far as they are no matter of course."""
    if instrument is None:
        return {}
    quote = instrument.quote_currency
    base = getattr(instrument, "base_currency", None)
    settlement = quote
    if instrument.is_inverse and base is not None:
        settlement = base
    elif instrument.is_quanto:
        settlement = getattr(instrument, "settlement_currency", quote)
    multiplier = instrument.multiplier.as_decimal()
    found = {
        semconv.Fill.MULTIPLIER: None if multiplier == 1 else multiplier,
        semconv.Fill.SETTLEMENT_CURRENCY: None if settlement == quote else settlement.code,
        semconv.Fill.IS_INVERSE: True if instrument.is_inverse else None,
        semconv.Fill.BASE_CURRENCY: None if base is None else base.code,
    }
    return {key: value for key, value in found.items() if value is not None}


def status_of(event: Any) -> str:
    """The state that an order's event brings it to, in the engine's word."""
    kind = type(event).__name__
    return _ORDER_STATUS.get(kind) or kind.removeprefix("Order").upper()


def order_attributes(event: Any) -> dict[str, Any]:
    """What an order's event says that is no fill."""
    attributes: dict[str, Any] = {
        semconv.Order.STATUS: status_of(event),
        semconv.Order.ID: _value(getattr(event, "venue_order_id", None)),
        semconv.Account.ID: _value(getattr(event, "account_id", None)),
    }
    kind = type(event).__name__
    if kind == "OrderInitialized":
        linked = [one.value for one in event.linked_order_ids or () if one is not None]
        attributes |= {
            semconv.Order.SIDE: event.order_side.name,
            semconv.Order.TYPE: event.order_type.name,
            semconv.Order.QUANTITY: event.quantity.as_decimal(),
            semconv.Order.PRICE: _decimal(event.price),
            semconv.Order.TRIGGER_PRICE: _decimal(event.trigger_price),
            semconv.Order.TIME_IN_FORCE: event.time_in_force.name,
            semconv.Order.REDUCE_ONLY: event.reduce_only or None,
            semconv.Order.LINKED_IDS: linked or None,
            semconv.Order.PARENT_ID: _value(event.parent_order_id),
        }
    elif kind == "OrderUpdated":
        attributes |= {
            semconv.Order.QUANTITY: event.quantity.as_decimal(),
            semconv.Order.PRICE: _decimal(event.price),
            semconv.Order.TRIGGER_PRICE: _decimal(event.trigger_price),
        }
    reason = getattr(event, "reason", None)
    if reason:
        attributes[semconv.Order.REJECT_REASON] = reason
        if kind == "OrderDenied":
            attributes |= risk_attributes(reason)
    return attributes


def fill_attributes(fill: Any, contract: dict[str, Any]) -> dict[str, Any]:
    """What a fill says, with what its instrument adds."""
    commission = fill.commission
    return {
        semconv.Order.CLIENT_ID: fill.client_order_id.value,
        semconv.Order.ID: _value(fill.venue_order_id),
        semconv.Account.ID: _value(fill.account_id),
        semconv.Fill.ID: fill.trade_id.value,
        semconv.Fill.PRICE: fill.last_px.as_decimal(),
        semconv.Fill.QUANTITY: fill.last_qty.as_decimal(),
        semconv.Fill.CURRENCY: fill.currency.code,
        semconv.Fill.COMMISSION: Decimal(0) if commission is None else commission.as_decimal(),
        semconv.Fill.COMMISSION_CURRENCY: None if commission is None else commission.currency.code,
        semconv.Fill.LIQUIDITY: fill.liquidity_side.name,
        semconv.Order.SIDE: fill.order_side.name,
        semconv.Order.TYPE: fill.order_type.name,
        semconv.Position.ID: _value(fill.position_id),
        **contract,
    }


def position_type(event: Any) -> str:
    """Kind of a position's event."""
    kind = type(event).__name__
    return _POSITION_EVENTS.get(kind) or kind.replace("Position", "POSITION_").upper()


def position_attributes(position: Any) -> dict[str, Any]:
    """What an event of a position says, or the position itself."""
    realized = getattr(position, "realized_pnl", None)
    currency = getattr(position, "currency", None) if realized is None else realized.currency
    side = getattr(position, "side", None)
    return {
        semconv.Position.SIDE: None if side is None else side.name,
        semconv.Position.QUANTITY: _decimal(getattr(position, "quantity", None)),
        semconv.Position.AVERAGE_OPEN_PRICE: _printed(getattr(position, "avg_px_open", None)),
        semconv.Position.AVERAGE_CLOSE_PRICE: _printed(getattr(position, "avg_px_close", None)),
        semconv.Position.REALIZED_PNL: _decimal(realized),
        semconv.Position.CURRENCY: None if currency is None else currency.code,
        semconv.Position.OPENING_ORDER_ID: _value(getattr(position, "opening_order_id", None)),
        semconv.Position.CLOSING_ORDER_ID: _value(getattr(position, "closing_order_id", None)),
        semconv.Account.ID: _value(getattr(position, "account_id", None)),
    }


def account_attributes(state: Any) -> dict[str, Any]:
    """What an account's state says."""
    base = state.base_currency
    return {
        semconv.Account.ID: state.account_id.value,
        semconv.Account.TYPE: state.account_type.name,
        semconv.Account.BASE_CURRENCY: None if base is None else base.code,
        semconv.Account.BALANCES: [
            {
                "currency": balance.currency.code,
                "total": balance.total.as_decimal(),
                "free": balance.free.as_decimal(),
                "locked": balance.locked.as_decimal(),
            }
            for balance in state.balances
        ],
    }


def _value(identifier: Any) -> str | None:
    return None if identifier is None else str(identifier.value)


def _decimal(number: Any) -> Decimal | None:
    return None if number is None else number.as_decimal()


def _printed(price: float | None) -> str | None:
    return None if price is None else str(price)
