"""The command line, as a shell sees it: what goes where, in which form, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli, cli_options
from fillpath.analytics.cli_options import Invocation
from fillpath.instrumentation.errors import FillpathError

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, record_market

START = "import sys; from fillpath.analytics.cli import main; sys.exit(main())"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-P", "-c", START, *map(str, arguments)]


def fillpath(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; only what it does with its process needs that."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=60, **settings
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; gives exit code, stdout and stderr."""

    def here(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return here


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "data"
    record_market(folder, "run-a", trades=2)
    record_market(folder, "run-b", strategy=HOSTILE, portfolio="fund/hostile")
    return folder


READERS = [
    ("runs", "list"),
    ("trace", "show", "latest"),
    ("sql", "SELECT * FROM spans"),
    ("store", "path"),
    ("version",),
]


@pytest.mark.smoke
@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_json_is_one_document(run: Run, data: Path, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "--data", data, "--json")
    assert code == 0, err
    json.loads(out)
    assert out.isascii()
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "DATA", "--json", "runs", "list"),
        ("runs", "--data", "DATA", "--json", "list"),
        ("runs", "list", "--data", "DATA", "--json"),
        ("--data", "elsewhere", "runs", "list", "--json", "--data", "DATA"),
    ],
)
def test_options_stand_anywhere(run: Run, data: Path, arguments: tuple[str, ...]) -> None:
    code, out, _ = run(*(str(data) if word == "DATA" else word for word in arguments))
    assert code == 0
    assert [one["run_id"] for one in json.loads(out)] == ["run-b", "run-a"]


def test_runs_are_listed_newest_first(run: Run, data: Path) -> None:
    code, out, _ = run("runs", "list", "--data", data)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[0] == "run"
    assert [line.split()[0] for line in lines[2:]] == ["run-b", "run-a"]
    _, out, _ = run("runs", "list", "--data", data, "--json")
    newest = json.loads(out)[0]
    assert newest["published"] == newest["kept"] + newest["sampled_out"] + newest["dropped"]
    assert isinstance(newest["completeness"], list)
    assert newest["status"] == "Ended"


def test_no_runs_are_no_error(run: Run, tmp_path: Path) -> None:
    code, out, err = run("runs", "list", "--data", tmp_path / "nothing")
    assert (code, out) == (0, "")
    assert "demo" in err
    assert run("runs", "list", "--json", "--data", tmp_path / "nothing")[:2] == (0, "[]\n")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("trace", "show", "F-99"), 5),
        (("trace", "show", "F-1", "--run", "run-z"), 5),
        (("trace", "show", "O-"), 2),
        (("trace", "show"), 2),
        (("report", "run-c"), 5),
        (("report", "run-"), 2),
        (("sql", "SELEC 1"), 2),
        (("sql", "SELECT nothing FROM spans"), 2),
        (("sql", "SELECT 1; SELECT 2"), 2),
        (("sql", "DROP VIEW spans"), 1),
        (("sql", "COPY spans TO 'spans.csv'"), 1),
        (("sql", "INSERT INTO raw_runs SELECT * FROM raw_runs"), 1),
        (("run", "no_such_script.py"), 2),
        (("run", "--run-id", "a/b", __file__), 2),
        (("nonsense",), 2),
        (("runs", "list", "--nonsense"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_errors_have_their_exit_codes(
    run: Run, data: Path, words: tuple[str, ...], code: int
) -> None:
    done, out, err = run("--data", data, *words)
    assert done == code, err
    assert out == ""
    assert err
    assert "\x1b" not in err


def test_an_unknown_name_brings_the_nearest(run: Run, data: Path) -> None:
    _, _, err = run("--data", data, "trace", "show", "F-19")
    assert "The nearest is 'F-" in err
    assert f"Try: fillpath --data {data} trace show F-" in err
    _, _, err = run("--data", data, "report", "run-abc")
    assert "The nearest is 'run-" in err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("trace show", "--run run-b --all"),
        ("trace path", "--run run-b --json"),
        ("trace ancestors", "--run run-b --kind fill --links --all"),
        ("trace descendants", "--run run-b"),
        ("export run-b --trace", "--format parquet --output x.parquet --sampled"),
        ("export run-b --trace", ""),
    ],
)
def test_an_unknown_id_brings_the_same_command_with_the_nearest(
    run: Run, data: Path, before: str, after: str
) -> None:
    code, _, err = run("--data", data, *before.split(), "F-19", *after.split())
    assert code == 5
    found = re.search(r"Try: (.*)$", err, re.MULTILINE)
    assert found is not None
    written = re.fullmatch(
        rf"fillpath --data {re.escape(str(data))} {before} (F-\d+)\s?{after}", found[1]
    )
    assert written is not None, err


def test_sql_in_a_pipe_is_csv(run: Run, data: Path) -> None:
    query = (
        "SELECT strategy, price, quantity, NULL AS nothing, links, price AS price FROM spans "
        "WHERE name = 'publish FILL' AND run_id = 'run-b' ORDER BY sequence"
    )
    code, out, err = run("--data", data, "sql", query)
    assert (code, err) == (0, "")
    rows = list(csv.reader(out.splitlines(keepends=True)))
    assert rows[0] == ["strategy", "price", "quantity", "nothing", "links", "price_2"]
    assert rows[1] == [HOSTILE, "100.5", "10", "", "[]", "100.5"]


def test_sql_as_json_keeps_digits_and_names(run: Run, data: Path) -> None:
    query = (
        "SELECT price, sequence, attributes, links, 1e3::DOUBLE AS d, 'nan'::DOUBLE AS n, "
        "12345678901234567890123456789.123456789::DECIMAL(38,9) AS big, price AS price, "
        "sum(sequence) OVER () AS total FROM spans WHERE fill_id = 'F-2' AND run_id = 'run-a' "
        "AND event_type = 'FILL'"
    )
    code, out, _ = run("--data", data, "sql", "--json", query)
    assert code == 0
    (row,) = json.loads(out)
    assert row["price"] == row["price_2"] == "99.25"
    assert row["big"] == "12345678901234567890123456789.123456789"
    assert isinstance(row["sequence"], int)
    assert isinstance(row["total"], int)
    assert row["attributes"]["trading.fill.commission_currency"] == "USD"
    assert set(row["links"][0]) == {"trace_id", "span_id"}
    assert (row["d"], row["n"]) == (1000.0, "nan")


def test_sql_reads_the_query_from_stdin(data: Path) -> None:
    done = fillpath("--data", data, "sql", "-", input="SELECT count(*) AS n FROM runs")
    assert done.stdout == "n\n2\n"


def test_a_reader_that_leaves_is_no_problem(data: Path) -> None:
    process = subprocess.Popen(
        command("--data", data, "sql", "SELECT repeat('x', 1000) FROM range(100000)"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(30)


def on_a_terminal(*arguments: str | Path, **environment: str) -> str:
    """Run a command with a terminal for all that it writes; gives what it wrote."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
    )
    os.close(terminal)
    said = bytearray()
    try:
        while piece := os.read(controller, 65536):
            said += piece
    except OSError:
        pass  # how Linux says that the other side has closed
    finally:
        os.close(controller)
    assert process.wait(30) == 0, said
    return said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_tables(data: Path) -> None:
    drawn = on_a_terminal("--data", data, "sql", "SELECT run_id, published FROM runs")
    assert "\x1b[" in drawn
    assert "──" in drawn
    assert "2 rows" in drawn
    plain = on_a_terminal("--data", data, "trace", "show", "latest", NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "FILL" in plain


def test_a_terminal_gets_the_first_rows(data: Path) -> None:
    drawn = on_a_terminal("--data", data, "sql", "SELECT * FROM range(7000, 8000)")
    assert "7099" in drawn
    assert "7100" not in drawn
    assert "The first 100 rows" in drawn
    wide = on_a_terminal("--data", data, "sql", "SELECT * FROM spans")
    assert "row 10" in wide
    assert "The first 10 rows" in wide


def test_a_terminal_is_not_obeyed(data: Path) -> None:
    for words in (("trace", "show", "latest"), ("sql", "SELECT DISTINCT strategy FROM spans")):
        drawn = on_a_terminal("--data", data, *words)
        assert "\x1b[31m\u202e" not in drawn
        assert "\\x1b[31m\\u202e" in drawn


SCRIPT = """
import signal, sys, time
print("arguments", sys.argv[1:], flush=True)
print("read", sys.stdin.readline().strip(), flush=True)
if "wait" in sys.argv:
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a script.py"
    path.write_text(SCRIPT)
    return path


def test_run_leaves_the_script_alone(tmp_path: Path, script: Path) -> None:
    arguments = ["3", "--data", "x", "--json", "--", "-y", "--help"]
    done = fillpath("--data", tmp_path / "data", "run", script, *arguments, input="hello\n")
    assert done.returncode == 3
    assert done.stdout == f"arguments {arguments}\nread hello\n"
    assert "counts as crashed" in done.stderr
    listed = json.loads(fillpath("--data", tmp_path / "data", "runs", "list", "--json").stdout)
    assert [one["status"] for one in listed] == ["Crashed"]
    assert listed[0]["parameters"]["arguments"] == arguments


SWEEP = """
import multiprocessing
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.worker_runs import session_of_worker

def backtest(fast):
    with session_of_worker({"fast": fast}) as session, session.tracer.event("BAR"):
        pass

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(backtest, [1, 2])
"""


def test_run_tells_of_the_runs_of_worker_processes(tmp_path: Path) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    done = fillpath("--data", tmp_path / "data", "run", "--run-id", "sweep", script)
    assert done.returncode == 0, done.stderr
    assert "Its worker processes recorded 2 runs of their own" in done.stderr
    assert "published anything" not in done.stderr
    assert "No results were kept" not in done.stderr
    listed = json.loads(fillpath("--data", tmp_path / "data", "runs", "list", "--json").stdout)
    assert sorted(one["parameters"].get("fast", 0) for one in listed) == [0, 1, 2]


def test_run_takes_names(tmp_path: Path, script: Path) -> None:
    folder = tmp_path / "data"
    options = ["--run-id", "mine.1", "--mode", "live", "--portfolio", "fund/-desk"]
    done = fillpath("--data", folder, "run", *options, script, "0", input="")
    assert done.returncode == 0, done.stderr
    assert "recorded run mine.1" in done.stderr
    (listed,) = json.loads(fillpath("--data", folder, "runs", "list", "--json").stdout)
    assert (listed["run_id"], listed["mode"], listed["status"]) == ("mine.1", "live", "Ended")
    again = fillpath("--data", folder, "run", *options, script, "0", input="")
    assert again.returncode != 0
    assert "mine.1" in again.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_script_and_the_run_is_kept(
    tmp_path: Path, script: Path, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        command("--data", tmp_path / "data", "run", script, "0", "wait"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "read" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert ("interrupted" in out) == (number == signal.SIGINT)
    listed = json.loads(fillpath("--data", tmp_path / "data", "runs", "list", "--json").stdout)
    assert [one["status"] for one in listed] == ["Crashed"]


def test_store_path_is_where_the_lake_is(run: Run, data: Path) -> None:
    assert run("--data", data, "store", "path") == (0, f"{data / 'lake'}\n", "")


@pytest.mark.smoke
def test_version(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version") == (0, f"fillpath {version('fillpath')}\n", "")
    assert run("version")[1].startswith(f"fillpath {version('fillpath')}\n")


def test_help_loads_nothing_heavy() -> None:
    check = (
        "import sys; from fillpath.analytics.cli import main; main(['--help']); "
        "heavy = {'duckdb', 'pyarrow', 'deltalake', 'psycopg', 'pandas', 'opentelemetry.sdk'}; "
        "sys.stderr.write(' '.join(sorted(heavy & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True
    )
    assert "trace" in done.stdout
    assert done.stderr == ""


def test_a_folder_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run("--data", tmp_path / "file", "runs", "list")
    assert (code, out) == (1, "")
    assert "is not a folder" in err


def test_a_lake_that_is_none(run: Run, tmp_path: Path) -> None:
    for name in ("lake", "runs"):
        (tmp_path / name / "_delta_log").mkdir(parents=True)
        (tmp_path / name / "_delta_log" / f"{0:020}.json").write_text("{nonsense")
    code, out, err = run("--data", tmp_path, "runs", "list")
    assert (code, out) == (1, "")
    assert len([line for line in err.splitlines() if line.startswith("fillpath:")]) == 1


def test_something_unexpected_is_one_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("beyond \x1b[31mreason")

    monkeypatch.setattr("fillpath.analytics.runs_view.list_runs", broken)
    code, _, err = run("--data", data, "runs", "list")
    assert code == 1
    assert "ValueError: beyond \\x1b[31mreason" in err
    assert "FILLPATH_DEBUG" in err
    monkeypatch.setenv("FILLPATH_DEBUG", "1")
    with pytest.raises(ValueError, match="beyond"):
        cli.main(["--data", str(data), "runs", "list"])


@pytest.fixture
def called_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    def call(name: str) -> None:
        monkeypatch.setattr(sys, "argv", [name])

    monkeypatch.chdir(tmp_path)
    return call


def test_commands_can_be_pasted(called_as: Callable[[str], None], tmp_path: Path) -> None:
    called_as(str(tmp_path / ".venv/bin/fillpath"))
    given = Invocation(data="my data")
    assert given.command("trace", "show", "a b") == (
        ".venv/bin/fillpath --data 'my data' trace show 'a b'"
    )
    assert given.completed("fillpath doctor") == ".venv/bin/fillpath --data 'my data' doctor"
    both = given.completed("export A=b && fillpath doctor")
    assert both == "export A=b && .venv/bin/fillpath --data 'my data' doctor"
    assert given.completed("pip install fillpath") == "pip install fillpath"
    assert given.completed(None) is None
    called_as("/somewhere/else/bin/fillpath")
    assert Invocation().command("demo") == "/somewhere/else/bin/fillpath demo"
    called_as("-c")
    assert cli_options.program() == ["fillpath"]


def test_an_error_of_a_lower_floor_is_told_as_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FillpathError("It is broken.", next_command="fillpath doctor")

    monkeypatch.setattr("fillpath.analytics.runs_view.list_runs", broken)
    code, _, err = run("--data", data, "runs", "list")
    assert code == 1
    assert err == f"fillpath: It is broken.\n  Try: fillpath --data {data} doctor\n"


def test_nothing_is_rounded_on_the_way(run: Run, data: Path) -> None:
    _, out, _ = run(
        "--data",
        data,
        "sql",
        "--json",
        "SELECT sum(commission) AS c FROM spans WHERE run_id='run-a'",
    )
    assert Decimal(json.loads(out)[0]["c"]) == 4 * Decimal("1.25")


def test_runs_are_loaded_into_the_results_database(run: Run, tmp_path: Path) -> None:
    for name in ("market-1", "market-2"):
        record_market(tmp_path, name)
    code, said, _ = run("--data", tmp_path, "db", "load")
    assert (code, said) == (0, "market-2  loaded\n")
    code, said, _ = run("--data", tmp_path, "db", "load", "--all", "--json")
    assert code == 0
    assert json.loads(said) == [
        {"run_id": "market-2", "loaded": False},
        {"run_id": "market-1", "loaded": True},
    ]
    code, said, _ = run("--data", tmp_path, "db", "load", "market-1", "latest")
    assert (code, said) == (
        0,
        "market-1  was loaded already\nmarket-2  was loaded already\n",
    )
    code, said, errors = run("--data", tmp_path, "db", "load", "market-1", "--all")
    assert code == 2
    assert not said
    assert "db load --all" in errors
    code, _, errors = run("--data", tmp_path, "db", "load", "market-3")
    assert code != 0
    assert "runs list" in errors
