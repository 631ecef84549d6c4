"""What all of the record of a backtest of backtesting.py needs: where it is, and what it has."""

from __future__ import annotations

from typing import Any, Final

from fillpath.instrumentation.backtesting_market import Market
from fillpath.instrumentation.backtesting_orders import Held, places_of
from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.open_event import Handle, OpenEvent
from fillpath.instrumentation.semconv import EventType, Risk
from fillpath.instrumentation.while_recording import while_recording

_RUIN: Final = "out_of_money"


class AccountRecord:
    """Where a backtest is, and the cash that its broker states.

    Args:
        run: Takes the events.
        backtest: The engine's.
        symbol: What the instrument is called, if the data do not say it.

    Attributes:
        run: Takes the events.
        broker: The engine's broker, once it is made.
    """

    def __init__(self, run: EngineRun, backtest: Any, symbol: str | None) -> None:
        self.run = run
        self.broker: Any = None
        self._market = Market(backtest, symbol)
        self._strategy = backtest._strategy.__name__
        self._index = -1
        self._time: int | None = None
        self._bar: Handle | None = None
        self._bar_before: Handle | None = None
        self._breach: OpenEvent | None = None
        self._stated = 0.0  # the cash of the latest statement
        self._numbers = {"O": 0, "F": 0, "T": 0}

    def _breach_of_limit(self) -> OpenEvent | None:
        return self.run.event(
            EventType.RISK_BREACH,
            strategy=self._strategy,
            instrument=self._market.instrument,
            event_time=self._time,
            attributes={
                Risk.RULE: _RUIN,
                Risk.LIMIT: 0,
                Risk.VALUE: float(self.broker._equity[self._index]),
            },
        )

    @property
    def _cash(self) -> float:
        return float(self.broker._cash)

    def _unrealized(self) -> float:
        """Profit of what is open, as the broker reckons it; without its cache, which is its own."""
        trades = self.broker.trades
        if not trades:
            return 0.0
        held = sum(int(trade.size) for trade in trades)
        paid = sum(trade.size * trade.entry_price for trade in trades)
        unrealized = float(self.broker.last_price * held - paid)
        return round(unrealized, min(map(places_of, trades)))

    @while_recording
    def _state_after(self, held: Held | None) -> None:
        self._state(None if held is None else held.last, self._time)

    def _state(
        self,
        cause: OpenEvent | None,
        event_time: int | None,
        *,
        balance: float | None = None,
        unrealized: float | None = None,
    ) -> None:
        self._stated = self._cash if balance is None else balance
        self.run.statement(
            {self._market.currency: self._stated},
            account_type="MARGIN",
            unrealized=unrealized,
            event_time=event_time,
            cause=cause,
        )

    def _next(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"
