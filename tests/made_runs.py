"""Runs made by hand as the lake holds them, for what compares runs: plain events in lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from fillpath.exporters.further_views import read_sql, with_scale
from fillpath.exporters.schema import DECIMAL_SCALE, RUN_SCHEMA, SPAN_SCHEMA

SECOND = 1_000_000_000
_SCHEMAS = {
    "raw_spans": SPAN_SCHEMA.remove(SPAN_SCHEMA.get_field_index("event_timestamp")),
    "raw_runs": RUN_SCHEMA,
}


@dataclass
class MadeEvent:
    """An event as a host might publish it.

    Args:
        event_type: Its kind.
        columns: Columns of the lake.
        cause: The event that led to it.
        handler: The handler that published it, if it was a handler.
        attributes: What has no column.
        links: Further causes.
    """

    event_type: str
    columns: dict[str, Any] = field(default_factory=dict)
    cause: MadeEvent | None = None
    handler: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    links: list[MadeEvent] = field(default_factory=list)


def connect(runs: Mapping[str, Sequence[MadeEvent]] | None = None) -> duckdb.DuckDBPyConnection:
    """Open a connection with the views of a lake that holds these runs, each event in its turn."""
    connection = duckdb.connect()
    for name, schema in _SCHEMAS.items():
        empty = schema.empty_table()
        connection.register(f"empty_{name}", empty)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM empty_{name}")
    for name in ("macros", "spans", "trace_divisions", "runs"):
        connection.execute(with_scale(read_sql(name), DECIMAL_SCALE))
    hold(connection, runs or {})
    return connection


def hold(connection: duckdb.DuckDBPyConnection, runs: Mapping[str, Sequence[MadeEvent]]) -> None:
    """Put runs in place of those that a connection shows.

    Spans get ids of their own and clocks of their own in every run, and handlers' runs get spans.
    """
    rows: list[dict[str, Any]] = []
    for number, (run_id, events) in enumerate(runs.items()):
        rows += _rows(run_id, events, seed=number * 1_000_003 + 7)
    made = {"raw_spans": rows, "raw_runs": [_run(run_id) for run_id in runs]}
    for name, schema in _SCHEMAS.items():
        full = [{column: row.get(column) for column in schema.names} for row in made[name]]
        connection.register(f"made_{name}", pa.Table.from_pylist(full, schema))
        connection.execute(f"DELETE FROM {name}")
        connection.execute(f"INSERT INTO {name} SELECT * FROM made_{name}")


def _run(run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "updated_at": 1,
        "status": "Ended",
        "parameters": "{}",
        "metadata": "{}",
        "completeness": "[]",
    }


def _rows(run_id: str, events: Sequence[MadeEvent], seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    places: dict[int, dict[str, Any]] = {}
    deliveries: dict[tuple[int, str], dict[str, Any]] = {}
    for event in events:
        parent = None if event.cause is None else places.get(id(event.cause))
        if event.handler is not None and parent is not None:
            key = (id(event.cause), event.handler)
            if key not in deliveries:
                deliveries[key] = _span(run_id, seed, rows, parent, "DELIVERY", "CONSUMER")
                deliveries[key]["handler"] = event.handler
            parent = deliveries[key]
        row = _span(run_id, seed, rows, parent, event.event_type, "PRODUCER")
        row |= event.columns
        row["attributes"] = json.dumps(event.attributes, separators=(",", ":")) or None
        row["links"] = [
            {"trace_id": places[id(one)]["trace_id"], "span_id": places[id(one)]["span_id"]}
            for one in event.links
            if id(one) in places
        ] or None
        places[id(event)] = row
    return rows


def _span(
    run_id: str,
    seed: int,
    rows: list[dict[str, Any]],
    parent: dict[str, Any] | None,
    event_type: str,
    span_kind: str,
) -> dict[str, Any]:
    sequence = len(rows) + 1
    own = (seed * 0x9E3779B97F4A7C15 + sequence) % 2**64
    row: dict[str, Any] = {
        "run_id": run_id,
        "portfolio": "fund/book",
        "trace_id": own.to_bytes(16, "big") if parent is None else parent["trace_id"],
        "span_id": own.to_bytes(8, "big"),
        "parent_span_id": None if parent is None else parent["span_id"],
        "sequence": sequence,
        "root_sequence": sequence if parent is None else parent["root_sequence"],
        "name": f"publish {event_type}",
        "span_kind": span_kind,
        "event_type": event_type,
        "start_time": seed * SECOND + sequence * 1000,
        "duration": seed % 977,
        "event_time": None if parent is None else parent["event_time"],
    }
    rows.append(row)
    return row
