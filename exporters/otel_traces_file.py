"""Writes spans as Parquet under the names of the Collector's ClickHouse table `otel_traces`."""

from __future__ import annotations

from collections.abc import Collection
from typing import IO, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from fillpath.exporters.event_store import EventStore

_ROWS_AT_A_TIME: Final = 16_384
_COMPRESSION_LEVEL: Final = 3


def write_otel_traces(
    store: EventStore,
    run_id: str,
    out: IO[bytes],
    *,
    trace_ids: Collection[str] | None = None,
    span_ids: Collection[str] | None = None,
) -> int:
    """Write spans of a run, a batch at a time; gives how many.

    `INSERT INTO otel_traces FROM INFILE '…' FORMAT Parquet` takes the file as it is.

    Args:
        store: The lake.
        run_id: The run.
        out: Where to.
        trace_ids: Chains to write, in hex; None means all.
        span_ids: Spans to write, in hex; None means all.
    """
    conditions, values = ["true"], {}
    for column, ids in (("TraceId", trace_ids), ("SpanId", span_ids)):
        if ids is not None:
            conditions.append(f'"{column}" IN (SELECT unnest(${column}::VARCHAR[]))')
            values[column] = list(ids)
    with store.connect([run_id], further_views=["otel_traces"]) as connection:
        relation = connection.sql(
            f"FROM otel_traces WHERE {' AND '.join(conditions)}",
            params=values,
        )
        return _write(relation, out)


def _write(relation: duckdb.DuckDBPyRelation, out: IO[bytes]) -> int:
    reader: pa.RecordBatchReader = relation.to_arrow_reader(_ROWS_AT_A_TIME)
    count = 0
    with pq.ParquetWriter(
        out, reader.schema, compression="zstd", compression_level=_COMPRESSION_LEVEL
    ) as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += len(batch)
    return count
