"""Runs NautilusTrader 2.x host scripts, alone and traced, and reads what was recorded of them."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.results_rows import RunResults
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus_hosts import Row, rows_of

HERE = Path(__file__).parent
MODULES = ("backtest", "trading", "common", "model", "portfolio", "live")


@dataclass
class TracedHost:
    """One host script, run alone and run traced."""

    name: str
    plain: str
    traced: str
    data: DataFolder
    results: RunResults

    @property
    def engines(self) -> dict[str, Row]:
        """What the engine says of each run, by the namespace that it is recorded under."""
        found: dict[str, Row] = {}
        for run in json.loads(self.plain)["runs"]:
            name = run["trader_id"].lower().replace("-", "/")
            again = sum(known.startswith(name) for known in found)
            found[f"{name}/{again + 1}" if again else name] = run
        return found

    def of_engines(self, table: str) -> list[Row]:
        return [{**row, "portfolio": p} for p, run in self.engines.items() for row in run[table]]

    def rows(self, query: str) -> list[Row]:
        return rows_of(self.data, query)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with only the given settings of ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FILLPATH_", "OTEL_"))}
    kept.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=kept | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "fillpath could not" not in done.stderr, done.stderr[-4000:]
    return done


def recording(folder: Path) -> tuple[str, ...]:
    """Arguments that run a script traced."""
    place = ("--data", str(folder), "--run-id", "host", "--writer", "inline")
    return ("-m", "fillpath.instrumentation", *place)


def tiny_engine(monkeypatch: pytest.MonkeyPatch, *, tag: str = "T") -> Any:
    """An engine whose strategy buys at the third quote and sells at the sixth."""
    monkeypatch.syspath_prepend(str(HERE / "hosts"))
    rust = importlib.import_module("rust_engine")
    model = importlib.import_module("nautilus_trader.model")
    instrument = rust.pair("EUR/USD")

    class Tiny(rust.ScriptedStrategy):  # type: ignore[name-defined]
        def script(self) -> dict[int, Any]:
            return {3: lambda: self.send("BUY"), 6: lambda: self.send("SELL")}

        def send(self, side: str) -> None:
            amount = model.Quantity.from_int(10_000)
            self.submit_order(
                self.order_factory.market(instrument.id, model.OrderSide.from_str(side), amount)
            )

    engine = rust.quiet_engine(f"TINY-{tag}")
    rust.add_margin_venue(engine)
    engine.add_instrument(instrument)
    engine.add_data(rust.quotes(instrument, [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]))
    strategy = Tiny(instrument, tag=tag)
    engine.add_strategy(strategy)
    return engine, strategy


def what_is_there() -> dict[tuple[str, str, str], Any]:
    """Every attribute of every class of the engine's."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"nautilus_trader.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type):
                for attribute, value in vars(kind).items():
                    found[name, kind.__name__, attribute] = value
    return found
