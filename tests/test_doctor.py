"""The doctor: what it finds in a data folder, and that its advice helps."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli, installation_checks, spool_state
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.run_writer import RunWriter
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.settings import data_folder
from fillpath.instrumentation.writer_files import Heartbeat, Progress

sys.path.append(str(Path(__file__).parent))

from recorded_market import Market, record_market

Examine = Callable[[Path], tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Examine:
    """Run the doctor on a data folder; gives its exit code and what it found."""

    def here(folder: Path) -> tuple[int, list[dict[str, Any]]]:
        code = cli.main(["--data", str(folder), "doctor", "--json"])
        document = json.loads(capsys.readouterr().out)
        failed = [one for one in document["checks"] if one["outcome"] == "failed"]
        assert document["passed"] == (not failed)
        assert code == (3 if failed else 0)
        return code, document["checks"]

    return here


def of(area: str, checks: list[dict[str, Any]], outcome: str | None = None) -> list[str]:
    return [
        one["finding"]
        for one in checks
        if one["area"] == area and outcome in {None, one["outcome"]}
    ]


@pytest.mark.smoke
def test_an_empty_folder_is_in_order(examine: Examine, tmp_path: Path) -> None:
    code, checks = examine(tmp_path / "data")
    assert code == 0, checks
    assert {one["area"] for one in checks} == {
        "installation",
        "data folder",
        "spool",
        "OTLP",
        "lake",
        "Postgres",
    }
    assert not (tmp_path / "data").exists()  # it looks and does not touch


def test_a_recorded_run_is_in_order(examine: Examine, tmp_path: Path) -> None:
    record_market(tmp_path, "run-1")
    code, checks = examine(tmp_path)
    assert code == 0, checks
    assert of("spool", checks, "passed") == ["1 run is completely in the lake"]
    assert any(
        "every event of 1 finished run is accounted for" in one for one in of("lake", checks)
    )
    assert any("every parent" in one for one in of("lake", checks, "passed"))


def test_a_waiting_spool_is_found_and_its_advice_helps(
    examine: Examine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracing("left", data=tmp_path, writer="none") as tracing:
        market = Market(tracing)
        market.trade()
        market.finish()
    code, checks = examine(tmp_path)
    assert code == 3
    (finding,) = of("spool", checks, "failed")
    assert "run left ended and has no writer; 17 events are not in the lake yet" in finding
    (advice,) = [one["advice"] for one in checks if one["outcome"] == "failed"]
    assert cli.main(shlex.split(advice)[1:]) == 0
    capsys.readouterr()
    assert examine(tmp_path)[0] == 0


def test_a_run_that_is_being_recorded(examine: Examine, tmp_path: Path) -> None:
    with Tracing("now", data=tmp_path, writer="none") as tracing:
        Market(tracing).trade()
        _, checks = examine(tmp_path)
        assert any(
            "being recorded without a writer" in one for one in of("spool", checks, "skipped")
        )
        with RunWriter(EventStore(data_folder(tmp_path)), "now"):
            _, checks = examine(tmp_path)
            assert any("has a living writer" in one for one in of("spool", checks, "passed"))


def _facts(checks: list[dict[str, Any]], run_id: str) -> dict[str, Any]:
    (facts,) = [one["facts"] for one in checks if (one["facts"] or {}).get("run_id") == run_id]
    return dict(facts)


def _until_taken(folder: Path, blocks: int = 1) -> Progress:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        progress = Progress.read(folder)
        if progress is not None and progress.committed_block >= blocks:
            return progress
        time.sleep(0.02)
    raise AssertionError("the writer takes nothing")


def _publish(tracing: Tracing, number: int) -> None:
    for _ in range(number):
        with tracing.tracer.event("BAR"):
            pass


def test_host_writer_and_lag_of_a_running_run_are_told(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracing("now", data=tmp_path) as tracing:
        _publish(tracing, 10)
        progress = _until_taken(tmp_path / "spool" / "now")
        _, checks = examine(tmp_path)
        (finding,) = of("spool", checks, "passed")
        assert finding.startswith(f"run now has a living writer, process {progress.pid}, heard of ")
        assert f"(process {os.getpid()} is alive)" in finding
        facts = _facts(checks, "now")
        assert facts["host"] == {"pid": os.getpid(), "alive": True, "ended": False}
        writer = facts["writer"]
        assert (writer["pid"], writer["alive"], writer["state"]) == (
            progress.pid,
            True,
            "following",
        )
        assert 0 <= writer["heartbeat_seconds"] < 30

        os.kill(progress.pid, signal.SIGSTOP)
        monkeypatch.setattr(spool_state, "SILENT_SECONDS", 0.3)
        _publish(tracing, 500)
        time.sleep(0.5)
        code, checks = examine(tmp_path)
        assert code == 3
        (finding,) = of("spool", checks, "failed")
        assert "without a sign of life for" in finding
        facts = _facts(checks, "now")
        assert facts["lag"]["events"] > 100
        assert facts["lag"]["blocks"] > 0
        assert facts["lag"]["bytes"] > 10_000
        assert 0.3 < facts["lag"]["seconds"] < 60
        (advice,) = [one["advice"] for one in checks if one["outcome"] == "failed"]
        subprocess.run(advice, shell=True, check=True)  # noqa: S602 - what the doctor says to do
    code, checks = examine(tmp_path)
    assert code == 0, checks


def test_a_writer_that_is_not_there_is_found(examine: Examine, tmp_path: Path) -> None:
    with Tracing("now", data=tmp_path) as tracing:
        _publish(tracing, 10)
        progress = _until_taken(tmp_path / "spool" / "now")
        os.kill(progress.pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while spool_state.WriterState.of(tmp_path / "spool").pid and time.monotonic() < deadline:
            time.sleep(0.01)
        code, checks = examine(tmp_path)
        assert code == 3
        (finding,) = of("spool", checks, "failed")
        assert "is being recorded without a writer" in finding
        assert "its host starts one within seconds" in finding
        assert ".writer.log" in finding
        assert _facts(checks, "now")["writer"]["alive"] is False
        (advice,) = [one["advice"] for one in checks if one["outcome"] == "failed"]
        assert cli.main(shlex.split(advice)[1:]) == 0


def test_a_run_that_the_lake_does_not_take_is_found(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "holiday.jpg").write_bytes(b"")
    tracing = Tracing("now", data=tmp_path).start()
    Market(tracing).trade()
    deadline = time.monotonic() + 60
    while (p := Progress.read(tmp_path / "spool" / "now")) is None or p.error is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    _, checks = examine(tmp_path)
    (finding,) = of("spool", checks, "failed")
    assert "is being recorded, but cannot be brought into the lake" in finding
    assert "holds files but no Delta log" in finding
    with pytest.raises(FillpathError, match="no Delta log"):
        tracing.stop()
    _, checks = examine(tmp_path)
    (finding,) = of("spool", checks, "failed")
    assert "has ended, but cannot be brought into the lake" in finding


def test_a_heartbeat_of_a_process_that_is_gone_is_none(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, mark in ((gone.pid, 5), (os.getpid(), 5)):  # the second: another of its number
        Heartbeat(pid, os.uname().nodename, mark).write(tmp_path)
        assert spool_state.WriterState.of(tmp_path).pid is None
    Heartbeat(1, "elsewhere.invalid", 5).write(tmp_path)
    assert spool_state.WriterState.of(tmp_path).pid == 1


def test_a_damaged_spool_is_found(examine: Examine, tmp_path: Path) -> None:
    with Tracing("hurt", data=tmp_path, writer="none") as tracing:
        for _ in range(5):
            Market(tracing).trade()
    file = tmp_path / "spool" / "hurt" / "000001.spool"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    code, checks = examine(tmp_path)
    assert code == 3
    assert "damaged" in of("spool", checks, "failed")[0]


def test_a_missing_file_of_the_lake_is_found(examine: Examine, tmp_path: Path) -> None:
    record_market(tmp_path, "run-1")
    lost = next((tmp_path / "lake").glob("**/*.parquet"))
    lost.unlink()
    code, checks = examine(tmp_path)
    assert code == 3
    assert lost.name in of("lake", checks, "failed")[0]


def test_a_lake_that_lost_rows_is_found(examine: Examine, tmp_path: Path) -> None:
    record_market(tmp_path, "run-1")
    store = EventStore(data_folder(tmp_path))
    (record,) = store.run_records()
    store.record_run(replace(record, kept=record.kept + 1, published=record.published + 1))
    code, checks = examine(tmp_path)
    assert code == 3
    assert "were kept, but the lake holds" in of("lake", checks, "failed")[0]


def test_a_lake_that_is_none_is_found(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "lake" / "_delta_log").mkdir(parents=True)
    (tmp_path / "lake" / "_delta_log" / f"{0:020}.json").write_text("{nonsense")
    code, checks = examine(tmp_path)
    assert code == 3
    assert of("lake", checks, "failed")


def test_a_folder_that_cannot_be_written(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, checks = examine(tmp_path / "file")
    assert code == 3
    assert "is not a folder" in of("data folder", checks, "failed")[0]


def test_a_server_that_does_not_answer(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILLPATH_POSTGRES__DSN", "postgresql://me:secret@127.0.0.1:9/none")
    code, checks = examine(tmp_path)
    assert code == 3
    (finding,) = of("Postgres", checks, "failed")
    assert "127.0.0.1:9" in finding
    assert finding.endswith(("?", "."))
    assert "?." not in finding
    assert "secret" not in json.dumps(checks)


def test_a_version_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = ["duckdb>=999", "rich>=13", 'nautilus_trader<1,>=0.5; extra == "nautilus"']
    monkeypatch.setattr(installation_checks, "requirements", lambda: wanted)
    found = list(installation_checks.check_installation(data_folder(tmp_path)))
    failed = [one.finding for one in found if one.outcome == "failed"]
    assert failed[0].startswith("duckdb is ")
    assert ">=999 is needed" in failed[0]
    assert len(failed) == 2 or "nautilus is not installed" in found[-1].finding


def test_the_talk_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--data", str(tmp_path), "doctor"]) == 0
    said = capsys.readouterr()
    assert "✔ fillpath " in said.out
    assert "Installation\n" in said.out
    assert "instruments-any" not in said.out  # nothing for a user to install
    assert said.err == "Everything is in order.\n"
