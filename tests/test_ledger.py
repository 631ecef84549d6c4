"""The ledger: profit at average cost, exact, and what an account's statements make of it."""

from __future__ import annotations

import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.average_cost import Holding
from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.ledger import Ledger
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.semconv import Account, EventType, Fill

sys.path.append(str(Path(__file__).parent))

from made_spans import MadeSpans

D = Decimal
PATIENT = settings(max_examples=50, deadline=None)
OPEN, CHANGE, CLOSE = EventType.POSITION_OPEN, EventType.POSITION_CHANGE, EventType.POSITION_CLOSE
RECONCILED, FAILED = ReconciliationStatus.RECONCILED, ReconciliationStatus.FAILED

Trades = list[tuple[str, Decimal, Decimal]]
trades = st.lists(
    st.tuples(
        st.sampled_from(["BUY", "SELL"]),
        st.decimals(D("0.001"), D(5000), places=3),
        st.decimals(D("0.01"), D(90_000), places=5),
    ),
    max_size=25,
)


def cents(amount: Fraction | Decimal) -> Decimal:
    """Round as engines do, without a Decimal division on the way."""
    scaled = Fraction(amount) * 100
    whole = int(abs(scaled) + Fraction(1, 2))
    return D(whole if scaled >= 0 else -whole).scaleb(-2)


def by_kind(ledger: Ledger, currency: str = "USD") -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for one in ledger.slices:
        if one.currency == currency:
            sums[one.kind] += one.amount
    return dict(sums)


def only(ledger: Ledger, currency: str = "USD") -> AccountReconciliation:
    (account,) = (one for one in ledger.accounts if one.currency == currency)
    return account


def adds_up(account: AccountReconciliation) -> bool:
    assert account.start is not None
    parts = (account.start, account.profit, account.held, account.not_booked, account.difference)
    return sum(parts) == account.end


class BruteForce:
    """Average cost by fractions: an oracle that shares nothing with the ledger."""

    def __init__(self) -> None:
        self.held = self.cost = Fraction(0)
        self.profits: list[Fraction] = []

    def take(self, side: str, quantity: Decimal, price: Decimal) -> Fraction:
        signed = Fraction(quantity) * (1 if side == "BUY" else -1)
        at, profit = Fraction(price), Fraction(0)
        if self.held * signed < 0:
            closed = min(abs(signed), abs(self.held))
            direction = 1 if self.held > 0 else -1
            mean = self.cost / self.held
            profit = closed * direction * (at - mean)
            self.held -= closed * direction
            self.cost = mean * self.held
            signed += closed * direction
        self.held += signed
        self.cost += signed * at
        self.profits.append(profit)
        return profit


@PATIENT
@given(trades)
def test_profits_equal_a_brute_force_recomputation(book: Trades) -> None:
    spans, oracle = MadeSpans(account_id=None), BruteForce()
    for side, quantity, price in book:
        spans.fill(side, quantity, price)
        oracle.take(side, quantity, price)
    ledger = spans.ledger()
    # The trades are at average cost: parts are rounded, the last one takes the rest.
    of_trades = sum((trip.realized for trip in ledger.trips), D(0))
    assert abs(Fraction(of_trades) - sum(oracle.profits)) < Fraction(len(book) + 1, 100)
    if not oracle.held:
        assert by_kind(ledger).get("realized", D(0)) == cents(sum(oracle.profits, Fraction(0)))


@PATIENT
@given(trades)
def test_a_flat_book_made_what_came_in_less_what_went_out(book: Trades) -> None:
    """However the parts were rounded, and whatever the average price was."""
    spans, held, cash = MadeSpans(account_id=None), D(0), D(0)
    with exact_arithmetic():
        for side, quantity, price in book:
            spans.fill(side, quantity, price, commission="0.35")
            sign = 1 if side == "BUY" else -1
            held += sign * quantity
            cash -= sign * quantity * price
        if held:
            price = D("123.45678")
            spans.fill("SELL" if held > 0 else "BUY", abs(held), price)
            cash += held * price
    ledger = spans.ledger()
    assert by_kind(ledger).get("realized", D(0)) == cents(cash)
    assert by_kind(ledger).get("commission", D(0)) == D("-0.35") * len(book)
    assert not any(trip.is_open for trip in ledger.trips)
    assert sum((trip.realized for trip in ledger.trips), D(0)) == cash


@pytest.mark.parametrize(
    ("currency", "price", "is_stated", "made"),
    [
        ("JPY", "111.133", False, D("11.13")),
        ("JPY", "111.133", True, D(11)),
        ("JPY", "111", False, D(11)),
        ("USD", "111.133", False, D("11.13")),
        ("KWD", "111.133", False, D("11.133")),
    ],
)
def test_an_engine_that_states_no_account_earns_fractions_of_a_yen(
    currency: str, price: str, is_stated: bool, made: Decimal
) -> None:
    spans = MadeSpans()
    for side, at in (("BUY", "100"), ("SELL", price)):
        spans.fill(side, 1, at, currency=currency, commission_currency=currency)
        if is_stated:
            spans.account("CASH", None, account_id="SIM-001", JPY=0)
    assert by_kind(spans.ledger(), currency)["realized"] == made


def test_a_statement_may_tell_more_of_a_currency_than_its_total() -> None:
    spans = MadeSpans()
    for quantity, price, total in ((100, "10", "-1000"), (100, "10.5", "50")):
        spans.fill("BUY" if price == "10" else "SELL", quantity, price)
        told = {Account.ID: "SIM-001", Account.TYPE: "CASH"}
        balances = {"USD": {"total": total, "free": total}}
        spans.add(EventType.PORTFOLIO, {**told, Account.BALANCES: balances})
    account = only(spans.ledger())
    assert (account.end, account.difference) == (D(50), D(0))


@PATIENT
@given(trades, st.decimals(D("0.01"), D(90_000), places=5))
def test_unrealized_and_realized_are_the_whole_value(book: Trades, last: Decimal) -> None:
    spans, oracle = MadeSpans(account_id=None), BruteForce()
    for side, quantity, price in book:
        spans.fill(side, quantity, price)
        oracle.take(side, quantity, price)
    spans.bar(last)
    expected = oracle.held * Fraction(last) - oracle.cost
    kinds = by_kind(spans.ledger())
    whole = kinds.get("realized", D(0)) + kinds.get("unrealized", D(0))
    assert whole == cents(expected + sum(oracle.profits))
    assert kinds.keys() <= {"realized", "unrealized"}


@PATIENT
@given(
    trades,
    st.sampled_from(["MARGIN", "CASH"]),
    st.lists(st.sampled_from([-1, 0, 1]), min_size=25, max_size=25),
)
def test_an_account_that_rounds_is_followed_to_the_cent(
    book: Trades, kind: str, noise: list[int]
) -> None:
    """The account rounds each booking as it likes, up or down; every cent is attributed."""
    spans, oracle = MadeSpans(), BruteForce()
    balance = D("1000000000")
    spans.account(kind, "USD", USD=balance)
    for (side, quantity, price), cent in zip(book, noise, strict=False):
        profit = oracle.take(side, quantity, price)
        flow = -Fraction(quantity) * Fraction(price) * (1 if side == "BUY" else -1)
        exact = profit if kind == "MARGIN" else flow
        down = D((exact * 100).__floor__()).scaleb(-2)
        booked = cents(exact)
        if cent and down != exact:
            booked = down + D(cent > 0) / 100
        balance += booked - D("1.05")
        spans.fill(side, quantity, price, commission="1.05")
        spans.account(kind, "USD", USD=balance)
    ledger = spans.ledger()
    account = only(ledger)
    assert account.status is RECONCILED, account.notes
    assert account.end == balance
    assert account.difference == account.not_booked == account.funding == 0
    assert adds_up(account)
    assert account.commission == D("-1.05") * len(book)
    assert account.held == (0 if kind == "MARGIN" else -cents(oracle.cost))
    assert abs(account.rounding) <= D("0.03") * len(book)
    assert account.realized == sum(map(cents, oracle.profits), D(0))
    # All of it is a whole number of cents, and no slice is lost between the breakdowns.
    assert all(one.amount == one.amount.quantize(D("0.01")) for one in ledger.slices)
    by_fill: dict[int, Decimal] = defaultdict(Decimal)
    for one in ledger.slices:
        by_fill[one.ref.sequence] += one.amount
    total = ledger.total().get("USD", D(0))
    assert sum(by_fill.values(), D(0)) == total == account.profit + account.unrealized


def test_a_short_sale_and_its_cover() -> None:
    spans = MadeSpans(account_id=None)
    spans.fill("SELL", 10, "101.5")
    spans.fill("BUY", 4, "100")
    spans.fill("BUY", 6, "102")
    ledger = spans.ledger()
    assert [one.amount for one in ledger.slices] == [D("6.00"), D("-3.00")]
    (trip,) = ledger.trips
    assert (trip.direction, trip.entered, trip.exited) == ("SHORT", D(10), D(10))
    assert (trip.entry_price, trip.exit_price) == (D("101.5"), D("101.2"))


def test_a_turn_closes_one_trade_and_opens_another() -> None:
    spans = MadeSpans(account_id=None)
    first = spans.fill("BUY", 10, "100", commission="1")
    turn = spans.fill("SELL", 25, "110", commission="2.51")
    ledger = spans.ledger()
    closed, opened = ledger.trips
    assert (closed.trade_id, opened.trade_id) == (first["span_id"], turn["span_id"])
    assert (closed.realized, closed.is_open) == (D(100), False)
    assert (opened.direction, opened.open_quantity) == ("SHORT", D(15))
    # The commission is shared by quantity; the odd cent stays somewhere.
    assert (closed.commission, opened.commission) == (D("2.00"), D("1.51"))
    assert by_kind(ledger) == {"realized": D("100.00"), "commission": D("-3.51")}


def test_hedged_positions_do_not_net() -> None:
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", 10, "100", position_id="P-1")
    spans.fill("SELL", 10, "101", position_id="P-2")
    spans.fill("SELL", 10, "105", position_id="P-1")
    ledger = spans.ledger()
    # What is open is worth the price of the last fill, if the market says nothing.
    assert by_kind(ledger) == {"realized": D("50.00"), "unrealized": D("-40.00")}
    assert [trip.is_open for trip in ledger.trips] == [False, True]


def test_a_turned_position_may_get_another_name() -> None:
    """A hedging engine opens the other side of a turn under an id of its own."""
    spans = MadeSpans()
    spans.account(USD="1000.00")
    spans.fill("BUY", 10, "100", position_id="P-1")
    spans.position(OPEN, 10, "0", position_id="P-1")
    spans.account(USD="1000.00")
    spans.fill("SELL", 15, "101", position_id="P-1")
    spans.position(CLOSE, 0, "10.00", position_id="P-1")
    spans.position(OPEN, -5, "0.00", position_id="P-1F")
    spans.account(USD="1010.00")
    spans.fill("BUY", 5, "100", position_id="P-1F")
    spans.position(CLOSE, 0, "5.00", position_id="P-1F")
    spans.account(USD="1015.00")
    ledger = spans.ledger()
    assert [trip.position_id for trip in ledger.trips] == ["P-1", "P-1F"]
    assert only(ledger).status is RECONCILED
    assert by_kind(ledger) == {"realized": D("15.00")}


def test_without_position_ids_a_book_is_strategy_symbol_and_venue() -> None:
    spans = MadeSpans(account_id=None)
    for strategy, symbol, venue in (("A", "X", "V"), ("B", "X", "V"), ("A", "Y", "V")):
        spans.fill("BUY", 1, "10", strategy=strategy, symbol=symbol, venue=venue, position_id=None)
    spans.fill("SELL", 1, "12", strategy="B", symbol="X", venue="V", position_id=None)
    ledger = spans.ledger()
    realized = [one for one in ledger.slices if one.kind == "realized"]
    assert [(one.strategy, one.symbol, one.amount) for one in realized] == [("B", "X", D(2))]


def test_two_portfolios_may_use_the_same_ids() -> None:
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", 1, "10")
    spans.portfolio = "fund/other"
    spans.fill("SELL", 1, "12")
    ledger = spans.ledger()
    assert ledger.slices == ()
    assert [trip.direction for trip in ledger.trips] == ["LONG", "SHORT"]


def test_a_contract_is_worth_its_multiplier() -> None:
    spans = MadeSpans(account_id=None)
    keys = {Fill.MULTIPLIER: "50"}
    spans.fill("BUY", 2, "4000.25", attributes=keys)
    spans.fill("SELL", 1, "4001.50", attributes=keys)
    spans.quote("4003.00", "4003.50")
    ledger = spans.ledger()
    assert by_kind(ledger) == {"realized": D("62.50"), "unrealized": D("150.00")}


def test_an_inverse_contract_earns_its_base_currency() -> None:
    """By the reciprocal of the price; engines average the prices, lots keep their own."""
    spans = MadeSpans()
    keys = {Fill.IS_INVERSE: True, Fill.BASE_CURRENCY: "BTC", Fill.SETTLEMENT_CURRENCY: "BTC"}
    spans.account(base="BTC", BTC="10.00000000")
    spans.fill("BUY", 100_000, "40000", attributes=keys)
    spans.fill("BUY", 100_000, "50000", attributes=keys)
    spans.account(base="BTC", BTC="10.00000000")
    spans.fill("SELL", 150_000, "60000", attributes=keys)
    exact = 150_000 * (Fraction(1, 45_000) - Fraction(1, 60_000))
    booked = D("0.83333333")
    assert abs(Fraction(booked) - exact) < Fraction(1, 10**8)
    spans.account(base="BTC", BTC=D(10) + booked)
    ledger = spans.ledger()
    assert only(ledger, "BTC").status is RECONCILED
    account = only(ledger, "BTC")
    assert (account.realized, account.realized_fifo) == (booked, D("1.00000000"))
    assert "averages the prices" in account.notes[0]
    assert ledger.total()["BTC"] == account.profit + account.unrealized


def test_a_rebate_is_a_negative_commission() -> None:
    spans = MadeSpans()
    spans.account(USD="100.00")
    spans.fill("BUY", 1, "10", commission="-0.25")
    spans.account(USD="100.25")
    ledger = spans.ledger()
    assert only(ledger).status is RECONCILED
    assert by_kind(ledger) == {"commission": D("0.25")}


class TestStatements:
    """What an account's own statements decide."""

    def test_a_cash_account_keeps_the_cost_of_what_it_holds(self) -> None:
        spans = MadeSpans()
        spans.account("CASH", "USD", USD="10000.00")
        spans.fill("BUY", "33.333", "101.11", commission="1.00")
        spans.account("CASH", "USD", USD=D("10000.00") - D("3370.30") - 1)
        spans.bar("102.00")
        ledger = spans.ledger()
        account = only(ledger)
        assert (account.status, account.held) == (RECONCILED, D("-3370.30"))
        assert by_kind(ledger) == {"commission": D("-1.00"), "unrealized": D("29.67")}
        # The curve does not fall because something was bought.
        equity = [point.equity for point in ledger.equity]
        assert equity == [D("10000.00"), D("9999.00"), D("10028.67")]

    def test_a_pair_bought_for_cash_moves_two_balances(self) -> None:
        spans = MadeSpans()
        keys = {Fill.BASE_CURRENCY: "EUR"}
        spans.account("CASH", USD="10000.00", EUR="0.00")
        spans.fill("BUY", 5000, "1.10", commission="0.55", attributes=keys)
        spans.account("CASH", USD="4499.45", EUR="5000.00")
        spans.fill("SELL", 2000, "1.20", commission="0.24", attributes=keys)
        spans.account("CASH", USD="6899.21", EUR="3000.00")
        ledger = spans.ledger()
        dollars, euros = only(ledger, "USD"), only(ledger, "EUR")
        assert dollars.status is euros.status is RECONCILED
        assert by_kind(ledger, "USD") == {
            "realized": D("200.00"),
            "commission": D("-0.79"),
            "unrealized": D("300.00"),
        }
        assert by_kind(ledger, "EUR") == {}
        assert (dollars.held, euros.held) == (D("-3300.00"), D("3000.00"))

    def test_a_commission_in_the_bought_currency_is_taken_off_the_quantity(self) -> None:
        spans = MadeSpans()
        keys = {Fill.BASE_CURRENCY: "BTC"}
        spans.account("CASH", USD="10000.00", BTC="0.00000000")
        spans.fill("BUY", 1, "1000", commission="0.001", commission_currency="BTC", attributes=keys)
        spans.position(OPEN, "0.999", "0")
        spans.account("CASH", USD="9000.00", BTC="0.99900000")
        spans.fill("SELL", "0.999", "1100", attributes=keys)
        spans.position(CLOSE, 0, "99.90")
        spans.account("CASH", USD="10098.90", BTC="0.00000000")
        ledger = spans.ledger()
        assert only(ledger, "USD").status is only(ledger, "BTC").status is RECONCILED
        # One dollar's worth was bought for the broker: 99.90 earned, 1.00 paid in kind.
        assert by_kind(ledger, "USD") == {"realized": D("99.90"), "conversion": D("-1.00")}
        assert sum(by_kind(ledger, "BTC").values()) == 0
        assert not any(trip.is_open for trip in ledger.trips)

    def test_the_engines_rounding_of_a_position_is_taken(self) -> None:
        """0.005 may go either way in binary floating point; the engine's digits decide."""
        spans = MadeSpans()
        spans.account(USD="100.00")
        spans.fill("BUY", 1, "10.000")
        spans.position(OPEN, 1, "0.00")
        spans.account(USD="100.00")
        spans.fill("SELL", 1, "10.005")
        spans.position(CLOSE, 0, "0.00")
        spans.account(USD="100.01")
        ledger = spans.ledger()
        # The lot earned 0.005, which is a cent; the engine's position and its account part there.
        assert by_kind(ledger) == {"realized": D("0.01"), "rounding": D("0.00")}
        account = only(ledger)
        assert (account.realized, account.rounding) == (D("0.00"), D("0.01"))
        assert account.engine_realized == 0

    def test_what_rounding_does_not_explain_is_told(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10")
        spans.account(USD="1000.00")
        wrong = spans.fill("SELL", 10, "11")
        spans.account(USD="1010.02")
        account = only(spans.ledger())
        assert (account.status, account.difference) == (FAILED, D("0.02"))
        assert account.end == D("1010.02")
        assert adds_up(account)
        assert str(wrong["fill_id"]) in " ".join(account.notes)

    def test_a_position_that_contradicts_the_fills_is_told(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10")
        spans.position(OPEN, 11, "0.00")
        spans.account(USD="1000.00")
        account = only(spans.ledger())
        assert account.status is FAILED
        assert "is 10" in account.notes[0]

    @pytest.mark.parametrize("kind", ["CASH", "MARGIN"])
    @pytest.mark.parametrize("lie", [0.0, 0.01])
    def test_an_account_in_floats_is_followed_to_what_floats_can_tell(
        self, kind: str, lie: float
    ) -> None:
        spans, chance, cash, held, cost = MadeSpans(), Random(3), 100_000.0, 0.0, 0.0

        def state() -> None:
            balances = [{"currency": "USD", "total": cash}]
            keys = {Account.ID: "SIM-001", Account.TYPE: kind, Account.BALANCES: balances}
            spans.add(EventType.PORTFOLIO, keys)

        state()
        for number in range(60):
            quantity, price = chance.randrange(1, 100) / 10, chance.randrange(100, 9999) / 100
            side = "SELL" if held >= quantity else "BUY"
            fee = quantity * price * 0.0005
            if side == "BUY":
                cash -= fee if kind == "MARGIN" else quantity * price + fee
                held, cost = held + quantity, cost + quantity * price
            else:
                part = cost / held * quantity
                cash += quantity * price - fee - (part if kind == "MARGIN" else 0)
                held, cost = held - quantity, cost - part
            spans.fill(side, quantity, price, commission=fee)
            cash += lie if number == 30 else 0
            state()
        account = only(spans.ledger())
        assert account.status is (FAILED if lie else RECONCILED), account.notes
        assert abs(account.difference - D(str(lie))) < D("1e-8")

    @pytest.mark.parametrize(("left", "status"), [(6.7e-7, RECONCILED), (0.01, FAILED)])
    def test_floats_can_tell_no_more_of_a_balance_than_of_the_larger_notional_that_is_held(
        self, left: float, status: ReconciliationStatus
    ) -> None:
        spans = MadeSpans()
        for cash in (50_000.0, 50_000.0, 50_000.0 + left):
            balances = [{"currency": "USD", "total": cash}]
            keys = {Account.ID: "SIM-001", Account.TYPE: "MARGIN", Account.BALANCES: balances}
            spans.add(EventType.PORTFOLIO, keys)
            if len(spans.rows) == 1:
                spans.fill("BUY", 700_000_000, 1.25)
        account = only(spans.ledger())
        assert account.status is status, account.notes

    @pytest.mark.parametrize("keeps_coins", [True, False])
    def test_coins_are_booked_where_the_account_keeps_them(self, keeps_coins: bool) -> None:
        spans = MadeSpans()
        coins = {Fill.BASE_CURRENCY: "BTC"}
        totals = [("1000.00", "1"), ("799.50", "1.01"), ("908.50", "1.005")]
        spans.account(
            "CASH", **dict(zip(("USD", "BTC"), totals[0][: 1 + keeps_coins], strict=False))
        )
        for side, quantity, price, total in (
            ("BUY", "0.01", "20000", totals[1]),
            ("SELL", "0.005", "21900", totals[2]),
        ):
            spans.fill(side, quantity, price, commission="0.50", attributes=coins, position_id=None)
            given = zip(("USD", "BTC"), total[: 1 + keeps_coins], strict=False)
            spans.account("CASH", **dict(given))
        accounts = {one.currency: one for one in spans.ledger().accounts}
        assert set(accounts) == ({"USD", "BTC"} if keeps_coins else {"USD"})
        assert all(one.status is RECONCILED for one in accounts.values())
        assert accounts["USD"].realized == D("9.50")

    def test_a_change_without_a_fill_is_funding_where_the_engine_tells_its_positions(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10")
        spans.position(OPEN, 10, 0)
        spans.account(USD="1000.00")
        spans.account(USD="998.63")
        spans.fill("SELL", 10, "11")
        spans.position(CLOSE, 0, 10)
        spans.account(USD="1008.63")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert by_kind(ledger) == {"realized": D("10.00"), "funding": D("-1.37")}
        (funding,) = (one for one in ledger.slices if one.kind == "funding")
        assert (funding.strategy, funding.symbol, funding.fill_id) == ("", "", None)

    def test_a_missing_exit_with_a_small_profit_is_no_funding(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10.00")
        spans.account(USD="1000.00")
        spans.account(USD="1000.50")  # after the sale at 10.05, which nobody published
        account = only(spans.ledger())
        assert account.status is FAILED
        assert "0.50 USD without a fill" in account.notes[0]

    def test_one_statement_may_follow_several_fills(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1")
        spans.fill("SELL", 4, "11", commission="1")
        spans.fill("SELL", 6, "12", commission="1")
        spans.account(USD="1013.00")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert by_kind(ledger) == {"realized": D("16.00"), "commission": D("-3")}

    def test_fills_may_wait_in_a_queue_for_their_statements(self) -> None:
        """A bus that queues brings two fills first, then a statement for each."""
        spans = MadeSpans()
        spans.account("CASH", "USD", USD="1000.00")
        spans.fill("BUY", 1, "100", strategy="A", position_id="A", commission="1")
        spans.fill("BUY", 2, "100", strategy="B", position_id="B", commission="2")
        spans.account("CASH", "USD", USD="899.00")
        spans.account("CASH", "USD", USD="697.00")
        account = only(spans.ledger())
        assert account.status is RECONCILED, account.notes
        assert (account.commission, account.held, account.funding) == (D(-3), D(-300), D(0))

    def test_a_statement_may_come_late(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1")
        spans.account(USD="1000.00")
        spans.fill("SELL", 10, "11", commission="1")
        spans.account(USD="1008.00")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert sum(by_kind(ledger).values()) == D("8.00")

    def test_fills_that_the_account_never_shows_are_told(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1")
        spans.account(USD="999.00")
        spans.fill("SELL", 10, "11", commission="1")
        account = only(spans.ledger())
        assert (account.status, account.difference) == (FAILED, D("-9.00"))
        assert account.notes == ("The account does not show fill F-4: the engine did not book it.",)
        assert adds_up(account)

    def test_a_frozen_account_is_no_statement(self) -> None:
        spans = MadeSpans()
        for side, price in (("BUY", "10"), ("SELL", "11")):
            spans.account(USD="1000.00")
            spans.fill(side, 10, price, commission="1")
        spans.account(USD="1000.00")
        ledger = spans.ledger()
        account = only(ledger)
        assert account.status is ReconciliationStatus.NO_STATEMENT
        assert "frozen" in account.notes[0]
        assert by_kind(ledger) == {"realized": D("10.00"), "commission": D("-2")}

    def test_a_fill_in_which_the_engine_stopped_is_left_out(self) -> None:
        spans = MadeSpans()
        spans.account("CASH", "USD", USD="1000.00")
        spans.fill("BUY", 10, "10", commission="1")
        spans.position(OPEN, 10, "-1.00")
        spans.account("CASH", "USD", USD="899.00")
        spans.fill("BUY", 1000, "10", commission="1")
        ledger = spans.ledger()
        account = only(ledger)
        assert (account.status, account.commission) == (RECONCILED, D("-1"))
        assert "half-way" in account.notes[0]
        assert [trip.open_quantity for trip in ledger.trips] == [10]

    def test_a_fill_that_the_engine_keeps_out_of_positions_is_kept_out(self) -> None:
        """Such as the fill of a spread, beside those of its legs."""
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.fill("BUY", 1, "0.50", symbol="A-B", position_id="A-B")
        spans.fill("BUY", 10, "10")
        spans.position(OPEN, 10, "0.00")
        spans.account(USD="1000.00")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert [trip.opened_by.symbol for trip in ledger.trips] == ["ACME"]

    @pytest.mark.parametrize("is_long", [True, False])
    def test_a_signed_quantity_is_the_side_of_fills_without_one(self, is_long: bool) -> None:
        spans = MadeSpans()
        spans.account("CASH", "USD", USD="1000.00")
        for quantity, price, total in ((10, 10, "900.00"), (-4, 12, "948.00"), (5, 11, "893.00")):
            fill = spans.fill("", quantity if is_long else abs(quantity), price)
            fill["side"] = None
            spans.account("CASH", "USD", USD=total)
        account = only(spans.ledger())
        assert account.status is (RECONCILED if is_long else FAILED), account.notes
        if is_long:
            assert account.realized == D(8)
        else:
            assert "3 fills without side" in account.notes[0]

    def test_a_side_that_cannot_be_read_is_not_made_up_from_a_sign(self) -> None:
        spans = MadeSpans(account_id=None)
        for side in (None, "MAYBE"):
            fill = spans.fill("", -4, 12)
            fill["side"] = None
            fill["attributes"]["trading.order.side"] = side
        ledger = spans.ledger()
        assert [trip.direction for trip in ledger.trips] == ["SHORT"]
        assert {one.status for one in ledger.accounts} == {FAILED}

    def test_a_fill_that_says_too_little_fails_the_account(self) -> None:
        spans = MadeSpans()
        spans.account(USD="1000.00")
        spans.add(EventType.FILL, symbol="ACME", side="BUY")
        spans.account(USD="1000.00")
        account = only(spans.ledger())
        assert account.status is FAILED
        assert "not counted" in account.notes[0]

    def test_numbers_beyond_exact_money_are_told_of(self) -> None:
        spans = MadeSpans()
        keys = {Account.ID: "SIM-001", Account.BALANCES: [{"currency": "USD", "total": 1e155}]}
        spans.add(EventType.PORTFOLIO, keys)
        with pytest.raises(FillpathError, match="too large for exact money"):
            spans.ledger()

    def test_an_account_that_was_not_watched_from_the_start(self) -> None:
        spans = MadeSpans()
        spans.fill("BUY", 10, "10", commission="1")
        spans.account(USD="999.00")
        account = only(spans.ledger())
        assert (account.status, account.start, account.end) == (RECONCILED, D(1000), D(999))

    def test_an_account_of_another_venue_has_nothing_to_do_with_it(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.account(account_id="SIM-001", USD="1000.00")
        spans.account(account_id="XNAS-001", USD="500.00")
        spans.fill("BUY", 1, "10", commission="1", venue="XNAS")
        spans.account(account_id="XNAS-001", USD="499.00")
        accounts = {one.account_id: one for one in spans.ledger().accounts}
        assert accounts["XNAS-001"].commission == D("-1")
        assert accounts["SIM-001"].commission == 0
        assert {one.status for one in accounts.values()} == {RECONCILED}

    def test_premiums_of_options_are_paid_on_a_margin_account(self) -> None:
        spans = MadeSpans()
        keys = {Fill.MULTIPLIER: "100"}
        spans.account(USD="1000.00")
        spans.fill("BUY", 2, "1.50", attributes=keys)
        spans.account(USD="700.00")
        spans.fill("SELL", 1, "2.00", attributes=keys)
        spans.account(USD="900.00")
        account = only(spans.ledger())
        assert account.status is RECONCILED
        assert (account.realized, account.held) == (D("50.00"), D("-150.00"))

    def test_an_engine_that_books_only_the_closed_part_is_told(self) -> None:
        spans = MadeSpans()
        spans.account("CASH", USD="10000.00")
        spans.fill("BUY", 10, "100")
        spans.account("CASH", USD="9000.00")
        spans.fill("SELL", 15, "110")
        spans.account("CASH", USD="10100.00")
        account = only(spans.ledger())
        assert account.status is RECONCILED
        assert (account.realized, account.held) == (D("100.00"), D("550.00"))
        assert account.not_booked == D("-550.00")
        assert "closed part only" in account.notes[0]


class TestConversion:
    """Accounts that are kept in another currency than the price's."""

    def test_the_markets_rate_tells_profit_from_commission(self) -> None:
        spans = MadeSpans()
        yen: dict[str, Any] = {
            "currency": "JPY",
            "commission_currency": "JPY",
            "symbol": "USD/JPY",
            "attributes": {Fill.BASE_CURRENCY: "USD"},
        }
        spans.account(base="USD", USD="10000.00")
        spans.quote("110.00", "110.02", "USD/JPY")
        spans.fill("BUY", 1000, "110.02", commission="200", **yen)
        spans.account(base="USD", USD="9998.18")
        spans.quote("112.00", "112.02", "USD/JPY")
        spans.fill("SELL", 1000, "112.00", commission="200", **yen)
        # 1980 yen earned, 200 paid, at 1 / 112.00.
        spans.account(base="USD", USD=D("9998.18") + D("17.68") - D("1.79"))
        ledger = spans.ledger()
        account = only(ledger)
        assert account.status is RECONCILED
        kinds = by_kind(ledger)
        assert kinds.pop("unrealized") == 0  # what a mark added was taken back at the exit
        assert kinds == {"realized": D("17.68"), "commission": D("-3.61")}
        assert {one.currency for one in ledger.slices} == {"USD"}
        (trip,) = ledger.trips
        assert (trip.currency, trip.realized, trip.commission) == ("USD", D("17.68"), D("3.61"))

    def test_a_rate_may_lead_over_a_third_currency(self) -> None:
        spans = MadeSpans()
        spans.account(base="USD", USD="10000.00")
        spans.quote("120.00", "120.00", "EUR/JPY")
        spans.quote("1.20", "1.20", "EUR/USD")
        yen: dict[str, Any] = {"currency": "JPY", "commission_currency": "JPY"}
        spans.fill("BUY", 100, "1000", commission="500", **yen)
        spans.account(base="USD", USD="9995.00")
        spans.fill("SELL", 100, "1100", commission="500", **yen)
        spans.account(base="USD", USD="10090.00")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert by_kind(ledger) == {"realized": D("100.00"), "commission": D("-10.00")}

    def test_without_market_data_the_account_tells_the_rate(self) -> None:
        spans = MadeSpans()
        spans.account(base="USD", USD="10000.00")
        yen: dict[str, Any] = {"currency": "JPY", "commission_currency": "JPY"}
        spans.fill("BUY", 100, "10000", **yen)
        spans.fill("SELL", 100, "11000", commission="1000", **yen)
        spans.account(base="USD", USD="10990.00")
        ledger = spans.ledger()
        assert only(ledger).status is RECONCILED
        assert by_kind(ledger) == {"realized": D("1000.00"), "commission": D("-10.00")}

    def test_a_foreign_share_bought_for_cash_feels_the_exchange_rate(self) -> None:
        """Bought at 100 yen a dollar, sold at 110: the price rose, the currency fell."""
        spans = MadeSpans()
        yen: dict[str, Any] = {"currency": "JPY", "commission_currency": "JPY"}
        spans.account("CASH", "USD", USD="20000.00")
        spans.quote("100", "100", "USD/JPY")
        spans.fill("BUY", 100, "10000", **yen)
        spans.account("CASH", "USD", USD="10000.00")
        spans.quote("110", "110", "USD/JPY")
        spans.fill("SELL", 100, "10100", **yen)
        spans.account("CASH", "USD", USD="19181.82")
        ledger = spans.ledger()
        account = only(ledger)
        assert (account.status, account.held) == (RECONCILED, D(0))
        assert by_kind(ledger) == {"realized": D("90.91"), "conversion": D("-909.09")}

    def test_an_engine_without_a_rate_books_nothing_and_that_is_told(self) -> None:
        spans = MadeSpans()
        yen: dict[str, Any] = {"currency": "JPY", "commission_currency": "JPY"}
        spans.account(base="USD", USD="10000.00")
        for side, price in (("BUY", "10000"), ("SELL", "10100")):
            spans.fill(side, 100, price, commission="10", **yen)
            spans.account(base="USD", USD="10000.00")
        ledger = spans.ledger()
        assert {one.status for one in ledger.accounts} == {FAILED}
        assert only(ledger, "JPY").difference == D("-9980")
        assert "no exchange rate for JPY" in only(ledger).notes[0]


class TestMarks:
    """What a position that is still open is valued at."""

    def test_the_last_price_of_any_kind(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "10")
        spans.quote("11", "12")
        spans.bar("13")
        spans.add(EventType.TICK, {"trading.tick.price": "14"}, symbol="ACME", venue="SIM")
        ledger = spans.ledger()
        assert by_kind(ledger) == {"unrealized": D("40.00")}
        (one,) = ledger.slices
        assert (one.ref.sequence, one.strategy, one.fill_id) == (4, "Trend-1", None)
        assert ledger.trips[0].unrealized == D("40.00")

    def test_of_another_venue_it_says_nothing(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "10")
        spans.bar("13", venue="XNAS")
        ledger = spans.ledger()
        assert ledger.slices == ()
        assert ledger.trips[0].unrealized == 0  # at the price of its own fill

    def test_of_another_portfolio_it_serves_if_there_is_none_of_its_own(self) -> None:
        spans = MadeSpans(account_id=None)
        spans.fill("BUY", 10, "10")
        spans.portfolio = "fund/other"
        spans.bar("13")
        (one,) = spans.ledger().slices
        assert (one.ref.portfolio, one.amount) == ("fund/book", D("30.00"))

    def test_equity_takes_the_price_of_the_moment(self) -> None:
        spans = MadeSpans()
        spans.account(USD="100.00")
        spans.fill("BUY", 10, "10")
        spans.bar("11")
        spans.account(USD="100.00")
        spans.bar("9")
        spans.account(USD="100.00")
        equity = [point.equity for point in spans.ledger().equity]
        assert equity == [D("100.00"), D("110.00"), D("90.00")]


@pytest.mark.parametrize(
    ("stated", "status", "told"),
    [
        ("50", "reconciled", D(50)),
        ({"USD": "50.00"}, "reconciled", D(50)),
        ("49.99", "reconciled", D("49.99")),  # the engine rounds by itself
        ("49.90", "failed", D("49.90")),
        ("no number", "reconciled", None),
    ],
    ids=["a number", "by currency", "a cent off", "wrong", "nonsense"],
)
def test_an_open_profit_that_an_engine_states_is_compared(
    stated: Any, status: str, told: Decimal | None
) -> None:
    spans = MadeSpans()
    spans.account(USD="1000")
    spans.fill("BUY", 10, 100)
    spans.bar(105)
    spans.account(USD="1000")["attributes"][Account.UNREALIZED_PNL] = stated
    (account,) = spans.ledger().accounts
    assert (account.status.value, account.engine_unrealized) == (status, told)
    assert account.unrealized == account.unrealized_fifo == D(50)


def test_an_open_profit_stated_before_the_last_price_is_no_mismatch() -> None:
    spans = MadeSpans()
    spans.account(USD="1000")
    spans.fill("BUY", 10, 100)
    spans.account(USD="1000")["attributes"][Account.UNREALIZED_PNL] = "0"
    spans.bar(105)
    (account,) = spans.ledger().accounts
    assert account.status.value == "reconciled"
    assert account.engine_unrealized is None
    assert "before the last fill or price" in " ".join(account.notes)


def test_a_run_without_fills_has_nothing() -> None:
    spans = MadeSpans()
    spans.account(USD="1000.00")
    ledger = spans.ledger()
    assert (ledger.slices, ledger.trips) == ((), ())
    assert only(ledger).status is RECONCILED
    assert MadeSpans().ledger().accounts == ()


def test_deliveries_are_no_fills() -> None:
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", 1, "10")
    spans.fill("SELL", 1, "12", span_kind="CONSUMER", name="process FILL")
    assert [trip.is_open for trip in spans.ledger().trips] == [True]


@pytest.mark.parametrize("price", ["0", "-37.63"])
def test_prices_need_not_be_positive(price: str) -> None:
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", 10, price)
    spans.fill("SELL", 10, "5")
    assert by_kind(spans.ledger()) == {"realized": 10 * (D(5) - D(price))}


def test_numbers_of_any_size_stay_exact() -> None:
    """In a token that nobody rounds; dollars are rounded to the cent, once."""
    tokens: dict[str, Any] = {"currency": "TOKEN", "commission_currency": "TOKEN"}
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", "99999999999999999999", "0.000000000000000001", **tokens)
    spans.fill("SELL", "99999999999999999999", "0.000000000000000002", **tokens)
    assert by_kind(spans.ledger(), "TOKEN") == {"realized": D("99.999999999999999999")}
    spans = MadeSpans(account_id=None)
    spans.fill("BUY", "0.000000000000000003", "0.000000000000000007", **tokens)
    spans.fill("SELL", "0.000000000000000003", "0", **tokens)
    assert by_kind(spans.ledger(), "TOKEN") == {"realized": D("-21e-36")}


@PATIENT
@given(trades)
def test_the_last_exit_takes_all_of_the_cost(book: Trades) -> None:
    holding, profits, cash = Holding(D(1)), D(0), D(0)
    with exact_arithmetic():
        for side, quantity, price in book:
            sign = 1 if side == "BUY" else -1
            opened = holding.opens(sign, quantity)
            if quantity > opened:
                profits += holding.close(quantity - opened, price)
            if opened:
                holding.add(sign, opened, price)
            cash -= sign * quantity * price
        assert profits == cash + holding.basis
        assert bool(holding.quantity) == bool(holding.cost)


def test_the_oracle_rounds_like_decimal_does() -> None:
    for text in ("0.005", "-0.005", "1.004999", "2.675", "-2.675"):
        assert cents(D(text)) == D(text).quantize(D("0.01"), ROUND_HALF_UP)
