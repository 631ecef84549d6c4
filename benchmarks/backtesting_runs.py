"""backtesting.py's backtests for the benchmark of engines: untraced, traced, with spans of the SDK.

The crossing of two averages, over all the prices of a share that ship with the engine. The peer
opens a span for every bar, order, fill, trade and change of the cash, with the same attributes but
without its cause.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

os.environ["TQDM_DISABLE"] = "1"  # read on import; the engine would draw a bar for every run

from backtesting import Backtest, Strategy, backtesting
from backtesting.lib import crossover
from backtesting.test import GOOG, SMA
from opentelemetry.trace import SpanKind

from engine_variants import Prepared, engine_variants
from fillpath.instrumentation.backtesting import BacktestingInstrumentor
from fillpath.instrumentation.semconv import (
    PUBLISH,
    Account,
    Bar,
    Event,
    EventType,
    Fill,
    Order,
    Position,
    Trading,
    span_name,
)
from harness import Size

_SYMBOL: Final = "GOOG"
_PRICES: Final = (
    (Bar.OPEN, "Open"),
    (Bar.HIGH, "High"),
    (Bar.LOW, "Low"),
    (Bar.CLOSE, "Close"),
    (Bar.VOLUME, "Volume"),
)


class _Crossing(Strategy):
    fast, slow = 5, 20

    def init(self) -> None:
        self.quick = self.I(SMA, self.data.Close, self.fast)
        self.calm = self.I(SMA, self.data.Close, self.slow)

    def next(self) -> None:
        if crossover(self.quick, self.calm):
            self.position.close()
            self.buy(size=5, sl=0.9 * self.data.Close[-1])
        elif crossover(self.calm, self.quick):
            self.position.close()


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtests, for `harness.alternate`.

    Args:
        size: How many bars, how often.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    bars = size.pick(100, len(GOOG), len(GOOG))
    times = size.pick(1, 3, 12)

    return engine_variants(
        BacktestingInstrumentor,
        lambda: _ready(bars, times),
        _spans,
        lambda: times * (bars - _Crossing.slow),
        events,
        spans,
    )


def _ready(bars: int, times: int) -> Callable[[], int]:
    backtest = Backtest(GOOG.iloc[:bars], _Crossing, commission=0.001)

    def work() -> int:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Some trades remain open")
            for _ in range(times):
                backtest.run()
        return 1

    return work


@contextmanager
def _spans(tracer: Any, counts: list[int]) -> Iterator[None]:
    """Patch the engine for a span of the SDK for whatever fillpath records."""
    made = 0

    def record(kind: str, broker: Any, about: dict[str, Any]) -> None:
        nonlocal made
        made += 1
        time = int(broker._data.index[-1].value)
        attributes = {Event.TYPE: kind, Event.TIME: time, Trading.SYMBOL: _SYMBOL, **about}
        name = span_name(PUBLISH, kind)
        tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()

    broker_type, order_type = backtesting._Broker, backtesting.Order
    next_bar, new_order = broker_type.next, order_type.__init__
    open_trade, close_trade = broker_type._open_trade, broker_type._close_trade

    def bar(broker: Any) -> None:
        prices = {key: float(broker._data[name][-1]) for key, name in _PRICES}
        record(EventType.BAR, broker, prices)
        next_bar(broker)

    def order(one: Any, broker: Any, *args: Any, **kwargs: Any) -> None:
        new_order(one, broker, *args, **kwargs)
        about = {Order.QUANTITY: float(one.size), Order.STATUS: "NEW", Order.CLIENT_ID: "O-1"}
        record(EventType.ORDER, broker, about)

    def filled(broker: Any, size: Any, price: Any, kind: str) -> None:
        about = {Fill.QUANTITY: abs(float(size)), Fill.PRICE: float(price), Fill.ID: "F-1"}
        record(EventType.FILL, broker, about)
        record(kind, broker, {Position.ID: "T-1", Position.QUANTITY: abs(float(size))})
        record(EventType.PORTFOLIO, broker, {Account.TYPE: "MARGIN"})

    def opened(broker: Any, price: Any, size: Any, *args: Any) -> None:
        open_trade(broker, price, size, *args)
        filled(broker, size, price, EventType.POSITION_OPEN)

    def closed(broker: Any, trade: Any, price: Any, *args: Any) -> None:
        close_trade(broker, trade, price, *args)
        filled(broker, trade.size, price, EventType.POSITION_CLOSE)

    patched = [
        (broker_type, "next", next_bar, bar),
        (order_type, "__init__", new_order, order),
        (broker_type, "_open_trade", open_trade, opened),
        (broker_type, "_close_trade", close_trade, closed),
    ]
    for owner, name, _, stand_in in patched:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, original, _ in patched:
            setattr(owner, name, original)
        counts.append(made)
