"""From fills to amounts of profit that add up: the ledger of one run.

Profit is reckoned at average cost, in Decimal, from the fills alone. What the engine states about
its accounts decides how each fill was rounded and converted, so that the amounts of an account add
up to its own change; a difference that rounding does not explain is left standing and reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import duckdb

from fillpath.analytics.account_book import AccountBook
from fillpath.analytics.account_entries import Slice
from fillpath.analytics.currencies import CurrencyDigits, amounts_stated
from fillpath.analytics.equity import EquityCurve, EquityPoint
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.exchange_rates import MarketRates
from fillpath.analytics.ledger_events import (
    AccountEvent,
    FillEvent,
    LedgerEvent,
    PositionEvent,
    UnreadableFill,
    read_ledger_events,
)
from fillpath.analytics.marks import Instrument, Mark, Moment, Quote, last_marks, quotes_at
from fillpath.analytics.position_book import PositionBook
from fillpath.analytics.reconciliation import AccountReconciliation
from fillpath.analytics.round_trips import RoundTrip


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the fills of a run came to.

    Attributes:
        slices: Every amount of profit, in the order of their events.
        trips: Every round trip, in the order of their first fills.
        accounts: Every account and currency, beside the engine's own statement.
        equity: Every statement of every account.
        digits: Decimal places of the currencies of the run.
    """

    slices: tuple[Slice, ...]
    trips: tuple[RoundTrip, ...]
    accounts: tuple[AccountReconciliation, ...]
    equity: tuple[EquityPoint, ...]
    digits: CurrencyDigits

    def total(self, *kinds: str) -> dict[str, Decimal]:
        """Add up the slices of some kinds, or of all, by currency."""
        totals: dict[str, Decimal] = {}
        with exact_arithmetic():
            for one in self.slices:
                if not kinds or one.kind in kinds:
                    totals[one.currency] = totals.get(one.currency, ZERO) + one.amount
        return totals


def compute_ledger(connection: duckdb.DuckDBPyConnection, run_id: str) -> Ledger:
    """Reckon the ledger of a run.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
    """
    with exact_arithmetic():
        events = list(read_ledger_events(connection, run_id))
        readable = [event for event in events if not isinstance(event, UnreadableFill)]
        walk = _Walk(readable, CurrencyDigits(amounts_stated(readable)))
        marks = last_marks(connection, run_id)
        walk.follow(MarketRates(connection, run_id, marks, walk.conversions()))
        walk.value(marks)
        quotes = quotes_at(connection, run_id, walk.curve.moments())
        lost = [event.ref.portfolio for event in events if isinstance(event, UnreadableFill)]
        return Ledger(
            slices=walk.slices(),
            trips=tuple(walk.book.trips),
            accounts=walk.reconciliations(lost),
            equity=walk.equity(quotes),
            digits=walk.digits,
        )


@dataclass(slots=True)
class _Walk:
    """Goes through the events once, in order."""

    events: Sequence[LedgerEvent]
    digits: CurrencyDigits
    book: PositionBook = field(init=False)
    curve: EquityCurve = field(default_factory=EquityCurve)
    accounts: dict[tuple[str, str], AccountBook] = field(default_factory=dict)
    _market_rates: MarketRates | None = None
    _stated: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = PositionBook(self.digits)
        for event in self.events:
            if isinstance(event, AccountEvent):
                bases = self._stated.setdefault(event.ref.portfolio, {})
                bases[event.account_id] = event.base_currency

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
                elif not by_engine and event.ref.sequence < last_said.get(event.ref.portfolio, -1):
                    account.execute(self.book.pass_over(event))
                else:
                    rounds_each = account.states_expected
                    account.execute(
                        self.book.apply(
                            event, by_engine, account_id=account_id, rounds_each=rounds_each
                        )
                    )
            elif isinstance(event, AccountEvent):
                account = self._account(event.ref.portfolio, event.account_id)
                account.state(event)
                self.curve.note(event, account, self.book)
        for account in self.accounts.values():
            account.finish()

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

    def _account_of(self, fill: FillEvent) -> str:
        """The account of a fill that may not name it."""
        if fill.account_id is not None:
            return fill.account_id
        stated = list(self._stated.get(fill.ref.portfolio, {}))
        at_venue = [one for one in stated if fill.venue and one.startswith(f"{fill.venue}-")]
        for candidates in (stated, at_venue):
            if len(candidates) == 1:
                return candidates[0]
        return ""

    def _account(self, portfolio: str, account_id: str) -> AccountBook:
        account = self.accounts.get((portfolio, account_id))
        if account is None:
            stated = account_id in self._stated.get(portfolio, {})
            account = AccountBook(portfolio, account_id, self.digits, states_expected=stated)
            account.market_rates = self._market_rates
            self.accounts[portfolio, account_id] = account
        return account

    def value(self, marks: Mapping[Instrument, Mark]) -> None:
        """Value what is still open at the last prices."""
        anywhere = {instrument[1:]: mark for instrument, mark in marks.items()}
        for position in self.book.positions.values():
            opened_by = position.trip.opened_by
            portfolio = opened_by.ref.portfolio
            place = (opened_by.symbol, opened_by.venue)
            mark = marks.get((portfolio, *place)) or anywhere.get(place)
            if mark is None:
                continue
            account = self._account(portfolio, position.account_id or "")
            account.entries.value(
                replace(mark.ref, portfolio=portfolio),
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
            held = [one for one in account.entries.slices if one.kind == "unrealized"]
            if not held or key not in stated_at:
                continue
            ref = max((one.ref for one in held), key=lambda ref: ref.sequence)
            if ref.sequence < stated_at[key]:
                continue
            for currency, balance in account.balances.items():
                profit = sum((one.amount for one in held if one.currency == currency), ZERO)
                equity = balance + account.invested(currency) + profit
                yield EquityPoint(ref, account.account_id, currency, balance, equity)

    def slices(self) -> tuple[Slice, ...]:
        """Every amount of every account, in the order of the events."""
        every = [one for account in self.accounts.values() for one in account.entries.slices]
        return tuple(sorted(every, key=lambda one: one.ref.sequence))

    def reconciliations(self, lost: Sequence[str]) -> tuple[AccountReconciliation, ...]:
        """Compare every account with its statements.

        Args:
            lost: The portfolio of each fill that could not be read.
        """
        rows: list[AccountReconciliation] = []
        for (portfolio, _), account in sorted(self.accounts.items()):
            count = lost.count(portfolio)
            notes = (
                [f"{count} fill{'s' * (count > 1)} without side, quantity or price: not counted."]
                if count
                else []
            )
            rows.extend(account.reconciliations(notes))
        return tuple(rows)
