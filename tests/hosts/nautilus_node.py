"""A backtest run from configuration: `BacktestNode`, a data catalog, importable strategies.

The quotes are written to a catalog in a temporary folder; the node makes the engine itself,
streams the data to it in chunks and imports the strategy by its path.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from host_market import SIM, fx, quotes, walk
from host_report import HostReport
from nautilus_trader.backtest.node import BacktestNode
from nautilus_trader.config import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestRunConfig,
    BacktestVenueConfig,
    ImportableStrategyConfig,
    LoggingConfig,
    StrategyConfig,
)
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy


class EveryNthConfig(StrategyConfig, frozen=True):
    """What to trade, and how often."""

    traded: InstrumentId
    every: int = 25


class EveryNth(Strategy):
    """Buys and sells in turn, every so many quotes."""

    def __init__(self, config: EveryNthConfig) -> None:
        super().__init__(config)
        self.seen = 0

    def on_start(self) -> None:
        self.subscribe_quote_ticks(self.config.traded)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self.seen += 1
        if self.seen % self.config.every == 0:
            side = OrderSide.BUY if self.seen // self.config.every % 2 else OrderSide.SELL
            self.submit_order(
                self.order_factory.market(self.config.traded, side, Quantity.from_int(100_000))
            )


def run_configuration(catalog: Path, instrument_id: InstrumentId) -> BacktestRunConfig:
    """One run over the whole catalog."""
    strategy = ImportableStrategyConfig(
        strategy_path="nautilus_node:EveryNth",
        config_path="nautilus_node:EveryNthConfig",
        config={"traded": str(instrument_id), "every": 20, "order_id_tag": "N"},
    )
    return BacktestRunConfig(
        engine=BacktestEngineConfig(
            trader_id="NODE-001",
            strategies=[strategy],
            logging=LoggingConfig(bypass_logging=True),
        ),
        venues=[
            BacktestVenueConfig(
                name=SIM.value,
                oms_type="NETTING",
                account_type="MARGIN",
                base_currency="USD",
                starting_balances=["1_000_000 USD"],
            )
        ],
        data=[
            BacktestDataConfig(
                catalog_path=str(catalog),
                data_cls=QuoteTick,
                instrument_id=instrument_id,
            )
        ],
        chunk_size=100,
        dispose_on_completion=False,
    )


def main() -> None:
    """Run it."""
    instrument = fx()
    with tempfile.TemporaryDirectory() as folder:
        catalog = ParquetDataCatalog(folder)
        catalog.write_data([instrument])
        catalog.write_data(quotes(instrument, walk(350, seed=7, start=1.08, step=0.0003)))
        node = BacktestNode([run_configuration(Path(folder), instrument.id)])
        node.build()
        report = HostReport()
        for engine in node.get_engines():
            report.watch(engine)
        node.run()
        for engine in node.get_engines():
            report.add(engine)
            engine.dispose()
    report.write()


if __name__ == "__main__":
    main()
