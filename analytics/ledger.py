"""From fills to amounts of profit that add up: the ledger of one run.

Profit is reckoned twice, in Decimal, from the fills alone. At average cost, as engines do: what one
states about its accounts decides how each fill was rounded and converted, so that the amounts of an
account add up to its change; a difference that rounding does not explain is left standing and
reported. And first in first out, lot by lot: these are the slices, which say what each amount
belongs to and add up to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation, Overflow
from typing import Final

import duckdb

from fillpath.analytics.corporate_actions import CorporateActions
from fillpath.analytics.currencies import CurrencyDigits, LeafDigits, digits_of_run
from fillpath.analytics.equity import EquityPoint
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.exchange_rates import MarketRates
from fillpath.analytics.leaf_books import LeafBooks
from fillpath.analytics.leaf_slices import AccountLeaves
from fillpath.analytics.ledger_events import (
    LedgerEvent,
    ReadEvent,
    UnreadableFill,
    read_ledger_events,
)
from fillpath.analytics.ledger_walk import LedgerWalk
from fillpath.analytics.lot_queue import Leg, Match
from fillpath.analytics.mark_intervals import LotSpan, lot_marks
from fillpath.analytics.marks import Instrument, Mark, QuotedInstruments, last_marks, quotes_at
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.round_trips import RoundTrip
from fillpath.analytics.slices import Slice, SliceLabels
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.semconv import EventType

_BEYOND = 2**62
"""Sequence after any of a run."""
_WORDS: Final = {EventType.FILL: "fill", EventType.CORPORATE_ACTION: "corporate action"}
"""What is called by another name than a cash flow."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the fills of a run came to.

    Attributes:
        slices: Every amount of profit, in the order of their events.
        trips: Every round trip, in the order of their first fills.
        accounts: Every account and currency, beside the engine's own statement.
        equity: Every statement of every account.
        digits: Decimal places of the currencies of the run.
        legs: What every fill did to the lots of its strategies.
        matches: Every exit with its entry.
        actions: The splits of the run, which bring prices to the units of its end.
    """

    slices: tuple[Slice, ...]
    trips: tuple[RoundTrip, ...]
    accounts: tuple[AccountReconciliation, ...]
    equity: tuple[EquityPoint, ...]
    digits: CurrencyDigits
    legs: tuple[Leg, ...] = ()
    matches: tuple[Match, ...] = ()
    actions: CorporateActions = field(default_factory=lambda: CorporateActions(()))

    def total(self, *kinds: str) -> dict[str, Decimal]:
        """Add up the slices of some kinds, or of all, by currency."""
        totals: dict[str, Decimal] = {}
        with exact_arithmetic():
            for one in self.slices:
                if not kinds or one.kind in kinds:
                    totals[one.currency] = totals.get(one.currency, ZERO) + one.amount
        return totals


def compute_ledger(
    connection: duckdb.DuckDBPyConnection, run_id: str, labels: SliceLabels | None = None
) -> Ledger:
    """Reckon the ledger of a run.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        labels: What slices can be broken down by besides what their fills say.

    Raises:
        FillpathError: When the run's numbers are too large to be reckoned with exactly.
    """
    try:
        return _ledger(connection, run_id, labels)
    except (InvalidOperation, Overflow) as error:
        message = f"Run {run_id!r} has numbers too large for exact money."
        query = (
            "select sequence, price, quantity, attributes from spans where name = 'publish FILL'"
        )
        raise FillpathError(message, next_command=f'fillpath sql "{query}"') from error


def _ledger(
    connection: duckdb.DuckDBPyConnection, run_id: str, labels: SliceLabels | None
) -> Ledger:
    with exact_arithmetic():
        events = read_ledger_events(connection, run_id)
        actions = CorporateActions(events)
        readable = [e for e in actions.restated(events) if not isinstance(e, UnreadableFill)]
        digits = digits_of_run(readable)
        marks = last_marks(connection, run_id)
        walk = _walk(connection, run_id, readable, digits, marks, actions)
        walk.value(marks)
        books = LeafBooks()
        books.follow(walk.executions)
        slices = _slices(connection, run_id, walk, books, marks, labels or SliceLabels())
        quotes = quotes_at(connection, run_id, walk.curve.moments())
        return Ledger(
            slices=tuple(sorted(slices, key=lambda one: one.ref.sequence)),
            trips=tuple(walk.book.trips),
            accounts=tuple(_reconciliations(walk, events, books)),
            equity=walk.equity(quotes),
            digits=walk.digits,
            legs=tuple(books.books.legs),
            matches=tuple(books.books.matches),
            actions=actions,
        )


def _walk(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    events: Sequence[LedgerEvent],
    digits: CurrencyDigits,
    marks: Mapping[Instrument, Mark],
    actions: CorporateActions,
) -> LedgerWalk:
    """Go through the events, again if an account follows only when its strategies are netted."""
    quoted = QuotedInstruments(marks)
    walk = LedgerWalk(events, digits, quoted, actions)
    rates = MarketRates(connection, run_id, marks, walk.conversions())
    walk.follow(rates)
    nets = walk.unnamed_nets()
    if nets:
        netted = LedgerWalk(events, digits, quoted, actions, nets)
        netted.follow(MarketRates(connection, run_id, marks, netted.conversions()))
        failed = [sum(a.has_failed for a in one.accounts.values()) for one in (walk, netted)]
        if failed[1] < failed[0]:
            return netted
    return walk


def _slices(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    walk: LedgerWalk,
    books: LeafBooks,
    marks: Mapping[Instrument, Mark],
    labels: SliceLabels,
) -> Iterator[Slice]:
    last_mark: dict[int, Mark] = {}
    spans: list[LotSpan] = []
    for number, lot in books.legs.items():
        if not lot.opened:
            continue
        fill = lot.fill
        last = _BEYOND
        if lot.left:
            last_mark[number] = walk.last_mark(fill, marks)
        else:
            last = books.legs[lot.exits[-1].exit.number].fill.ref.sequence
        nearest = walk.quoted.nearest((fill.ref.portfolio, fill.symbol, fill.venue))
        if nearest is not None:
            spans.append(LotSpan(number, nearest, fill.ref.sequence, last))
    intervals = {}
    for number, told in lot_marks(connection, run_id, spans).items():
        fill = books.legs[number].fill
        place = fill.ref.portfolio, fill.symbol
        intervals[number] = [walk.actions.of_mark(*place, mark) for mark in told]
    leaf_digits = LeafDigits(walk.digits, walk.events)
    for account in walk.accounts.values():
        leaves = AccountLeaves(account, books, leaf_digits, labels, intervals, last_mark)
        yield from leaves.make()
        account.fifo = (leaves.realized, leaves.unrealized)


def _reconciliations(
    walk: LedgerWalk, events: Sequence[ReadEvent | UnreadableFill], books: LeafBooks
) -> Iterator[AccountReconciliation]:
    """Compare every account with its statements."""
    lost: Counter[tuple[str, str, str]] = Counter(
        (event.ref.portfolio, _WORDS.get(event.event_type, "cash flow"), event.lacks)
        for event in events
        if isinstance(event, UnreadableFill)
    )
    notes: dict[str, list[str]] = {}
    for (portfolio, what, lacks), count in sorted(lost.items(), reverse=True):
        note = f"{count} {what}{'s' * (count > 1)} {lacks}."
        notes.setdefault(portfolio, []).append(note)
    for (portfolio, _), account in sorted(walk.accounts.items()):
        rows = account.reconciliations(notes.get(portfolio, ()))
        yield from (replace(row, status=_FAILED) if notes.get(portfolio) else row for row in rows)
    for portfolio in sorted(notes.keys() - {portfolio for portfolio, _ in walk.accounts}):
        yield AccountReconciliation(portfolio, "", "", "", _FAILED, notes=tuple(notes[portfolio]))


_FAILED = ReconciliationStatus.FAILED
