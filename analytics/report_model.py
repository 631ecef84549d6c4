"""What a report shows: one frozen tree of plain values, filled from the results and the lake.

Conventions, everywhere below:

* Money is ``Decimal``, in the currency named beside it. The report never rounds it and never adds
  amounts of two currencies.
* A time is ``int`` nanoseconds since 1970 UTC: simulated time where the field says so, otherwise
  wall clock.
* Identifiers are the lake's: trace ids 32, span ids 16 lower-case hex digits.
* Empty tuples are welcome: a section without rows says what it would show.
* Tuples are shown in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from fillpath.analytics.trace_links import TraceLink

if TYPE_CHECKING:
    from fillpath.analytics.report_sections import FilledSection


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the reader finds the spans behind a row or a figure.

    Attributes:
        trace_id: The one trace that shows it best: the row's only one, the largest, the slowest.
            The report links to its tree if that is embedded, else offers ``fillpath trace show``.
        query: SQL over the view ``spans`` that lists every span behind the figure; offered as
            ``fillpath sql``.
    """

    trace_id: str | None = None
    query: str | None = None


NO_EVIDENCE = Evidence()


@dataclass(frozen=True, slots=True)
class RunCard:
    """What ran.

    Attributes:
        run_id: The run's id.
        engine: The engine's name, such as ``NautilusTrader``; ``None`` for a home-made bus.
        engine_version: Its version.
        mode: ``backtest`` or ``live``.
        status: ``Running``, ``Ended`` or ``Crashed``.
        started_at: Wall clock, when recording began.
        ended_at: Wall clock, when it ended; ``None`` while it runs or if it crashed.
        simulated_from: Simulated time of the first event; ``None`` if no event carries one.
        simulated_to: Simulated time of the last event.
        portfolios: Namespaces of the portfolios that published.
        strategies: Ids of the strategies that published.
        events: Events published: kept, sampled out and dropped together.
        orders: Orders initialized.
        fills: Fills; a partial fill counts as one.
        trades: Trades (entry matched with exit), open ones included.
        fillpath_version: Version of fillpath that made this report.
        lake_path: Folder or URL of the lake; ``None`` leaves it out.
        code_version: Version of the host's code; ``None`` if it is not known.
        seed: Seed of the host's random numbers; ``None`` if none was told.
        parameters: What the run was started with, shown as it is.
        backtests: In what the backtests of a run differ that holds several, by portfolio.
    """

    run_id: str
    mode: str
    status: str
    started_at: int
    fillpath_version: str
    engine: str | None = None
    engine_version: str | None = None
    ended_at: int | None = None
    simulated_from: int | None = None
    simulated_to: int | None = None
    portfolios: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    events: int = 0
    orders: int = 0
    fills: int = 0
    trades: int = 0
    lake_path: str | None = None
    code_version: str | None = None
    seed: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    backtests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """An account as fillpath derives it from the fills; the equation is checked by the report.

    ``end_balance = start_balance + pnl - commission + open_positions + other``

    Attributes:
        start_balance: Balance before the first fill.
        pnl: Realized P&L before commission.
        commission: Commissions paid; positive is a cost.
        open_positions: What positions still open moved on the balance: minus their cost on a cash
            account, zero on a margin account.
        other: Everything else that moved the balance: deposits, interest, currency changes.
        end_balance: Balance after the last event.
        unrealized: P&L of positions still open, at the last price; it moved no balance.
    """

    start_balance: Decimal
    pnl: Decimal
    commission: Decimal
    end_balance: Decimal
    open_positions: Decimal = Decimal(0)
    other: Decimal = Decimal(0)
    unrealized: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """The same account as the engine itself reports it; ``None`` where it does not say.

    Attributes:
        start_balance: As in `AccountFigures`.
        pnl: As in `AccountFigures`.
        commission: As in `AccountFigures`, positive is a cost.
        end_balance: As in `AccountFigures`.
    """

    start_balance: Decimal | None = None
    pnl: Decimal | None = None
    commission: Decimal | None = None
    end_balance: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One portfolio's account in one currency, by fillpath and by the engine.

    Attributes:
        portfolio: Namespace.
        currency: ISO 4217 code or the venue's own.
        fillpath: Derived from the fills.
        engine: The engine's account report.
        account_id: The engine's id of the account.
        evidence: The trace with the account's last state.
    """

    portfolio: str
    currency: str
    fillpath: AccountFigures
    engine: EngineFigures = EngineFigures()
    account_id: str | None = None
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class CompletenessRow:
    """What became of the events of one kind; ``published = kept + sampled_out + sum(dropped)``.

    Attributes:
        portfolio: Namespace.
        event_type: The kind.
        published: What the engine published.
        kept: What the lake holds.
        sampled_out: What the sampling policy left out.
        dropped: Lost events by reason.
        evidence: Usually a query.
    """

    portfolio: str
    event_type: str
    published: int
    kept: int
    sampled_out: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """An account at one moment.

    Attributes:
        time: Simulated time.
        balance: The account's total balance.
        equity: Balance and open positions at market; ``None`` if nobody computed it.
        trace_id: The trace in which the account changed.
    """

    time: int
    balance: Decimal
    equity: Decimal | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class EquitySeries:
    """An account through time, in the order of sequence.

    Curve and drawdown are drawn from the equity if every point has one, otherwise from the
    balance. Give every change; the report thins a long series out for drawing and says so.

    Attributes:
        portfolio: Namespace.
        currency: Currency of every amount in it.
        points: Every change of the account.
    """

    portfolio: str
    currency: str
    points: tuple[EquityPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class PnlAmounts:
    """The parts of a profit; ``total = realized + unrealized - commission + rounding``.

    Attributes:
        realized: P&L of what was closed, before commission.
        unrealized: P&L of what is open, at the last price.
        commission: Commissions paid; positive is a cost.
        rounding: What rounding to the currency's digits added or took away.
        total: The row's result.
    """

    realized: Decimal
    unrealized: Decimal
    commission: Decimal
    rounding: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class PnlRow:
    """One row of a breakdown of P&L.

    Attributes:
        currency: Currency of the amounts.
        amounts: The parts.
        portfolio: Namespace; ``None`` in a breakdown that spans portfolios.
        strategy: Set in the breakdown by strategy. A line that belongs to no strategy, such as the
            reclassification of netted positions, has ``None`` and a `note`.
        symbol: Set in the breakdown by symbol.
        trades: Number of trades behind it.
        note: What a line without strategy or symbol is.
        evidence: The trade with the largest result, and a query for all fills.
    """

    currency: str
    amounts: PnlAmounts
    portfolio: str | None = None
    strategy: str | None = None
    symbol: str | None = None
    trades: int = 0
    note: str | None = None
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """How far the signals of one strategy came.

    Attributes:
        portfolio: Namespace.
        strategy: The strategy's id.
        signals: Causes that could lead to an order: SIGNAL events, and for a strategy that
            publishes none the handler deliveries that emitted a command.
        with_order: How many of them led to at least one order.
        orders: Orders they led to.
        denied: Of these, denied or rejected before or by the venue.
        filled: Of these, filled at least in part.
        publishes_signals: False if `signals` counts handler deliveries.
        evidence: A trace of the strategy, and a query.
    """

    portfolio: str
    strategy: str
    signals: int
    with_order: int
    orders: int
    denied: int
    filled: int
    publishes_signals: bool = True
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class OrderCount:
    """Number of orders of one type that ended in one status.

    Attributes:
        order_type: ``MARKET``, ``LIMIT``, …
        status: Last status of the order.
        count: Number of orders.
        evidence: One of them, and a query for all.
    """

    order_type: str
    status: str
    count: int
    evidence: Evidence = NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class Trade:
    """An entry matched with its exit, or a position still open.

    Attributes:
        portfolio: Namespace.
        strategy: The strategy's id; ``None`` if netting left none.
        symbol: The instrument.
        side: Side of the entry: ``BUY`` or ``SELL``.
        quantity: Quantity of the trade.
        currency: Currency of `pnl`, `commission` and `net`.
        entry_time: Simulated time of the first entry fill.
        entry_price: Average entry price.
        exit_time: Simulated time of the last exit fill; ``None`` while open.
        exit_price: Average exit price; ``None`` while open.
        pnl: P&L before commission.
        commission: Commissions of entry and exit; positive is a cost.
        net: ``pnl - commission``.
        entry_trace_id: Chain of the entry fill.
        exit_trace_id: Chain of the exit fill; may be the entry's.
    """

    portfolio: str
    strategy: str | None
    symbol: str
    side: str
    quantity: Decimal
    currency: str
    entry_time: int
    entry_price: Decimal
    pnl: Decimal
    commission: Decimal
    net: Decimal
    entry_trace_id: str
    exit_time: int | None = None
    exit_price: Decimal | None = None
    exit_trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A link from a span to the span of another chain, such as from an exit to its entry."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """One row of the view ``spans``, with the fields that a tree shows.

    Attributes:
        span_id: Its id.
        sequence: Its place in the run; a tree is ordered by it.
        name: The span's name, such as ``publish ORDER``.
        event_type: Kind of event.
        span_kind: ``PRODUCER``, ``CONSUMER`` or ``INTERNAL``.
        start_time: Wall clock.
        parent_span_id: ``None`` at a root.
        end_time: Wall clock; ``None`` if it never ended.
        event_time: Simulated time.
        strategy: As in the view, like all below.
        symbol: The instrument.
        handler: The handler that an event was delivered to.
        side: ``BUY`` or ``SELL``.
        order_type: The order's type.
        status: The order's status.
        quantity: Exact.
        price: Exact.
        commission: Of this fill; positive is a cost.
        currency: Currency of the commission.
        client_order_id: The engine's id.
        order_id: The venue's id.
        fill_id: The fill's id.
        position_id: The position's id.
        detail: What else the reader should see at once: a reject reason, a signal's value, a
            command's name, an account's balance.
        links: Spans of other chains.
    """

    span_id: str
    sequence: int
    name: str
    event_type: str
    span_kind: str
    start_time: int
    parent_span_id: str | None = None
    end_time: int | None = None
    event_time: int | None = None
    strategy: str | None = None
    symbol: str | None = None
    handler: str | None = None
    side: str | None = None
    order_type: str | None = None
    status: str | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    commission: Decimal | None = None
    currency: str | None = None
    client_order_id: str | None = None
    order_id: str | None = None
    fill_id: str | None = None
    position_id: str | None = None
    detail: str | None = None
    links: tuple[SpanLink, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """A chain to embed.

    Attributes:
        trace_id: Its id.
        spans: Its spans in any order. Leave out what a reader would not miss of a very long chain,
            but never a span's parent.
        total_spans: How many the lake holds, if `spans` are not all of them.
    """

    trace_id: str
    spans: tuple[TraceSpan, ...]
    total_spans: int | None = None


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows.

    Attributes:
        run: The run card.
        accounts: One per portfolio and currency.
        completeness: One per portfolio and kind.
        equity: One series per portfolio and currency.
        pnl_totals: Per currency, the total that each breakdown must add up to; summed by itself,
            not from the breakdowns.
        pnl_by_portfolio: P&L by portfolio and currency.
        pnl_by_strategy: P&L by portfolio, strategy and currency.
        pnl_by_symbol: P&L by portfolio, symbol and currency.
        funnel: One per portfolio and strategy.
        orders: One per type and status.
        largest_trades: The ten with the largest absolute `Trade.net`, each currency by itself if
            there are several.
        traces: The chains of `largest_trades`, and any other worth embedding.
        currency_digits: Decimal places that each currency is shown with, if the usual ones (two,
            none for the yen, …) are not right. An amount with more is shown with all of them.
        command: How the reader calls fillpath, such as ``("fillpath", "--data", ".fillpath")``.
        notices: Sentences the reader must see before any number.
        made_at: Wall clock, when the report was made; ``None`` leaves it out.
        viewers: Where the reader can see traces besides; each trace is linked to all of them.
        sections: The page's sections in its order, with what each read for itself; if there
            are none, those that show what is above.
    """

    run: RunCard
    accounts: tuple[Account, ...] = ()
    completeness: tuple[CompletenessRow, ...] = ()
    equity: tuple[EquitySeries, ...] = ()
    pnl_totals: Mapping[str, PnlAmounts] = field(default_factory=dict)
    pnl_by_portfolio: tuple[PnlRow, ...] = ()
    pnl_by_strategy: tuple[PnlRow, ...] = ()
    pnl_by_symbol: tuple[PnlRow, ...] = ()
    funnel: tuple[FunnelRow, ...] = ()
    orders: tuple[OrderCount, ...] = ()
    largest_trades: tuple[Trade, ...] = ()
    traces: tuple[Trace, ...] = ()
    currency_digits: Mapping[str, int] = field(default_factory=dict)
    command: tuple[str, ...] = ("fillpath",)
    notices: tuple[str, ...] = ()
    made_at: int | None = None
    viewers: tuple[TraceLink, ...] = ()
    sections: tuple[FilledSection, ...] = ()
