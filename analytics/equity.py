"""What an account is worth over time: its balance, and what is held at the prices of the moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from fillpath.analytics.account_book import AccountBook
from fillpath.analytics.average_cost import Holding
from fillpath.analytics.exact import ZERO, rounded
from fillpath.analytics.ledger_events import AccountEvent, SpanRef
from fillpath.analytics.marks import Instrument, Mark, Moment, Quote, QuotedInstruments
from fillpath.analytics.position_book import OpenPosition, PositionBook


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


@dataclass(frozen=True, slots=True)
class _Held:
    """A position as it was at a statement."""

    moment: Moment
    last_fill: Decimal | None
    holding: Holding
    currency: str
    rate: Decimal


@dataclass(frozen=True, slots=True)
class _Statement:
    event: AccountEvent
    invested: Mapping[str, Decimal]
    held: tuple[_Held, ...]


@dataclass(slots=True)
class EquityCurve:
    """Collects statements, then values them.

    Args:
        quoted: Whose prices value what.
    """

    quoted: QuotedInstruments
    _statements: list[_Statement] = field(default_factory=list)

    def note(
        self,
        event: AccountEvent,
        account: AccountBook,
        book: PositionBook,
        last_fills: Mapping[Instrument, Mark],
    ) -> None:
        """Take a statement, and what the account holds just then."""
        held = tuple(
            self._held(event, account, position, last_fills)
            for position in book.positions.values()
            if position.account_id == account.account_id
            and position.trip.opened_by.ref.portfolio == account.portfolio
        )
        invested = {currency: account.invested(currency) for currency in event.balances}
        self._statements.append(_Statement(event, invested, held))

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
                price = held.last_fill if quote is None else quote.middle
                if price is not None:
                    profit = held.holding.profit_at(price) * held.rate
                    profits[held.currency] = profits.get(held.currency, ZERO) + profit
            event = statement.event
            for currency, balance in event.balances.items():
                profit = rounded(profits.get(currency, ZERO), digits[currency])
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
        position: OpenPosition,
        last_fills: Mapping[Instrument, Mark],
    ) -> _Held:
        opened_by = position.trip.opened_by
        currency, rate = account.rate_of(opened_by.settlement_currency)
        instrument = (event.ref.portfolio, opened_by.symbol, opened_by.venue)
        last_fill = last_fills.get(instrument)
        return _Held(
            (*(self.quoted.nearest(instrument) or instrument), event.ref.sequence),
            None if last_fill is None else last_fill.price,
            replace(position.holding),
            currency,
            rate,
        )
