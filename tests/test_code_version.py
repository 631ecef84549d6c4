"""Which code and which seed a run was made with, and what time its data span."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.code_version import find_code_version, git_commit
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import Market


def git(folder: Path, *words: str) -> str:
    """Run git as nobody in particular."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "n"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "n@example.org"),
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(2):
        git(folder, "commit", "--quiet", "--allow-empty", "--message", str(number))
    return folder


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FILLPATH_CODE_VERSION", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [["pack-refs", "--all"]],
        [["checkout", "--quiet", "-b", "feature/of-mine"], ["pack-refs", "--all"]],
        [["checkout", "--quiet", "--detach", "HEAD~1"]],
        [["checkout", "--quiet", "-b", "other", "HEAD~1"]],
        [["tag", "--annotate", "--message", "m", "v1"], ["checkout", "--quiet", "v1"]],
    ],
    ids=["branch", "packed", "packed feature", "detached", "older", "tag"],
)
def test_the_commit_is_the_one_git_tells(checkout: Path, steps: list[list[str]]) -> None:
    for step in steps:
        git(checkout, *step)
    assert git_commit(checkout / "deep" / "er") == git(checkout, "rev-parse", "HEAD")


def test_a_worktree_has_its_own_commit(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", "-b", "beside", str(tmp_path / "w"), "HEAD~1")
    for packed in (False, True):
        if packed:
            git(checkout, "pack-refs", "--all")
        assert git_commit(tmp_path / "w") == git(tmp_path / "w", "rev-parse", "HEAD")
    assert git_commit(tmp_path / "w") != git_commit(checkout)


@pytest.mark.parametrize(
    "content",
    ["", "ref: refs/heads/none\n", "ref: ../../secret\n", "ref: /etc/passwd\n", "x" * 40, "\0\xff"],
)
def test_what_git_does_not_write_is_no_commit(tmp_path: Path, content: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(content, encoding="latin-1")
    assert find_code_version(tmp_path) is None
    (tmp_path / ".git" / "HEAD").unlink()
    (tmp_path / ".git").rmdir()
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert find_code_version(tmp_path) is None


def test_the_environment_comes_before_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILLPATH_CODE_VERSION", "1.2")
    assert find_code_version(checkout) == "1.2"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.version=3%2C4 ,x")
    assert find_code_version(checkout) == "3,4"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=")
    assert find_code_version(checkout) == "1.2"


def recorded(path: Path, **given: Any) -> dict[str, Any]:
    """Record a market, and give the row of table runs that comes of it."""
    with Tracing("one", data=path, writer="inline", **given) as tracing:
        market = Market(tracing)
        market.trade()
        market.finish()
    with EventStore(DataFolder(path)).connect() as connection:
        row = compute_results(connection, "one").run
        ((first, last),) = connection.execute(
            "SELECT min(event_time), max(event_time) FROM spans"
        ).fetchall()
    assert (row["data_from"], row["data_to"]) == (first, last)
    return row


@pytest.mark.parametrize(
    ("given", "seed"),
    [
        ({"seed": 7, "parameters": {"seed": 8}}, "7"),
        ({"parameters": {"random_seed": 0}}, "0"),
        pytest.param({}, None, marks=pytest.mark.full),
    ],
)
def test_the_seed_is_kept_with_the_run(
    tmp_path: Path, given: dict[str, Any], seed: str | None
) -> None:
    row = recorded(tmp_path / "data", code_version="v9", **given)
    assert (row["code_version"], row["seed"]) == ("v9", seed)


def test_a_script_in_a_checkout_is_recorded_with_its_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "strategy.py").write_text(
        "from fillpath.instrumentation import Tracing\n"
        "with Tracing(parameters={'seed': 3}) as tracing:\n"
        "    tracing.tracer.emitter('BAR', symbol='X')(1)\n"
    )
    for number, words in enumerate((["fillpath.instrumentation"], [])):
        data, run_id = tmp_path / str(number), f"run-{number}"
        command = [sys.executable, "-P", *(["-m", *words] if words else [])]
        environment = {
            **os.environ,
            "FILLPATH_DATA": str(data),
            "FILLPATH_RUN_ID": run_id,
            "FILLPATH_WRITER": "inline",
        }
        subprocess.run(
            [*command, str(checkout / "strategy.py")], env=environment, cwd=tmp_path, check=True
        )
        with EventStore(DataFolder(data)).connect() as connection:
            row = compute_results(connection, run_id).run
        assert row["code_version"] == git(checkout, "rev-parse", "HEAD")
        assert row["seed"] == "3"
