"""The ledger beside the engine's own account statement: equal, or the difference and why."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from fillpath.analytics.exact import ZERO


class ReconciliationStatus(StrEnum):
    """What comes of comparing."""

    RECONCILED = "reconciled"
    """Every amount of the account follows from the ledger."""
    FAILED = "failed"
    """It does not; the difference and the reasons are told."""
    NO_STATEMENT = "no account statement"
    """The engine said nothing about its account, or keeps it frozen."""


@dataclass(frozen=True, slots=True)
class AccountReconciliation:
    """One account in one currency, by the engine and by the ledger.

    ``end = start + realized + commission + rounding + conversion + funding + cash_flow + transfers
    + held + not_booked + difference``; all amounts as the account feels them: a cost is negative.

    Attributes:
        portfolio: Namespace.
        account_id: The engine's id of the account; empty if it has none.
        account_type: `CASH`, `MARGIN`, `BETTING`, or empty.
        currency: Currency of the amounts.
        status: What came of it.
        start: Balance at the start, by the engine.
        end: Balance at the end, by the engine.
        realized: Profit of what was closed, before commission, by the engine's own rule.
        commission: Commissions.
        rounding: What the account's own rounding added or took away.
        conversion: What changes of exchange rates added or took away.
        funding: Changes of the account without a fill that pass as financing, such as interest.
        cash_flow: Dividends and the like, as the host gave them.
        transfers: Deposits less withdrawals: no profit.
        unrealized: Profit of what is open, at the last prices, by the engine's own rule.
        realized_fifo: Profit of what was closed, before commission, first in first out.
        unrealized_fifo: Profit of what is open, first in first out.
        engine_unrealized: Profit of what is open by the engine's own statement, if it tells one.
        held: What is still held: minus its cost where the whole price is paid, plus the quantity
            where the currency itself is what was bought.
        not_booked: What the engine leaves out by a rule of its own.
        difference: What nothing explains.
        engine_realized: Profit of what was closed, before commission, added up from the engine's
            position events; ``None`` if it does not tell it in this currency.
        notes: Why it failed, and what a reader should know; each a sentence.
    """

    portfolio: str
    account_id: str
    account_type: str
    currency: str
    status: ReconciliationStatus
    start: Decimal | None = None
    end: Decimal | None = None
    realized: Decimal = ZERO
    commission: Decimal = ZERO
    rounding: Decimal = ZERO
    conversion: Decimal = ZERO
    funding: Decimal = ZERO
    held: Decimal = ZERO
    not_booked: Decimal = ZERO
    difference: Decimal = ZERO
    engine_realized: Decimal | None = None
    cash_flow: Decimal = ZERO
    transfers: Decimal = ZERO
    unrealized: Decimal = ZERO
    realized_fifo: Decimal = ZERO
    unrealized_fifo: Decimal = ZERO
    engine_unrealized: Decimal | None = None
    notes: tuple[str, ...] = ()

    @property
    def change(self) -> Decimal | None:
        """How much the balance changed, by the engine."""
        if self.start is None or self.end is None:
            return None
        return self.end - self.start

    @property
    def profit(self) -> Decimal:
        """What the ledger calls profit and the balance shows: neither held nor missing."""
        booked = self.realized + self.commission + self.rounding + self.conversion
        return booked + self.funding + self.cash_flow
