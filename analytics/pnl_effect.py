"""What the difference between two runs comes to in money, by strategy and symbol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import BackendUnreachable, MissingExtra

if TYPE_CHECKING:
    from fillpath.instrumentation.settings import DataFolder

_DIMENSIONS: Final = ("portfolio", "strategy", "symbol")
Key = tuple[str | None, str | None, str | None, str]
"""Portfolio, strategy, symbol, currency."""


@dataclass(frozen=True, slots=True)
class PnlEffect:
    """P&L of two runs, of one strategy and symbol or of all, in one currency.

    Attributes:
        portfolio: None where it is added up.
        strategy: None where there is none, or it is added up.
        symbol: None where there is none, or it is added up.
        currency: Of the amounts.
        a: Of the first run, all kinds of slices together.
        b: Of the second run.
    """

    portfolio: str | None
    strategy: str | None
    symbol: str | None
    currency: str
    a: Decimal
    b: Decimal

    @property
    def change(self) -> Decimal:
        """What the second run earned beyond the first, exactly."""
        with exact_arithmetic():
            return self.b - self.a

    def document(self) -> dict[str, object]:
        """Give it as a document."""
        return {
            "portfolio": self.portfolio,
            "strategy": self.strategy,
            "symbol": self.symbol,
            "currency": self.currency,
            "a": self.a,
            "b": self.b,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class PnlComparison:
    """P&L of two runs.

    Attributes:
        rows: By portfolio, strategy, symbol and currency.
    """

    rows: tuple[PnlEffect, ...]

    def by_strategy(self) -> list[PnlEffect]:
        """Add up over symbols."""
        return self._sums(lambda row: (row.portfolio, row.strategy, None, row.currency))

    def totals(self) -> list[PnlEffect]:
        """Add up over everything but currencies."""
        return self._sums(lambda row: (None, None, None, row.currency))

    def _sums(self, key: Callable[[PnlEffect], Key]) -> list[PnlEffect]:
        a: dict[Key, Decimal] = defaultdict(lambda: ZERO)
        b: dict[Key, Decimal] = defaultdict(lambda: ZERO)
        with exact_arithmetic():
            for row in self.rows:
                a[key(row)] += row.a
                b[key(row)] += row.b
        return [PnlEffect(*one, a[one], b[one]) for one in sorted(a, key=_in_order)]


def compare_pnl(
    a: tuple[DataFolder, str],
    b: tuple[DataFolder, str],
    *,
    portfolio: str | None = None,
    by_portfolio: bool = True,
) -> PnlComparison:
    """Compare the P&L of two runs; their results are loaded if they are not yet.

    Args:
        a: Data folder and whole id of the first run.
        b: Data folder and whole id of the second run.
        portfolio: Of this portfolio only.
        by_portfolio: Whether the names of portfolios count.

    Raises:
        FillpathError: The lake or the results database cannot be used.
    """

    def amounts(side: tuple[DataFolder, str]) -> dict[Key, Decimal]:
        found: dict[Key, Decimal] = defaultdict(lambda: ZERO)
        with exact_arithmetic():
            for (of, strategy, symbol, currency), amount in pnl_of(*side).items():
                if portfolio is None or of == portfolio:
                    found[of if by_portfolio else None, strategy, symbol, currency] += amount
        return found

    ours, theirs = amounts(a), amounts(b)
    keys = sorted({*ours, *theirs}, key=_in_order)
    return PnlComparison(
        tuple(PnlEffect(*key, ours.get(key, ZERO), theirs.get(key, ZERO)) for key in keys)
    )


def pnl_of(folder: DataFolder, run_id: str) -> Mapping[Key, Decimal]:
    """Read the P&L of a run by portfolio, strategy, symbol and currency.

    It comes from the results database. Where there is none, it is computed.
    """
    from fillpath.analytics.results_loading import results_of

    try:
        with results_of(folder) as results:
            results.load(EventStore(folder), run_id)
            sums = results.pnl_by(run_id, *_DIMENSIONS)
    except (MissingExtra, BackendUnreachable):
        return _computed(folder, run_id)
    return {
        (one.names["portfolio"], one.names["strategy"], one.names["symbol"], one.currency): (
            one.total
        )
        for one in sums
    }


def _computed(folder: DataFolder, run_id: str) -> Mapping[Key, Decimal]:
    from fillpath.analytics.results_rows import compute_results

    with EventStore(folder).connect([run_id], further_views=()) as connection:
        table = compute_results(connection, run_id).tables["pnl_slices"]
    places = [table.columns.index(name) for name in (*_DIMENSIONS, "currency", "amount")]
    found: dict[Key, Decimal] = defaultdict(lambda: ZERO)
    with exact_arithmetic():
        for row in table.rows:
            values: list[Any] = [row[place] for place in places]
            portfolio, strategy, symbol, currency, amount = values
            found[portfolio, strategy, symbol, currency] += amount
    return found


def _in_order(key: Key) -> tuple[str, ...]:
    return tuple(part or "" for part in key)
