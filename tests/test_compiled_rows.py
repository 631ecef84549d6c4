"""The compiled half of recording does what its twin in Python does, to the byte."""

from __future__ import annotations

import gc
import inspect
import itertools
import math
import os
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics import cli, installation_checks
from fillpath.instrumentation import compiled_rows, emitter, event_columns, event_numbers
from fillpath.instrumentation.emitter import FLUSH_EVENTS, Emitter, make_emitter
from fillpath.instrumentation.event_columns import Row, StrangeRows, mended, pack_rows
from fillpath.instrumentation.event_numbers import EventNumbers
from fillpath.instrumentation.open_event import RemoteEvent
from fillpath.instrumentation.payload import snapshot
from fillpath.instrumentation.spool import (
    COLUMNS,
    MAX_EXACT,
    NO_TIME,
    SLOTS,
    Field,
    FieldKind,
    SideRecord,
)
from fillpath.instrumentation.spool_writer import pack_side_record
from fillpath.instrumentation.trace_limit import TraceLimit

CHECKOUT = Path(__file__).resolve().parent.parent
TWINS = (emitter, event_columns, event_numbers)
SITE = 7


@pytest.fixture(scope="module", autouse=True)
def compiled() -> ModuleType:
    if compiled_rows.COMPILED is None:
        assert os.environ.get("CI") != "true", compiled_rows.WHY_NOT
        pytest.skip(compiled_rows.WHY_NOT)
    return compiled_rows.COMPILED


class Spy:
    """Notes when it is asked for anything."""

    ran: list[str]

    def __init__(self) -> None:
        self.__dict__["ran"] = []

    def __index__(self) -> int:
        self.ran.append("index")
        return 3

    def __float__(self) -> float:
        self.ran.append("float")
        raise RuntimeError("no float")

    def __eq__(self, other: object) -> bool:
        self.ran.append("eq")
        return True

    def __lt__(self, other: object) -> bool:
        self.ran.append("lt")
        return True

    __gt__ = __le__ = __ge__ = __lt__

    def __hash__(self) -> int:
        self.ran.append("hash")
        return 1

    def __len__(self) -> int:
        self.ran.append("len")
        return 2

    def __iter__(self) -> Iterator[int]:
        self.ran.append("iter")
        return iter((1, 1))

    def __str__(self) -> str:
        self.ran.append("str")
        return "spy"


class Whole(int):
    """An integer of the host's own."""


class Price(float):
    """A float of the host's own."""


class Word(str):
    """A text of the host's own."""

    __slots__ = ()


class Pair(tuple[int, ...]):
    """A tuple of the host's own."""

    __slots__ = ()


def nan_of(bits: int) -> float:
    """A NaN with a payload."""
    (number,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0 << 48 | bits))
    assert isinstance(number, float)
    return number


LIMITS = [
    *(sign * (1 << bits) + step for bits in (0, 7, 30, 53, 63, 64, 70) for sign in (1, -1)
      for step in (-1, 0, 1)),
]  # fmt: skip
whole_numbers = st.sampled_from(LIMITS) | st.integers(-(2**70), 2**70)
oddities: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, "", "a", b"a", 1j, (), [], {}, Decimal(1)]),
    st.builds(Spy),
    st.builds(Whole, st.sampled_from(LIMITS)),
    st.builds(Price, st.floats()),
    st.builds(lambda: np.int64(5)),
    st.builds(lambda: np.float64(0.5)),
)
numbers: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.floats(), whole_numbers, st.integers(1, 2**52 - 1).map(nan_of), oddities
)
times: st.SearchStrategy[Any] = st.one_of(
    st.integers(NO_TIME, -NO_TIME - 1), st.just(NO_TIME), whole_numbers, oddities
)
texts: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.text("\ud800\udc00aä", max_size=4),
    st.sampled_from(["x" * n for n in (31, 32, 255, 256, 16_384, 16_385)]),
    st.sampled_from(["ä" * n for n in (15, 16, 127, 128, 16_384, 16_385)]),
    st.builds(Word, st.just("w")),
    oddities,
)


class Earlier(NamedTuple):
    """Stands for the handle of an earlier event."""

    place: int


class Elsewhere(RemoteEvent):
    """Stands for an event of another process."""

    __slots__ = ()

    def __init__(self) -> None:
        """Nothing of it is asked for."""


causes: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(0, 30).map(Earlier),
    st.tuples(whole_numbers | st.integers(-1, 9), whole_numbers | st.integers(-1, 9)),
    st.tuples(st.integers(0, 9) | oddities, st.integers(0, 9) | oddities),
    st.sampled_from([(), (1,), (1, 1, 1), Pair((1, 1)), [1, 1], Elsewhere(), (True, 1), (1, 1.0)]),
    oddities,
)


class Call(NamedTuple):
    """One call of an emitter."""

    emitter: int
    by_place: list[Any]
    by_name: dict[str, Any]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    by_place = [
        draw(times),
        draw(causes),
        *draw(st.lists(numbers, max_size=SLOTS)),
        *draw(st.lists(texts, max_size=4)),
    ][: draw(st.integers(0, 11))]
    by_name = draw(
        st.fixed_dictionaries(
            {},
            optional={"start": times, "event_time": times, "cause": causes, "n0": numbers,
                      "t0": texts, "nothing": st.none()},
        )
        if draw(st.integers(0, 3)) == 0
        else st.just({})
    )  # fmt: skip
    return Call(draw(st.integers(0, 3)), by_place, by_name)


fitting_calls = st.builds(
    lambda which, time, cause, given_numbers, given_texts, by_name: Call(
        which,
        [time, cause, *given_numbers[: SHAPES[which][0]], *given_texts[: len(SHAPES[which][1])]],
        by_name,
    ),
    st.integers(0, 3),
    st.integers(0, 2**62),
    st.none() | st.integers(0, 30).map(Earlier),
    st.lists(st.none() | st.floats() | st.integers(-9, 9), min_size=SLOTS, max_size=SLOTS),
    st.lists(st.none() | st.text(max_size=9), min_size=16, max_size=16),
    st.fixed_dictionaries({}, optional={"start": st.integers(NO_TIME + 1, 2**62)}),
)
SHAPES: list[tuple[int, list[str]]] = [
    (0, []),
    (5, []),
    (3, ["a", "ä" * 20, "c" * 40]),
    (1, [f"name {n}" for n in range(16)]),
]


def only_python(patch: pytest.MonkeyPatch) -> None:
    for module in TWINS:
        patch.setattr(module, "COMPILED", None)


class Recording(NamedTuple):
    """What came of calls."""

    results: list[Any]
    flushes: list[int]
    payload: bytes
    sides: list[bytes]


def remote(sequence: int, _: Any, given_texts: dict[str, Any]) -> tuple[int, bytes]:
    """Record an event that another process's has caused."""
    return sequence, pack_side_record(SideRecord(sequence, snapshot(given_texts), [], {}))


def record(given_calls: Sequence[Call], *, is_compiled: bool, trace_limit: int = 6) -> Recording:
    """Call emitters, and pack what they recorded."""
    rows: list[Row] = []
    results: list[Any] = []
    flushes: list[int] = []
    ticks = itertools.count(1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emitter, "time", SimpleNamespace(perf_counter_ns=ticks.__next__))
        patch.setattr(emitter, "_CLOCK_IS_MONOTONIC", False)
        if not is_compiled:
            only_python(patch)
        limit = TraceLimit(trace_limit)
        take = EventNumbers("run", limit).take
        doors = [
            make_emitter(
                append=rows.append,
                flush=lambda: flushes.append(len(rows)),
                take=take,
                resolve=lambda cause: (0, 0, cause if isinstance(cause, Elsewhere) else None),
                remote=remote,
                site=SITE,
                fields=[Field(f"f{n}") for n in range(fields)],
                names=names,
                limit=limit,
                trace_of=hex,
            )
            for fields, names in SHAPES
        ]
        handles: list[Any] = [None]

        def meant(cause: Any) -> Any:
            return handles[cause.place % len(handles)] if type(cause) is Earlier else cause

        for call in given_calls:
            by_place = [meant(value) if n == 1 else value for n, value in enumerate(call.by_place)]
            by_name = {name: meant(value) for name, value in call.by_name.items()}
            try:
                handle = doors[call.emitter](*by_place, **by_name)
            except TypeError as error:
                results.append(str(error))
                continue
            handles.append(handle)
            results.append((handle, *map(type, handle or ())))
        all_fields = [Field(f"f{n}") for n in range(SLOTS)]
        while rows:
            try:
                return Recording(results, flushes, *pack_rows(rows, SLOTS))
            except StrangeRows as found:
                strange = {row[0]: row for row in found.rows}
                rows = [mended(row, all_fields) if row[0] in strange else row for row in rows]
    return Recording(results, flushes, b"", [])


@settings(max_examples=100, deadline=None)
@given(st.lists(calls() | fitting_calls, max_size=12))
def test_whatever_an_emitter_is_given_it_records_as_its_twin_does(given_calls: list[Call]) -> None:
    assert record(given_calls, is_compiled=True) == record(given_calls, is_compiled=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(fitting_calls, min_size=1, max_size=12))
def test_what_is_plain_is_never_left_to_python(given_calls: list[Call]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_columns, "_packers", None)  # so that Python's packing would fail
        assert record(given_calls, is_compiled=True, trace_limit=1000).payload


whole = st.integers(0, 2**64 - 1)
words = whole | whole_numbers | oddities
sides: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.binary(max_size=9),
    st.dictionaries(st.text(max_size=40), texts, max_size=4),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=14, max_size=40),
    st.dictionaries(st.sampled_from([1, None, b"a", "\ud800", Word("w")]), texts, max_size=2),
    oddities,
)
plain_words = st.tuples(
    *[st.integers(0, 2**64 - 1)] * 3, *[st.integers(-(2**63), 2**63 - 1)] * 3,
    st.integers(0, 2**64 - 1),
)  # fmt: skip
plain_numbers = st.floats() | st.integers(-MAX_EXACT, MAX_EXACT)
rows_of_any = st.builds(
    lambda row_words, row_numbers, side: (*row_words, *row_numbers, side),
    st.tuples(whole, *[words] * (len(COLUMNS) - 2), whole) | plain_words,
    st.tuples(*[numbers] * SLOTS) | st.tuples(*[plain_numbers] * SLOTS),
    sides,
)


def outcome(pack: Callable[[list[Row], int], Any], rows: list[Row], slots: int) -> Any:
    try:
        return pack(rows, slots)
    except StrangeRows as found:
        return [id(row) for row in found.rows]


@settings(max_examples=100, deadline=None)
@given(st.lists(rows_of_any, min_size=1, max_size=4), st.integers(0, SLOTS))
def test_rows_are_packed_to_the_same_bytes_or_left_to_python(rows: list[Row], slots: int) -> None:
    assert compiled_rows.COMPILED is not None
    spies = [value for row in rows for value in row if type(value) is Spy]
    before = [list(spy.ran) for spy in spies]
    packed = compiled_rows.COMPILED.pack_rows(rows, slots)
    assert [spy.ran for spy in spies] == before, "code of the host was run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_columns, "COMPILED", None)
        expected = outcome(pack_rows, rows, slots)
    assert packed is None or packed == expected
    assert outcome(pack_rows, rows, slots) == expected


@pytest.mark.parametrize("place", ["time", "cause", "number", "text", "start"])
def test_no_code_of_the_host_is_run_when_an_event_is_emitted(place: str) -> None:
    rows: list[Row] = []
    emit = door(rows, fields=1, names=["a"])
    spy = Spy()
    given_values: dict[str, Any] = {
        "time": 1,
        "cause": None,
        "number": 0.5,
        "text": "b",
        "start": 2,
        place: spy,
    }
    start = given_values.pop("start")
    assert emit(*given_values.values(), start=start) is not None
    assert not spy.ran
    assert type(rows[0]) is tuple


def door(
    rows: list[Row],
    *,
    flush: Callable[[], None] = lambda: None,
    fields: int = 0,
    names: Sequence[str] = (),
    kind: FieldKind = FieldKind.DOUBLE,
    limit: TraceLimit | None = None,
) -> Emitter:
    limit = limit or TraceLimit()
    return make_emitter(
        append=rows.append,
        flush=flush,
        take=EventNumbers("run", limit).take,
        resolve=lambda _: (0, 0, None),
        remote=lambda *_: (0, b""),
        site=SITE,
        fields=[Field(f"f{n}", kind) for n in range(fields)],
        names=names,
        limit=limit,
        trace_of=hex,
    )


def test_a_plain_row_looks_like_the_tuple_that_it_stands_for() -> None:
    rows: list[Row] = []
    before = time.perf_counter_ns()
    door(rows, fields=2)(5, None, 1.5, 2)
    after = time.perf_counter_ns()
    (row,) = rows
    assert type(row) is not tuple
    whole = tuple(row)
    start = whole[3]
    assert before <= start <= after
    assert whole == (1, 0, 1, start, start, 5, SITE, 1.5, 2.0, 0.0, 0.0, 0.0, None)
    assert len(row) == len(whole)
    assert [row[n] for n in range(-len(whole), len(whole))] == [*whole, *whole]
    assert row[:7] == whole[:7]
    assert row[::-2] == whole[::-2]
    beyond: list[Any] = [len(whole), -len(whole) - 1, 2**70, "a"]
    for place in beyond:
        with pytest.raises((IndexError, TypeError)):
            row[place]


def test_what_flushing_raises_reaches_the_host_and_the_event_is_kept() -> None:
    rows: list[Row] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    emit = door(rows, flush=interrupted)
    for _ in range(FLUSH_EVENTS - 1):
        emit()
    with pytest.raises(KeyboardInterrupt):
        emit()
    assert [row[0] for row in rows] == list(range(1, FLUSH_EVENTS + 1))
    assert emit() == (FLUSH_EVENTS + 1,) * 2


def test_time_and_cause_may_be_given_by_name() -> None:
    rows: list[Row] = []
    emit = door(rows, fields=1)
    first = emit(event_time=5)
    assert emit(cause=first, start=3, event_time=6) == (2, 1)
    assert emit(7, cause=first) == (3, 1)
    assert [(*row[:3], row[5]) for row in rows] == [(1, 0, 1, 5), (2, 1, 1, 6), (3, 1, 1, 7)]
    assert tuple not in map(type, rows)
    by_name: list[dict[str, Any]] = [{"event_time": 1}, {"event_time": 1, "cause": None}]
    for given_twice in by_name:
        with pytest.raises(TypeError, match="multiple values"):
            emit(7, None, **given_twice)


def test_numbers_of_a_pandas_frame_are_plain() -> None:
    rows: list[Row] = []
    emit = door(rows, fields=2)
    emit(1, None, np.float64(1.5), np.float64("nan"))
    assert tuple not in map(type, rows)
    assert rows[0][7] == 1.5
    assert math.isnan(rows[0][8])


def test_only_a_type_of_floats_is_taken_for_one(compiled: ModuleType) -> None:
    for kind in (int, np.float32, 1.5):
        with pytest.raises(ValueError, match="no type of floats"):
            compiled.take_as_float(kind)


def test_an_emitter_tells_how_it_is_called() -> None:
    told = inspect.signature(door([]))
    meant = inspect.signature(Emitter.__call__)
    parts = [(part.name, part.default, part.kind) for part in meant.parameters.values()]
    assert [(part.name, part.default, part.kind) for part in told.parameters.values()] == parts[1:]


def test_a_run_may_have_traces_of_any_length() -> None:
    assert door([], limit=TraceLimit(2**70))(1) == (1, 1)


def test_what_a_signal_handler_raises_is_no_value_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> bytes:
        raise TimeoutError

    monkeypatch.setattr(event_columns, "COMPILED", None)
    monkeypatch.setattr(event_columns, "_packers", lambda _: (interrupted,) * 3)
    with pytest.raises(TimeoutError):
        pack_rows([(1, 0, 1, 2, 3, 4, SITE, *[0.5] * SLOTS, None)], SLOTS)


def test_a_name_that_is_not_carried_as_it_is_is_left_to_python() -> None:
    for name in ("\ud800", "n" * 1025):
        rows: list[Row] = []
        door(rows, names=[name])(1, None, "a")
        assert type(rows[0]) is tuple


def test_an_emitter_in_a_circle_is_collected() -> None:
    class Host:
        emit: Emitter

        def flush(self) -> None:
            pass

    host = Host()
    host.emit = door([], flush=host.flush, fields=1, names=["a"])
    gone = weakref.ref(host)
    del host
    gc.collect()
    assert gone() is None


def test_nothing_that_is_recorded_stays_in_memory() -> None:
    rows: list[Row] = []
    emit = door(rows, fields=3, names=["a", "b"])
    plain, odd = (1.5, 2**40, None, "text", "ä" * 40), (1.5, "odd", 2**70, 5, "\ud800")
    watched = (*plain, *odd, emit)

    def record_and_forget(rounds: int) -> None:
        cause = None
        for number in range(rounds):
            cause = emit(2**61, cause, *(odd if number % 50 == 0 else plain), start=2**61 - 1)
            if number % 100 == 99:
                with pytest.raises(StrangeRows):
                    pack_rows(rows, 5)
                pack_rows([row for row in rows if type(row) is not tuple], 5)
                rows.clear()
        with pytest.raises(TypeError):
            emit(1, None, *plain, "surplus")

    record_and_forget(1000)
    gc.collect()
    counts, blocks = [*map(sys.getrefcount, watched)], sys.getallocatedblocks()
    record_and_forget(30_000)
    gc.collect()
    assert [*map(sys.getrefcount, watched)] == counts
    assert sys.getallocatedblocks() - blocks < 200


def test_threads_take_every_sequence_once() -> None:
    rows: list[Row] = []
    emit = door(rows, fields=1)
    started = threading.Barrier(4)

    def publish() -> None:
        started.wait()
        cause = None
        for _ in range(5000):
            cause = emit(1, cause, 0.5)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row[0] for row in rows] == list(range(1, 20_001))
    assert all(row[1] < row[0] for row in rows)


# -- With and without ------------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


@pytest.mark.parametrize("word", ["false", "0", " No ", "OFF"])
def test_a_setting_switches_the_compiled_part_off(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_COMPILED", word)
    found, why, advice = compiled_rows._find()
    assert found is None
    assert why == "FILLPATH_COMPILED switches the compiled part off"
    assert advice == "unset FILLPATH_COMPILED"


def test_what_was_built_for_another_version_is_not_used(
    compiled: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "INTERFACE", 0)
    found, why, advice = compiled_rows._find()
    assert found is None
    assert "another version" in why
    assert advice


def test_what_cannot_be_found_or_loaded_is_not_used(
    compiled: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiled_rows, "_NAME", "unbuilt_rows")
    assert compiled_rows._find()[:2] == (None, "the compiled part was not built")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.__file__ is not None
    name = Path(compiled.__file__).name.replace("_compiled", "unbuilt")
    (tmp_path / name).write_bytes(b"of another machine")
    found, why, _ = compiled_rows._find()
    assert found is None
    assert why.startswith("the compiled part cannot be loaded (")


def test_the_doctor_tells_whether_recording_is_compiled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["--data", str(tmp_path / "data"), "doctor"]
    assert cli.main(arguments) == 0
    assert "recording is compiled" in capsys.readouterr().out
    monkeypatch.setattr(installation_checks, "COMPILED", None)
    monkeypatch.setattr(installation_checks, "WHY_NOT", "it was not built")
    monkeypatch.setattr(installation_checks, "ADVICE", "build it")
    assert cli.main(arguments) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "recording is Python's" in told
    assert "it was not built" in told
    assert "build it" in told


def run_tests_without(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "FILLPATH_COMPILED": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_python_alone_records_the_same() -> None:
    slow = "not control_c_at and not shortest_time and not any_ and not signal_handler"
    run_tests_without("tests/test_emitter.py", "tests/test_recorder.py", "-k", slow)


@pytest.mark.full
def test_python_alone_passes_every_test_of_recording() -> None:
    names = ("emitter", "recorder", "event_tracer", "trace_limit", "tracing", "provider_way")
    run_tests_without(*(f"tests/test_{name}.py" for name in names))
