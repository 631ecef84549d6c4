"""Netted orders: one order for several strategies, and what of each fill is whose.

A strategy gets of a fill what it asked for in proportion to the net of all: with contributions of
+150, -50 and +50 a fill of 75 (half of the net of 150) gives 75, -25 and 25, all at the fill's
price. So opposite sides cross inside, and what is left is the fill. Fees are paid by the strategies
on the fill's side, in proportion to what they asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from fillpath.analytics.exact import ZERO, rounded
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.position_book import Execution, HoldingKey, Place

_FINEST: Final = 18
"""Digits of an allocated quantity, as many as the lake's columns have."""


@dataclass(frozen=True, slots=True)
class Share:
    """What of a fill belongs to one strategy.

    Attributes:
        strategy: Empty if none.
        quantity: Signed.
        fee_weight: What it bears of the fees, in proportion; zero on the other side of the fill.
    """

    strategy: str
    quantity: Decimal
    fee_weight: Decimal


@dataclass(slots=True)
class NettedOrders:
    """Shares fills out, order by order: what an order has given a strategy never drifts."""

    _filled: dict[tuple[str, str], tuple[Decimal, dict[str, Decimal]]] = field(default_factory=dict)

    def shares(self, fill: FillEvent, quantity: Decimal) -> list[Share]:
        """Share a fill out between the strategies of its order.

        Args:
            fill: The fill.
            quantity: What it changes the position by, signed.

        Returns:
            The shares, which add up to the quantity exactly; all of it for the fill's own strategy
            if the order names no contributions, or such that do not add up to its side.
        """
        if not can_be_shared(fill):
            return [Share(fill.strategy, quantity, Decimal(1))]
        net = abs(sum((size for _, size in fill.contributions), ZERO))
        key = (fill.ref.portfolio, fill.client_order_id or fill.ref.span_id)
        before, given = self._filled.get(key, (ZERO, {}))
        filled = before + abs(quantity)
        goal = {
            strategy: rounded(size * filled / net, _FINEST) for strategy, size in fill.contributions
        }
        heaviest = max(fill.contributions, key=lambda one: abs(one[1]))[0]
        goal[heaviest] += fill.sign * filled - sum(goal.values(), ZERO)
        self._filled[key] = filled, goal
        return [
            Share(strategy, goal[strategy] - given.get(strategy, ZERO), max(ZERO, size * fill.sign))
            for strategy, size in fill.contributions
        ]


def can_be_shared(fill: FillEvent) -> bool:
    """Tell whether a fill's contributions add up to its side."""
    return sum((size for _, size in fill.contributions), ZERO) * fill.sign > 0


def place_of(fill: FillEvent, account_id: str) -> Place:
    """Where fills of several strategies may meet in one position."""
    return fill.ref.portfolio, account_id, fill.symbol, fill.venue


def shared_places(executions: Iterable[Execution]) -> frozenset[Place]:
    """Find where several strategies trade in one position, by their fills or by contributions."""
    strategies: dict[HoldingKey, set[str]] = {}
    places: dict[HoldingKey, set[Place]] = {}
    shared: set[Place] = set()
    for execution in executions:
        fill = execution.fill
        place = place_of(fill, execution.holding[1])
        if can_be_shared(fill):
            shared.add(place)
        for key in {execution.holding, execution.closing or execution.holding}:
            strategies.setdefault(key, set()).add(fill.strategy)
            places.setdefault(key, set()).add(place)
    for key, names in strategies.items():
        if len(names) > 1:
            shared.update(places[key])
    return frozenset(shared)
