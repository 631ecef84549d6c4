"""Bracket orders on real daily stock bars, with a margin account: the usual kind of script.

Long and short brackets with market, limit and stop-limit entries; exits linked as OCO and as
OUO; entries that are cancelled with their exits waiting; exits moved as the price goes; a
reversal by hand in a position handler; one position still open at the end with its exits.
"""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

from host_market import add_margin_venue, quiet_engine
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.indicators import AverageTrueRange, ExponentialMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import ContingencyType, OrderSide, OrderType
from nautilus_trader.model.events import PositionClosed
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity, Instrument
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy

XNAS = Venue("XNAS")
FIRST_DAY = "2009-01-01"


class BracketsConfig(StrategyConfig, frozen=True):
    """Which bars to trade and how."""

    bar_type: BarType
    entry: OrderType
    contingency: ContingencyType
    shares: int = 300


class Brackets(Strategy):
    """Follows a crossing of two averages with a bracket, long or short."""

    def __init__(self, config: BracketsConfig) -> None:
        super().__init__(config)
        self.fast = ExponentialMovingAverage(8)
        self.slow = ExponentialMovingAverage(21)
        self.range = AverageTrueRange(14)
        self.entry: Order | None = None
        self.was_above: bool | None = None
        self.age = 0

    def on_start(self) -> None:
        self.instrument = self.cache.instrument(self.config.bar_type.instrument_id)
        for indicator in (self.fast, self.slow, self.range):
            self.register_indicator_for_bars(self.config.bar_type, indicator)
        self.subscribe_bars(self.config.bar_type)

    def on_bar(self, bar: Bar) -> None:
        if not self.indicators_initialized():
            return
        self.age += 1
        if self.entry is not None and self.entry.is_open and self.age > 4:
            self.cancel_order(self.entry)
        self.trail_stop(bar)
        above = self.fast.value > self.slow.value
        crossed = self.was_above is not None and above != self.was_above
        self.was_above = above
        if crossed:
            self.publish_signal("cross", "up" if above else "down", bar.ts_event)
            if not self.cache.positions_open(strategy_id=self.id):
                self.enter(bar, OrderSide.BUY if above else OrderSide.SELL)

    def enter(self, bar: Bar, side: OrderSide) -> None:
        close, unit = bar.close.as_double(), self.range.value
        ahead = unit if side == OrderSide.BUY else -unit
        entries: dict[OrderType, dict[str, Price]] = {
            OrderType.MARKET: {},
            OrderType.LIMIT: {"entry_price": self.price(close - 0.3 * ahead)},
            OrderType.STOP_LIMIT: {
                "entry_trigger_price": self.price(close + 0.2 * ahead),
                "entry_price": self.price(close + 0.5 * ahead),
            },
        }
        bracket = self.order_factory.bracket(
            instrument_id=self.instrument.id,
            order_side=side,
            quantity=Quantity.from_int(self.config.shares),
            contingency_type=self.config.contingency,
            entry_order_type=self.config.entry,
            sl_trigger_price=self.price(close - 2.0 * ahead),
            tp_price=self.price(close + 3.0 * ahead),
            **entries[self.config.entry],
        )
        self.entry, self.age = bracket.first, 0
        self.submit_order_list(bracket)

    def trail_stop(self, bar: Bar) -> None:
        for order in self.cache.orders_open(strategy_id=self.id):
            if order.order_type != OrderType.STOP_MARKET or order.is_pending_update:
                continue
            away = 2.0 * self.range.value * (-1 if order.side == OrderSide.SELL else 1)
            trigger = self.price(bar.close.as_double() + away)
            better = trigger > order.trigger_price
            if better == (order.side == OrderSide.SELL) and trigger != order.trigger_price:
                self.modify_order(order, trigger_price=trigger)

    def on_position_closed(self, event: PositionClosed) -> None:
        # Stopped out early on: try the other way round with a third of the size.
        if event.duration_ns < timedelta(days=3).total_seconds() * 1e9 and self.config.shares > 100:
            self.submit_order(
                self.order_factory.market(
                    self.instrument.id,
                    OrderSide.SELL if event.entry == OrderSide.BUY else OrderSide.BUY,
                    Quantity.from_int(self.config.shares // 3),
                )
            )

    def price(self, value: float) -> Price:
        return self.instrument.make_price(value)


def stock(symbol: str) -> Instrument:
    """A stock that costs seven basis points to take and three to make."""
    return Equity(
        instrument_id=InstrumentId(Symbol(symbol), XNAS),
        raw_symbol=Symbol(symbol),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        margin_init=Decimal("0.5"),
        margin_maint=Decimal("0.25"),
        maker_fee=Decimal("0.0003"),
        taker_fee=Decimal("0.0007"),
        ts_event=0,
        ts_init=0,
    )


def daily_bars(instrument: Instrument, bar_type: BarType) -> list[Bar]:
    """The stock's bars from 2009 to March 2013, from the file that ships with the samples."""
    spec = find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bokeh_sampledata is not installed")
    path = Path(spec.submodule_search_locations[0], "_data", "stocks.csv.gz")
    result = []
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["Ticker"] == instrument.id.symbol.value and row["Date"] >= FIRST_DAY:
                day = datetime.fromisoformat(row["Date"]).replace(hour=21, tzinfo=UTC)
                nanoseconds = int(day.timestamp()) * 1_000_000_000
                prices = [
                    instrument.make_price(float(row[column]))
                    for column in ("Open", "High", "Low", "Close")
                ]
                volume = instrument.make_qty(int(row["Volume"]))
                result.append(Bar(bar_type, *prices, volume, nanoseconds, nanoseconds))
    return result


def main() -> None:
    """Run it."""
    engine = quiet_engine("BRACKETS-007")
    add_margin_venue(engine, XNAS, default_leverage=Decimal(2))
    plans = [
        ("AAPL", OrderType.MARKET, ContingencyType.OCO),
        ("GOOG", OrderType.LIMIT, ContingencyType.OCO),
        ("IBM", OrderType.STOP_LIMIT, ContingencyType.OUO),
        ("MSFT", OrderType.MARKET, ContingencyType.OUO),
    ]
    for symbol, entry, contingency in plans:
        instrument = stock(symbol)
        bar_type = BarType.from_str(f"{instrument.id}-1-DAY-LAST-EXTERNAL")
        engine.add_instrument(instrument)
        engine.add_data(daily_bars(instrument, bar_type))
        engine.add_strategy(
            Brackets(
                BracketsConfig(
                    bar_type=bar_type, entry=entry, contingency=contingency, order_id_tag=symbol
                )
            )
        )
    run_host(engine)


if __name__ == "__main__":
    main()
