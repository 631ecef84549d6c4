"""Every trade of a run in one table: packed so that a page with tens of thousands stays small.

The page's script unpacks the columns, draws one page of rows at a time, and sorts and filters all
of them. A run with more trades than fit keeps those with the largest results.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.exact import exact_arithmetic
from fillpath.analytics.report_format import printable
from fillpath.analytics.report_model import Trade

if TYPE_CHECKING:
    from fillpath.analytics.report_sections import ReportSource
    from fillpath.analytics.results_manager import Row

MOST_TRADES: Final = 60_000
"""How many are read at most."""
MOST_BYTES: Final = 800_000
"""What the packed trades may take of the page."""
SHOWN_AT_FIRST: Final = 20
"""Rows that the page has without its script."""
_LEVEL: Final = 6
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TradesTable:
    """Trades, those with the largest results first.

    Attributes:
        first: What is shown without the page's script.
        reasons: Why each of `first` was closed; None while it is open, or if it is not told.
        packed: The trades as the page's script reads them: JSON, deflated, in base64.
        inside: How many trades are in `packed`.
        total: How many the run has.
    """

    first: tuple[Trade, ...]
    reasons: tuple[str | None, ...]
    packed: str
    inside: int
    total: int

    @property
    def left_out(self) -> int:
        """How many trades are not in the page."""
        return self.total - self.inside


def read_trades(source: ReportSource) -> TradesTable | None:
    """Read the trades of a run; None if it has none."""
    run_id = source.run.run_id
    rows = source.results.read("report_trades", run_id=run_id, most=MOST_TRADES)
    if not rows:
        return None
    total = source.results.read("counts", run_id=run_id)[0]["trades"]
    with exact_arithmetic():
        packed, inside = pack_trades(rows, MOST_BYTES)
    first = rows[:SHOWN_AT_FIRST]
    return TradesTable(
        tuple(map(trade_of, first)),
        tuple(row["exit_reason"] for row in first),
        packed,
        inside,
        total,
    )


def trade_of(row: Row) -> Trade:
    """Make a trade of a row with the columns of ``results/report_trades.sql``."""
    return Trade(
        portfolio=row["portfolio"],
        strategy=row["strategy"],
        symbol=row["symbol"] or "",
        side="BUY" if row["direction"] == "LONG" else "SELL",
        quantity=row["quantity"],
        currency=row["currency"] or "",
        entry_time=row["entry_time"] or 0,
        entry_price=row["entry_price"],
        pnl=row["pnl"],
        commission=row["commission"],
        net=row["net"],
        entry_trace_id=row["entry_trace_id"],
        exit_time=row["exit_time"],
        exit_price=row["exit_price"] if row["exit_time"] is not None else None,
        exit_trace_id=row["exit_trace_id"],
    )


def pack_trades(rows: Sequence[Row], most_bytes: int) -> tuple[str, int]:
    """Pack as many of the first rows as fit.

    Returns:
        What `unpack_trades` reads, and how many rows are in it.
    """
    inside = len(rows)
    while True:
        document = json.dumps(_columns(rows[:inside]), separators=(",", ":")).encode()
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = base64.b64encode(deflate.compress(document) + deflate.flush()).decode()
        if len(packed) <= most_bytes or not inside:
            return packed, inside
        inside = min(inside - 1, int(inside * most_bytes / len(packed) * 0.98))


def unpack_trades(packed: str) -> dict[str, Any]:
    """Return the columns again, as the page's script reads them."""
    document = zlib.decompress(base64.b64decode(packed), -zlib.MAX_WBITS)
    columns: dict[str, Any] = json.loads(document)
    return columns


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    traces = [
        [row["entry_trace_id"] for row in rows],
        [row["exit_trace_id"] or row["entry_trace_id"] for row in rows],
    ]
    prefix = _common_beginning(one for column in traces for one in column)
    base = min((row["entry_time"] or 0 for row in rows), default=0) // _SECOND
    columns: dict[str, Any] = {
        "prefix": prefix,
        "base": base,
        "entry": [one[len(prefix) :] for one in traces[0]],
        "exit": [
            "" if leave == entry else leave[len(prefix) :]
            for entry, leave in zip(*traces, strict=True)
        ],
        "long": [int(row["direction"] == "LONG") for row in rows],
    }
    for name in ("portfolio", "strategy", "symbol", "currency", "exit_reason"):
        columns[name] = _coded(row[name] for row in rows)
    for name, key in (("from", "entry_time"), ("to", "exit_time")):
        columns[name], columns[f"{name}_ns"] = _times((row[key] for row in rows), base)
    for name in ("quantity", "entry_price", "pnl", "commission", "net"):
        columns[name] = [_digits(row[name]) for row in rows]
    columns["exit_price"] = [
        "" if row["exit_time"] is None or row["exit_price"] is None else _digits(row["exit_price"])
        for row in rows
    ]
    return columns


def _common_beginning(texts: Iterable[str]) -> str:
    """What all begin with, which is what their least and their greatest begin with."""
    ordered = sorted(texts)
    first, last = (ordered[0], ordered[-1]) if ordered else ("", "")
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:place]
    return first


def _coded(values: Iterable[str | None]) -> dict[str, Any]:
    """A column of names: the names once, and which of them each row has."""
    places: dict[str, int] = {}
    codes = [places.setdefault(printable(value or ""), len(places)) for value in values]
    return {"names": list(places), "codes": codes}


def _times(values: Iterable[int | None], base: int) -> tuple[list[int | None], list[int] | None]:
    """Whole seconds after `base`, and the nanoseconds below them if any time has some."""
    known = list(values)
    seconds = [None if value is None else value // _SECOND - base for value in known]
    below = [0 if value is None else value % _SECOND for value in known]
    return seconds, below if any(below) else None


def _digits(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def packed_document(
    table: TradesTable,
    digits: Mapping[str, int],
    viewers: Callable[[str, str], Sequence[tuple[str, str]]],
) -> dict[str, Any]:
    """Return what the page's script is given of the table.

    Args:
        table: The trades.
        digits: Decimal places to show amounts of each currency with.
        viewers: Names and addresses of viewers, for a trace and a portfolio.
    """
    return {
        "packed": table.packed,
        "digits": dict(digits),
        "viewers": [list(viewer) for viewer in viewers(TRACE_HERE, PORTFOLIO_HERE)],
        "places": [TRACE_HERE, PORTFOLIO_HERE],
    }


TRACE_HERE: Final = "fillpath0trace0id"
"""Stands in a viewer's address for the trace."""
PORTFOLIO_HERE: Final = "fillpath0portfolio"
"""Stands in a viewer's address for the portfolio."""
