"""Market data of NautilusTrader is recorded with the digits that the engine prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.instrumentation import Tracing

sys.path.append(str(Path(__file__).parent))

from recorded_attributes import recorded

pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")

from nautilus_trader.model.data import Bar, BarType, QuoteTick, TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import InstrumentId, TradeId
from nautilus_trader.model.objects import Price, Quantity

from fillpath.instrumentation.nautilus_market import MarketReader, exact
from fillpath.instrumentation.open_event import OpenEvent

UNIT = Price(1, 0).raw
MAX_PRECISION = len(str(UNIT)) - 1
EURUSD = InstrumentId.from_str("EUR/USD.SIM")
MINUTES = BarType.from_str("EUR/USD.SIM-1-MINUTE-MID-EXTERNAL")


Number = tuple[int, int]


def numbers(count: int, lowest: int = -(10**16)) -> st.SearchStrategy[list[Number]]:
    """Mantissas and precision of numbers that the engine can hold; one precision for all."""

    def of(precision: int) -> st.SearchStrategy[list[Number]]:
        most = min(10**15 + 2, 10 ** (9 + precision))
        edges = st.sampled_from([0, 1, most, most - 1, most - 3])
        mantissa = st.integers(max(lowest, -most), most) | edges
        return st.lists(st.tuples(mantissa, st.just(precision)), min_size=count, max_size=count)

    return st.integers(0, MAX_PRECISION).flatmap(of)


def price(number: Number) -> Price:
    return Price.from_raw(number[0] * (UNIT // 10 ** number[1]), number[1])


def quantity(number: Number) -> Quantity:
    return Quantity.from_raw(number[0] * (UNIT // 10 ** number[1]), number[1])


@given(numbers(1))
def test_a_price_keeps_its_digits_and_its_last_zeros(one: list[Number]) -> None:
    (number,) = one
    found = exact(price(number))
    assert found == price(number).as_decimal()
    assert found.as_tuple().exponent == -number[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("market")


RUNS = iter(range(10**9))


def opened(reader: MarketReader, message: Any, cause: OpenEvent | None = None) -> OpenEvent:
    opener = reader.opener(type(message))
    assert opener is not None
    return opener(message, cause)


@settings(max_examples=40)
@given(st.lists(st.tuples(numbers(2), numbers(2, lowest=0)), min_size=1, max_size=6))
def test_quotes_and_trades_are_recorded_to_the_last_digit(
    folder: Path, ticks: list[tuple[list[Number], list[Number]]]
) -> None:
    wanted: list[dict[str, str]] = []
    with Tracing(f"run-{next(RUNS)}", data=folder, writer="none") as session:
        reader = MarketReader(session.tracer, "fund")
        events = []
        for (bid, ask), (bid_size, ask_size) in ticks:
            quote = QuoteTick(
                EURUSD, price(bid), price(ask), quantity(bid_size), quantity(ask_size), 1, 1
            )
            events.append(opened(reader, quote))
            wanted.append(
                {
                    "trading.tick.bid": str(exact(quote.bid_price)),
                    "trading.tick.ask": str(exact(quote.ask_price)),
                    "trading.tick.bid_size": str(exact(quote.bid_size)),
                    "trading.tick.ask_size": str(exact(quote.ask_size)),
                }
            )
            if not bid_size[0]:
                continue
            trade = TradeTick(
                EURUSD, price(bid), quantity(bid_size), AggressorSide.BUYER, TradeId("1"), 1, 1
            )
            events.append(opened(reader, trade, events[-1]))
            wanted.append(
                {
                    "trading.tick.price": str(exact(trade.price)),
                    "trading.tick.size": str(exact(trade.size)),
                }
            )
        session.tracer.close_all(events)
    assert recorded(session) == wanted


@settings(max_examples=40)
@given(numbers(4), numbers(1, lowest=0))
def test_bars_are_recorded_to_the_last_digit(
    folder: Path, prices: list[Number], volumes: list[Number]
) -> None:
    low, first, last, high = sorted(map(price, prices))
    bar = Bar(MINUTES, first, high, low, last, quantity(volumes[0]), 1, 1)
    with Tracing(f"run-{next(RUNS)}", data=folder, writer="none") as session:
        reader = MarketReader(session.tracer, "fund")
        session.tracer.close_all([opened(reader, bar) for _ in range(3)])
    said = {
        "trading.bar.type": str(MINUTES),
        "trading.bar.open": str(exact(bar.open)),
        "trading.bar.high": str(exact(bar.high)),
        "trading.bar.low": str(exact(bar.low)),
        "trading.bar.close": str(exact(bar.close)),
        "trading.bar.volume": str(exact(bar.volume)),
    }
    assert recorded(session) == [said] * 3


KINDS_OF_BARS = [
    BarType.from_str(f"{instrument}-{kind}")
    for instrument in ("EUR/USD.SIM", "USD/JPY.SIM")
    for kind in (
        "1-MINUTE-MID-EXTERNAL",
        "1-MINUTE-MID-INTERNAL",
        "1-MINUTE-BID-EXTERNAL",
        "5-MINUTE-MID-EXTERNAL",
        "5-MINUTE-MID-INTERNAL@1-MINUTE-EXTERNAL",
    )
]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(KINDS_OF_BARS), min_size=1, max_size=12))
def test_bars_of_several_types_in_turn_keep_their_type_and_instrument(
    folder: Path, types: list[BarType]
) -> None:
    one, many = price((112345, 5)), quantity((1, 0))
    with Tracing(f"run-{next(RUNS)}", data=folder, writer="none") as session:
        reader = MarketReader(session.tracer, "fund")
        events = [opened(reader, Bar(kind, one, one, one, one, many, 1, 1)) for kind in types]
        places = [event.place.parts[4:6] for event in events]
        session.tracer.close_all(events)
    assert [read["trading.bar.type"] for read in recorded(session)] == list(map(str, types))
    assert places == [
        (kind.instrument_id.symbol.value, kind.instrument_id.venue.value) for kind in types
    ]
