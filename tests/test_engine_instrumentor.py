"""What every engine's instrumentor does alike, tried on an engine that is made for it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any, ClassVar

import pytest

from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.engine_run import EngineRun, Instrument
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.settings import DataFolder

ENGINE = """
class Engine:
    def __init__(self, fast):
        self.fast = fast
        self.fills = []

    def run(self):
        for price in (10.0, 11.0, 12.0):
            self.on_bar(price)
        return self.fills

    def on_bar(self, price):
        if price == 11.0 + self.fast:
            self.fills.append(price)

    @staticmethod
    def named():
        return "made"
"""

DAY = 86_400_000_000_000


class MadeInstrumentor(EngineInstrumentor):
    """Attaches to the engine below."""

    engine = "Made"
    distribution = "made-engine"
    tested = ">=1.2,<2"
    trigger = "made_engine"
    probes: ClassVar = {"made_engine": ("Engine.run", "Engine.on_bar")}

    def attach(self, patches: Patches) -> None:
        engine: Any = sys.modules["made_engine"]
        runs: dict[int, EngineRun | None] = {}  # by the engine: several threads run one each

        def run(original: Any) -> Any:
            def recorded(host: Any) -> Any:
                with self.recorded_run(parameters={"fast": host.fast}) as found:
                    runs[id(host)] = found
                    return original(host)

            return recorded

        def on_bar(original: Any) -> Any:
            def recorded(host: Any, price: float) -> None:
                found = runs[id(host)]
                if found is None:
                    original(host, price)
                    return
                instrument = Instrument("ACME")
                bar = found.bar(instrument, DAY, price, price, price, price, 1.0)
                fills = len(host.fills)
                with found.handling("trend", "Engine.on_bar", bar, instrument=instrument):
                    original(host, price)
                    if len(host.fills) > fills:
                        found.order("O-1", "NEW", instrument=instrument)
                        found.fill("O-1", "F-1", "BUY", 1.0, price, instrument=instrument)

            return recorded

        patches.wrap(engine.Engine, "run", run)
        patches.wrap(engine.Engine, "on_bar", on_bar)
        patches.wrap(engine.Engine, "named", lambda original: lambda: original() + "!")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Write the engine's package where Python finds it; gives what sets its version and source."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(MadeInstrumentor, "_instance", None)
    monkeypatch.setattr(EngineInstrumentor, "_warned", set())

    def install(version: str, source: str = ENGINE) -> None:
        metadata = site / "made_engine.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: made-engine\nVersion: {version}\n")
        (site / "made_engine.py").write_text(source)
        importlib.invalidate_caches()

    yield install
    if MadeInstrumentor().is_instrumented_by_opentelemetry:
        MadeInstrumentor().uninstrument()
    sys.modules.pop("made_engine", None)


def made_engine() -> Any:
    return importlib.import_module("made_engine")


def attributes_of(engine: Any) -> dict[str, Any]:
    return {**vars(engine.Engine)}


@pytest.mark.parametrize("is_imported_before", [True, False])
def test_uninstrument_puts_back_the_very_objects(engine: Any, is_imported_before: bool) -> None:
    engine("1.5")
    if is_imported_before:
        before = attributes_of(made_engine())
        MadeInstrumentor().instrument()
    else:
        MadeInstrumentor().instrument()
        assert "made_engine" not in sys.modules
        assert made_engine().Engine.named() == "made!"
        before = {**attributes_of(made_engine())}
        for name in ("run", "on_bar"):
            before[name] = before[name].__wrapped__
        before["named"] = None
    assert made_engine().Engine.named() == "made!"
    MadeInstrumentor().uninstrument()
    after = attributes_of(made_engine())
    assert made_engine().Engine.named() == "made"
    assert after.keys() == before.keys()
    for name in before.keys() - ({"named"} if not is_imported_before else set()):
        assert after[name] is before[name], name


def test_a_stand_in_that_somebody_put_around_ours_stays() -> None:
    class Owner:
        def run(self) -> str:
            return "host"

    patches = Patches()
    patches.wrap(Owner, "run", lambda original: lambda self: "ours " + original(self))
    ours = Owner.run
    Owner.run = lambda self: "theirs " + ours(self)  # type: ignore[method-assign]
    patches.undo()
    assert Owner().run() == "theirs ours host"


def test_an_inherited_method_is_inherited_again_afterwards() -> None:
    class Base:
        def run(self) -> str:
            return "host"

    class Owner(Base):
        pass

    patches = Patches()
    patches.wrap(Owner, "run", lambda original: lambda self: "ours " + original(self))
    assert (Owner().run(), Base().run()) == ("ours host", "host")
    patches.undo()
    assert "run" not in vars(Owner)


def test_instrumenting_twice_wraps_once_and_is_nothing_to_warn_of(
    engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument(skip_dep_check=True)
    MadeInstrumentor().instrument()
    assert made_engine().Engine.named() == "made!"
    assert caplog.records == []


def test_what_is_not_installed_is_not_instrumented(caplog: pytest.LogCaptureFixture) -> None:
    MadeInstrumentor().instrument()
    assert not MadeInstrumentor().is_instrumented_by_opentelemetry
    assert "made-engine" in caplog.text


def test_an_engine_that_is_absent_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    """As with `opentelemetry-instrument`, which asks all of ours if one of the engines is there."""
    MadeInstrumentor().instrument(skip_dep_check=True)
    MadeInstrumentor().uninstrument()
    assert caplog.records == []


def test_runs_that_cannot_be_recorded_are_complained_of_once(
    engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FILLPATH_DATA", os.devnull)
    engine("1.5")
    MadeInstrumentor().instrument()
    assert [made_engine().Engine(0).run() for _ in range(3)] == [[11.0]] * 3
    (warning,) = caplog.records
    assert os.devnull in warning.getMessage()


@pytest.mark.parametrize("version", ["1.1", "2.0", "2.0.0rc1"])
def test_a_release_outside_the_tested_ones_is_traced_with_one_warning_that_names_them(
    engine: Any, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine(version)
    for _ in range(2):
        MadeInstrumentor().instrument()
        assert made_engine().Engine.named() == "made!"
        MadeInstrumentor().uninstrument()
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert ">=1.2,<2" in warning.getMessage()
    assert version in warning.getMessage()


def test_a_tested_release_is_traced_without_a_word(
    engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine("1.9.0")
    MadeInstrumentor().instrument()
    made_engine()
    assert not caplog.records


@pytest.mark.parametrize("is_imported_before", [True, False])
def test_an_engine_that_lacks_what_is_patched_stays_untouched(
    engine: Any, is_imported_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine("3.0", ENGINE.replace("on_bar", "on_candle"))
    if is_imported_before:
        made_engine()
    MadeInstrumentor().instrument()
    assert made_engine().Engine.named() == "made"
    assert not hasattr(made_engine().Engine.run, "__wrapped__")
    assert not MadeInstrumentor().is_instrumented_by_opentelemetry
    assert "made_engine.Engine.on_bar" in caplog.text


def test_an_adapter_that_fails_leaves_the_engine_as_it_was(
    engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attach = MadeInstrumentor.attach

    def fail(self: MadeInstrumentor, patches: Patches) -> None:
        attach(self, patches)
        raise RuntimeError("half-way")

    monkeypatch.setattr(MadeInstrumentor, "attach", fail)
    engine("1.5")
    MadeInstrumentor().instrument()
    assert made_engine().Engine.named() == "made"
    assert "half-way" in caplog.text


def spans(data: Path) -> list[tuple[Any, ...]]:
    with EventStore(DataFolder(data)).connect() as connection:
        return connection.execute(
            "select run_id, name, parent_span_id is null as is_root, portfolio, price from spans "
            "order by run_id, sequence"
        ).fetchall()


def test_a_run_is_recorded_and_a_second_one_has_books_of_its_own(
    engine: Any, tmp_path: Path
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument()
    with Tracing("sweep", data=tmp_path / "data", writer="inline"):
        assert made_engine().Engine(0.0).run() == [11.0]
        assert made_engine().Engine(1.0).run() == [12.0]
    found = spans(tmp_path / "data")
    expected = [
        ("publish BAR", True, 10.0), ("publish BAR", True, 11.0), ("process BAR", False, None),
        ("publish ORDER", False, None), ("publish FILL", False, 11.0), ("publish BAR", True, 12.0),
    ]  # fmt: skip
    assert [row[1:3] + row[4:] for row in found if row[3] == "default"] == expected
    assert [row[1] for row in found if row[3] == "default/2"][-1] == "publish FILL"


def test_a_loop_over_parameters_is_one_run_whose_backtests_can_be_compared(
    engine: Any, tmp_path: Path
) -> None:
    """As under `fillpath run`, where a session of the script's becomes part of the run."""
    engine("1.5")
    MadeInstrumentor().instrument()
    with Tracing("loop", parameters={"script": "s"}, data=tmp_path, writer="inline") as whole:
        whole.takes_in_others = True
        for fast, window in ((0.0, 5), (1.0, 6)):
            with Tracing(parameters={"window": window}):
                made_engine().Engine(fast).run()
        made_engine().Engine(1.0).run()
    with EventStore(DataFolder(tmp_path)).connect() as connection:
        run = compute_results(connection, "loop").run
    assert run["backtests"] == [
        {"portfolio": "default", "parameters": {"script": "s", "window": 5, "fast": 0.0}},
        {"portfolio": "default/2", "parameters": {"script": "s", "window": 6, "fast": 1.0}},
        {"portfolio": "default/3", "parameters": {"script": "s", "fast": 1.0}},
    ]


def test_engines_that_begin_in_several_threads_at_once_share_one_session(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("1.5")
    monkeypatch.setenv("FILLPATH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FILLPATH_WRITER", "inline")
    MadeInstrumentor().instrument()
    host, gate = made_engine(), Barrier(6)

    def backtest(number: int) -> list[float]:
        gate.wait()
        fills: list[float] = host.Engine(number % 2).run()
        return fills

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(backtest, range(6))) == [[11.0], [12.0]] * 3
    finally:
        sys.setswitchinterval(interval)
        session = Tracing.active()
        assert session is not None
        session.stop()
    found = spans(tmp_path / "data")
    assert len({row[0] for row in found}) == 1
    assert len({row[3] for row in found}) == 6
    assert backtests(tmp_path / "data") == {(0,): 3, (1,): 3}


def backtests(data: Path) -> Counter[tuple[float, ...]]:
    """Values of the backtests that the one run holds, which are where their fills are."""
    with EventStore(DataFolder(data)).connect() as connection:
        ((text,),) = connection.execute(
            "select metadata from runs where (metadata->'backtests') is not null"
        ).fetchall()
        prices = dict(
            connection.execute(
                "select portfolio, price from spans where event_type = 'FILL'"
            ).fetchall()
        )
    noted = json.loads(text)["backtests"]
    for one in noted:
        assert one["namespace"] == "default"
        assert prices[one["portfolio"]] == 11.0 + one["parameters"]["fast"]
    return Counter((one["parameters"]["fast"],) for one in noted)


def test_a_position_that_a_fill_opened_by_turning_another_one_has_that_fill_as_its_entry(
    engine: Any, tmp_path: Path
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument()
    opened, closed = EventType.POSITION_OPEN, EventType.POSITION_CLOSE
    with (
        Tracing("flip", data=tmp_path / "data", writer="inline"),
        MadeInstrumentor().recorded_run() as run,
    ):
        assert run is not None
        run.fill("O-1", "F-1", "BUY", 1, 10, opens="ACME")
        run.position(opened, "ACME", "LONG", 1)
        run.fill("O-2", "F-2", "SELL", 2, 11, closes="ACME")
        run.position(closed, "ACME", "FLAT", 0)
        run.position(opened, "ACME", "SHORT", 1)
        run.fill("O-3", "F-3", "BUY", 1, 9, closes="ACME")
        run.position(closed, "ACME", "FLAT", 0)
    with EventStore(DataFolder(tmp_path / "data")).connect() as connection:
        rows = connection.execute(
            "select span_id, event_type, links from spans order by sequence"
        ).fetchall()
    fills = [row[0] for row in rows if row[1] == "FILL"]
    links = [[link["span_id"] for link in json.loads(row[2] or "[]")] for row in rows]
    assert links == [[], [], [fills[0]], [fills[0]], [], [fills[1]], [fills[1]]]


def test_after_uninstrument_a_run_that_goes_on_is_recorded_no_more(
    engine: Any, tmp_path: Path
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument()
    with (
        Tracing("part", data=tmp_path / "data", writer="inline"),
        MadeInstrumentor().recorded_run() as run,
    ):
        assert run is not None
        run.bar(Instrument("ACME"), DAY, 1.0, 1.0, 1.0, 1.0, 1.0)
        MadeInstrumentor().uninstrument()
        run.bar(Instrument("ACME"), DAY, 2.0, 2.0, 2.0, 2.0, 1.0)
        with run.handling("trend", "on_bar", None) as nothing:
            assert nothing is None
            assert run.order("O-1", "NEW") is None
    assert [row[1] for row in spans(tmp_path / "data")] == ["publish BAR"]


def run_in_threads(count: int) -> list[list[float]]:
    gate = Barrier(count)

    def backtest(number: int) -> list[float]:
        gate.wait()
        return run_in_worker(number % 2)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            found = list(pool.map(backtest, range(count)))
    finally:
        sys.setswitchinterval(interval)
    assert Tracing.active() is None  # the last one has ended it
    return [*found, run_in_worker(0)]


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # the writer is watched by one
)
def test_backtests_in_threads_of_one_worker_share_a_run_and_the_next_one_has_its_own(
    engine: Any, tmp_path: Path
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument()
    with (
        Tracing("sweep", data=tmp_path / "data", writer="none"),
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool,
    ):
        found = pool.submit(run_in_threads, 6).result()
    assert found == [[11.0], [12.0]] * 3 + [[11.0]]
    catch_up(DataFolder(tmp_path / "data"))
    with EventStore(DataFolder(tmp_path / "data")).connect() as connection:
        runs = connection.execute(
            "select runs.status, count(*) from runs join spans using (run_id) "
            "where event_type = 'FILL' group by runs.run_id, runs.status order by 2"
        ).fetchall()
    # Those that happen to overlap share one.
    assert {status for status, _ in runs} == {"Ended"}
    assert sum(fills for _, fills in runs) == 7
    assert len(runs) >= 2


def run_in_worker(fast: float) -> list[float]:
    fills: list[float] = made_engine().Engine(fast).run()
    return fills


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # the writer is watched by one
)
def test_each_run_in_a_forked_worker_is_a_run_with_its_parameters(
    engine: Any, tmp_path: Path
) -> None:
    engine("1.5")
    MadeInstrumentor().instrument()
    with (
        Tracing("sweep", data=tmp_path / "data", portfolio="fund/desk", writer="inline"),
        ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool,
    ):
        assert list(pool.map(run_in_worker, (0.0, 1.0))) == [[11.0], [12.0]]
    folder = DataFolder(tmp_path / "data")
    catch_up(folder)  # as every command does that reads
    with EventStore(folder).connect() as connection:
        runs = connection.execute(
            "select run_id, parameters, status from runs where run_id like 'sweep.%' order by 2"
        ).fetchall()
    assert [json.loads(parameters) for _, parameters, _ in runs] == [{"fast": 0.0}, {"fast": 1.0}]
    assert {status for *_, status in runs} == {"Ended"}
    found = spans(tmp_path / "data")
    assert sorted(row[4] for row in found if row[1] == "publish FILL") == [11.0, 12.0]
    assert {row[3] for row in found} == {"fund/desk"}
    assert str(os.getpid()) not in {run_id.split(".")[1] for run_id, *_ in runs}
