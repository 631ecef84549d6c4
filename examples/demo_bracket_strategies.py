"""Two ways to trade with bracket orders: a breakout in stocks, momentum in currencies.

A bracket is an entry with a stop-loss and a target that wait for it to fill; then the
first of the two to be hit cancels the other.
"""

from __future__ import annotations

from nautilus_trader.config import PositiveFloat, PositiveInt, StrategyConfig
from nautilus_trader.core.datetime import unix_nanos_to_dt
from nautilus_trader.indicators import (
    AverageTrueRange,
    DonchianChannel,
    ExponentialMovingAverage,
)
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import ContingencyType, OrderSide, OrderType
from nautilus_trader.model.events import OrderCanceled, OrderDenied, PositionClosed
from nautilus_trader.model.identifiers import ClientOrderId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy


class BreakoutConfig(StrategyConfig, frozen=True):
    """How a `Breakout` trades; periods in bars, distances in average true ranges."""

    bar_type: BarType
    channel_period: PositiveInt = 40
    risk_per_trade: PositiveFloat = 4_000.0
    stop_distance: PositiveFloat = 2.0
    target_distance: PositiveFloat = 6.0
    patience: PositiveInt = 5


class Breakout(Strategy):
    """Waits with a stop entry at the top of the channel, its exits attached.

    When the close comes within one average true range of the channel's top, the signal
    ``breakout`` is published with the distance in ranges. If there is neither a position
    nor a waiting entry, a bracket is submitted, sized so that its stop-loss would cost
    `risk_per_trade`. In a quiet market that can be more stock than the risk limits allow.
    """

    def __init__(self, config: BreakoutConfig) -> None:
        super().__init__(config)
        self.channel = DonchianChannel(config.channel_period)
        self.range = AverageTrueRange(20)
        self.was_near = False
        self.entry: Order | None = None
        self.bars_waited = 0

    def on_start(self) -> None:
        """Subscribe to the bars."""
        bar_type = self.config.bar_type
        self.instrument = self.cache.instrument(bar_type.instrument_id)
        self.register_indicator_for_bars(bar_type, self.channel)
        self.register_indicator_for_bars(bar_type, self.range)
        self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Withdraw an entry that waited too long; signal a coming breakout."""
        if not self.indicators_initialized():
            return
        self.bars_waited += 1
        is_waiting = self.entry is not None and self.entry.is_open
        if is_waiting and self.bars_waited > self.config.patience:
            self.cancel_order(self.entry)
        distance = (self.channel.upper - bar.close.as_double()) / self.range.value
        was_near, self.was_near = self.was_near, distance < 1.0
        if self.was_near and not was_near:
            self.publish_signal("breakout", round(distance, 3), bar.ts_event)
            if self.entry is None:
                self.submit_bracket()

    def submit_bracket(self) -> None:
        """Submit a stop entry above the channel with its stop-loss and its target.

        The entry has a limit, so that a stock that opens far above the channel is not chased.
        """
        top, unit = self.channel.upper, self.range.value
        loss_per_share = self.config.stop_distance * unit
        bracket = self.order_factory.bracket(
            instrument_id=self.instrument.id,
            order_side=OrderSide.BUY,
            quantity=Quantity.from_int(int(self.config.risk_per_trade / loss_per_share)),
            contingency_type=ContingencyType.OCO,
            entry_order_type=OrderType.STOP_LIMIT,
            entry_trigger_price=self.instrument.make_price(top + 0.01),
            entry_price=self.instrument.make_price(top + 0.25 * unit),
            sl_trigger_price=self.instrument.make_price(top - loss_per_share),
            tp_price=self.instrument.make_price(top + self.config.target_distance * unit),
            tp_post_only=False,
        )
        self.entry = bracket.first
        self.bars_waited = 0
        self.submit_order_list(bracket)

    def on_order_canceled(self, event: OrderCanceled) -> None:
        """Be ready for the next breakout once the entry is withdrawn."""
        self.forget_entry(event.client_order_id)

    def on_order_denied(self, event: OrderDenied) -> None:
        """Be ready for the next breakout if this one was too large."""
        self.forget_entry(event.client_order_id)

    def on_position_closed(self, event: PositionClosed) -> None:
        """Be ready for the next breakout."""
        self.entry = None

    def forget_entry(self, client_order_id: ClientOrderId) -> None:
        """Stop waiting for the entry, if that is the order meant."""
        if self.entry is not None and self.entry.client_order_id == client_order_id:
            self.entry = None


class MomentumConfig(StrategyConfig, frozen=True):
    """How a `Momentum` trades; periods in bars, distances in average true ranges."""

    bar_type: BarType
    fast_period: PositiveInt = 12
    slow_period: PositiveInt = 72
    risk_per_trade: PositiveFloat = 1_500.0
    stop_distance: PositiveFloat = 3.0
    target_distance: PositiveFloat = 6.0


class Momentum(Strategy):
    """Joins a new direction of the averages, long or short, and is flat over the weekend.

    Every crossing is published as the signal ``momentum``: the fast average's change since
    the last bar in average true ranges, positive upwards. With a position still at work, or
    late on a Friday, nothing follows from it. The size is chosen so that the stop-loss
    would cost `risk_per_trade`, in whole lots.
    """

    def __init__(self, config: MomentumConfig) -> None:
        super().__init__(config)
        self.fast = ExponentialMovingAverage(config.fast_period)
        self.slow = ExponentialMovingAverage(config.slow_period)
        self.range = AverageTrueRange(24)
        self.last_fast = 0.0
        self.was_above: bool | None = None

    def on_start(self) -> None:
        """Subscribe to the bars."""
        bar_type = self.config.bar_type
        self.instrument = self.cache.instrument(bar_type.instrument_id)
        for indicator in (self.fast, self.slow, self.range):
            self.register_indicator_for_bars(bar_type, indicator)
        self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Signal a crossing and trade it; close up on Friday evening."""
        if not self.indicators_initialized():
            return
        weekend = is_friday_evening(bar)
        if weekend:
            self.flatten()
        is_above = self.fast.value > self.slow.value
        was_above, self.was_above = self.was_above, is_above
        change = (self.fast.value - self.last_fast) / self.range.value
        self.last_fast = self.fast.value
        if was_above is None or is_above == was_above:
            return
        self.publish_signal("momentum", round(change, 3), bar.ts_event)
        if not weekend and not self.cache.positions_open(strategy_id=self.id):
            self.submit_bracket(bar, OrderSide.BUY if is_above else OrderSide.SELL)

    def submit_bracket(self, bar: Bar, side: OrderSide) -> None:
        """Enter at the market with a stop-loss behind and a target ahead."""
        price, unit = bar.close.as_double(), self.range.value
        ahead = unit if side == OrderSide.BUY else -unit
        lots = int(self.config.risk_per_trade / (self.config.stop_distance * unit)) // 1000
        bracket = self.order_factory.bracket(
            instrument_id=self.instrument.id,
            order_side=side,
            quantity=Quantity.from_int(lots * 1000),
            contingency_type=ContingencyType.OCO,
            sl_trigger_price=self.instrument.make_price(price - self.config.stop_distance * ahead),
            tp_price=self.instrument.make_price(price + self.config.target_distance * ahead),
            tp_post_only=False,
        )
        self.submit_order_list(bracket)

    def flatten(self) -> None:
        """Withdraw the exits at work and close the position at the market."""
        for order in self.cache.orders_open(strategy_id=self.id):
            self.cancel_order(order)
        self.close_all_positions(self.instrument.id)


def is_friday_evening(bar: Bar) -> bool:
    """Whether the bar ends in the last hours before the weekend, 20:00 UTC or later."""
    closed_at = unix_nanos_to_dt(bar.ts_event)
    return bool(closed_at.weekday() == 4 and closed_at.hour >= 20)
