"""A cash account without a base currency: spot crypto, where each fill moves two balances.

Three pairs of three coins; limit orders that lock money and are filled in parts, moved and
cancelled; orders refused for want of balance; a coin the account did not hold; a holding that
stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nautilus_trader.model import (
    AccountType,
    Currency,
    CurrencyPair,
    InstrumentId,
    Money,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    Symbol,
)
from rust_engine import (
    MINUTE_NS,
    MONDAY_NS,
    SIM,
    ScriptedStrategy,
    add_margin_venue,
    quiet_engine,
    run_host,
    walk,
)

BUY, SELL = OrderSide.BUY, OrderSide.SELL


def coin_pair(base: str, quote: str, digits: int) -> CurrencyPair:
    """A pair of coins, traded in hundred-thousandths."""
    return CurrencyPair(
        instrument_id=InstrumentId(Symbol(base + quote), SIM),
        raw_symbol=Symbol(base + quote),
        base_currency=Currency.from_str(base),
        quote_currency=Currency.from_str(quote),
        price_precision=digits,
        size_precision=5,
        price_increment=Price(10**-digits, digits),
        size_increment=Quantity(0.00001, 5),
        ts_event=0,
        ts_init=0,
    )


def thin_quotes(instrument: CurrencyPair, mids: list[float], size: float) -> list[QuoteTick]:
    """One quote a minute and price, four ticks wide."""
    digits = instrument.price_precision
    half = 2 * 10.0**-digits
    return [
        QuoteTick(
            instrument.id,
            Price(mid - half, digits),
            Price(mid + half, digits),
            Quantity(size, 5),
            Quantity(size, 5),
            MONDAY_NS + index * MINUTE_NS,
            MONDAY_NS + index * MINUTE_NS,
        )
        for index, mid in enumerate(mids)
    ]


class Spot(ScriptedStrategy):
    """Trades sizes in turn, by orders at the market or by limits that it moves."""

    def __init__(self, instrument: Any, sizes: list[float], *, tag: str, limits: bool) -> None:
        super().__init__(instrument, tag=tag)
        self.sizes, self.limits = sizes, limits

    def script(self) -> dict[int, Callable[[], None]]:
        steps = {5 + 10 * index: self.trade(size) for index, size in enumerate(self.sizes)}
        if self.limits:
            steps |= {8 + 10 * index: self.move for index in range(0, len(self.sizes), 2)}
            steps[5 + 10 * len(self.sizes)] = lambda: self.cancel_all_orders(self.instrument.id)
        return steps

    def trade(self, size: float) -> Callable[[], None]:
        def send() -> None:
            side = BUY if size > 0 else SELL
            quantity = Quantity(abs(size), 5)
            make = self.order_factory
            if not self.limits:
                self.submit_order(make.market(self.instrument.id, side, quantity))
                return
            quote = self.cache.quote(self.instrument.id)
            assert quote is not None
            price = quote.bid_price if side == BUY else quote.ask_price
            self.submit_order(make.limit(self.instrument.id, side, quantity, price))

        return send

    def move(self) -> None:
        quote = self.cache.quote(self.instrument.id)
        assert quote is not None
        for order in self.cache.orders_open(strategy_id=self.strategy_id):
            price = quote.ask_price if order.side == BUY else quote.bid_price
            self.modify_order(order.client_order_id, price=price)


def main() -> None:
    """Run it."""
    engine = quiet_engine("SPOT-001")
    held = ["100000 USDT", "1 BTC", "5 ETH"]
    add_margin_venue(
        engine,
        account_type=AccountType.CASH,
        base_currency=None,
        default_leverage=None,
        starting_balances=[Money.from_str(one) for one in held],
    )
    plans: list[tuple[CurrencyPair, float, float, list[float], bool]] = [
        (coin_pair("BTC", "USDT", 2), 42_000.0, 0.15, [0.12345, 0.4, -0.3, 90, -0.5], False),
        (coin_pair("ETH", "USDT", 2), 2_300.0, 0.8, [1.23457, -2.5, 0.77777, -3.1, 0.4], True),
        (coin_pair("LTC", "BTC", 5), 0.00171, 500.0, [50, 77.25, -60], False),
    ]
    for number, (instrument, start, size, sizes, limits) in enumerate(plans):
        engine.add_instrument(instrument)
        prices = walk(120, seed=30 + number, start=start, step=0.002)
        engine.add_data(thin_quotes(instrument, prices, size))
        engine.add_strategy(Spot(instrument, sizes, tag=str(number), limits=limits))
    run_host(engine, SIM)


if __name__ == "__main__":
    main()
