"""Records one run of a dispatcher of basana: its events, and the handlers they are given to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from basana.backtesting.exchange import Exchange
from basana.backtesting.order_mgr import OrderEvent
from basana.core.bar import BarEvent
from basana.core.event_sources.trading_signal import BaseTradingSignal, TradingSignalSource

from fillpath.instrumentation import semconv
from fillpath.instrumentation.basana_events import (
    Recorded,
    RecordedEvents,
    instrument_of,
    kind_of,
    nanoseconds,
    opinions,
    told_fields,
)
from fillpath.instrumentation.basana_handlers import (
    Delivery,
    Followed,
    Receiver,
    StrategyNames,
    init_parameters,
    is_of_the_engine,
    owner_of,
)
from fillpath.instrumentation.basana_orders import SimulatedOrders
from fillpath.instrumentation.emitter import Emitter
from fillpath.instrumentation.engine_run import EngineRun, Instrument
from fillpath.instrumentation.open_event import Cause, OpenEvent, Place
from fillpath.instrumentation.semconv import PROCESS, EventType
from fillpath.instrumentation.spool import NO_TIME

_NOTHING: AbstractContextManager[None] = nullcontext()


class BasanaRun:
    """What is known of one dispatcher while it runs.

    Args:
        dispatcher: The dispatcher, about to run.
        run: Records its events.
        runs: Where its orders are found.
    """

    def __init__(self, dispatcher: Any, run: EngineRun, runs: BasanaRuns) -> None:
        self.dispatcher = dispatcher
        self.run = run
        self._events = RecordedEvents()
        self._names = StrategyNames()
        self._receivers: dict[int, tuple[Receiver, Any]] = {}
        self._places: dict[tuple[int, str, str | None, str | None], Place] = {}
        self._bars: dict[Any, Cause | None] = {}
        self._instruments: dict[Any, Instrument] = {}
        self._trades: dict[Instrument, Emitter] = {}
        self._scheduled: dict[tuple[Any, int], list[tuple[Any, OpenEvent]]] = {}
        self._baskets: WeakKeyDictionary[OpenEvent, Recorded] = WeakKeyDictionary()
        self._managers: list[Any] = []
        self.orders = SimulatedOrders(
            run, self.now, self._bars, self._opinion_of, partial(runs.follow_order, self)
        )

    def now(self) -> int | None:
        """Time of the dispatcher in nanoseconds; None before its first event."""
        try:
            return nanoseconds(self.dispatcher.now())
        except Exception:  # noqa: BLE001 - basana raises an error of its own, a user's clock any
            return None

    def begin(self) -> None:
        """Name the strategies in the order of their subscriptions, and state all balances."""
        for handler in handlers_of(self.dispatcher, TradingSignalSource):
            owner = owner_of(handler)
            self._managers.append(handler if owner is None else owner)
        for handler in handlers_of(self.dispatcher):
            self._receiver(handler)
        for exchange in exchanges_of(self.dispatcher):
            self.orders.account(exchange._order_mgr._ctx)
            waiting = [o for o in exchange._order_mgr.get_all_orders() if o.is_open]
            with self.asking() if waiting else _NOTHING:
                for order in waiting:
                    self.orders.asked_for(exchange._order_mgr, order)
                    self.orders.accepted(order)

    # -- Handlers -------------------------------------------------------------------------------

    def delivery(self, event: Any, handler: Any) -> Any:
        """Give what to call instead of a handler, for its call to be the event's handling."""
        if not self.run.is_recording:
            return handler
        try:
            recorded = self._events.get(event) or self._record(event)
            receiver = self._receiver(handler)
            if receiver.is_engines:
                return handler
            return Delivery(
                self.run,
                handler,
                self._place(handler, receiver, recorded, event),
                recorded.cause,
                recorded.event_time,
                recorded.links,
                partial(self._given_basket, recorded) if recorded.by_symbol else None,
            )
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.run.tracer.lost(type(event).__name__)
            self.run.tracer.complain(error)
            return handler

    def _given_basket(self, recorded: Recorded, running: OpenEvent) -> None:
        self._baskets[running] = recorded

    def _place(self, handler: Any, receiver: Receiver, recorded: Recorded, event: Any) -> Place:
        """What the runs of a handler with such events have in common."""
        strategy: str | None = receiver.strategy
        if receiver.acts_for_others:
            if recorded.strategy is not None:
                strategy = recorded.strategy
            elif isinstance(event, OrderEvent):
                strategy = self.orders.strategy_of(event.order.id) or strategy
        symbol = recorded.instrument.symbol
        key = id(handler), recorded.event_type, symbol, strategy
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self.run.tracer.place(
                recorded.event_type,
                operation=PROCESS,
                portfolio=self.run.portfolio,
                strategy=strategy,
                symbol=symbol,
                handler=receiver.name,
            )
        return place

    def _receiver(self, handler: Any) -> Receiver:
        known = self._receivers.get(id(handler))
        if known is None:
            receiver = self._names.receiver(handler, self._managers)
            known = self._receivers[id(handler)] = receiver, handler
        return known[0]

    def _opinion_of(self, symbol: str | None) -> OpenEvent | None:
        current = self.run.tracer.current
        basket = None if current is None else self._baskets.get(current)
        return None if basket is None else basket.by_symbol.get(symbol)

    def scheduled(self, when: Any, job: Any) -> None:
        """A job was scheduled; if by a handler, that is its cause."""
        current = self.run.tracer.current
        if current is not None and self.run.is_recording:
            self._scheduled.setdefault((when, id(job)), []).append((job, current))

    def job(self, when: Any, job: Any) -> Any:
        """Give what to call instead of a scheduled job."""
        causes = self._scheduled.pop((when, id(job)), None)
        cause = None
        if causes:
            cause = causes.pop(0)[1]
            if causes:
                self._scheduled[when, id(job)] = causes
        return self._follow(job, cause, nanoseconds(when))

    def idle(self, handler: Any) -> Any:
        """Give what to call instead of a handler that is called when there is nothing to do."""
        return self._follow(handler, None, None)

    def started(self, handler: Any) -> Any:
        """Give what to call instead of a handler that is called when the loop begins."""
        receiver = self._receiver(handler)
        return Followed(
            handler, lambda: self.run.callback(receiver.strategy, receiver.name, self.now())
        )

    def _follow(self, handler: Any, cause: OpenEvent | None, when: int | None) -> Any:
        receiver = self._names.receiver(handler)
        if receiver.is_engines or not self.run.is_recording:
            return handler

        def around() -> AbstractContextManager[Any]:
            found = cause or self.run.market
            time = self.now() if when is None else when
            if found is None:
                return self.run.callback(receiver.strategy, receiver.name, time)
            return self.run.handling(
                receiver.strategy,
                receiver.name,
                found,
                event_type=EventType.SYSTEM,
                event_time=time,
            )

        return Followed(handler, around)

    def asking(self) -> AbstractContextManager[Any]:
        """Surround a user's wish: where no handler runs, the coroutine that does is a call-back."""
        if self.run.tracer.current is not None:
            return _NOTHING
        try:
            strategy, handler = self._names.running_task()
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.run.tracer.complain(error)
            strategy = handler = "script"
        return self.run.callback(strategy, handler, self.now())

    # -- Events ---------------------------------------------------------------------------------

    def published(self, source: Any, event: Any) -> None:
        """An event was put into a queue; it is recorded now if a handler did so, for its cause."""
        if isinstance(event, BarEvent) or not self.run.is_recording:
            return  # a bar has no cause: it is recorded when it is delivered
        try:
            if self._events.get(event) is not None:
                return
            if isinstance(event, BaseTradingSignal):
                self._signal(source, event)
            elif isinstance(event, OrderEvent) or self.run.tracer.current is not None:
                self._record(event)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.run.tracer.lost(type(event).__name__)
            self.run.tracer.complain(error)

    def _record(self, event: Any) -> Recorded:
        """Record an event that is not known yet."""
        if isinstance(event, BarEvent):
            return self._events.keep_bar(event, self._bar(event))
        if isinstance(event, BaseTradingSignal):
            return self._signal(None, event)
        if isinstance(event, OrderEvent):
            last = self.run.last_of(event.order.id)
            kind = EventType.ORDER if last is None else last.event_type
            instrument = Instrument(str(event.order.pair))
            recorded = Recorded(last, kind, nanoseconds(event.when), instrument)
        else:
            recorded = self._other(event)
        return self._events.keep(event, recorded)

    def _bar(self, event: BarEvent) -> Recorded:
        bar = event.bar
        instrument = self._instruments.get(bar.pair)
        if instrument is None:
            instrument = self._instruments[bar.pair] = Instrument(str(bar.pair))
        # A number of at most 15 digits is the same as a double.
        time = nanoseconds(event.when)
        self._bars[bar.pair] = handle = self.run.bar(
            instrument,
            time,
            float(bar.open),
            float(bar.high),
            float(bar.low),
            float(bar.close),
            float(bar.volume),
        )
        return Recorded(handle, EventType.BAR, time, instrument)

    def _signal(self, source: Any, event: BaseTradingSignal) -> Recorded:
        current = self.run.tracer.current
        strategy = None if current is None else current.place.parts[3]
        if source is not None and not is_of_the_engine(source):
            strategy = self._names.of(source)
        found: dict[str | None, OpenEvent] = {}
        for symbol, position, strength in opinions(event):
            record = self.run.signal if current is not None else self._first_signal
            signal = record(
                type(event).__name__,
                position,
                strength=strength,
                strategy=strategy,
                instrument=Instrument(symbol),
                event_time=nanoseconds(event.when),
            )
            if signal is not None:
                found[symbol] = signal
        first, *others = found.values() if found else (None,)
        is_one = len(found) == 1
        recorded = Recorded(
            first,
            EventType.SIGNAL,
            nanoseconds(event.when),
            Instrument(next(iter(found))) if is_one else Instrument(),
            tuple(one for one in others if one is not None),
            strategy,
            {} if is_one else found,
        )
        return self._events.keep(event, recorded)

    def _first_signal(
        self, name: str, value: Any, *, strength: float | None, **parts: Any
    ) -> OpenEvent | None:
        """Record a signal that nothing in this process has led to."""
        attributes = {
            semconv.Signal.NAME: name,
            semconv.Signal.VALUE: value,
            semconv.Signal.STRENGTH: strength,
        }
        return self._root(EventType.SIGNAL, attributes=attributes, **parts)

    def _other(self, event: Any) -> Recorded:
        kind, instrument = kind_of(event), instrument_of(event)
        time = nanoseconds(event.when)
        current = self.run.tracer.current
        if kind == EventType.TICK:
            return Recorded(self._trade(instrument, time, event.trade), kind, time, instrument)
        record = self._root if current is None else self.run.event
        found = record(kind, instrument=instrument, event_time=time, attributes=told_fields(event))
        return Recorded(found, kind, time, instrument)

    def _trade(self, instrument: Instrument, time: int, trade: Any) -> Cause | None:
        emit = self._trades.get(instrument)
        if emit is None:
            emit = self._trades[instrument] = self.run.tracer.emitter(
                EventType.TICK,
                portfolio=self.run.portfolio,
                symbol=instrument.symbol,
                fields=(semconv.Tick.PRICE, semconv.Tick.SIZE),
            )
        handle = emit(time or NO_TIME, None, float(trade.price), float(trade.amount))
        self.run.market = handle or self.run.market
        return handle

    def _root(
        self,
        event_type: str,
        *,
        instrument: Instrument,
        event_time: int,
        attributes: dict[str, Any],
        strategy: str | None = None,
    ) -> OpenEvent:
        tracer = self.run.tracer
        event = tracer.open(
            event_type,
            portfolio=self.run.portfolio,
            strategy=strategy,
            symbol=instrument.symbol,
            event_time=event_time,
            attributes={key: value for key, value in attributes.items() if value is not None},
            parent=None,
        )
        tracer.close(event)
        return event


class BasanaRuns:
    """The dispatchers that run now, and their orders."""

    def __init__(self) -> None:
        self._by_dispatcher: dict[int, BasanaRun] = {}
        self._by_order: dict[str, BasanaRun] = {}
        self._running: ContextVar[BasanaRun | None] = ContextVar("fillpath_basana", default=None)

    def of(self, dispatcher: Any) -> BasanaRun | None:
        """Find the run of a dispatcher; None while it does not run, or is not recorded."""
        return self._by_dispatcher.get(id(dispatcher))

    def running(self) -> BasanaRun | None:
        """Find the run that the running task belongs to."""
        return self._running.get()

    def of_order(self, order: Any) -> SimulatedOrders | None:
        """Find who records an order; None for whatever else has an id, such as a loan."""
        found = self._by_order.get(order.id)
        return None if found is None else found.orders

    def follow_order(self, run: BasanaRun, order_id: str) -> None:
        """Remember whose an order is."""
        self._by_order[order_id] = run

    @contextmanager
    def following(self, dispatcher: Any, recorded: EngineRun) -> Iterator[None]:
        """Follow what a dispatcher does in the body, which is its run."""
        found = BasanaRun(dispatcher, recorded, self)
        self._by_dispatcher[id(dispatcher)] = found
        token = self._running.set(found)
        lists = {name: getattr(dispatcher, name, None) for name in _LISTS}
        try:
            try:
                for name, handlers in lists.items():
                    if handlers:
                        follow = partial(_LISTS[name], found)
                        setattr(dispatcher, name, list(map(follow, handlers)))
                found.begin()
            except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
                recorded.tracer.complain(error)
            yield
        finally:
            found.orders.state_all()
            for name, handlers in lists.items():
                if handlers:
                    setattr(dispatcher, name, handlers)
            self._running.reset(token)
            self._by_dispatcher.pop(id(dispatcher), None)
            for order_id in [key for key, run in self._by_order.items() if run is found]:
                del self._by_order[order_id]

    @staticmethod
    def parameters_of(dispatcher: Any) -> dict[str, Any]:
        """Give what the strategies were made with, whose handlers a dispatcher has."""
        try:
            owners = {id(o): o for o in map(owner_of, handlers_of(dispatcher)) if o is not None}
            names = StrategyNames()
            found = {
                names.of(owner): init_parameters(owner)
                for owner in owners.values()
                if not is_of_the_engine(owner)
            }
        except Exception:  # noqa: BLE001 - a trading system must survive its observer
            return {}
        told = {name: own for name, own in found.items() if own}
        if len(told) == 1:
            return next(iter(told.values()))
        return {f"{name}.{key}": value for name, own in told.items() for key, value in own.items()}


_LISTS: dict[str, Callable[[BasanaRun, Any], Any]] = {
    "_idle_handlers": BasanaRun.idle,
    "_loop_started_handlers": BasanaRun.started,
}
"""Handlers that a dispatcher calls by itself, from these lists of its own."""


def handlers_of(dispatcher: Any, kind: type | None = None) -> list[Any]:
    """List the handlers of a dispatcher's sources, or of those of one kind, as subscribed."""
    return [
        handler
        for source, handlers in dispatcher._event_handlers.items()
        if kind is None or isinstance(source, kind)
        for handler in handlers
    ]


def exchanges_of(dispatcher: Any) -> list[Exchange]:
    """List the simulated exchanges that a dispatcher drives."""
    owners = (owner_of(handler) for handler in handlers_of(dispatcher))
    return list({id(one): one for one in owners if isinstance(one, Exchange)}.values())
