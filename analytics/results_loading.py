"""Results of one run: loaded into the database, and read for a terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fillpath.analytics import report_format
from fillpath.analytics.pnl_table import PnlLine, pnl_lines
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.versions import installed_version
from fillpath.instrumentation.errors import MissingExtra
from fillpath.instrumentation.settings import ENV_POSTGRES_DSN, DataFolder


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a run came to.

    Args:
        lines: By portfolio, strategy and currency.
        accounts: Every account beside the engine's own statement.
    """

    lines: list[PnlLine]
    accounts: list[AccountReconciliation]


def require_database() -> None:
    """Check that there is a results database to use, the user's own or the embedded one.

    Raises:
        MissingExtra: There is neither.
    """
    needed = "postgres" if os.environ.get(ENV_POSTGRES_DSN) else "postgres-embedded"
    if installed_version("psycopg") is None:
        raise MissingExtra(needed, "to keep results in Postgres")


def load_results(folder: DataFolder, run_id: str) -> None:
    """Load a run of the lake into the results database."""
    require_database()


def read_results(folder: DataFolder, run_id: str) -> RunResults:
    """Read what a run came to."""
    from fillpath.analytics.ledger import compute_ledger
    from fillpath.exporters.event_store import EventStore

    with EventStore(folder).connect([run_id]) as connection:
        ledger = compute_ledger(connection, run_id)
    lines = pnl_lines(
        (one.ref.portfolio, one.strategy, one.currency, one.kind, one.amount)
        for one in ledger.slices
    )
    return RunResults(lines, list(ledger.accounts))


def reconciliation_words(account: AccountReconciliation) -> tuple[bool, str]:
    """Say whether an account follows from the fills, in one line."""
    name = f"{account.portfolio} {account.account_id}".strip()
    if account.status is ReconciliationStatus.NO_STATEMENT or account.end is None:
        return True, f"{name}: the engine says nothing about its account"
    digits = report_format.currency_digits(account.currency, {})
    end = f"{report_format.money(account.end, digits)} {account.currency}"
    if account.status is ReconciliationStatus.RECONCILED:
        return True, f"{name}: the fills explain the engine's balance of {end} to the last digit"
    off = report_format.money(account.difference, digits, signed=True)
    reasons = " ".join(account.notes)
    return False, f"{name}: the engine's balance of {end} is off by {off}. {reasons}".rstrip()
