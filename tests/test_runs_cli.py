"""`fillpath runs …` and `fillpath db …` as a user types them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.cli import main
from fillpath.analytics.compare_command import known_figures
from fillpath.analytics.migrate import apply_migrations, read_migrations
from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report_format import MINUS
from fillpath.analytics.results_manager import ResultsManager, RunSummary
from fillpath.analytics.run_comparison import ComparedLine
from fillpath.analytics.run_show import event_words
from fillpath.analytics.shard_load import TableRows, copy_rows
from fillpath.analytics.top_runs import say_mixed
from fillpath.instrumentation.errors import EXIT_NOT_FOUND, EXIT_OK, EXIT_USAGE
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, record_market

NEWEST = read_migrations()[-1].version


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two runs in the lake; nothing is loaded."""
    path = tmp_path_factory.mktemp("recorded") / "data"
    record_market(path, "alpha", trades=1, strategy=HOSTILE)
    record_market(path, "beta", trades=2)
    return path


@pytest.fixture(scope="module")
def data(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same with a database that goes on running, so that every command finds it."""
    path = tmp_path_factory.mktemp("loaded") / "data"
    shutil.copytree(recorded, path)
    with open_results_database(DataFolder(path)) as database:
        assert main(["--data", str(path), "db", "load", "--all"]) == EXIT_OK
        with database.connect() as connection:
            for run_id, sharpe, fast in (("alpha", 1.5, 10), ("beta", -0.25, 20)):
                connection.execute(
                    "UPDATE runs SET parameters = parameters || %s::jsonb WHERE run_id = %s",
                    [json.dumps({"fast": fast}), run_id],
                )
                connection.execute("DELETE FROM figures WHERE run_id = %s", [run_id])
                rows = TableRows(
                    ("portfolio", "currency", "name", "value"), [("", "", "sharpe", sharpe)]
                )
                copy_rows(connection, "figures", rows.columns, rows.rows, {"run_id": run_id})
        yield path


def said(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> Any:
    capsys.readouterr()
    assert main(["--data", str(data), *words, "--json"]) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> str:
    capsys.readouterr()
    assert main(["--data", str(data), *words]) == EXIT_OK
    return capsys.readouterr().out


@pytest.mark.smoke
def test_a_run_is_shown_with_what_it_came_to(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(capsys, data, "runs", "show", "beta")
    assert found["run"]["run_id"] == "beta"
    assert found["counts"] == {"orders": 5, "fills": 4, "trades": 2}
    assert sum(Decimal(line["total"]) for line in found["profit"]) == Decimal("-30.00")
    assert found["figures"] == [{"portfolio": "", "currency": "", "name": "sharpe", "value": -0.25}]
    assert found["completeness"]["published"] == found["completeness"]["kept"] > 0
    assert found["next"][-1].endswith("report beta --open")
    text = shown(capsys, data, "runs", "show", "alpha")
    for part in ("Ended · backtest", "2 fills", f"{MINUS}15.00", "Sharpe ratio", "1.5"):
        assert part in text
    assert HOSTILE.isprintable() or HOSTILE not in text


def test_runs_are_compared(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, data, "runs", "compare", "alpha", "beta")
    (profit,) = found["profit"]
    assert (profit["values"], profit["change"]) == (["-15", "-30"], "-15")
    assert found["parameters"] == {"fast": [10, 20]}
    text = shown(capsys, data, "runs", "compare", "al", "latest")
    for part in (
        "Parameters that differ",
        "fast",
        f"{MINUS}15.00",
        "change",
        "Sharpe ratio",
        "Latency",
    ):
        assert part in text
    assert main(["--data", str(data), "runs", "compare", "alpha"]) == EXIT_USAGE
    assert main(["--data", str(data), "runs", "compare", "alpha", "al"]) == EXIT_USAGE
    assert main(["--data", str(data), "runs", "compare", "alpha", "nobody"]) == EXIT_NOT_FOUND


def test_the_best_runs_are_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, data, "runs", "top", "--by", "sharpe")
    assert [(run["run_id"], run["value"]) for run in found["runs"]] == [
        ("alpha", 1.5),
        ("beta", -0.25),
    ]
    only = said(capsys, data, "runs", "top", "--lowest", "--where", "fast=20", "--limit", "1")
    assert [run["run_id"] for run in only["runs"]] == ["beta"]
    assert "1.5" in shown(capsys, data, "runs", "top")
    assert main(["--data", str(data), "runs", "top", "--by", "luck"]) == EXIT_USAGE
    assert main(["--data", str(data), "runs", "top", "--where", "fast"]) == EXIT_USAGE


def test_amounts_in_several_currencies_are_not_ranked_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_mixed("net_pnl", ["USD", "JPY", "USD"])
    assert "JPY, USD are not comparable" in capsys.readouterr().err
    say_mixed("sharpe", ["USD", "JPY"])
    say_mixed("net_pnl", ["USD", "USD"])
    assert capsys.readouterr().err == ""


def test_compared_figures_stand_as_in_the_tearsheet_without_what_no_run_has() -> None:
    def line(name: str, *values: float | None) -> ComparedLine:
        return ComparedLine({"portfolio": "", "currency": "USD", "name": name}, list(values))

    found = known_figures(
        [line("cagr", None, 0.1), line("calmar", None, None), line("net_pnl", 1.0, 2.0)]
    )
    assert [one.names["name"] for one in found] == ["net_pnl", "cagr"]


def test_a_run_that_goes_on_is_not_said_to_have_published_nothing() -> None:
    nothing: dict[str, Any] = dict.fromkeys(one.name for one in dataclasses.fields(RunSummary))
    run = RunSummary(**{**nothing, "status": "Running", "published": 0})
    assert event_words(run) == "counted when the run ends"
    assert event_words(dataclasses.replace(run, status="Ended")).startswith("0 published")


def test_parameters_are_swept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, data, "runs", "sweep", "--over", "fast", "--figure", "sharpe")
    groups = [(one["values"]["fast"], one["mean"], one["best_run"]) for one in found["groups"]]
    assert groups == [(10, 1.5, "alpha"), (20, -0.25, "beta")]
    assert "best run" in shown(capsys, data, "runs", "sweep", "--over", "fast")
    assert main(["--data", str(data), "runs", "sweep", "--over", "fast,fats"]) == 0
    assert "has a value for the parameter fats." in capsys.readouterr().err


def test_the_state_of_the_database_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, data, "db", "status")
    assert (found["schema_version"], found["pending"]) == (NEWEST, [])
    assert {run["run_id"]: run["state"] for run in found["runs"]} == {
        "alpha": "loaded",
        "beta": "loaded",
    }
    assert found["bytes"] > 1_000_000
    assert any(one["rows"] > 0 and one["month"][:2] == "20" for one in found["partitions"])
    assert "loaded" in shown(capsys, data, "db", "status")


def test_runs_that_the_results_lack_are_named(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(recorded, data)
    with open_results_database(DataFolder(data), migrated=False) as database:
        found = said(capsys, data, "db", "status")
        assert (found["schema_version"], len(found["pending"])) == (0, NEWEST)
        assert said(capsys, data, "db", "upgrade", "--plan")["pending"] == found["pending"]
        with database.connect() as connection:
            apply_migrations(connection, read_migrations()[:1])
        applied = said(capsys, data, "db", "upgrade")
        assert (applied["schema_version"], len(applied["applied"])) == (NEWEST, NEWEST - 1)
        assert said(capsys, data, "db", "upgrade")["applied"] == []
        said(capsys, data, "db", "load", "alpha")
        with ResultsManager(database) as results:
            results.read("loaded_rows")
        with database.connect() as connection:
            connection.execute("UPDATE load_log SET source_version = 'an older one'")
        states = {run["run_id"]: run["state"] for run in said(capsys, data, "db", "status")["runs"]}
        assert states == {"alpha": "stale", "beta": "missing"}
        plan = said(capsys, data, "db", "retain", "--keep", "0")
        assert (plan["done"], plan["runs"]) == (False, ["alpha"])
        assert said(capsys, data, "db", "retain", "--keep", "0", "--yes")["done"] is True
        states = {run["run_id"]: run["state"] for run in said(capsys, data, "db", "status")["runs"]}
        assert states == {"alpha": "missing", "beta": "missing"}
        assert main(["--data", str(data), "db", "retain"]) == EXIT_USAGE
        assert main(["--data", str(data), "db", "retain", "--older-than", "x"]) == EXIT_USAGE
