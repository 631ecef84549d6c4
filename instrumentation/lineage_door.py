"""The way from a tracer to what its run left in the lake."""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol


class _OfRun(Protocol):
    run_id: str


def lineage(
    self: _OfRun, data: str | os.PathLike[str] | None = None, run_id: str | None = None
) -> Any:
    """Ask the lake what led to an event, what came of it, and how long it took.

    What the writer has not brought into the lake yet is not there.

    Args:
        self: The tracer.
        data: The data folder; `FILLPATH_DATA`, else the user's data directory.
        run_id: The run; the tracer's own when left out.

    Returns:
        A `fillpath.exporters.lineage.Lineage`.
    """
    # This floor imports no other; whoever only records never loads what reads.
    reader = importlib.import_module("fillpath.exporters.lineage")
    return reader.Lineage.of_lake(data, run_id or self.run_id)
