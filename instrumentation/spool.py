"""The spool: an append-only record of a run. Its format, and how it is read.

A run's spool is a folder of files `000001.spool`, `000002.spool` …. A file is a row of blocks;
a block is a header of 24 bytes and a payload. The format is described in `docs/spool-format.md`.
A block is trusted only when it is whole and its checksums fit, so a torn tail is never read.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum, IntFlag, StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.payload import unpack

FORMAT_VERSION: Final = 2
MAGIC: Final = b"FPSB"
HEADER: Final = struct.Struct("<4sBBHIIII")
HEADER_CHECKED: Final = 20
"""Bytes of a header that its own checksum covers: all before it."""
SLOTS: Final = 5
"""Numbers that an event record has room for; what they mean stands in the event's site."""
COLUMNS: Final = ("sequence", "parent", "root", "start", "end", "event_time", "place")
"""The integer columns of an EVENTS block, in order; the columns of numbers follow them."""
MAX_EXACT: Final = 1 << 53
"""Up to here, a number column holds every integer exactly."""
MAX_MANTISSA: Final = 10**15
"""Below this, a number column holds a decimal's digits so that readers find them again."""
NO_TIME: Final = -(1 << 63)
"""Stands for an unknown time in a record."""
SUFFIX: Final = ".spool"
UNWRITTEN_EVENTS: Final = 511
"""How many events of sites that are not counted may wait to be written, for at most 10 ms."""


class BlockType(IntEnum):
    """What a block holds."""

    RUN = 1
    """Map that describes the run; the first block of every file."""
    SITES = 2
    """List of sites (see `Site`); an event record refers to one by number."""
    SIDE = 3
    """Side records, one after another: whatever has no room in an event record."""
    EVENTS = 4
    """Event records, column by column."""
    COUNTS = 5
    """Totals so far, per portfolio and event type: published, and dropped by reason."""
    END = 6
    """The run is over; nothing follows."""
    NOTE = 7
    """Map of facts that became known while the run went on, such as its engine."""


_TYPES: Final = {int(block_type): block_type for block_type in BlockType}


class Flag(IntFlag):
    """Upper half of an event record's `place`."""

    BEGIN = 1
    """The event has begun and caused another; a FINISH record follows."""
    FINISH = 2
    """Only sequence, end and side record count; the event began in an earlier record."""
    ERROR = 4
    """A handler raised."""
    SIDE = 8
    """A side record with this sequence stands in a SIDE block before this record."""
    ABSENT = 1 << 8
    """The first number is not there; the next bit says so of the second, and so on."""


FLAGS_SHIFT: Final = 32
"""`place` is the number of the site, and the flags shifted by this."""


class EventRecord(NamedTuple):
    """One event, or the beginning or end of one; a row of an EVENTS block.

    `start` and `end` are nanoseconds of the process's monotonic clock: the RUN block's
    `clock_offset` added, they are wall clock. `event_time` is nanoseconds since the epoch. All
    three are `NO_TIME` if unknown.
    """

    sequence: int
    parent: int
    root: int
    start: int
    end: int
    event_time: int
    place: int
    numbers: tuple[float, ...] = ()

    @property
    def site(self) -> int:
        """Number of the event's site."""
        return self.place & 0xFFFFFFFF

    @property
    def flags(self) -> int:
        """Bits of `Flag`."""
        return self.place >> FLAGS_SHIFT


class FieldKind(StrEnum):
    """What a number of an event record is; the record holds it as a double in any case."""

    DOUBLE = "double"
    """A floating-point number, as it is."""
    INTEGER = "integer"
    """An integer of at most 53 bits."""
    BOOLEAN = "boolean"
    """0 or 1."""
    DECIMAL = "decimal"
    """Digits of a decimal number as an integer below 10¹⁵; the scale says where the point is."""


class Field(NamedTuple):
    """One number of a site's events: key of the attribute, kind, digits after the point."""

    key: str
    kind: str = FieldKind.DOUBLE
    scale: int = 0


class Site(NamedTuple):
    """What many events have in common.

    `fields` are the numbers of an event record, in order. `texts` are attributes that all events of
    the site have with this value. `counted` tells whether the totals of the COUNTS blocks include
    the site's events; if not, each stands for itself.
    """

    number: int
    operation: str
    event_type: str
    portfolio: str
    strategy: str | None = None
    symbol: str | None = None
    venue: str | None = None
    handler: str | None = None
    fields: tuple[Field, ...] = ()
    texts: tuple[tuple[str, Any], ...] = ()
    counted: bool = True

    def attributes(self, numbers: tuple[float, ...], flags: int) -> dict[str, Any]:
        """Attributes of an event of this site, without those of its side record.

        Args:
            numbers: The numbers of its record.
            flags: The flags of its record.
        """
        found: dict[str, Any] = dict(self.texts)
        for (key, kind, scale), number in zip(self.fields, numbers, strict=False):
            if flags >> _ABSENT_SHIFT & 1 == 0:
                found[key] = _FROM_NUMBER[kind](number, scale)
            flags >>= 1
        return found


_ABSENT_SHIFT: Final = 8


def _decimal(mantissa: float, scale: int) -> Decimal:
    # By its digits: arithmetic would follow the precision of whatever context is set.
    digits = int(mantissa)
    return Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), -scale))


_FROM_NUMBER: Final[dict[str, Callable[[float, int], Any]]] = {
    FieldKind.DOUBLE: lambda number, _: number,
    FieldKind.INTEGER: lambda number, _: int(number),
    FieldKind.BOOLEAN: lambda number, _: bool(number),
    FieldKind.DECIMAL: _decimal,
}


class SideRecord(NamedTuple):
    """What an event has beside its record.

    `links` holds (trace id, span id) in bytes; `extra` may hold `correlation_id`, `event_id`,
    `error`, and `parent` (trace id, span id) of a foreign parent.
    """

    sequence: int
    attributes: dict[str, Any]
    links: list[tuple[bytes, bytes]]
    extra: dict[str, Any]


class Count(NamedTuple):
    """Totals of one portfolio and event type since the run began."""

    portfolio: str
    event_type: str
    published: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """A whole, checked block and its place.

    Attributes:
        number: Counts the blocks of the run from 1.
        type: What it holds.
        count: How many things it holds.
        payload: Them.
        slots: Columns of numbers of an EVENTS block.
        file: Number of the file, from 1.
        offset: Where its header begins in the file.
    """

    number: int
    type: BlockType
    count: int
    payload: bytes | memoryview
    slots: int = 0
    file: int = 0
    offset: int = 0

    @property
    def end(self) -> int:
        """Where the next block begins in the file."""
        return self.offset + HEADER.size + len(self.payload)

    def value(self) -> Any:
        """Payload of a RUN, NOTE or END block: a map."""
        return unpack(self.payload)

    def sites(self) -> list[Site]:
        """Payload of a SITES block."""
        return [
            Site._make(
                (
                    *parts[:8],
                    tuple(Field(*field) for field in parts[8]),
                    tuple((key, value) for key, value in parts[9]),
                    *parts[10:],
                )
            )
            for parts in unpack(self.payload)
        ]

    def counts(self) -> list[Count]:
        """Payload of a COUNTS block."""
        return [Count(*fields) for fields in unpack(self.payload)]

    def side_records(self) -> Iterator[SideRecord]:
        """Payload of a SIDE block."""
        return map(side_record, self.packed_sides())

    def packed_sides(self) -> list[list[Any]]:
        """Payload of a SIDE block as it is packed: lists of a side record's four parts."""
        parts = []
        payload, end = bytes(self.payload), 0
        length_at, own = _LENGTH.unpack_from, _LENGTH.size
        while end < len(payload):
            begin = end + own
            end = begin + length_at(payload, end)[0]
            parts.append(payload[begin:end])
        # As one array of MessagePack: to unpack each by itself costs a third more.
        whole: list[list[Any]] = unpack(_ARRAY.pack(0xDD, len(parts)) + b"".join(parts))
        return whole

    def column(self, place: int) -> memoryview[Any]:
        """One column of an EVENTS block: 64-bit integers, or doubles behind those of `COLUMNS`."""
        width = 8 * self.count
        part = memoryview(self.payload)[place * width : (place + 1) * width]
        if place >= len(COLUMNS):
            return part.cast("d")
        return part.cast("q") if COLUMNS[place] in _SIGNED else part.cast("Q")

    def events(self) -> Iterator[EventRecord]:
        """Payload of an EVENTS block, row by row."""
        columns = [self.column(place) for place in range(len(COLUMNS))]
        numbers = [self.column(len(COLUMNS) + slot) for slot in range(self.slots)]
        rows = zip(*numbers, strict=True) if numbers else iter([()] * self.count)
        for integers, row in zip(zip(*columns, strict=True), rows, strict=True):
            yield EventRecord._make((*integers, row))


_SIGNED: Final = frozenset({"start", "end", "event_time"})


def side_record(parts: list[Any]) -> SideRecord:
    """Make a side record of its parts as they are packed."""
    sequence, attributes, links, extra = parts
    return SideRecord(sequence, attributes, [tuple(link) for link in links], extra)


_LENGTH: Final = struct.Struct("<I")
_ARRAY: Final = struct.Struct(">BI")


class SpoolReader:
    """Reads the blocks of one run's spool, also while it is being written.

    Raises:
        SpoolError: When the folder holds no spool, or a block before the tail is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_number = 1
        self._offset = 0
        self._block_number = 0
        if not self._path(1).is_file():
            raise SpoolError(f"There is no spool at {folder}.", next_command="fillpath runs list")

    @property
    def place(self) -> tuple[int, int]:
        """Number of the file that is read, and where its next block begins."""
        return self._file_number, self._offset

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"

    def blocks(self) -> Iterator[Block]:
        """Give the blocks after the last one given, as far as they are whole now.

        Raises:
            SpoolError: When a block is damaged. A torn one at the very end does not count: the
                spool is being written, or its process was killed.
        """
        while True:
            with self._path(self._file_number).open("rb") as file:
                yield from self._blocks_of(file)
            if not self._path(self._file_number + 1).is_file():
                return
            # The next file exists, so this one is complete: read what came in between, then go on.
            with self._path(self._file_number).open("rb") as file:
                yield from self._blocks_of(file)
                if self._offset < os.fstat(file.fileno()).st_size:
                    raise _damaged(self._where(file), "is torn, and another file follows")
            self._file_number += 1
            self._offset = 0

    def _where(self, file: BinaryIO) -> str:
        return f"block {self._block_number + 1} at byte {self._offset} of {file.name}"

    def _blocks_of(self, file: BinaryIO) -> Iterator[Block]:
        size = os.fstat(file.fileno()).st_size
        window = _Window(file)
        while True:
            header = window.read(self._offset, HEADER.size)
            if len(header) < HEADER.size:
                return
            magic, kind, version, slots, count, length, checksum, own = HEADER.unpack(header)
            if magic != MAGIC:
                if not any(header) and not any(window.read(self._offset, size - self._offset)):
                    return  # a tail that the file system never filled in, after a loss of power
                raise SpoolError(
                    f"This is not a fillpath spool: {self._where(file)} has no block header."
                )
            if zlib.crc32(header[:HEADER_CHECKED]) != own:
                raise _damaged(self._where(file), "has a header that does not fit its checksum")
            if version != FORMAT_VERSION:
                newer = version > FORMAT_VERSION
                raise SpoolError(
                    f"The spool has format version {version}, this fillpath reads version "
                    f"{FORMAT_VERSION}: {self._where(file)}.",
                    next_command="pip install --upgrade fillpath"
                    if newer
                    else f"record the run again, and move {self.folder} away",
                )
            block_type = _TYPES.get(kind)
            if block_type is None:
                raise _damaged(self._where(file), f"is of the unknown type {kind}")
            payload = window.read(self._offset + HEADER.size, length)
            end = self._offset + HEADER.size + length
            if len(payload) < length or zlib.crc32(payload) != checksum:
                if end < size:
                    raise _damaged(self._where(file), "does not fit its checksum")
                return
            if kind == BlockType.EVENTS and length != 8 * count * (len(COLUMNS) + slots):
                raise _damaged(self._where(file), "does not have the length of its events")
            begin, self._offset = self._offset, end
            self._block_number += 1
            yield Block(
                self._block_number, block_type, count, payload, slots, self._file_number, begin
            )


def whole_block(content: bytes, offset: int, file: int) -> Block | None:
    """Give the block that begins at a place in a file, numbered 0; None when it is not whole."""
    header = content[offset : offset + HEADER.size]
    if (
        len(header) < HEADER.size
        or zlib.crc32(header[:HEADER_CHECKED]) != HEADER.unpack(header)[-1]
    ):
        return None
    magic, kind, version, slots, count, length, checksum, _ = HEADER.unpack(header)
    begin = offset + HEADER.size
    payload = content[begin : begin + length]
    if len(payload) < length or zlib.crc32(payload) != checksum:
        return None
    if magic != MAGIC or version != FORMAT_VERSION or kind not in _TYPES:
        return None
    if kind == BlockType.EVENTS and length != 8 * count * (len(COLUMNS) + slots):
        return None
    return Block(0, _TYPES[kind], count, payload, slots, file, offset)


class _Window:
    """Reads a file in large parts; most blocks are slices of one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = 0
        self._part = memoryview(b"")

    def read(self, offset: int, length: int) -> memoryview:
        """Give so many bytes from a place in the file; fewer if it ends before."""
        at = offset - self._begin
        if not 0 <= at <= at + length <= len(self._part):
            self._file.seek(offset)
            self._part = memoryview(self._file.read(max(length, _PART_BYTES)))
            self._begin, at = offset, 0
        return self._part[at : at + length]


_PART_BYTES: Final = 1 << 20


def _damaged(where: str, how: str) -> SpoolError:
    return SpoolError(f"The spool is damaged: {where} {how}.")


def list_spools(spool_folder: Path) -> list[Path]:
    """Folders of all runs that have a spool, by name."""
    if not spool_folder.is_dir():
        return []
    return sorted(path.parent for path in spool_folder.glob(f"*/000001{SUFFIX}"))


__all__ = [
    "FORMAT_VERSION",
    "NO_TIME",
    "Block",
    "BlockType",
    "Count",
    "EventRecord",
    "Field",
    "FieldKind",
    "Flag",
    "SideRecord",
    "Site",
    "SpoolReader",
    "list_spools",
    "side_record",
    "whole_block",
]
