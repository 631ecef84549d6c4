"""What the first block of a spool says of its run, and which lake the run is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import SUFFIX, BlockType, SpoolReader


def described(folder: Path) -> dict[str, Any] | None:
    """Give the description of a run from its spool; None while there is none.

    Raises:
        SpoolError: When it is no spool, or one of another version.
    """
    if not (folder / f"000001{SUFFIX}").is_file():
        return None
    block = next(SpoolReader(folder).blocks(), None)
    return dict(block.value()) if block is not None and block.type is BlockType.RUN else None


def home_of(data: DataFolder, run: Mapping[str, Any] | None) -> DataFolder:
    """Give the data folder with the lake that a run was recorded for, wherever ours is."""
    if run is None or "lake" not in run:
        return data
    return DataFolder(data.path, run["lake"])


def home_of_spool(data: DataFolder, run_id: str) -> DataFolder:
    """Give the data folder with the lake that a spool is for; ours when it does not tell."""
    try:
        return home_of(data, described(data.spool / run_id))
    except (SpoolError, OSError):
        return data  # who reads on is told of it
