"""Exchange rates that an engine may have used for a fill: from the quotes it had just then.

Engines do not publish the rate at which they convert. They take it from their quotes, at the bid
for a sale and at the ask for a purchase, on a way of one or several pairs of the fill's venue; not
all turn the sides round where they go a pair backwards.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum, auto
from typing import Final, NamedTuple

import duckdb

from fillpath.analytics.exact import ZERO, quotient
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.marks import Instrument, Moment, Quote, quotes_at

_LONGEST_WAY: Final = 3
_MOST_GUESSES: Final = 24

Rates = dict[str, Decimal]
"""What one unit of a currency comes to in the account's."""


class _Leg(NamedTuple):
    symbol: str
    is_reciprocal: bool


_Way = tuple[_Leg, ...]


class _Side(Enum):
    """Which side of the quotes a rate is taken from."""

    SAME = auto()
    """The order's own, on every leg."""
    TURNED = auto()
    """The order's own, and the other one on legs that are gone backwards."""
    OTHER = auto()
    """The other one, on every leg."""

    def bids(self, fill: FillEvent, leg: _Leg) -> bool:
        """Whether the bid is taken."""
        turned = self is _Side.OTHER or (self is _Side.TURNED and leg.is_reciprocal)
        return (fill.sign < 0) != turned


class _Method(NamedTuple):
    way: _Way
    side: _Side


class MarketRates:
    """Rates by the market data of the run itself.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        instruments: Everything that is quoted in the run.
        conversions: Each fill that an account must convert, and the account's currency.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        run_id: str,
        instruments: Iterable[Instrument],
        conversions: Iterable[tuple[FillEvent, str]],
    ) -> None:
        conversions = list(conversions)
        currencies = {currency for fill, _ in conversions for currency in _currencies(fill)}
        currencies.update(base for _, base in conversions)
        self._pairs: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for portfolio, symbol, venue in instruments:
            for first, second in _split(symbol, currencies):
                self._pairs.setdefault((portfolio, venue), []).append((symbol, first, second))
        self._ways: dict[tuple[str, str, str, str], list[_Way]] = {}
        self._misses: Counter[_Method] = Counter()
        moments = {
            _moment(fill, leg.symbol)
            for fill, base in conversions
            for currency in foreign_currencies(fill, base)
            for way in self._ways_for(fill, currency, base)
            for leg in way
        }
        self._quotes = quotes_at(connection, run_id, moments)

    def guesses(self, fill: FillEvent, base: str) -> list[Rates]:
        """List the rates that may have been used, the likeliest first."""
        return [rates for rates, _ in self._guesses(fill, base)]

    def confirm(self, fill: FillEvent, base: str, rates: Mapping[str, Decimal]) -> None:
        """Remember which methods did not lead to the rates that turned out right."""
        missed: set[_Method] = set()
        for guess, methods in self._guesses(fill, base):
            if guess == rates:
                self._misses.update(missed - set(methods))
                return
            missed.update(methods)

    def _guesses(self, fill: FillEvent, base: str) -> list[tuple[Rates, tuple[_Method, ...]]]:
        currencies = foreign_currencies(fill, base)
        choices = [list(self._rates(fill, currency, base)) for currency in currencies]
        guesses = []
        for choice in itertools.islice(itertools.product(*choices), _MOST_GUESSES):
            if choice and len({method.side for _, method in choice}) == 1:
                rates = [rate for rate, _ in choice]
                methods = tuple(method for _, method in choice)
                guesses.append((dict(zip(currencies, rates, strict=True)), methods))
        return guesses

    def _rates(
        self, fill: FillEvent, currency: str, base: str
    ) -> Iterator[tuple[Decimal, _Method]]:
        ways = sorted(self._ways_for(fill, currency, base), key=len)
        methods = [_Method(way, side) for side in _Side for way in ways]
        for method in sorted(methods, key=self._misses.__getitem__):
            rate = self._rate(fill, method)
            if rate > 0:
                yield rate, method

    def _rate(self, fill: FillEvent, method: _Method) -> Decimal:
        rate = Decimal(1)
        for leg in method.way:
            quote = self._quotes.get(_moment(fill, leg.symbol), _NO_QUOTE)
            price = quote.bid if method.side.bids(fill, leg) else quote.ask
            if price <= 0:
                return ZERO
            rate = quotient(rate, price) if leg.is_reciprocal else rate * price
        return rate

    def _ways_for(self, fill: FillEvent, source: str, target: str) -> list[_Way]:
        key = (fill.ref.portfolio, fill.venue, source, target)
        if key not in self._ways:
            pairs = self._pairs.get(key[:2], [])
            self._ways[key] = list(_ways(pairs, source, target, ()))
        return self._ways[key]


def foreign_currencies(fill: FillEvent, base: str) -> list[str]:
    """List the currencies of a fill that an account kept in one other currency must convert."""
    return [currency for currency in _currencies(fill) if currency != base]


def _currencies(fill: FillEvent) -> list[str]:
    named = [fill.settlement_currency, fill.currency]
    if fill.commission:
        named.append(fill.commission_currency)
    return list(dict.fromkeys(named))


def _moment(fill: FillEvent, symbol: str) -> Moment:
    return fill.ref.portfolio, symbol, fill.venue, fill.ref.sequence


def _split(symbol: str, currencies: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Read a pair's currencies from its name: `EUR/USD`, or `EURUSD` of known ones."""
    first, slash, second = symbol.partition("/")
    if slash:
        yield first, second
        return
    for first in currencies:
        second = symbol.removeprefix(first)
        if second != symbol and second in currencies:
            yield first, second


def _ways(
    pairs: list[tuple[str, str, str]], source: str, target: str, been: tuple[str, ...]
) -> Iterator[_Way]:
    if len(been) >= _LONGEST_WAY:
        return
    for symbol, first, second in pairs:
        for here, there, is_reciprocal in ((first, second, False), (second, first, True)):
            if here != source or there in been:
                continue
            leg = _Leg(symbol, is_reciprocal)
            if there == target:
                yield (leg,)
            else:
                for rest in _ways(pairs, there, target, (*been, source)):
                    yield (leg, *rest)


_NO_QUOTE: Final = Quote(ZERO, ZERO)
