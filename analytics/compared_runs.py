"""Two runs, compared: what they were started with, where they part, and how much differs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fillpath.analytics.chain_span import ChainSpan
from fillpath.analytics.diff_counts import (
    DiffCounts,
    count_differences,
    fills_among,
    orders_among,
)
from fillpath.analytics.event_fields import FieldDifference
from fillpath.analytics.event_reading import read_events, read_path
from fillpath.analytics.event_stream import Comparison, EventStream, Places, read_stream
from fillpath.analytics.run_cards import compared_kinds, differing_cards, portfolios_of
from fillpath.analytics.run_diff import Difference, EventDiff, Parting, compare_streams
from fillpath.analytics.run_lookup import find_run
from fillpath.analytics.runs_view import read_runs
from fillpath.instrumentation.errors import NotFound

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_OF_A_PATH: Final = 24
"""Spans of a chain that are shown above the event at which two runs part."""
MOST_EXAMPLES: Final = 5
"""Orders and fills of one run only that are named."""


@dataclass(frozen=True, slots=True)
class Way:
    """The way from the first cause to an event.

    Attributes:
        spans: The first cause, and the event last; None where there is no such event.
        left_out: How many between the first and the second are left out.
        holds_event: Whether the last is the event; else it is the last that both runs have.
    """

    spans: tuple[ChainSpan, ...]
    left_out: int
    holds_event: bool


@dataclass(frozen=True, slots=True)
class PartingEvent:
    """Where two runs part, or one portfolio of theirs.

    Attributes:
        how: In which way.
        number: Which event it is, from 1, of the run that has fewer before.
        position: How many events of its portfolio, strategy and symbol are the same before.
        a: The event in the first run, if it has it.
        b: The event in the second run, if it has it.
        next_a: Where `a` is None: what the first run has in its place.
        next_b: Where `b` is None: what the second run has in its place.
        fields: Fields that differ; of the first of all differences only.
    """

    how: Parting
    number: int
    position: int
    a: ChainSpan | None
    b: ChainSpan | None
    next_a: ChainSpan | None
    next_b: ChainSpan | None
    fields: tuple[FieldDifference, ...]

    @property
    def event(self) -> ChainSpan:
        """The event of the run that has it, the first run's if both do."""
        found = self.a or self.b
        if found is None:
            raise ValueError("a parting without events")
        return found


@dataclass(frozen=True, slots=True)
class OneSided:
    """Orders and fills that only one of two runs has.

    Attributes:
        orders: How many orders.
        fills: How many fills.
        examples: The first of both, by sequence.
    """

    orders: int
    fills: int
    examples: tuple[ChainSpan, ...]


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """Two runs, compared.

    Attributes:
        a: The row of the first run in the view `runs`.
        b: The row of the second run.
        cards: What the rows differ in: parameters, versions.
        notes: Sentences about what was not compared.
        diff: The comparison of their events.
        counts: How much differs, by kind.
        first: The first event at which they part; None if they do not.
        ways: How each run came to it.
        portfolios: Where each portfolio parts that does.
        one_sided: Orders and fills that only the first, and only the second run has.
        by_portfolio: Whether portfolios were told apart by name.
    """

    a: dict[str, Any]
    b: dict[str, Any]
    cards: tuple[FieldDifference, ...]
    notes: tuple[str, ...]
    diff: EventDiff
    counts: DiffCounts
    first: PartingEvent | None
    ways: tuple[Way, Way] | None
    portfolios: tuple[PartingEvent, ...]
    one_sided: tuple[OneSided, OneSided]
    by_portfolio: bool

    @property
    def identical(self) -> bool:
        """Whether no event differs."""
        return self.first is None


def compare_events(
    a: tuple[DuckDBPyConnection, str],
    b: tuple[DuckDBPyConnection, str],
    *,
    portfolio: str | None = None,
    kinds: Collection[str] = (),
    ignored: Collection[str] = (),
    tolerance: float = 0.0,
) -> ComparedRuns:
    """Compare two runs event by event.

    Args:
        a: A connection with the views of a lake, and the first run: its id, a unique prefix of
            it, or ``latest``.
        b: The same for the second run; the connection may be the same.
        portfolio: Compare this portfolio's events only.
        kinds: Compare these kinds of event only.
        ignored: Attributes or columns that do not count; ``handler`` is the one that published.
        tolerance: As in `Comparison`.

    Raises:
        NotFound: There is no such run, or no such portfolio in either.
        UsageError: Several runs begin so.
    """
    connection_a, connection_b = a[0], b[0]
    run_a = read_runs(connection_a, find_run(*a))[0]
    run_b = read_runs(connection_b, find_run(*b))[0]
    names_a = portfolios_of(connection_a, run_a["run_id"])
    names_b = portfolios_of(connection_b, run_b["run_id"])
    _check_portfolio(portfolio, names_a | names_b)
    # A run's only portfolio is the other's only one, whatever they are called.
    by_portfolio = not (len(names_a) == len(names_b) == 1)
    chosen = compared_kinds(run_a, run_b, kinds)
    notes = [*chosen.notes]
    if not by_portfolio and names_a != names_b:
        notes.append(f"{min(names_a)} of A is compared with {min(names_b)} of B.")
    comparison = Comparison(portfolio, by_portfolio, chosen.kinds, frozenset(ignored), tolerance)
    stream_a = read_stream(connection_a, run_a["run_id"], comparison)
    stream_b = read_stream(connection_b, run_b["run_id"], comparison)
    diff = compare_streams(connection_a, connection_b, stream_a, stream_b, comparison)
    counts = count_differences(diff)
    partings = _Partings(connection_a, connection_b, diff)
    return ComparedRuns(
        run_a,
        run_b,
        cards=tuple(differing_cards(run_a, run_b)),
        notes=tuple(notes),
        diff=diff,
        counts=counts,
        first=None if diff.first is None else partings.read([diff.first])[0],
        ways=None if diff.first is None else partings.ways(diff.first),
        portfolios=tuple(partings.read(_first_by_portfolio(diff))),
        one_sided=(
            _one_sided(connection_a, stream_a, counts.only_a),
            _one_sided(connection_b, stream_b, counts.only_b),
        ),
        by_portfolio=by_portfolio,
    )


def _check_portfolio(portfolio: str | None, known: set[str]) -> None:
    if portfolio is not None and known and portfolio not in known:
        raise NotFound(
            f"Neither run has a portfolio '{portfolio}'.",
            next_command=f"--portfolio {min(known)}",
        )


def _first_by_portfolio(diff: EventDiff) -> list[Difference]:
    found: dict[str, Difference] = {}
    for one in diff.lanes:
        stream, place = (diff.a, one.a) if one.a is not None else (diff.b, one.b)
        if place is not None:
            found.setdefault(stream.portfolios[int(stream.portfolio[place])], one)
    return list(found.values())


class _Partings:
    """Reads the events at which runs part, and what led to them."""

    def __init__(
        self, connection_a: DuckDBPyConnection, connection_b: DuckDBPyConnection, diff: EventDiff
    ) -> None:
        self._connections = connection_a, connection_b
        self._diff = diff

    def read(self, differences: list[Difference]) -> list[PartingEvent]:
        """Read the events of several differences at once."""
        a = {place for one in differences for place in (one.a, one.next_a) if place is not None}
        b = {place for one in differences for place in (one.b, one.next_b) if place is not None}
        ours = read_events(self._connections[0], self._diff.a, a)
        theirs = read_events(self._connections[1], self._diff.b, b)
        return [
            PartingEvent(
                one.how,
                one.rank + 1,
                one.position,
                a=None if one.a is None else ours[one.a],
                b=None if one.b is None else theirs[one.b],
                next_a=None if one.next_a is None else ours[one.next_a],
                next_b=None if one.next_b is None else theirs[one.next_b],
                fields=one.fields,
            )
            for one in differences
        ]

    def ways(self, one: Difference) -> tuple[Way, Way]:
        """Read how both runs came to an event.

        A run that has no such event is shown as far as it came: to what led to the event in the
        other run.
        """
        diff = self._diff
        back = np.full(len(diff.b), -1, np.int64)
        back[diff.partner[diff.same]] = np.flatnonzero(diff.same)
        forth = np.where(diff.same, diff.partner, -1)
        place_a = one.a if one.a is not None else _last_shared(diff.b, one.b, back)
        place_b = one.b if one.b is not None else _last_shared(diff.a, one.a, forth)
        return (
            self._way(0, diff.a, place_a, holds_event=one.a is not None),
            self._way(1, diff.b, place_b, holds_event=one.b is not None),
        )

    def _way(self, side: int, stream: EventStream, place: int | None, *, holds_event: bool) -> Way:
        if place is None:
            return Way((), 0, holds_event=False)
        spans, left_out = read_path(self._connections[side], stream, place, MOST_OF_A_PATH)
        return Way(tuple(spans), left_out, holds_event)


def _last_shared(stream: EventStream, event: int | None, counterpart: Places) -> int | None:
    """Give, of what led to an event, the nearest that the other run has: its place there."""
    last, place = len(stream), -1 if event is None else int(stream.cause[event])
    while 0 <= place < last:  # a cause comes before; a circle ends here
        if counterpart[place] >= 0:
            return int(counterpart[place])
        last, place = place, int(stream.cause[place])
    return None


def _one_sided(connection: DuckDBPyConnection, stream: EventStream, places: Places) -> OneSided:
    ((slot,),) = connection.execute("SELECT hash('client_order_id')").fetchall()
    orders = orders_among(stream, slot, places)
    fills = fills_among(stream, places)
    shown = sorted({*orders[:MOST_EXAMPLES].tolist(), *fills[:MOST_EXAMPLES].tolist()})
    events = read_events(connection, stream, shown)
    return OneSided(len(orders), len(fills), tuple(events[place] for place in shown))
