"""`fillpath db retain`."""

from __future__ import annotations

import time

from fillpath.analytics.amounts import parse_age
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.output import data_console, print_json, say, styled, table
from fillpath.analytics.report_format import count
from fillpath.analytics.results_loading import results_of
from fillpath.instrumentation.errors import UsageError

_MOST_LINES = 40


def retain_results(
    given: Invocation, *, older_than: str | None, keep: int | None, yes: bool
) -> None:
    """Show which runs go from the results, and let them go if that is wanted.

    Raises:
        UsageError: Neither an age nor a number is given, or both, or an age that is none.
        FillpathError: The results database cannot be used.
    """
    if (older_than is None) == (keep is None):
        raise UsageError(
            "Which runs may go? Say so by age or by number.",
            next_command=given.command("db", "retain", "--older-than", "180d"),
        )
    before = None
    if older_than is not None:
        before = time.time_ns() - parse_age(older_than, "--older-than")
    with results_of(given.folder) as results:
        plan = results.retain(older_than=before, keep=keep, plan_only=not yes)
    if given.json:
        months = [f"{month:%Y-%m}" for month in plan.months]
        print_json({"done": yes, "runs": plan.runs, "months_dropped": months})
        return
    if not plan.runs:
        say("No run has to go.")
        return
    drawn = table(("run",))
    for run_id in plan.runs[:_MOST_LINES]:
        drawn.add_row(styled(run_id))
    console = data_console()
    console.print(drawn)
    if len(plan.runs) > _MOST_LINES:
        console.print(styled((f"… and {count(len(plan.runs) - _MOST_LINES)} more", "dim")))
    if plan.months:
        named = ", ".join(f"{month:%Y-%m}" for month in plan.months)
        console.print(styled(("all of ", "dim"), named))
    if yes:
        say((f"{count(len(plan.runs))} runs have gone from the results.", "green"))
    else:
        say(("Nothing was done yet. ", "yellow"), "To do it, add --yes.")
