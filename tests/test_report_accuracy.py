"""Every number that the report of a real run shows equals one reckoned by hand from its events.

A figure on the page that nobody reckoned fails the test too, so that a new figure brings its own
reckoning.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from numbers_shown import Place, numbers_shown
from reckoned_by_hand import Reckoning

HERE = Path(__file__).parent
RUN = "run"
# Wall-clock figures, of which tests/test_latency.py and others have the oracle.
RECKONED_ELSEWHERE = {"latency"}
# When it was recorded, and by what.
NO_RESULTS = {"Recorded", "fillpath"}


def run_of(script: Path, *arguments: str, data: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    recording = ["--data", str(data), "--run-id", RUN, "--writer", "inline"]
    command = [sys.executable, "-m", "fillpath.instrumentation", *recording, str(script)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def page_of(data: Path) -> str:
    page = data / "report.html"
    command = [str(Path(sys.executable).with_name("fillpath")), "--data", str(data)]
    done = subprocess.run(
        [*command, "report", RUN, "-o", str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return page.read_text(encoding="utf-8")


def reckoned(data: Path) -> Reckoning:
    with EventStore(DataFolder(data)).connect([RUN]) as connection:
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
        if place not in expected:
            found.append(f"nobody reckoned {place}: {figures}")
        elif figures != expected[place]:
            found.append(f"{place} shows {figures}, and it is {expected[place]}")
    for place, figures in sorted(expected.items()):
        # An engine does not say all that it is compared with.
        said = place.section != "accounts" or place.column not in {engine, "Difference"}
        if place not in shown and said:
            found.append(f"{place} is missing: {figures}")
    return found


def test_every_number_of_a_home_made_engines_report_is_right(tmp_path: Path) -> None:
    run_of(HERE.parent / "examples" / "trace_home_made_bus.py", data=tmp_path)
    shown = numbers_shown(page_of(tmp_path))
    assert len(shown) > 300
    assert not differences(shown, reckoned(tmp_path).expected("Bus"), "Bus")


def test_every_number_of_a_nautilus_traders_report_is_right(tmp_path: Path) -> None:
    pytest.importorskip("nautilus_trader", reason="the engine is not installed")
    host = HERE / "hosts" / "nautilus_brackets.py"
    run_of(host, str(tmp_path / "engine.json"), data=tmp_path)
    shown = numbers_shown(page_of(tmp_path))
    assert len(shown) > 300
    engine = "NautilusTrader"
    assert not differences(shown, reckoned(tmp_path).expected(engine), engine)
