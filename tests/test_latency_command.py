"""`fillpath latency`: what it prints and what it counts, of one run and of several."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.cli import main
from fillpath.analytics.exponential_histogram import rank
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import HOSTILE, Market, record_market

Row = dict[str, Any]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backtests and a live session that was sampled."""
    folder = tmp_path_factory.mktemp("latency") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FILLPATH_LAKE", raising=False)
        record_market(folder, "one", trades=12)
        record_market(folder, "two", trades=30, portfolio="fund/other", strategy="Mean-2")
        patch.setenv("FILLPATH_LAKE_SAMPLING", "policy")
        with Tracing("live-1", data=folder, writer="inline", mode="live") as tracing:
            market = Market(tracing)
            for _ in range(60):
                market.bar("100")
            market.trade()
            market.finish()
    return folder


def document(capsys: pytest.CaptureFixture[str], lake: Path, *words: str) -> dict[str, Any]:
    assert main(["--data", str(lake), "latency", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def printed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lake: Path,
    *words: str,
    columns: int = 80,
) -> tuple[str, str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["--data", str(lake), "latency", *words]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def from_spans(lake: Path, run_id: str) -> list[int]:
    """BAR → SIGNAL by the parents of the spans: the bar is two above the signal."""
    with EventStore(DataFolder(lake)).connect([run_id]) as connection:
        rows = connection.execute(
            "SELECT signal.start_time - bar.start_time FROM spans AS signal "
            "JOIN spans AS handler ON handler.span_id = signal.parent_span_id "
            "JOIN spans AS bar ON bar.span_id = handler.parent_span_id "
            "WHERE signal.event_type = 'SIGNAL' AND signal.span_kind <> 'CONSUMER' ORDER BY 1"
        ).fetchall()
    return [took for (took,) in rows]


def row_of(found: dict[str, Any], hop: str, **names: str) -> Row:
    wanted = {"hop": hop, **names}
    (row,) = [one for one in found["rows"] if wanted.items() <= one.items()]
    return dict(row)


def test_one_run_is_told_exactly(capsys: pytest.CaptureFixture[str], lake: Path) -> None:
    found = document(capsys, lake, "one")
    row = row_of(found, "BAR → SIGNAL")
    values = from_spans(lake, "one")
    assert row["count"] == len(values) == 36
    assert [row["min"], row["max"]] == [values[0], values[-1]]
    assert row["mean"] == pytest.approx(sum(values) / len(values))
    for part in (50, 90, 99):
        assert row[f"p{part}"] == values[rank(len(values), part) - 1]
    assert row["exact"] is True
    assert row["relative_error"] == 0
    assert [one["hop"] for one in found["rows"]] == [
        "BAR → SIGNAL", "BAR → ORDER", "BAR → FILL", "SIGNAL → ORDER", "ORDER → SUBMITTED",
        "SUBMITTED → FILL", "BAR → handled",
    ]  # fmt: skip
    assert row_of(found, "BAR → FILL")["count"] == 24


def test_several_runs_are_put_together_and_say_how_exactly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lake: Path
) -> None:
    found = document(capsys, lake, "one", "two", "one")
    assert [run["run_id"] for run in found["runs"]] == ["one", "two"]
    row = row_of(found, "BAR → SIGNAL")
    values = sorted([*from_spans(lake, "one"), *from_spans(lake, "two")])
    assert row["count"] == len(values)
    assert [row["min"], row["max"]] == [values[0], values[-1]]
    assert row["exact"] is False
    for part in (50, 90, 99):
        exact = values[rank(len(values), part) - 1]
        assert abs(row[f"p{part}"] - exact) <= exact * row["relative_error"] + 0.5
    assert 0 < row["relative_error"] < 0.05
    assert any("histograms" in note for note in found["notes"])
    out, err = printed(capsys, monkeypatch, lake, "one", "two")
    assert "≈" in out
    assert "exact" in err
    assert "Measuring two" in err


def test_durations_can_be_told_apart(capsys: pytest.CaptureFixture[str], lake: Path) -> None:
    found = document(capsys, lake, "one", "two", "--by", "strategy,portfolio")
    assert found["by"] == ["hop", "strategy", "portfolio"]
    counts = {
        (row["strategy"], row["portfolio"]): row["count"]
        for row in found["rows"]
        if row["hop"] == "BAR → FILL"
    }
    assert counts == {("Trend-1", "fund/desk"): 24, ("Mean-2", "fund/other"): 60}
    assert all(row["exact"] for row in found["rows"])
    by_handler = document(capsys, lake, "two", "--by", "handler")
    assert [(row["hop"], row["handler"]) for row in by_handler["rows"]] == [
        ("BAR → handled", "Trend.on_bar")
    ]
    whole = document(capsys, lake, "one")
    by_time = document(capsys, lake, "one", "--by", "time")
    assert by_time["period"] == 1_000_000_000
    for row in whole["rows"]:
        parts = [one for one in by_time["rows"] if one["hop"] == row["hop"]]
        assert sum(one["count"] for one in parts) == row["count"]
        assert max(one["max"] for one in parts) == row["max"]
        assert len({one["time"] for one in parts}) == len(parts)


def test_the_slowest_chains_are_listed_with_how_to_see_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lake: Path
) -> None:
    found = document(capsys, lake, "one", "two", "--slowest", "7")
    chains = found["slowest"]
    assert len(chains) == 7
    assert {chain["hop"] for chain in chains} == {"BAR → FILL"}
    took = [chain["duration"] for chain in chains]
    assert took == sorted(took, reverse=True)
    assert took[0] == row_of(found, "BAR → FILL")["max"]
    assert len({chain["trace_id"] for chain in chains}) == 7
    words = chains[0]["command"].split()
    assert words[-3:-1] == ["trace", "show"]
    assert main(["--data", str(lake), "trace", "show", words[-1]]) == 0
    assert "FILL" in capsys.readouterr().out
    out, _ = printed(capsys, monkeypatch, lake, "two", "--slowest", "2")
    assert out.count("trace show") == 2
    out, _ = printed(capsys, monkeypatch, lake, "two", "--slowest", "0")
    assert "Slowest" not in out


def test_a_sampled_run_says_so_and_a_live_one_tells_its_delay(
    capsys: pytest.CaptureFixture[str], lake: Path
) -> None:
    found = document(capsys, lake, "live-1")
    (run,) = found["runs"]
    assert run["sampled_out"] > 0
    assert any("was sampled" in note for note in found["notes"])
    assert found["rows"][0]["hop"] == "event time → BAR"
    assert row_of(found, "BAR → FILL")["count"] == 2


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("by", ["hop", "portfolio,strategy,time", "handler"])
def test_the_table_fits_its_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lake: Path,
    by: str,
    columns: int,
) -> None:
    out, _ = printed(
        capsys, monkeypatch, lake, "one", "--by", by, "--slowest", "0", columns=columns
    )
    assert "p50" in out
    assert max(map(len, out.splitlines())) <= columns


def test_hostile_names_are_inert(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record_market(tmp_path, "bad", portfolio=HOSTILE, strategy=HOSTILE)
    out, _ = printed(capsys, monkeypatch, tmp_path, "--by", "portfolio,strategy")
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
    names = document(capsys, tmp_path, "--by", "strategy")["rows"]
    assert HOSTILE in {row["strategy"] for row in names}


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], lake: Path) -> None:
    assert main(["--data", str(lake), "latency", "--by", "hop,colour"]) == 2
    assert "told apart by colour" in capsys.readouterr().err
    assert main(["--data", str(lake), "latency", "nothing-like-it"]) != 0
    assert "There is no run" in capsys.readouterr().err
    assert main(["--data", str(lake / "empty"), "latency"]) != 0
    assert "There are no runs yet" in capsys.readouterr().err


def test_a_run_without_chains_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Tracing("quiet", data=tmp_path, writer="inline") as tracing:
        tracing.tracer.close(tracing.tracer.open("SYSTEM", event_time=1))
    out, err = printed(capsys, monkeypatch, tmp_path)
    assert out == ""
    assert "Nothing was measured" in err
    assert document(capsys, tmp_path)["rows"] == []
