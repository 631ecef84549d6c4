"""A session records one run from start to stop, whatever its host does in between."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from opentelemetry import trace

from fillpath.exporters.spool_events import SpoolEvents
from fillpath.instrumentation.errors import FillpathError, SpoolError, UsageError
from fillpath.instrumentation.spool import SpoolReader, list_spools
from fillpath.instrumentation.tracing import Tracing


class Recorded(SpoolEvents):
    """Everything of a run's spool; each event's parent stands before it, or the event says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.ended = self.parents_dropped = 0
        for block in SpoolReader(folder).blocks():
            for event in self.feed(block):
                self.parents_dropped += event.parent_dropped
                self.ended += 1


def read(data: Path, run_id: str = "run") -> Recorded:
    return Recorded(data / "spool" / run_id)


def recorded(data: Path, run_id: str = "run") -> int:
    """How many events the spool of a run holds."""
    run = read(data, run_id)
    assert not run.parents_dropped
    return run.ended + len(run.open)


def end_of(data: Path, run_id: str = "run") -> dict[str, Any]:
    end = read(data, run_id).end
    assert end is not None
    return end


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def session(data: Path, run_id: str | None = "run", **settings: Any) -> Tracing:
    return Tracing(run_id, data=data, writer="none", **settings)


@pytest.mark.smoke
def test_a_run_from_start_to_stop(data: Path) -> None:
    before = time.time_ns()
    parameters = {"fast": 10, "size": Decimal("1.50")}
    with session(data, service_name="backtest", mode="live", parameters=parameters) as tracing:
        assert Tracing.active() is tracing
        tracing.note_engine("Engine", "1.2")
        with tracing.tracer.event("BAR"), tracing.tracer.event("SIGNAL"):
            pass
    assert Tracing.active() is None
    assert not tracing.running
    spool = read(data)
    run, end = spool.run, spool.end
    assert end is not None
    assert (run["run_id"], run["mode"], run["service_name"]) == ("run", "live", "backtest")
    assert run["parameters"] == parameters
    assert (end["status"], end["error"]) == ("Ended", None)
    assert (end["engine"], end["engine_version"]) == ("Engine", "1.2")
    assert end["sequences"] == 2
    assert abs(run["clock_offset"] + time.perf_counter_ns() - time.time_ns()) < 10**9
    assert before <= run["started_at"] <= end["ended_at"] <= time.time_ns()
    assert [(c.event_type, c.published, c.dropped) for c in spool.counts] == [
        ("BAR", 1, {}),
        ("SIGNAL", 1, {}),
    ]


def test_settings_come_from_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "FILLPATH_DATA": str(data),
        "FILLPATH_RUN_ID": "named",
        "FILLPATH_PORTFOLIO": "fund/desk",
        "FILLPATH_MODE": "live",
        "FILLPATH_WRITER": "none",
        "FILLPATH_LAKE_SAMPLING": "policy",
        "OTEL_SERVICE_NAME": "market maker",
        "FILLPATH_SAMPLING_RATE": "0.25",
    }.items():
        monkeypatch.setenv(name, value)
    with Tracing() as tracing, tracing.tracer.event("BAR"):
        pass
    spool = read(data, "named")
    assert spool.counts[0].portfolio == "fund/desk"
    run = spool.run
    assert (run["mode"], run["service_name"], run["lake_sampling"]) == (
        "live",
        "market maker",
        "policy",
    )
    assert run["sampling"]["rate"] == 0.25


def test_a_name_that_is_no_text_is_recorded_cleaned(data: Path) -> None:
    with session(data, service_name="caf\udce9", portfolio="p\ud800") as tracing:
        tracing.note_engine("E\ud800", "1")
        with tracing.tracer.event("BAR"):
            pass
    spool = read(data)
    assert spool.run["service_name"] == "caf\\udce9"
    assert spool.counts[0].portfolio == "p\\ud800"
    assert end_of(data)["engine"] == "E\\ud800"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run_id": "../x"}, "cannot be a run id"),
        ({"mode": "paper"}, "FILLPATH_MODE"),
        ({"writer": "thread"}, "FILLPATH_WRITER"),
        ({"lake_sampling": "some"}, "FILLPATH_LAKE_SAMPLING"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tracing(**settings)


def test_a_bad_sampling_rate_is_refused_before_anything_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_SAMPLING_RATE", "lots")
    with pytest.raises(UsageError, match="rate"):
        session(data).start()
    assert not data.exists()
    assert Tracing.active() is None


def test_a_run_id_that_exists_is_refused_and_kept(data: Path) -> None:
    with session(data) as first, first.tracer.event("BAR"):
        pass
    with pytest.raises(SpoolError, match="already has a spool"):
        session(data).start()
    assert Tracing.active() is None
    assert recorded(data) == 1
    with session(data, "other"):  # and the next one can start
        pass


def test_a_data_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FillpathError, match="cannot be written") as caught:
        session(tmp_path / "file").start()
    assert "FILLPATH_DATA" in str(caught.value)
    assert Tracing.active() is None


def test_one_session_at_a_time(data: Path) -> None:
    with session(data), pytest.raises(FillpathError, match="is being recorded"):
        session(data, "other").start()
    assert [path.name for path in list_spools(data / "spool")] == ["run"]


def test_sessions_in_a_row_are_runs_of_their_own(data: Path) -> None:
    for name in ("one", "two"):
        with session(data, name) as tracing:
            with tracing.tracer.event("BAR") as bar:
                assert bar.sequence == 1
            assert tracing.claim_portfolio("p") == "p"
            assert tracing.claim_portfolio("p") == "p/2"
    assert recorded(data, "one") == recorded(data, "two") == 1


def test_starting_and_stopping_twice_is_once(data: Path) -> None:
    tracing = session(data)
    assert tracing.start() is tracing.start()
    tracing.stop()
    end = end_of(data)
    tracing.stop(error=ValueError("late"))
    assert end_of(data) == end


def test_many_threads_may_stop_a_session(data: Path) -> None:
    tracing = session(data).start()
    failures: list[BaseException] = []

    def stop() -> None:
        try:
            tracing.stop()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert end_of(data)["status"] == "Ended"


def test_there_is_no_tracer_outside_the_run(data: Path) -> None:
    tracing = session(data)
    with pytest.raises(FillpathError, match="not running"):
        _ = tracing.tracer
    with tracing:
        assert tracing.tracer.run_id == "run"
    with pytest.raises(FillpathError, match="not running"):
        _ = tracing.tracer


class MuteError(Exception):
    """Cannot be printed."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("mute")


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [
        (ValueError("no quote"), "Crashed", "ValueError: no quote"),
        (KeyboardInterrupt(), "Crashed", "KeyboardInterrupt: "),
        (SystemExit(3), "Crashed", "SystemExit: 3"),
        (SystemExit(0), "Ended", None),
        (SystemExit(), "Ended", None),
        (MuteError(), "Crashed", "MuteError: <MuteError>"),
    ],
)
def test_a_host_that_fails_ends_the_run_and_fails_as_it_would(
    data: Path, failure: BaseException, status: str, error: str | None
) -> None:
    def fail() -> NoReturn:
        with session(data) as tracing:
            with tracing.tracer.event("BAR"):
                pass
            raise failure

    with pytest.raises(type(failure)) as caught:
        fail()
    assert caught.value is failure
    assert (end_of(data)["status"], end_of(data)["error"]) == (status, error)
    assert recorded(data) == 1


def test_an_adapter_may_close_its_events_and_may_fail_at_it(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = session(data).start()
    event = tracing.tracer.open("BAR")

    def fail() -> NoReturn:
        raise RuntimeError("adapter")

    tracing.before_stop(fail)
    tracing.before_stop(lambda: tracing.tracer.close(event))
    with caplog.at_level(logging.WARNING):
        tracing.stop()
    assert "adapter" in caplog.text
    assert not read(data).open
    assert end_of(data)["status"] == "Ended"


def test_a_lake_that_cannot_be_written_does_not_hide_the_hosts_own_failure(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data.mkdir()
    (data / "lake").write_text("in the way")
    with pytest.raises(FillpathError), Tracing("run", data=data, writer="inline"):
        pass
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ValueError, match="host"),
        Tracing("run2", data=data, writer="inline"),
    ):
        raise ValueError("host")
    assert end_of(data)["status"] == "Ended"


@pytest.mark.parametrize(
    ("name", "value"),
    [("FILLPATH_ENABLED", "false"), ("FILLPATH_ENABLED", "0"), ("OTEL_SDK_DISABLED", "true")],
)
def test_switched_off_everything_works_and_nothing_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    threads = threading.active_count()
    with session(data) as tracing:
        assert Tracing.active() is None
        assert not tracing.running
        tracing.note_engine("Engine", "1")
        with tracing.tracer.event("BAR") as bar, tracing.tracer.event("ORDER", parent=bar):
            assert not trace.get_current_span().get_span_context().is_valid
        with pytest.raises(ValueError, match="host"), tracing.tracer.event("BAR"):
            raise ValueError("host")
        assert threading.active_count() == threads
    assert not data.exists()


def test_random_generators_are_left_alone(data: Path) -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 - the state that strategies share
    mine, numpys = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    with Tracing(data=data, writer="none") as tracing:
        for _ in range(50):
            with tracing.tracer.event("BAR"):
                pass
    assert random.getstate() == mine
    assert repr(np.random.get_state()) == numpys  # noqa: NPY002


def test_the_writer_process_brings_the_run_into_the_lake(data: Path) -> None:
    with Tracing("run", data=data) as tracing, tracing.tracer.event("BAR"):
        pass
    assert list((data / "lake").glob("_delta_log/*.json"))


# -- Hosts that do not end in order ------------------------------------------------------------


def host(script: str, data: Path, *, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + script, str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if expect is not None:
        assert done.returncode == expect, done.stderr
    return done


PROLOGUE = """
import atexit, multiprocessing, os, resource, signal, sys, threading, time
from fillpath.instrumentation import Tracing
tracing = Tracing("run", data=sys.argv[1], writer="none")
def publish(n=1):
    for _ in range(n):
        with tracing.tracer.event("BAR"):
            with tracing.tracer.event("SIGNAL"):
                with tracing.tracer.event("ORDER"):
                    pass
"""


def test_a_session_that_nobody_stops_ends_with_the_process(data: Path) -> None:
    host("tracing.start(); publish(10)", data)
    assert end_of(data)["status"] == "Ended"
    assert recorded(data) == 30


@pytest.mark.smoke
def test_a_killed_host_leaves_a_readable_spool_with_every_parent(data: Path) -> None:
    script = """
tracing.start()
publish(2000)
with tracing.tracer.event("BAR"):
    with tracing.tracer.event("SIGNAL"):
        print("now", flush=True)
        while True:
            publish(1)
"""
    with subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + script, str(data)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    spool = read(data)  # checks the parents
    assert spool.end is None
    assert recorded(data) > 6000
    published = sum(count.published for count in spool.counts)
    assert 0 <= published - recorded(data) <= 3


def test_a_killed_run_has_named_its_engine_before_it_was_killed(data: Path) -> None:
    script = """
tracing.start()
tracing.note_engine("Engine", "1.0")
publish(1)
tracing.note_engine("Other", "")
time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    host(script, data, expect=-signal.SIGKILL)
    spool = read(data)
    assert spool.end is None
    assert (spool.run["engine"], spool.run["engine_version"]) == ("Engine, Other", "1.0")


FULL_DISK = """
tracing.start()
publish(10)
time.sleep(0.1)
(file,) = (os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(file) + {room},) * 2)
publish(3000)
tracing.stop()
print("traded on")
"""


@pytest.mark.parametrize("room", [0, 100, 70_000])
def test_a_disk_that_fills_up_does_not_stop_the_host(data: Path, room: int) -> None:
    done = host(FULL_DISK.format(room=room), data)
    assert done.stdout == "traded on\n"
    assert done.stderr.count("cannot write its spool") == 1
    spool = read(data)  # where a small block found room, it says that its events' parents did not
    assert 30 <= spool.ended + len(spool.open) < 9000


DISK_WITH_ROOM_AGAIN = """
tracing.start()
publish(10)
time.sleep(0.1)
(file,) = (os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(file) + 100, hard))
publish(1000)
time.sleep(0.1)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
publish(10)
tracing.stop()
"""


def test_events_that_found_no_room_are_counted(data: Path) -> None:
    host(DISK_WITH_ROOM_AGAIN, data)
    spool = read(data)
    assert spool.end is not None
    assert sum(count.published for count in spool.counts) == 3060
    lost = sum(count.dropped.get("spool_error", 0) for count in spool.counts)
    assert lost + spool.ended + len(spool.open) == 3060
    assert lost > 2000


FORK = """
tracing.start()
publish(10)
stop = threading.Event()
def trade():
    while not stop.is_set():
        publish(1)
thread = threading.Thread(target=trade)
thread.start()
def in_child():
    assert Tracing.active() is None
    assert not tracing.running
    tracing.stop()
    with Tracing("child", data=sys.argv[1], writer="none") as own:
        with own.tracer.event("BAR"):
            pass
for _ in range(20):
    with tracing.tracer.event("BAR") as bar:
        pid = os.fork()
        if pid == 0:
            stop.set()
            break
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
else:
    stop.set()
    thread.join()
    worker = multiprocessing.get_context("fork").Process(target=in_child)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    print("parent", flush=True)
    publish(5)
    tracing.stop()
"""


def test_a_forked_child_neither_writes_nor_hangs(data: Path) -> None:
    """Children end inside an event of their parent, with their parent's exit handlers."""
    done = host(FORK, data)
    assert done.stdout == "parent\n"
    assert "Traceback" not in done.stderr
    spool = read(data)
    assert spool.end is not None
    assert spool.end["status"] == "Ended"
    assert sum(count.published for count in spool.counts) == recorded(data)
    assert recorded(data, "child") == 1
