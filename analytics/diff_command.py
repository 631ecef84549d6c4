"""`fillpath runs diff`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.compared_runs import ComparedRuns, compare_events
from fillpath.analytics.diff_document import diff_document
from fillpath.analytics.diff_view import print_comparison
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import data_console, print_json, say
from fillpath.analytics.pnl_effect import PnlComparison, compare_pnl
from fillpath.analytics.run_lookup import find_run
from fillpath.instrumentation.errors import EXIT_DIFFERENT, EXIT_OK, FillpathError, UsageError
from fillpath.instrumentation.settings import DataFolder, data_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Side = tuple["DuckDBPyConnection", str]


def diff_runs(
    given: Invocation,
    wanted: tuple[str, str],
    *,
    data_b: str | None,
    portfolio: str | None,
    kinds: Sequence[str],
    ignored: Sequence[str],
    tolerance: float,
    with_pnl: bool,
) -> int:
    """Print where two runs part, and what it comes to; gives the exit code.

    Raises:
        NotFound: There is no such run.
        UsageError: Several runs begin so, or the tolerance is none.
        LakeError: The lake cannot be read.
    """
    if not 0 <= tolerance < 1:
        raise UsageError(
            f"The tolerance is {tolerance}; it must be at least 0 and less than 1.",
            next_command="--tolerance 1e-9",
        )
    folders = folders_of(given, data_b)
    with both_runs(folders, wanted) as (a, b):
        found = compare_events(
            a, b, portfolio=portfolio, kinds=kinds, ignored=ignored, tolerance=tolerance
        )
    pnl = None
    if with_pnl and not found.identical:
        pnl = _pnl(folders, found, portfolio)
    if given.json:
        print_json(diff_document(found, pnl))
    else:
        print_comparison(data_console(), found, pnl, given.command)
    return EXIT_OK if found.identical else EXIT_DIFFERENT


def _pnl(
    folders: tuple[DataFolder, DataFolder], found: ComparedRuns, portfolio: str | None
) -> PnlComparison | None:
    try:
        return compare_pnl(
            (folders[0], found.a["run_id"]),
            (folders[1], found.b["run_id"]),
            portfolio=portfolio,
            by_portfolio=found.by_portfolio,
        )
    except FillpathError as error:
        say((f"The P&L is left out: {error.message}", "yellow"))
        return None


def folders_of(given: Invocation, data_b: str | None) -> tuple[DataFolder, DataFolder]:
    """Give the data folders of the two runs: usually the same one."""
    return given.folder, given.folder if data_b is None else data_folder(data_b)


@contextmanager
def both_runs(
    folders: tuple[DataFolder, DataFolder], wanted: tuple[str, str]
) -> Iterator[tuple[Side, Side]]:
    """Connect to the lakes of two runs, with the files open that these runs are in.

    Args:
        folders: The runs' data folders; of one folder there is one connection.
        wanted: Each run's id, a unique prefix of it, or ``latest``.

    Raises:
        FillpathError: As `current_store` and `find_run` do.
    """
    stores = [current_store(folders[0])]
    if folders[1] != folders[0]:
        stores.append(current_store(folders[1]))
    ids = []
    for number, name in enumerate(wanted):
        with stores[min(number, len(stores) - 1)].connect(further_views=()) as connection:
            ids.append(find_run(connection, name))
    if len(stores) == 1:
        with stores[0].connect(ids, further_views=()) as connection:
            yield (connection, ids[0]), (connection, ids[1])
        return
    with (
        stores[0].connect(ids[:1], further_views=()) as one,
        stores[1].connect(ids[1:], further_views=()) as other,
    ):
        yield (one, ids[0]), (other, ids[1])
