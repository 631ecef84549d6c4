"""Lets whole runs go: by their age, by their number, or by the room that all of them take."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow.compute as pc

from fillpath.exporters.compaction import LEVEL, SHARED_LABEL, TARGET_BYTES
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_rewriting import in_order, rewrite
from fillpath.exporters.lake_table import LakeConflict, LakeTable
from fillpath.exporters.parquet_file import rows_of_runs
from fillpath.exporters.run_writer import app_id
from fillpath.exporters.spool_folders import (
    closed_to_writers,
    delete_spool,
    delete_spool_folder,
    spool_bytes,
)

_DAY: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class RunRemoval:
    """A run that is to go, and what goes with it.

    Attributes:
        record: The run.
        reason: Why it goes, in words.
        files: Files of spans that hold rows of it.
        rows: Its rows.
        bytes: Their bytes; its share of a file that holds rows of others.
        spool: Its spool's folder.
        spool_bytes: Bytes of its spool.
    """

    record: RunRecord
    reason: str
    files: Sequence[LakeFile]
    rows: int
    bytes: int
    spool: Path
    spool_bytes: int


def plan_retention(
    store: EventStore,
    now: int,
    *,
    older_than: int | None = None,
    keep_runs: int | None = None,
    max_bytes: int | None = None,
) -> list[RunRemoval]:
    """Find the finished runs that are to go, the oldest first; one that is recorded never is.

    Args:
        store: The lake.
        now: The time, ns since the epoch.
        older_than: Let runs go that ended longer ago than this, ns.
        keep_runs: Keep this many of the newest runs, let the others go.
        max_bytes: Let the oldest runs go until lake and spools take no more than this.

    Raises:
        LakeError: When the lake is not one or is damaged.
    """
    parts: defaultdict[str, list[_Part]] = defaultdict(list)
    total = 0
    for file in store.spans.files():
        total += file.size
        for run_id, rows in rows_of_runs(file).items():
            parts[run_id].append(_Part(file, rows, file.size * rows // max(file.rows, 1)))
    removals = [
        _removal(store, record, parts[record.run_id])
        for record in sorted(store.run_records(), key=_ended_at)
    ]
    total += sum(one.spool_bytes for one in removals)
    chosen = []
    for place, one in enumerate(removals):
        if one.record.status == "Running":
            continue
        reason = None
        age = now - _ended_at(one.record)
        if older_than is not None and age > older_than:
            reason = f"ended {age / _DAY:,.1f} days ago"
        elif keep_runs is not None and len(removals) - place > keep_runs:
            reason = f"is not among the newest {keep_runs}"
        elif max_bytes is not None and total > max_bytes:
            reason = f"lake and spools take {total:,} bytes, more than {max_bytes:,}"
        if reason is not None:
            total -= one.bytes + one.spool_bytes
            chosen.append(_because(one, reason))
    return chosen


def _ended_at(record: RunRecord) -> int:
    return record.ended_at or record.started_at or 0


class _Part(NamedTuple):
    """What a run has of a file."""

    file: LakeFile
    rows: int
    bytes: int


def _removal(store: EventStore, record: RunRecord, parts: Sequence[_Part]) -> RunRemoval:
    spool = store.folder.spool / record.run_id
    return RunRemoval(
        record,
        "",
        [part.file for part in parts],
        sum(part.rows for part in parts),
        sum(part.bytes for part in parts),
        spool,
        spool_bytes(spool),
    )


def _because(one: RunRemoval, reason: str) -> RunRemoval:
    return RunRemoval(
        one.record, reason, one.files, one.rows, one.bytes, one.spool, one.spool_bytes
    )


def remove_run(store: EventStore, one: RunRemoval) -> bool:
    """Take a run out of the lake, and delete its spool and what is known of its sending.

    The spool goes first: a spool without its run would be brought in again. Files of the lake stay
    on the disk until `vacuum`, for those who read them now.

    Returns:
        Whether it was done; not when a writer is at the run, or another process at its files.

    Raises:
        LakeError: When the lake cannot be read or written.
    """
    run_id = one.record.run_id
    with closed_to_writers(one.spool) as closed:
        if not closed:
            return False
        delete_spool(one.spool)
        try:
            _take_out(store.spans, run_id, forget=app_id(run_id))
            _take_out(store.runs, run_id)
        except LakeConflict:
            return False
        delete_spool_folder(one.spool)
        shutil.rmtree(store.folder.otlp / run_id, ignore_errors=True)
    return True


def _take_out(table: LakeTable, run_id: str, forget: str | None = None) -> None:
    files = table.files([run_id])
    own = [file for file in files if file.run_id == run_id]
    for file in files:
        if file.run_id != run_id:
            _take_out_of(table, file, run_id)
    if own or forget is not None:
        table.replace(own, [], data_change=True, forget=forget)


def _take_out_of(table: LakeTable, file: LakeFile, run_id: str) -> None:
    """Write a file of several runs anew without one of them."""
    if run_id in rows_of_runs(file):
        (rows,) = in_order([file], table.schema)
        rewrite(
            table,
            [file],
            [rows.filter(pc.not_equal(rows["run_id"], run_id))],
            SHARED_LABEL,
            stage="compact",
            level=LEVEL,
            target_bytes=TARGET_BYTES,
            data_change=True,
            of_several_runs=table.name == "spans",
        )
