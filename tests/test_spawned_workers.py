"""Workers that are started by spawn or forkserver are recorded by themselves, as if forked."""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import BacktraderInstrumentor, BasanaInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.worker_bootstrap import KEY
from fillpath.instrumentation.worker_origin import WorkerOrigin

HOSTS = Path(__file__).parent / "hosts"
SWEEP = HOSTS / "sweep_in_workers.py"
VALUES = (3, 5, 8)
RECORDER = ["-P", "-m", "fillpath.instrumentation", "--writer", "none", "--run-id", "sweep"]


def python(*given: object, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    return done


def rows(query: str) -> list[dict[str, Any]]:
    folder = DataFolder(Path(os.environ["FILLPATH_DATA"]))
    catch_up(folder)  # as every command does that reads
    with EventStore(folder).connect() as connection:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def swept(parent: str = "sweep") -> dict[int, tuple[str, int]]:
    """Status and number of fills of the runs of a sweep's workers, by the value."""
    found = rows(
        f"""
        select runs.run_id, (parameters->>'fast')::int as value, runs.status,
            count(*) filter (where event_type = 'FILL') as fills
        from runs left join spans using (run_id)
        where runs.run_id like '{parent}.%' group by all
        """
    )
    for one in found:
        assert re.fullmatch(re.escape(parent) + r"\.\d+\.\d+", one["run_id"])
    assert len({one["value"] for one in found}) == len(found)
    return {one["value"]: (one["status"], one["fills"]) for one in found}


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[str, int]]:
    """What a sweep in forked workers gives, which the others are held against."""
    data = str(tmp_path_factory.mktemp("forked"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_DATA", data)
        python(*RECORDER, SWEEP, "fork", "executor", *VALUES)
        found = swept()
    assert found.keys() == set(VALUES)
    assert all(status == "Ended" and fills for status, fills in found.values())
    return found


@pytest.mark.parametrize(
    ("method", "way"),
    [
        ("forkserver", "pool"),
        pytest.param("spawn", "executor", marks=pytest.mark.full),
        pytest.param("spawn", "pool", marks=pytest.mark.full),
        pytest.param("forkserver", "executor", marks=pytest.mark.full),
        pytest.param("spawn", "process", marks=pytest.mark.full),
        pytest.param("spawn", "optstrategy", marks=pytest.mark.full),
        pytest.param("forkserver", "optstrategy", marks=pytest.mark.full),
    ],
)
def test_workers_of_a_recorded_script_are_recorded_as_forked_ones_are(
    method: str, way: str, forked: dict[int, tuple[str, int]]
) -> None:
    done = python(*RECORDER, SWEEP, method, way, *VALUES)
    assert done.stderr == ""
    assert done.stdout == python(SWEEP, method, way, *VALUES).stdout
    assert swept() == forked


def test_one_line_reaches_the_workers_too_and_runs_without_a_session_have_one_name(
    forked: dict[int, tuple[str, int]], tmp_path: Path
) -> None:
    script = tmp_path / "one_line.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(HOSTS)!r})\n"
        "from sweep_in_workers import main, backtest\n"
        "if __name__ == '__main__':\n"
        "    from fillpath.instrumentation import BacktraderInstrumentor\n"
        "    BacktraderInstrumentor().instrument()\n"
        f"    main('spawn', 'executor', {list(VALUES)})\n"
        "    backtest(13)\n"
    )
    python(script, FILLPATH_WRITER="none")
    (own,) = rows("select run_id, parameters from runs where run_id not like '%.%'")
    assert json.loads(own["parameters"])["fast"] == 13
    assert swept(own["run_id"]) == forked


@pytest.mark.full
def test_auto_instrumentation_reaches_the_workers_too(forked: dict[int, tuple[str, int]]) -> None:
    program = Path(sys.executable).with_name("opentelemetry-instrument")
    exporters = [f"--{each}_exporter=none" for each in ("traces", "metrics", "logs")]
    sweep = [sys.executable, str(SWEEP), "spawn", "executor", *map(str, VALUES)]
    subprocess.run([str(program), *exporters, *sweep], check=True, timeout=120)
    (one,) = {row["run_id"].split(".")[0] for row in rows("select run_id from runs")}
    assert swept(one) == forked


@pytest.mark.full
def test_workers_of_workers_are_recorded(forked: dict[int, tuple[str, int]]) -> None:
    python(*RECORDER, SWEEP, "spawn", "nested", *VALUES)
    assert swept() == forked


def test_a_worker_that_is_killed_leaves_what_it_recorded_and_the_others_alone(
    forked: dict[int, tuple[str, int]],
) -> None:
    done = python(*RECORDER, SWEEP, "spawn", "process", 3, -3)
    assert done.stdout == "[0, -9]\n"
    found = swept()
    assert found[3] == forked[3]
    status, fills = found[-3]
    assert status == "Crashed"
    assert 0 < fills < forked[3][1]


@pytest.mark.full
def test_backtests_in_threads_of_a_worker_share_its_run_and_keep_their_parameters(
    forked: dict[int, tuple[str, int]],
) -> None:
    done = python(*RECORDER, SWEEP, "spawn", "threads", *VALUES)
    assert done.stderr == ""
    found = rows(
        """
        select one->'parameters'->>'fast' as fast, one->>'portfolio' as portfolio,
            (select count(*) from spans where spans.run_id = runs.run_id
                and event_type = 'FILL' and spans.portfolio = one->>'portfolio') as fills
        from runs, unnest((metadata->'backtests')::json[]) as each (one)
        where run_id like 'sweep.%'
        """
    )
    assert {int(one["fast"]): one["fills"] for one in found} == {
        value: fills for value, (_, fills) in forked.items()
    }


ENGINES = {
    "sweep_of_nautilus.py": ("every", [25, 50, 80]),
    "basana_sweep.py": ("days", [3, 8, 15]),
    "zipline_sweep.py": ("fast", [3, 5, 5]),
    "backtesting_sweep.py": ("fast", [4, 4, 5, 5, 10, 10, 15, 15]),
}


@pytest.mark.full
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("host", ENGINES)
def test_engines_are_recorded_in_workers_by_themselves(
    host: str, method: str, tmp_path: Path
) -> None:
    parameter, values = ENGINES[host]
    report = [] if "nautilus" in host else [tmp_path / "report.json"]
    python(*RECORDER, HOSTS / host, *report, method, ZIPLINE_ROOT=str(tmp_path / "zipline"))
    found = rows(
        f"""
        select (parameters->>'{parameter}')::int as value, runs.status,
            count(*) filter (where event_type = 'FILL') as fills
        from runs left join spans using (run_id)
        where runs.run_id like 'sweep.%' group by runs.run_id, 1, 2 order by 1
        """
    )
    assert [one["value"] for one in found] == values
    assert all(one["status"] == "Ended" and one["fills"] for one in found)


def test_what_starts_workers_is_patched_from_the_first_engine_to_the_last() -> None:
    before = multiprocessing.spawn.get_preparation_data
    BacktraderInstrumentor().instrument()
    ours = multiprocessing.spawn.get_preparation_data
    assert ours is not before
    BasanaInstrumentor().instrument()
    assert multiprocessing.spawn.get_preparation_data is ours
    BacktraderInstrumentor().uninstrument()
    assert multiprocessing.spawn.get_preparation_data is ours
    BasanaInstrumentor().uninstrument()
    assert multiprocessing.spawn.get_preparation_data is before


def message() -> bytes:
    BacktraderInstrumentor().instrument()
    try:
        return pickle.dumps(multiprocessing.spawn.get_preparation_data("worker")[KEY])
    finally:
        BacktraderInstrumentor().uninstrument()


def bare_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(
        "-I", "-S", "-c", f"import multiprocessing.spawn, pickle, sys\n{code}", *arguments
    )


def test_a_worker_without_fillpath_works_and_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "backtrader.py").write_text("name = 'another one'\n")
    done = bare_python(
        "before = set(sys.modules)\n"
        "pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "assert set(sys.modules) - before <= {'__future__'}, set(sys.modules) - before\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import json, backtrader\n"
        "print(backtrader.name, type(sys.meta_path[0]).__name__)\n",
        message().hex(),
        tmp_path,
    )
    assert done.stdout == "another one type\n"  # the finder has gone, once it was of use
    assert "What this worker process does with backtrader is not recorded" in done.stderr
    assert "No module named 'fillpath'" in done.stderr


def test_a_message_that_a_worker_cannot_read_breaks_nothing() -> None:
    broken = pickle.loads(message().replace(b"def begin", b"dif begin"))  # noqa: S301 - our own
    assert broken is None


def test_a_worker_without_an_engine_imports_nothing_of_fillpath(tmp_path: Path) -> None:
    script = tmp_path / "idle.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "def modules():\n"
        "    return sorted({name.partition('.')[0] for name in sys.modules})\n"
        "def main():\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(*pool.apply(modules))\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    traced = python(*RECORDER, script).stdout.split()
    plain = python(script).stdout.split()
    assert traced == plain


def test_workers_take_over_what_the_session_is_set_to(tmp_path: Path) -> None:
    with Tracing(
        "parent",
        data=tmp_path / "elsewhere",
        portfolio="fund/desk",
        service_name="mine",
        mode="live",
        lake_sampling="policy",
        code_version="v7",
        writer="none",
    ):
        origin = WorkerOrigin.of_this_process()
    session = origin.session("parent.1.1", {"fast": 3})
    assert WorkerOrigin.of_session(session) == WorkerOrigin(
        "parent.1.1", str(tmp_path / "elsewhere"), None, "fund/desk", "mine", "live", "live",
        "policy", "v7",
    )  # fmt: skip
    assert (session.writer, session.otlp, session.way) == ("none", "off", "spool")
