"""Profit and loss by portfolio and strategy, as a table of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from fillpath.analytics import report_format
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.output import LONGEST_NAME, inert, styled, table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_NUMBERS: Final = ("realized", "commission", "unrealized", "other", "total")


@dataclass(frozen=True, slots=True)
class PnlLine:
    """One row; every amount as the account feels it, so that they add up to the total.

    Args:
        portfolio: Namespace; empty in a total over all of them.
        strategy: The engine's id; empty for what belongs to none.
        currency: Of every amount.
        realized: Profit of what was closed, before commission.
        commission: Negative for a cost.
        unrealized: Profit of what is open, at the last price.
        other: Rounding, conversion and funding.
    """

    portfolio: str
    strategy: str
    currency: str
    realized: Decimal = ZERO
    commission: Decimal = ZERO
    unrealized: Decimal = ZERO
    other: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """What it comes to."""
        with exact_arithmetic():
            return self.realized + self.commission + self.unrealized + self.other

    def document(self) -> dict[str, object]:
        """Give the line as a document; empty names are None."""
        return {
            "portfolio": self.portfolio or None,
            "strategy": self.strategy or None,
            "currency": self.currency,
            **{column: getattr(self, column) for column in _NUMBERS},
        }

    def plus(self, kind: str, amount: Decimal) -> PnlLine:
        """Add an amount of one kind of slice."""
        column = kind if kind in {"realized", "commission", "unrealized"} else "other"
        with exact_arithmetic():
            return replace(self, **{column: getattr(self, column) + amount})


def pnl_lines(amounts: Iterable[tuple[str, str, str, str, Decimal]]) -> list[PnlLine]:
    """Collect amounts by portfolio, strategy and currency.

    Args:
        amounts: Portfolio, strategy, currency, kind of slice and amount of each.
    """
    lines: dict[tuple[str, str, str], PnlLine] = {}
    for portfolio, strategy, currency, kind, amount in amounts:
        key = (portfolio, strategy, currency)
        lines[key] = lines.get(key, PnlLine(*key)).plus(kind, amount)
    return [lines[key] for key in sorted(lines)]


def totals(lines: Iterable[PnlLine]) -> list[PnlLine]:
    """Add lines up, by currency."""
    sums: dict[str, PnlLine] = {}
    for line in lines:
        summed = sums.get(line.currency, PnlLine("", "", line.currency))
        for column in ("realized", "commission", "unrealized", "other"):
            summed = summed.plus(column, getattr(line, column))
        sums[line.currency] = summed
    return [sums[currency] for currency in sorted(sums)]


def draw_pnl(lines: Sequence[PnlLine]) -> Table:
    """Draw the table: every portfolio's sum, below it those of its strategies, and all of them."""
    columns = [
        column
        for column in _NUMBERS
        if column in {"realized", "total"} or any(getattr(line, column) for line in lines)
    ]
    currencies = sorted({line.currency for line in lines})
    title = "Profit and loss" + (f" in {currencies[0]}" if len(currencies) == 1 else "")
    names = ("", "currency") if len(currencies) > 1 else ("",)
    drawn = table((*names, *columns), title=title, right=columns)
    portfolios = sorted({line.portfolio for line in lines})
    for portfolio in portfolios:
        inside = [line for line in lines if line.portfolio == portfolio]
        for number, line in enumerate(totals(inside)):
            _add(drawn, portfolio if number == 0 else "", line, columns, style="bold")
        for line in inside:
            _add(drawn, f"  {line.strategy or 'no strategy'}", line, columns)
        drawn.add_section()
    if len(portfolios) > 1:
        for number, line in enumerate(totals(lines)):
            _add(drawn, "all" if number == 0 else "", line, columns, style="bold")
    return drawn


def _add(
    drawn: Table, name: str, line: PnlLine, columns: Sequence[str], *, style: str = ""
) -> None:
    cells = [styled((inert(name, LONGEST_NAME), style))]
    if len(drawn.columns) > len(columns) + 1:
        cells.append(styled((line.currency, style)))
    cells += [_amount(getattr(line, column), line.currency, style) for column in columns]
    drawn.add_row(*cells)


def _amount(amount: Decimal, currency: str, style: str) -> Text:
    figure = report_format.readable_money(amount, report_format.currency_digits(currency, {}))
    colours = {"negative": "red", "positive": "", "zero": "dim"}
    return styled((figure.text, f"{style} {colours[figure.tone]}".strip()))
