"""Signals and regimes as a reader meets them: on the command line, and in the report."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fillpath.analytics.cli import main
from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.report import render_report
from fillpath.analytics.report_data import report_data
from fillpath.analytics.report_regimes import (
    MOST_STRETCHES,
    RegimeSection,
    Ribbon,
    Stretch,
    ribbons,
)
from fillpath.analytics.report_signals import SignalSection
from fillpath.analytics.results_manager import ResultsManager
from fillpath.analytics.signal_summary import simulated_span
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import NotFound
from fillpath.instrumentation.semconv import EventType, Regime
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from recorded_market import DAY, HOSTILE, Market

STRENGTHS = np.random.default_rng(8).normal(size=80).round(2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with signals of many strengths and one of hostile name, of which few are traded."""
    folder = tmp_path_factory.mktemp("signals")
    random = np.random.default_rng(9)
    price = 100.0
    with Tracing("signals", data=folder, writer="inline") as tracing:
        market = Market(tracing)
        for day, strength in enumerate(STRENGTHS):
            price *= math.exp(random.normal(0, 0.01))
            handler = market.bar(f"{price:.2f}")
            signal = market.signal(handler, str(strength))
            if day % 4 == 0:
                submitted, named = market.order(signal, "BUY", "10")
                market.fill(submitted, named, f"{price:.2f}")
            elif day % 4 == 2:
                submitted, named = market.order(handler, "SELL", "10")
                market.fill(submitted, named, f"{price:.2f}")
            if day == 70:
                market.publish(EventType.REGIME_CHANGE, handler, {Regime.NAME: "crash"})
        market.strategy = HOSTILE
        market.deny(market.signal(handler, HOSTILE), "too much")
        market.finish()
    with Tracing("quiet", data=folder, writer="inline") as tracing:
        market = Market(tracing)
        market.bar("100")
        market.finish()
    return folder


@pytest.fixture(scope="module")
def results(data: Path) -> Iterator[ResultsManager]:
    with open_results_database(DataFolder(data)) as database, ResultsManager(database) as manager:
        for run_id in ("signals", "quiet"):
            manager.load(EventStore(DataFolder(data)), run_id)
        yield manager


def printed(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> tuple[str, str]:
    assert main(["--data", str(data), *words]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], data: Path, *words: str) -> Any:
    return json.loads(printed(capsys, data, *words, "--json")[0])


@pytest.mark.usefixtures("results")
def test_the_command_counts_what_came_of_every_signal(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, data, "signals", "signals")
    counts: Counter[str] = Counter()
    for row in told["reasons"]:
        counts[row["reason"]] += row["signals"]
    assert counts["filled"] == 20
    assert counts["rejected by risk"] == 1
    assert sum(counts.values()) == len(STRENGTHS) + 1
    assert sum(row["signals"] for row in told["strength"]) == len(STRENGTHS)
    assert [row["horizon"] for row in told["decay"]] == [1, 2, 5, 10, 20, 50]
    profits = [Decimal(row["pnl"]) for row in told["strength"] if row["pnl"] is not None]
    assert all(isinstance(row["pnl"], str | None) for row in told["strength"])
    assert len(profits) > 1

    shown, _ = printed(capsys, data, "signals", "signals")
    assert "already positioned" in shown
    assert "IC" in shown
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


@pytest.mark.usefixtures("results")
def test_the_command_lists_the_signals_that_led_to_nothing(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, data, "signals", "signals", "--unused")["unused"]
    assert len(told) == len(STRENGTHS) + 1 - 20
    assert {row["reason"] for row in told} == {
        "no order",
        "already positioned",
        "rejected by risk",
    }
    assert [row["sequence"] for row in told] == sorted(row["sequence"] for row in told)
    shown, talk = printed(capsys, data, "signals", "signals", "--unused")
    assert shown.count("2023-") + shown.count("2024-") == 50
    assert f"{len(told) - 50} more" in talk
    assert "\x1b[31m" not in shown


@pytest.mark.usefixtures("results")
def test_the_command_tells_the_time_in_each_regime(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, data, "regimes", "signals")
    spells = told["regimes"]
    assert [row["name"] for row in spells][-1] == "crash"
    assert spells[-1]["events"] == len(STRENGTHS) - 71
    assert sum(row["events"] for row in spells) == len(STRENGTHS) - 40
    classified = [row for row in spells if row["source"] == "classifier"]
    assert sum(row["end_time"] - row["event_time"] for row in classified) == 30 * DAY
    assert sum(row["time"] or 0 for row in told["time"]) == 30 * DAY
    assert sum(row["events"] for row in told["time"]) == len(STRENGTHS) - 40
    total = sum(Decimal(row["amount"]) for row in told["pnl"])
    by_run = document(capsys, data, "signals", "signals")["strength"]
    assert total == sum(Decimal(row["pnl"] or 0) for row in by_run)
    shown, _ = printed(capsys, data, "regimes", "signals")
    assert "crash" in shown


@pytest.mark.usefixtures("results")
def test_a_run_without_signals_or_regimes_says_so(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["signals"], ["signals", "--unused"], ["regimes"]):
        shown, talk = printed(capsys, data, words[0], "quiet", *words[1:])
        assert shown == ""
        assert "quiet" in talk
    assert document(capsys, data, "signals", "quiet")["reasons"] == []
    assert main(["--data", str(data), "signals", "nothing"]) == NotFound.exit_code


def test_signals_earned_what_the_ledger_attributes_to_them(results: ResultsManager) -> None:
    slices = results.rows("pnl_slices", "signals")
    attributed = sum(row["amount"] for row in slices if row["signal"] == "trend")
    by_strength = results.rows("signal_strength", "signals")
    assert sum(row["pnl"] or 0 for row in by_strength) == attributed != 0
    by_signal = results.rows("signals", "signals")
    assert sum(row["pnl"] or 0 for row in by_signal) == attributed


def sections_of(results: ResultsManager, data: Path, run_id: str) -> tuple[Any, Any, str]:
    made = report_data(results, EventStore(DataFolder(data)), run_id)
    models = {filled.section.key: filled.model for filled in made.sections}
    return models["signals"], models["regimes"], render_report(made)


def test_the_report_shows_what_the_tables_say(results: ResultsManager, data: Path) -> None:
    signals, regimes, page = sections_of(results, data, "signals")
    assert isinstance(signals, SignalSection)
    assert isinstance(regimes, RegimeSection)
    strength = results.rows("signal_strength", "signals")
    (group,) = [one for one in signals.groups if one.strategy == "Trend-1"]
    assert [(b.signals, b.traded, b.hits, b.pnl) for b in group.buckets] == [
        (row["signals"], row["traded"], row["hits"], row["pnl"]) for row in strength
    ]
    for bucket, row in zip(group.buckets, strength, strict=True):
        if row["hit_rate"] is not None:
            assert bucket.rate is not None
            assert float(bucket.rate.value) == pytest.approx(row["hit_rate"], abs=1e-9)
            assert float(bucket.rate.low) == pytest.approx(row["hit_rate_low"], abs=1e-9)
            assert float(bucket.rate.high) == pytest.approx(row["hit_rate_high"], abs=1e-9)
    assert sum(one.count for one in group.reasons) == group.signals == len(STRENGTHS)
    assert signals.unused_count == len(STRENGTHS) + 1 - 20
    assert {one.reason for one in signals.unused} > {"rejected by risk"}
    assert len(group.strength_figures) == 1
    assert group.decay_figure is not None
    assert len(group.decay_figure.rows) == 6
    assert any("does not show" in remark or "chance" in remark for remark in group.remarks)

    assert regimes.figure is not None
    assert len(regimes.figure.rows) == len(results.rows("regimes", "signals"))
    assert sum(profit.amount for profit in regimes.profits) == sum(
        row["amount"] for row in results.rows("pnl_slices", "signals")
    )
    assert 'id="signals"' in page
    assert "crash" in page
    assert "<script>\x1b" not in page


def test_the_report_of_a_quiet_run_says_what_would_be_there(
    results: ResultsManager, data: Path
) -> None:
    signals, regimes, page = sections_of(results, data, "quiet")
    assert signals.groups == regimes.times == ()
    assert "No strategy published a signal" in page
    assert "No regime is known of this run" in page


def ribbon_of(names: list[str]) -> Ribbon:
    rows = [
        {
            "portfolio": "fund",
            "symbol": "ACME",
            "event_time": place * 10,
            "end_time": place * 10 + 10 if place + 1 < len(names) else None,
            "name": name,
            "events": 1,
            "trace_id": None,
        }
        for place, name in enumerate(names)
    ]
    (ribbon,) = ribbons(rows, {("fund", "ACME"): len(names) * 10, (None, None): 10**9})
    return ribbon


def test_a_long_ribbon_is_thinned_to_the_regimes_that_took_most_of_it() -> None:
    short = ribbon_of(["calm, up", "turbulent, down", "bull"])
    assert not short.is_thinned
    assert [one.tone for one in short.stretches] == ["up", "down", "other"]
    assert [one.is_strong for one in short.stretches] == [False, True, True]
    assert short.stretches[-1] == Stretch(20, 30, "bull", None)
    long = ribbon_of((["a"] * 7 + ["b"] * 3) * 400 + ["b"] * 2000)
    # A stretch of 300: the last one that begins with `a` has more of `b`.
    assert long.is_thinned
    assert len(long.stretches) <= MOST_STRETCHES
    assert (long.stretches[0].begin, long.stretches[-1].end) == (0, 60_000)
    assert long.stretches[-1].regime == "b"
    assert long.stretches[-1].begin == 39_900


def test_long_stretches_of_simulated_time_are_written_in_days() -> None:
    assert simulated_span(90 * DAY + DAY // 2).replace("\xa0", " ") == "90.5 d"
    assert simulated_span(DAY).replace("\xa0", " ") == "24 h 00 min"
