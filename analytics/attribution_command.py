"""`fillpath attribution`: profit by anything."""

from __future__ import annotations

import csv as csv_files
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fillpath.analytics import report_format
from fillpath.analytics.attribution import KINDS, Breakdown, BreakdownRow, breakdowns
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import (
    LONGEST_NAME,
    data_console,
    inert,
    plain_decimal,
    print_json,
    print_line,
    say,
    styled,
    table,
)
from fillpath.analytics.progress import Progress
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import find_run
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import FillpathError, NotFound

if TYPE_CHECKING:
    from rich.text import Text

    from fillpath.analytics.results_manager import ResultsManager

_USUAL: Final = "portfolio,strategy"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the beginning of a text."""


@contextmanager
def results_with(given: Invocation, wanted: str) -> Iterator[tuple[ResultsManager, str, bool]]:
    """Open the results with a run in them; tells its id, and whether the lake has it."""
    store = EventStore(given.folder)
    with results_of(given.folder) as results:
        try:
            with lake_connection(given.folder) as connection:
                run_id = find_run(connection, wanted)
        except NotFound:
            try:
                run_id = results.run(wanted).run_id
            except FillpathError:
                run_id = ""
            if not run_id:
                raise
            yield results, run_id, False
            return
        with Progress().step(f"Reckoning run {run_id}"):
            results.load(store, run_id)
        yield results, run_id, True


def show_attribution(
    given: Invocation, wanted: str, *, by: str | None, kind: str | None, csv: Path | None
) -> None:
    """Print the profit of a run, broken down.

    Raises:
        NotFound: There is no such run.
        UsageError: There is no such dimension or kind of amount.
        FillpathError: The lake or the results database cannot be used, or the file not written.
    """
    from fillpath.analytics.pnl_dimensions import known_dimensions

    names = known_dimensions((by if by is not None else _USUAL).split(","))
    kinds = (
        [] if kind is None else [one.strip().lower().replace("-", "_") for one in kind.split(",")]
    )
    breakdowns([], kinds)  # a kind that does not exist is told before anything is loaded
    with results_with(given, wanted) as (results, run_id, _):
        found = breakdowns(results.pnl_by(run_id, *names), kinds)
        failed = [a for a in results.reconcile(run_id) if a.status is ReconciliationStatus.FAILED]
    if csv is not None:
        _write_csv(csv, names, found)
    if given.json:
        print_json([one.document() for one in found])
    elif csv is not None:
        print_line(csv)
    else:
        _print(names, found)
    _warn(run_id, failed)


def _warn(run_id: str, failed: Sequence[AccountReconciliation]) -> None:
    """Say where profit is not what the engine's account says, or fills could not be counted."""
    notes: dict[str, str] = {}
    for one in failed:
        notes.setdefault(f"{one.portfolio} {one.account_id}".strip(), " ".join(one.notes))
    for name, note in notes.items():
        say(("✘ ", "bold red"), inert(f"{name} does not reconcile: {note}"))
    if notes:
        say(("  Try: ", "dim"), inert(f"fillpath attribution {run_id} --reconcile"))


def _write_csv(path: Path, names: Sequence[str], found: Sequence[Breakdown]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv_files.writer(file)
            writer.writerow([*names, "currency", "amount"])
            for one in found:
                for row in one.rows:
                    texts = [*row.names.values(), one.currency]
                    writer.writerow([*map(_harmless, texts), plain_decimal(row.amount)])
    except OSError as error:
        raise FillpathError(f"{path} cannot be written: {error.strerror or error}.") from error


def _harmless(text: str | None) -> str:
    """Keep a spreadsheet from taking a name for a formula."""
    given = text or ""
    return f"'{given}" if given.startswith(_FORMULA) else given


def _print(names: Sequence[str], found: Sequence[Breakdown]) -> None:
    console = data_console()
    if not found:
        console.print(styled(("The run has no profit: no fills, or none of this kind.", "dim")))
    for one in found:
        digits = report_format.currency_digits(one.currency, {})
        kinds = [kind for kind in KINDS if any(row.amounts.get(kind) for row in one.rows)]
        if "kind" in names or len(kinds) < 2:
            kinds = []
        columns = (*kinds, "amount")
        title = f"Profit and loss in {one.currency or 'a currency that was not named'}"
        labels = [name.replace("_", " ") for name in (*names, *columns)]
        drawn = table(labels, title=title, right=labels[len(names) :])
        for row, nameless in _lines(one.rows):
            amounts = [row.amounts.get(kind, ZERO) for kind in kinds]
            figures = [money(amount, digits) for amount in (*amounts, row.amount)]
            drawn.add_row(*(_name(*named, nameless) for named in row.names.items()), *figures)
        drawn.add_section()
        with exact_arithmetic():
            sums = [sum((row.amounts.get(kind, ZERO) for row in one.rows), ZERO) for kind in kinds]
        figures = [money(amount, digits, "bold") for amount in (*sums, one.total)]
        drawn.add_row(styled(("all", "bold")), *[""] * (len(names) - 1), *figures)
        console.print(drawn)


def _lines(rows: Iterable[BreakdownRow]) -> Iterator[tuple[BreakdownRow, str]]:
    """Yield the lines of a table, and what to call the strategy of each that has none.

    What is reclassified between strategies and a position they share is a line of its own.
    """
    for row in rows:
        netting, others = row.of_netting()
        if "strategy" not in row.names or row.names["strategy"] is not None or netting is None:
            yield row, "none"
            continue
        if others is not None:
            yield others, "none"
        yield netting, "netting"


def _name(dimension: str, value: str | None, nameless: str) -> Text:
    if value is None:
        return styled((nameless if dimension == "strategy" else "none", "dim"))
    return styled(inert(value, LONGEST_NAME))


def money(amount: Decimal | None, digits: int, style: str = "") -> Text:
    """Write an amount for a table; one that is not known is said to be so."""
    if amount is None:
        return styled(("not told", "dim"))
    figure = report_format.readable_money(amount, digits)
    colour = {"negative": "red", "positive": "", "zero": "dim"}[figure.tone]
    return styled((figure.text, f"{style} {colour}".strip()))
