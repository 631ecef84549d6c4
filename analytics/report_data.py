"""Fills a report: from the results of a run, and from the lake for what only spans tell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.report_format import currency_digits
from fillpath.analytics.report_model import (
    Account,
    AccountFigures,
    CompletenessRow,
    EngineFigures,
    EquityPoint,
    EquitySeries,
    Evidence,
    FunnelRow,
    OrderCount,
    PnlAmounts,
    PnlRow,
    ReportData,
    RunCard,
    Trade,
)
from fillpath.analytics.report_sections import ReportSource, read_sections
from fillpath.analytics.report_traces import read_traces
from fillpath.analytics.results_manager import PnlSum, ResultsManager, Row, RunSummary
from fillpath.analytics.run_backtests import common_parameters, own_parameters
from fillpath.analytics.sql_files import read_sql
from fillpath.analytics.trace_links import TraceLink
from fillpath.analytics.versions import fillpath_version

if TYPE_CHECKING:
    import duckdb

    from fillpath.exporters.event_store import EventStore

LARGEST_TRADES: Final = 10
_NO_FILL: Final = "Changes of the account without a fill, such as interest"
_NETTING: Final = "Between strategies and the position that they share"
_FILLS: Final = "SELECT * FROM spans WHERE run_id = {} AND name = 'publish FILL'"
_Group = tuple[str | None, ...]


def report_data(
    results: ResultsManager,
    store: EventStore,
    run_id: str,
    *,
    command: Sequence[str] = ("fillpath",),
    viewers: Sequence[TraceLink] = (),
) -> ReportData:
    """Collect everything that a report of a run shows.

    Args:
        results: Where the run is loaded.
        store: The lake that it was loaded from.
        run_id: The run; its whole id.
        command: How the reader calls fillpath.
        viewers: Where the reader can see traces besides.

    Raises:
        NotFound: The run is not loaded.
        LakeError: The lake is damaged.
    """
    run = results.run(run_id)
    accounts = results.reconcile(run_id)
    equity = results.rows("equity", run_id)
    trades = results.read("largest_trades", run_id=run_id, most=LARGEST_TRADES)
    groups = results.read("trade_groups", run_id=run_id)
    with store.connect([run_id], further_views=()) as connection, exact_arithmetic():
        digits = _digits(results.read("amount_places", run_id=run_id))
        source = ReportSource(results, store, connection, run, digits)
        traces = (trade[key] for trade in trades for key in ("entry_trace_id", "exit_trace_id"))
        return ReportData(
            run=_run_card(run, results, store, connection),
            accounts=tuple(_accounts(accounts, equity)),
            completeness=tuple(map(_completeness, results.rows("completeness", run_id))),
            equity=tuple(equity_series(equity)),
            pnl_totals={one.currency: _amounts(one) for one in results.pnl_by(run_id)},
            pnl_by_portfolio=_pnl(results, run_id, groups, "portfolio"),
            pnl_by_strategy=_pnl(results, run_id, groups, "portfolio", "strategy"),
            pnl_by_symbol=_pnl(results, run_id, groups, "portfolio", "symbol"),
            funnel=tuple(map(_funnel, results.rows("funnel", run_id))),
            orders=tuple(map(_order_count, results.read("order_counts", run_id=run_id))),
            largest_trades=tuple(map(_trade, trades)),
            traces=read_traces(connection, run_id, filter(None, traces)),
            currency_digits=digits,
            command=tuple(command),
            notices=tuple(_notices(run, accounts)),
            made_at=time.time_ns(),
            viewers=tuple(viewers),
            sections=read_sections(source),
        )


def _run_card(
    run: RunSummary,
    results: ResultsManager,
    store: EventStore,
    connection: duckdb.DuckDBPyConnection,
) -> RunCard:
    extent = connection.execute(read_sql("run_extent"), {"run_id": run.run_id}).fetchone()
    *_, portfolios, strategies = extent or (None, None)
    counts = results.read("counts", run_id=run.run_id)[0]
    (row,) = results.read("run_row", run_id=run.run_id)
    return RunCard(
        run_id=run.run_id,
        mode=run.mode or "unknown",
        status=run.status or "unknown",
        started_at=run.started_at or 0,
        fillpath_version=fillpath_version(),
        engine=run.engine,
        engine_version=run.engine_version,
        ended_at=run.ended_at,
        simulated_from=run.data_from,
        simulated_to=run.data_to,
        portfolios=tuple(portfolios or ()),
        strategies=tuple(strategies or ()),
        events=run.published or 0,
        orders=counts["orders"],
        fills=counts["fills"],
        trades=counts["trades"],
        lake_path=store.folder.lake_place,
        code_version=row["code_version"],
        seed=row["seed"],
        parameters={
            name: _printed(value)
            for name, value in common_parameters(run.parameters, run.backtests).items()
        },
        backtests={
            one["portfolio"]: ", ".join(
                f"{name} = {_printed(value)}"
                for name, value in own_parameters(one, run.backtests).items()
            )
            for one in run.backtests
        },
    )


def _printed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _accounts(
    accounts: Iterable[AccountReconciliation], equity: Iterable[Row]
) -> Iterator[Account]:
    """Bring accounts of one portfolio and currency together."""
    last_traces = {(row["portfolio"], row["currency"]): row["trace_id"] for row in equity}
    together: dict[tuple[str, str], list[AccountReconciliation]] = {}
    for account in accounts:
        if account.status is not ReconciliationStatus.NO_STATEMENT:
            together.setdefault((account.portfolio, account.currency), []).append(account)
    for (portfolio, currency), parts in together.items():
        start = sum((part.start or ZERO for part in parts), ZERO)
        end = sum((part.end or ZERO for part in parts), ZERO)
        profit = sum((part.profit for part in parts), ZERO)
        commission = -sum((part.commission for part in parts), ZERO)
        difference = sum((part.difference for part in parts), ZERO)
        yield Account(
            portfolio=portfolio,
            currency=currency,
            fillpath=AccountFigures(
                start_balance=start,
                pnl=profit + commission,
                commission=commission,
                end_balance=end - difference,
                open_positions=sum((part.held for part in parts), ZERO),
                other=sum((part.not_booked for part in parts), ZERO),
                unrealized=sum((part.unrealized for part in parts), ZERO),
            ),
            engine=EngineFigures(start_balance=start, end_balance=end, pnl=_engine_profit(parts)),
            account_id=", ".join(part.account_id for part in parts),
            evidence=Evidence(last_traces.get((portfolio, currency))),
        )


def _engine_profit(parts: Iterable[AccountReconciliation]) -> Decimal | None:
    """The profit by the engine's positions, where it is all that moved the account."""
    total = ZERO
    for part in parts:
        if part.rounding or part.conversion or part.funding:
            return None
        if part.engine_realized is None:
            if part.realized:
                return None
            continue
        total += part.engine_realized
    return total


def _completeness(row: Row) -> CompletenessRow:
    return CompletenessRow(
        portfolio=row["portfolio"],
        event_type=row["event_type"],
        published=row["published"],
        kept=row["kept"],
        sampled_out=row["sampled_out"],
        dropped=row["dropped_by_reason"],
    )


def equity_series(rows: Iterable[Row]) -> Iterator[EquitySeries]:
    """Add up the accounts of one portfolio and currency, at every change of one of them."""
    points: dict[tuple[str, str], list[EquityPoint]] = {}
    last: dict[tuple[str, str], dict[str, tuple[Decimal, Decimal]]] = {}
    for row in rows:
        key = (row["portfolio"], row["currency"])
        known = last.setdefault(key, {})
        known[row["account_id"]] = (row["balance"], row["equity"])
        balances, equities = zip(*known.values(), strict=True)
        series = points.setdefault(key, [])
        point = EquityPoint(
            time=row["event_time"] or (series[-1].time if series else 0),
            balance=sum(balances, ZERO),
            equity=sum(equities, ZERO),
            trace_id=row["trace_id"],
        )
        series.append(point)
    for (portfolio, currency), series in points.items():
        # What is stated before the market's first event has no time of its own.
        first = next((point.time for point in series if point.time), 0)
        timed = (point if point.time else replace(point, time=first) for point in series)
        yield EquitySeries(portfolio, currency, tuple(timed))


def _amounts(one: PnlSum) -> PnlAmounts:
    amounts = dict(one.amounts)
    unrealized = amounts.pop("unrealized", ZERO) + amounts.pop("reclassified_unrealized", ZERO)
    commission = -amounts.pop("commission", ZERO)
    rounding = amounts.pop("rounding", ZERO)
    # Interest and exchange rates have come true, like what was closed.
    realized = sum(amounts.values(), ZERO)
    return PnlAmounts(realized, unrealized, commission, rounding, one.total)


def _pnl(
    results: ResultsManager, run_id: str, groups: Iterable[Row], *dimensions: str
) -> tuple[PnlRow, ...]:
    trades: dict[_Group, int] = {}
    largest: dict[_Group, tuple[Decimal, str]] = {}
    for group in groups:
        key = (*(group[name] for name in dimensions), group["currency"])
        trades[key] = trades.get(key, 0) + group["trades"]
        candidate = (group["largest"], group["trace_id"])
        largest[key] = max(largest.get(key, candidate), candidate, key=lambda one: one[0])
    rows = []
    for one in results.pnl_by(run_id, *dimensions):
        key = (*one.names.values(), one.currency)
        trace_id = largest[key][1] if key in largest else None
        row = PnlRow(
            currency=one.currency,
            amounts=_amounts(one),
            trades=trades.get(key, 0),
            evidence=Evidence(trace_id, _fills_query(run_id, one.names)),
            **one.names,
        )
        if None in one.names.values():
            netting = all(kind.startswith("reclassified") for kind in one.amounts)
            row = replace(row, note=_NETTING if netting else _NO_FILL)
        rows.append(row)
    return tuple(rows)


def _fills_query(run_id: str, names: Mapping[str, str | None]) -> str:
    conditions = [
        f"{name} IS NULL" if value is None else f"{name} = {_literal(value)}"
        for name, value in names.items()
    ]
    return " AND ".join([_FILLS.format(_literal(run_id)), *conditions]) + " ORDER BY sequence"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _funnel(row: Row) -> FunnelRow:
    counts = ("signals", "with_order", "orders", "denied", "filled", "publishes_signals")
    return FunnelRow(
        portfolio=row["portfolio"],
        strategy=row["strategy"],
        **{name: row[name] for name in counts},
        evidence=Evidence(row["trace_id"]),
    )


def _order_count(row: Row) -> OrderCount:
    evidence = Evidence(row["trace_id"])
    return OrderCount(row["order_type"], row["status"], row["count"], evidence)


def _trade(row: Row) -> Trade:
    commission = row["commission"] or ZERO
    return Trade(
        portfolio=row["portfolio"],
        strategy=row["strategy"],
        symbol=row["symbol"] or "",
        side="BUY" if row["direction"] == "LONG" else "SELL",
        quantity=row["quantity"],
        currency=row["currency"] or "",
        entry_time=row["entry_time"] or 0,
        entry_price=row["entry_price"],
        pnl=row["net"] + commission,
        commission=commission,
        net=row["net"],
        entry_trace_id=row["entry_trace_id"],
        exit_time=row["exit_time"],
        exit_price=row["exit_price"] if row["exit_time"] is not None else None,
        exit_trace_id=row["exit_trace_id"],
    )


def _digits(places: Iterable[Row]) -> dict[str, int]:
    """Decimal places of the currencies that have not the usual ones."""
    return {
        row["currency"]: row["places"]
        for row in places
        if row["places"] > currency_digits(row["currency"], {})
    }


def _notices(run: RunSummary, accounts: Iterable[AccountReconciliation]) -> Iterator[str]:
    if run.status == "Running":
        yield "The run was still going on when this report was made."
    elif run.status == "Crashed":
        yield "The run crashed; what it had not written yet is missing."
    for account in accounts:
        where = f"{account.portfolio}, account {account.account_id}, {account.currency}"
        notes = " ".join(account.notes)
        if account.status is ReconciliationStatus.FAILED:
            yield (
                f"{where}: the engine's account does not follow from the fills; the difference is "
                f"{account.difference}. {notes}"
            )
        elif account.not_booked:
            yield f"{where}: the balance has {account.not_booked} that no trade earned. {notes}"
        elif notes:
            yield f"{where}: {notes}"
