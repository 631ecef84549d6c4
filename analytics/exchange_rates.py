"""Exchange rates that an engine may have used for a fill: from the quotes it had just then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import duckdb

from fillpath.analytics.exact import quotient
from fillpath.analytics.ledger_events import FillEvent
from fillpath.analytics.marks import Moment, quotes_at

Pair = tuple[str, str]
"""A currency, and the one it is brought to."""


class MarketRates:
    """Rates by the market data of the run itself.

    Args:
        connection: Has the view ``spans``.
        run_id: The run.
        conversions: Each fill whose amounts are brought to another currency, and the pairs.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        run_id: str,
        conversions: Iterable[tuple[FillEvent, Pair]],
    ) -> None:
        moments = [
            _moment(fill, symbol) for fill, pair in conversions for symbol, _ in _spellings(pair)
        ]
        self._quotes = quotes_at(connection, run_id, moments)

    def at(self, fill: FillEvent, pair: Pair) -> tuple[Decimal, ...]:
        """Give the rates of both sides and between, by the quotes before a fill."""
        for symbol, is_reciprocal in _spellings(pair):
            quote = self._quotes.get(_moment(fill, symbol))
            if quote is None or quote.bid <= 0 or quote.ask <= 0:
                continue
            sides = (quote.bid, quote.ask, quote.middle)
            return tuple(quotient(Decimal(1), s) for s in sides) if is_reciprocal else sides
        return ()


def _moment(fill: FillEvent, symbol: str) -> Moment:
    return fill.ref.portfolio, symbol, fill.venue, fill.ref.sequence


def _spellings(pair: Pair) -> Iterator[tuple[str, bool]]:
    source, target = pair
    for first, second, is_reciprocal in ((source, target, False), (target, source, True)):
        for separator in ("/", ""):
            yield f"{first}{separator}{second}", is_reciprocal


def foreign_currencies(fill: FillEvent, base: str) -> Mapping[str, None]:
    """List the currencies of a fill that an account kept in one other currency must convert."""
    currencies = (fill.settlement_currency, fill.currency, fill.commission_currency)
    return dict.fromkeys(c for c in currencies if c != base)
