"""Splits bring all that was before them to the units after them, and change no money."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.ledger_events import CorporateActionEvent, FillEvent, SpanRef
from fillpath.analytics.marks import Mark

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
        actions.of_mark(("fund", "ACME", ""), Mark(ref(at), Decimal(60))).price for at in (4, 6, 10)
    ]
    assert prices == [10, 20, 60]
    assert actions.of_mark(("other", "ACME", ""), Mark(ref(4), Decimal(60))).price == 60


def test_shares_that_come_for_nothing_are_bought_for_nothing() -> None:
    events = [fill(1, 100, Decimal(40)), split(2, 1.0, 110, Decimal(0))]
    _, new = CorporateActions(events).restated(events)
    assert (new.sign, new.quantity, new.price) == (1, 10, 0)
