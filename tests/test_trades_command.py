"""`fillpath trades`, as a shell sees it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics import cli

sys.path.append(str(Path(__file__).parent))

from random_trading import record_random_trading
from recorded_market import HOSTILE, record_market

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trades") / "data"
    record_random_trading(folder, "random", 2, steps=90)
    record_market(folder, "hostile", strategy=HOSTILE, portfolio=HOSTILE, symbol=HOSTILE)
    return folder


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def here(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["--data", str(data), *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return here


def trades(run: Run, *arguments: str) -> list[dict[str, Any]]:
    code, out, _ = run("trades", "random", "--json", *arguments)
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)["trades"]
    return found


def test_trades_come_as_they_were_entered_or_sorted_as_asked(run: Run) -> None:
    every = trades(run)
    assert len(every) > 10
    assert [one["entry_sequence"] for one in every] == sorted(o["entry_sequence"] for o in every)
    nets = [Decimal(one["net"]) for one in trades(run, "--sort", "net")]
    assert nets == sorted(nets, reverse=True)
    assert [Decimal(one["net"]) for one in trades(run, "--sort", "net", "--reverse")] == nets[::-1]
    worst = trades(run, "--sort", "adverse", "--limit", "1")
    assert [Decimal(one["adverse_excursion"]) for one in worst] == [
        min(Decimal(one["adverse_excursion"]) for one in every)
    ]


def test_a_trade_is_shown_with_its_orders_costs_and_chains(run: Run) -> None:
    one = next(trade for trade in trades(run, "--sort", "shortfall") if trade["exit_time"])
    code, out, err = run("trades", "random", one["trade_id"])
    assert code == 0
    for told in (one["entry_order_id"], one["exit_order_id"], one["exit_reason"]):
        assert told in out
    for name in ("entry_price", "entry_decision_price", "best_price", "worst_price"):
        assert one[name] in out
    for part in ("delay", "impact", "commission", "shortfall"):
        assert part in out
    assert f"trace show {one['entry_span_id']} --run random" in err
    assert f"trace show {one['exit_span_id']} --run random" in err
    code, out, _ = run("trades", "random", one["trade_id"], "--json")
    document = json.loads(out)
    assert document["trade"] == one
    ids = {fill["client_order_id"] for fill in one["fills"]}
    assert {order["client_order_id"] for order in document["orders"]} == ids


def test_hostile_names_stay_text(run: Run) -> None:
    code, out, _ = run("trades", "hostile")
    assert code == 0
    code, shown, _ = run("trades", "hostile", out.splitlines()[2].split()[0])
    assert code == 0
    for text in (out, shown):
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
        assert "[red]" in text


def test_what_is_not_there_is_said_with_what_to_do(run: Run) -> None:
    for arguments, code, words in (
        (("trades", "nothing"), 5, "There is no run"),
        (("trades", "random", "zz"), 5, "There is no trade 'zz'"),
        (("trades", "random", trades(run)[0]["trade_id"][:3]), 2, "trades begin with"),
        (("trades", "random", "--sort", "beauty"), 2, "cannot be sorted by 'beauty'"),
    ):
        found, out, err = run(*arguments)
        assert (found, out) == (code, "")
        assert words in err
        assert "Try: " in err
