"""What every fill did to the lots of its strategies, first in first out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from fillpath.analytics.exact import ZERO
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.lot_queue import BookKey, Leg, LotBooks, Match
from fillpath.analytics.netted_orders import NettedOrders, Share, place_of, shared_places
from fillpath.analytics.position_book import Execution
from fillpath.analytics.round_trips import RoundTrip


@dataclass(slots=True)
class LotLeg:
    """A leg, and what is known about it.

    Attributes:
        leg: The leg.
        fill: The fill that it is a part of.
        account: Portfolio and account.
        group: The position, or where several strategies share one, all of its strategies.
        strategy: Whose lots they are.
        fee_weight: What it bears of the fill's fees, in proportion to the fill's other legs.
        trade: The round trip that its lot belongs to.
        closes: The round trip that it closes a part of.
        matches: What it closed.
        exits: What closed the lot that it opened.
        left: What of that lot is still open.
    """

    leg: Leg
    fill: FillEvent
    account: tuple[str, str]
    group: BookKey
    strategy: str
    fee_weight: Decimal
    trade: RoundTrip | None
    closes: RoundTrip | None
    matches: list[Match]
    exits: list[Match] = field(default_factory=list)
    left: Decimal = ZERO

    @property
    def closed(self) -> Decimal:
        """Quantity of older lots that it closed."""
        return sum((match.quantity for match in self.matches), ZERO)

    @property
    def opened(self) -> Decimal:
        """Quantity of the lot that it opened."""
        return self.leg.quantity - self.closed

    @property
    def side(self) -> str:
        """Side of the lot that it opened."""
        return "LONG" if self.leg.sign > 0 else "SHORT"


@dataclass(slots=True)
class LeafBooks:
    """The lots of every strategy, and of the positions that several of them share.

    Attributes:
        legs: Every leg of a strategy, by number.
        books: Their lots.
        net_books: The lots of shared positions, as if they were of one owner.
        net_legs: The legs of these.
        strategies: Whose lots each group has.
    """

    legs: dict[int, LotLeg] = field(default_factory=dict)
    books: LotBooks = field(default_factory=LotBooks)
    net_books: LotBooks = field(default_factory=LotBooks)
    net_legs: dict[int, LotLeg] = field(default_factory=dict)
    strategies: dict[BookKey, set[str]] = field(default_factory=dict)

    def legs_of(self, sequence: int) -> list[LotLeg]:
        """The legs of the fill at a sequence."""
        return self._by_fill.get(sequence, [])

    _by_fill: dict[int, list[LotLeg]] = field(default_factory=dict)

    def follow(self, executions: Sequence[Execution]) -> None:
        """Take every fill, in order."""
        shared = shared_places(executions)
        orders = NettedOrders()
        for execution in executions:
            if execution.entry_of is None and execution.exit_of is None:
                continue  # the engine keeps it out of every position
            fill = execution.fill
            place = place_of(fill, execution.holding[1])
            change = fill.sign * fill.quantity + execution.restated_quantity
            if place not in shared:
                for key, quantity in _parts(execution, change):
                    share = Share(fill.strategy, quantity, abs(quantity))
                    self._add(execution, key, key, share)
                continue
            group = ("shared", *place)
            for share in orders.shares(fill, change):
                self._add(execution, (*group, share.strategy), group, share)
            for key, quantity in _parts(execution, change):
                self._add_net(execution, key, group, quantity)
        for lot in self.books.open_lots():
            self.legs[lot.entry.number].left = lot.left

    def _add(self, execution: Execution, book: BookKey, group: BookKey, share: Share) -> None:
        made = _leg(execution, len(self.legs), book, group, share)
        if made is None:
            return
        made.matches.extend(self.books.take(made.leg))
        for match in made.matches:
            self.legs[match.entry.number].exits.append(match)
        self.legs[made.leg.number] = made
        self._by_fill.setdefault(execution.fill.ref.sequence, []).append(made)
        self.strategies.setdefault(group, set()).add(share.strategy)

    def _add_net(
        self, execution: Execution, book: BookKey, group: BookKey, quantity: Decimal
    ) -> None:
        share = Share("", quantity, ZERO)
        made = _leg(execution, len(self.net_legs), book, group, share)
        if made is not None:
            self.net_books.take(made.leg)
            self.net_legs[made.leg.number] = made


def _parts(execution: Execution, change: Decimal) -> Iterator[tuple[BookKey, Decimal]]:
    """Divide a fill that turned a position where the engine goes on in another one."""
    if execution.closing in {(), execution.holding}:
        yield execution.holding, change
        return
    closed = execution.fill.sign * execution.closed
    yield execution.closing, closed
    yield execution.holding, change - closed


def _leg(
    execution: Execution, number: int, book: BookKey, group: BookKey, share: Share
) -> LotLeg | None:
    if not share.quantity:
        return None
    fill = execution.fill
    leg = Leg(
        number=number,
        book=book,
        sign=1 if share.quantity > 0 else -1,
        quantity=abs(share.quantity),
        price=fill.price,
        multiplier=fill.multiplier,
        is_inverse=fill.is_inverse,
    )
    return LotLeg(
        leg=leg,
        fill=fill,
        account=(execution.holding[0], execution.holding[1]),
        group=group,
        strategy=share.strategy,
        fee_weight=share.fee_weight,
        trade=execution.entry_of or execution.exit_of,
        closes=execution.exit_of or execution.entry_of,
        matches=[],
    )
