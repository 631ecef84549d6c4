"""A run's report in a notebook: a card with its figures, and the whole page on demand.

The card is one piece of HTML without a script. It takes no style from the notebook and gives it
none, and every name in it is text.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fillpath.analytics.report_equity import Curve, curve
from fillpath.analytics.report_model import ReportData
from fillpath.instrumentation.errors import MissingExtra

if TYPE_CHECKING:
    from fillpath.instrumentation.settings import DataFolder

MOST_ROWS: Final = 15
"""Rows of the card's table; the others are counted."""
MOST_CURVES: Final = 4
"""Accounts that the card draws."""
WIDTH: Final = 640
HEIGHT: Final = 90
_POINTS: Final = 320


@dataclass(frozen=True, slots=True)
class DrawnCurve:
    """An account's curve as a line of an SVG drawing.

    Attributes:
        curve: What it was made from.
        line: The line's points, for an attribute.
    """

    curve: Curve
    line: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """The report of a run; a notebook shows it as a card.

    Attributes:
        data: Everything it shows.
    """

    data: ReportData

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole report as one HTML file; gives its absolute path.

        Raises:
            MissingExtra: The extra `report` is not installed.
            FillpathError: The file cannot be written.
        """
        from fillpath.analytics.report import write_report

        return write_report(self.data, Path(path))

    def _repr_html_(self) -> str:
        return notebook_card(self.data)


def report_of(
    run: str = "latest",
    *,
    data: str | os.PathLike[str] | DataFolder | None = None,
    lake: str | os.PathLike[str] | None = None,
) -> RunReport:
    """Bring the results of a run up to date and give its report, for a notebook.

    Args:
        run: The run's id, a unique beginning of it, or ``latest``.
        data: The data folder; else ``FILLPATH_DATA``, else the user's data directory.
        lake: Where the lake is; else ``FILLPATH_LAKE``, else in the data folder.

    Raises:
        NotFound: There is no such run.
        FillpathError: The lake or the results cannot be read.
    """
    from fillpath.analytics.lake_reading import current_store
    from fillpath.analytics.report_data import report_data
    from fillpath.analytics.results_loading import results_of
    from fillpath.analytics.run_lookup import find_run
    from fillpath.analytics.trace_links import configured_links
    from fillpath.instrumentation.settings import DataFolder, data_folder

    folder = data if isinstance(data, DataFolder) else data_folder(data, lake)
    store = current_store(folder)
    with store.connect(further_views=()) as connection:
        run_id = find_run(connection, run)
    command = ["fillpath"] if data is None else ["fillpath", "--data", str(folder.path)]
    with results_of(folder) as results:
        results.load(store, run_id)
        return RunReport(
            report_data(results, store, run_id, command=command, viewers=configured_links())
        )


def notebook_card(data: ReportData) -> str:
    """Return a report's card as HTML that can stand in any page.

    Raises:
        MissingExtra: The extra `report` is not installed.
    """
    try:
        from fillpath.analytics.report_environment import report_environment
    except ModuleNotFoundError as missing:
        if missing.name not in {"altair", "jinja2", "markupsafe"}:
            raise
        raise MissingExtra("report", "to show a report in a notebook") from missing
    rows = sorted(data.pnl_by_strategy, key=lambda row: abs(row.amounts.total), reverse=True)
    shown = {id(row) for row in rows[:MOST_ROWS]}
    template = report_environment(data, frozenset()).get_template("notebook.html")
    return template.render(
        anchor="fillpath-"
        + hashlib.sha256(data.run.run_id.encode("utf-8", "replace")).hexdigest()[:12],
        run=data.run,
        data=data,
        rows=[row for row in data.pnl_by_strategy if id(row) in shown],
        left_out=len(rows) - len(shown),
        curves=list(_curves(data)),
        more_curves=max(0, len([one for one in data.equity if one.points]) - MOST_CURVES),
        size=(WIDTH, HEIGHT),
    )


def _anchor(run_id: str) -> str:
    return f"fillpath-{hashlib.sha256(run_id.encode(errors='replace')).hexdigest()[:12]}"


def _curves(data: ReportData) -> Iterable[DrawnCurve]:
    drawn = [series for series in data.equity if series.points][:MOST_CURVES]
    for series in drawn:
        made = curve(series, _POINTS)
        yield DrawnCurve(made, _line(made))


def _line(made: Curve) -> str:
    times = [point.at.time for point in made.drawn]
    values = [point.value for point in made.drawn]
    left, right = times[0], max(times[-1], times[0] + 1)
    low, high = min(values), max(values)
    spread = high - low or Decimal(1)
    return " ".join(
        f"{(time - left) / (right - left) * WIDTH:.1f},"
        f"{HEIGHT - 4 - float((value - low) / spread) * (HEIGHT - 8):.1f}"
        for time, value in zip(times, values, strict=True)
    )
