"""Rows made by column are the rows that are made one by one."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.parquet_file import write_parquet
from fillpath.exporters.run_rows import RunRows
from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.span_rows import SpanRows
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.exporters.spool_spans import SpoolSpans
from fillpath.exporters.writer import drain
from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.event_sampler import KEEP_ALL
from fillpath.instrumentation.semconv import PUBLISH, Bar, EventType, Fill, Order, Signal
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.span_parts import CAUSE_TRACE
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    NO_TIME,
    SLOTS,
    BlockType,
    Field,
    Flag,
    SideRecord,
    Site,
    SpoolReader,
)
from fillpath.instrumentation.spool_writer import SpoolWriter, pack_side_record

RUN = "run-1"
KINDS = {
    "double": st.floats() | st.sampled_from([1.25, 100.1, -0.0, 1e-12, 0.012345678901234567]),
    "integer": st.integers(-(1 << 53), 1 << 53).map(float) | st.just(-0.0),
    "boolean": st.sampled_from([0.0, 1.0]),
    "decimal": st.integers(1 - 10**15, 10**15 - 1).map(float) | st.just(-0.0),
}
KEYS = [
    *(Bar.OPEN, Bar.CLOSE, Bar.VOLUME, Signal.STRENGTH, Fill.PRICE, Fill.QUANTITY, Order.PRICE),
    *(Order.TRIGGER_PRICE, "own.one", "own.two", "ä"),
]
EVENT_TYPES = [EventType.BAR, EventType.FILL, EventType.ORDER, EventType.FEATURES]
NUMBERS = {"integer": st.just(0), "boolean": st.just(0), "double": st.just(0)}


@st.composite
def sites(draw: st.DrawFn, number: int) -> Site:
    fields = []
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=SLOTS, unique=True)):
        kind = draw(st.sampled_from(sorted(KINDS)))
        fields.append(Field(key, kind, draw(st.integers(0, 18)) if kind == "decimal" else 0))
    texts = st.sampled_from([Order.SIDE, Order.TYPE, Bar.TYPE, "own.three", Fill.CURRENCY])
    values = st.sampled_from(["BUY", "é", "1.5", 7, True])
    return Site(
        number,
        draw(st.sampled_from([PUBLISH, "process"])),
        draw(st.sampled_from(EVENT_TYPES)),
        draw(st.sampled_from(["a", "b/c"])),
        draw(st.sampled_from([None, "S-1"])),
        draw(st.sampled_from([None, "AAPL"])),
        None,
        draw(st.sampled_from([None, "S.on_bar"])),
        tuple(fields),
        tuple(draw(st.dictionaries(texts, values, max_size=2)).items()),
        draw(st.booleans()),
    )


Record = tuple[Any, ...]
Chunk = tuple[list[Record], list[bytes]]


@st.composite
def spools(draw: st.DrawFn) -> tuple[list[Site], list[Chunk], int]:
    """Draw sites and what is appended, a chunk at a time, and the offset of the clock."""
    all_sites = [draw(sites(number)) for number in range(1, draw(st.integers(1, 4)) + 1)]
    times = st.just(NO_TIME) | st.integers(0, 10**12)
    roots = {0: 0}
    open_events: list[int] = []
    chunks: list[Chunk] = []
    numbers = list(draw(st.permutations(range(1, draw(st.integers(1, 25)) + 1))))
    in_order = draw(st.booleans())
    if in_order:  # else parents may be missing where they are referred to, as after a full disk
        numbers.sort()
    records: list[Record] = []
    side: list[bytes] = []
    for sequence in numbers:
        site = draw(st.sampled_from(all_sites))
        smaller = [0, *(one for one in range(1, sequence) if draw(st.booleans()))]
        parent = draw(st.sampled_from(smaller))
        root = roots.get(parent, parent) if parent else sequence
        roots[sequence] = root
        flags = draw(st.sampled_from([0, 0, 0, int(Flag.BEGIN), int(Flag.ERROR)]))
        if draw(st.integers(0, 4)) == 0:
            flags |= int(Flag.SIDE)
            side.append(pack_side_record(draw(side_records(sequence, in_order))))
        if flags & Flag.BEGIN:
            open_events.append(sequence)
        for place in range(SLOTS):
            flags |= (int(Flag.ABSENT) << place) * draw(st.sampled_from([0, 0, 1]))
        slots = [draw(KINDS[field.kind]) for field in site.fields]
        records.append(
            (
                sequence,
                parent,
                root,
                draw(times),
                draw(times),
                draw(times),
                site.number | flags << FLAGS_SHIFT,
                *(slots + [0.0] * SLOTS)[:SLOTS],
            )
        )
        while open_events:
            if draw(st.booleans()):
                break
            ended = open_events.pop(draw(st.integers(0, len(open_events) - 1)))
            flags = int(Flag.FINISH)
            if draw(st.integers(0, 3)) == 0:
                flags |= int(Flag.SIDE)
                side.append(pack_side_record(SideRecord(ended, {"later": 1.5}, [], {})))
            end = (ended, 0, 0, NO_TIME, draw(times), NO_TIME, site.number | flags << FLAGS_SHIFT)
            records.append((*end, *[0.0] * SLOTS))
        if draw(st.integers(0, 5)) == 0:
            chunks.append((records, side))
            records, side = [], []
    chunks.append((records, side))
    return all_sites, chunks, draw(st.sampled_from([0, 1_700_000_000_000_000_000]))


@st.composite
def side_records(draw: st.DrawFn, sequence: int, chains: bool) -> SideRecord:
    extras: list[dict[str, Any]] = [
        {},
        {"error": {"type": "KeyError", "message": "'x'"}, "event_id": "E"},
    ]
    if chains:
        extras += [
            {"correlation_id": "order 7"},
            {"correlation_id": "ab" * 16},
            {"parent": (b"\x07" * 16, b"\x08" * 8)},
        ]
    extra = draw(st.sampled_from(extras))
    links = draw(st.lists(st.just((b"t" * 16, b"s" * 8)), max_size=1))
    keys = st.sampled_from(
        [*KEYS, Order.CLIENT_ID, Order.ID, Order.SIDE, Fill.CURRENCY, CAUSE_TRACE]
    )
    values = st.sampled_from(["1.5", "BUY", "é", "", ["x"], {"a": 1.5}, 7, Decimal("0.10"), b"x"])
    attributes = draw(st.dictionaries(keys, values, max_size=2))
    if draw(st.integers(0, 3)) == 0:
        attributes[CAUSE_TRACE] = "0123456789abcdef" * 2
    return SideRecord(sequence, attributes, links, extra)


def _one_by_one(folder: Path) -> tuple[pa.Table, list[dict[str, Any]]]:
    events, rows, completeness = SpoolEvents(), SpanRows(), Completeness()
    spans = SpoolSpans(RUN, events)
    for block in SpoolReader(folder).blocks():
        for event in events.feed(block):
            if event.site.operation == PUBLISH:
                completeness.kept(event.site.portfolio, event.site.event_type)
            if not event.site.counted and event.site.operation == PUBLISH:
                completeness.seen_uncounted(event.site.portfolio, event.site.event_type)
            rows.add(spans.span(event, KEEP_ALL))
    return rows.take(), completeness.rows("Ended")


def _by_column(folder: Path, blocks_at_once: int) -> tuple[pa.Table, list[dict[str, Any]]]:
    events, completeness = SpoolEvents(), Completeness()
    rows = RunRows(RUN, events, completeness)
    for number, block in enumerate(SpoolReader(folder).blocks()):
        if block.type is BlockType.EVENTS:
            rows.add(block, new=True)
        else:
            events.feed_fact(block)
        if number % blocks_at_once == 0:
            rows.settle()
    rows.add_unfinished(new=True)
    return rows.take().cast(SPAN_SCHEMA), completeness.rows("Ended")


def _comparable(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in which NaN equals NaN and -0.0 does not equal 0.0."""
    return [
        {name: repr(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in table.to_pylist()
    ]


@settings(deadline=None, max_examples=60)
@given(spools(), st.sampled_from([1, 3, 100]))
def test_rows_made_by_column_are_those_made_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    spool: tuple[list[Site], list[Chunk], int],
    blocks_at_once: int,
) -> None:
    all_sites, chunks, offset = spool
    folder = tmp_path_factory.mktemp("run") / RUN
    writer = SpoolWriter(folder, {"run_id": RUN, "clock_offset": offset, "service_name": "made"})
    for number, (records, side) in enumerate(chunks):
        writer.append(records, side, all_sites if number == 0 else [], [])
    writer.finish({"status": "Ended"})
    expected, counted = _one_by_one(folder)
    table, by_column = _by_column(folder, blocks_at_once)
    for mine, theirs in zip(_comparable(table), _comparable(expected), strict=True):
        assert {
            name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]
        } == {}
    assert by_column == counted


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 5_000), max_size=40), max_size=4))
def test_bits_take_and_tell_many_numbers_at_once(many: list[list[int]]) -> None:
    bits, known = Bits(), set[int]()
    asked = np.arange(6_000)
    for numbers in many:
        bits.add_all(np.array(numbers, np.int64))
        known |= set(numbers)
        assert np.flatnonzero(bits.holds(asked)).tolist() == sorted(known)


def test_other_engines_read_what_was_made_by_column(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    bar = (Field(Bar.OPEN, "decimal", 2), Field(Bar.CLOSE, "decimal", 2), Field(Bar.VOLUME))
    sites_of_run = [
        Site(1, PUBLISH, EventType.BAR, "fund", None, "AAPL", "XNAS", None, bar),
        Site(2, PUBLISH, EventType.ORDER, "fund", "S-1", "AAPL", "XNAS", None),
    ]
    spool = SpoolWriter(data.spool / RUN, {"run_id": RUN, "clock_offset": 10**18})
    number = 1_000
    records: list[Record] = []
    side = []
    for sequence in range(1, number + 1):
        root = sequence - (sequence - 1) % 10
        parent = 0 if sequence == root else root
        if parent:
            side.append(pack_side_record(SideRecord(sequence, {Order.ID: f"V-{sequence}"}, [], {})))
        place = 2 | int(Flag.SIDE) << FLAGS_SHIFT if parent else 1
        price = 10_000.0 + sequence
        times = (sequence, sequence + 7, sequence * 1_000)
        records.append((sequence, parent, root, *times, place, price, price, 5.5, 0.0, 0.0))
    spool.append(records, side, sites_of_run, [])
    spool.finish({"status": "Ended"})
    assert drain(data, RUN) == "Ended"
    (file,) = EventStore(data).spans.files()
    assert (file.smallest["run_id"], file.largest["root_sequence"]) == (RUN, 991)

    arrow = pq.read_table(file.path)
    assert arrow.schema.names == SPAN_SCHEMA.names
    assert [field.type for field in arrow.schema] == [field.type for field in SPAN_SCHEMA]
    frame = pl.read_parquet(file.path)
    names = [name for name in SPAN_SCHEMA.names if name not in {"event_timestamp", "links"}]
    with duckdb.connect() as connection:
        read = connection.read_parquet(str(file.path)).select(*names).fetchall()
    by_duckdb = [dict(zip(names, row, strict=True)) for row in read]
    assert arrow.select(names).to_pylist() == frame.select(names).to_dicts() == by_duckdb
    first, second = by_duckdb[:2]
    assert (first["open"], first["price"], first["quantity"]) == (100.01, 100.01, 5.5)
    assert (second["order_id"], second["price"], second["start_time"]) == ("V-2", None, 10**18 + 2)
    shown = EventStore(data).query("SELECT attributes->>'trading.bar.open' FROM spans LIMIT 1")
    assert list(shown.rows) == [("100.01",)]


def test_a_column_of_all_different_texts_has_no_dictionary_in_each_row_group(
    tmp_path: Path,
) -> None:
    events, completeness = SpoolEvents(), Completeness()
    folder = tmp_path / RUN
    writer = SpoolWriter(folder, {"run_id": RUN})
    site = Site(1, PUBLISH, EventType.ORDER, "a")
    numbers = range(1, 6_001)
    side = [pack_side_record(SideRecord(n, {Order.CLIENT_ID: f"O-{n}"}, [], {})) for n in numbers]
    place = 1 | int(Flag.SIDE) << FLAGS_SHIFT
    writer.append([(n, 0, n, 1, 2, 3, place, *[0.0] * SLOTS) for n in numbers], side, [site], [])
    writer.close()
    rows = RunRows(RUN, events, completeness)
    for block in SpoolReader(folder).blocks():
        if block.type is BlockType.EVENTS:
            rows.add(block, new=True)
        else:
            events.feed_fact(block)
    table = rows.take()
    assert table["client_order_id"].type == pa.string()
    assert pa.types.is_dictionary(table["event_type"].type)
    write_parquet(table, tmp_path / "spans.parquet")
    assert table["client_order_id"][-1].as_py() == "O-6000"
    assert math.isclose(completeness.rows("Crashed")[0]["kept"], 6_000)


@pytest.mark.parametrize("flags", [0, Flag.BEGIN, Flag.SIDE])
def test_what_stands_before_a_record_of_an_undescribed_site_is_kept(
    tmp_path: Path, flags: int
) -> None:
    events, completeness = SpoolEvents(), Completeness()
    folder = tmp_path / RUN
    writer = SpoolWriter(folder, {"run_id": RUN})
    site = Site(1, PUBLISH, EventType.ORDER, "a")
    rest = (1, 2, 3)
    places = [1, 1, 7 | int(flags) << FLAGS_SHIFT, 1]
    records = [(n, 0, n, *rest, place, *[0.0] * SLOTS) for n, place in enumerate(places, 1)]
    finish = int(Flag.FINISH) << FLAGS_SHIFT
    # The end of an event says nothing of its site, so that this one is none to stop at.
    records.insert(1, (9, 0, 0, *rest, 8 | finish, *[0.0] * SLOTS))
    writer.append(records, [], [site], [])
    writer.close()
    rows = RunRows(RUN, events, completeness)
    for block in SpoolReader(folder).blocks():
        if block.type is BlockType.EVENTS:
            rows.add(block, new=True)
        else:
            events.feed_fact(block)
    with pytest.raises(SpoolError, match="event 3 refers to site 7"):
        rows.settle()
    assert rows.take()["sequence"].to_pylist() == [1, 2]
    assert completeness.rows("Crashed")[0]["kept"] == 2
