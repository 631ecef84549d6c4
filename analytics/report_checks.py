"""The checks a report makes on its own numbers, and shows.

Every equation that the report prints is evaluated here, exactly, from the values shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics.report_format import EXACT, count, currency_digits, money, total
from fillpath.analytics.report_model import (
    Account,
    CompletenessRow,
    PnlAmounts,
    PnlRow,
    ReportData,
    Trace,
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        section: Anchor of the section it belongs to.
        name: What is claimed.
        passed: Whether it holds; ``None`` if the data to compare with is missing.
        detail: The figures, in words.
    """

    section: str
    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One line of an account's reconciliation.

    Attributes:
        label: What the amounts are.
        ours: By fillpath.
        engines: By the engine; ``None`` if it does not say.
        difference: ``ours - engines``.
        passed: Whether they are equal; ``None`` if there is nothing to compare.
        cost: True if the amount is to be subtracted.
    """

    label: str
    ours: Decimal
    engines: Decimal | None
    difference: Decimal | None
    passed: bool | None
    cost: bool = False


PNL_PARTS: tuple[tuple[str, Callable[[PnlAmounts], Decimal]], ...] = (
    ("realized", lambda amounts: amounts.realized),
    ("unrealized", lambda amounts: amounts.unrealized),
    ("commission", lambda amounts: amounts.commission),
    ("rounding", lambda amounts: amounts.rounding),
    ("total", lambda amounts: amounts.total),
)


def account_lines(account: Account) -> tuple[AccountLine, ...]:
    """Return the lines of an account, from start to end balance."""
    ours, engines = account.fillpath, account.engine
    lines = [
        _line("Start balance", ours.start_balance, engines.start_balance),
        _line("P&L", ours.pnl, engines.pnl),
        _line("Commission", ours.commission, engines.commission, cost=True),
    ]
    if ours.open_positions:
        lines.append(_line("Open positions", ours.open_positions, None))
    if ours.other:
        lines.append(_line("Other changes", ours.other, None))
    lines.append(_line("End balance", ours.end_balance, engines.end_balance))
    return tuple(lines)


def _line(label: str, ours: Decimal, engines: Decimal | None, *, cost: bool = False) -> AccountLine:
    if engines is None:
        return AccountLine(label, ours, None, None, None, cost)
    difference = EXACT.subtract(ours, engines)
    return AccountLine(label, ours, engines, difference, not difference, cost)


def account_adds_up(account: Account) -> bool:
    """Tell whether start balance and changes give the end balance."""
    ours = account.fillpath
    changes = (
        ours.start_balance,
        ours.pnl,
        ours.commission.copy_negate(),
        ours.open_positions,
        ours.other,
    )
    return total(changes) == ours.end_balance


def completeness_holds(row: CompletenessRow) -> bool:
    """Tell whether published = kept + sampled out + dropped."""
    return row.published == row.kept + row.sampled_out + sum(row.dropped.values())


def pnl_adds_up(amounts: PnlAmounts) -> bool:
    """Tell whether the parts of a profit give its total."""
    parts = (
        amounts.realized,
        amounts.unrealized,
        amounts.commission.copy_negate(),
        amounts.rounding,
    )
    return total(parts) == amounts.total


def pnl_sum(rows: Iterable[PnlRow]) -> PnlAmounts:
    """Return the sum of rows of one currency."""
    amounts = [row.amounts for row in rows]
    return PnlAmounts(*(total(map(part, amounts)) for _, part in PNL_PARTS))


def orphans(trace: Trace) -> frozenset[str]:
    """Return the ids of the spans that name a parent which is not in the trace."""
    known = {span.span_id for span in trace.spans}
    return frozenset(
        span.span_id
        for span in trace.spans
        if span.parent_span_id is not None
        and span.parent_span_id not in known
        # Where a trace was divided, a link leads to the cause.
        and not any(link.span_id == span.parent_span_id for link in span.links)
    )


def report_checks(data: ReportData) -> tuple[Check, ...]:
    """Return every check of the report, in the order of its sections."""
    return (
        *_account_checks(data),
        *_completeness_checks(data),
        *_pnl_checks(data),
        *_order_checks(data),
        *_trace_checks(data),
    )


def _account_checks(data: ReportData) -> Iterator[Check]:
    for account in data.accounts:
        digits = currency_digits(account.currency, data.currency_digits)
        whose = f"{account.portfolio} in {account.currency}"
        yield Check(
            "accounts",
            f"{whose}: start balance and changes give the end balance",
            account_adds_up(account),
            f"end balance {money(account.fillpath.end_balance, digits)}",
        )
        compared = [line for line in account_lines(account) if line.passed is not None]
        wrong = [line for line in compared if not line.passed]
        yield Check(
            "accounts",
            f"{whose}: equal to the engine's own account",
            not wrong if compared else None,
            "; ".join(
                f"{line.label} differs by {money(line.difference or Decimal(0), digits)}"
                for line in wrong
            )
            or (
                f"{count(len(compared))} figures compared" if compared else "the engine gives none"
            ),
        )
        yield from _slices_against_account(data, account, digits)


def _slices_against_account(data: ReportData, account: Account, digits: int) -> Iterator[Check]:
    key = (account.portfolio, account.currency)
    rows = [row for row in data.pnl_by_portfolio if (row.portfolio, row.currency) == key]
    if not rows:
        return
    amounts = pnl_sum(rows)
    # What is realized of a position that is still open depends on the rule; with what it is worth
    # besides, first in first out and the engine's average cost are the same.
    costs = amounts.commission.copy_negate()
    slices = total((amounts.realized, amounts.unrealized, costs, amounts.rounding))
    known = account.fillpath
    change = total((known.pnl, known.unrealized, known.commission.copy_negate()))
    yield Check(
        "pnl",
        f"{account.portfolio} in {account.currency}: the P&L attributed is the account's",
        slices == change,
        f"attributed {money(slices, digits)}, account {money(change, digits)}",
    )


def _completeness_checks(data: ReportData) -> Iterator[Check]:
    rows = data.completeness
    if not rows:
        yield Check("completeness", "every event is accounted for", None, "nothing was counted")
        return
    wrong = [row for row in rows if not completeness_holds(row)]
    yield Check(
        "completeness",
        "published = kept + sampled out + dropped, for each kind and portfolio",
        not wrong,
        "; ".join(f"{row.event_type} in {row.portfolio}" for row in wrong)
        or f"{count(len(rows))} rows",
    )
    published = sum(row.published for row in rows)
    yield Check(
        "completeness",
        "the kinds add up to the run's events",
        published == data.run.events,
        f"{count(published)} of {count(data.run.events)}",
    )


def pnl_breakdowns(data: ReportData) -> tuple[tuple[str, tuple[PnlRow, ...]], ...]:
    """Return the breakdowns by name."""
    return (
        ("portfolio", data.pnl_by_portfolio),
        ("strategy", data.pnl_by_strategy),
        ("symbol", data.pnl_by_symbol),
    )


def _pnl_checks(data: ReportData) -> Iterator[Check]:
    for name, breakdown in pnl_breakdowns(data):
        for currency in sorted({row.currency for row in breakdown} | set(data.pnl_totals)):
            rows = [row for row in breakdown if row.currency == currency]
            if not rows:
                continue
            digits = currency_digits(currency, data.currency_digits)
            added, expected = pnl_sum(rows), data.pnl_totals.get(currency)
            yield Check(
                "pnl",
                f"P&L by {name} in {currency}: each row adds up, and the rows give the total",
                None
                if expected is None
                else added == expected and all(pnl_adds_up(row.amounts) for row in rows),
                f"rows {money(added.total, digits)}, total "
                + ("not given" if expected is None else str(money(expected.total, digits))),
            )


def _order_checks(data: ReportData) -> Iterator[Check]:
    if data.orders:
        counted = sum(row.count for row in data.orders)
        yield Check(
            "orders",
            "types and statuses add up to the run's orders",
            counted == data.run.orders,
            f"{count(counted)} of {count(data.run.orders)}",
        )


def _trace_checks(data: ReportData) -> Iterator[Check]:
    if data.traces:
        lost = sum(len(orphans(trace)) for trace in data.traces)
        yield Check(
            "traces",
            "every parent in the embedded traces exists",
            not lost,
            f"{count(lost)} orphans in {count(len(data.traces))} traces",
        )
