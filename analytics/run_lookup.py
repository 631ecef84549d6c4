"""Finds a run by its id, by a unique prefix of it, or as the latest."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fillpath.instrumentation.errors import NotFound, UsageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LATEST: Final = "latest"
"""Stands for the newest run, or for the last fill of the newest run."""
MOST_CANDIDATES: Final = 10
"""How many candidates a message about an ambiguous prefix names."""
RUN_COLUMNS: Final = (
    "run_id",
    "mode",
    "status",
    "service_name",
    "engine",
    "engine_version",
    "started_at",
    "ended_at",
    "parameters",
    "published",
    "kept",
    "sampled_out",
    "dropped",
)
"""What is told of a run, in the lake's view `runs` as in the results."""

_RUN_IDS: Final = "SELECT run_id FROM runs ORDER BY started_at DESC NULLS LAST, run_id DESC"


def run_ids(connection: DuckDBPyConnection) -> list[str]:
    """Ids of all runs in the lake, the newest first."""
    return [run_id for (run_id,) in connection.execute(_RUN_IDS).fetchall()]


def find_run(connection: DuckDBPyConnection, given: str) -> str:
    """Find the run that `given` means: its id, a unique prefix of it, or ``latest``.

    Raises:
        NotFound: There is none; names the nearest.
        UsageError: Several begin so; names them.
    """
    known = run_ids(connection)
    if given in known:
        return given
    if not known:
        raise NotFound("There are no runs yet.", next_command="fillpath demo")
    if given == LATEST:
        return known[0]
    beginning = [run_id for run_id in known if given and run_id.startswith(given)]
    if len(beginning) == 1:
        return beginning[0]
    if beginning:
        raise UsageError(
            f"{len(beginning)} runs begin with '{given}':\n{listed(beginning)}",
            next_command="more of the id",
        )
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.0)
    hint = f" The nearest is '{nearest[0]}'." if nearest else ""
    raise NotFound(f"There is no run '{given}'.{hint}", next_command="fillpath runs list")


def listed(names: Sequence[str]) -> str:
    """Write candidates one a line, and how many there are beyond."""
    lines = list(names[:MOST_CANDIDATES])
    if len(names) > MOST_CANDIDATES:
        lines.append(f"… and {len(names) - MOST_CANDIDATES} more")
    return "\n".join(lines)
