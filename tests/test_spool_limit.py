"""A spool that nobody takes makes a backtest wait, and costs a live run events that are counted."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation.errors import FillpathError, UsageError
from fillpath.instrumentation.event_tracer import EventTracer
from fillpath.instrumentation.recorder import DROPPED_SPOOL_FULL, Recorder
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import BlockType, SpoolReader
from fillpath.instrumentation.spool_limit import SpoolLimit
from fillpath.instrumentation.spool_writer import SpoolWriter
from fillpath.instrumentation.tracing import Tracing
from fillpath.instrumentation.writer_files import PROGRESS_NAME, Progress

LIMIT = 100_000
BLOCK = 512 * 8 * 8 + 24
"""Bytes of 512 events with one number."""


class Session:
    """A recorder with a small limit, and a tracer before it."""

    def __init__(self, folder: Path, delivery: str, max_file_bytes: int = 64 << 20) -> None:
        self.folder = folder
        self.spool = SpoolWriter(folder, {"run_id": "run"}, max_file_bytes=max_file_bytes)
        self.recorder = Recorder(self.spool, delivery=delivery, limit=LIMIT)
        self.tracer = EventTracer("run", self.recorder, "p")
        self.emit = self.tracer.emitter("BAR", fields=["x"])

    def end(self) -> None:
        self.tracer.stop()
        self.recorder.stop({"sequences": self.tracer.last_sequence})


def take(folder: Path, file: int, offset: int, pid: int | None = None) -> None:
    """Say what the writer process would: everything before this place is taken."""
    Progress(os.getpid() if pid is None else pid, file=file, offset=offset).write(folder)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.spool"))


class Recorded(SpoolEvents):
    """Everything of a run's spool."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.events: dict[int, RecordedEvent] = {}
        self.types: list[BlockType] = []
        for block in SpoolReader(folder).blocks():
            self.types.append(block.type)
            self.events.update((event.sequence, event) for event in self.feed(block))

    def dropped(self) -> int:
        return sum(sum(count.dropped.values()) for count in self.counts)


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("max_file_bytes", [64 << 20, 50_000], ids=["one file", "many files"])
def test_a_lossless_run_waits_for_its_writer(tmp_path: Path, max_file_bytes: int) -> None:
    session = Session(tmp_path / "run", "lossless", max_file_bytes)
    take(session.folder, 1, 0)
    number = 20_000

    def publish() -> None:
        for n in range(number):
            session.emit(n, None, 0.5)

    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: size_of(session.folder) > LIMIT)
    time.sleep(0.3)
    assert thread.is_alive()
    assert size_of(session.folder) < LIMIT + 9 * BLOCK
    while thread.is_alive():  # take what is there, again and again
        files = sorted(session.folder.glob("*.spool"))
        take(session.folder, len(files), files[-1].stat().st_size)
        thread.join(0.02)
    session.end()
    run = Recorded(session.folder)
    assert len(run.events) == number
    assert run.counts == []


def test_control_c_ends_the_wait_and_loses_nothing(tmp_path: Path) -> None:
    script = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_spool_limit import Session, take
session = Session(Path(sys.argv[2]) / "run", "lossless")
take(session.folder, 1, 0)
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
kept = 0
try:
    while True:
        session.emit(1, None, 0.5)
        kept += 1
except KeyboardInterrupt:
    take(session.folder, 1, 1 << 40)
session.end()
print(kept)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(Recorded(tmp_path / "run").events) in (int(done.stdout), int(done.stdout) + 1)


@pytest.mark.parametrize("writer", ["none", "dead"])
def test_a_lossless_run_goes_on_beyond_the_limit_when_nobody_takes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, writer: str
) -> None:
    session = Session(tmp_path / "run", "lossless")
    if writer == "dead":
        take(session.folder, 1, 0, dead_pid())
    with caplog.at_level(logging.WARNING):
        for n in range(10_000):
            session.emit(n, None, 0.5)
        session.end()
    assert len(Recorded(session.folder).events) == 10_000
    assert len([each for each in caplog.records if "nothing takes" in each.message]) == 1


def test_nobody_waits_long_for_a_writer_that_does_nothing(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", {})
    limit = SpoolLimit(spool, 10, patience=0.2)
    take(tmp_path / "run", 1, 0)
    begun = time.monotonic()
    assert not limit.wait()
    assert 0.2 <= time.monotonic() - begun < 5
    begun = time.monotonic()
    assert not limit.wait()  # and not a second time
    assert time.monotonic() - begun < 0.1
    take(tmp_path / "run", 1, 1 << 20)
    assert limit.wait()
    assert not limit.is_exceeded()
    spool.close()


def test_a_writer_that_has_been_started_is_waited_for(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "run", {})
    limit = SpoolLimit(spool, 10, is_expected=True)
    thread = threading.Timer(0.3, take, (tmp_path / "run", 1, 1 << 20))
    thread.start()
    assert limit.wait()
    thread.join()
    spool.close()


@pytest.mark.full
def test_a_real_writer_is_waited_for_and_everything_reaches_the_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FILLPATH_SPOOL_LIMIT", "500000")
    with caplog.at_level(logging.WARNING), Tracing("run", data=tmp_path) as tracing:
        emit = tracing.tracer.emitter("BAR", fields=["x"])
        for n in range(60_000):
            emit(n, None, 0.5)
    assert not caplog.records
    (record,) = EventStore(DataFolder(tmp_path)).run_records()
    assert (record.status, record.published, record.kept) == ("Ended", 60_000, 60_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"file": "x", "offset": 1, "pid": 1}',
        "\0\xff",
        "null",
        '{"pid": 1, "file": 0}',
    ],
)
def test_a_progress_file_that_makes_no_sense_says_nothing(tmp_path: Path, text: str) -> None:
    spool = SpoolWriter(tmp_path / "run", {})
    (tmp_path / "run" / PROGRESS_NAME).write_text(text)
    limit = SpoolLimit(spool, 10)
    assert limit.is_exceeded()
    assert not limit.wait()
    spool.close()


def test_a_live_run_never_waits_and_counts_what_it_drops(tmp_path: Path) -> None:
    session = Session(tmp_path / "run", "live")
    take(session.folder, 1, 0)
    strategies = [session.tracer.emitter("SIGNAL", strategy=f"S-{n}") for n in range(3)]
    number = 20_000
    for n in range(number):
        cause = session.emit(n, None, 0.5)
        strategies[n % 3](n, cause)
        if n % 10 == 0:
            session.tracer.close(session.tracer.open("ORDER", parent=cause))
    assert size_of(session.folder) < LIMIT + 9 * BLOCK
    take(session.folder, 1, size_of(session.folder))
    time.sleep(0.1)
    late = session.tracer.emitter("SIGNAL", strategy="late")(1, session.emit(1, None, 1.5))
    assert late is not None
    session.end()
    run = Recorded(session.folder)
    assert run.end is not None
    assert run.types[-1] is BlockType.END
    published = {count.event_type: count.published for count in run.counts}
    dropped = {count.event_type: count.dropped.get(DROPPED_SPOOL_FULL, 0) for count in run.counts}
    kept: dict[str, int] = {}
    for event in run.events.values():
        kept[event.site.event_type] = kept.get(event.site.event_type, 0) + 1
    assert kept["ORDER"] + dropped["ORDER"] == published["ORDER"] == number // 10
    assert kept["BAR"] + dropped["BAR"] == kept["SIGNAL"] + dropped["SIGNAL"] == number + 1
    # Events of the fast door stand for themselves, unless they were dropped.
    assert (published["BAR"], published["SIGNAL"]) == (dropped["BAR"], dropped["SIGNAL"])
    assert dropped["BAR"] > number // 2
    assert len(run.events) + run.dropped() == run.end["sequences"]
    assert run.events[late[0]].site.strategy == "late"


def test_a_live_run_that_is_killed_has_told_what_it_dropped(tmp_path: Path) -> None:
    session = Session(tmp_path / "run", "live")
    take(session.folder, 1, 0)
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        session.emit(1, None, 0.5)
    assert Recorded(session.folder).dropped() > 0  # without an end
    session.end()


def test_events_of_the_fast_door_that_a_full_disk_cost_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(tmp_path / "run", "lossless")
    session.emit(1, None, 0.5)
    session.recorder.flush()
    with full_disk(session.folder), caplog.at_level(logging.CRITICAL):
        for n in range(2000):
            session.emit(n, None, 0.5)
        session.recorder.flush()
    session.emit(1, None, 1.5)
    session.end()
    run = Recorded(session.folder)
    assert [(c.published, c.dropped) for c in run.counts] == [(2000, {"spool_error": 2000})]
    assert run.end == {"sequences": 2002}
    assert [event.attributes["x"] for event in run.events.values()] == [0.5, 1.5]


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    size = max(path.stat().st_size for path in folder.glob("*.spool"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- Made durable -----------------------------------------------------------------------------


@pytest.mark.parametrize(("sync", "at_least"), [("none", 0), ("10ms", 8), ("200ms", 2)])
def test_the_spool_is_synced_as_often_as_asked_by_the_recorders_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str, at_least: int
) -> None:
    synced: list[tuple[str, str]] = []
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.name, threading.current_thread().name))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    monkeypatch.setenv("FILLPATH_SPOOL_SYNC", sync)
    before = open_files()
    with Tracing("run", data=tmp_path, writer="none") as tracing:
        emit = tracing.tracer.emitter("BAR", fields=["x"])
        deadline = time.monotonic() + 0.9
        while time.monotonic() < deadline:
            for _ in range(20):
                emit(1, None, 0.5)
            time.sleep(0.005)
    assert open_files() == before
    assert {thread for _, thread in synced} <= {"fillpath"}
    assert len([name for name, _ in synced if name.endswith(".spool")]) >= at_least
    assert bool(at_least) is ("run" in {name for name, _ in synced})  # the folder
    run = Recorded(tmp_path / "spool" / "run")
    assert run.end is not None
    assert len(run.events) == run.end["sequences"]


def test_files_that_are_full_are_synced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fdatasync

    def noted(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    before = open_files()
    spool = SpoolWriter(tmp_path / "run", {}, max_file_bytes=500, is_synced=True)
    recorder = Recorder(spool, sync_seconds=0.02)
    emit = EventTracer("run", recorder, "p").emitter("BAR", fields=["x"])
    for _ in range(200):
        emit(1, None, 0.5)
        recorder.flush()
    time.sleep(0.1)
    recorder.stop({})
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert len(files) > 20
    assert {*files, "run"} - synced <= {max(files)}  # that one is synced as a whole at the end
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_disk_that_fails_to_sync_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setenv("FILLPATH_SPOOL_SYNC", "10ms")
    with caplog.at_level(logging.WARNING), Tracing("run", data=tmp_path, writer="none") as tracing:
        for _ in range(5):
            with tracing.tracer.event("BAR"):
                time.sleep(0.02)
    assert len([each for each in caplog.records if "Input/output" in each.message]) == 1
    assert len(Recorded(tmp_path / "spool" / "run").events) == 5


# -- Settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "setting", "argument", "delivery"),
    [
        (None, None, None, "lossless"),
        ("backtest", None, None, "lossless"),
        ("live", None, None, "live"),
        ("live", "lossless", None, "lossless"),
        ("backtest", "lossless", "live", "live"),
    ],
)
def test_how_a_run_delivers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: Any,
    setting: str | None,
    argument: Any,
    delivery: str,
) -> None:
    if setting is not None:
        monkeypatch.setenv("FILLPATH_DELIVERY", setting)
    with Tracing("run", data=tmp_path, writer="none", mode=mode, delivery=argument):
        pass
    assert Recorded(tmp_path / "spool" / "run").run["delivery"] == delivery


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FILLPATH_DELIVERY", "fast"),
        ("FILLPATH_SPOOL_LIMIT", "2GB"),
        ("FILLPATH_SPOOL_LIMIT", "-1"),
        ("FILLPATH_SPOOL_SYNC", "always"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        Tracing()


def test_the_limit_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_SPOOL_LIMIT", "20000")
    with Tracing("run", data=tmp_path, writer="none", delivery="live") as tracing:
        emit = tracing.tracer.emitter("BAR", fields=["x"])
        for _ in range(5000):
            emit(1, None, 0.5)
    run = Recorded(tmp_path / "spool" / "run")
    assert run.dropped() > 3000
    assert len(run.events) + run.dropped() == 5000


# -- Who may write -----------------------------------------------------------------------------


RACE = """
import sys, time
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import SpoolError
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    with Tracing("run", data=sys.argv[1], writer="none") as tracing:
        for _ in range(100):
            with tracing.tracer.event("BAR"):
                pass
except SpoolError as error:
    assert "already has a spool" in str(error), error
    print("refused")
else:
    print("recorded")
"""


def test_of_processes_that_start_one_run_together_one_records_it(tmp_path: Path) -> None:
    at = str(time.time() + 2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), at], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    words = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert words == ["recorded", "refused", "refused", "refused"]
    assert len(Recorded(tmp_path / "spool" / "run").events) == 100


def test_a_folder_that_may_only_be_read_is_one_clear_error(tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o555)
    me = os.geteuid()
    if me == 0:  # root may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(FillpathError, match="cannot be written: Permission denied") as caught:
            Tracing("run", data=tmp_path / "data", writer="none").start()
    finally:
        os.seteuid(me)
    assert "FILLPATH_DATA" in str(caught.value)
    assert Tracing.active() is None
    assert list((tmp_path / "data").iterdir()) == []
