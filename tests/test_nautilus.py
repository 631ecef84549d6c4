"""Traced NautilusTrader backtests: they trade as untraced ones do, and every fill has its causes.

The host scripts write down what the engine itself knows; that is the oracle.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import catch_up
from fillpath.instrumentation import NautilusInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder

pytest.importorskip("nautilus_trader", reason="the engine is not installed (extra 'nautilus')")

# NautilusTrader 1.231 calls what pandas 3 has put on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:Timestamp.utcnow is deprecated")

HOSTS = sorted((Path(__file__).parent / "hosts").glob("nautilus_*.py"))
ENDS_IN_ERROR = {"nautilus_user_error"}
BY_WALL_CLOCK = {"nautilus_live"}
_TIME = re.compile(r"\d{8}-\d{6}-|\b\d{19}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*")
_RANDOM_SNAPSHOT_ID = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Row = dict[str, Any]


@dataclass
class TracedHost:
    """One host script, run alone and run traced."""

    name: str
    plain: str
    traced: str
    data: DataFolder

    @property
    def truth(self) -> list[Row]:
        runs: list[Row] = json.loads(self.traced)["runs"]
        return runs

    def rows(self, query: str) -> list[Row]:
        return rows_of(self.data, query)


def rows_of(data: DataFolder, query: str) -> list[Row]:
    """Rows of a query over the lake, as maps."""
    with EventStore(data).connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def run_host(script: Path, report: Path, *, data: Path | None = None, run_id: str = "host") -> str:
    """Run a host script, traced if a data folder is given; gives the engine's own report."""
    command = [sys.executable, str(script), str(report)]
    if data is not None:
        recording = ["--data", str(data), "--run-id", run_id, "--writer", "inline"]
        mode = ["--mode", "live"] if script.stem in BY_WALL_CLOCK else []
        command[1:1] = ["-m", "fillpath.instrumentation", *recording, *mode]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FILLPATH_")}
    # The engine cancels the legs of a bracket in the order of a set, which follows this seed.
    environment["PYTHONHASHSEED"] = "0"
    environment.pop("PYTHONSAFEPATH", None)  # a host imports what lies beside it
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    expected = 1 if script.stem in ENDS_IN_ERROR else 0
    assert done.returncode == expected, done.stderr[-4000:]
    return _RANDOM_SNAPSHOT_ID.sub("", report.read_text(encoding="utf-8"))


def _param(script: Path) -> Any:
    marks = [pytest.mark.smoke] if script.stem == "nautilus_brackets" else []
    return pytest.param(script, id=script.stem, marks=marks)


@pytest.fixture(scope="module", params=map(_param, HOSTS))
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TracedHost:
    script: Path = request.param
    folder = tmp_path_factory.mktemp(script.stem)
    plain = run_host(script, folder / "plain.json")
    traced = run_host(script, folder / "traced.json", data=folder / "data")
    return TracedHost(script.stem, plain, traced, DataFolder(folder / "data"))


def test_tracing_changes_no_trade(host: TracedHost) -> None:
    if host.name in BY_WALL_CLOCK:
        assert without_times(host.traced) == without_times(host.plain)
    else:
        assert host.traced == host.plain


def without_times(report: str) -> list[Row]:
    """A report without wall-clock times, and in an order that does not follow from them."""
    runs: list[Row] = json.loads(_TIME.sub("0", report))["runs"]
    for run in runs:
        del run["published"]["events.account.*"]  # so many a second
        for table in run.values():
            if isinstance(table, list):
                table.sort(key=repr)
    return runs


def test_every_fill_of_the_engine_is_a_span(host: TracedHost) -> None:
    """Ids, side, digits and currencies of each fill equal the engine's own."""
    spans = host.rows(
        """
        select portfolio, client_order_id, fill_id, order_id, strategy, symbol || '.' || venue
            as instrument, position_id, side, quantity, price, commission, currency,
            attributes->>'trading.fill.commission_currency' as commission_currency
        from spans where event_type = 'FILL'
        """
    )
    assert len(spans) == sum(len(run["fills"]) for run in host.truth)
    found = sorted(
        (
            row["client_order_id"], row["fill_id"], row["order_id"], row["strategy"],
            row["instrument"], row["side"], row["quantity"], row["price"], row["commission"],
            row["currency"], row["commission_currency"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            fill["client_order_id"], fill["trade_id"], fill["venue_order_id"], fill["strategy_id"],
            fill["instrument_id"], fill["side"], Decimal(fill["last_qty"]),
            Decimal(fill["last_px"]), Decimal(fill["commission"]), fill["currency"],
            fill["commission_currency"],
        )
        for run in host.truth
        for fill in run["fills"]
    )  # fmt: skip
    assert found == expected


def test_every_order_event_on_the_bus_is_one_span(host: TracedHost) -> None:
    """As many of each kind as another subscriber of the same bus counted.

    There may be more where the engine sends an event to its own parts only (an emulated order
    that trails), or stops before it publishes one; those are in the order's own history then.
    """
    published: Counter[str] = Counter()
    applied: Counter[str] = Counter()
    for run in host.truth:
        for name, count in run["published"]["events.order.*"].items():
            published[status_of(name)] += count
        applied.update(status_of(name) for order in run["orders"] for name in order["events"])
    rows = host.rows(
        """
        select case event_type when 'FILL' then 'FILLED' else status end as status,
            count(*) as spans
        from spans where name in ('publish ORDER', 'publish FILL') group by all
        """
    )
    spans = {row["status"]: row["spans"] for row in rows}
    assert set(spans) == set(published)
    for status, count in spans.items():
        assert published[status] <= count <= max(published[status], applied[status]), status


def status_of(event_name: str) -> str:
    """Status that an engine's event class stands for."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event_name.removeprefix("Order")).upper()


def test_the_spans_of_an_order_tell_its_history(host: TracedHost) -> None:
    """The states that the engine put the order in, in order.

    The engine applies two changes without publishing them (the PENDING_CANCEL of
    `cancel_all_orders`, the UPDATED of an order that an algorithm cuts in pieces), and publishes
    some that the order then refuses.
    """
    spans = host.rows(
        """
        select portfolio, client_order_id, list(
            case event_type when 'FILL' then 'FILLED' else status end order by sequence) as states
        from spans where name in ('publish ORDER', 'publish FILL') group by 1, 2
        """
    )
    found = sorted((row["client_order_id"], row["states"]) for row in spans)
    expected = sorted(
        (order["client_order_id"], [status_of(name) for name in order["events"]])
        for run in host.truth
        for order in run["orders"]
    )
    assert [order_id for order_id, _ in found] == [order_id for order_id, _ in expected]
    for (order_id, told), (_, applied) in zip(found, expected, strict=True):
        remaining = iter(told)
        published = [state for state in applied if state not in ("PENDING_CANCEL", "UPDATED")]
        assert all(state in remaining for state in published), order_id


def test_no_span_lacks_its_parent(host: TracedHost) -> None:
    orphans = host.rows(
        """
        select c.span_id from spans c left join spans p
            on p.span_id = c.parent_span_id and p.trace_id = c.trace_id
        where c.parent_span_id is not null and p.span_id is null
        """
    )
    assert orphans == []


def test_a_cause_comes_before_what_it_caused(host: TracedHost) -> None:
    wrong = host.rows(
        """
        select c.span_id from spans c join spans p on p.span_id = c.parent_span_id
        where p.sequence >= c.sequence or p.start_time > c.start_time
            or p.portfolio <> c.portfolio
        """
    )
    assert wrong == []


def test_an_event_lies_inside_its_cause_or_behind_it(host: TracedHost) -> None:
    """What is caused at once is over before its cause is; the rest begins after that."""
    crossing = host.rows(
        """
        select c.name, p.name as cause, count(*) as spans from spans c
        join spans p on p.span_id = c.parent_span_id
        where c.start_time < p.end_time and c.end_time > p.end_time
        group by all
        """
    )
    assert crossing == []


def test_every_fill_leads_to_the_market(host: TracedHost) -> None:
    roots = host.rows(
        """
        with recursive path as (
            select span_id as fill, span_id, parent_span_id, event_type, sequence from spans
            where name = 'publish FILL'
            union all
            select path.fill, p.span_id, p.parent_span_id, p.event_type, p.sequence
            from path join spans p on p.span_id = path.parent_span_id
        )
        select event_type, count(*) as fills, max(sequence) as last from path
        where parent_span_id is null
        group by event_type
        """
    )
    fills = sum(row["fills"] for row in roots)
    assert fills == sum(len(run["fills"]) for run in host.truth)
    # A call-back that ran before the first market event, or by a live clock, has nothing above it.
    first = host.rows("select min(sequence) n from spans where event_type in ('BAR','TICK','BOOK')")
    others = [row for row in roots if row["event_type"] not in ("BAR", "TICK", "BOOK", "SIGNAL")]
    assert all(row["event_type"] == "SYSTEM" for row in others)
    if host.name not in BY_WALL_CLOCK:
        assert all(row["last"] < first[0]["n"] for row in others)


def test_every_published_event_is_accounted_for(host: TracedHost) -> None:
    (run,) = host.rows(
        "select published, kept, sampled_out, dropped, completeness, status from runs"
    )
    spans = host.rows(
        """
        select portfolio, event_type, count(*) as kept from spans
        where name like 'publish %' group by all
        """
    )
    counted = json.loads(run["completeness"])
    assert run["status"] == ("Crashed" if host.name in ENDS_IN_ERROR else "Ended")
    assert run["published"] == run["kept"] + run["sampled_out"] + run["dropped"]
    assert {(c["portfolio"], c["event_type"]): c["published"] for c in counted} == {
        (row["portfolio"], row["event_type"]): row["kept"] for row in spans
    }


def test_nothing_is_left_unfinished(host: TracedHost) -> None:
    assert host.rows("select * from spans where end_time is null or end_time < start_time") == []


def test_market_events_equal_what_the_engine_published(host: TracedHost) -> None:
    """As many bars and ticks as another subscriber of the same bus counted."""
    engine = {"BAR": 0, "TICK": 0}
    for run in host.truth:
        for name, count in run["published"]["data.*"].items():
            kind = {"Bar": "BAR", "QuoteTick": "TICK", "TradeTick": "TICK"}.get(name)
            if kind:
                engine[kind] += count
    spans = host.rows(
        "select event_type, count(*) n from spans where name like 'publish %' group by 1"
    )
    counted = {row["event_type"]: row["n"] for row in spans}
    assert {kind: counted.get(kind, 0) for kind in engine} == engine


def tree_of(data: DataFolder, columns: str) -> list[Row]:
    """All spans of a lake without run id and wall clock."""
    return rows_of(data, f"select {columns} from spans order by sequence")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[DataFolder]:
    """The same host recorded three times: one run id twice, then another."""
    script = Path(__file__).parent / "hosts" / "nautilus_brackets.py"
    folders = []
    for number, run_id in enumerate(("same", "same", "other")):
        folder = tmp_path_factory.mktemp(f"again{number}")
        run_host(script, folder / "report.json", data=folder / "data", run_id=run_id)
        folders.append(DataFolder(folder / "data"))
    return folders


_WITHOUT_CLOCK = "* exclude (run_id, start_time, end_time, duration)"
_WITHOUT_IDS = (
    "* exclude (run_id, start_time, end_time, duration, trace_id, span_id, parent_span_id,"
    " correlation_id, links)"
)


def test_the_same_run_id_gives_the_same_ids(twice: list[DataFolder]) -> None:
    assert tree_of(twice[0], _WITHOUT_CLOCK) == tree_of(twice[1], _WITHOUT_CLOCK)


def test_another_run_id_gives_the_same_tree(twice: list[DataFolder]) -> None:
    shape = """select c.sequence, p.sequence as parent from spans c
        left join spans p on p.span_id = c.parent_span_id order by 1"""
    assert rows_of(twice[0], shape) == rows_of(twice[2], shape)
    assert tree_of(twice[0], _WITHOUT_IDS) == tree_of(twice[2], _WITHOUT_IDS)
    ids = "select span_id from spans"
    assert rows_of(twice[0], ids) != rows_of(twice[2], ids)


# -- Attaching and detaching ---------------------------------------------------------------------


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


def test_the_page_about_the_engine_is_true(tmp_path: Path) -> None:
    """Its example runs, reconciles, and shows the tree that the page shows."""
    pytest.importorskip("backtesting", reason="its prices are not installed (extra 'backtesting')")
    page = (Path(__file__).parents[1] / "docs" / "nautilus.md").read_text(encoding="utf-8")
    one_line, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = tmp_path / "my_backtest.py"
    script.write_text(one_line + example)
    environment = {**os.environ, "FILLPATH_DATA": str(tmp_path / "data"), "FILLPATH_RUN_ID": "fx"}
    environment["PYTHONWARNINGS"] = "ignore"  # other packages' own
    subprocess.run([sys.executable, str(script)], check=True, env=environment, timeout=120)

    def fillpath(*command: str) -> str:
        program = [sys.executable, "-m", "fillpath.analytics.cli", *command]
        return subprocess.run(
            program, check=True, capture_output=True, text=True, env=environment, timeout=120
        ).stdout

    assert json.loads(fillpath("attribution", "fx", "--reconcile", "--json"))["reconciled"]
    shown = fillpath("trace", "show", "latest", "--run", "fx", "--all")
    (tree,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    def told(line: str) -> str:
        return re.sub(r"^\s*(\+[\d.]+ \S+)?[\s│├└─]*", "", line)

    shown_lines = {told(line) for line in shown.splitlines()}
    for line in map(told, tree.splitlines()):
        assert any(each.startswith(line) for each in shown_lines), line
