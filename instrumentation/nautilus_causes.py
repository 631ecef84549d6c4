"""Causes that only ids tell: what an order or position event follows from.

Rules, for an order's event, the first that fits:

* an update or a refused change follows from the last command that changed the order, a
  cancellation from the command that cancelled it;
* a leg that is cancelled, accepted or given another quantity without a command follows from the
  fill (or end) of the order it is linked to, or from the end of its bracket's entry;
* an order that only reduces a position and is cancelled or given another quantity without either
  follows from the fill since which there is nothing, or less, left to reduce;
* a fill follows from the state in which the order was filled, so partial fills are siblings;
* anything else follows from the order's last state.

Where the parent is not the order's own chain, the order's last state is linked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from nautilus_trader.core.message import Command as EngineCommand
from nautilus_trader.execution.messages import (
    BatchCancelOrders,
    CancelAllOrders,
    CancelOrder,
    ModifyOrder,
    SubmitOrder,
    SubmitOrderList,
)
from nautilus_trader.model import events
from nautilus_trader.model.enums import OrderSide, OrderStatus, OrderType

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import OpenEvent
from fillpath.instrumentation.nautilus_events import Description

Cause = tuple[OpenEvent | None, tuple[OpenEvent, ...]]
_OF_THE_COMMAND = (events.OrderUpdated, events.OrderModifyRejected)
_OF_THE_CANCELLATION = (events.OrderCanceled, events.OrderCancelRejected)
_OVER = (
    events.OrderExpired,
    events.OrderRejected,
    events.OrderDenied,
)


def is_command(message: Any) -> bool:
    """Tell whether a message instructs the engine."""
    return isinstance(message, EngineCommand)


class OrderState:
    """What is known of one order."""

    __slots__ = (
        "changing", "client_id", "fill", "filled", "instrument", "last", "linked", "order", "over",
        "parent_id", "pending", "quantity", "reduces", "resting", "side", "strategy", "type",
    )  # fmt: skip

    def __init__(self, initialized: Any) -> None:
        self.client_id: str = initialized.client_order_id.value
        self.strategy = initialized.strategy_id
        self.instrument = initialized.instrument_id
        self.side = OrderSide(initialized.side).name
        self.type = OrderType(initialized.order_type).name
        self.quantity = initialized.quantity.as_decimal()
        self.filled = 0 * self.quantity
        self.linked = tuple(initialized.linked_order_ids or ())
        self.parent_id = initialized.parent_order_id
        self.reduces = initialized.reduce_only
        self.resting: OpenEvent | None = None  # last state that is not a fill, in its own chain
        self.last: OpenEvent | None = None  # last event of any kind
        self.fill: OpenEvent | None = None  # last fill
        self.pending: OpenEvent | None = None  # a change asked for, whose command is to come
        self.changing: OpenEvent | None = None  # command that changes or cancels it
        self.over = False
        self.order: Any = None  # the engine's own object, once a command has shown it

    def status_after_fill(self) -> str:
        """Whether the order is filled now; the engine's own word where it is at hand."""
        order = self.order
        if order is not None and order.filled_qty.as_decimal() == self.filled:
            return str(OrderStatus(order.status).name)
        return "FILLED" if self.filled >= self.quantity else "PARTIALLY_FILLED"


class OrderCauses:
    """Remembers orders and positions of one engine run."""

    def __init__(self) -> None:
        self._orders: dict[Any, OrderState] = {}
        self._entries: dict[Any, OpenEvent] = {}  # position id -> fill that opened it
        self._last_fill: OpenEvent | None = None
        self._last_fills: dict[Any, OpenEvent] = {}  # by strategy and instrument

    def state_of(self, event: Any) -> OrderState | None:
        """What is known of the order that an event is about."""
        return self._orders.get(event.client_order_id)

    def count_fill(self, fill: Any) -> None:
        """Take note of how much of an order is filled now."""
        state = self._orders.get(fill.client_order_id)
        if state is not None:
            state.filled += fill.last_qty.as_decimal()

    def complete(self, message: Any, description: Description) -> Description:
        """Add what the order's earlier events told: side, type, whether it is filled now."""
        if not isinstance(message, events.OrderEvent):
            return description
        state = self._orders.get(message.client_order_id)
        if state is None:
            return description
        attributes = {
            semconv.Order.SIDE: state.side,
            semconv.Order.TYPE: state.type,
            **description.attributes,
        }
        if isinstance(message, events.OrderFilled):
            attributes[semconv.Order.STATUS] = state.status_after_fill()
            attributes[semconv.Order.QUANTITY] = state.quantity
        return description._replace(attributes=attributes)

    def of(self, message: Any) -> Cause:
        """Cause by ids; (None, ()) when the stack of deliveries must tell."""
        find = _FIND[type(message)]
        return _UNKNOWN if find is None else find(self, message)

    def _of_position_event(self, event: Any) -> Cause:
        return self._last_fill, ()

    def _of_closing(self, event: Any) -> Cause:
        entry = self._entries.get(event.position_id)
        return self._last_fill, () if entry is None else (entry,)

    def _of_submission(self, command: Any) -> Cause:
        state = self._orders.get(command.order.client_order_id)
        return _UNKNOWN if state is None else (state.resting, ())

    def _of_submissions(self, command: Any) -> Cause:
        states = [self._orders.get(o.client_order_id) for o in command.order_list.orders]
        placed = [s.resting for s in states if s is not None and s.resting is not None]
        return (placed[0], tuple(placed[1:])) if placed else _UNKNOWN

    def _of_change(self, command: Any) -> Cause:
        state = self._orders.get(command.client_order_id)
        if state is None:
            return _UNKNOWN
        pending, state.pending = state.pending, None
        links = (state.last,) if state.last is not None and state.last is not pending else ()
        return pending, links

    def _of_new_order(self, event: Any) -> Cause:
        primary = self._orders.get(event.exec_spawn_id) if event.exec_spawn_id else None
        return _UNKNOWN if primary is None else (primary.resting, ())

    def _of_pending(self, event: Any) -> Cause:
        state = self._orders.get(event.client_order_id)
        return _UNKNOWN if state is None or state.last is None else (None, (state.last,))

    def _of_fill(self, fill: Any) -> Cause:
        state = self._orders.get(fill.client_order_id)
        if state is None:
            return _UNKNOWN
        entry = self._entries.get(fill.position_id)
        links = (entry,) if entry is not None and entry is not state.fill else ()
        return state.resting, self._with_last(state, links)

    def _of_update(self, event: Any) -> Cause:
        state = self._orders.get(event.client_order_id)
        if state is None:
            return _UNKNOWN
        parent = state.changing
        if (
            parent is None
            and isinstance(event, events.OrderUpdated)
            # A price that moves without a command trails the market, whatever was filled meanwhile.
            and event.quantity.as_decimal() != state.quantity
        ):
            parent = self._sibling_end(state) or self._less_left(state)
        return self._of_state(state, parent)

    def _of_cancellation(self, event: Any) -> Cause:
        state = self._orders.get(event.client_order_id)
        if state is None:
            return _UNKNOWN
        parent = state.changing or self._sibling_end(state) or self._less_left(state)
        return self._of_state(state, parent)

    def _of_acceptance(self, event: Any) -> Cause:
        state = self._orders.get(event.client_order_id)
        if state is None:
            return _UNKNOWN
        primary = None if state.parent_id is None else self._orders.get(state.parent_id)
        return self._of_state(state, None if primary is None else primary.fill)

    def _of_order_event(self, event: Any) -> Cause:
        state = self._orders.get(event.client_order_id)
        return _UNKNOWN if state is None else (state.resting, ())

    @staticmethod
    def _of_state(state: OrderState, parent: OpenEvent | None) -> Cause:
        """The parent that was found, with the order's last state as a link; else that state."""
        if parent is None:
            return state.resting, ()
        return parent, () if state.last is None else (state.last,)

    def _with_last(self, state: OrderState, links: tuple[OpenEvent, ...]) -> tuple[OpenEvent, ...]:
        """Link a change that another chain made to the order before it filled."""
        last = state.last
        if last is None or last is state.resting or last is state.fill:
            return links
        return (*links, last)

    def _sibling_end(self, state: OrderState) -> OpenEvent | None:
        """The latest fill or end among the linked orders, if it is later than this order's own."""
        own = state.last.sequence if state.last is not None else 0
        siblings = self._known(state.linked)
        entry = self._known((state.parent_id,))
        ends = [
            *(sibling.fill for sibling in siblings),
            *(other.last for other in (*siblings, *entry) if other.over),
        ]
        later = [end for end in ends if end is not None and end.sequence > own]
        return max(later, key=lambda event: event.sequence, default=None)

    def _less_left(self, state: OrderState) -> OpenEvent | None:
        """The fill since which there is less of a position, or none, that an order could reduce."""
        fill = self._last_fills.get((state.strategy, state.instrument))
        if not state.reduces or fill is None or fill is state.fill:
            return None
        entry = self._known((state.parent_id,))
        is_entry = any(order.fill is fill for order in entry)  # which turned the position round
        own = state.last.sequence if state.last is not None else 0
        return fill if is_entry or fill.sequence > own else None

    def _known(self, ids: Iterable[Any]) -> list[OrderState]:
        return [self._orders[i] for i in ids if i in self._orders]

    def recorded(self, message: Any, event: OpenEvent) -> None:
        """Remember the event under which a message was recorded."""
        remember = _REMEMBER[type(message)]
        if remember is not None:
            remember(self, message, event)

    def _new_order_recorded(self, message: Any, event: OpenEvent) -> None:
        if message.client_order_id not in self._orders:
            self._orders[message.client_order_id] = OrderState(message)
        self._order_event_recorded(message, event)

    def _fill_recorded(self, message: Any, event: OpenEvent) -> None:
        self._last_fill = event
        state = self._orders.get(message.client_order_id)
        if state is not None:
            state.fill = state.last = event
            self._last_fills[state.strategy, state.instrument] = event

    def _pending_recorded(self, message: Any, event: OpenEvent) -> None:
        state = self._orders.get(message.client_order_id)
        if state is not None:
            state.pending = state.last = event

    def _order_event_recorded(self, message: Any, event: OpenEvent) -> None:
        state = self._orders.get(message.client_order_id)
        if state is not None:
            if state.resting is None or event.chain is state.resting.chain:
                state.resting = event
            state.last = event

    def _change_recorded(self, message: Any, event: OpenEvent) -> None:
        self._order_event_recorded(message, event)
        state = self._orders.get(message.client_order_id)
        if state is not None:
            state.changing = None
            if isinstance(message, events.OrderUpdated):
                state.quantity = message.quantity.as_decimal()
            elif isinstance(message, events.OrderCanceled):
                state.over = True

    def _end_recorded(self, message: Any, event: OpenEvent) -> None:
        self._order_event_recorded(message, event)
        state = self._orders.get(message.client_order_id)
        if state is not None:
            state.over = True

    def _opening_recorded(self, message: Any, event: OpenEvent) -> None:
        if self._last_fill is not None:
            self._entries[message.position_id] = self._last_fill

    def _closing_recorded(self, message: Any, event: OpenEvent) -> None:
        self._entries.pop(message.position_id, None)

    def _submission_recorded(self, command: Any, event: OpenEvent) -> None:
        is_list = isinstance(command, SubmitOrderList)
        for order in command.order_list.orders if is_list else (command.order,):
            state = self._orders.get(order.client_order_id)
            if state is not None:
                state.order = order
                state.resting = state.last = event

    def _command_recorded(self, command: Any, event: OpenEvent) -> None:
        if isinstance(command, BatchCancelOrders):
            states = self._known(cancel.client_order_id for cancel in command.cancels)
        elif isinstance(command, CancelAllOrders):
            states = [s for s in self._orders.values() if self._covers(command, s)]
        else:
            states = self._known([command.client_order_id])
        for state in states:
            state.changing = event

    @staticmethod
    def _covers(command: Any, state: OrderState) -> bool:
        side = OrderSide(command.order_side).name
        return (
            not state.over
            and state.filled < state.quantity
            and state.instrument == command.instrument_id
            and state.strategy == command.strategy_id
            and side in ("NO_ORDER_SIDE", state.side)
        )


_UNKNOWN: Final[Cause] = None, ()
_Finder = Callable[[OrderCauses, Any], Cause]
_Rememberer = Callable[[OrderCauses, Any, OpenEvent], None]
_Kinds = tuple[type, ...]
_Found = TypeVar("_Found")
_FINDERS: Final[tuple[tuple[_Kinds, _Finder], ...]] = (
    ((events.OrderInitialized,), OrderCauses._of_new_order),
    ((events.OrderPendingUpdate, events.OrderPendingCancel), OrderCauses._of_pending),
    ((events.OrderFilled,), OrderCauses._of_fill),
    (_OF_THE_COMMAND, OrderCauses._of_update),
    (_OF_THE_CANCELLATION, OrderCauses._of_cancellation),
    ((events.OrderAccepted,), OrderCauses._of_acceptance),
    ((events.OrderEvent,), OrderCauses._of_order_event),
    ((events.PositionClosed,), OrderCauses._of_closing),
    ((events.PositionEvent,), OrderCauses._of_position_event),
    ((SubmitOrder,), OrderCauses._of_submission),
    ((SubmitOrderList,), OrderCauses._of_submissions),
    ((ModifyOrder, CancelOrder), OrderCauses._of_change),
)
_REMEMBERERS: Final[tuple[tuple[_Kinds, _Rememberer], ...]] = (
    ((events.OrderInitialized,), OrderCauses._new_order_recorded),
    ((events.OrderFilled,), OrderCauses._fill_recorded),
    ((events.OrderPendingUpdate, events.OrderPendingCancel), OrderCauses._pending_recorded),
    (_OF_THE_COMMAND + _OF_THE_CANCELLATION, OrderCauses._change_recorded),
    (_OVER, OrderCauses._end_recorded),
    ((events.OrderEvent,), OrderCauses._order_event_recorded),
    ((events.PositionOpened,), OrderCauses._opening_recorded),
    ((events.PositionClosed,), OrderCauses._closing_recorded),
    ((SubmitOrder, SubmitOrderList), OrderCauses._submission_recorded),
    (
        (ModifyOrder, CancelOrder, BatchCancelOrders, CancelAllOrders),
        OrderCauses._command_recorded,
    ),
)


class _ByClass(dict[type, _Found | None], Generic[_Found]):
    """Remembers which row of a table fits a class of messages; None where none does."""

    def __init__(self, table: tuple[tuple[_Kinds, _Found], ...]) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, kind: type) -> _Found | None:
        found = next((found for kinds, found in self._table if issubclass(kind, kinds)), None)
        self[kind] = found
        return found


_FIND: Final = _ByClass(_FINDERS)
_REMEMBER: Final = _ByClass(_REMEMBERERS)
