"""A search over two parameters in a pool of processes, on an algorithm that is a closure.

The second argument is their start method, `fork` by itself.
"""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pandas as pd
import zipline_market
from zipline.api import order_target_percent, symbol

GRID = [(3, 0.5), (5, 0.5), (5, 0.9)]


def crossing(context: Any, data: Any, *, fast: int, weight: float) -> None:
    prices = data.history(context.asset, "price", fast, "1d")
    order_target_percent(context.asset, weight if prices.iloc[-1] > prices.mean() else 0.0)


def backtest(parameters: tuple[int, float]) -> pd.DataFrame:
    """Run one."""
    fast, weight = parameters

    def initialize(context: Any) -> None:
        context.asset = symbol("AAPL")

    return zipline_market.run(
        **zipline_market.days(first="2004-11-01", last="2004-12-10"),
        initialize=initialize,
        handle_data=functools.partial(crossing, fast=fast, weight=weight),
    )


def main() -> None:
    """Run all of them."""
    zipline_market.use_bundle()
    context = multiprocessing.get_context(sys.argv[2] if len(sys.argv) > 2 else "fork")
    with ProcessPoolExecutor(2, context, zipline_market.use_bundle) as pool:
        perfs = list(pool.map(backtest, GRID))
    again = pickle.loads(pickle.dumps(perfs))  # noqa: S301 - our own
    zipline_market.write(
        {f"fast {f}, weight {w}": p for (f, w), p in zip(GRID, again, strict=True)}
    )


if __name__ == "__main__":
    main()
