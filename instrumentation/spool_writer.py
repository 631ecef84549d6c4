"""Writes the spool inside the trading process."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.payload import pack, pack_any
from fillpath.instrumentation.spool import (
    FORMAT_VERSION,
    HEADER,
    HEADER_CHECKED,
    MAGIC,
    SLOTS,
    SUFFIX,
    BlockType,
    Count,
    SideRecord,
    Site,
)

MAX_FILE_BYTES: Final = 64 << 20
"""Size from which a spool goes on in a new file."""


class PackedEvents(NamedTuple):
    """Events as the payload of an EVENTS block: how many, with how many numbers, and the bytes."""

    number: int
    slots: int
    payload: bytes


def pack_side_record(record: SideRecord) -> bytes:
    """Pack a side record at once, so that what the host changes afterwards is not seen."""
    packed = pack([record.sequence, record.attributes, record.links, record.extra])
    return struct.pack("<I", len(packed)) + packed


def pack_events(records: Sequence[tuple[Any, ...]], slots: int) -> bytes:
    """Pack flat event records (the integers of `spool.COLUMNS`, then `slots` numbers) by column."""
    number = len(records)
    columns = list(zip(*records, strict=True))
    integers, signed = struct.Struct(f"<{number}Q"), struct.Struct(f"<{number}q")
    doubles = struct.Struct(f"<{number}d")
    kinds = [integers] * 3 + [signed] * 3 + [integers] + [doubles] * slots
    return b"".join([kind.pack(*column) for kind, column in zip(kinds, columns, strict=True)])


def _block(kind: BlockType, count: int, payload: bytes, slots: int = 0) -> bytes:
    whole = HEADER.pack(
        MAGIC, kind, FORMAT_VERSION, slots, count, len(payload), zlib.crc32(payload), 0
    )
    head = whole[:HEADER_CHECKED]
    return head + zlib.crc32(head).to_bytes(4, "little") + payload


class SpoolWriter:
    """Appends blocks to the spool of one run. Not thread-safe: its caller holds a lock.

    Args:
        folder: The run's spool; must not exist yet.
        run: What the RUN block holds.
        max_file_bytes: Size from which the spool goes on in a new file.
        is_synced: Whether somebody calls `unsynced` from time to time.

    Raises:
        SpoolError: When the run has a spool already.
        OSError: When the folder or a file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        run: dict[str, Any],
        *,
        max_file_bytes: int = MAX_FILE_BYTES,
        is_synced: bool = False,
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
        self._is_synced = is_synced
        self._sites: list[Site] = []
        self._notes: dict[str, Any] = {}
        self._file_number = 0
        self._sizes: list[int] = []
        self._full: list[int] = []
        self._synced = (0, 0)
        self._descriptor = -1
        self._size = 0
        self._head = 0
        try:
            self._open_next_file()
        except BaseException:
            with contextlib.suppress(OSError):
                folder.rmdir()  # so that the run can be started again
            raise

    def _open_next_file(self) -> None:
        """Go on in a new file; if that fails, the old one stays the one to write to."""
        number = self._file_number + 1
        path = self.folder / f"{number:06d}{SUFFIX}"
        head = _block(BlockType.RUN, 1, pack(self._run))
        if self._sites:
            head += _block(BlockType.SITES, len(self._sites), pack_any(self._sites))
        if self._notes:
            head += _block(BlockType.NOTE, 1, pack_any(self._notes))
        sizes = [*self._sizes, self._size] if self._file_number else []
        size = len(head)
        # One that is there already was left by a Control-C: nobody else writes to this folder.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            _write_whole(descriptor, 0, head)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        full, self._descriptor, self._file_number = self._descriptor, descriptor, number
        self._size = self._head = size
        self._sizes = sizes  # no call before this line: a Control-C would come between
        if number > 1:
            if self._is_synced:
                self._full.append(full)
            else:
                os.close(full)

    def _write(self, data: bytes) -> None:
        start = self._size
        self._size = start + len(data)
        try:
            _write_whole(self._descriptor, start, data)
        except BaseException:
            self._size = start
            raise

    def mark(self) -> tuple[int, int]:
        """Where the spool ends now."""
        return self._file_number, self._size

    def has_grown_since(self, mark: tuple[int, int]) -> bool:
        """Tell whether anything was appended since `mark` was called."""
        number, size = mark
        return self._size > (size if self._file_number == number else self._head)

    def written_behind(self, file: int, offset: int) -> int:
        """How many bytes of the spool stand behind a place in it."""
        behind = sum(self._sizes[file - 1 :]) + self._size - offset
        return behind if file <= self._file_number else 0

    def unsynced(self) -> list[int]:
        """Descriptors of the files that have grown since the last call, to be synced and closed."""
        if self._descriptor < 0 or self._synced == self.mark():
            return []
        descriptors, self._full = self._full, []
        if self._synced[0] != self._file_number:  # the file's name has to be durable too
            descriptors.append(os.open(self.folder, os.O_RDONLY))
        self._synced = self.mark()
        return [*descriptors, os.dup(self._descriptor)]

    def append(
        self,
        events: Sequence[tuple[Any, ...]],
        side: Sequence[bytes],
        sites: Sequence[Site],
        counts: Sequence[Count],
    ) -> None:
        """Append flat event records and what belongs to them: all of it, or nothing."""
        packed = PackedEvents(len(events), SLOTS, pack_events(events, SLOTS) if events else b"")
        self.append_packed(packed, side, sites, counts)

    def append_packed(
        self,
        events: PackedEvents,
        side: Sequence[bytes],
        sites: Sequence[Site],
        counts: Sequence[Count],
        note: dict[str, Any] | None = None,
    ) -> None:
        """Append what happened since the last call: all of it, or nothing.

        What cannot be packed is printed: it must not keep this block, or a later one, from the
        spool.
        """
        if self._size >= self._max_file_bytes:
            self._open_next_file()
        data: list[bytes] = []
        if note:
            data.append(_block(BlockType.NOTE, 1, pack_any(note)))
        if sites:
            data.append(_block(BlockType.SITES, len(sites), pack_any(list(sites))))
        if side:
            data.append(_block(BlockType.SIDE, len(side), b"".join(side)))
        if events.number:
            data.append(_block(BlockType.EVENTS, events.number, events.payload, events.slots))
        if counts:
            data.append(_block(BlockType.COUNTS, len(counts), pack_any(list(counts))))
        self._write(b"".join(data))
        self._sites += sites
        self._notes.update(note or {})

    def finish(self, end: dict[str, Any]) -> None:
        """Write the END block, make everything durable and close the file."""
        try:
            self._write(_block(BlockType.END, 1, pack_any(end)))
            for descriptor in (*self._full, self._descriptor):
                os.fsync(descriptor)
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is: a spool without an END block is that of a crashed run."""
        descriptors, self._full, self._descriptor = (*self._full, self._descriptor), [], -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)


def _write_whole(descriptor: int, start: int, data: bytes) -> None:
    """Write all of the data at the end of a file, which is at `start`; on failure, none of it."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:  # KeyboardInterrupt too
        # A half-written block must not stand in the way of the blocks after it.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, start)
        raise
