"""Records one backtest of backtesting.py: its bars, the user's code, its beginning and end."""

from __future__ import annotations

from typing import Any, Final

from fillpath.instrumentation.backtesting_broker import BrokerRecord
from fillpath.instrumentation.engine_handlers import Callback, Handling
from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.while_recording import while_recording

_WRITE_OFF: Final = "WRITE_OFF"
_PLACES: Final = 9
"""Decimal places to which a balance in doubles is compared."""


class BacktestRecord(BrokerRecord):
    """The record of one `Backtest.run`."""

    def __init__(self, run: EngineRun, backtest: Any, symbol: str | None) -> None:
        super().__init__(run, backtest, symbol)
        self._handler = f"{self._strategy}.next"
        self._code: Callback | Handling | None = None  # the user's code that runs

    @while_recording
    def begin(self, broker: Any) -> None:
        """Take the broker, which has just been made."""
        self.broker = broker
        self._state(None, self._market.time(0))

    @while_recording
    def begin_init(self, strategy: Any) -> None:
        """The strategy has been made; its `init` is next."""
        self._strategy = type(strategy).__name__
        self._handler = f"{self._strategy}.next"
        self._enter(self.run.callback(self._strategy, f"{self._strategy}.init"))

    @while_recording
    def begin_bar(self) -> None:
        """The broker is to handle a bar; the last one again when the engine finalizes trades."""
        self._leave(None)
        data = self.broker._data
        index = len(data) - 1
        if index == self._index:
            return
        bar = self._market.bar(data, index)
        self._bar_before, self._index, self._time = self._bar, index, bar[0]
        self._bar = self.run.bar(self._market.instrument, *bar)

    @while_recording
    def begin_next(self) -> None:
        """The broker has handled a bar; the strategy's `next` is to run."""
        if self._orders:
            self._settle_orders()
        if self._is_finalizing:
            return
        self._enter(
            self.run.handling(
                self._strategy,
                self._handler,
                self._bar,
                instrument=self._market.instrument,
                event_time=self._time,
            )
        )

    @while_recording
    def begin_finalizing(self) -> None:
        """The engine itself closes what is open, after the last `next`."""
        if not self._is_finalizing:
            self._is_finalizing = True
            self._leave(None)
            self._enter(self.run.callback(None, "Backtest.finalize_trades", self._time))

    @while_recording
    def ruined(self) -> None:
        """Nothing is left; the engine has closed trades and set the cash to nothing.

        It passes over every other trade then, and states an equity of nothing all the same. What
        was lost beyond the cash is a cash flow, so that the equity by the spans is nothing, too.
        """
        self._breach = self._breach or self._breach_of_limit()
        left = round(self._unrealized(), _PLACES)
        equity = round(round(self._stated, _PLACES) + left, _PLACES)
        if equity:
            self.run.cash_flow(
                _WRITE_OFF,
                -equity,
                currency=self._market.currency,
                instrument=self._market.instrument,
                event_time=self._time,
                cause=self._breach,
            )
        self._state(self._breach, self._time, balance=-left if left else 0.0, unrealized=left)
        self._is_finalizing = True

    def end(self, error: BaseException | None) -> None:
        """End the record of the run.

        Args:
            error: What the run failed with. It is recorded on the user's code that it came from.
        """
        if error is not None and self._code is None and self.broker is not None:
            self._enter(self.run.callback(self._strategy, "Backtest.run", self._time))
        self._leave(error)
        if self.broker is not None and self._breach is None:
            self._end_statement()

    @while_recording
    def _end_statement(self) -> None:
        self._settle_orders()
        unrealized = self._unrealized() if self._index >= 0 else 0.0
        self._state(None, self._time, unrealized=unrealized)

    def _enter(self, code: Callback | Handling) -> None:
        code.__enter__()
        self._code = code

    def _leave(self, error: BaseException | None) -> None:
        code, self._code = self._code, None
        if code is not None:
            kind = None if error is None else type(error)
            code.__exit__(kind, error, None if error is None else error.__traceback__)
