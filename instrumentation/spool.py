"""The spool: an append-only record of a run. Its format, and how it is read.

A run's spool is a folder of files `000001.spool`, `000002.spool` …. A file is a row of blocks;
a block is a header of 24 bytes and a payload. The format is described in `docs/spool-format.md`.
A block is trusted only when it is whole and its checksums fit, so a torn tail is never read.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.payload import unpack

FORMAT_VERSION: Final = 1
MAGIC: Final = b"FPSB"
HEADER: Final = struct.Struct("<4sBBHIIII")
HEADER_CHECKED: Final = 20
"""Bytes of a header that its own checksum covers: all before it."""
RECORD: Final = struct.Struct("<QQQqqqIHH")
NO_TIME: Final = -(1 << 63)
"""Stands for an unknown time in a record."""
SUFFIX: Final = ".spool"


class BlockType(IntEnum):
    """What a block holds."""

    RUN = 1
    """Map that describes the run; the first block of every file."""
    SITES = 2
    """List of sites (see `Site`); an event record refers to one by number."""
    SIDE = 3
    """Side records, one after another: whatever has no room in an event record."""
    EVENTS = 4
    """Event records of fixed size."""
    COUNTS = 5
    """Totals so far, per portfolio and event type: published, and dropped by reason."""
    END = 6
    """The run is over; nothing follows."""


_KNOWN_TYPES: Final = frozenset(BlockType)


class Flag(IntFlag):
    """Bits of an event record."""

    BEGIN = 1
    """The event has begun and caused another; a FINISH record follows."""
    FINISH = 2
    """Only sequence, end and side record count; the event began in an earlier record."""
    ERROR = 4
    """A handler raised."""
    SIDE = 8
    """A side record with this sequence stands in a SIDE block before this record."""


class EventRecord(NamedTuple):
    """One event, or the beginning or end of one. Times in nanoseconds, `NO_TIME` if unknown."""

    sequence: int
    parent: int
    root: int
    start: int
    end: int
    event_time: int
    site: int
    flags: int
    reserved: int = 0


class Site(NamedTuple):
    """What many events have in common."""

    number: int
    operation: str
    event_type: str
    portfolio: str
    strategy: str | None
    symbol: str | None
    venue: str | None
    handler: str | None


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
    """A whole, checked block and its place: `number` counts the blocks of the run from 1."""

    number: int
    type: BlockType
    count: int
    payload: bytes

    def value(self) -> Any:
        """Payload of a RUN or END block: a map."""
        return unpack(self.payload)

    def sites(self) -> list[Site]:
        """Payload of a SITES block."""
        return [Site(*fields) for fields in unpack(self.payload)]

    def counts(self) -> list[Count]:
        """Payload of a COUNTS block."""
        return [Count(*fields) for fields in unpack(self.payload)]

    def side_records(self) -> Iterator[SideRecord]:
        """Payload of a SIDE block."""
        for sequence, attributes, links, extra in _unpack_each(self.payload):
            yield SideRecord(sequence, attributes, [tuple(link) for link in links], extra)

    def events(self) -> Iterator[EventRecord]:
        """Payload of an EVENTS block."""
        for fields in RECORD.iter_unpack(self.payload):
            yield EventRecord(*fields)


def _unpack_each(payload: bytes) -> Iterator[Any]:
    offset = 0
    while offset < len(payload):
        (length,) = struct.unpack_from("<I", payload, offset)
        yield unpack(payload[offset + 4 : offset + 4 + length])
        offset += 4 + length


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
        while True:
            file.seek(self._offset)
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                return
            magic, kind, version, _, count, length, checksum, own = HEADER.unpack(header)
            if magic != MAGIC:
                if not any(header) and not any(file.read()):
                    return  # a tail that the file system never filled in, after a loss of power
                raise SpoolError(
                    f"This is not a fillpath spool: {self._where(file)} has no block header."
                )
            if zlib.crc32(header[:HEADER_CHECKED]) != own:
                raise _damaged(self._where(file), "has a header that does not fit its checksum")
            if version != FORMAT_VERSION:
                raise SpoolError(
                    f"The spool has format version {version}, this fillpath reads version "
                    f"{FORMAT_VERSION}: {self._where(file)}.",
                    next_command="pip install --upgrade fillpath",
                )
            if kind not in _KNOWN_TYPES:
                raise _damaged(self._where(file), f"is of the unknown type {kind}")
            payload = file.read(length)
            end = self._offset + HEADER.size + length
            if len(payload) < length or zlib.crc32(payload) != checksum:
                if end < size:
                    raise _damaged(self._where(file), "does not fit its checksum")
                return
            self._offset = end
            self._block_number += 1
            yield Block(self._block_number, BlockType(kind), count, payload)


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
    "Flag",
    "SideRecord",
    "Site",
    "SpoolReader",
    "list_spools",
]
