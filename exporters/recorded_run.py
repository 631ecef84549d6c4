"""What the blocks of a run say of it, as a row of the table of runs."""

from __future__ import annotations

from typing import Any, Final

from fillpath.exporters.completeness import Completeness, totals
from fillpath.exporters.event_store import RunRecord, Status
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.instrumentation.run_notes import backtests_of, is_backtest

_OWN_COLUMNS: Final = frozenset(
    {"run_id", "mode", "service_name", "host_name", "pid", "started_at", "parameters"}
)
_TOLD_LATER: Final = ("code_version", "seed")
"""What a script that is part of a run may say of it, better than the run itself knew."""


def record_of(
    run_id: str,
    status: Status,
    events: SpoolEvents,
    completeness: Completeness,
    **others: Any,
) -> RunRecord:
    """Make the row of a run.

    Args:
        run_id: The run.
        status: How it is, or how it ended.
        events: Has taken the blocks so far.
        completeness: Has counted the events.
        others: Further columns, and those that are known better; None leaves a column as it is.
            What is in `metadata` is added.
    """
    completeness.host_counted(events.counts)
    run, end = events.run, events.end or {}
    rows = completeness.rows(status)
    metadata = {key: run[key] for key in run if key not in _OWN_COLUMNS and not is_backtest(key)}
    if backtests := backtests_of(run):
        metadata["backtests"] = backtests
    metadata |= {key: end[key] for key in _TOLD_LATER if key in end}
    known: dict[str, Any] = {
        "mode": run.get("mode"),
        "service_name": run.get("service_name"),
        "engine": end.get("engine") or run.get("engine"),
        "engine_version": end.get("engine_version") or run.get("engine_version"),
        "started_at": run.get("started_at"),
        "ended_at": end.get("ended_at"),
        "error": end.get("error"),
        "parameters": {**(run.get("parameters") or {}), **(end.get("parameters") or {})},
        "host_name": run.get("host_name"),
        "pid": run.get("pid"),
        **{key: value for key, value in others.items() if value is not None},
        **totals(rows),
        "metadata": {**metadata, **(others.get("metadata") or {})},
    }
    return RunRecord(run_id, status, completeness=rows, **known)
