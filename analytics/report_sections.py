"""The sections of a report, in the order of the page, and what each reads for itself.

A section is a template and a function that reads what the template shows. To add one, write
``report_<area>.py`` with ``read_<area>(source)`` and ``templates/_<area>.html``, and put one line
into `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fillpath.analytics.report_attribution import NO_ATTRIBUTION, read_attribution
from fillpath.analytics.report_executions import read_executions
from fillpath.analytics.report_latency import NO_LATENCY, read_latency
from fillpath.analytics.report_regimes import read_regimes
from fillpath.analytics.report_signals import read_signals
from fillpath.analytics.report_tearsheet import read_tearsheet
from fillpath.analytics.report_trades import read_trades

if TYPE_CHECKING:
    import duckdb

    from fillpath.analytics.results_manager import ResultsManager, RunSummary
    from fillpath.exporters.event_store import EventStore


@dataclass(frozen=True, slots=True)
class ReportSource:
    """Where a section reads from.

    Attributes:
        results: Where the run is loaded.
        store: The lake that it was loaded from.
        connection: Has the views ``spans`` and ``runs`` of this run.
        run: The run.
        currency_digits: Decimal places of the currencies that have not the usual ones.
    """

    results: ResultsManager
    store: EventStore
    connection: duckdb.DuckDBPyConnection
    run: RunSummary
    currency_digits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor: lower-case letters and dashes.
        title: Its heading, and its entry in the contents.
        template: File in `folder`. It writes a ``<section>`` with `key` as its id, and is
            given `section` (what `read` gave), every macro as ``ui.…``, and every filter.
        read: Reads what the template shows; None leaves the section out.
        folder: Where `template` is; None for our own ``templates/``.
    """

    key: str
    title: str
    template: str
    read: Callable[[ReportSource], object | None]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class FilledSection:
    """A section with what was read for it."""

    section: Section
    model: object


def _of_the_report(_: ReportSource) -> object:
    """A section of which everything is in `ReportData`."""
    return True


def _attribution(source: ReportSource) -> object:
    return read_attribution(source) or NO_ATTRIBUTION


SECTIONS: Final = (
    Section("accounts", "Result and account", "_accounts.html", _of_the_report),
    Section("completeness", "Completeness", "_completeness.html", _of_the_report),
    Section("equity", "Equity and drawdown", "_equity.html", _of_the_report),
    Section("tearsheet", "Tearsheet", "_tearsheet.html", read_tearsheet),
    Section("attribution", "Attribution", "_attribution.html", _attribution),
    Section("funnel", "Signals to fills", "_funnel.html", _of_the_report),
    Section("signals", "Signal strength", "_signals.html", read_signals),
    Section("regimes", "Market regimes", "_regimes.html", read_regimes),
    Section("orders", "Orders", "_orders.html", _of_the_report),
    Section("executions", "Slippage and shortfall", "_executions.html", read_executions),
    Section("latency", "Latency", "_latency.html", read_latency),
    Section("all-trades", "Trades", "_all_trades.html", read_trades),
    Section("trades", "Largest trades", "_trades.html", _of_the_report),
    Section("appendix", "Definitions", "_appendix.html", _of_the_report),
)
"""Every section, in the order of the page."""

_WITHOUT_ROWS: Final[Mapping[str, object]] = {
    "attribution": NO_ATTRIBUTION,
    "latency": NO_LATENCY,
}
ALWAYS: Final = tuple(
    FilledSection(section, _WITHOUT_ROWS.get(section.key, True))
    for section in SECTIONS
    if section.read is _of_the_report or section.key in _WITHOUT_ROWS
)
"""The sections that say what they would show when there is nothing."""


def read_sections(source: ReportSource) -> tuple[FilledSection, ...]:
    """Read every section of the page; those that have nothing to show are left out."""
    models = ((section, section.read(source)) for section in SECTIONS)
    return tuple(FilledSection(section, model) for section, model in models if model is not None)
