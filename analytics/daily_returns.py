"""Equity, profit and return of each day: by portfolio and currency, and for the whole run.

The profit of a day is the sum of its slices, so that the days add up to the total exactly. Slices
of open positions are marked at each day's last price, so a day's profit is mark-to-market.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import duckdb

from fillpath.analytics.exact import ZERO
from fillpath.analytics.market_time import DAY, MarketTime, date_of
from fillpath.analytics.reconciliation import AccountReconciliation
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.instrumentation.semconv import CashFlow

WHOLE_RUN: Final = ""
"""What stands for all portfolios together."""
CAPITAL_PARAMETERS: Final = (
    "initial_cash",
    "initial_capital",
    "initial_balance",
    "starting_cash",
    "starting_capital",
    "starting_balance",
    "start_cash",
    "capital",
    "cash",
)
"""Parameters of a run, upper or lower case, that name its capital where no engine states it."""

_PATHS: Final = {
    "type": CashFlow.TYPE,
    "amount": CashFlow.AMOUNT,
    "currency": CashFlow.CURRENCY,
}
_TRANSFERS: Final = ("DEPOSIT", "WITHDRAWAL")

SeriesKey = tuple[str, str]
"""Portfolio (`WHOLE_RUN` for all) and currency."""
Amounts = dict[SeriesKey, dict[int, Decimal]]
"""Amounts by series and day."""


@dataclass(frozen=True, slots=True)
class DatedAmount:
    """An amount of money at a moment.

    Attributes:
        portfolio: Namespace.
        currency: Currency of the amount.
        event_time: Simulated time, ns; ``None`` if the host gave none.
        amount: The amount.
    """

    portfolio: str
    currency: str
    event_time: int | None
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a series.

    Attributes:
        day: The day, UTC.
        equity: At its end; ``None`` if the start balance is unknown.
        transfers: Deposits less withdrawals.
        pnl: Sum of the slices.
        ratio: Its return, `pnl` / (equity at the end of the day before + `transfers`); ``None`` if
            that is not positive, or equity has come down to zero or below on a day before.
    """

    day: dt.date
    equity: Decimal | None
    transfers: Decimal
    pnl: Decimal
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """The days of a portfolio in a currency.

    Attributes:
        portfolio: Namespace; `WHOLE_RUN` for all.
        currency: Currency of the amounts.
        start: Equity before the first day; ``None`` if unknown.
        days: In order.
    """

    portfolio: str
    currency: str
    start: Decimal | None
    days: tuple[Day, ...]

    @property
    def returns(self) -> list[float]:
        """The returns of the days that have one, from the first on."""
        return [day.ratio for day in self.days if day.ratio is not None]

    @property
    def return_days(self) -> list[dt.date]:
        """The days that have one."""
        return [day.day for day in self.days if day.ratio is not None]


def daily_sums(amounts: Iterable[DatedAmount]) -> Amounts:
    """Add up amounts by series and day.

    An amount without a time belongs to the day of the one before it, in the order given; those
    before any day to the first day of all. Without any day, there are no sums.

    Args:
        amounts: In the order of their events.
    """
    sums: Amounts = {}
    undated: list[DatedAmount] = []
    first: int | None = None
    current: int | None = None
    for one in amounts:
        if one.event_time is not None:
            current = one.event_time // DAY
            first = current if first is None else min(first, current)
        if current is None:
            undated.append(one)
        else:
            _add(sums, one, current)
    if first is not None:
        for one in undated:
            _add(sums, one, first)
    return sums


def _add(sums: Amounts, one: DatedAmount, day: int) -> None:
    by_day = sums.setdefault((one.portfolio, one.currency), {})
    by_day[day] = by_day.get(day, ZERO) + one.amount


def read_transfers(connection: duckdb.DuckDBPyConnection, run_id: str) -> Iterator[DatedAmount]:
    """Read the deposits and withdrawals of a run, in order; a withdrawal is negative.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
    """
    parameters = {name: json_path(key) for name, key in _PATHS.items()} | {"run_id": run_id}
    for portfolio, _, event_time, kind, amount, currency in connection.execute(
        read_sql("transfers"), parameters
    ).fetchall():
        number = _finite(amount)
        if kind in _TRANSFERS and number is not None:
            signed = -number.copy_abs() if kind == "WITHDRAWAL" else number
            yield DatedAmount(portfolio, currency or "", event_time, signed)


def with_currencies(
    transfers: Iterable[DatedAmount], keys: Iterable[SeriesKey]
) -> Iterator[DatedAmount]:
    """Give transfers without a currency the only one that their portfolio is known to keep.

    Args:
        transfers: In order.
        keys: The known series.
    """
    currencies: dict[str, set[str]] = {}
    for portfolio, currency in keys:
        currencies.setdefault(portfolio, set()).add(currency)
    for one in transfers:
        known = currencies.get(one.portfolio, set())
        if not one.currency and len(known) == 1:
            yield replace(one, currency=next(iter(known)))
        else:
            yield one


def capital_of(parameters: Mapping[str, Any]) -> Decimal | None:
    """Return the capital that the parameters of a run name, if it is one positive number."""
    lower = {name.lower(): value for name, value in parameters.items()}
    for name in CAPITAL_PARAMETERS:
        number = _finite(lower.get(name))
        if number is not None and number > 0:
            return number
    return None


def _finite(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value).replace("_", "").replace(",", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def start_balances(accounts: Iterable[AccountReconciliation]) -> dict[SeriesKey, Decimal]:
    """Add up what the accounts of each portfolio held at the start, where the engine says so."""
    starts: dict[SeriesKey, Decimal] = {}
    for account in accounts:
        if account.start is not None:
            key = (account.portfolio, account.currency)
            starts[key] = starts.get(key, ZERO) + account.start
    return starts


def daily_series(
    pnl: Amounts,
    transfers: Amounts,
    starts: Mapping[SeriesKey, Decimal],
    market: MarketTime,
    capital: Decimal | None = None,
) -> list[Series]:
    """Make the series of every portfolio and currency, and of the whole run.

    The whole run has a series in each currency that every portfolio has. It comes first.

    Args:
        pnl: The sums of the slices.
        transfers: The sums of deposits and withdrawals.
        starts: Equity at the start, where it is known; currencies in which nothing is held and
            nothing happens are left out.
        market: The days on which equity is carried forward.
        capital: Of the whole run, for one that has no `starts` and keeps one currency.
    """
    keys = sorted({*pnl, *transfers, *(key for key, start in starts.items() if start)})
    portfolios = sorted({portfolio for portfolio, _ in keys})
    currencies = sorted({currency for _, currency in keys})
    if starts or len(currencies) != 1:
        capital = None
    # Whoever pays in without ever stating the account begins with nothing.
    known = {key: starts.get(key, ZERO if key in transfers else None) for key in keys}
    if capital is not None and len(keys) == 1:
        known[keys[0]] = capital
    made = [
        _series(key, known[key], pnl.get(key, {}), transfers.get(key, {}), market.days_of(key[0]))
        for key in keys
    ]
    whole = []
    for currency in currencies:
        parts = [one for one in made if one.currency == currency]
        if len(parts) < len(portfolios):
            continue
        begins = [part.start for part in parts]
        start = capital if capital is not None else _sum_if_all(begins)
        whole.append(
            _series(
                (WHOLE_RUN, currency),
                start,
                _together(pnl, currency),
                _together(transfers, currency),
                market.all_days,
            )
        )
    # A portfolio without a name would be taken for the whole run.
    return [*whole, *(one for one in made if one.portfolio != WHOLE_RUN)]


def _sum_if_all(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = ZERO
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _together(amounts: Amounts, currency: str) -> dict[int, Decimal]:
    total: dict[int, Decimal] = {}
    for (_, its_currency), by_day in amounts.items():
        if its_currency == currency:
            for day, amount in by_day.items():
                total[day] = total.get(day, ZERO) + amount
    return total


def _series(
    key: SeriesKey,
    start: Decimal | None,
    pnl: Mapping[int, Decimal],
    transfers: Mapping[int, Decimal],
    market_days: Iterable[int],
) -> Series:
    days = []
    equity, had_any, is_lost = start, False, False
    for day in sorted({*pnl, *transfers, *market_days}):
        gained, moved = pnl.get(day, ZERO), transfers.get(day, ZERO)
        ratio = None
        if equity is not None:
            base = equity + moved
            if base > 0 and not is_lost:
                had_any = True
                ratio = float(gained) / float(base)
            equity = base + gained
            is_lost = is_lost or (had_any and equity <= 0)
        days.append(Day(date_of(day), equity, moved, gained, ratio))
    return Series(*key, start, tuple(days))


def slices_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[DatedAmount]:
    """Read rows of table ``pnl_slices`` as amounts."""
    places = [columns.index(name) for name in ("portfolio", "currency", "event_time", "amount")]
    for row in rows:
        yield DatedAmount(*(row[place] for place in places))
