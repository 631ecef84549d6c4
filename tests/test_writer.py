"""From spool to lake: every event once, no orphan, whatever dies and whenever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters import host_process, parquet_file, run_writer
from fillpath.exporters.causal_sampling import CausalSampling
from fillpath.exporters.completeness import Completeness, totals
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.run_rows import RunRows
from fillpath.exporters.run_writer import LOCK_NAME, RunWriter, WriterBusy
from fillpath.exporters.sequence_bits import Bits
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.exporters.spool_index import SpoolIndex
from fillpath.exporters.writer import catch_up, drain
from fillpath.instrumentation import identity
from fillpath.instrumentation.errors import LakeError, SpoolError
from fillpath.instrumentation.event_sampler import CriticalWhen, EventSampler
from fillpath.instrumentation.semconv import Event, EventType, Fill, Order, Sampling
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    NO_TIME,
    SLOTS,
    BlockType,
    Count,
    Flag,
    SideRecord,
    Site,
    SpoolReader,
)
from fillpath.instrumentation.spool_writer import SpoolWriter, pack_side_record
from fillpath.instrumentation.tracing import Tracing

RUN = "run-1"
KINDS = (EventType.BAR, EventType.FEATURES, EventType.SIGNAL, EventType.FILL, "MY_KIND")
CRITICAL = frozenset({EventType.SIGNAL, EventType.FILL})
NO_NUMBERS = (0.0,) * SLOTS


def _place(site: int, flags: int = 0) -> int:
    return site | int(flags) << FLAGS_SHIFT


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


# A made-up run: what happens, and the records that a recorder would write of it.


@dataclass(frozen=True)
class Made:
    """One event of a made-up run."""

    sequence: int
    parent: int
    kind: str
    operation: str
    portfolio: str
    ends_after: int | None
    """Further events after which it ends; 0 writes it whole, None never ends it."""
    fails: bool

    @property
    def counts(self) -> bool:
        return self.operation == "publish"


@st.composite
def runs(draw: st.DrawFn, most: int = 40) -> list[Made]:
    """Draw a forest in which causes may lie far back and may have ended."""
    events: list[Made] = []
    for sequence in range(1, draw(st.integers(1, most)) + 1):
        near = st.integers(max(0, sequence - 3), sequence - 1)
        operation = draw(st.sampled_from(["publish", "publish", "process"]))
        events.append(
            Made(
                sequence,
                draw(near | st.integers(0, sequence - 1)),
                draw(st.sampled_from(KINDS)),
                operation,
                draw(st.sampled_from(["a", "b/c"])),
                draw(st.sampled_from([0, 0, 1, 5, 30, None])),
                draw(st.integers(0, 9)) == 0,
            )
        )
    return events


def _root(events: list[Made], event: Made) -> int:
    while event.parent:
        event = events[event.parent - 1]
    return event.sequence


class Spooled:
    """Writes a made-up run to a spool, a few records at a time."""

    def __init__(self, data: DataFolder, events: list[Made], **run: Any) -> None:
        self.folder = data.spool / RUN
        self._spool = SpoolWriter(
            self.folder,
            {
                "run_id": RUN,
                "mode": "backtest",
                "service_name": "made-up",
                "host_name": platform.node(),
                "pid": os.getpid(),
                "started_at": time.time_ns(),
                "parameters": {"size": Decimal("1.50")},
                **run,
            },
            max_file_bytes=1500,
        )
        self._sites: dict[tuple[str, str, str], Site] = {}
        self._published: dict[tuple[str, str], int] = {}
        self._records = self._make(events)

    def _make(self, events: list[Made]) -> Iterator[tuple[Made, int, int]]:
        ending: dict[int, list[Made]] = {}
        for event in events:
            flags = Flag.BEGIN if event.ends_after != 0 else 0
            yield event, int(flags), _root(events, event)
            if event.ends_after:
                ending.setdefault(event.sequence + event.ends_after, []).append(event)
            for ended in ending.pop(event.sequence, ()):
                yield ended, int(Flag.FINISH), _root(events, ended)
        for place in sorted(ending):
            for ended in ending[place]:
                yield ended, int(Flag.FINISH), _root(events, ended)

    def write(self, number: int) -> bool:
        """Append the next records, all in one go; tells whether there are more."""
        records: list[tuple[Any, ...]] = []
        side: list[bytes] = []
        sites: list[Site] = []
        for event, flags, root in self._records:
            parts = (event.operation, event.kind, event.portfolio)
            if parts not in self._sites:
                site = Site(len(self._sites) + 1, *parts, "S-1", None, None, None)
                self._sites[parts] = site
                sites.append(site)
            finish, begin = flags & Flag.FINISH, flags & Flag.BEGIN
            if event.counts and not finish:
                key = (event.portfolio, event.kind)
                self._published[key] = self._published.get(key, 0) + 1
            attributes = {"begun": event.sequence} if not finish else {"ended": event.sequence}
            extra = {}
            if event.fails and not begin:
                extra["error"] = {"type": "ValueError", "message": "no"}
            side.append(pack_side_record(SideRecord(event.sequence, attributes, [], extra)))
            records.append(
                (
                    event.sequence,
                    event.parent,
                    root,
                    1_000 + event.sequence,
                    NO_TIME if begin else 2_000 + event.sequence,
                    event.sequence,
                    _place(self._sites[parts].number, flags | Flag.SIDE),
                    *NO_NUMBERS,
                )
            )
            if len(records) == number:
                break
        counts = [Count(*key, number, {}) for key, number in sorted(self._published.items())]
        self._spool.append(records, side, sites, counts)
        return len(records) == number

    def write_all(self, number: int = 7) -> None:
        while self.write(number):
            pass

    def end(self, status: str = "Ended") -> None:
        self._spool.finish(
            {"status": status, "ended_at": 99, "engine": "made-up", "engine_version": "1"}
        )


def _rows(data: DataFolder) -> list[dict[str, Any]]:
    table = EventStore(data).query("SELECT * FROM spans ORDER BY sequence")
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _run(data: DataFolder) -> RunRecord:
    (record,) = [run for run in EventStore(data).run_records() if run.run_id == RUN]
    return record


def _assert_whole(data: DataFolder, events: list[Made]) -> None:
    """Check that the lake holds exactly this run, with nothing sampled out."""
    rows = _rows(data)
    key = identity.run_key(RUN)
    assert [row["sequence"] for row in rows] == [event.sequence for event in events]
    for row, event in zip(rows, events, strict=True):
        attributes = json.loads(row["attributes"])
        finished = event.ends_after is not None
        assert row["name"] == f"{event.operation} {event.kind}"
        assert row["span_kind"] == {"publish": "PRODUCER", "process": "CONSUMER"}[event.operation]
        assert int(row["span_id"], 16) == identity.span_id(key, event.sequence)
        assert int(row["trace_id"], 16) == identity.trace_id(key, _root(events, event))
        assert row["correlation_id"] == row["trace_id"]
        parent = None if event.parent == 0 else identity.span_id(key, event.parent)
        assert row["parent_span_id"] == (None if parent is None else f"{parent:016x}")
        assert (row["start_time"], row["event_time"]) == (1_000 + event.sequence, event.sequence)
        assert row["end_time"] == (2_000 + event.sequence if finished else None)
        assert attributes["begun"] == event.sequence
        assert attributes.get("ended") == (event.sequence if event.ends_after else None)
        assert attributes.get(Event.UNFINISHED) == (None if finished else True)
        failed = event.fails and finished
        assert attributes.get("exception.type") == ("ValueError" if failed else None)
    published = [event for event in events if event.counts]
    run = _run(data)
    assert (run.published, run.kept, run.sampled_out, run.dropped) == (
        len(published),
        len(published),
        0,
        0,
    )
    assert sum(row["kept"] for row in run.completeness) == len(published)


@settings(deadline=None, max_examples=12)
@given(runs(), st.integers(1, 9))
def test_what_was_recorded_is_in_the_lake(
    tmp_path_factory: pytest.TempPathFactory, events: list[Made], number: int
) -> None:
    data = DataFolder(tmp_path_factory.mktemp("run"))
    spooled = Spooled(data, events)
    spooled.write_all(number)
    spooled.end()
    assert drain(data, RUN) == "Ended"
    _assert_whole(data, events)


@settings(deadline=None, max_examples=8)
@given(runs(), st.lists(st.integers(1, 9), min_size=2, max_size=6), st.booleans())
def test_a_writer_that_begins_again_adds_what_is_missing(
    tmp_path_factory: pytest.TempPathFactory, events: list[Made], steps: list[int], sampled: bool
) -> None:
    policy = EventSampler(CRITICAL, 0.3).to_dict()
    run = {"lake_sampling": "policy" if sampled else "all", "sampling": policy}
    folders = [DataFolder(tmp_path_factory.mktemp("run")) for _ in range(2)]
    bit_by_bit, at_once = (Spooled(folder, events, **run) for folder in folders)
    for number in steps:
        bit_by_bit.write(number)
        assert drain(folders[0], RUN) == "Running"
    bit_by_bit.write_all()
    at_once.write_all()
    for spooled, folder in zip((bit_by_bit, at_once), folders, strict=True):
        spooled.end()
        assert drain(folder, RUN) == "Ended"
    assert _rows(folders[0]) == _rows(folders[1])
    assert _run(folders[0]).completeness == _run(folders[1]).completeness


# Sampling.


def _sampled(
    folder: Path, policy: EventSampler, settle_every: int = 1
) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """Sample a spool; gives the reason of every kept event, and the completeness."""
    events, completeness = SpoolEvents(), Completeness()
    index = SpoolIndex(folder, events)
    rows = RunRows(RUN, events, completeness)
    rows.sampling = CausalSampling(policy, RUN, events, index.event, completeness)
    for block in SpoolReader(folder).blocks():
        index.note(block)
        if block.type is BlockType.EVENTS:
            rows.add(block, new=True)
            if block.number % settle_every == 0:
                rows.settle()
            continue
        events.feed_fact(block)
        if block.type is BlockType.END:
            rows.add_unfinished(new=True)
    table = rows.take()
    kept = zip(
        table["sequence"].to_pylist(),
        table["sampling_reason"].to_pylist(),
        strict=True,
    )
    reasons = dict(kept)
    assert len(reasons) == len(table), "given twice"
    completeness.host_counted(events.counts)
    return reasons, completeness.rows("Ended")


def _own_reason(policy: EventSampler, event: Made) -> str | None:
    if event.fails and event.ends_after is not None:
        return "critical"
    if not event.counts:
        return None
    span_id = identity.span_id(identity.run_key(RUN), event.sequence)
    return policy.decide(event.kind, span_id, {}).reason


@settings(deadline=None)
@given(runs(), st.integers(1, 9), st.floats(0, 1), st.floats(0, 1))
def test_sampling_keeps_all_ancestors_and_loses_count_of_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Made],
    number: int,
    one: float,
    other: float,
) -> None:
    data = DataFolder(tmp_path_factory.mktemp("run"))
    spooled = Spooled(data, events)
    spooled.write_all(number)
    spooled.end()
    low, high = (EventSampler(CRITICAL, rate) for rate in sorted((one, other)))
    reasons, completeness = _sampled(spooled.folder, low)

    expected = {e.sequence: r for e in events if (r := _own_reason(low, e)) is not None}
    for event in reversed(events):
        if event.sequence in expected and event.parent:
            expected.setdefault(event.parent, "ancestor")
    assert reasons == expected

    for row in completeness:
        assert row["published"] == row["kept"] + row["sampled_out"]
        assert row["dropped"] == {}
    sums = totals(completeness)
    assert sums["published"] == sum(event.counts for event in events)
    assert sums["kept"] == sum(events[number - 1].counts for number in reasons)
    assert (reasons, completeness) == _sampled(spooled.folder, low, 1_000)
    assert set(reasons) <= set(_sampled(spooled.folder, high)[0])


def test_a_far_ancestor_comes_back_with_its_attributes(data: DataFolder) -> None:
    first = Made(1, 0, EventType.BAR, "publish", "a", 3, fails=False)
    handler = Made(2, 1, EventType.BAR, "process", "a", 0, fails=False)
    others = [Made(n, 0, EventType.BAR, "publish", "a", 0, fails=False) for n in range(3, 500)]
    fill = Made(500, 2, EventType.FILL, "publish", "a", 0, fails=False)
    policy = EventSampler(CRITICAL, 0.0).to_dict()
    spooled = Spooled(
        data, [first, handler, *others, fill], lake_sampling="policy", sampling=policy
    )
    spooled.write_all(64)
    assert drain(data, RUN) == "Running"
    spooled.end()
    assert drain(data, RUN) == "Ended"
    rows = _rows(data)
    assert [row["sequence"] for row in rows] == [1, 2, 500]
    assert json.loads(rows[0]["attributes"]) == {"begun": 1, "ended": 1}
    assert rows[0]["end_time"] == 2_001
    query = EventStore(data).query(
        "SELECT sampling_reason, sampling_probability FROM raw_spans ORDER BY sequence"
    )
    assert list(query.rows) == [("ancestor", 1.0), ("ancestor", 1.0), ("critical", 1.0)]
    run = _run(data)
    assert (run.published, run.kept, run.sampled_out, run.dropped) == (499, 2, 497, 0)


def test_an_attribute_that_the_policy_names_keeps_an_event(data: DataFolder) -> None:
    policy = EventSampler(frozenset(), 0.0, (CriticalWhen("begun", ">", 2),))
    events = [Made(n, 0, EventType.BAR, "publish", "a", 0, fails=False) for n in range(1, 5)]
    spooled = Spooled(data, events, lake_sampling="policy", sampling=policy.to_dict())
    spooled.write_all()
    spooled.end()
    drain(data, RUN)
    assert [row["sequence"] for row in _rows(data)] == [3, 4]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5_000)))
def test_bits_are_a_set(numbers: list[int]) -> None:
    bits = Bits()
    for number in numbers:
        bits.add(number)
    assert [n for n in range(5_100) if n in bits] == sorted(set(numbers))


# What records may say.


def _one_event(data: DataFolder, extra: dict[str, Any], **parts: Any) -> dict[str, Any]:
    spool = SpoolWriter(data.spool / RUN, {"run_id": RUN, "pid": os.getpid()})
    site = Site(1, "publish", EventType.FILL, "demo/x", "S", "AAPL", "XNAS", None)
    attributes = {Fill.PRICE: Decimal("1.5"), Order.SIDE: "BUY"}
    side = SideRecord(parts.get("sequence", 1), attributes, parts.get("links", []), extra)
    record = (1, parts.get("parent", 0), 1, 5, 6, NO_TIME, _place(1, Flag.SIDE), *NO_NUMBERS)
    child = (2, 1, 1, 5, 6, NO_TIME, _place(1), *NO_NUMBERS)
    spool.append([record, child], [pack_side_record(side)], [site], [])
    spool.finish({"status": "Ended"})
    drain(data, RUN)
    row = _rows(data)[0]
    row["attributes"], row["links"] = json.loads(row["attributes"]), json.loads(row["links"])
    return row


def test_a_chain_that_the_host_named_has_its_name(data: DataFolder) -> None:
    row = _one_event(data, {"correlation_id": "order 7", "event_id": "E-1"})
    assert row["correlation_id"] == "order 7"
    assert int(row["trace_id"], 16) == identity.trace_id_of_correlation(RUN, "order 7")
    assert row["attributes"] == {Event.ID: "E-1"}
    assert (row["price"], row["side"], row["symbol"]) == (Decimal("1.5"), "BUY", "AAPL")
    assert row["event_time"] is None


def test_names_may_be_numbers(data: DataFolder) -> None:
    spool = SpoolWriter(data.spool / RUN, {"run_id": RUN, "pid": os.getpid()})
    site: Any = (1, "publish", EventType.FILL, "demo/x", 7, 8, None, None)
    side = SideRecord(1, {Order.CLIENT_ID: 9}, [], {"correlation_id": 10, "event_id": 11})
    record = (1, 0, 1, 5, 6, NO_TIME, _place(1, Flag.SIDE), *NO_NUMBERS)
    spool.append([record], [pack_side_record(side)], [Site(*site)], [])
    spool.finish({"status": "Ended"})
    drain(data, RUN)
    (row,) = _rows(data)
    assert (row["strategy"], row["symbol"], row["client_order_id"]) == ("7", "8", "9")
    assert row["correlation_id"] == "10"


def test_a_chain_can_continue_a_foreign_trace(data: DataFolder) -> None:
    row = _one_event(data, {"parent": (b"\x07" * 16, b"\x08" * 8)})
    assert (row["trace_id"], row["parent_span_id"]) == ("07" * 16, "08" * 8)
    child = _rows(data)[1]
    assert (child["trace_id"], child["parent_span_id"]) == ("07" * 16, row["span_id"])


def test_links_and_errors_are_carried(data: DataFolder) -> None:
    links = [(b"\x01" * 16, b"\x02" * 8), (b"\x03" * 16, b"\x04" * 8)]
    row = _one_event(data, {"error": {"type": "KeyError", "message": "'x'"}}, links=links)
    assert row["links"] == [
        {"trace_id": "01" * 16, "span_id": "02" * 8},
        {"trace_id": "03" * 16, "span_id": "04" * 8},
    ]
    assert row["attributes"] == {"exception.type": "KeyError", "exception.message": "'x'"}
    status = EventStore(data).query("SELECT status_code, status_message FROM raw_spans LIMIT 1")
    assert list(status.rows) == [("ERROR", "'x'")]


def test_a_child_of_a_dropped_parent_is_no_orphan(data: DataFolder) -> None:
    spool = SpoolWriter(data.spool / RUN, {"run_id": RUN, "pid": os.getpid()})
    site = Site(1, "publish", EventType.BAR, "a", None, None, None, None)
    counts = [Count("a", EventType.BAR, 3, {"spool_error": 1})]
    records = [(n, n - 1, 1, 5, 6, 7, _place(1), *NO_NUMBERS) for n in (2, 3)]
    spool.append(records, [], [site], counts)
    lone = (1, 0, 1, NO_TIME, 9, NO_TIME, _place(1, Flag.FINISH), *NO_NUMBERS)
    spool.append([lone], [], [], counts)
    spool.finish({"status": "Ended"})
    assert drain(data, RUN) == "Ended"
    rows = _rows(data)
    assert [row["sequence"] for row in rows] == [2, 3]
    assert rows[0]["parent_span_id"] is None
    dropped = identity.span_id(identity.run_key(RUN), 1)
    assert json.loads(rows[0]["attributes"]) == {"trading.event.parent_dropped": f"{dropped:016x}"}
    assert rows[1]["parent_span_id"] == rows[0]["span_id"]
    run = _run(data)
    assert (run.published, run.kept, run.dropped) == (3, 2, 1)
    assert run.completeness[0]["dropped"] == {"spool_error": 1}


# Ends and crashes.


def _some(number: int = 30) -> list[Made]:
    return [
        Made(n, n - 1, KINDS[n % 5], "publish", "a", (0, 5, None)[n % 3], fails=False)
        for n in range(1, number + 1)
    ]


def test_a_run_that_is_recorded_is_running_and_counts_add_up(data: DataFolder) -> None:
    spooled = Spooled(data, _some())
    spooled.write(10)
    assert drain(data, RUN) == "Running"
    run = _run(data)
    assert (run.status, run.ended_at) == ("Running", None)
    assert run.published == run.kept == len(_rows(data)) > 0


@pytest.mark.parametrize("ended_by", ["Ended", "Crashed"])
def test_the_host_says_how_the_run_ended(data: DataFolder, ended_by: str) -> None:
    spooled = Spooled(data, _some())
    spooled.write_all()
    spooled.end(ended_by)
    assert drain(data, RUN) == ended_by
    run = _run(data)
    assert (run.status, run.ended_at, run.engine) == (ended_by, 99, "made-up")
    assert (run.mode, run.service_name, run.pid) == ("backtest", "made-up", os.getpid())
    assert run.parameters == {"size": "1.50"}


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_whose_host_died_is_finished_without_orphans(data: DataFolder) -> None:
    events = _some()
    spooled = Spooled(data, events, pid=_dead_pid())
    spooled.write_all()
    with (spooled.folder / "000001.spool").open("rb") as file:
        assert file.read(4) == b"FPSB"
    last = max(spooled.folder.glob("*.spool"))
    last.write_bytes(last.read_bytes()[:-3])  # a torn tail: the last totals
    assert drain(data, RUN) == "Crashed"
    _assert_whole(data, events)
    run = _run(data)
    assert run.error == "The process ended without ending the run."
    assert run.ended_at == last.stat().st_mtime_ns
    assert catch_up(data) == {}
    _assert_whole(data, events)


def test_what_never_reached_the_spool_of_a_crashed_run_is_counted(data: DataFolder) -> None:
    spool = SpoolWriter(data.spool / RUN, {"run_id": RUN, "pid": _dead_pid()})
    site = Site(1, "publish", EventType.BAR, "a", None, None, None, None)
    counts = [Count("a", EventType.BAR, 5, {"queue_full": 1}), Count("a", EventType.TICK, 2, {})]
    spool.append([(1, 0, 1, 5, 6, 7, _place(1), *NO_NUMBERS)], [], [site], counts)
    spool.close()
    assert drain(data, RUN) == "Crashed"
    assert _run(data).completeness == [
        {
            "portfolio": "a",
            "event_type": "BAR",
            "published": 5,
            "kept": 1,
            "sampled_out": 0,
            "dropped": {"queue_full": 1, "crash": 3},
        },
        {
            "portfolio": "a",
            "event_type": "TICK",
            "published": 2,
            "kept": 0,
            "sampled_out": 0,
            "dropped": {"crash": 2},
        },
    ]


def test_a_damaged_spool_is_taken_up_to_the_damage(data: DataFolder) -> None:
    spooled = Spooled(data, _some(200))
    spooled.write_all(10)
    files = sorted(spooled.folder.glob("*.spool"))
    broken = files[len(files) // 2]
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 0xFF
    broken.write_bytes(content)
    with pytest.raises(SpoolError, match="damaged"):
        drain(data, RUN)
    rows, run = _rows(data), _run(data)
    assert 0 < len(rows) < 200
    ids = {row["span_id"] for row in rows}
    assert all(row["parent_span_id"] in ids for row in rows if row["parent_span_id"])
    assert run.status == "Crashed"
    assert run.error is not None
    assert broken.name in run.error
    assert run.published == run.kept + run.dropped
    assert catch_up(data) == {}


def test_a_spool_of_a_later_format_is_left_for_a_later_fillpath(data: DataFolder) -> None:
    spooled = Spooled(data, _some())
    spooled.write_all()
    path = spooled.folder / "000001.spool"
    content = bytearray(path.read_bytes())
    content[5] = 99
    path.write_bytes(content)
    outcome = catch_up(data)[RUN]
    assert isinstance(outcome, SpoolError)
    assert EventStore(data).run_records() == []


class Died(BaseException):
    """Stands for kill -9 at one step of a commit."""


STEPS = ["write", "fsync", "rename", "fsync folder", "commit", "after commit", "record"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_writer_that_dies_at_any_step_loses_and_repeats_nothing(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    events = _some(60)
    spooled = Spooled(data, events)
    spooled.write_all()
    spooled.end()
    calls = 0

    def dying(real: Any, *, before: bool, only: Any = lambda *_: True) -> Any:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += bool(only(*arguments))
            if before and calls == nth and only(*arguments):
                raise Died
            result = real(*arguments, **keywords)
            if not before and calls == nth and only(*arguments):
                raise Died
            return result

        return wrapped

    def spans(path: Path, *_: Any) -> bool:
        return path.name.startswith(("spans-", ".spans-"))

    with monkeypatch.context() as patch:
        patch.setattr(run_writer, "COMMIT_ROWS", 10)
        if step == "write":
            real = pq.ParquetWriter.write_table
            patch.setattr(pq.ParquetWriter, "write_table", dying(real, before=False))
        elif step == "fsync":
            patch.setattr(os, "fsync", dying(os.fsync, before=True))
        elif step == "rename":
            patch.setattr(Path, "rename", dying(Path.rename, before=True, only=spans))
        elif step == "fsync folder":
            real = parquet_file.fsync
            patch.setattr(parquet_file, "fsync", dying(real, before=True))
        elif step in {"commit", "after commit"}:
            real = DeltaTable.create_write_transaction
            before = step == "commit"
            patch.setattr(DeltaTable, "create_write_transaction", dying(real, before=before))
        else:
            real = EventStore.record_run
            patch.setattr(EventStore, "record_run", dying(real, before=nth == 1))
        with contextlib.suppress(Died):
            drain(data, RUN)
        if step != "record" or nth == 1:
            assert calls == nth
    assert drain(data, RUN) == "Ended"
    _assert_whole(data, events)
    known = {file.path.name for file in EventStore(data).spans.files()}
    left = {path.name for path in data.lake.iterdir()} - known
    assert left == {"_delta_log"}


def test_a_crash_adds_what_was_open_to_what_is_in_the_lake_already(data: DataFolder) -> None:
    host = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    spooled = Spooled(data, _some(), pid=host.pid)
    spooled.write_all()
    assert drain(data, RUN) == "Running"
    assert len(_rows(data)) < 30
    host.communicate(b"\n")
    for _ in range(2):
        assert drain(data, RUN) == "Crashed"
        _assert_whole(data, _some())


# Catching up.


def test_catch_up_brings_in_what_waits_and_leaves_a_living_writer_alone(data: DataFolder) -> None:
    assert catch_up(data) == {}
    spooled = Spooled(data, _some())
    spooled.write_all()
    spooled.end()
    with (spooled.folder / LOCK_NAME).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert catch_up(data) == {}
        with pytest.raises(WriterBusy):
            RunWriter(EventStore(data), RUN)
    assert catch_up(data) == {RUN: "Ended"}
    _assert_whole(data, _some())
    assert catch_up(data) == {}


def test_catch_up_keeps_a_run_that_fails_apart(
    data: DataFolder, caplog: pytest.LogCaptureFixture
) -> None:
    broken = data.spool / "broken"
    broken.mkdir(parents=True)
    (broken / "000001.spool").write_bytes(b"nonsense" * 9)
    spooled = Spooled(data, _some())
    spooled.write_all()
    spooled.end()
    outcomes = catch_up(data)
    assert isinstance(outcomes["broken"], SpoolError)
    assert outcomes[RUN] == "Ended"
    assert "broken" in caplog.text


def test_a_broken_lake_stops_the_writer_and_keeps_the_spool(data: DataFolder) -> None:
    data.lake.mkdir(parents=True)
    (data.lake / "holiday.jpg").write_bytes(b"")
    spooled = Spooled(data, _some())
    spooled.write_all()
    spooled.end()
    with pytest.raises(LakeError, match="holds files but no Delta log"):
        drain(data, RUN)
    (data.lake / "holiday.jpg").unlink()
    assert drain(data, RUN) == "Ended"
    _assert_whole(data, _some())


def test_a_process_is_known_by_number_and_start() -> None:
    here = {"host_name": platform.node(), "pid": os.getpid(), "started_at": time.time_ns()}
    now = time.time()
    assert host_process.is_alive(here, now)
    assert not host_process.is_alive({**here, "pid": _dead_pid()}, now)
    long_ago = time.time_ns() - 10 * 365 * 86_400 * 10**9  # before any process of today
    assert not host_process.is_alive({**here, "started_at": long_ago}, now)
    elsewhere = {**here, "host_name": "elsewhere.invalid", "pid": _dead_pid()}
    assert host_process.is_alive(elsewhere, now)
    assert not host_process.is_alive(elsewhere, now - 86_400)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    while host_process.start_mark(zombie.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert host_process.start_mark(zombie.pid) is None
    zombie.wait()


# With the recorder itself.


@pytest.mark.parametrize("writer", ["process", "inline"])
def test_a_recorded_run_is_in_the_lake_when_it_has_stopped(
    data: DataFolder, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_SAMPLING_RATE", "0")
    with Tracing(
        RUN, data=data.path, portfolio="demo/x", writer=writer, lake_sampling="policy"
    ) as tracing:
        tracer = tracing.tracer
        tracer.close(tracer.open("BAR"))
        with tracer.event("BAR", symbol="AAPL", event_time=7) as bar:
            pass
        with tracer.event("BAR", operation="process", handler="S.on_bar", parent=bar):
            opinion = tracer.open("SIGNAL", strategy="S", attributes={"trading.signal.name": "up"})
            with tracer.handling(opinion):
                order = tracer.open("ORDER", attributes={Order.QUANTITY: Decimal("0.10")})
                tracer.close(order)
            tracer.close(opinion, error=ValueError("no"))
    rows = _rows(data)
    assert [row["name"] for row in rows] == [
        "publish BAR",
        "process BAR",
        "publish SIGNAL",
        "publish ORDER",
    ]
    ids = [row["span_id"] for row in rows]
    assert [row["parent_span_id"] for row in rows] == [None, *ids[:3]]
    assert len({row["trace_id"] for row in rows}) == 1
    assert rows[3]["quantity"] == Decimal("0.1")
    assert json.loads(rows[2]["attributes"])["exception.type"] == "ValueError"
    run = _run(data)
    assert (run.status, run.published, run.kept, run.sampled_out) == ("Ended", 4, 3, 1)
    assert Sampling.REASON not in rows[0]["attributes"]
