"""Reads back what a run has recorded, from its spool."""

from __future__ import annotations

from fillpath.instrumentation import Tracing
from fillpath.instrumentation.spool import BlockType, Site, SpoolReader


def recorded(session: Tracing) -> list[dict[str, str]]:
    """Printed attributes of every event of the run, in order."""
    sites: dict[int, Site] = {}
    found: dict[int, dict[str, str]] = {}
    for block in SpoolReader(session.folder.spool / session.run_id).blocks():
        if block.type is BlockType.SITES:
            sites.update((site.number, site) for site in block.sites())
        elif block.type is BlockType.EVENTS:
            for event in block.events():
                read = sites[event.site].attributes(event.numbers, event.flags)
                printed = {key: str(value) for key, value in read.items()}
                found.setdefault(event.sequence, {}).update(printed)
        elif block.type is BlockType.SIDE:
            for side in block.side_records():
                printed = {key: str(value) for key, value in side.attributes.items()}
                found.setdefault(side.sequence, {}).update(printed)
    return [found[sequence] for sequence in sorted(found)]
