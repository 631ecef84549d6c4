"""A host's events are understood whatever they are made of, and none makes the reader raise."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.host_fields import EventFields, EventReader, HostEvent
from fillpath.instrumentation.host_times import nanoseconds
from fillpath.instrumentation.host_words import side
from fillpath.instrumentation.semconv import Fill
from fillpath.instrumentation.traced_event import TracedEvent


class Kind(Enum):
    """Kinds of event whose values are numbers."""

    FILL = 1


class Side(Enum):
    """A host's own sides."""

    BUY = "B"
    SELL = "S"


class Sign(IntEnum):
    """Sides by name, whatever their numbers."""

    SELL = 1
    BUY = 2


@dataclass
class FillEvent:
    """A dataclass."""

    order_id: str = "O-1"
    symbol: str = "AAPL"
    side: Side = Side.BUY
    quantity: Decimal = Decimal("2.50")
    price: float = 1.5
    timestamp: int = 7
    _secret: int = 1


@dataclass(frozen=True, slots=True)
class Slotted:
    """A dataclass that cannot be referenced weakly."""

    kind: str = "FILL"
    quantity: int = 3


class HandMade:
    """Slots, an attribute, a method."""

    __slots__ = ("__dict__", "price")

    def __init__(self) -> None:
        self.price = 5
        self.type = Kind.FILL
        self.callback = lambda: None

    def method(self) -> None:
        """Be no field."""


class RaisingProperties:
    """One field that can be read, others that cannot."""

    __slots__ = ("price", "quantity")

    def __init__(self) -> None:
        self.price = 5

    @property
    def event_type(self) -> NoReturn:
        raise RuntimeError("no type")

    @property
    def symbol(self) -> NoReturn:
        raise RuntimeError("no symbol")

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


class RaisingMapping(dict[str, Any]):
    """A mapping that cannot be read."""

    def get(self, *_: Any) -> NoReturn:
        raise RuntimeError("get")

    def items(self) -> NoReturn:
        raise RuntimeError("items")


Tick = namedtuple("Tick", "symbol bid ask")  # noqa: PYI024 - hosts use these


def read(event: Any, topic: str | None = None, **fields: Any) -> HostEvent:
    return EventReader(EventFields(**fields)).read(event, topic)


def test_a_dataclass() -> None:
    found = read(FillEvent())
    assert (found.event_type, found.symbol, found.event_time) == ("FILL", "AAPL", 7)
    assert found.attributes == {
        "trading.order.client_id": "O-1",
        "trading.order.side": "BUY",
        "trading.fill.quantity": Decimal("2.50"),
        "trading.fill.price": 1.5,
    }


@pytest.mark.parametrize(
    ("event", "kind", "attributes"),
    [
        (Slotted(), "FILL", {"trading.fill.quantity": 3}),
        (HandMade(), "FILL", {"trading.fill.price": 5}),
        (SimpleNamespace(kind="bar", close=1), "BAR", {"trading.bar.close": 1}),
        (
            Tick("AAPL", 1, 2),
            "TICK",
            {"trading.tick.bid": 1, "trading.tick.ask": 2},
        ),
        ({"type": "order", "price": 2}, "ORDER", {"trading.order.price": 2}),
        ({"type": "FILL", "payload": {"price": 2}}, "FILL", {"trading.fill.price": 2}),
        ({"type": "SIGNAL", "data": 0.7}, "SIGNAL", {"trading.signal.value": 0.7}),
        ({"type": "NOTE", "data": "text"}, "NOTE", {"trading.note.value": "text"}),
        ({"type": "BOOK", "data": [1, 2]}, "BOOK", {"trading.book.value": [1, 2]}),
        ("market open", "MARKET_OPEN", {}),
        (Kind.FILL, "FILL", {}),
        (Side.BUY, "B", {}),
        (7, "INT", {"trading.int.value": 7}),
        ([1, 2], "LIST", {"trading.list.value": [1, 2]}),
        (None, "NONE_TYPE", {}),
        ({}, "DICT", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_any_kind_of_object(event: Any, kind: str, attributes: dict[str, Any]) -> None:
    found = read(event)
    assert (found.event_type, found.attributes) == (kind, attributes)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("PositionOpened", "POSITION_OPENED"),
        ("risk breach", "RISK_BREACH"),
        ("order-filled", "ORDER_FILLED"),
        (Kind.FILL, "FILL"),
        (Side.SELL, "S"),
        ("x" * 500, "X" * 100),
        ("<script>", "<SCRIPT>"),
    ],
)
def test_the_kind_of_an_event(given: Any, kind: str) -> None:
    assert read({"event_type": given}).event_type == kind


def test_a_plain_mapping_is_named_by_its_topic_and_an_object_by_its_class() -> None:
    assert read({"price": 1}, "fills").event_type == "FILLS"
    assert read(7, "heartbeat").event_type == "HEARTBEAT"
    assert read(FillEvent(), "fills").event_type == "FILL"
    assert read({"type": "FILL"}, "fills").event_type == "FILL"


def test_what_the_envelope_lacks_is_taken_from_the_payload() -> None:
    found = read(
        {
            "type": "ORDER",
            "id": "e-1",
            "payload": {
                "type": "LIMIT",
                "id": "not the event's",
                "symbol": "AAPL",
                "strategy": "S",
                "timestamp": 5,
                "portfolio": "fund/desk",
            },
        }
    )
    assert found[:2] == ("ORDER", "e-1")
    assert (found.symbol, found.strategy, found.event_time) == ("AAPL", "S", 5)
    assert found.portfolio == "fund/desk"
    assert found.attributes == {
        "trading.order.type": "LIMIT",
        "trading.order.id": "not the event's",
    }


def test_fields_of_one_meaning_are_all_kept() -> None:
    event = {"kind": "ORDER", "type": "LIMIT", "client_order_id": "C", "order_id": "V", "qty": 1}
    assert read({**event, "quantity": 2, "id": "e", "event_id": "f"}).attributes == {
        "trading.order.type": "LIMIT",
        "trading.order.client_id": "C",
        "trading.order.id": "V",
        "trading.order.quantity": 1,
        "trading.order.id_": "e",
    } | {"trading.order.quantity_": 2}


def test_keys_of_the_semantic_conventions_stay() -> None:
    event = {"type": "FILL", "trading.fill.price": 1, "messaging.system": "x"}
    assert read(event).attributes == {"trading.fill.price": 1, "messaging.system": "x"}


def test_a_fill_says_what_its_instrument_is_worth() -> None:
    fill = {"type": "FILL", "fill_price": "5000", "fill_qty": 2, "multiplier": 50}
    settled = {"settlement_currency": "USDT", "is_inverse": True, "base_currency": "BTC"}
    assert read({**fill, **settled}).attributes == {
        Fill.PRICE: "5000",
        Fill.QUANTITY: 2,
        Fill.MULTIPLIER: 50,
        Fill.SETTLEMENT_CURRENCY: "USDT",
        Fill.IS_INVERSE: True,
        Fill.BASE_CURRENCY: "BTC",
    }
    (other,) = read({"type": "SIGNAL", "multiplier": 50}).attributes
    assert other == "trading.signal.multiplier"


def test_a_position_has_a_side_of_its_own() -> None:
    found = read({"type": "POSITION_OPEN", "side": "LONG", "quantity": 1})
    assert found.attributes == {"trading.position.side": "LONG", "trading.position.quantity": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("buy", "BUY"),
        ("s", "SELL"),
        ("Long", "BUY"),
        (Side.SELL, "SELL"),
        (Sign.BUY, "BUY"),
        (1, "BUY"),
        (np.int64(-1), "SELL"),
        (np.float32(0.5), "BUY"),
        (np.bool_(True), np.bool_(True)),
        (-1.0, "SELL"),
        (Decimal(-3), "SELL"),
        (0, 0),
        (True, True),
        ("flat", "FLAT"),
        ("SELL_SHORT", "SELL"),
        ("short sell", "SELL"),
        ("Sell-To-Open", "SELL"),
        ("sell_to_close", "SELL"),
        ("BUY_TO_COVER", "BUY"),
        ("BuyToOpen", "BUY"),
        ("buy_to_close", "BUY"),
        ("cover", "BUY"),
        ("BOT", "BUY"),
        ("to_buy", "TO_BUY"),
        (None, None),
    ],
)
def test_sides(value: Any, expected: Any) -> None:
    assert side(value) == expected


def test_a_side_that_is_no_number_stays() -> None:
    assert side(Decimal("sNaN")).is_snan()
    assert side(float("nan")) != side(float("nan"))


NOON = 1_704_196_800_000_000_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOON, NOON),
        (np.int64(NOON), NOON),
        (1_704_196_800.25, NOON + 250_000_000),
        (1_704_196_800.123456, NOON + 123_456_000),
        (Decimal("1704196800.000000001"), NOON + 1),
        (dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC), NOON),
        (dt.datetime(2024, 1, 2, 12), NOON),  # noqa: DTZ001 - naive, taken as UTC
        (dt.datetime(2024, 1, 2, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))), NOON),
        (dt.datetime(2024, 1, 2, 12, 0, 0, 123456, tzinfo=dt.UTC), NOON + 123_456_000),
        (dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), -1000),
        (dt.date(2024, 1, 2), NOON - 12 * 3600 * 10**9),
        ("2024-01-02T12:00:00Z", NOON),
        ("2024-01-02 12:00", NOON),
        (np.datetime64("2024-01-02T12:00:00.000000001"), NOON + 1),
        ("20240102", NOON - 12 * 3600 * 10**9),
        ("20240102120000", NOON),
        ("1704196800.5", NOON + 500_000_000),
        (np.datetime64("2024-01-02"), NOON - 12 * 3600 * 10**9),
        (0, 0),
        (None, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("NaN"), None),
        ("noon", None),
        ([], None),
        (dt.time(12), None),
    ],
    ids=repr,
)
def test_market_times(value: Any, expected: int | None) -> None:
    assert nanoseconds(value) == expected


def test_pandas_times() -> None:
    pandas = pytest.importorskip("pandas")
    assert nanoseconds(pandas.Timestamp(NOON + 1)) == NOON + 1
    assert nanoseconds(pandas.Timestamp(NOON + 1, tz="America/New_York")) == NOON + 1
    assert nanoseconds(pandas.NaT) is None


@pytest.mark.parametrize(
    "nothing", [None, "", "  ", float("nan"), uuid.UUID(int=0), str(uuid.UUID(int=0)), "0" * 32]
)
def test_a_name_that_says_nothing_is_none(nothing: Any) -> None:
    found = read({"type": "BAR", "correlation_id": nothing, "id": nothing, "strategy": nothing})
    assert (found.correlation_id, found.event_id, found.strategy) == (None, None, None)


@dataclass
class Instrument:
    """An object that is known by a name."""

    symbol: str = "EUR/USD"
    precision: int = 5


@dataclass
class Book:
    """An object without a name."""

    bids: list[int] = field(default_factory=list)


def test_an_object_is_named_by_what_names_it() -> None:
    assert read({"instrument": Instrument()}).symbol == "EUR/USD"
    assert read({"strategy": SimpleNamespace(name="S-1")}).strategy == "S-1"
    assert read({"id": uuid.UUID(int=5)}).event_id == str(uuid.UUID(int=5))
    assert read({"id": 7}).event_id == "7"
    assert read({"id": np.int64(7)}).event_id == "7"
    # An order book is no portfolio.
    found = read({"type": "BOOK", "book": Book([1])})
    assert found.portfolio is None
    assert found.attributes == {"trading.book.book": Book([1])}


def test_several_causes() -> None:
    assert read({"causation_id": "a"}).causation_ids == ("a",)
    found = read({"causation_ids": ["a", None, 2]})
    assert found.causation_ids == ("a", "2")
    assert found.attributes["trading.event.causation_id"] == "a,2"


def test_the_host_says_where_things_are() -> None:
    found = read(
        {"header": {"k": "Fill"}, "body": {"px": 1}, "who": "S"},
        event_type=lambda event: event["header"]["k"],
        strategy=("trader", "who"),
        payload="body",
        symbol=lambda event: event["no such thing"],
    )
    assert (found.event_type, found.strategy, found.symbol) == ("FILL", "S", None)
    assert found.attributes == {"trading.fill.header": {"k": "Fill"}, "trading.fill.px": 1}


def test_a_path_leads_to_a_part() -> None:
    found = read(
        {
            "header": SimpleNamespace(kind="fill", ids=["e-1", "e-2"]),
            "a.b": "S",
            "legs": [{"s": 5}],
        },
        event_type="header.kind",
        event_id="header.ids.1",
        strategy=("no.such", "a.b"),
        symbol="legs.0.s",
        portfolio="legs.7.s",
    )
    assert (found.event_type, found.event_id, found.strategy) == ("FILL", "e-2", "S")
    assert (found.symbol, found.portfolio) == ("5", None)
    assert set(found.attributes) == {"trading.fill.header", "trading.fill.legs"}


def test_an_event_that_has_two_ids_is_known_by_both() -> None:
    found = read({"type": "FILL", "event_id": "bus-7", "id": "venue-9"})
    assert (found.event_id, found.other_ids) == ("bus-7", ("venue-9",))
    found = read({"header": {"n": 3}}, event_id=lambda event: (event["header"]["n"], "x"))
    assert (found.event_id, found.other_ids) == ("3", ("x",))


def test_words_of_the_host() -> None:
    fields: dict[str, Any] = {
        "kinds": {"eTrade.": "FILL", "MARKET": "BAR"},
        "names": {"px": "price", "lots": "trading.fill.quantity", "c": "close"},
    }
    found = read({"type": "eTrade.", "px": 5, "lots": 2}, **fields)
    assert (found.event_type, found.attributes) == (
        "FILL",
        {"trading.fill.price": 5, "trading.fill.quantity": 2},
    )
    assert read({"type": "market", "c": 1.5}, **fields).attributes == {"trading.bar.close": 1.5}


def test_a_part_that_is_nowhere() -> None:
    assert read({"type": "BAR", "id": "x"}, event_id=None).event_id is None


def test_a_function_that_fails_is_complained_of_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = EventReader(EventFields(symbol=lambda event: event["no"], strategy=lambda _: 1 / 0))
    for _ in range(3):
        assert reader.read({"type": "BAR", "close": 1}).attributes == {"trading.bar.close": 1}
    assert [record.getMessage().partition(" cannot")[0] for record in caplog.records] == [
        "fillpath leaves out what EventFields.strategy",
        "fillpath leaves out what EventFields.symbol",
    ]


@pytest.mark.parametrize(
    "wrong", [{"symbol": 5}, {"event_type": ("a", 5)}, {"time_unit": "minutes"}]
)
def test_a_part_that_cannot_be_found_that_way_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        EventFields(**wrong)


@given(
    at=st.integers(10**8, 2**63 // 10**9),
    unit=st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6)]),
)
def test_a_time_of_any_unit_is_told_by_its_size(at: int, unit: tuple[str, int]) -> None:
    name, parts = unit
    assert nanoseconds(at * parts) == nanoseconds(at * parts, name) == at * 10**9  # type: ignore[arg-type]
    assert nanoseconds(str(at * parts)) == nanoseconds(np.int64(at * parts)) == at * 10**9
    assert abs(nanoseconds(float(at * parts)) - at * 10**9) < 1000  # type: ignore[operator]


def test_the_unit_of_times_can_be_told() -> None:
    assert nanoseconds(1_000_000_000, "ns") == 10**9
    assert read({"type": "BAR", "time": 5}, time_unit="s").event_time == 5 * 10**9
    assert read(TracedEvent("BAR", event_time=10**9)).event_time == 10**9
    assert nanoseconds(np.datetime64("NaT")) is None
    found = read({"type": "NOTE", "time": dt.time(9, 30)})  # no market time, so it is kept
    assert found.attributes == {"trading.note.time": dt.time(9, 30)}


def test_a_traced_event() -> None:
    event = TracedEvent(
        "FILL",
        event_id="e",
        event_time=5,
        correlation_id="c",
        causation_ids=("a", "b"),
        source="S-1",
        namespace="fund/desk",
        created=1,
        emitted=2,
        payload={"trading.fill.price": Decimal("1.5")},
    )
    found = read(event)
    assert found == HostEvent(
        "FILL",
        "e",
        "c",
        ("a", "b"),
        5,
        "S-1",
        None,
        None,
        "fund/desk",
        {"trading.fill.price": Decimal("1.5"), "trading.event.causation_id": "a,b"},
    )


def test_what_raises_costs_only_itself() -> None:
    found = read(RaisingProperties())
    assert found.event_type == "RAISING_PROPERTIES"
    assert found.attributes["trading.raising_properties.price"] == 5
    assert "Unreadable" in type(found.attributes["trading.raising_properties.quantity"]).__name__
    found = read(RaisingMapping(type="FILL"))
    assert found.event_type == "RAISING_MAPPING"
