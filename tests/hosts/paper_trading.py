"""What the home-made engines of the tests have in common: prices, wishes, and books of their own.

Nothing here knows of events. An engine asks for prices and for what its strategies want, and books
its fills; the books are what its traced run is held against.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

CENT = Decimal("0.01")
PORTFOLIOS = ("desk/one", "desk/two")
STRATEGIES = {"follow": 100, "fade": -70}
SYMBOLS = {"ACME": "101.50", "INIT": "47.25"}
DAYS = 40
MOST_AT_ONCE = 60
"""Shares that are filled at once; the rest of an order waits for the next price."""
MOST_HELD = {"ACME": 175, "INIT": 150}
"""Shares of one kind that a portfolio may hold or owe; an order beyond is refused."""


def prices() -> Iterator[tuple[int, dict[str, Decimal]]]:
    """Day by day, the prices of all symbols: the same in every run."""
    numbers = random.Random(7)
    now = {symbol: Decimal(start) for symbol, start in SYMBOLS.items()}
    for day in range(DAYS):
        for symbol, price in now.items():
            now[symbol] = (price * (1 + Decimal(numbers.gauss(0, 0.015)))).quantize(CENT)
        yield day, dict(now)


class Wishes:
    """What one strategy wants to hold: long above the average of the last days, short below."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=4))
        self._wanted: dict[str, int] = {}

    def of(self, symbol: str, price: Decimal) -> int | None:
        """Shares that it wants now, if that is something else than before."""
        last = self._last[symbol]
        last.append(price)
        if len(last) < 4:
            return None
        wanted = self._size if price > sum(last, Decimal()) / 4 else -self._size
        if self._wanted.get(symbol) == wanted:
            return None
        self._wanted[symbol] = wanted
        return wanted


@dataclass(frozen=True)
class Trade:
    """A fill, as the host wrote it down."""

    portfolio: str
    strategy: str
    symbol: str
    order_id: str
    side: str
    quantity: int
    price: Decimal
    commission: Decimal


@dataclass
class Account:
    """The cash account of one portfolio, long or short."""

    name: str
    cash: Decimal = Decimal(100_000)
    held: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    sent: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    trades: list[Trade] = field(default_factory=list)
    orders: int = 0
    refused: int = 0

    def order_for(self, strategy: str, symbol: str, wanted: int) -> tuple[str, int, bool] | None:
        """Id of the next order, shares to buy (or to sell), and whether that is too much."""
        change = wanted - self.sent[strategy, symbol]
        if not change:
            return None
        self.orders += 1
        total = sum(number for (_, each), number in self.sent.items() if each == symbol)
        is_refused = abs(total + change) > MOST_HELD[symbol]
        if is_refused:
            self.refused += 1
        else:
            self.sent[strategy, symbol] = wanted
        return f"O-{self.orders}", change, is_refused

    def book(
        self, strategy: str, symbol: str, order_id: str, quantity: int, price: Decimal
    ) -> Trade:
        """Book a fill: shares bought, or sold where they are fewer than none."""
        commission = (abs(quantity) * price * Decimal("0.0005")).quantize(CENT)
        side = "BUY" if quantity > 0 else "SELL"
        trade = Trade(self.name, strategy, symbol, order_id, side, abs(quantity), price, commission)
        self.cash -= quantity * price + commission
        self.held[strategy, symbol] += quantity
        self.trades.append(trade)
        return trade

    def statement(self) -> list[dict[str, object]]:
        """What a broker says of the account."""
        return [{"currency": "USD", "total": self.cash, "free": self.cash, "locked": Decimal(0)}]

    def equity(self, last: dict[str, Decimal]) -> Decimal:
        """What the account is worth."""
        return self.cash + sum(n * last[symbol] for (_, symbol), n in self.held.items())
