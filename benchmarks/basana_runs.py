"""basana's backtests for the benchmark of engines: untraced, traced, with spans of the SDK.

A strategy crosses two means over the daily bars of a share, as a trading signal that a position
manager turns into orders. The peer opens a span for every event that basana dispatches, and for
every order and fill, with the same attributes but without its cause.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import basana as bs
from basana.backtesting import liquidity, order_mgr, orders
from basana.backtesting.exchange import Exchange
from opentelemetry.trace import SpanKind

from engine_variants import Prepared, engine_variants
from fillpath.instrumentation import BasanaInstrumentor
from fillpath.instrumentation.semconv import (
    PUBLISH,
    Bar,
    Event,
    EventType,
    Fill,
    Order,
    Trading,
    span_name,
)
from harness import Size

_PAIR: Final = bs.Pair("AAPL", "USD")
_DAY: Final = dt.timedelta(days=1)
_USD: Final = bs.PairInfo(base_precision=0, quote_precision=2)


class _Crossing(bs.TradingSignalSource):
    def __init__(self, dispatcher: Any, fast: int, slow: int) -> None:
        super().__init__(dispatcher)
        self.fast, self.slow = fast, slow
        self.closes: list[Decimal] = []
        self.is_long = False

    async def on_bar(self, event: Any) -> None:
        closes = self.closes
        closes.append(event.bar.close)
        if len(closes) > self.slow:
            del closes[0]
            is_long = sum(closes[-self.fast :]) * self.slow > sum(closes) * self.fast
            if is_long != self.is_long:
                self.is_long = is_long
                wanted = bs.Position.LONG if is_long else bs.Position.NEUTRAL
                self.push(bs.TradingSignal(event.when, wanted, _PAIR))


class _Manager:
    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange

    async def on_signal(self, signal: Any) -> None:
        is_long = signal.position == bs.Position.LONG
        side = bs.OrderOperation.BUY if is_long else bs.OrderOperation.SELL
        await self.exchange.create_market_order(side, _PAIR, Decimal(10))


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtests, for `harness.alternate`.

    Args:
        size: How many bars.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    bars = _bars(size.pick(100, 3_000, 3_000)) * size.pick(1, 2, 6)

    return engine_variants(
        BasanaInstrumentor,
        lambda: _ready(bars),
        _spans,
        lambda: len(bars),
        events,
        spans,
    )


def _bars(count: int) -> list[Any]:
    spec = find_spec("bokeh_sampledata")
    assert spec is not None
    assert spec.origin is not None
    rows: list[list[Decimal]] = []
    with gzip.open(Path(spec.origin).parent / "_data" / "stocks.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["Ticker"] == "AAPL" and len(rows) < count:
                rows.append([Decimal(row[n]) for n in ("Open", "High", "Low", "Close", "Volume")])
    return rows


def _ready(rows: list[Any]) -> Callable[[], int]:
    dispatcher = bs.backtesting_dispatcher()
    exchange = Exchange(
        dispatcher,
        {"USD": Decimal(1_000_000)},
        liquidity_strategy_factory=liquidity.InfiniteLiquidity,
        default_pair_info=_USD,
    )
    begin = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    source = bs.FifoQueueEventSource()
    for row in rows:
        source.push(bs.BarEvent(begin + _DAY, bs.Bar(begin, _PAIR, *row, _DAY)))
        begin += _DAY
    exchange.add_bar_source(source)
    crossing = _Crossing(dispatcher, 5, 20)
    exchange.subscribe_to_bar_events(_PAIR, crossing.on_bar)
    crossing.subscribe_to_trading_signals(_Manager(exchange).on_signal)

    def work() -> int:
        asyncio.run(dispatcher.run())
        return 1

    return work


@contextmanager
def _spans(tracer: Any, counts: list[int]) -> Iterator[None]:
    """Patch basana for a span of the SDK for each event, order and fill."""
    made = 0

    def record(kind: str, when: dt.datetime | None, about: dict[str, Any]) -> None:
        nonlocal made
        made += 1
        time = 0 if when is None else int(when.timestamp() * 1e9)
        attributes = {Event.TYPE: kind, Event.TIME: time, **about}
        name = span_name(PUBLISH, kind)
        tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()

    exchange_type, signal_type = Exchange, bs.TradingSignalSource
    on_bar, push = exchange_type._on_bar_event, signal_type.push
    add_order, add_fill = order_mgr.OrderManager.add_order, orders.Order.add_fill

    async def bar_event(exchange: Any, event: Any) -> None:
        bar = event.bar
        prices = zip(
            (Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE, Bar.VOLUME),
            (bar.open, bar.high, bar.low, bar.close, bar.volume),
            strict=True,
        )
        about = {key: float(price) for key, price in prices}
        record(EventType.BAR, event.when, {Trading.SYMBOL: str(bar.pair), **about})
        await on_bar(exchange, event)

    def signal_pushed(source: Any, event: Any) -> None:
        push(source, event)
        record(EventType.SIGNAL, event.when, {Trading.SYMBOL: str(event.pair)})

    def order_added(manager: Any, order: Any) -> None:
        about = {
            Trading.SYMBOL: str(order.pair),
            Order.CLIENT_ID: order.id,
            Order.SIDE: order.operation.name,
            Order.QUANTITY: float(order.amount),
        }
        for status in ("INITIALIZED", "ACCEPTED"):
            now = manager._ctx.dispatcher.now()
            record(EventType.ORDER, now, {**about, Order.STATUS: status})
        add_order(manager, order)

    def fill_added(order: Any, fill: Any) -> None:
        add_fill(order, fill)
        about = {
            Trading.SYMBOL: str(order.pair),
            Order.CLIENT_ID: order.id,
            Fill.PRICE: float(fill.price),
            Fill.QUANTITY: float(abs(fill.balance_updates[order.pair.base_symbol])),
        }
        record(EventType.FILL, fill.when, about)
        record(EventType.PORTFOLIO, fill.when, {})

    patched = [
        (exchange_type, "_on_bar_event", on_bar, bar_event),
        (order_mgr.OrderManager, "add_order", add_order, order_added),
        (orders.Order, "add_fill", add_fill, fill_added),
    ]
    for owner, name, _, stand_in in patched:
        setattr(owner, name, stand_in)
    signal_type.push = signal_pushed
    try:
        yield
    finally:
        for owner, name, original, _ in patched:
            setattr(owner, name, original)
        del signal_type.push  # inherited
        counts.append(made)
