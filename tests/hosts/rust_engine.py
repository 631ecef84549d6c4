"""Quiet NautilusTrader 2.x engines for the host scripts, and what they know after a backtest.

`run_host` writes one JSON document to the path given as the script's first argument. Every number
is a string with the engine's own digits. The document holds nothing random and no wall-clock time,
so two runs of a host write the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from nautilus_trader.backtest import (
    BacktestEngine,
    BacktestEngineConfig,
    BacktestNode,
    BacktestResult,
)
from nautilus_trader.common import LoggerConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import (
    AccountType,
    Bar,
    BarType,
    Currency,
    CurrencyPair,
    Equity,
    InstrumentId,
    Money,
    OmsType,
    Price,
    Quantity,
    QuoteTick,
    StrategyId,
    Symbol,
    TraderId,
    Venue,
)
from nautilus_trader.trading import Strategy, StrategyConfig

SIM = Venue("SIM")
XNAS = Venue("XNAS")
USD = Currency.from_str("USD")
MONDAY_NS = 1_704_067_200_000_000_000
"""2024-01-01 00:00 UTC, when the synthetic markets open."""
MINUTE_NS = 60_000_000_000
FIRST_DAY = "2009-01-01"
_RANDOM = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""What the engine appends to the id of a closed position that it keeps as a snapshot."""


def quiet_engine(trader_id: str, **settings: Any) -> BacktestEngine:
    """An engine that logs nothing; ``settings`` go to its configuration."""
    return BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId(trader_id),
            logging=LoggerConfig(bypass_logging=True),
            bypass_logging=True,
            **settings,
        )
    )


def add_margin_venue(
    engine: BacktestEngine, venue: Venue = SIM, *, oms_type: OmsType = OmsType.NETTING, **more: Any
) -> None:
    """A venue with a million dollars on a margin account and fees; ``more`` overrides."""
    settings: dict[str, Any] = {
        "account_type": AccountType.MARGIN,
        "base_currency": USD,
        "starting_balances": [Money(1_000_000, USD)],
        "default_leverage": Decimal(10),
        "fee_model": MakerTakerFeeModel(Decimal("0.0003"), Decimal("0.0007")),
    }
    engine.add_venue(venue=venue, oms_type=oms_type, **(settings | more))


def stock(symbol: str) -> Equity:
    """A stock that trades in cents and whole shares."""
    return Equity(
        instrument_id=InstrumentId(Symbol(symbol), XNAS),
        raw_symbol=Symbol(symbol),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
    )


def pair(symbol: str, digits: int = 5) -> CurrencyPair:
    """A currency pair such as ``EUR/USD``."""
    base, quote = symbol.split("/")
    return CurrencyPair(
        instrument_id=InstrumentId(Symbol(symbol), SIM),
        raw_symbol=Symbol(symbol),
        base_currency=Currency.from_str(base),
        quote_currency=Currency.from_str(quote),
        price_precision=digits,
        size_precision=0,
        price_increment=Price(10**-digits, digits),
        size_increment=Quantity.from_int(1),
        margin_init=Decimal("0.03"),
        margin_maint=Decimal("0.03"),
        ts_event=0,
        ts_init=0,
    )


def daily_bars(symbol: str, bar_type: BarType) -> list[Bar]:
    """A stock's bars from 2009 to March 2013, from the file that ships with the samples."""
    spec = find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bokeh_sampledata is not installed")
    path = Path(spec.submodule_search_locations[0], "_data", "stocks.csv.gz")
    result = []
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["Ticker"] == symbol and row["Date"] >= FIRST_DAY:
                day = datetime.fromisoformat(row["Date"]).replace(hour=21, tzinfo=UTC)
                nanoseconds = int(day.timestamp()) * 1_000_000_000
                prices = [Price(float(row[name]), 2) for name in ("Open", "High", "Low", "Close")]
                volume = Quantity.from_int(int(row["Volume"]))
                result.append(Bar(bar_type, *prices, volume, nanoseconds, nanoseconds))
    return result


def walk(count: int, *, seed: int, start: float, step: float) -> list[float]:
    """A random walk of ``count`` prices, from a generator of its own."""
    random = Random(seed)
    prices, price = [], start
    for _ in range(count):
        prices.append(price)
        price *= 1.0 + random.uniform(-step, step)
    return prices


def quotes(
    instrument: CurrencyPair, mids: Sequence[float], *, size: int = 1_000_000
) -> list[QuoteTick]:
    """One quote a price and minute, two ticks wide, with the same size on both sides."""
    digits = instrument.price_precision
    half = 10.0**-digits
    return [
        QuoteTick(
            instrument.id,
            Price(mid - half, digits),
            Price(mid + half, digits),
            Quantity.from_int(size),
            Quantity.from_int(size),
            MONDAY_NS + index * MINUTE_NS,
            MONDAY_NS + index * MINUTE_NS,
        )
        for index, mid in enumerate(mids)
    ]


class ScriptedStrategy(Strategy):
    """Does something at given quotes of one instrument, counted from 1.

    `script` is asked once, at the start; it maps the number of a quote to what to do then.
    """

    def __new__(cls, *_: Any, tag: str, **__: Any) -> Any:
        """Give the engine's part of the strategy its name."""
        return super().__new__(cls, named(tag, cls.__name__))

    def __init__(self, instrument: Any, *, tag: str) -> None:
        super().__init__(named(tag, type(self).__name__))
        self.instrument = instrument
        self.seen = 0
        self.steps: dict[int, Callable[[], None]] = {}

    def on_start(self) -> None:
        """Subscribe to the quotes."""
        self.steps = self.script()
        self.subscribe_quotes(self.instrument.id)

    def on_quote(self, quote: QuoteTick) -> None:
        """Take the next step."""
        self.seen += 1
        if self.seen in self.steps:
            self.steps[self.seen]()

    def script(self) -> dict[int, Callable[[], None]]:
        """What to do at which quote."""
        raise NotImplementedError


def named(tag: str, name: str) -> StrategyConfig:
    """Configuration of a strategy whose id is ``name-tag``."""
    return StrategyConfig(strategy_id=StrategyId(f"{name}-{tag}"), order_id_tag=tag)


def run_host(engine: BacktestEngine, *venues: Venue) -> None:
    """Run one engine and write what it knows to the script's first argument."""
    engine.run()
    write(knowledge(engine, venues))


def write(*runs: dict[str, Any]) -> None:
    """Write what engines know to the script's first argument."""
    text = json.dumps({"runs": runs}, indent=1, sort_keys=True)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


def knowledge(engine: BacktestEngine | EngineOfNode, venues: Iterable[Venue]) -> dict[str, Any]:
    """What an engine itself says of its run: its reports, its cache, its result."""
    result = engine.get_result()
    orders = sorted(engine.cache.orders(), key=lambda order: str(order.client_order_id))
    return {
        "trader_id": str(engine.trader_id),
        "totals": [result.iterations, result.total_events, result.total_orders],
        "orders": [_order(order) for order in orders],
        "fills": _fills(engine.generate_fills_report()),
        "positions": _positions(engine.generate_positions_report()),
        "accounts": [_account(engine, venue) for venue in venues],
        "realized_pnls": _by_currency(engine.portfolio.realized_pnls(one) for one in venues),
        "unrealized_pnls": _by_currency(engine.portfolio.unrealized_pnls(one) for one in venues),
    }


class EngineOfNode:
    """The engine of a node of backtests, as far as `knowledge` asks it."""

    def __init__(self, node: BacktestNode, result: BacktestResult) -> None:
        self.node, self.result = node, result
        (config,) = node.configs
        self.name = config.id
        self.trader_id = config.engine.trader_id
        self.cache = node.get_engine_cache(self.name)
        self.portfolio = node.get_engine_portfolio(self.name)

    def get_result(self) -> BacktestResult:
        """What the node gave back for its run."""
        return self.result

    def generate_fills_report(self) -> Any:
        """One row a fill."""
        return self.node.generate_fills_report(self.name)

    def generate_positions_report(self) -> Any:
        """One row a position."""
        return self.node.generate_positions_report(self.name)

    def generate_account_report(self, venue: Venue) -> Any:
        """One row a state and currency."""
        return self.node.generate_account_report(self.name, venue)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _by_currency(found: Iterable[dict[Any, Any]]) -> list[dict[str, str]]:
    return [{one.code: str(money).split()[0] for one, money in each.items()} for each in found]


def _order(order: Any) -> dict[str, Any]:
    events = order.events()
    return {
        "client_order_id": str(order.client_order_id),
        "venue_order_id": _text(order.venue_order_id),
        "strategy_id": str(order.strategy_id),
        "instrument_id": str(order.instrument_id),
        "position_id": _text(order.position_id),
        "side": order.side.name,
        "type": order.order_type.name,
        "status": order.status.name,
        "quantity": str(order.quantity),
        "filled_qty": str(order.filled_qty),
        "events": [type(event).__name__ for event in events],
        "reasons": [event.reason for event in events if getattr(event, "reason", None)],
    }


def _fills(table: Any) -> list[dict[str, Any]]:
    columns = (
        "trade_id", "venue_order_id", "strategy_id", "instrument_id", "position_id", "account_id",
        "order_side", "order_type", "liquidity_side", "last_qty", "last_px", "commission",
        "currency",
    )  # fmt: skip
    return [
        {"client_order_id": str(order_id), "ts_event": int(row["ts_event"].value)}
        | {column: str(row[column]) for column in columns}
        for order_id, row in table.iterrows()
    ]


def _positions(table: Any) -> list[dict[str, Any]]:
    columns = (
        "strategy_id", "instrument_id", "entry", "side", "quantity", "peak_qty", "avg_px_open",
        "avg_px_close", "realized_pnl", "opening_order_id", "closing_order_id", "is_snapshot",
    )  # fmt: skip
    rows = [
        {
            "position_id": _RANDOM.sub("", str(position_id)),
            "ts_opened": str(row["ts_opened"]),
            "ts_closed": str(row["ts_closed"]),
        }
        | {column: str(row[column]) for column in columns}
        for position_id, row in table.iterrows()
    ]
    return sorted(rows, key=lambda row: (row["ts_opened"], row["opening_order_id"]))


def _account(engine: BacktestEngine | EngineOfNode, venue: Venue) -> dict[str, Any]:
    account = engine.cache.account_for_venue(venue)
    table = engine.generate_account_report(venue)
    return {
        "account_id": str(account.id),
        "type": account.account_type.name,
        "base_currency": account.base_currency.code if account.base_currency else None,
        "states": account.event_count,
        "balances": {
            currency: {"start": str(rows["total"].iloc[0]), "final": str(rows["total"].iloc[-1])}
            for currency, rows in table.groupby("currency")
        },
        # At one time the engine goes through its strategies and orders in an order of chance.
        "totals": {
            currency: {
                str(time.value): str(total)
                for time, total in rows["total"].groupby(level=0).last().items()
            }
            for currency, rows in table.groupby("currency")
        },
    }
