"""Records one run of an engine that steps through bars: what happened, and because of what.

An adapter says what the engine did; this finds the cause. It follows the same rules for every
engine (docs/causality.md). Nothing here raises into the host.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from fillpath.instrumentation import semconv
from fillpath.instrumentation.emitter import Emitter
from fillpath.instrumentation.engine_handlers import Callback, Handling
from fillpath.instrumentation.event_tracer import EventTracer, OpenEvent
from fillpath.instrumentation.open_event import Cause, Handle, Place
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME
from fillpath.instrumentation.tracing import Tracing

_BAR: Final = (
    semconv.Bar.OPEN,
    semconv.Bar.HIGH,
    semconv.Bar.LOW,
    semconv.Bar.CLOSE,
    semconv.Bar.VOLUME,
)


class Instrument(NamedTuple):
    """What is traded, and where; both may be unknown."""

    symbol: str | None = None
    venue: str | None = None


NOWHERE: Final = Instrument()


class _Order:
    """What is known of an order: its latest state, the one it rests in, its latest fill."""

    __slots__ = ("fill", "last", "resting")

    def __init__(self) -> None:
        self.last: OpenEvent | None = None
        self.resting: OpenEvent | None = None
        self.fill: OpenEvent | None = None


class EngineRun:
    """The record of one run of an engine.

    Times are nanoseconds since the epoch, as the engine's clock has them; None where it has none.
    Numbers are given as the engine has them (float, int, Decimal) and recorded exactly. Order ids
    are unique within a run.

    Args:
        tracing: The session.
        portfolio: Namespace of the run's events.

    Attributes:
        tracer: Records them.
        portfolio: Their namespace.
        active: False once the adapter has been taken off the engine; then nothing is recorded.
        market: The last bar, which is the latest moment of simulated time.
        places: What the runs of each handler have in common.
    """

    def __init__(self, tracing: Tracing, portfolio: str) -> None:
        self.tracer: EventTracer = tracing.tracer
        self.portfolio = portfolio
        self.active = True
        self.market: Cause | None = None
        self.places: dict[tuple[Any, ...], Place] = {}
        self._bars: dict[tuple[Any, ...], Emitter] = {}
        self._orders: dict[Hashable, _Order] = {}
        self._entries: dict[Hashable, Cause] = {}
        self._last_fill: OpenEvent | None = None
        self._signals: dict[OpenEvent, OpenEvent] = {}

    @property
    def is_recording(self) -> bool:
        """Whether what is told is recorded."""
        return self.active and not self.tracer.stopped

    # -- The market and the user's code ---------------------------------------------------------

    def bar(
        self,
        instrument: Instrument,
        event_time: int | None,
        open_: float,
        high: float,
        low: float,
        close: float,
        volume: float | None,
    ) -> Handle | None:
        """Record a bar, which has no cause, at the cost of a tuple; gives what names it.

        One of which nobody knows the volume has None for it.
        """
        if not self.active:
            return None
        try:
            time = NO_TIME if event_time is None else event_time
            if volume is None:
                handle = self._emitter(instrument, 4)(time, None, open_, high, low, close)
            else:
                emit = self._bars.get(instrument) or self._emitter(instrument, 5)
                handle = emit(time, None, open_, high, low, close, volume)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.tracer.lost(EventType.BAR)
            self.tracer.complain(error)
            return None
        self.market = handle or self.market
        return handle

    def _emitter(self, instrument: Instrument, count: int) -> Emitter:
        """Give what records bars of an instrument with so many numbers."""
        key = instrument if count == len(_BAR) else (instrument, count)
        emit = self._bars.get(key)
        if emit is None:
            emit = self._bars[key] = self.tracer.emitter(
                EventType.BAR,
                portfolio=self.portfolio,
                symbol=instrument.symbol,
                venue=instrument.venue,
                fields=_BAR[:count],
            )
        return emit

    def handling(
        self,
        strategy: str | None,
        handler: str,
        cause: Cause | None,
        *,
        event_type: str = EventType.BAR,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        links: Iterable[Cause] = (),
    ) -> Handling:
        """Run the body as the user's handler: what it does is caused by this.

        It is recorded only if it causes something or fails. User code that nothing calls forth but
        the clock (a timer, a scheduled function) is handled with `market` as the cause and
        `SYSTEM` as the kind.

        Args:
            strategy: The engine's id of the strategy.
            handler: The user's code, as ``Class.method``.
            cause: What is handled: a bar, a fill, a signal…
            event_type: The kind of event that is handled.
            instrument: What it is about.
            event_time: Simulated time.
            links: Further causes, such as the bars of other instruments.
        """
        key = event_type, strategy, handler, instrument
        return Handling(self, key, cause, event_time, links)

    def callback(
        self, strategy: str | None, handler: str, event_time: int | None = None
    ) -> Callback:
        """Run the body as a call-back that no event calls forth, such as `start` or `stop`.

        It is an event of its own, of kind `SYSTEM`, that follows the last bar; recorded always.
        """
        return Callback(self, strategy, handler, event_time)

    # -- What strategies and brokers do ---------------------------------------------------------

    def event(
        self,
        event_type: str,
        *,
        strategy: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        cause: Cause | None = None,
        links: Iterable[Cause | None] = (),
        handler: str | None = None,
    ) -> OpenEvent | None:
        """Record an event that lasts no time; gives None when nothing is recorded.

        Args:
            event_type: Its kind.
            strategy: The engine's id of the strategy.
            instrument: What it is about.
            event_time: Simulated time.
            attributes: By key of the semantic conventions; what is None is left out.
            cause: By default what is being handled, else the last bar.
            links: Further causes; None and the cause itself are left out.
            handler: The user's code that it is, as ``Class.method``.
        """
        if not self.is_recording:
            return None
        try:
            parent = cause or self.tracer.current or self.market
            event = self.tracer.open(
                event_type,
                portfolio=self.portfolio,
                strategy=strategy,
                symbol=instrument.symbol,
                venue=instrument.venue,
                handler=handler,
                event_time=event_time,
                attributes=present(attributes),
                parent=parent,
                links=[link for link in links if link is not None and link != parent],
            )
            self.tracer.close(event)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.tracer.lost(event_type)
            self.tracer.complain(error)
            return None
        return event

    def signal(
        self,
        name: str,
        value: Any,
        *,
        strength: float | None = None,
        strategy: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        cause: Cause | None = None,
    ) -> OpenEvent | None:
        """Record a strategy's opinion. Orders that the running handler sends now follow from it."""
        current = self.tracer.current
        event = self.event(
            EventType.SIGNAL,
            strategy=strategy,
            instrument=instrument,
            event_time=event_time,
            attributes={
                semconv.Signal.NAME: name,
                semconv.Signal.VALUE: value,
                semconv.Signal.STRENGTH: strength,
            },
            cause=cause,
        )
        if event is not None and current is not None:
            self._signals[current] = event
        return event

    def order(
        self,
        order_id: Hashable,
        status: str,
        *,
        strategy: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        by_handler: bool = False,
        cause: Cause | None = None,
        links: Iterable[Cause | None] = (),
    ) -> OpenEvent | None:
        """Record that an order has reached a state.

        A new order follows from the signal that the running handler has given, or from the handler.
        A later state follows from the one before; unless the strategy has asked for it or a cause
        is named (a cancelled leg: its sibling's fill), to which the state before is a link.

        Args:
            order_id: The engine's id.
            status: The state, in the engine's word.
            strategy: The engine's id of the strategy.
            instrument: What is traded.
            event_time: Simulated time.
            attributes: What else is known, by key of the semantic conventions.
            by_handler: Whether the running handler has asked for this change.
            cause: What has led to it, if that is known better.
            links: Further causes.
        """
        state = self._orders.get(order_id)
        is_new = state is None
        if state is None:
            state = self._orders[order_id] = _Order()
        last = state.last
        asked = self.asking() if is_new or by_handler else None
        parent = cause or asked or last
        event = self.event(
            EventType.ORDER,
            strategy=strategy,
            instrument=instrument,
            event_time=event_time,
            attributes={
                semconv.Order.CLIENT_ID: str(order_id),
                semconv.Order.STATUS: status,
                **(attributes or {}),
            },
            cause=parent,
            links=(*links, last),
        )
        if event is not None:
            if is_new or parent is last:
                state.resting = event
            state.last = event
        return event

    def fill(
        self,
        order_id: Hashable,
        fill_id: str,
        side: str,
        quantity: Any,
        price: Any,
        *,
        commission: Any = None,
        strategy: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        market: Cause | None = None,
        opens: Hashable = None,
        closes: Hashable = None,
    ) -> OpenEvent | None:
        """Record an execution. It follows from the state that the order rested in.

        Args:
            order_id: The engine's id of the order.
            fill_id: Id of the fill, unique within the run.
            side: ``BUY`` or ``SELL``.
            quantity: Of this fill alone, positive.
            price: Of this fill alone.
            commission: Of this fill alone; positive is a cost.
            strategy: The engine's id of the strategy.
            instrument: What was traded.
            event_time: Simulated time.
            attributes: What else is known, by key of the semantic conventions.
            market: The bar that it was filled at; a link.
            opens: The position that it opens or adds to, by any name.
            closes: The one that it reduces; the fill that opened it is a link.
        """
        state = self._orders.setdefault(order_id, _Order())
        event = self.event(
            EventType.FILL,
            strategy=strategy,
            instrument=instrument,
            event_time=event_time,
            attributes={
                semconv.Order.CLIENT_ID: str(order_id),
                semconv.Fill.ID: fill_id,
                semconv.Order.SIDE: side,
                semconv.Fill.QUANTITY: quantity,
                semconv.Fill.PRICE: price,
                semconv.Fill.COMMISSION: commission,
                **(attributes or {}),
            },
            cause=state.resting or state.last,
            links=(market, None if closes is None else self._entries.get(closes)),
        )
        if event is not None:
            state.fill = state.last = self._last_fill = event
            if opens is not None:
                self._entries.setdefault(opens, event)
        return event

    def position(
        self,
        event_type: str,
        position_id: Hashable,
        side: str,
        quantity: Any,
        *,
        strategy: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        cause: Cause | None = None,
    ) -> OpenEvent | None:
        """Record that a position was opened, changed or closed; it follows from the last fill.

        A position that a fill opens by turning another one has that fill as its entry.

        Args:
            event_type: `POSITION_OPEN`, `POSITION_CHANGE` or `POSITION_CLOSE`.
            position_id: What `fill` calls it; a close links to the fill that opened it.
            side: ``LONG``, ``SHORT`` or ``FLAT``.
            quantity: What is held now, not negative.
            strategy: The engine's id of the strategy.
            instrument: What is held.
            event_time: Simulated time.
            attributes: What else is known, by key of the semantic conventions.
            cause: The fill, if it is not the last one.
        """
        entry, filled = None, cause or self._last_fill
        if event_type == EventType.POSITION_CLOSE:
            entry = self._entries.pop(position_id, None)
        elif event_type == EventType.POSITION_OPEN and filled is not None:
            self._entries.setdefault(position_id, filled)
        return self.event(
            event_type,
            strategy=strategy,
            instrument=instrument,
            event_time=event_time,
            attributes={
                semconv.Position.ID: str(position_id),
                semconv.Position.SIDE: side,
                semconv.Position.QUANTITY: quantity,
                **(attributes or {}),
            },
            cause=filled,
            links=(entry,),
        )

    def statement(
        self,
        balances: Mapping[str | None, Any],
        *,
        account_id: str = "",
        account_type: str = "CASH",
        locked: Mapping[str | None, Any] | None = None,
        unrealized: Any = None,
        event_time: int | None = None,
        cause: Cause | None = None,
    ) -> OpenEvent | None:
        """Record what the engine says it has; attribution is held against this.

        Args:
            balances: The total by currency; None is a currency that nobody names.
            account_id: The engine's id of the account.
            account_type: ``CASH`` where fills move the balance by what they cost, ``MARGIN`` where
                they move it by their profit.
            locked: The part of each that cannot be spent.
            unrealized: Profit of what is open, at the prices of this moment.
            event_time: Simulated time.
            cause: By default what is being handled, else the last bar.
        """
        held = locked or {}
        return self.event(
            EventType.PORTFOLIO,
            event_time=event_time,
            attributes={
                semconv.Account.ID: account_id or None,
                semconv.Account.TYPE: account_type,
                semconv.Account.BALANCES: [
                    {
                        "currency": currency,
                        "total": total,
                        "free": total - held[currency] if currency in held else total,
                        "locked": held.get(currency, 0),
                    }
                    for currency, total in balances.items()
                ],
                semconv.Account.UNREALIZED_PNL: unrealized,
            },
            cause=cause,
        )

    def cash_flow(
        self,
        flow_type: str,
        amount: Any,
        *,
        currency: str | None = None,
        account_id: str | None = None,
        instrument: Instrument = NOWHERE,
        event_time: int | None = None,
        cause: Cause | None = None,
    ) -> OpenEvent | None:
        """Record money that came or went without a fill; positive when the account gets it."""
        return self.event(
            EventType.CASH_FLOW,
            instrument=instrument,
            event_time=event_time,
            attributes={
                semconv.Account.ID: account_id,
                semconv.CashFlow.TYPE: flow_type,
                semconv.CashFlow.AMOUNT: amount,
                semconv.CashFlow.CURRENCY: currency,
            },
            cause=cause,
        )

    # -- What is remembered ---------------------------------------------------------------------

    def last_of(self, order_id: Hashable) -> OpenEvent | None:
        """Give the latest event of an order, to name it as a cause: a sibling's fill or end."""
        state = self._orders.get(order_id)
        return None if state is None else state.last

    def fill_of(self, order_id: Hashable) -> OpenEvent | None:
        """Give the latest fill of an order."""
        state = self._orders.get(order_id)
        return None if state is None else state.fill

    def forget(self, order_id: Hashable) -> None:
        """Forget an order that nothing can happen to any more."""
        self._orders.pop(order_id, None)

    def asking(self) -> OpenEvent | None:
        """Give what the running handler asks for follows from: the signal it gave, or itself."""
        current = self.tracer.current
        return current if current is None else self._signals.get(current, current)

    def handled(self, run: OpenEvent) -> None:
        """Forget what belonged to a handler's run that has ended."""
        if self._signals:
            self._signals.pop(run, None)


def present(attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Leave out attributes without a value."""
    if attributes is None:
        return None
    return {key: value for key, value in attributes.items() if value is not None}
