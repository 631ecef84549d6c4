"""NautilusTrader 2.x's backtests for the benchmark of engines: untraced, traced, with SDK spans.

A strategy crosses two means over the daily bars of a share. The peer opens a span for every bar
that the strategy is given and every event of an order and a position that the engine tells of, and
for the account after each fill, with the same attributes but without its cause.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import LoggerConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import (
    AccountType,
    Bar,
    BarType,
    Currency,
    Equity,
    InstrumentId,
    Money,
    OmsType,
    OrderSide,
    Price,
    Quantity,
    StrategyId,
    Symbol,
    TraderId,
    Venue,
)
from nautilus_trader.trading import Strategy, StrategyConfig
from opentelemetry.trace import SpanKind

from engine_variants import Prepared, engine_variants
from fillpath.instrumentation import NautilusInstrumentor, semconv
from fillpath.instrumentation.nautilus_rust_events import (
    account_attributes,
    fill_attributes,
    order_attributes,
    position_attributes,
    position_type,
    time_of,
)
from fillpath.instrumentation.semconv import PUBLISH, Event, EventType, Trading, span_name
from harness import Size

_XNAS: Final = Venue("XNAS")
_USD: Final = Currency.from_str("USD")
_SHARE: Final = InstrumentId(Symbol("AAPL"), _XNAS)
_DAILY: Final = BarType.from_str(f"{_SHARE}-1-DAY-LAST-EXTERNAL")
_DAY_NS: Final = 86_400_000_000_000
_PLAIN: Final = (str, int, float, bool)


class _Crossing(Strategy):
    def __new__(cls) -> Any:
        return super().__new__(cls, _named())

    def __init__(self) -> None:
        super().__init__(_named())
        self.closes: list[float] = []
        self.is_long = False

    def on_start(self) -> None:
        self.subscribe_bars(_DAILY)

    def on_bar(self, bar: Any) -> None:
        closes = self.closes
        closes.append(bar.close.as_double())
        if len(closes) > 20:
            del closes[0]
            is_long = sum(closes[-5:]) * 20 > sum(closes) * 5
            if is_long != self.is_long:
                self.is_long = is_long
                side = OrderSide.BUY if is_long else OrderSide.SELL
                order = self.order_factory.market(_SHARE, side, Quantity.from_int(10))
                self.submit_order(order)


def _named() -> StrategyConfig:
    return StrategyConfig(strategy_id=StrategyId("Crossing-1"), order_id_tag="1")


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtests, for `harness.alternate`.

    Args:
        size: How many bars.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    bars = _bars(size.pick(100, 3_000, 3_000), size.pick(1, 4, 12))
    return engine_variants(
        NautilusInstrumentor, lambda: _ready(bars), _spans, lambda: len(bars), events, spans
    )


def _bars(count: int, times: int) -> list[Any]:
    spec = find_spec("bokeh_sampledata")
    assert spec is not None
    assert spec.origin is not None
    rows: list[tuple[list[Price], Quantity]] = []
    with gzip.open(Path(spec.origin).parent / "_data" / "stocks.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["Ticker"] == "AAPL" and len(rows) < count:
                prices = [Price(float(row[name]), 2) for name in ("Open", "High", "Low", "Close")]
                rows.append((prices, Quantity.from_int(int(row["Volume"]))))
    return [
        Bar(_DAILY, *prices, volume, _DAY_NS * day, _DAY_NS * day)
        for day, (prices, volume) in enumerate(rows * times, 1)
    ]


def _ready(bars: list[Any]) -> Callable[[], int]:
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("CROSSING-001"),
            logging=LoggerConfig(bypass_logging=True),
            bypass_logging=True,
        )
    )
    engine.add_venue(
        venue=_XNAS,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=_USD,
        starting_balances=[Money(1_000_000, _USD)],
        default_leverage=Decimal(1),
        fee_model=MakerTakerFeeModel(Decimal("0.0002"), Decimal("0.0005")),
    )
    engine.add_instrument(
        Equity(
            instrument_id=_SHARE,
            raw_symbol=_SHARE.symbol,
            currency=_USD,
            price_precision=2,
            price_increment=Price.from_str("0.01"),
            lot_size=Quantity.from_int(1),
            ts_event=0,
            ts_init=0,
        )
    )
    engine.add_data(bars)
    engine.add_strategy(_Crossing())

    def work() -> int:
        engine.run()
        engine.dispose()
        return 1

    return work


@contextmanager
def _spans(tracer: Any, counts: list[int]) -> Iterator[None]:
    """Patch the engine for a span of the SDK for each event."""
    made = 0

    def record(kind: str, said: Any, about: dict[str, Any]) -> None:
        nonlocal made
        made += 1
        known = {Event.TYPE: kind, Event.TIME: time_of(said), **about}
        attributes = {
            key: value if isinstance(value, _PLAIN) else str(value)
            for key, value in known.items()
            if value is not None
        }
        name = span_name(PUBLISH, kind)
        tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()

    def where(said: Any) -> dict[str, Any]:
        return {
            Trading.STRATEGY: said.strategy_id.value,
            Trading.SYMBOL: said.instrument_id.symbol.value,
            Trading.VENUE: said.instrument_id.venue.value,
        }

    on_bar = _Crossing.on_bar

    def bar_given(strategy: Any, bar: Any) -> None:
        numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        keys = (*_PRICES, semconv.Bar.VOLUME)
        about = {key: number.as_double() for key, number in zip(keys, numbers, strict=True)}
        about |= {Trading.SYMBOL: "AAPL", Trading.VENUE: "XNAS", semconv.Bar.TYPE: str(_DAILY)}
        record(EventType.BAR, bar, about)
        on_bar(strategy, bar)

    def order_told(strategy: Any, event: Any) -> None:
        del strategy
        if type(event).__name__ == "OrderFilled":
            record(EventType.FILL, event, {**where(event), **fill_attributes(event, {})})
            return
        about = {semconv.Order.CLIENT_ID: event.client_order_id.value, **order_attributes(event)}
        record(EventType.ORDER, event, {**where(event), **about})

    def position_told(strategy: Any, event: Any) -> None:
        about = {semconv.Position.ID: event.position_id.value, **position_attributes(event)}
        record(position_type(event), event, {**where(event), **about})
        snapshot = strategy.portfolio.build_snapshot(event.account_id)
        if snapshot is not None:
            record(EventType.PORTFOLIO, snapshot, account_attributes(snapshot))

    stand_ins = {
        "on_bar": bar_given, "on_order_event": order_told, "on_position_event": position_told,
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        setattr(_Crossing, name, stand_in)
    try:
        yield
    finally:
        _Crossing.on_bar = on_bar  # type: ignore[method-assign]
        del _Crossing.on_order_event, _Crossing.on_position_event
        counts.append(made)


_PRICES: Final = (semconv.Bar.OPEN, semconv.Bar.HIGH, semconv.Bar.LOW, semconv.Bar.CLOSE)
