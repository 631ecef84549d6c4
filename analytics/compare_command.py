"""`fillpath runs compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.figure_definitions import BY_NAME
from fillpath.analytics.figure_text import UNDEFINED
from fillpath.analytics.figure_words import amount_words, figure_label, figure_words, value_words
from fillpath.analytics.output import (
    HEADING,
    LONGEST_NAME,
    data_console,
    inert,
    print_json,
    styled,
    table,
)
from fillpath.analytics.results_loading import loaded_runs
from fillpath.analytics.run_comparison import ComparedLine, RunComparison, compare_runs
from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import RunSummary


_FACTS: Final[Mapping[str, Callable[[RunSummary], str]]] = {
    "status": lambda run: run.status or "",
    "engine": lambda run: f"{run.engine or ''} {run.engine_version or ''}".strip(),
    "code version": lambda run: (run.code_version or UNDEFINED)[:12],
    "seed": lambda run: run.seed or UNDEFINED,
}


def show_comparison(given: Invocation, wanted: Sequence[str]) -> None:
    """Print runs side by side; what is in the lake is loaded first.

    Raises:
        NotFound: There is no such run.
        UsageError: Fewer than two different ones are named.
        FillpathError: The lake or the results database cannot be used.
    """
    with loaded_runs(given.folder, wanted) as (results, run_ids):
        if len(set(run_ids)) < max(2, len(run_ids)):
            raise UsageError(
                "Name at least two different runs.", next_command=given.command("runs", "list")
            )
        found = compare_runs(results, run_ids)
    if given.json:
        print_json(_document(found))
    else:
        _print(found)


def _document(found: RunComparison) -> dict[str, object]:
    def lines(of: Sequence[ComparedLine]) -> list[dict[str, object]]:
        return [{**one.names, "values": one.values, "change": one.change} for one in of]

    return {
        "runs": [replace(run, portfolios=list(run.portfolios)) for run in found.runs],
        "parameters": found.parameters,
        "figures": lines(found.figures),
        "profit": lines(found.profit),
        "profit_by_strategy": lines(found.profit_by_strategy),
        "profit_by_symbol": lines(found.profit_by_symbol),
        "completeness": lines(found.completeness),
        "latency": lines(found.latency),
    }


def _print(found: RunComparison) -> None:
    names = [run.run_id for run in found.runs]
    facts = _FACTS.items()
    runs = [ComparedLine({"": name}, [tell(run) for run in found.runs]) for name, tell in facts]
    _draw("Runs", names, runs, lambda value, _: value_words(value), changes=False)
    different = [ComparedLine({"": key}, each) for key, each in found.parameters.items()]
    _draw(
        "Parameters that differ",
        names,
        different,
        lambda value, _: value_words(value),
        changes=False,
    )
    _draw("Figures", names, known_figures(found.figures), _figure)
    _draw("Profit and loss", names, found.profit, _money)
    _draw("by strategy", names, found.profit_by_strategy, _money)
    _draw("by symbol", names, found.profit_by_symbol, _money)
    _draw("Events", names, found.completeness, _count)
    _draw("Latency", names, found.latency, _duration)


def known_figures(lines: Sequence[ComparedLine]) -> list[ComparedLine]:
    """Leave out what no run has, and sort each series as `fillpath figures` does."""
    known = [line for line in lines if any(value is not None for value in line.values)]
    places = {name: place for place, name in enumerate(BY_NAME)}

    def key(line: ComparedLine) -> tuple[str, str, int]:
        names = line.names
        place = places.get(names["name"] or "", len(places))
        return names["portfolio"] or "", names["currency"] or "", place

    return sorted(known, key=key)


Tell = Callable[[Any, ComparedLine], str]


def _figure(value: Any, line: ComparedLine) -> str:
    return figure_words(line.names["name"] or "", value, line.names["currency"])


def _money(value: Any, line: ComparedLine) -> str:
    return amount_words(None if value is None else Decimal(value), line.names["currency"])


def _count(value: Any, _: ComparedLine) -> str:
    return UNDEFINED if value is None else report_format.count(value)


def _duration(value: Any, _: ComparedLine) -> str:
    return UNDEFINED if value is None else report_format.duration(value)


def _draw(
    title: str,
    runs: Sequence[str],
    lines: Sequence[ComparedLine],
    tell: Tell,
    *,
    changes: bool = True,
) -> None:
    if not lines:
        return
    names = list(lines[0].names)
    numbers = (*runs, "change") if changes else ()
    drawn = table((*names, *runs, *(("change",) if changes else ())), right=numbers)
    for line in lines:
        cells = [
            inert(figure_label(text) if name == "name" else text, LONGEST_NAME)
            for name, text in ((name, text or UNDEFINED) for name, text in line.names.items())
        ]
        cells += [tell(value, line) for value in line.values]
        if changes:
            cells.append(tell(line.change, line))
        drawn.add_row(*map(styled, cells))
    console = data_console()
    console.print(styled((title, HEADING)))
    console.print(drawn)
    console.print()
