"""Numbers, times and curves of the report: exact, whatever their size."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillpath.analytics import report_format
from fillpath.analytics.report_data import equity_series
from fillpath.analytics.report_equity import curve
from fillpath.analytics.report_model import EquityPoint, EquitySeries

D = Decimal
MINUS = "\N{MINUS SIGN}"


def to_number(text: str) -> Decimal:
    return D(text.replace(",", "").replace(MINUS, "-").replace("+", ""))


@pytest.mark.parametrize(
    ("amount", "digits", "text"),
    [
        ("1234567.5", 2, "1,234,567.50"),
        ("-0.005", 2, f"{MINUS}0.005"),
        ("-0", 2, "0.00"),
        ("1E+3", 2, "1,000.00"),
        ("120.000000000", 0, "120"),
        ("1500", 0, "1,500"),
        ("0.1", 8, "0.10000000"),
        (
            "12345678901234567890123456789.123456789",
            2,
            "12,345,678,901,234,567,890,123,456,789.123456789",
        ),
        ("NaN", 2, "?"),
    ],
)  # fmt: skip
def test_money_keeps_every_digit(amount: str, digits: int, text: str) -> None:
    assert str(report_format.money(D(amount), digits)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 9), st.booleans())
def test_money_reads_back_as_the_same_number(amount: Decimal, digits: int, signed: bool) -> None:
    figure = report_format.money(amount, digits, signed=signed)
    assert to_number(figure.text) == amount
    assert figure.text.startswith(MINUS) == (amount < 0) == (figure.tone == "negative")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("268.28000000000003", "268.28"),
        ("6415.799999999999", "6,415.8"),
        ("2815.66219999951", "2,815.6622"),
        ("-0.30000000000000004", f"{MINUS}0.3"),
        ("100.57368142857143", "100.573681428571"),
        ("0.0359996828960894419", "0.0359996828960894"),
        ("1.00000000000001", "1"),
        ("1.0000001", "1.0000001"),
        ("12345678901234567890", "12,345,678,901,234,567,890"),
        ("0.1", "0.1"),
        ("0E-9", "0"),
    ],
)
def test_a_reader_is_shown_no_digits_that_doubles_left(number: str, text: str) -> None:
    assert report_format.readable_number(D(number)) == text


@given(st.integers(-(10**11), 10**11), st.integers(0, 8), st.integers(1, 40))
def test_sums_of_doubles_are_shown_as_the_numbers_they_stand_for(
    units: int, places: int, times: int
) -> None:
    amount = D(units).scaleb(-places)
    added = sum([float(amount)] * times)
    assert report_format.readable(D(repr(added))) in {amount * times, D(repr(added))}
    assert float(report_format.readable(D(repr(added)))) == pytest.approx(added, rel=1e-11)


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(0, 9))
def test_what_a_reader_is_shown_keeps_a_currencys_own_digits(amount: Decimal, digits: int) -> None:
    shown = report_format.readable(amount, digits)
    if amount.adjusted() < 60:
        own = D(1).scaleb(-digits)
        exact = report_format.EXACT
        assert exact.quantize(shown, own) == exact.quantize(amount, own)
    assert len(shown.as_tuple().digits) <= max(15, len(amount.as_tuple().digits))


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (999_499, "999 µs"),
        (999_999, "1.00 ms"),
        (12_345_678, "12.3 ms"),
        (61_000_000_000, "61.0 s"),
        (125_000_000_000, "2 min 05 s"),
        (7_320_000_000_000, "2 h 02 min"),
        (-1_500, f"{MINUS}1.50 µs"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert re.sub(r"[\u202f\xa0]", " ", report_format.duration(nanoseconds)) == text


def test_times_keep_their_nanoseconds() -> None:
    assert report_format.timestamp(1_362_182_400_000_000_001) == "2013-03-02 00:00:00.000000001"
    assert report_format.timestamp(1_362_182_400_120_000_000) == "2013-03-02 00:00:00.12"
    assert report_format.timestamp(-1) == "1969-12-31 23:59:59.999999999"


def test_sums_are_exact_beyond_the_default_precision() -> None:
    parts = [D("1e28"), D("0.000000001"), D("-1e28")]
    assert report_format.total(parts) == D("0.000000001")


def a_series(*balances: int) -> EquitySeries:
    points = (EquityPoint(place, D(balance)) for place, balance in enumerate(balances))
    return EquitySeries("p", "USD", tuple(points))


def test_drawdown_is_measured_from_the_highest_so_far() -> None:
    drawn = curve(a_series(100, 120, 90, 130, 117))
    assert [point.drawdown for point in drawn.points] == [0, 0, D("-0.25"), 0, D("-0.1")]
    assert drawn.deepest is not None
    assert drawn.deepest.at.time == 2
    assert drawn.change == 17
    assert curve(a_series(0, -5)).deepest is None


def test_what_is_stated_before_the_market_begins_is_drawn_where_it_begins() -> None:
    stated = [(None, 100), (7, 110), (None, 120)]
    rows = [
        {
            "portfolio": "p", "currency": "USD", "account_id": "a", "event_time": time,
            "balance": Decimal(amount), "equity": Decimal(amount), "trace_id": "t",
        }
        for time, amount in stated
    ]  # fmt: skip
    (series,) = equity_series(rows)
    assert [point.time for point in series.points] == [7, 7, 7]


def test_equity_is_drawn_only_where_every_point_has_it() -> None:
    points = tuple(EquityPoint(n, D(100), D(100 + n)) for n in range(3))
    assert curve(EquitySeries("p", "USD", points)).of_equity
    mixed = (*points, EquityPoint(3, D(70)))
    assert [p.value for p in curve(EquitySeries("p", "USD", mixed)).points] == [100, 100, 100, 70]


@given(st.lists(st.integers(-1_000, 1_000), min_size=1, max_size=300), st.integers(4, 40))
def test_a_thinned_curve_keeps_its_ends_and_extremes(balances: list[int], most: int) -> None:
    thinned = curve(a_series(*balances), most)
    assert len(thinned.drawn) <= max(most, 4)
    values = [int(point.value) for point in thinned.drawn]
    assert (values[0], values[-1]) == (balances[0], balances[-1])
    assert (min(values), max(values)) == (min(balances), max(balances))
    times = [point.at.time for point in thinned.drawn]
    assert times == sorted(set(times))
