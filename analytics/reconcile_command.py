"""`fillpath attribution --reconcile`: the accounts of a run beside the engine's own statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics import report_format
from fillpath.analytics.attribution import (
    account_document,
    differences,
    ledger_end,
    reclassifications,
    rule_of,
    unattributed,
)
from fillpath.analytics.attribution_command import money, results_with
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.figure_words import amount_words
from fillpath.analytics.output import LONGEST_NAME, data_console, inert, print_json, styled, table
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import CheckFailed, UsageError


@dataclass(frozen=True, slots=True)
class _Matching:
    """What comes of matching entries and exits in two ways."""

    legs: int
    matches: int
    problems: list[str]


def reconcile_run(given: Invocation, wanted: str, *, others: Sequence[object] = ()) -> None:
    """Print every account of a run by the engine and by the ledger.

    Args:
        given: What the command line says.
        wanted: The run, as the user names it.
        others: Options that only a breakdown takes, as far as they are given.

    Raises:
        NotFound: There is no such run.
        UsageError: Options of a breakdown are given as well.
        CheckFailed: Something does not agree; after printing.
        FillpathError: The lake or the results database cannot be used.
    """
    if any(option is not None for option in others):
        raise UsageError(
            "--reconcile shows accounts; it takes no --by, --kind or --csv.",
            next_command=f"fillpath attribution {wanted} --reconcile",
        )
    with results_with(given, wanted) as (results, run_id, in_lake):
        accounts = results.reconcile(run_id)
        sums = results.pnl_by(run_id, "portfolio", "account")
    problems, moved = unattributed(accounts, sums), reclassifications(sums)
    shown = [(one, moved.get((one.portfolio, one.account_id, one.currency), ZERO))
             for one in accounts]  # fmt: skip
    matching = _match_twice(given, run_id) if in_lake else None
    failed = [one for one in accounts if one.status is ReconciliationStatus.FAILED]
    problems = [*problems, *(matching.problems if matching else ())]
    reconciled = not failed and not problems
    if given.json:
        print_json(
            {
                "run_id": run_id,
                "reconciled": reconciled,
                "accounts": [account_document(*one) for one in shown],
                "matching": None
                if matching is None
                else {
                    "legs": matching.legs,
                    "matches": matching.matches,
                    "agree": not matching.problems,
                },
                "problems": problems,
            }
        )
    else:
        _print_accounts(shown, matching, problems)
    if not reconciled:
        lines = [
            f"{f'{one.portfolio} {one.account_id}'.strip()}: {' '.join(one.notes)}"
            for one in failed
        ]
        raise CheckFailed(
            "\n".join([f"Run '{run_id}' does not reconcile:", *dict.fromkeys([*lines, *problems])]),
            next_command=f"fillpath completeness {run_id}",
        )


def _match_twice(given: Invocation, run_id: str) -> _Matching:
    """Reckon the run anew, and match its entries and exits in SQL as well."""
    from fillpath.analytics.fifo_matches import disagreements
    from fillpath.analytics.ledger import compute_ledger

    with EventStore(given.folder).connect([run_id], further_views=()) as connection:
        ledger = compute_ledger(connection, run_id)
        problems = disagreements(connection, ledger.legs, ledger.matches)
    return _Matching(len(ledger.legs), len(ledger.matches), problems)


def _print_accounts(
    accounts: Sequence[tuple[AccountReconciliation, Decimal]],
    matching: _Matching | None,
    problems: Sequence[str],
) -> None:
    console = data_console()
    if not accounts:
        console.print(styled(("The run has no account and no fills.", "dim")))
    marks = {
        ReconciliationStatus.RECONCILED: ("✔", "bold green"),
        ReconciliationStatus.FAILED: ("✘", "bold red"),
        ReconciliationStatus.NO_STATEMENT: ("·", "yellow"),
    }
    for account, reclassified in accounts:
        digits = report_format.currency_digits(account.currency, {})
        name = f"{account.portfolio} {account.account_id}".strip()
        console.print(
            styled(
                marks[account.status],
                " ",
                (inert(f"{name} {account.currency}".strip(), LONGEST_NAME), "bold"),
                (f"  {account.status.value}; rule of the engine: {rule_of(account)}", "dim"),
            )
        )
        columns = ("engine", "ledger", "first in first out")
        drawn = table(("", *columns), right=columns)
        end = ledger_end(account)
        with exact_arithmetic():
            change = None if end is None or account.start is None else end - account.start
        nothing = styled("")
        for label, by_engine, by_ledger in (
            ("start", account.start, account.start),
            ("end", account.end, end),
            ("change", account.change, change),
        ):
            drawn.add_row(label, money(by_engine, digits), money(by_ledger, digits), nothing)
        for label, by_engine, by_ledger, by_lots in (
            ("realized", account.engine_realized, account.realized, account.realized_fifo),
            ("unrealized", account.engine_unrealized, account.unrealized, account.unrealized_fifo),
        ):
            drawn.add_row(label, *(money(a, digits) for a in (by_engine, by_ledger, by_lots)))
        drawn.add_row("commission", nothing, money(account.commission, digits), nothing)
        console.print(drawn)
        for one in differences(account, reclassified):
            style, sign = ("red", "✘") if one.flagged else ("dim", "·")
            figure = one.figure.replace("_", " ")
            if one.amount:
                figure += f" {amount_words(one.amount, account.currency, signed=True)}"
            said = f"  {sign} {figure}: {one.words}"
            console.print(styled((said, style)), soft_wrap=True)
        for note in account.notes if account.status is not ReconciliationStatus.FAILED else ():
            console.print(styled(("  · ", "dim"), (note, "dim")), soft_wrap=True)
        console.print()
    if matching is not None:
        agree = "agree" if not matching.problems else "do not agree"
        counts = f"{matching.matches} matches of {matching.legs} legs"
        words = f"The queue of lots and SQL {agree} on {counts}."
        console.print(styled((words, "dim")), soft_wrap=True)
    for problem in problems:
        console.print(styled(("✘ ", "bold red"), problem), soft_wrap=True)
