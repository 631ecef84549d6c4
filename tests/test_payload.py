"""Values survive the spool exactly or are replaced visibly; nothing that a host has raises."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fillpath.instrumentation.payload import MAX_TEXT, clean_text, pack, printed, snapshot, unpack
from fillpath.instrumentation.semconv import Event

REPLACED = Event.REPLACED


def carried(value: Any) -> tuple[Any, bool]:
    """What arrives on the other side, and whether it was replaced."""
    whole = unpack(pack(snapshot({"key": value, "beside": 1})))
    assert whole["beside"] == 1
    return whole["key"], whole.get(REPLACED) == ["key"]


scalars = (
    st.booleans()
    | st.integers(-(1 << 300), 1 << 300)
    | st.floats(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.binary(max_size=50)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
)
structures = st.recursive(
    scalars | st.none(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.smoke
@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), structures))
@example({"n": 2**64, "m": -(2**63) - 1, "z": -0.0, "d": Decimal("1E+400"), "e": Decimal("-0.00")})
def test_plain_values_come_back_exactly(attributes: dict[str, Any]) -> None:
    attributes.pop(REPLACED, None)
    back = unpack(pack(snapshot(attributes)))
    expected = {key: value for key, value in attributes.items() if value is not None}
    assert back == expected
    assert repr(back) == repr(expected)  # 1 is not True, 1.0 is not 1, 1.50 is not 1.5


@given(st.floats(), st.decimals(allow_nan=True))
def test_every_float_and_every_decimal_keeps_its_digits(number: float, exact: Decimal) -> None:
    value, replaced = carried(number)
    assert not replaced
    assert value == number or (math.isnan(value) and math.isnan(number))
    value, replaced = carried(exact)
    assert (str(value), replaced) == (str(exact), False)


class Side(Enum):
    """An Enum."""

    BUY = 1


class Status(IntEnum):
    """An Enum of numbers."""

    FILLED = 2


class Flags(Flag):
    """An Enum whose members are combined."""

    A = 1
    B = 2


class Word(StrEnum):
    """An Enum of texts."""

    LONG = "long"


class Whole(int):
    """A number of a kind of its own."""


class Ticker(str):
    """A text that prints as another."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@dataclass
class Leg:
    """A dataclass with something that can change in it."""

    price: Decimal
    tags: list[str] = field(default_factory=list)


Quote = namedtuple("Quote", "bid ask")  # noqa: PYI024 - hosts use these
NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Side.BUY, "BUY"),
        (Status.FILLED, "FILLED"),
        (Flags.A | Flags.B, "A|B"),
        (Word.LONG, "LONG"),
        (Whole(2**70), 2**70),
        (Ticker("AAPL"), "AAPL"),
        (NOON, "2024-01-02T12:00:00+00:00"),
        (NOON.replace(tzinfo=None), "2024-01-02T12:00:00"),
        (NOON.date(), "2024-01-02"),
        (NOON.time(), "12:00:00"),
        (dt.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        ((1, 2), [1, 2]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2}), [2]),
        ({1: "a"}.keys(), [1]),
        (bytearray(b"\0\xff"), b"\0\xff"),
        (memoryview(b"ab"), b"ab"),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "a", 2.5: "b", Side.BUY: "c"}, {"1": "a", "2.5": "b", "BUY": "c"}),
        (Quote(1, Decimal("2.50")), {"bid": 1, "ask": Decimal("2.50")}),
        (Leg(Decimal("1.10"), ["x"]), {"price": Decimal("1.10"), "tags": ["x"]}),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(-7), -7),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.datetime64("2024-01-02T00:00:00.000000001"), "2024-01-02T00:00:00.000000001"),
    ],
    ids=lambda value: type(value).__name__,  # the same in every process
)
def test_a_known_kind_is_carried_in_plain_parts(value: Any, expected: Any) -> None:
    assert carried(value) == (expected, False)
    assert carried([value]) == ([expected], False)
    assert type(carried(value)[0]) is type(expected)


def test_pandas_times_keep_their_nanoseconds() -> None:
    pandas = pytest.importorskip("pandas")
    stamp = pandas.Timestamp(1_700_000_000_000_000_001, tz="UTC")
    assert carried(stamp) == ("2023-11-14T22:13:20.000000001+00:00", False)
    assert carried(pandas.Series([1.5, 2.5])) == ([1.5, 2.5], False)
    assert carried(pandas.NaT) == ("NaT", False)


class Opaque:
    """Has nothing to print but its address."""


class Speaking:
    """Prints an address."""

    def __repr__(self) -> str:
        return f"Speaking({object()!r})"


class Raising:
    """Cannot be printed."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no text for you")

    __repr__ = __str__


class RaisingBase(Raising):
    """Raises at whatever is asked of it."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> NoReturn:
        raise RuntimeError("no comparison either")

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no class")

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)


class RaisingWithin(dict[str, int]):
    """A mapping that cannot be read."""

    def items(self) -> NoReturn:
        raise RuntimeError("no items")


class Endless(list[int]):
    """A sequence without an end."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


def unconsumed() -> Iterator[int]:
    pytest.fail("the host's iterator was consumed")
    yield 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Opaque(), "<Opaque>"),
        (object(), "<object>"),
        (Speaking(), "Speaking(<object object>)"),
        (Raising(), "<Raising>"),
        (RaisingBase(), "<RaisingBase>"),
        (RaisingWithin(a=1), "<RaisingWithin>"),
        (Fraction(1, 3), "1/3"),
        (1 + 2j, "(1+2j)"),
        ("a\ud800b", "a\\ud800b"),
        ("x" * 1_000_000, "x" * MAX_TEXT),
        (b"x" * 1_000_000, b"x" * MAX_TEXT),
        (1 << 100_000, hex(1 << 100_000)[:MAX_TEXT]),
        (np.zeros(100_000), "<ndarray of 100000>"),
        (np.longdouble(1), "1.0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unknown_kind_is_replaced_where_it_stands(value: Any, expected: Any) -> None:
    assert carried(value) == (expected, True)
    assert carried([1, value, {"a": value, "b": Decimal("1.0")}]) == (
        [1, expected, {"a": expected, "b": Decimal("1.0")}],
        True,
    )


def test_an_iterator_of_the_host_is_not_consumed() -> None:
    value, replaced = carried(unconsumed())
    assert replaced
    assert "unconsumed" in value
    assert "0x" not in value


def test_a_function_is_printed_without_its_address() -> None:
    value, replaced = carried(lambda: None)
    assert replaced
    assert value.endswith("<lambda>>")


@pytest.mark.parametrize("key", [(1, 2), Raising(), "k\ud800", "x" * 5000, Opaque(), None])
def test_a_strange_key_does_not_cost_its_neighbours(key: Any) -> None:
    for attributes in ({key: 1, "beside": 2}, {"inside": {key: 1, "beside": 2}, "beside": 2}):
        back = unpack(pack(snapshot(attributes)))
        assert back["beside"] == 2
        inner = back.get("inside", back)
        assert inner.pop("beside") == 2
        replaced = inner.pop(REPLACED, None)
        (name,) = inner
        assert inner[name] == 1
        assert len(name) <= 1024
        assert replaced in ([name], None)
        assert back.get(REPLACED, replaced) is not None


def test_keys_that_print_alike_are_both_kept() -> None:
    back = snapshot({"inside": {"1": "a", 1: "b", Raising(): "c", Raising(): "d"}})
    assert back["inside"] == {"1": "a", "1#2": "b", "<Raising>": "c", "<Raising>#2": "d"}
    assert back[REPLACED] == ["inside"]


def test_cycles_and_deep_structures_end() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    value, replaced = carried(cyclic)
    assert replaced
    assert value[0] == 1
    assert value[1][1][0] == 1
    wide: dict[str, Any] = {}
    wide.update({str(n): wide for n in range(50)})
    _, replaced = carried(wide)  # 50 ** 8 places without a limit
    assert replaced
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    value, replaced = carried(deep)
    assert replaced
    assert "<list>" in repr(value)


@pytest.mark.parametrize(
    "value",
    [range(10**12), Endless([1]), ["x" * 10_000] * 10_000],
    ids=["range", "endless", "wide"],
)
def test_a_huge_structure_is_cut(value: Any) -> None:
    kept, replaced = carried(value)
    assert replaced
    assert isinstance(kept, list)
    assert len(pack(kept)) < 2_000_000


def test_many_huge_structures_share_one_limit() -> None:
    packed = pack(snapshot({f"k{n}": list(range(20_000)) for n in range(50)}))
    assert len(packed) < 100_000
    assert len(unpack(packed)[REPLACED]) == 50


def test_later_changes_are_not_seen() -> None:
    levels = [[Decimal("1.5"), 3]]
    payload: dict[str, Any] = {"book": {"bids": levels}, "raw": bytearray(b"ab"), "n": np.zeros(2)}
    copied = snapshot(payload)
    levels[0][0] = Decimal(9)
    levels.append([Decimal(8), 1])
    payload["raw"][0] = 0
    payload["n"][0] = 7.0
    assert copied == {"book": {"bids": [[Decimal("1.5"), 3]]}, "raw": b"ab", "n": [0.0, 0.0]}


def test_none_is_left_out_and_inside_a_structure_kept() -> None:
    assert snapshot({"a": None, "b": [None]}) == {"b": [None]}


def test_names_of_replaced_keys_add_up() -> None:
    once = snapshot({"a": object()})
    assert snapshot({**once, "b": object()})[REPLACED] == ["a", "b"]


@given(st.text(st.characters()), st.integers(0, 50))
def test_cleaned_text_is_always_utf8(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert cleaned.encode().decode() == cleaned
    if text.isascii():
        assert cleaned == text[:limit]


def test_printing_never_raises() -> None:
    assert printed(Raising()) == "<Raising>"
    assert printed(Opaque()) == "<Opaque>"
    assert printed("x" * 10, 3) == "xxx"
