"""Leaf slices: the amounts of profit of a run, each once, rounded so that they add up.

Realised profit is matched first in first out, and what is open is valued interval by interval. The
account's own entries (`account_entries`) reckon by the engine's rule; whatever both rules differ by
is a slice of its own, so that the slices of an account add up to its entries exactly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from fillpath.analytics.account_book import AccountBook
from fillpath.analytics.exact import ZERO, rounded, trimmed
from fillpath.analytics.largest_remainder import round_together, share_out
from fillpath.analytics.leaf_books import LeafBooks, LotLeg
from fillpath.analytics.ledger_events import SpanRef
from fillpath.analytics.lot_queue import BookKey, Match, lot_profit
from fillpath.analytics.marks import Mark
from fillpath.analytics.slices import Slice, SliceKind, SliceLabels

Sums = dict[str, Decimal]
"""Amounts by currency."""


@dataclass(slots=True)
class _Open:
    """A lot that is open at the end: its exact value, and what was recognised of it so far."""

    lot: LotLeg
    mark: Mark
    currency: str
    value: Decimal
    recognised: Sums


_Matches = dict[BookKey, list[tuple[LotLeg, Match, Decimal]]]
"""Exits, what they closed and what that earned, by group."""


@dataclass(slots=True)
class AccountLeaves:
    """Makes the slices of one account.

    Args:
        account: What its entries came to.
        books: The lots of all accounts.
        digits: Decimal places that leaves are rounded to.
        labels: What other parts know.
        marks: Prices of the intervals in which each lot was open.
        last_mark: The last price of each lot that is open, by number.
        slices: What was made.
        realized: Profit of what was closed, by currency.
        unrealized: Profit of what is open, by currency.
    """

    account: AccountBook
    books: LeafBooks
    digits: Mapping[str, int]
    labels: SliceLabels
    marks: Mapping[int, Sequence[Mark]]
    last_mark: Mapping[int, Mark]
    slices: list[Slice] = field(default_factory=list)
    realized: Sums = field(default_factory=dict)
    unrealized: Sums = field(default_factory=dict)
    _by_group: dict[tuple[BookKey, str], Decimal] = field(default_factory=dict)
    _realized_by_group: dict[tuple[BookKey, str], Decimal] = field(default_factory=dict)

    def make(self) -> list[Slice]:
        """Make every slice of the account."""
        key = (self.account.portfolio, self.account.account_id)
        lots = [lot for lot in self.books.legs.values() if lot.account == key]
        matches = self._exact_matches(lots)
        still_open = self._exact_values(lots)
        for currency in sorted({*matches, *still_open}):
            groups, held = matches.get(currency, {}), still_open.get(currency, [])
            earned = sum((amount for group in groups.values() for *_, amount in group), ZERO)
            worth = sum((one.value for one in held), ZERO)
            # What is realised and what is open are rounded together, so that their sum is right.
            totals = round_together([earned, worth], self.digits[currency])
            self.realized[currency], self.unrealized[currency] = totals
            self._realize(currency, groups, totals[0])
            self._value(currency, held, totals[1])
        self._take_entries()
        self._reclassify(key)
        if self.account.is_stated:
            self._follow_engine(key, lots)
        else:
            self._correct_entries()
        return self.slices

    # -- Matches --------------------------------------------------------------------------------

    def _exact_matches(self, lots: Iterable[LotLeg]) -> dict[str, _Matches]:
        """Bring every match to the account's currency, by currency and group."""
        exact: dict[str, _Matches] = {}
        for leaving in lots:
            if leaving.matches:
                currency, rate = self._realized_at(leaving)
                group = exact.setdefault(currency, {}).setdefault(leaving.group, [])
                group.extend((leaving, match, match.profit * rate) for match in leaving.matches)
        return exact

    def _realize(self, currency: str, groups: _Matches, total: Decimal) -> None:
        places = self.digits[currency]
        sums = [sum((amount for *_, amount in group), ZERO) for group in groups.values()]
        totals = round_together(sums, places, total)
        for group, of_group in zip(groups.values(), totals, strict=True):
            leaves = round_together([amount for *_, amount in group], places, of_group)
            for (leaving, match, _), leaf in zip(group, leaves, strict=True):
                self._add_match(leaving, match, currency, leaf)

    def _realized_at(self, leaving: LotLeg) -> tuple[str, Decimal]:
        fill = leaving.fill
        usual = (fill.settlement_currency, Decimal(1))
        return self.account.entries.realized_at.get(fill.ref.sequence, usual)

    def _add_match(self, leaving: LotLeg, match: Match, currency: str, amount: Decimal) -> None:
        lot = self.books.legs[match.entry.number]
        made = self._of_lot(
            lot,
            leaving.fill.ref,
            currency,
            "realized",
            amount,
            match.quantity,
            fill_id=leaving.fill.fill_id,
            leaving=leaving,
        )
        self._add(made, leaving.group)
        key = (leaving.group, currency)
        self._realized_by_group[key] = self._realized_by_group.get(key, ZERO) + made.amount

    def _of_lot(
        self,
        lot: LotLeg,
        ref: SpanRef,
        currency: str,
        kind: SliceKind,
        amount: Decimal,
        quantity: Decimal,
        *,
        strategy: str | None = None,
        fill_id: str | None = None,
        leaving: LotLeg | None = None,
    ) -> Slice:
        """Make a slice of a lot; it tells why and after what time if a leg closes it."""
        fill = lot.fill
        return Slice(
            ref=ref,
            strategy=lot.strategy if strategy is None else strategy,
            symbol=fill.symbol,
            currency=currency,
            kind=kind,
            amount=trimmed(amount, self._least(currency)),
            fill_id=fill_id,
            account_id=self.account.account_id,
            venue=fill.venue,
            side=lot.side,
            signal=self.labels.signal_of(fill),
            regime=self.labels.regime_at(fill),
            exit_reason=self.labels.reason_of(leaving.fill) if leaving else None,
            holding_time=_time_between(lot, leaving) if leaving else None,
            quantity=trimmed(quantity, 0),
            trade_id=lot.trade.trade_id if lot.trade else None,
        )

    def _least(self, currency: str) -> int:
        return min(self.digits[currency], self.account.digits[currency])

    def _add(self, made: Slice, group: BookKey) -> None:
        self.slices.append(made)
        key = (group, made.currency)
        self._by_group[key] = self._by_group.get(key, ZERO) + made.amount

    # -- What is open ---------------------------------------------------------------------------

    def _exact_values(self, lots: Iterable[LotLeg]) -> dict[str, list[_Open]]:
        """Follow every lot to its end, and value what is left of it, by currency."""
        still_open: dict[str, list[_Open]] = {}
        for lot in lots:
            if not lot.opened:
                continue
            recognised = self._follow_lot(lot)
            if not lot.left:
                continue
            mark = self.last_mark[lot.leg.number]
            currency, rate = self._rate_at(lot, None)
            value = lot_profit(lot.leg, lot.left, mark.price) * rate
            one = _Open(lot, mark, currency, value, recognised)
            still_open.setdefault(currency, []).append(one)
        return still_open

    def _value(self, currency: str, held: Sequence[_Open], total: Decimal) -> None:
        values = round_together([one.value for one in held], self.digits[currency], total)
        for one, value in zip(held, values, strict=True):
            ref = max(one.mark.ref, one.lot.fill.ref, key=lambda ref: ref.sequence)
            ref = replace(ref, portfolio=self.account.portfolio)
            self._recognise(one.lot, ref, one.recognised, currency, value, one.lot.left)

    def _follow_lot(self, lot: LotLeg) -> Sums:
        """Value a lot at every mark while it is open; gives what is recognised at the end."""
        recognised: Sums = {}
        left = lot.opened
        exits = iter([*lot.exits, None])
        leaving = next(exits)
        for mark in (*self.marks.get(lot.leg.number, ()), None):
            while leaving is not None:
                exit_leg = self.books.legs[leaving.exit.number]
                if mark is not None and exit_leg.fill.ref.sequence > mark.ref.sequence:
                    break
                self._take_back(lot, exit_leg, recognised, leaving.quantity, left)
                left -= leaving.quantity
                leaving = next(exits)
            if mark is None or (leaving is None and lot.left and mark is self._last_of(lot)):
                break
            currency, rate = self._rate_at(lot, mark.ref.sequence)
            value = rounded(lot_profit(lot.leg, left, mark.price) * rate, self.digits[currency])
            ref = replace(mark.ref, portfolio=self.account.portfolio)  # the price may be another's
            self._recognise(lot, ref, recognised, currency, value, left)
        return recognised

    def _last_of(self, lot: LotLeg) -> Mark | None:
        """The last mark of a lot: its value there is rounded together with those of others."""
        marks = self.marks.get(lot.leg.number, ())
        return marks[-1] if marks else None

    def _take_back(
        self, lot: LotLeg, leaving: LotLeg, recognised: Sums, quantity: Decimal, left: Decimal
    ) -> None:
        for currency, amount in list(recognised.items()):
            places = self.digits[currency]
            share = amount if quantity == left else rounded(amount * quantity / left, places)
            recognised[currency] = amount - share
            if share:
                ref = leaving.fill.ref
                made = self._of_lot(
                    lot,
                    ref,
                    currency,
                    "unrealized",
                    -share,
                    quantity,
                    fill_id=leaving.fill.fill_id,
                )
                self._add(made, lot.group)

    def _recognise(
        self,
        lot: LotLeg,
        ref: SpanRef,
        recognised: Sums,
        currency: str,
        value: Decimal,
        quantity: Decimal,
    ) -> None:
        """Bring what is recognised of a lot to its value."""
        for known in {*recognised, currency}:
            goal = value if known == currency else ZERO
            change = goal - recognised.get(known, ZERO)
            recognised[known] = goal
            if change:
                self._add(self._of_lot(lot, ref, known, "unrealized", change, quantity), lot.group)

    def _rate_at(self, lot: LotLeg, sequence: int | None) -> tuple[str, Decimal]:
        """The currency that a lot's profit comes to, and the rate that was known by then."""
        settlement, base = lot.fill.settlement_currency, self.account.base_currency
        if base is None or settlement == base:
            return settlement, Decimal(1)
        entries = self.account.entries
        rates: Mapping[str, Decimal] = entries.rates
        if sequence is not None:
            at = bisect_right(entries.past_rates, sequence, key=lambda one: one[0])
            rates = entries.past_rates[at - 1][1] if at else {}
        return (base, rates[settlement]) if settlement in rates else (settlement, Decimal(1))

    # -- Everything else ------------------------------------------------------------------------

    def _take_entries(self) -> None:
        """Take over the account's entries that need no lots, and share out the commissions."""
        for entry in self.account.entries.slices:
            if entry.kind == "realized":
                continue
            made = replace(entry, account_id=self.account.account_id)
            legs = self.books.legs_of(entry.ref.sequence) if entry.kind != "cash_flow" else []
            if entry.kind == "commission" and legs:
                self.slices.extend(self._commissions(made, legs))
            elif legs:
                self.slices.append(self._labelled(made, legs))
            else:
                self.slices.append(made)

    def _commissions(self, entry: Slice, legs: Sequence[LotLeg]) -> Iterator[Slice]:
        """Share a commission between what the fill closed and what it opened."""
        digits = self.digits[entry.currency]
        shares = [entry.amount]
        if len(legs) > 1:
            shares = share_out(entry.amount, [leg.fee_weight for leg in legs], digits)
        for leg, share in zip(legs, shares, strict=True):
            if not leg.fee_weight and not share:
                continue
            closing = share if not leg.opened else ZERO
            if leg.closed and leg.opened:
                closing = rounded(share * leg.closed / leg.leg.quantity, digits)
            for amount, quantity, closes in (
                (closing, leg.closed, True),
                (share - closing, leg.opened, False),
            ):
                if quantity and amount:
                    yield self._commission(entry, leg, amount, quantity, closes=closes)

    def _commission(
        self, entry: Slice, leg: LotLeg, amount: Decimal, quantity: Decimal, *, closes: bool
    ) -> Slice:
        lot = self.books.legs[leg.matches[0].entry.number] if closes else leg
        return self._of_lot(
            lot,
            entry.ref,
            entry.currency,
            "commission",
            amount,
            quantity,
            strategy=leg.strategy,
            fill_id=entry.fill_id,
            leaving=leg if closes else None,
        )

    def _labelled(self, entry: Slice, legs: Sequence[LotLeg]) -> Slice:
        """Say which lot an entry for rounding or conversion belongs to."""
        leg = legs[0]
        lot = self.books.legs[leg.matches[0].entry.number] if leg.matches else leg
        strategies = self.books.strategies[leg.group]
        return replace(
            entry,
            strategy=entry.strategy if len(strategies) > 1 else lot.strategy,
            venue=leg.fill.venue,
            side=lot.side,
            signal=self.labels.signal_of(lot.fill),
            regime=self.labels.regime_at(lot.fill),
            trade_id=lot.trade.trade_id if lot.trade else None,
        )

    def _reclassify(self, key: tuple[str, str]) -> None:
        """Show what a shared position has realised beyond the lots of its strategies."""
        nets: dict[tuple[BookKey, str], Decimal] = {}
        last: dict[BookKey, LotLeg] = {}
        for leg in self.books.net_legs.values():
            if leg.account == key:
                last[leg.group] = leg
        for match in self.books.net_books.matches:
            leaving = self.books.net_legs[match.exit.number]
            if leaving.account == key:
                currency, rate = self._realized_at(leaving)
                place = (leaving.group, currency)
                nets[place] = nets.get(place, ZERO) + match.profit * rate
        for group, currency in {*nets, *((g, c) for g, c in self._realized_by_group if g in last)}:
            net = rounded(nets.get((group, currency), ZERO), self.digits[currency])
            beyond = net - self._realized_by_group.get((group, currency), ZERO)
            if not beyond:
                continue
            fill = last[group].fill
            made = Slice(
                ref=fill.ref,
                strategy="",
                symbol=fill.symbol,
                currency=currency,
                kind="reclassification",
                amount=trimmed(beyond, self._least(currency)),
                account_id=self.account.account_id,
                venue=fill.venue,
                reclassified="realized",
            )
            self.slices.append(made)
            self.slices.append(replace(made, amount=-made.amount, reclassified="unrealized"))
            self.realized[currency] = self.realized.get(currency, ZERO) + beyond
            self.unrealized[currency] = self.unrealized.get(currency, ZERO) - beyond

    def _follow_engine(self, key: tuple[str, str], lots: Sequence[LotLeg]) -> None:
        """Add what the engine's own rule adds: its rounding, and rates that moved in between."""
        engine: dict[tuple[BookKey, str], Decimal] = {}
        last: dict[BookKey, LotLeg] = {}
        groups: dict[BookKey, BookKey] = {}
        for lot in lots:
            last[lot.group] = lot
        for leg in (*lots, *(leg for leg in self.books.net_legs.values() if leg.account == key)):
            groups[leg.leg.book] = leg.group
        for entry in self.account.entries.slices:
            legs = self.books.legs_of(entry.ref.sequence)
            if entry.kind == "realized" and legs:
                place = (legs[0].group, entry.currency)
                engine[place] = engine.get(place, ZERO) + entry.amount
        for one in self.account.entries.valuations:
            place = (groups.get(one.holding, one.holding), one.currency)
            engine[place] = engine.get(place, ZERO) + one.amount
        for group, currency in sorted({*engine, *self._by_group}):
            place = (group, currency)
            rest = engine.get(place, ZERO) - self._by_group.get(place, ZERO)
            if not rest or group not in last:
                continue
            leg = last[group]
            if leg.leg.is_inverse:
                self.account.remark(
                    "The engine averages the prices of inverse contracts; what that makes against "
                    "lots is under rounding."
                )
            strategies = self.books.strategies[group]
            kind: SliceKind = (
                "rounding" if leg.fill.settlement_currency == currency else "conversion"
            )
            self.slices.append(
                Slice(
                    ref=leg.fill.ref,
                    strategy=leg.strategy if len(strategies) == 1 else "",
                    symbol=leg.fill.symbol,
                    currency=currency,
                    kind=kind,
                    amount=trimmed(rest, self._least(currency)),
                    fill_id=leg.fill.fill_id,
                    account_id=self.account.account_id,
                    venue=leg.fill.venue,
                    trade_id=leg.trade.trade_id if leg.trade else None,
                )
            )

    def _correct_entries(self) -> None:
        """Without an engine's account to follow, the lots decide how the sum is rounded."""
        entries = self.account.entries
        for currency in {*entries.sums, *self.realized, *self.unrealized}:
            whole = self.realized.get(currency, ZERO) + self.unrealized.get(currency, ZERO)
            entries.sum(currency).realized = trimmed(
                whole - entries.unrealized(currency), self._least(currency)
            )


def _time_between(lot: LotLeg, leaving: LotLeg) -> int | None:
    entered, left = lot.fill.ref.event_time, leaving.fill.ref.event_time
    return None if entered is None or left is None else left - entered
