"""The fast door records what it is given: whatever that is, whoever gives it, whenever it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation import identity
from fillpath.instrumentation.emitter import FLUSH_EVENTS, Emitter
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.open_event import Handle, OpenEvent
from fillpath.instrumentation.payload import pack, snapshot, unpack
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.semconv import PROCESS, Event, Order
from fillpath.instrumentation.spool import (
    NO_TIME,
    BlockType,
    Count,
    EventRecord,
    Field,
    FieldKind,
    Flag,
    SpoolReader,
)
from fillpath.instrumentation.spool_writer import SpoolWriter
from fillpath.instrumentation.tracing import Tracing

RUN_ID = "run"


class Session:
    """A tracer and what it has recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(SpoolWriter(folder, {"run_id": RUN_ID}))
        self.tracer = EventTracer(RUN_ID, self.recorder, "demo/fx")

    def end(self) -> dict[int, RecordedEvent]:
        self.tracer.stop()
        self.recorder.stop({})
        return recorded(self.folder)


def recorded(folder: Path) -> dict[int, RecordedEvent]:
    """Events by sequence; each stands behind its parent, once."""
    spool, found = SpoolEvents(), {}
    for block in SpoolReader(folder).blocks():
        for event in spool.feed(block):
            assert event.sequence not in found
            assert not event.parent_dropped
            assert event.parent < event.sequence
            found[event.sequence] = event
    return found


def records_of(folder: Path) -> list[EventRecord]:
    return [
        record
        for block in SpoolReader(folder).blocks()
        if block.type is BlockType.EVENTS
        for record in block.events()
    ]


def totals_of(folder: Path) -> list[Count]:
    blocks = [b for b in SpoolReader(folder).blocks() if b.type is BlockType.COUNTS]
    return blocks[-1].counts() if blocks else []


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path / RUN_ID)
    yield session
    session.end()


def handle_of(given: Handle | None) -> Handle:
    assert given is not None
    return given


# -- What an event is --------------------------------------------------------------------------


@pytest.mark.smoke
def test_all_parts_of_an_event(session: Session) -> None:
    tracer = session.tracer
    emit = tracer.emitter(
        "SIGNAL",
        portfolio="fund/desk",
        strategy="S-1",
        symbol="EUR/USD",
        venue="XNAS",
        handler="S.on_bar",
        fields=["trading.signal.value", Field("price", FieldKind.DECIMAL, 2)],
        texts={"trading.signal.name": "Trend"},
    )
    before = tracer.now()
    sequence, root = handle_of(emit(5, None, 1.5, Decimal("190.50"), start=before))
    found = session.end()[sequence]
    assert sequence == root == found.root == 1
    assert found.site[1:8] == (
        "publish", "SIGNAL", "fund/desk", "S-1", "EUR/USD", "XNAS", "S.on_bar"
    )  # fmt: skip
    assert found.attributes == {
        "trading.signal.name": "Trend",
        "trading.signal.value": 1.5,
        "price": Decimal("190.50"),
    }
    assert str(found.attributes["price"]) == "190.50"
    assert found.event_time == 5
    assert found.start == before
    assert found.end is not None
    assert before <= found.end
    assert not found.site.counted
    assert totals_of(session.folder) == []


def test_an_event_without_times_has_an_instant_and_no_simulated_time(session: Session) -> None:
    (sequence, _) = handle_of(session.tracer.emitter("BAR")())
    found = session.end()[sequence]
    assert found.event_time is None
    assert found.start == found.end


def test_an_event_that_begins_after_its_end_lasts_the_shortest_time(tmp_path: Path) -> None:
    with Tracing("run", data=tmp_path, writer="inline", portfolio="p") as tracing:
        tracer = tracing.tracer
        later = tracer.now() + 10**12
        emit = tracer.emitter("BAR")
        emit(1, None, start=later)
        emit(1, None, start=tracer.now() - 1000)
        event = tracer.open("ORDER")
        event.start = later
        tracer.close(event)
        caused = tracer.open("ORDER")
        caused.start = later
        emit(1, caused)
        tracer.close(caused)
    rows = (
        EventStore(tracing.folder)
        .query("select sequence, duration, end_time - start_time from spans order by sequence")
        .rows
    )
    durations = {row[0]: row[1] for row in rows}
    assert [durations[n] == 1 for n in (1, 2, 3, 4)] == [True, False, True, True]
    assert all(row[1] == row[2] >= 0 for row in rows)
    (newest,) = next(EventStore(tracing.folder).query("select max(end_time) from spans").rows)
    assert newest < time.time_ns()


def test_a_handle_names_the_cause(session: Session) -> None:
    bar, signal = session.tracer.emitter("BAR"), session.tracer.emitter("SIGNAL")
    root = bar(1)
    child = signal(2, root)
    grandchild = signal(3, child)
    other = bar(4)
    found = session.end()
    assert [found[n].parent for n in (1, 2, 3, 4)] == [0, 1, 2, 0]
    assert [found[n].root for n in (1, 2, 3, 4)] == [1, 1, 1, 4]
    assert (grandchild, other) == ((3, 1), (4, 4))


def test_both_doors_cause_each_other(session: Session) -> None:
    tracer = session.tracer
    emit = tracer.emitter("FEATURES", fields=["x"])
    bar = tracer.open("BAR", attributes={"close": 1.5})
    features = emit(1, bar, 2.5)
    run = tracer.open("FEATURES", operation=PROCESS, parent=features, handler="S.on_features")
    signal = emit(2, run, 3.5)
    order = tracer.open("ORDER", parent=signal, links=[handle_of(features)])
    for event in (order, run, bar):
        tracer.close(event)
    found = session.end()
    assert found[2].parent == bar.sequence == 1
    assert found[run.sequence].parent == 2
    assert (found[4].parent, order.parent, found[order.sequence].parent) == (run.sequence, None, 4)
    assert {event.root for event in found.values()} == {1}
    key = identity.run_key(RUN_ID)
    assert order.chain.trace_id == identity.trace_id(key, 1)
    assert found[order.sequence].links == [
        (identity.trace_id(key, 1).to_bytes(16, "big"), identity.span_id(key, 2).to_bytes(8, "big"))
    ]


def test_a_named_chain_keeps_its_name_through_the_fast_door(session: Session) -> None:
    tracer = session.tracer
    bar = tracer.open("BAR", correlation_id="trade 1")
    order = tracer.open("ORDER", parent=tracer.emitter("SIGNAL")(1, bar))
    tracer.close(order)
    tracer.close(bar)
    assert order.chain is bar.chain
    assert [event.extra["correlation_id"] for event in session.end().values()] == ["trade 1"] * 3


@pytest.mark.parametrize(
    "cause",
    [
        (), (1,), (1, 2, 3), ("a", "b"), "ab", 7, object(), (-1, 1), (1, 2**64), (None, None),
        [0.5], (0, 0), (1, 0), (1, 40), (0, 1), (1.0, 1.0), (True, True), (1.0, 1), [1, 1],
        {1: 2, 3: 4}, bytearray(b"\x01\x01"), iter((1, 1)),
    ],
)  # fmt: skip
def test_what_is_no_cause_causes_nothing(session: Session, cause: Any) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"])
    before, after = emit(1, None, 0.5), emit(2, cause, 1.5)
    late = session.tracer.open("ORDER", parent=cause)
    session.tracer.close(late)
    found = session.end()
    assert before == (1, 1)
    assert after == (2, 2)
    assert [(found[n].parent, found[n].root) for n in (1, 2, 3)] == [(0, 1), (0, 2), (0, 3)]
    assert found[2].attributes == {"x": 1.5}


@pytest.mark.parametrize("cause", [(2, 1), (2, 2), (40, 1), (10**6, 10**6)])
def test_an_event_is_not_caused_by_itself_or_a_later_one(
    session: Session, cause: tuple[int, int]
) -> None:
    emit = session.tracer.emitter("BAR")
    emit(1)
    assert emit(2, cause) == (2, 2)
    late = session.tracer.open("ORDER", parent=(cause[0] + 1, cause[1]))
    session.tracer.close(late)
    emit(4)
    found = session.end()
    assert [(found[n].parent, found[n].root) for n in (1, 2, 3, 4)] == [
        (0, n) for n in (1, 2, 3, 4)
    ]


def test_a_root_that_is_no_integer_begins_no_chain(session: Session) -> None:
    emit = session.tracer.emitter("BAR")
    emit(1)
    child = emit(2, (1, 1.0))  # type: ignore[arg-type]
    emit(3, child)
    found = session.end()
    assert [(found[n].parent, found[n].root) for n in (1, 2, 3)] == [(0, 1), (0, 2), (0, 3)]


def test_an_event_of_another_session_is_no_cause(session: Session, tmp_path: Path) -> None:
    other = Session(tmp_path / "other")
    foreign = other.tracer.open("BAR")
    session.tracer.emitter("BAR")(1, foreign)
    other.end()
    assert session.end()[1].parent == 0


IMPOSSIBLE = [2**63, -(2**70), "noon", 1.5, float("nan"), Decimal(7), [1], object()]


@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_an_impossible_time_is_no_time_and_is_named_as_replaced(
    session: Session, value: Any
) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"], names=["name"])
    emit(value, None, 1.5, "\ud800", start=value)
    emit(value)
    emit(7, None, 2.5)
    found = session.end()
    assert [found[n].event_time for n in (1, 2, 3)] == [None, None, 7]
    assert found[1].start == found[1].end
    assert found[1].attributes == {
        "x": 1.5,
        "name": "\\ud800",
        Event.REPLACED: ["name", Event.TIME],
    }
    assert found[2].attributes == {Event.REPLACED: [Event.TIME]}
    assert found[3].attributes == {"x": 2.5}


def test_no_time_is_no_time_and_nothing_was_replaced(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"])
    emit(None, None, 1.5)  # type: ignore[arg-type]
    emit(np.int64(5), None, 1.5)  # type: ignore[arg-type]
    found = session.end()
    assert [(e.event_time, e.attributes) for e in found.values()] == [
        (None, {"x": 1.5}),
        (5, {"x": 1.5}),
    ]


def test_a_surplus_number_is_the_callers_mistake(session: Session) -> None:
    for fields in (["x"], [Field("x", FieldKind.INTEGER)]):
        with pytest.raises(TypeError):
            session.tracer.emitter("BAR", fields=fields)(1, None, 1.5, 2.5)
    assert session.end() == {}


UNFIT_PARTS: list[Any] = [
    *((7,), ("a", []), ("a", None), ("a", "double", "q")),
    *(("a", "decimal", scale) for scale in (400, 19, -1, "q", None, 1.5, True)),
]


@pytest.mark.parametrize(
    "fields",
    [
        ["a"] * 6, [Field("a", "text")], [7], [("a", "double", 0)], ["\ud800", "\\ud800"],
        *([Field(*parts)] for parts in UNFIT_PARTS),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_are_refused_at_once(session: Session, fields: Any) -> None:
    with pytest.raises(UsageError, match="emitter"):
        session.tracer.emitter("BAR", fields=fields)


def test_names_that_no_text_can_have_are_written_out_and_cost_no_event(session: Session) -> None:
    tracer, odd = session.tracer, "a\ud800"
    tracer.emitter("BAR", fields=["x"])(1, None, 0.5)
    tracer.emitter("TICK", fields=[odd])(2, None, 1.5)
    tracer.emitter("TICK", operation=odd)(3)
    tracer.emitter(odd, portfolio=odd, strategy=odd, symbol=odd, venue=odd, handler=odd)(4)
    tracer.emitter("TICK", texts={odd: odd})(5)
    tracer.emitter("TICK", operation=7)(6)  # type: ignore[arg-type]
    tracer.close(tracer.open("TICK", operation=odd))
    session.recorder.flush()
    tracer.emitter("BAR", fields=["x"])(8, None, 0.5)
    found = session.end()
    assert len(found) == 8
    assert found[2].attributes == {"a\\ud800": 1.5}
    assert [found[n].site.operation for n in (3, 6, 7)] == ["a\\ud800", "7", "a\\ud800"]
    assert set(found[4].site[2:8]) == {"a\\ud800"}
    assert not any(count.dropped for count in totals_of(session.folder))


def test_the_same_emitter_twice_is_one_site(session: Session) -> None:
    for _ in range(3):
        session.tracer.emitter("BAR", symbol="A", fields=["x"], texts={"a": [1]})(1, None, 1.5)
    assert len({event.site.number for event in session.end().values()}) == 1


# -- Any values --------------------------------------------------------------------------------


class Mute:
    """Cannot be printed, compared or hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> NoReturn:
        raise RuntimeError("mute")

    __repr__ = __index__ = __float__ = __str__


class Price(float):
    """A float of the host's own."""


plain_numbers = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 10**15, 0, -0.0, 0.1, 1e300]),
    st.booleans(),
    st.decimals(),
    st.decimals(places=2, min_value=-(10**14), max_value=10**14),
)
odd_values = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.text("\ud800a", max_size=3),
    st.sampled_from(["abcd", b"abcd", b"12345678", "", "BUY", "x" * 20_000]),
    st.binary(max_size=9),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
    st.builds(lambda: np.float64(1.5)),
    st.builds(lambda: np.int64(7)),
    st.builds(lambda: np.float32(0.1)),
    st.builds(lambda: np.array([1.5, 2.5])),
    st.builds(Mute),
    st.builds(Price, st.just(2.5)),
    st.builds(object),
)
values = plain_numbers | odd_values
kinds = st.one_of(
    st.sampled_from([FieldKind.DOUBLE, FieldKind.INTEGER, FieldKind.BOOLEAN]).map(
        lambda kind: (kind, 0)
    ),
    st.tuples(st.just(FieldKind.DECIMAL), st.integers(0, 18)),
)


def as_carried(attributes: dict[str, Any]) -> dict[str, Any]:
    """What the spool can hold of attributes, by the module that says so."""
    carried: dict[str, Any] = unpack(pack(snapshot(attributes)))
    return carried


def is_same(found: Any, expected: Any) -> bool:
    """Equal to the digit and the type."""
    return repr(found) == repr(expected)


def is_same_number(found: Any, expected: Any) -> bool:
    """Equal as numbers, of whatever type a field gives them; or else equal."""
    if isinstance(found, float | int | Decimal) and isinstance(expected, float | int | Decimal):
        if isinstance(found, bool) is not isinstance(expected, bool):
            return False
        if isinstance(found, float) and isinstance(expected, float):
            return is_same(found, expected)
        if isinstance(found, Decimal) and isinstance(expected, float):
            return float(found) == expected  # the shortest digits of a double
        return is_same(found, expected) or found == expected
    return is_same(found, expected)


@pytest.mark.smoke
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(kinds, st.lists(values, min_size=4, max_size=4)), max_size=5))
def test_any_values_are_carried_through_the_fast_door(
    columns: list[tuple[tuple[FieldKind, int], list[Any]]],
) -> None:
    fields = [Field(f"f{n}", *kind) for n, (kind, _) in enumerate(columns)]
    rows = list(zip(*(given_values for _, given_values in columns), strict=True)) or [()] * 4
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name) / RUN_ID)
        emit = session.tracer.emitter("FEATURES", fields=fields)
        neighbour = session.tracer.emitter("BAR", fields=["x"])
        for row in rows:
            emit(1, None, *row)
            neighbour(2, None, 0.5)
        found = session.end()
    assert len(found) == 8
    for number, row in enumerate(rows):
        event, other = found[2 * number + 1], found[2 * number + 2]
        assert other.attributes == {"x": 0.5}
        given_attributes = {field.key: value for field, value in zip(fields, row, strict=True)}
        expected = as_carried(given_attributes)
        got = dict(event.attributes)
        assert set(got.pop(Event.REPLACED, ())) == set(expected.pop(Event.REPLACED, ()))
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert is_same_number(got[key], value), (key, got[key], value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c", "d", "e", "f", "g", Order.SIDE, Order.STATUS]),
            values,
            max_size=9,
        ),
        max_size=6,
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_attributes_are_carried_through_the_rich_door(
    given_attributes: list[dict[str, Any]], has_child: bool, is_lazy: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name) / RUN_ID)
        tracer = session.tracer
        opened = []
        for each in given_attributes:
            event = tracer.open("ORDER", attributes=(lambda e=each: e) if is_lazy else each)
            if has_child:
                tracer.close(tracer.open("FILL", parent=event))
            tracer.close(event)
            opened.append(event)
        found = session.end()
    for event, each in zip(opened, given_attributes, strict=True):
        expected = as_carried(each)
        got = found[event.sequence].attributes
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert is_same(got[key], value), (key, got[key], value)


some_texts = st.one_of(
    st.none(),
    st.sampled_from(["O-20240102-0000001", "F-7", "", "ä", "\ud800", "x" * 16_384, "x" * 16_385]),
    st.text(max_size=40),
    st.text("\ud800\udc00a", max_size=4),
)


@pytest.mark.smoke
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(1, 4),
    st.booleans(),
    st.lists(
        st.tuples(
            st.lists(values, min_size=5, max_size=5),
            st.lists(some_texts | values, min_size=4, max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.lists(some_texts, min_size=4, max_size=4), max_size=4),
)
def test_any_texts_are_carried_through_the_fast_door(
    numbers: int,
    names: int,
    is_typed: bool,
    rows: list[tuple[list[Any], list[Any]]],
    rows_of_texts: list[list[Any]],
) -> None:
    rows = [*rows, *(([0.5] * 5, texts) for texts in rows_of_texts)]
    fields = [Field(f"f{n}", FieldKind.INTEGER if is_typed else "double") for n in range(numbers)]
    keys = [f"n{n}" for n in range(names)]
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name) / RUN_ID)
        emit = session.tracer.emitter("FILL", fields=fields, names=keys)
        neighbour = session.tracer.emitter("BAR", fields=["x"])
        for given_numbers, texts in rows:
            emit(1, None, *given_numbers[:numbers], *texts[:names])
            neighbour(2, None, 0.5)
            event = session.tracer.open("ORDER", attributes={"y": "z", "w": 1.5})
            session.tracer.close(event)
        found = session.end()
    assert len(found) == 3 * len(rows)
    for number, (given_numbers, texts) in enumerate(rows):
        event_found, other, opened = (found[3 * number + place] for place in (1, 2, 3))
        assert other.attributes == {"x": 0.5}
        assert opened.attributes == {"y": "z", "w": 1.5}
        given_attributes = dict(zip([field.key for field in fields], given_numbers, strict=False))
        expected = as_carried({**given_attributes, **dict(zip(keys, texts, strict=False))})
        got = dict(event_found.attributes)
        assert set(got.pop(Event.REPLACED, ())) == set(expected.pop(Event.REPLACED, ()))
        assert got.keys() == expected.keys()
        for key, value in expected.items():
            assert is_same_number(got[key], value), (key, got[key], value)


steps = st.lists(
    st.tuples(
        st.sampled_from(["emit", "emit", "open", "deliver"]),
        st.integers(0, 30),  # which earlier event causes it
        st.booleans(),  # whether it stays open
        values,
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_mixture_of_both_doors_is_recorded_as_it_was(
    given_steps: list[tuple[str, int, bool, Any]],
) -> None:
    causes: list[OpenEvent | Handle | None] = [None]
    expected: dict[int, tuple[int, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name) / RUN_ID)
        tracer = session.tracer
        emit = tracer.emitter("EMITTED", fields=["x"])
        for what, place, stays_open, value in given_steps:
            cause = causes[place % len(causes)]
            if what == "emit":
                handle = handle_of(emit(1, cause, value))
                expected[handle[0]] = (sequence_of(cause), "EMITTED")
                causes.append(handle)
                continue
            operation = PROCESS if what == "deliver" else "publish"
            event = tracer.open(
                "OPENED", operation=operation, parent=cause, attributes={"x": value}
            )
            if what == "open":
                expected[event.sequence] = (sequence_of(cause), "OPENED")
            if not stays_open:
                tracer.close(event)
            causes.append(event)
        found = session.end()  # checks that parents stand before children
    published = {n: e for n, e in found.items() if e.site.operation != PROCESS}
    assert published.keys() == expected.keys()
    for sequence, (parent, kind) in expected.items():
        event_found = found[sequence]
        assert event_found.site.event_type == kind
        assert parent in (-1, event_found.parent)
        assert event_found.root == (
            found[event_found.parent].root if event_found.parent else sequence
        )


def sequence_of(cause: OpenEvent | Handle | None) -> int:
    """Sequence of a cause; -1 while that of a delivery is not known yet."""
    if cause is None:
        return 0
    if isinstance(cause, tuple):
        return cause[0]
    return cause.sequence or -1


def test_a_value_that_is_moved_leaves_its_neighbours_alone(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["a", "b", "c"])
    emit(1, None, 1.5, Mute(), 3.5)
    emit(2, None, None, 2**70, "four")
    emit(3, None, 1, True, Decimal("1.50"))
    found = session.end()
    assert found[1].attributes == {
        "a": 1.5,
        "b": "<Mute>",
        "c": 3.5,
        Event.REPLACED: ["b"],
    }
    assert found[2].attributes == {"b": 2**70, "c": "four"}
    assert repr(found[3].attributes["a"]) == "1.0"
    assert found[3].attributes["b"] is True
    assert repr(found[3].attributes["c"]) == "Decimal('1.50')"
    records = {record.sequence: record for record in records_of(session.folder)}
    assert records[1].flags == Flag.SIDE | Flag.ABSENT << 1
    assert records[1].numbers[1] == 0


def test_four_letters_and_other_lookalikes_are_no_doubles(session: Session) -> None:
    """Some values take as many bytes as a double when a column is checked."""
    emit = session.tracer.emitter("BAR", fields=["a"])
    lookalikes = ["abcd", b"abcd", 7, 2**55 + 1, True, 2**80, 1.5, "gggg", b"gggggggggggg", ""]
    for value in lookalikes:
        emit(1, None, value)
    found = session.end()
    for number, value in enumerate(lookalikes, 1):
        assert found[number].attributes == {"a": value}


@pytest.mark.parametrize(
    ("scale", "value", "carried"),
    [
        (2, 190.55, Decimal("190.55")),
        (2, 190.5, Decimal("190.50")),
        (2, 7, Decimal("7.00")),
        (2, Decimal("190.5"), Decimal("190.50")),
        (0, Decimal(7), Decimal(7)),
        (2, 0.125, 0.125),
        (2, Decimal("0.125"), Decimal("0.125")),
        (2, -0.0, -0.0),
        (2, Decimal("-0.00"), Decimal("-0.00")),
        (2, 10**13, 10**13),
        (2, Decimal("9999999999999.99"), Decimal("9999999999999.99")),
        (2, 1e300, 1e300),
        (2, Decimal("1E+2"), Decimal("1E+2")),
        (18, Decimal("0.000000000000000001"), Decimal("0.000000000000000001")),
        (2, True, True),
        (2, float("inf"), float("inf")),
    ],
)
def test_a_decimal_field_takes_what_it_holds_exactly(
    session: Session, scale: int, value: Any, carried: Any
) -> None:
    session.tracer.emitter("BAR", fields=[Field("a", FieldKind.DECIMAL, scale)])(1, None, value)
    assert repr(session.end()[1].attributes["a"]) == repr(carried)


def test_what_a_typed_field_cannot_hold_is_copied_at_once(session: Session) -> None:
    levels = [1, 2]
    session.tracer.emitter("BOOK", fields=[Field("a", FieldKind.INTEGER)])(1, None, levels)
    levels.append(3)
    assert session.end()[1].attributes == {"a": [1, 2]}


def test_no_lock_is_held_while_a_host_prints_its_objects(session: Session) -> None:
    host_lock = threading.Lock()
    printing = threading.Event()

    class Guarded:
        def __str__(self) -> str:
            printing.set()
            with host_lock:
                return "guarded"

    emit = session.tracer.emitter("BAR", fields=["a"])

    def publish_under_lock() -> None:
        with host_lock:
            printing.wait(10)
            for _ in range(2 * FLUSH_EVENTS):
                emit(1, None, 1.5)

    thread = threading.Thread(target=publish_under_lock, daemon=True)
    thread.start()
    emit(1, None, Guarded())
    session.recorder.flush()
    thread.join(10)
    assert not thread.is_alive()
    found = session.end()
    assert len(found) == 2 * FLUSH_EVENTS + 1
    assert "guarded" in {event.attributes["a"] for event in found.values()}


def test_texts_stand_in_one_side_record_in_the_order_of_the_names(session: Session) -> None:
    names = [Order.CLIENT_ID, Order.ID, "fill", "position"]
    emit = session.tracer.emitter("FILL", fields=["a"], names=names, texts={"b": "c"})
    root = emit(1, None, 1.5, "O-1", "V-1", "F-1", "P-1")
    emit(2, root, 2.5, "O-2", None, "F-2")
    emit(3, root)
    found = session.end()
    assert [list(found[n].attributes.items()) for n in (1, 2, 3)] == [
        [("b", "c"), ("a", 1.5), *zip(names, ["O-1", "V-1", "F-1", "P-1"], strict=True)],
        [("b", "c"), ("a", 2.5), (Order.CLIENT_ID, "O-2"), ("fill", "F-2")],
        [("b", "c")],
    ]
    assert (found[2].parent, found[2].root) == (1, 1)
    assert records_of(session.folder)[0].flags == Flag.SIDE


def test_a_text_that_is_none_leaves_its_neighbours_alone(session: Session) -> None:
    emit = session.tracer.emitter("FILL", names=["a", "b"])
    emit(1, None, "one", "two")
    emit(1, None, 7, "\ud800")
    emit(1, None, Mute(), None)
    emit(1, None, "x" * 16_385, "two")
    found = session.end()
    assert [found[n].attributes for n in (1, 2, 3, 4)] == [
        {"a": "one", "b": "two"},
        {"a": 7, "b": "\\ud800", Event.REPLACED: ["b"]},
        {"a": "<Mute>", Event.REPLACED: ["a"]},
        {"a": "x" * 16_384, "b": "two", Event.REPLACED: ["a"]},
    ]


def test_a_long_text_is_whole(session: Session) -> None:
    emit = session.tracer.emitter("FILL", names=["a", "b", "c"])
    texts = ["ä" * 16_384, "b" * 900, "c" * 16_384]
    emit(1, None, *texts)
    assert list(session.end()[1].attributes.values()) == texts


def test_a_key_that_no_text_can_have_is_written_out(session: Session) -> None:
    session.tracer.emitter("FILL", names=["\ud800"])(1, None, "one")
    session.tracer.emitter("FILL", names=["\ud800"])(1, None, None)
    found = session.end()
    assert found[1].attributes == as_carried({"\ud800": "one"})
    assert found[2].attributes == {}


@pytest.mark.parametrize("names", [[7], ["a", "a"], ["x"], [f"n{n}" for n in range(17)]])
def test_names_that_cannot_be_are_refused_at_once(session: Session, names: Any) -> None:
    with pytest.raises(UsageError, match="emitter"):
        session.tracer.emitter("BAR", fields=["x"], names=names)


def test_a_surplus_text_is_the_callers_mistake(session: Session) -> None:
    for fields in (["x"], [Field("x", FieldKind.INTEGER)]):
        with pytest.raises(TypeError):
            session.tracer.emitter("BAR", fields=fields, names=["a"])(1, None, 1.5, "b", "c")
    assert session.end() == {}


# -- Threads, tasks, signals ---------------------------------------------------------------------


def chain_of(emit: Emitter, length: int, number: float) -> list[Handle]:
    handles: list[Handle] = []
    for _ in range(length):
        handles.append(handle_of(emit(1, handles[-1] if handles else None, number)))
    return handles


def test_threads_keep_their_causes_apart(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"])
    chains: list[list[Handle]] = []
    together = threading.Barrier(5)

    def trade(number: int) -> None:
        together.wait()
        for _ in range(20):
            chains.append(chain_of(emit, 60, float(number)))
            event = session.tracer.open("ORDER", parent=chains[-1][-1], attributes={"x": number})
            session.tracer.close(event)

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = session.end()
    assert len(found) == 5 * 20 * 61
    for chain in chains:
        first = found[chain[0][0]]
        for before, (sequence, root) in zip([(0, 0), *chain], chain, strict=False):
            event = found[sequence]
            assert (event.parent, event.root) == (before[0], root)
            assert root == first.sequence
            assert event.attributes == first.attributes
    for order in (event for event in found.values() if event.site.event_type == "ORDER"):
        assert order.attributes["x"] == found[order.parent].attributes["x"]


def test_tasks_keep_their_causes_apart(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"])

    async def trade(number: int) -> None:
        cause = None
        for _ in range(50):
            cause = emit(1, cause, float(number))
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(trade(number) for number in range(20)))

    asyncio.run(main())
    found = session.end()
    assert len(found) == 1000
    for event in found.values():
        if event.parent:
            assert found[event.parent].attributes == event.attributes


def test_random_generators_are_left_alone(tmp_path: Path) -> None:
    random.seed(3)
    before = random.getstate()
    session = Session(tmp_path / RUN_ID)
    emit = session.tracer.emitter("BAR", fields=["x"])
    for _ in range(2000):
        emit(1, None, 1.5)
    session.end()
    assert random.getstate() == before


INTERRUPTED = """
import signal, sys
from pathlib import Path
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.spool_writer import SpoolWriter
recorder = Recorder(SpoolWriter(Path(sys.argv[1]), {}))
emit = EventTracer("run", recorder, "p").emitter("BAR", fields=["x"])
kept, hits, armed = [], 0, False
def interrupt(*_):
    global hits, armed
    if armed:
        hits, armed = hits + 1, False
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
while hits < 300:
    try:
        armed = True
        for n in range(1000):
            handle = emit(1, None, 1.5)
            kept.append(handle[0])
        armed = False
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
recorder.stop({})
Path(sys.argv[2]).write_text(" ".join(map(str, kept)))
"""


def test_control_c_at_any_moment_loses_and_repeats_no_event(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "run"), str(tmp_path / "kept")],
        timeout=60,
        check=True,
    )
    kept = {int(word) for word in (tmp_path / "kept").read_text().split()}
    found = recorded(tmp_path / "run").keys()  # checks that none is there twice
    assert kept <= found
    assert len(found) - len(kept) <= 300  # recorded, but interrupted before it was known


REENTRANT = """
import signal, sys
from pathlib import Path
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.spool_writer import SpoolWriter
recorder = Recorder(SpoolWriter(Path(sys.argv[1]), {}))
tracer = EventTracer("run", recorder, "p")
emit = tracer.emitter("BAR", fields=["x"])
taken = 0
def publish(*_):
    global taken
    taken += 1
    emit(1, None, "odd" if taken % 7 == 0 else 1.5)
signal.signal(signal.SIGALRM, publish)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
while taken < 20_000:
    publish()
signal.setitimer(signal.ITIMER_REAL, 0)
tracer.stop()
recorder.stop({"sequences": tracer.last_sequence})
"""


def test_a_signal_handler_that_publishes_does_not_wait_for_itself(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", REENTRANT, str(tmp_path / "run")], timeout=60, check=True)
    found = recorded(tmp_path / "run")
    *_, last = SpoolReader(tmp_path / "run").blocks()
    assert last.value()["sequences"] == len(found) >= 20_000


# -- Beginning and end -----------------------------------------------------------------------------


def test_a_full_list_is_written_by_the_caller(session: Session) -> None:
    emit = session.tracer.emitter("BAR")
    for _ in range(FLUSH_EVENTS):
        emit(1)
    assert len(records_of(session.folder)) == FLUSH_EVENTS


def test_what_is_emitted_after_the_end_is_forgotten(session: Session) -> None:
    emit = session.tracer.emitter("BAR")
    emit(1)
    assert len(session.end()) == 1
    for _ in range(3 * FLUSH_EVENTS):
        emit(1)
    assert len(session.recorder._events) < FLUSH_EVENTS
    assert session.tracer.emitter("BAR")(1) is None
    assert len(recorded(session.folder)) == 1


def test_switched_off_an_emitter_gives_no_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILLPATH_ENABLED", "false")
    with Tracing(writer="none") as tracing:
        emit = tracing.tracer.emitter("BAR", fields=["x"])
        assert emit(1, emit(1, None, 1.5), 2.5) is None


FORK = """
import os, sys
from fillpath.instrumentation import Tracing
with Tracing("run", data=sys.argv[1], writer="none") as tracing:
    emit = tracing.tracer.emitter("BAR", fields=["x"])
    for _ in range(700):
        emit(1, None, 1.5)
    pid = os.fork()
    if pid == 0:
        for _ in range(2000):
            emit(1, None, 2.5)
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    emit(1, None, 3.5)
"""


def test_a_forked_child_does_not_record(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], timeout=60, check=True)
    found = recorded(tmp_path / "spool" / "run")
    assert [event.attributes["x"] for event in found.values()] == [1.5] * 700 + [3.5]


def test_memory_does_not_grow_with_the_events(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["x"])
    cause = None
    for _ in range(5000):
        cause = emit(1, cause, "odd")
    session.recorder.flush()
    gc.collect()
    assert not session.recorder._events
    assert not session.recorder._mended


def test_odd_values_are_reported_in_no_log(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        session.tracer.emitter("BAR", fields=["x"])(1, None, Mute())
        found = session.end()
    assert found[1].attributes["x"] == "<Mute>"
    assert not caplog.records


def test_an_unknown_time_stays_unknown(session: Session) -> None:
    session.tracer.emitter("BAR")(NO_TIME)
    assert session.end()[1].event_time is None


def test_doubles_that_are_no_numbers_stay_what_they_are(session: Session) -> None:
    emit = session.tracer.emitter("BAR", fields=["a", "b", "c"])
    emit(1, None, math.nan, math.inf, -math.inf)
    found = session.end()[1].attributes
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, -math.inf)
    assert records_of(session.folder)[0].flags == 0
