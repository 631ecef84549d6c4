"""Splits: everything before one is told in the units that are in use at the end of the run.

After a split of two for one, 100 shares bought at 40.00 are 200 bought at 20.00. So fills,
positions and prices before it are brought to that, as adjusted prices are in any chart, and
positions, lots and marks need to know nothing of splits. What a fill cost stays the same. What the
engine then holds by its own word, and its fills do not come to, is a fraction that was paid out,
or shares that came for nothing: an execution of its own at the money that was paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from fillpath.analytics.exact import ZERO, quotient, trimmed
from fillpath.analytics.ledger_events import (
    CorporateActionEvent,
    FillEvent,
    PositionEvent,
)
from fillpath.analytics.marks import Mark, Quote
from fillpath.instrumentation.semconv import EventType

_LARGEST_TERM: Final = 1000
"""A split is told in whole numbers, three for two; a ratio in binary only comes close."""
_CLOSE: Final = Fraction(1, 10**9)
_ONE: Final = Fraction(1)


class CorporateActions:
    """The splits and the like of a run.

    Args:
        events: Everything that could be read, in order.
    """

    def __init__(self, events: Sequence[Any]) -> None:
        self._ratios: dict[tuple[str, str], list[tuple[int, Fraction]]] = {}
        self._with_positions: set[str] = set()
        for event in events:
            if isinstance(event, PositionEvent):
                self._with_positions.add(event.ref.portfolio)
            if isinstance(event, CorporateActionEvent) and event.ratio != 1:
                place = event.ref.portfolio, event.symbol
                told = event.ref.sequence, _meant(event.ratio)
                self._ratios.setdefault(place, []).append(told)

    def restated(self, events: Sequence[Any]) -> Iterator[Any]:
        """Yield the events in the units of the end, and what the actions came to as fills."""
        held: dict[tuple[str, str], Decimal] = {}
        last: dict[tuple[str, str], FillEvent] = {}
        for event in events:
            if isinstance(event, FillEvent):
                place = event.ref.portfolio, event.symbol
                fill = self._restated_fill(event)
                held[place] = held.get(place, ZERO) + fill.sign * fill.quantity
                last[place] = fill
                yield fill
            elif isinstance(event, PositionEvent) and event.quantity is not None:
                ratio = self._ratio(event.ref.portfolio, event.symbol, event.ref.sequence)
                yield replace(event, quantity=_divided(event.quantity, ratio))
            elif isinstance(event, CorporateActionEvent):
                place = event.ref.portfolio, event.symbol
                fill_of_action = self._difference(event, held.get(place, ZERO), last.get(place))
                if fill_of_action is not None:
                    held[place] = held.get(place, ZERO)
                    held[place] += fill_of_action.sign * fill_of_action.quantity
                    yield fill_of_action
                    position_id = fill_of_action.position_id
                    # Of a host that never tells its positions, this would be the only one.
                    if position_id is not None and place[0] in self._with_positions:
                        yield _said(event, position_id, held[place])
            else:
                yield event

    def of_mark(self, portfolio: str, symbol: str, mark: Mark) -> Mark:
        """Bring a price to the units that a portfolio has at the end, whoever published it."""
        ratio = self._ratio(portfolio, symbol, mark.ref.sequence)
        return mark if ratio == 1 else replace(mark, price=_multiplied(mark.price, ratio))

    def of_quote(self, portfolio: str, symbol: str, sequence: int, quote: Quote) -> Quote:
        """Bring both sides of a price to the units that a portfolio has at the end."""
        ratio = self._ratio(portfolio, symbol, sequence)
        if ratio == 1:
            return quote
        return Quote(_multiplied(quote.bid, ratio), _multiplied(quote.ask, ratio))

    def of_price(
        self,
        portfolio: str,
        symbol: str,
        sequence: int,
        price: Decimal,
        *,
        units_of: int | None = None,
    ) -> Decimal:
        """Bring a price of a moment to the units that a portfolio has at another, or at the end."""
        ratio = self._ratio(portfolio, symbol, sequence)
        if units_of is not None:
            ratio /= self._ratio(portfolio, symbol, units_of)
        return price if ratio == 1 else _multiplied(price, ratio)

    def between(self, portfolio: str, symbol: str, first: int, last: int | None) -> list[int]:
        """Where the units changed between two moments, neither of them included, in order."""
        told = self._ratios.get((portfolio, symbol), ())
        return [at for at, _ in told if first < at and (last is None or at < last)]

    def _ratio(self, portfolio: str, symbol: str, sequence: int) -> Fraction:
        """What prices of a moment are to be multiplied by: the ratios of all later splits."""
        ratio = _ONE
        for at, one in self._ratios.get((portfolio, symbol), ()):
            if at > sequence:
                ratio *= one
        return ratio

    def _restated_fill(self, fill: FillEvent) -> FillEvent:
        ratio = self._ratio(fill.ref.portfolio, fill.symbol, fill.ref.sequence)
        if ratio == 1:
            return fill
        return replace(
            fill,
            quantity=_divided(fill.quantity, ratio),
            price=_multiplied(fill.price, ratio),
            price_factor=_multiplied(Decimal(1), ratio),
            contributions=tuple((s, _divided(q, ratio)) for s, q in fill.contributions),
        )

    def _difference(
        self, action: CorporateActionEvent, held: Decimal, last: FillEvent | None
    ) -> FillEvent | None:
        """What an action did to a position beyond its ratio, as a fill; None for nothing."""
        if action.quantity is None:
            return None
        ratio = self._ratio(action.ref.portfolio, action.symbol, action.ref.sequence)
        change = _divided(action.quantity, ratio) - held
        if not change:
            return None
        sign = 1 if change > 0 else -1
        currency = action.currency or (last.currency if last is not None else "")
        return FillEvent(
            ref=action.ref,
            sign=sign,
            quantity=abs(change),
            price=quotient(-sign * action.cash, abs(change)),
            commission=ZERO,
            currency=currency,
            commission_currency=currency,
            settlement_currency=currency if last is None else last.settlement_currency,
            base_currency=None,
            multiplier=Decimal(1) if last is None else last.multiplier,
            is_inverse=False,
            strategy=action.strategy or ("" if last is None else last.strategy),
            symbol=action.symbol,
            venue=action.venue if last is None else last.venue,
            fill_id=None,
            client_order_id=None,
            position_id=action.position_id or (None if last is None else last.position_id),
            account_id=action.account_id or (None if last is None else last.account_id),
            is_traded=False,
        )


def _said(action: CorporateActionEvent, position_id: str, quantity: Decimal) -> PositionEvent:
    """What the engine says about the position after the action's fill."""
    kind = EventType.POSITION_CHANGE if quantity else EventType.POSITION_CLOSE
    return PositionEvent(action.ref, kind, position_id, action.symbol, quantity, None, "")


def _meant(ratio: Decimal) -> Fraction:
    """The ratio of small whole numbers that was meant, if there is one so close."""
    exact = Fraction(ratio)
    simple = exact.limit_denominator(_LARGEST_TERM)
    return simple if abs(simple - exact) <= exact * _CLOSE and simple > 0 else exact


def _multiplied(number: Decimal, ratio: Fraction) -> Decimal:
    return trimmed(quotient(number * ratio.numerator, Decimal(ratio.denominator)), 0)


def _divided(number: Decimal, ratio: Fraction) -> Decimal:
    return number if ratio == 1 else _multiplied(number, 1 / ratio)
