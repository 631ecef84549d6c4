"""Which columns of a file get Bloom filters, so that ids are not looked for where they cannot be.

Trace ids of our own need none: they count upwards in their run, and the smallest and the largest of
a row group tell enough. Those that a host brought along are spread over everything, and so are the
ids of many a venue.
"""

from __future__ import annotations

import math
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.joined_traces import are_of_own_traces
from fillpath.exporters.parquet_file import has_several, row_groups

FALSE_POSITIVES: Final = 0.01
"""How often a filter does not exclude what is not there."""
BYTES_A_ROW: Final = 0.2
"""What the filters of all names of a file may take; the cheapest come first."""
_NAMES: Final = ("client_order_id", "order_id", "fill_id", "position_id", "correlation_id")
_SMALLEST: Final = 32


def filters_worth_having(rows: pa.Table) -> dict[str, int]:
    """Choose the columns that get a filter.

    Args:
        rows: The first rows of a file, or all of them.

    Returns:
        For each column how many different values a row group has at most.
    """
    if "trace_id" not in rows.schema.names or not rows.num_rows:
        return {}
    groups = list(row_groups(rows))
    chosen = {}
    if _are_spread(rows):
        chosen["trace_id"] = max(_distinct(group["trace_id"]) for group in groups)
    room = BYTES_A_ROW * rows.num_rows / len(groups)
    numbers = {name: max(_distinct(group[name]) for group in groups) for name in _NAMES}
    for name, number in sorted(numbers.items(), key=lambda one: one[1]):
        room -= filter_bytes(number)
        if number and room >= 0:
            chosen[name] = number
    return chosen


def filter_bytes(distinct: int) -> int:
    """Size of a filter, as Parquet's writers reckon it: a power of two."""
    bits = -8 * distinct / math.log(1 - FALSE_POSITIVES ** (1 / 8))
    return max(_SMALLEST, 1 << math.ceil(math.log2(max(1.0, bits / 8)))) if distinct else 0


def _are_spread(rows: pa.Table) -> bool:
    """Tell whether there are trace ids of hosts, or of several runs, whose keys are spread too."""
    return has_several(rows["run_id"]) or not are_of_own_traces(rows)


def _distinct(column: pa.ChunkedArray) -> int:
    if column.null_count == len(column):
        return 0
    if not pa.types.is_dictionary(column.type):
        return int(pc.count_distinct(column).as_py())
    # A row group has one dictionary.
    return max(int(pc.count_distinct(chunk.indices).as_py()) for chunk in column.chunks)


__all__ = ["BYTES_A_ROW", "FALSE_POSITIVES", "filter_bytes", "filters_worth_having"]
