"""`fillpath completeness`: published = kept + sampled out + dropped, or an exit code of 3."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.semconv import EventType

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, record_market

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; gives exit code, stdout and stderr."""

    def here(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return here


def quiet_run(data: Path, run_id: str, *, rate: str = "0") -> None:
    """Record bars without a symbol and one order, of which the policy keeps the order alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILLPATH_SAMPLING_RATE", rate)
        with Tracing(
            run_id, data=data, portfolio="fund/desk", writer="inline", lake_sampling="policy"
        ) as tracing:
            tracer = tracing.tracer
            for _ in range(5):
                tracer.close(tracer.open(EventType.BAR))
            order = tracer.open(EventType.ORDER, parent=tracer.open(EventType.BAR))
            tracer.close(order)


def change_run(data: Path, run_id: str, **parts: Any) -> None:
    """Write the row of a run anew with some parts changed."""
    store = EventStore(data)
    (record,) = [one for one in store.run_records() if one.run_id == run_id]
    store.record_run(dataclasses.replace(record, **parts))


@pytest.mark.smoke
def test_a_run_that_adds_up_is_shown_by_portfolio_and_kind(run: Run, tmp_path: Path) -> None:
    quiet_run(tmp_path, "run-a")
    code, out, err = run("completeness", "latest", "--data", tmp_path)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["Run", "run-a"] in lines
    assert ["fund/desk"] in lines
    assert ["BAR", "6", "1", "5", "0"] in lines
    assert ["ORDER", "1", "1", "0", "0"] in lines
    assert ["all", "7", "2", "5", "0"] in lines
    assert "kept because  1 ancestor, 1 critical" in out
    assert "\x1b" not in out


def test_json_holds_everything(run: Run, tmp_path: Path) -> None:
    quiet_run(tmp_path, "run-a")
    code, out, _ = run("completeness", "run-a", "--json", "--data", tmp_path)
    assert code == 0
    found = json.loads(out)
    assert found["complete"] is True
    assert found["problems"] == []
    assert (found["published"], found["kept"]) == (7, 2)
    assert (found["sampled_out"], found["dropped"]) == (5, 0)
    assert found["kept_by_reason"] == {"ancestor": 1, "critical": 1}
    assert found["kinds"][0] == {
        "portfolio": "fund/desk",
        "event_type": "BAR",
        "published": 6,
        "kept": 1,
        "sampled_out": 5,
        "dropped": {},
        "kept_by_reason": {"ancestor": 1},
    }


def test_a_run_is_found_by_a_unique_prefix(run: Run, tmp_path: Path) -> None:
    for name in ("run-a", "run-b"):
        record_market(tmp_path, name)
    assert run("completeness", "run-b", "--data", tmp_path)[0] == 0
    assert "run-b" in run("completeness", "latest", "--data", tmp_path)[1]
    assert run("completeness", "run-", "--data", tmp_path)[0] == 2
    code, _, err = run("completeness", "run-c", "--data", tmp_path)
    assert code == 5
    assert "The nearest is" in err


def test_dropped_events_are_shown_with_their_reasons(run: Run, tmp_path: Path) -> None:
    quiet_run(tmp_path, "run-a")
    row = {
        "portfolio": "fund/desk",
        "event_type": "ORDER",
        "published": 4,
        "kept": 1,
        "sampled_out": 0,
        "dropped": {"crash": 1, "spool_full": 2},
    }
    bars = {**row, "event_type": "BAR", "published": 6, "sampled_out": 5, "dropped": {}}
    change_run(tmp_path, "run-a", published=10, dropped=3, completeness=[bars, row])
    code, out, _ = run("completeness", "run-a", "--data", tmp_path)
    assert code == 0  # lost, but every one is known
    assert "crash 1, spool_full 2" in out
    found = json.loads(run("completeness", "run-a", "--data", tmp_path, "--json")[1])
    assert found["dropped_by_reason"] == {"crash": 1, "spool_full": 2}


@pytest.mark.parametrize(
    ("changed", "sums", "told"),
    [
        ({"published": 9}, {"published": 9}, "9 published, but 1 + 5 + 0"),
        (
            {"published": 8, "dropped": {"unaccounted": 2}},
            {"published": 9, "dropped": 2},
            "2 unaccounted for",
        ),
        ({"kept": 2, "published": 7}, {"kept": 3}, "2 kept, but the lake holds 1"),
        ({}, {"kept": 7}, "the run counts 7 kept, its kinds 2"),
        ({"event_type": "TICK"}, {}, "BAR of fund/desk: the lake holds 1 that nobody counted"),
    ],
)
def test_a_run_that_does_not_add_up_is_a_failed_check(
    run: Run, tmp_path: Path, changed: dict[str, Any], sums: dict[str, int], told: str
) -> None:
    quiet_run(tmp_path, "run-a")
    (record,) = EventStore(tmp_path).run_records()
    bars, orders = record.completeness
    change_run(tmp_path, "run-a", completeness=[{**bars, **changed}, orders], **sums)
    code, out, err = run("completeness", "run-a", "--data", tmp_path)
    assert code == 3
    assert told in err
    assert "✔" not in out
    assert "BAR" in out or "TICK" in out
    code, out, _ = run("completeness", "run-a", "--data", tmp_path, "--json")
    assert code == 3
    found = json.loads(out)
    assert found["complete"] is False
    assert any(told in problem for problem in found["problems"])


def test_names_that_a_terminal_would_obey_are_shown_inert(run: Run, tmp_path: Path) -> None:
    record_market(tmp_path, "run-a", portfolio=HOSTILE)
    code, out, _ = run("completeness", "run-a", "--data", tmp_path)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
