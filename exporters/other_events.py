"""Events of a batch that are put together one by one, beside those that numpy handles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from fillpath.exporters.spool_events import RecordedEvent
from fillpath.instrumentation.spool import EventRecord, Flag

_FINISH: Final = int(Flag.FINISH)
_SIDE: Final = int(Flag.SIDE)


@dataclass(slots=True)
class OtherEvents:
    """What is known of them, by the rows of their records.

    Attributes:
        ended: Events by the row in which they ended.
        attributes: All attributes, by the row in which an event with a side record began.
        failed: Rows in which an event ended with an error.
    """

    ended: dict[int, RecordedEvent] = field(default_factory=dict)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)

    def note(self, row: int, record: EventRecord, begun: RecordedEvent | None) -> None:
        """Take a record, and the event that it is or begins."""
        if begun is not None and record.flags & (_FINISH | _SIDE) == _SIDE:
            # What the event's end adds must not be known before: it may be in a later batch.
            self.attributes[row] = dict(begun.attributes)

    def ends(self, row: int, event: RecordedEvent) -> None:
        """Take an event that ended in a row."""
        self.ended[row] = event
        if "error" in event.extra:
            self.failed.append(row)
