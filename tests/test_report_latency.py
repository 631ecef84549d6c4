"""The latency of a report: its numbers are those of the run's events."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fillpath.analytics.latency import Durations
from fillpath.analytics.latency_measuring import measure
from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report_latency import LatencySection, read_latency
from fillpath.analytics.report_sections import ReportSource
from fillpath.analytics.results_manager import ResultsManager
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import Market


@dataclass
class Read:
    """A run's section, and what it is made of."""

    folder: Path
    section: LatencySection
    durations: Durations
    traces: set[str]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    folder = tmp_path_factory.mktemp("report") / "data"
    with Tracing("run", data=folder, writer="inline") as tracing:
        markets = [
            Market(tracing, portfolio="fund/a", strategy="Trend-1"),
            Market(tracing, portfolio="fund/b", strategy="Mean-2"),
            Market(tracing, portfolio="fund/b", strategy="Pairs-3"),
        ]
        for _ in range(2):
            for number, market in enumerate(markets):
                for _ in range(9 + number):
                    market.trade(others=1)
            time.sleep(1.02)
        for market in markets:
            market.finish()
    data = DataFolder(folder)
    store = EventStore(data)
    with (
        open_results_database(data) as database,
        ResultsManager(database) as results,
        store.connect(["run"]) as connection,
    ):
        results.load(store, "run")
        source = ReportSource(results, store, connection, results.run("run"), {})
        traces = {trace for (trace,) in connection.execute("SELECT trace_id FROM spans").fetchall()}
        yield Read(folder, read_latency(source), measure(connection, "run", live=False), traces)


def test_hops_strategies_and_handlers_are_those_of_the_events(read: Read) -> None:
    section, durations = read.section, read.durations
    for rows, key in (
        (section.hops, lambda g: (g.hop, g.portfolio, None, None)),
        (
            section.by_strategy,
            lambda g: None if g.is_handled else (g.hop, g.portfolio, g.strategy, None),
        ),
        (
            section.handlers,
            lambda g: (g.hop, g.portfolio, g.strategy, g.handler) if g.is_handled else None,
        ),
    ):
        expected = {
            found: (one.histogram.count, *one.quantiles, one.histogram.max)
            for (found, _), one in durations.summaries(key).items()
        }
        shown = {
            (row.hop, row.portfolio, row.strategy, row.handler): (
                row.count, row.p50, row.p90, row.p99, row.max,
            )
            for row in rows
        }  # fmt: skip
        assert shown == expected
        assert len(shown) == len(rows) > 0
        assert {row.trace_id for row in rows} <= read.traces
    assert [row.p99 for row in section.handlers] == sorted(
        (row.p99 for row in section.handlers), reverse=True
    )


def test_periods_have_all_fills_and_quantiles_within_the_bound_they_tell(read: Read) -> None:
    (over_time,) = read.section.over_time
    assert over_time.hop == "BAR → FILL"
    assert len(over_time.points) >= 2
    exact = read.durations.summaries(
        lambda group: True if group.hop == over_time.hop else None, over_time.period
    )
    assert [point.start for point in over_time.points] == sorted(
        start for _, start in exact if start is not None
    )
    for point in over_time.points:
        one = exact[True, point.start]
        assert (point.count, point.max) == (one.histogram.count, one.histogram.max)
        told = (point.p50, point.p90, point.p99)
        for quantile, true in zip(told, one.quantiles, strict=True):
            assert true is not None
            assert abs(quantile - true) <= true * over_time.relative_error + 0.5
        assert point.trace_id in read.traces
    assert over_time.relative_error < 0.05


def test_the_slowest_chains_are_the_runs(read: Read) -> None:
    whole, durations = read.section.slowest, read.durations
    fills = [
        duration
        for group, duration in zip(
            durations.group.tolist(), durations.duration.tolist(), strict=True
        )
        if durations.groups[group].hop == "BAR → FILL"
    ]
    # Each fill of this market is in a trace of its own.
    assert [chain.duration for chain in whole] == sorted(fills, reverse=True)[:10]
    assert {chain.strategy for chain in whole} <= {"Trend-1", "Mean-2", "Pairs-3"}


def test_the_example_of_the_page_adds_up_the_runs_that_are_loaded(
    read: Read, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "latency.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("FILLPATH_DATA", str(read.folder))
    exec(compile(example, "docs/latency.md", "exec"), {})  # noqa: S102 - our own page
    told = capsys.readouterr().out.split()
    summaries = read.durations.summaries(lambda group: group.hop)
    fills = summaries["BAR → FILL", None].histogram
    assert told == [
        str(one)
        for one in (fills.count, fills.quantile(50), fills.quantile(99), fills.relative_error)
    ]
