"""The recorder loses nothing silently: what is not in the spool is in the counts."""

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

from fillpath.instrumentation.emitter import FLUSH_EVENTS
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.semconv import PROCESS, PUBLISH
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    NO_TIME,
    SLOTS,
    Block,
    BlockType,
    Count,
    Field,
    Flag,
    SpoolReader,
)
from fillpath.instrumentation.spool_writer import SpoolWriter

END = {"status": "Ended"}
NONE = (0.0,) * SLOTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def recorder(folder: Path) -> Iterator[Recorder]:
    recorder = Recorder(SpoolWriter(folder, {"run_id": "run"}))
    yield recorder
    recorder.stop(END)


def order_site(recorder: Recorder, strategy: str = "S-1") -> int:
    return recorder.site(PUBLISH, "ORDER", "demo/fx", strategy, None, None, None)


def publish(recorder: Recorder, sequence: int, *, site: int | None = None) -> None:
    recorder.published("demo/fx", "ORDER")
    number = order_site(recorder) if site is None else site
    recorder.record((sequence, 0, sequence, 1, 2, NO_TIME, number, *NONE))
    recorder.flush_if_full()


def blocks_of(folder: Path) -> list[Block]:
    return list(SpoolReader(folder).blocks())


def sequences_of(folder: Path) -> list[int]:
    return [
        event.sequence
        for block in blocks_of(folder)
        if block.type is BlockType.EVENTS
        for event in block.events()
    ]


def totals_of(folder: Path) -> list[Count]:
    return [block.counts() for block in blocks_of(folder) if block.type is BlockType.COUNTS][-1]


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def full_disk(folder: Path, *, room: int = 0) -> Iterator[None]:
    """Let the system refuse to let the spool's file grow by more than some bytes."""
    size = max(path.stat().st_size for path in folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.smoke
def test_everything_is_in_the_spool_after_stop(recorder: Recorder, folder: Path) -> None:
    for sequence in range(1, 2000):
        publish(recorder, sequence)
    recorder.stop(END)
    assert sequences_of(folder) == list(range(1, 2000))
    assert totals_of(folder) == [Count("demo/fx", "ORDER", 1999, {})]
    assert blocks_of(folder)[-1].value() == END


def test_a_full_list_is_written_by_the_caller(recorder: Recorder, folder: Path) -> None:
    for sequence in range(1, FLUSH_EVENTS + 1):
        publish(recorder, sequence)
    assert len(sequences_of(folder)) == FLUSH_EVENTS


def test_a_lone_record_is_written_before_long(recorder: Recorder, folder: Path) -> None:
    publish(recorder, 1)
    wait_until(lambda: sequences_of(folder) == [1])


def test_a_site_stands_before_the_records_that_name_it(recorder: Recorder, folder: Path) -> None:
    for sequence in range(1, 3 * FLUSH_EVENTS):
        publish(recorder, sequence, site=order_site(recorder, f"S-{sequence % 700}"))
    recorder.stop(END)
    known: set[int] = set()
    for block in blocks_of(folder):
        if block.type is BlockType.SITES:
            known.update(site.number for site in block.sites())
        elif block.type is BlockType.EVENTS:
            assert {event.site for event in block.events()} <= known
    assert len(known) == 700


def test_same_parts_same_site(recorder: Recorder) -> None:
    assert order_site(recorder) == order_site(recorder)
    assert order_site(recorder) != order_site(recorder, "S-2")


def test_a_note_is_written_soon_and_again_in_every_file(tmp_path: Path) -> None:
    recorder = Recorder(SpoolWriter(tmp_path / "run", {}, max_file_bytes=300))
    recorder.note({"engine": "E"})
    recorder.note({"engine_version": "1"})
    wait_until(lambda: BlockType.NOTE in [block.type for block in blocks_of(tmp_path / "run")])
    recorder.note({"engine": "F"})
    for sequence in range(1, 20):
        publish(recorder, sequence)
        recorder.flush()
    recorder.stop(END)
    files = sorted((tmp_path / "run").iterdir())
    assert len(files) > 2
    for file in files[:-1]:
        file.unlink()
    files[-1].rename(files[0])
    notes = [b.value() for b in blocks_of(tmp_path / "run") if b.type is BlockType.NOTE]
    assert notes == [{"engine": "F", "engine_version": "1"}]


def test_a_block_has_as_many_numbers_as_its_events_can_have(
    recorder: Recorder, folder: Path
) -> None:
    publish(recorder, 1)
    recorder.flush()
    parts = (PUBLISH, "BAR", "demo/fx", None, None, None, None)
    site = recorder.site(*parts, fields=[Field("a"), Field("b")])
    recorder.record((2, 0, 2, 1, 2, NO_TIME, site, 1.5, 2.5, 0.0, 0.0, 0.0))
    recorder.flush()
    events = [block for block in blocks_of(folder) if block.type is BlockType.EVENTS]
    assert [block.slots for block in events] == [0, 2]
    assert [event.numbers for block in events for event in block.events()] == [(), (1.5, 2.5)]


def test_what_cannot_be_packed_is_printed_and_costs_no_event(tmp_path: Path) -> None:
    odd: Any = "a\ud800"
    recorder = Recorder(SpoolWriter(tmp_path / "run", {"run_id": "run"}, max_file_bytes=1))
    publish(recorder, 1)
    fields = [Field(odd), Field("x", "decimal", odd)]
    site = recorder.site(odd, odd, odd, object(), None, None, None, fields=fields)  # type: ignore[arg-type]
    recorder.note({odd: odd, "engine": object(), "known": 7})
    recorder.dropped(odd, odd, odd)
    publish(recorder, 2, site=site)
    recorder.flush()
    publish(recorder, 3)
    recorder.flush()
    recorder.stop({"status": "Ended", "error": odd})
    assert sequences_of(tmp_path / "run") == [1, 2, 3]
    blocks, text = blocks_of(tmp_path / "run"), "a\\ud800"
    (found,) = [s for b in blocks if b.type is BlockType.SITES for s in b.sites()][1:2]
    assert (found.number, found.operation, found.strategy) == (site, text, "<object>")
    assert found.fields == (Field(text), Field("x", "decimal", text))  # type: ignore[arg-type]
    assert next(b.value() for b in blocks if b.type is BlockType.NOTE) == {
        text: text,
        "engine": "<object>",
        "known": 7,
    }
    assert Count(text, text, 0, {text: 1}) in totals_of(tmp_path / "run")
    assert blocks[-1].value() == {"status": "Ended", "error": text}


def test_a_drop_is_counted_with_its_reason(recorder: Recorder, folder: Path) -> None:
    recorder.published("demo/fx", "BAR")
    recorder.dropped("demo/fx", "BAR", "adapter_error")
    recorder.stop(END)
    assert totals_of(folder) == [Count("demo/fx", "BAR", 1, {"adapter_error": 1})]


def test_a_second_stop_and_what_comes_after_it_do_nothing(recorder: Recorder, folder: Path) -> None:
    publish(recorder, 1)
    recorder.stop(END)
    before = blocks_of(folder)
    publish(recorder, 2)
    recorder.flush()
    recorder.stop({"status": "Crashed"})
    assert blocks_of(folder) == before


def test_threads_that_record_and_stop_at_once_lose_and_repeat_nothing(
    recorder: Recorder, folder: Path
) -> None:
    taken: list[list[int]] = [[] for _ in range(6)]
    site = order_site(recorder)

    def work(number: int) -> None:
        for n in range(1, 1500):
            sequence = number * 10_000 + n
            recorder.record((sequence, 0, sequence, 1, 2, NO_TIME, site, *NONE))
            taken[number].append(sequence)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    threads += [threading.Thread(target=recorder.flush) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stops = [threading.Thread(target=recorder.stop, args=(END,)) for _ in range(4)]
    for thread in stops:
        thread.start()
    for thread in stops:
        thread.join()
    assert sorted(sequences_of(folder)) == sorted(n for each in taken for n in each)
    assert [block.type for block in blocks_of(folder)].count(BlockType.END) == 1


def test_a_full_disk_costs_events_but_not_the_host_and_not_the_truth(
    recorder: Recorder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(recorder, 1)
    recorder.flush()
    with full_disk(folder), caplog.at_level(logging.WARNING):
        for sequence in range(2, 1000):
            publish(recorder, sequence, site=order_site(recorder, f"S-{sequence % 3}"))
        recorder.flush()
    lost = 998
    for sequence in range(1000, 1010):
        publish(recorder, sequence, site=order_site(recorder, f"S-{sequence % 3}"))
    recorder.stop(END)
    assert sequences_of(folder) == [1, *range(1000, 1010)]
    assert totals_of(folder) == [Count("demo/fx", "ORDER", 1009, {"spool_error": lost})]
    assert blocks_of(folder)[-1].value() == END
    sites = {s.number for b in blocks_of(folder) if b.type is BlockType.SITES for s in b.sites()}
    assert sites == {1, 2, 3}
    complaints = [record for record in caplog.records if "cannot write" in record.message]
    assert len(complaints) == 1
    assert "File too large" in complaints[0].message


def test_handler_runs_and_ends_of_events_do_not_count_as_lost_events(
    recorder: Recorder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handler = recorder.site(PROCESS, "ORDER", "demo/fx", None, None, None, "on_order")
    publish(recorder, 1)
    recorder.flush()
    with full_disk(folder), caplog.at_level(logging.CRITICAL):
        recorder.record((2, 1, 1, 1, 2, NO_TIME, handler, *NONE))
        place = order_site(recorder) | Flag.FINISH << FLAGS_SHIFT
        recorder.record((1, 0, 1, 1, 2, NO_TIME, place, *NONE))
        recorder.flush()
    recorder.stop(END)
    assert totals_of(folder) == [Count("demo/fx", "ORDER", 1, {})]


def test_the_end_is_written_even_where_the_totals_found_no_room(
    recorder: Recorder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(recorder, 1)
    recorder.flush()
    for n in range(50):
        recorder.published("demo/fx", f"KIND_{n}")
    with full_disk(folder, room=100), caplog.at_level(logging.CRITICAL):
        recorder.stop(END)
    assert blocks_of(folder)[-1].value() == END
    assert sequences_of(folder) == [1]


def test_a_disk_that_stays_full_leaves_a_readable_spool_and_no_open_file(
    recorder: Recorder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(recorder, 1)
    recorder.flush()
    with full_disk(folder), caplog.at_level(logging.CRITICAL):
        publish(recorder, 2)
        recorder.stop(END)
    assert sequences_of(folder) == [1]
    assert blocks_of(folder)[-1].type is not BlockType.END
    assert str(folder) not in " ".join(
        str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    )


@pytest.mark.parametrize("raised", [KeyboardInterrupt, TimeoutError, ValueError])
@pytest.mark.parametrize("written", [0, 40, None], ids=["nothing", "a part", "all"])
def test_what_a_signal_handler_raises_while_the_spool_is_written_costs_nothing(
    recorder: Recorder,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int | None,
    raised: type[BaseException],
) -> None:
    publish(recorder, 1)
    recorder.flush()
    real_write = os.write

    def interrupted(descriptor: int, data: memoryview) -> int:
        monkeypatch.setattr(os, "write", real_write)
        real_write(descriptor, data[:written])
        raise raised

    publish(recorder, 2)
    with recorder._lock:  # so that the recorder's own thread does not come first
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(raised):
            recorder.flush()
    publish(recorder, 3)
    recorder.stop(END)
    assert sequences_of(folder) == [1, 2, 3]
    assert blocks_of(folder)[-1].type is BlockType.END


def test_an_abandoned_recorder_writes_nothing_and_asks_no_lock(
    recorder: Recorder, folder: Path
) -> None:
    publish(recorder, 1)
    recorder.flush()
    before = blocks_of(folder)
    publish(recorder, 2)
    recorder._lock = HeldForEver()  # type: ignore[assignment]
    recorder.abandon()
    publish(recorder, 3)
    recorder.stop(END)
    assert blocks_of(folder) == before


class HeldForEver:
    """A lock as a forked child finds it when another thread of its parent held it."""

    def __enter__(self) -> None:
        pytest.fail("asked for a lock that nobody will give back")

    acquire = __enter__


REENTRANT = """
import signal, sys
from pathlib import Path
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.spool_writer import SpoolWriter
recorder = Recorder(SpoolWriter(Path(sys.argv[1]), {}))
taken = 0
def publish(*_):
    global taken
    taken += 1
    site = recorder.site("publish", "ORDER", "p", f"S-{taken}", None, None, None)
    recorder.published("p", "ORDER")
    recorder.record((taken, 0, taken, 1, 2, 3, site, 0.0, 0.0, 0.0, 0.0, 0.0))
signal.signal(signal.SIGALRM, publish)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
while taken < 20_000:
    publish()
signal.setitimer(signal.ITIMER_REAL, 0)
recorder.stop({})
print(taken)
"""


def test_a_signal_handler_that_publishes_does_not_wait_for_itself(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REENTRANT, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(sequences_of(folder)) == int(done.stdout)
    assert totals_of(folder)[0].published == int(done.stdout)
