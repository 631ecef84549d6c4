"""Files whose names and empty columns are written by the short way are like any others."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters.parquet_file import ROW_GROUP_ROWS, parquet_writer, write_rows
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.whole_parquet import write_whole

LINKS = SPAN_SCHEMA.field("links").type
NAMES = pa.dictionary(pa.int32(), pa.string())


def written(rows: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    write_whole(file, rows, **options)
    return file.getvalue()


def written_by_pyarrow(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    with parquet_writer(file, rows.schema) as writer:
        write_rows(writer, rows)
    return file.getvalue()


def names(texts: list[str], indices: list[int | None]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(texts))


def many(size: int, step: int = 1) -> pa.Table:
    """A table of so many rows with each sort of column, whose names come in two dictionaries."""
    half = size // 2
    strategies = [f"strategy-{n}" for n in range(700)]
    sides = [
        names(["BUY", "SELL"], [None if n % 3 else n % 2 for n in range(begin, end)])
        for begin, end in ((0, half), (half, size))
    ]
    several = [
        names(strategies[first : first + 600], [None if n % 7 == 6 else n % 600 for n in range(k)])
        for first, k in ((0, half), (100, size - half))
    ]
    same = [names(["run"], [0] * half), names(["other", "run"], [1] * (size - half))]
    places = pa.array(range(0, size * step, step), pa.int64())
    columns = {
        "run_id": pa.chunked_array(same),
        "sequence": pa.chunked_array([places[:half], places[half:]]),
        "side": pa.chunked_array(sides),
        "strategy": pa.chunked_array(several),
        "order_id": pa.chunked_array([pa.nulls(half, NAMES), pa.nulls(size - half, NAMES)]),
        "event_time": pa.nulls(size, pa.int64()),
        "price": pa.nulls(size, pa.float64()),
        "parent_span_id": pa.nulls(size, pa.binary()),
        "trace_id": pa.nulls(size, pa.binary()),
        "links": pa.nulls(size, LINKS),
        "sampling_probability": pa.array([1.0] * size),
        "value_1": pa.array([n / 3 for n in range(size)]),
        "quantity": pa.array([-0.0 if n % 9 else None for n in range(size)]),
        "open": pa.array([None if n % 9 else n / 7 for n in range(size)]),
        "duration": pa.array([7] * size),
        "event_timestamp": pa.array(range(size, 0, -1), pa.timestamp("us", tz="UTC")),
        "start_time": pa.array([n + (n > half) for n in range(size)]),
    }
    fields = [pa.field(name, column.type, name != "run_id") for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields, {"key": "value"}))


@pytest.fixture(scope="module")
def large() -> pa.Table:
    return many(ROW_GROUP_ROWS + 10_001)


def test_a_file_has_what_pyarrow_would_have_written(large: pa.Table) -> None:
    mine, theirs = (pq.read_table(io.BytesIO(one(large))) for one in (written, written_by_pyarrow))
    assert mine.equals(theirs)
    assert mine.schema.equals(theirs.schema, check_metadata=True)


def test_duckdb_and_polars_read_the_same_rows(large: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(written(large))
    expected = pq.read_table(io.BytesIO(written_by_pyarrow(large)))
    with duckdb.connect() as connection:
        found = connection.read_parquet(str(path)).to_arrow_table().cast(expected.schema)
        query = f"select count(*) from '{path}' where strategy = 'strategy-650'"
        number = connection.execute(query).fetchall()
    assert found.equals(expected)
    assert number == [(expected["strategy"].to_pylist().count("strategy-650"),)]
    frame = pl.read_parquet(path)
    for name in expected.schema.names:
        if name not in {"links", "event_timestamp"}:
            assert frame[name].to_list() == expected[name].to_pylist()
    assert frame["event_timestamp"].cast(pl.Int64).to_list() == list(range(len(frame), 0, -1))
    assert frame["links"].null_count() == len(frame)


@pytest.mark.parametrize("first", ["run_id", "value_1"])
def test_the_footer_tells_of_all_columns_in_the_order_of_the_schema(
    large: pa.Table, first: str
) -> None:
    large = large.select([first, *(name for name in large.schema.names if name != first)])
    mine, theirs = (
        pq.read_metadata(io.BytesIO(one(large))) for one in (written, written_by_pyarrow)
    )
    assert mine.num_row_groups > 1
    assert [mine.row_group(n).num_rows for n in range(mine.num_row_groups)] == [
        theirs.row_group(n).num_rows for n in range(theirs.num_row_groups)
    ]
    end = 4
    for number in range(mine.num_row_groups):
        group = mine.row_group(number)
        columns = [group.column(n) for n in range(group.num_columns)]
        assert group.total_byte_size == sum(one.total_uncompressed_size for one in columns)
        taken: list[tuple[int, int]] = []
        for n, column in enumerate(columns):
            other = theirs.row_group(number).column(n)
            assert column.path_in_schema == other.path_in_schema
            assert column.num_values == other.num_values
            assert column.compression == "ZSTD"
            assert (column.statistics is None) <= (other.statistics is None)
            if other.is_stats_set and column.is_stats_set:
                for what in ("null_count", "min", "max"):
                    assert getattr(column.statistics, what) == getattr(other.statistics, what)
            begin = column.dictionary_page_offset or column.data_page_offset
            taken.append((begin, begin + column.total_compressed_size))
        # One behind the other, and the first of the schema is the first: Spark goes by its place.
        assert min(taken) == taken[0]
        assert taken[0][0] >= end
        taken.sort()
        assert all(end == begin for (_, end), (begin, _) in pairwise(taken))
        end = taken[-1][1]


def test_a_column_with_a_bloom_filter_keeps_it(large: pa.Table) -> None:
    filters = {"strategy": {"ndv": 700, "fpp": 0.01}}
    metadata = pq.read_metadata(io.BytesIO(written(large, bloom_filters=filters)))
    columns = [metadata.row_group(0).column(n) for n in range(metadata.num_columns)]
    with_filter = {one.path_in_schema for one in columns if one.bloom_filter_offset}
    assert with_filter == {"strategy"}


WORDS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(
    first=WORDS,
    step=st.one_of(st.integers(-3, 3), WORDS),
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=3),
    jump=st.integers(0, 1),
)
def test_steps_of_any_length_come_back(first: int, step: int, sizes: list[int], jump: int) -> None:
    """Also those of parts between which there is a jump, and those that overflow."""
    numbers = iter(range(sum(sizes)))
    parts = [
        [(first + step * next(numbers) + part * jump + 2**63) % 2**64 - 2**63 for _ in range(size)]
        for part, size in enumerate(sizes)
    ]
    column = pa.chunked_array([pa.array(part, pa.int64()) for part in parts])
    price = pa.array([0.5] * len(column))
    rows = pa.table({"sequence": column, "price": price})
    data = written(rows)
    assert pq.read_table(io.BytesIO(data)).equals(rows)
    if len(column):
        told = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).statistics
        everything = [number for part in parts for number in part]
        assert (told.min, told.max) == (min(everything), max(everything))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(width=64)), min_size=1, max_size=100),
    st.integers(0, 20),
)
def test_doubles_that_are_often_missing_come_back_bit_by_bit(
    numbers: list[float | None], more: int
) -> None:
    numbers = [*numbers, *[None] * (len(numbers) + more)]
    column = pa.array(numbers, pa.float64()).slice(more // 2)
    rows = pa.table({"price": column, "value_1": pa.array([0.5] * len(column))})
    found = pq.read_table(io.BytesIO(written(rows)))["price"]
    assert found.is_valid().to_pylist() == column.is_valid().to_pylist()
    for mine, given_ in zip(found.to_pylist(), column.to_pylist(), strict=True):
        assert mine is given_ is None or struct.pack("d", mine) == struct.pack("d", given_)


def test_an_empty_table_and_one_of_names_alone_are_written_too(large: pa.Table) -> None:
    for rows in (large.slice(0, 0), large.select(["side"]), large.select(["value_1"])):
        assert pq.read_table(io.BytesIO(written(rows))).equals(
            pq.read_table(io.BytesIO(written_by_pyarrow(rows)))
        )


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 40))
    columns: dict[str, pa.Array] = {"sequence": pa.array(range(rows), pa.int64())}
    for name in ("side", "strategy", "attributes", "correlation_id"):
        texts = draw(st.lists(st.text(max_size=5), min_size=1, max_size=300, unique=True))
        index = st.one_of(st.none(), st.integers(0, len(texts) - 1))
        indices = draw(st.lists(index, min_size=rows, max_size=rows))
        columns[name] = names(texts, indices)
    begin = draw(st.integers(0, rows - 1))
    return pa.table(columns).slice(begin)  # indices and bitmaps that begin in the midst of a byte


@settings(max_examples=150, deadline=None)
@given(tables())
def test_any_names_come_back(rows: pa.Table) -> None:
    data = written(rows)
    found = pq.read_table(io.BytesIO(data))
    assert found.equals(rows.cast(found.schema))
    metadata = pq.read_metadata(io.BytesIO(data)).row_group(0)
    for n, name in enumerate(rows.schema.names):
        told = metadata.column(n).statistics
        texts = [text for text in rows[name].to_pylist() if text is not None]
        if name in {"attributes", "correlation_id"} and texts:
            assert told.has_min_max
            assert (told.min, told.max) == (min(texts), max(texts))
