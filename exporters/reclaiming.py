"""Finds what takes room and no lake needs: replaced files, crash leftovers, finished spools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_storage import StoredFile
from fillpath.exporters.lake_table import LakeTable
from fillpath.exporters.spool_folders import (
    closed_to_writers,
    delete_spool,
    spool_bytes,
    why_to_keep,
)
from fillpath.instrumentation.spool import list_spools

GRACE_HOURS: Final = 24
"""How long a file stays that the log does not name any more: a query may still be reading it."""


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """Something that can be deleted without a row of the lake missing.

    Attributes:
        kind: `file`, or `spool` for all spool files of a run.
        name: Path or URL.
        bytes: Its size.
        reason: Why it is not needed, or why it must stay.
        kept: Whether it must stay.
    """

    kind: Literal["file", "spool"]
    name: str
    bytes: int
    reason: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class VacuumPlan:
    """What `vacuum` would delete."""

    files: Sequence[tuple[LakeTable, StoredFile]]
    spools: Sequence[Path]
    shown: Sequence[Reclaimable]

    @property
    def bytes(self) -> int:
        """Bytes that would be free then."""
        return sum(one.bytes for one in self.shown if not one.kept)


def plan_vacuum(
    store: EventStore, *, grace_hours: int = GRACE_HOURS, spools: bool = False
) -> VacuumPlan:
    """Find the files that no lake needs.

    Args:
        store: The lake.
        grace_hours: Keep files that the log named, or that were written, less long ago.
        spools: Whether to look at the spools of finished runs; each is read, to be sure that all of
            it is in the lake.

    Raises:
        LakeError: When the lake is not one or is damaged.
    """
    files = [
        (table, file) for table in (store.spans, store.runs) for file in table.unnamed(grace_hours)
    ]
    shown = [
        Reclaimable(
            "file",
            table.storage.address(file.name),
            file.size,
            "never finished" if file.name.startswith(".") else "in no commit any more",
        )
        for table, file in files
    ]
    folders = []
    if spools:
        records = {record.run_id: record for record in store.run_records()}
        for folder in list_spools(store.folder.spool):
            reason = why_to_keep(folder, records.get(folder.name))
            if reason is None:
                folders.append(folder)
            words = "all of it is in the lake" if reason is None else reason
            shown.append(
                Reclaimable(
                    "spool", str(folder), spool_bytes(folder), words, kept=reason is not None
                )
            )
    return VacuumPlan(files, folders, shown)


def vacuum(plan: VacuumPlan) -> int:
    """Delete what a plan names; gives how many could not be, since a writer is at them."""
    for table, file in plan.files:
        with table.explained():
            table.storage.remove(file.name)
    busy = 0
    for folder in plan.spools:
        with closed_to_writers(folder) as closed:
            if closed:
                delete_spool(folder)
            else:
                busy += 1
    return busy
