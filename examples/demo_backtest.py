"""Backtests two portfolios in one process and prints what became of their money.

`DEMO-EQUITIES` trades five American stocks by the day from 2008 to March 2013 with a
cash account, long only. `DEMO-FX` trades EUR/USD by the hour through 2017 with a margin
account, long and short. Both pay commissions, both have limits on the size of an order that
some orders break, and both keep the positions of their strategies apart, so that two of
them can trade the same instrument.

Run it with ``python examples/demo_backtest.py``.
"""

from __future__ import annotations

import warnings
from decimal import Decimal

from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, OmsType, OrderStatus
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import TraderId, Venue
from nautilus_trader.model.objects import Money

from demo_bracket_strategies import Breakout, BreakoutConfig, Momentum, MomentumConfig
from demo_prices import (
    SIM,
    STOCK_SYMBOLS,
    XNAS,
    daily_bar_type,
    daily_bars,
    eur_usd,
    hourly_bar_type,
    hourly_bars,
    stock,
)
from demo_range_strategy import NightRange, NightRangeConfig
from demo_strategies import (
    MeanReversion,
    MeanReversionConfig,
    TrendFollower,
    TrendFollowerConfig,
)

LARGEST_STOCK_ORDER = 160_000  # dollars


def equities_engine() -> BacktestEngine:
    """The portfolio of stocks, ready to run."""
    stocks = {symbol: stock(symbol) for symbol in STOCK_SYMBOLS}
    limits = {str(one.id): LARGEST_STOCK_ORDER for one in stocks.values()}
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("DEMO-EQUITIES"),
            risk_engine=RiskEngineConfig(max_notional_per_order=limits),
            logging=LoggingConfig(bypass_logging=True),
        )
    )
    engine.add_venue(
        venue=XNAS,
        oms_type=OmsType.HEDGING,
        account_type=AccountType.CASH,
        base_currency=USD,
        starting_balances=[Money(1_000_000, USD)],
    )
    for instrument in stocks.values():
        engine.add_instrument(instrument)
    engine.add_data(daily_bars(stocks.values()))

    bars = {symbol: daily_bar_type(one.id) for symbol, one in stocks.items()}
    engine.add_strategy(TrendFollower(TrendFollowerConfig(bar_type=bars["AAPL"])))
    for symbol in ("AAPL", "MSFT"):
        engine.add_strategy(
            MeanReversion(MeanReversionConfig(bar_type=bars[symbol], order_id_tag=symbol))
        )
    for symbol in ("FB", "GOOG", "IBM"):
        engine.add_strategy(Breakout(BreakoutConfig(bar_type=bars[symbol], order_id_tag=symbol)))
    return engine


def fx_engine() -> BacktestEngine:
    """The portfolio of currencies, ready to run."""
    instrument = eur_usd()
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("DEMO-FX"),
            logging=LoggingConfig(bypass_logging=True),
        )
    )
    engine.add_venue(
        venue=SIM,
        oms_type=OmsType.HEDGING,
        account_type=AccountType.MARGIN,
        base_currency=USD,
        starting_balances=[Money(100_000, USD)],
        default_leverage=Decimal(1),
    )
    engine.add_instrument(instrument)
    engine.add_data(hourly_bars(instrument))

    bar_type = hourly_bar_type(instrument.id)
    engine.add_strategy(Momentum(MomentumConfig(bar_type=bar_type)))
    engine.add_strategy(NightRange(NightRangeConfig(bar_type=bar_type)))
    return engine


def print_summary(engine: BacktestEngine, venue: Venue) -> None:
    """Print the account's way from start to end, and what the orders came to."""
    account = engine.cache.account_for_venue(venue)
    orders = engine.cache.orders()
    fills = sum(isinstance(event, OrderFilled) for order in orders for event in order.events)
    denied = sum(order.status == OrderStatus.DENIED for order in orders)
    print(engine.trader_id)
    print(f"  balance      {account.starting_balances()[USD]} -> {account.balance_total(USD)}")
    print(f"  commissions  {account.commission(USD)}")
    print(f"  orders       {len(orders)}, of which {denied} denied by a risk rule")
    print(f"  fills        {fills}")
    for position in engine.cache.positions_open():
        print(f"  still held   {position.quantity} {position.instrument_id}")
    for unrealized in engine.portfolio.unrealized_pnls(venue).values():
        worth = engine.portfolio.net_exposures(venue)[unrealized.currency]
        print(f"  worth        {worth}, {unrealized} of it not yet realized")


def main() -> None:
    """Run one portfolio after the other."""
    for engine, venue in ((equities_engine(), XNAS), (fx_engine(), SIM)):
        with warnings.catch_warnings():
            # Some versions of the engine call a method that newer versions of pandas deprecate.
            warnings.filterwarnings("ignore", message=".*utcnow", category=DeprecationWarning)
            engine.run()
        print_summary(engine, venue)
        engine.dispose()


if __name__ == "__main__":
    main()
