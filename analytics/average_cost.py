"""A position at average cost, the way engines keep it: exact, from the fills alone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fillpath.analytics.exact import ZERO, quotient


@dataclass(slots=True)
class Holding:
    """What is held of one instrument in one position.

    Attributes:
        multiplier: Units of the underlying in one contract.
        is_inverse: Whether profit is reckoned by the reciprocal of the price.
        quantity: Signed: positive long, negative short.
        cost: Sum of price times quantity of what is held; never negative for positive prices.
    """

    multiplier: Decimal
    is_inverse: bool = False
    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def sign(self) -> int:
        """1 long, -1 short, 0 flat."""
        return (self.quantity > 0) - (self.quantity < 0)

    @property
    def average_price(self) -> Decimal:
        """Average price of what is held; zero when flat."""
        return quotient(self.cost, abs(self.quantity)) if self.quantity else ZERO

    @property
    def basis(self) -> Decimal:
        """What was paid for the holding, in the price's currency; negative for a short one."""
        return self.sign * self.cost * self.multiplier

    def opens(self, sign: int, quantity: Decimal) -> Decimal:
        """Tell how much of a fill opens or adds, the rest closes."""
        if self.sign in (0, sign):
            return quantity
        return max(ZERO, quantity - abs(self.quantity))

    def add(self, sign: int, quantity: Decimal, price: Decimal) -> None:
        """Open or add. The holding must be flat or on the same side."""
        self.quantity += sign * quantity
        self.cost += quantity * price

    def close(self, quantity: Decimal, price: Decimal) -> Decimal:
        """Take away at a price and return the profit, exact, in the settlement currency.

        The last of a holding takes all of the cost that is left, so that over a cycle the profits
        add up to what came in less what went out, whatever was rounded in between.

        Args:
            quantity: Positive, at most what is held.
            price: Price of one unit.
        """
        held, sign = abs(self.quantity), self.sign
        released = self.cost if quantity == held else quotient(self.cost * quantity, held)
        if self.is_inverse:
            profit = sign * self._points_inverse(price) * quantity * self.multiplier
        else:
            profit = sign * (price * quantity - released) * self.multiplier
        self.cost -= released
        self.quantity -= sign * quantity
        return profit

    def profit_at(self, price: Decimal) -> Decimal:
        """Return the profit if all were closed at a price, exact, in the settlement currency."""
        if self.is_inverse:
            return self._points_inverse(price) * self.quantity * self.multiplier
        return (price * self.quantity - self.sign * self.cost) * self.multiplier

    def restate(self, quantity: Decimal, average_price: Decimal) -> Decimal:
        """Take over a quantity that the engine has changed by itself, at the average price.

        Args:
            quantity: The new one, signed.
            average_price: What to reckon with if nothing is held.

        Returns:
            The change of `basis`.
        """
        before = self.basis
        if self.quantity:
            self.cost = quotient(self.cost * abs(quantity), abs(self.quantity))
        else:
            self.cost = abs(quantity) * average_price
        self.quantity = quantity
        return self.basis - before

    def _points_inverse(self, price: Decimal) -> Decimal:
        if not price or not self.cost:
            return ZERO
        return quotient(abs(self.quantity), self.cost) - quotient(Decimal(1), price)
