"""The example of a home-made engine: traced, it trades the same, and its money is all there."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation.semconv import PUBLISH, Account, Fill, Order
from fillpath.instrumentation.spool import SpoolReader

EXAMPLES = Path(__file__).parents[1] / "examples"
ENGINE = EXAMPLES / "home_made_bus.py"
TRACED = EXAMPLES / "trace_home_made_bus.py"


def run(script: Path, data: Path | None = None, run_id: str = "run") -> str:
    environment = {
        **os.environ,
        "FILLPATH_DATA": str(data),
        "FILLPATH_RUN_ID": run_id,
        "FILLPATH_WRITER": "none",
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment if data else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Run:
    """What a traced run left in its spool."""

    def __init__(self, folder: Path) -> None:
        spool = SpoolEvents()
        self.events: dict[int, RecordedEvent] = {}
        for block in SpoolReader(folder).blocks():
            self.events.update((event.sequence, event) for event in spool.feed(block))
        self.counts, self.end = spool.counts, spool.end or {}

    def of(self, kind: str) -> list[RecordedEvent]:
        return [
            event
            for _, event in sorted(self.events.items())
            if (event.site.operation, event.site.event_type) == (PUBLISH, kind)
        ]

    def ancestors(self, event: RecordedEvent) -> list[str]:
        names = []
        while event.parent:
            event = self.events[event.parent]
            names.append(event.site.handler or event.site.event_type)
        return names

    def tree(self) -> list[Any]:
        return [
            (e.sequence, e.parent, e.root, e.site, e.event_time, e.attributes, e.links, e.extra)
            for e in self.events.values()
        ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def traced(data: Path) -> tuple[str, Run]:
    report = run(TRACED, data)
    return report, Run(data / "spool" / "run")


def test_the_engine_does_not_know_that_it_can_be_traced() -> None:
    words = ENGINE.read_text(encoding="utf-8").lower()
    assert not [word for word in ("fillpath", "trace", "tracing", "span") if word in words]
    assert len(TRACED.read_text(encoding="utf-8").splitlines()) <= 15


@pytest.mark.smoke
def test_tracing_changes_no_trade(traced: tuple[str, Run]) -> None:
    report, _ = traced
    assert report.startswith(run(ENGINE))


def test_two_runs_of_one_name_are_one_tree(
    traced: tuple[str, Run], tmp_path: Path, data: Path
) -> None:
    _, first = traced
    run(TRACED, tmp_path)
    assert Run(tmp_path / "spool" / "run").tree() == first.tree()


def test_every_fill_leads_to_a_signal_or_a_stop_and_to_a_bar(traced: tuple[str, Run]) -> None:
    _, recorded = traced
    by_signal = ["ORDER", "Risk.on_signal", "SIGNAL", "Strategy.on_bar", "BAR"]
    by_stop = ["ORDER", "Broker.on_bar", "BAR"]
    paths = [recorded.ancestors(fill) for fill in recorded.of("FILL")]
    assert all(path in (by_signal, by_stop) for path in paths)
    assert by_signal in paths
    assert by_stop in paths
    for fill in recorded.of("FILL"):
        order = recorded.events[fill.parent]
        assert order.attributes[Order.CLIENT_ID] == fill.attributes[Order.CLIENT_ID]
        assert order.event_time is not None
        assert fill.event_time is not None
        assert order.event_time < fill.event_time


def test_the_money_of_the_fills_is_the_engines_own(traced: tuple[str, Run]) -> None:
    report, recorded = traced
    cash, profit = Decimal(100_000), Decimal(0)
    for fill in recorded.of("FILL"):
        attributes = fill.attributes
        signed = attributes[Fill.QUANTITY] * {"BUY": 1, "SELL": -1}[attributes[Order.SIDE]]
        cash -= signed * attributes[Fill.PRICE] + attributes[Fill.COMMISSION]
    *trades, last = report.splitlines()[:-1]
    profit = sum((Decimal(line.split()[-1]) for line in trades), Decimal(0))
    assert f"{len(trades)} trades, cash {cash} USD" == last
    (balance,) = recorded.of("PORTFOLIO")[-1].attributes[Account.BALANCES]
    assert balance["total"] == cash
    open_positions = len(recorded.of("FILL")) - 2 * len(trades)
    assert open_positions or cash == 100_000 + profit


def test_some_signals_lead_to_no_order_and_some_orders_are_refused(
    traced: tuple[str, Run],
) -> None:
    _, recorded = traced
    refused = [e for e in recorded.of("ORDER") if e.attributes[Order.STATUS] == "REJECTED"]
    assert refused
    assert all(order.attributes[Order.REJECT_REASON] for order in refused)
    assert len(recorded.of("RISK_BREACH")) == len(refused)
    by_signals = [e for e in recorded.of("ORDER") if "SIGNAL" in recorded.ancestors(e)]
    assert len(by_signals) < len(recorded.of("SIGNAL"))


def test_everything_published_is_recorded(traced: tuple[str, Run]) -> None:
    _, recorded = traced
    assert recorded.end["status"] == "Ended"
    assert {count.portfolio for count in recorded.counts} == {"home/made"}
    for count in recorded.counts:
        assert (len(recorded.of(count.event_type)), count.dropped) == (count.published, {})
