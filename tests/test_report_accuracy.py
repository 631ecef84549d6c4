"""Every number that the report of a real run shows equals one reckoned by hand from its events.

A figure on the page that nobody reckoned fails the test too, so that a new figure brings its own
reckoning.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import render_report
from fillpath.analytics.report_data import report_data
from fillpath.analytics.results_manager import ResultsManager
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from numbers_shown import Place, numbers_shown
from reckoned_by_hand import Reckoning

HERE = Path(__file__).parent
# Their figures are reckoned another way where their rows are tested: from wall clocks, by empyrical
# and scipy, or by sums over rows.
RECKONED_ELSEWHERE = {"latency", "tearsheet", "signals", "regimes", "executions"}
# Which lot belongs to which of their rows is tested with the ledger; here, that the rows of each
# add up to the total that was reckoned by hand.
ADDED_UP = {
    f"By {name}, USD" for name in ("signal", "side", "regime", "exit reason", "holding time")
}
# When it was recorded, and by what.
NO_RESULTS = {"Recorded", "fillpath"}


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


def differences(
    shown: dict[Place, list[str]], expected: dict[Place, list[str]], engine: str
) -> list[str]:
    found = []
    for place, figures in sorted(shown.items()):
        if place.section in RECKONED_ELSEWHERE or place.column in NO_RESULTS:
            continue
        if place.table in ADDED_UP:
            found += _not_adding_up(place, shown, expected)
        elif place not in expected:
            found.append(f"nobody reckoned {place}: {figures}")
        elif figures != expected[place]:
            found.append(f"{place} shows {figures}, and it is {expected[place]}")
    for place, figures in sorted(expected.items()):
        # An engine does not say all that it is compared with.
        said = place.section != "accounts" or place.column not in {engine, "Difference"}
        if place not in shown and said:
            found.append(f"{place} is missing: {figures}")
    return found


def _not_adding_up(
    place: Place, shown: dict[Place, list[str]], expected: dict[Place, list[str]]
) -> list[str]:
    if place.row != "Total":
        return []
    total = expected.get(replace(place, table="By portfolio, USD"))
    rows = [
        figures[0]
        for other, figures in shown.items()
        if replace(other, row="Total") == place and other != place
    ]
    added = sum(Decimal(row.replace(",", "").replace("\u2212", "-")) for row in rows)
    (figure,) = shown[place]
    if [figure] != total or added != Decimal(figure.replace(",", "").replace("\u2212", "-")):
        return [f"{place} shows {figure}; the rows give {added}, and it is {total}"]
    return []


def test_every_number_of_a_home_made_engines_report_is_right(
    tmp_path: Path, results: ResultsManager
) -> None:
    script = HERE.parent / "examples" / "trace_home_made_bus.py"
    run_of(script, data=tmp_path, run_id="home-made")
    shown = numbers_shown(page_of(tmp_path, results, "home-made"))
    assert len(shown) > 300
    expected = reckoned(tmp_path, "home-made").expected("Bus")
    assert not differences(shown, expected, "Bus")


def test_every_number_of_a_nautilus_traders_report_is_right(
    tmp_path: Path, results: ResultsManager
) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed")
    host = HERE / "hosts" / "nautilus_brackets.py"
    run_of(host, str(tmp_path / "engine.json"), data=tmp_path, run_id="brackets")
    shown = numbers_shown(page_of(tmp_path, results, "brackets"))
    assert len(shown) > 300
    expected = reckoned(tmp_path, "brackets").expected("NautilusTrader")
    assert not differences(shown, expected, "NautilusTrader")


def test_a_wrong_and_a_new_number_are_found(tmp_path: Path, results: ResultsManager) -> None:
    script = HERE.parent / "examples" / "trace_home_made_bus.py"
    run_of(script, data=tmp_path, run_id="damaged")
    page = page_of(tmp_path, results, "damaged")
    expected = reckoned(tmp_path, "damaged").expected("Bus")
    wrong = page.replace("+13,991.32", "+13,991.33", 1)
    (found,) = differences(numbers_shown(wrong), expected, "Bus")
    assert "shows ['+13,991.33']" in found
    new = page.replace(
        '<dl class="facts">', '<dl class="facts"><div><dt>New</dt><dd>7</dd></div>', 1
    )
    (found,) = differences(numbers_shown(new), expected, "Bus")
    assert found.startswith("nobody reckoned")
