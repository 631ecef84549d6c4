"""Checks of the lake: can it be read, is every file there, and does it hold what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.report_format import count
from fillpath.analytics.run_lookup import listed
from fillpath.exporters.event_store import EventStore, TableFacts
from fillpath.instrumentation.settings import DataFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_AREA: Final = "lake"
_ADVICE_MISSING: Final = "a copy of these files; without one, another data folder"

# A foreign span (from an OpenTelemetry SDK) may have a parent in another process.
_ORPHANS: Final = """
SELECT count(*)
FROM spans AS child
JOIN raw_runs AS run ON run.run_id = child.run_id AND run.source = 'spool'
WHERE child.parent_span_id IS NOT NULL
    -- Of the run, by the tag that its span ids begin with; else it is in another process.
    AND child.parent_span_id[1:6] = child.span_id[1:6]
    AND NOT EXISTS (
        SELECT 1 FROM spans AS parent
        WHERE parent.run_id = child.run_id AND parent.span_id = child.parent_span_id
    )
"""
_COUNTS: Final = """
SELECT run_id, published, kept, sampled_out, dropped,
    (SELECT count(*) FROM spans WHERE spans.run_id = runs.run_id AND span_kind = 'PRODUCER')
FROM runs
-- What an exporter that was killed had counted is older than what it wrote.
WHERE status = 'Ended' OR (status = 'Crashed' AND source = 'spool')
ORDER BY started_at
"""


def check_lake(folder: DataFolder) -> Iterator[CheckResult]:
    """Check the tables of spans and runs against their logs, their files and their own counts."""
    store = EventStore(folder)
    facts = store.facts()
    if not any(table.files for table in facts.values()):
        yield CheckResult.skipped(_AREA, f"nothing is in {folder.lake_place} yet", "fillpath demo")
        return
    missing = [path for table in facts.values() for path in table.missing]
    for name, table in facts.items():
        yield _check_files(name, table)
    if missing:
        return
    with store.connect(further_views=()) as connection:
        yield _check_counts(connection)
        yield _check_parents(connection)


def _check_files(name: str, table: TableFacts) -> CheckResult:
    if table.missing:
        gone = f"{len(table.missing)} of {table.files} files of the table of {name} are missing"
        return CheckResult.failed(_AREA, f"{gone}:\n{listed(table.missing)}", _ADVICE_MISSING)
    files = f"{count(table.files)} file{'s' * (table.files != 1)}"
    rows = f"{count(table.rows)} row{'s' * (table.rows != 1)}"
    size = f"{-(-table.bytes // 1000):,} kB"
    return CheckResult.passed(_AREA, f"table of {name}: {rows} in {files}, {size}")


def _check_counts(connection: DuckDBPyConnection) -> CheckResult:
    wrong, lost, runs = [], 0, 0
    for run_id, published, kept, sampled_out, dropped, held in connection.execute(
        _COUNTS
    ).fetchall():
        runs += 1
        lost += dropped or 0
        if published != kept + sampled_out + dropped:
            wrong.append(
                f"run {run_id}: {published} published, but {kept} + {sampled_out} + {dropped}"
            )
        elif kept != held:
            wrong.append(f"run {run_id}: {kept} events were kept, but the lake holds {held}")
    if wrong:
        return CheckResult.failed(_AREA, listed(wrong), "fillpath runs list")
    if lost:
        were = "1 event was" if lost == 1 else f"{count(lost)} events were"
        finding = f"{were} lost while runs were recorded or by damage; each is counted"
        return CheckResult.warned(_AREA, finding, "fillpath runs list")
    if not runs:
        return CheckResult.skipped(_AREA, "no run is finished, so that none can be checked")
    return CheckResult.passed(
        _AREA, f"every event of {runs} finished run{'s' * (runs != 1)} is accounted for"
    )


def _check_parents(connection: DuckDBPyConnection) -> CheckResult:
    row = connection.execute(_ORPHANS).fetchone()
    orphans = row[0] if row else 0
    if orphans:
        return CheckResult.failed(_AREA, f"{count(orphans)} spans name a parent that is not there")
    return CheckResult.passed(_AREA, "every parent that a span names is there")
