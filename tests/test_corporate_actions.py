"""Splits bring all that was before them to the units after them, and change no money."""

from __future__ import annotations

import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.excursions import excursions
from fillpath.analytics.ledger import compute_ledger
from fillpath.analytics.ledger_events import CorporateActionEvent, FillEvent, SpanRef
from fillpath.analytics.market_prices import MarketPrices
from fillpath.analytics.marks import Mark
from fillpath.analytics.reconciliation import ReconciliationStatus
from fillpath.instrumentation.semconv import CorporateAction, EventType, Position

sys.path.append(str(Path(__file__).parent))

from made_spans import RUN, MadeSpans

RATIOS = (0.5, 1 / 3, 2 / 3, 1 / 7, 2.0, 10.0, 1 / 1.1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(-500, 500), st.integers(1, 90_000)),
        st.tuples(st.just("split"), st.sampled_from(RATIOS), st.just(0)),
    ),
    max_size=12,
)


def ref(sequence: int) -> SpanRef:
    return SpanRef("fund", sequence, sequence, "", "")


def fill(sequence: int, quantity: int, price: Decimal) -> FillEvent:
    return FillEvent(
        ref=ref(sequence),
        sign=1 if quantity > 0 else -1,
        quantity=Decimal(abs(quantity)),
        price=price,
        commission=Decimal(0),
        currency="USD",
        commission_currency="USD",
        settlement_currency="USD",
        base_currency=None,
        multiplier=Decimal(1),
        is_inverse=False,
        strategy="s",
        symbol="ACME",
        venue="",
        fill_id=str(sequence),
        client_order_id=None,
        position_id=None,
        account_id=None,
    )


def split(sequence: int, ratio: float, held: int, cash: Decimal) -> CorporateActionEvent:
    return CorporateActionEvent(
        ref(sequence), Decimal(str(ratio)), Decimal(held), cash, "USD", None, None, "", "ACME", ""
    )


@given(STEPS)
def test_the_fills_come_to_what_the_engine_holds_and_to_its_cash(steps: list[Any]) -> None:
    """As an engine would have it that pays out what is no whole share."""
    held, cash = 0, Decimal(0)
    events: list[Any] = []
    for sequence, (what, number, cents) in enumerate(steps, start=1):
        if what == "trade":
            if number:
                price = Decimal(cents) / 100
                events.append(fill(sequence, number, price))
                held += number
                cash -= number * price
        else:
            exact = held / Fraction(number).limit_denominator(1000)
            whole = int(exact)
            paid = Decimal(round(float(exact - whole) * 12.5, 2)).quantize(Decimal("0.01"))
            held, cash = whole, cash + paid
            events.append(split(sequence, number, held, paid))
    with exact_arithmetic():
        told = list(CorporateActions(events).restated(events))
        fills = [one for one in told if isinstance(one, FillEvent)]
        assert sum((one.sign * one.quantity for one in fills), Decimal(0)) == held
        money = sum((-one.sign * one.quantity * one.price for one in fills), Decimal(0))
    if any(one.quantity for one in fills) or not cash:
        in_no_fraction = sum(
            (
                e.cash
                for e in events
                if isinstance(e, CorporateActionEvent)
                and not any(one.ref == e.ref for one in fills)
            ),
            Decimal(0),
        )
        assert abs(money + in_no_fraction - cash) < Decimal("1e-12")


def test_a_price_before_a_split_is_told_in_the_shares_after_it() -> None:
    events = [split(5, 0.5, 0, Decimal(0)), split(9, 1 / 3, 0, Decimal(0))]
    actions = CorporateActions(events)
    prices = [
        actions.of_mark("fund", "ACME", Mark(ref(at), Decimal(60))).price for at in (4, 6, 10)
    ]
    assert prices == [10, 20, 60]
    assert actions.of_mark("other", "ACME", Mark(ref(4), Decimal(60))).price == 60


def test_shares_that_come_for_nothing_are_bought_for_nothing() -> None:
    events = [fill(1, 100, Decimal(40)), split(2, 1.0, 110, Decimal(0))]
    _, new = CorporateActions(events).restated(events)
    assert (new.sign, new.quantity, new.price) == (1, 10, 0)


def a_split(spans: MadeSpans, ratio: object, **held: Any) -> None:
    keys = {
        CorporateAction.RATIO: ratio,
        Position.SIDE: "LONG",
        Position.QUANTITY: str(held.get("quantity", 0)),
    }
    spans.add(EventType.CORPORATE_ACTION, keys, symbol="ACME", venue="SIM")


def test_a_price_of_another_portfolio_is_told_in_the_units_of_whom_it_values() -> None:
    spans = MadeSpans(account_id="CASH-1")
    spans.account("CASH", account_id="CASH-1", USD="10000")
    spans.fill("BUY", 10, "40")
    spans.account("CASH", account_id="CASH-1", USD="9600")
    for price in ("44", "23"):
        spans.add(EventType.BAR, portfolio="market", price=price, symbol="ACME", venue="SIM")
        spans.account("CASH", account_id="CASH-1", USD="9600")
        if price == "44":
            a_split(spans, "0.5", quantity=20)
    ledger = spans.ledger()
    assert [point.equity for point in ledger.equity] == [10_000, 10_000, 10_040, 10_060]
    assert ledger.total() == {"USD": Decimal("60.00")}


@pytest.mark.parametrize("ratio", ["0", "-2", "NaN", "Infinity", "two for one"])
def test_a_split_without_a_ratio_fails_the_account(ratio: str) -> None:
    spans = MadeSpans(account_id="CASH-1")
    spans.account("CASH", account_id="CASH-1", USD="10000")
    spans.fill("BUY", 10, "40")
    spans.account("CASH", account_id="CASH-1", USD="9600")
    a_split(spans, ratio, quantity=20)
    (account,) = spans.ledger().accounts
    assert account.status is ReconciliationStatus.FAILED
    assert account.notes[0] == "1 corporate action without a ratio: not counted."


def test_shares_that_come_for_nothing_are_no_price_a_trade_has_seen() -> None:
    spans = MadeSpans()
    for price, quantity in (("40", 100), ("42", 0), ("38", 0)):
        spans.bar(price)
        if quantity:
            spans.fill("BUY", quantity, price)
    a_split(spans, "1", quantity=110)
    with spans.connect() as connection, exact_arithmetic():
        trips = compute_ledger(connection, RUN).trips
        prices = MarketPrices(connection, RUN)
        (seen,) = excursions(prices, trips, lambda _: None, CorporateActions(()))
    assert seen is not None
    assert [seen.best_price, seen.worst_price] == [42, 38]
    assert seen.adverse == 100 * -2


def test_a_host_that_tells_no_positions_may_tell_what_it_holds_after_a_split() -> None:
    """Its fills count, also the last one, and are worth what was paid last."""
    spans = MadeSpans(account_id="CASH-1")
    spans.account("CASH", account_id="CASH-1", USD="10000")
    spans.fill("BUY", 100, "40")
    spans.account("CASH", account_id="CASH-1", USD="6000")
    a_split(spans, "1", quantity=110)
    spans.fill("SELL", 10, "50")
    spans.account("CASH", account_id="CASH-1", USD="6500")
    a_split(spans, "0.5", quantity=210)
    ledger = spans.ledger()
    (account,) = ledger.accounts
    assert account.status is ReconciliationStatus.RECONCILED, account.notes
    (trip,) = ledger.trips
    assert trip.open_quantity == 210
    assert ledger.total() == {"USD": Decimal(6500 + 210 * 25 - 10_000)}


def extremes(spans: MadeSpans) -> Any:
    with spans.connect() as connection, exact_arithmetic():
        ledger = compute_ledger(connection, RUN)
        (seen,) = excursions(
            MarketPrices(connection, RUN), ledger.trips, lambda _: None, ledger.actions
        )
    return seen


def test_a_trade_over_splits_has_seen_the_prices_in_the_shares_of_the_end() -> None:
    """The price of 44 was the best: 11 by now, as the trade has two splits behind it."""
    spans = MadeSpans()
    spans.bar("40")
    spans.fill("BUY", 10, "40")
    for price in ("44", "38"):
        spans.bar(price)
    a_split(spans, "0.5", quantity=20)
    for price in ("19.5", "21"):
        spans.bar(price)
    a_split(spans, "0.5", quantity=40)
    spans.bar("9.8")
    spans.fill("SELL", 40, "10.2")
    seen = extremes(spans)
    assert [seen.best_price, seen.worst_price] == [11, Decimal("9.5")]
    assert [seen.favourable, seen.adverse] == [40, -20]


@given(
    st.lists(st.integers(100, 900), min_size=2, max_size=8),
    st.sets(st.integers(1, 7)),
    st.sampled_from(["BUY", "SELL"]),
)
@settings(max_examples=6, deadline=None)
def test_splits_change_nothing_of_what_a_trade_has_seen(
    prices: list[int], after: set[int], side: str
) -> None:
    """The same market with splits and without: same money, and prices that they divide."""

    def seen_by(splits: set[int]) -> tuple[Any, int]:
        spans, factor = MadeSpans(), 1
        spans.fill(side, 8, prices[0])
        for number, price in enumerate(prices):
            spans.bar(Decimal(price) / factor)
            if number in splits and number < len(prices) - 1:
                factor *= 2
                held = {
                    Position.SIDE: "LONG" if side == "BUY" else "SHORT",
                    Position.QUANTITY: str(8 * factor),
                    CorporateAction.RATIO: "0.5",
                }
                spans.add(EventType.CORPORATE_ACTION, held, symbol="ACME", venue="SIM")
        other = "SELL" if side == "BUY" else "BUY"
        spans.fill(other, 8 * factor, Decimal(prices[-1]) / factor)
        return extremes(spans), factor

    plain, _ = seen_by(set())
    split_, factor = seen_by(after)
    assert (split_.favourable, split_.adverse) == (plain.favourable, plain.adverse)
    assert split_.best_price * factor == plain.best_price
    assert split_.worst_price * factor == plain.worst_price
