"""Attaching to NautilusTrader and letting go of it, before, after and in the middle of a run."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import NautilusInstrumentor, Tracing
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


@pytest.fixture
def kernel() -> Iterator[Any]:
    """The engine's kernel module; whatever a test attached to it is taken off again."""
    module = importlib.import_module("nautilus_trader.system.kernel")
    original = module.MessageBus
    yield module
    NautilusInstrumentor().uninstrument()
    assert module.MessageBus is original


@pytest.mark.smoke
def test_uninstrument_puts_back_what_was_there(kernel: Any) -> None:
    original = kernel.MessageBus
    instrumentor = NautilusInstrumentor()
    for _ in range(2):
        instrumentor.instrument()
        assert kernel.MessageBus is not original
        instrumentor.instrument()  # a second time does nothing
        instrumentor.uninstrument()
        assert kernel.MessageBus is original


def build_engine() -> Any:
    """A backtest engine that says nothing."""
    engine_module = importlib.import_module("nautilus_trader.backtest.engine")
    config = importlib.import_module("nautilus_trader.config")
    logging_config = config.LoggingConfig(bypass_logging=True)
    return engine_module.BacktestEngine(
        config=engine_module.BacktestEngineConfig(logging=logging_config)
    )


def test_an_engine_outlives_its_instrumentation(kernel: Any, tmp_path: Path) -> None:
    """Built while attached, run after the session and the instrumentation have ended."""
    state = random.getstate()
    with Tracing("attached", data=tmp_path, writer="inline"):
        NautilusInstrumentor().instrument()
        engine = build_engine()
    NautilusInstrumentor().uninstrument()
    engine.run()
    engine.dispose()
    assert random.getstate() == state
    (run,) = rows_of(DataFolder(tmp_path), "select run_id, engine, status from runs")
    assert run == {"run_id": "attached", "engine": "NautilusTrader", "status": "Ended"}
    assert type(build_engine().kernel.msgbus) is kernel.MessageBus


def test_an_engine_runs_untraced_when_nothing_can_be_recorded(
    kernel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "file"))
    NautilusInstrumentor().instrument()
    engine = build_engine()
    engine.run()
    engine.dispose()
    assert "runs untraced" in caplog.text


def test_an_engine_that_was_built_before_runs_untraced_and_says_so(
    kernel: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = build_engine()
    NautilusInstrumentor().instrument()
    with Tracing("late", data=tmp_path, writer="inline"):
        engine.run()
        engine.dispose()
    assert "was built before instrument() and runs untraced" in caplog.text
    assert rows_of(DataFolder(tmp_path), "select * from spans") == []


HOSTS = Path(__file__).parent / "hosts"


@pytest.mark.parametrize("again", [False, True], ids=["for good", "and on again"])
def test_uninstrument_in_the_middle_of_a_run_records_nothing_afterwards(
    again: bool, kernel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy does it in `on_bar`, between two orders; the run trades as if it had not."""
    monkeypatch.syspath_prepend(HOSTS)
    host = importlib.import_module("nautilus_user_error")
    market = importlib.import_module("host_market")

    class Detaching(host.Careless):  # type: ignore[name-defined]  # the engine ships no types
        detaches = False

        def on_bar(self, bar: Any) -> None:
            self.seen += 1
            if self.seen % 10 == 0:
                self.buy()
            if self.seen == 20 and self.detaches:
                NautilusInstrumentor().uninstrument()
                if again:
                    NautilusInstrumentor().instrument()
                self.buy()
            elif self.seen == 20:
                self.buy()

    def run(*, detaches: bool) -> list[tuple[str, str]]:
        engine = market.quiet_engine("OFF-001")
        market.add_margin_venue(engine)
        pair = market.fx()
        engine.add_instrument(pair)
        prices = market.walk(200, seed=7, start=1.08, step=0.0002)
        engine.add_data(market.bars(pair, host.BAR_TYPE, prices))
        strategy = Detaching()
        strategy.detaches = detaches
        engine.add_strategy(strategy)
        engine.run()
        told = [*engine.trader.generate_fills_report()["last_px"].items()]
        engine.dispose()
        return told

    plain = run(detaches=False)
    with Tracing("off", data=tmp_path, writer="inline"):
        NautilusInstrumentor().instrument()
        traced = run(detaches=True)
    assert traced == plain
    spans = rows_of(DataFolder(tmp_path), "select * from spans order by sequence")
    kinds = Counter(row["event_type"] for row in spans if row["name"].startswith("publish"))
    assert (kinds["BAR"], kinds["FILL"]) == (20, 1)  # the second order's fill comes afterwards
    assert all(row["end_time"] >= row["start_time"] for row in spans)
    (ended,) = rows_of(DataFolder(tmp_path), "select status, published, kept from runs")
    assert (ended["status"], ended["published"]) == ("Ended", ended["kept"])


@pytest.mark.parametrize(
    ("how", "code", "status"),
    [pytest.param("stumble", 0, "Ended", marks=pytest.mark.full), ("fall", 1, "Crashed")],
)
def test_a_live_handler_that_raises_is_told_even_if_the_engine_ends_the_process(
    how: str, code: int, status: str, tmp_path: Path
) -> None:
    """The engine's own answer is the same as untraced: an orderly stop, or `os._exit`."""
    script, report = str(HOSTS / "nautilus_live.py"), str(tmp_path / "report.json")
    recording = ["--mode", "live", "--data", str(tmp_path), "--writer", "inline"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "fillpath.instrumentation", *recording, script, report, how],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )
    assert done.returncode == code
    assert "over the fourth bar" in done.stderr  # the engine's log
    catch_up(DataFolder(tmp_path))
    (run,) = rows_of(DataFolder(tmp_path), "select status, published, kept from runs")
    assert (run["status"], run["published"]) == (status, run["kept"])
    (failed,) = rows_of(DataFolder(tmp_path), "select * from spans where status_code = 'ERROR'")
    assert (failed["handler"], failed["status_message"]) == ("ByBars.on_bar", "over the fourth bar")


SWEEP = Path(__file__).parent / "hosts" / "sweep_of_nautilus.py"


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.full)], ids=["fork", "spawn"]
)
def test_each_backtest_of_an_optimisation_is_a_run_with_its_parameters(
    method: str, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    found = [
        subprocess.run(
            [sys.executable, str(SWEEP), method, *data],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env=environment,
        ).stdout
        for data in ([], [str(tmp_path)])
    ]
    plain, traced = map(json.loads, found)
    assert traced == plain
    catch_up(DataFolder(tmp_path))
    runs = rows_of(
        DataFolder(tmp_path),
        """
        select parameters->>'every' as every, runs.status, count(*) as fills
        from spans join runs using (run_id) where event_type = 'FILL' group by run_id, every, 2
        """,
    )
    assert {row["status"] for row in runs} == {"Ended"}
    assert {row["every"]: row["fills"] for row in runs} == {
        every: len(prices) for every, prices in plain.items()
    }
