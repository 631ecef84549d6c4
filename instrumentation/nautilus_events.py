"""Reads NautilusTrader's messages: what kind of event each is, and what it says.

Everything is copied out as plain values in the engine's own digits; no message is kept or changed.
Random identifiers that the engine makes anew in every run (its UUIDs) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from nautilus_trader.common.enums import ComponentState
from nautilus_trader.common.messages import ComponentStateChanged, TradingStateChanged
from nautilus_trader.core.data import Data
from nautilus_trader.core.message import Command as EngineCommand
from nautilus_trader.execution.messages import TradingCommand
from nautilus_trader.model import events
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import (
    Bar,
    OrderBookDelta,
    OrderBookDeltas,
    OrderBookDepth10,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import (
    AccountType,
    LiquiditySide,
    OrderSide,
    OrderType,
    PositionSide,
    TimeInForce,
    TradingState,
)
from nautilus_trader.model.instruments import Instrument

from fillpath.instrumentation import semconv
from fillpath.instrumentation.nautilus_denials import risk_attributes
from fillpath.instrumentation.nautilus_market import exact
from fillpath.instrumentation.payload import MAX_NAME, snapshot
from fillpath.instrumentation.semconv import EventType

_OF_PLAIN_PARTS: Final = (
    events.OrderEvent,
    events.PositionEvent,
    events.AccountState,
    TradingCommand,
    EngineCommand,
    ComponentStateChanged,
    TradingStateChanged,
)
_FIRST_TO_RESET: Final = "DataEngine"
_SIGNAL_PREFIX: Final = "Signal"
_ORDER_STATUS: Final = {
    "OrderModifyRejected": "MODIFY_REJECTED",
    "OrderCancelRejected": "CANCEL_REJECTED",
    "OrderPendingUpdate": "PENDING_UPDATE",
    "OrderPendingCancel": "PENDING_CANCEL",
}
_POSITION_EVENTS: Final = {
    "PositionOpened": EventType.POSITION_OPEN,
    "PositionChanged": EventType.POSITION_CHANGE,
    "PositionClosed": EventType.POSITION_CLOSE,
}
_OUR_KINDS: Final = frozenset(kind for name, kind in vars(EventType).items() if name.isupper())


class Description(NamedTuple):
    """What a message says, in fillpath's words."""

    event_type: str
    attributes: Mapping[str, Any]
    strategy: str | None = None
    symbol: str | None = None
    venue: str | None = None
    event_time: int | None = None


def is_engine_reset(message: Any) -> bool:
    """Tell whether an engine begins to start afresh; its data engine is the first to do so."""
    return (
        isinstance(message, ComponentStateChanged)
        and message.component_id.value == _FIRST_TO_RESET
        and ComponentState(message.state) is ComponentState.RESETTING
    )


def describe(message: Any, instruments: Mapping[Any, Instrument]) -> Description:
    """Describe any message of the bus; one of an unknown class keeps its class's name as kind.

    Args:
        message: What was published or sent.
        instruments: The instruments seen so far, by the engine's instrument id.
    """
    read = _READER_OF.get(type(message))
    if read is None:
        read = next((read for kind, read in _READERS if isinstance(message, kind)), _read_other)
        _READER_OF[type(message)] = read
    description = read(message, instruments)
    # Before the first market event the simulated clock stands at 0, which is no time.
    return description if description.event_time else description._replace(event_time=None)


def plain_attributes(message: Any, description: Description) -> dict[str, Any]:
    """Attributes as they are recorded. What was read of the engine's own is plain already."""
    if not isinstance(message, _OF_PLAIN_PARTS):
        return snapshot(description.attributes)
    plain = {}
    for key, value in description.attributes.items():
        if value is None:
            continue
        if type(value) is str and not (len(value) <= MAX_NAME and value.isascii()):
            return snapshot(description.attributes)
        plain[key] = value
    return plain


def _place(instrument_id: Any) -> tuple[str, str]:
    return instrument_id.symbol.value, instrument_id.venue.value


def _read_bar(bar: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(bar.bar_type.instrument_id)
    attributes = {
        semconv.Bar.TYPE: str(bar.bar_type),
        semconv.Bar.OPEN: exact(bar.open),
        semconv.Bar.HIGH: exact(bar.high),
        semconv.Bar.LOW: exact(bar.low),
        semconv.Bar.CLOSE: exact(bar.close),
        semconv.Bar.VOLUME: exact(bar.volume),
    }
    return Description(EventType.BAR, attributes, None, symbol, venue, bar.ts_event)


def _read_quote(tick: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(tick.instrument_id)
    attributes = {
        semconv.Tick.BID: exact(tick.bid_price),
        semconv.Tick.ASK: exact(tick.ask_price),
        semconv.Tick.BID_SIZE: exact(tick.bid_size),
        semconv.Tick.ASK_SIZE: exact(tick.ask_size),
    }
    return Description(EventType.TICK, attributes, None, symbol, venue, tick.ts_event)


def _read_trade(tick: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(tick.instrument_id)
    attributes = {
        semconv.Tick.PRICE: exact(tick.price),
        semconv.Tick.SIZE: exact(tick.size),
    }
    return Description(EventType.TICK, attributes, None, symbol, venue, tick.ts_event)


def _read_book(message: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(message.instrument_id)
    time = getattr(message, "ts_event", None)
    return Description(EventType.BOOK, {}, None, symbol, venue, time)


def _read_order_event(event: Any, instruments: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(event.instrument_id)
    attributes: dict[str, Any] = {
        semconv.Order.CLIENT_ID: event.client_order_id.value,
        semconv.Order.ID: event.venue_order_id.value if event.venue_order_id else None,
        semconv.Account.ID: event.account_id.value if event.account_id else None,
    }
    kind = type(event).__name__
    if isinstance(event, events.OrderFilled):
        attributes.update(_fill_attributes(event, instruments.get(event.instrument_id)))
        event_type: str = EventType.FILL
    else:
        event_type = EventType.ORDER
        plain_status = kind.removeprefix("Order").upper()
        attributes[semconv.Order.STATUS] = _ORDER_STATUS.get(kind, plain_status)
    if isinstance(event, events.OrderInitialized):
        attributes.update(_new_order_attributes(event))
    elif isinstance(event, events.OrderUpdated):
        attributes[semconv.Order.QUANTITY] = event.quantity.as_decimal()
        attributes[semconv.Order.PRICE] = event.price.as_decimal() if event.price else None
        trigger = event.trigger_price
        attributes[semconv.Order.TRIGGER_PRICE] = trigger.as_decimal() if trigger else None
    reason = getattr(event, "reason", None)
    if reason:
        attributes[semconv.Order.REJECT_REASON] = reason
        if isinstance(event, events.OrderDenied):
            attributes.update(risk_attributes(reason))
    return Description(
        event_type, attributes, event.strategy_id.value, symbol, venue, event.ts_event
    )


def _new_order_attributes(event: Any) -> dict[str, Any]:
    options = event.options
    return {
        semconv.Order.SIDE: OrderSide(event.side).name,
        semconv.Order.TYPE: OrderType(event.order_type).name,
        semconv.Order.QUANTITY: event.quantity.as_decimal(),
        semconv.Order.PRICE: _decimal(options.get("price")),
        semconv.Order.TRIGGER_PRICE: _decimal(options.get("trigger_price")),
        semconv.Order.TIME_IN_FORCE: TimeInForce(event.time_in_force).name,
        semconv.Order.REDUCE_ONLY: event.reduce_only or None,
        semconv.Order.LINKED_IDS: [i.value for i in event.linked_order_ids or ()] or None,
        semconv.Order.PARENT_ID: event.parent_order_id.value if event.parent_order_id else None,
    }


def _fill_attributes(fill: Any, instrument: Any) -> dict[str, Any]:
    commission = fill.commission
    price_currency = fill.currency.code
    attributes = {
        semconv.Fill.ID: fill.trade_id.value,
        semconv.Fill.PRICE: fill.last_px.as_decimal(),
        semconv.Fill.QUANTITY: fill.last_qty.as_decimal(),
        semconv.Fill.CURRENCY: price_currency,
        semconv.Fill.COMMISSION: commission.as_decimal() if commission else Decimal(0),
        semconv.Fill.COMMISSION_CURRENCY: commission.currency.code if commission else None,
        semconv.Fill.LIQUIDITY: LiquiditySide(fill.liquidity_side).name,
        semconv.Order.SIDE: OrderSide(fill.order_side).name,
        semconv.Order.TYPE: OrderType(fill.order_type).name,
        semconv.Position.ID: fill.position_id.value if fill.position_id else None,
    }
    if instrument is not None:
        multiplier = instrument.multiplier.as_decimal()
        settlement = instrument.get_cost_currency().code
        base = instrument.get_base_currency()
        attributes[semconv.Fill.MULTIPLIER] = None if multiplier == 1 else multiplier
        attributes[semconv.Fill.SETTLEMENT_CURRENCY] = (
            None if settlement == price_currency else settlement
        )
        attributes[semconv.Fill.IS_INVERSE] = True if instrument.is_inverse else None
        attributes[semconv.Fill.BASE_CURRENCY] = base.code if base is not None else None
    return attributes


def _read_position_event(event: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(event.instrument_id)
    kind = type(event).__name__
    event_type = _POSITION_EVENTS.get(kind) or _upper_snake(kind)
    closing = getattr(event, "closing_order_id", None)
    realized = getattr(event, "realized_pnl", None)
    attributes = {
        semconv.Position.ID: event.position_id.value,
        semconv.Position.SIDE: PositionSide(event.side).name,
        semconv.Position.QUANTITY: event.quantity.as_decimal(),
        semconv.Position.AVERAGE_OPEN_PRICE: _printed(getattr(event, "avg_px_open", None)),
        semconv.Position.AVERAGE_CLOSE_PRICE: _printed(getattr(event, "avg_px_close", None)),
        semconv.Position.REALIZED_PNL: realized.as_decimal() if realized is not None else None,
        semconv.Position.CURRENCY: (
            event.currency.code if realized is None else realized.currency.code
        ),
        semconv.Position.OPENING_ORDER_ID: event.opening_order_id.value,
        semconv.Position.CLOSING_ORDER_ID: closing.value if closing else None,
        semconv.Account.ID: event.account_id.value,
    }
    return Description(
        event_type, attributes, event.strategy_id.value, symbol, venue, event.ts_event
    )


def _read_account(event: Any, _: Mapping[Any, Instrument]) -> Description:
    base = event.base_currency
    attributes = {
        semconv.Account.ID: event.account_id.value,
        semconv.Account.TYPE: AccountType(event.account_type).name,
        semconv.Account.BASE_CURRENCY: base.code if base is not None else None,
        semconv.Account.BALANCES: [
            {
                "currency": balance.currency.code,
                "total": balance.total.as_decimal(),
                "free": balance.free.as_decimal(),
                "locked": balance.locked.as_decimal(),
            }
            for balance in event.balances
        ],
    }
    return Description(EventType.PORTFOLIO, attributes, event_time=event.ts_event)


def _read_command(command: Any, _: Mapping[Any, Instrument]) -> Description:
    attributes = {semconv.Command.NAME: type(command).__name__}
    symbol = venue = None
    instrument_id = getattr(command, "instrument_id", None)
    if instrument_id is not None:
        symbol, venue = _place(instrument_id)
    strategy = getattr(command, "strategy_id", None)
    order_id = getattr(command, "client_order_id", None)
    order = getattr(command, "order", None)
    if order is not None:
        order_id = order.client_order_id
    if order_id is not None:
        attributes[semconv.Order.CLIENT_ID] = order_id.value
    if type(command).__name__ == "ModifyOrder":
        for key, value in (
            (semconv.Order.QUANTITY, command.quantity),
            (semconv.Order.PRICE, command.price),
            (semconv.Order.TRIGGER_PRICE, command.trigger_price),
        ):
            if value is not None:
                attributes[key] = value.as_decimal()
    return Description(
        EventType.COMMAND,
        attributes,
        strategy.value if strategy is not None else None,
        symbol,
        venue,
        command.ts_init,
    )


def _read_data(data: Any, instruments: Mapping[Any, Instrument]) -> Description:
    kind = type(data).__name__
    if kind.startswith(_SIGNAL_PREFIX) and hasattr(data, "value") and data.is_signal():
        name = kind.removeprefix(_SIGNAL_PREFIX)
        attributes = {semconv.Signal.NAME: name, semconv.Signal.VALUE: data.value}
        if isinstance(data.value, int | float) and not isinstance(data.value, bool):
            attributes[semconv.Signal.STRENGTH] = data.value
        return Description(EventType.SIGNAL, attributes, event_time=data.ts_event)
    return _read_other(data, instruments)


def _read_instrument(instrument: Any, _: Mapping[Any, Instrument]) -> Description:
    symbol, venue = _place(instrument.id)
    attributes = {semconv.Fill.MULTIPLIER: instrument.multiplier.as_decimal()}
    return Description("INSTRUMENT", attributes, None, symbol, venue, instrument.ts_event)


def _read_state(message: Any, _: Mapping[Any, Instrument]) -> Description:
    state = ComponentState if isinstance(message, ComponentStateChanged) else TradingState
    component = getattr(message, "component_id", None)
    attributes = {
        semconv.System.COMPONENT: component.value if component is not None else None,
        semconv.System.STATE: state(message.state).name,
    }
    return Description(EventType.SYSTEM, attributes, event_time=message.ts_event)


def _read_other(message: Any, _: Mapping[Any, Instrument]) -> Description:
    kind = type(message).__name__
    attributes: dict[str, Any] = {}
    symbol = venue = None
    instrument_id = getattr(message, "instrument_id", None)
    if instrument_id is not None and hasattr(instrument_id, "symbol"):
        symbol, venue = _place(instrument_id)
    for name, value in getattr(message, "__dict__", {}).items():
        if not name.startswith("_") and not callable(value):
            attributes[f"trading.{_upper_snake(kind).lower()}.{name}"] = value
    time = getattr(message, "ts_event", None)
    name = _upper_snake(kind)
    if name in _OUR_KINDS:  # a user's own `Fill` is none of the engine's
        name = f"DATA_{name}"
    return Description(
        name, attributes, None, symbol, venue, time if isinstance(time, int) else None
    )


def _decimal(digits: Any) -> Decimal | None:
    return None if digits is None else Decimal(str(digits))


def _printed(value: Any) -> str | None:
    return None if value is None else str(value)


def _upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).upper()


_Reader = Callable[[Any, Mapping[Any, Instrument]], Description]
_READERS: Final[tuple[tuple[type | tuple[type, ...], _Reader], ...]] = (
    (Bar, _read_bar),
    (QuoteTick, _read_quote),
    (TradeTick, _read_trade),
    ((OrderBookDelta, OrderBookDeltas, OrderBookDepth10, OrderBook), _read_book),
    (events.OrderEvent, _read_order_event),
    (events.PositionEvent, _read_position_event),
    (events.AccountState, _read_account),
    ((TradingCommand, EngineCommand), _read_command),
    (Instrument, _read_instrument),
    ((ComponentStateChanged, TradingStateChanged), _read_state),
    (Data, _read_data),
)
_READER_OF: Final[dict[type, _Reader]] = {}
"""The same by class, as far as it has been looked up."""
