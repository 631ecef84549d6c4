"""What NautilusTrader says of orders is recorded by patterns just as it is described."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.instrumentation import Tracing

sys.path.append(str(Path(__file__).parent))

from recorded_attributes import recorded

# With all that it imports, while warnings are off: pandas 2 calls what NumPy is going to drop.
pytest.importorskip(
    "nautilus_trader.common.factories", reason="the engine is not installed (extra 'nautilus')"
)

from nautilus_trader.common.component import TestClock
from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import CancelOrder, ModifyOrder, SubmitOrder
from nautilus_trader.model import events
from nautilus_trader.model.currencies import BTC, USD
from nautilus_trader.model.enums import AccountType, LiquiditySide, OrderSide
from nautilus_trader.model.identifiers import (
    AccountId,
    InstrumentId,
    PositionId,
    StrategyId,
    TradeId,
    TraderId,
    VenueOrderId,
)
from nautilus_trader.model.objects import AccountBalance, Currency, Money, Price, Quantity

from fillpath.instrumentation.event_columns import decimal_parts
from fillpath.instrumentation.nautilus_causes import OrderCauses
from fillpath.instrumentation.nautilus_events import describe, plain_attributes
from fillpath.instrumentation.nautilus_orders import _PARTS, OrderReader, Unusual

TRADER, ACCOUNT = TraderId("FUND-1"), AccountId("SIM-1")
RUNS = iter(range(10**9))


@given(st.integers(-(10**15) - 1, 10**15 + 1), st.integers(0, 12))
def test_a_price_has_the_mantissa_and_scale_of_the_decimal_that_the_engine_makes(
    mantissa: int, precision: int
) -> None:
    price = Price(Decimal(mantissa).scaleb(-precision) % 10**8, precision)
    wanted = decimal_parts(str(price.as_decimal()))
    try:
        found = _PARTS[precision][price.as_double()]
    except Unusual:
        assert abs(price.as_decimal().scaleb(precision)) >= 10**15
    else:
        assert found == wanted


def prices() -> st.SearchStrategy[Price]:
    return st.builds(Price, st.integers(1, 10**9).map(lambda n: n / 1e5), st.sampled_from([2, 5]))


def sizes() -> st.SearchStrategy[Quantity]:
    return st.builds(
        Quantity, st.integers(10, 10**7).map(lambda n: n / 10), st.sampled_from([0, 1])
    )


def sums(currency: Currency) -> st.SearchStrategy[Money]:
    return st.integers(-(10**9), 10**9).map(lambda n: Money(n / 1e3, currency))


@st.composite
def lives(draw: st.DrawFn) -> list[Any]:
    """Messages about a few orders of two strategies in two instruments, and about accounts."""
    told = [message for number in range(3) for message in draw(life(number))]
    for _ in range(draw(st.integers(0, 3))):
        told.insert(draw(st.integers(0, len(told))), draw(balances()))
    return told


@st.composite
def life(draw: st.DrawFn, number: int) -> list[Any]:
    """What is said of one order."""
    strategy = StrategyId(draw(st.sampled_from(["MEAN-1", "TREND-2"])))
    instrument = InstrumentId.from_str(draw(st.sampled_from(["EUR/USD.SIM", "BTCUSDT.BINANCE"])))
    factory = OrderFactory(TRADER, strategy, TestClock())
    factory.set_client_order_id_count(number)
    side = draw(st.sampled_from([OrderSide.BUY, OrderSide.SELL]))
    size, reduces = draw(sizes()), draw(st.booleans())
    if draw(st.booleans()):
        order = factory.stop_limit(
            instrument, side, size, draw(prices()), draw(prices()), reduce_only=reduces
        )
    elif draw(st.booleans()):
        order = factory.limit(instrument, side, size, draw(prices()), reduce_only=reduces)
    else:
        order = factory.market(instrument, side, size, reduce_only=reduces)
    ids = (TRADER, strategy, instrument, order.client_order_id)
    venue_id = draw(st.sampled_from([None, VenueOrderId(f"V-{number}")]))
    account = draw(st.sampled_from([None, ACCOUNT]))
    time = draw(st.sampled_from([0, 1, 10**18]))
    last = UUID4(), time, time
    reason = draw(st.sampled_from(["NO_SUCH_ORDER", "größe"]))
    steps: list[Any] = [
        SubmitOrder(TRADER, strategy, order, UUID4(), time),
        events.OrderSubmitted(*ids, ACCOUNT, *last),
        events.OrderAccepted(*ids, VenueOrderId("V"), ACCOUNT, *last),
        events.OrderPendingUpdate(*ids, venue_id, account, *last),
        ModifyOrder(*ids, venue_id, draw(sizes()), draw(prices()), None, UUID4(), time),
        events.OrderUpdated(
            *ids, venue_id, account, draw(sizes()), draw(prices() | st.none()), None, *last
        ),
        events.OrderPendingCancel(*ids, venue_id, account, *last),
        CancelOrder(*ids, venue_id, UUID4(), time),
        events.OrderCancelRejected(*ids, venue_id, account, reason, *last),
        events.OrderFilled(
            *ids,
            VenueOrderId("V"),
            ACCOUNT,
            TradeId(f"T-{number}"),
            draw(st.sampled_from([None, PositionId("P-1")])),
            side,
            order.order_type,
            draw(sizes()),
            draw(prices()),
            USD,
            draw(sums(draw(st.sampled_from([USD, BTC])))),
            draw(st.sampled_from([LiquiditySide.MAKER, LiquiditySide.TAKER])),
            *last,
        ),
        events.OrderCanceled(*ids, venue_id, account, *last),
    ]
    kept = draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    begun = [order.init_event] if draw(st.integers(0, 4)) else []  # or it was before we looked
    return [*begun, *(step for step, is_kept in zip(steps, kept, strict=True) if is_kept)]


@st.composite
def balances(draw: st.DrawFn) -> Any:
    held = [
        AccountBalance(total, Money(0, currency), total)
        for currency in (USD, BTC)
        for total in [draw(sums(currency).filter(lambda money: money.as_double() >= 0))]
    ]
    return events.AccountState(
        ACCOUNT, AccountType.CASH, draw(st.sampled_from([None, USD])), True, held, [], {}, UUID4(),
        1, 1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orders")


@settings(max_examples=20, deadline=None)
@given(lives())
def test_orders_are_recorded_by_patterns_just_as_they_are_described(
    folder: Path, told: list[Any]
) -> None:
    with Tracing(f"run-{next(RUNS)}", data=folder, writer="none") as session:
        events_and_wanted = list(read(session, [*told, *told]))
        session.tracer.close_all([event for event, _ in events_and_wanted])
    assert recorded(session) == [wanted for _, wanted in events_and_wanted]


def read(session: Tracing, told: list[Any]) -> Iterator[tuple[Any, dict[str, str]]]:
    """Each message's event, and its attributes as its description has them."""
    tracer, causes = session.tracer, OrderCauses()
    reader = OrderReader(tracer, "fund", {})
    for message in told:
        if isinstance(message, events.OrderFilled):
            causes.count_fill(message)
        description = causes.complete(message, describe(message, {}))
        row = reader.row(message, causes)
        assert row is not None
        place, attributes, time = row
        event = tracer.open_at(place, None, time, attributes)
        causes.recorded(message, event)
        assert place is reader.place_of(description)
        assert event.event_time == (description.event_time or event.event_time)
        plain = plain_attributes(message, description)
        yield event, {key: str(value) for key, value in plain.items()}


@pytest.mark.parametrize(
    ("name", "kind"), [("Fill", "DATA_FILL"), ("Bar", "DATA_BAR"), ("NewsItem", "NEWS_ITEM")]
)
def test_a_users_own_data_is_no_fill_or_bar_whatever_its_class_is_called(
    name: str, kind: str
) -> None:
    assert describe(type(name, (), {"ts_event": 1})(), {}).event_type == kind
