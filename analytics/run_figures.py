"""Runs side by side by one figure: the best ones, and sweeps over parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.run_filter import RunFilter

if TYPE_CHECKING:
    from psycopg.sql import Composed

ALL_PORTFOLIOS: Final = ""
"""The portfolio of figures that are of all of a run."""

_OF_RUN: Final = """
SELECT '', runs.parameters, '' WHERE runs.backtests = '[]'
UNION ALL
SELECT each ->> 'portfolio', each -> 'parameters', each ->> 'portfolio'
FROM jsonb_array_elements(runs.backtests) AS each
"""
_OF_PORTFOLIO: Final = """
SELECT
    %s,
    coalesce(
        (
            SELECT each -> 'parameters'
            FROM jsonb_array_elements(runs.backtests) AS each
            WHERE each ->> 'portfolio' = %s
            LIMIT 1
        ),
        runs.parameters
    ),
    ''
"""


@dataclass(frozen=True, slots=True)
class RankedRun:
    """A run, or one of the backtests in it, and the figure by which it has its place.

    Attributes:
        run_id: The run.
        currency: Currency of the figure; empty if it is of none.
        value: The figure.
        started_at: When it was started, nanoseconds.
        status: Running, Ended or Crashed.
        parameters: What it was started with.
        portfolio: Where the backtest is, of a run that holds several; else empty.
    """

    run_id: str
    currency: str
    value: float
    started_at: int | None
    status: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    portfolio: str = ""


@dataclass(frozen=True, slots=True)
class SweepGroup:
    """Runs with the same values of some parameters, and what became of a figure.

    Each backtest of a run that holds several counts as one.

    Attributes:
        values: The values, by parameter; ``None`` where a run has no such parameter.
        currency: Currency of the figure; empty if it is of none.
        runs: How many there are.
        mean: Mean of the figure.
        low: Lowest.
        high: Highest.
        best_run: The run with the highest figure, or with the lowest one where that is wanted.
        best_portfolio: Where its backtest is, if it holds several; else empty.
    """

    values: Mapping[str, Any]
    currency: str
    runs: int
    mean: float
    low: float
    high: float
    best_run: str
    best_portfolio: str = ""


def ranking(
    figure: str, limit: int, where: RunFilter, *, portfolio: str, currency: str | None, lowest: bool
) -> tuple[Composed, list[object]]:
    """Give the query for the runs with the highest (or lowest) figure, and its parameters."""
    from psycopg import sql

    condition, values = where.condition("made")
    made, of_made = _backtests(portfolio)
    statement = sql.SQL(
        "SELECT runs.run_id, figures.currency, figures.value, runs.started_at, runs.status, "
        "made.parameters, made.backtest AS portfolio FROM {made} WHERE {figure} AND {where} "
        "ORDER BY figures.value {way}, runs.started_at DESC NULLS LAST, runs.run_id, "
        "made.backtest LIMIT %s"
    ).format(
        made=made,
        figure=_of_figure(currency),
        where=condition,
        way=sql.SQL("ASC" if lowest else "DESC"),
    )
    return statement, [*of_made, *_figure_values(figure, currency), *values, limit]


def _backtests(portfolio: str) -> tuple[Composed, list[object]]:
    """Give what is compared: runs, or the backtests of those that hold several; and its parameters.

    With a portfolio named, that of every run is compared.
    """
    from psycopg import sql

    is_named = portfolio != ALL_PORTFOLIOS
    statement = sql.SQL(
        "runs CROSS JOIN LATERAL ({made}) AS made (portfolio, parameters, backtest) "
        "JOIN figures ON figures.run_id = runs.run_id AND figures.portfolio = made.portfolio"
    ).format(made=sql.SQL(_OF_PORTFOLIO if is_named else _OF_RUN))
    return statement, [portfolio, portfolio] if is_named else []


def sweeping(
    parameters: Sequence[str],
    figure: str,
    where: RunFilter,
    *,
    portfolio: str,
    currency: str | None,
    lowest: bool,
) -> tuple[Composed, list[object]]:
    """Give the query for a figure by values of parameters, and its parameters."""
    from psycopg import sql

    condition, values = where.condition("made")
    made, of_made = _backtests(portfolio)
    given = [sql.SQL("coalesce(made.parameters -> %s, made.parameters #> %s)")] * len(parameters)
    names = [sql.Identifier(f"value_{number}") for number in range(len(parameters))]
    columns = [
        sql.SQL("{} AS {}").format(one, name) for one, name in zip(given, names, strict=True)
    ]
    statement = sql.SQL(
        "SELECT {names}, currency, count(*) AS runs, avg(value) AS mean, min(value) AS low, "
        "max(value) AS high, (array_agg(run_id ORDER BY {best}))[1] AS best_run, "
        "(array_agg(backtest ORDER BY {best}))[1] AS best_portfolio "
        "FROM (SELECT {columns}, figures.currency, figures.value, runs.run_id, made.backtest "
        "FROM {made} WHERE {figure} AND {where}) AS swept GROUP BY {names}, currency"
    ).format(
        names=sql.SQL(", ").join(names),
        columns=sql.SQL(", ").join(columns),
        figure=_of_figure(currency),
        where=condition,
        made=made,
        best=sql.SQL("value {}, run_id, backtest").format(sql.SQL("ASC" if lowest else "DESC")),
    )
    paths: list[object] = []
    for name in parameters:
        paths += [name, name.split(".")]
    return statement, [*paths, *of_made, *_figure_values(figure, currency), *values]


def _of_figure(currency: str | None) -> Composed:
    from psycopg import sql

    return sql.SQL(
        "hashtextextended(figures.name, 0) = hashtextextended(%s, 0) AND figures.name = %s "
        "AND figures.value IS NOT NULL AND figures.value <> 'NaN'"
        "{currency}"
    ).format(currency=sql.SQL("" if currency is None else " AND figures.currency = %s"))


def _figure_values(figure: str, currency: str | None) -> list[object]:
    return [figure, figure, *([] if currency is None else [currency])]


def sweep_groups(rows: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> list[SweepGroup]:
    """Make groups of what `sweeping` finds, in the order of the values: numbers by size."""
    groups = [
        SweepGroup(
            {name: row[f"value_{number}"] for number, name in enumerate(parameters)},
            row["currency"],
            row["runs"],
            row["mean"],
            row["low"],
            row["high"],
            row["best_run"],
            row["best_portfolio"],
        )
        for row in rows
    ]
    return sorted(groups, key=lambda group: (group.currency, *map(_place, group.values.values())))


def _place(value: object) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 1, float(value), ""
    return 2, 0.0, value if isinstance(value, str) else json.dumps(value, sort_keys=True)
