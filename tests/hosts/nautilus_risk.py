"""Orders that never reach the venue, or that it refuses: risk rules of every kind.

A dollar cash account with real money limits: too large a notional, more than the balance
buys, wrong precision, below the smallest size, a duplicate order id, too many orders a
second, trading halted and reducing, selling short what a cash account does not hold, and a
whole order list denied because of one order in it. In between, orders that pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from host_market import ScriptedStrategy, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FixedFeeModel
from nautilus_trader.config import RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, TradingState
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.orders import Order, OrderList
from nautilus_trader.test_kit.providers import TestInstrumentProvider

XNAS = Venue("XNAS")
BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Reckless(ScriptedStrategy):
    """Breaks one rule after the other."""

    engine: BacktestEngine  # set by main: a strategy cannot reach the risk engine itself

    def script(self) -> dict[int, Callable[[], None]]:
        return {
            5: lambda: self.submit(self.limit(BUY, 100)),
            10: lambda: self.submit(self.limit(BUY, 900)),
            15: lambda: self.submit(self.market(SELL, 500)),
            20: lambda: self.submit(self.limit(BUY, 100, precise=True)),
            25: self.same_id_again,
            30: self.burst,
            40: lambda: self.set_state(TradingState.REDUCING),
            41: lambda: self.submit(self.market(BUY, 10)),
            42: lambda: self.submit(self.market(SELL, 10)),
            45: lambda: self.set_state(TradingState.HALTED),
            46: lambda: self.submit(self.market(SELL, 10)),
            50: lambda: self.set_state(TradingState.ACTIVE),
            55: self.list_with_one_too_large,
            60: self.list_that_passes,
            65: lambda: self.modify_order(self.last, price=self.bid(-10_000, precise=True)),
            70: lambda: self.submit(self.market(BUY, 400)),
            75: lambda: self.submit(self.market(BUY, 400)),
            80: lambda: self.close_all_positions(self.instrument.id),
        }

    def bid(self, ticks: int = 0, *, precise: bool = False) -> Price:
        value = self.cache.quote_tick(self.instrument.id).bid_price.as_double() + ticks / 100
        return Price(value, 4) if precise else self.instrument.make_price(value)

    def limit(self, side: OrderSide, shares: int, *, precise: bool = False) -> Order:
        return self.order_factory.limit(
            self.instrument.id, side, Quantity.from_int(shares), self.bid(precise=precise)
        )

    def market(self, side: OrderSide, shares: int) -> Order:
        return self.order_factory.market(self.instrument.id, side, Quantity.from_int(shares))

    def submit(self, order: Order) -> None:
        self.last = order
        self.submit_order(order)

    def same_id_again(self) -> None:
        twin = self.order_factory.limit(
            self.instrument.id,
            BUY,
            Quantity.from_int(7),
            self.bid(),
            client_order_id=self.last.client_order_id,
        )
        self.submit_order(twin)

    def burst(self) -> None:
        for shares in range(1, 9):
            self.submit(self.market(BUY, shares))

    def set_state(self, state: TradingState) -> None:
        self.engine.kernel.risk_engine.set_trading_state(state)

    def submit_list(self, *orders: Any) -> None:
        list_id = self.order_factory.generate_order_list_id()
        self.submit_order_list(OrderList(order_list_id=list_id, orders=list(orders)))

    def list_with_one_too_large(self) -> None:
        self.submit_list(self.limit(BUY, 10), self.limit(BUY, 900), self.limit(BUY, 20))

    def list_that_passes(self) -> None:
        first, second = self.limit(BUY, 10), self.limit(BUY, 20)
        self.last = second
        self.submit_list(first, second)


def main() -> None:
    """Run it."""
    instrument = TestInstrumentProvider.equity("AAPL", "XNAS")
    risk = RiskEngineConfig(
        max_notional_per_order={str(instrument.id): 100_000},
        max_order_submit_rate="5/00:00:01",
    )
    engine = quiet_engine("RISKY-001", risk_engine=risk)
    engine.add_venue(
        venue=XNAS,
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=USD,
        starting_balances=[Money(120_000, USD)],
        fee_model=FixedFeeModel(Money(1.25, USD)),
    )
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(100, seed=7, start=187.0, step=0.001), size=5_000))
    strategy = Reckless()
    strategy.engine = engine
    engine.add_strategy(strategy)
    run_host(engine)


if __name__ == "__main__":
    main()
