"""Two ways to trade a stock by its daily bars, long only: with the trend and against it."""

from __future__ import annotations

from nautilus_trader.config import PositiveFloat, PositiveInt, StrategyConfig
from nautilus_trader.indicators import (
    AverageTrueRange,
    ExponentialMovingAverage,
    RelativeStrengthIndex,
    SimpleMovingAverage,
)
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import PositionClosed, PositionOpened
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy


class TrendFollowerConfig(StrategyConfig, frozen=True):
    """How a `TrendFollower` trades; periods in bars, money in the quote currency."""

    bar_type: BarType
    fast_period: PositiveInt = 20
    slow_period: PositiveInt = 60
    order_value: PositiveFloat = 150_000.0
    stop_distance: PositiveFloat = 4.0
    calm_below: PositiveFloat = 0.035


class TrendFollower(Strategy):
    """Buys when the fast average crosses above the slow one, sells when it crosses back.

    A stop order follows the price up, `stop_distance` average true ranges below it. Every
    crossing is published as the signal ``trend``, 1 or -1. Not every one is traded: a
    crossing up is left alone while the average true range is more than `calm_below` of
    the price, and a crossing down has nothing to sell after the stop was hit.
    """

    def __init__(self, config: TrendFollowerConfig) -> None:
        super().__init__(config)
        self.fast = ExponentialMovingAverage(config.fast_period)
        self.slow = ExponentialMovingAverage(config.slow_period)
        self.range = AverageTrueRange(20)
        self.was_above: bool | None = None
        self.stop_order: Order | None = None

    def on_start(self) -> None:
        """Subscribe to the bars."""
        bar_type = self.config.bar_type
        self.instrument = self.cache.instrument(bar_type.instrument_id)
        for indicator in (self.fast, self.slow, self.range):
            self.register_indicator_for_bars(bar_type, indicator)
        self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Trade a crossing, or else raise the stop."""
        if not self.indicators_initialized():
            return
        is_above = self.fast.value > self.slow.value
        was_above, self.was_above = self.was_above, is_above
        if was_above is None:
            return
        if is_above != was_above:
            self.publish_signal("trend", 1 if is_above else -1, bar.ts_event)
            if is_above:
                self.enter(bar)
            else:
                self.leave()
        elif self.stop_order is not None:
            self.raise_stop(self.stop_order, bar)

    def enter(self, bar: Bar) -> None:
        """Buy at the market, unless it is too nervous."""
        price = bar.close.as_double()
        if self.range.value > self.config.calm_below * price:
            return
        order = self.order_factory.market(
            instrument_id=self.instrument.id,
            order_side=OrderSide.BUY,
            quantity=Quantity.from_int(int(self.config.order_value / price)),
        )
        self.submit_order(order)

    def leave(self) -> None:
        """Withdraw the stop and sell at the market."""
        if self.stop_order is not None:
            self.cancel_order(self.stop_order)
        self.close_all_positions(self.instrument.id)

    def raise_stop(self, stop_order: Order, bar: Bar) -> None:
        """Move the stop up once it lags by half an average true range."""
        trigger = self.stop_below(bar.close)
        lag = trigger.as_double() - stop_order.trigger_price.as_double()
        if lag > 0.5 * self.range.value:
            self.modify_order(stop_order, trigger_price=trigger)

    def stop_below(self, price: Price) -> Price:
        """Where a stop belongs when the market is at ``price``."""
        distance = self.config.stop_distance * self.range.value
        return self.instrument.make_price(price.as_double() - distance)

    def on_position_opened(self, event: PositionOpened) -> None:
        """Protect the new position."""
        self.stop_order = self.order_factory.stop_market(
            instrument_id=self.instrument.id,
            order_side=OrderSide.SELL,
            quantity=event.quantity,
            trigger_price=self.stop_below(event.last_px),
            reduce_only=True,
        )
        self.submit_order(self.stop_order, position_id=event.position_id)

    def on_position_closed(self, event: PositionClosed) -> None:
        """Forget the stop: it was filled or is being cancelled."""
        self.stop_order = None


class MeanReversionConfig(StrategyConfig, frozen=True):
    """How a `MeanReversion` trades; periods in bars, money in the quote currency."""

    bar_type: BarType
    rsi_period: PositiveInt = 4
    oversold: PositiveFloat = 0.2
    mean_period: PositiveInt = 15
    discount: PositiveFloat = 0.01
    order_value: PositiveFloat = 100_000.0
    patience: PositiveInt = 3
    longest_hold: PositiveInt = 12


class MeanReversion(Strategy):
    """Bids below the market after a sharp fall and offers what it got at the average price.

    The bid stands `discount` below the close for `patience` bars. The offer follows the
    average from bar to bar; what is not sold after `longest_hold` bars goes at the market.
    """

    def __init__(self, config: MeanReversionConfig) -> None:
        super().__init__(config)
        self.strength = RelativeStrengthIndex(config.rsi_period)
        self.mean = SimpleMovingAverage(config.mean_period)
        self.bid: Order | None = None
        self.offer: Order | None = None
        self.bars_waited = 0

    def on_start(self) -> None:
        """Subscribe to the bars."""
        bar_type = self.config.bar_type
        self.instrument = self.cache.instrument(bar_type.instrument_id)
        self.register_indicator_for_bars(bar_type, self.strength)
        self.register_indicator_for_bars(bar_type, self.mean)
        self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Look after the order at work, or look for a fall."""
        self.bars_waited += 1
        if self.offer is not None:
            self.follow_mean(self.offer)
        elif self.bid is not None and self.bid.is_open:
            if self.bars_waited >= self.config.patience:
                self.cancel_order(self.bid)
        elif self.indicators_initialized() and self.strength.value < self.config.oversold:
            self.make_bid(bar)

    def make_bid(self, bar: Bar) -> None:
        """Bid a little below the close."""
        price = bar.close.as_double() * (1.0 - self.config.discount)
        self.bid = self.order_factory.limit(
            instrument_id=self.instrument.id,
            order_side=OrderSide.BUY,
            quantity=Quantity.from_int(int(self.config.order_value / price)),
            price=self.instrument.make_price(price),
        )
        self.bars_waited = 0
        self.submit_order(self.bid)

    def follow_mean(self, offer: Order) -> None:
        """Move the offer to the average, or give up and sell."""
        if self.bars_waited >= self.config.longest_hold:
            self.cancel_order(offer)
            self.close_all_positions(self.instrument.id)
            return
        price = self.instrument.make_price(self.mean.value)
        if offer.is_open and price != offer.price:
            self.modify_order(offer, price=price)

    def on_position_opened(self, event: PositionOpened) -> None:
        """Offer what was bought at the average price."""
        self.bars_waited = 0
        self.offer = self.order_factory.limit(
            instrument_id=self.instrument.id,
            order_side=OrderSide.SELL,
            quantity=event.quantity,
            price=self.instrument.make_price(self.mean.value),
            reduce_only=True,
        )
        self.submit_order(self.offer, position_id=event.position_id)

    def on_position_closed(self, event: PositionClosed) -> None:
        """Start over."""
        self.bid = self.offer = None
