"""Slippage and shortfall in a report: what orders cost against the prices they were decided at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exact import exact_arithmetic, rounded
from fillpath.analytics.report_format import currency_digits

if TYPE_CHECKING:
    from fillpath.analytics.charts import ChartFigure
    from fillpath.analytics.report_sections import ReportSource

WORST: Final = 10
"""How many of the worst executions are shown, in each currency."""
COSTS: Final = ("delay", "impact", "commission", "opportunity")
"""The parts of a shortfall, in the order in which they come about."""
_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "strategy": ("portfolio", "strategy"),
    "order type": ("order_type",),
    "symbol": ("symbol", "venue"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShortfallRow:
    """Some orders together; amounts are rounded to the currency's digits, a cost is positive.

    Attributes:
        names: What they have in common, such as portfolio and strategy; empty names are left out.
        orders: How many there are.
        filled: How many of them were filled, wholly or partly.
        unknown: How many have no known shortfall, because no price is known; not in the amounts.
        slippage: Median of average against arrival price, basis points; ``None`` without any.
        delay: Cost of the market's moves between decision and arrival.
        impact: Cost of filling at other prices than on arrival.
        commission: What was charged.
        opportunity: Cost of what was not filled.
        shortfall: All four.
        trace_id: Trace of the order that cost most.
    """

    names: tuple[str, ...]
    orders: int
    filled: int
    unknown: int
    slippage: float | None
    delay: Decimal
    impact: Decimal
    commission: Decimal
    opportunity: Decimal
    shortfall: Decimal
    trace_id: str | None

    @property
    def steps(self) -> tuple[tuple[str, Decimal], ...]:
        """The parts of the shortfall, and it."""
        return (*((name, getattr(self, name)) for name in COSTS), ("shortfall", self.shortfall))


@dataclass(frozen=True, slots=True)
class WorstExecution:
    """An order that cost much.

    Attributes:
        order: Its row of table ``executions``.
        shortfall: Rounded to the currency's digits.
        slippage: Basis points; ``None`` if it was not filled or no price is known.
    """

    order: Row
    shortfall: Decimal
    slippage: float | None


@dataclass(frozen=True, slots=True)
class CurrencyExecutions:
    """The orders whose costs are in one currency.

    Attributes:
        currency: Empty if nobody names it.
        total: All of them.
        tables: By strategy, order type and symbol: title and rows, the costliest first.
        worst: The orders that cost most.
        chart: The way from the decision to the shortfall.
    """

    currency: str
    total: ShortfallRow
    tables: tuple[tuple[str, tuple[ShortfallRow, ...]], ...]
    worst: tuple[WorstExecution, ...]
    chart: ChartFigure


def read_executions(source: ReportSource) -> tuple[CurrencyExecutions, ...] | None:
    """Read what the orders of a run cost, by currency; ``None`` if it has no orders."""
    results, run_id = source.results, source.run.run_id
    sums = _by_currency(results.read("shortfalls", run_id=run_id))
    worst = _by_currency(results.read("worst_executions", run_id=run_id, most=WORST))
    with exact_arithmetic():
        parts = [
            _of_currency(currency, sums[currency], worst.get(currency, ()), source.currency_digits)
            for currency in sorted(sums, key=lambda one: (not one, one))
        ]
    return tuple(parts) or None


def _by_currency(rows: Iterable[Row]) -> dict[str, list[Row]]:
    by_currency: dict[str, list[Row]] = {}
    for row in rows:
        by_currency.setdefault(row["currency"] or "", []).append(row)
    return by_currency


def _of_currency(
    currency: str, sums: Sequence[Row], worst: Iterable[Row], configured: Mapping[str, int]
) -> CurrencyExecutions:
    from fillpath.analytics.shortfall_chart import shortfall_figure

    digits = currency_digits(currency, configured)
    tables = tuple(
        (title, tuple(_grouped(sums, columns, digits))) for title, columns in _GROUPS.items()
    )
    (total,) = (_row((), one, digits) for one in sums if one["by"] is None)
    return CurrencyExecutions(
        currency=currency,
        total=total,
        tables=tables,
        worst=tuple(
            WorstExecution(row, rounded(row["shortfall"], digits), row["slippage"]) for row in worst
        ),
        chart=shortfall_figure(total, tables[0][1], currency, digits),
    )


def _grouped(sums: Iterable[Row], columns: Sequence[str], digits: int) -> list[ShortfallRow]:
    groups = {tuple(one[column] for column in columns): one for one in sums if one["by"] in columns}
    made = [_row(names, groups[names], digits) for names in sorted(groups)]
    return sorted(made, key=lambda row: row.shortfall, reverse=True)


def _row(names: tuple[str, ...], sums: Row, digits: int) -> ShortfallRow:
    return ShortfallRow(
        names=tuple(name for name in names if name),
        orders=sums["orders"],
        filled=sums["filled"],
        unknown=sums["unknown"],
        slippage=sums["slippage"],
        delay=rounded(sums["delay"], digits),
        impact=rounded(sums["impact"], digits),
        commission=rounded(sums["commission"], digits),
        opportunity=rounded(sums["opportunity"], digits),
        shortfall=rounded(sums["shortfall"], digits),
        trace_id=sums["trace_id"],
    )
