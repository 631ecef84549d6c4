"""An order that a control forbids: zipline raises in the middle of `handle_data`.

The order before it is filled no more. The script writes that the engine raised, and lets the
exception through: the process ends with a traceback and exit status 1. With a second argument
``caught`` it ends well.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
import zipline_market
from zipline.api import order, set_long_only, symbol
from zipline.errors import TradingControlViolation


def initialize(context: Any) -> None:
    context.day = 0
    context.asset = symbol("AAPL")
    set_long_only()


def handle_data(context: Any, data: Any) -> None:
    context.day += 1
    if context.day in (3, 9):
        order(context.asset, 100)
    if context.day == 9:
        order(context.asset, -5_000)


def main() -> None:
    """Run it."""
    try:
        zipline_market.run(initialize=initialize, handle_data=handle_data)
    except TradingControlViolation as violation:
        zipline_market.write({}, error=str(violation)[:120])
        if sys.argv[2:] != ["caught"]:
            raise
    else:
        zipline_market.write(pd.DataFrame())


if __name__ == "__main__":
    main()
