"""The spool: an append-only record of a run, written in the trading process, read by the writer.

A run's spool is a folder of files `000001.spool`, `000002.spool` …. A file is a row of blocks;
a block is a header of 24 bytes and a payload. The format is described in `docs/spool-format.md`.
A block is trusted only when it is whole and its checksum fits, so a torn tail is never read.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, Final, NamedTuple

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.payload import pack, unpack

FORMAT_VERSION: Final = 1
MAGIC: Final = b"FPSB"
_HEADER: Final = struct.Struct("<4sBBHIIII")
_RECORD: Final = struct.Struct("<QQQqqqIHH")
NO_TIME: Final = -(1 << 63)
"""Stands for an unknown time in a record."""
MAX_FILE_BYTES: Final = 64 << 20
_SUFFIX: Final = ".spool"


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
        for fields in _RECORD.iter_unpack(self.payload):
            yield EventRecord(*fields)


def _unpack_each(payload: bytes) -> Iterator[Any]:
    offset = 0
    while offset < len(payload):
        (length,) = struct.unpack_from("<I", payload, offset)
        yield unpack(payload[offset + 4 : offset + 4 + length])
        offset += 4 + length


def pack_side_record(record: SideRecord) -> bytes:
    """Pack a side record at once, so that what the host changes afterwards is not seen."""
    packed = pack([record.sequence, record.attributes, record.links, record.extra])
    return struct.pack("<I", len(packed)) + packed


def pack_events(records: Iterable[EventRecord | tuple[int, ...]]) -> bytes:
    """Pack event records one after another."""
    return b"".join([_RECORD.pack(*record) for record in records])


def _block(kind: BlockType, count: int, payload: bytes) -> bytes:
    head = struct.pack("<BBHII", kind, FORMAT_VERSION, 0, count, len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(head))
    return _HEADER.pack(MAGIC, kind, FORMAT_VERSION, 0, count, len(payload), checksum, 0) + payload


class SpoolWriter:
    """Appends blocks to the spool of one run. Not thread-safe: its caller holds a lock.

    Raises:
        SpoolError: When the run has a spool already.
        OSError: When the folder or a file cannot be written.
    """

    def __init__(
        self, folder: Path, run: dict[str, Any], *, max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise SpoolError(
                f"The run '{folder.name}' already has a spool at {folder}.",
                next_command="choose another run id, or leave it out to get a new one",
            ) from None
        self.folder = folder
        self._run = run
        self._max_file_bytes = max_file_bytes
        self._sites: list[Site] = []
        self._file_number = 0
        self._descriptor = -1
        self._size = 0
        self._open_next_file()

    def _open_next_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._file_number += 1
        path = self.folder / f"{self._file_number:06d}{_SUFFIX}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size = 0
        self._write(_block(BlockType.RUN, 1, pack(self._run)))
        if self._sites:
            self._write(_block(BlockType.SITES, len(self._sites), pack(self._sites)))

    def _write(self, data: bytes) -> None:
        start = self._size
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._descriptor, view)
                self._size += written
                view = view[written:]
        except OSError:
            # A half-written block must not stand in the way of the blocks after it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            self._size = start
            raise

    def append(
        self,
        events: list[tuple[int, ...]],
        side: list[bytes],
        sites: list[Site],
        counts: list[Count],
    ) -> None:
        """Append what happened since the last call, in one write."""
        if self._size >= self._max_file_bytes:
            self._open_next_file()
        data = bytearray()
        if sites:
            data += _block(BlockType.SITES, len(sites), pack(sites))
        if side:
            data += _block(BlockType.SIDE, len(side), b"".join(side))
        if events:
            data += _block(BlockType.EVENTS, len(events), pack_events(events))
        if counts:
            data += _block(BlockType.COUNTS, len(counts), pack(counts))
        self._write(bytes(data))
        self._sites += sites

    def finish(self, end: dict[str, Any]) -> None:
        """Write the END block, make everything durable and close the file."""
        try:
            self._write(_block(BlockType.END, 1, pack(end)))
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


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
        return self.folder / f"{number:06d}{_SUFFIX}"

    def blocks(self) -> Iterator[Block]:
        """Give the blocks after the last one given, as far as they are whole now."""
        while True:
            with self._path(self._file_number).open("rb") as file:
                yield from self._blocks_of(file)
            if not self._path(self._file_number + 1).is_file():
                return
            # The next file exists, so this one is complete: read what came in between, then go on.
            with self._path(self._file_number).open("rb") as file:
                yield from self._blocks_of(file)
            self._file_number += 1
            self._offset = 0

    def _blocks_of(self, file: Any) -> Iterator[Block]:
        size = os.fstat(file.fileno()).st_size
        while True:
            file.seek(self._offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            magic, kind, version, reserved, count, length, checksum, _ = _HEADER.unpack(header)
            end = self._offset + _HEADER.size + length
            where = f"block {self._block_number + 1} at byte {self._offset} of {file.name}"
            if magic != MAGIC:
                raise SpoolError(f"This is not a fillpath spool: {where} has no block header.")
            if version != FORMAT_VERSION:
                raise SpoolError(
                    f"The spool has format version {version}, this fillpath reads version "
                    f"{FORMAT_VERSION}: {where}.",
                    next_command="pip install --upgrade fillpath",
                )
            payload = file.read(length)
            head = struct.pack("<BBHII", kind, version, reserved, count, length)
            if len(payload) < length or zlib.crc32(payload, zlib.crc32(head)) != checksum:
                if end < size:
                    raise SpoolError(f"The spool is damaged: {where} does not fit its checksum.")
                return
            self._offset = end
            self._block_number += 1
            yield Block(self._block_number, BlockType(kind), count, payload)


def list_spools(spool_folder: Path) -> list[Path]:
    """Folders of all runs that have a spool, by name."""
    if not spool_folder.is_dir():
        return []
    return sorted(path.parent for path in spool_folder.glob(f"*/000001{_SUFFIX}"))


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
    "SpoolWriter",
    "list_spools",
    "pack_events",
    "pack_side_record",
]
