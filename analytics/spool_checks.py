"""Checks of the spools: is everything that was recorded in the lake, and who sees to the rest."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.report_format import count
from fillpath.exporters import host_process
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.run_writer import LOCK_NAME
from fillpath.instrumentation.errors import LakeError, SpoolError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import BlockType, Flag, SpoolReader, list_spools

_AREA: Final = "spool"
_CATCH_UP: Final = "fillpath runs list"


def check_spools(folder: DataFolder) -> Iterator[CheckResult]:
    """Check the spool of every run that is not completely in the lake."""
    spools = list_spools(folder.spool)
    if not spools:
        yield CheckResult.skipped(_AREA, "no run was recorded here yet", "fillpath demo")
        return
    try:
        records = {record.run_id: record for record in EventStore(folder).run_records()}
    except LakeError:
        records = {}  # the lake's own check tells
    complete = 0
    for spool in spools:
        record = records.get(spool.name)
        if record is not None and record.status != "Running":
            complete += 1
        else:
            yield _check_spool(spool, record)
    if complete:
        runs = "run is" if complete == 1 else "runs are"
        yield CheckResult.passed(_AREA, f"{complete} {runs} completely in the lake")


def _check_spool(spool: Path, record: RunRecord | None) -> CheckResult:
    committed = 0 if record is None else record.spool_block or 0
    run: dict[str, Any] = {}
    waiting, ended = 0, False
    try:
        for block in SpoolReader(spool).blocks():
            if block.type is BlockType.RUN:
                run = block.value()
            elif block.type is BlockType.END:
                ended = True
            elif block.type is BlockType.EVENTS and block.number > committed:
                # An event that caused others has a second record for its end.
                waiting += sum(not event.flags & Flag.FINISH for event in block.events())
    except SpoolError as error:
        return CheckResult.failed(_AREA, f"run {spool.name}: {error.message}", _CATCH_UP)
    behind = f"{count(waiting)} events are not in the lake yet"
    if _is_written(spool):
        return CheckResult.passed(_AREA, f"run {spool.name} has a living writer; {behind}")
    if not ended and run and host_process.is_alive(run, _changed_at(spool)):
        finding = f"run {spool.name} is being recorded without a writer; {behind}"
        return CheckResult.skipped(_AREA, finding, _CATCH_UP)
    what = "ended" if ended else "was cut off"
    return CheckResult.failed(
        _AREA, f"run {spool.name} {what} and has no writer; {behind}", _CATCH_UP
    )


def _is_written(spool: Path) -> bool:
    """Tell whether a writer holds the run's lock."""
    try:
        with (spool / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _changed_at(spool: Path) -> float:
    return max(path.stat().st_mtime for path in spool.glob("*.spool"))
