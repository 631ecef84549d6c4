"""Counts what a traced run recorded."""

from __future__ import annotations

from fillpath.instrumentation import Tracing
from fillpath.instrumentation.spool import BlockType, SpoolReader


def published(session: Tracing) -> int:
    """Events of a session that has ended, as the last totals of its spool say.

    What goes through the fast door (`EventTracer.emitter`) is not counted there one by one.
    """
    blocks = SpoolReader(session.folder.spool / session.run_id).blocks()
    totals = [block.counts() for block in blocks if block.type is BlockType.COUNTS]
    return sum(count.published for count in totals[-1])
