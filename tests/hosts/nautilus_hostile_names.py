"""Names that break careless software, wherever the engine lets a user choose one.

Markup, SQL, paths, quotes, control characters and 300 characters in trader, strategy and
client order ids; other scripts and emoji where the engine allows more than ASCII: in symbols,
position ids, signal values and order tags.
"""

from __future__ import annotations

from host_market import SIM, add_margin_venue, fx, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OmsType, OrderSide
from nautilus_trader.model.identifiers import ClientOrderId, PositionId
from nautilus_trader.model.instruments import CurrencyPair, Instrument
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

NAMES = (
    "<script>alert(1)</script>",
    "'; DROP TABLE spans; --",
    "../../etc/passwd",
    'quote" and \\ backslash',
    "=cmd|' /C calc'!A0",
    "{{7*7}} ${7*7} %s",
    "x" * 300,
    "tab\tnew\nline\x7f",
)
BEYOND_ASCII = "Стратегия 策略 🚀 \u202egnp"
SYMBOL = f"<b>E&U'\"/\\% {BEYOND_ASCII}"


class Named(Strategy):
    """Trades a little under whatever name it is given."""

    def __init__(self, config: StrategyConfig, number: int) -> None:
        super().__init__(config)
        self.number = number
        self.seen = 0

    def on_start(self) -> None:
        self.pair = self.cache.instrument_ids()[0]
        self.subscribe_quote_ticks(self.pair)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self.seen += 1
        if self.seen == 5 + self.number:
            name = NAMES[self.number]
            self.publish_signal(name, f"{name} {BEYOND_ASCII}", tick.ts_event)
            self.trade(OrderSide.BUY, f"in {name}")
        elif self.seen == 25 + self.number:
            self.trade(OrderSide.SELL, f"out {NAMES[self.number]}")

    def trade(self, side: OrderSide, name: str) -> None:
        order = self.order_factory.market(
            self.pair,
            side,
            Quantity.from_int(10_000),
            tags=[name, BEYOND_ASCII],
            client_order_id=ClientOrderId(f"{name} {self.number}"),
        )
        self.submit_order(order, position_id=PositionId(f"{self.number} {SYMBOL}"))


def odd_symbol() -> Instrument:
    """EUR/USD under another name."""
    values = CurrencyPair.to_dict(fx())
    return CurrencyPair.from_dict(values | {"id": f"{SYMBOL}.{SIM}", "raw_symbol": SYMBOL})


def main() -> None:
    """Run it."""
    engine = quiet_engine("O'Neil & <Sons>-%42")
    add_margin_venue(engine, oms_type=OmsType.HEDGING)
    instrument = odd_symbol()
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(60, seed=7, start=1.08, step=0.0003)))
    for number, name in enumerate(NAMES):
        config = StrategyConfig(strategy_id=name, order_id_tag=f"{number}")
        engine.add_strategy(Named(config, number))
    run_host(engine)


if __name__ == "__main__":
    main()
