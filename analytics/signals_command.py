"""`fillpath signals` and `fillpath regimes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import (
    LONGEST_NAME,
    data_console,
    inert,
    print_json,
    say,
    styled,
    table,
)
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.signal_summary import (
    reason_counts,
    regime_profits,
    regime_times,
    unclassified,
    unused_signals,
)
from fillpath.analytics.span_words import short_trace
from fillpath.exporters.event_store import EventStore

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import ResultsManager

MOST_LISTED: Final = 50
"""Signals that are listed on a terminal."""
_NOT_SHOWN: Final = ("run_id", "shard")

Row = Mapping[str, Any]


def show_signals(given: Invocation, wanted: str) -> None:
    """Print what came of a run's signals, their strength, and how long they foretold returns.

    Raises:
        NotFound: There is no such run.
        FillpathError: The lake or the results database cannot be used.
    """
    with _loaded(given, wanted) as (run_id, results):
        counts = reason_counts(results, run_id)
        strength = results.rows("signal_strength", run_id)
        decay = results.rows("signal_decay", run_id)
    if given.json:
        print_json(
            {
                "run_id": run_id,
                "reasons": [
                    {
                        "portfolio": one.portfolio,
                        "strategy": one.strategy,
                        "name": one.name,
                        "reason": one.reason,
                        "signals": one.count,
                        "trace_id": one.trace_id,
                    }
                    for one in counts
                ],
                "strength": _plain(strength),
                "decay": _plain(decay),
            }
        )
        return
    if not counts:
        say(f"Run {run_id} has no signals.")
        return
    console = data_console()
    drawn = table(
        ["portfolio", "strategy", "signal", "came to", "signals", "last trace"],
        title=f"Signals of run {run_id}",
        right=["signals"],
    )
    for one in counts:
        names = _names(one.portfolio, one.strategy, one.name)
        came_to = styled((one.reason, "green" if one.is_used else ""))
        number = report_format.count(one.count)
        drawn.add_row(*names, came_to, number, short_trace(one.trace_id or ""))
    console.print(drawn)
    console.print(_strength_table(strength))
    console.print(_decay_table(decay))
    say(
        ("IC: rank correlation of strength and return. Why some led to nothing: ", "dim"),
        given.command("signals", run_id, "--unused"),
    )


def _strength_table(rows: Sequence[Row]) -> Any:
    numbers = ["signals", "closed", "hits", "hit rate", "95 %", "P&L"]
    drawn = table(
        ["portfolio", "strategy", "signal", "strength", *numbers, ""],
        title="By strength",
        right=["strength", *numbers],
    )
    for row in rows:
        strength = _figure(row["low"])
        if row["high"] != row["low"]:
            strength = f"{strength} … {_figure(row['high'])}"
        drawn.add_row(
            *_names(row["portfolio"], row["strategy"], row["name"]),
            strength,
            *(report_format.count(row[name]) for name in ("signals", "traded", "hits")),
            _share(row["hit_rate"]),
            _interval(row["hit_rate_low"], row["hit_rate_high"], _share),
            _money(row["pnl"], row["currency"]),
            inert(row["currency"] or ""),
        )
    return drawn


def _decay_table(rows: Sequence[Row]) -> Any:
    numbers = ["prices on", "signals", "IC", "95 %", "p", "hit rate", "mean return, bp"]
    drawn = table(
        ["portfolio", "strategy", "signal", *numbers],
        title="What they foretold",
        right=numbers,
    )
    for row in rows:
        drawn.add_row(
            *_names(row["portfolio"], row["strategy"], row["name"]),
            report_format.count(row["horizon"]),
            report_format.count(row["signals"]),
            _figure(row["information_coefficient"]),
            _interval(row["low"], row["high"], _figure),
            _figure(row["p_value"]),
            _share(row["hit_rate"]),
            _basis_points(row["mean_return"]),
        )
    return drawn


def show_unused_signals(given: Invocation, wanted: str) -> None:
    """Print the signals that led to nothing, and why.

    Raises:
        NotFound: There is no such run.
        FillpathError: The lake or the results database cannot be used.
    """
    with _loaded(given, wanted) as (run_id, results):
        rows = unused_signals(results, run_id)
    if given.json:
        print_json({"run_id": run_id, "unused": _plain(rows)})
        return
    if not rows:
        say(f"Every signal of run {run_id} led to something, or there was none.")
        return
    drawn = table(
        ["simulated time", "portfolio", "strategy", "signal", "symbol", "value", "why", "trace"],
        title=f"Signals of run {run_id} that led to nothing",
        right=["value"],
    )
    for row in rows[:MOST_LISTED]:
        time = row["event_time"]
        drawn.add_row(
            "" if time is None else report_format.timestamp(time),
            *_names(row["portfolio"], row["strategy"], row["name"], row["symbol"], row["value"]),
            row["reason"],
            short_trace(row["trace_id"] or ""),
        )
    data_console().print(drawn)
    if len(rows) > MOST_LISTED:
        more = f"… and {len(rows) - MOST_LISTED:,} more: "
        say((more, "dim"), given.command("signals", run_id, "--unused", "--json"))


def show_regimes(given: Invocation, wanted: str) -> None:
    """Print the regimes of a run's markets: the time in each, and the profit of its entries.

    Raises:
        NotFound: There is no such run.
        FillpathError: The lake or the results database cannot be used.
    """
    with _loaded(given, wanted) as (run_id, results):
        regimes = results.rows("regimes", run_id)
        profits = regime_profits(results, run_id)
        missing = list(unclassified(results.rows("completeness", run_id)))
    times = regime_times(regimes)
    if given.json:
        print_json(
            {
                "run_id": run_id,
                "remarks": missing,
                "time": times,
                "pnl": profits,
                "regimes": _plain(regimes),
            }
        )
        return
    for remark in missing:
        say(("! ", "bold yellow"), remark)
    if not times:
        say(f"No regime is known of run {run_id}: its host told none, and its prices are too few.")
        return
    console = data_console()
    numbers = ["stays", "price events", "share", "time"]
    drawn = table(
        ["portfolio", "symbol", "regime", "told by", *numbers],
        title=f"Regimes of run {run_id}",
        right=numbers,
    )
    for one in times:
        drawn.add_row(
            *_names(one.portfolio, one.symbol or "all", one.name),
            one.source,
            report_format.count(one.spells),
            report_format.count(one.events),
            report_format.percent(one.share),
            one.time_text,
        )
    console.print(drawn)
    drawn = table(["regime at entry", "P&L", ""], title="Profit", right=["P&L"])
    for profit in profits:
        amount = _money(profit.amount, profit.currency)
        drawn.add_row(
            styled(inert(profit.name or "unknown", LONGEST_NAME)), amount, inert(profit.currency)
        )
    console.print(drawn)


@contextmanager
def _loaded(given: Invocation, wanted: str) -> Iterator[tuple[str, ResultsManager]]:
    """Bring the results of a run up to date; gives its whole id, and where to read them."""
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
    with results_of(given.folder) as results:
        results.load(EventStore(given.folder), run_id)
        yield run_id, results


def _plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in _NOT_SHOWN} for row in rows]


def _names(*names: str | None) -> list[Any]:
    return [styled(inert(name or "", LONGEST_NAME)) for name in names]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}".replace("-", report_format.MINUS)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}".replace("-", report_format.MINUS)


def _basis_points(value: float | None) -> str:
    return "" if value is None else f"{value * 10_000:.2f}".replace("-", report_format.MINUS)


def _interval(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    return "" if low is None or high is None else f"{shown(low)} … {shown(high)}"


def _money(amount: Decimal | None, currency: str | None) -> str:
    if amount is None:
        return ""
    digits = report_format.currency_digits(currency or "", {})
    return str(report_format.readable_money(amount, digits))
