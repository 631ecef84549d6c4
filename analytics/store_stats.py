"""`fillpath store stats`: what there is, how large, in which tier, and what could be had back."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.amounts import size_words
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.lake_reading import current_store
from fillpath.analytics.output import HEADING, data_console, print_json, styled, table
from fillpath.analytics.report_format import count
from fillpath.exporters.compaction import plan_compaction
from fillpath.exporters.reclaiming import plan_vacuum
from fillpath.exporters.spool_folders import spool_bytes
from fillpath.exporters.tiers import told_tier
from fillpath.instrumentation.spool import list_spools

if TYPE_CHECKING:
    from fillpath.exporters.event_store import EventStore

_STAGES: Final = ("hot", "compact", "warm", "cold")


def show_stats(given: Invocation) -> None:
    """Print how large lake and spools are.

    Raises:
        LakeError: The lake cannot be read.
    """
    stats = gather(current_store(given.folder))
    if given.json:
        print_json(stats)
    else:
        _print(stats, given)


def gather(store: EventStore) -> dict[str, Any]:
    """Measure a store.

    Raises:
        LakeError: The lake cannot be read.
    """
    files, records = store.spans.files(), store.run_records()
    run_files = store.runs.files()
    stages: defaultdict[str, dict[str, int]] = defaultdict(
        lambda: {"files": 0, "rows": 0, "bytes": 0}
    )
    for file in files:
        stage = stages[file.stage]
        stage["files"] += 1
        stage["rows"] += file.rows
        stage["bytes"] += file.size
    rows, size = sum(file.rows for file in files), sum(file.size for file in files)
    events = sum(record.kept for record in records)
    small = [one for one in plan_compaction(store) if one.table is store.spans]
    waste = plan_vacuum(store)
    spools = {folder.name: spool_bytes(folder) for folder in list_spools(store.folder.spool)}
    running = {record.run_id for record in records if record.status == "Running"}
    finished = {record.run_id for record in records} - running
    stories = {record.run_id: told_tier(record) for record in records}
    return {
        "lake": store.spans.place,
        "runs": {"finished": len(finished), "running": len(running)},
        "spans": {"files": len(files), "rows": rows, "bytes": size},
        "bytes_per_span": round(size / rows, 2) if rows else None,
        "bytes_per_event": round(size / events, 2) if events else None,
        "tiers": {name: stages[name] for name in _STAGES if name in stages},
        "run_table": {
            "files": len(run_files),
            "rows": sum(file.rows for file in run_files),
            "bytes": sum(file.size for file in run_files),
        },
        "small_files": sum(len(one.files) for one in small),
        "reclaimable": {
            "files": len(waste.files),
            "bytes": waste.bytes,
            "spools": sum(run in finished for run in spools),
            "spool_bytes": sum(size for run, size in spools.items() if run in finished),
        },
        "spools": {"runs": len(spools), "bytes": sum(spools.values())},
        "summarised": [
            {"run_id": run_id, **story} for run_id, story in stories.items() if story is not None
        ],
    }


def _print(stats: dict[str, Any], given: Invocation) -> None:
    console = data_console()
    console.print(styled(("Lake ", HEADING), stats["lake"]), soft_wrap=True)
    drawn = table(["tier", "files", "spans", "size", "B/span"], right=_NUMBERS)
    lines = [*stats["tiers"].items(), ("all", stats["spans"])]
    for name, part in lines:
        each = f"{part['bytes'] / part['rows']:.1f}" if part["rows"] else ""
        drawn.add_row(
            name, count(part["files"]), count(part["rows"]), size_words(part["bytes"]), each
        )
    console.print(drawn)
    console.print()
    runs, spools, waste = stats["runs"], stats["spools"], stats["reclaimable"]
    per_event = stats["bytes_per_event"]
    facts = [
        ("runs", f"{count(runs['finished'])} finished, {count(runs['running'])} recorded now"),
        ("per event", "" if per_event is None else f"{per_event} bytes"),
        ("small files", count(stats["small_files"])),
        ("spools", f"{count(spools['runs'])}, {size_words(spools['bytes'])}"),
        ("not needed", f"{_number(waste['files'], 'file')}, {size_words(waste['bytes'])}"),
        ("", f"{_number(waste['spools'], 'finished spool')}, {size_words(waste['spool_bytes'])}"),
    ]
    for name, words in facts:
        if words:
            console.print(styled((f"{name:12}", "dim"), words), soft_wrap=True)
    for story in stats["summarised"]:
        console.print(styled((f"{'summarised':12}", "dim"), loss_words(story)), soft_wrap=True)
    for needed, verb in ((stats["small_files"], "compact"), (waste["files"], "vacuum")):
        if needed:
            console.print(styled(("  Try: ", "dim"), given.command("store", verb)), soft_wrap=True)


def _number(value: int, noun: str) -> str:
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def loss_words(story: dict[str, Any]) -> str:
    """Say what a cold run has lost."""
    kinds: defaultdict[str, int] = defaultdict(int)
    for row in story.get("removed", ()):
        kinds[row["event_type"]] += row["events"]
    lost = ", ".join(f"{count(number)} {kind}" for kind, number in sorted(kinds.items()))
    seconds = story.get("interval", 0) / 1e9
    where = f"run {story['run_id']}: "
    if not lost:
        return f"{where}nothing was left out"
    return f"{where}{lost} gave way to summaries of {seconds:g} s"


_NUMBERS: Final = ("files", "spans", "size", "B/span")
