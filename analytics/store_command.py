"""`fillpath store compact`, `tier`, `retain` and `vacuum`: each shows its plan before it acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from fillpath.analytics.amounts import parse_age, parse_size, size_words
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import data_console, inert, print_json, say, styled, table
from fillpath.analytics.report_format import count
from fillpath.exporters.compaction import Compaction, compact, plan_compaction
from fillpath.exporters.event_store import EventStore
from fillpath.exporters.lake_file import NewFile
from fillpath.exporters.reclaiming import plan_vacuum, vacuum
from fillpath.exporters.retention import RunRemoval, plan_retention, remove_run
from fillpath.exporters.tiers import Tiering, mend_records, move, plan_tiers
from fillpath.instrumentation.errors import FillpathError, UsageError

_HOUR: Final = 3600 * 10**9
_MOST_LINES: Final = 50


class _Step(NamedTuple):
    """A line of a plan, and how it is carried out."""

    document: dict[str, Any]
    cells: Sequence[str]
    act: Callable[[], str | None]
    """Carries it out; gives why it could not be, if so."""


def compact_store(given: Invocation, *, run: str | None, target: str, only_plan: bool) -> None:
    """Put small files together.

    Raises:
        UsageError: A size that is none.
        LakeError: The lake cannot be read or written.
    """
    target_bytes = parse_size(target, "--target-size")
    if target_bytes < 1:
        raise UsageError("--target-size must be more than nothing.")
    store = current_store(given.folder)
    plan = plan_compaction(store, _run_ids(store, run), target_bytes=target_bytes)
    steps = [_compaction(one, target_bytes) for one in plan]
    columns = ("run", "files", "rows", "size")
    _follow(given, "compact", columns, steps, "No small files to put together.", not only_plan)


def _compaction(one: Compaction, target_bytes: int) -> _Step:
    name = one.run_id or ("(table of runs)" if one.table.name == "runs" else "(small runs)")
    document: dict[str, Any] = {
        "run_id": one.run_id,
        "table": one.table.name,
        "files": [file.name for file in one.files],
        "rows": one.rows,
        "bytes": one.bytes,
        "reason": "small files",
    }

    def act() -> str | None:
        new: list[NewFile] | None = compact(one, target_bytes=target_bytes)
        if new is None:
            return "another process was at its files"
        document["new_files"] = [file.name for file in new]
        document["new_bytes"] = sum(file.size for file in new)
        return None

    cells = (name, count(len(one.files)), count(one.rows), size_words(one.bytes))
    return _Step(document, cells, act)


def tier_store(
    given: Invocation, *, warm: str, cold: str, interval: str, summarise: bool, yes: bool
) -> None:
    """Move old runs to the warm and the cold tier.

    Raises:
        UsageError: An age that is none.
        LakeError: The lake cannot be read or written.
    """
    store = current_store(given.folder)
    length = parse_age(interval, "--interval")
    if summarise and length < 1:
        raise UsageError("--interval must be more than nothing.", next_command="--interval 1m")
    warm_after, cold_after = parse_age(warm, "--warm-after"), parse_age(cold, "--cold-after")
    if mended := mend_records(store):
        say(f"Finished what an interrupted run of this command had left: {mended} records.")
    plan = plan_tiers(
        store,
        time.time_ns(),
        warm_after=warm_after,
        cold_after=cold_after,
        interval=length,
        summarise=summarise,
    )
    columns = ("run", "tier", "rows", "size", "rows that go", "why")
    steps = [_tiering(store, one) for one in plan]
    _follow(given, "tier", columns, steps, "Every run is in the tier of its age.", yes)


def _tiering(store: EventStore, one: Tiering) -> _Step:
    removed = [
        {"portfolio": portfolio, "event_type": event_type, "events": number}
        for (portfolio, event_type), number in sorted(one.removed.items())
    ]
    ended = one.record.ended_at or one.record.started_at or 0
    reason = f"ended {(time.time_ns() - ended) / 24 / _HOUR:,.1f} days ago"
    document: dict[str, Any] = {
        "run_id": one.record.run_id,
        "tier": one.tier,
        "files": [file.name for file in one.files],
        "rows": one.rows,
        "bytes": one.bytes,
        "rows_removed": one.rows_removed,
        "summarised": removed,
        "interval": one.interval,
        "reason": reason,
    }

    def act() -> str | None:
        size = move(store, one)
        if size is None:
            return "another process was at its files"
        document["new_bytes"] = size
        return None

    goes = ", ".join(
        f"{count(events)} {event_type}" for (_, event_type), events in sorted(one.removed.items())
    )
    cells = (
        one.record.run_id,
        one.tier,
        count(one.rows),
        size_words(one.bytes),
        f"{count(one.rows_removed)} ({goes})" if goes else count(one.rows_removed),
        reason,
    )
    return _Step(document, cells, act)


def retain_store(
    given: Invocation,
    *,
    older_than: str | None,
    keep_runs: int | None,
    max_size: str | None,
    yes: bool,
) -> None:
    """Let whole runs go.

    Raises:
        UsageError: No rule was given, or one that makes no sense.
        LakeError: The lake cannot be read or written.
    """
    if older_than is None and keep_runs is None and max_size is None:
        raise UsageError(
            "Which runs may go? Say so by age, by number or by size.",
            next_command=given.command("store", "retain", "--older-than", "90d"),
        )
    age = None if older_than is None else parse_age(older_than, "--older-than")
    size = None if max_size is None else parse_size(max_size, "--max-size")
    store = current_store(given.folder)
    plan = plan_retention(
        store, time.time_ns(), older_than=age, keep_runs=keep_runs, max_bytes=size
    )
    columns = ("run", "rows", "size", "spool", "why")
    steps = [_removal(store, one) for one in plan]
    _follow(given, "retain", columns, steps, "No run has to go.", yes)


def _removal(store: EventStore, one: RunRemoval) -> _Step:
    document = {
        "run_id": one.record.run_id,
        "files": [file.name for file in one.files],
        "rows": one.rows,
        "bytes": one.bytes,
        "spool_bytes": one.spool_bytes,
        "reason": one.reason,
    }

    def act() -> str | None:
        return None if remove_run(store, one) else "a writer, or another process, is at it"

    cells = (
        one.record.run_id,
        count(one.rows),
        size_words(one.bytes),
        size_words(one.spool_bytes),
        one.reason,
    )
    return _Step(document, cells, act)


def vacuum_store(given: Invocation, *, grace: str, spools: bool, yes: bool) -> None:
    """Delete what no lake needs.

    Raises:
        UsageError: An age that is none.
        LakeError: The lake cannot be read or written.
    """
    hours = -(-parse_age(grace, "--grace") // _HOUR)
    store = current_store(given.folder)
    plan = plan_vacuum(store, grace_hours=hours, spools=spools)
    shown = [
        {
            "kind": one.kind,
            "name": one.name,
            "bytes": one.bytes,
            "reason": one.reason,
            "kept": one.kept,
        }
        for one in plan.shown
    ]
    busy: list[int] = []

    def act_once() -> str | None:
        if not busy:
            busy.append(vacuum(plan))
        return f"{busy[0]} spools are in a writer's hands" if busy[0] else None

    steps = [
        _Step(
            document,
            (
                str(document["name"]),
                size_words(int(str(document["bytes"]))),
                f"stays: {document['reason']}" if document["kept"] else str(document["reason"]),
            ),
            (lambda: None) if document["kept"] else act_once,
        )
        for document in shown
    ]
    nothing = "Nothing lies about that the lake does not need."
    _follow(given, "vacuum", ("what", "size", "why"), steps, nothing, yes)


def _run_ids(store: EventStore, run: str | None) -> list[str] | None:
    if run is None:
        return None
    from fillpath.analytics.run_lookup import find_run

    with store.connect() as connection:
        return [find_run(connection, run)]


def _follow(
    given: Invocation,
    verb: str,
    columns: Sequence[str],
    steps: Sequence[_Step],
    nothing: str,
    act: bool,
) -> None:
    """Show a plan, and carry it out if that is wanted."""
    if not given.json:
        if not steps:
            say(nothing)
            return
        _print_plan(columns, steps)
    failures = _carry_out(steps) if act else []
    if given.json:
        print_json(
            {
                "verb": verb,
                "done": act,
                "bytes": sum(step.document["bytes"] for step in steps),
                "plan": [step.document for step in steps],
                "failures": failures,
            }
        )
    elif not act:
        say(("Nothing was done yet. ", "yellow"), "To do it, add --yes.")
    else:
        say((f"Done: {count(len(steps) - len(failures))} of {count(len(steps))}.", "green"))
    if failures:
        raise FillpathError(
            "Not all of it could be done:\n" + "\n".join(failures), next_command="try again"
        )


def _carry_out(steps: Iterable[_Step]) -> list[str]:
    failures = []
    for step in steps:
        problem = step.act()
        step.document["done"] = problem is None
        if problem is not None:
            failures.append(f"{step.cells[0]}: {problem}")
    return failures


def _print_plan(columns: Sequence[str], steps: Sequence[_Step]) -> None:
    drawn = table(columns, right=("files", "rows", "size", "spool"))
    for step in steps[:_MOST_LINES]:
        drawn.add_row(*(styled(inert(cell)) for cell in step.cells))
    console = data_console()
    console.print(drawn)
    if len(steps) > _MOST_LINES:
        console.print(styled((f"… and {count(len(steps) - _MOST_LINES)} more", "dim")))
    console.print(styled(("in all ", "dim"), size_words(_total(steps))))


def _total(steps: Sequence[_Step]) -> int:
    return sum(step.document["bytes"] for step in steps if not step.document.get("kept"))
