"""What a price is worth in money: the profit and the costs of one contract."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from fillpath.analytics.exact import ZERO, quotient
from fillpath.analytics.ledger_events import FillEvent


@dataclass(frozen=True, slots=True)
class PriceWorth:
    """How an instrument turns prices into money of its settlement currency.

    A linear contract is worth its price times the multiplier. An inverse one, which is quoted in
    one currency and settled in the other, is worth less the reciprocal of its price times the
    multiplier: that too rises with the price, and a difference of two is the profit between them.

    Attributes:
        multiplier: Units of the underlying in one contract.
        is_inverse: Whether profit is reckoned by the reciprocal of the price.
        currency: Settlement currency; empty if nobody names it.
    """

    multiplier: Decimal = Decimal(1)
    is_inverse: bool = False
    currency: str = ""

    @classmethod
    def of(cls, fill: FillEvent) -> Self:
        """Take it from a fill, which tells it of its instrument."""
        return cls(fill.multiplier, fill.is_inverse, fill.settlement_currency)

    def of_price(self, price: Decimal) -> Decimal:
        """Return what one contract is worth at a price; an inverse one has no worth at zero."""
        if not self.is_inverse:
            return price * self.multiplier
        return -quotient(self.multiplier, price) if price else ZERO

    def cost(self, sign: int, quantity: Decimal, wanted: Decimal, got: Decimal) -> Decimal:
        """Return what it cost to trade at one price instead of another; a gain is negative.

        Args:
            sign: 1 for a purchase, -1 for a sale.
            quantity: How much, positive.
            wanted: The price to compare with.
            got: The price that was paid or taken.
        """
        # Plus zero, because a sale at the very price would be a cost of minus zero.
        return sign * quantity * (self.of_price(got) - self.of_price(wanted)) + ZERO
