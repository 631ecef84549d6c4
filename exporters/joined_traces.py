"""Tells which rows of a run are in traces that began elsewhere: in another process, as a rule.

A trace id of our own says which run to look in. Where another run goes on with that trace, it does
not; so a file with such rows says so in its name, and who looks for a trace looks there as well.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.instrumentation import identity

_KEY_BYTES: Final = identity.KEY_BITS // 8
_TAG_BYTES: Final = identity.TAG_BITS // 8


def traces_of_others(rows: pa.Table) -> pa.ChunkedArray:
    """Tell of each of some rows of one run whether its trace id does not follow from the run."""
    run_id = rows["run_id"][0].as_py()
    own = identity.run_key(run_id).to_bytes(_KEY_BYTES, "big")
    begin = pc.binary_slice(rows["trace_id"], 0, _KEY_BYTES)
    return pc.not_equal(begin, pa.scalar(own, pa.binary()))


def joins_traces(rows: pa.Table) -> bool:
    """Tell whether rows of one run go on with traces that another began.

    A chain that the host has named has such a trace id too, but it has its name.
    """
    if "trace_id" not in rows.schema.names or not rows.num_rows:
        return False
    foreign = traces_of_others(rows)
    if not pc.any(foreign).as_py():
        return False
    unnamed = pc.and_(foreign, rows["correlation_id"].is_null())
    if pc.any(unnamed).as_py():
        return True
    entered = pc.not_equal(
        pc.binary_slice(rows["parent_span_id"], 0, _TAG_BYTES),
        pc.binary_slice(rows["span_id"], 0, _TAG_BYTES),
    )
    return bool(pc.any(entered).as_py())
