"""`fillpath trace path`, `ancestors` and `descendants`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from fillpath.analytics.chain_span import ChainSpan, span_document
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import data_console, print_json, say, styled
from fillpath.analytics.span_places import spans_by_id
from fillpath.analytics.span_words import duration_words
from fillpath.analytics.trace_loading import MOST_SPANS, Trace, spans_of
from fillpath.analytics.trace_lookup import Target, command_for, find_target
from fillpath.analytics.trace_tree import grow_chain
from fillpath.analytics.trace_view import print_trace
from fillpath.exporters.lineage import Lineage
from fillpath.exporters.lineage_path import LineageEvent, Path

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Direction = Literal["path", "ancestors", "descendants"]
_NOTHING: Final = {
    "ancestors": "Nothing led to it: it is the first of its chain.",
    "descendants": "Nothing came of it.",
}


def show_lineage(
    given: Invocation,
    direction: Direction,
    wanted: str,
    *,
    run: str | None,
    portfolio: str | None,
    kind: str | None,
    across_links: bool = False,
    everything: bool = False,
) -> None:
    """Show the way to an event, what led to it, or what came of it.

    An id that several events have stands for the last fill among them, else the last event; what
    came of it is what came of the first.

    Raises:
        NotFound: Nothing has such an id.
        UsageError: Several ids begin so.
        LakeError: The lake cannot be read.
    """
    options = {"run": run, "portfolio": portfolio, "kind": kind}
    again = command_for(
        "trace", direction, **options, links=across_links, all=everything, json=given.json
    )
    store = current_store(given.folder)
    lineage = Lineage(store)
    with store.connect(further_views=()) as connection:
        target = find_target(connection, wanted, **options, again=again)
        lineage.run_id = target.run_id
        asked = _event_meant(spans_of(connection, target), direction)
        event = lineage.event(asked.span_id)
        path = lineage.path(event)
        if direction == "path":
            events: Sequence[LineageEvent] = path.events
        elif direction == "ancestors":
            events = lineage.ancestors(event, across_links=across_links)
        else:
            events = lineage.descendants(event, across_links=across_links)
        spans = _spans(connection, events)
    for note in target.notes:
        say((note, "yellow"))
    if given.json:
        print_json(_document(target, direction, asked, spans, path))
        return
    if direction != "path":
        spans = sorted([*spans, asked], key=lambda span: span.sequence)
    _print(target, asked, spans, limit=None if everything or direction == "path" else MOST_SPANS)
    console = data_console()
    if direction == "path":
        console.print()
        console.print(styled(*_stage_words(path)), soft_wrap=True)
    elif not events:
        console.print(styled((_NOTHING[direction], "dim")), soft_wrap=True)


def _event_meant(spans: Sequence[ChainSpan], direction: Direction) -> ChainSpan:
    if direction == "descendants":
        return spans[0]
    fills = [span for span in spans if span.is_fill]
    return (fills or spans)[-1]


def _spans(connection: DuckDBPyConnection, events: Sequence[LineageEvent]) -> list[ChainSpan]:
    """Read the spans of events, which may be of several runs, in their order."""
    ids_of_run: dict[str, list[str]] = {}
    for event in events:
        ids_of_run.setdefault(event.run_id, []).append(event.span_id)
    found = {
        (span.trace_id, span.span_id): span
        for run_id, ids in ids_of_run.items()
        for span in spans_by_id(connection, run_id, ids)
    }
    wanted = [(event.trace_id, event.span_id) for event in events]
    return [found[place] for place in wanted if place in found]


def _print(
    target: Target, asked: ChainSpan, spans: Sequence[ChainSpan], *, limit: int | None
) -> None:
    shown = {span.span_id for span in spans}
    by_trace: dict[str, list[ChainSpan]] = {}
    for span in spans:
        # What is above the first that is shown was not asked for; that is no missing parent.
        cut = span.parent_span_id is not None and span.parent_span_id not in shown
        by_trace.setdefault(span.trace_id, []).append(
            replace(span, parent_span_id=None) if cut else span
        )
    chains = tuple(
        grow_chain(spans_of_chain, {asked.span_id} & shown if limit is None else (), limit=limit)
        for spans_of_chain in by_trace.values()
    )
    print_trace(data_console(), Trace(target, chains, linked={}))


def _stage_words(path: Path) -> list[tuple[object, str] | str]:
    """Say how long each stage took, and all of them together."""
    words: list[tuple[object, str] | str] = []
    stages = path.stages()
    for before, stage in pairwise(stages):
        if stage.latency is not None:
            begun = before.event.event_type.lower() if before.name == "market" else before.name
            words += [f"{begun} → {stage.name} ", (duration_words(stage.latency), "cyan")]
            words.append(("  ·  ", "dim"))
    if path.total is not None:
        words += ["in all ", (duration_words(path.total), "bold cyan")]
    return words


def _document(
    target: Target,
    direction: Direction,
    asked: ChainSpan,
    spans: Sequence[ChainSpan],
    path: Path,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": target.value,
        "kind": target.kind,
        "run_id": target.run_id,
        "portfolio": target.portfolio,
        "notes": list(target.notes),
        "direction": direction,
        "of": asked.span_id,
        "events": [span_document(span) for span in spans],
    }
    if direction != "path":
        return document
    for shown, hop in zip(document["events"], path.hops, strict=True):
        shown["latency"], shown["simulated_latency"] = hop.latency, hop.simulated
    document["stages"] = [
        {"stage": stage.name, "span_id": stage.event.span_id, "latency": stage.latency}
        for stage in path.stages()
    ]
    document["latency"] = path.total
    return document
