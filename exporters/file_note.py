"""A note of the files that a table's log names, so that a new process need not read the log.

It lies in the table's folder under a name that begins with a dot, which readers of Delta tables
pass over. It holds for one version of the log and no other, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_storage import LakeStorage
from fillpath.exporters.schema import SCHEMA_VERSION

NAME: Final = ".files.json"
_FORMAT: Final = [1, SCHEMA_VERSION]
"""Versions of the note itself and of the rows; others are not read."""


def write_note(
    storage: LakeStorage, version: int, mark: Sequence[int], files: Sequence[LakeFile]
) -> None:
    """Leave a note beside a table in a folder; where that cannot be written there is none.

    Args:
        storage: Where the table is.
        version: Version of the log.
        mark: What `LakeStorage.mark_of_newest` gave for it.
        files: All files of that version.
    """
    named = [[file.name, file.rows, file.size, file.smallest, file.largest] for file in files]
    content = {"format": _FORMAT, "version": version, "mark": list(mark), "files": named}
    path = Path(storage.address(NAME))
    temporary = path.with_name(f"{NAME}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, separators=(",", ":")))
        temporary.replace(path)
    except (OSError, TypeError):  # a reader may have no right to write
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_note(storage: LakeStorage) -> tuple[int, tuple[int, ...], list[LakeFile]] | None:
    """Give version, mark and files of the note; None when there is none that makes sense."""
    try:
        content: dict[str, Any] = json.loads(Path(storage.address(NAME)).read_bytes())
        if content["format"] != _FORMAT:
            return None
        files = [
            LakeFile(str(name), int(rows), int(size), dict(smallest), dict(largest), storage)
            for name, rows, size, smallest, largest in content["files"]
        ]
        return int(content["version"]), tuple(content["mark"]), files
    except (OSError, ValueError, TypeError, KeyError):
        return None
