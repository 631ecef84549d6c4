"""Brings spools into the lake: one at once, or all that wait."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator
from dataclasses import replace

from fillpath.exporters import host_process
from fillpath.exporters.damaged_spool import PartlyTaken
from fillpath.exporters.event_store import EventStore, RunRecord, Status
from fillpath.exporters.followed_run import HOST_DIED
from fillpath.exporters.paced_reader import PacedReader
from fillpath.exporters.run_description import home_of_spool
from fillpath.exporters.run_writer import RunWriter, WriterBusy
from fillpath.instrumentation.errors import FillpathError, SpoolError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import list_spools
from fillpath.instrumentation.writer_files import State

_log = logging.getLogger(__name__)
_WITHOUT_SPOOL = frozenset({"otel", "import"})
"""Sources of runs of which no spool tells how they ended."""


def drain(data: DataFolder, run_id: str, *, patience: float = 30.0) -> Status:
    """Bring into the lake what a run's spool holds now, and finish the run if it is over.

    Args:
        data: The data folder.
        run_id: The run.
        patience: Seconds to wait for another writer of the run.

    Returns:
        `Running` when the host still records it, else `Ended` or `Crashed`.

    Raises:
        SpoolError: When the spool is missing or damaged; what lies before the damage is in the
            lake then, and the run counts as Crashed.
        LakeError: When the lake does not take it.
        WriterBusy: When another process keeps writing the run.
    """
    reader = PacedReader(data.spool / run_id)
    store = EventStore(home_of_spool(data, run_id))
    with RunWriter(store, run_id, patience=patience, reader=reader) as writer:
        state: State = "following"
        error: Exception | None = None
        try:
            status = _drain(writer)
        except Exception as failure:
            error = failure
            if isinstance(failure, SpoolError):
                state = "ended" if writer.status == "Crashed" else "gave_up"
            else:
                over = writer.ended or not writer.host_is_alive
                state = "gave_up" if over else "retrying"
            raise
        else:
            state = "following" if status == "Running" else "ended"
        finally:
            # A host may be waiting for this run, and the writer process looks for it.
            reader.progress(writer.committed_block).become(state, error).write(writer.spool)
    return status


def _drain(writer: RunWriter) -> Status:
    _take(writer)
    alive = writer.host_is_alive
    if not writer.ended and not alive:
        _take(writer)  # what it wrote between our reading and its death
    if writer.ended:
        return writer.finish()
    if not alive:
        return writer.finish(HOST_DIED)
    writer.commit()
    writer.record_run("Running")
    return writer.status


def _take(writer: RunWriter) -> None:
    try:
        writer.take()
    except SpoolError as error:
        if writer.started:  # else it is a spool of another version, which a later one can read
            raise writer.finish_damaged(error) from error
        raise


def catch_up(data: DataFolder) -> dict[str, Status | FillpathError]:
    """Bring every spool that is not completely in the lake there; call it before reading.

    Runs that another process is writing are left to it, and so are those that were recorded for
    another lake than this one. A run that cannot be brought in does not
    keep the others out.

    Args:
        data: The data folder.

    Returns:
        What became of each run that was not complete, by run id; an error where it failed.

    Raises:
        LakeError: When the lake is not one or is damaged.
    """
    store = EventStore(data)
    records = store.run_records()
    known = {run.run_id for run in records if run.status != "Running"}
    outcomes: dict[str, Status | FillpathError] = {}
    for run_id in (folder.name for folder in list_spools(data.spool)):
        if run_id in known or home_of_spool(data, run_id) != data:
            continue
        with _kept_apart(run_id, outcomes):
            outcomes[run_id] = drain(data, run_id, patience=0.0)
    for run in records:
        if run.status == "Running" and run.source in _WITHOUT_SPOOL and _is_abandoned(run):
            with _kept_apart(run.run_id, outcomes):
                store.record_run(replace(run, status="Crashed", error=HOST_DIED))
                outcomes[run.run_id] = "Crashed"
    return outcomes


@contextlib.contextmanager
def _kept_apart(run_id: str, outcomes: dict[str, Status | FillpathError]) -> Iterator[None]:
    try:
        yield
    except WriterBusy:
        pass
    except FillpathError as error:
        how = "only partly" if isinstance(error, PartlyTaken) else "not"
        _log.warning("Run '%s' is %s in the lake: %s", run_id, how, error)
        outcomes[run_id] = error


def _is_abandoned(run: RunRecord) -> bool:
    """Tell whether the process that brought a run's spans in is gone; no spool tells of its end."""
    if run.host_name != platform.node() or run.pid is None:
        return False
    return host_process.start_mark(run.pid) is None
