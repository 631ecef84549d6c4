"""Column chunks of a Parquet file for doubles that are often missing, and for equal steps.

numpy does by column what a general writer does value by value. The encodings are those that any
file of the lake has; see `parquet_file.encodings_of`.

Source: https://github.com/apache/parquet-format (Encodings.md)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.column_chunks import (
    Chunk,
    Leaf,
    Presence,
    bits_of,
    chunk_of,
    compressed,
    levels_of,
)
from fillpath.exporters.thrift_compact import integer, varint

_DELTAS: Final = 5
_STREAMS: Final = 9
_BLOCK: Final = 128
_MINIBLOCKS: Final = 4
_WORD: Final = 8
_LONGEST_STEP: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class ValueChunks:
    """Makes the chunks of values of one row group.

    Args:
        level: Level of zstd.
        presence: Knows where the columns of the row group have values.
    """

    level: int
    presence: Presence

    def doubles(self, leaf: Leaf, array: pa.Array) -> Chunk:
        """Make the chunk of doubles, some of which are there: their bytes in 8 streams."""
        places = self.presence.places(array)
        numbers = np.frombuffer(array.buffers()[1], np.uint64, len(array), _WORD * array.offset)
        if places is not None:
            numbers = numbers[places]
        streams = numbers.view(np.uint8).reshape(-1, _WORD).T.tobytes()
        return self._chunk(leaf, array, streams, _STREAMS)

    def steps(self, leaf: Leaf, array: pa.Array) -> Chunk:
        """Make the chunk of integers that are all there and have the same distance: blocks of it.

        Each block is the distance and the widths of what is added to it, which are 0.
        """
        numbers = _integers(array)
        number, first, last = len(numbers), int(numbers[0]), int(numbers[-1])
        step = int(numbers[1]) - first if number > 1 else 0
        block = integer(step) + bytes(_MINIBLOCKS)
        head = varint(_BLOCK) + varint(_MINIBLOCKS) + varint(number) + integer(first)
        values = head + block * -(-(number - 1) // _BLOCK)
        ends = None
        if leaf.told:
            low, high = min(first, last), max(first, last)
            ends = tuple(one.to_bytes(_WORD, "little", signed=True) for one in (low, high))
        return self._chunk(leaf, array, values, _DELTAS, ends)

    def _chunk(
        self,
        leaf: Leaf,
        array: pa.Array,
        values: bytes,
        encoding: int,
        ends: tuple[bytes, ...] | None = None,
    ) -> Chunk:
        levels = levels_of(len(array), bits_of(array)) if leaf.defined else b""
        body = compressed(levels + values, self.level)
        told = (ends[0], ends[1]) if ends is not None else None
        return chunk_of(leaf, len(array), array.null_count, body, encoding, None, told)


def are_steps(chunks: list[pa.Array]) -> bool:
    """Tell whether integers are all there, and each has the same distance from the one before.

    Args:
        chunks: The column, in parts of which none is empty.
    """
    if any(chunk.null_count for chunk in chunks):
        return False
    whole = [_integers(chunk) for chunk in chunks]
    if len(whole[0]) < _BLOCK:  # few say little of the others, and cost little
        return False
    first, last = int(whole[0][0]), int(whole[-1][-1])
    step = int(whole[0][1]) - first
    return (
        last - first == step * (sum(map(len, whole)) - 1)
        and abs(step) < _LONGEST_STEP
        and all((one[1:] - one[:-1] == step).all() for one in whole)
        and all(int(end[0]) - int(begin[-1]) == step for begin, end in pairwise(whole))
    )


def _integers(array: pa.Array) -> npt.NDArray[np.int64]:
    return np.frombuffer(array.buffers()[1], np.int64, len(array), _WORD * array.offset)
