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
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.exporters.thrift_compact import (
    BINARY,
    I32,
    I64,
    LIST,
    STOP,
    STRUCT,
    binary,
    integer,
    listed,
    struct,
    varint,
)

_PHYSICAL: Final = {
    "BOOLEAN": 0,
    "INT32": 1,
    "INT64": 2,
    "FLOAT": 4,
    "DOUBLE": 5,
    "BYTE_ARRAY": 6,
    "FIXED_LEN_BYTE_ARRAY": 7,
}
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_ZSTD = 6
_NO_INTEGERS: Final = b"\x80\1\4\0\0"
_NO_VALUES: Final = {
    "PLAIN": (_PLAIN, b""),
    "DELTA_BINARY_PACKED": (5, _NO_INTEGERS),
    "DELTA_BYTE_ARRAY": (7, 2 * _NO_INTEGERS),
    "BYTE_STREAM_SPLIT": (9, b""),
}
"""Number of each encoding, and what it makes of no values."""
_FEW: Final = 256
"""Entries of a dictionary up to which it is written as it is, whether all are used or not."""
MOST_NAMES: Final = 1 << 16
"""Entries whose numbers fit two bytes."""
_LONGEST_TOLD: Final = 4096
"""Bytes of a value up to which it may stand among the statistics."""


_Body = tuple[bytes, int]
"""What stands in a page, compressed, and its length before that."""


class Leaf(NamedTuple):
    """A column of the file, as Parquet sees it.

    Attributes:
        path: Names from the outermost to the innermost, with dots between them.
        physical: Parquet's physical type.
        defined: How many levels of its path may be missing.
        repeated: How many of them repeat.
        encoding: Parquet's name of how its values are written that are in no dictionary.
        told: Whether the statistics tell its smallest and its largest value.
    """

    path: str
    physical: str
    defined: int
    repeated: int
    encoding: str
    told: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column chunk, wherever it will stand in the file.

    Attributes:
        pages: Its bytes.
        raw_bytes: How many they would be if they were not compressed.
        data_at: Where its data page begins, behind its dictionary; 0 without one.
        head: The fields of its description up to the places.
        tail: Those behind.
    """

    pages: bytes
    raw_bytes: int
    data_at: int
    head: bytes
    tail: bytes

    def described(self, place: int) -> bytes:
        """Give its entry in the footer.

        Args:
            place: Where in the file its pages begin.
        """
        places = [(9, I64, integer(place + self.data_at))]
        if self.data_at:
            places.append((11, I64, integer(place)))
        return b"".join((self.head, struct(*places, after=7, ends=False), self.tail, STOP))


@dataclass(slots=True)
class NameChunks:
    """Makes the chunks of one row group after the other.

    Args:
        level: Level of zstd.
    """

    level: int
    _same: dict[tuple[Any, ...], _Body] = field(init=False, default_factory=dict)

    def begin_row_group(self) -> None:
        """Forget the indices of the row group before."""
        self._same.clear()

    def names(self, leaf: Leaf, array: pa.DictionaryArray) -> Chunk:
        """Make the chunk of names in a dictionary that lacks none and has at most `MOST_NAMES`."""
        number, missing = len(array), array.null_count
        if missing == number:
            return empty_chunk(leaf, number, self.level)
        indices, dictionary = array.indices, array.dictionary
        codes, bits = _codes(indices)
        first = int(codes[0])
        if not missing and (len(dictionary) == 1 or (codes == first).all()):
            value = _plain(dictionary[first].as_py())
            return constant_chunk(leaf, number, value, self.level)
        known: npt.NDArray[Any] = codes
        if missing:
            known = codes[np.unpackbits(bits, bitorder="little")[:number].view(np.bool_)]
        size = len(dictionary)
        if size > _FEW:
            used = np.flatnonzero(np.bincount(known, minlength=size))
            dictionary = dictionary.take(pa.array(used))
            numbers = np.zeros(size, np.uint16)
            numbers[used] = np.arange(len(used))
            known, size = numbers[known], len(used)
            alike: tuple[Any, ...] | None = None
        else:
            # Columns that change together share their indices.
            alike = (indices.buffers()[1].address, indices.offset, leaf.defined)
        found = None if alike is None else self._same.get(alike)
        if found is None:
            width = 1 if size <= _FEW else 2
            levels = b"" if not leaf.defined else _levels(number, bits if missing else None)
            packed = known.astype(f"<u{width}")
            body = b"".join(
                (
                    levels,
                    bytes([8 * width]),
                    varint((len(packed) + 7 >> 3) << 1 | 1),
                    packed.tobytes(),
                    bytes(-len(packed) % 8 * width),
                )
            )
            found = _compressed(body, self.level)
            if alike is not None:
                self._same[alike] = found
        values = [_plain(text) for text in dictionary.to_pylist()]
        told = None
        if leaf.told:
            there = sorted(values[n][4:] for n in np.unique(known).tolist())
            told = there[0], there[-1]
        entries = *_compressed(b"".join(values), self.level), len(values)
        return _chunk(leaf, number, missing, found, _RLE_DICTIONARY, entries, told)


@lru_cache(1024)
def empty_chunk(leaf: Leaf, number: int, level: int) -> Chunk:
    """Make the chunk of a column that holds nothing in so many rows."""
    run = varint(number << 1) + b"\0"
    levels = len(run).to_bytes(4, "little") + run
    encoding, values = _NO_VALUES[leaf.encoding]
    body = _compressed((levels * 2 if leaf.repeated else levels) + values, level)
    return _chunk(leaf, number, number, body, encoding, None, None)


@lru_cache(1024)
def constant_chunk(leaf: Leaf, number: int, value: bytes, level: int) -> Chunk:
    """Make the chunk of a column that holds the same in so many rows.

    Args:
        leaf: The column.
        number: How many rows there are.
        value: What it holds, in Parquet's plain encoding.
        level: Level of zstd.
    """
    levels = _levels(number, None) if leaf.defined else b""
    body = levels + b"\1" + varint(number << 1) + b"\0"  # one bit an index, and all are 0
    told = (value[4:], value[4:]) if leaf.told and leaf.physical == "BYTE_ARRAY" else None
    entries = *_compressed(value, level), 1
    return _chunk(leaf, number, 0, _compressed(body, level), _RLE_DICTIONARY, entries, told)


@lru_cache(8)
def _codec(level: int) -> pa.Codec:
    return pa.Codec("zstd", compression_level=level)


def _compressed(body: bytes, level: int) -> _Body:
    return _codec(level).compress(body, asbytes=True), len(body)


def _codes(indices: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Indices, with anything where one is missing, and the bits that tell where one is there."""
    if indices.type != pa.int32():
        indices = indices.cast(pa.int32())
    number, offset = len(indices), indices.offset
    validity, data = indices.buffers()
    codes = np.frombuffer(data, np.int32, number, 4 * offset)
    if not indices.null_count:
        return codes, np.zeros(0, np.uint8)
    if offset % 8:
        known = indices.is_valid().to_numpy(zero_copy_only=False)
        return codes, np.packbits(known, bitorder="little")
    return codes, np.frombuffer(validity, np.uint8, number + 7 >> 3, offset >> 3)


def _levels(number: int, bits: npt.NDArray[np.uint8] | None) -> bytes:
    """Levels that tell which values are there; None: all are."""
    if bits is None:
        run = varint(number << 1) + b"\1"
    else:
        run = varint(len(bits) << 1 | 1) + bits.tobytes()
    return len(run).to_bytes(4, "little") + run


def _plain(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _chunk(
    leaf: Leaf,
    number: int,
    missing: int,
    data: _Body,
    encoding: int,
    dictionary: tuple[bytes, int, int] | None,
    told: tuple[bytes, bytes] | None,
) -> Chunk:
    """Put a chunk together.

    Args:
        leaf: The column.
        number: Rows.
        missing: Rows that have no value.
        data: Levels and values of its data page.
        encoding: How the values are written.
        dictionary: The page of its dictionary, as `data`, and how many entries it has.
        told: The smallest and the largest value.
    """
    body, raw = data
    how = struct(
        (1, I32, integer(number)),
        (2, I32, integer(encoding)),
        (3, I32, integer(_RLE)),
        (4, I32, integer(_RLE)),
    )
    pages = [_header(_DATA_PAGE, raw, len(body), (5, STRUCT, how)), body]
    raw_bytes = len(pages[0]) + raw
    data_at = 0
    if dictionary is not None:
        entries, raw, count = dictionary
        how = struct((1, I32, integer(count)), (2, I32, integer(_PLAIN)))
        head = _header(_DICTIONARY_PAGE, raw, len(entries), (7, STRUCT, how))
        data_at = len(head) + len(entries)
        raw_bytes += len(head) + raw
        pages = [head, entries, *pages]
    whole = b"".join(pages)
    statistics = [(3, I64, integer(missing))]
    if told is not None and max(map(len, told)) <= _LONGEST_TOLD:
        statistics += [(5, BINARY, binary(told[1])), (6, BINARY, binary(told[0]))]
    return Chunk(
        whole,
        raw_bytes,
        data_at,
        # The place of the description itself, which is told no more; then its fields 1 to 7.
        struct((2, I64, integer(0)), (3, STRUCT, b""), ends=False)
        + _what(leaf, encoding)
        + struct(
            (5, I64, integer(number)),
            (6, I64, integer(raw_bytes)),
            (7, I64, integer(len(whole))),
            after=4,
            ends=False,
        ),
        struct((12, STRUCT, struct(*statistics)), after=11 if data_at else 9),
    )


def _header(page: int, raw: int, compressed: int, how: tuple[int, int, bytes]) -> bytes:
    return struct(
        (1, I32, integer(page)), (2, I32, integer(raw)), (3, I32, integer(compressed)), how
    )


@lru_cache(1024)
def _what(leaf: Leaf, encoding: int) -> bytes:
    """Type, encodings, path and codec: fields 1 to 4 of a chunk's description."""
    encodings = sorted(
        {_PLAIN, _RLE, encoding} if encoding == _RLE_DICTIONARY else {_RLE, encoding}
    )
    path = [binary(name.encode()) for name in leaf.path.split(".")]
    return struct(
        (1, I32, integer(_PHYSICAL[leaf.physical])),
        (2, LIST, listed(I32, [integer(one) for one in encodings])),
        (3, LIST, listed(BINARY, path)),
        (4, I32, integer(_ZSTD)),
        ends=False,
    )
