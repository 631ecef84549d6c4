"""Futures that are settled every day: cash that moves before the profit is one."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.ledger import Ledger
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.instrumentation.semconv import CashFlow, EventType, Fill

sys.path.append(str(Path(__file__).parent))

from made_spans import MadeSpans

D = Decimal
START, MULTIPLIER = D(100_000), 50
PATIENT = settings(max_examples=6, deadline=None)
FUTURE = {Fill.MULTIPLIER: str(MULTIPLIER), Fill.VALUATION_METHOD: "FUT"}
DAYS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(-9, 9), st.integers(2000, 2100)), max_size=3),
        st.integers(2000, 2100),
    ),
    min_size=1,
    max_size=8,
)
CONVENTIONS = ("all at once", "rest at the fill", "at the end of the day")


class Clearing:
    """A host that settles futures, by one of the ways to tell it. An oracle of its own: integers.

    Args:
        convention: When a fill's own change of value is paid: as a payment before it, as a part of
            the fill, or with the payment of the day's end.
        says_style: Whether its fills say that they are of futures.
    """

    def __init__(self, convention: str, *, says_style: bool = True) -> None:
        self.spans = MadeSpans()
        self.convention = convention
        self.attributes = FUTURE if says_style else {Fill.MULTIPLIER: str(MULTIPLIER)}
        self.cash, self.held, self.mark = START, 0, D(0)
        self.unpaid = D(0)
        self.state()

    def state(self) -> None:
        self.spans.account("MARGIN", USD=self.cash)

    def pay(self, amount: Decimal) -> None:
        keys = {
            CashFlow.TYPE: "VARIATION_MARGIN",
            CashFlow.AMOUNT: str(amount),
            CashFlow.CURRENCY: "USD",
        }
        self.spans.add(EventType.CASH_FLOW, keys, symbol="ACME", venue="SIM")
        self.cash += amount

    def trade(self, quantity: int, price: int) -> None:
        change = (price - self.mark) * self.held * MULTIPLIER if self.held else D(0)
        if self.convention == "all at once":
            if change:
                self.pay(change)
        elif self.convention == "rest at the fill":
            # What is left goes on at its mark: a position of one price, which new ones blend.
            closed = 0 if self.held * quantity >= 0 else min(abs(quantity), abs(self.held))
            sign = 1 if self.held > 0 else -1
            self.cash += (price - self.mark) * closed * sign * MULTIPLIER
        else:
            self.unpaid += change
        now = self.held + quantity
        if self.convention != "rest at the fill" or not self.held or now * self.held < 0:
            self.mark = D(price)
        elif self.held * quantity > 0:  # pays the difference, so that its mark stays whole
            self.pay(change)
            self.mark = D(price)
        self.held = now
        self.cash -= D("2.25")
        side = "BUY" if quantity > 0 else "SELL"
        self.spans.fill(side, abs(quantity), price, commission="2.25", attributes=self.attributes)
        self.state()

    def settle(self, price: int) -> None:
        self.spans.bar(price)
        amount = (price - self.mark) * self.held * MULTIPLIER + self.unpaid
        self.unpaid = D(0)
        if self.held:
            self.mark = D(price)
        if amount:
            self.pay(amount)
            self.state()

    def ledger(self) -> Ledger:
        return self.spans.ledger()


def only(ledger: Ledger) -> AccountReconciliation:
    (account,) = ledger.accounts
    return account


@pytest.mark.parametrize("convention", CONVENTIONS)
@PATIENT
@given(days=DAYS)
def test_profit_and_equity_are_what_the_clearing_house_has_paid(
    convention: str, days: list[tuple[list[tuple[int, int]], int]]
) -> None:
    """Whenever it pays: long, short and turned, and with what is still open."""
    host = Clearing(convention)
    for trades, close in days:
        for quantity, price in trades:
            if quantity:
                host.trade(quantity, price)
        host.settle(close)
    ledger = host.ledger()
    account = only(ledger)
    assert account.status is ReconciliationStatus.RECONCILED, account.notes
    # At the end all is settled at the last price, so that the cash is all that there is. What is
    # open may have an average price that no cents make, by which each part that closed is rounded.
    most = D("0.01") * len([one for one in ledger.slices if one.kind == "realized"])
    assert abs(START + sum(ledger.total().values(), D(0)) - host.cash) <= most
    assert abs(ledger.equity[-1].equity - host.cash) <= most
    assert account.funding == account.cash_flow == account.difference == 0
    if not host.held:
        assert account.held == 0
        assert START + account.realized + account.commission + account.rounding == host.cash


def test_equity_ends_where_rounded_payments_of_a_closed_contract_end() -> None:
    host = Clearing("all at once")
    third = {**FUTURE, Fill.MULTIPLIER: "0.333"}
    host.spans.fill("BUY", 1, "100", attributes=third)
    for _ in range(2):  # half a point each, which is 0.1665
        host.pay(D("0.17"))
        host.state()
    host.spans.fill("SELL", 1, "101", attributes=third)
    host.state()
    ledger = host.ledger()
    account = only(ledger)
    assert account.status is ReconciliationStatus.RECONCILED, account.notes
    assert account.rounding == D("0.01")
    assert ledger.equity[-1].equity == START + ledger.total()["USD"] == host.cash


def test_a_payment_tells_that_the_fills_of_its_symbol_are_of_a_future() -> None:
    host = Clearing("rest at the fill", says_style=False)
    host.trade(3, 2000)
    host.settle(2010)
    host.trade(-3, 2004)
    account = only(host.ledger())
    assert account.status is ReconciliationStatus.RECONCILED, account.notes
    assert account.realized == 600
    assert account.held == 0


def test_a_future_that_never_moved_has_paid_nothing() -> None:
    host = Clearing("all at once")
    host.trade(3, 2000)
    host.settle(2000)
    account = only(host.ledger())
    assert account.status is ReconciliationStatus.RECONCILED, account.notes
    assert account.end == START - D("2.25")


def test_a_payment_that_is_no_profit_of_its_position_is_a_difference() -> None:
    host = Clearing("all at once")
    host.trade(3, 2000)
    host.settle(2010)
    host.pay(D(100))
    host.state()
    host.trade(-3, 2010)
    account = only(host.ledger())
    assert account.status is ReconciliationStatus.FAILED
    assert account.difference == 100
    assert account.held == 0
    assert account.notes == (
        "ACME is closed, and its variation margin was 100.00 USD more than it has earned.",
    )


def test_a_payment_that_no_event_tells_is_still_missed() -> None:
    host = Clearing("all at once")
    host.trade(3, 2000)
    host.cash += 40
    host.settle(2010)
    account = only(host.ledger())
    assert account.status is ReconciliationStatus.FAILED
    assert account.difference == 40
