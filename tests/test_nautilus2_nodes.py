"""NautilusTrader 2.x's nodes: backtests over a catalog, and live trading with paper executions.

`nautilus2_node` is among the hosts of `test_nautilus2`; here is what a node does that an engine
does not. The live host's report of its own cache is the oracle; it trades by the wall clock, so
times, and ids with times in them, are left out of what is compared.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fillpath.analytics.results_rows import RunResults, compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation import NautilusInstrumentor, Tracing
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus2_hosts import HERE, recording, run_python
from nautilus_hosts import Row, rows_of

LIVE = HERE / "hosts" / "live_of_nautilus2.py"
TIMED = re.compile(r"(?<=O-)\d{8}-\d{6}|(?<=T-)[0-9a-f]{16}")
"""In the ids of orders and fills."""


@pytest.fixture
def instrumentor() -> Iterator[NautilusInstrumentor]:
    found = NautilusInstrumentor()
    yield found
    if found.is_instrumented_by_opentelemetry:
        found.uninstrument()


# -- Backtests over a catalog ---------------------------------------------------------------------


@dataclass
class Node:
    """A node over a catalog of quotes, its strategy, and the engine's cache."""

    node: Any
    strategy: Any
    cache: Any


@pytest.fixture
def catalog_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes nodes whose strategy buys at the third quote and sells after the last."""
    monkeypatch.syspath_prepend(str(HERE / "hosts"))
    rust = importlib.import_module("rust_engine")
    host = importlib.import_module("nautilus2_node")
    backtest = importlib.import_module("nautilus_trader.backtest")
    model = importlib.import_module("nautilus_trader.model")
    folder = str(tmp_path / "catalog")
    Path(folder).mkdir()
    catalog = importlib.import_module("nautilus_trader.persistence").ParquetDataCatalog(folder)
    catalog.write_instruments([host.EURUSD])
    catalog.write_quote_ticks(rust.quotes(host.EURUSD, [1.1, 1.2, 1.3, 1.4, 1.5]))

    class Holder(rust.ScriptedStrategy):  # type: ignore[name-defined]
        disposed = 0

        def script(self) -> dict[int, Any]:
            return {3: self.buy}

        def buy(self) -> None:
            amount = model.Quantity.from_int(10_000)
            self.submit_order(
                self.order_factory.market(host.EURUSD.id, model.OrderSide.BUY, amount)
            )

        def on_stop(self) -> None:
            self.close_all_positions(host.EURUSD.id)

        def on_dispose(self) -> None:
            self.disposed += 1

    def make(*, is_built: bool = True, **settings: Any) -> Node:
        data = backtest.BacktestDataConfig(
            data_type=model.NautilusDataType.QuoteTick,
            catalog_path=folder,
            instrument_id=host.EURUSD.id,
        )
        node = host.node_of("HOLD-NODE", "SIM", data, **settings)
        if not is_built:
            return Node(node, None, None)
        node.build()
        strategy = Holder(host.EURUSD, tag="H")
        node.add_strategy("HOLD-NODE", strategy)
        return Node(node, strategy, node.get_engine_cache("HOLD-NODE"))

    return make


def fills_of(data: Path) -> dict[str, int]:
    """How many fills there are, by portfolio."""
    rows = rows_of(
        DataFolder(data),
        "select portfolio, count(*) filter (event_type = 'FILL') as fills from spans"
        " group by portfolio order by portfolio",
    )
    return {row["portfolio"]: row["fills"] for row in rows}


def test_what_a_node_does_last_is_read_before_its_engine_is_disposed_of(
    instrumentor: NautilusInstrumentor, tmp_path: Path, catalog_node: Any
) -> None:
    """Nobody is told of the order that `on_stop` sends, and then the cache is emptied."""
    instrumentor.instrument()
    made = catalog_node(dispose_on_completion=True)
    kept = dict(vars(made.strategy))
    with Tracing("disposing", data=tmp_path, writer="inline"):
        (result,) = made.node.run()
    assert (result.total_orders, len(made.cache.orders())) == (2, 0)
    assert made.strategy.disposed == 1
    assert vars(made.strategy).keys() - {"disposed"} == kept.keys()  # nothing of ours stays
    assert fills_of(tmp_path) == {"hold/node": 2}
    with EventStore(DataFolder(tmp_path)).connect() as connection:
        (account,) = compute_results(connection, "disposing").ledger.accounts
    assert account.status == "reconciled"


def test_each_node_has_a_portfolio_of_its_own_wherever_it_lies_in_memory(
    instrumentor: NautilusInstrumentor, tmp_path: Path, catalog_node: Any
) -> None:
    instrumentor.instrument()
    with Tracing("nodes", data=tmp_path, writer="inline"):
        for _ in range(3):
            made = catalog_node(dispose_on_completion=False)
            made.node.run()
            del made
    assert fills_of(tmp_path) == {"hold/node": 2, "hold/node/2": 2, "hold/node/3": 2}


def test_a_node_that_was_built_before_is_traced(
    instrumentor: NautilusInstrumentor, tmp_path: Path, catalog_node: Any
) -> None:
    made = catalog_node(dispose_on_completion=False)
    instrumentor.instrument()
    with Tracing("late", data=tmp_path, writer="inline"):
        made.node.run()
    assert fills_of(tmp_path) == {"hold/node": 2}
    assert len(made.cache.orders()) == 2


def test_a_node_that_has_no_engine_yet_runs_with_one_warning(
    instrumentor: NautilusInstrumentor,
    tmp_path: Path,
    catalog_node: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`run()` builds it; nobody could have added a strategy."""
    instrumentor.instrument()
    with Tracing("unbuilt", data=tmp_path, writer="inline"), caplog.at_level(logging.WARNING):
        for _ in range(2):
            (result,) = catalog_node(is_built=False).node.run()
            assert result.total_orders == 0
    (warning,) = caplog.records
    assert "Call build()" in warning.getMessage()


def test_an_error_of_a_node_is_the_users(
    instrumentor: NautilusInstrumentor, tmp_path: Path, catalog_node: Any
) -> None:
    instrumentor.instrument()
    made = catalog_node(dispose_on_completion=False)
    with Tracing("failing", data=tmp_path, writer="inline"):
        with pytest.raises(TypeError):
            made.node.run("too much")
        made.node.run()
    assert sum(fills_of(tmp_path).values()) == 2


# -- Live -----------------------------------------------------------------------------------------


@dataclass
class LiveHost:
    """The live host, run alone and traced."""

    plain: Row
    traced: Row
    data: DataFolder
    results: RunResults

    def rows(self, query: str) -> list[Row]:
        return rows_of(self.data, query)


def report_of(path: Path) -> Row:
    """What the host wrote down, without what the wall clock has put into it."""
    found: Row = json.loads(TIMED.sub("0", path.read_text()))
    found["fills"].sort()
    return found


@pytest.fixture(scope="module", params=["run", "async"])
def live(
    request: pytest.FixtureRequest,
    plain_report: Row,
    tmp_path_factory: pytest.TempPathFactory,
) -> LiveHost:
    folder = tmp_path_factory.mktemp(request.param)
    data, traced = folder / "data", folder / "traced.json"
    run_python(*recording(data), "--mode", "live", str(LIVE), str(traced), request.param)
    with EventStore(DataFolder(data)).connect(["host"]) as connection:
        results = compute_results(connection, "host")
    return LiveHost(plain_report, json.loads(traced.read_text()), DataFolder(data), results)


@pytest.fixture(scope="module")
def plain_report(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """What the host says when it runs alone."""
    path = tmp_path_factory.mktemp("alone") / "report.json"
    run_python(str(LIVE), str(path))
    return report_of(path)


def test_a_live_node_trades_as_it_does_alone(live: LiveHost, tmp_path: Path) -> None:
    (tmp_path / "traced.json").write_text(json.dumps(live.traced))
    assert report_of(tmp_path / "traced.json") == live.plain
    assert len(live.plain["fills"]) == 10


def test_every_fill_of_a_live_node_is_a_span(live: LiveHost) -> None:
    spans = live.rows("select * from spans where event_type = 'FILL'")
    found = {
        (
            row["client_order_id"], row["fill_id"], row["side"], row["quantity"], row["price"],
            row["commission"], row["position_id"],
        )
        for row in spans
    }  # fmt: skip
    expected = {
        (order, fill, side, Decimal(size), Decimal(price), Decimal(fee), position)
        for order, fill, side, size, price, fee, position in live.traced["fills"]
    }
    assert (found, len(spans)) == (expected, len(expected))


def test_the_orders_of_a_live_node_tell_their_history(live: LiveHost) -> None:
    spans = live.rows(
        "select client_order_id, event_type, status from spans"
        " where event_type in ('ORDER', 'FILL') order by sequence"
    )
    found: dict[str, list[str]] = {}
    for row in spans:
        state = "FILLED" if row["event_type"] == "FILL" else row["status"]
        found.setdefault(row["client_order_id"], []).append(state.replace("_", ""))
    assert found == {
        order: [event.removeprefix("Order").upper() for event in said[-1]]
        for order, said in live.traced["orders"].items()
    }


def test_profit_of_a_live_node_is_its_own(live: LiveHost) -> None:
    (account,) = live.results.ledger.accounts
    assert account.status == "reconciled", account.notes
    assert (account.start, account.end) == (Decimal(1_000_000), Decimal(live.traced["balance"]))
    # One position is left open; what it has cost so far is realized, too.
    assert account.profit == Decimal(live.traced["realized"])


def parents(live: LiveHost, condition: str) -> list[Row]:
    return live.rows(
        f"""
        select right(child.client_order_id, 4) as child, child.strategy, parent.event_type,
            parent.handler, right(parent.client_order_id, 4) as parent,
            parent.attributes->>'trading.command.name' as command
        from spans child left join spans parent on parent.span_id = child.parent_span_id
            and parent.sequence < child.sequence
        where {condition} order by child.sequence
        """
    )


def test_orders_of_a_live_node_have_the_causes_they_would_have_in_a_backtest(
    live: LiveHost,
) -> None:
    new = parents(live, "child.event_type = 'ORDER' and child.status = 'INITIALIZED'")
    assert Counter(row["handler"] or row["event_type"] for row in new) == {
        "Ladder.on_quote": 9,
        "SIGNAL": 3,
        "Later.on_quote": 2,  # one of them by way of a task
        "Later.on_time": 1,
        "Ladder.on_stop": 1,  # made by close_all_positions, on a clock that went on meanwhile
    }
    assert not parents(
        live, "child.event_type in ('ORDER', 'FILL', 'COMMAND') and parent.span_id is null"
    )
    cancelled = parents(live, "child.event_type = 'ORDER' and child.status = 'CANCELED'")
    assert [row["command"] or row["event_type"] for row in cancelled] == [
        "CancelOrder", "CancelAllOrders", "CancelAllOrders", "FILL",
    ]  # fmt: skip
    assert (cancelled[-1]["child"], cancelled[-1]["parent"]) == ("L-11", "L-12")
    updated = parents(live, "child.event_type = 'ORDER' and child.status = 'UPDATED'")
    assert [row["command"] for row in updated] == ["ModifyOrder"]


def test_an_error_in_a_live_strategy_is_on_its_handler(live: LiveHost) -> None:
    (failed,) = live.rows("select handler, status_message from spans where status_code = 'ERROR'")
    assert failed["handler"] == "Ladder.on_quote"
    assert "the strategy's own error" in failed["status_message"]


LETTING_GO = """
import sys
import live_of_nautilus2 as host
from fillpath.instrumentation import NautilusInstrumentor, Tracing

script = host.Ladder.script
kept = []

def letting_go(self):
    def let_go():
        NautilusInstrumentor().uninstrument()
        kept.append([sorted(vars(one)) for one in host.STRATEGIES])
    return {**script(self), 20: let_go}

host.Ladder.script = letting_go
with Tracing("half", data=sys.argv[2], writer="inline", mode="live"):
    NautilusInstrumentor().instrument()
    sys.argv[2:] = []
    host.main()
((ladder, later),) = kept
print(*[name for name in (*ladder, *later) if name.startswith("on_")])
"""


def test_letting_go_of_a_live_node_while_it_runs_leaves_it_trading(
    plain_report: Row, tmp_path: Path
) -> None:
    report, data = tmp_path / "report.json", tmp_path / "data"
    hosts = {"PYTHONPATH": str(HERE / "hosts")}
    (tmp_path / "letting_go.py").write_text(LETTING_GO)
    done = run_python(str(tmp_path / "letting_go.py"), str(report), str(data), **hosts)
    assert done.stdout.strip() == ""  # no handler of ours is left on the strategies
    assert report_of(report) == plain_report
    rows = rows_of(DataFolder(data), "select event_type from spans")
    counted = Counter(row["event_type"] for row in rows)
    assert (counted["FILL"], counted["TICK"]) == (3, 20)


# -- What the engine makes itself, and what it remembers ------------------------------------------

CONTROLLED = """
from nautilus_trader.common import DataActorConfig
from nautilus_trader.model import OrderSide, Quantity, StrategyId
from nautilus_trader.trading import (
    Controller, ImportableControllerConfig, ImportableStrategyConfig, Strategy, StrategyConfig,
)
from rust_engine import add_margin_venue, pair, quiet_engine, quotes, SIM, USD

EURUSD = pair("EUR/USD")


class MadeConfig(StrategyConfig):
    def __new__(cls, **_):
        return super().__new__(cls, strategy_id=StrategyId("Made-1"), order_id_tag="1")

    def __init__(self, **_):
        pass


class Made(Strategy):
    seen = 0

    def on_start(self):
        self.subscribe_quotes(EURUSD.id)

    def on_quote(self, quote):
        self.seen += 1
        if self.seen == 3:
            amount = Quantity.from_int(1000)
            self.submit_order(self.order_factory.market(EURUSD.id, OrderSide.BUY, amount))


class BossConfig(DataActorConfig):
    def __new__(cls, **_):
        return super().__new__(cls)

    def __init__(self, **_):
        pass


class Boss(Controller):
    def on_start(self):
        self.create_strategy_from_config(
            ImportableStrategyConfig("controlled:Made", "controlled:MadeConfig", {})
        )


if __name__ == "__main__":
    engine = quiet_engine(
        "BOSS-001",
        controller=ImportableControllerConfig("controlled:Boss", "controlled:BossConfig", {}),
    )
    add_margin_venue(engine)
    engine.add_instrument(EURUSD)
    engine.add_data(quotes(EURUSD, [1.1, 1.2, 1.3, 1.4, 1.5]))
    engine.run()
    print(engine.cache.account_for_venue(SIM).balance_total(USD))
"""


def test_a_strategy_that_a_controller_makes_while_the_engine_runs_is_followed(
    tmp_path: Path,
) -> None:
    script, data = tmp_path / "controlled.py", tmp_path / "data"
    script.write_text(CONTROLLED)
    hosts = {"PYTHONPATH": str(HERE / "hosts")}
    alone = run_python(str(script), **hosts).stdout
    assert run_python(*recording(data), str(script), **hosts).stdout == alone
    rows = rows_of(DataFolder(data), "select event_type, handler from spans order by sequence")
    assert {row["handler"] for row in rows if row["handler"]} == {
        "Boss.on_start", "Made.on_quote",
    }  # fmt: skip
    assert Counter(row["event_type"] for row in rows)["FILL"] == 1


def test_what_a_live_node_remembers_of_an_earlier_session_is_not_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order of yesterday's is cancelled today: only that is of this run."""
    monkeypatch.syspath_prepend(str(HERE / "hosts"))
    rust = importlib.import_module("rust_engine")
    recording_of_orders = importlib.import_module("fillpath.instrumentation.nautilus_rust_orders")
    engine_run = importlib.import_module("fillpath.instrumentation.engine_run")
    model = importlib.import_module("nautilus_trader.model")
    instrument = rust.pair("EUR/USD")

    class Resting(rust.ScriptedStrategy):  # type: ignore[name-defined]
        def script(self) -> dict[int, Any]:
            return {2: self.send, 5: lambda: self.cancel_all_orders(instrument.id)}

        def send(self) -> None:
            self.submit_order(
                self.order_factory.limit(
                    instrument.id,
                    model.OrderSide.BUY,
                    model.Quantity.from_int(1000),
                    model.Price(0.5, 5),
                )
            )

    engine = rust.quiet_engine("YESTERDAY-001")
    rust.add_margin_venue(engine)
    engine.add_instrument(instrument)
    engine.add_data(rust.quotes(instrument, [1.1] * 6))
    engine.add_strategy(Resting(instrument, tag="R"))
    engine.run()
    (order,) = engine.cache.orders()
    *_, accepted, pending, cancelled = order.events()
    assert accepted.ts_event < pending.ts_event == cancelled.ts_event
    with Tracing("today", data=tmp_path, writer="inline") as session:
        run = engine_run.EngineRun(session, "live")
        recorder = recording_of_orders.OrderRecorder(run, lambda _: None)
        recorder.cache, recorder.since = engine.cache, cancelled.ts_event
        recorder.order_event(pending)
        assert recorder.untold(order) == [cancelled]
        recorder.order_event(cancelled)
        assert recorder.untold(order) == []
        tomorrow = recording_of_orders.OrderRecorder(run, lambda _: None)
        tomorrow.since = cancelled.ts_event + 1
        assert tomorrow.untold(order) == []
    rows = rows_of(
        DataFolder(tmp_path), "select status, side, order_type from spans order by sequence"
    )
    assert rows == [
        {"status": status, "side": "BUY", "order_type": "LIMIT"}
        for status in ("PENDING_CANCEL", "CANCELED")
    ]
