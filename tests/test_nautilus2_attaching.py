"""Attaching to NautilusTrader 2.x and letting go, and scripts that are traced as they are."""

from __future__ import annotations

import importlib
import json
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import NautilusInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus2_hosts import HERE, recording, run_python, tiny_engine, what_is_there
from nautilus_hosts import Row, rows_of


@pytest.fixture
def instrumentor() -> Iterator[NautilusInstrumentor]:
    found = NautilusInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


def test_uninstrument_puts_back_the_very_objects(instrumentor: NautilusInstrumentor) -> None:
    before = what_is_there()
    instrumentor.instrument()
    instrumentor.instrument()
    assert any(value is not before[key] for key, value in what_is_there().items())
    instrumentor.uninstrument()
    after = what_is_there()
    assert after.keys() == before.keys()
    assert all(value is before[key] for key, value in after.items())


def test_an_engine_that_was_built_before_is_traced_from_its_next_run_on(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, strategy = tiny_engine(monkeypatch)
    kept = dict(vars(strategy))
    state = random.getstate()
    with Tracing("late", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert random.getstate() == state
    assert vars(strategy).keys() == kept.keys()  # nothing of ours stays on it
    rows = rows_of(DataFolder(tmp_path), "select event_type, portfolio, handler from spans")
    counted = Counter(row["event_type"] for row in rows)
    assert (counted["FILL"], counted["TICK"]) == (2, 7)
    assert {row["portfolio"] for row in rows} == {"tiny/t"}
    assert "Tiny.on_quote" in {row["handler"] for row in rows}


def test_runs_of_one_engine_go_on_until_it_is_reset(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrumentor.instrument()
    rust_ns = 60_000_000_000
    engine, _ = tiny_engine(monkeypatch)
    with Tracing("parts", data=tmp_path, writer="inline"):
        start = importlib.import_module("rust_engine").MONDAY_NS
        engine.run(end=start + 4 * rust_ns, streaming=True)
        engine.run(start=start + 5 * rust_ns, streaming=True)
        engine.end()
        engine.reset()
        engine.run()
    rows = rows_of(
        DataFolder(tmp_path),
        "select portfolio, count(*) filter (event_type = 'FILL') as fills from spans"
        " group by portfolio order by portfolio",
    )
    assert [row["portfolio"] for row in rows] == ["tiny/t", "tiny/t/2"]
    assert rows[0]["fills"] >= 1


def test_letting_go_in_the_middle_of_a_run_leaves_the_run_alone(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = tiny_engine(monkeypatch)
    alone.run()
    engine, strategy = tiny_engine(monkeypatch)
    script = strategy.script

    def letting_go() -> dict[int, Any]:
        return {**script(), 5: instrumentor.uninstrument}

    strategy.script = letting_go
    with Tracing("half", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert len(engine.cache.orders()) == len(alone.cache.orders()) == 2
    rows = rows_of(DataFolder(tmp_path), "select event_type from spans")
    counted = Counter(row["event_type"] for row in rows)
    assert (counted["FILL"], counted["TICK"]) == (1, 5)


def test_a_command_that_the_engine_refuses_is_none(
    instrumentor: NautilusInstrumentor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Orders instead of their ids, as 1.x takes them: the engine says so itself."""
    engine, strategy = tiny_engine(monkeypatch)
    script = strategy.script
    refused = []

    def with_orders() -> None:
        order = strategy.cache.orders()[0]
        for command in (strategy.modify_order, strategy.cancel_order, strategy.cancel_orders):
            try:
                command(order)
            except TypeError as error:
                refused.append(error)

    strategy.script = lambda: {**script(), 5: with_orders}
    with Tracing("refused", data=tmp_path, writer="inline"):
        instrumentor.instrument()
        engine.run()
    assert len(refused) == 3
    assert caplog.records == []
    rows = rows_of(DataFolder(tmp_path), "select event_type from spans")
    assert Counter(row["event_type"] for row in rows)["COMMAND"] == 2  # the orders sent


def test_an_engine_runs_untraced_when_nothing_can_be_recorded(
    instrumentor: NautilusInstrumentor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "file" / "data"))
    instrumentor.instrument()
    engine, _ = tiny_engine(monkeypatch)
    engine.run()
    assert len(engine.cache.orders()) == 2


def test_the_cause_that_an_event_names_is_preferred(tmp_path: Path) -> None:
    """Native ids are there in some modes of the engine; then no rule is asked."""
    model = importlib.import_module("nautilus_trader.model")
    orders = importlib.import_module("fillpath.instrumentation.nautilus_rust_orders")
    engine_run = importlib.import_module("fillpath.instrumentation.engine_run")
    fields: Row = {
        "trader_id": "T-1", "strategy_id": "S-1", "instrument_id": "EUR/USD.SIM",
        "account_id": "SIM-001", "ts_event": 1, "ts_init": 1, "reconciliation": False,
        "venue_order_id": "V-1", "causation_id": None,
    }  # fmt: skip
    first = "aaaaaaaa-0000-4000-8000-000000000001"
    with Tracing("named", data=tmp_path, writer="inline") as session:
        recorder = orders.OrderRecorder(engine_run.EngineRun(session, "named"), lambda _: None)
        recorder.cache = importlib.import_module("nautilus_trader.common").Cache()

        def event(kind: str, order: str, number: int, cause: str | None) -> Any:
            return getattr(model, kind).from_dict(
                fields
                | {
                    "client_order_id": order,
                    "event_id": f"aaaaaaaa-0000-4000-8000-{number:012}",
                    "causation_id": cause,
                }
            )

        accepted = recorder.order_event(event("OrderAccepted", "O-1", 1, None))
        expired = recorder.order_event(event("OrderExpired", "O-2", 2, first))
        assert recorder.order_event(event("OrderExpired", "O-2", 2, first)) is expired
    assert accepted is not None
    rows = rows_of(
        DataFolder(tmp_path), "select span_id, parent_span_id from spans order by sequence"
    )
    assert rows[1]["parent_span_id"] == rows[0]["span_id"]


def test_an_unknown_release_gets_one_warning_that_names_the_tested_ones(
    instrumentor: NautilusInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(NautilusInstrumentor, "version", "2.7.0")
    monkeypatch.setattr(NautilusInstrumentor, "_warned", set())
    with caplog.at_level(logging.WARNING):
        instrumentor.instrument()
        instrumentor.uninstrument()
        instrumentor.instrument()
    (warning,) = caplog.records
    assert "2.7.0" in warning.getMessage()
    assert re.search(r">=2\.0\.0rc\d", warning.getMessage())


def test_a_release_without_what_is_patched_is_left_alone(
    instrumentor: NautilusInstrumentor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rust = importlib.import_module("fillpath.instrumentation.nautilus_rust")
    wanted = {**rust.PROBES, "nautilus_trader.trading": ("Strategy.of_tomorrow",)}
    monkeypatch.setattr(rust, "PROBES", wanted)
    before = what_is_there()
    instrumentor.instrument()
    assert all(value is before[key] for key, value in what_is_there().items())
    assert "Strategy.of_tomorrow" in caplog.text


# -- Without a change to the script ---------------------------------------------------------------


@pytest.mark.parametrize("way", ["fillpath run", "opentelemetry-instrument"])
def test_a_script_is_traced_as_it_is(way: str, tmp_path: Path) -> None:
    script, data = HERE / "hosts" / "nautilus2_hedging.py", tmp_path / "data"
    before: tuple[str, ...] = ("-m", "fillpath.analytics.cli", "run")
    if way != "fillpath run":
        before = (str(Path(sys.executable).with_name(way)), sys.executable)
    run_python(
        *before,
        str(script),
        str(tmp_path / "report.json"),
        FILLPATH_DATA=str(data),
        FILLPATH_WRITER="inline",
        OTEL_TRACES_EXPORTER="none",
    )
    rows = rows_of(DataFolder(data), "select event_type from spans where event_type = 'FILL'")
    assert len(rows) == 14


SWEEP = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from nautilus_trader.model import OrderSide, Quantity, StrategyId
from nautilus_trader.trading import Strategy, StrategyConfig
from rust_engine import SIM, USD, add_margin_venue, pair, quiet_engine, quotes

EURUSD = pair("EUR/USD")


class Config(StrategyConfig):
    def __new__(cls, amount):
        return super().__new__(cls, strategy_id=StrategyId("Buyer-1"), order_id_tag="1")

    def __init__(self, amount):
        self.amount = amount


class Buyer(Strategy):
    seen = 0

    def on_start(self):
        self.subscribe_quotes(EURUSD.id)

    def on_quote(self, quote):
        self.seen += 1
        if self.seen == 3:
            amount = Quantity.from_int(self.config.amount)
            self.submit_order(self.order_factory.market(EURUSD.id, OrderSide.BUY, amount))


def backtest(amount):
    engine = quiet_engine("SWEEP-001")
    add_margin_venue(engine)
    engine.add_instrument(EURUSD)
    engine.add_data(quotes(EURUSD, [1.1, 1.2, 1.3, 1.4]))
    engine.add_strategy(Buyer(Config(amount)))
    engine.run()
    return str(engine.cache.account_for_venue(SIM).balance_total(USD))


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        print(*pool.map(backtest, [1000, 2000, 3000]))
"""


def test_each_backtest_of_a_sweep_over_processes_is_a_run_with_its_parameters(
    tmp_path: Path,
) -> None:
    script, data = tmp_path / "sweep.py", tmp_path / "data"
    script.write_text(SWEEP)
    hosts = {"PYTHONPATH": str(HERE / "hosts")}
    alone = run_python(str(script), **hosts).stdout
    assert run_python(*recording(data), str(script), **hosts).stdout == alone
    catch_up(DataFolder(data))
    rows = rows_of(DataFolder(data), "select run_id, quantity from spans where event_type = 'FILL'")
    amounts = {row["run_id"]: int(row["quantity"]) for row in rows}
    runs = rows_of(DataFolder(data), "select run_id, parameters from runs")
    given = {row["run_id"]: json.loads(row["parameters"] or "{}").get("amount") for row in runs}
    assert sorted(amounts.values()) == [1000, 2000, 3000]
    assert {run_id: given[run_id] for run_id in amounts} == amounts


def test_the_examples_of_the_page_are_traced(tmp_path: Path) -> None:
    """A backtest by an engine, and the same over a catalog by a node."""
    page = (HERE.parent / "docs" / "nautilus-2.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    said = []
    for name, example in zip(("my_backtest", "my_node"), examples, strict=True):
        script, data = tmp_path / f"{name}.py", tmp_path / name
        script.write_text(example.replace('Path("catalog")', f'Path("{tmp_path}/catalog")'))
        said.append(run_python(*recording(data), str(script)).stdout.strip())
        rows = rows_of(
            DataFolder(data),
            "select attributes from spans where event_type = 'PORTFOLIO' order by sequence",
        )
        (balance,) = json.loads(rows[-1]["attributes"])["trading.account.balances"]
        assert said[-1] == f"{balance['total']} USD"
        assert f"balance {Decimal(balance['total']):,} USD" in page
    assert said[0] == said[1]


def test_the_benchmark_of_the_engine_runs_here(tmp_path: Path) -> None:
    """Where 1.x is installed, `test_benchmarks` runs that of 1.x instead."""
    output = tmp_path / "bench.json"
    arguments = ("--only", "engine_nautilus2", "--size", "tiny", "--output", str(output))
    run_python("-P", str(HERE.parent / "benchmarks"), *arguments)
    figures = json.loads(output.read_text())["engine_nautilus2"]
    assert figures["events"]["value"] > 100
    assert figures["run, traced ÷ untraced"]["value"] > 0
