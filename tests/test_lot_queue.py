"""First in, first out: a queue of lots, SQL, and a brute force that shares nothing with either."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.fifo_matches import disagreements, fifo_matches
from fillpath.analytics.largest_remainder import round_together, share_out
from fillpath.analytics.lot_queue import Leg, LotBooks

D = Decimal
PATIENT = settings(max_examples=25, deadline=None)
UNIT = D("0.25")

legs = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.sampled_from(["X", "Y"]),
        st.sampled_from([1, -1]),
        st.integers(1, 24),
        st.decimals(D("0.01"), D(5000), places=4),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def book_of(given: list[tuple[str, str, int, int, Decimal]]) -> list[Leg]:
    """Legs of quarters of a unit, so that fractions are the rule."""
    return [
        Leg(number, (strategy, symbol), sign, quarters * UNIT, price, D(50 if symbol == "Y" else 1))
        for number, (strategy, symbol, sign, quarters, price) in enumerate(given)
    ]


def unit_by_unit(given: list[Leg]) -> tuple[dict[tuple[int, int], Fraction], Fraction]:
    """Match quarter by quarter in plain lists; gives what was matched, and the profit."""
    held: dict[tuple[str, ...], list[tuple[int, Leg]]] = defaultdict(list)
    matched: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    profit = Fraction(0)
    for leg in given:
        for _ in range(int(leg.quantity / UNIT)):
            lots = held[leg.book]
            if lots and lots[0][0] != leg.sign:
                sign, entry = lots.pop(0)
                matched[entry.number, leg.number] += Fraction(UNIT)
                points = (Fraction(leg.price) - Fraction(entry.price)) * sign
                profit += points * Fraction(UNIT) * Fraction(entry.multiplier)
            else:
                lots.append((leg.sign, leg))
    return dict(matched), profit


def check(connection: duckdb.DuckDBPyConnection, given: list[Leg]) -> None:
    books = LotBooks()
    with exact_arithmetic():
        for leg in given:
            books.take(leg)
        expected, profit = unit_by_unit(given)
        by_queue = {(m.entry.number, m.exit.number): Fraction(m.quantity) for m in books.matches}
        assert by_queue == expected
        assert sum((Fraction(m.profit) for m in books.matches), Fraction(0)) == profit
        by_sql = fifo_matches(connection, given)
        assert by_sql is not None
        assert sorted((m.exit.number, m.entry.number, m.quantity, m.profit) for m in by_sql) == (
            sorted((m.exit.number, m.entry.number, m.quantity, m.profit) for m in books.matches)
        )
    assert disagreements(connection, given, books.matches) == []
    # What was not closed is open, and all of one side.
    bought: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for leg in given:
        bought[leg.book] += leg.sign * leg.quantity
    for key, queue in books.books.items():
        assert sum((lot.entry.sign * lot.left for lot in queue.lots), D(0)) == bought[key]
        assert len({lot.entry.sign for lot in queue.lots}) < 2


@PATIENT
@given(legs)
def test_queue_sql_and_brute_force_agree(given: list[tuple[str, str, int, int, Decimal]]) -> None:
    with duckdb.connect() as connection:
        check(connection, book_of(given))


def test_two_hundred_random_books_agree_exactly(connection: duckdb.DuckDBPyConnection) -> None:
    generator = random.Random(20_240_102)
    for _ in range(200):
        book = [
            (
                generator.choice("ABC"),
                generator.choice("XYZ"),
                generator.choice((1, 1, -1, -1)),
                generator.randint(1, 40),
                D(generator.randint(1, 10**7)).scaleb(-generator.randint(0, 6)),
            )
            for _ in range(generator.randint(0, 60))
        ]
        check(connection, book_of(book))


def test_a_wrong_match_is_found(connection: duckdb.DuckDBPyConnection) -> None:
    books = LotBooks()
    for number, (sign, price) in enumerate([(1, "10"), (1, "11"), (-1, "12")]):
        books.take(Leg(number, ("A",), sign, D(1), D(price)))
    assert disagreements(connection, books.legs, books.matches) == []
    wrong = [type(one)(books.legs[1], one.exit, one.quantity) for one in books.matches]
    told = disagreements(connection, books.legs, wrong)
    assert len(told) == 3
    assert "by SQL" in told[0]


def test_more_digits_than_sql_has_are_not_compared(connection: duckdb.DuckDBPyConnection) -> None:
    huge = [
        Leg(0, ("A",), 1, D("99999999999999999999.000000000000000001"), D(1)),
        Leg(1, ("A",), -1, D("99999999999999999999"), D(2)),
        Leg(2, ("A",), 1, D("900000000000000000000"), D(2)),
    ]
    assert fifo_matches(connection, huge) is None
    assert fifo_matches(connection, huge[:1]) == []


@PATIENT
@given(st.lists(st.decimals(-1000, 1000, places=7), max_size=20), st.integers(0, 3))
def test_amounts_rounded_together_add_up(amounts: list[Decimal], digits: int) -> None:
    with exact_arithmetic():
        leaves = round_together(amounts, digits)
        unit = D(1).scaleb(-digits)
        assert sum(leaves, D(0)) == (sum(amounts, D(0)).quantize(unit) if amounts else 0)
        assert all(
            abs(leaf - exact) < unit and leaf == leaf.quantize(unit)
            for leaf, exact in zip(leaves, amounts, strict=True)
        )


@PATIENT
@given(
    st.decimals(-1000, 1000, places=2),
    st.lists(st.decimals(0, 90, places=3), min_size=1, max_size=9),
)
def test_shares_add_up_to_what_is_shared(total: Decimal, weights: list[Decimal]) -> None:
    with exact_arithmetic():
        shares = share_out(total, weights, 2)
        assert sum(shares, D(0)) == total
        whole = sum(weights, D(0)) or D(len(weights))
        even = [D(1)] * len(weights) if not any(weights) else weights
        for share, weight in zip(shares, even, strict=True):
            assert abs(Fraction(share) - Fraction(total) * Fraction(weight) / Fraction(whole)) <= (
                Fraction(1, 100)
            )
