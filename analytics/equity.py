"""What an account is worth over time: its balance, and what is held at the prices of the moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from fillpath.analytics.account_book import AccountBook
from fillpath.analytics.average_cost import Holding
from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.exact import ZERO, rounded
from fillpath.analytics.ledger_events import AccountEvent, SpanRef
from fillpath.analytics.marks import Instrument, Mark, Moment, Quote, QuotedInstruments
from fillpath.analytics.position_book import PositionBook


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """An account in one currency, as one statement has it.

    Attributes:
        ref: The statement's span.
        account_id: The engine's id.
        currency: Currency of the amounts.
        balance: The engine's total.
        equity: The balance, and what is held at the last prices.
    """

    ref: SpanRef
    account_id: str
    currency: str
    balance: Decimal
    equity: Decimal


@dataclass(slots=True)
class _Held:
    """What an account held of an instrument at a statement, all positions together.

    The profit at a price is `size` times the price less `basis`; that of inverse contracts is not
    linear, so those are kept each.
    """

    moment: Moment
    last_fill: Decimal | None
    currency: str
    rate: Decimal
    size: Decimal = ZERO
    basis: Decimal = ZERO
    inverse: list[Holding] = field(default_factory=list)

    def add(self, holding: Holding) -> None:
        """Add a position as it is now."""
        if holding.is_inverse:
            self.inverse.append(replace(holding))
        else:
            self.size += holding.quantity * holding.multiplier
            self.basis += holding.basis

    def profit_at(self, price: Decimal) -> Decimal:
        """Return the profit if all were closed at a price, exact, in `currency`."""
        profit = price * self.size - self.basis
        for holding in self.inverse:
            profit += holding.profit_at(price)
        return profit * self.rate


@dataclass(frozen=True, slots=True)
class _Statement:
    event: AccountEvent
    invested: Mapping[str, Decimal]
    held: Sequence[_Held]


@dataclass(slots=True)
class EquityCurve:
    """Collects statements, then values them.

    Args:
        quoted: Whose prices value what.
        actions: Bring prices to the units of the end.
    """

    quoted: QuotedInstruments
    actions: CorporateActions
    _statements: list[_Statement] = field(default_factory=list)

    def note(
        self,
        event: AccountEvent,
        account: AccountBook,
        book: PositionBook,
        last_fills: Mapping[Instrument, Mark],
    ) -> None:
        """Take a statement, and what the account holds just then."""
        held: dict[tuple[str, str, str], _Held] = {}
        for position in book.positions.values():
            opened_by = position.trip.opened_by
            if (
                position.account_id != account.account_id
                or opened_by.ref.portfolio != account.portfolio
            ):
                continue
            key = (opened_by.symbol, opened_by.venue, opened_by.settlement_currency)
            if key not in held:
                held[key] = self._held(event, account, key, last_fills)
            held[key].add(position.holding)
        invested = {currency: account.invested(currency) for currency in event.balances}
        self._statements.append(_Statement(event, invested, list(held.values())))

    def note_again(
        self,
        ref: SpanRef,
        account: AccountBook,
        book: PositionBook,
        last_fills: Mapping[Instrument, Mark],
    ) -> None:
        """Take a statement anew that was published before the fills that it shows."""
        places = range(len(self._statements) - 1, -1, -1)
        at = next((n for n in places if self._statements[n].event.ref == ref), None)
        if at is not None:
            self.note(self._statements[at].event, account, book, last_fills)
            self._statements[at] = self._statements.pop()

    def settle(self, account: AccountBook) -> None:
        """Have an account's last statement count what contracts were paid as its end does."""
        for place in range(len(self._statements) - 1, -1, -1):
            statement = self._statements[place]
            event = statement.event
            if (event.ref.portfolio, event.account_id) == (account.portfolio, account.account_id):
                late = account.settled_late
                invested = {c: a + late.get(c, ZERO) for c, a in statement.invested.items()}
                self._statements[place] = replace(statement, invested=invested)
                return

    def moments(self) -> Iterator[Moment]:
        """Yield the moments at which prices are needed."""
        for statement in self._statements:
            for held in statement.held:
                yield held.moment

    def points(
        self, quotes: Mapping[Moment, Quote], digits: Mapping[str, int]
    ) -> Iterator[EquityPoint]:
        """Yield the points; what has no price yet counts at that of its last fill."""
        for statement in self._statements:
            profits: dict[str, Decimal] = {}
            for held in statement.held:
                quote = quotes.get(held.moment)
                price = held.last_fill
                if quote is not None:
                    _, symbol, _, sequence = held.moment
                    portfolio = statement.event.ref.portfolio
                    price = self.actions.of_quote(portfolio, symbol, sequence, quote).middle
                if price is not None:
                    # By itself, as in the ledger: else two halves of a cent would be none here.
                    profit = rounded(held.profit_at(price), digits[held.currency])
                    profits[held.currency] = profits.get(held.currency, ZERO) + profit
            event = statement.event
            for currency, balance in event.balances.items():
                profit = profits.get(currency, ZERO)
                yield EquityPoint(
                    ref=event.ref,
                    account_id=event.account_id,
                    currency=currency,
                    balance=balance.total,
                    equity=balance.total + statement.invested[currency] + profit,
                )

    def _held(
        self,
        event: AccountEvent,
        account: AccountBook,
        key: tuple[str, str, str],
        last_fills: Mapping[Instrument, Mark],
    ) -> _Held:
        symbol, venue, settlement_currency = key
        currency, rate = account.rate_of(settlement_currency)
        instrument = (event.ref.portfolio, symbol, venue)
        last_fill = last_fills.get(instrument)
        return _Held(
            (*(self.quoted.nearest(instrument) or instrument), event.ref.sequence),
            None if last_fill is None else last_fill.price,
            currency,
            rate,
        )
