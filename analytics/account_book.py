"""One account: what the ledger says each fill did to it, held against the engine's statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from fillpath.analytics.bookings import Amounts, Explanation, Rule, bring, explain, rules_for
from fillpath.analytics.exact import ZERO, quotient, rounded, trimmed
from fillpath.analytics.exchange_rates import MarketRates, foreign_currencies
from fillpath.analytics.ledger_events import AccountEvent, SpanRef
from fillpath.analytics.position_book import Execution, HoldingKey
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.round_trips import RoundTrip

SliceKind = Literal["realized", "unrealized", "commission", "rounding", "conversion", "funding"]

_MAX_NOTES: Final = 5


@dataclass(frozen=True, slots=True)
class Slice:
    """One amount of profit; any breakdown is a sum of these.

    Attributes:
        ref: The span that brought it about: the fill, the price it is valued at, or the account.
        strategy: Empty if none.
        symbol: Empty if none.
        currency: Currency of the amount.
        kind: `commission` is negative for a cost.
        amount: As the account feels it.
        fill_id: The venue's id of the fill, if it was one.
    """

    ref: SpanRef
    strategy: str
    symbol: str
    currency: str
    kind: SliceKind
    amount: Decimal
    fill_id: str | None = None


@dataclass(slots=True)
class _Sums:
    """What makes up one currency of the account."""

    realized: Decimal = ZERO
    commission: Decimal = ZERO
    rounding: Decimal = ZERO
    conversion: Decimal = ZERO
    funding: Decimal = ZERO
    held: Decimal = ZERO
    not_booked: Decimal = ZERO
    difference: Decimal = ZERO
    engine_realized: Decimal | None = None

    @property
    def explained(self) -> Decimal:
        """The change of the balance that they make."""
        parts = (self.realized, self.commission, self.rounding, self.conversion, self.funding)
        return sum(parts, ZERO) + self.held + self.not_booked


@dataclass(slots=True)
class AccountBook:
    """Follows one account of one portfolio.

    Attributes:
        portfolio: Namespace.
        account_id: The engine's id; empty if the engine keeps no account.
        digits: Decimal places by currency.
        states_expected: Whether the engine makes statements that can be compared.
        account_type: By the statements.
        base_currency: By the statements.
        slices: Every amount so far.
        market_rates: Rates by the run's market data, if there is something to convert.
    """

    portfolio: str
    account_id: str
    digits: Mapping[str, int]
    states_expected: bool
    account_type: str = ""
    base_currency: str | None = None
    slices: list[Slice] = field(default_factory=list)
    market_rates: MarketRates | None = None
    _start: dict[str, Decimal] = field(default_factory=dict)
    _totals: dict[str, Decimal] = field(default_factory=dict)
    _stated: bool = False
    _never_moved: bool = True
    _pending: list[Execution] = field(default_factory=list)
    _rates: dict[str, Decimal] = field(default_factory=dict)
    _converted_basis: dict[HoldingKey, Decimal] = field(default_factory=dict)
    _sums: dict[str, _Sums] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _remarks: set[str] = field(default_factory=set)

    def execute(self, execution: Execution) -> None:
        """Take a fill; it is booked when a statement shows how."""
        if execution.differs:
            self._failures.append(f"{execution.differs[0].upper()}{execution.differs[1:]}.")
        if self.states_expected:
            self._pending.append(execution)
        else:
            self._book([execution], None)

    def state(self, event: AccountEvent) -> None:
        """Take a statement of the engine."""
        totals = {currency: balance.total for currency, balance in event.balances.items()}
        if not self._stated:
            self._open(event, totals)
            return
        change = {
            currency: total - self._totals.get(currency, ZERO)
            for currency, total in totals.items()
            if total != self._totals.get(currency, ZERO)
        }
        self._never_moved = self._never_moved and not change
        if self._pending:
            if not self._settle(change):
                return
        else:
            for currency, amount in change.items():
                exact = trimmed(amount, self.digits[currency])
                self._add(Slice(event.ref, "", "", currency, "funding", exact))
        self._totals.update(totals)

    def _open(self, event: AccountEvent, totals: dict[str, Decimal]) -> None:
        self._stated = True
        self.account_type = event.account_type
        self.base_currency = event.base_currency
        self._totals = dict(totals)
        self._start = dict(totals)
        if not self._pending:
            return
        # Recording began when the account already traded: where it stood before is reckoned back.
        self._remarks.add("The first statement came after the first fill.")
        self._book(self._pending, None)
        self._pending = []
        for currency, sums in self._sums.items():
            self._start[currency] = totals.get(currency, ZERO) - sums.explained

    def _settle(self, change: Amounts) -> bool:
        """Book the fills that wait, if the change follows from them.

        Returns:
            False if the statement is still the one from before the fills.
        """
        if not change and len(self._pending) > 1:
            return False
        for skipped in range(len(self._pending)):
            taken = self._pending[skipped:]
            explanation = self._explain(taken, change)
            if explanation is None:
                continue
            if skipped:
                # These never showed up in the account.
                self._book(self._pending[:skipped], None, {})
            self._book(taken, explanation)
            self._pending = []
            return True
        if not change:
            return False
        self._book(self._pending, None, change)
        self._pending = []
        return True

    def _explain(self, executions: Sequence[Execution], change: Amounts) -> Explanation | None:
        market: list[dict[str, Decimal]] = []
        if self.base_currency is not None and self.market_rates is not None:
            fill = executions[-1].fill
            sides = {
                currency: self.market_rates.at(fill, (currency, self.base_currency))
                for currency in foreign_currencies(fill, self.base_currency)
            }
            market = [
                {currency: rates[side] for currency, rates in sides.items() if rates}
                for side in range(max(map(len, sides.values()), default=0))
            ]
        return explain(
            executions,
            change,
            account_type=self.account_type,
            base_currency=self.base_currency,
            digits=self.digits,
            last_rates=self._rates,
            market_rates=market,
        )

    def finish(self) -> None:
        """No more statements come."""
        if not self._pending:
            return
        if self._stated and self._never_moved and not self._needs_rates():
            self._remarks.add("The account never changed: the engine keeps it frozen.")
            self.states_expected = False
            self._book(self._pending, None)
            self._pending = []
            return
        explanation = self._explain(self._pending, {})
        if explanation is None:
            count = len(self._pending)
            self._failures.append(
                f"The account does not show the last {count} fill{'s' * (count > 1)}."
            )
        self._book(self._pending, explanation, {})
        self._pending = []

    def _needs_rates(self) -> bool:
        """Whether the engine may have failed to book for want of an exchange rate."""
        return self.base_currency is not None and any(
            currency != self.base_currency
            for e in self._pending
            for currency in (e.fill.settlement_currency, e.fill.commission_currency)
        )

    # -- Booking --------------------------------------------------------------------------------

    def _book(
        self,
        executions: Sequence[Execution],
        explanation: Explanation | None,
        change: Amounts | None = None,
    ) -> None:
        """Turn fills into amounts.

        Args:
            executions: The fills.
            explanation: How the account's change follows from them; the likeliest rule if None.
            change: The account's change where nothing explains it; None if there is none to
                compare with.
        """
        if explanation is None:
            has_base = self.base_currency is not None
            # Without statements to compare with, only profits are of interest.
            kind = self.account_type if self.states_expected else ""
            rules: tuple[Rule, ...] = tuple(
                rules_for(e, kind, has_base=has_base, digits=self.digits)[0] for e in executions
            )
            rates: Amounts = self._rates
        else:
            rules, rates = explanation.rules, explanation.rates
            if explanation.is_sharp:
                self._rates.update(rates)
        before = {currency: sums.explained for currency, sums in self._sums.items()}
        for execution, rule in zip(executions, rules, strict=True):
            if rule.not_booked:
                self._remarks.add(f"The engine books some fills by the rule: {rule.name}.")
            self._book_one(execution, rule, rates, rounds_later=explanation is not None)
        actual = explanation.change if explanation else change
        if actual is None:
            return
        last = executions[-1]
        for currency in sorted({*self._sums, *actual}):
            explained = self._sum(currency).explained - before.get(currency, ZERO)
            left_over = actual.get(currency, ZERO) - explained
            if not left_over:
                continue
            if explanation is None:
                self._sum(currency).difference += left_over
                self._failures.append(
                    f"The account changed by {actual.get(currency, ZERO)} {currency} at fill "
                    f"{last.fill.fill_id}, {explained} follows from it."
                )
            else:
                self._slice(last, currency, "conversion" if rates else "rounding", left_over)

    def _book_one(
        self, execution: Execution, rule: Rule, rates: Amounts, *, rounds_later: bool
    ) -> None:
        fill = execution.fill
        self._note_engine(execution, rates)
        if rule.pays_notional:
            self._book_notional(execution, rule, rates, rounds_later=rounds_later)
        elif execution.closed:
            currency, amount = self._converted(
                fill.settlement_currency, execution.booked_realized, rates
            )
            self._realize(execution, currency, amount)
        if fill.commission:
            currency, amount = self._converted(fill.commission_currency, fill.commission, rates)
            self._slice(execution, currency, "commission", -amount)
            self._charge_trips(execution, currency, amount)

    def _book_notional(
        self, execution: Execution, rule: Rule, rates: Amounts, *, rounds_later: bool
    ) -> None:
        """Book a fill whose whole price was paid: a holding keeps its cost in the account."""
        fill = execution.fill
        flow = rule.amounts[fill.currency] + rule.not_booked
        currency, paid = self._converted(fill.currency, flow, rates)
        _, realized = self._converted(fill.currency, execution.booked_realized, rates)
        legs = {c: a for c, a in rule.amounts.items() if c != fill.currency}
        paid_in_kind = ZERO
        if currency == fill.currency:
            places = self.digits[currency]
            basis_change = rounded(execution.basis_after, places) - rounded(
                execution.basis_before, places
            )
            if legs:
                paid_in_kind = rounded(execution.restated, places)
        else:
            basis_change = self._change_converted_basis(execution, paid, currency)
        if execution.closed:
            self._realize(execution, currency, realized)
        self._slice(execution, currency, "conversion", paid_in_kind)
        if not rounds_later:
            rest = paid + basis_change - (realized if execution.closed else ZERO) - paid_in_kind
            kind: SliceKind = "rounding" if currency == fill.currency else "conversion"
            self._slice(execution, currency, kind, rest)
        sums = self._sum(currency)
        sums.held -= basis_change
        sums.not_booked -= self._converted(fill.currency, rule.not_booked, rates)[1]
        for leg, amount in legs.items():
            self._sum(leg).held += amount + execution.restated_quantity
            self._slice(execution, leg, "conversion", -execution.restated_quantity)

    def _change_converted_basis(
        self, execution: Execution, paid: Decimal, currency: str
    ) -> Decimal:
        """Change what a holding cost in the account's currency, where the price is in another."""
        fill = execution.fill
        places = self.digits[currency]
        before = self._converted_basis.get(execution.holding, ZERO)
        after = before
        if execution.closed:
            left = execution.held_before - execution.closed
            after = rounded(quotient(before * left, execution.held_before), places)
        opened = fill.quantity - execution.closed
        after -= rounded(quotient(paid * opened, fill.quantity), places)
        self._converted_basis[execution.holding] = after
        return after - before

    def _converted(self, currency: str, amount: Decimal, rates: Amounts) -> tuple[str, Decimal]:
        return bring(currency, amount, self.base_currency, rates, self.digits)

    def _realize(self, execution: Execution, currency: str, amount: Decimal) -> None:
        self._slice(execution, currency, "realized", amount)
        trip = execution.exit_of
        if trip is not None:
            trip.realize(amount, currency)

    def _charge_trips(self, execution: Execution, currency: str, amount: Decimal) -> None:
        """Share a commission between what the fill closed and what it opened."""
        fill = execution.fill
        shares: list[tuple[RoundTrip | None, Decimal]] = [(execution.entry_of, amount)]
        if execution.exit_of is not None:
            part = quotient(amount * execution.closed, fill.quantity)
            closing = amount
            if execution.entry_of is not None:
                closing = rounded(part, self.digits[currency])
            shares = [(execution.exit_of, closing), (execution.entry_of, amount - closing)]
        for trip, share in shares:
            if trip is not None:
                trip.charge(share, currency)

    def _note_engine(self, execution: Execution, rates: Amounts) -> None:
        """Add up what the engine's position events say, where it is in the account's currency."""
        if execution.engine_realized is None:
            return
        currency = execution.fill.settlement_currency
        if self._converted(currency, ZERO, rates)[0] == currency:
            sums = self._sum(currency)
            sums.engine_realized = (sums.engine_realized or ZERO) + execution.engine_realized

    def value(
        self, ref: SpanRef, trip: RoundTrip, currency: str, profit: Decimal
    ) -> tuple[str, Decimal]:
        """Add the unrealised profit of a position that is still open.

        Args:
            ref: The span of the price.
            trip: The position.
            currency: Currency of the profit.
            profit: Exact.

        Returns:
            Currency and amount of what was added.
        """
        currency, amount = self._converted(
            currency, rounded(profit, self.digits[currency]), self._rates
        )
        opened_by = trip.opened_by
        self.slices.append(
            Slice(ref, opened_by.strategy, opened_by.symbol, currency, "unrealized", amount)
        )
        return currency, amount

    def _slice(self, execution: Execution, currency: str, kind: SliceKind, amount: Decimal) -> None:
        if not amount and kind != "realized":
            return
        fill = execution.fill
        exact = trimmed(amount, self.digits[currency])
        self._add(Slice(fill.ref, fill.strategy, fill.symbol, currency, kind, exact, fill.fill_id))

    def _add(self, new: Slice) -> None:
        self.slices.append(new)
        sums = self._sum(new.currency)
        setattr(sums, new.kind, getattr(sums, new.kind) + new.amount)

    def _sum(self, currency: str) -> _Sums:
        return self._sums.setdefault(currency, _Sums())

    # -- What comes of it -----------------------------------------------------------------------

    def rate_of(self, currency: str) -> tuple[str, Decimal]:
        """Tell the currency that an amount comes to in this account, and the last rate for it."""
        base = self.base_currency
        if base is None or currency == base or currency not in self._rates:
            return currency, Decimal(1)
        return base, self._rates[currency]

    def invested(self, currency: str) -> Decimal:
        """What the account's balance lacks of its value: the cost of what is held."""
        return -self._sum(currency).held

    def reconciliations(self, notes: Sequence[str] = ()) -> list[AccountReconciliation]:
        """Compare, by currency.

        Args:
            notes: Further reasons why the account cannot be trusted.
        """
        failures = [*notes, *self._failures]
        if len(failures) > _MAX_NOTES:
            rest = len(failures) - _MAX_NOTES
            failures = [*failures[:_MAX_NOTES], f"And {rest} more like these."]
        rows = []
        for currency in sorted({*self._sums, *self._totals}):
            sums, places = self._sum(currency), self.digits[currency]
            start, end = self._start.get(currency), self._totals.get(currency)
            engines = sums.engine_realized
            if not self.states_expected or not self._stated:
                status = ReconciliationStatus.NO_STATEMENT
            elif failures or sums.difference:
                status = ReconciliationStatus.FAILED
            else:
                status = ReconciliationStatus.RECONCILED
                start, end = start or ZERO, end or ZERO
            rows.append(
                AccountReconciliation(
                    portfolio=self.portfolio,
                    account_id=self.account_id,
                    account_type=self.account_type,
                    currency=currency,
                    status=status,
                    start=start,
                    end=end,
                    realized=sums.realized,
                    commission=sums.commission,
                    rounding=sums.rounding,
                    conversion=sums.conversion,
                    funding=sums.funding,
                    held=trimmed(sums.held, places),
                    not_booked=trimmed(sums.not_booked, places),
                    difference=trimmed(sums.difference, places),
                    engine_realized=engines if engines is None else trimmed(engines, places),
                    notes=(*failures, *sorted(self._remarks)),
                )
            )
        return rows
