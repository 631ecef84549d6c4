"""Draws two runs, compared, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.compared_runs import ComparedRuns, OneSided, PartingEvent, Way
from fillpath.analytics.output import (
    HEADING,
    LONGEST_NAME,
    cell,
    inert,
    styled,
    table,
)
from fillpath.analytics.pnl_effect import PnlComparison, PnlEffect
from fillpath.analytics.runs_view import counted
from fillpath.analytics.span_words import badge, describe, duration_words, time_words
from fillpath.analytics.trace_tree import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    Command = Callable[..., str]

SIDE_BY_SIDE: Final = 150
"""Width of a terminal from which chains stand side by side."""
_PARTINGS: Final = {
    "changed": "the {kind} says something else",
    "replaced": "another event stands in its place",
    "only_a": "only A has this {kind}",
    "only_b": "only B has this {kind}",
    "order": "two events have changed places",
    "cause": "the same {kind}, another cause",
    "ids": "the same {kind}, but its ids belong to other events",
}
_SIDES: Final = ("A", "B")
_LONGEST_VALUE: Final = 60


def print_comparison(
    console: Console, found: ComparedRuns, pnl: PnlComparison | None, command: Command
) -> None:
    """Draw a comparison.

    Args:
        console: Where.
        found: What `compare_events` found.
        pnl: The P&L of both, if it was compared.
        command: Writes a command of ours that the reader can paste.
    """
    _print_cards(console, found)
    for note in found.notes:
        console.print(styled(("! ", "bold yellow"), note), soft_wrap=True)
    console.print()
    first = found.first
    events = report_format.count(len(found.diff.a))
    if found.diff.renamed:
        ids = report_format.count(found.diff.renamed)
        console.print(styled((f"{ids} ids are called otherwise in B, one for one.", "dim")))
    if first is None:
        console.print(styled(("✔ ", "bold green"), f"The runs are identical: {events} events."))
        return
    console.print(_headline(first), soft_wrap=True)
    console.print()
    if found.ways is not None:
        _print_ways(console, first, found.ways, command)
    if first.fields:
        console.print()
        console.print(_fields("differs", [(f.name, f.a, f.b) for f in first.fields]))
    _print_portfolios(console, found)
    console.print()
    console.print(_kinds(found))
    _print_one_sided(console, found.one_sided)
    if pnl is not None:
        console.print()
        console.print(pnl_table(pnl, "P&L by strategy, B less A", ("A", "B", "B - A")))


def _print_cards(console: Console, found: ComparedRuns) -> None:
    for name, run in zip(_SIDES, (found.a, found.b), strict=True):
        engine = " ".join(str(run[key]) for key in ("engine", "engine_version") if run.get(key))
        facts = [run.get("status"), engine, *counted(run)]
        words = " · ".join(inert(fact, LONGEST_NAME) for fact in facts if fact)
        console.print(
            styled((f"{name}  ", "bold"), (run["run_id"], "bold"), (f"  {words}", "dim")),
            soft_wrap=True,
        )
    if found.cards:
        rows = [(one.name.removeprefix("parameters."), one.a, one.b) for one in found.cards]
        console.print()
        console.print(_fields("started with", rows))


def _fields(heading: str, rows: Sequence[tuple[str, Any, Any]]) -> Table:
    drawn = table((heading, *_SIDES))
    for name, a, b in rows:
        values = [
            styled(("none", "dim")) if value is None else styled(inert(_shown(name, value), 200))
            for value in (a, b)
        ]
        drawn.add_row(styled((inert(name, LONGEST_NAME), "bold")), *values)
    return drawn


def _shown(name: str, value: Any) -> str:
    if name == "event_time" and isinstance(value, int):
        return time_words(value)
    return cell(value)


def _headline(first: PartingEvent) -> Text:
    event = first.event
    words = _PARTINGS[first.how].format(kind=event.event_type)
    before = report_format.count(first.number - 1)
    parts: list[tuple[object, str] | str] = [
        ("The runs are alike up to event " if first.number > 1 else "The runs part at once", ""),
        (before if first.number > 1 else "", "bold"),
        "; then ",
        (inert(words, 200), "bold red"),
    ]
    where = [event.portfolio, event.strategy, event.symbol]
    named = " · ".join(inert(name, LONGEST_NAME) for name in where if name)
    if named:
        parts += [" of ", named]
    if event.event_time is not None:
        parts += [", ", time_words(event.event_time)]
    return styled(*parts, ".")


def _print_ways(
    console: Console, first: PartingEvent, ways: tuple[Way, Way], command: Command
) -> None:
    drawn: list[list[Text]] = []
    for name, way in zip(_SIDES, ways, strict=True):
        lines = [styled((name, "bold underline"))]
        if not way.spans:
            lines.append(styled((f"Nothing of what led to it is in {name}.", "dim italic")))
        else:
            lines += _way_lines(way, first)
            last = way.spans[-1]
            lines.append(
                styled((f"  {command('trace', 'show', last.span_id, '--run', last.run_id)}", "dim"))
            )
        following = first.next_a if name == "A" else first.next_b
        if following is not None:
            node = Node(following, None)
            lines.append(styled(("  instead, later: ", "dim italic"), *_words(node)))
        drawn.append(lines)
    if console.is_terminal and console.width >= SIDE_BY_SIDE:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        for number in range(max(map(len, drawn))):
            grid.add_row(*(lines[number] if number < len(lines) else "" for lines in drawn))
        console.print(grid)
    else:
        for lines in drawn:
            for line in lines:
                console.print(line, soft_wrap=True)


def _way_lines(way: Way, first: PartingEvent) -> Iterator[Text]:
    above: Node | None = None
    for depth, span in enumerate(way.spans):
        node = Node(span, above)
        lead = "  " + ("   " * (depth - 1) + "└─ " if depth else "")
        parts: list[tuple[object, str] | str] = [(lead, "dim"), *_words(node)]
        if way.holds_event and depth == len(way.spans) - 1:
            parts.append((f"  ◀ {_mark(first)}", "bold red"))
        yield styled(*parts)
        if way.left_out and depth == 0:
            number = report_format.count(way.left_out)
            yield styled((f"     … {number} more between", "dim italic"))
        above = node
    if not way.holds_event:
        yield styled(("   " * len(way.spans) + "  ✗ no such event", "bold red"))


def _mark(first: PartingEvent) -> str:
    names = [one.name for one in first.fields]
    if first.how in {"changed", "replaced"} and names:
        more = ", …" if len(names) > 3 else ""
        return f"{', '.join(names[:3])}{more}"
    return "here"


def _words(node: Node) -> Iterator[tuple[object, str]]:
    for part, style in badge(node.span):
        yield inert(part, LONGEST_NAME), style
    for part, style in describe(node):
        yield f" {inert(part, LONGEST_NAME * 2)}", style
    if node.parent is not None:
        since = node.span.start_time - node.parent.span.start_time
        yield f"  +{duration_words(since)}", "dim cyan"


def _print_portfolios(console: Console, found: ComparedRuns) -> None:
    if len(found.portfolios) < 2:
        return
    console.print()
    drawn = table(("portfolio", "parts at", "simulated time", "event", "how"), right=("parts at",))
    for one in found.portfolios:
        event = one.event
        when = "" if event.event_time is None else time_words(event.event_time)
        how = _PARTINGS[one.how].format(kind="event")
        names = " ".join(inert(n, LONGEST_NAME) for n in (event.strategy, event.symbol) if n)
        drawn.add_row(
            styled((inert(event.portfolio or "", LONGEST_NAME), "bold")),
            styled(report_format.count(one.number)),
            styled(when),
            styled(f"{inert(event.event_type)} {names}".rstrip()),
            styled(how),
        )
    console.print(drawn)


def _kinds(found: ComparedRuns) -> Table:
    numbers = ("A", "B", "alike", "changed", "only in A", "only in B")
    title = "All events (found again by what they say, in any order)"
    drawn = table(("event", *numbers), title=title, right=numbers)
    for one in found.counts.kinds:
        counts = (one.a, one.b, one.same, one.changed, one.only_a, one.only_b)
        styles = ("", "", "", *("bold red" if number else "dim" for number in counts[3:]))
        drawn.add_row(
            styled(inert(one.event_type, LONGEST_NAME)),
            *(
                styled((report_format.count(number), style))
                for number, style in zip(counts, styles, strict=True)
            ),
        )
    return drawn


def _print_one_sided(console: Console, sides: tuple[OneSided, OneSided]) -> None:
    for name, side in zip(_SIDES, sides, strict=True):
        if not side.orders and not side.fills:
            continue
        console.print()
        words = f"Only {name} has {_plural(side.orders, 'order')} and {_plural(side.fills, 'fill')}"
        shown = len(side.examples)
        more = f", such as these {shown}" if side.orders + side.fills > shown else ""
        console.print(styled((f"{words}{more}", HEADING)))
        for span in side.examples:
            console.print(styled("  ", *_example(span)), soft_wrap=True)


def _example(span: ChainSpan) -> Iterator[tuple[object, str]]:
    yield from _words(Node(span, None))
    yield f"  {inert(span.fill_id or span.client_order_id or span.span_id, 100)}", "dim"


def _plural(number: int, noun: str) -> str:
    return f"{report_format.count(number)} {noun}{'' if number == 1 else 's'}"


def pnl_table(pnl: PnlComparison, title: str, names: Sequence[str]) -> Table:
    """Draw the P&L of two runs by strategy, and all of it.

    Args:
        pnl: What `compare_pnl` found.
        title: What stands above.
        names: What to call the two runs, and their difference.
    """
    drawn = table(("", "currency", *names), title=title, right=names)
    for row in pnl.by_strategy():
        where = " · ".join(inert(n, LONGEST_NAME) for n in (row.portfolio, row.strategy) if n)
        _add_pnl(drawn, where or "no strategy", row)
    drawn.add_section()
    for row in pnl.totals():
        _add_pnl(drawn, "all", row, "bold")
    return drawn


def _add_pnl(drawn: Table, name: str, row: PnlEffect, style: str = "") -> None:
    digits = report_format.currency_digits(row.currency, {})
    figures = [report_format.money(amount, digits) for amount in (row.a, row.b)]
    change = report_format.money(row.change, digits, signed=True)
    colours: Mapping[str, str] = {"negative": "red", "positive": "green", "zero": "dim"}
    drawn.add_row(
        styled((name, style)),
        styled((inert(row.currency), style)),
        *(styled((figure.text, style)) for figure in figures),
        styled((change.text, f"{style} {colours[change.tone]}".strip())),
    )
