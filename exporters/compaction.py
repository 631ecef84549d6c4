"""Puts the many small files that live recording leaves together into few large ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_file import LakeFile, NewFile
from fillpath.exporters.lake_rewriting import in_order, rewrite
from fillpath.exporters.lake_table import LakeConflict, LakeTable
from fillpath.exporters.parquet_file import read_parquet

TARGET_BYTES: Final = 128 * 2**20
"""Size of a file that needs no company."""
LEVEL: Final = 6
"""zstd's level of compacted files: written once and read often."""
MOST_RUN_FILES: Final = 16
"""Files from which the table of runs is put together."""
_STAGES: Final = frozenset({"hot", "compact"})


@dataclass(frozen=True, slots=True)
class Compaction:
    """Files of one run that become one; or, with a run of None, those of the table of runs."""

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
    for file in store.spans.files(run_ids):
        run_id = file.run_id
        if run_id is not None and (run_ids is None or run_id in run_ids):
            by_run[run_id].append(file)
    found = [
        Compaction(store.spans, run_id, files)
        for run_id in sorted(by_run)
        for files in _groups(by_run[run_id], target_bytes)
    ]
    if run_ids is None:
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


def compact(one: Compaction, *, target_bytes: int = TARGET_BYTES) -> list[NewFile] | None:
    """Carry out a part of a plan; may be done while the run is recorded.

    Returns:
        The new files, or None when another process has replaced the old ones meanwhile.

    Raises:
        LakeError: When a file cannot be read or written; the lake is as it was.
    """
    try:
        if one.run_id is None:
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
            one.run_id,
            stage="compact",
            level=LEVEL,
            target_bytes=target_bytes,
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
