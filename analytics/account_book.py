"""One account: what the ledger says each fill did to it, held against the engine's statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from fillpath.analytics.account_entries import AccountEntries, Sums
from fillpath.analytics.bookings import Amounts, Explanation, Rule, explain, rules_for
from fillpath.analytics.exact import ZERO, minor_unit, rounded, trimmed
from fillpath.analytics.exchange_rates import MarketRates, foreign_currencies
from fillpath.analytics.ledger_events import (
    PLACES_OF_A_DOUBLE,
    AccountEvent,
    CashFlowEvent,
    FillEvent,
    SpanRef,
)
from fillpath.analytics.position_book import FLOAT_NOISE, Execution, HoldingKey
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.slices import SliceKind
from fillpath.analytics.unexplained_changes import UnexplainedChange, UnexplainedChanges
from fillpath.analytics.variation_margin import VariationMargin
from fillpath.analytics.waiting_flows import WaitingFlows
from fillpath.analytics.ways_to_take import MOST_IN_A_QUEUE, ways_to_take

_MAX_NOTES: Final = 5
_FINANCING: Final = Decimal("0.02")
"""More than this part of what is held is no interest or financing of one statement.

A fill that is missing changes an account as well. Where the engine tells its positions, these would
show it; where it does not, no change passes as financing.
"""


@dataclass(slots=True)
class AccountBook:
    """Follows one account of one portfolio.

    Attributes:
        portfolio: Namespace.
        account_id: The engine's id; empty if the engine keeps no account.
        digits: Decimal places by currency.
        states_expected: Whether the engine makes statements that can be compared.
        market_rates: Rates by the run's market data.
        account_type: By the statements.
        entries: Every amount so far.
        fifo: Realised and unrealised profit by currency, first in first out, when it is reckoned.
        settled_late: What closed contracts were seen to have been paid too little when no more
            statements came, by currency; the last of them counted it as held.
    """

    portfolio: str
    account_id: str
    digits: Mapping[str, int]
    states_expected: bool
    market_rates: MarketRates | None = None
    account_type: str = ""
    entries: AccountEntries = field(init=False)
    fifo: tuple[Amounts, Amounts] = field(default_factory=lambda: ({}, {}))
    settled_late: Amounts = field(default_factory=dict)
    _start: dict[str, Decimal] = field(default_factory=dict)
    _totals: dict[str, Decimal] = field(default_factory=dict)
    _stated: bool = False
    _never_moved: bool = True
    _positions_told: bool = True
    _doubt: dict[str, Decimal] = field(default_factory=dict)
    _pending: list[Execution] = field(default_factory=list)
    _passed_over: int = 0
    _flows: WaitingFlows = field(init=False)
    _margin: VariationMargin = field(default_factory=VariationMargin)
    _last_stated: int = -1
    _bases: dict[HoldingKey, Decimal] = field(default_factory=dict)
    _unexplained: UnexplainedChanges = field(init=False)
    _tried: UnexplainedChange | None = None
    _states_first: bool = False
    _last_fill: int = -1
    _unrealized: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _remarks: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entries = AccountEntries(self.digits)
        self._flows = WaitingFlows(self.entries, self.digits)
        self._unexplained = UnexplainedChanges(self.entries)

    @property
    def base_currency(self) -> str | None:
        """The one currency the account is kept in, by the statements."""
        return self.entries.base_currency

    @property
    def is_stated(self) -> bool:
        """Whether the engine's statements tell what the account's fills came to."""
        return self.states_expected and self._stated

    @property
    def has_failed(self) -> bool:
        """Whether its statements do not follow from its fills."""
        has_difference = any(sums.difference for sums in self.entries.sums.values())
        failures = (*self._failures, *self._unexplained.sentences())
        return self.is_stated and (bool(failures) or has_difference)

    def remark(self, sentence: str) -> None:
        """Add what a reader should know."""
        self._remarks.add(sentence)

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """The totals of the last statement, by currency."""
        return self._totals

    def execute(self, execution: Execution) -> None:
        """Take a fill; it is booked when a statement shows how."""
        execution = self._margin.take(execution)
        self._last_fill = execution.fill.ref.sequence
        self._positions_told = self._positions_told and execution.is_told
        self._bases.pop(execution.closing, None)
        self._bases[execution.holding] = abs(execution.basis_after)
        if execution.differs:
            self._failures.append(f"{execution.differs[0].upper()}{execution.differs[1:]}.")
        if self.states_expected:
            self._pending.append(execution)
        else:
            self._book([execution], None)

    def leave_out(self, fill: FillEvent) -> None:
        """Take a fill that the engine did not finish."""
        self._remarks.add(
            f"The engine stopped half-way through fill {fill.fill_id}: neither its positions nor "
            "its account know of it, so it is not counted."
        )

    def state(self, event: AccountEvent) -> None:
        """Take a statement of the engine."""
        totals = {currency: balance.total for currency, balance in event.balances.items()}
        if not self._stated:
            self._open(event, totals)
            self._note_unrealized(event)
            return
        change = {
            currency: total - self._totals.get(currency, ZERO)
            for currency, total in totals.items()
            if total != self._totals.get(currency, ZERO)
        }
        held = sum(self._bases.values(), ZERO)  # with leverage, that is more than the balance
        self._doubt = {
            currency: minor_unit(PLACES_OF_A_DOUBLE)
            + max(abs(balance.total), abs(self._totals.get(currency, ZERO)), held) * FLOAT_NOISE
            for currency, balance in event.balances.items()
            if balance.is_double
        }
        self._never_moved = self._never_moved and not change
        self._note_unrealized(event)
        self._last_stated = event.ref.sequence
        self._take_change(event, change)
        self._totals.update(totals)

    def _note_unrealized(self, event: AccountEvent) -> None:
        for currency, amount in event.unrealized.items():
            balance = event.balances.get(currency)
            is_double = balance is not None and balance.is_double
            told = rounded(amount, PLACES_OF_A_DOUBLE) if is_double else amount
            self._unrealized[currency] = event.ref.sequence, told

    def _engine_unrealized(self, currency: str) -> Decimal | None:
        """Give the open profit by the engine, where it stated one at the prices of the end.

        One that was stated before the last fill or the last price is told in a remark.
        """
        if currency not in self._unrealized:
            return None
        sequence, amount = self._unrealized[currency]
        held = [one.ref.sequence for one in self.entries.valuations if one.currency == currency]
        if max([self._last_fill, *held]) > sequence:
            self._remarks.add(
                f"The engine last stated an unrealized P&L ({amount} {currency}) before the last "
                "fill or price."
            )
            return None
        places = self.digits[currency]
        ours = (self.entries.unrealized(currency), self.fifo[1].get(currency, ZERO))
        allowed = minor_unit(places) + self._doubt.get(currency, ZERO)
        if all(abs(rounded(amount, places) - one) > allowed for one in ours):
            self._failures.append(
                f"The engine states an unrealized P&L of {amount} {currency}; by the last prices "
                f"it is {ours[0]}."
            )
        return amount

    def settle_stated_first(self) -> list[SpanRef]:
        """Book the fills that earlier statements have shown before these were published.

        Only an exact match will do. What is booked twice or never shows up in the sum, so that no
        statement can be right by this that is not.

        Returns:
            The statements that are explained by it.
        """
        settled = []
        self._tried = None
        while self._unexplained.waiting and self._pending[self._passed_over :]:
            stated = self._unexplained.waiting.pop(0)
            fresh = self._pending[self._passed_over :]
            for count in (len(fresh), *range(1, min(len(fresh), MOST_IN_A_QUEUE))):
                explanation = self._explain(fresh[:count], dict(stated.amounts), may_solve=False)
                if explanation is not None:
                    settled.append(stated.ref)
                    self._unexplained.take_back(stated)
                    self._book(fresh[:count], explanation)
                    del self._pending[self._passed_over : self._passed_over + count]
                    self._states_first = True
                    break
            else:
                self._tried = stated
        return settled

    def _leave_unexplained(
        self, event: AccountEvent, change: Amounts, *, may_be_financing: bool
    ) -> None:
        """Take a change that no event explains yet: as financing, or as a difference."""
        held = sum(self._bases.values(), ZERO) if self._positions_told else ZERO
        may_pass = may_be_financing and self.account_type != "CASH"
        as_funding = {c for c, amount in change.items() if abs(amount) <= held * _FINANCING}
        self._unexplained.add(event.ref, change, as_funding if may_pass else ())

    def _take_change(self, event: AccountEvent, change: Amounts) -> None:
        """Find the cash flows and fills that a change of the account shows, and book them."""
        for count in range(len(self._flows), -1, -1):
            left = self._flows.less(change, count)
            if count and self._is_noise(left) and not self._pending[self._passed_over :]:
                self.entries.round_off(self._flows[count - 1].ref, left)
                self._flows.book(count)
                return
            if self._settle(left):
                self._flows.book(count)
                return
        fresh = self._pending[self._passed_over :]
        # A cash flow that the host told is more certain than a rule that has to be guessed.
        left = self._flows.less(change, len(self._flows) if change else 0)
        if change:
            self._flows.book()
        if fresh and left:
            self._pending = self._pending[: -len(fresh)]
            if self._tried is not None and self._states_first:
                # The statement before these fills was theirs, and wrong; this one is of others.
                amounts = dict(self._tried.amounts)
                self._unexplained.take_back(self._tried)
                self._book(fresh, None, amounts)
            elif (explanation := self._explain(fresh, {}, may_solve=False)) is not None:
                # They come to nothing, which the statement before them may have shown.
                self._book(fresh, explanation)
            else:
                self._book(fresh, None, left)
                return
            self._leave_unexplained(event, left, may_be_financing=False)
            return
        self._passed_over = len(self._pending)
        if self._is_noise(left):
            self.entries.round_off(event.ref, left)
        else:
            self._leave_unexplained(event, left, may_be_financing=True)

    def flow(self, event: CashFlowEvent) -> None:
        """Take a cash flow of the host; a statement may show it before or after."""
        self._margin.note(event)
        if not self.states_expected:
            self.entries.flow(event, event.currency, event.amount)
            return
        currency, amount = self._flows.amount(event)
        if self._unexplained.explained_by(currency, amount):
            self.entries.flow(event, currency, amount)
            return
        self._flows.add(event)

    def _is_noise(self, left: Amounts) -> bool:
        """Whether a change is no more than what adding up doubles may leave."""
        return all(abs(amount) <= self._doubt.get(c, ZERO) for c, amount in left.items())

    def _open(self, event: AccountEvent, totals: dict[str, Decimal]) -> None:
        self._stated = True
        self.account_type = event.account_type
        self.entries.base_currency = event.base_currency
        self._totals = dict(totals)
        self._start = dict(totals)
        self._last_stated = event.ref.sequence
        if not self._pending and not self._flows:
            return
        # Recording began when the account already traded: where it stood before is reckoned back.
        if self._pending:
            self._remarks.add("The first statement came after the first fill.")
            self._book(self._pending, None)
            self._pending = []
        self._flows.book()
        for currency, amount in self.entries.explained().items():
            self._start[currency] = totals.get(currency, ZERO) - amount

    def _settle(self, change: Amounts) -> bool:
        """Book the fills that wait, if the change follows from them.

        A statement may follow several fills, or the first of several that are still to be stated;
        a fill that a statement has passed over may show up in a later one, or never.

        Returns:
            False if the change does not follow from fills.
        """
        passed, fresh = self._pending[: self._passed_over], self._pending[self._passed_over :]
        for before, taken, after, may_solve in ways_to_take(
            passed, fresh, has_changed=bool(change)
        ):
            explanation = self._explain(taken, change, may_solve=may_solve)
            if explanation is not None:
                self._book(taken, explanation)
                self._pending = [*before, *after]
                self._passed_over = len(before)
                return True
        return False

    def _explain(
        self, executions: Sequence[Execution], change: Amounts, *, may_solve: bool = True
    ) -> Explanation | None:
        market: Sequence[Amounts] = ()
        if self.base_currency is not None and self.market_rates is not None:
            market = self.market_rates.guesses(executions[-1].fill, self.base_currency)
        return explain(
            executions,
            change,
            account_type=self.account_type,
            base_currency=self.base_currency,
            digits=self.digits,
            last_rates=self.entries.rates,
            market_rates=market,
            may_solve=may_solve,
            doubt=self._doubt,
        )

    def finish(self) -> None:
        """No more statements come."""
        self._finish_flows()
        if self._pending:
            self._finish_fills()
        held = {currency: sums.held for currency, sums in self.entries.sums.items()}
        self._failures.extend(self._margin.finish(self.entries, self.digits))
        self.settled_late = {c: held[c] - self.entries.sum(c).held for c in held}

    def _finish_fills(self) -> None:
        if self._stated and self._never_moved and not self._foreign(self._pending):
            self._remarks.add("The account never changed: the engine keeps it frozen.")
            self.states_expected = False
            self._book(self._pending, None)
            self._pending = []
            return
        explanation = self._explain(self._pending, {})
        self._book(self._pending, explanation, {})
        self._pending = []

    def _finish_flows(self) -> None:
        """Book the cash flows that no statement has shown."""
        for event, currency, amount in self._flows.finish():
            what = f"{event.flow_type or 'a cash flow'} of {amount} {currency}".strip()
            if not self._stated:
                continue
            sums = self.entries.sum(currency)
            if event.ref.sequence > self._last_stated:
                sums.not_booked -= amount
                self._remarks.add(f"No statement came after {what}: the balance is without it.")
            else:
                sums.difference -= amount
                self._failures.append(f"The account does not show {what}.")

    def _foreign(self, executions: Sequence[Execution]) -> list[str]:
        """The currencies that the account must convert to book the fills."""
        base = self.base_currency
        if base is None:
            return []
        return sorted({c for e in executions for c in foreign_currencies(e.fill, base)})

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
            rates: Amounts = self.entries.rates
        else:
            rules, rates = explanation.rules, {**self.entries.rates, **explanation.rates}
            if explanation.is_sharp:
                self._learn(executions[-1], explanation.rates)
        before = self.entries.explained()
        for execution, rule in zip(executions, rules, strict=True):
            if rule.not_booked:
                self._remarks.add(f"The engine books some fills by the rule: {rule.name}.")
            self.entries.book(execution, rule, rates, rounds_later=explanation is not None)
        actual = explanation.change if explanation else change
        if actual is None:
            return
        last = executions[-1]
        if explanation is None and not actual:
            self._failures.append(self._not_shown(executions))
        for currency in sorted({*self.entries.sums, *actual}):
            sums = self.entries.sum(currency)
            explained = sums.explained - before.get(currency, ZERO)
            left_over = actual.get(currency, ZERO) - explained
            if not left_over:
                continue
            if explanation is None:
                sums.difference += left_over
                if not actual:
                    continue
                self._failures.append(
                    f"The account changed by {actual.get(currency, ZERO)} {currency} at fill "
                    f"{last.fill.fill_id}, {explained} follows from it."
                )
            else:
                slice_kind: SliceKind = "conversion" if explanation.rates else "rounding"
                self.entries.add(last, currency, slice_kind, left_over)

    def _not_shown(self, executions: Sequence[Execution]) -> str:
        ids = list(dict.fromkeys(str(e.fill.fill_id) for e in executions))
        named = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]} ({len(executions)} fills)"
        foreign = self._foreign(executions)
        why = f"; it may have had no exchange rate for {', '.join(foreign)}" if foreign else ""
        return f"The account does not show fill {named}: the engine did not book it{why}."

    def _learn(self, execution: Execution, rates: Amounts) -> None:
        self.entries.rates.update(rates)
        self.entries.past_rates.append((execution.fill.ref.sequence, dict(self.entries.rates)))
        if self.market_rates is not None and self.base_currency is not None:
            self.market_rates.confirm(execution.fill, self.base_currency, rates)

    # -- What comes of it -----------------------------------------------------------------------

    def rate_of(self, currency: str) -> tuple[str, Decimal]:
        """Tell the currency that an amount comes to in this account, and the last rate for it."""
        base = self.base_currency
        if base is None or currency == base or currency not in self.entries.rates:
            return currency, Decimal(1)
        return base, self.entries.rates[currency]

    def invested(self, currency: str) -> Decimal:
        """What the account's balance lacks of its value: the cost of what is held."""
        return -self.entries.sum(currency).held

    def reconciliations(self, notes: Sequence[str] = ()) -> list[AccountReconciliation]:
        """Compare, by currency.

        Args:
            notes: Further reasons why the account cannot be trusted.
        """
        valued = {one.currency for one in self.entries.valuations}
        currencies = sorted({*self.entries.sums, *self._totals, *valued})
        open_by_engine = {currency: self._engine_unrealized(currency) for currency in currencies}
        failures = [*notes, *self._failures, *self._unexplained.sentences()]
        if len(failures) > _MAX_NOTES:
            rest = len(failures) - _MAX_NOTES
            failures = [*failures[:_MAX_NOTES], f"And {rest} more like these."]
        rows = []
        for currency in currencies:
            sums, places = self.entries.sum(currency), self.digits[currency]
            start, end = self._start.get(currency), self._totals.get(currency)
            engines = None if sums.engine_is_silent else sums.engine_realized
            if currency not in {*self._totals, *valued} and sums == Sums():
                continue
            if not self.is_stated:
                status = ReconciliationStatus.NO_STATEMENT
            else:
                failed = failures or sums.difference
                status = ReconciliationStatus.FAILED if failed else ReconciliationStatus.RECONCILED
                start, end = start or ZERO, end or ZERO
            rows.append(
                AccountReconciliation(
                    portfolio=self.portfolio,
                    account_id=self.account_id,
                    account_type=self.account_type,
                    currency=currency,
                    status=status,
                    start=None if start is None else trimmed(start, places),
                    end=None if end is None else trimmed(end, places),
                    realized=sums.realized,
                    commission=sums.commission,
                    rounding=sums.rounding,
                    conversion=sums.conversion,
                    funding=sums.funding,
                    cash_flow=sums.cash_flow,
                    transfers=trimmed(sums.transfers, places),
                    unrealized=trimmed(self.entries.unrealized(currency), places),
                    realized_fifo=trimmed(self.fifo[0].get(currency, ZERO), places),
                    unrealized_fifo=trimmed(self.fifo[1].get(currency, ZERO), places),
                    held=trimmed(sums.held, places),
                    not_booked=trimmed(sums.not_booked, places),
                    difference=trimmed(sums.difference, places),
                    engine_realized=engines if engines is None else trimmed(engines, places),
                    engine_unrealized=open_by_engine[currency],
                    notes=(*failures, *sorted(self._remarks)),
                )
            )
        return rows
