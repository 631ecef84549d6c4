"""`fillpath latency`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.latency import (
    QUANTILES,
    WHOLE_WAYS,
    HopGroup,
    LatencySummary,
    period_for,
    place_on_the_way,
)
from fillpath.analytics.latency_measuring import measure
from fillpath.analytics.latency_slowest import SlowChain, slowest_chains, traces_of
from fillpath.analytics.output import (
    HEADING,
    PIPE_WIDTH,
    data_console,
    print_json,
    say,
    styled,
    table,
)
from fillpath.analytics.progress import Progress
from fillpath.analytics.run_lookup import LATEST, find_run
from fillpath.analytics.runs_view import read_runs
from fillpath.analytics.span_words import duration_words, short_trace
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import UsageError

DIMENSIONS: Final = ("hop", "strategy", "portfolio", "handler", "time")
"""What durations can be told apart by; those of different hops always are."""
_NORMAL: Final = 96
"""Width of terminal from which three names and all quantiles have room,"""
_WIDE: Final = 110
"""and traces, too."""
_TIME: Final = "time"
_Key = tuple[str | None, ...]
_Row = tuple[_Key, int | None]


@dataclass(frozen=True, slots=True)
class RunLatency:
    """What one run has to tell.

    Attributes:
        run: Its row of the view `runs`.
        summaries: By names and period.
        period: Length of a period; None if time is not told apart.
        extent: When the first and the last duration ended.
        chains: The slowest.
        traces: Of the slowest event of each summary, by sequence.
    """

    run: Mapping[str, Any]
    summaries: dict[_Row, LatencySummary]
    period: int | None
    extent: tuple[int, int] | None
    chains: list[SlowChain]
    traces: dict[int, str]


def show_latency(given: Invocation, wanted: Sequence[str], *, by: str, slowest: int) -> None:
    """Print how long hops and handlers took in one run, or in several together.

    Args:
        given: What the command line says.
        wanted: Run ids or unique prefixes; the latest run when empty.
        by: Some of `DIMENSIONS`, separated by commas.
        slowest: How many of the slowest chains to list.

    Raises:
        UsageError: There is no such dimension, or several runs begin so.
        NotFound: There is no such run.
        LakeError: The lake cannot be read.
    """
    dimensions = _dimensions(given, by)
    store = current_store(given.folder)
    with store.connect(further_views=()) as connection:
        run_ids = list(dict.fromkeys(find_run(connection, one) for one in wanted or [LATEST]))
    parts = []
    several = len(run_ids) > 1
    for run_id in run_ids:
        step = Progress().step(f"Measuring {run_id}") if several and not given.json else None
        with step or nullcontext():
            parts.append(_measured(store, run_id, dimensions, slowest))
    period = period_for(part.extent for part in parts) if _TIME in dimensions else None
    summaries = _together(parts, period)
    ordered = sorted(summaries, key=lambda row: _sort_key(dimensions, row))
    rows = [_document_row(dimensions, row, summaries[row], parts) for row in ordered]
    chains = heapq.nlargest(
        slowest, (chain for part in parts for chain in part.chains), key=lambda one: one.duration
    )
    notes = list(_notes(parts, rows))
    if given.json:
        print_json(
            {
                "runs": [_document_run(part) for part in parts],
                "by": dimensions,
                "period": period,
                "unit": "ns",
                "notes": notes,
                "rows": rows,
                "slowest": [_document_chain(given, chain) for chain in chains],
            }
        )
        return
    for note in notes:
        say((note, "yellow"))
    if rows:
        _print_table(dimensions, rows, period)
    if chains:
        _print_chains(given, chains, several=several)


def _dimensions(given: Invocation, by: str) -> list[str]:
    asked = [name.strip() for name in by.split(",") if name.strip()]
    unknown = [name for name in asked if name not in DIMENSIONS]
    if unknown:
        raise UsageError(
            f"Latency cannot be told apart by {', '.join(unknown)}.",
            next_command=given.command("latency", "--by", ",".join(DIMENSIONS)),
        )
    return list(dict.fromkeys(["hop", *asked]))


def _key_for(dimensions: Sequence[str]) -> Callable[[HopGroup], _Key | None]:
    names = [name for name in dimensions if name != _TIME]

    def key(group: HopGroup) -> _Key | None:
        if "handler" in dimensions and not group.is_handled:
            return None
        return tuple(getattr(group, name) for name in names)

    return key


def _measured(
    store: EventStore, run_id: str, dimensions: Sequence[str], slowest: int
) -> RunLatency:
    with store.connect([run_id], further_views=()) as connection:
        (run,) = read_runs(connection, run_id)
        durations = measure(connection, run_id, live=run["mode"] == "live")
        period = period_for([durations.extent]) if _TIME in dimensions else None
        key = _key_for(dimensions)
        summaries = durations.summaries(key, period)
        ends = {one.slowest[1] for one in summaries.values() if one.slowest}
        hops = {group.hop for group in durations.groups}
        # The whole way, if a fill is at the end of any; else what there is.
        kinds = hops & WHOLE_WAYS or {hop for hop in hops if not _is_handled(hop)} or hops
        if "handler" in dimensions:
            kinds = {hop for hop in hops if _is_handled(hop)}
        chains = slowest_chains(
            connection, durations, lambda group: True if group.hop in kinds else None, slowest
        )
        return RunLatency(
            run,
            summaries,
            period,
            durations.extent,
            chains.get(True, []),
            traces_of(connection, run_id, ends),
        )


def _is_handled(hop: str) -> bool:
    return HopGroup("", None, None, hop).is_handled


def _together(parts: Sequence[RunLatency], period: int | None) -> dict[_Row, LatencySummary]:
    """Put runs together, in periods of one length."""
    together: dict[_Row, LatencySummary] = {}
    for part in parts:
        for (key, start), one in part.summaries.items():
            begun = None if start is None or period is None else start // period * period
            row = (key, begun)
            together[row] = together[row] + one if row in together else one
    return together


def _sort_key(dimensions: Sequence[str], row: _Row) -> tuple[object, ...]:
    names = dict(zip((name for name in dimensions if name != _TIME), row[0], strict=True))
    hop = names.pop("hop") or ""
    others = [(value is None, value or "") for value in names.values()]
    return (*place_on_the_way(hop), *others, row[1] or 0)


def _document_row(
    dimensions: Sequence[str], row: _Row, one: LatencySummary, parts: Sequence[RunLatency]
) -> dict[str, Any]:
    document: dict[str, Any] = dict(
        zip((name for name in dimensions if name != _TIME), row[0], strict=True)
    )
    if _TIME in dimensions:
        document[_TIME] = row[1]
    histogram = one.histogram
    document |= {"count": histogram.count, "backwards": one.backwards}
    document |= {"min": histogram.min if histogram.count else None, "mean": histogram.mean}
    document |= {f"p{part}": told for part, told in zip(QUANTILES, one.quantiles, strict=True)}
    exact = one.exact is not None or not histogram.count
    document["max"] = histogram.max if histogram.count else None
    document["exact"] = exact
    document["relative_error"] = 0.0 if exact else histogram.relative_error
    document["slowest"] = None
    if one.slowest is not None:
        run_id, sequence = one.slowest
        traces = next(part.traces for part in parts if part.run["run_id"] == run_id)
        document["slowest"] = {
            "run_id": run_id,
            "sequence": sequence,
            "trace_id": traces.get(sequence),
        }
    return document


def _document_run(part: RunLatency) -> dict[str, Any]:
    names = ("run_id", "mode", "status", "published", "kept", "sampled_out", "dropped")
    return {name: part.run[name] for name in names}


def _document_chain(given: Invocation, chain: SlowChain) -> dict[str, Any]:
    return {
        **chain.group._asdict(),
        "duration": chain.duration,
        "start_time": chain.start,
        "run_id": chain.run_id,
        "sequence": chain.sequence,
        "trace_id": chain.trace_id,
        "command": given.command("trace", "show", chain.trace_id),
    }


def _notes(parts: Sequence[RunLatency], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a reader must know to take the numbers for what they are."""
    for part in parts:
        run = part.run
        sampled, lost = run["sampled_out"] or 0, run["dropped"] or 0
        if sampled:
            yield (
                f"{run['run_id']} was sampled: {report_format.count(sampled)} of "
                f"{report_format.count(run['published'] or 0)} events are not in the lake. The "
                "quantiles are of what was kept; of orders, fills and what led to them nothing is "
                "missing."
            )
        if lost:
            yield f"{run['run_id']} lost {report_format.count(lost)} events; they are not in these."
        if run["status"] == "Running":
            yield f"{run['run_id']} is still going on."
    backwards = sum(row["backwards"] for row in rows)
    if backwards:
        yield (
            f"The wall clock ran backwards {report_format.count(backwards)} times between two "
            "events; these are in no number."
        )
    errors = [row["relative_error"] for row in rows if not row["exact"]]
    if errors:
        yield (
            f"≈ is from histograms of several runs, at most {max(errors):.1%} off; counts and the "
            "slowest are exact."
        )
    if not rows:
        yield "Nothing was measured: no two events of a chain have a time, and no handler has."


def _print_table(
    dimensions: Sequence[str], rows: Sequence[Mapping[str, Any]], period: int | None
) -> None:
    """Print a table; on a terminal the hop stands above the rows that tell it apart."""
    console = data_console()
    headed = len(dimensions) > 1 and console.width < PIPE_WIDTH
    names = dimensions[1:] if headed else list(dimensions)
    crowded = len(dimensions) > 2 and console.width < _NORMAL
    parts = [part for part in QUANTILES if not (crowded and part == 90)]
    numbers = ["count", *(f"p{part}" for part in parts), "max"]
    numbers += ["backwards"] if any(row["backwards"] for row in rows) else []
    wide = console.width >= _WIDE
    drawn = table([*names, *numbers, *(["slowest"] if wide else [])], right=numbers)
    for column, name in zip(drawn.columns, names, strict=False):
        column.no_wrap = name in {"hop", _TIME}
    before: list[str] = []
    hop = None
    for row in rows:
        if headed and row["hop"] != hop:
            hop, before = row["hop"], []
            drawn.add_row(styled((hop, "bold")))
        told = [_name(name, row[name], period) for name in names]
        cells = [styled((text, "" if headed else "bold")) for text in told]
        if headed:
            # What is the same as above is not said again.
            pairs = zip(told, before, strict=False)
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            cells = [styled("" if place < same else text) for place, text in enumerate(told)]
            cells[0] = styled("  ", "" if same else told[0])
            before = told[:-1]
        cells.append(styled(report_format.count(row["count"])))
        sign = "" if row["exact"] else "≈"
        cells += [styled(_took(row[f"p{part}"], sign)) for part in parts]
        cells.append(styled((_took(row["max"]), "cyan")))
        if "backwards" in numbers:
            cells.append(styled((str(row["backwards"] or ""), "yellow")))
        if wide:
            trace = (row["slowest"] or {}).get("trace_id")
            cells.append(styled((short_trace(trace) if trace else "", "dim")))
        drawn.add_row(*cells)
    console.print(drawn)


def _name(dimension: str, value: object, period: int | None) -> str:
    if dimension == _TIME and isinstance(value, int):
        text = report_format.timestamp(value)
        return text if period is not None and period < 86_400_000_000_000 else text[:10]
    return "(none)" if value is None else str(value)


def _took(nanoseconds: int | None, sign: str = "") -> str:
    return "" if nanoseconds is None else sign + duration_words(nanoseconds)


def _print_chains(given: Invocation, chains: Sequence[SlowChain], *, several: bool) -> None:
    console = data_console()
    console.print()
    console.print(styled(("Slowest chains", HEADING)), soft_wrap=True)
    longest = max(len(duration_words(chain.duration)) for chain in chains)
    for chain in chains:
        group = chain.group
        names = [group.handler, group.strategy, group.portfolio, chain.run_id if several else None]
        begun = report_format.timestamp(chain.start - chain.start % 1_000_000)
        console.print(
            styled(
                (duration_words(chain.duration).rjust(longest), "bold cyan"),
                f"  {group.hop}  ",
                ("  ".join(str(name) for name in (*names, begun) if name), "dim"),
            ),
            soft_wrap=True,
        )
        command = given.command("trace", "show", chain.trace_id)
        console.print(styled(" " * longest, "  ", command), soft_wrap=True)
