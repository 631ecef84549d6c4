"""zipline's backtests for the benchmark of engines: untraced, traced, with spans of the SDK.

An algorithm crosses two means over the daily bars of four shares, by target. The peer opens a span
for every moment, every bar of what the algorithm looks at, every order, fill and day's account,
with the same attributes but without its cause.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pandas as pd
from bokeh_sampledata import stocks
from opentelemetry.trace import SpanKind
from zipline import run_algorithm
from zipline.algorithm import TradingAlgorithm
from zipline.data import bundles
from zipline.finance.blotter import SimulationBlotter
from zipline.finance.metrics.tracker import MetricsTracker
from zipline.utils.paths import data_path

from engine_variants import Prepared, engine_variants
from fillpath.instrumentation import ZiplineInstrumentor
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

_SYMBOLS: Final = ("AAPL", "GOOG", "IBM", "MSFT")
_FIRST: Final = pd.Timestamp("2005-01-03")
_BUNDLE: Final = "fillpath-benchmark"
_PRICES: Final = {
    "open": Bar.OPEN,
    "high": Bar.HIGH,
    "low": Bar.LOW,
    "close": Bar.CLOSE,
    "volume": Bar.VOLUME,
}


def variants(size: Size, events: list[int], spans: list[int]) -> dict[str, Prepared]:
    """Ways to run the same backtest, for `harness.alternate`.

    Args:
        size: How many days.
        events: Gets the number of events that a traced run records.
        spans: Gets the number of spans of a run with the SDK.
    """
    days: list[int] = []
    last = _FIRST + pd.Timedelta(days=size.pick(60, 500, 1_500))
    _make_bundle()

    return engine_variants(
        ZiplineInstrumentor,
        lambda: lambda: _run(last, days),
        _spans,
        lambda: days[-1] * (len(_SYMBOLS) + 1),
        events,
        spans,
    )


def _make_bundle() -> None:
    """Write the prices where zipline finds them, once for the process."""
    if _BUNDLE in bundles.bundles:
        return
    os.environ["ZIPLINE_ROOT"] = tempfile.mkdtemp(prefix="fillpath-zipline-")
    columns = ["open", "high", "low", "close", "volume"]
    frames = {}
    for sid, symbol in enumerate(_SYMBOLS):
        table = getattr(stocks, symbol)
        frame = pd.DataFrame(table, columns=columns, index=pd.to_datetime(table["date"]))
        frames[sid] = frame[_FIRST:].astype(float)

    def ingest(_: Any, assets: Any, __: Any, daily: Any, adjustments: Any, *___: Any) -> None:
        rows = [
            {
                "symbol": _SYMBOLS[sid],
                "exchange": "NYSE",
                "start_date": frame.index[0],
                "end_date": frame.index[-1],
            }
            for sid, frame in frames.items()
        ]
        assets.write(equities=pd.DataFrame(rows))
        daily.write(iter(frames.items()))
        adjustments.write()

    bundles.register(
        _BUNDLE, ingest, calendar_name="XNYS", start_session=_FIRST, end_session=frames[0].index[-1]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipline's own, of what pandas plans
        bundles.ingest(_BUNDLE)
    assert Path(data_path([_BUNDLE])).exists()
    logging.getLogger("zipline").setLevel(logging.ERROR)


def _run(last: pd.Timestamp, days: list[int]) -> int:
    def initialize(context: Any) -> None:
        context.assets = context.symbols(*_SYMBOLS)
        context.is_long = {}

    def handle_data(context: Any, data: Any) -> None:
        closes = data.history(context.assets, "price", 20, "1d")
        fast, slow = closes.iloc[-5:].mean(), closes.mean()
        for asset in context.assets:
            is_long = bool(fast[asset] > slow[asset])
            if is_long != context.is_long.get(asset, False):
                context.is_long[asset] = is_long
                context.order_target_percent(asset, 0.2 * is_long)

    perf = run_algorithm(
        start=_FIRST + pd.Timedelta(days=40),
        end=last,
        initialize=initialize,
        handle_data=handle_data,
        capital_base=1_000_000.0,
        bundle=_BUNDLE,
        benchmark_returns=pd.Series(0.0, index=pd.date_range(_FIRST, last, tz="UTC")),
        default_extension=False,
    )
    days.append(len(perf))
    return 1


@contextmanager
def _spans(tracer: Any, counts: list[int]) -> Iterator[None]:
    """Patch zipline for a span of the SDK for each event."""
    made = 0

    def record(kind: str, when: Any, about: dict[str, Any]) -> None:
        nonlocal made
        made += 1
        attributes = {Event.TYPE: kind, Event.TIME: int(when.value), **about}
        name = span_name(PUBLISH, kind)
        tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes).end()

    changed = TradingAlgorithm.on_dt_changed
    order, trade = SimulationBlotter.order, MetricsTracker.process_transaction
    close = MetricsTracker.handle_market_close

    def on_dt_changed(algorithm: Any, dt: Any) -> None:
        changed(algorithm, dt)
        if dt.hour < 19 or algorithm.data_portal is None:  # a session begins
            return
        record(EventType.BAR, dt, {})
        for asset in getattr(algorithm, "assets", ()):
            spot = algorithm.data_portal.get_spot_value
            prices = {k: float(spot(asset, f, dt, "daily")) for f, k in _PRICES.items()}
            record(EventType.BAR, dt, {Trading.SYMBOL: asset.symbol, **prices})

    def ordered(blotter: Any, asset: Any, amount: int, style: Any, order_id: Any = None) -> Any:
        made_id = order(blotter, asset, amount, style, order_id)
        about = {
            Trading.SYMBOL: asset.symbol,
            Order.CLIENT_ID: str(made_id),
            Order.QUANTITY: float(amount),
        }
        record(EventType.SIGNAL, blotter.current_dt, {Trading.SYMBOL: asset.symbol})
        record(EventType.ORDER, blotter.current_dt, about)
        return made_id

    def traded(tracker: Any, transaction: Any) -> None:
        trade(tracker, transaction)
        about = {
            Trading.SYMBOL: transaction.asset.symbol,
            Order.CLIENT_ID: str(transaction.order_id),
            Fill.PRICE: float(transaction.price),
            Fill.QUANTITY: float(transaction.amount),
        }
        for kind in (EventType.FILL, EventType.POSITION_CHANGE):
            record(kind, transaction.dt, about)

    def closed(tracker: Any, dt: Any, portal: Any) -> Any:
        record(EventType.PORTFOLIO, dt, {})
        return close(tracker, dt, portal)

    patched = [
        (TradingAlgorithm, "on_dt_changed", changed, on_dt_changed),
        (SimulationBlotter, "order", order, ordered),
        (MetricsTracker, "process_transaction", trade, traded),
        (MetricsTracker, "handle_market_close", close, closed),
    ]
    for owner, name, _, stand_in in patched:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, original, _ in patched:
            setattr(owner, name, original)
        counts.append(made)
