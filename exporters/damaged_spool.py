"""What a damaged spool still tells of the events behind the damage: how many there were.

Rows need every block before them, so what lies behind the damage does not go to the lake. But its
blocks are whole, and totals stand in them: what is lost can be counted.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fillpath.exporters.completeness import Completeness
from fillpath.exporters.spool_events import SpoolEvents
from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.spool import (
    COLUMNS,
    FLAGS_SHIFT,
    MAGIC,
    SUFFIX,
    Block,
    BlockType,
    Flag,
    SpoolReader,
    whole_block,
)

SPOOL_DAMAGED: Final = "spool_damaged"
"""Key in the metadata of a run of which only a part is in the lake, for its spool is damaged."""
DROPPED_BY_DAMAGE: Final = "damaged"
"""Reason: it lies behind the damage of the spool, or in it."""
_PLACE: Final = COLUMNS.index("place")
_FINISH: Final = int(Flag.FINISH) << FLAGS_SHIFT


class PartlyTaken(SpoolError):
    """A spool is damaged; what lies before the damage is in the lake."""


def blocks_behind(folder: Path, file: int, offset: int) -> Iterator[Block]:
    """Give the whole blocks behind a damaged one, wherever they begin; their number is 0.

    Args:
        folder: Folder of the spool.
        file: Number of the file with the damage.
        offset: Where the damaged block begins in it.
    """
    while (path := folder / f"{file:06d}{SUFFIX}").is_file():
        content = path.read_bytes()
        at = content.find(MAGIC, offset)
        while at >= 0:
            block = whole_block(content, at, file)
            if block is None:
                at += 1
            else:
                yield block
                at = block.end
            at = content.find(MAGIC, at)
        file, offset = file + 1, 0


def count_what_is_lost(reader: SpoolReader, events: SpoolEvents, completeness: Completeness) -> str:
    """Let the totals of a run include what lies behind the damage of its spool.

    Args:
        reader: Has come upon the damage.
        events: What the blocks before it say; takes the facts behind it.
        completeness: Where the run's events are counted.

    Returns:
        What is known of the number of lost events, in a sentence.
    """
    behind: Counter[int] = Counter()
    totals = False
    sequences: int | None = None
    for block in blocks_behind(reader.folder, *reader.place):
        if block.type is BlockType.EVENTS:
            behind += _begun(block)
        elif block.type in {BlockType.SITES, BlockType.COUNTS}:
            events.feed_fact(block)
            totals |= block.type is BlockType.COUNTS
        elif block.type is BlockType.END:
            sequences = block.value().get("sequences")
    for number, lost in behind.items():
        site = events.sites.get(number)
        if site is not None and site.operation == PUBLISH and not site.counted:
            completeness.seen_uncounted(site.portfolio, site.event_type, lost)
    completeness.lost_by = DROPPED_BY_DAMAGE
    if sequences is None:
        return "What lies behind is not in the lake, and how much that is cannot be known."
    words = "What lies behind is not in the lake; its events are counted as dropped"
    if totals and all(site.counted for site in events.sites.values()):
        return f"{words}."
    # Whatever has a sequence is in the totals, in a block that can be read, or in the damaged one.
    before = _begun_before_damage(reader)
    unknown = sequences - _outside_totals(behind, events)
    if totals:
        unknown -= sum(count.published for count in events.counts)
        unknown -= _outside_totals(before, events)
    else:
        unknown -= before.total()
    if unknown <= 0:
        return f"{words}."
    return f"{words}, but for up to {unknown} events in the damaged block itself."


def _outside_totals(begun: Counter[int], events: SpoolEvents) -> int:
    """Count the events and handler runs that the totals of COUNTS blocks do not include."""
    counted = {
        site.number for site in events.sites.values() if site.counted and site.operation == PUBLISH
    }
    return sum(number for site, number in begun.items() if site not in counted)


def _begun(block: Block) -> Counter[int]:
    """Count the events and handler runs that begin in a block, by site."""
    places = block.column(_PLACE)
    return Counter(place & 0xFFFFFFFF for place in places if not place & _FINISH)


def _begun_before_damage(reader: SpoolReader) -> Counter[int]:
    begun: Counter[int] = Counter()
    with contextlib.suppress(SpoolError):
        for block in SpoolReader(reader.folder).blocks():
            if block.type is BlockType.EVENTS:
                begun += _begun(block)
    return begun
