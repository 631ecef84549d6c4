"""One writer process serves all runs of a data folder, whatever dies and whenever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.exporters import host_process, paced_reader, run_writer, writer_service
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.paced_reader import PacedReader
from fillpath.exporters.run_writer import LOCK_NAME, WriterBusy
from fillpath.exporters.schema import SCHEMA_VERSION, SCHEMA_VERSION_KEY
from fillpath.exporters.writer import catch_up, drain
from fillpath.exporters.writer_service import WriterService
from fillpath.instrumentation import Tracing, writer_files, writer_process
from fillpath.instrumentation.errors import FillpathError, LakeError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import NO_TIME, SLOTS, Count, Site, SpoolReader
from fillpath.instrumentation.spool_writer import SpoolWriter
from fillpath.instrumentation.writer_files import Heartbeat, Progress, take_lock

SECONDS = 60.0


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataFolder]:
    """Give a data folder, and see its writer process gone when the test is over."""
    folder = DataFolder(tmp_path / "data")
    yield folder
    if (pid := _writer_pid(folder)) not in {None, os.getpid()}:
        assert pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _writer_pid(data: DataFolder) -> int | None:
    heartbeat = Heartbeat.read(data.spool)
    if heartbeat is None or host_process.start_mark(heartbeat.pid) is None:
        return None
    return heartbeat.pid


def _until(true: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return result


def _sequences(data: DataFolder, run_id: str) -> list[int]:
    rows = EventStore(data).query(
        "SELECT sequence FROM spans WHERE run_id = ? ORDER BY sequence", [run_id]
    )
    return [row[0] for row in rows.rows]


def _record(data: DataFolder, run_id: str) -> RunRecord:
    (record,) = [run for run in EventStore(data).run_records() if run.run_id == run_id]
    return record


class Spooled:
    """The spool of a run that this process seems to record; events are numbered from 1."""

    def __init__(self, data: DataFolder, run_id: str = "run-1", **run: Any) -> None:
        self.folder = data.spool / run_id
        self._spool = SpoolWriter(
            self.folder,
            {
                "run_id": run_id,
                "host_name": platform.node(),
                "pid": os.getpid(),
                "started_at": time.time_ns(),
                "writer": "process",
                **run,
            },
            max_file_bytes=4000,
        )
        self._sites = [Site(1, "publish", "BAR", "a")]
        self.events = 0

    def write(self, number: int = 20) -> None:
        first = self.events + 1
        self.events += number
        numbers = (0.0,) * SLOTS
        absent = ((1 << SLOTS) - 1) << 8
        place = 1 | absent << 32
        records = [
            (n, 0, n, n, n + 1, NO_TIME, place, *numbers) for n in range(first, self.events + 1)
        ]
        self._spool.append(records, [], self._sites, [Count("a", "BAR", self.events, {})])
        self._sites = []

    def end(self) -> None:
        self._spool.finish({"status": "Ended", "ended_at": time.time_ns()})

    def cut_off(self) -> None:
        self._spool.close()

    def assert_whole(self, data: DataFolder, status: str = "Ended") -> None:
        assert _sequences(data, self.folder.name) == list(range(1, self.events + 1))
        record = _record(data, self.folder.name)
        assert (record.status, record.published, record.kept) == (status, self.events, self.events)


def _serve(data: DataFolder, idle_seconds: float = 0.0, **given: Any) -> None:
    data.spool.mkdir(parents=True, exist_ok=True)
    lock = take_lock(data.spool)
    assert lock is not None
    WriterService(data, lock, idle_seconds=idle_seconds, **given).serve()


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# Several runs.


def test_all_runs_that_wait_are_brought_in_and_the_writer_leaves(data: DataFolder) -> None:
    runs = [Spooled(data, f"run-{number}") for number in range(4)]
    for number, run in enumerate(runs):
        run.write(10 + number)
        run.end()
    _serve(data)
    for run in runs:
        run.assert_whole(data)
        progress = Progress.read(run.folder)
        assert progress is not None
        assert (progress.state, progress.error, progress.lag_bytes) == ("ended", None, 0)
        assert progress.block == progress.committed_block
    assert Heartbeat.read(data.spool) is None
    assert take_lock(data.spool) is not None


def test_runs_that_do_not_want_the_writer_are_left_alone(data: DataFolder) -> None:
    for mode in ("inline", "none"):
        run = Spooled(data, mode, writer=mode)
        run.write()
        run.end()
    _serve(data)
    assert EventStore(data).run_records() == []
    assert set(catch_up(data)) == {"inline", "none"}


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 5000))
def test_shares_of_any_size_are_the_whole_spool(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], share: int
) -> None:
    run = Spooled(DataFolder(tmp_path_factory.mktemp("data")))
    for number in steps:
        run.write(number)
    run.end()
    whole = list(SpoolReader(run.folder).blocks())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paced_reader, "SHARE_BYTES", share)
        reader = PacedReader(run.folder, in_shares=True)
        taken = []
        while blocks := list(reader.blocks()):
            taken += blocks
            end = blocks[-1].offset + 24 + len(blocks[-1].payload)
            assert (reader.block, reader.file, reader.offset) == (
                blocks[-1].number,
                blocks[-1].file,
                end,
            )
            assert reader.stopped_short or reader.lag_bytes() == 0
    assert taken == whole
    assert reader.lag_bytes() == 0


HOST = """
import os, signal, sys, time
from fillpath.instrumentation import Tracing, writer_process
writer_process._WATCH_SECONDS = 0.2
folder, run, number, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with Tracing(run, data=folder, portfolio="a") as tracing:
    for done in range(number):
        with tracing.tracer.event("BAR", attributes={"n": done}):
            pass
        if done == 0:
            print("ready", flush=True)
        if pause:
            time.sleep(pause)
"""


def _host(
    data: DataFolder, run: str, number: int, pause: float = 0.0, script: str = HOST
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(data.path), run, str(number), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _ready(host: subprocess.Popen[str]) -> None:
    assert host.stdout is not None
    line = host.stdout.readline()
    assert line == "ready\n", host.communicate()[1]


def _finished(host: subprocess.Popen[str], code: int = 0) -> str:
    _, stderr = host.communicate(timeout=SECONDS)
    assert host.returncode == code, stderr
    return stderr


def _writers_of(data: DataFolder) -> set[int]:
    """Every process that was started as the writer of this folder."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"fillpath.exporters" in words and os.fsencode(data.path) in words:
                found.add(int(path.parent.name))
    return found


@pytest.mark.smoke
def test_runs_recorded_at_once_have_one_writer(data: DataFolder) -> None:
    hosts = [_host(data, f"run-{number}", 1000) for number in range(3)]
    writers: set[int] = set()
    while any(host.poll() is None for host in hosts):
        writers |= _writers_of(data)
        time.sleep(0.01)
    for number, host in enumerate(hosts):
        assert _finished(host) == ""
        assert _sequences(data, f"run-{number}") == list(range(1, 1001))
        assert _record(data, f"run-{number}").status == "Ended"
        progress = Progress.read(data.spool / f"run-{number}")
        assert progress is not None
        writers.add(progress.pid)
    assert len(writers) == 1


@pytest.mark.full
def test_the_next_run_finds_the_writer_that_is_there(data: DataFolder) -> None:
    pids = []
    for run in ("one", "two"):
        with Tracing(run, data=data.path) as tracing, tracing.tracer.event("BAR"):
            pass
        assert _sequences(data, run) == [1]
        pids.append(_writer_pid(data))
    assert pids[0] is not None
    assert pids[0] == pids[1]
    _until(lambda: _writer_pid(data) is None, "the writer leaves by itself")
    with Tracing("three", data=data.path) as tracing, tracing.tracer.event("BAR"):
        pass
    assert _sequences(data, "three") == [1]


def test_short_runs_one_after_another_keep_the_writer(data: DataFolder) -> None:
    """Each is over after one turn; together they take longer than the writer waits for one."""
    service = threading.Thread(target=_serve, args=(data,), kwargs={"idle_seconds": 1.0})
    service.start()
    for number in range(12):
        assert service.is_alive()
        run = Spooled(data, f"run-{number}")
        run.write()
        run.end()
        time.sleep(0.2)
    service.join()
    for number in range(12):
        assert len(_sequences(data, f"run-{number}")) == 20


def test_a_second_writer_leaves_at_once(data: DataFolder) -> None:
    data.spool.mkdir(parents=True)
    lock = take_lock(data.spool)
    assert lock is not None
    command = [sys.executable, "-P", "-m", "fillpath.exporters", "--data", str(data.path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "has a writer already" in second.stderr


@pytest.mark.parametrize("next_one", [False, True])
def test_a_run_that_appears_while_the_writer_leaves_is_not_forgotten(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, next_one: bool
) -> None:
    """Its host found the lock taken just before; or free just after, and starts the next one."""
    data.spool.mkdir(parents=True)
    late: list[Spooled] = []
    locks: list[int | None] = []
    release = writer_files.release_lock

    def appear(lock: int) -> None:
        if not late:
            late.append(Spooled(data))
            late[0].write()
            late[0].end()
            release(lock)
            if next_one:
                locks.append(take_lock(data.spool))
        else:
            release(lock)

    monkeypatch.setattr(writer_service, "release_lock", appear)
    _serve(data)
    if next_one:
        assert locks[0] is not None
        assert EventStore(data).run_records() == []
        WriterService(data, locks[0], idle_seconds=0.0).serve()
    late[0].assert_whole(data)


@pytest.mark.full
def test_a_child_that_the_host_forks_does_not_keep_the_writers_place(data: DataFolder) -> None:
    script = HOST.replace(
        '            print("ready", flush=True)',
        """            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            print(child, flush=True)""",
    )
    host = _host(data, "one", 20, script=script)
    assert host.stdout is not None
    child = host.stdout.readline()
    try:
        _until(lambda: host.poll() is not None, "the host ends")
        _until(lambda: _writer_pid(data) is None, "the writer leaves")
        assert host_process.start_mark(int(child)) is not None
        with Tracing("two", data=data.path) as tracing, tracing.tracer.event("BAR"):
            pass
        assert _sequences(data, "two") == [1]
    finally:
        os.kill(int(child), signal.SIGKILL)
        host.communicate()


# Progress and heartbeat.


def test_progress_says_how_far_the_run_is(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_writer, "COMMIT_SECONDS", 0.05)
    run = Spooled(data)
    written: list[Progress] = []
    write = Progress.write

    def noted(progress: Progress, folder: Path) -> None:
        written.append(progress)
        write(progress, folder)

    monkeypatch.setattr(Progress, "write", noted)
    began = time.monotonic()
    service = threading.Thread(target=_serve, args=(data,))
    service.start()
    for _ in range(40):
        run.write()
        time.sleep(0.02)
    heartbeat = _until(lambda: Heartbeat.read(data.spool), "a heartbeat")
    assert heartbeat.pid == os.getpid()
    run.end()
    service.join()
    seconds = time.monotonic() - began
    assert 3 <= len(written) <= 5 * seconds + 3
    assert [one.block for one in written] == sorted(one.block for one in written)
    assert written[0].state == "following"
    progress = Progress.read(run.folder)
    assert progress is not None
    assert (progress.state, progress.lag_bytes, progress.pid) == ("ended", 0, os.getpid())
    last = max(run.folder.glob("*.spool"))
    assert (progress.file, progress.offset) == (int(last.stem), last.stat().st_size)
    assert progress.updated_at <= time.time_ns()
    run.assert_whole(data)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"pid": "one"}', '{"pid": 1, "block": null}', "\udce9"]
)
def test_a_file_that_makes_no_sense_is_no_progress(tmp_path: Path, content: str) -> None:
    (tmp_path / "progress.json").write_text(content, "utf-8", "surrogateescape")
    assert Progress.read(tmp_path) is None


def test_progress_of_a_later_fillpath_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(json.dumps({"pid": 7, "block": 3, "mood": "good"}))
    progress = Progress.read(tmp_path)
    assert progress is not None
    assert (progress.pid, progress.block) == (7, 3)


def test_rows_of_a_live_run_are_soon_in_the_lake(data: DataFolder) -> None:
    with Tracing("run-1", data=data.path, mode="live") as tracing:
        with tracing.tracer.event("BAR"):
            pass
        _until(lambda: EventStore(data).spans.files() != [], "the first row")
        with tracing.tracer.event("BAR"):
            pass
        began = time.monotonic()
        _until(lambda: len(_sequences(data, "run-1")) == 2, "the second row", 10)
        assert time.monotonic() - began < 4  # 1.1 s on a machine that does nothing else
        assert _record_or_none(data) in {None, "Running"}


def _record_or_none(data: DataFolder) -> str | None:
    records = EventStore(data).run_records()
    return records[0].status if records else None


def test_many_runs_make_fewer_commits_each(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_writer, "COMMIT_SECONDS", 0.0)
    runs = [Spooled(data, f"run-{number}") for number in range(6)]
    service = threading.Thread(target=_serve, args=(data,))
    service.start()
    for _ in range(60):
        for run in runs:
            run.write(5)
        time.sleep(0.02)
    for run in runs:
        run.end()
    service.join()
    for run in runs:
        run.assert_whole(data)
    versions = len(list((data.lake / "_delta_log").glob("*.json")))
    assert len(runs) < versions < 60  # 360 appends; each could be a commit


def test_rows_that_wait_for_their_commit_are_bounded(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_service, "MAX_WAITING_ROWS", 50)
    most = 0
    append = EventStore.append_spans

    def noted(store: EventStore, rows: Any, *rest: Any) -> None:
        nonlocal most
        most = max(most, rows.num_rows)
        append(store, rows, *rest)

    monkeypatch.setattr(EventStore, "append_spans", noted)
    monkeypatch.setattr(paced_reader, "SHARE_BYTES", 2000)
    runs = [Spooled(data, f"run-{number}") for number in range(3)]
    for run in runs:
        for _ in range(20):
            run.write(10)
        run.end()
    _serve(data)
    for run in runs:
        run.assert_whole(data)
    assert most <= 80


# What dies, and whenever.


@pytest.mark.parametrize("steps", [3, 8])
def test_a_writer_that_is_told_to_leave_commits_and_leaves(data: DataFolder, steps: int) -> None:
    run = Spooled(data)
    run.write(10)
    asked = iter([False] * steps)
    _serve(data, leaving=lambda: next(asked, True))
    assert _sequences(data, "run-1") == list(range(1, 11))
    assert _record(data, "run-1").status == "Running"
    run.write(10)
    run.end()
    _serve(data)
    run.assert_whole(data)


def test_a_run_whose_host_is_gone_is_finished(data: DataFolder) -> None:
    run = Spooled(data, pid=_dead_pid())
    run.write(10)
    run.cut_off()
    _serve(data)
    run.assert_whole(data, "Crashed")
    assert _record(data, "run-1").error == "The process ended without ending the run."


def test_a_host_that_goes_while_it_is_followed_is_noticed(data: DataFolder) -> None:
    host = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run = Spooled(data, pid=host.pid)
    run.write(10)
    service = threading.Thread(target=_serve, args=(data,))
    service.start()
    _until(lambda: _sequences(data, "run-1"), "the first rows")
    run.write(10)
    host.communicate(b"\n")
    service.join()
    run.assert_whole(data, "Crashed")


def _kill_writer(data: DataFolder, signal_number: int = signal.SIGKILL) -> bool:
    pid = _writer_pid(data)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
    return pid is not None


@pytest.mark.full
def test_a_writer_killed_at_random_moments_loses_and_repeats_nothing(data: DataFolder) -> None:
    """The host starts the next one; in the end, exactly what was recorded is in the lake."""
    hosts = [_host(data, name, 1200, 0.004) for name in ("one", "two")]
    for host in hosts:
        _ready(host)
    chance = random.Random(5)
    kills = 0
    while kills < 4 and all(host.poll() is None for host in hosts):
        time.sleep(0.4 + chance.random())
        kills += _kill_writer(data)
    assert kills >= 3
    for host in hosts:
        assert _finished(host) == ""
    for name in ("one", "two"):
        assert _sequences(data, name) == list(range(1, 1201))
        record = _record(data, name)
        assert (record.status, record.published, record.kept) == ("Ended", 1200, 1200)
    known = {file.path.name for file in EventStore(data).spans.files()}
    assert {path.name for path in data.lake.iterdir()} - known == {"_delta_log"}


def test_a_writer_killed_while_the_host_waits_is_started_again(data: DataFolder) -> None:
    host = _host(data, "one", 30_000)
    _ready(host)
    _until((data.spool / "one" / "awaited").exists, "the host waits")
    _kill_writer(data)
    assert _finished(host) == ""
    assert _sequences(data, "one") == list(range(1, 30_001))


def test_the_run_of_a_host_that_was_killed_is_finished_by_the_writer(data: DataFolder) -> None:
    host = _host(data, "one", 100_000, 0.001)
    _ready(host)
    other = _host(data, "two", 300, 0.005)
    _ready(other)
    time.sleep(0.3)
    host.kill()  # a zombie until the test waits for it: that counts as dead
    assert _finished(other) == ""
    record = _until(
        lambda: next(
            (r for r in EventStore(data).run_records() if r.run_id == "one" and r.ended_at), None
        ),
        "the end of the run",
    )
    host.communicate()
    assert record.status == "Crashed"
    found = _sequences(data, "one")
    assert found == list(range(1, len(found) + 1))
    assert record.kept == len(found)
    assert record.published == record.kept + record.dropped
    assert len(_sequences(data, "two")) == 300


def test_host_and_writer_killed_together_leave_a_spool_that_the_next_command_reads(
    data: DataFolder,
) -> None:
    host = _host(data, "one", 100_000, 0.001)
    _ready(host)
    _until(lambda: EventStore(data).spans.files() != [], "some rows")
    writer = _writer_pid(data)
    assert writer is not None
    os.kill(writer, signal.SIGKILL)
    host.kill()
    host.communicate()
    before = len(_sequences(data, "one"))
    assert catch_up(data) == {"one": "Crashed"}
    found = _sequences(data, "one")
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= before > 0
    assert catch_up(data) == {}


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.full),
        pytest.param(signal.SIGHUP, marks=pytest.mark.full),
    ],
)
def test_a_signal_to_the_group_ends_the_host_and_not_the_writer(
    data: DataFolder, number: int
) -> None:
    host = _host(data, "one", 100_000, 0.001)
    _ready(host)
    _until(lambda: EventStore(data).spans.files() != [], "some rows")
    writer = _writer_pid(data)
    os.killpg(host.pid, number)
    host.communicate(timeout=SECONDS)
    _until(lambda: _record_or_none(data) in {"Ended", "Crashed"}, "the end of the run")
    assert Progress.read(data.spool / "one").pid == writer  # type: ignore[union-attr]
    assert _record(data, "one").status == "Crashed"
    found = _sequences(data, "one")
    assert found == list(range(1, len(found) + 1))


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.full),
        pytest.param(signal.SIGHUP, marks=pytest.mark.full),
        signal.SIGTERM,
    ],
)
def test_a_signal_to_the_writer_costs_nothing(data: DataFolder, number: int) -> None:
    host = _host(data, "one", 400, 0.005)
    _ready(host)
    _until(lambda: EventStore(data).spans.files() != [], "some rows")
    assert _kill_writer(data, number)
    assert _finished(host) == ""
    assert _sequences(data, "one") == list(range(1, 401))


def test_a_writer_that_cannot_live_is_reported_by_stop(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_process, "WRITER_MODULE", "fillpath.exporters.nothing")
    tracing = Tracing("one", data=data.path).start()
    with tracing.tracer.event("BAR"):
        pass
    with pytest.raises(FillpathError, match="no writer stays alive") as caught:
        tracing.stop()
    assert str(data.spool / "one") in caught.value.message
    assert "No module named" in (data.spool / ".writer.log").read_text()
    assert catch_up(data) == {"one": "Ended"}


def test_a_writer_that_cannot_be_started_does_not_stop_the_host(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(data.path / "none"))
    with caplog.at_level(logging.WARNING):
        tracing = Tracing("one", data=data.path).start()
    assert caplog.text.count("could not start its writer") == 1
    with tracing.tracer.event("BAR"):
        pass
    with pytest.raises(FillpathError, match="not in the lake"):
        tracing.stop()
    assert catch_up(data) == {"one": "Ended"}


# Trouble.


def test_a_damaged_spool_does_not_keep_the_others_out(data: DataFolder) -> None:
    hurt, sound = Spooled(data, "hurt"), Spooled(data, "sound")
    for run in (hurt, sound):
        for _ in range(10):
            run.write(10)
        run.end()
    file = hurt.folder / "000002.spool"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    other = data.spool / "other"
    other.mkdir()
    (other / "000001.spool").write_bytes(b"nonsense" * 9)
    _serve(data)
    sound.assert_whole(data)
    record = _record(data, "hurt")
    assert record.status == "Crashed"
    assert 0 < record.kept < 100
    states = {}
    for name in ("hurt", "other", "sound"):
        progress = Progress.read(data.spool / name)
        assert progress is not None
        states[name] = (progress.state, progress.error)
    assert states["hurt"][0] == "ended"
    assert "damaged" in str(states["hurt"][1])
    assert states["other"][0] == "gave_up"
    assert states["sound"] == ("ended", None)


def test_two_writers_of_one_run_take_turns(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Spooled(data)
    run.write()
    run.end()
    with (run.folder / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WriterBusy, match="Another process is writing run 'run-1'"):
            drain(data, "run-1", patience=0.0)
        service = threading.Thread(target=_serve, args=(data,))
        service.start()
        time.sleep(0.5)
        assert service.is_alive()
        assert EventStore(data).run_records() == []
    service.join()
    run.assert_whole(data)


def test_a_run_that_a_command_finished_meanwhile_is_not_taken_again(data: DataFolder) -> None:
    run = Spooled(data)
    run.write()
    run.end()
    assert drain(data, "run-1") == "Ended"
    before = _record(data, "run-1")
    _serve(data)
    assert _record(data, "run-1") == before
    version = DeltaTable(str(data.runs)).version()
    _serve(data)
    assert DeltaTable(str(data.runs)).version() == version


def test_a_writer_whose_folder_was_deleted_leaves(data: DataFolder) -> None:
    data.spool.mkdir(parents=True)
    service = threading.Thread(target=_serve, args=(data,), kwargs={"idle_seconds": 60})
    service.start()
    time.sleep(0.2)
    shutil.rmtree(data.path)
    service.join(20)
    assert not service.is_alive()
    assert not data.path.exists()


def test_a_later_lake_lets_the_host_go_on_and_says_what_to_do(
    data: DataFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_process, "_WATCH_SECONDS", 0.1)
    store = EventStore(data)
    DeltaTable.create(
        str(data.lake),
        schema=store.spans.schema,
        configuration={SCHEMA_VERSION_KEY: str(SCHEMA_VERSION + 1)},
        raise_if_key_not_exists=False,
    )
    tracing = Tracing("one", data=data.path).start()
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            with tracing.tracer.event("BAR"):
                pass
        _until(lambda: "The host goes on." in caplog.text, "a warning")
    assert caplog.text.count("The host goes on.") == 1
    progress = Progress.read(data.spool / "one")
    assert progress is not None
    assert progress.state == "retrying"
    with pytest.raises(FillpathError, match="schema version") as caught:
        tracing.stop()
    assert str(data.spool / "one") in caught.value.message
    assert caught.value.next_command == "pip install --upgrade fillpath"
    shutil.rmtree(data.lake)
    assert catch_up(data) == {"one": "Ended"}
    assert _sequences(data, "one") == list(range(1, 51))


def test_a_lake_that_is_mended_while_the_host_records_is_taken_up(data: DataFolder) -> None:
    data.lake.mkdir(parents=True)
    (data.lake / "holiday.jpg").write_bytes(b"")
    run = Spooled(data)
    run.write()
    service = threading.Thread(target=_serve, args=(data,))
    service.start()
    _until(
        lambda: (p := Progress.read(run.folder)) is not None and p.state == "retrying", "the error"
    )
    (data.lake / "holiday.jpg").unlink()
    _until(lambda: EventStore(data).spans.files() != [], "some rows")
    run.end()
    service.join()
    run.assert_whole(data)
    progress = Progress.read(run.folder)
    assert progress is not None
    assert (progress.state, progress.error) == ("ended", None)


def test_a_lake_that_was_moved_away_does_not_trouble_the_next_run(data: DataFolder) -> None:
    service = threading.Thread(target=_serve, args=(data,), kwargs={"idle_seconds": 2.0})
    data.path.mkdir()
    service.start()
    for name in ("one", "two", "three"):
        run = Spooled(data, name)
        run.write()
        run.end()
        writer_files.await_run(run.folder)
        _until(
            lambda run=run: (
                (p := Progress.read(run.folder)) is not None  # type: ignore[misc]
                and p.state in {"ended", "gave_up"}
            ),
            "the end of the run",
        )
        run.assert_whole(data)
        data.lake.rename(data.path / f"lake.{name}")
    service.join()


WRITER_WITHOUT_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
from fillpath.exporters.__main__ import main
sys.exit(main(["--data", sys.argv[1], "--idle", "0"]))
"""


@pytest.mark.parametrize("room", [1000, 12_000])
def test_a_full_disk_under_the_lake_keeps_the_spool(data: DataFolder, room: int) -> None:
    """With 1000 bytes there is no room for the log, with 12,000 none for the rows."""
    run = Spooled(data)
    for _ in range(100):
        run.write(100)
    run.end()
    writer_files.await_run(run.folder)
    command = [sys.executable, "-P", "-c", WRITER_WITHOUT_ROOM, str(data.path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in done.stderr
    progress = Progress.read(run.folder)
    assert progress is not None
    assert progress.state == "gave_up"
    assert "large" in str(progress.error), progress
    assert progress.next_command
    _serve(data)
    run.assert_whole(data)


READ_ONLY_HOST = (
    """
import ctypes, os, sys
# Root may write everywhere; without this capability its processes are like everybody's.
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
os.makedirs(os.path.join(sys.argv[1], "lake"), 0o555)
"""
    + HOST
)


def test_a_read_only_lake_lets_the_host_go_on_and_says_so(data: DataFolder) -> None:
    data.path.mkdir()
    host = _host(data, "one", 50, script=READ_ONLY_HOST)
    stderr = _finished(host, 1)
    assert "Run 'one' is not in the lake: " in stderr
    assert "ermission denied" in stderr
    assert "Its spool is kept in" in stderr
    data.lake.chmod(0o755)
    assert catch_up(data) == {"one": "Ended"}
    assert _sequences(data, "one") == list(range(1, 51))


def test_an_error_that_nobody_expected_is_kept_apart(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Spooled(data, "bad"), Spooled(data, "good")
    for run in (bad, good):
        run.write()
        run.end()
        writer_files.await_run(run.folder)
    append = EventStore.append_spans

    def failing(store: EventStore, rows: Any, run_id: str, *rest: Any) -> None:
        if run_id == "bad":
            raise ZeroDivisionError("oops")
        append(store, rows, run_id, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append_spans", failing)
        _serve(data)
    good.assert_whole(data)
    progress = Progress.read(bad.folder)
    assert progress is not None
    assert (progress.state, progress.error) == ("gave_up", "ZeroDivisionError: oops")
    assert "ZeroDivisionError" in caplog.text
    assert catch_up(data) == {"bad": "Ended"}
    bad.assert_whole(data)


def test_a_lake_error_of_a_command_is_told_to_the_host_that_waits(data: DataFolder) -> None:
    data.lake.mkdir(parents=True)
    (data.lake / "holiday.jpg").write_bytes(b"")
    run = Spooled(data)
    run.write()
    run.end()
    with pytest.raises(LakeError):
        drain(data, "run-1")
    (data.lake / "holiday.jpg").unlink()
    assert drain(data, "run-1") == "Ended"
    progress = Progress.read(run.folder)
    assert progress is not None
    assert (progress.state, progress.error) == ("ended", None)
