"""`fillpath runs top` and `fillpath runs sweep`."""

from __future__ import annotations

from collections.abc import Sequence

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.figure_definitions import BY_NAME
from fillpath.analytics.figure_words import figure_words, parameter_words, value_words
from fillpath.analytics.output import (
    LONGEST_NAME,
    data_console,
    inert,
    print_json,
    say,
    styled,
    table,
)
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_figures import RankedRun, SweepGroup
from fillpath.analytics.run_filter import RunFilter


def show_top(
    given: Invocation,
    figure: str,
    limit: int,
    where: Sequence[str],
    *,
    portfolio: str,
    currency: str | None,
    lowest: bool,
) -> None:
    """Print the runs with the highest figure.

    Raises:
        UsageError: There is no such figure, or a condition is none.
        FillpathError: The results database cannot be used.
    """
    conditions = RunFilter.parse(where)
    with results_of(given.folder) as results:
        found = results.top_runs(
            figure,
            limit,
            where=conditions,
            portfolio=portfolio,
            currency=currency,
            lowest=lowest,
        )
    if given.json:
        print_json({"figure": figure, "portfolio": portfolio, "runs": found})
    elif found:
        _print_top(figure, found)
        say_mixed(figure, [run.currency for run in found])
    else:
        _say_none(given)


def show_sweep(
    given: Invocation,
    parameters: Sequence[str],
    figure: str,
    where: Sequence[str],
    *,
    portfolio: str,
    currency: str | None,
    lowest: bool,
) -> None:
    """Print what became of a figure by the values of parameters.

    Raises:
        UsageError: There is no such figure, or a condition is none.
        FillpathError: The results database cannot be used.
    """
    conditions = RunFilter.parse(where)
    with results_of(given.folder) as results:
        groups = results.sweep(
            parameters,
            figure,
            where=conditions,
            portfolio=portfolio,
            currency=currency,
            lowest=lowest,
        )
    if given.json:
        print_json({"figure": figure, "portfolio": portfolio, "over": parameters, "groups": groups})
    elif groups:
        _print_sweep(figure, parameters, groups, lowest=lowest)
        for name in parameters:
            if all(group.values[name] is None for group in groups):
                say(f"No run that is loaded has a value for the parameter {inert(name)}.")
    else:
        _say_none(given)


def _say_none(given: Invocation) -> None:
    say("No run that is loaded is meant by that.")
    say(("  Try: ", "bold"), given.command("db", "load", "--all"))


def say_mixed(figure: str, currencies: Sequence[str | None]) -> None:
    """Say so where amounts in several currencies stand in one order."""
    definition = BY_NAME.get(figure)
    several = sorted({currency for currency in currencies if currency})
    if definition is not None and definition.unit == "money" and len(several) > 1:
        say(f"Amounts in {', '.join(several)} are not comparable; --currency takes those in one.")


def _in_run(portfolio: str) -> str:
    """Say which of a run's backtests is meant, if it holds several."""
    return f" {inert(portfolio, LONGEST_NAME)}" if portfolio else ""


def _print_top(figure: str, found: Sequence[RankedRun]) -> None:
    drawn = table(
        ("", "run", figure, "currency", "started (UTC)", "status", "parameters"),
        right=("", figure),
    )
    drawn.columns[1].no_wrap = True  # ids are copied
    for place, run in enumerate(found, start=1):
        started = run.started_at
        drawn.add_row(
            styled((place, "dim")),
            styled((run.run_id, "bold"), (_in_run(run.portfolio), "")),
            styled(figure_words(figure, run.value, run.currency)),
            styled(run.currency),
            styled("" if started is None else report_format.date(started)),
            styled(run.status or ""),
            styled((parameter_words(run.parameters), "dim")),
        )
    data_console().print(drawn)


def _print_sweep(
    figure: str, parameters: Sequence[str], groups: Sequence[SweepGroup], *, lowest: bool
) -> None:
    numbers = ("runs", "mean", "lowest", "highest")
    drawn = table((*parameters, "currency", *numbers, "best run"), right=numbers)
    best = (min if lowest else max)(group.low if lowest else group.high for group in groups)
    for group in groups:
        style = "bold" if best in {group.low, group.high} else ""
        drawn.add_row(
            *(styled((value_words(value), style)) for value in group.values.values()),
            styled(group.currency),
            styled(report_format.count(group.runs)),
            styled((figure_words(figure, group.mean, group.currency), style)),
            styled(figure_words(figure, group.low, group.currency)),
            styled(figure_words(figure, group.high, group.currency)),
            styled(group.best_run, _in_run(group.best_portfolio)),
        )
    data_console().print(drawn)
