"""Counts the events of one portfolio and event type."""

from __future__ import annotations


class Tally:
    """Totals of one portfolio and event type since the run began.

    Attributes:
        published: Events that were counted under the recorder's lock.
        opened: Events that were counted by a tracer, under its own lock.
        dropped: Events that will not be in the spool, by reason.
    """

    __slots__ = ("dropped", "opened", "published")

    def __init__(self) -> None:
        self.published = 0
        self.opened = 0
        self.dropped: dict[str, int] = {}
