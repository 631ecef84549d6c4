"""Results of one run: loaded into the database, and read for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fillpath.analytics import report_format
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.pnl_table import PnlLine, pnl_lines
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.run_lookup import find_run
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.settings import DataFolder

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import ResultsManager


@dataclass(frozen=True, slots=True)
class RunProfit:
    """What a run came to.

    Args:
        lines: By portfolio, strategy and currency.
        accounts: Every account beside the engine's own statement.
    """

    lines: list[PnlLine]
    accounts: list[AccountReconciliation]


@contextmanager
def results_of(folder: DataFolder) -> Iterator[ResultsManager]:
    """Open the results of a data folder.

    Raises:
        MissingExtra: There is no results database to use.
        BackendUnreachable: It does not answer.
        ResultsError: It cannot be used.
    """
    from fillpath.analytics.postgres import open_results_database
    from fillpath.analytics.results_manager import ResultsManager

    with open_results_database(folder) as database, ResultsManager(database) as results:
        yield results


@contextmanager
def loaded_runs(
    folder: DataFolder, wanted: Sequence[str]
) -> Iterator[tuple[ResultsManager, list[str]]]:
    """Open the results with some runs in them, brought up to date from the lake.

    Args:
        folder: The data folder.
        wanted: Ids, unique prefixes, or ``latest``: of runs in the lake, else of those that only
            the results still have.

    Raises:
        NotFound: There is no such run.
        UsageError: Several begin so.
        FillpathError: The lake or the results database cannot be used.
    """
    found: list[tuple[str, str | None]] = []
    with lake_connection(folder) as connection:
        for given in wanted:
            try:
                found.append((given, find_run(connection, given)))
            except NotFound:
                found.append((given, None))
    store = EventStore(folder)
    with results_of(folder) as results:
        run_ids = []
        for given, in_lake in found:
            if in_lake is not None:
                results.load(store, in_lake)
            run_ids.append(in_lake or results.run(given).run_id)
        yield results, run_ids


def load_results(folder: DataFolder, run_id: str) -> RunProfit:
    """Load a run of the lake into the results database, and read what it came to.

    Raises:
        FillpathError: As `results_of` does, or the run is not in the lake.
    """
    with results_of(folder) as results:
        results.load(EventStore(folder), run_id)
        return profit_of(results, run_id)


def profit_of(results: ResultsManager, run_id: str) -> RunProfit:
    """Read what a run that is loaded came to."""
    sums = results.pnl_by(run_id, "portfolio", "strategy")
    return RunProfit(
        pnl_lines(
            (
                one.names["portfolio"] or "",
                one.names["strategy"] or "",
                one.currency,
                kind,
                amount,
            )
            for one in sums
            for kind, amount in one.amounts.items()
        ),
        results.reconcile(run_id),
    )


def reconciliation_words(account: AccountReconciliation) -> tuple[bool, str]:
    """Say whether an account follows from the fills, in one line."""
    name = f"{account.portfolio} {account.account_id}".strip()
    if account.end is None:
        if account.status is ReconciliationStatus.FAILED:
            return False, f"{name}: {' '.join(account.notes)}"
        return True, f"{name}: the engine says nothing about its account"
    if account.status is ReconciliationStatus.NO_STATEMENT:
        return True, f"{name}: the engine says nothing about its account"
    digits = report_format.currency_digits(account.currency, {})
    end = f"{report_format.readable_money(account.end, digits)} {account.currency}"
    if account.status is ReconciliationStatus.RECONCILED:
        return True, f"{name}: {end} equals the engine's own balance"
    off = report_format.money(account.difference, digits, signed=True)
    reasons = " ".join(account.notes)
    return False, f"{name}: the engine's balance of {end} is off by {off}. {reasons}".rstrip()
