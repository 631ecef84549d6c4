"""What basana rounds off the price of a fill, where that is more than a currency's smallest unit.

A pair may be booked in fewer digits than its currency has, such as two of BTC. The ledger takes
less than one unit of the currency for rounding; more of it has to be told.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from basana.backtesting.account_balances import AccountBalances
from basana.backtesting.config import Config
from basana.core.enums import PrecisionMode

_USUAL_PLACES: Final = 2
_PLACES_OF_COINS: Final = 8
_COINS: Final = frozenset({"BTC", "ETH", "XBT"})
_ZERO: Final = Decimal(0)


def told_rounding(order: Any, fill: Any, balances: AccountBalances, config: Config) -> Decimal:
    """Give what the account gained by the rounding of a fill's price, if it has to be told.

    It is told in the digits that the exchange has of the currency: the most that a balance or a
    pair with it has there.
    """
    pair, info, updates = order.pair, order.pair_info, fill.balance_updates
    gained: Decimal = updates[pair.quote_symbol] + updates[pair.base_symbol] * fill.price
    if not gained:
        return _ZERO
    digits = _digits_of(pair.quote_symbol, balances, config)
    unit = Decimal(1).scaleb(-digits)
    if info.precision_mode == PrecisionMode.DECIMAL_PLACES and info.quote_precision >= digits:
        return _ZERO
    return gained.quantize(unit, rounding=ROUND_HALF_EVEN)


def _digits_of(symbol: str, balances: AccountBalances, config: Config) -> int:
    found = [_PLACES_OF_COINS if symbol in _COINS else _USUAL_PLACES]
    found.extend(
        _places(held.get(symbol, _ZERO)) for held in (balances.balances, balances.borrowed)
    )
    default = config._default_pair_info
    infos = [(True, default), (False, default)] if default is not None else []
    infos += [
        (pair.quote_symbol == symbol, info)
        for pair, info in config._pair_info.items()
        if symbol in {pair.base_symbol, pair.quote_symbol}
    ]
    for is_quote, info in infos:
        if info.precision_mode == PrecisionMode.DECIMAL_PLACES:
            found.append(info.quote_precision if is_quote else info.base_precision)
        elif info.precision_mode == PrecisionMode.TICK_SIZE:
            tick = info.quote_tick_size if is_quote else info.base_tick_size
            found.append(_places(tick or _ZERO))
        else:
            found.append(_PLACES_OF_COINS)
    return max(found)


def _places(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
