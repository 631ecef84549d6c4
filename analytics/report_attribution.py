"""Attribution in a report: the way from the first equity to the last, and profit by each dimension.

Every amount is a sum of rows of ``pnl_slices``; what the slices leave unexplained of an account's
change is a step of its own, never spread over the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.report_model import NO_EVIDENCE, Evidence

if TYPE_CHECKING:
    from fillpath.analytics.report_sections import ReportSource
    from fillpath.analytics.results_manager import Row

KINDS: Final[Mapping[str, str]] = {
    "realized": "Realized",
    "unrealized": "Unrealized",
    "commission": "Commission",
    "cash_flow": "Cash flows",
    "funding": "Funding",
    "conversion": "Conversion",
    "rounding": "Rounding",
    "reclassified_realized": "Reclassified, realized",
    "reclassified_unrealized": "Reclassified, unrealized",
    "reclassification": "Reclassified",
}
"""Kinds of amounts in the order of a page's columns, and their headings."""
DIMENSIONS: Final[Mapping[str, tuple[str, str]]] = {
    "portfolio": ("portfolio", "no portfolio"),
    "strategy": ("strategy", "no strategy"),
    "symbol": ("symbol", "no instrument"),
    "signal": ("signal", "no signal"),
    "side": ("side", "no position"),
    "regime": ("regime", "not classified"),
    "exit_reason": ("exit reason", "not closed, or not told"),
    "holding": ("holding time", "not closed"),
    "month": ("month", "no time"),
    "hour": ("hour of the day, UTC", "no time"),
}
"""What profit is broken down by: its heading, and the name of the row without a value."""
_IN_TABLES_OF_PROFIT: Final = frozenset({"portfolio", "strategy", "symbol"})
_KINDS_OF_PROFIT: Final = frozenset({"realized", "unrealized", "commission", "rounding"})
MOST_ROWS: Final = 60
"""Rows of a breakdown; the others are added up in one."""
MOST_STRATEGIES: Final = 12
"""Steps of a waterfall for strategies; the others are one step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a waterfall.

    Attributes:
        key: What it is: ``start``, ``strategy``, a kind of `KINDS`, ``transfers``,
            ``unexplained`` or ``end``.
        name: Its words.
        amount: What it adds; of ``start`` and ``end`` the level.
        before: The level before it.
        after: The level after it.
        evidence: Where to look.
    """

    key: str
    name: str
    amount: Decimal
    before: Decimal
    after: Decimal
    evidence: Evidence = NO_EVIDENCE

    @property
    def is_level(self) -> bool:
        """Whether it is a level and not a change."""
        return self.key in {"start", "end"}


@dataclass(frozen=True, slots=True)
class Waterfall:
    """From the first equity of all accounts of a currency to their last.

    Attributes:
        currency: Of every amount.
        steps: From ``start`` to ``end``; each begins where the one before it ended.
        has_accounts: False if no account was stated: then it begins with nothing.
    """

    currency: str
    steps: tuple[Step, ...]
    has_accounts: bool

    @property
    def holds(self) -> bool:
        """Whether the slices explain the whole change."""
        return not any(step.key == "unexplained" for step in self.steps)


@dataclass(frozen=True, slots=True)
class AttributionRow:
    """A row of a breakdown.

    Attributes:
        name: Value of the dimension, in the host's words; None where a slice has none.
        label: What to show: `name`, or words for what has none.
        amounts: By kind of slice; a commission is negative. Kinds without slices are missing.
        total: All kinds together.
        slices: How many slices it sums.
        evidence: The trace of its largest amount.
    """

    name: str | None
    label: str
    amounts: Mapping[str, Decimal]
    total: Decimal
    slices: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Profit of one currency by one dimension.

    Attributes:
        dimension: Its key, one of `DIMENSIONS`.
        title: Its words.
        currency: Of every amount.
        kinds: The kinds that occur, in the order of the columns.
        rows: In the order of the dimension; by size where there were too many.
        total: Sum of all rows.
        holds: Whether the rows add up to the total of the currency.
    """

    dimension: str
    title: str
    currency: str
    kinds: tuple[str, ...]
    rows: tuple[AttributionRow, ...]
    total: AttributionRow
    holds: bool


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a report says about where the profit came from."""

    waterfalls: tuple[Waterfall, ...]
    breakdowns: tuple[Breakdown, ...]

    @property
    def dimensions(self) -> list[tuple[str, list[Breakdown]]]:
        """The breakdowns, those of one dimension together."""
        together: dict[str, list[Breakdown]] = {}
        for one in self.breakdowns:
            together.setdefault(one.title, []).append(one)
        return list(together.items())

    @property
    def further(self) -> list[tuple[str, list[Breakdown]]]:
        """The same, without what the tables of profit by portfolio, strategy and symbol say."""
        return [
            (title, tables)
            for title, tables in self.dimensions
            if title not in _IN_TABLES_OF_PROFIT
            or any(not _KINDS_OF_PROFIT.issuperset(one.kinds) or not one.holds for one in tables)
        ]


NO_ATTRIBUTION: Final = Attribution((), ())
"""Of a run in which nothing was earned or paid; its section says what it would show."""


def read_attribution(source: ReportSource) -> Attribution | None:
    """Read the attribution of a run; None if nothing was earned or paid in it."""
    run_id = source.run.run_id
    with exact_arithmetic():
        grouped = _grouped(source.results.read("pnl_breakdowns", run_id=run_id))
        if not grouped:
            return None
        ends = {row["currency"]: row for row in source.results.read("equity_ends", run_id=run_id)}
        transfers = {
            row["currency"]: row["transfers"]
            for row in source.results.read("transfers", run_id=run_id)
        }
        currencies = [currency for dimension, currency in grouped if dimension == "total"]
        waterfalls = tuple(
            _waterfall(
                currency,
                grouped["total", currency][0],
                grouped["strategy", currency],
                ends.get(currency),
                transfers.get(currency, ZERO),
            )
            for currency in currencies
        )
        breakdowns = tuple(
            _breakdown(dimension, currency, grouped)
            for dimension in DIMENSIONS
            for currency in currencies
            # A dimension of which nothing is known says nothing.
            if any(row.name is not None for row in grouped.get((dimension, currency), ()))
        )
    return Attribution(waterfalls, breakdowns)


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[AttributionRow]]:
    """Bring the kinds of each row together, by dimension and currency."""
    parts: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in rows:
        parts.setdefault((row["dimension"], row["currency"], row["name"]), []).append(row)
    grouped: dict[tuple[str, str], list[AttributionRow]] = {}
    for (dimension, currency, name), kinds in parts.items():
        largest = max(kinds, key=lambda row: row["size"])
        together = AttributionRow(
            name,
            name if name is not None else DIMENSIONS.get(dimension, ("", "Total"))[1],
            {row["kind"]: row["amount"] for row in kinds},
            sum((row["amount"] for row in kinds), ZERO),
            sum(row["slices"] for row in kinds),
            Evidence(largest["trace_id"]),
        )
        grouped.setdefault((dimension, currency), []).append(together)
    return grouped


def _breakdown(
    dimension: str, currency: str, grouped: Mapping[tuple[str, str], list[AttributionRow]]
) -> Breakdown:
    rows, total = grouped[dimension, currency], grouped["total", currency][0]
    if len(rows) > MOST_ROWS:
        by_size = sorted(rows, key=lambda row: abs(row.total), reverse=True)
        kept, others = by_size[: MOST_ROWS - 1], by_size[MOST_ROWS - 1 :]
        rows = [*kept, _together(f"{len(others):,} others", others)]
    added = _together("Total", rows)
    return Breakdown(
        dimension,
        DIMENSIONS[dimension][0],
        currency,
        tuple(kind for kind in KINDS if kind in total.amounts),
        tuple(rows),
        total,
        dict(added.amounts) == dict(total.amounts),
    )


def _together(label: str, rows: Iterable[AttributionRow]) -> AttributionRow:
    amounts: dict[str, Decimal] = {}
    slices, largest = 0, None
    for row in rows:
        for kind, amount in row.amounts.items():
            amounts[kind] = amounts.get(kind, ZERO) + amount
        slices += row.slices
        largest = row if largest is None or abs(row.total) > abs(largest.total) else largest
    total = sum(amounts.values(), ZERO)
    evidence = NO_EVIDENCE if largest is None else largest.evidence
    return AttributionRow(None, label, amounts, total, slices, evidence)


def _waterfall(
    currency: str,
    total: AttributionRow,
    strategies: Iterable[AttributionRow],
    ends: Row | None,
    transfers: Decimal,
) -> Waterfall:
    start = ends["start_equity"] if ends else ZERO
    level = start
    steps = [Step("start", "Start" if ends else "Nothing", start, ZERO, start)]
    for key, name, amount, evidence in _changes(total, strategies, transfers):
        steps.append(Step(key, name, amount, level, level + amount, evidence))
        level += amount
    end = ends["end_equity"] if ends else level
    if end != level:
        steps.append(Step("unexplained", "Not explained", end - level, level, end))
    last = Evidence(ends["trace_id"]) if ends else NO_EVIDENCE
    steps.append(Step("end", "End", end, ZERO, end, last))
    return Waterfall(currency, tuple(steps), ends is not None)


def _changes(
    total: AttributionRow, strategies: Iterable[AttributionRow], transfers: Decimal
) -> Iterator[tuple[str, str, Decimal, Evidence]]:
    earning = sorted(
        (row for row in strategies if row.amounts.get("realized")),
        key=lambda row: row.amounts["realized"],
        reverse=True,
    )
    if len(earning) > MOST_STRATEGIES:
        largest = sorted(earning, key=lambda row: abs(row.amounts["realized"]), reverse=True)
        shown = {id(row) for row in largest[: MOST_STRATEGIES - 1]}
        others = [row for row in earning if id(row) not in shown]
        rest = _together(f"{len(others):,} other strategies", others)
        earning = [*(row for row in earning if id(row) in shown), rest]
    for row in earning:
        yield "strategy", row.label, row.amounts["realized"], row.evidence
    for kind, words in KINDS.items():
        amount = total.amounts.get(kind, ZERO)
        if kind != "realized" and amount:
            yield kind, words, amount, NO_EVIDENCE
    if transfers:
        yield "transfers", "Deposits less withdrawals", transfers, NO_EVIDENCE
