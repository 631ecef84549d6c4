"""Signals of a live run and its backtest: matched at best, and what came of them."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics import cli
from fillpath.analytics.signal_matching import match_times
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import EXIT_DIFFERENT, EXIT_OK

TIMES = st.lists(st.integers(0, 40), max_size=9)


def lost(
    ours: list[int], theirs: list[int], pairs: list[tuple[int, int]], window: int
) -> tuple[int, int]:
    """Twice what a matching loses, and how many pairs it lacks."""
    apart = sum(2 * abs(ours[one] - theirs[other]) for one, other in pairs)
    return apart + window * (len(ours) + len(theirs) - 2 * len(pairs)), -len(pairs)


def best_loss(ours: list[int], theirs: list[int], window: int) -> tuple[int, int]:
    """What the best assignment loses, by scipy: whoever is alone is assigned to nobody."""
    from scipy.optimize import linear_sum_assignment

    both = len(ours) + len(theirs)
    many = 1000  # a pair is worth a little more than the same loss without one
    costs = np.zeros((both, both))
    costs[: len(ours), len(theirs) :] = window * many
    costs[len(ours) :, : len(theirs)] = window * many
    for one, time in enumerate(ours):
        for other, their in enumerate(theirs):
            apart = abs(time - their)
            costs[one, other] = 2 * apart * many - 1 if apart <= window else 1e9
    rows, columns = linear_sum_assignment(costs)
    pairs = [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if row < len(ours) and column < len(theirs)
    ]
    return lost(ours, theirs, pairs, window)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(TIMES, TIMES, st.integers(0, 15))
def test_no_assignment_loses_less(ours: list[int], theirs: list[int], window: int) -> None:
    pairs = match_times(ours, theirs, window)
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    assert all(abs(ours[one] - theirs[other]) <= window for one, other in pairs)
    assert lost(ours, theirs, list(pairs), window) == best_loss(ours, theirs, window)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(TIMES, TIMES, st.integers(0, 15), st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_side_matters(
    ours: list[int], theirs: list[int], window: int, shuffler: random.Random
) -> None:
    pairs = match_times(ours, theirs, window)
    times = sorted((ours[one], theirs[other]) for one, other in pairs)
    mixed, mixed_others = list(ours), list(theirs)
    shuffler.shuffle(mixed)
    shuffler.shuffle(mixed_others)
    again = match_times(mixed, mixed_others, window)
    assert sorted((mixed[one], mixed_others[other]) for one, other in again) == times
    back = match_times(theirs, ours, window)
    assert len(back) == len(pairs)
    assert lost(theirs, ours, list(back), window) == lost(ours, theirs, list(pairs), window)


def test_one_signal_that_is_missing_moves_no_other() -> None:
    bars = list(range(0, 1000, 10))
    pairs = match_times(bars[1:], bars[:-1], 10)
    assert len(pairs) == 98
    assert all(bars[1:][one] == bars[:-1][other] for one, other in pairs)


MINUTE = 60 * 10**9
START = 1_700_000_000_000_000_000


def record(data: Path, run_id: str, signals: list[dict[str, Any]], **names: Any) -> None:
    """Record a run of bars and of signals that are filled, told by minute."""
    mode = names.pop("mode", "backtest")
    with Tracing(run_id, data=data, writer="inline", mode=mode) as tracing:
        tracer = tracing.tracer
        names = {"portfolio": "book", "symbol": "ACME", "venue": "X", **names}
        number = 0
        for minute in range(1, 31):
            time = START + minute * MINUTE
            price = {"trading.bar.close": str(100 + minute)}
            bar = tracer.open("BAR", event_time=time, attributes=price, **names)
            for one in [one for one in signals if one["minute"] == minute]:
                number += 1
                own = {**names, "strategy": one.get("strategy", "trend")}
                told = {"trading.signal.name": "go", "trading.signal.value": one.get("value", 1)}
                when = time + one.get("late", 0)
                signal = tracer.open("SIGNAL", event_time=when, attributes=told, parent=bar, **own)
                if "price" in one:
                    order = {
                        "trading.order.client_id": f"{run_id}-{number}",
                        "trading.order.side": one.get("side", "BUY"),
                        "trading.order.status": "FILLED",
                    }
                    sent = tracer.open(
                        "ORDER", event_time=when, attributes=order, parent=signal, **own
                    )
                    fill = {
                        **order,
                        "trading.fill.id": f"{run_id}-{number}",
                        "trading.fill.price": one["price"],
                        "trading.fill.quantity": one.get("quantity", "10"),
                        "trading.fill.commission": one.get("commission", "0"),
                        "trading.fill.currency": "USD",
                        "trading.fill.commission_currency": "USD",
                    }
                    filled = tracer.open(
                        "FILL", event_time=when, attributes=fill, parent=sent, **own
                    )
                    for event in (filled, sent):
                        tracer.close(event)
                tracer.close(signal)
            tracer.close(bar)


def matched(
    capsys: pytest.CaptureFixture[str], data: Path, *words: str
) -> tuple[int, dict[str, Any]]:
    command = ["--data", str(data), "runs", "diff", "live", "paper", "--live-vs-backtest"]
    code = cli.main([*command, "--json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backtest, and a live run with one signal missed, one extra, one late, two dearer."""
    folder = tmp_path_factory.mktemp("live")
    every = [{"minute": minute, "price": "100", "commission": "1"} for minute in range(2, 12)]
    record(folder, "paper", every)
    live = [dict(one) for one in every if one["minute"] != 5]
    live[0] |= {"price": "100.25", "commission": "1.5"}
    live[1] |= {"side": "BUY", "quantity": "5", "price": "99"}
    live[2] |= {"late": 7 * 10**9}
    live[4] |= {"value": -1}
    live.append({"minute": 20, "value": 1})
    record(folder, "live", live, mode="live", portfolio="book-live")
    return folder


def test_missed_extra_late_and_dearer_signals_are_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = matched(capsys, data)
    assert code == EXIT_DIFFERENT
    assert found["counts"] == {
        "matched": 9,
        "missed": 1,
        "extra": 1,
        "late": 1,
        "other_value": 1,
        "differently_filled": 2,
    }
    (missed,), (extra,) = found["missed"], found["extra"]
    assert missed["event_time"] == START + 5 * MINUTE
    assert missed["run_id"] == "paper"
    assert missed["filled"][0]["quantity"] == "10"
    assert extra["event_time"] == START + 20 * MINUTE
    assert found["lateness"] == {"p50": 0, "p90": 7 * 10**9}
    assert found["lateness_of_late"] == {"p50": 7 * 10**9, "p90": 7 * 10**9}
    assert found["live_latency"]["p90"] > 0
    first, second, *_ = found["pairs"]
    # Ten bought 0.25 dearer; five of ten bought 1 cheaper.
    assert [fill["effect"] for fill in first["fills"]] == ["-2.5"]
    assert first["commissions"] == {"USD": "-0.5"}
    assert [fill["effect"] for fill in second["fills"]] == ["5"]
    assert second["fills"][0]["live_quantity"] == "5"
    assert second["live"]["trace_id"] != second["backtest"]["trace_id"]


def test_what_it_came_to_adds_up(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = matched(capsys, data)
    (line,) = found["effects"]
    parts = [Decimal(line[name]) for name in ("prices", "commissions", "other")]
    assert sum(parts) == Decimal(line["total"])
    assert parts[:2] == [Decimal("2.5"), Decimal("-0.5")]
    # Every lot is worth 130 at the end; live: 75 at 100 and 10 at 100.25 less, 5 of them cheaper.
    paper = 10 * 10 * Decimal(30) - 10
    live = 7 * 10 * Decimal(30) + 10 * Decimal("29.75") + 5 * Decimal(31) - Decimal("9.5")
    assert Decimal(line["total"]) == live - paper


def test_a_run_matches_itself(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["runs", "diff", "paper", "paper", "--live-vs-backtest", "--no-pnl"]
    assert cli.main(["--data", str(data), *words]) == EXIT_OK
    out = capsys.readouterr().out
    assert "10 signals belong together" in out
    assert "filled alike" in out


def test_a_signal_is_not_late_within_what_is_allowed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = matched(capsys, data, "--late-after", "10s", "--no-pnl")
    assert found["counts"]["late"] == 0
    assert cli.main(["--data", str(data), "runs", "diff", "live", "paper", "--live-vs-backtest"])
    out = capsys.readouterr().out
    for words in ("Missed", "Extra", "Late, the latest first", "Filled differently", "trace show"):
        assert words in out
