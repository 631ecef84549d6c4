"""One walk through the events of a run: positions, accounts and statements, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from fillpath.analytics.account_book import AccountBook
from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.currencies import AccountDigits, CurrencyDigits
from fillpath.analytics.equity import EquityCurve, EquityPoint
from fillpath.analytics.exact import ZERO
from fillpath.analytics.exchange_rates import MarketRates
from fillpath.analytics.ledger_events import (
    AccountEvent,
    CashFlowEvent,
    FillEvent,
    LedgerEvent,
    PositionEvent,
)
from fillpath.analytics.marks import Instrument, Mark, Moment, Quote, QuotedInstruments
from fillpath.analytics.netted_orders import can_be_shared, place_of
from fillpath.analytics.position_book import Execution, Place, PositionBook


@dataclass(slots=True)
class LedgerWalk:
    """Goes through the events once, in order.

    Args:
        events: Everything that could be read.
        digits: Decimal places by currency, of the whole run.
        quoted: Whose prices value what.
        actions: Bring prices to the units of the end.
        netted: Where the fills of all strategies meet in one position, though none is named.
    """

    events: Sequence[LedgerEvent]
    digits: CurrencyDigits
    quoted: QuotedInstruments
    actions: CorporateActions
    netted: AbstractSet[Place] = frozenset()
    book: PositionBook = field(init=False)
    curve: EquityCurve = field(init=False)
    accounts: dict[tuple[str, str], AccountBook] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    last_fills: dict[Instrument, Mark] = field(default_factory=dict)
    _digits: AccountDigits = field(init=False)
    _market_rates: MarketRates | None = None
    _stated: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.curve = EquityCurve(self.quoted, self.actions)
        currencies: dict[tuple[str, str], set[str]] = {}
        for event in self.events:
            if isinstance(event, AccountEvent):
                bases = self._stated.setdefault(event.ref.portfolio, {})
                bases[event.account_id] = event.base_currency
                key = (event.ref.portfolio, event.account_id)
                currencies.setdefault(key, set()).update(event.balances)
        self.events = [self._with_currency(event, currencies) for event in self.events]
        self._tell_margined()
        by_contributions = {
            place_of(event, self._account_of(event))
            for event in self.events
            if isinstance(event, FillEvent) and can_be_shared(event)
        }
        self.netted = frozenset({*self.netted, *by_contributions})
        self._digits = AccountDigits(self.events, self._account_of, self.digits)
        self.book = PositionBook(self._digits, netted=self.netted)

    def _with_currency(
        self, event: LedgerEvent, currencies: Mapping[tuple[str, str], set[str]]
    ) -> LedgerEvent:
        """Take the only currency of its account for a fill or a cash flow that names none.

        What an account does not keep, such as the coins that lie elsewhere, it does not book.
        """
        if not isinstance(event, FillEvent | CashFlowEvent):
            return event
        known = currencies.get((event.ref.portfolio, self._account_of(event)), set())
        if isinstance(event, FillEvent) and known and not event.is_inverse:
            unpaid = event.base_currency != event.commission_currency
            if unpaid and event.base_currency not in known:
                event = replace(event, base_currency=None)
        if event.currency or len(known) != 1:
            return event
        (currency,) = known
        if isinstance(event, FillEvent):
            return event.with_currency(currency)
        return replace(event, currency=currency)

    def _tell_margined(self) -> None:
        """Know the fills of what is paid as it gains, also where only its payments tell."""
        paid = {
            (event.ref.portfolio, self._account_of(event), event.symbol)
            for event in self.events
            if isinstance(event, CashFlowEvent) and event.is_margin
        }
        if paid:
            self.events = [
                replace(event, is_margined=True)
                if isinstance(event, FillEvent)
                and (event.ref.portfolio, self._account_of(event), event.symbol) in paid
                else event
                for event in self.events
            ]

    def unnamed_nets(self) -> frozenset[Place]:
        """Find where an account that does not follow from its fills may net its strategies.

        A broker that nets books a profit when one strategy buys what another one has sold. Where
        it names no positions, that shows only in its account.
        """
        failed = {key for key, account in self.accounts.items() if account.has_failed}
        strategies: dict[Place, set[str]] = {}
        for execution in self.executions:
            if execution.holding[2] == "book" and execution.holding[:2] in failed:
                place = place_of(execution.fill, execution.holding[1])
                strategies.setdefault(place, set()).add(execution.fill.strategy)
        found = {place for place, names in strategies.items() if len(names) > 1}
        return frozenset(found - self.netted)

    def conversions(self) -> Iterator[tuple[FillEvent, str]]:
        """Yield the fills of accounts that are kept in one currency, and that currency."""
        for event in self.events:
            if isinstance(event, FillEvent):
                base = self._stated.get(event.ref.portfolio, {}).get(self._account_of(event))
                if base is not None:
                    yield event, base

    def follow(self, market_rates: MarketRates) -> None:
        """Take every event."""
        self._market_rates = market_rates
        said, last_said = self._said()
        halfway = self._halfway(last_said)
        for event in self.events:
            if isinstance(event, FillEvent):
                by_engine = said.get(event.ref.sequence, [])
                account_id = self._account_of(event)
                account = self._account(event.ref.portfolio, account_id)
                if event in halfway:
                    account.leave_out(event)
                    continue
                if not by_engine and event.ref.sequence < last_said.get(event.ref.portfolio, -1):
                    execution = self.book.pass_over(event, account_id)
                else:
                    execution = self.book.apply(
                        event,
                        by_engine,
                        account_id=account_id,
                        rounds_each=account.states_expected,
                    )
                self.executions.append(execution)
                instrument = (event.ref.portfolio, event.symbol, event.venue)
                mark = Mark(event.ref, event.price)
                if event.is_traded:
                    self.last_fills[instrument] = mark
                else:
                    self.last_fills.setdefault(instrument, mark)
                account.execute(execution)
            elif isinstance(event, CashFlowEvent):
                account = self._account(event.ref.portfolio, self._account_of(event))
                account.flow(event)
            elif isinstance(event, AccountEvent):
                account = self._account(event.ref.portfolio, event.account_id)
                self._settle(account)
                account.state(event)
                self.curve.note(event, account, self.book, self.last_fills)
        for account in self.accounts.values():
            self._settle(account)
            account.finish()
            self.curve.settle(account)

    def _settle(self, account: AccountBook) -> None:
        for ref in account.settle_stated_first():
            self.curve.note_again(ref, account, self.book, self.last_fills)

    def _halfway(self, last_said: Mapping[str, int]) -> list[FillEvent]:
        """Fills in which an engine stopped: its positions and accounts know nothing of them."""
        last_heard = dict(last_said)
        last_fill: dict[str, FillEvent] = {}
        for event in self.events:
            if isinstance(event, AccountEvent):
                heard = last_heard.get(event.ref.portfolio, -1)
                last_heard[event.ref.portfolio] = max(heard, event.ref.sequence)
            elif isinstance(event, FillEvent):
                last_fill[event.ref.portfolio] = event
        return [
            fill
            for portfolio, fill in last_fill.items()
            if portfolio in last_said and fill.ref.sequence > last_heard[portfolio]
        ]

    def _said(self) -> tuple[dict[int, list[PositionEvent]], dict[str, int]]:
        """What the engine said about positions after each fill, and where it last did so."""
        said: dict[int, list[PositionEvent]] = {}
        last_said: dict[str, int] = {}
        last_fill: dict[str, FillEvent] = {}
        for event in self.events:
            portfolio = event.ref.portfolio
            if isinstance(event, FillEvent):
                last_fill[portfolio] = event
            elif isinstance(event, PositionEvent):
                fill = last_fill.get(portfolio)
                last_said[portfolio] = event.ref.sequence
                if fill is not None and fill.symbol == event.symbol:
                    said.setdefault(fill.ref.sequence, []).append(event)
        return said, last_said

    def _account_of(self, event: FillEvent | CashFlowEvent) -> str:
        """The account of a fill or a cash flow that may not name it."""
        if event.account_id is not None:
            return event.account_id
        stated = list(self._stated.get(event.ref.portfolio, {}))
        at_venue = [one for one in stated if event.venue and one.startswith(f"{event.venue}-")]
        for candidates in (stated, at_venue):
            if len(candidates) == 1:
                return candidates[0]
        return ""

    def _account(self, portfolio: str, account_id: str) -> AccountBook:
        account = self.accounts.get((portfolio, account_id))
        if account is None:
            stated = account_id in self._stated.get(portfolio, {})
            digits = self._digits.of(portfolio, account_id)
            account = AccountBook(portfolio, account_id, digits, states_expected=stated)
            account.market_rates = self._market_rates
            self.accounts[portfolio, account_id] = account
        return account

    def last_mark(self, fill: FillEvent, marks: Mapping[Instrument, Mark]) -> Mark:
        """The last price of what a fill traded; the last fill's own where the run has no other."""
        instrument = (fill.ref.portfolio, fill.symbol, fill.venue)
        nearest = self.quoted.nearest(instrument)
        if nearest is None:
            return self.last_fills[instrument]
        return self.actions.of_mark(fill.ref.portfolio, fill.symbol, marks[nearest])

    def value(self, marks: Mapping[Instrument, Mark]) -> None:
        """Value what is still open at the last prices."""
        for key, position in self.book.positions.items():
            opened_by = position.trip.opened_by
            mark = self.last_mark(opened_by, marks)
            portfolio = opened_by.ref.portfolio
            account = self._account(portfolio, position.account_id or "")
            account.entries.value(
                replace(mark.ref, portfolio=portfolio),
                key,
                position.trip,
                opened_by.settlement_currency,
                position.holding.profit_at(mark.price),
            )

    def equity(self, quotes: Mapping[Moment, Quote]) -> tuple[EquityPoint, ...]:
        """Every statement valued, and what is held at the end."""
        points = list(self.curve.points(quotes, self.digits))
        taken = {(point.ref.sequence, point.currency) for point in points}
        points.extend(p for p in self._last_points() if (p.ref.sequence, p.currency) not in taken)
        return tuple(sorted(points, key=lambda point: (point.ref.sequence, point.currency)))

    def _last_points(self) -> Iterator[EquityPoint]:
        """Value what is held at the last prices, where they came after the last statement."""
        stated_at = {
            (event.ref.portfolio, event.account_id): event.ref.sequence
            for event in self.events
            if isinstance(event, AccountEvent)
        }
        for key, account in self.accounts.items():
            held = account.entries.valuations
            if not held or key not in stated_at:
                continue
            ref = max((one.ref for one in held), key=lambda ref: ref.sequence)
            if ref.sequence < stated_at[key]:
                continue
            for currency, balance in account.balances.items():
                profit = sum((one.amount for one in held if one.currency == currency), ZERO)
                equity = balance + account.invested(currency) + profit
                yield EquityPoint(ref, account.account_id, currency, balance, equity)
