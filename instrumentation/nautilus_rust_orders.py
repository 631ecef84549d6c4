"""Records what NautilusTrader 2.x tells of orders and positions, each event once, with its cause.

The rules are those of 1.x (`nautilus_causes`). They rest on ids, because the engine puts its events
in a queue and delivers them when no handler runs. Where an event names the event that caused it,
that is taken before any rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.engine_run import NOWHERE, EngineRun
from fillpath.instrumentation.nautilus_rust_events import (
    contract_of,
    fill_attributes,
    instrument_of,
    order_attributes,
    position_attributes,
    position_type,
    time_of,
)
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import EventType

_REMEMBERED: Final = 4096
_OF_THE_COMMAND: Final = ("OrderUpdated", "OrderModifyRejected")
_OF_THE_CANCELLATION: Final = ("OrderCanceled", "OrderCancelRejected")
_PENDING: Final = ("OrderPendingUpdate", "OrderPendingCancel")
_TRIGGERED_SILENTLY: Final = ("STOP_LIMIT", "LIMIT_IF_TOUCHED", "TRAILING_STOP_LIMIT")
"""Types of orders whose `OrderTriggered` the engine tells nobody."""
_OVER: Final = ("OrderCanceled", "OrderExpired", "OrderRejected", "OrderDenied")
Causes = tuple[OpenEvent | None, tuple[OpenEvent | None, ...]]


class _Order:
    """What is known of one order."""

    __slots__ = (
        "changing", "fill", "filled", "instrument", "last", "linked", "over", "parent_id",
        "quantity", "reduces", "resting", "side", "strategy", "told", "type",
    )  # fmt: skip

    def __init__(self, initialized: Any = None) -> None:
        self.strategy = self.parent_id = self.side = self.type = None
        self.instrument: Any = None
        self.quantity: Decimal | None = None
        self.linked: tuple[str, ...] = ()
        self.reduces = False
        if initialized is not None:
            self.strategy = initialized.strategy_id
            self.instrument = initialized.instrument_id
            self.side = initialized.order_side.name
            self.type = initialized.order_type.name
            self.quantity = initialized.quantity.as_decimal()
            self.reduces = initialized.reduce_only
            linked = initialized.linked_order_ids or ()
            self.linked = tuple(one.value for one in linked if one is not None)
            parent = initialized.parent_order_id
            self.parent_id = None if parent is None else parent.value
        self.told: set[int] = set()  # which of its events are recorded
        self.filled = Decimal(0)
        self.resting: OpenEvent | None = None  # last state that is not a fill, in its own chain
        self.last: OpenEvent | None = None  # last event of any kind
        self.fill: OpenEvent | None = None  # last fill
        self.changing: OpenEvent | None = None  # command that changes or cancels it
        self.over = False

    @property
    def is_done(self) -> bool:
        return self.over or (self.quantity is not None and self.filled >= self.quantity)


class OrderRecorder:
    """Records orders, fills and positions of one engine's run.

    Args:
        run: Takes the events.
        asking: Gives what a new order or a change follows from that nothing else explains.

    Attributes:
        cache: The engine's; asked for an order that is met for the first time.
        since: Time in nanoseconds; what orders went through before it is of an earlier session.
    """

    def __init__(self, run: EngineRun, asking: Callable[[Any], OpenEvent | None]) -> None:
        self.cache: Any = None
        self.since = 0
        self._run = run
        self._asking = asking
        self._orders: dict[str, _Order] = {}
        self._contracts: dict[Any, dict[str, Any]] = {}
        self._fills: dict[str, OpenEvent] = {}  # position id -> the last fill of it
        self._entries: dict[str, OpenEvent] = {}  # position id -> the fill that opened it
        self._last_fills: dict[Any, OpenEvent] = {}  # by strategy and instrument
        # Two generations: what is remembered is forgotten by the thousand, not one by one.
        self._seen: dict[Any, OpenEvent] = {}
        self._seen_before: dict[Any, OpenEvent] = {}

    def passes_over(self, orders: Iterable[Any]) -> None:
        """Leave out what orders went through before this run."""
        for order in orders:
            known = self._orders[order.client_order_id.value] = _Order(order.init_event)
            known.told = {hash(event.event_id) for event in order.events()}

    # -- Orders ---------------------------------------------------------------------------------

    def order_event(self, event: Any) -> OpenEvent | None:
        """Record an order's event, unless that is done; gives the event it is recorded as."""
        known = self.event_of(event.event_id)
        if known is not None:
            return known
        kind = type(event).__name__
        order_id = event.client_order_id.value
        order = self._orders.get(order_id)
        if order is None:
            order = self._meet(order_id, event)
        if order.type in _TRIGGERED_SILENTLY:
            self._catch_up(event, order)
        parent, links = self._causes(kind, event, order)
        native = getattr(event, "causation_id", None)
        if native is not None:
            parent = self.event_of(native) or parent
        if kind == "OrderFilled":
            recorded = self._record_fill(event, order, parent, links)
        else:
            attributes = order_attributes(event)
            attributes[semconv.Order.CLIENT_ID] = order_id
            attributes.setdefault(semconv.Order.SIDE, order.side)
            attributes.setdefault(semconv.Order.TYPE, order.type)
            recorded = self._record(
                EventType.ORDER, event, time_of(event), attributes, parent, links
            )
        order.told.add(hash(event.event_id))
        if recorded is not None:
            self._remember(event, recorded)
            self._note(kind, event, order, recorded)
        return recorded

    def _meet(self, order_id: str, event: Any) -> _Order:
        """Make the acquaintance of an order, which begins with its first event."""
        initialized: Any = None
        if type(event).__name__ == "OrderInitialized":
            initialized = event
        else:
            known = self.cache.order(event.client_order_id)
            initialized = None if known is None else known.init_event
        order = self._orders[order_id] = _Order(initialized)
        if initialized is not None and initialized is not event:
            if initialized.ts_init < self.since:
                order.told = {hash(one.event_id) for one in self._from_before(known.events())}
            else:
                self.order_event(initialized)
        return order

    def _from_before(self, events: Iterable[Any]) -> Iterator[Any]:
        return (event for event in events if event.ts_event < self.since)

    def _catch_up(self, event: Any, order: _Order) -> None:
        """Record what the order went through before this event without anyone being told."""
        known = self.cache.order(event.client_order_id)
        for earlier in () if known is None else known.events():
            if earlier.event_id == event.event_id:
                return
            if hash(earlier.event_id) not in order.told:
                self.order_event(earlier)

    def _causes(self, kind: str, event: Any, order: _Order) -> Causes:
        if kind == "OrderInitialized":
            if order.resting is not None:  # an emulated order, made anew to be sent
                return order.resting, ()
            spawn = event.exec_spawn_id
            primary = None if spawn is None else self._orders.get(spawn.value)
            if primary is not None and primary is not order:
                return primary.resting, ()
            return self._asking(event), ()
        if kind == "OrderFilled":
            return order.resting, self._links_of_fill(event, order)
        parent: OpenEvent | None = None
        if kind in _PENDING:
            parent = order.changing or self._sibling_end(order) or self._asking(event)
        elif kind in _OF_THE_COMMAND or kind in _OF_THE_CANCELLATION:
            # A price that moves without a command trails the market, whatever was filled meanwhile.
            trails = kind == "OrderUpdated" and event.quantity.as_decimal() == order.quantity
            parent = order.changing
            if parent is None and not trails:
                parent = self._sibling_end(order) or self._less_left(order)
        elif kind == "OrderAccepted" and order.parent_id is not None:
            primary = self._orders.get(order.parent_id)
            parent = None if primary is None else primary.fill
        if parent is None:
            return order.resting or order.last or self._asking(event), ()
        return parent, (order.last,)

    def _links_of_fill(self, event: Any, order: _Order) -> tuple[OpenEvent | None, ...]:
        """The fill that opened the position, and a change that another chain made to the order."""
        position_id = event.position_id
        entry = None if position_id is None else self._entries.get(position_id.value)
        changed = order.last if order.last not in (order.resting, order.fill) else None
        return (None if entry is order.fill else entry), changed

    def _sibling_end(self, order: _Order) -> OpenEvent | None:
        """The latest fill or end among the linked orders, if it is later than this order's own.

        An exit that waits for its entry ends with the entry.
        """
        own = order.last.sequence if order.last is not None else 0
        siblings = [self._orders[one] for one in order.linked if one in self._orders]
        ends = [
            end
            for sibling in siblings
            for end in (sibling.fill, sibling.last if sibling.over else None)
            if end is not None and end.sequence > own
        ]
        entry = None if order.parent_id is None else self._orders.get(order.parent_id)
        if entry is not None and entry.over and entry.last and entry.last.sequence > own:
            ends.append(entry.last)
        return max(ends, key=lambda end: end.sequence, default=None)

    def _less_left(self, order: _Order) -> OpenEvent | None:
        """The fill since which there is less of a position, or none, that an order could reduce."""
        fill = self._last_fills.get((order.strategy, order.instrument))
        if not order.reduces or fill is None or fill is order.fill:
            return None
        entry = None if order.parent_id is None else self._orders.get(order.parent_id)
        is_entry = entry is not None and entry.fill is fill  # which turned the position round
        own = order.last.sequence if order.last is not None else 0
        return fill if is_entry or fill.sequence > own else None

    def _record_fill(
        self, fill: Any, order: _Order, parent: OpenEvent | None, links: tuple[Any, ...]
    ) -> OpenEvent | None:
        instrument_id = fill.instrument_id
        contract = self._contracts.get(instrument_id)
        if contract is None:
            contract = contract_of(self.cache.instrument(instrument_id))
            self._contracts[instrument_id] = contract
        attributes = fill_attributes(fill, contract)
        order.filled += fill.last_qty.as_decimal()
        if order.quantity is not None:
            attributes[semconv.Order.STATUS] = "FILLED" if order.is_done else "PARTIALLY_FILLED"
            attributes[semconv.Order.QUANTITY] = order.quantity
        return self._record(EventType.FILL, fill, time_of(fill), attributes, parent, links)

    def _record(
        self,
        event_type: str,
        said: Any,
        time: int | None,
        attributes: dict[str, Any],
        parent: OpenEvent | None,
        links: Iterable[OpenEvent | None] = (),
    ) -> OpenEvent | None:
        return self._run.event(
            event_type,
            strategy=said.strategy_id.value,
            instrument=instrument_of(said.instrument_id),
            event_time=time,
            attributes=attributes,
            cause=parent,
            links=links,
        )

    def _note(self, kind: str, event: Any, order: _Order, recorded: OpenEvent) -> None:
        if kind == "OrderFilled":
            order.fill = self._last_fills[order.strategy, order.instrument] = recorded
            if event.position_id is not None:
                self._fills[event.position_id.value] = recorded
        elif kind not in _PENDING and (
            order.resting is None or recorded.chain is order.resting.chain
        ):
            order.resting = recorded
        if kind == "OrderInitialized":
            order.type = event.order_type.name
        if kind == "OrderUpdated":
            order.quantity = event.quantity.as_decimal()
        if kind in _OF_THE_COMMAND or kind in _OF_THE_CANCELLATION:
            order.changing = None
        order.over = order.over or kind in _OVER
        order.last = recorded

    # -- Commands -------------------------------------------------------------------------------

    def submit(self, command: str, orders: list[Any], strategy: str, time: int | None) -> None:
        """Record that a strategy sends orders, which it has just made."""
        for order in orders:
            self.order_event(order.init_event)
        states = [self._orders[order.client_order_id.value] for order in orders]
        made = [state.resting for state in states if state.resting is not None]
        sent = self._run.event(
            EventType.COMMAND,
            strategy=strategy,
            instrument=instrument_of(orders[0].instrument_id),
            event_time=time,
            attributes={
                semconv.Command.NAME: command,
                semconv.Order.CLIENT_ID: (
                    orders[0].client_order_id.value if len(orders) == 1 else None
                ),
            },
            cause=made[0] if made else None,
            links=made[1:],
        )
        if sent is not None:
            for state in states:
                state.resting = state.last = sent

    def change(
        self,
        command: str,
        order_ids: Iterable[str],
        strategy: str,
        time: int | None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Record that a strategy wants orders changed or cancelled."""
        ids = list(order_ids)
        states = [self._orders[one] for one in ids if one in self._orders]
        instruments = {state.instrument for state in states if state.instrument is not None}
        wanted = self._run.event(
            EventType.COMMAND,
            strategy=strategy,
            instrument=instrument_of(instruments.pop()) if len(instruments) == 1 else NOWHERE,
            event_time=time,
            attributes={
                semconv.Command.NAME: command,
                semconv.Order.CLIENT_ID: ids[0] if len(ids) == 1 else None,
                **(attributes or {}),
            },
            cause=self._asking(None),
            links=[state.last for state in states],
        )
        for state in states:
            state.changing = wanted

    def open_orders(self, instrument_id: Any, strategy_id: Any, side: Any) -> list[str]:
        """Ids of the orders that a cancellation of all concerns; None stands for any."""
        return [
            order_id
            for order_id, order in self._orders.items()
            if not order.is_done
            and order.last is not None
            and order.instrument == instrument_id
            and strategy_id in (None, order.strategy)
            and side in (None, "NO_ORDER_SIDE", order.side)
        ]

    # -- Positions ------------------------------------------------------------------------------

    def position_event(self, event: Any) -> OpenEvent | None:
        """Record a position's event, unless that is done; it follows from the position's fill."""
        known = self.event_of(event.event_id)
        if known is None:
            known = self.position(
                position_type(event), event.position_id.value, event, time_of(event)
            )
            if known is not None:
                self._remember(event, known)
        return known

    def position(
        self, event_type: str, position_id: str, said: Any, time: int | None
    ) -> OpenEvent | None:
        """Record a change of a position, as an event of it or the position itself says."""
        fill = self._fills.get(position_id)
        entry = None
        if event_type == EventType.POSITION_OPEN and fill is not None:
            self._entries[position_id] = fill
        elif event_type == EventType.POSITION_CLOSE:
            entry = self._entries.pop(position_id, None)
        attributes = position_attributes(said)
        attributes[semconv.Position.ID] = position_id
        return self._record(event_type, said, time, attributes, fill, (entry,))

    # -- What is remembered ---------------------------------------------------------------------

    def event_of(self, event_id: Any) -> OpenEvent | None:
        """The event that one of the engine's was recorded as, if that was lately."""
        return self._seen.get(event_id) or self._seen_before.get(event_id)

    def fill_of(self, position_id: Any) -> OpenEvent | None:
        """The latest fill of a position."""
        return self._fills.get(position_id.value)

    def last_of(self, order_id: Any) -> OpenEvent | None:
        """The latest event of an order."""
        order = self._orders.get(order_id.value)
        return None if order is None else order.last

    def untold(self, order: Any) -> list[Any]:
        """What an order of the engine's went through that is not recorded."""
        known = self._orders.get(order.client_order_id.value)
        if known is None:
            # A live node begins with what it remembers, and what the venues tell it of before.
            return [event for event in order.events() if event.ts_event >= self.since]
        if order.event_count == len(known.told):
            return []
        return [event for event in order.events() if hash(event.event_id) not in known.told]

    def _remember(self, event: Any, recorded: OpenEvent) -> None:
        seen = self._seen
        seen[event.event_id] = recorded
        if len(seen) >= _REMEMBERED:
            self._seen_before = seen
            self._seen = {}
