"""Records what the broker of backtesting.py does with orders, and because of what.

The engine has no ids: orders, fills and trades are numbered as they come. Its trades are recorded
as positions, since it matches entries and exits by itself. All figures are the engine's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fillpath.instrumentation.backtesting_account import AccountRecord
from fillpath.instrumentation.backtesting_orders import Held, Placed, new_attributes
from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.open_event import Cause, OpenEvent
from fillpath.instrumentation.semconv import EventType, Fill, Order, Position, Signal
from fillpath.instrumentation.while_recording import while_recording

_ENTRY: Final = "entry size"
_EXIT: Final = "exit portion"
_SIGNALS: Final = {_ENTRY: "_SignalStrategy__entry_signal", _EXIT: "_SignalStrategy__exit_signal"}
_STOP: Final = "stop_loss"
_TARGET: Final = "take_profit"
_LATE: Final = "the trade was closed already"
_NO_MARGIN: Final = "insufficient margin"
_END: Final = "end of run"
_EXCLUSIVE: Final = "exclusive_orders"


class BrokerRecord(AccountRecord):
    """Signals, orders and fills of one backtest.

    Attributes:
        placing: While the broker takes an order: that order's event, once there is one. What it
            cancels and closes then is because of it.
    """

    def __init__(self, run: EngineRun, backtest: Any, symbol: str | None) -> None:
        super().__init__(run, backtest, symbol)
        self.placing: OpenEvent | None = None
        self._is_finalizing = False
        self._held: dict[int, Held] = {}
        self._orders: dict[int, Placed] = {}  # that the broker has
        self._opening: Held | None = None  # the trade that the broker is at
        self._reducing: Any = None
        self._signals: dict[str, OpenEvent] = {}
        self._values: dict[str, float] = {}

    # -- Signals --------------------------------------------------------------------------------

    @while_recording
    def read_signals(self, strategy: Any) -> None:
        """Record the values of the library's vectors of signals where they are new."""
        self._signals = {}
        for name, attribute in _SIGNALS.items():
            value = float(getattr(strategy, attribute)[-1])
            value = 0.0 if math.isnan(value) else value  # the engine's word for no signal
            before, self._values[name] = self._values.get(name), value
            if value not in {before, 0.0}:
                self._publish(name, value)

    def _publish(self, name: str, value: float) -> None:
        event = self.run.event(
            EventType.SIGNAL,
            strategy=self._strategy,
            instrument=self._market.instrument,
            event_time=self._time,
            attributes={Signal.NAME: name, Signal.VALUE: value, Signal.STRENGTH: value},
        )
        if event is not None:
            self._signals[name] = event

    def _signal(self, name: str) -> OpenEvent | None:
        """The signal of this bar that an order follows from; told now where it is no new one."""
        if name not in self._signals:
            self._publish(name, self._values.get(name, 0.0))
        return self._signals.get(name)

    # -- Orders ---------------------------------------------------------------------------------

    @while_recording
    def placed(self, order: Any, *, by_signal: bool) -> None:
        """An order has been made, for a new trade or to close one."""
        held = None if order.parent_trade is None else self._held.get(id(order.parent_trade))
        one = self._orders[id(order)] = Placed(self._next("O"), order, held)
        cause, reason = self.placing, None
        before: Placed | None = None
        if held is None:
            cause = self._signal(_ENTRY) if by_signal else None
        elif one.has_stop or order.limit is not None:
            reason = _STOP if one.has_stop else _TARGET
            before, held.legs[reason] = held.legs.get(reason), one
            cause = held.entry if held is self._opening else None
        elif self._is_finalizing:
            reason = _END
        elif self.placing is not None:
            reason = _EXCLUSIVE
        elif by_signal:
            cause = self._signal(_EXIT)
        event = self._tell(
            one,
            "NEW",
            new_attributes(one, reason, self._market),
            cause=cause,
            links=() if before is None else (self.run.last_of(before.id),),
        )
        if held is None:
            self.placing = event

    @while_recording
    def cancelled(self, order: Any) -> None:
        """An order has been cancelled: by the strategy, or because of an exclusive new one."""
        one = self._orders.pop(id(order), None)
        if one is not None:
            self._tell(one, "CANCELED", cause=self.placing, by_handler=True)

    @while_recording
    def dropped(self, order: Any, why: str) -> None:
        """The broker gives up an order, or what is left of it, and says why."""
        one = self._orders.pop(id(order), None)
        if one is not None:
            self._drop(one, why.partition(": ")[2] or why)

    def _drop(self, one: Placed, why: str) -> None:
        status = "CANCELED" if one.filled else "REJECTED"
        self._tell(one, status, {Order.REJECT_REASON: why}, links=(self._bar,))

    def _settle_orders(self) -> None:
        """Find out what the broker did to orders without a word, once it has been through them."""
        waiting = {id(order) for order in self.broker.orders}
        for key, one in list(self._orders.items()):
            if key in waiting:
                if one.has_stop and one.order.stop is None:
                    one.has_stop = False
                    self._tell(one, "TRIGGERED", links=(self._bar,))
                continue
            del self._orders[key]
            if one.trade is not None:
                self._tell(one, "CANCELED", {Order.REJECT_REASON: _LATE}, cause=one.trade.exit)
            else:
                self._drop(one, _NO_MARGIN)

    def _tell(
        self,
        one: Placed,
        status: str,
        attributes: dict[str, Any] | None = None,
        *,
        cause: OpenEvent | None = None,
        by_handler: bool = False,
        links: tuple[Cause | None, ...] = (),
    ) -> OpenEvent | None:
        return self.run.order(
            one.id,
            status,
            strategy=self._strategy,
            instrument=self._market.instrument,
            event_time=self._time,
            attributes={**one.facts, **(attributes or {})},
            by_handler=by_handler,
            cause=cause,
            links=links,
        )

    # -- Fills ----------------------------------------------------------------------------------

    @contextmanager
    def opening(self, order: Any, size: Any) -> Iterator[None]:
        """The broker opens a trade, to fill an order of so many units."""
        with self._charged(lambda commission: self._opened(order, size, commission)):
            yield
        self._state_after(self._opening)
        self._opening = None

    @while_recording
    def _opened(self, order: Any, size: Any, commission: Any) -> None:
        trade = self.broker.trades[-1]
        held = self._held[id(trade)] = self._opening = Held(self._next("T"), trade)
        held.opened_by = self._orders.get(id(order))
        held.gain(-float(commission), trade)
        held.last = held.entry = self._fill(
            held, held.opened_by, size, trade.size, trade.entry_price, trade.entry_bar, commission
        )
        self._position(EventType.POSITION_OPEN, held, trade.size)

    @contextmanager
    def reducing(self, trade: Any) -> Iterator[None]:
        """The broker closes a part of a trade, or all of it."""
        around, self._reducing = self._reducing, trade
        try:
            yield
        finally:
            self._reducing = around
        self._resize_legs(trade)

    @while_recording
    def _resize_legs(self, trade: Any) -> None:
        held = self._held.get(id(trade))
        for leg in () if held is None else (trade._sl_order, trade._tp_order):
            one = self._orders.get(id(leg))
            if one is not None and held is not None:
                quantity = self._market.quantity(leg.size)
                self._tell(one, "UPDATED", {Order.QUANTITY: quantity}, cause=held.exit)

    @contextmanager
    def closing(self, trade: Any, order: Any, size: Any) -> Iterator[None]:
        """The broker closes a trade or a copy of its part, to fill an order of so many units."""
        legs = (trade._sl_order, trade._tp_order)
        held = self._held.get(id(trade if self._reducing is None else self._reducing))
        with self._charged(lambda commission: self._closed(held, trade, order, size, commission)):
            yield
        self._close_legs(held, legs)
        self._state_after(held)

    @while_recording
    def _closed(self, held: Held | None, trade: Any, order: Any, size: Any, charge: Any) -> None:
        if held is None:  # it was opened before the recording began
            held = Held(self._next("T"), trade)
        if order is None:
            self._breach = self._breach or self._breach_of_limit()
        held.gain(float(trade.pl) - float(charge), trade)
        held.last = held.exit = self._fill(
            held,
            self._orders.get(id(order)),
            size,
            -trade.size,
            trade.exit_price,
            trade.exit_bar,
            charge,
        )
        left = 0 if trade is held.trade else held.trade.size
        if not left:
            self._held.pop(id(held.trade), None)
        kind = EventType.POSITION_CHANGE if left else EventType.POSITION_CLOSE
        self._position(kind, held, left)

    @while_recording
    def _close_legs(self, held: Held | None, legs: tuple[Any, ...]) -> None:
        """Tell that the stop and the target of a trade that is closed have gone with it."""
        for leg in legs:
            one = self._orders.pop(id(leg), None) if leg is not None else None
            if one is not None:
                self._tell(one, "CANCELED", cause=None if held is None else held.exit)

    def _fill(
        self,
        held: Held,
        one: Placed | None,
        whole: Any,
        size: Any,
        price: Any,
        index: int,
        commission: Any,
    ) -> OpenEvent | None:
        """Record a fill; one without an order is of a ruin."""
        is_entry = held.entry is None and held.exit is None and held is self._opening
        market = self._bar if index == self._index else self._bar_before or self._bar
        currency = self._market.currency
        facts: dict[str, Any] = {
            Position.ID: held.id,
            Fill.CURRENCY: currency,
            Fill.COMMISSION_CURRENCY: currency,
        }
        given: dict[str, Any] = {
            "strategy": self._strategy,
            "instrument": self._market.instrument,
            "event_time": self._market.time(index),
        }
        side, quantity = "BUY" if size > 0 else "SELL", self._market.quantity(size)
        paid = self._market.price(price)
        if one is None:
            facts |= {Fill.ID: self._next("F"), Order.SIDE: side, Fill.QUANTITY: quantity}
            facts |= {Fill.PRICE: paid, Fill.COMMISSION: float(commission)}
            links = (market, held.entry)
            return self.run.event(
                EventType.FILL, attributes=facts, cause=self._breach, links=links, **given
            )
        one.filled += abs(size)
        ordered = abs(one.order.size if whole is None else whole)
        is_done = one.trade is not None or one.filled >= ordered
        if is_done:
            self._orders.pop(id(one.order), None)
        facts |= one.facts
        facts[Order.QUANTITY] = self._market.quantity(ordered)
        facts[Order.STATUS] = "FILLED" if is_done else "PARTIALLY_FILLED"
        return self.run.fill(
            one.id,
            self._next("F"),
            side,
            quantity,
            paid,
            commission=float(commission),
            attributes=facts,
            market=market,
            opens=held.id if is_entry else None,
            closes=None if is_entry else held.id,
            **given,
        )

    def _position(self, kind: str, held: Held, size: Any) -> None:
        self.run.position(
            kind,
            held.id,
            "FLAT" if not size else "LONG" if size > 0 else "SHORT",
            self._market.quantity(size),
            strategy=self._strategy,
            instrument=self._market.instrument,
            event_time=self._time,
            attributes={
                Position.AVERAGE_OPEN_PRICE: self._market.price(held.trade.entry_price),
                Position.REALIZED_PNL: held.gained,
                Position.CURRENCY: self._market.currency,
                Position.OPENING_ORDER_ID: held.opened_by and held.opened_by.id,
            },
            cause=held.last,
        )

    @contextmanager
    def _charged(self, hear: Callable[[Any], None]) -> Iterator[None]:
        """Listen to the broker's commission: its first word in the body is that of the fill.

        It may be a function of the user's, so it is not asked once more.
        """
        broker = self.broker
        charge, heard = broker._commission, False

        def listening(*args: Any, **kwargs: Any) -> Any:
            nonlocal heard
            amount = charge(*args, **kwargs)
            if not heard:
                heard = True
                hear(amount)
            return amount

        broker._commission = listening
        try:
            yield
        finally:
            broker._commission = charge
