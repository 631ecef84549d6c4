"""Attribution adds up by anything, agrees with a brute force, and is held against the engine."""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.attribution import breakdowns
from fillpath.analytics.cli import main
from fillpath.analytics.ledger import Ledger
from fillpath.analytics.pnl_dimensions import DIMENSIONS
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_loading import results_of
from fillpath.instrumentation import TracedEventBus, Tracing
from fillpath.instrumentation.semconv import Account, CashFlow, EventType, Order
from fillpath.instrumentation.settings import DataFolder

sys.path.append(str(Path(__file__).parent))

from made_spans import MadeSpans

D = Decimal
PATIENT = settings(max_examples=15, deadline=None)
DAY = 86_400_000_000_000
RECONCILED, FAILED = ReconciliationStatus.RECONCILED, ReconciliationStatus.FAILED


def sums(ledger: Ledger, *kinds: str, by: str = "strategy") -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for one in ledger.slices:
        if not kinds or one.kind in kinds:
            found[getattr(one, by)] += one.amount
    return {name: amount for name, amount in found.items() if amount}


def only(ledger: Ledger, currency: str = "USD") -> AccountReconciliation:
    (account,) = (one for one in ledger.accounts if one.currency == currency)
    return account


def invariant(ledger: Ledger) -> bool:
    """The slices of an account are its entries, whatever rule these follow."""
    for account in ledger.accounts:
        slices = [
            one.amount
            for one in ledger.slices
            if (one.ref.portfolio, one.account_id, one.currency)
            == (account.portfolio, account.account_id, account.currency)
        ]
        assert sum(slices, D(0)) == account.profit + account.unrealized
    return True


class TestLots:
    """What is realised and what is open, lot by lot."""

    def test_the_oldest_lot_is_closed_first(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "10")
        spans.fill("BUY", 10, "12")
        spans.fill("SELL", 15, "13")
        spans.bar("14")
        ledger = spans.ledger()
        realized = [(one.quantity, one.amount) for one in ledger.slices if one.kind == "realized"]
        assert realized == [(D(10), D("30.00")), (D(5), D("5.00"))]
        assert sums(ledger, "unrealized") == {"Trend-1": D("10.00")}
        account = only(ledger)
        assert (account.realized, account.unrealized) == (D("30.00"), D("15.00"))
        assert (account.realized_fifo, account.unrealized_fifo) == (D("35.00"), D("10.00"))

    def test_marks_are_recognised_day_by_day_and_taken_back_at_the_exit(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "100", event_time=0)
        for day, close in ((0, "101"), (0, "102"), (1, "105"), (2, "103")):
            spans.add(
                EventType.BAR, price=close, symbol="ACME", venue="SIM", event_time=day * DAY + 60
            )
        spans.fill("SELL", 4, "104", event_time=2 * DAY + 100)
        spans.fill("SELL", 6, "106", event_time=3 * DAY)
        ledger = spans.ledger()
        by_day: dict[int, Decimal] = defaultdict(Decimal)
        for one in ledger.slices:
            by_day[(one.ref.event_time or 0) // DAY] += one.amount
        # Profit marked to market: what a lot gained that day, however it was realised later.
        assert by_day == {0: D(20), 1: D(30), 2: D(-20) + 4, 3: D(18)}
        assert sums(ledger, "unrealized") == {}
        assert sums(ledger, "realized") == {"Trend-1": D(52)}
        assert {one.holding for one in ledger.slices if one.kind == "realized"} == {"1d to 1w"}

    def test_hedged_turns_go_on_in_the_new_position(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "100", position_id="P-1")
        spans.position(EventType.POSITION_OPEN, 10, "0", position_id="P-1")
        spans.account(USD="1000.00")
        spans.fill("SELL", 15, "101", position_id="P-1", commission="1.50")
        spans.position(EventType.POSITION_CLOSE, 0, "8.50", position_id="P-1")
        spans.position(EventType.POSITION_OPEN, -5, "0.00", position_id="P-1F")
        spans.account(USD="1008.50")
        spans.bar("99")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED, only(ledger).notes
        trades = sums(ledger, by="trade_id")
        assert trades == {
            ledger.trips[0].trade_id: D("9.00"),
            ledger.trips[1].trade_id: D("9.50"),
        }
        assert invariant(ledger)

    def test_without_currency_the_only_one_of_the_account_is_meant(self) -> None:
        spans = MadeSpans(account_id=None)
        nameless: dict[str, Any] = {"currency": None, "commission_currency": None}
        spans.account("CASH", USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1", **nameless)
        spans.account("CASH", USD="899.00")
        ledger = spans.ledger()
        assert (only(ledger).status, sums(ledger, by="currency")) == (RECONCILED, {"USD": D(-1)})

    def test_a_hosts_bars_need_not_name_the_venue(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "10", venue="XNAS")
        spans.bar("13", venue=None)
        assert sums(spans.ledger()) == {"Trend-1": D(30)}


book = st.lists(
    st.tuples(
        st.sampled_from(["BUY", "SELL"]),
        st.sampled_from(["A", "B", "C"]),
        st.decimals(D("0.001"), D(500), places=3),
        st.decimals(D("0.01"), D(9000), places=4),
        st.sampled_from(["USD", "EUR"]),
        st.booleans(),
    ),
    max_size=25,
)


@PATIENT
@given(book, st.sampled_from(["hedging", "netting", "unnamed"]))
def test_random_books_come_to_the_cash_they_moved(given: list[Any], mode: str) -> None:
    """Profit of all lots is what was sold less what was bought, with what is held at its price."""
    spans = MadeSpans(account_id=None)
    flows: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    held: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    ids = {"hedging": "{1}-{0}", "netting": "{0}"}
    for side, strategy, quantity, price, currency, is_odd in given:
        position = ids.get(mode, "").format(currency, strategy) or None
        if mode == "hedging" and is_odd:
            position = f"{position}-2"
        spans.fill(
            side,
            quantity,
            price,
            strategy=strategy,
            symbol=currency,
            currency=currency,
            commission_currency=currency,
            commission="0.35",
            position_id=position,
        )
        sign = 1 if side == "BUY" else -1
        held[strategy, currency] += sign * Fraction(quantity)
        flows[strategy, currency] -= sign * Fraction(quantity) * Fraction(price) + Fraction("0.35")
    for symbol in ("USD", "EUR"):
        spans.bar("77.77", symbol=symbol)
    ledger = spans.ledger()
    assert invariant(ledger)
    for currency in ("USD", "EUR"):
        whole = Fraction(0)
        leaves = [one for one in ledger.slices if one.currency == currency]
        for strategy in "ABC":
            exact = flows[strategy, currency] + held[strategy, currency] * Fraction("77.77")
            whole += exact
            ours = sum((one.amount for one in leaves if one.strategy == strategy), D(0))
            assert abs(Fraction(ours) - exact) < Fraction(len(leaves) + 1, 100)
        total = sum((one.amount for one in leaves), D(0))
        # Rounded once: not a cent is lost between the leaves, however many there are.
        assert abs(Fraction(total) - whole) <= Fraction(1, 200)
        moved = sum((one.amount for one in leaves if one.kind == "reclassification"), D(0))
        assert moved == 0


contributions = st.lists(st.integers(-200, 200).filter(bool), min_size=1, max_size=5).filter(
    lambda given: sum(given) != 0
)


@PATIENT
@given(st.lists(st.tuples(contributions, st.decimals(1, 100, places=2)), min_size=1, max_size=8))
def test_a_netted_order_is_allocated_to_its_strategies(
    orders: list[tuple[list[int], Decimal]],
) -> None:
    spans = MadeSpans(account_id=None)
    flows: dict[str, Fraction] = defaultdict(Fraction)
    held: dict[str, Fraction] = defaultdict(Fraction)
    fees: dict[str, Fraction] = defaultdict(Fraction)
    for number, (parts, price) in enumerate(orders):
        net = sum(parts)
        named = [{"strategy": f"S{at}", "quantity": size} for at, size in enumerate(parts)]
        side, client = ("BUY" if net > 0 else "SELL"), f"O-{number}"
        spans.add(EventType.ORDER, {Order.CONTRIBUTIONS: named}, client_order_id=client)
        for part in (abs(net) // 3, abs(net) - abs(net) // 3):
            if part:
                spans.fill(side, part, price, commission="1.11", strategy="PM",
                           client_order_id=client, position_id="NET")  # fmt: skip
                aligned = sum(size for size in parts if size * net > 0)
                for at, size in enumerate(parts):
                    mine = Fraction(size) * part / abs(net)
                    held[f"S{at}"] += mine
                    flows[f"S{at}"] -= mine * Fraction(price)
                    fees[f"S{at}"] -= Fraction("1.11") * max(Fraction(size, aligned), Fraction(0))
    spans.bar("50.00")
    ledger = spans.ledger()
    assert invariant(ledger)
    profits = sums(ledger, "realized", "unrealized")
    for name, flow in flows.items():
        exact = flow + held[name] * 50
        assert abs(Fraction(profits.get(name, D(0))) - exact) < Fraction(len(ledger.slices), 100)
        charged = Fraction(sums(ledger, "commission").get(name, D(0)))
        assert abs(charged - fees[name]) <= Fraction(2 * len(orders), 100)
    whole = sum(flows.values(), Fraction(0)) + 50 * sum(held.values(), Fraction(0))
    assert abs(Fraction(sum(profits.values(), D(0))) - whole) <= Fraction(1, 200)
    # Between the strategies and the book that they share, profit only changes its kind.
    moved = [one for one in ledger.slices if one.kind == "reclassification"]
    assert {one.strategy for one in moved} <= {""}
    assert sum((one.amount for one in moved), D(0)) == 0
    assert {one.reclassified for one in moved} in (set(), {"realized", "unrealized"})


def test_strategies_cross_inside_at_the_price_of_the_fill() -> None:
    spans = MadeSpans(account_id=None)
    both = [{"strategy": "A", "quantity": "150"}, {"strategy": "B", "quantity": "-50"}]
    keys = {Order.CONTRIBUTIONS: both}
    spans.fill("BUY", 60, "10", commission="0.60", strategy=None, attributes=keys)
    spans.fill("BUY", 40, "10", commission="0.40", strategy=None, attributes=keys)
    spans.bar("11")
    ledger = spans.ledger()
    assert sums(ledger, "unrealized") == {"A": D(150), "B": D(-50)}
    assert sums(ledger, "commission") == {"A": D(-1)}
    back = {Order.CONTRIBUTIONS: [{"strategy": "A", "quantity": -150}]}
    spans.fill("SELL", 100, "12", strategy=None, attributes=back)
    ledger = spans.ledger()
    # The book sold all it had; of A's 150, 50 went on inside, which the account never saw.
    assert sums(ledger, "realized") == {"A": D(200)}
    moved = {one.reclassified: one.amount for one in ledger.slices if one.reclassified}
    assert moved == {}
    assert sums(ledger) == {"A": D(200) + D(50) - 1, "B": D(-50)}


def test_one_position_of_two_strategies_is_reclassified() -> None:
    spans = MadeSpans()
    spans.account(USD="1000.00")
    spans.fill("BUY", 10, "10", strategy="A")
    spans.account(USD="1000.00")
    spans.fill("SELL", 10, "12", strategy="B")
    spans.account(USD="1020.00")
    spans.bar("15")
    ledger = spans.ledger()
    account = only(ledger)
    assert (account.status, account.realized, account.unrealized) == (RECONCILED, D(20), D(0))
    assert sums(ledger) == {"A": D(50), "B": D(-30)}
    moved = {one.reclassified: one.amount for one in ledger.slices if one.reclassified}
    assert moved == {"realized": D(20), "unrealized": D(-20)}
    assert (account.realized_fifo, account.unrealized_fifo) == (D(20), D(0))
    assert invariant(ledger)


def test_an_account_that_nets_without_saying_so_is_followed() -> None:
    spans = MadeSpans()
    spans.account(USD="1000.00")
    spans.fill("BUY", 10, "10", strategy="A", position_id=None, commission="1")
    spans.account(USD="999.00")
    spans.fill("SELL", 10, "12", strategy="B", position_id=None, commission="1")
    spans.account(USD="1018.00")
    ledger = spans.ledger()
    assert only(ledger).status is RECONCILED, only(ledger).notes
    assert sums(ledger) == {"A": D(19), "B": D(-1)}
    assert invariant(ledger)


class TestCashFlows:
    """Dividends and the like, as the host gives them."""

    @pytest.fixture
    def spans(self) -> MadeSpans:
        spans = MadeSpans()
        spans.account("CASH", "USD", USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1")
        spans.account("CASH", "USD", USD="899.00")
        return spans

    def pay(self, spans: MadeSpans, amount: str, kind: str = "DIVIDEND", **columns: Any) -> None:
        keys = {CashFlow.TYPE: kind, CashFlow.AMOUNT: amount, CashFlow.CURRENCY: "USD"}
        spans.add(EventType.CASH_FLOW, {**keys, Account.ID: "SIM-001"}, **columns)

    def test_a_statement_may_come_after_or_before(self, spans: MadeSpans) -> None:
        self.pay(spans, "5.00", strategy="Trend-1", symbol="ACME")
        spans.account("CASH", "USD", USD="904.00")
        spans.account("CASH", "USD", USD="903.50")
        self.pay(spans, "-0.50", "FEE")
        ledger = spans.ledger()
        account = only(ledger)
        assert (account.status, account.cash_flow, account.funding) == (RECONCILED, D("4.50"), D(0))
        assert sums(ledger, "cash_flow") == {"Trend-1": D(5), "": D("-0.50")}
        assert invariant(ledger)

    def test_a_fill_may_share_its_statement_with_a_dividend(self, spans: MadeSpans) -> None:
        self.pay(spans, "5.00")
        spans.fill("SELL", 10, "11", commission="1")
        spans.account("CASH", "USD", USD="1013.00")
        account = only(spans.ledger())
        assert (account.status, account.cash_flow, account.realized) == (RECONCILED, D(5), D(10))

    def test_a_deposit_is_no_profit(self, spans: MadeSpans) -> None:
        self.pay(spans, "500", "DEPOSIT")
        spans.account("CASH", "USD", USD="1399.00")
        self.pay(spans, "100", "WITHDRAWAL")
        spans.account("CASH", "USD", USD="1299.00")
        ledger = spans.ledger()
        account = only(ledger)
        assert (account.status, account.transfers) == (RECONCILED, D(400))
        assert sums(ledger, "cash_flow") == {}
        assert invariant(ledger)

    def test_what_the_account_does_not_show_is_told(self, spans: MadeSpans) -> None:
        self.pay(spans, "5.00")
        spans.fill("SELL", 10, "11", commission="1")
        spans.account("CASH", "USD", USD="1008.00")
        account = only(spans.ledger())
        assert (account.status, account.difference) == (FAILED, D("-5.00"))
        assert account.notes == ("The account does not show DIVIDEND of 5.00 USD.",)

    def test_one_without_an_amount_is_told(self, spans: MadeSpans) -> None:
        self.pay(spans, "much")
        account = only(spans.ledger())
        assert (account.status, account.notes) == (
            FAILED,
            ("1 cash flow without amount: not counted.",),
        )


# -- The command, on a home-made bus ---------------------------------------------------------------


class Bus:
    """A bus as people write them."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: str, handler: Callable[[Any], None]) -> None:
        self.handlers.setdefault(kind, []).append(handler)

    def publish(self, event: dict[str, Any]) -> None:
        for handler in self.handlers.get(event["type"], []):
            handler(event)


class Host:
    """A broker with one cash account and its own brute-force books."""

    def __init__(self, data: Path, run_id: str) -> None:
        self.tracing = Tracing(run_id, data=data, portfolio="home/made", writer="inline")
        self.cash, self.hours, self.fills = D("100000.00"), 0, 0
        self.lots: dict[tuple[str, str], list[tuple[int, Decimal]]] = defaultdict(list)
        self.realized: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.fees: dict[tuple[str, str], Decimal] = defaultdict(Decimal)

    def publish(self, kind: str, **fields: Any) -> None:
        self.hours += 7
        moment = datetime.fromtimestamp(1_704_186_000 + 3600 * self.hours, UTC)
        self.bus.publish({"type": kind, "timestamp": moment, **fields})

    def state(self, lie: Decimal | int = 0) -> None:
        balance = {"currency": "USD", "total": self.cash + lie}
        self.publish("PORTFOLIO", account_id="c1", account_type="CASH", balances=[balance])

    def trade(
        self, side: str, quantity: int, price: str, strategy: str, symbol: str, **tamper: Any
    ) -> None:
        sign, fee = (1 if side == "BUY" else -1), D("1.25")
        self.fills += 1
        key = (strategy, symbol)
        for _ in range(quantity):
            if self.lots[key] and self.lots[key][0][0] != sign:
                was, paid = self.lots[key].pop(0)
                self.realized[key] += was * (D(price) - paid)
            else:
                self.lots[key].append((sign, D(price)))
        self.fees[key] += fee
        self.cash -= sign * quantity * D(price) + fee
        if not tamper.get("unpublished"):
            self.publish("FILL", fill_id=f"F{self.fills}", side=side, quantity=quantity,
                         price=D(price), strategy=strategy, symbol=symbol, currency="USD",
                         commission=fee + tamper.get("fee", D(0)))  # fmt: skip
        self.state(tamper.get("lie", D(0)))

    def run(self, **tamper: Any) -> Host:
        with self.tracing:
            self.bus = TracedEventBus(Bus())
            self.state()
            for number, (side, quantity, price, strategy, symbol) in enumerate(
                [
                    ("BUY", 10, "100.10", "trend", "ACME"),
                    ("BUY", 5, "101.00", "trend", "ACME"),
                    ("SELL", 12, "103.35", "trend", "ACME"),
                    ("SELL", 8, "47.20", "reverse", "INIT"),
                    ("BUY", 20, "46.15", "reverse", "INIT"),
                ]
            ):
                self.publish("BAR", symbol=symbol, close=price)
                self.trade(side, quantity, price, strategy, symbol, **tamper if number == 2 else {})
            self.publish("BAR", symbol="ACME", close="104.00")
            self.publish("BAR", symbol="INIT", close="46.00")
        return self

    def expected(self) -> dict[tuple[str, str], Decimal]:
        last = {"ACME": D(104), "INIT": D(46)}
        return {
            key: self.realized[key]
            + sum((sign * (last[key[1]] - paid) for sign, paid in lots), D(0))
            - self.fees[key]
            for key, lots in self.lots.items()
        }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attribution") / "data"


@pytest.fixture(scope="module")
def honest(data: Path) -> tuple[Path, Host]:
    return data, Host(data, "honest").run()


def asked(capsys: pytest.CaptureFixture[str], data: Path, *words: str, exit_code: int = 0) -> Any:
    assert main(["--data", str(data), "attribution", *words, "--json"]) == exit_code
    return json.loads(capsys.readouterr().out)


def test_the_breakdown_is_the_brute_force(
    honest: tuple[Path, Host], capsys: pytest.CaptureFixture[str]
) -> None:
    data, host = honest
    (document,) = asked(capsys, data, "honest", "--by", "strategy,symbol")
    rows = {(row["strategy"], row["symbol"]): D(row["amount"]) for row in document["rows"]}
    assert rows == host.expected()
    assert document["currency"] == "USD"
    assert D(document["total"]) == sum(host.expected().values())
    (realized,) = asked(capsys, data, "honest", "--by", "strategy,symbol", "--kind", "realized")
    rows = {(row["strategy"], row["symbol"]): D(row["amount"]) for row in realized["rows"]}
    assert rows == host.realized


def test_every_breakdown_adds_up_to_the_same_total(
    honest: tuple[Path, Host], capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = honest
    (whole,) = asked(capsys, data, "honest")
    with results_of(DataFolder(data)) as results:
        for dimension in DIMENSIONS:
            (one,) = breakdowns(results.pnl_by("honest", dimension))
            assert one.total == D(whole["total"]), dimension
            # The rollups give what the slices give.
            (slices,) = breakdowns(results.pnl_by("honest", dimension, "account"))
            assert slices.total == one.total
            assert [row.amount for row in slices.rows] == [row.amount for row in one.rows]
    (weeks,) = asked(capsys, data, "honest", "--by", "week,hour")
    assert {row["week"] for row in weeks["rows"]} == {"2024-W01"}
    assert {row["hour"] for row in weeks["rows"]} <= {f"{hour:02}" for hour in range(24)}


def test_what_cannot_be_asked_is_told(
    honest: tuple[Path, Host], capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = honest
    for words, told in (
        (("--by", "strategy,colour"), "by colour; it can by portfolio, account, strategy"),
        (("--kind", "luck"), "kind luck; there are realized"),
        (("--reconcile", "--by", "day"), "takes no --by"),
    ):
        assert main(["--data", str(data), "attribution", "honest", *words]) == 2
        assert told in capsys.readouterr().err.replace("\n", " ")


def test_a_table_of_names_is_safe_for_a_spreadsheet(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.csv"
    with Tracing("evil", data=data, writer="inline"):
        bus = TracedEventBus(Bus())
        bus.publish({"type": "FILL", "side": "BUY", "quantity": 1, "price": 2, "strategy": "=1+1",
                     "symbol": "\x1b[31mACME", "commission": "0.5"})  # fmt: skip
    assert main(["--data", str(data), "attribution", "evil", "--csv", str(file)]) == 0
    capsys.readouterr()
    with file.open(newline="", encoding="utf-8") as opened:
        assert list(csv.reader(opened)) == [
            ["portfolio", "strategy", "currency", "amount"],
            ["default", "'=1+1", "", "-0.5"],
        ]
    assert main(["--data", str(data), "attribution", "evil", "--by", "symbol"]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out


def test_reconciling_shows_both_sides(
    honest: tuple[Path, Host], capsys: pytest.CaptureFixture[str]
) -> None:
    data, host = honest
    document = asked(capsys, data, "honest", "--reconcile")
    (account,) = document["accounts"]
    assert document["reconciled"] is True
    assert document["matching"] == {"legs": 5, "matches": 3, "agree": True}
    assert (account["status"], account["rule"]) == ("reconciled", "broker cash")
    assert D(account["engine"]["end"]) == D(account["ledger"]["end"]) == host.cash
    assert D(account["engine"]["change"]) == host.cash - 100_000
    assert D(account["fifo"]["realized"]) == sum(host.realized.values())
    assert not any(one["flagged"] for one in account["differences"])
    parts = ("realized", "commission", "cash_flow", "funding", "conversion", "rounding",
             "transfers", "held", "not_booked")  # fmt: skip
    assert sum(D(account["ledger"][name]) for name in parts) == D(account["ledger"]["change"])
    assert main(["--data", str(data), "attribution", "honest", "--reconcile"]) == 0
    assert "The queue of lots and SQL agree on 3 matches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run_id", "tamper", "amount"),
    [
        ("lie", {"lie": D("0.01")}, None),
        ("missing", {"unpublished": True}, None),
        ("fee", {"fee": D("0.10")}, "0.1"),
    ],
    ids=["a statement that lies by a cent", "a fill that is missing", "another commission"],
)
def test_an_account_that_lies_is_flagged(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    run_id: str,
    tamper: dict[str, Any],
    amount: str | None,
) -> None:
    Host(data, run_id).run(**tamper)
    assert main(["--data", str(data), "attribution", run_id, "--reconcile"]) == 3
    told = capsys.readouterr()
    assert "home/made c1" in told.err
    assert "✘" in told.out
    document = asked(capsys, data, run_id, "--reconcile", exit_code=3)
    (account,) = document["accounts"]
    assert (document["reconciled"], account["status"]) == (False, "failed")
    assert any(one["flagged"] for one in account["differences"])
    if amount:
        assert account["difference"] == amount


def test_a_host_without_statements_is_not_a_mismatch(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracing("bare", data=data, writer="inline"):
        bus = TracedEventBus(Bus())
        for side, price in (("BUY", 10.5), ("SELL", "11.75")):
            bus.publish({"type": "FILL", "side": side, "quantity": 2.5, "price": price})
    document = asked(capsys, data, "bare", "--reconcile")
    (account,) = document["accounts"]
    assert (account["status"], account["currency"]) == ("no account statement", None)
    assert asked(capsys, data, "bare", "--by", "strategy") == [
        {"currency": None, "total": "3.125", "rows": [{"strategy": None, "amount": "3.125"}]}
    ]
    with Tracing("unreadable", data=data, writer="inline"):
        TracedEventBus(Bus()).publish({"type": "FILL", "side": "BUY", "price": 3})
    document = asked(capsys, data, "unreadable", "--reconcile", exit_code=3)
    assert document["accounts"][0]["notes"] == [
        "1 fill without side, quantity or price: not counted."
    ]
    assert main(["--data", str(data), "attribution", "unreadable"]) == 0
    assert "1 fill without side, quantity or price: not counted." in capsys.readouterr().err


def test_a_commission_that_is_no_number_is_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracing("odd-fees", data=data, writer="inline"):
        bus = TracedEventBus(Bus())
        for side, fee in (("BUY", "one"), ("SELL", float("nan"))):
            bus.publish(
                {"type": "FILL", "side": side, "quantity": 1, "price": 5, "commission": fee}
            )
    document = asked(capsys, data, "odd-fees", "--reconcile", exit_code=3)
    assert document["accounts"][0]["notes"] == [
        "1 fill with a commission that is no number: counted without it."
    ]
