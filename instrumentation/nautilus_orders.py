"""Reads NautilusTrader's most frequent messages about orders at the least cost.

`nautilus_events` describes any message. Here those of a backtest's every order are read: what all
messages of one kind, strategy, instrument and so on have in common is described once, and then
only what differs is read. A pattern is kept only if its first message, read this way, gives what
its description gave; so what does not fit the pattern is described each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final

from nautilus_trader.execution.messages import CancelOrder, ModifyOrder, SubmitOrder
from nautilus_trader.model import events
from nautilus_trader.model.instruments import Instrument

from fillpath.instrumentation.attribute_sites import NO_NUMBERS
from fillpath.instrumentation.event_columns import KNOWN_PARTS, MAX_DIGITS, time_of
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.nautilus_events import Description, describe, plain_attributes
from fillpath.instrumentation.open_event import Place, Placed
from fillpath.instrumentation.payload import MAX_NAME
from fillpath.instrumentation.semconv import Account, Fill, Order, Position
from fillpath.instrumentation.spool import MAX_MANTISSA, NO_TIME, SLOTS

if TYPE_CHECKING:
    from fillpath.instrumentation.nautilus_causes import OrderCauses, OrderState

Quick = tuple[Hashable, tuple[float, ...], dict[str, Any]]
"""Of a message: its pattern, the record's numbers, and what fits neither numbers nor pattern."""
Row = tuple[Place, Placed | dict[str, Any], int]
"""Place, attributes and simulated time of a message, as `EventTracer.open_at` takes them."""
_MAX_PATTERNS: Final = 4096
_MAX_NUMBERS: Final = 8192
_LIMIT: Final = float(MAX_MANTISSA)
_PADDING: Final = tuple((0.0,) * (SLOTS - number) for number in range(SLOTS + 1))


class Unusual(Exception):
    """A message has no pattern, so it has to be described."""


class OrderReader:
    """Reads messages about orders, and falls back on their description.

    Args:
        tracer: Who records them.
        portfolio: Their portfolio namespace.
        instruments: The instruments seen so far, by the engine's instrument id.
    """

    def __init__(
        self, tracer: EventTracer, portfolio: str, instruments: Mapping[Any, Instrument]
    ) -> None:
        self._tracer = tracer
        self._portfolio = portfolio
        self._instruments = instruments
        self._patterns: dict[Hashable, tuple[Place, int]] = {}
        self._places: dict[tuple[str | None, ...], Place] = {}

    def forget_patterns(self) -> None:
        """An instrument has been defined, perhaps otherwise than before."""
        self._patterns.clear()

    def place_of(self, description: Description) -> Place:
        """What an event has in common with others of the same description."""
        key = description.event_type, *description[2:5]
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._tracer.place(
                description.event_type,
                portfolio=self._portfolio,
                strategy=description.strategy,
                symbol=description.symbol,
                venue=description.venue,
            )
        return place

    def row(self, message: Any, causes: OrderCauses) -> Row | None:
        """Read a message; None if it is of a class that is described each time."""
        found = _QUICK.get(type(message))
        if found is None:
            return None
        read, is_of_order, is_command = found
        try:
            state = causes.state_of(message) if is_of_order else None
            key, numbers, rest = read(message, state)
            for text in rest.values():
                if type(text) is str and not (len(text) <= MAX_NAME and text.isascii()):
                    raise Unusual
        except Exception:  # noqa: BLE001 - the engine's next version may lack what is read here
            return self._described(message, causes, None)
        known = self._patterns.get(key)
        if known is None:
            return self._described(message, causes, (key, numbers, rest))
        place, site = known
        time = message.ts_init if is_command else message.ts_event
        return place, (site, numbers, rest), time if 0 < time < -NO_TIME else NO_TIME

    def _described(self, message: Any, causes: OrderCauses, quick: Quick | None) -> Row:
        """Describe a message; keep its pattern if that says the same."""
        description = causes.complete(message, describe(message, self._instruments))
        place = self.place_of(description)
        attributes = plain_attributes(message, description)
        placed = self._tracer.placed(place, attributes)
        if quick is not None and placed[1:] == quick[1:] and len(self._patterns) < _MAX_PATTERNS:
            self._patterns[quick[0]] = place, placed[0]
        time = description.event_time
        return place, placed, NO_TIME if time is None else time_of(time)


class _Parts(dict[float, tuple[float, int]]):
    """Mantissa and scale of numbers with so many digits behind the point, without last zeros.

    By the number as a float, since prices and quantities come again. Why that is exact is told in
    `nautilus_market`.

    Args:
        precision: How many digits.
    """

    def __init__(self, precision: int) -> None:
        super().__init__()
        self._precision = precision

    def __missing__(self, number: float) -> tuple[float, int]:
        scale = self._precision
        mantissa = (number * 10.0**scale + 0.5) // 1
        if not -_LIMIT < mantissa < _LIMIT:
            raise Unusual
        while scale and not mantissa % 10:
            mantissa //= 10
            scale -= 1
        if len(self) >= _MAX_NUMBERS:
            self.clear()
        self[number] = mantissa, scale
        return mantissa, scale


_PARTS: Final = tuple(_Parts(precision) for precision in range(MAX_DIGITS + 1))
"""By the precision of a price, a quantity or a currency."""


def _parts(digits: str) -> tuple[float, int]:
    """Mantissa and scale of a number that is printed."""
    parts = KNOWN_PARTS[digits]
    if parts is None:
        raise Unusual
    return parts


def _present(values: tuple[Any, ...]) -> tuple[tuple[float, ...], tuple[int | None, ...]]:
    """The record's numbers for prices and quantities, and the scale of each; some may be None."""
    numbers: list[float] = []
    scales: list[int | None] = []
    for value in values:
        if value is None:
            scales.append(None)
        else:
            mantissa, scale = _PARTS[value.precision][value.as_double()]
            numbers.append(mantissa)
            scales.append(scale)
    return (*numbers, *_PADDING[len(numbers)]), tuple(scales)


def _read_status(event: Any, state: OrderState | None) -> Quick:
    if state is None:
        raise Unusual
    venue_order_id = event.venue_order_id
    rest = {Order.CLIENT_ID: state.client_id}
    if venue_order_id is not None:
        rest[Order.ID] = venue_order_id.value
    key = (
        type(event),
        event.strategy_id,
        event.instrument_id,
        event.account_id,
        state.side,
        state.type,
    )
    return key, NO_NUMBERS, rest


def _read_refusal(event: Any, state: OrderState | None) -> Quick:
    key, _, rest = _read_status(event, state)
    reason = event.reason
    if not reason:
        raise Unusual
    rest[Order.REJECT_REASON] = reason
    return key, NO_NUMBERS, rest


def _read_update(event: Any, state: OrderState | None) -> Quick:
    status, _, rest = _read_status(event, state)
    numbers, scales = _present((event.quantity, event.price, event.trigger_price))
    return (status, scales), numbers, rest


def _read_new_order(event: Any, _: OrderState | None) -> Quick:
    quantity = event.quantity
    options = event.options
    price, trigger = options.get("price"), options.get("trigger_price")
    mantissa, scale = _PARTS[quantity.precision][quantity.as_double()]
    numbers = [mantissa]
    scale_of_price = scale_of_trigger = None
    if price is not None:
        mantissa, scale_of_price = _parts(price)
        numbers.append(mantissa)
    if trigger is not None:
        mantissa, scale_of_trigger = _parts(trigger)
        numbers.append(mantissa)
    reduces = event.reduce_only
    if reduces:
        numbers.append(1.0)
    rest: dict[str, Any] = {Order.CLIENT_ID: event.client_order_id.value}
    if linked := event.linked_order_ids:
        rest[Order.LINKED_IDS] = [linked_id.value for linked_id in linked]
    if (parent_id := event.parent_order_id) is not None:
        rest[Order.PARENT_ID] = parent_id.value
    key = (
        events.OrderInitialized,
        event.strategy_id,
        event.instrument_id,
        event.side,
        event.order_type,
        event.time_in_force,
        reduces,
        scale,
        scale_of_price,
        scale_of_trigger,
    )
    return key, (*numbers, *_PADDING[len(numbers)]), rest


def _read_fill(fill: Any, state: OrderState | None) -> Quick:
    commission = fill.commission
    if state is None or commission is None:
        raise Unusual
    price, quantity, currency = fill.last_px, fill.last_qty, commission.currency
    paid_at, scale_of_price = _PARTS[price.precision][price.as_double()]
    filled, scale = _PARTS[quantity.precision][quantity.as_double()]
    paid, scale_of_commission = _PARTS[currency.precision][commission.as_double()]
    ordered, scale_of_order = _parts(str(state.quantity))
    rest = {
        Order.CLIENT_ID: state.client_id,
        Fill.ID: fill.trade_id.value,
    }
    if (venue_order_id := fill.venue_order_id) is not None:
        rest[Order.ID] = venue_order_id.value
    if (position_id := fill.position_id) is not None:
        rest[Position.ID] = position_id.value
    key = (
        events.OrderFilled,
        fill.strategy_id,
        fill.instrument_id,
        fill.account_id,
        fill.order_side,
        fill.order_type,
        state.side,
        state.type,
        state.status_after_fill(),
        fill.liquidity_side,
        fill.currency.code,
        currency.code,
        scale_of_price,
        scale,
        scale_of_commission,
        scale_of_order,
    )
    return key, (paid_at, filled, paid, ordered, 0.0), rest


def _read_account(event: Any, _: OrderState | None) -> Quick:
    base = event.base_currency
    key = (
        events.AccountState,
        event.account_id,
        event.account_type,
        None if base is None else base.code,
    )
    balances = [
        {
            "currency": balance.currency.code,
            "total": balance.total.as_decimal(),
            "free": balance.free.as_decimal(),
            "locked": balance.locked.as_decimal(),
        }
        for balance in event.balances
    ]
    return key, NO_NUMBERS, {Account.BALANCES: balances}


def _read_position(event: Any, _: OrderState | None) -> Quick:
    quantity, realized = event.quantity, event.realized_pnl
    entry, exit_ = event.avg_px_open, event.avg_px_close
    currency = realized.currency
    if entry is None or exit_ is None:
        raise Unusual
    held, scale = _PARTS[quantity.precision][quantity.as_double()]
    gained, scale_of_gain = _PARTS[currency.precision][realized.as_double()]
    rest = {
        Position.ID: event.position_id.value,
        Position.AVERAGE_OPEN_PRICE: str(entry),
        Position.AVERAGE_CLOSE_PRICE: str(exit_),
        Position.OPENING_ORDER_ID: event.opening_order_id.value,
    }
    if (closing := event.closing_order_id) is not None:
        rest[Position.CLOSING_ORDER_ID] = closing.value
    key = (
        type(event),
        event.strategy_id,
        event.instrument_id,
        event.account_id,
        event.side,
        currency.code,
        scale,
        scale_of_gain,
    )
    return key, (held, gained, 0.0, 0.0, 0.0), rest


def _read_submission(command: Any, _: OrderState | None) -> Quick:
    key = SubmitOrder, command.strategy_id, command.instrument_id
    return key, NO_NUMBERS, {Order.CLIENT_ID: command.order.client_order_id.value}


def _read_cancellation(command: Any, _: OrderState | None) -> Quick:
    key = CancelOrder, command.strategy_id, command.instrument_id
    return key, NO_NUMBERS, {Order.CLIENT_ID: command.client_order_id.value}


def _read_change(command: Any, _: OrderState | None) -> Quick:
    numbers, scales = _present((command.quantity, command.price, command.trigger_price))
    key = ModifyOrder, command.strategy_id, command.instrument_id, scales
    return key, numbers, {Order.CLIENT_ID: command.client_order_id.value}


_KNOWN_ORDER, _NO_ORDER, _COMMAND = (True, False), (False, False), (False, True)
_QUICK: Final[dict[type, tuple[Callable[[Any, OrderState | None], Quick], bool, bool]]] = {
    events.OrderInitialized: (_read_new_order, *_NO_ORDER),
    events.OrderSubmitted: (_read_status, *_KNOWN_ORDER),
    events.OrderAccepted: (_read_status, *_KNOWN_ORDER),
    events.OrderCanceled: (_read_status, *_KNOWN_ORDER),
    events.OrderExpired: (_read_status, *_KNOWN_ORDER),
    events.OrderTriggered: (_read_status, *_KNOWN_ORDER),
    events.OrderPendingUpdate: (_read_status, *_KNOWN_ORDER),
    events.OrderPendingCancel: (_read_status, *_KNOWN_ORDER),
    events.OrderCancelRejected: (_read_refusal, *_KNOWN_ORDER),
    events.OrderModifyRejected: (_read_refusal, *_KNOWN_ORDER),
    events.OrderRejected: (_read_refusal, *_KNOWN_ORDER),
    events.OrderUpdated: (_read_update, *_KNOWN_ORDER),
    events.OrderFilled: (_read_fill, *_KNOWN_ORDER),
    events.AccountState: (_read_account, *_NO_ORDER),
    events.PositionOpened: (_read_position, *_NO_ORDER),
    events.PositionChanged: (_read_position, *_NO_ORDER),
    events.PositionClosed: (_read_position, *_NO_ORDER),
    SubmitOrder: (_read_submission, *_COMMAND),
    CancelOrder: (_read_cancellation, *_COMMAND),
    ModifyOrder: (_read_change, *_COMMAND),
}
"""How each class is read; whether its order is asked for; whether it has the time of a command."""
