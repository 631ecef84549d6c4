"""Checks of the spools: is everything that was recorded in the lake, and who sees to the rest."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fillpath.analytics.check_result import CheckResult, Outcome
from fillpath.analytics.report_format import count, duration
from fillpath.analytics.spool_state import SpoolState, WriterState, check_readable
from fillpath.exporters.damaged_spool import SPOOL_DAMAGED
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.run_description import home_of_spool
from fillpath.instrumentation.errors import LakeError, SpoolError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import list_spools
from fillpath.instrumentation.writer_files import LOG_NAME

_AREA: Final = "spool"
_CATCH_UP: Final = "fillpath runs list"


def check_spools(folder: DataFolder) -> Iterator[CheckResult]:
    """Check the spool of every run that is not completely in the lake."""
    spools = list_spools(folder.spool)
    store = EventStore(folder)
    try:
        runs = store.run_records()
    except LakeError:
        runs = []  # the lake's own check tells
    yield from _damaged(runs)
    if not spools:
        if runs:
            yield CheckResult.passed(_AREA, "no spool waits")
        else:
            yield CheckResult.skipped(_AREA, "no run was recorded here yet", "fillpath demo")
        return
    done = {run.run_id for run in runs if run.status != "Running"}
    broken = {run.run_id for run in runs if run.metadata.get(SPOOL_DAMAGED)}
    waiting = [spool for spool in spools if spool.name not in done]
    elsewhere = [spool for spool in waiting if home_of_spool(folder, spool.name) != folder]
    for spool in waiting:
        if spool not in elsewhere:
            yield _check_spool(spool, store)
    if elsewhere:
        finding = f"{len(elsewhere)} of the runs here belong to another lake"
        yield CheckResult.skipped(_AREA, finding, "fillpath doctor --lake PLACE")
    if complete := sum(spool.name in done - broken for spool in spools):
        are = "run is" if complete == 1 else "runs are"
        yield CheckResult.passed(_AREA, f"{complete} {are} completely in the lake")


def _damaged(runs: Iterable[RunRecord]) -> Iterator[CheckResult]:
    for run in runs:
        if run.metadata.get(SPOOL_DAMAGED):
            advice = f"fillpath completeness {shlex.quote(run.run_id)}"
            yield CheckResult.warned(_AREA, f"run {run.run_id}: {run.error}", advice)


def _check_spool(spool: Path, store: EventStore) -> CheckResult:
    try:
        check_readable(spool)
    except SpoolError as error:
        return CheckResult.failed(_AREA, error.message, error.next_command)
    try:
        state = SpoolState.of(spool, store)
    except SpoolError as error:
        return CheckResult.failed(_AREA, f"run {spool.name}: {error.message}", _CATCH_UP)
    writer = WriterState.of(spool.parent)
    outcome, finding, advice = _judged(state, writer, spool.parent / LOG_NAME)
    finding = f"run {state.run_id} {finding}; {_lag(state)}"
    return CheckResult(_AREA, outcome, finding, advice, state.facts(writer))


def _judged(state: SpoolState, writer: WriterState, log: Path) -> tuple[Outcome, str, str | None]:
    alive = "is alive" if state.host_alive else "is gone"
    host = f"process {state.host_pid} {alive}"
    progress = state.progress
    if state.is_written:
        here = progress is not None and progress.pid == writer.pid
        if here and writer.hangs:
            age = _seconds(writer.heartbeat_seconds)
            finding = f"has a writer, process {writer.pid}, without a sign of life for {age}"
            return "failed", f"{finding} ({host})", f"kill -9 {writer.pid}  # another one goes on"
        if not here or writer.pid is None:
            return "passed", f"has a living writer, a command ({host})", None
        age = _seconds(writer.heartbeat_seconds)
        finding = f"has a living writer, process {writer.pid}, heard of {age} ago ({host})"
        return "passed", finding, None
    recorded = state.host_alive and not state.ended
    if progress is not None and progress.error is not None:
        what = "is being recorded" if recorded else "has ended"
        finding = f"{what}, but cannot be brought into the lake ({host}): {progress.error}"
        return "failed", finding, progress.next_command or _CATCH_UP
    if not recorded:
        what = "ended" if state.ended else "was cut off"
        return "failed", f"{what} and has no writer", _CATCH_UP
    finding = f"is being recorded without a writer ({host})"
    if state.wanted_writer != "process":
        return "skipped", finding, _CATCH_UP
    if writer.pid is not None:
        return "skipped", f"{finding}, which process {writer.pid} is about to become", _CATCH_UP
    finding += f"; its host starts one within seconds, or {log} tells why not"
    return "failed", finding, _CATCH_UP


def _lag(state: SpoolState) -> str:
    events = "1 event is" if state.events == 1 else f"{count(state.events)} events are"
    lag = f"{events} not in the lake yet"
    if not state.events:
        return lag
    blocks = f"{count(state.blocks)} block{'s' * (state.blocks != 1)}"
    size = f"{-(-state.bytes // 1000):,} kB"
    age = "" if state.seconds is None else f", up to {_seconds(state.seconds)} old"
    return f"{lag} ({blocks}, {size}{age})"


def _seconds(seconds: float | None) -> str:
    return duration(int((seconds or 0.0) * 1e9))
