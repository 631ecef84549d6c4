"""Bracket orders on real daily stock bars, with a margin account: the usual kind of script.

Long and short brackets with market, limit and stop-limit entries; exits linked as OCO and as OUO;
entries that are cancelled with their exits waiting; exits moved as the price goes; signals, heard
by an actor; positions closed by hand when it stops, or left open.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from nautilus_trader.common import DataActor, Signal
from nautilus_trader.model import (
    Bar,
    BarType,
    ContingencyType,
    OrderSide,
    OrderType,
    PositionClosed,
    Price,
    Quantity,
)
from nautilus_trader.trading import Strategy, StrategyConfig
from rust_engine import XNAS, add_margin_venue, daily_bars, named, quiet_engine, run_host, stock


class Average:
    """An exponential moving average."""

    def __init__(self, period: int) -> None:
        self.weight = 2 / (period + 1)
        self.value: float | None = None

    def update(self, price: float) -> float:
        """Take a price; gives the average with it."""
        before = price if self.value is None else self.value
        self.value = before + self.weight * (price - before)
        return self.value


class Brackets(Strategy):
    """Follows a crossing of two averages with a bracket, long or short."""

    def __new__(cls, config: StrategyConfig, *_: Any) -> Any:
        return super().__new__(cls, config)

    def __init__(
        self,
        config: StrategyConfig,
        instrument: Any,
        entry: OrderType,
        contingency: ContingencyType,
        stays: bool,
    ) -> None:
        super().__init__(config)
        self.instrument, self.kind, self.contingency = instrument, entry, contingency
        self.stays = stays
        self.bar_type = bar_type_of(instrument)
        self.fast, self.slow, self.range = Average(8), Average(21), Average(14)
        self.was_above: bool | None = None
        self.entry: Any = None
        self.age = self.bars = 0

    def on_start(self) -> None:
        self.subscribe_bars(self.bar_type)

    def on_bar(self, bar: Bar) -> None:
        self.bars += 1
        self.range.update(bar.high.as_double() - bar.low.as_double())
        close = bar.close.as_double()
        above = self.fast.update(close) > self.slow.update(close)
        crossed = self.was_above is not None and above != self.was_above
        self.was_above = above
        if self.bars < 21:
            return
        self.age += 1
        entry = self.entry and self.cache.order(self.entry)
        if entry is not None and entry.is_open and self.age > 4:
            self.cancel_order(self.entry)
        self.trail_stop(close)
        if crossed:
            self.publish_signal("cross", "up" if above else "down", bar.ts_event)
            if not self.cache.positions_open(strategy_id=self.strategy_id):
                self.enter(close, OrderSide.BUY if above else OrderSide.SELL)

    def enter(self, close: float, side: OrderSide) -> None:
        unit = self.range.value or 1.0
        ahead = unit if side == OrderSide.BUY else -unit
        entries: dict[str, dict[str, Price]] = {
            "MARKET": {},
            "LIMIT": {"entry_price": price(close - 0.3 * ahead)},
            "STOP_LIMIT": {
                "entry_trigger_price": price(close + 0.2 * ahead),
                "entry_price": price(close + 0.5 * ahead),
            },
        }
        bracket = self.order_factory.bracket(
            self.instrument.id,
            side,
            Quantity.from_int(300),
            contingency_type=self.contingency,
            entry_order_type=self.kind,
            sl_trigger_price=price(close - 2.0 * ahead),
            tp_price=price(close + 3.0 * ahead),
            **entries[self.kind.name],
        )
        self.entry, self.age = bracket[0].client_order_id, 0
        self.submit_order_list(bracket)

    def trail_stop(self, close: float) -> None:
        for order in self.cache.orders_open(strategy_id=self.strategy_id):
            if order.order_type != OrderType.STOP_MARKET or order.is_pending_update:
                continue
            away = 2.0 * (self.range.value or 1.0) * (-1 if order.side == OrderSide.SELL else 1)
            trigger = price(close + away)
            if (trigger > order.trigger_price) == (order.side == OrderSide.SELL):
                self.modify_order(order.client_order_id, trigger_price=trigger)

    def on_position_closed(self, event: PositionClosed) -> None:
        # Stopped out early on: try the other way round with a third of the size.
        if event.ts_event - event.ts_opened < 3 * 86_400_000_000_000:
            side = OrderSide.SELL if event.entry == OrderSide.BUY else OrderSide.BUY
            self.submit_order(
                self.order_factory.market(self.instrument.id, side, Quantity.from_int(100))
            )

    def on_stop(self) -> None:
        if not self.stays:
            self.cancel_all_orders(self.instrument.id)
            self.close_all_positions(self.instrument.id)


class Listener(DataActor):
    """Hears the signals, and trades nothing."""

    heard = 0

    def on_start(self) -> None:
        self.subscribe_signal("cross")

    def on_signal(self, signal: Signal) -> None:
        self.heard += 1


def price(value: float) -> Price:
    """A price in cents."""
    return Price(value, 2)


def bar_type_of(instrument: Any) -> BarType:
    """Daily bars of a stock."""
    return BarType.from_str(f"{instrument.id}-1-DAY-LAST-EXTERNAL")


def main() -> None:
    """Run it."""
    engine = quiet_engine("BRACKETS-007")
    add_margin_venue(engine, XNAS, default_leverage=Decimal(2))
    plans = [
        ("AAPL", OrderType.MARKET, ContingencyType.OCO, False, "001"),
        ("MSFT", OrderType.LIMIT, ContingencyType.OUO, True, "002"),
        ("GOOG", OrderType.LIMIT, ContingencyType.OCO, True, "003"),
        ("IBM", OrderType.STOP_LIMIT, ContingencyType.OUO, False, "004"),
    ]
    for symbol, *_ in plans:
        engine.add_instrument(stock(symbol))
        engine.add_data(daily_bars(symbol, bar_type_of(stock(symbol))))
    for symbol, entry, contingency, stays, tag in plans:
        engine.add_strategy(
            Brackets(named(tag, "Brackets"), stock(symbol), entry, contingency, stays)
        )
    engine.add_actor(Listener())
    run_host(engine, XNAS)


if __name__ == "__main__":
    main()
