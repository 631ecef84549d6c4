"""First in, first out: which exit closes which entry, and what each such match earned.

A book is what is held by one strategy in one position. A fill is a leg of a book; a leg that turns
the book closes all of its lots and opens one of the other side. `fifo_matches` does the same by
another way, in SQL, and the two must agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from fillpath.analytics.exact import ZERO, quotient

BookKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leg:
    """What a fill does to one book.

    Attributes:
        number: Place among all legs of the ledger; later legs have higher ones.
        book: The book.
        sign: 1 bought, -1 sold.
        quantity: Positive.
        price: Of one unit.
        multiplier: Units of the underlying in one contract.
        is_inverse: Whether profit is reckoned by the reciprocal of the price.
    """

    number: int
    book: BookKey
    sign: int
    quantity: Decimal
    price: Decimal
    multiplier: Decimal = Decimal(1)
    is_inverse: bool = False


@dataclass(slots=True)
class Lot:
    """What one leg opened.

    Attributes:
        entry: The leg.
        opened: Quantity at first.
        left: Quantity that is still open.
    """

    entry: Leg
    opened: Decimal
    left: Decimal


@dataclass(frozen=True, slots=True)
class Match:
    """A part of a lot and the leg that closed it.

    Attributes:
        entry: The leg that opened the lot.
        exit: The leg that closed this part of it.
        quantity: Positive.
    """

    entry: Leg
    exit: Leg
    quantity: Decimal

    @property
    def profit(self) -> Decimal:
        """Profit before commission, exact, in the settlement currency."""
        return lot_profit(self.entry, self.quantity, self.exit.price)


def lot_profit(entry: Leg, quantity: Decimal, price: Decimal) -> Decimal:
    """Return what a quantity of a lot earns at a price, exact, in the settlement currency."""
    size = entry.sign * quantity * entry.multiplier
    if not entry.is_inverse:
        return (price - entry.price) * size
    if not price or not entry.price:
        return ZERO
    return (quotient(Decimal(1), entry.price) - quotient(Decimal(1), price)) * size


@dataclass(slots=True)
class LotQueue:
    """The open lots of one book, the oldest first; all of one side."""

    lots: deque[Lot] = field(default_factory=deque)

    def take(self, leg: Leg) -> list[Match]:
        """Close the oldest lots of the other side, and open one with what is left of the leg."""
        matches, left = [], leg.quantity
        while left and self.lots and self.lots[0].entry.sign != leg.sign:
            lot = self.lots[0]
            closed = min(left, lot.left)
            matches.append(Match(lot.entry, leg, closed))
            lot.left -= closed
            left -= closed
            if not lot.left:
                self.lots.popleft()
        if left:
            self.lots.append(Lot(leg, left, left))
        return matches


@dataclass(slots=True)
class LotBooks:
    """Every book of a ledger.

    Attributes:
        legs: Every leg, in order.
        matches: Every match, in the order of the exits.
        books: The open lots by book.
    """

    legs: list[Leg] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    books: dict[BookKey, LotQueue] = field(default_factory=dict)

    def take(self, leg: Leg) -> list[Match]:
        """Take the next leg."""
        matches = self.books.setdefault(leg.book, LotQueue()).take(leg)
        self.legs.append(leg)
        self.matches.extend(matches)
        return matches

    def open_lots(self) -> Iterable[Lot]:
        """Yield every lot that is still open."""
        for queue in self.books.values():
            yield from queue.lots
