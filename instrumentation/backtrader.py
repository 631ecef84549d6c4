"""Attaches fillpath to backtrader without a change to the user's code."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from fillpath.instrumentation import backtrader_words as words
from fillpath.instrumentation.backtrader_run import HANDLERS, BacktraderRun
from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.tracing import Tracing

_Function = Callable[..., Any]


class BacktraderInstrumentor(EngineInstrumentor):
    """Traces every run of a `Cerebro` that begins from now on, whenever that was built.

    What the user's strategies override is wrapped on their classes, never on their instances, which
    an optimisation sends between processes; and only while an engine runs, because classes are sent
    too (joblib does), and those of a loop that makes its own each time are to pass away.
    """

    engine = "backtrader"
    distribution = "backtrader"
    tested = ">=1.9.78,<1.10"
    trigger = "backtrader"
    probes: ClassVar = {
        "backtrader": ("CommInfoBase.cashadjust", "Cerebro", "Strategy"),
        "backtrader.cerebro": (
            "Cerebro.runstrategies",
            "Cerebro._check_timers",
            "Cerebro._brokernotify",
        ),
        "backtrader.order": ("OrderBase.execute", "OrderBase.clone"),
        "backtrader.brokers.bbroker": (
            "BackBroker.next",
            "BackBroker.notify",
            "BackBroker._bracketize",
            "BackBroker._ococheck",
            "BackBroker._process_order_history",
            "BackBroker._get_value",
            "BackBroker.add_cash",
            "BackBroker.set_cash",
        ),
        "backtrader.strategy": (
            "Strategy._start",
            "Strategy._addnotification",
            "SignalStrategy._next_signal",
        ),
    }

    _following: dict[int, BacktraderRun]
    _classes: Patches
    _wrapped: set[tuple[type, str]]

    def attach(self, patches: Patches) -> None:
        """Follow the engine's runs, its broker, its orders and the user's methods."""
        engine: Any = sys.modules["backtrader"]
        broker: Any = sys.modules["backtrader.brokers.bbroker"].BackBroker
        order: Any = sys.modules["backtrader.order"].OrderBase
        self._following = {}
        self._classes = patches.part()
        self._wrapped = set()
        cerebro, strategy = engine.Cerebro, engine.Strategy
        patches.wrap(cerebro, "runstrategies", self._recording(engine))
        patches.wrap(cerebro, "_check_timers", self._before_timers)
        patches.wrap(cerebro, "_brokernotify", self._before_broker)
        patches.wrap(strategy, "_start", self._wrapping_handlers(strategy.__mro__))
        patches.wrap(strategy, "_addnotification", self._told_by_other_broker(broker))
        patches.wrap(engine.SignalStrategy, "_next_signal", self._giving_signals)
        patches.wrap(order, "__init__", self._creating)
        patches.wrap(order, "execute", self._executing)
        patches.wrap(broker, "next", self._broker_working)
        patches.wrap(broker, "notify", self._notifying)
        patches.wrap(broker, "_bracketize", self._changing_linked)
        patches.wrap(broker, "_ococheck", self._changing_linked)
        patches.wrap(broker, "_process_order_history", self._executing_history)
        patches.wrap(broker, "_get_value", self._taking_cash)
        patches.wrap(broker, "add_cash", self._asking_for_cash)
        patches.wrap(broker, "set_cash", self._setting_cash)
        patches.wrap(broker, "setcash", self._setting_cash)

    def _of(self, cerebro: Any) -> BacktraderRun | None:
        """Give the run that an engine is in, if that is recorded."""
        return self._following.get(id(cerebro))

    # -- Runs and bars --------------------------------------------------------------------------

    def _recording(self, engine: Any) -> Callable[[_Function], _Function]:
        simulated, scheme = engine.brokers.BackBroker, engine.CommInfoBase

        def make(original: _Function) -> _Function:
            def runstrategies(cerebro: Any, iterstrat: Any, *args: Any, **kwargs: Any) -> Any:
                with self.recorded_run(parameters=_parameters(iterstrat)) as run:
                    if run is None:
                        return original(cerebro, iterstrat, *args, **kwargs)
                    try:
                        own_scheme = scheme if isinstance(cerebro.broker, simulated) else None
                        following = BacktraderRun(run, cerebro, own_scheme)
                    except Exception as error:  # noqa: BLE001 - the host's run must not fail of us
                        run.tracer.complain(error)
                        return original(cerebro, iterstrat, *args, **kwargs)
                    self._begin_following(cerebro, following)
                    try:
                        return original(cerebro, iterstrat, *args, **kwargs)
                    except BaseException as error:
                        following.tell(following.failed, error)
                        raise
                    finally:
                        self._end_following(cerebro)
                        following.end()

            return runstrategies

        return make

    def _begin_following(self, cerebro: Any, following: BacktraderRun) -> None:
        with Tracing._lock:
            self._following[id(cerebro)] = following

    def _end_following(self, cerebro: Any) -> None:
        with Tracing._lock:
            self._following.pop(id(cerebro), None)
            if not self._following:
                self._classes.undo()
                self._wrapped.clear()

    def _before_timers(self, original: _Function) -> _Function:
        def _check_timers(cerebro: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._of(cerebro)
            if run is not None and kwargs.get("cheat"):  # those that are first in a bar
                run.tell(run.advance)
                run.is_ahead = True
            return original(cerebro, *args, **kwargs)

        return _check_timers

    def _before_broker(self, original: _Function) -> _Function:
        def _brokernotify(cerebro: Any) -> Any:
            run = self._of(cerebro)
            if run is not None:
                if not run.is_ahead:
                    run.tell(run.advance)
                run.is_ahead = False
            return original(cerebro)

        return _brokernotify

    # -- The user's code ------------------------------------------------------------------------

    def _wrapping_handlers(self, bases: tuple[type, ...]) -> Callable[[_Function], _Function]:
        def make(original: _Function) -> _Function:
            def _start(strategy: Any) -> Any:
                run = self._of(strategy.cerebro)
                if run is not None:
                    run.tell(self._wrap_handlers, type(strategy), bases)
                return original(strategy)

            return _start

        return make

    def _wrap_handlers(self, kind: type, bases: tuple[type, ...]) -> None:
        """Wrap what a class of strategies does not just inherit from the engine's bases."""
        with Tracing._lock:
            for name in HANDLERS:
                owner = next((one for one in kind.__mro__ if name in vars(one)), object)
                if owner in bases or owner is object or (owner, name) in self._wrapped:
                    continue
                if inspect.isfunction(vars(owner)[name]):
                    self._wrapped.add((owner, name))
                    self._classes.wrap(owner, name, self._handler(name))

    def _handler(self, name: str) -> Callable[[_Function], _Function]:
        def make(original: _Function) -> _Function:
            def handler(strategy: Any, *args: Any, **kwargs: Any) -> Any:
                run = self._of(getattr(strategy, "cerebro", None))
                body = None if run is None else run.handling(strategy, name, args)
                if body is None:
                    return original(strategy, *args, **kwargs)
                with body:
                    return original(strategy, *args, **kwargs)

            return handler

        return make

    def _giving_signals(self, original: _Function) -> _Function:
        def _next_signal(strategy: Any) -> Any:
            run = self._of(strategy.cerebro)
            if run is not None:
                run.tell(run.signals, strategy)
            return original(strategy)

        return _next_signal

    # -- Orders ---------------------------------------------------------------------------------

    def _of_order(self, order: Any) -> BacktraderRun | None:
        if not self._following:
            return None
        owner = order.p.owner
        return self._of(order.p.data._env if owner is None else owner.cerebro)

    def _creating(self, original: _Function) -> _Function:
        def __init__(order: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it stands in for one
            original(order, *args, **kwargs)
            run = self._of_order(order)
            if run is not None:
                run.tell(run.created, order)

        return __init__

    def _executing(self, original: _Function) -> _Function:
        def execute(order: Any, *args: Any, **kwargs: Any) -> Any:
            before = len(order.executed.exbits)
            result = original(order, *args, **kwargs)
            run = self._of_order(order)
            if run is not None and len(order.executed.exbits) > before:
                run.tell(run.executed, order)
            return result

        return execute

    def _notifying(self, original: _Function) -> _Function:
        def notify(broker: Any, order: Any) -> Any:
            run = self._of(broker.cerebro)
            if run is not None:
                run.tell(run.changed, order, broker)
            return original(broker, order)

        return notify

    def _told_by_other_broker(self, simulated: type) -> Callable[[_Function], _Function]:
        """Take the states of orders from what the engine tells strategies, with a real broker."""

        def make(original: _Function) -> _Function:
            def _addnotification(strategy: Any, order: Any, *args: Any, **kwargs: Any) -> Any:
                run = self._of(strategy.cerebro)
                if run is not None and not isinstance(strategy.broker, simulated):
                    run.tell(run.changed, order, strategy.broker)
                return original(strategy, order, *args, **kwargs)

            return _addnotification

        return make

    def _changing_linked(self, original: _Function) -> _Function:
        def method(broker: Any, order: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._of(broker.cerebro)
            if run is None:
                return original(broker, order, *args, **kwargs)
            run.because.append(order.ref)
            try:
                return original(broker, order, *args, **kwargs)
            finally:
                run.because.pop()

        return method

    # -- The broker's turn, and its cash --------------------------------------------------------

    def _broker_working(self, original: _Function) -> _Function:
        def next_(broker: Any) -> Any:
            run = self._of(broker.cerebro)
            if run is None:
                return original(broker)
            run.in_broker = True
            try:
                return original(broker)
            finally:
                run.in_broker = False
                if run.account is not None and run.account.is_due:
                    run.tell(run.settle)

        return next_

    def _executing_history(self, original: _Function) -> _Function:
        def _process_order_history(broker: Any) -> Any:
            run = self._of(broker.cerebro)
            if run is None:
                return original(broker)
            if broker.d_credit:
                run.tell(run.interest_taken)
            if not broker._userhist:
                return original(broker)
            with run.history_executed():
                return original(broker)

        return _process_order_history

    def _taking_cash(self, original: _Function) -> _Function:
        def _get_value(broker: Any, *args: Any, **kwargs: Any) -> Any:
            if not (broker._cash_addition or broker._fundhist):
                return original(broker, *args, **kwargs)
            run = self._of(broker.cerebro)
            if run is None:
                return original(broker, *args, **kwargs)
            added, before = list(broker._cash_addition), broker.cash
            result = original(broker, *args, **kwargs)
            run.tell(run.cash_taken, added, broker.cash - before)
            return result

        return _get_value

    def _asking_for_cash(self, original: _Function) -> _Function:
        def add_cash(broker: Any, cash: float) -> Any:
            run = self._of(broker.cerebro)
            if run is not None and run.account is not None:
                run.account.ask()
            return original(broker, cash)

        return add_cash

    def _setting_cash(self, original: _Function) -> _Function:
        def set_cash(broker: Any, cash: float) -> Any:
            run, before = self._of(broker.cerebro), broker.cash
            result = original(broker, cash)
            if run is not None:
                run.tell(run.cash_taken, [broker.cash - before], broker.cash - before)
            return result

        return set_cash


def _parameters(iterstrat: Any) -> dict[str, Any]:
    try:
        return words.parameters_of(iterstrat)
    except Exception:  # noqa: BLE001 - parameters that cannot be read are none
        return {}
