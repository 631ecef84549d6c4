"""Puts a stream into a spool at once, as a run would have left it, and into a lake.

The spool is written from columns, so that a benchmark of what comes behind the spool does not wait
for the recording; its clocks are the stream's.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from fillpath.exporters.event_store import EventStore
from fillpath.exporters.writer import drain
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.payload import pack
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.spool import (
    FLAGS_SHIFT,
    FORMAT_VERSION,
    HEADER,
    HEADER_CHECKED,
    MAGIC,
    SLOTS,
    SUFFIX,
    BlockType,
    Flag,
    SideRecord,
    Site,
)
from fillpath.instrumentation.spool_writer import pack_side_record
from stream import CLOCK_OFFSET, PORTFOLIO, Stream

EVENTS_IN_A_BLOCK: Final = 512


def lake_of(stream: Stream, folder: Path, run_id: str, lake_sampling: str = "all") -> EventStore:
    """Bring a stream into the lake of a new data folder, by way of a spool and the writer."""
    data = DataFolder(folder)
    write_spool(stream, data, run_id, lake_sampling)
    drain(data, run_id)
    return EventStore(data)


def write_spool(stream: Stream, data: DataFolder, run_id: str, lake_sampling: str = "all") -> None:
    """Write the spool of an ended run."""
    folder = data.spool / run_id
    folder.mkdir(parents=True)
    run = {
        "run_id": run_id,
        "mode": "backtest",
        "service_name": "benchmark",
        "host_name": "localhost",
        "pid": 0,
        "started_at": CLOCK_OFFSET,
        "parameters": {},
        "clock_offset": CLOCK_OFFSET,
        "lake_sampling": lake_sampling,
        "sampling": EventSampler().to_dict(),
    }
    with (folder / f"000001{SUFFIX}").open("wb") as file:
        file.write(_block(BlockType.RUN, 1, pack(run)))
        sites = _sites(stream)
        file.write(_block(BlockType.SITES, len(sites), pack(sites)))
        named = sorted(stream.names)
        place = _places(stream)
        integers = [
            np.arange(1, len(stream) + 1),
            stream.parent,
            stream.root,
            stream.start,
            stream.end,
            stream.event_time,
            place,
        ]
        next_name = 0
        for begin in range(0, len(stream), EVENTS_IN_A_BLOCK):
            end = min(begin + EVENTS_IN_A_BLOCK, len(stream))
            side = []
            while next_name < len(named) and named[next_name] <= end:
                sequence = named[next_name]
                record = SideRecord(sequence, dict(stream.names[sequence]), [], {})
                side.append(pack_side_record(record))
                next_name += 1
            if side:
                file.write(_block(BlockType.SIDE, len(side), b"".join(side)))
            columns = [column[begin:end].tobytes() for column in (*integers, *stream.numbers)]
            file.write(_block(BlockType.EVENTS, end - begin, b"".join(columns), SLOTS))
        over = {"status": "Ended", "ended_at": CLOCK_OFFSET + 1, "sequences": len(stream)}
        file.write(_block(BlockType.END, 1, pack(over)))


def _places(stream: Stream) -> Any:
    """Sites count from 1; numbers that a kind does not have are flagged as absent."""
    absent = [
        sum(Flag.ABSENT << slot for slot in range(len(kind.fields), SLOTS)) for kind in stream.kinds
    ]
    flags = np.array(absent, np.int64)[stream.kind]
    flags[np.fromiter(stream.names, np.int64, len(stream.names)) - 1] |= int(Flag.SIDE)
    return (stream.kind + 1) | (flags << FLAGS_SHIFT)


def _sites(stream: Stream) -> list[Site]:
    return [
        Site(
            number,
            PUBLISH,
            kind.event_type,
            PORTFOLIO,
            kind.strategy,
            kind.symbol,
            kind.venue,
            None,
            kind.fields,
            kind.texts,
            counted=False,
        )
        for number, kind in enumerate(stream.kinds, 1)
    ]


def _block(kind: BlockType, count: int, payload: bytes, slots: int = 0) -> bytes:
    checked = HEADER.pack(
        MAGIC, kind, FORMAT_VERSION, slots, count, len(payload), zlib.crc32(payload), 0
    )[:HEADER_CHECKED]
    return checked + zlib.crc32(checked).to_bytes(4, "little") + payload
