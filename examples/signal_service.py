"""Makes signals of prices and sends orders over HTTP: the first of two processes that share traces.

Start execution_service.py, then run ``python examples/signal_service.py ADDRESS`` with the address
that it prints. `fillpath trace show` of the fill that is printed last shows both sides.
"""

from __future__ import annotations

import itertools
import json
import sys
import urllib.request
from decimal import Decimal

from fillpath.instrumentation import Tracing, extract, inject

PRICES = [Decimal("100.00"), Decimal("101.50"), Decimal("100.75"), Decimal("102.25")]
DAY = 86_400_000_000_000


class SignalService:
    """Buys when a price is higher than the one before.

    Args:
        tracing: The session that records.
        url: Where orders are executed.
    """

    def __init__(self, tracing: Tracing, url: str) -> None:
        self.tracer = tracing.tracer
        self.url = url
        self.fills: list[str] = []

    def on_bar(self, number: int, price: Decimal, before: Decimal) -> None:
        """Take a price."""
        with self.tracer.event(
            "BAR",
            symbol="AAPL",
            event_time=number * DAY,
            attributes={"trading.bar.close": price},
        ):
            if price > before:
                with self.tracer.event(
                    "SIGNAL",
                    symbol="AAPL",
                    strategy="momentum",
                    event_time=number * DAY,
                    attributes={"trading.signal.value": 1},
                ):
                    self.order(f"O-{number}", price)

    def order(self, order_id: str, price: Decimal) -> None:
        """Send an order, with the address of the event that causes it in the headers."""
        order = {
            "order_id": order_id,
            "symbol": "AAPL",
            "side": "BUY",
            "quantity": "10",
            "price": str(price),
        }
        headers = {"Content-Type": "application/json"}
        inject(headers)
        request = urllib.request.Request(self.url, json.dumps(order).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - on loopback
            fill = json.load(answer)
            cause = extract(answer.headers)  # the fill, as the other process knows it
        with self.tracer.event(
            "POSITION_OPEN",
            symbol="AAPL",
            strategy="momentum",
            parent=cause,
            attributes={"trading.fill.id": fill["fill_id"], "trading.position.side": "LONG"},
        ):
            self.fills.append(fill["fill_id"])


def main(url: str) -> None:
    """Go through the prices."""
    with Tracing(portfolio="fund/signals", service_name="signals", mode="live") as tracing:
        service = SignalService(tracing, url)
        for number, (before, price) in enumerate(itertools.pairwise(PRICES), start=1):
            service.on_bar(number, price, before)
    print(*service.fills)


if __name__ == "__main__":
    main(sys.argv[1])
