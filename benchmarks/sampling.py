"""How much the sampling policy cuts at its default settings, and whether all causes stay.

What is critical, the stream itself says: orders, fills, positions, and signals that differ from the
one before. Whether the cause of every event is there is asked of the lake's rows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness import Figure, Size, figure
from stream import make_stream
from stream_spool import lake_of


def measure(size: Size) -> dict[str, Figure]:
    """Bring the stream into a lake under the policy, and count what is there."""
    stream = make_stream(size.pick(2_000, 300_000, 2_000_000))
    with tempfile.TemporaryDirectory() as scratch:
        store = lake_of(stream, Path(scratch), "benchmark", lake_sampling="policy")
        columns = ["sequence", "span_id", "parent_span_id"]
        files = [pq.ParquetFile(file.path).read(columns) for file in store.spans.files()]
        (run,) = store.run_records()
    rows = pa.concat_tables(files)
    kept = np.zeros(len(stream), bool)
    kept[rows["sequence"].to_numpy() - 1] = True
    if kept.sum() != len(rows):
        raise RuntimeError(f"{len(rows) - kept.sum()} events are in the lake twice")
    if run.kept + run.sampled_out + run.dropped != len(stream) or run.kept != len(rows):
        raise RuntimeError("the run's counts do not add up to what was published")
    cut = 100 * (1 - kept[~stream.critical].mean())
    parents = rows["parent_span_id"].drop_null()
    closed = 100 * pc.mean(pc.is_in(parents, rows["span_id"])).as_py()
    critical = 100 * kept[stream.critical].mean()
    return {
        "non-critical events cut": figure(
            float(cut),
            "%",
            goal="≥ 90 % with all causes of what is kept",
            at_least=90,
            holds=closed == 100,
        ),
        "causes in the lake": figure(float(closed), "%", goal="100 %", at_least=100),
        "critical events kept": figure(float(critical), "%", goal="100 %", at_least=100),
        "all events kept": figure(100 * float(kept.mean()), "%"),
    }
