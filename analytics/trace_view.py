"""Draws chains of events on a terminal, from the bar down to the fill."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.output import LONGEST_NAME, PIPE_WIDTH, inert
from fillpath.analytics.span_words import (
    badge,
    describe,
    duration_words,
    fill_words,
    short_trace,
    span_of_time,
    time_words,
)
from fillpath.analytics.trace_loading import Trace
from fillpath.analytics.trace_tree import Chain, Node

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_GUTTER: Final = 9
_NARROWEST: Final = 36
_PHRASE_ENDS: Final = re.compile(r"(?<! FILL)  +")
_DEEPEST_LEAD: Final = 150
_WIDE: Final = 100
_GUIDES: Final = {
    # (terminal with Unicode, wide terminal): a branch, the last one, what passes by
    (True, True): ("├─ ", "└─ ", "│  "),
    (True, False): ("├ ", "└ ", "│ "),
    (False, True): ("|- ", "`- ", "|  "),
    (False, False): ("| ", "` ", "| "),
}
_IDS: Final = (
    ("client_order_id", "order"),
    ("order_id", "venue order"),
    ("fill_id", "fill"),
    ("position_id", "position"),
)


def print_trace(console: Console, trace: Trace, *, all_option: str = "--all") -> None:
    """Draw what an id stands for.

    Args:
        console: Where.
        trace: What `load_trace` found.
        all_option: The option that leaves nothing out, as the reader would give it.
    """
    _TracePainter(console, trace, all_option).paint()


class _TracePainter:
    def __init__(self, console: Console, trace: Trace, all_option: str) -> None:
        from rich.text import Text

        self._text = Text
        self._console = console
        self._trace = trace
        self._all = all_option
        self._guides = _GUIDES[not console.options.ascii_only, console.width >= _WIDE]
        self._indent = " " * len(self._guides[2])

    def paint(self) -> None:
        """Draw the heading and every chain."""
        self._heading()
        for chain in self._trace.chains:
            self._console.print()
            self._chain(chain)
        if self._trace.other_chains:
            self._console.print()
            kind = self._trace.target.kind.replace("-", " ")
            self._say(
                f"{self._trace.other_chains} more chains of this {kind}; {self._all} shows them.",
                "dim",
            )

    def _heading(self) -> None:
        target, trace = self._trace.target, self._trace
        line = self._text()
        line.append(f"{target.kind.replace('-', ' ').capitalize()} ", "bold")
        line.append(inert(target.value, 100), "bold")
        self._console.print(line, soft_wrap=True)
        facts = [f"run {inert(target.run_id)}"]
        if target.portfolio is not None:
            facts.append(f"portfolio {inert(target.portfolio, LONGEST_NAME)}")
        if trace.cycles > 1:
            facts.append(f"opened {trace.cycles} times, shown is the last")
        self._say(" · ".join(facts), "dim")

    def _chain(self, chain: Chain) -> None:
        facts = [f"{chain.total} event{'s' if chain.total != 1 else ''}"]
        if took := _bar_to_fill(chain):
            facts.append(took)
        line = self._text()
        line.append("Chain ", "bold")
        line.append(inert(chain.correlation_id, 100))
        if chain.correlation_id != chain.trace_id:
            line.append(f"  trace {chain.trace_id}", "dim")
        line.append(f"  {' · '.join(facts)}", "dim")
        self._console.print(line, soft_wrap=True)
        for row in _walk(chain, self._guides):
            if row.is_note:
                what = "handler" if row.node.span.is_delivery else row.node.span.event_type.lower()
                note = self._left_out(row.node.hidden, f"under this {inert(what, 24)}")
                self._print_row("", row.lead, row.below, note)
            else:
                self._print_node(row)
        if chain.hidden:
            self._print_row("", "", "", self._left_out(chain.hidden, "in this chain"))

    def _print_node(self, row: _Row) -> None:
        node = row.node
        since = "" if node.latency is None else f"+{duration_words(node.latency)}"
        below = row.below + (self._guides[2] if node.children or node.hidden else self._indent)
        first, *more = self._lines(node)
        self._print_row(since, row.lead, below, first)
        for line in more:
            self._print_row("", below, below, line)

    def _lines(self, node: Node) -> Iterator[Text]:
        span = node.span
        line = self._text()
        for part, style in badge(span):
            line.append(inert(part, LONGEST_NAME), style)
        for part, style in describe(node):
            line.append("  " if style == "dim" else " ")
            line.append(inert(part, LONGEST_NAME * 2), style)
        if node.focus and span.is_fill:
            line.append(" ◀", "bold green")
        of_heading = self._trace.target.run_id
        above = of_heading if node.parent is None else node.parent.span.run_id
        if {span.run_id, above} != {of_heading}:  # also where it comes back to that run
            line.append(f"  in run {inert(span.run_id)}", "cyan")
        if node.orphan:
            line.append("  its parent is not in the lake", "red")
        yield line
        if ids := self._new_ids(node):
            yield ids
        yield from self._links(node)

    def _new_ids(self, node: Node) -> Text | None:
        """Name what no event above has named yet."""
        known: dict[str, str] = {}
        for above in node.ancestors():
            for column, _ in _IDS:
                value = getattr(above.span, column)
                if value is not None:
                    known.setdefault(column, value)
        named = [
            f"{word} {inert(value, 100)}"
            for column, word in _IDS
            if (value := getattr(node.span, column)) is not None and known.get(column) != value
        ]
        return self._text("  ".join(named), "dim") if named else None

    def _links(self, node: Node) -> Iterator[Text]:
        """Name the entries that a fill closes, and the exits that closed what it opened."""
        span = node.span
        if not span.is_fill:
            return
        for link in span.links:
            entry = self._trace.linked.get(link.span_id)
            if entry is not None and entry.is_fill:
                yield self._link("↩ entry ", entry, span)
        if node.focus:
            for follower in self._trace.followers:
                if any(link.span_id == span.span_id for link in follower.links):
                    yield self._link("↪ exit ", follower, span)

    def _link(self, verb: str, other: ChainSpan, here: ChainSpan) -> Text:
        line = self._text()
        line.append(verb, "yellow")
        line.append(inert(fill_words(other), LONGEST_NAME * 2))
        if other.event_time is not None:
            line.append(f"  {time_words(other.event_time)}", "dim")
        line.append(f"  fill {inert(other.fill_id or other.span_id, 100)}", "dim")
        if other.trace_id != here.trace_id:
            line.append(f"  chain {short_trace(other.trace_id)}", "dim")
        return line

    def _left_out(self, hidden: Counter[str], where: str) -> Text:
        count = hidden.total()
        kinds = ", ".join(f"{number} {inert(kind, 24)}" for kind, number in hidden.most_common(4))
        more = ", …" if len(hidden) > 4 else ""
        noun = "event" if count == 1 else "events"
        return self._text(
            f"… {count} more {noun} {where} ({kinds}{more}); {self._all} shows them", "dim italic"
        )

    def _print_row(self, since: str, lead: str, below: str, content: Text) -> None:
        """Print one entry; what does not fit goes on under it, inside the guides."""
        width = self._console.width
        deepest = max(min(width - _GUTTER - 2 - _NARROWEST, _DEEPEST_LEAD), 0)
        cut = max(len(lead) - deepest, 0)  # what is too deep loses the guides' beginning
        lead, below = lead[cut:], below[cut:]
        room = max(width - _GUTTER - 2 - max(len(lead), len(below)), _NARROWEST)
        pieces = [content]
        if width < PIPE_WIDTH and content.cell_len > room:
            pieces = list(self._wrapped(content, room))
        for number, piece in enumerate(pieces):
            line = self._text()
            line.append(f"{since if number == 0 else '':>{_GUTTER}}  ", "dim cyan")
            line.append(lead if number == 0 else below, "dim")
            piece.rstrip()
            line.append_text(piece)
            line.rstrip()
            self._console.print(line, no_wrap=True, crop=False, overflow="ignore")

    def _wrapped(self, content: Text, room: int) -> Iterator[Text]:
        """Break a line, if possible where two spaces part what belongs together."""
        breaks = [place.end() for place in _PHRASE_ENDS.finditer(content.plain)]
        line = self._text()
        for phrase in [*content.divide(breaks), None]:
            if phrase is None or (line and line.cell_len + phrase.cell_len > room):
                yield from line.wrap(self._console, room)
                line = self._text()
            if phrase is not None:
                line.append_text(phrase)

    def _say(self, text: str, style: str) -> None:
        self._console.print(self._text(text, style), soft_wrap=True)


class _Row(NamedTuple):
    """A node, or the note about what is left out below it, and the guides that lead to it."""

    node: Node
    lead: str
    below: str
    is_note: bool


def _walk(chain: Chain, guides: tuple[str, str, str]) -> Iterator[_Row]:
    """Yield what to draw from top to bottom."""
    branch, last, bar = guides
    waiting = [_Row(root, "", "", is_note=False) for root in reversed(chain.roots)]
    while waiting:
        row = waiting.pop()
        yield row
        if row.is_note:
            continue
        node, below = row.node, row.below
        entries = [(child, False) for child in node.children]
        if node.hidden:
            entries.append((node, True))
        rows = [
            _Row(
                entry,
                below + (last if number == len(entries) else branch),
                below + (" " * len(bar) if number == len(entries) else bar),
                is_note,
            )
            for number, (entry, is_note) in enumerate(entries, start=1)
        ]
        waiting.extend(reversed(rows))


def _bar_to_fill(chain: Chain) -> str | None:
    """Say how long it took from the root to the fill asked for, or to the first."""
    fills = [node for node in chain.nodes() if node.span.is_fill]
    focused = [node for node in fills if node.focus]
    if not fills:
        return None
    fill = (focused or fills)[0]
    root = next((above for above in fill.ancestors() if above.parent is None), None)
    if root is None:
        return None
    kind = root.span.event_type.lower()
    began, filled = root.span.event_time, fill.span.event_time
    if began is not None and filled is not None and filled != began:
        return f"filled {span_of_time(filled - began)} after the {kind} (simulated)"
    return f"{duration_words(fill.span.start_time - root.span.start_time)} from {kind} to fill"
