"""Records one run of a zipline algorithm: its functions, its targets, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.engine_run import NOWHERE, EngineRun
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.zipline_account import ZiplineAccount, plain
from fillpath.instrumentation.zipline_bars import ZiplineBars
from fillpath.instrumentation.zipline_listening import ZiplineListening
from fillpath.instrumentation.zipline_names import handler_of, has_own, name_of, strategy_of
from fillpath.instrumentation.zipline_orders import ZiplineOrders

_TARGETS: Final = {
    "order_target": "target",
    "order_target_value": "target_value",
    "order_target_percent": "target_percent",
}
"""By method, the name of the signal that it is."""
_LIMITS: Final = ("max_shares", "max_notional", "max_count", "max_leverage", "min_leverage")


class ZiplineRun:
    """The record of one run of an algorithm.

    Args:
        run: Takes the events.
        algorithm: The engine's `TradingAlgorithm`, or a class of the user's that is one.

    Attributes:
        run: Takes the events.
        algorithm: The algorithm.
        strategy: Its name.
        listening: Hears the engine's objects.
        bars: Records prices.
        orders: Records orders.
    """

    def __init__(self, run: EngineRun, algorithm: Any) -> None:
        self.run = run
        self.algorithm = algorithm
        self.strategy = strategy_of(algorithm)
        self.listening = ZiplineListening(run)
        self.bars = ZiplineBars(run, algorithm)
        self._account: ZiplineAccount | None = None
        self.listening.listen(algorithm, "_create_metrics_tracker", after=self._follow)
        for function in ("initialize", "analyze"):
            self.listening.surround(algorithm, function, self._call_back(function))
        if has_own(algorithm, "before_trading_start"):
            self.listening.surround(algorithm, "before_trading_start", self._before_trading)
        for method in ("symbol", "sid", "future_symbol"):
            self.listening.listen(algorithm, method, after=self._looked_up)
        for method, name in _TARGETS.items():
            self.listening.surround(algorithm, method, self._target(name))
        self.orders = ZiplineOrders(self)

    @property
    def time(self) -> int | None:
        """Simulated time, ns; None before it runs."""
        now = getattr(self.algorithm, "datetime", None)
        return None if now is None else int(now.value)

    def stop(self) -> None:
        """Take no more; what the engine has now is recorded last."""
        if self._account is not None:
            self.listening.quietly(self._account.state_changes)
        self.listening.stop()

    # -- The user's code ------------------------------------------------------------------------

    def handling(self, callback: Any) -> AbstractContextManager[Any]:
        """Run a function of the algorithm's as the handling of this moment's bars."""
        if self._account is not None:
            self.listening.quietly(self._account.state_changes)
        return self.run.handling(
            self.strategy,
            self.listening.quietly(handler_of, self.algorithm, callback) or name_of(callback),
            self.bars.cause,
            instrument=self.bars.instrument,
            event_time=self.time,
            links=self.bars.links,
        )

    def housekeeping(self, handler: str) -> AbstractContextManager[Any] | None:
        """Run what the engine does by itself between two sessions; None if there is nothing."""
        if not self.orders.assets and (self._account is None or not self._account.assets):
            return None
        return self.run.handling(
            None, handler, self.run.market, event_type=EventType.SYSTEM, event_time=self.time
        )

    def begin_moment(self) -> None:
        """Record the bars that have come."""
        if self._account is not None and self.time is not None:
            self.bars.begin(self.time, self._account.assets, self.orders.assets)

    def breach(self, control: Any, amount: Any = None, asset: Any = None) -> None:
        """Record that one of the algorithm's controls says no, or has said so."""
        limits = (getattr(control, name, None) for name in _LIMITS)
        self.run.event(
            EventType.RISK_BREACH,
            strategy=self.strategy,
            event_time=self.time,
            instrument=NOWHERE if asset is None else self.bars.instrument_of(asset),
            attributes={
                semconv.Risk.RULE: type(control).__name__,
                semconv.Risk.LIMIT: next((plain(one) for one in limits if one is not None), None),
                semconv.Risk.VALUE: None if amount is None else plain(amount),
            },
        )

    def _call_back(self, name: str) -> Any:
        return lambda *_, **__: self.run.callback(self.strategy, name, self.time)

    def _before_trading(self, *_: Any) -> AbstractContextManager[Any]:
        return self.run.handling(
            self.strategy,
            "before_trading_start",
            self.run.market,
            event_type=EventType.SYSTEM,
            event_time=self.time,
        )

    def _target(self, name: str) -> Any:
        """Make a target what the orders follow from that it leads to."""

        @contextmanager
        def targeted(asset: Any, target: Any, *_: Any, **__: Any) -> Iterator[None]:
            self.orders.target = self.listening.quietly(self._signal, name, asset, target)
            try:
                yield
            finally:
                self.orders.target = None

        return targeted

    def _signal(self, name: str, asset: Any, target: Any) -> Any:
        value = plain(target)
        return self.run.event(
            EventType.SIGNAL,
            strategy=self.strategy,
            instrument=self.bars.instrument_of(asset),
            event_time=self.time,
            attributes={
                semconv.Signal.NAME: name,
                semconv.Signal.VALUE: value,
                semconv.Signal.STRENGTH: float(value),
            },
        )

    def _looked_up(self, asset: Any, *_: Any, **__: Any) -> None:
        self.bars.look_up([asset])

    def _follow(self, tracker: Any, *_: Any) -> None:
        """Follow the account, which the engine has just opened."""
        self._account = ZiplineAccount(self, tracker)
