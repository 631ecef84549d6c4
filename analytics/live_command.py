"""`fillpath runs diff LIVE BACKTEST --live-vs-backtest`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fillpath.analytics.amounts import parse_age
from fillpath.analytics.chain_span import span_document
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.diff_command import both_runs, folders_of
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.live_match import (
    LiveMatch,
    SeenSignal,
    SignalPair,
    effects,
    match_runs,
    percentiles,
)
from fillpath.analytics.live_view import print_match
from fillpath.analytics.output import data_console, print_json, say
from fillpath.analytics.pnl_effect import PnlComparison, compare_pnl
from fillpath.instrumentation.errors import EXIT_DIFFERENT, EXIT_OK, FillpathError
from fillpath.instrumentation.settings import DataFolder


@dataclass(frozen=True, slots=True)
class EffectLine:
    """What the differences of one strategy came to; ``prices + commissions + other = total``.

    Attributes:
        strategy: None for what belongs to none.
        currency: Of the amounts.
        prices: Other prices of signals that both runs had, for the quantity that both filled.
        commissions: Other commissions of such signals.
        other: Signals that one of them had alone, other quantities, what is still open.
        total: P&L of the live run less that of the backtest.
    """

    strategy: str | None
    currency: str
    prices: Decimal
    commissions: Decimal
    other: Decimal
    total: Decimal


def match_live(
    given: Invocation,
    wanted: tuple[str, str],
    *,
    data_b: str | None,
    portfolio: str | None,
    window: str | None,
    late_after: str,
    with_pnl: bool,
) -> int:
    """Print how a live run's signals differ from its backtest's; gives the exit code.

    Raises:
        NotFound: There is no such run, or no signal.
        UsageError: Several runs begin so, or a time is none.
        LakeError: The lake cannot be read.
    """
    apart = None if window is None else parse_age(window, "--window")
    late = parse_age(late_after, "--late-after")
    folders = folders_of(given, data_b)
    with both_runs(folders, wanted) as (live, backtest):
        found = match_runs(live, backtest, portfolio=portfolio, window=apart, late_after=late)
    pnl = _pnl(folders, found, portfolio) if with_pnl else None
    lines = None if pnl is None else effect_lines(found, pnl)
    if given.json:
        print_json(match_document(found, lines))
    else:
        print_match(data_console(), found, lines, given.command)
    return EXIT_OK if found.alike else EXIT_DIFFERENT


def _pnl(
    folders: tuple[DataFolder, DataFolder], found: LiveMatch, portfolio: str | None
) -> PnlComparison | None:
    try:
        return compare_pnl(
            (folders[1], found.backtest["run_id"]),
            (folders[0], found.live["run_id"]),
            portfolio=portfolio,
            by_portfolio=found.by_portfolio,
        )
    except FillpathError as error:
        say((f"The P&L is left out: {error.message}", "yellow"))
        return None


def effect_lines(found: LiveMatch, pnl: PnlComparison) -> list[EffectLine]:
    """Say by strategy and currency what the differences came to.

    Args:
        found: The signals.
        pnl: The P&L of the backtest and of the live run, in this order.
    """
    totals: dict[tuple[str | None, str], Decimal] = defaultdict(lambda: ZERO)
    parts = effects(found.pairs)
    with exact_arithmetic():
        for row in pnl.rows:
            totals[row.strategy, row.currency] += row.change
        lines = []
        for key in sorted({*totals, *parts}, key=lambda key: (key[0] or "", key[1])):
            prices, commissions = parts.get(key, (ZERO, ZERO))
            total = totals.get(key, ZERO)
            lines.append(EffectLine(*key, prices, commissions, total - prices - commissions, total))
    return lines


def match_document(found: LiveMatch, lines: list[EffectLine] | None) -> dict[str, Any]:
    """Give the comparison as a document; times are nanoseconds, amounts those of the live run."""
    lateness = percentiles([pair.lateness for pair in found.pairs])
    late = percentiles([pair.lateness for pair in found.late])
    latencies = [pair.live.latency for pair in found.pairs if pair.live.latency is not None]
    wall = percentiles(latencies)
    return {
        "live": found.live["run_id"],
        "backtest": found.backtest["run_id"],
        "alike": found.alike,
        "notes": found.notes,
        "counts": {
            "matched": len(found.pairs),
            "missed": len(found.missed),
            "extra": len(found.extra),
            "late": len(found.late),
            "other_value": len(found.other_values),
            "differently_filled": len(found.differing),
        },
        "lateness": _percentiles(lateness),
        "lateness_of_late": _percentiles(late),
        "live_latency": _percentiles(wall),
        "missed": [_signal(signal) for signal in found.missed],
        "extra": [_signal(signal) for signal in found.extra],
        "pairs": [_pair(pair, found.late_after) for pair in found.pairs],
        "effects": lines,
    }


def _percentiles(found: tuple[int, int] | None) -> dict[str, int] | None:
    return None if found is None else {"p50": found[0], "p90": found[1]}


def _signal(signal: SeenSignal) -> dict[str, Any]:
    return {
        **span_document(signal.span),
        "bar_time": signal.bar_time,
        "latency": signal.latency,
        "orders": list(signal.executed.orders),
        "filled": [
            {**key._asdict(), "quantity": filled.quantity, "average_price": filled.average_price}
            for key, filled in sorted(signal.executed.filled.items())
        ],
    }


def _pair(pair: SignalPair, late_after: int) -> Mapping[str, Any]:
    return {
        "live": _signal(pair.live),
        "backtest": _signal(pair.backtest),
        "lateness": pair.lateness,
        "late": pair.lateness > late_after,
        "other_value": pair.other_value,
        "fills": pair.fills,
        "commissions": pair.commissions,
    }
