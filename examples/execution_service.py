"""Takes orders over HTTP and executes them: the second of two processes that share their traces.

Run ``python examples/execution_service.py``; it prints its address and goes on until Ctrl-C, or
until it has executed ``--orders``. Then ``python examples/signal_service.py ADDRESS``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from fillpath.instrumentation import Tracing, extract, inject

fills = itertools.count(1)


class Orders(BaseHTTPRequestHandler):
    """Executes what is posted, at once and at its price."""

    server: ExecutionService

    def do_POST(self) -> None:
        """Execute an order: its sender's event is the cause, and the fill's address goes back."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tracer = self.server.tracing.tracer
        sender = extract(self.headers)  # None when it tells nothing: this begins a chain then
        with tracer.event(
            "ORDER",
            symbol=order["symbol"],
            parent=sender,
            attributes={
                "trading.order.client_id": order["order_id"],
                "trading.order.side": order["side"],
                "trading.order.quantity": Decimal(order["quantity"]),
                "trading.order.status": "ACCEPTED",
            },
        ):
            answer = {"fill_id": f"F-{next(fills)}", "price": order["price"]}
            with tracer.event(
                "FILL",
                symbol=order["symbol"],
                attributes={
                    "trading.order.client_id": order["order_id"],
                    "trading.order.side": order["side"],
                    "trading.fill.id": answer["fill_id"],
                    "trading.fill.quantity": Decimal(order["quantity"]),
                    "trading.fill.price": Decimal(order["price"]),
                    "trading.fill.currency": "USD",
                },
            ):
                headers: dict[str, str] = {}
                inject(headers)
                self._answer(answer, headers)

    def _answer(self, answer: dict[str, Any], headers: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library calls it
        """Say nothing of each request."""


class ExecutionService(HTTPServer):
    """An HTTP server on loopback.

    Args:
        tracing: The session that records.
        port: Where it listens; 0: anywhere.
    """

    def __init__(self, tracing: Tracing, port: int) -> None:
        super().__init__(("127.0.0.1", port), Orders)
        self.tracing = tracing


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--orders", type=int, help="how many to execute; without, until Ctrl-C")
    given = parser.parse_args()
    with (
        Tracing(portfolio="fund/execution", service_name="execution", mode="live") as tracing,
        ExecutionService(tracing, given.port) as service,
    ):
        print(f"http://127.0.0.1:{service.server_port}", flush=True)
        try:
            for _ in range(given.orders) if given.orders else itertools.count():
                service.handle_request()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
