"""Causes that only ids tell: what an order or position event follows from.

Rules, for an order's event, the first that fits:

* an update or a refused change follows from the last command that changed the order, a
  cancellation from the command that cancelled it;
* a leg that is cancelled, changed or accepted without a command follows from the fill (or end) of
  the order it is linked to, or from the end of its bracket's entry;
* an order that only reduces a position and is cancelled without either follows from the fill after
  which there was nothing left to reduce;
* a fill follows from the state in which the order was filled, so partial fills are siblings;
* anything else follows from the order's last state.

Where the parent is not the order's own chain, the order's last state is linked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    events.OrderCanceled,
    events.OrderExpired,
    events.OrderRejected,
    events.OrderDenied,
)


def is_command(message: Any) -> bool:
    """Tell whether a message instructs the engine."""
    return isinstance(message, EngineCommand)


class _OrderState:
    """What is known of one order."""

    __slots__ = (
        "changing", "fill", "filled", "instrument", "last", "linked", "order", "over", "parent_id",
        "pending", "quantity", "reduces", "resting", "side", "strategy", "type",
    )  # fmt: skip

    def __init__(self, initialized: Any) -> None:
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
        self._orders: dict[Any, _OrderState] = {}
        self._entries: dict[Any, OpenEvent] = {}  # position id -> fill that opened it
        self._last_fill: OpenEvent | None = None
        self._last_fills: dict[Any, OpenEvent] = {}  # by strategy and instrument

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
            state.filled += message.last_qty.as_decimal()
            attributes[semconv.Order.STATUS] = state.status_after_fill()
            attributes[semconv.Order.QUANTITY] = state.quantity
        return description._replace(attributes=attributes)

    def of(self, message: Any) -> Cause:
        """Cause by ids; (None, ()) when the stack of deliveries must tell."""
        if isinstance(message, events.OrderEvent):
            return self._of_order_event(message)
        if isinstance(message, events.PositionEvent):
            entry = None
            if isinstance(message, events.PositionClosed):
                entry = self._entries.get(message.position_id)
            return self._last_fill, (entry,) if entry is not None else ()
        if isinstance(message, SubmitOrder | ModifyOrder | CancelOrder | SubmitOrderList):
            return self._of_command(message)
        return None, ()

    def _of_command(self, command: Any) -> Cause:
        if isinstance(command, SubmitOrder):
            state = self._orders.get(command.order.client_order_id)
            return (state.resting, ()) if state is not None else (None, ())
        if isinstance(command, SubmitOrderList):
            states = [self._orders.get(o.client_order_id) for o in command.order_list.orders]
            placed = [s.resting for s in states if s is not None and s.resting is not None]
            return (placed[0], tuple(placed[1:])) if placed else (None, ())
        state = self._orders.get(command.client_order_id)
        if state is None:
            return None, ()
        pending, state.pending = state.pending, None
        links = (state.last,) if state.last is not None and state.last is not pending else ()
        return pending, links

    def _of_order_event(self, event: Any) -> Cause:
        if isinstance(event, events.OrderInitialized):
            primary = self._orders.get(event.exec_spawn_id) if event.exec_spawn_id else None
            return (primary.resting, ()) if primary is not None else (None, ())
        state = self._orders.get(event.client_order_id)
        if state is None:
            return None, ()
        if isinstance(event, events.OrderPendingUpdate | events.OrderPendingCancel):
            return None, (state.last,) if state.last is not None else ()
        if isinstance(event, events.OrderFilled):
            entry = self._entries.get(event.position_id)
            links = (entry,) if entry is not None and entry is not state.fill else ()
            return state.resting, self._with_last(state, links)
        parent = None
        if isinstance(event, _OF_THE_COMMAND):
            parent = state.changing
        elif isinstance(event, _OF_THE_CANCELLATION):
            parent = state.changing or self._sibling_end(state) or self._nothing_left(state)
        elif isinstance(event, events.OrderAccepted) and state.parent_id is not None:
            primary = self._orders.get(state.parent_id)
            parent = primary.fill if primary is not None else None
        if parent is None and isinstance(event, events.OrderUpdated):
            parent = self._sibling_end(state)
        if parent is None:
            return state.resting, ()
        return parent, (state.last,) if state.last is not None else ()

    def _with_last(self, state: _OrderState, links: tuple[OpenEvent, ...]) -> tuple[OpenEvent, ...]:
        """Link a change that another chain made to the order before it filled."""
        last = state.last
        if last is None or last is state.resting or last is state.fill:
            return links
        return (*links, last)

    def _sibling_end(self, state: _OrderState) -> OpenEvent | None:
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

    def _nothing_left(self, state: _OrderState) -> OpenEvent | None:
        """The fill since which there is no position that an order could reduce."""
        fill = self._last_fills.get((state.strategy, state.instrument))
        if not state.reduces or fill is None or fill is state.fill:
            return None
        entry = self._known((state.parent_id,))
        is_entry = any(order.fill is fill for order in entry)  # which turned the position round
        own = state.last.sequence if state.last is not None else 0
        return fill if is_entry or fill.sequence > own else None

    def _known(self, ids: Iterable[Any]) -> list[_OrderState]:
        return [self._orders[i] for i in ids if i in self._orders]

    def recorded(self, message: Any, event: OpenEvent) -> None:
        """Remember the event under which a message was recorded."""
        if isinstance(message, events.OrderEvent):
            self._order_event_recorded(message, event)
        elif isinstance(message, events.PositionOpened):
            if self._last_fill is not None:
                self._entries[message.position_id] = self._last_fill
        elif isinstance(message, events.PositionClosed):
            self._entries.pop(message.position_id, None)
        elif is_command(message):
            self._command_recorded(message, event)

    def _order_event_recorded(self, message: Any, event: OpenEvent) -> None:
        order_id = message.client_order_id
        if isinstance(message, events.OrderInitialized) and order_id not in self._orders:
            self._orders[order_id] = _OrderState(message)
        state = self._orders.get(order_id)
        if state is None:
            if isinstance(message, events.OrderFilled):
                self._last_fill = event
            return
        if isinstance(message, events.OrderFilled):
            state.fill = self._last_fill = event
            self._last_fills[state.strategy, state.instrument] = event
        elif isinstance(message, events.OrderPendingUpdate | events.OrderPendingCancel):
            state.pending = event
        elif state.resting is None or event.chain is state.resting.chain:
            state.resting = event
        if isinstance(message, events.OrderUpdated):
            state.quantity = message.quantity.as_decimal()
        if isinstance(message, _OF_THE_COMMAND + _OF_THE_CANCELLATION):
            state.changing = None
        state.over = state.over or isinstance(message, _OVER)
        state.last = event

    def _command_recorded(self, command: Any, event: OpenEvent) -> None:
        if isinstance(command, SubmitOrder | SubmitOrderList):
            is_list = isinstance(command, SubmitOrderList)
            orders = command.order_list.orders if is_list else [command.order]
            states = self._known(order.client_order_id for order in orders)
            for order in orders:
                if order.client_order_id in self._orders:
                    self._orders[order.client_order_id].order = order
        elif isinstance(command, ModifyOrder | CancelOrder):
            states = self._known([command.client_order_id])
        elif isinstance(command, BatchCancelOrders):
            states = self._known(cancel.client_order_id for cancel in command.cancels)
        elif isinstance(command, CancelAllOrders):
            states = [s for s in self._orders.values() if self._covers(command, s)]
        else:
            return
        for state in states:
            if isinstance(command, SubmitOrder | SubmitOrderList):
                state.resting = state.last = event
            else:
                state.changing = event

    @staticmethod
    def _covers(command: Any, state: _OrderState) -> bool:
        side = OrderSide(command.order_side).name
        return (
            not state.over
            and state.filled < state.quantity
            and state.instrument == command.instrument_id
            and state.strategy == command.strategy_id
            and side in ("NO_ORDER_SIDE", state.side)
        )
