"""Slippage and shortfall in a report: what orders cost against the prices they were decided at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exact import ZERO, exact_arithmetic, rounded
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
    rows = source.results.rows("executions", source.run.run_id)
    by_currency: dict[str, list[Row]] = {}
    for row in rows:
        by_currency.setdefault(row["currency"] or "", []).append(row)
    with exact_arithmetic():
        parts = [
            _of_currency(currency, by_currency[currency], source.currency_digits)
            for currency in sorted(by_currency, key=lambda one: (not one, one))
        ]
    return tuple(parts) or None


def _of_currency(
    currency: str, rows: Sequence[Row], configured: Mapping[str, int]
) -> CurrencyExecutions:
    from fillpath.analytics.shortfall_chart import shortfall_figure

    digits = currency_digits(currency, configured)
    tables = tuple(
        (title, tuple(_grouped(rows, columns, digits))) for title, columns in _GROUPS.items()
    )
    total = _row((), rows, digits)
    return CurrencyExecutions(
        currency=currency,
        total=total,
        tables=tables,
        worst=tuple(_worst(rows, digits)),
        chart=shortfall_figure(total, tables[0][1], currency, digits),
    )


def _grouped(rows: Iterable[Row], columns: Sequence[str], digits: int) -> list[ShortfallRow]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        names = tuple(row[column] or "" for column in columns)
        groups.setdefault(names, []).append(row)
    made = [_row(names, groups[names], digits) for names in sorted(groups)]
    return sorted(made, key=lambda row: row.shortfall, reverse=True)


def _row(names: tuple[str, ...], rows: Sequence[Row], digits: int) -> ShortfallRow:
    known = [row for row in rows if row["shortfall"] is not None]
    slippages = [row["slippage"] for row in rows if row["slippage"] is not None]

    def total(column: str) -> Decimal:
        # Where the arrival price is unknown, all that was paid over the decision is impact.
        return rounded(sum((_part(row, column) for row in known), ZERO), digits)

    costliest = max(known, key=lambda row: row["shortfall"], default=None)
    return ShortfallRow(
        names=tuple(name for name in names if name),
        orders=len(rows),
        filled=sum(bool(row["filled_quantity"]) for row in rows),
        unknown=len(rows) - len(known),
        slippage=median(slippages) if slippages else None,
        delay=total("delay_cost"),
        impact=total("impact_cost"),
        commission=total("commission"),
        opportunity=total("opportunity_cost"),
        shortfall=total("shortfall"),
        trace_id=costliest["trace_id"] if costliest else None,
    )


def _part(row: Row, column: str) -> Decimal:
    amount: Decimal | None = row[column]
    if amount is None and column == "impact_cost":
        rest: Decimal = row["shortfall"] - row["commission"] - row["opportunity_cost"]
        return rest
    return ZERO if amount is None else amount


def _worst(rows: Iterable[Row], digits: int) -> Iterator[WorstExecution]:
    costly = [row for row in rows if row["shortfall"] is not None and row["shortfall"] > 0]
    for row in sorted(costly, key=lambda row: (-row["shortfall"], row["sequence"]))[:WORST]:
        yield WorstExecution(row, rounded(row["shortfall"], digits), row["slippage"])
