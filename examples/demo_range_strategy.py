"""A way to trade a quiet market: quote both edges of its range through the night."""

from __future__ import annotations

from datetime import datetime

from nautilus_trader.config import PositiveFloat, PositiveInt, StrategyConfig
from nautilus_trader.core.datetime import unix_nanos_to_dt
from nautilus_trader.indicators import BollingerBands
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderRejected, PositionClosed, PositionOpened
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy


class NightRangeConfig(StrategyConfig, frozen=True):
    """How a `NightRange` trades; hours in UTC, the size in units of the base currency."""

    bar_type: BarType
    period: PositiveInt = 24
    width: PositiveFloat = 1.6
    size: PositiveInt = 200_000
    first_hour: PositiveInt = 22
    last_hour: PositiveInt = 5
    smallest_move: PositiveFloat = 0.0002


class NightRange(Strategy):
    """Bids at the lower Bollinger band and offers at the upper one while Europe sleeps.

    The quotes follow the bands from hour to hour. The first to fill takes the other one
    away; then a limit order waits at the middle band and a stop one half-width outside.
    Whatever is left at `last_hour` is closed at the market. No signals are published.
    """

    def __init__(self, config: NightRangeConfig) -> None:
        super().__init__(config)
        self.bands = BollingerBands(config.period, config.width)
        self.quotes: dict[OrderSide, Order] = {}

    def on_start(self) -> None:
        """Subscribe to the bars."""
        bar_type = self.config.bar_type
        self.instrument = self.cache.instrument(bar_type.instrument_id)
        self.register_indicator_for_bars(bar_type, self.bands)
        self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Quote at night, close up in the morning."""
        if not self.indicators_initialized():
            return
        now = unix_nanos_to_dt(bar.ts_event)
        is_flat = not self.cache.positions_open(strategy_id=self.id)
        if now.hour == self.config.last_hour:
            self.flatten()
        elif is_flat and self.is_time_to_quote(now):
            self.quote(OrderSide.BUY, self.bands.lower)
            self.quote(OrderSide.SELL, self.bands.upper)

    def is_time_to_quote(self, now: datetime) -> bool:
        """Whether quotes may stand now: at night, but not into the weekend."""
        is_night = now.hour >= self.config.first_hour or now.hour < self.config.last_hour
        return is_night and now.weekday() != 4

    def quote(self, side: OrderSide, level: float) -> None:
        """Place the quote for one side, or move it to its new level."""
        price = self.instrument.make_price(level)
        order = self.quotes.get(side)
        if order is None or order.is_closed:
            order = self.order_factory.limit(
                instrument_id=self.instrument.id,
                order_side=side,
                quantity=Quantity.from_int(self.config.size),
                price=price,
            )
            self.quotes[side] = order
            self.submit_order(order)
        elif abs(price - order.price) >= self.config.smallest_move:
            self.modify_order(order, price=price)

    def on_position_opened(self, event: PositionOpened) -> None:
        """Withdraw the other quote and place the two exits."""
        self.withdraw()
        is_long = event.entry == OrderSide.BUY
        side = OrderSide.SELL if is_long else OrderSide.BUY
        half_width = (self.bands.upper - self.bands.lower) / 2
        stop = event.avg_px_open + (-half_width if is_long else half_width)
        target_order = self.order_factory.limit(
            instrument_id=self.instrument.id,
            order_side=side,
            quantity=event.quantity,
            price=self.instrument.make_price(self.bands.middle),
            reduce_only=True,
        )
        stop_order = self.order_factory.stop_market(
            instrument_id=self.instrument.id,
            order_side=side,
            quantity=event.quantity,
            trigger_price=self.instrument.make_price(stop),
            reduce_only=True,
        )
        for order in (target_order, stop_order):
            self.submit_order(order, position_id=event.position_id)

    def on_order_rejected(self, event: OrderRejected) -> None:
        """Close a position whose exit the venue refused, say a stop inside the market."""
        self.close_all_positions(self.instrument.id)

    def on_position_closed(self, event: PositionClosed) -> None:
        """Withdraw the exit that was not needed."""
        self.withdraw()

    def flatten(self) -> None:
        """Withdraw every order and close the position at the market."""
        self.withdraw()
        self.close_all_positions(self.instrument.id)

    def withdraw(self) -> None:
        """Cancel this strategy's orders, and nobody else's."""
        for order in self.cache.orders_open(strategy_id=self.id):
            if not order.is_pending_cancel:
                self.cancel_order(order)
