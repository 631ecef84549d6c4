"""Puts the many small files that live recording leaves together into few large ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_file import LakeFile, NewFile
from fillpath.exporters.lake_rewriting import in_order, rewrite
from fillpath.exporters.lake_table import LakeConflict, LakeTable
from fillpath.exporters.parquet_file import read_parquet
from fillpath.exporters.schema import RUN_SCHEMA

TARGET_BYTES: Final = 128 * 2**20
"""Size of a file that needs no company."""
LEVEL: Final = 6
"""zstd's level of compacted files: written once and read often."""
MOST_RUN_FILES: Final = 16
"""Files from which the table of runs is put together."""
MOST_SMALL_RUNS: Final = 16
"""Small runs of one file each from which these are put together."""
SMALL_RUN_BYTES: Final = 256 * 2**10
"""Size below which a run can share a file with others."""
SHARED_BYTES: Final = 4 * 2**20
"""Size of a file of several runs: it is written anew whenever one of them goes."""
SHARED_LABEL: Final = "runs"
_STAGES: Final = frozenset({"hot", "compact"})


@dataclass(frozen=True, slots=True)
class Compaction:
    """Files that become one.

    Attributes:
        table: Their table.
        run_id: The run of all their rows; None when there are several, as in the table of runs.
        files: The files.
    """

    table: LakeTable
    run_id: str | None
    files: Sequence[LakeFile]

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(file.size for file in self.files)


def plan_compaction(
    store: EventStore,
    run_ids: Collection[str] | None = None,
    *,
    target_bytes: int = TARGET_BYTES,
) -> list[Compaction]:
    """Find the small files that can be put together.

    Args:
        store: The lake.
        run_ids: Runs to look at; None means all, and the table of runs too.
        target_bytes: Size of a file that needs no company.

    Raises:
        LakeError: When the lake is not one or is damaged.
    """
    by_run: defaultdict[str, list[LakeFile]] = defaultdict(list)
    shared: list[LakeFile] = []
    for file in store.spans.files(run_ids):
        run_id = file.run_id
        if run_id is None:
            shared.append(file)
        elif run_ids is None or run_id in run_ids:
            by_run[run_id].append(file)
    found = [
        Compaction(store.spans, run_id, files)
        for run_id in sorted(by_run)
        for files in _groups(by_run[run_id], target_bytes)
    ]
    if run_ids is None:
        found += _of_small_runs(store, by_run, shared)
        files = store.runs.files()
        if len(files) >= MOST_RUN_FILES:
            found.append(Compaction(store.runs, None, files))
    return found


def _groups(files: Sequence[LakeFile], target_bytes: int) -> Iterator[list[LakeFile]]:
    """Group the small files of a run, neighbours first, into what makes one file each."""
    small = [file for file in files if file.stage in _STAGES and file.size < target_bytes // 2]
    group: list[LakeFile] = []
    size = 0
    for file in sorted(small, key=lambda file: file.smallest.get("sequence") or 0):
        if group and size + file.size > target_bytes:
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if len(group) > 1:
        yield group


def _of_small_runs(
    store: EventStore, by_run: Mapping[str, Sequence[LakeFile]], shared: Sequence[LakeFile]
) -> Iterator[Compaction]:
    """Group the files of finished runs that are all of a small run, neighbours by name first."""
    small = [
        file
        for files in by_run.values()
        if len(files) == 1
        for file in files
        if file.stage in _STAGES and file.size < SMALL_RUN_BYTES
    ]
    if len(small) < MOST_SMALL_RUNS:
        return
    finished = {one.run_id for one in store.run_records() if one.status != "Running"}
    small = [file for file in small if file.run_id in finished]
    # What is half full or more stays; a sweep that goes on would write it anew each time.
    small += [
        file
        for file in shared
        if file.label == SHARED_LABEL and file.stage in _STAGES and file.size < SHARED_BYTES // 2
    ]
    group: list[LakeFile] = []
    for file in [*sorted(small, key=lambda file: str(file.smallest.get("run_id"))), None]:
        if file is None or sum(one.size for one in group) + file.size > SHARED_BYTES:
            if len(group) >= MOST_SMALL_RUNS:
                yield Compaction(store.spans, None, group)
            group = []
        if file is not None:
            group.append(file)


def compact(one: Compaction, *, target_bytes: int = TARGET_BYTES) -> list[NewFile] | None:
    """Carry out a part of a plan; may be done while the run is recorded.

    Returns:
        The new files, or None when another process has replaced the old ones meanwhile.

    Raises:
        LakeError: When a file cannot be read or written; the lake is as it was.
    """
    try:
        if one.table.schema.equals(RUN_SCHEMA):
            return rewrite(
                one.table,
                one.files,
                [_newest(one.files)],
                "runs",
                stage="compact",
                level=LEVEL,
                target_bytes=target_bytes,
            )
        return rewrite(
            one.table,
            one.files,
            in_order(one.files, one.table.schema),
            one.run_id or SHARED_LABEL,
            stage="compact",
            level=LEVEL,
            target_bytes=target_bytes,
            of_several_runs=one.run_id is None,
        )
    except LakeConflict:
        return None


def _newest(files: Sequence[LakeFile]) -> pa.Table:
    """Read the newest row of every run."""
    rows = pa.concat_tables(read_parquet(file) for file in files)
    return rows.take(newest_rows(rows)).sort_by("run_id")


def newest_rows(rows: pa.Table) -> pa.Array:
    """Give the places of every run's newest row."""
    newest: dict[str, tuple[int, int]] = {}
    ids, times = rows["run_id"].to_pylist(), rows["updated_at"].to_pylist()
    for place, (run_id, updated_at) in enumerate(zip(ids, times, strict=True)):
        if run_id not in newest or updated_at > newest[run_id][0]:
            newest[run_id] = (updated_at, place)
    return pa.array([place for _, place in newest.values()], pa.int64())
