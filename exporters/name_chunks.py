"""Column chunks of a Parquet file for what hardly varies: names in dictionaries, empty columns.

Most columns of most spans are empty, or one of few names. A general writer spends as much on
finding that out, value by value, as on the columns that hold something. Here it is known: an empty
column of a row group is one run of missing values, a constant one run of the same index; and where
names vary, the bitmap of the values that are there, and the indices, a byte or two each, are what
Parquet calls bit-packed runs.

Source: https://github.com/apache/parquet-format (Encodings.md, src/main/thrift/parquet.thrift)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.column_chunks import (
    NO_VALUES,
    RLE_DICTIONARY,
    Body,
    Chunk,
    Leaf,
    Presence,
    bits_of,
    chunk_of,
    compressed,
    levels_of,
)
from fillpath.exporters.thrift_compact import varint

_FEW: Final = 256
"""Entries of a dictionary up to which it is written as it is, whether all are used or not."""
MOST_NAMES: Final = 1 << 16
"""Entries whose numbers fit two bytes."""


@dataclass(slots=True)
class NameChunks:
    """Makes the chunks of names of one row group.

    Args:
        level: Level of zstd.
        presence: Knows where the columns of the row group have values.
    """

    level: int
    presence: Presence
    _same: dict[tuple[Any, ...], Body] = field(init=False, default_factory=dict)

    def names(self, leaf: Leaf, array: pa.DictionaryArray) -> Chunk:
        """Make the chunk of names in a dictionary that lacks none and has at most `MOST_NAMES`."""
        number, missing = len(array), array.null_count
        if missing == number:
            return empty_chunk(leaf, number, self.level)
        indices, dictionary = array.indices, array.dictionary
        codes = _codes(indices)
        first = int(codes[0])
        if not missing and (len(dictionary) == 1 or (codes == first).all()):
            value = _plain(dictionary[first : first + 1])
            return constant_chunk(leaf, number, value, self.level)
        places = self.presence.places(indices)
        known: npt.NDArray[Any] = codes if places is None else codes[places]
        if len(dictionary) > _FEW:
            known, dictionary = _renumbered(known, dictionary)
            found = self._indices(leaf, indices, known, len(dictionary))
        else:
            # Columns that change together share their indices.
            alike = (indices.buffers()[1].address, indices.offset, leaf.defined)
            if alike not in self._same:
                self._same[alike] = self._indices(leaf, indices, known, len(dictionary))
            found = self._same[alike]
        entries = *compressed(_plain(dictionary), self.level), len(dictionary)
        told = _ends(known, dictionary) if leaf.told else None
        return chunk_of(leaf, number, missing, found, RLE_DICTIONARY, entries, told)

    def _indices(self, leaf: Leaf, indices: pa.Array, known: npt.NDArray[Any], size: int) -> Body:
        """Give the data page, in one run of whole bytes."""
        width = 1 if size <= _FEW else 2
        run = (
            levels_of(len(indices), bits_of(indices)) if leaf.defined else b"",
            bytes([8 * width]),
            varint((len(known) + 7 >> 3) << 1 | 1),
            known.astype(f"<u{width}").tobytes(),
            bytes(-len(known) % 8 * width),
        )
        return compressed(b"".join(run), self.level)


def _renumbered(
    codes: npt.NDArray[Any], dictionary: pa.Array
) -> tuple[npt.NDArray[np.uint16], pa.Array]:
    """Leave out the entries that no code names."""
    size = len(dictionary)
    used = np.flatnonzero(np.bincount(codes, minlength=size))
    numbers = np.zeros(size, np.uint16)
    numbers[used] = np.arange(len(used))
    return numbers[codes], dictionary.take(pa.array(used))


def _ends(codes: npt.NDArray[Any], dictionary: pa.Array) -> tuple[bytes, bytes]:
    """The smallest and the largest text that a code names, by their bytes."""
    used = dictionary.take(pa.array(np.flatnonzero(np.bincount(codes))))
    ends = pc.min_max(used).as_py()
    return ends["min"].encode(), ends["max"].encode()


@lru_cache(1024)
def empty_chunk(leaf: Leaf, number: int, level: int) -> Chunk:
    """Make the chunk of a column that holds nothing in so many rows."""
    run = varint(number << 1) + b"\0"
    levels = len(run).to_bytes(4, "little") + run
    encoding, values = NO_VALUES[leaf.encoding]
    body = compressed((levels * 2 if leaf.repeated else levels) + values, level)
    return chunk_of(leaf, number, number, body, encoding, None, None)


@lru_cache(1024)
def constant_chunk(leaf: Leaf, number: int, value: bytes, level: int) -> Chunk:
    """Make the chunk of a column that holds the same in so many rows.

    Args:
        leaf: The column.
        number: How many rows there are.
        value: What it holds, in Parquet's plain encoding.
        level: Level of zstd.
    """
    levels = levels_of(number, None) if leaf.defined else b""
    body = levels + b"\1" + varint(number << 1) + b"\0"  # one bit an index, and all are 0
    told = (value[4:], value[4:]) if leaf.told and leaf.physical == "BYTE_ARRAY" else None
    entries = *compressed(value, level), 1
    return chunk_of(leaf, number, 0, compressed(body, level), RLE_DICTIONARY, entries, told)


def _codes(indices: pa.Array) -> npt.NDArray[np.int32]:
    """Indices, with anything where one is missing."""
    if indices.type != pa.int32():
        indices = indices.cast(pa.int32())
    return np.frombuffer(indices.buffers()[1], np.int32, len(indices), 4 * indices.offset)


def _plain(texts: pa.Array) -> bytes:
    """Texts in Parquet's plain encoding: each behind its length."""
    number = len(texts)
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int32, number + 1, 4 * texts.offset)
    begin, length = int(places[0]), int(places[-1] - places[0])
    whole = np.empty(length + 4 * number, np.uint8)
    lengths = (places[:-1] - begin + 4 * np.arange(number))[:, None] + np.arange(4)
    whole[lengths] = (places[1:] - places[:-1]).astype("<i4").view(np.uint8).reshape(number, 4)
    if length:
        is_text = np.ones(len(whole), np.bool_)
        is_text[lengths] = False
        whole[is_text] = np.frombuffer(data, np.uint8, length, begin)
    return whole.tobytes()
