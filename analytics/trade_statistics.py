"""Statistics of closed trades, each net of its commission, and of the time they were open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from statistics import mean, median
from typing import Any, Final

from fillpath.analytics.exact import ZERO

Figures = dict[str, float | None]

_SECOND: Final = 1_000_000_000
_NAMES: Final = (
    "win_rate",
    "profit_factor",
    "expectancy",
    "average_win",
    "average_loss",
    "payoff_ratio",
    "largest_win",
    "largest_loss",
    "longest_winning_streak",
    "longest_losing_streak",
    "mean_holding_time",
    "median_holding_time",
    "average_favourable_excursion",
    "average_adverse_excursion",
)
_COLUMNS: Final = (
    "portfolio",
    "currency",
    "open_quantity",
    "realized_pnl",
    "commission",
    "entry_time",
    "exit_time",
    "favourable_excursion",
    "adverse_excursion",
)


@dataclass(frozen=True, slots=True)
class TradeResult:
    """What a tearsheet takes from a trade.

    Attributes:
        portfolio: Namespace.
        currency: Currency of the amounts.
        is_open: Whether something is still held.
        net: Realized P&L less commission.
        entry_time: Simulated time of the first entry fill, ns; ``None`` if unknown.
        exit_time: Of the last exit fill; ``None`` while open, or if unknown.
        favourable_excursion: Highest open profit; ``None`` if unknown.
        adverse_excursion: Lowest open profit; ``None`` if unknown.
        last_sequence: The event of its last fill, which puts exits of one moment in order.
    """

    portfolio: str
    currency: str
    is_open: bool
    net: Decimal
    entry_time: int | None
    exit_time: int | None
    favourable_excursion: Decimal | None = None
    adverse_excursion: Decimal | None = None
    last_sequence: int = 0


def trades_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[TradeResult]:
    """Read rows of table ``trades``; columns that they have not are taken as unknown."""
    places = [columns.index(name) if name in columns else None for name in _COLUMNS]
    fills = columns.index("fills") if "fills" in columns else None
    for row in rows:
        values: list[Any] = [None if place is None else row[place] for place in places]
        portfolio, currency, held, realized, commission, *rest = values
        net = (realized or ZERO) - (commission or ZERO)
        its_fills = row[fills] if fills is not None else None
        last = its_fills[-1]["sequence"] if its_fills else 0
        made = TradeResult(portfolio, currency or "", bool(held), net, *rest)
        yield replace(made, last_sequence=last)


def trade_figures(trades: Sequence[TradeResult]) -> Figures:
    """Return the figures of the trades that are closed.

    Args:
        trades: Of one currency; open ones are passed over.

    Returns:
        Every figure of trades but `exposure`, the turnovers and the interval of the win rate;
        undefined ones are ``None``.
    """
    closed = [trade for trade in trades if not trade.is_open]
    # Trades without a time keep the order of their entries, at the end.
    closed.sort(
        key=lambda one: (
            (True, 0, 0) if one.exit_time is None else (False, one.exit_time, one.last_sequence)
        )
    )
    figures: Figures = {"trades": len(closed), **dict.fromkeys(_NAMES)}
    if not closed:
        return figures
    nets = [trade.net for trade in closed]
    wins = [net for net in nets if net > 0]
    losses = [net for net in nets if net < 0]
    gained, lost = sum(wins, ZERO), sum(losses, ZERO)
    figures["win_rate"] = len(wins) / len(closed)
    figures["expectancy"] = float(sum(nets, ZERO) / len(nets))
    figures["longest_winning_streak"] = longest_row(net > 0 for net in nets)
    figures["longest_losing_streak"] = longest_row(net < 0 for net in nets)
    if wins:
        figures["average_win"] = float(gained / len(wins))
        figures["largest_win"] = float(max(wins))
    if losses:
        figures["average_loss"] = float(lost / len(losses))
        figures["largest_loss"] = float(min(losses))
        figures["profit_factor"] = float(gained / -lost)
    if wins and losses:
        figures["payoff_ratio"] = float((gained / len(wins)) / (-lost / len(losses)))
    held = [
        trade.exit_time - trade.entry_time
        for trade in closed
        if trade.entry_time is not None and trade.exit_time is not None
    ]
    if held:
        figures["mean_holding_time"] = float(mean(held)) / _SECOND
        figures["median_holding_time"] = float(median(held)) / _SECOND
    figures["average_favourable_excursion"] = _mean(t.favourable_excursion for t in closed)
    figures["average_adverse_excursion"] = _mean(t.adverse_excursion for t in closed)
    return figures


def _mean(amounts: Iterable[Decimal | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return float(sum(known, ZERO) / len(known)) if known else None


def longest_row(hits: Iterable[bool]) -> int:
    """Return how many hits in a row there were at most."""
    return max((len(list(row)) for is_hit, row in groupby(hits) if is_hit), default=0)


def exposure(trades: Iterable[TradeResult], extent: tuple[int, int] | None) -> float | None:
    """Return the share of the time in which at least one trade was open.

    Args:
        trades: Open ones last until the end.
        extent: First and last moment of the market; those of the trades widen it.

    Returns:
        None if no time has passed.
    """
    timed: list[tuple[int, int | None, bool]] = [
        (t.entry_time, t.exit_time, t.is_open) for t in trades if t.entry_time is not None
    ]
    moments: list[int] = [*(extent or ())]
    for entry, leave, _ in timed:
        moments += [entry] if leave is None else [entry, leave]
    if not moments or min(moments) == max(moments):
        return None
    end = max(moments)
    held, until = 0, min(moments)
    for entry, leave, is_open in sorted(timed, key=lambda one: one[0]):
        last = end if is_open or leave is None else leave
        held += max(0, last - max(entry, until))
        until = max(until, last)
    return held / (end - min(moments))
