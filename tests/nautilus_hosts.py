"""Runs NautilusTrader host scripts, alone and traced, and reads what was recorded of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

ENDS_IN_ERROR: Final = {"nautilus_user_error"}
BY_WALL_CLOCK: Final = {"nautilus_live"}
_RANDOM_SNAPSHOT_ID: Final = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME: Final = re.compile(  # of ids too: an order's, or a hash of one that makes a fill's
    r"\d{8}-\d{6}-|T-[0-9a-f]{16}-|\b\d{19}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*"
)
Row = dict[str, Any]


@dataclass
class TracedHost:
    """One host script, run alone and run traced."""

    name: str
    plain: str
    traced: str
    data: DataFolder

    @property
    def truth(self) -> list[Row]:
        runs: list[Row] = json.loads(self.traced)["runs"]
        return runs

    def rows(self, query: str) -> list[Row]:
        return rows_of(self.data, query)


def rows_of(data: DataFolder, query: str) -> list[Row]:
    """Rows of a query over the lake, as maps."""
    with EventStore(data).connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def run_host(script: Path, report: Path, *, data: Path | None = None, run_id: str = "host") -> str:
    """Run a host script, traced if a data folder is given; gives the engine's own report."""
    command = [sys.executable, str(script), str(report)]
    if data is not None:
        recording = ["--data", str(data), "--run-id", run_id, "--writer", "inline"]
        mode = ["--mode", "live"] if script.stem in BY_WALL_CLOCK else []
        command[1:1] = ["-m", "fillpath.instrumentation", *recording, *mode]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    # The engine cancels the legs of a bracket in the order of a set, which follows this seed.
    environment["PYTHONHASHSEED"] = "0"
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    expected = 1 if script.stem in ENDS_IN_ERROR else 0
    assert done.returncode == expected, done.stderr[-4000:]
    return _RANDOM_SNAPSHOT_ID.sub("", report.read_text(encoding="utf-8"))


def without_times(report: str) -> list[Row]:
    """A report without wall-clock times, and in an order that does not follow from them."""
    runs: list[Row] = json.loads(_TIME.sub("0", report))["runs"]
    for run in runs:
        del run["published"]["events.account.*"]  # so many a second
        for table in run.values():
            if isinstance(table, list):
                table.sort(key=repr)
    return runs
