"""Instruments, synthetic prices and quiet engines for the host scripts.

Prices are random walks from seeded generators of their own, so that every run of a host
sees the same market and the global generator is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType, QuoteTick, TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, OmsType
from nautilus_trader.model.identifiers import TradeId, TraderId, Venue
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

SIM = Venue("SIM")
MONDAY_NS = 1_704_067_200_000_000_000
"""2024-01-01 00:00 UTC, when the synthetic markets open."""
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


def fx(symbol: str = "EUR/USD", venue: Venue = SIM) -> Instrument:
    """A currency pair with a fee of 0.2 basis points."""
    return TestInstrumentProvider.default_fx_ccy(symbol, venue)


def quiet_engine(trader_id: str = "HOST-001", **settings: Any) -> BacktestEngine:
    """An engine that logs nothing; ``settings`` go to its configuration."""
    config = BacktestEngineConfig(
        trader_id=TraderId(trader_id),
        logging=LoggingConfig(bypass_logging=True),
        **settings,
    )
    return BacktestEngine(config)


def add_margin_venue(
    engine: BacktestEngine,
    venue: Venue = SIM,
    *,
    oms_type: OmsType = OmsType.NETTING,
    **settings: Any,
) -> None:
    """A venue with a million dollars on a margin account; ``settings`` override."""
    defaults: dict[str, Any] = {
        "base_currency": USD,
        "starting_balances": [Money(1_000_000, USD)],
        "default_leverage": Decimal(10),
    }
    engine.add_venue(
        venue=venue,
        oms_type=oms_type,
        account_type=AccountType.MARGIN,
        **(defaults | settings),
    )


def walk(count: int, *, seed: int, start: float, step: float) -> list[float]:
    """A random walk of ``count`` prices that moves at most ``step`` (a fraction) at a time."""
    random = Random(seed)
    prices, price = [], start
    for _ in range(count):
        prices.append(price)
        price *= 1.0 + random.uniform(-step, step)
    return prices


def quotes(
    instrument: Instrument,
    mids: Sequence[float],
    *,
    spread_ticks: int = 2,
    size: float = 1_000_000,
    every_ns: int = MINUTE_NS,
) -> list[QuoteTick]:
    """One quote a price, ``spread_ticks`` wide, with the same size on both sides."""
    half = float(instrument.price_increment) * spread_ticks / 2
    return [
        QuoteTick(
            instrument_id=instrument.id,
            bid_price=instrument.make_price(mid - half),
            ask_price=instrument.make_price(mid + half),
            bid_size=instrument.make_qty(size),
            ask_size=instrument.make_qty(size),
            ts_event=MONDAY_NS + index * every_ns,
            ts_init=MONDAY_NS + index * every_ns,
        )
        for index, mid in enumerate(mids)
    ]


def trades(
    instrument: Instrument,
    prices: Sequence[float],
    *,
    size: float,
    every_ns: int = SECOND_NS,
) -> list[TradeTick]:
    """One trade a price, buyers and sellers taking turns as aggressor."""
    return [
        TradeTick(
            instrument_id=instrument.id,
            price=instrument.make_price(price),
            size=instrument.make_qty(size),
            aggressor_side=AggressorSide.BUYER if index % 2 else AggressorSide.SELLER,
            trade_id=TradeId(str(index)),
            ts_event=MONDAY_NS + index * every_ns,
            ts_init=MONDAY_NS + index * every_ns,
        )
        for index, price in enumerate(prices)
    ]


def bars(
    instrument: Instrument,
    bar_type: BarType,
    prices: Sequence[float],
    *,
    prices_per_bar: int = 4,
    volume: float = 1_000_000,
    every_ns: int = MINUTE_NS,
) -> list[Bar]:
    """One bar for every ``prices_per_bar`` prices, stamped with the end of its interval."""
    chunks = [
        prices[first : first + prices_per_bar]
        for first in range(0, len(prices) - prices_per_bar + 1, prices_per_bar)
    ]
    return [
        Bar(
            bar_type=bar_type,
            open=instrument.make_price(chunk[0]),
            high=instrument.make_price(max(chunk)),
            low=instrument.make_price(min(chunk)),
            close=instrument.make_price(chunk[-1]),
            volume=instrument.make_qty(volume),
            ts_event=MONDAY_NS + (index + 1) * every_ns,
            ts_init=MONDAY_NS + (index + 1) * every_ns,
        )
        for index, chunk in enumerate(chunks)
    ]


class ScriptedStrategy(Strategy):
    """Does something at given quotes of one instrument, counted from 1.

    `script` is asked once, at the start; it maps the number of a quote to what to do then.
    """

    instrument: Instrument

    def on_start(self) -> None:
        """Subscribe to the quotes."""
        self.instrument = self.cache.instrument(self.instrument_id())
        self.steps = self.script()
        self.seen = 0
        self.subscribe_quote_ticks(self.instrument.id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Take the next step."""
        self.seen += 1
        if self.seen in self.steps:
            self.steps[self.seen]()

    def instrument_id(self) -> Any:
        """The instrument to trade: the only one there is, unless overridden."""
        return self.cache.instrument_ids()[0]

    def script(self) -> dict[int, Callable[[], None]]:
        """What to do at which quote."""
        raise NotImplementedError
