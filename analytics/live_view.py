"""Draws a live run, compared with its backtest, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from fillpath.analytics import report_format
from fillpath.analytics.live_match import LiveMatch, SeenSignal, SignalPair, percentiles
from fillpath.analytics.output import HEADING, LONGEST_NAME, inert, styled, table
from fillpath.analytics.span_words import duration_words, span_of_time, time_words
from fillpath.instrumentation.semconv import Signal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from fillpath.analytics.live_command import EffectLine

_SPANS: Final = ("span, live", "span, backtest")
MOST_ROWS: Final = 10
"""Signals of each kind that are shown; the JSON document has all."""
Command = Callable[..., str]


def print_match(
    console: Console, found: LiveMatch, lines: Sequence[EffectLine] | None, command: Command
) -> None:
    """Draw a comparison.

    Args:
        console: Where.
        found: What `match_runs` found.
        lines: What it came to by strategy, if known.
        command: Writes a command of ours that the reader can paste.
    """
    for name, run in (("live", found.live), ("backtest", found.backtest)):
        console.print(styled((f"{name:9} ", "bold"), (run["run_id"], "bold")), soft_wrap=True)
    for note in found.notes:
        console.print(styled(("! ", "bold yellow"), note), soft_wrap=True)
    console.print()
    console.print(styled(*_counts(found)), soft_wrap=True)
    for line in _lateness(found):
        console.print(line, soft_wrap=True)
    _print_alone(console, "Missed: the backtest's alone", found.missed)
    _print_alone(console, "Extra: the live run's alone", found.extra)
    _print_late(console, found)
    _print_fills(console, found.differing)
    if lines:
        console.print()
        _print_effects(console, lines)
    if found.alike:
        console.print(
            styled(("✔ ", "bold green"), "Every signal came in time and was filled alike.")
        )


def _counts(found: LiveMatch) -> Iterator[tuple[object, str]]:
    yield report_format.count(len(found.pairs)), "bold"
    yield " signals belong together", ""
    parts = (
        (found.missed, "missed"),
        (found.extra, "extra"),
        (found.late, "late"),
        (found.other_values, "with another value"),
        (found.differing, "filled differently"),
    )
    for signals, word in parts:
        yield "  ·  ", "dim"
        yield report_format.count(len(signals)), "bold red" if signals else "dim"
        yield f" {word}", "" if signals else "dim"


def _lateness(found: LiveMatch) -> Iterator[Text]:
    if late := percentiles([pair.lateness for pair in found.late]):
        words = f"p50 {_apart(late[0])}, p90 {_apart(late[1])}"
        yield styled(("late by (simulated)       ", "dim"), words)
    latencies = [pair.live.latency for pair in found.pairs if pair.live.latency is not None]
    if wall := percentiles(latencies):
        words = f"p50 {duration_words(wall[0])}, p90 {duration_words(wall[1])}"
        yield styled(("market → signal, live     ", "dim"), words)


def _apart(nanoseconds: int) -> str:
    sign = report_format.MINUS if nanoseconds < 0 else ""
    return sign + span_of_time(abs(nanoseconds))


def _print_alone(console: Console, title: str, signals: Sequence[SeenSignal]) -> None:
    if not signals:
        return
    drawn = table(("simulated time", "strategy", "signal", "filled", "span"))
    for signal in signals[:MOST_ROWS]:
        drawn.add_row(
            styled(time_words(signal.time)),
            styled(inert(signal.span.strategy or "", LONGEST_NAME)),
            styled(_signal_words(signal)),
            styled(_filled_words(signal)),
            _span(signal),
        )
    _print_titled(console, title, drawn, len(signals))


def _print_titled(console: Console, title: str, drawn: object, number: int) -> None:
    console.print()
    more = f" (the first {MOST_ROWS} of {report_format.count(number)})"
    console.print(styled((title, HEADING), (more if number > MOST_ROWS else "", "dim")))
    console.print(drawn)


def _print_late(console: Console, found: LiveMatch) -> None:
    late = sorted(found.late, key=lambda pair: -pair.lateness)
    if not late:
        return
    drawn = table(("late by", "simulated time", "strategy", "signal", *_SPANS), right=("late by",))
    for pair in late[:MOST_ROWS]:
        drawn.add_row(
            styled((_apart(pair.lateness), "bold red")),
            styled(time_words(pair.live.time)),
            styled(inert(pair.live.span.strategy or "", LONGEST_NAME)),
            styled(_signal_words(pair.live)),
            *(_span(signal) for signal in (pair.live, pair.backtest)),
        )
    _print_titled(console, "Late, the latest first", drawn, len(late))


def _print_fills(console: Console, pairs: Sequence[SignalPair]) -> None:
    rows = [(pair, fill) for pair in pairs for fill in pair.fills]
    if not rows:
        return
    rows.sort(key=lambda row: row[1].effect)
    numbers = ("live", "at", "backtest", "at ", "effect")
    names = ("simulated time", "strategy", "fill", *numbers, "currency", *_SPANS)
    drawn = table(names, right=numbers)
    for pair, fill in rows[:MOST_ROWS]:
        digits = report_format.currency_digits(fill.currency, {})
        effect = report_format.money(fill.effect.quantize(Decimal(1).scaleb(-digits)), digits)
        drawn.add_row(
            styled(time_words(pair.live.time)),
            styled(inert(pair.live.span.strategy or "", LONGEST_NAME)),
            styled(f"{inert(fill.side)} {inert(fill.symbol, LONGEST_NAME)}"),
            *(styled(_number(n)) for n in (fill.live_quantity, fill.live_price)),
            *(styled(_number(n)) for n in (fill.backtest_quantity, fill.backtest_price)),
            styled((effect.text, "red" if effect.tone == "negative" else "")),
            styled(inert(fill.currency)),
            *(_span(signal) for signal in (pair.live, pair.backtest)),
        )
    _print_titled(console, "Filled differently, the dearest first", drawn, len(rows))


def _print_effects(console: Console, lines: Sequence[EffectLine]) -> None:
    numbers = ("prices", "commissions", "other", "total")
    title = "P&L, live less backtest"
    drawn = table(("strategy", "currency", *numbers), title=title, right=numbers)
    for line in lines:
        digits = report_format.currency_digits(line.currency, {})
        amounts = (line.prices, line.commissions, line.other, line.total)
        rounded = [report_format.money(_short(amount, digits), digits) for amount in amounts]
        drawn.add_row(
            styled(inert(line.strategy or "no strategy", LONGEST_NAME)),
            styled(inert(line.currency)),
            *(styled((f.text, "red" if f.tone == "negative" else "")) for f in rounded),
        )
    console.print(drawn)
    console.print(
        styled(("other: signals of one run alone, other quantities, what is still open", "dim"))
    )


def _short(amount: Decimal, digits: int) -> Decimal:
    """Shorten what a quotient left, for the eye."""
    fewest = Decimal(1).scaleb(-digits - 4)
    return amount.quantize(fewest) if abs(amount) < Decimal("1e15") else amount


def _number(value: Decimal | None) -> str:
    if value is None:
        return ""
    return report_format.number(value.quantize(Decimal("1e-9")) if abs(value) < 10**15 else value)


def _signal_words(signal: SeenSignal) -> str:
    attributes = signal.span.attributes
    value = attributes.get(Signal.VALUE, attributes.get(Signal.STRENGTH))
    words = (attributes.get(Signal.NAME), value, signal.span.symbol)
    return " ".join(inert(word, LONGEST_NAME) for word in words if word is not None)


def _filled_words(signal: SeenSignal) -> str:
    parts = [
        f"{inert(key.side)} {_number(filled.quantity)} @ {_number(filled.average_price)}"
        for key, filled in sorted(signal.executed.filled.items())
    ]
    if parts:
        return ", ".join(parts)
    orders = len(signal.executed.orders)
    return f"{orders} order{'' if orders == 1 else 's'}, no fill" if orders else "no order"


def _span(signal: SeenSignal) -> Text:
    return styled((signal.span.span_id, "dim"))
