"""Keeps a trace small enough to be drawn: says when an event has to begin a new one.

Nothing is counted while a trace is short. Sequences grow by one, so of the events that follow a
root closely there cannot be many. Only an event that comes long after its root is counted, and only
that way costs anything.
"""

from __future__ import annotations

from typing import Final

DEFAULT_TRACE_LIMIT: Final = 10_000
"""Events of one trace, unless told otherwise."""
_MOST_TRACES: Final = 1 << 15
"""Traces that are counted in one generation; there are two."""
_FAR_AWAY: Final = 1 << 62


class TraceLimit:
    """Counts the events of the traces of one run, as far as that is needed.

    Threads that count at the same moment may miss one another, so a trace can become a little
    larger than the limit.

    Args:
        limit: Events that a trace may have; 0 for any number.

    Attributes:
        far: How far from its root an event has to be asked about, in sequences.
    """

    def __init__(self, limit: int = DEFAULT_TRACE_LIMIT) -> None:
        self._limit = min(limit, _FAR_AWAY) or _FAR_AWAY  # compiled code takes a machine word
        self.far = self._limit // 2 if limit else _FAR_AWAY
        self._counts: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._forgotten = 0
        """Roots up to this one are not known any more."""

    def is_full(self, root: int) -> bool:
        """Count an event that is `far` from its root, or tell that its trace can take no more."""
        known = self._known(root)
        if known is None and root <= self._forgotten:
            return True
        return self._is_beyond(root, known or 0, self._limit - self.far)

    def is_full_of(self, name: int) -> bool:
        """Count an event of a trace that the host named, wherever its root is.

        Args:
            name: The trace id.
        """
        key = -name  # no root is below 0
        return self._is_beyond(key, self._known(key) or 0, self._limit)

    def _known(self, key: int) -> int | None:
        count = self._counts.get(key)
        return self._older.get(key) if count is None else count

    def _is_beyond(self, key: int, count: int, room: int) -> bool:
        self._counts[key] = count + (count < room)
        if len(self._counts) > _MOST_TRACES:
            self._older, self._counts, gone = self._counts, {}, self._older
            self._forgotten = max(self._forgotten, max(gone, default=0))
        return count >= room
