"""What it takes to make the report of a run of a million events with twenty thousand fills.

The run is recorded and loaded once. A report then reads the results and what only the lake tells,
renders the page and writes it, all in one process; imports and the first report do not count. The
peer is pandas: it reads the same tables of the database, adds the slices up by the same dimensions,
and writes all of it with `DataFrame.to_html` (no charts, no traces, no filters); of the trades and
the equity as many rows as the page has. From the lake to the results is measured, too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import write_report
from fillpath.analytics.report_attribution import DIMENSIONS
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_exports import write_csv_files
from fillpath.analytics.report_trades import TradesTable
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder
from harness import Figure, Size, figure
from trading_run import record_trading_run

if TYPE_CHECKING:
    from fillpath.analytics.report_model import ReportData

_RUN: Final = "benchmark"
_MEGABYTE: Final = 1e6


def measure(size: Size) -> dict[str, Figure]:
    """Record a run, load it, and make its report again and again."""
    events = size.pick(4_000, 1_000_000, 1_000_000)
    fills, rounds = events // 50, size.pick(1, 5, 9)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = DataFolder(Path(scratch) / "data")
        record_trading_run(folder.path, _RUN, events, fills)
        store = EventStore(folder)
        with open_results_database(folder) as database, ResultsManager(database) as results:
            load = _seconds(lambda: results.load(store, _RUN, again=True))
            compute = _seconds(lambda: _compute(store))
            page, theirs, table = (Path(scratch) / name for name in ("a.html", "b.html", "csv"))
            made: list[ReportData] = []

            def ours() -> None:
                made[:] = [report_data(results, store, _RUN)]
                write_report(made[0], page)

            ours()
            inside = _trades_inside(made[0])
            taken = _in_turn([ours, lambda: _tables(results, theirs, inside)], rounds)
            render = _median(lambda: write_report(made[0], page), rounds)
            csv = _seconds(lambda: write_csv_files(results, _RUN, table))
            bytes_ours, bytes_theirs = page.stat().st_size, theirs.stat().st_size
    peer = "pandas, the same tables with to_html"
    return {
        "report": figure(
            taken[0], "s", peer=(peer, taken[1]), goal="< 5 s (wanted: 2 s)", at_most=5
        ),
        "of it, rendering and writing": figure(render, "s"),
        "page": figure(
            bytes_ours / _MEGABYTE,
            "MB",
            peer=(peer, bytes_theirs / _MEGABYTE),
            goal="≤ 3 MB",
            at_most=3,
        ),
        "trades in the page": figure(inside, "trades"),
        "CSV of every table": figure(csv, "s"),
        "lake to results": figure(load, "s"),
        "of it, computing": figure(compute, "s"),
    }


def _compute(store: EventStore) -> None:
    with store.connect([_RUN], further_views=()) as connection:
        compute_results(connection, _RUN)


def _trades_inside(data: ReportData) -> int:
    models = (filled.model for filled in data.sections)
    return sum(model.inside for model in models if isinstance(model, TradesTable))


def _tables(results: ResultsManager, path: Path, trades: int) -> None:
    """Make a page of the same tables with pandas."""
    import pandas as pd

    slices = pd.DataFrame(results.rows("pnl_slices", _RUN))
    parts = [
        slices.groupby([name, "currency", "kind"], dropna=False)["amount"].sum().to_frame()
        for name in DIMENSIONS
        if name in slices
    ]
    others = ("reconciliation", "completeness", "latency", "signals")
    parts += [pd.DataFrame(results.rows(name, _RUN)).head(1_000) for name in others]
    equity = pd.DataFrame(results.rows("equity", _RUN))
    parts.append(equity.iloc[:: max(1, len(equity) // 1_200)])
    parts.append(pd.DataFrame(results.rows("trades", _RUN)).head(trades))
    path.write_text("".join(part.to_html() for part in parts), encoding="utf-8")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _median(work: Callable[[], object], rounds: int) -> float:
    return statistics.median(_seconds(work) for _ in range(rounds))


def _in_turn(works: list[Callable[[], None]], rounds: int) -> list[float]:
    """The median of each, measured in turn."""
    taken = [[_seconds(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]
