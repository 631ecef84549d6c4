"""Traced NautilusTrader 2.x backtests: they trade as untraced ones do, every fill has its causes.

The host scripts write down what the engine itself knows; that is the oracle. NautilusTrader 1.x has
the same name, so these tests have an environment of their own (`make test-nautilus2`); elsewhere
they are not collected.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from fillpath.analytics.results_rows import compute_results
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from nautilus2_hosts import HERE, TracedHost, recording, run_python
from nautilus_hosts import Row

HOSTS = sorted((HERE / "hosts").glob("nautilus2_*.py"))
CAUSES_OF_ORDERS = {
    "nautilus2_netting": {
        "Flips.on_quote": 5,
        "SIGNAL": 1,
        "Yen.on_quote": 2,
        "Changes.on_quote": 5,
        "Changes.on_hour": 3,
        "Changes.on_time_event": 1,
        "Changes.on_order_filled": 1,
        "Changes.on_stop": 1,
    },
    "nautilus2_brackets": {"SIGNAL": 174, "Brackets.on_position_closed": 4, "Brackets.on_stop": 1},
    "nautilus2_hedging": {"Hedger.on_quote": 14},
    # The halves follow from what the algorithm made of the whole, the order that is sent from the
    # one that was emulated.
    "nautilus2_algorithm": {"Configured.on_quote": 1, "Patient.on_quote": 2, "ORDER": 3},
    "nautilus2_node": {"SIGNAL": 26, "Breakout.on_stop": 1, "RoundTrip.on_quote": 3},
    "nautilus2_cash": {"Spot.on_quote": 13},
}
"""By host: how many orders follow from what handler, or else kind of event."""


@pytest.fixture(scope="module", params=HOSTS, ids=lambda script: script.stem)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TracedHost:
    script: Path = request.param
    folder = tmp_path_factory.mktemp(script.stem)
    plain, traced, data = folder / "plain.json", folder / "traced.json", folder / "data"
    run_python(str(script), str(plain))
    run_python(*recording(data), str(script), str(traced))
    with EventStore(DataFolder(data)).connect(["host"]) as connection:
        results = compute_results(connection, "host")
    return TracedHost(script.stem, plain.read_text(), traced.read_text(), DataFolder(data), results)


# -- What the engine did is what is recorded ------------------------------------------------------


def test_tracing_changes_no_trade(host: TracedHost) -> None:
    assert host.traced == host.plain


def test_every_fill_of_the_engine_is_a_span(host: TracedHost) -> None:
    """Ids, side, digits and currencies of each fill equal those of the engine's own report."""
    spans = host.rows("select * from spans where event_type = 'FILL'")
    found = sorted(
        (
            row["portfolio"], row["client_order_id"], row["fill_id"], row["order_id"],
            row["strategy"], f"{row['symbol']}.{row['venue']}", row["position_id"], row["side"],
            row["order_type"], row["quantity"], row["price"], row["currency"], row["commission"],
            row["event_time"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            fill["portfolio"], fill["client_order_id"], fill["trade_id"], fill["venue_order_id"],
            fill["strategy_id"], fill["instrument_id"], fill["position_id"], fill["order_side"],
            fill["order_type"], Decimal(fill["last_qty"]), Decimal(fill["last_px"]),
            fill["currency"], Decimal(fill["commission"].split()[0]), fill["ts_event"],
        )
        for fill in host.of_engines("fills")
    )  # fmt: skip
    assert found == expected
    assert len(found) >= 4


def test_the_spans_of_an_order_tell_its_history(host: TracedHost) -> None:
    """The states that the engine put each order in, in order, whoever was told of them."""
    spans = host.rows(
        "select portfolio, client_order_id, event_type, status from spans"
        " where event_type in ('ORDER', 'FILL') order by sequence"
    )
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in spans:
        state = "FILL" if row["event_type"] == "FILL" else row["status"]
        found[row["portfolio"], row["client_order_id"]].append(state)
    words = {"OrderPendingUpdate": "PENDING_UPDATE", "OrderPendingCancel": "PENDING_CANCEL"}
    words["OrderFilled"] = "FILL"
    expected = {
        (order["portfolio"], order["client_order_id"]): [
            words.get(event) or event.removeprefix("Order").upper() for event in order["events"]
        ]
        for order in host.of_engines("orders")
    }
    assert found == expected
    reasons = host.rows(
        "select attributes->>'trading.order.reject.reason' as reason from spans"
        " where event_type = 'ORDER' and reason is not null"
    )
    known = Counter(reason for order in host.of_engines("orders") for reason in order["reasons"])
    assert Counter(row["reason"] for row in reasons) == known


def test_orders_stand_where_the_engine_left_them(host: TracedHost) -> None:
    table = host.results.tables["orders"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    found = {
        (row["portfolio"], row["client_order_id"]): (
            row["side"], row["order_type"], row["status"], row["quantity"], row["filled_quantity"],
        )
        for row in rows
    }  # fmt: skip
    expected = {
        (order["portfolio"], order["client_order_id"]): (
            order["side"], order["type"], order["status"], Decimal(order["quantity"]),
            Decimal(order["filled_qty"]),
        )
        for order in host.of_engines("orders")
    }  # fmt: skip
    assert found == expected


def test_closed_positions_realized_what_the_engine_reports(host: TracedHost) -> None:
    spans = host.rows(
        "select portfolio, strategy, position_id, attributes->>'trading.position.realized_pnl' as"
        " pnl, attributes->>'trading.position.currency' as currency,"
        " attributes->>'trading.position.opening_order_id' as opened,"
        " attributes->>'trading.position.closing_order_id' as closed"
        " from spans where event_type = 'POSITION_CLOSE'"
    )
    found = sorted(
        (
            row["portfolio"], row["strategy"], row["position_id"], row["opened"], row["closed"],
            Decimal(row["pnl"]), row["currency"],
        )
        for row in spans
    )  # fmt: skip
    expected = sorted(
        (
            row["portfolio"], row["strategy_id"], row["position_id"], row["opening_order_id"],
            row["closing_order_id"], Decimal(row["realized_pnl"].split()[0]),
            row["realized_pnl"].split()[1],
        )
        for row in host.of_engines("positions")
        if row["side"] == "FLAT"
    )  # fmt: skip
    assert found == expected


def test_statements_are_what_the_accounts_held(host: TracedHost) -> None:
    """First the start; after the last fill of each moment what the engine's own report says."""
    spans = host.rows("select * from spans where event_type = 'PORTFOLIO' order by sequence")
    times_of_fills = {(row["portfolio"], row["ts_event"]) for row in host.of_engines("fills")}
    said: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    at: dict[tuple[str, str, int], Decimal] = {}
    for row in spans:
        attributes = json.loads(row["attributes"])
        for balance in attributes["trading.account.balances"]:
            total = Decimal(balance["total"])
            said[row["portfolio"], balance["currency"]].append(total)
            at[row["portfolio"], balance["currency"], row["event_time"]] = total
    for portfolio, engine in host.engines.items():
        (account,) = engine["accounts"]
        for currency, ends in account["balances"].items():
            assert said[portfolio, currency][0] == Decimal(ends["start"])
            assert said[portfolio, currency][-1] == Decimal(ends["final"])
            for time, total in account["totals"][currency].items():
                if (portfolio, int(time)) in times_of_fills:
                    assert at[portfolio, currency, int(time)] == Decimal(total)


def start_of(account: Row, currency: str) -> Decimal:
    """What was held at the start; of a currency that came later the engine's report begins then."""
    first = {one: min(map(int, totals)) for one, totals in account["totals"].items()}
    is_new = first[currency] > min(first.values())
    return Decimal(0 if is_new else account["balances"][currency]["start"])


def test_profit_from_the_spans_is_the_engines_own(host: TracedHost) -> None:
    """The ledger reconciles with the statements, and these with the engine's own figures."""
    accounts = {(a.portfolio, a.account_id, a.currency): a for a in host.results.ledger.accounts}
    assert accounts
    for portfolio, engine in host.engines.items():
        (account,) = engine["accounts"]
        for currency, ends in account["balances"].items():
            found = accounts.pop((portfolio, account["account_id"], currency))
            assert found.status == "reconciled", found.notes
            assert found.difference == 0
            assert found.end == Decimal(ends["final"])
            assert found.start == start_of(account, currency)
            # Commissions taken off, as the engine does.
            engines = Decimal(engine["realized_pnls"][0].get(currency, 0))
            if account["type"] != "CASH":
                assert found.profit == engines
                continue
            # Of each fill the engine rounds what it reports, to the eight digits of a coin.
            assert abs(found.profit - engines) <= Decimal("1e-8") * len(engine["fills"])
    assert not accounts


# -- Causes ---------------------------------------------------------------------------------------


def test_every_order_and_fill_has_a_cause_that_was_recorded_before(host: TracedHost) -> None:
    loose = host.rows(
        """
        select child.sequence, child.event_type from spans child
        left join spans parent on parent.span_id = child.parent_span_id
        where child.event_type in ('ORDER', 'FILL', 'COMMAND', 'SIGNAL')
            and (parent.sequence is null or parent.sequence >= child.sequence)
            or child.parent_span_id is not null and parent.sequence is null
        """
    )
    assert not loose


def test_every_fill_leads_to_the_market_or_to_a_call_back(host: TracedHost) -> None:
    roots = host.rows(
        """
        select distinct root.event_type from spans fill
        join spans root on root.sequence = fill.root_sequence where fill.event_type = 'FILL'
        """
    )
    assert {row["event_type"] for row in roots} <= {"BAR", "TICK", "SYSTEM"}


def parents_of(host: TracedHost, condition: str) -> list[Row]:
    return host.rows(
        f"""
        select child.sequence, child.client_order_id, parent.event_type, parent.handler,
            parent.client_order_id as parents_order, parent.status as parents_status,
            parent.attributes->>'trading.command.name' as command, child.links
        from spans child join spans parent on parent.span_id = child.parent_span_id
        where {condition}
        """
    )


def test_a_cancelled_leg_hangs_under_the_fill_of_its_sibling(host: TracedHost) -> None:
    cancelled = parents_of(host, "child.event_type = 'ORDER' and child.status = 'CANCELED'")
    if host.name != "nautilus2_brackets":
        assert {row["command"] for row in cancelled} <= {"CancelOrder", "CancelAllOrders"}
        return
    kinds = Counter(row["command"] or row["event_type"] for row in cancelled)
    assert kinds["FILL"] > 20
    assert kinds["CancelOrder"] > 0
    for row in cancelled:
        assert row["command"] or row["parents_order"] != row["client_order_id"]
        assert json.loads(row["links"])  # the order's own last state


def test_changes_hang_under_their_command(host: TracedHost) -> None:
    changed = parents_of(host, "child.event_type = 'ORDER' and child.status = 'UPDATED'")
    by_command = [row for row in changed if row["event_type"] == "COMMAND"]
    # What the algorithm spawns, it takes off the order that was submitted to it.
    usual = {"SubmitOrder"} if host.name == "nautilus2_algorithm" else {"ModifyOrder"}
    assert {row["command"] for row in by_command} <= usual
    if host.name in ("nautilus2_brackets", "nautilus2_netting"):
        assert by_command


def test_orders_follow_from_the_handler_or_signal_they_came_of(host: TracedHost) -> None:
    new = parents_of(host, "child.event_type = 'ORDER' and child.status = 'INITIALIZED'")
    causes = Counter(row["handler"] or row["event_type"] for row in new)
    assert dict(causes) == CAUSES_OF_ORDERS[host.name]
    if host.name == "nautilus2_algorithm":
        own = [row for row in new if row["event_type"] == "ORDER"]
        assert {row["parents_order"] in row["client_order_id"] for row in own} == {True}


def test_an_error_in_the_users_code_is_on_its_handler(host: TracedHost) -> None:
    failed = host.rows("select handler, status_message from spans where status_code = 'ERROR'")
    if host.name == "nautilus2_netting":
        assert [row["handler"] for row in failed] == ["Flips.on_quote"]
        assert "the strategy's own error" in failed[0]["status_message"]
    else:
        assert not failed


def test_data_that_two_strategies_are_given_are_one_event(host: TracedHost) -> None:
    (found,) = host.rows(
        "select count(*) as events from spans where event_type in ('BAR', 'TICK')"
        " and name like 'publish%'"
    )
    assert found["events"] == sum(run["totals"][0] for run in host.engines.values())


ENDS = """
from nautilus_trader.model import Bar, BarType, OrderSide, Price, Quantity
from nautilus_trader.trading import Strategy
from rust_engine import (
    MINUTE_NS, MONDAY_NS, XNAS, ScriptedStrategy, add_margin_venue, named, pair, quiet_engine,
    quotes, stock,
)

EURUSD, AAPL = pair("EUR/USD"), stock("AAPL")
BARS = BarType.from_str(f"{AAPL.id}-1-MINUTE-LAST-EXTERNAL")
BUY, SELL = OrderSide.BUY, OrderSide.SELL


class Reduces(ScriptedStrategy):
    def market(self, side, amount):
        self.submit_order(self.order_factory.market(EURUSD.id, side, Quantity.from_int(amount)))

    def exits(self):
        make, amount = self.order_factory, Quantity.from_int(1000)
        self.submit_order(make.limit(EURUSD.id, SELL, amount, Price(1.2, 5), reduce_only=True))
        self.submit_order(
            make.stop_market(EURUSD.id, SELL, amount, Price(1.05, 5), reduce_only=True)
        )

    def script(self):
        return {
            2: lambda: self.market(BUY, 1000),
            3: self.exits,
            5: lambda: self.market(SELL, 300),
            6: lambda: self.market(SELL, 700),
        }


class WithinOneBar(Strategy):
    seen = 0

    def __new__(cls):
        return super().__new__(cls, named("W", "WithinOneBar"))

    def __init__(self):
        super().__init__(named("W", "WithinOneBar"))

    def on_start(self):
        self.subscribe_bars(BARS)

    def on_bar(self, bar):
        self.seen += 1
        if self.seen == 2:
            for side, trigger in ((BUY, 100.5), (SELL, 99.5)):
                self.submit_order(
                    self.order_factory.stop_market(
                        AAPL.id, side, Quantity.from_int(10), Price(trigger, 2)
                    )
                )


def bar(minute, *prices):
    time = MONDAY_NS + minute * MINUTE_NS
    return Bar(BARS, *(Price(one, 2) for one in prices), Quantity.from_int(5000), time, time)


engine = quiet_engine("ENDS-001")
add_margin_venue(engine)
add_margin_venue(engine, XNAS)
engine.add_instrument(EURUSD)
engine.add_instrument(AAPL)
engine.add_data(quotes(EURUSD, [1.1] * 8))
engine.add_data([bar(1, 100, 100, 100, 100), bar(2, 100, 100, 100, 100), bar(3, 100, 101, 99, 100)])
engine.add_strategy(Reduces(EURUSD, tag="R"))
engine.add_strategy(WithinOneBar())
engine.run()
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> TracedHost:
    """A backtest of how orders may end without anyone asking for it."""
    folder = tmp_path_factory.mktemp("ends")
    script, data = folder / "ends.py", folder / "data"
    script.write_text(ENDS)
    run_python(*recording(data), str(script), PYTHONPATH=str(HERE / "hosts"))
    with EventStore(DataFolder(data)).connect(["host"]) as connection:
        results = compute_results(connection, "host")
    return TracedHost("ends", "", "", DataFolder(data), results)


def test_entry_and_exit_within_one_bar_are_told_apart(ends: TracedHost) -> None:
    """What the engine fills at one time: the exit still follows from its own order's states."""
    fills = ends.rows(
        """
        select fill.client_order_id, fill.side, fill.price, fill.event_time,
            parent.client_order_id as of_order, root.event_type as root,
            fill.links
        from spans fill join spans parent on parent.span_id = fill.parent_span_id
        join spans root on root.sequence = fill.root_sequence
        where fill.event_type = 'FILL' and fill.symbol = 'AAPL' order by fill.sequence
        """
    )
    entry, leaves = fills
    assert entry["event_time"] == leaves["event_time"]
    assert (entry["side"], entry["price"]) == ("BUY", Decimal("100.5"))
    assert (leaves["side"], leaves["price"]) == ("SELL", Decimal("99.5"))
    for fill in fills:
        assert fill["of_order"] == fill["client_order_id"]
        assert fill["root"] == "BAR"
    assert json.loads(leaves["links"])  # the fill that opened the position
    assert {account.status for account in ends.results.ledger.accounts} == {"reconciled"}


def test_what_is_left_to_reduce_is_changed_and_cancelled_by_the_fills_that_leave_it(
    ends: TracedHost,
) -> None:
    """Orders that only reduce are cut down to the position, and cancelled when there is none."""
    changed = ends.rows(
        """
        select child.order_type, child.status, parent.event_type, parent.quantity, child.links
        from spans child join spans parent on parent.span_id = child.parent_span_id
        where child.status in ('UPDATED', 'CANCELED') order by child.order_type, child.sequence
        """
    )
    assert [
        (row["order_type"], row["status"], row["event_type"], row["quantity"]) for row in changed
    ] == [
        (kind, status, "FILL", quantity)
        for kind in ("LIMIT", "STOP_MARKET")
        for status, quantity in (("UPDATED", 300), ("CANCELED", 700))
    ]
    assert all(json.loads(row["links"]) for row in changed)  # the order's own last state
