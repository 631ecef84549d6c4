"""The report's values grouped and summed as its templates walk through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics.charts import ChartFigure, equity_figure, pnl_figure
from fillpath.analytics.report_checks import (
    AccountLine,
    account_adds_up,
    account_lines,
    completeness_holds,
    pnl_adds_up,
    pnl_breakdowns,
    pnl_sum,
)
from fillpath.analytics.report_equity import Curve, curve, points_for_each
from fillpath.analytics.report_format import EXACT, currency_digits
from fillpath.analytics.report_model import (
    Account,
    CompletenessRow,
    OrderCount,
    PnlAmounts,
    PnlRow,
    ReportData,
    Trade,
)
from fillpath.analytics.report_trace import TraceTree, lines_for_each, shortened, trace_tree
from fillpath.analytics.trace_links import TracePlace


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account with its reconciliation.

    Attributes:
        account: The account.
        lines: Start to end balance.
        adds_up: Whether fillpath's own lines do.
        agrees: Whether every figure that the engine gives is equal; ``None`` if it gives none.
        result: P&L less commission.
    """

    account: Account
    lines: tuple[AccountLine, ...]
    adds_up: bool
    agrees: bool | None
    result: Decimal


def account_views(data: ReportData) -> list[AccountView]:
    """Return every account with its reconciliation."""
    views = []
    for account in data.accounts:
        lines = account_lines(account)
        compared = [line.passed for line in lines if line.passed is not None]
        views.append(
            AccountView(
                account,
                lines,
                account_adds_up(account),
                all(compared) if compared else None,
                EXACT.subtract(account.fillpath.pnl, account.fillpath.commission),
            )
        )
    return views


@dataclass(frozen=True, slots=True)
class CompletenessView:
    """The events of one portfolio, or of the whole run.

    Attributes:
        name: The portfolio; empty for the run.
        rows: One a kind.
        published: Sum over the rows, like the next three.
        kept: In the lake.
        sampled_out: Left out by the policy.
        dropped: Lost, by reason.
        holds: Whether every row and the sum are equal on both sides.
    """

    name: str
    rows: tuple[CompletenessRow, ...]
    published: int
    kept: int
    sampled_out: int
    dropped: dict[str, int]
    holds: bool

    @property
    def lost(self) -> int:
        """Dropped for any reason."""
        return sum(self.dropped.values())


def completeness_views(rows: Sequence[CompletenessRow]) -> list[CompletenessView]:
    """Return one view a portfolio, in the order in which they first appear."""
    names = dict.fromkeys(row.portfolio for row in rows)
    return [
        _completeness_view(name, [row for row in rows if row.portfolio == name]) for name in names
    ]


def _completeness_view(name: str, rows: Sequence[CompletenessRow]) -> CompletenessView:
    dropped: dict[str, int] = {}
    for row in rows:
        for reason, lost in row.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + lost
    return CompletenessView(
        name,
        tuple(rows),
        sum(row.published for row in rows),
        sum(row.kept for row in rows),
        sum(row.sampled_out for row in rows),
        dropped,
        all(map(completeness_holds, rows)),
    )


@dataclass(frozen=True, slots=True)
class EquityView:
    """An account's curve and its chart."""

    curve: Curve
    figure: ChartFigure


def equity_views(data: ReportData) -> list[EquityView]:
    """Return one view for each series that has points."""
    drawn = [series for series in data.equity if series.points]
    curves = [curve(series, points_for_each(len(drawn))) for series in drawn]
    return [
        EquityView(
            each,
            equity_figure(each, currency_digits(each.series.currency, data.currency_digits)),
        )
        for each in curves
    ]


@dataclass(frozen=True, slots=True)
class PnlTable:
    """A breakdown of P&L in one currency.

    Attributes:
        currency: Of every amount.
        rows: With the name of each.
        added: Sum of the rows.
        expected: The total that the rows must add up to; ``None`` if there is none.
        figure: Bars of the rows' totals, in the breakdown by strategy.
    """

    currency: str
    rows: tuple[tuple[str, PnlRow], ...]
    added: PnlAmounts
    expected: PnlAmounts | None
    figure: ChartFigure | None

    @property
    def holds(self) -> bool | None:
        """Whether each row adds up and the rows give the total."""
        if self.expected is None:
            return None
        return self.added == self.expected and all(pnl_adds_up(row.amounts) for _, row in self.rows)


def pnl_tables(data: ReportData) -> dict[str, list[PnlTable]]:
    """Return the tables of each breakdown, one a currency."""
    return {
        name: [_pnl_table(name, rows, data) for rows in _by_currency(breakdown)]
        for name, breakdown in pnl_breakdowns(data)
    }


def _by_currency(rows: Iterable[PnlRow]) -> list[list[PnlRow]]:
    grouped: dict[str, list[PnlRow]] = {}
    for row in rows:
        grouped.setdefault(row.currency, []).append(row)
    return list(grouped.values())


def _pnl_table(breakdown: str, rows: Sequence[PnlRow], data: ReportData) -> PnlTable:
    currency = rows[0].currency
    names = [_own_name(breakdown, row) for row in rows]
    figure = None
    if breakdown == "strategy":
        digits = currency_digits(currency, data.currency_digits)
        figure = pnl_figure(rows, _unique(names, rows), digits)
    return PnlTable(
        currency,
        tuple(zip(names, rows, strict=True)),
        pnl_sum(rows),
        data.pnl_totals.get(currency),
        figure,
    )


def _own_name(breakdown: str, row: PnlRow) -> str:
    own = {"portfolio": row.portfolio, "strategy": row.strategy, "symbol": row.symbol}[breakdown]
    return own or row.note or "not attributed"


def _unique(names: Sequence[str], rows: Sequence[PnlRow]) -> list[str]:
    """Tell bars of one name apart by their portfolio, and if need be by their place."""
    unique: list[str] = []
    for place, (name, row) in enumerate(zip(names, rows, strict=True), start=1):
        chosen = name
        if names.count(name) > 1 and row.portfolio:
            chosen = f"{name} ({row.portfolio})"
        unique.append(chosen if chosen not in unique else f"{chosen} #{place}")
    return unique


@dataclass(frozen=True, slots=True)
class OrderTable:
    """Orders by type and status.

    Attributes:
        statuses: The columns.
        rows: Each type with one cell a column (``None``: no such order) and the sum.
        sums: The sum of each column.
        all: The sum of everything.
    """

    statuses: tuple[str, ...]
    rows: tuple[tuple[str, tuple[OrderCount | None, ...], int], ...]
    sums: tuple[int, ...]
    all: int


def order_table(orders: Sequence[OrderCount]) -> OrderTable:
    """Return the counts as a table, in the order in which types and statuses first appear."""
    statuses = tuple(dict.fromkeys(row.status for row in orders))
    types = tuple(dict.fromkeys(row.order_type for row in orders))
    cells = {(row.order_type, row.status): row for row in orders}
    return OrderTable(
        statuses,
        tuple(
            (
                kind,
                tuple(cells.get((kind, status)) for status in statuses),
                sum(row.count for row in orders if row.order_type == kind),
            )
            for kind in types
        ),
        tuple(sum(row.count for row in orders if row.status == status) for status in statuses),
        sum(row.count for row in orders),
    )


@dataclass(frozen=True, slots=True)
class TradeView:
    """A trade with the trees that it is the first to need.

    Attributes:
        rank: From 1.
        trade: The trade.
        trees: ``entry`` and ``exit`` chain, those that are embedded and not shown before.
    """

    rank: int
    trade: Trade
    trees: tuple[tuple[str, TraceTree], ...]


@dataclass(frozen=True, slots=True)
class TraceViews:
    """Every embedded trace, once.

    Attributes:
        trades: The largest trades with their chains.
        others: Chains that belong to none of them.
        embedded: Ids of all.
    """

    trades: list[TradeView]
    others: list[TraceTree]
    embedded: frozenset[str]


def trace_views(data: ReportData) -> TraceViews:
    """Return the traces, each with the first trade that needs it."""
    known = {trace.trace_id: trace for trace in data.traces if trace.spans}
    most = lines_for_each(len(known))
    waiting = {trace_id: trace_tree(shortened(trace, most)) for trace_id, trace in known.items()}
    embedded = frozenset(waiting)
    trades = []
    for rank, trade in enumerate(data.largest_trades, start=1):
        trees = []
        if trade.entry_trace_id == trade.exit_trace_id:
            chains = [("entry and exit", trade.entry_trace_id)]
        else:
            chains = [("entry", trade.entry_trace_id), ("exit", trade.exit_trace_id or "")]
        for role, trace_id in chains:
            tree = waiting.pop(trace_id, None)
            if tree is not None:
                trees.append((role, tree))
        trades.append(TradeView(rank, trade, tuple(trees)))
    return TraceViews(trades, list(waiting.values()), embedded)


def trace_places(data: ReportData) -> dict[str, TracePlace]:
    """Return what a viewer must be told of the traces that are embedded, by trace id."""
    portfolios = {}
    for trade in data.largest_trades:
        portfolios[trade.entry_trace_id] = trade.portfolio
        portfolios[trade.exit_trace_id or ""] = trade.portfolio
    places = {}
    for trace in data.traces:
        if trace.spans:
            ends = [span.end_time or span.start_time for span in trace.spans]
            start = min(span.start_time for span in trace.spans)
            places[trace.trace_id] = TracePlace(
                trace.trace_id,
                data.run.run_id,
                trace.spans[0].span_id,
                portfolios.get(trace.trace_id) or "",
                start,
                max(ends),
            )
    return places
