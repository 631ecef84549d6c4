"""Backtests over a Parquet catalog, each run by a node: real daily bars at once, quotes in parts.

One strategy is given to its node, the other the node makes of a configuration.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import LoggerConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import (
    AccountType,
    Bar,
    BarType,
    BookType,
    InstrumentId,
    NautilusDataType,
    OmsType,
    OrderSide,
    Quantity,
    QuoteTick,
    TraderId,
)
from nautilus_trader.persistence import ParquetDataCatalog
from nautilus_trader.trading import ImportableStrategyConfig, Strategy, StrategyConfig
from rust_engine import (
    SIM,
    USD,
    XNAS,
    EngineOfNode,
    daily_bars,
    knowledge,
    named,
    pair,
    quotes,
    stock,
    walk,
    write,
)

AAPL = stock("AAPL")
EURUSD = pair("EUR/USD")
DAILY = BarType.from_str(f"{AAPL.id}-1-DAY-LAST-EXTERNAL")


class Breakout(Strategy):
    """Goes long above the highest close of 20 days, short below the lowest."""

    def __new__(cls) -> Any:
        return super().__new__(cls, named("B", "Breakout"))

    def __init__(self) -> None:
        super().__init__(named("B", "Breakout"))
        self.closes: list[float] = []

    def on_start(self) -> None:
        self.subscribe_bars(DAILY)

    def on_bar(self, bar: Bar) -> None:
        close = bar.close.as_double()
        before = self.closes[-20:]
        self.closes.append(close)
        if len(before) < 20 or min(before) <= close <= max(before):
            return
        wanted = 100 if close > max(before) else -100
        net = self.portfolio.net_position(AAPL.id)
        amount = wanted - int(net or 0)
        if amount:
            self.publish_signal("breakout", wanted, bar.ts_event)
            side = OrderSide.BUY if amount > 0 else OrderSide.SELL
            self.submit_order(
                self.order_factory.market(AAPL.id, side, Quantity.from_int(abs(amount)))
            )

    def on_stop(self) -> None:
        self.close_all_positions(AAPL.id)


class RoundTripConfig(StrategyConfig):
    """What the node makes a `RoundTrip` of."""

    def __new__(cls, **_: Any) -> Any:
        return super().__new__(cls, strategy_id=named("R", "RoundTrip").strategy_id)

    def __init__(self, **given: Any) -> None:
        self.amount = given["amount"]


class RoundTrip(Strategy):
    """Buys, sells twice as much, and buys part of it back."""

    seen = 0

    def on_start(self) -> None:
        self.subscribe_quotes(InstrumentId.from_str("EUR/USD.SIM"))

    def on_quote(self, quote: QuoteTick) -> None:
        self.seen += 1
        amount: int = self.config.amount
        steps: dict[int, tuple[OrderSide, int]] = {
            3: (OrderSide.BUY, amount),
            25: (OrderSide.SELL, 2 * amount),
            70: (OrderSide.BUY, amount // 2),
        }
        if self.seen in steps:
            side, quantity = steps[self.seen]
            self.submit_order(
                self.order_factory.market(EURUSD.id, side, Quantity.from_int(quantity))
            )


def node_of(trader_id: str, venue: str, data: BacktestDataConfig, **settings: Any) -> BacktestNode:
    """A node that logs nothing, with a million dollars on a margin account at one venue."""
    return BacktestNode(
        [
            BacktestRunConfig(
                id=trader_id,
                venues=[
                    BacktestVenueConfig(
                        name=venue,
                        oms_type=OmsType.NETTING,
                        account_type=AccountType.MARGIN,
                        book_type=BookType.L1_MBP,
                        base_currency=USD,
                        starting_balances=["1_000_000 USD"],
                        fee_model=MakerTakerFeeModel(Decimal("0.0003"), Decimal("0.0007")),
                    )
                ],
                data=[data],
                engine=BacktestEngineConfig(
                    trader_id=TraderId(trader_id),
                    logging=LoggerConfig(bypass_logging=True),
                    bypass_logging=True,
                ),
                **settings,
            )
        ]
    )


def main(folder: str) -> None:
    """Write a catalog, run a node for each of its two instruments."""
    catalog = ParquetDataCatalog(folder)
    catalog.write_instruments([AAPL, EURUSD])
    catalog.write_bars(daily_bars("AAPL", DAILY))
    catalog.write_quote_ticks(quotes(EURUSD, walk(100, seed=4, start=1.1, step=0.0004)))
    runs = []

    def run(node: BacktestNode, add: Callable[[BacktestNode], None], venue: Any) -> None:
        node.build()
        add(node)
        (result,) = node.run()
        runs.append(knowledge(EngineOfNode(node, result), [venue]))
        node.dispose()

    of_bars = BacktestDataConfig(
        data_type=NautilusDataType.Bar, catalog_path=folder, bar_types=[str(DAILY)]
    )
    run(
        node_of("CATALOG-BARS", "XNAS", of_bars, dispose_on_completion=False),
        lambda node: node.add_strategy("CATALOG-BARS", Breakout()),
        XNAS,
    )
    of_quotes = BacktestDataConfig(
        data_type=NautilusDataType.QuoteTick, catalog_path=folder, instrument_id=EURUSD.id
    )
    made = ImportableStrategyConfig(
        "nautilus2_node:RoundTrip", "nautilus2_node:RoundTripConfig", {"amount": 40_000}
    )
    run(
        node_of("CATALOG-QUOTES", "SIM", of_quotes, chunk_size=16, dispose_on_completion=False),
        lambda node: node.add_strategy_from_config("CATALOG-QUOTES", made),
        SIM,
    )
    write(*runs)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(place)
