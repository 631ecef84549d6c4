"""A live NautilusTrader engine runs its timers in other threads than its loop."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus_hosts import rows_of

pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")

pytestmark = [
    # NautilusTrader 1.231 calls what pandas 3 has put on its way out,
    pytest.mark.filterwarnings("ignore:Timestamp.utcnow is deprecated"),
    # and pandas 2 calls what NumPy has.
    pytest.mark.filterwarnings("ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning"),
]


class Loop:
    """The engine's loop: a bus, an actor on it, and quotes that are published meanwhile."""

    def __init__(self) -> None:
        from nautilus_trader.common.actor import Actor
        from nautilus_trader.common.component import LiveClock
        from nautilus_trader.model.identifiers import TraderId
        from nautilus_trader.test_kit.stubs.component import TestComponentStubs
        from nautilus_trader.test_kit.stubs.data import TestDataStubs

        from fillpath.instrumentation.nautilus_bus import TracedMessageBus

        class Signalling(Actor):
            def on_time(self, *waits: threading.Barrier) -> None:
                for number, wait in enumerate(waits):
                    self.publish_signal("timed", number, 1)
                    wait.wait(10)  # for the loop to go on
                    wait.wait(10)

        clock = LiveClock()
        self.bus = TracedMessageBus(TraderId("THREADS-001"), clock)
        self.actor: Any = Signalling()
        portfolio = TestComponentStubs.portfolio()
        self.actor.register_base(portfolio, self.bus, TestComponentStubs.cache(), clock)
        self.quote = TestDataStubs.quote_tick

    def publish_quote(self) -> None:
        self.bus.publish("data.quotes.SIM.AUD/USD", self.quote())


def test_a_call_back_that_quotes_overtake_stays_one_event(tmp_path: Path) -> None:
    """It ends with what it published last; what comes after it has nothing to do with it."""
    with Tracing("threads", data=tmp_path, mode="live", writer="inline"):
        loop = Loop()
        loop.publish_quote()
        waits = [threading.Barrier(2) for _ in range(3)]
        timer = threading.Thread(target=loop.actor.on_time, args=waits)
        timer.start()
        for wait in waits:
            wait.wait(10)
            loop.publish_quote()
            wait.wait(10)
        timer.join()
        loop.publish_quote()
        again = threading.Thread(target=loop.actor.on_time)
        again.start()
        again.join()
        loop.publish_quote()
    spans = rows_of(DataFolder(tmp_path), "select * from spans order by sequence")
    ticks = [row for row in spans if row["event_type"] == "TICK"]
    (call_back,) = (row for row in spans if row["handler"])
    signals = [row for row in spans if row["event_type"] == "SIGNAL"]
    assert len(ticks) == 6
    assert len(signals) == 3
    assert (call_back["event_type"], call_back["handler"]) == ("SYSTEM", "Signalling.on_time")
    assert {row["parent_span_id"] for row in signals} == {call_back["span_id"]}
    assert {row["parent_span_id"] for row in [call_back, *ticks]} == {None}
    assert call_back["start_time"] < ticks[2]["start_time"] < call_back["end_time"]
    assert call_back["end_time"] < ticks[-1]["start_time"]
    assert lost(tmp_path) == 0


def test_threads_that_publish_at_once_lose_nothing(tmp_path: Path) -> None:
    with Tracing("threads", data=tmp_path, mode="live", writer="inline"):
        loop = Loop()

        def signal(number: int) -> None:
            for _ in range(300):
                loop.actor.publish_signal(f"of{number}", number, 1)

        timers = [threading.Thread(target=signal, args=(number,)) for number in range(4)]
        for timer in timers:
            timer.start()
        while any(timer.is_alive() for timer in timers):
            loop.publish_quote()
    spans = rows_of(DataFolder(tmp_path), "select * from spans")
    signals = [row for row in spans if row["event_type"] == "SIGNAL"]
    assert len(signals) == 4 * 300
    assert all(row["end_time"] is not None for row in spans)
    assert lost(tmp_path) == 0


def test_a_command_is_known_again_after_more_quotes_than_are_remembered(tmp_path: Path) -> None:
    """Live it waits in a queue between two endpoints, while a burst of quotes goes by."""
    with Tracing("burst", data=tmp_path, mode="live", writer="inline"):
        loop = Loop()
        loop.bus.register("Waiting.execute", lambda _: None)
        from nautilus_trader.test_kit.stubs.commands import TestCommandStubs
        from nautilus_trader.test_kit.stubs.execution import TestExecStubs

        command = TestCommandStubs.submit_order_command(TestExecStubs.limit_order())
        loop.bus.send("Waiting.execute", command)
        for _ in range(8200):
            loop.publish_quote()
        loop.bus.send("Waiting.execute", command)
    kinds = (
        "select event_type, count(*) as spans from spans where event_type <> 'SYSTEM' group by 1"
    )
    counted = {row["event_type"]: row["spans"] for row in rows_of(DataFolder(tmp_path), kinds)}
    assert counted == {"COMMAND": 1, "TICK": 8200}


def lost(data: Path) -> int:
    (run,) = rows_of(DataFolder(data), "select published - kept as lost from runs")
    number: int = run["lost"]
    return number
