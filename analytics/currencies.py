"""How many decimal places a currency has in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from fillpath.analytics.exact import ZERO, decimal_places
from fillpath.analytics.ledger_events import AccountEvent, FillEvent, LedgerEvent, PositionEvent
from fillpath.analytics.report_format import currency_digits


class CurrencyDigits(Mapping[str, int]):
    """Decimal places by currency: the usual ones, or more where the engine's amounts have more.

    Engines differ (eight places for a stablecoin here, six there), and amounts come without their
    trailing zeros; so the longest amount of a run decides. Any currency may be asked for.
    """

    def __init__(self, amounts: Iterable[tuple[str, Decimal]] = ()) -> None:
        self._seen: dict[str, int] = {}
        self._usual: dict[str, int] = {}
        for currency, amount in amounts:
            places = decimal_places(amount)
            if places > self._seen.get(currency, 0):
                self._seen[currency] = places

    def __getitem__(self, currency: str) -> int:
        if currency not in self._usual:
            self._usual[currency] = currency_digits(currency, {})
        return max(self._seen.get(currency, 0), self._usual[currency])

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


def amounts_stated(events: Iterable[LedgerEvent]) -> Iterator[tuple[str, Decimal]]:
    """Yield every amount of money that the engine rounded itself, with its currency."""
    for event in events:
        if isinstance(event, FillEvent):
            yield event.commission_currency, event.commission
        elif isinstance(event, AccountEvent):
            for currency, balance in event.balances.items():
                yield currency, balance.total
        elif isinstance(event, PositionEvent) and event.currency is not None:
            yield event.currency, event.realized_pnl or ZERO
