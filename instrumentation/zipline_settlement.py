"""What futures pay into a zipline account: it settles them whenever it looks at its portfolio.

zipline pays nothing for a contract. It pays what the contract gains, from the price that it was
last paid at to the price of now: before each of its fills, and when the portfolio is reckoned. That
is at each session's end at the latest, so that what an open contract has gained is in the cash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

_DIGITS: Final = 15
"""That a double knows, of any number."""
Tell = Callable[[Any, float], None]
"""Takes an asset, and what it pays."""


class ZiplineSettlement:
    """Follows a ledger's payments, which it does not tell one by one.

    Args:
        ledger: The engine's `Ledger`.
        tell: Is told each payment, as one for each contract however often it was paid meanwhile.
    """

    def __init__(self, ledger: Any, tell: Tell) -> None:
        self._paid_at: Mapping[Any, float] = getattr(ledger, "_payout_last_sale_prices", {})
        self._positions = ledger.position_tracker.positions
        self._tell = tell
        self._told_at: dict[Any, float] = {}

    @property
    def untold(self) -> float:
        """What has been paid and was not told yet."""
        return sum((self._paid(one, self._paid_at[one]) for one in self._open()), 0.0)

    def tell(self) -> None:
        """Tell what has been paid since it was told last."""
        for asset in list(self._open()):
            self._tell_until(asset, self._paid_at[asset])

    def before_fill(self, asset: Any, price: float) -> None:
        """Tell what a fill is about to pay for what is held before it."""
        if asset in self._told_at:
            self._tell_until(asset, float(price))

    def after_fill(self, asset: Any) -> None:
        """Note the price that the engine goes on from."""
        if asset in self._paid_at:
            self._told_at[asset] = float(self._paid_at[asset])
        else:
            self._told_at.pop(asset, None)

    def _open(self) -> list[Any]:
        return [asset for asset in self._told_at if asset in self._paid_at]

    def _tell_until(self, asset: Any, price: float) -> None:
        amount = self._paid(asset, price)
        self._told_at[asset] = float(price)
        if amount:
            self._tell(asset, amount)

    def _paid(self, asset: Any, price: float) -> float:
        position = self._positions.get(asset)
        held = 0.0 if position is None else float(position.amount)
        size = float(asset.price_multiplier) * held
        return as_known((float(price) - self._told_at[asset]) * size, float(price) * size)


def as_known(change: float, worth: float) -> float:
    """Round a difference of doubles to the digits that it has: 15 of what it is the change of."""
    if not worth or not math.isfinite(worth):
        return change
    return round(change, _DIGITS - math.ceil(math.log10(abs(worth))))
