"""A run of which a part is lost says so: damaged, emptied or unreadable spools, killed hosts."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli
from fillpath.exporters.damaged_spool import blocks_behind
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.emitter import FLUSH_EVENTS
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.spool import UNWRITTEN_EVENTS, Block, BlockType, SpoolReader
from fillpath.instrumentation.writer_files import Progress

Run = Callable[..., tuple[int, str, str]]
EVENTS = 6000


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; gives exit code, stdout and stderr."""

    def here(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return here


def _record(data: Path, *, emitted: bool = False) -> Path:
    """Record a run that no writer takes; gives its spool."""
    with Tracing("b1", data=data, portfolio="p", writer="none") as tracing:
        emit = tracing.tracer.emitter("FEATURES", fields=["f.a"]) if emitted else None
        for number in range(EVENTS):
            if emit is None:
                tracing.tracer.close(tracing.tracer.open("BAR", event_time=number))
            else:
                emit(number, None, 1.0)
    return data / "spool" / "b1"


def _blocks(spool: Path, kind: BlockType) -> list[Block]:
    return [block for block in SpoolReader(spool).blocks() if block.type is kind]


def _flip(spool: Path, block: Block) -> None:
    path = spool / f"{block.file:06d}.spool"
    content = bytearray(path.read_bytes())
    content[block.offset + 24 + len(block.payload) // 2] ^= 0x10
    path.write_bytes(content)


def _damage(spool: Path) -> Block:
    events = _blocks(spool, BlockType.EVENTS)
    broken = events[len(events) // 2]
    _flip(spool, broken)
    return broken


def _completeness(run: Run, data: Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("completeness", "b1", "--json", "--data", data)
    return code, json.loads(out)


def test_what_lies_behind_a_damage_is_counted_and_the_run_is_not_complete(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = _record(tmp_path)
    broken = _damage(spool)
    with caplog.at_level(logging.WARNING):
        code, found = _completeness(run, tmp_path)
    assert code == 3
    assert "Run 'b1' is only partly in the lake: The spool is damaged" in caplog.text
    assert found["complete"] is False
    (problem,) = found["problems"]
    assert f"block {broken.number} at byte {broken.offset}" in problem
    assert "its events are counted as dropped." in problem
    assert found["published"] == EVENTS
    assert 0 < found["kept"] < EVENTS
    assert found["dropped_by_reason"] == {"damaged": EVENTS - found["kept"]}
    code, out, err = run("completeness", "b1", "--data", tmp_path)
    assert code == 3
    assert "✔" not in out
    assert "The spool is damaged" in err
    code, out, err = run("doctor", "--data", tmp_path)
    assert code == 0
    assert f"! run b1: The spool is damaged: block {broken.number}" in out
    assert "completely in the lake" not in out
    assert "2 warnings" in err


def test_events_of_an_emitter_behind_a_damage_are_counted_but_those_in_it(
    run: Run, tmp_path: Path
) -> None:
    spool = _record(tmp_path, emitted=True)
    broken = _damage(spool)
    code, found = _completeness(run, tmp_path)
    assert code == 3
    assert f"but for up to {broken.count} events in the damaged block" in found["problems"][0]
    assert found["published"] == EVENTS - broken.count
    assert found["dropped_by_reason"] == {"damaged": found["published"] - found["kept"]}


def test_totals_that_are_damaged_leave_nothing_unknown_when_every_event_was_read(
    run: Run, tmp_path: Path
) -> None:
    spool = _record(tmp_path)
    _flip(spool, _blocks(spool, BlockType.COUNTS)[-1])
    code, found = _completeness(run, tmp_path)
    assert code == 3
    assert found["kept"] == EVENTS
    assert "its events are counted as dropped." in found["problems"][0]


def test_without_an_end_nobody_knows_what_lies_behind_a_damage(run: Run, tmp_path: Path) -> None:
    spool = _record(tmp_path)
    first, *_ = _blocks(spool, BlockType.EVENTS)
    path = spool / "000001.spool"
    path.write_bytes(path.read_bytes()[: first.end + 200])
    _flip(spool, first)
    code, found = _completeness(run, tmp_path)
    assert code == 3
    assert "how much that is cannot be known" in found["problems"][0]


@pytest.mark.parametrize("at", [0, 5, 24])
def test_whole_blocks_are_found_behind_any_damage(tmp_path: Path, at: int) -> None:
    spool = _record(tmp_path)
    blocks = list(SpoolReader(spool).blocks())
    broken = blocks[3]
    path = spool / f"{broken.file:06d}.spool"
    content = bytearray(path.read_bytes())
    content[broken.offset + at] ^= 0xFF
    path.write_bytes(content)
    found = blocks_behind(spool, broken.file, broken.offset)
    assert [(one.file, one.offset, one.type) for one in found] == [
        (one.file, one.offset, one.type) for one in blocks[4:]
    ]


def test_the_host_is_told_that_its_run_is_only_partly_in_the_lake(tmp_path: Path) -> None:
    spool = tmp_path / "spool" / "b1"
    tracing = Tracing("b1", data=tmp_path, portfolio="p").start()
    tracing.tracer.close(tracing.tracer.open("BAR"))
    deadline = time.monotonic() + 60
    while (progress := Progress.read(spool)) is None or not progress.committed_block:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(progress.pid, signal.SIGSTOP)
    for number in range(EVENTS):
        tracing.tracer.close(tracing.tracer.open("BAR", event_time=number))
    time.sleep(0.1)
    _damage(spool)
    os.kill(progress.pid, signal.SIGCONT)
    with pytest.raises(FillpathError, match="is only partly in the lake: The spool is") as told:
        tracing.stop()
    assert "brings it in" not in told.value.message


def test_an_emptied_spool_is_no_complete_run(run: Run, tmp_path: Path) -> None:
    spool = _record(tmp_path)
    for path in spool.glob("*.spool"):
        path.write_bytes(b"")
    code, found = _completeness(run, tmp_path)
    assert code == 0
    assert found["status"] == "Crashed"
    assert found["remarks"] == ["The spool is empty: nothing is known of the run."]
    assert "✔" not in run("completeness", "b1", "--data", tmp_path)[1]


HOST = """
import os, sys, time
from fillpath.instrumentation import Tracing
tracing = Tracing("b1", data=sys.argv[1], portfolio="p", writer="none").start()
emit = tracing.tracer.emitter("FEATURES", fields=["f.a"])
emit(1, None, 1.0)
time.sleep(0.5)
emit(2, None, 1.0)
os.kill(os.getpid(), 9)
"""


def test_a_killed_host_may_have_published_more_than_is_counted(run: Run, tmp_path: Path) -> None:
    assert UNWRITTEN_EVENTS == FLUSH_EVENTS - 1
    killed = subprocess.run([sys.executable, "-c", HOST, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    code, found = _completeness(run, tmp_path)
    assert code == 0
    assert found["complete"] is True
    (remark,) = found["remarks"]
    assert "up to 511 events that emitters published in its last 10 ms" in remark
    assert "! The process died" in run("completeness", "b1", "--data", tmp_path)[1]
    out = run("doctor", "--data", tmp_path)[1]
    assert "every event of 1 finished run is accounted for" in out
    _, out, _ = run("sql", "select error, source, host_name, pid from runs", "--data", tmp_path)
    assert "The process ended without ending the run." in out


def test_a_run_that_ended_has_no_remarks(run: Run, tmp_path: Path) -> None:
    _record(tmp_path)
    code, found = _completeness(run, tmp_path)
    assert (code, found["remarks"], found["complete"]) == (0, [], True)


@pytest.mark.parametrize(
    ("byte", "value", "advice"),
    [(5, 9, "pip install --upgrade fillpath"), (30, 0xFF, "away; nothing in it can be read")],
)
def test_a_spool_that_cannot_be_read_is_told_with_advice_that_helps(
    run: Run, tmp_path: Path, byte: int, value: int, advice: str
) -> None:
    spool = _record(tmp_path)
    path = spool / "000001.spool"
    content = bytearray(path.read_bytes())
    content[byte] = value
    if byte == 5:
        content[20:24] = zlib.crc32(content[:20]).to_bytes(4, "little")
    path.write_bytes(content)
    for wanted in ("b1", "latest"):
        code, _, err = run("completeness", wanted, "--data", tmp_path)
        assert code != 0
        assert "Run 'b1' is not in the lake: The spool " in err
        assert advice in err
        assert "demo" not in err
    code, out, _ = run("doctor", "--json", "--data", tmp_path)
    (found,) = [one for one in json.loads(out)["checks"] if one["outcome"] == "failed"]
    assert code == 3
    assert advice in found["advice"]


def test_spools_that_were_let_go_are_no_missing_runs(run: Run, tmp_path: Path) -> None:
    spool = _record(tmp_path)
    assert _completeness(run, tmp_path)[0] == 0
    shutil.rmtree(spool)
    out = run("doctor", "--data", tmp_path)[1]
    assert "✔ no spool waits" in out
    assert "no run was recorded here yet" not in out


def test_no_run_at_all_is_no_tick(run: Run, tmp_path: Path) -> None:
    with Tracing("b1", data=tmp_path, writer="none") as tracing:
        with tracing.tracer.event("BAR"):
            pass
        run("runs", "list", "--data", tmp_path)
        assert EventStore(tmp_path).run_records()[0].status == "Running"
        out = run("doctor", "--data", tmp_path)[1]
    assert "0 finished runs" not in out
    assert "no run is finished" in out
