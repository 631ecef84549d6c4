"""A parameter sweep over processes: METHOD (`fork` or `spawn`), and a data folder to record it in.

Prints the average prices of each backtest's orders, by parameter.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from contextlib import nullcontext

from host_market import add_margin_venue, fx, quiet_engine, quotes, walk
from nautilus_node import EveryNth, EveryNthConfig

from fillpath.instrumentation import NautilusInstrumentor, Tracing

VALUES = (25, 50, 80)


def instrument() -> None:
    """Attach to the engine, in this process."""
    NautilusInstrumentor().instrument()


def backtest(every: int) -> list[str]:
    """Backtest with one value."""
    engine = quiet_engine("SWEEP-001")
    add_margin_venue(engine)
    pair = fx()
    engine.add_instrument(pair)
    engine.add_data(quotes(pair, walk(200, seed=3, start=1.1, step=0.001)))
    engine.add_strategy(EveryNth(EveryNthConfig(traded=pair.id, every=every)))
    engine.run()
    prices = [str(order.avg_px) for order in engine.cache.orders()]
    engine.dispose()
    return prices


def main(method: str, data: str | None = None) -> None:
    """Run it."""
    session: Tracing | nullcontext[None] = nullcontext()
    if data is not None:
        os.environ["FILLPATH_DATA"] = data
        instrument()
        session = Tracing("sweep", writer="none")
    start = instrument if data is not None and method == "spawn" else None
    with session, multiprocessing.get_context(method).Pool(2, start) as pool:
        found = pool.map(backtest, VALUES, chunksize=1)
        pool.close()
        pool.join()
    json.dump({str(value): prices for value, prices in zip(VALUES, found, strict=True)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
