"""The entries of one account: what each fill comes to, as amounts that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from fillpath.analytics.bookings import Amounts, Rule, bring
from fillpath.analytics.exact import ZERO, quotient, rounded, trimmed
from fillpath.analytics.ledger_events import CashFlowEvent, SpanRef
from fillpath.analytics.position_book import Execution, HoldingKey
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.slices import Slice, SliceKind


@dataclass(frozen=True, slots=True)
class Valuation:
    """What an open position is worth at the end, by the engine's rule.

    Attributes:
        ref: The span of the price.
        holding: The position.
        currency: Currency of the amount.
        amount: Profit of what is held, rounded.
    """

    ref: SpanRef
    holding: HoldingKey
    currency: str
    amount: Decimal


@dataclass(slots=True)
class Sums:
    """What makes up the change of one currency of an account.

    Attributes:
        realized: Profit of what was closed, before commission.
        commission: Negative for a cost.
        rounding: What the account's rounding added or took.
        conversion: What changes of exchange rates added or took.
        funding: Changes without a fill that pass as financing.
        cash_flow: Dividends and the like, as the host gave them.
        transfers: Deposits less withdrawals.
        held: What is held: minus its cost, plus the quantity of a currency that was bought, plus
            what a position has been paid of its profit before it is closed.
        not_booked: What the engine leaves out by a rule of its own.
        difference: What nothing explains.
        engine_realized: `realized` by the engine's position events; ``None`` if not told.
        engine_is_silent: Whether the engine did not tell the profit of some fill.
    """

    realized: Decimal = ZERO
    commission: Decimal = ZERO
    rounding: Decimal = ZERO
    conversion: Decimal = ZERO
    funding: Decimal = ZERO
    cash_flow: Decimal = ZERO
    transfers: Decimal = ZERO
    held: Decimal = ZERO
    not_booked: Decimal = ZERO
    difference: Decimal = ZERO
    engine_realized: Decimal | None = None
    engine_is_silent: bool = False

    @property
    def explained(self) -> Decimal:
        """The change of the balance that they make."""
        parts = (self.realized, self.commission, self.rounding, self.conversion, self.funding)
        given = self.cash_flow + self.transfers
        return sum(parts, ZERO) + given + self.held + self.not_booked


@dataclass(slots=True)
class AccountEntries:
    """Makes the entries of one account.

    Attributes:
        digits: Decimal places by currency.
        base_currency: The account's only currency, if it has one.
        slices: Every amount so far, by the engine's own rule and without what only lots know.
        sums: What makes up the account's change, by currency.
        rates: What one unit of a foreign currency came to last.
        past_rates: The same over time: the sequence of a fill, and the rates from then on.
        realized_at: The currency that each fill's profit came to, and at which rate; by sequence.
        valuations: What is still open.
        margins: What open positions have been paid of their profit, by symbol and currency.
    """

    digits: Mapping[str, int]
    base_currency: str | None = None
    slices: list[Slice] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=dict)
    rates: dict[str, Decimal] = field(default_factory=dict)
    past_rates: list[tuple[int, dict[str, Decimal]]] = field(default_factory=list)
    realized_at: dict[int, tuple[str, Decimal]] = field(default_factory=dict)
    valuations: list[Valuation] = field(default_factory=list)
    margins: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    _converted_basis: dict[HoldingKey, Decimal] = field(default_factory=dict)

    def sum(self, currency: str) -> Sums:
        """What makes up one currency's change."""
        return self.sums.setdefault(currency, Sums())

    def explained(self) -> dict[str, Decimal]:
        """The change of each currency that the entries make."""
        return {currency: sums.explained for currency, sums in self.sums.items()}

    def book(self, execution: Execution, rule: Rule, rates: Amounts, *, rounds_later: bool) -> None:
        """Make the entries of a fill.

        Args:
            execution: The fill.
            rule: How the account books it.
            rates: What one unit of a foreign currency comes to.
            rounds_later: Whether an entry for rounding follows when the account's change is known.
        """
        fill = execution.fill
        self._note_engine(execution, rates)
        profits_in = fill.currency if rule.pays_notional else fill.settlement_currency
        currency = self._converted(profits_in, ZERO, rates)[0]
        rate = Decimal(1) if currency == profits_in else rates[profits_in]
        self.realized_at[fill.ref.sequence] = currency, rate
        if rule.pays_notional:
            self._book_notional(execution, rule, rates, rounds_later=rounds_later)
        elif execution.closed:
            currency, amount = self._converted(
                fill.settlement_currency, execution.booked_realized, rates
            )
            self._realize(execution, currency, amount)
            if rule.is_margined:
                left = rule.amounts[fill.settlement_currency]
                paid = amount - self._converted(fill.settlement_currency, left, rates)[1]
                self._change_margin(fill.symbol, currency, -paid)
        if fill.commission:
            currency, amount = self._converted(fill.commission_currency, fill.commission, rates)
            self.add(execution, currency, "commission", -amount)
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
        self.add(execution, currency, "conversion", paid_in_kind)
        if not rounds_later:
            rest = paid + basis_change - (realized if execution.closed else ZERO) - paid_in_kind
            kind: SliceKind = "rounding" if currency == fill.currency else "conversion"
            self.add(execution, currency, kind, rest)
        sums = self.sum(currency)
        sums.held -= basis_change
        sums.not_booked -= self._converted(fill.currency, rule.not_booked, rates)[1]
        for leg, amount in legs.items():
            self.sum(leg).held += amount + execution.restated_quantity
            self.add(execution, leg, "conversion", -execution.restated_quantity)

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
        self.add(execution, currency, "realized", amount)
        trip = execution.exit_of
        if trip is not None:
            trip.realize(trimmed(amount, self.digits[currency]), currency)

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
                trip.charge(trimmed(share, self.digits[currency]), currency)

    def _note_engine(self, execution: Execution, rates: Amounts) -> None:
        """Add up what the engine's position events say."""
        told = execution.engine_realized
        currency, amount = self._converted(execution.fill.settlement_currency, told or ZERO, rates)
        sums = self.sum(currency)
        if told is not None:
            sums.engine_realized = (sums.engine_realized or ZERO) + amount
        elif execution.closed:
            sums.engine_is_silent = True

    def value(
        self, ref: SpanRef, holding: HoldingKey, trip: RoundTrip, currency: str, profit: Decimal
    ) -> None:
        """Take note of the unrealised profit of a position that is still open.

        Args:
            ref: The span of the price.
            holding: The position.
            trip: Its round trip.
            currency: Currency of the profit.
            profit: Exact.
        """
        rough = rounded(profit, self.digits[currency])
        currency, amount = self._converted(currency, rough, self.rates)
        trip.unrealized_by_currency[currency] = amount
        self.valuations.append(Valuation(ref, holding, currency, amount))

    def unrealized(self, currency: str) -> Decimal:
        """Profit of what is open, by the engine's rule."""
        return sum((one.amount for one in self.valuations if one.currency == currency), ZERO)

    def add(self, execution: Execution, currency: str, kind: SliceKind, amount: Decimal) -> None:
        """Make one entry for a fill; nothing for nothing."""
        if not amount and kind != "realized":
            return
        fill = execution.fill
        exact = trimmed(amount, self.digits[currency])
        self._add(Slice(fill.ref, fill.strategy, fill.symbol, currency, kind, exact, fill.fill_id))

    def fund(self, ref: SpanRef, currency: str, amount: Decimal) -> None:
        """Make the entry of a change without a fill."""
        exact = trimmed(amount, self.digits[currency])
        self._add(Slice(ref, "", "", currency, "funding", exact))

    def round_off(self, ref: SpanRef, left: Mapping[str, Decimal]) -> None:
        """Make the entries of what an account in doubles shows less or more than it should."""
        for currency, amount in left.items():
            exact = trimmed(amount, self.digits[currency])
            self._add(Slice(ref, "", "", currency, "rounding", exact))

    def convert(self, ref: SpanRef, symbol: str, currency: str, amount: Decimal) -> None:
        """Make the entry of what exchange rates have made of an instrument's payments."""
        exact = trimmed(amount, self.digits[currency])
        self._add(Slice(ref, "", symbol, currency, "conversion", exact))

    def unfund(self, ref: SpanRef, currency: str, amount: Decimal) -> None:
        """Take back the entry of a change without a fill."""
        self.slices.remove(
            Slice(ref, "", "", currency, "funding", trimmed(amount, self.digits[currency]))
        )
        self.sum(currency).funding -= amount

    def flow(self, event: CashFlowEvent, currency: str, amount: Decimal) -> None:
        """Make the entry of a cash flow; a transfer is no profit and makes no slice."""
        exact = trimmed(amount, self.digits[currency])
        if event.is_transfer:
            self.sum(currency).transfers += exact
            return
        if event.is_margin:
            self._change_margin(event.symbol, currency, exact)
            return
        names = (event.strategy, event.symbol)
        self._add(Slice(event.ref, *names, currency, "cash_flow", exact, venue=event.venue))

    def _change_margin(self, symbol: str, currency: str, amount: Decimal) -> None:
        self.sum(currency).held += amount
        place = symbol, currency
        self.margins[place] = self.margins.get(place, ZERO) + amount

    def _add(self, new: Slice) -> None:
        self.slices.append(new)
        sums = self.sum(new.currency)
        setattr(sums, new.kind, getattr(sums, new.kind) + new.amount)
