"""Rows laid out for COPY: the very bytes that psycopg makes, one value at a time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from fillpath.analytics import copy_stream
from fillpath.analytics.copy_stream import copy_blocks

NUMERIC, TEXT, INT8 = 1700, 25, 20
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.one_of(
    st.none(),
    st.integers(-(10**40), 10**40),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9
    ),
    st.builds(
        lambda number, places: Decimal(number).scaleb(-places),
        st.integers(-(10**20), 10**20),
        st.integers(-20, 30),
    ),
)


def laid_out(rows: Any, types: Sequence[int]) -> bytes:
    return b"".join(bytes(block) for _, block in copy_blocks(rows, types))


def one_by_one(rows: Sequence[Sequence[object]]) -> bytes:
    """The stream as psycopg makes it, value by value."""
    made = bytearray(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    transformer = Transformer()
    for row in rows:
        made += len(row).to_bytes(2, "big")
        for value in row:
            if value is None:
                made += b"\xff\xff\xff\xff"
                continue
            number = Decimal(value) if isinstance(value, int) else value
            dumped = bytes(transformer.get_dumper(number, PyFormat.BINARY).dump(number) or b"")
            made += len(dumped).to_bytes(4, "big") + dumped
    return bytes(made + b"\xff\xff")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_numbers_keep_every_digit_they_came_with(numbers: list[Decimal | int | None]) -> None:
    rows = [(number,) for number in numbers]
    assert laid_out(rows, [NUMERIC]) == one_by_one(rows)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(10**30), 10**30)), min_size=1), st.integers(0, 8)
)
def test_decimals_of_arrow_are_the_same_numbers(numbers: list[int | None], places: int) -> None:
    values = [None if one is None else Decimal(one).scaleb(-places) for one in numbers]
    table = pa.table({"amount": pa.array(values, pa.decimal128(38, places))})
    (column,) = table.columns
    rows = [(value,) for value in column.to_pylist()]
    assert laid_out(table, [NUMERIC]) == one_by_one(rows)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), TEXTS)), min_size=1))
def test_texts_are_the_same_bytes(rows: list[tuple[str | None]]) -> None:
    assert laid_out(rows, [TEXT]) == one_by_one(rows)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), TEXTS), NUMBERS), min_size=1, max_size=20))
def test_every_block_holds_its_rows_whole(rows: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_stream, "ROWS_AT_ONCE", 3)
        (_, head), *blocks, (_, end) = copy_blocks(rows, [TEXT, NUMERIC])
    assert sum(number for number, _ in blocks) == len(rows)
    for place, (number, block) in enumerate(blocks):
        part = rows[place * 3 : place * 3 + number]
        assert head + block + end == one_by_one(part)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_nanoseconds_are_cut_to_microseconds(times: list[int | None]) -> None:
    # The zero of Postgres's clock is the year 2000, 946,684,800 seconds after that of Unix.
    cut = [None if at is None else int(Decimal(at) // 1_000) for at in times]
    expected = [
        (at, None if us is None else us - 946_684_800_000_000)
        for at, us in zip(times, cut, strict=True)
    ]
    blocks = copy_blocks([(at,) for at in times], [INT8, 1184], moments=[0])
    made = b"".join(bytes(block) for _, block in blocks)
    typed = pa.table(
        [
            pa.array([at for at, _ in expected], pa.int64()),
            pa.array([us for _, us in expected], pa.int64()),
        ],
        names=["at", "us"],
    )
    assert made == laid_out(typed, [INT8, INT8])


def test_special_numbers_are_told_apart() -> None:
    rows = [(Decimal("NaN"),), (Decimal("Infinity"),), (Decimal("-Infinity"),), (Decimal("-0.0"),)]
    assert laid_out(rows, [NUMERIC]) == one_by_one(rows)


@pytest.mark.parametrize(
    ("value", "kind", "named"),
    [(0.1, NUMERIC, "float"), (True, NUMERIC, "bool"), ("7", INT8, "column"), (7, TEXT, "column")],
)
def test_values_of_the_wrong_type_are_refused(value: object, kind: int, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        laid_out([(value,)], [kind])


def test_rows_of_uneven_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        laid_out([(1, 2), (3,)], [INT8, INT8])


def test_no_rows_make_an_empty_stream() -> None:
    assert laid_out([], [INT8]) == one_by_one([])
