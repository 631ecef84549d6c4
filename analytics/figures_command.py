"""`fillpath figures`: the tearsheet of a run on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.daily_returns import WHOLE_RUN
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_series import (
    FigureSeries,
    figure_series,
    reasons_in_words,
    without_doubles,
)
from fillpath.analytics.figure_text import UNDEFINED, figure_text
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import LONGEST_NAME, data_console, inert, print_json, styled, table
from fillpath.analytics.report_format import currency_digits
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.return_statistics import has_libraries
from fillpath.analytics.run_lookup import find_run
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import MissingExtra, NotFound

if TYPE_CHECKING:
    from rich.table import Table

    from fillpath.analytics.results_manager import ResultsManager


def loaded_figures(results: ResultsManager, store: EventStore, run_id: str) -> list[FigureSeries]:
    """Bring the results of a run up to date and read its figures.

    Raises:
        MissingExtra: The extra `statistics` is not installed.
        FillpathError: The run cannot be loaded.
    """
    if not has_libraries():
        raise MissingExtra("statistics", "to compute the figures of a run")
    results.load(store, run_id)
    series = figure_series(results.rows("figures", run_id))
    if any("sharpe" not in one.figures for one in series):
        # It was loaded where the extra was not installed.
        results.load(store, run_id, again=True)
        series = figure_series(results.rows("figures", run_id))
    return series


def show_figures(given: Invocation, wanted: str, *, portfolio: str | None) -> None:
    """Print the figures of a run.

    Raises:
        NotFound: There is no such run, or no such portfolio in it.
        MissingExtra: The extra `statistics` is not installed.
        FillpathError: The lake or the results database cannot be used.
    """
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
    with results_of(given.folder) as results:
        series = loaded_figures(results, EventStore(given.folder), run_id)
    if portfolio is not None:
        chosen = [one for one in series if one.portfolio == portfolio]
        if not chosen:
            names = sorted({one.portfolio for one in series if one.portfolio != WHOLE_RUN})
            known = ", ".join(inert(name, LONGEST_NAME) for name in names) or "none"
            raise NotFound(
                f"Run {run_id} has no portfolio '{portfolio}' with figures, but: {known}.",
                next_command=given.command("figures", run_id),
            )
        series = chosen
    if given.json:
        print_json(_document(run_id, series))
        return
    console = data_console()
    if not series:
        console.print(styled(f"Run {run_id} has no fills and no account, so no figures."))
        return
    shown = without_doubles(series)
    console.print(_drawn(shown))
    for why, labels in reasons_in_words(shown):
        console.print(styled((f"{UNDEFINED} {why}: {labels}", "dim")), soft_wrap=True)


def _document(run_id: str, series: Iterable[FigureSeries]) -> object:
    return {
        "run_id": run_id,
        "series": [
            {
                "portfolio": one.portfolio,
                "currency": one.currency,
                "figures": {
                    figure.name: one.figures.get(figure.name)
                    for figure in FIGURES
                    if figure.name in one.figures
                },
                "undefined": one.reasons(),
            }
            for one in series
        ],
    }


def _drawn(series: Sequence[FigureSeries]) -> Table:
    names = [f"{one.title} {one.currency}" for one in series]
    drawn = table(("", *names), title="Figures", right=names)
    for column, one in zip(drawn.columns[1:], series, strict=True):
        column.header = styled(f"{inert(one.title, LONGEST_NAME)} ", (one.currency, "dim"))
    group = ""
    for definition in FIGURES:
        if definition.group != group:
            group = definition.group
            drawn.add_section()
            drawn.add_row(styled((group, "bold")), *("" for _ in series))
        cells = []
        for one in series:
            digits = currency_digits(one.currency, {})
            figure = figure_text(definition, one.figures.get(definition.name), digits)
            red = figure.tone == "negative" and definition.unit in {"money", "ratio"}
            dim = figure.text == UNDEFINED
            cells.append(styled((figure.text, "red" if red else "dim" if dim else "")))
        drawn.add_row(styled(f"  {definition.label}"), *cells)
    return drawn
