"""How many decimal places a currency has in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from fillpath.analytics.exact import ZERO, decimal_places, rounded
from fillpath.analytics.ledger_events import (
    AccountEvent,
    CashFlowEvent,
    FillEvent,
    LedgerEvent,
    PositionEvent,
)
from fillpath.analytics.report_format import currency_digits

_UNROUNDED: Final = 40
_CENTS: Final = 2
_COINS: Final = frozenset({"BTC", "ETH", "XBT"})


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


class AccountDigits:
    """Decimal places of currencies, as each account of a run has them.

    Accounts that share a run need not share their digits: one exchange books a coin in two places,
    another in eight. What the coarse one rounds off is rounding there, and no difference. An engine
    that states no account has the digits of the whole run.

    Args:
        events: What the ledger reads.
        account_of: Names the account of a fill or a cash flow.
        run: The digits of the whole run.
    """

    def __init__(
        self,
        events: Iterable[LedgerEvent],
        account_of: Callable[[FillEvent | CashFlowEvent], str],
        run: CurrencyDigits,
    ) -> None:
        self._run = run
        self._by_account: dict[tuple[str, str], CurrencyDigits] = {}
        self._in_doubles: set[tuple[str, str]] = set()
        stated: dict[tuple[str, str], list[LedgerEvent]] = {}
        positions: dict[str, list[LedgerEvent]] = {}
        for event in events:
            portfolio = event.ref.portfolio
            if isinstance(event, PositionEvent):  # it names no account
                positions.setdefault(portfolio, []).append(event)
                continue
            account = event.account_id if isinstance(event, AccountEvent) else account_of(event)
            stated.setdefault((portfolio, account or ""), []).append(event)
        for key, said in stated.items():
            balances = [b for e in said if isinstance(e, AccountEvent) for b in e.balances.values()]
            if balances:
                told = amounts_stated([*said, *positions.get(key[0], ())])
                self._by_account[key] = CurrencyDigits(told)
            if any(balance.is_double for balance in balances):
                self._in_doubles.add(key)

    def of(self, portfolio: str, account_id: str | None) -> CurrencyDigits:
        """Give the decimal places of one account, by currency."""
        return self._by_account.get((portfolio, account_id or ""), self._run)

    def in_doubles(self, portfolio: str, account_id: str | None) -> bool:
        """Tell whether an account is reckoned in doubles, so that last digits mean nothing."""
        return (portfolio, account_id or "") in self._in_doubles


def digits_of_run(events: Iterable[LedgerEvent]) -> CurrencyDigits:
    """Give the decimal places of a run's currencies.

    An engine that states neither accounts nor positions rounds to none that is known. Of a currency
    without cents (yen, won) it then has two where its trades are worth fractions of it.
    """
    events = list(events)
    amounts = list(amounts_stated(events))
    if not any(isinstance(event, AccountEvent | PositionEvent) for event in events):
        for event in events:
            if isinstance(event, FillEvent) and not event.is_inverse:
                worth = event.price * event.quantity * event.multiplier
                amounts.append((event.settlement_currency, rounded(worth, _CENTS)))
    return CurrencyDigits(amounts)


def amounts_stated(events: Iterable[LedgerEvent]) -> Iterator[tuple[str, Decimal]]:
    """Yield every amount of money that the engine rounded itself, with its currency."""
    for event in events:
        if isinstance(event, FillEvent):
            yield event.commission_currency, event.commission
        elif isinstance(event, AccountEvent):
            for currency, balance in event.balances.items():
                yield currency, balance.total
        elif isinstance(event, CashFlowEvent):
            yield event.currency, event.amount
        elif event.currency is not None:
            yield event.currency, event.realized_pnl or ZERO


class LeafDigits(Mapping[str, int]):
    """Decimal places that slices are rounded to.

    A currency that people know, or in which the engine states amounts, has its own; in any other
    (a token that nobody rounded yet, or none that is named) nothing is rounded that matters.
    """

    def __init__(self, digits: CurrencyDigits, events: Iterable[LedgerEvent]) -> None:
        self._digits = digits
        self._stated: set[str] = set()
        for event in events:
            if isinstance(event, AccountEvent):
                self._stated.update(event.balances)
            elif isinstance(event, PositionEvent) and event.currency is not None:
                self._stated.add(event.currency)

    def __getitem__(self, currency: str) -> int:
        places = self._digits[currency]
        if currency in self._stated or currency in _ISO_4217 or currency in _COINS:
            return places
        return max(places, _UNROUNDED)

    def __iter__(self) -> Iterator[str]:
        return iter(self._digits)

    def __len__(self) -> int:
        return len(self._digits)


_ISO_4217: Final = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP
    BYN BZD CAD CDF CHF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP
    GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS
    KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
    MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF
    SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD
    TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a code a line would be longer than all the rest
)
