"""The spools of finished runs: whether all of one is in the lake, and how it is let go."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from fillpath.exporters.event_store import RunRecord
from fillpath.exporters.run_writer import LOCK_NAME
from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.spool import SUFFIX, SpoolReader


def spool_bytes(folder: Path) -> int:
    """Bytes of the spool files of a run."""
    return sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))


def why_to_keep(folder: Path, record: RunRecord | None) -> str | None:
    """Tell why a spool may not be deleted; None when all of it is in the lake.

    Reads the whole spool.
    """
    if record is None or record.status == "Running":
        return "the run is not finished"
    last = 0
    try:
        for block in SpoolReader(folder).blocks():
            last = block.number
    except SpoolError as error:
        return f"it is damaged: {error.message}"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if last > (record.spool_block or 0):
        return f"block {last} is not in the lake, which has it up to {record.spool_block or 0}"
    return None


@contextlib.contextmanager
def closed_to_writers(folder: Path) -> Iterator[bool]:
    """Keep writers out of a spool; tells whether that could be had, since one may be at it."""
    if not folder.is_dir():
        yield True
        return
    with (folder / LOCK_NAME).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def delete_spool(folder: Path) -> None:
    """Delete the spool files of a run. Its folder stays, so that its id is not given out again."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):  # the first one first: the rest is no spool then
        path.unlink(missing_ok=True)


def delete_spool_folder(folder: Path) -> None:
    """Delete all that a spool's folder holds, and the folder: the run's id is free again."""
    delete_spool(folder)
    shutil.rmtree(folder, ignore_errors=True)
