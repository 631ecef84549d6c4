"""The ledger's slices as rows of the database, and their sums."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.market_time import DAY
from fillpath.analytics.shard_load import TableRows
from fillpath.analytics.slices import Slice

_EPOCH: Final = dt.date(1970, 1, 1)
_Rollup = tuple[str, str | None, str | None, str, str, dt.date | None]


def pnl_slices(slices: Iterable[Slice]) -> TableRows:
    """Make the rows of table ``pnl_slices``; what is empty becomes NULL, save the currency."""
    columns = (
        "portfolio strategy symbol currency kind sequence event_time amount fill_id trace_id "
        "span_id account_id venue side signal regime exit_reason holding_time holding quantity "
        "trade_id reclassified"
    )
    rows = [
        (
            one.ref.portfolio,
            one.strategy or None,
            one.symbol or None,
            one.currency,
            one.kind,
            one.ref.sequence,
            one.ref.event_time,
            one.amount,
            one.fill_id,
            one.ref.trace_id,
            one.ref.span_id,
            one.account_id or None,
            one.venue or None,
            one.side,
            one.signal,
            one.regime,
            one.exit_reason,
            one.holding_time,
            one.holding,
            one.quantity,
            one.trade_id,
            one.reclassified,
        )
        for one in slices
    ]
    return TableRows(columns.split(), rows)


def pnl_rollups(slices: Iterable[Slice]) -> TableRows:
    """Make the rows of table ``pnl_rollups``: the slices summed by day, UTC, and line."""
    sums: dict[_Rollup, tuple[Decimal, int]] = {}
    days: dict[int, dt.date] = {}
    with exact_arithmetic():
        for one in slices:
            day = None
            if one.ref.event_time is not None:
                number = one.ref.event_time // DAY
                if number not in days:
                    days[number] = _EPOCH + dt.timedelta(days=number)
                day = days[number]
            names = (one.ref.portfolio, one.strategy or None, one.symbol or None)
            key = (*names, one.currency, one.line, day)
            amount, count = sums.get(key, (ZERO, 0))
            sums[key] = amount + one.amount, count + 1
    columns = "portfolio strategy symbol currency kind day amount slices"
    return TableRows(columns.split(), [(*key, *value) for key, value in sums.items()])
