"""A cash account that runs out of money: the engine stops the backtest by itself.

A fee that the risk engine does not foresee takes the balance below zero with a fill. The
engine ends the run there without an exception, and half-way: the order has the fill, and so
has the fills report, but the fill is never published, and neither the position nor the
account has changed.
"""

from __future__ import annotations

from collections.abc import Callable

from host_market import ScriptedStrategy, quiet_engine, quotes, walk
from host_report import run_host
from nautilus_trader.backtest.models import FixedFeeModel
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider

XNAS = Venue("XNAS")


class Spender(ScriptedStrategy):
    """Buys until nothing is left."""

    def script(self) -> dict[int, Callable[[], None]]:
        return dict.fromkeys(range(5, 100, 10), self.buy)

    def buy(self) -> None:
        self.submit_order(
            self.order_factory.market(self.instrument.id, OrderSide.BUY, Quantity.from_int(100))
        )


def main() -> None:
    """Run it."""
    engine = quiet_engine("BROKE-001")
    engine.add_venue(
        venue=XNAS,
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=USD,
        starting_balances=[Money(45_000, USD)],
        fee_model=FixedFeeModel(Money(6_000, USD)),
    )
    instrument = TestInstrumentProvider.equity("MSFT", "XNAS")
    engine.add_instrument(instrument)
    engine.add_data(quotes(instrument, walk(100, seed=7, start=187.0, step=0.0002), size=5_000))
    engine.add_strategy(Spender())
    run_host(engine)


if __name__ == "__main__":
    main()
