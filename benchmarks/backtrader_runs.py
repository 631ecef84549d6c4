"""backtrader's backtests for the benchmark of engines: untraced, traced, with spans of the SDK.

The crossing of two averages over hourly prices, with the observers that the engine has by default.
The peer opens a span for every bar, new order, state of an order, fill and change of the cash, with
the same attributes but without its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import backtrader as bt
from backtesting.test import EURUSD
from backtrader.brokers.bbroker import BackBroker
from backtrader.order import OrderBase
from opentelemetry.trace import SpanKind

from engine_variants import Prepared, engine_variants
from fillpath.instrumentation import BacktraderInstrumentor
from fillpath.instrumentation.semconv import (
    PUBLISH,
    Account,
    Bar,
    Event,
    EventType,
    Fill,
    Order,
    Trading,
    span_name,
)
from harness import Size

_SYMBOL: Final = "EURUSD"
_SIDES: Final = ("BUY", "SELL")


class _Crossing(bt.Strategy):
    def __init__(self) -> None:
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=40))

    def next(self) -> None:
        if self.cross[0] > 0:
            self.order_target_size(target=1_000)
        elif self.cross[0] < 0:
            self.order_target_size(target=-1_000)


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtest, for `harness.alternate`.

    Args:
        size: How many bars.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    bars = size.pick(200, 2_000, 5_000)

    return engine_variants(
        BacktraderInstrumentor,
        lambda: _ready(bars),
        _spans,
        lambda: bars,
        events,
        spans,
    )


def _ready(bars: int) -> Callable[[], int]:
    cerebro = bt.Cerebro()
    prices = bt.feeds.PandasData(
        dataname=EURUSD.iloc[:bars], timeframe=bt.TimeFrame.Minutes, compression=60
    )
    cerebro.adddata(prices, name=_SYMBOL)
    cerebro.addstrategy(_Crossing)
    cerebro.broker.set_cash(100_000)
    cerebro.broker.setcommission(commission=0.0001)

    def work() -> int:
        cerebro.run()
        return 1

    return work


@contextmanager
def _spans(tracer: Any, counts: list[int]) -> Iterator[None]:
    """Patch the engine for a span of the SDK for whatever fillpath records."""
    made = 0

    def record(kind: str, data: Any, about: dict[str, Any]) -> None:
        nonlocal made
        made += 1
        time = int((data.datetime[0] - 719_163) * 86_400_000_000) * 1_000
        attributes = {Event.TYPE: kind, Event.TIME: time, Trading.SYMBOL: _SYMBOL, **about}
        name = span_name(PUBLISH, kind)
        tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()

    originals = BackBroker.next, BackBroker.notify, OrderBase.__init__, OrderBase.execute
    next_bar, notify, new_order, execute = originals

    def about_order(order: Any, status: str) -> dict[str, Any]:
        return {
            Trading.STRATEGY: type(order.owner).__name__,
            Order.CLIENT_ID: str(order.ref),
            Order.STATUS: status,
            Order.SIDE: _SIDES[order.ordtype],
            Order.TYPE: order.getordername(),
            Order.QUANTITY: abs(order.created.size),
        }

    def bar(broker: Any) -> None:
        data = broker.cerebro.datas[0]
        prices = {
            Bar.OPEN: data.open[0],
            Bar.HIGH: data.high[0],
            Bar.LOW: data.low[0],
            Bar.CLOSE: data.close[0],
            Bar.VOLUME: data.volume[0],
        }
        record(EventType.BAR, data, prices)
        cash = broker.cash
        next_bar(broker)
        if broker.cash != cash:
            record(EventType.PORTFOLIO, data, {Account.BALANCES: str(broker.cash)})

    def state(broker: Any, order: Any) -> None:
        if order.status != order.Completed:
            record(EventType.ORDER, order.data, about_order(order, order.getstatusname()))
        notify(broker, order)

    def created(order: Any, *args: Any, **kwargs: Any) -> None:
        new_order(order, *args, **kwargs)
        record(EventType.ORDER, order.data, about_order(order, "Created"))

    def executed(order: Any, *args: Any) -> None:
        execute(order, *args)
        bit = order.executed.exbits[-1]
        said = {Fill.PRICE: bit.price, Fill.QUANTITY: abs(bit.size), Fill.COMMISSION: bit.comm}
        record(EventType.FILL, order.data, about_order(order, "Completed") | said)
        held = {Trading.STRATEGY: type(order.owner).__name__, "size": bit.psize}
        record(EventType.POSITION_CHANGE, order.data, held)

    BackBroker.next, BackBroker.notify = bar, state
    OrderBase.__init__, OrderBase.execute = created, executed
    try:
        yield
    finally:
        BackBroker.next, BackBroker.notify, OrderBase.__init__, OrderBase.execute = originals
        counts.append(made)
