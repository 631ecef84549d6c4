"""Follows one run of backtrader: which bar it has come to, and what its orders go through."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, NamedTuple

from fillpath.instrumentation import backtrader_words as words
from fillpath.instrumentation import semconv
from fillpath.instrumentation.backtrader_account import BrokerAccount
from fillpath.instrumentation.engine_run import NOWHERE, EngineRun, Instrument
from fillpath.instrumentation.failing_code import failing_code
from fillpath.instrumentation.open_event import Cause, Handle, OpenEvent
from fillpath.instrumentation.semconv import EventType

_NOTHING: Final = Decimal(0)
_OF_A_BAR: Final = frozenset(
    {
        "next",
        "nextstart",
        "prenext",
        "next_open",
        "nextstart_open",
        "prenext_open",
        "notify_cashvalue",
        "notify_fund",
    }
)
_OF_THE_CLOCK: Final = frozenset({"notify_timer", "notify_data", "notify_store"})
_DEEPEST_PART: Final = 16
HANDLERS: Final = (*_OF_A_BAR, *_OF_THE_CLOCK, "notify_order", "notify_trade", "start", "stop")
"""The methods of a strategy that are the user's code."""


class _Feed:
    """One feed, and the bar it has come to."""

    __slots__ = ("at", "bar", "instrument", "length", "lines", "time")

    def __init__(self, data: Any, name: str) -> None:
        self.instrument = Instrument(name)
        lines = data.lines
        self.time = lines.datetime
        self.lines = (lines.open, lines.high, lines.low, lines.close, lines.volume)
        self.length = 0
        self.at: float | None = None
        self.bar: Handle | None = None


class _Handler(NamedTuple):
    """What the runs of one method of one strategy have in common."""

    strategy: str | None
    handler: str
    event_type: str
    instrument: Instrument


class _UserMethod:
    """Runs the user's method as the handling of an event, and notes that it is running."""

    __slots__ = ("_body", "_key", "_of")

    def __init__(
        self, of: BacktraderRun, key: tuple[int, str], body: AbstractContextManager[Any]
    ) -> None:
        self._of, self._key, self._body = of, key, body

    def __enter__(self) -> None:
        self._of.running.append(self._key)
        self._body.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._of.running.pop()
        self._of.told_error = error
        self._body.__exit__(kind, error, traceback)


class BacktraderRun:
    """The record of one `Cerebro.runstrategies`.

    Nothing here raises into the host: what reads the engine is called through `tell`.

    Args:
        run: Takes the events.
        cerebro: The engine.
        scheme: The engine's base class of commission schemes; None when the broker is no
            simulated one, whose account is not followed.

    Attributes:
        run: Takes the events.
        time: Simulated time, ns since the epoch.
        account: What the broker has, if that is followed.
        is_ahead: Whether this bar is recorded already, before the broker has its turn.
        in_broker: Whether the broker has its turn: what changes now, no handler has asked for.
        running: The user's methods that run, the innermost last.
        told_error: What the user's method that ended last has raised; it is on the method's span.
        because: The orders to whose fills or ends the broker reacts, the innermost last.
    """

    def __init__(self, run: EngineRun, cerebro: Any, scheme: Any) -> None:
        self.run = run
        self.time: int | None = None
        self._cerebro = cerebro
        names = words.feed_names(cerebro.datas)
        feeds = zip(cerebro.datas, names, strict=True)
        self._feeds = {id(data): _Feed(data, name) for data, name in feeds}
        self._moving = list(self._feeds.values())
        self._bar: Handle | None = None
        self._strategies: dict[int, str] = {}
        self.is_ahead = False
        self.in_broker = False
        self.because: list[int] = []
        self.running: list[tuple[int, str]] = []
        self.told_error: BaseException | None = None
        self._handlers: dict[tuple[int, str], _Handler] = {}
        self._over: list[int] = []
        self._told: list[int] = []
        self._states: dict[tuple[int, int], OpenEvent | None] = {}
        self._fills: dict[tuple[int, int], OpenEvent | None] = {}
        self._held: dict[int, float] = {}
        self._cycle_profit: dict[int, Decimal] = {}
        self._signs: dict[int, int] = {}
        self._last_signal: dict[int, OpenEvent] = {}
        self.account = (
            None
            if scheme is None
            else BrokerAccount(run, cerebro.broker, scheme, self._place_of_data)
        )

    # -- Time -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Record the bars that the engine has just moved to."""
        first = None
        for feed in self._moving:
            clock = feed.time
            length = clock.lencount
            if not length:
                continue
            days = clock[0]
            if days == feed.at and length == feed.length:
                continue
            feed.length, feed.at = length, days
            time = words.time_of(days)
            open_, high, low, close, volume = feed.lines
            bar = feed.bar = self.run.bar(
                feed.instrument, time, open_[0], high[0], low[0], close[0], volume[0]
            )
            if first is None:
                first = bar
            if time is not None:
                self.time = time
        if first is not None:
            self._bar = first
            if self._over or self._told:
                self._forget()
        if self.account is not None and not self.account.is_open:
            self.account.open(self.time)

    def _forget(self) -> None:
        """Forget the orders that ended before the last bar: all have been told of them by now."""
        for ref in self._told:
            self.run.forget(ref)
            for status in range(len(words.STATUS_WORDS)):
                self._states.pop((ref, status), None)
        self._told, self._over = self._over, []

    def settle(self) -> None:
        """State what the account has after the broker's turn, if that has changed."""
        if self.account is not None and self.account.is_due:
            self.account.settle(self.time)

    def end(self) -> None:
        """State what the account came to."""
        if self.account is not None:
            self.tell(self.account.close, self.time)

    def tell(self, method: Callable[..., None], *args: Any) -> None:
        """Call what reads the engine; what it fails at does not reach the host."""
        try:
            method(*args)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.run.tracer.complain(error)

    # -- Cash without a fill --------------------------------------------------------------------

    def interest_taken(self) -> None:
        """Record the interest that the broker has taken in this bar."""
        if self.account is not None:
            self.account.charge(self.time)

    def cash_taken(self, added: list[float], change: float) -> None:
        """Record money put in or taken out.

        Args:
            added: What the host has added, one by one.
            change: By how much the cash has changed; what is beyond, a history of the fund did.
        """
        if self.account is None:
            return
        for amount in added:
            self.account.transfer(amount, self.time)
        if self._cerebro.broker._fundhist:
            self.account.overwrite(change - sum(added), self.time)

    # -- The user's code ------------------------------------------------------------------------

    def handling(self, strategy: Any, name: str, given: tuple[Any, ...]) -> _UserMethod | None:
        """Give what the user's method runs in; None where it just runs.

        Args:
            strategy: Whose method it is.
            name: The method.
            given: What the engine calls it with.
        """
        key = (id(strategy), name)
        if self.running and self.running[-1] == key:
            return None  # it calls the one that it overrides
        try:
            words_of = self._handlers.get(key) or self._handler(strategy, name, key)
            return _UserMethod(self, key, self._body(words_of, strategy, name, given))
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.run.tracer.complain(error)
            return None

    def _handler(self, strategy: Any, name: str, key: tuple[int, str]) -> _Handler:
        """Look up once what the runs of a handler have in common."""
        feed = self._feeds.get(id(strategy.datas[0])) if name in _OF_A_BAR else None
        found = self._handlers[key] = _Handler(
            self._name_of(strategy),
            f"{type(strategy).__name__}.{name}",
            EventType.BAR if name in _OF_A_BAR else EventType.SYSTEM,
            NOWHERE if feed is None else feed.instrument,
        )
        return found

    def _body(
        self, words_of: _Handler, strategy: Any, name: str, given: tuple[Any, ...]
    ) -> AbstractContextManager[Any]:
        who, handler, kind, place = words_of
        cause: Cause | None = self._bar or self.run.market
        if name in {"start", "stop"}:
            return self.run.callback(who, handler, self.time)
        if name == "notify_order" and given:
            order = given[0]
            cause = self._states.get((order.ref, order.status)) or self.run.last_of(order.ref)
            has_filled = order.status in {words.PARTIAL, words.COMPLETED}
            kind = EventType.FILL if has_filled else EventType.ORDER
            place = self._place_of(order)
        elif name == "notify_trade" and given:
            data = given[0].data
            cause = self._fills.get((id(strategy), id(data))) or cause
            kind, place = EventType.FILL, self._place_of_data(data)
        return self.run.handling(
            who, handler, cause, event_type=kind, instrument=place, event_time=self.time
        )

    def failed(self, error: BaseException) -> None:
        """Record what the run fails with, unless the span of a handler says so already.

        It comes from what is no handler: how a strategy is made, an indicator, an analyzer, a
        sizer, a feed, or the engine itself.
        """
        if error is self.told_error:
            return
        found = failing_code(error, "backtrader")
        owner = None if found is None else found.owner
        code = self.run.callback(
            self._strategy_behind(owner), "Cerebro.run" if found is None else found.name, self.time
        )
        code.__enter__()
        code.__exit__(type(error), error, error.__traceback__)

    def _strategy_behind(self, part: Any) -> str | None:
        """The strategy that an indicator, an observer, an analyzer or a sizer is part of."""
        for _ in range(_DEEPEST_PART):
            if hasattr(part, "_orderspending"):
                return self._name_of(part)
            if part is None:
                break
            owner = getattr(part, "_owner", None)  # no `or`: the engine's parts mean prices by it
            part = getattr(part, "strategy", owner)
        return None

    def history_executed(self) -> AbstractContextManager[Any]:
        """Give what the broker makes the orders of a history in; nobody asks for them now."""
        return self.run.handling(
            None,
            "Cerebro.add_order_history",
            self._bar or self.run.market,
            event_type=EventType.SYSTEM,
            event_time=self.time,
        )

    def signals(self, strategy: Any) -> None:
        """Record the signals of a signal strategy that say something else than before."""
        target = self._place_of_data(strategy._dtarget)
        for kind, signals in strategy._signals.items():
            for signal in signals:
                value = float(signal[0])
                sign = (value > 0) - (value < 0)
                if sign == self._signs.get(id(signal), 0):
                    continue
                self._signs[id(signal)] = sign
                event = self.run.signal(
                    f"{type(signal).__name__} {words.SIGNAL_WORDS.get(kind, kind)}",
                    sign,
                    strength=value,
                    strategy=self._name_of(strategy),
                    instrument=target,
                    event_time=self.time,
                )
                if event is not None:
                    self._last_signal[id(strategy)] = event

    # -- Orders ---------------------------------------------------------------------------------

    def created(self, order: Any) -> None:
        """Record an order that was just made."""
        attributes = words.attributes_of_new(order)
        owner, feed = order.p.owner, self._feeds.get(id(order.p.data))
        if self.running and self.running[-1][1].endswith("_open"):
            attributes[semconv.Order.DECISION_PRICE] = order.p.data.open[0]
        own_bar = None if feed is None or feed.bar == self._bar else feed.bar
        self._order(order, words.CREATED, attributes, links=(own_bar, self._signal_of(owner)))

    def _signal_of(self, strategy: Any) -> OpenEvent | None:
        """The signal that a signal strategy gave last, maybe in an earlier bar."""
        return self._last_signal.get(id(strategy)) if self._last_signal else None

    def changed(self, order: Any, broker: Any) -> None:
        """Record the state that an order has come to, as the broker is about to tell it."""
        status, key = order.status, (order.ref, order.status)
        if status >= words.COMPLETED and self.account is not None:  # no live broker's late word
            self._over.append(order.ref)
        if status in {words.PARTIAL, words.COMPLETED}:
            self._states[key] = self.run.last_of(order.ref)
            return
        attributes: dict[str, Any] = {}
        cause = None
        links: tuple[Cause | None, ...] = ()
        if self.because and self.because[-1] != order.ref:
            cause = self.run.last_of(self.because[-1])
        if status == words.MARGIN:
            attributes[semconv.Order.REJECT_REASON] = "Margin: the account has too little cash"
        elif status == words.REJECTED:
            attributes[semconv.Order.REJECT_REASON] = "the broker refused the order"
        elif status not in {words.CANCELED, words.EXPIRED}:
            attributes[semconv.Order.LINKED_IDS] = _linked_ids(order, broker)
        if self.in_broker and status >= words.CANCELED:
            links = (self._bar_of(order),)
        asked = status == words.CANCELED and not self.in_broker and cause is None
        self._order(order, status, attributes, by_handler=asked, cause=cause, links=links)

    def _order(
        self,
        order: Any,
        status: int,
        attributes: dict[str, Any],
        *,
        by_handler: bool = False,
        cause: Cause | None = None,
        links: tuple[Cause | None, ...] = (),
    ) -> None:
        attributes.setdefault(semconv.Order.SIDE, words.side_of(order))
        attributes.setdefault(semconv.Order.TYPE, words.type_of(order))
        attributes.update(words.told_by_host(order))
        self._states[order.ref, status] = self.run.order(
            order.ref,
            words.STATUS_WORDS[status],
            strategy=self._name_of(order.p.owner),
            instrument=self._place_of(order),
            event_time=self.time,
            attributes=attributes,
            by_handler=by_handler,
            cause=cause,
            links=links,
        )

    # -- Fills ----------------------------------------------------------------------------------

    def executed(self, order: Any) -> None:
        """Record the execution that was just added to an order."""
        bit = order.executed.exbits[-1]
        data = _held_data(order)
        commission = bit.comm
        if self.account is not None:
            interest = self.account.interest_in_commission(data, bit.closed)
            if interest:
                commission = words.amount_of(bit.openedcomm + (bit.closedcomm - interest))
        scheme = self._cerebro.broker.getcommissioninfo(order.data)
        multiplier = scheme.p.mult
        name, place = self._name_of(order.p.owner), self._place_of(order)
        position = place.symbol
        is_over = not order.executed.remsize
        time = words.time_of(bit.dt) or self.time
        event = self.run.fill(
            order.ref,
            f"{order.ref}-{len(order.executed.exbits)}",
            "BUY" if bit.size > 0 else "SELL",
            abs(bit.size),
            bit.price,
            commission=commission,
            strategy=name,
            instrument=place,
            event_time=time,
            attributes={
                semconv.Position.ID: position,
                semconv.Order.TYPE: words.type_of(order),
                semconv.Order.STATUS: "FILLED" if is_over else "PARTIALLY_FILLED",
                semconv.Order.QUANTITY: abs(order.created.size),
                semconv.Order.TRIGGER_PRICE: words.trigger_of(order),
                semconv.Fill.MULTIPLIER: None if multiplier == 1 else multiplier,
                **words.told_by_host(order),
            },
            market=self._bar_of(order),
            opens=position if bit.opened and not bit.closed else None,
            closes=position if bit.closed else None,
        )
        self._fills[id(order.p.owner), id(order.data)] = event
        if self.account is not None:
            self.account.filled(event)
        self._position(bit, data, bit.comm - commission, name, place, time)

    def _position(
        self,
        bit: Any,
        data: Any,
        interest: float,
        strategy: str | None,
        place: Instrument,
        time: int | None,
    ) -> None:
        """Record what a fill made of the position: closed, opened, or both when it turned."""
        key = id(data)
        before = self._held.get(key, 0.0)
        after = self._cerebro.broker.getposition(data).size if self.account else bit.psize
        self._held[key] = after
        notional = bit.size * bit.price * self._cerebro.broker.getcommissioninfo(data).p.mult
        earned = words.profit_of(bit.pnl, notional)
        fee = words.number_meant(bit.closedcomm - interest)
        profit = self._cycle_profit.get(key, _NOTHING) + earned - fee
        has_turned = before * after < 0
        stages: list[tuple[str, float]] = []
        if before and (not after or has_turned):
            stages.append((EventType.POSITION_CLOSE, 0))
        if after and (not before or has_turned):
            stages.append((EventType.POSITION_OPEN, after))
        elif after:
            stages.append((EventType.POSITION_CHANGE, after))
        for kind, size in stages:
            if kind == EventType.POSITION_OPEN:
                profit = _NOTHING
            if size:
                profit -= words.number_meant(bit.openedcomm)
            self.run.position(
                kind,
                place.symbol,
                "FLAT" if not size else "LONG" if size > 0 else "SHORT",
                abs(size),
                strategy=strategy,
                instrument=place,
                event_time=time,
                attributes={
                    semconv.Position.AVERAGE_OPEN_PRICE: bit.pprice if size else None,
                    semconv.Position.REALIZED_PNL: profit,
                },
            )
        self._cycle_profit[key] = profit

    # -- What and who ---------------------------------------------------------------------------

    def _name_of(self, strategy: Any) -> str | None:
        if strategy is None:
            return None
        name = self._strategies.get(id(strategy))
        if name is None:
            self._strategies = words.strategy_names(self._cerebro.runningstrats)
            name = self._strategies.get(id(strategy), type(strategy).__name__)
        return name

    def _place_of(self, order: Any) -> Instrument:
        return self._place_of_data(_held_data(order))

    def _place_of_data(self, data: Any) -> Instrument:
        feed = self._feeds.get(id(data))
        return NOWHERE if feed is None else feed.instrument

    def _bar_of(self, order: Any) -> Handle | None:
        feed = self._feeds.get(id(order.p.data))
        return None if feed is None else feed.bar


def _held_data(order: Any) -> Any:
    """The feed whose position an order changes: the host may have one stand for another."""
    data = order.p.data
    return data if data._compensate is None else data._compensate


def _linked_ids(order: Any, broker: Any) -> list[str] | None:
    """The other legs of a bracket, or of a group of which one cancels the others."""
    with contextlib.suppress(AttributeError):  # a broker of another kind
        parent = order.p.parent
        bracket = broker._pchildren.get(order.ref if parent is None else parent.ref, ())
        group = broker._ocol.get(broker._ocos.get(order.ref), ())
        others = {one.ref for one in bracket} | set(group)
        others.discard(order.ref)
        return [str(ref) for ref in sorted(others)] or None
    return None
