"""Opens the lake for a command that reads, with every spool brought in first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fillpath.analytics.output import say
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation.errors import FillpathError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from fillpath.instrumentation.settings import DataFolder


def current_store(folder: DataFolder) -> EventStore:
    """Give the store of a data folder after bringing into it what waits in spools.

    Raises:
        LakeError: The lake is not one, or is damaged.
        FillpathError: There is something else where the data folder should be.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise FillpathError(
            f"{folder.path} is not a folder.", next_command="fillpath doctor --data FOLDER"
        )
    if folder.spool.is_dir():
        try:
            catch_up(folder)
        except OSError as error:
            # Whoever may only read still sees what is in the lake.
            what = f"What waits in {folder.spool} stays out of the lake: {error.strerror or error}."
            say((what, "yellow"))
    return EventStore(folder)


@contextmanager
def lake_connection(folder: DataFolder) -> Iterator[DuckDBPyConnection]:
    """Connect to the views `spans` and `runs` of a data folder.

    Raises:
        FillpathError: As `current_store` does.
    """
    connection = current_store(folder).connect(further_views=())
    try:
        yield connection
    finally:
        connection.close()
