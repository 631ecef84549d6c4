"""Every number that the report of a real run shows equals one reckoned another way.

Money, trades and lots, figures of days and trades, costs of orders, signals, regimes and latency
are reckoned from the events in plain loops. A figure on the page that nobody reckoned fails the
test too, so that a new figure brings its own reckoning.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import render_report
from fillpath.analytics.report_data import report_data
from fillpath.analytics.results_manager import ResultsManager
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from numbers_shown import Place, digits_shown, numbers_shown
from reckoned_by_hand import Reckoning
from reckoned_page import reckoned_page

HERE = Path(__file__).parent
HOME_MADE = HERE.parent / "examples" / "trace_home_made_bus.py"
SCORED = HERE / "hosts" / "scored_signals_bus.py"
SECTIONS = {
    *("accounts", "completeness", "equity", "tearsheet", "attribution", "pnl", "funnel"),
    *("signals", "regimes", "orders", "executions", "latency", "trades", "all-trades"),
}
# When it was recorded, and by what.
NO_RESULTS = {"Recorded", "fillpath"}


@dataclass
class Report:
    """The page of a run, and what it must show."""

    page: str
    expected: dict[Place, list[str]]
    engine: str

    def differences(self, page: str | None = None) -> dict[Place, str]:
        """Every figure of the page that is not the one that was reckoned, or that is missing."""
        shown = numbers_shown(self.page if page is None else page)
        found = {}
        for place, figures in sorted(shown.items()):
            if place.column in NO_RESULTS:
                continue
            if place not in self.expected:
                found[place] = f"nobody reckoned it: {figures}"
            elif figures != self.expected[place]:
                found[place] = f"{figures} are shown, and it is {self.expected[place]}"
        for place, figures in sorted(self.expected.items()):
            # An engine does not say all that it is compared with, and a page has not every trace.
            said = place.section != "accounts" or place.column not in {self.engine, "Difference"}
            if place not in shown and said and place.column != "took":
                found[place] = f"it is missing: {figures}"
        return found


def run_of(script: Path, *arguments: str, data: Path, run_id: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    recording = ["--data", str(data), "--run-id", run_id, "--writer", "inline"]
    command = [sys.executable, "-m", "fillpath.instrumentation", *recording, str(script)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultsManager]:
    folder = DataFolder(tmp_path_factory.mktemp("results"))
    with open_results_database(folder) as database, ResultsManager(database) as manager:
        yield manager


def page_of(data: Path, results: ResultsManager, run_id: str) -> str:
    store = EventStore(DataFolder(data))
    results.load(store, run_id)
    return render_report(report_data(results, store, run_id))


def reckoned(data: Path, run_id: str) -> Reckoning:
    with EventStore(DataFolder(data)).connect([run_id]) as connection:
        cursor = connection.execute("SELECT * FROM spans ORDER BY sequence")
        names = [column[0] for column in cursor.description or ()]
        return Reckoning([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


def report_of(
    script: Path, run_id: str, data: Path, results: ResultsManager, *arguments: str
) -> Report:
    run_of(script, *arguments, data=data, run_id=run_id)
    engine = "NautilusTrader" if "nautilus" in script.name else "Bus"
    page = page_of(data, results, run_id)
    return Report(page, reckoned_page(reckoned(data, run_id), engine), engine)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, results: ResultsManager) -> Report:
    return report_of(SCORED, "scored", tmp_path_factory.mktemp("scored"), results)


def test_every_number_of_a_home_made_engines_report_is_right(
    tmp_path: Path, results: ResultsManager
) -> None:
    report = report_of(HOME_MADE, "home-made", tmp_path, results)
    assert len(numbers_shown(report.page)) > 1000
    assert not report.differences()


def test_every_number_of_a_report_on_scored_signals_and_told_regimes_is_right(
    scored: Report,
) -> None:
    shown = numbers_shown(scored.page)
    assert len(shown) > 1000
    assert {place.section for place in shown} == SECTIONS | {"header"}
    assert not scored.differences()


def test_every_number_of_a_nautilus_traders_report_is_right(
    tmp_path: Path, results: ResultsManager
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed")
    host = HERE / "hosts" / "nautilus_brackets.py"
    report = report_of(host, "brackets", tmp_path, results, str(tmp_path / "engine.json"))
    assert len(numbers_shown(report.page)) > 1500
    assert not report.differences()
    assert "checks hold" in report.page
    assert "checks fail" not in report.page


def test_a_new_number_is_found(scored: Report) -> None:
    new = scored.page.replace(
        '<dl class="facts">', '<dl class="facts"><div><dt>New</dt><dd>7</dd></div>', 1
    )
    (found,) = scored.differences(new).values()
    assert found.startswith("nobody reckoned")


def test_a_digit_that_is_changed_anywhere_is_found(scored: Report) -> None:
    """One digit of every column of every table is changed, and a tenth of all others by chance."""
    chance = random.Random(5)
    spots = [one for one in digits_shown(scored.page) if one[0].column not in NO_RESULTS]
    assert len(spots) > 3000
    by_column: dict[tuple[str, str, str], list[tuple[Place, int]]] = {}
    for place, position in spots:
        key = (place.section, place.table, place.column)
        by_column.setdefault(key, []).append((place, position))
    chosen = dict(chance.sample(spots, len(spots) // 10))
    chosen |= dict(chance.choice(own) for own in by_column.values())
    assert {place.section for place in chosen} == SECTIONS | {"header"}
    # What names a table or a row is changed alone: all that stands there is then missing.
    names = {"heading", "From", "Simulated time"}
    alone = [place for place in chosen if place.column in names]
    assert alone
    for places in [*([one] for one in alone[:8]), [one for one in chosen if one not in alone]]:
        damaged = list(scored.page)
        for place in places:
            others = [one for one in "0123456789" if one != damaged[chosen[place]]]
            damaged[chosen[place]] = chance.choice(others)
        found = scored.differences("".join(damaged))
        assert found if places[0].column in names else set(places) <= set(found)
