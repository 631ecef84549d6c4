"""The tearsheet of a run: the rows of tables ``daily_returns`` and ``figures``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from statistics import fmean
from typing import Any, Final

import duckdb

from fillpath.analytics.daily_returns import (
    WHOLE_RUN,
    Series,
    SeriesKey,
    capital_of,
    daily_series,
    daily_sums,
    read_transfers,
    slices_of,
    start_balances,
    with_currencies,
)
from fillpath.analytics.drawdowns import deepest_fall
from fillpath.analytics.exact import ZERO
from fillpath.analytics.figure_definitions import FIGURES
from fillpath.analytics.figure_meaning import MINIMUM_DAYS
from fillpath.analytics.market_time import MarketTime, periods_per_year, read_market_time
from fillpath.analytics.reconciliation import AccountReconciliation
from fillpath.analytics.return_statistics import (
    day_figures,
    has_libraries,
    return_statistics,
    win_rate_interval,
)
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.sql_files import json_path, read_sql
from fillpath.analytics.trade_statistics import TradeResult, exposure, trade_figures, trades_of
from fillpath.instrumentation.semconv import Fill

Figures = dict[str, float | None]

_PATHS: Final = {
    "multiplier": Fill.MULTIPLIER,
    "is_inverse": Fill.IS_INVERSE,
    "base_currency": Fill.BASE_CURRENCY,
}
_COMMISSION: Final = "commission"


def tearsheet_tables(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    parameters: Mapping[str, Any],
    accounts: Iterable[AccountReconciliation],
    tables: Mapping[str, TableRows],
) -> dict[str, TableRows]:
    """Compute the daily returns and the figures of a run.

    Without the extra `statistics` the figures that take its libraries are left out.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        parameters: Of the run; they may name its capital.
        accounts: Every account beside the engine's own statement.
        tables: The rows of ``pnl_slices`` and ``trades``.
    """
    slices, trades = tables["pnl_slices"], tables["trades"]
    market = read_market_time(connection, run_id)
    pnl = daily_sums(slices_of(slices.columns, slices.rows))
    starts = start_balances(accounts)
    transfers = with_currencies(read_transfers(connection, run_id), {*pnl, *starts})
    series = daily_series(
        pnl,
        daily_sums(transfers),
        starts,
        market,
        capital_of(parameters),
    )
    sums = _sums(slices)
    notional = _notional(connection, run_id)
    results = list(trades_of(trades.columns, trades.rows))
    days = [
        (one.portfolio, one.currency, day.day, day.equity, day.transfers, day.pnl, day.ratio)
        for one in series
        for day in one.days
    ]
    figures = [
        (one.portfolio, one.currency, name, value)
        for one in series
        for name, value in series_figures(
            one, _of(one, results), sums, _traded(one, series, notional), market
        ).items()
    ]
    columns = ["portfolio", "currency", "day", "equity", "transfers", "pnl", "return"]
    return {
        "daily_returns": TableRows(columns, days),
        "figures": TableRows(["portfolio", "currency", "name", "value"], figures),
    }


def series_figures(
    series: Series,
    trades: Sequence[TradeResult],
    sums: Mapping[SeriesKey, Mapping[str, Decimal]],
    notional: float | None,
    market: MarketTime,
) -> Figures:
    """Compute every figure of a portfolio in a currency, in the order of their definitions.

    Args:
        series: Its days.
        trades: Its trades in the currency.
        sums: Sums of the slices by series and kind.
        notional: What its fills were worth; ``None`` if that is not known in the currency.
        market: When there were prices.
    """
    returns, days = series.returns, series.return_days
    periods = periods_per_year(days)
    figures: Figures = _profit(series, sums)
    figures |= day_figures(days, returns)
    figures |= {"days": len(returns), "periods_per_year": periods}
    figures |= trade_figures(trades)
    figures["max_drawdown_amount"] = float(deepest_fall(day.pnl for day in series.days))
    portfolio = None if series.portfolio == WHOLE_RUN else series.portfolio
    figures["exposure"] = exposure(trades, market.extent_of(portfolio))
    figures |= _turnover(series, notional, periods)
    if has_libraries():
        figures |= return_statistics(returns, periods)
        closed, rate = figures["trades"], figures["win_rate"]
        interval: tuple[float | None, float | None] = (None, None)
        if closed and rate is not None:
            interval = win_rate_interval(round(rate * closed), int(closed))
        figures["win_rate_low"], figures["win_rate_high"] = interval
    return {one.name: figures[one.name] for one in FIGURES if one.name in figures}


def _profit(series: Series, sums: Mapping[SeriesKey, Mapping[str, Decimal]]) -> Figures:
    by_kind: dict[str, Decimal] = {}
    for (portfolio, currency), kinds in sums.items():
        if currency == series.currency and series.portfolio in {portfolio, WHOLE_RUN}:
            for kind, amount in kinds.items():
                by_kind[kind] = by_kind.get(kind, ZERO) + amount
    net, commission = sum(by_kind.values(), ZERO), by_kind.get(_COMMISSION, ZERO)
    transfers = sum((day.transfers for day in series.days), ZERO)
    start = series.start
    return {
        "start_equity": None if start is None else float(start),
        "end_equity": None if start is None else float(start + net + transfers),
        "transfers": float(transfers),
        "net_pnl": float(net),
        "gross_pnl": float(net - commission),
        "commission": float(commission),
        "return_on_start_equity": float(net / start) if start is not None and start > 0 else None,
    }


def _turnover(series: Series, notional: float | None, periods: int | None) -> Figures:
    equity = [float(day.equity) for day in series.days if day.equity is not None]
    turnover = None
    if notional is not None and equity and fmean(equity) > 0:
        turnover = notional / fmean(equity)
    annual = None
    if turnover is not None and periods is not None and len(series.returns) >= MINIMUM_DAYS:
        annual = turnover * periods / len(series.days)
    return {"turnover": turnover, "annual_turnover": annual}


def _sums(slices: TableRows) -> dict[SeriesKey, dict[str, Decimal]]:
    places = [slices.columns.index(name) for name in ("portfolio", "currency", "kind", "amount")]
    sums: dict[SeriesKey, dict[str, Decimal]] = {}
    for row in slices.rows:
        portfolio, currency, kind, amount = (row[place] for place in places)
        by_kind = sums.setdefault((str(portfolio), str(currency)), {})
        by_kind[str(kind)] = by_kind.get(str(kind), ZERO) + Decimal(str(amount))
    return sums


def _of(series: Series, trades: Iterable[TradeResult]) -> list[TradeResult]:
    return [
        trade
        for trade in trades
        if trade.currency == series.currency and series.portfolio in {trade.portfolio, WHOLE_RUN}
    ]


def _notional(connection: duckdb.DuckDBPyConnection, run_id: str) -> dict[SeriesKey, float]:
    parameters = {name: json_path(key) for name, key in _PATHS.items()} | {"run_id": run_id}
    rows: Iterator[tuple[str, str, float | None]] = iter(
        connection.execute(read_sql("traded_notional"), parameters).fetchall()
    )
    return {(portfolio, currency): worth or 0.0 for portfolio, currency, worth in rows}


def _traded(
    series: Series, every: Sequence[Series], notional: Mapping[SeriesKey, float]
) -> float | None:
    """What the fills of a series were worth; None if some are priced in a foreign currency."""
    kept = {(one.portfolio, one.currency) for one in every}
    own = {key: worth for key, worth in notional.items() if series.portfolio in {key[0], WHOLE_RUN}}
    if any(key not in kept and (WHOLE_RUN, key[1]) not in kept for key in own):
        return None
    return sum(worth for (_, currency), worth in own.items() if currency == series.currency)
