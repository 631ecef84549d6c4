"""Attaches fillpath to backtesting.py without a change to the user's code."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, ClassVar, Final

from fillpath.instrumentation.backtesting_market import symbol_of
from fillpath.instrumentation.backtesting_record import BacktestRecord
from fillpath.instrumentation.backtesting_warnings import WarningsOfTheHost
from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.kept_parameters import kept, may_be_secret
from fillpath.instrumentation.patches import Patches

_MODULE: Final = "backtesting.backtesting"
_SYMBOL: Final = "_fillpath_symbol"
_NEAR: Final = 8
"""Frames within which the broker's loop over its orders is found."""
_DROPPED: Final = "Broker canceled the "

_Function = Callable[..., Any]


class BacktestingInstrumentor(EngineInstrumentor):
    """Traces every `Backtest.run` from now on, also of backtests that were made before."""

    engine = "backtesting.py"
    distribution = "backtesting"
    tested = ">=0.6,<0.7"
    trigger = "backtesting"
    probes: ClassVar = {
        _MODULE: (
            "Backtest.run",
            "Backtest.optimize",
            "Order.__init__",
            "Order.cancel",
            "Order.is_contingent",
            "Strategy.__init__",
            "Trade.close",
            "Trade._sl_order",
            "Trade._tp_order",
            "_Broker.__init__",
            "_Broker.new_order",
            "_Broker.next",
            "_Broker._process_orders",
            "_Broker._open_trade",
            "_Broker._reduce_trade",
            "_Broker._close_trade",
            "_OutOfMoneyError",
            "warnings",
        ),
        "backtesting.lib": ("SignalStrategy.next", "SignalStrategy.set_signal"),
    }

    def attach(self, patches: Patches) -> None:
        """Patch the engine.

        Raises:
            LookupError: When the broker's loop does not name the order that it is about.
        """
        engine: Any = sys.modules[_MODULE]
        broker = engine._Broker
        self._records: dict[int, BacktestRecord] = {}
        self._starting = threading.local()
        self._loop: CodeType = broker._process_orders.__code__
        self._run: CodeType = engine.Backtest.run.__code__
        if not {"order", "size"} <= set(self._loop.co_varnames):
            raise LookupError(f"{_MODULE}._Broker._process_orders is built otherwise")
        signals = importlib.import_module("backtesting.lib").SignalStrategy
        self._signals: CodeType = signals.next.__code__
        for owner, wrappers in {
            engine.Backtest: {"run": self._around_run, "optimize": self._around_optimize},
            engine.Strategy: {"__init__": self._around_strategy},
            engine.Order: {"__init__": self._around_order, "cancel": self._around_cancel},
            broker: {
                "__init__": self._around_broker,
                "new_order": self._around_new_order,
                "next": self._around_bar,
                "_open_trade": self._around_open,
                "_reduce_trade": self._around_reduce,
                "_close_trade": self._around_close,
            },
            signals: {"next": self._around_signals},
        }.items():
            for name, wrapper in wrappers.items():
                patches.wrap(owner, name, wrapper)
        patches.replace(engine, "warnings", WarningsOfTheHost(engine.warnings, self._heard))

    # -- A run ----------------------------------------------------------------------------------

    def _around_run(self, original: _Function) -> _Function:
        def run(backtest: Any, *args: Any, **kwargs: Any) -> Any:
            with self.recorded_run(parameters=_parameters(backtest, kwargs)) as found:
                record = None
                if found is not None:
                    with found.tracer.guarded():
                        record = BacktestRecord(found, backtest, vars(backtest).get(_SYMBOL))
                if record is None:
                    return original(backtest, *args, **kwargs)
                with self._started(record):
                    return original(backtest, *args, **kwargs)

        return run

    @contextmanager
    def _started(self, record: BacktestRecord) -> Iterator[None]:
        """Have the next broker that is made in this thread be the record's, and end it at last."""
        around = getattr(self._starting, "record", None)
        self._starting.record = record
        try:
            yield
        except BaseException as error:
            record.end(error)
            raise
        else:
            record.end(None)
        finally:
            self._starting.record = around
            self._records.pop(id(record.broker), None)

    def _around_optimize(self, original: _Function) -> _Function:
        """Have the copies that are sent to the workers know the symbol; their data forget it."""

        def optimize(backtest: Any, *args: Any, **kwargs: Any) -> Any:
            symbol = symbol_of(backtest)
            if symbol is None:
                return original(backtest, *args, **kwargs)
            vars(backtest)[_SYMBOL] = symbol
            try:
                return original(backtest, *args, **kwargs)
            finally:
                vars(backtest).pop(_SYMBOL, None)

        return optimize

    def _around_broker(self, original: _Function) -> _Function:
        def init(broker: Any, *args: Any, **kwargs: Any) -> None:
            original(broker, *args, **kwargs)
            record = getattr(self._starting, "record", None)
            if record is not None:
                self._starting.record = None
                self._records[id(broker)] = record
                record.begin(broker)

        return init

    def _around_strategy(self, original: _Function) -> _Function:
        def init(strategy: Any, broker: Any, *args: Any, **kwargs: Any) -> None:
            original(strategy, broker, *args, **kwargs)
            record = self._records.get(id(broker))
            if record is not None:
                record.begin_init(strategy)

        return init

    def _around_bar(self, original: _Function) -> _Function:
        ruined = sys.modules[_MODULE]._OutOfMoneyError

        def next_(broker: Any) -> None:
            record = self._records.get(id(broker))
            if record is None:
                original(broker)
                return
            record.begin_bar()
            try:
                original(broker)
            except ruined:
                record.ruined()
                raise
            record.begin_next()

        return next_

    def _around_signals(self, original: _Function) -> _Function:
        def next_(strategy: Any) -> None:
            record = self._records.get(id(strategy._broker))
            if record is not None:
                record.read_signals(strategy)
            original(strategy)

        return next_

    # -- Orders ---------------------------------------------------------------------------------

    def _around_new_order(self, original: _Function) -> _Function:
        def new_order(broker: Any, *args: Any, **kwargs: Any) -> Any:
            record = self._records.get(id(broker))
            if record is None:
                return original(broker, *args, **kwargs)
            around, record.placing = record.placing, None
            try:
                return original(broker, *args, **kwargs)
            finally:
                record.placing = around

        return new_order

    def _around_order(self, original: _Function) -> _Function:
        def init(order: Any, broker: Any, *args: Any, **kwargs: Any) -> None:
            original(order, broker, *args, **kwargs)
            record = self._records.get(id(broker))
            if record is None:
                return
            frame = sys._getframe(1)
            if order.parent_trade is not None and _is_near(frame, self._run, 1):
                record.begin_finalizing()
            record.placed(order, by_signal=self._is_signal(frame))

        return init

    def _is_signal(self, frame: FrameType | None) -> bool:
        """Whether the library's strategy of signals asks for an order, and no other `next` does."""
        for _ in range(_NEAR):
            if frame is None or frame.f_code.co_name == "next":
                break
            frame = frame.f_back
        return frame is not None and frame.f_code is self._signals

    def _around_cancel(self, original: _Function) -> _Function:
        def cancel(order: Any) -> None:
            original(order)
            record = self._records.get(id(order._Order__broker))
            if record is not None:
                record.cancelled(order)

        return cancel

    def _heard(self, message: Any, frame: FrameType) -> None:
        """Take what the engine warns of: that is how it tells that it drops an order."""
        if frame.f_code is self._loop and _DROPPED in str(message):
            known = frame.f_locals
            record = self._records.get(id(known.get("self")))
            if record is not None:
                record.dropped(known.get("order"), str(message))

    # -- Fills ----------------------------------------------------------------------------------

    def _around_open(self, original: _Function) -> _Function:
        def open_trade(broker: Any, price: Any, size: Any, *args: Any, **kwargs: Any) -> None:
            record = self._records.get(id(broker))
            if record is None:
                original(broker, price, size, *args, **kwargs)
                return
            with record.opening(*self._in_hand()):
                original(broker, price, size, *args, **kwargs)

        return open_trade

    def _around_reduce(self, original: _Function) -> _Function:
        def reduce_trade(broker: Any, trade: Any, *args: Any, **kwargs: Any) -> None:
            record = self._records.get(id(broker))
            if record is None:
                original(broker, trade, *args, **kwargs)
                return
            with record.reducing(trade):
                original(broker, trade, *args, **kwargs)

        return reduce_trade

    def _around_close(self, original: _Function) -> _Function:
        def close_trade(
            broker: Any, trade: Any, price: Any, time_index: Any, *args: Any, **kwargs: Any
        ) -> None:
            record = self._records.get(id(broker))
            if record is None:
                original(broker, trade, price, time_index, *args, **kwargs)
                return
            with record.closing(trade, *self._in_hand()):
                original(broker, trade, price, time_index, *args, **kwargs)

        return close_trade

    def _in_hand(self) -> tuple[Any, Any]:
        """The order that the broker is filling, and its size in units; None outside of its loop."""
        frame = _near(sys._getframe(2), self._loop, _NEAR)
        if frame is None:
            return None, None
        known = frame.f_locals
        return known.get("order"), known.get("size")


def _parameters(backtest: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the strategy runs with: the plain attributes of its class, and those given to `run`."""
    try:
        strategy = sys.modules[_MODULE].Strategy
        own = [kind for kind in backtest._strategy.__mro__ if kind not in strategy.__mro__]
        found = kept(pair for kind in reversed(own) for pair in vars(kind).items())
    except Exception:  # noqa: BLE001 - parameters that cannot be read are none
        found = {}
    return found | {name: value for name, value in given.items() if not may_be_secret(name)}


def _near(frame: FrameType | None, code: CodeType, most: int) -> FrameType | None:
    """The nearest frame that runs this code, at most so many further out."""
    while frame is not None and most >= 0:
        if frame.f_code is code:
            return frame
        frame, most = frame.f_back, most - 1
    return None


def _is_near(frame: FrameType | None, code: CodeType, most: int) -> bool:
    return _near(frame, code, most) is not None
