"""Attribution of a run: profit broken down so that it adds up, and held against the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.slices import HOLDING_CLASSES
from fillpath.instrumentation.errors import UsageError

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import PnlSum

KINDS: Final = (
    "realized",
    "unrealized",
    "commission",
    "cash_flow",
    "funding",
    "conversion",
    "rounding",
    "reclassified_realized",
    "reclassified_unrealized",
)
"""Kinds of amounts, as they are listed."""
_HALVES: Final = ("reclassified_realized", "reclassified_unrealized")


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One row of a breakdown.

    Attributes:
        names: The value of each dimension; ``None`` where a slice has none.
        amounts: By kind of slice.
    """

    names: dict[str, str | None]
    amounts: dict[str, Decimal]

    def of_netting(self) -> tuple[BreakdownRow | None, BreakdownRow | None]:
        """Divide it into what is only reclassified, if anything is, and the rest, if any."""
        moved = {k: a for k, a in self.amounts.items() if k in _HALVES}
        others = {k: a for k, a in self.amounts.items() if k not in _HALVES}
        return (
            BreakdownRow(self.names, moved) if moved else None,
            BreakdownRow(self.names, others) if others else None,
        )

    @property
    def amount(self) -> Decimal:
        """All kinds together."""
        with exact_arithmetic():
            return sum(self.amounts.values(), ZERO)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Profit of a run in one currency.

    Attributes:
        currency: Empty if the host names none.
        rows: They add up to `total` exactly.
    """

    currency: str
    rows: list[BreakdownRow]

    @property
    def total(self) -> Decimal:
        """The sum of the rows."""
        with exact_arithmetic():
            return sum((row.amount for row in self.rows), ZERO)

    def document(self) -> dict[str, Any]:
        """Give it as a document; the amounts as decimals."""
        return {
            "currency": self.currency or None,
            "total": self.total,
            "rows": [{**row.names, "amount": row.amount} for row in self.rows],
        }


def breakdowns(sums: Iterable[PnlSum], kinds: Collection[str] = ()) -> list[Breakdown]:
    """Put sums of a run's profit in order, by currency.

    Args:
        sums: What `ResultsManager.pnl_by` gives.
        kinds: Only amounts of these kinds; all when empty. `reclassification` is both its halves.

    Raises:
        UsageError: There is no such kind; lists them.
    """
    if "reclassification" in kinds:
        kinds = {*kinds, *_HALVES} - {"reclassification"}
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(
            f"There are no slices of kind {', '.join(unknown)}; there are {', '.join(KINDS)}.",
            next_command="--kind realized,commission",
        )
    by_currency: dict[str, dict[tuple[str | None, ...], BreakdownRow]] = {}
    for one in sums:
        amounts = {k: a for k, a in one.amounts.items() if not kinds or k in kinds}
        if not amounts:
            continue
        rows = by_currency.setdefault(one.currency, {})
        row = rows.setdefault(tuple(one.names.values()), BreakdownRow(dict(one.names), {}))
        with exact_arithmetic():
            for kind, amount in amounts.items():
                row.amounts[kind] = row.amounts.get(kind, ZERO) + amount
    return [
        Breakdown(currency, sorted(rows.values(), key=_place))
        for currency, rows in sorted(by_currency.items())
    ]


def _place(row: BreakdownRow) -> list[tuple[bool, int, str]]:
    """Sort by name, holding times by length, kinds as listed; what has none comes last."""
    known = {"holding_time": HOLDING_CLASSES, "kind": KINDS}
    return [
        (
            value is None,
            known[name].index(value) if name in known and value in known[name] else 0,
            value or "",
        )
        for name, value in row.names.items()
    ]


# -- Against the engine ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure by two ways.

    Attributes:
        figure: What is compared.
        amount: By how much they differ; nothing where it cannot be told, or cancels in the end.
        flagged: Whether nothing explains it.
        words: Why they differ, a sentence.
    """

    figure: str
    amount: Decimal
    flagged: bool
    words: str


def rule_of(account: AccountReconciliation) -> str:
    """Name the rule that an account is reckoned by, as its engine does."""
    if account.status is ReconciliationStatus.NO_STATEMENT or account.end is None:
        return "none"
    if account.account_type in {"CASH", "BETTING"}:
        return "broker cash"
    if account.account_type == "MARGIN" or not account.held:
        return "average cost"
    return "broker cash"


def ledger_end(account: AccountReconciliation) -> Decimal | None:
    """The balance at the end as it follows from the ledger."""
    if account.end is None:
        return None
    with exact_arithmetic():
        return account.end - account.difference


def differences(account: AccountReconciliation, reclassified: Decimal = ZERO) -> list[Difference]:
    """Explain every difference between the engine, the ledger and the lots, or flag it.

    Args:
        account: The account.
        reclassified: What the positions that strategies share have realized beyond their own lots.
    """
    failed = account.status is ReconciliationStatus.FAILED
    found = []
    with exact_arithmetic():
        words = " ".join(account.notes) or "Nothing explains it."
        opened = account.engine_unrealized
        if account.difference:
            found.append(Difference("change", account.difference, True, words))
        elif failed and opened is not None and opened != account.unrealized:
            found.append(Difference("unrealized", opened - account.unrealized, True, words))
        elif failed:
            figure = "fills" if account.end is None else "statements"
            found.append(Difference(figure, ZERO, True, words))
        told = account.engine_realized
        if told is not None and told != account.realized:
            words = "The engine's positions round or convert each fill by themselves."
            found.append(Difference("realized", told - account.realized, False, words))
        moved = account.realized - account.realized_fifo
        rest = moved + account.unrealized - account.unrealized_fifo
        if moved:
            earlier = "more" if moved > 0 else "less"
            words = (
                f"Average cost has realized {abs(moved)} {earlier} than first in first out by now; "
                + (
                    "realized and unrealized together agree."
                    if not rest
                    else f"together they differ by {rest}, which is under rounding and conversion."
                )
            )
            found.append(Difference("realized_fifo", moved, False, words))
        elif rest:
            words = f"{rest} is under rounding and conversion: the engine rounds fill by fill."
            found.append(Difference("unrealized_fifo", rest, False, words))
        if reclassified:
            earlier = "more" if reclassified > 0 else "less"
            words = (
                f"Positions that strategies share have realized {abs(reclassified)} {earlier} than "
                "the strategies' own lots; it is reclassified from unrealized and changes no total."
            )
            found.append(Difference("reclassified", reclassified, False, words))
    return [*found, *_parts(account)]


def _parts(account: AccountReconciliation) -> Iterable[Difference]:
    """What of the account's change is no profit of trades, each with its reason."""
    reasons = {
        "rounding": "The engine rounds each booking to the currency.",
        "conversion": "Exchange rates moved between bookings, or a commission was paid in kind.",
        "funding": "Financing: the account changed by a little of what is held, without a fill or "
        "a cash flow that the host published.",
        "cash_flow": "Dividends, interest, fees and the like, as the host published them.",
        "transfers": "Deposits less withdrawals; they are no profit.",
        "held": "What is held has its cost in the account, has been paid its profit already, or is "
        "itself a currency.",
        "not_booked": "The engine's balance leaves it out by a rule of its own.",
    }
    for figure, words in reasons.items():
        amount = getattr(account, figure)
        if amount:
            yield Difference(figure, amount, False, words)


def account_document(
    account: AccountReconciliation, reclassified: Decimal = ZERO
) -> dict[str, Any]:
    """Give one account and currency as a document; `reclassified` as for `differences`."""
    end = ledger_end(account)
    with exact_arithmetic():
        change = None if end is None or account.start is None else end - account.start
    names = ("commission", "cash_flow", "funding", "conversion", "rounding")
    return {
        "portfolio": account.portfolio,
        "account_id": account.account_id or None,
        "account_type": account.account_type or None,
        "currency": account.currency or None,
        "status": account.status.value,
        "rule": rule_of(account),
        "engine": {
            "start": account.start,
            "end": account.end,
            "change": account.change,
            "realized": account.engine_realized,
            "unrealized": account.engine_unrealized,
        },
        "ledger": {
            "start": account.start,
            "end": end,
            "change": change,
            "realized": account.realized,
            "unrealized": account.unrealized,
            **{name: getattr(account, name) for name in names},
            "transfers": account.transfers,
            "held": account.held,
            "not_booked": account.not_booked,
        },
        "fifo": {"realized": account.realized_fifo, "unrealized": account.unrealized_fifo},
        "difference": account.difference,
        "differences": [
            {
                "figure": one.figure,
                "amount": one.amount,
                "flagged": one.flagged,
                "explanation": one.words,
            }
            for one in differences(account, reclassified)
        ],
        "notes": list(account.notes),
    }


def reclassifications(sums: Iterable[PnlSum]) -> dict[tuple[str, str, str], Decimal]:
    """Tell what was reclassified to realized, by portfolio, account and currency.

    Args:
        sums: The run's profit by portfolio and account.
    """
    return {
        _account_key(one): one.amounts[_HALVES[0]] for one in sums if one.amounts.get(_HALVES[0])
    }


def _account_key(one: PnlSum) -> tuple[str, str, str]:
    return one.names["portfolio"] or "", one.names["account"] or "", one.currency


def unattributed(accounts: Sequence[AccountReconciliation], sums: Iterable[PnlSum]) -> list[str]:
    """Say in sentences where the slices of an account do not add up to it; nothing if they do.

    Args:
        accounts: Every account.
        sums: The run's profit by portfolio and account.
    """
    attributed = {_account_key(one): one.total for one in sums}
    found = []
    with exact_arithmetic():
        for account in accounts:
            key = (account.portfolio, account.account_id, account.currency)
            expected = account.profit + account.unrealized
            amount = attributed.pop(key, ZERO)
            if amount != expected:
                found.append(
                    f"The slices of {account.portfolio} {account.account_id} come to {amount} "
                    f"{account.currency}, its account to {expected}."
                )
    found += [f"{amount} {key[2]} of {key[0]} belongs to no account." for key, amount
              in attributed.items() if amount]  # fmt: skip
    return found
