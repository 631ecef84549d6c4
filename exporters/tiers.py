"""Moves finished runs to the warm and the cold tier as they grow old.

Warm: the same rows, compressed as well as it goes. Cold: besides, ticks and features give way to
summaries (`thinning`). The tier of a file stands in its name; what a cold run lost stands in the
footer of its last file and in the run's record, where it counts as sampled out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.exporters.compaction import TARGET_BYTES
from fillpath.exporters.completeness import totals
from fillpath.exporters.event_store import EventStore, RunRecord
from fillpath.exporters.lake_file import LakeFile
from fillpath.exporters.lake_rewriting import in_order, rewrite
from fillpath.exporters.lake_table import LakeConflict
from fillpath.exporters.parquet_file import rows_of_runs
from fillpath.exporters.thinning import (
    COLUMNS_NEEDED,
    SUMMARISED_KINDS,
    Thinning,
    thin,
    with_summaries,
)
from fillpath.instrumentation.event_sampler import EventSampler

Tier = Literal["warm", "cold"]

LEVELS: Final[dict[Tier, int]] = {"warm": 12, "cold": 19}
"""zstd's level of each tier."""
SUMMARISED: Final = "summarised"
"""Key in a run's completeness: of those sampled out, how many gave way to a summary."""
_FOOTER_KEY: Final = "fillpath.tier"
_RECORD_KEY: Final = "tier"
_RANKS: Final = {"hot": 0, "compact": 0, "warm": 1, "cold": 2}


@dataclass(frozen=True, slots=True)
class Tiering:
    """A run that is to move to a tier.

    Attributes:
        record: The run.
        tier: Where to.
        files: Its files.
        interval: Length of the interval that a summary stands for, ns; 0 keeps every row.
        kinds: Event types that may give way to a summary.
        removed: Events that would give way, by portfolio and event type.
        rows_removed: Rows that would, handler runs among them.
    """

    record: RunRecord
    tier: Tier
    files: Sequence[LakeFile]
    interval: int = 0
    kinds: Collection[str] = ()
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows_removed: int = 0

    @property
    def rows(self) -> int:
        """Rows of the run as it is."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of the run as it is."""
        return sum(file.size for file in self.files)


def plan_tiers(
    store: EventStore,
    now: int,
    *,
    warm_after: int,
    cold_after: int,
    interval: int,
    summarise: bool = True,
) -> list[Tiering]:
    """Find the finished runs that are old enough for a tier they are not in.

    Args:
        store: The lake.
        now: The time, ns since the epoch.
        warm_after: Age of a run for the warm tier, ns since it ended.
        cold_after: Age for the cold tier.
        interval: Length of the interval that a summary stands for, ns.
        summarise: Whether rows of a cold run give way to summaries at all.

    Raises:
        LakeError: When the lake is not one or is damaged.
    """
    by_run: defaultdict[str, list[LakeFile]] = defaultdict(list)
    shared: set[str] = set()
    for file in store.spans.files():
        if file.run_id is not None:
            by_run[file.run_id].append(file)
        else:
            shared |= rows_of_runs(file).keys()
    found = []
    for record in store.run_records():
        files = by_run.get(record.run_id)
        ended = record.ended_at or record.started_at
        if not files or record.status == "Running" or ended is None:
            continue
        if record.run_id in shared:
            continue  # what is to give way depends on all of its rows
        tier: Tier | None = None
        if now - ended >= cold_after:
            tier = "cold"
        elif now - ended >= warm_after:
            tier = "warm"
        if tier is None or all(_RANKS[file.stage] >= _RANKS[tier] for file in files):
            continue
        planned = Tiering(record, tier, files)
        if tier == "cold" and summarise:
            planned = _with_losses(store, planned, interval)
        found.append(planned)
    return found


def _with_losses(store: EventStore, planned: Tiering, interval: int) -> Tiering:
    critical = EventSampler.from_dict(planned.record.metadata.get("sampling") or {}).critical_kinds
    kinds = [kind for kind in SUMMARISED_KINDS if kind not in critical]
    planned = replace(planned, interval=interval, kinds=kinds)
    thinning = _thinning(store, planned)
    return replace(planned, removed=thinning.removed, rows_removed=thinning.rows_removed)


def _thinning(store: EventStore, one: Tiering) -> Thinning:
    rows = pa.concat_tables(in_order(one.files, store.spans.schema, COLUMNS_NEEDED))
    return thin(rows, one.interval, one.kinds)


def move(store: EventStore, one: Tiering, *, target_bytes: int = TARGET_BYTES) -> int | None:
    """Carry out a part of a plan.

    Returns:
        Bytes of the new files; None when another process has replaced the old ones meanwhile.

    Raises:
        LakeError: When a file cannot be read or written; the lake is as it was.
    """
    thinning = _thinning(store, one) if one.interval else None
    story = _story(one, thinning)
    try:
        new = rewrite(
            store.spans,
            one.files,
            _rows(store, one, thinning),
            one.record.run_id,
            stage=one.tier,
            level=LEVELS[one.tier],
            target_bytes=target_bytes,
            data_change=thinning is not None,
            metadata=lambda: {_FOOTER_KEY: json.dumps(story)},
        )
    except LakeConflict:
        return None
    if one.tier == "cold":
        _tell(store, one.record, story)
    return sum(file.size for file in new)


def _rows(store: EventStore, one: Tiering, thinning: Thinning | None) -> Iterator[pa.Table]:
    place = 0
    for rows in in_order(one.files, store.spans.schema):
        yield rows if thinning is None else with_summaries(rows, place, thinning)
        place += rows.num_rows


def _story(one: Tiering, thinning: Thinning | None) -> dict[str, Any]:
    story: dict[str, Any] = {"tier": one.tier, "rows_before": one.rows, "bytes_before": one.bytes}
    if thinning is not None:
        story |= {
            "interval": one.interval,
            "rows_removed": thinning.rows_removed,
            "removed": [
                {"portfolio": portfolio, "event_type": event_type, "events": number}
                for (portfolio, event_type), number in sorted(thinning.removed.items())
            ],
        }
    return story


def _tell(store: EventStore, record: RunRecord, story: dict[str, Any]) -> None:
    """Write into a run's record what its cold tier has lost."""
    lost = {(r["portfolio"], r["event_type"]): r["events"] for r in story.get("removed", ())}
    counted = [
        _less(row, lost.get((row["portfolio"], row["event_type"]), 0))
        for row in record.completeness
    ]
    sums = totals(counted)
    store.record_run(
        replace(
            record,
            completeness=counted,
            kept=sums["kept"] if counted else record.kept,
            sampled_out=sums["sampled_out"] if counted else record.sampled_out,
            metadata={**record.metadata, _RECORD_KEY: story},
        )
    )


def _less(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Count events as left out that were kept."""
    if not number:
        return row
    return {
        **row,
        "kept": row["kept"] - number,
        "sampled_out": row["sampled_out"] + number,
        SUMMARISED: row.get(SUMMARISED, 0) + number,
    }


def told_tier(record: RunRecord) -> dict[str, Any] | None:
    """Give what a run's record says of the tier that it lost rows to; None when it is whole."""
    story: dict[str, Any] | None = record.metadata.get(_RECORD_KEY)
    return story


def mend_records(store: EventStore) -> int:
    """Finish what a crash between the swap of a cold run's files and its record left open.

    Returns:
        How many records were mended.

    Raises:
        LakeError: When the lake cannot be read or written.
    """
    cold: defaultdict[str, list[LakeFile]] = defaultdict(list)
    for file in store.spans.files():
        if file.stage == "cold" and file.run_id is not None:
            cold[file.run_id].append(file)
    mended = 0
    for record in store.run_records() if cold else ():
        if record.run_id in cold and told_tier(record) is None:
            story = _story_of(cold[record.run_id])
            if story is not None:
                _tell(store, record, story)
                mended += 1
    return mended


def _story_of(files: Sequence[LakeFile]) -> dict[str, Any] | None:
    for file in files:
        with file.open() as source:
            footer = pq.ParquetFile(source).metadata.metadata or {}
        if told := footer.get(_FOOTER_KEY.encode()):
            story: dict[str, Any] = json.loads(told)
            return story
    return None
