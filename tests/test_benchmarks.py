"""Every benchmark runs, at a size that shows no more than that, and reports in the agreed form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
NAMES = ["caller", "disabled", "pipeline", "api", "otlp", "size", "find", "memory", "sampling"]
ENGINES = ["nautilus", "backtrader", "zipline", "backtesting", "basana", "bus"]
NAMES += [*(f"engine_{name}" for name in ENGINES), "postgres", "queries", "report"]
KEYS = {"value", "unit", "peer", "peer_value", "ratio", "goal", "met"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks' own command."""
    command = [sys.executable, "-P", str(CHECKOUT / "benchmarks"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def measured(output: Path, *names: str) -> dict[str, Any]:
    done = bench("--only", ",".join(names), "--size", "tiny", "--output", str(output))
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(output.read_text())
    assert set(results) == {*names, "machine"}
    return results


# These make a run, and have most of their time from starting: their parts are tested elsewhere.
SLOW = {"report", *(f"engine_{name}" for name in ENGINES if name != "bus")}
MEASURED = [pytest.param(one, marks=pytest.mark.full if one in SLOW else ()) for one in NAMES]


@pytest.mark.parametrize("name", MEASURED)
def test_a_benchmark_writes_its_figures_in_the_agreed_form(name: str, tmp_path: Path) -> None:
    results = measured(tmp_path / "build" / "bench.json", name)
    assert results[name]
    goals = 0
    for figure in results[name].values():
        assert set(figure) == KEYS
        assert isinstance(figure["value"], int | float)
        assert isinstance(figure["unit"], str)
        assert (figure["peer"] is None) == (figure["peer_value"] is None)
        assert (figure["goal"] is None) == (figure["met"] is None)
        goals += figure["goal"] is not None
    assert goals
    machine = results["machine"]
    assert machine["size"] == "tiny"
    assert {"processor", "cores", "python", "versions", "load"} <= set(machine)


def test_an_engine_that_is_not_installed_is_left_out_and_named(tmp_path: Path) -> None:
    copy = tmp_path / "benchmarks"
    copy.mkdir()
    for path in (CHECKOUT / "benchmarks").glob("*.py"):
        text = path.read_text()
        (copy / path.name).write_text(text.replace('"backtrader", "backtrader"', '"it", "no-such"'))
    output = tmp_path / "bench.json"
    arguments = ["--only", "engine_backtrader,engine_bus", "--size", "tiny"]
    done = subprocess.run(
        [sys.executable, "-P", str(copy), *arguments, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "engine_backtrader is left out: it is not installed" in done.stderr
    assert set(json.loads(output.read_text())) == {"engine_bus", "machine"}


@pytest.mark.full
def test_all_engines_have_a_name_together(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    done = bench("--only", "engines", "--size", "tiny", "--output", str(output))
    assert done.returncode == 0, done.stderr
    left_out = {line.split()[2] for line in done.stderr.splitlines() if "is left out" in line}
    measured_ones = set(json.loads(output.read_text())) - {"machine"}
    # One of the two major versions of NautilusTrader is always left out.
    assert measured_ones | left_out == {f"engine_{name}" for name in (*ENGINES, "nautilus2")}


def test_results_are_printed_as_a_table_of_markdown(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    results = measured(output, "caller", "size")
    printed = bench("--markdown", str(output)).stdout
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + sum(len(results[name]) for name in ("caller", "size"))
    assert results["machine"]["processor"] in printed


def test_an_unknown_benchmark_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    done = bench("--only", "caller,speed", "--output", str(tmp_path / "bench.json"))
    assert done.returncode == 2
    assert "no benchmark speed" in done.stderr
    for name in NAMES:
        assert name in done.stderr
    assert not (tmp_path / "bench.json").exists()


def test_a_benchmark_that_fails_fails_the_run_and_keeps_the_others(tmp_path: Path) -> None:
    copy = tmp_path / "benchmarks"
    copy.mkdir()
    for path in (CHECKOUT / "benchmarks").glob("*.py"):
        (copy / path.name).write_text(path.read_text())
    (copy / "size.py").write_text("def measure(size):\n    raise RuntimeError('no disk')\n")
    output = tmp_path / "bench.json"
    arguments = ["--only", "size,caller", "--size", "tiny", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-P", str(copy), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no disk" in done.stderr
    assert "benchmark size failed" in done.stderr
    assert set(json.loads(output.read_text())) == {"caller", "machine"}
