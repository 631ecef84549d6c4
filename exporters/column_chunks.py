"""Column chunks of a Parquet file: pages, and what the footer tells of them.

A chunk is one data page, behind a page of its dictionary if it has one.

Source: https://github.com/apache/parquet-format (Encodings.md, src/main/thrift/parquet.thrift)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

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
_PLAIN, _RLE, RLE_DICTIONARY = 0, 3, 8
_ZSTD = 6
_NO_INTEGERS: Final = b"\x80\1\4\0\0"
NO_VALUES: Final = {
    "PLAIN": (_PLAIN, b""),
    "DELTA_BINARY_PACKED": (5, _NO_INTEGERS),
    "DELTA_BYTE_ARRAY": (7, 2 * _NO_INTEGERS),
    "BYTE_STREAM_SPLIT": (9, b""),
}
"""Number of each encoding, and what it makes of no values."""
_LONGEST_TOLD: Final = 4096
"""Bytes of a value up to which it may stand among the statistics."""


Body = tuple[bytes, int]
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


@lru_cache(8)
def _codec(level: int) -> pa.Codec:
    return pa.Codec("zstd", compression_level=level)


def compressed(body: bytes, level: int) -> Body:
    """Give what stands in a page."""
    return _codec(level).compress(body, asbytes=True), len(body)


def bits_of(array: pa.Array) -> npt.NDArray[np.uint8] | None:
    """Give the bits that tell which values are there, the lowest first; None: all are."""
    if not array.null_count:
        return None
    number, offset = len(array), array.offset
    if offset % 8:
        known = array.is_valid().to_numpy(zero_copy_only=False)
        return np.packbits(known, bitorder="little")
    return np.frombuffer(array.buffers()[0], np.uint8, number + 7 >> 3, offset >> 3)


class Presence:
    """Where columns have values; those of a row group that have them in the same places share it.

    It holds for the arrays of one row group, and as long as they live.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def places(self, array: pa.Array) -> npt.NDArray[np.int64] | None:
        """Give the places of the values that are there; None: all are."""
        bits = bits_of(array)
        if bits is None:
            return None
        key = array.buffers()[0].address, array.offset
        found = self._places.get(key)
        if found is None:
            mask = np.unpackbits(bits, bitorder="little")[: len(array)].view(np.bool_)
            found = self._places[key] = np.flatnonzero(mask)
        return found


def levels_of(number: int, bits: npt.NDArray[np.uint8] | None) -> bytes:
    """Levels that tell which values are there; None: all are."""
    if bits is None:
        run = varint(number << 1) + b"\1"
    else:
        run = varint(len(bits) << 1 | 1) + bits.tobytes()
    return len(run).to_bytes(4, "little") + run


def chunk_of(
    leaf: Leaf,
    number: int,
    missing: int,
    data: Body,
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
    encodings = sorted({_PLAIN, _RLE, encoding} if encoding == RLE_DICTIONARY else {_RLE, encoding})
    path = [binary(name.encode()) for name in leaf.path.split(".")]
    return struct(
        (1, I32, integer(_PHYSICAL[leaf.physical])),
        (2, LIST, listed(I32, [integer(one) for one in encodings])),
        (3, LIST, listed(BINARY, path)),
        (4, I32, integer(_ZSTD)),
        ends=False,
    )
