"""Applies the sampling policy to rows of the lake, as it is applied to records on their way there.

The order is that of the records: a handler's error counts where the event ended, not where it
began, and tells of the market from there on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_attributes import parts_of
from fillpath.exporters.span_rows import STATUS_ERROR
from fillpath.instrumentation.event_sampler import ALL, CRITICAL, EventSampler
from fillpath.instrumentation.sampling_stream import PRICE_KEYS, Place, SamplingStream, price_of
from fillpath.instrumentation.semconv import Event, EventType, Resource, Sampling

_UNUSED: Final = frozenset(
    {"trace_id", "host_name", "service_name", "trace_state", "resource_attributes"}
)
COLUMNS: Final = [name for name in SPAN_SCHEMA.names if name not in _UNUSED]
"""Columns of the rows that `RowSampling` takes."""
_WITH_ATTRIBUTES: Final = frozenset({*PRICE_KEYS, EventType.SIGNAL})
_ADDED: Final = frozenset({Event.SEQUENCE, Event.TIME, Sampling.REASON, Sampling.PROBABILITY})
"""Attributes that a row has, but not the record that it was made of."""

_Key = tuple[bytes, bytes | None]
"""Span id, and that of its parent."""


class RowSampling:
    """Samples one run, or what is left of one.

    What a policy kept before is kept. Spans of other SDKs are judged each by itself.

    Args:
        policy: The policy.

    Attributes:
        kept: Span ids of what is kept; ancestors are not in it yet.
        parents: Span ids of the parents of all these.
    """

    def __init__(self, policy: EventSampler) -> None:
        self.kept: set[bytes] = set()
        self.parents: set[bytes] = set()
        self._policy = policy
        self._stream = SamplingStream[_Key](policy)
        self._failing: list[tuple[int, _Key, Place]] = []
        """Events that go on and will fail, by the time of it."""
        self._priced: dict[tuple[str | None, ...], _Key] = {}

    def take_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take all rows of the run, in the order of sequence."""
        for row, time in _as_recorded(rows):
            self._take(row, time)
        while self._failing:
            self._fail(*heapq.heappop(self._failing)[1:])
        # As at the end of a run: without the newest price of each instrument nobody could say what
        # the positions that are left are worth.
        for key in self._priced.values():
            self._keep(key)

    def _take(self, row: Mapping[str, Any], time: float) -> None:
        key: _Key = (row["span_id"], row["parent_span_id"])
        while self._failing and self._failing[0][0] <= time:
            self._fail(*heapq.heappop(self._failing)[1:])
        failed = row["status_code"] == STATUS_ERROR
        if row["sampling_reason"] != ALL:
            self._keep(key)
        elif row["root_sequence"] is None:
            if failed or self._keeps_alone(row):
                self._keep(key)
        else:
            self._judge(row, key, time, failed=failed)

    def _judge(self, row: Mapping[str, Any], key: _Key, time: float, *, failed: bool) -> None:
        place = Place(row["portfolio"], row["symbol"], row["strategy"])
        end: int | None = None
        if failed and time < _end_of(row) < math.inf:
            end = int(_end_of(row))  # its record was written before it failed
        if row["event_type"] != EventType.DELIVERY:
            attributes = self._attributes(row)
            decision = self._stream.judge(
                key,
                int.from_bytes(row["span_id"], "big"),
                row["event_type"],
                place,
                attributes,
                row["event_time"],
                failed=failed and end is None,
            )
            if decision.kept:
                self._keep(key)
            if decision.reason == CRITICAL:
                self._keep_neighbours(place)
            if math.isfinite(price_of(row["event_type"], attributes)):
                self._priced[row["portfolio"], row["symbol"], row["venue"]] = key
        elif failed and end is None:
            self._fail(key, place)
        if end is not None:
            heapq.heappush(self._failing, (end, key, place))

    def _keeps_alone(self, row: Mapping[str, Any]) -> bool:
        if row["event_type"] == EventType.DELIVERY:
            return False
        attributes = parts_of(row).attributes if self._policy.critical_when else None
        span_id = int.from_bytes(row["span_id"], "big")
        return self._policy.decide(row["event_type"], span_id, attributes).kept

    def _attributes(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if not self._policy.critical_when and row["event_type"] not in _WITH_ATTRIBUTES:
            return {}
        held = parts_of(row).attributes
        attributes = {key: value for key, value in held.items() if key not in _ADDED}
        return {Resource.PORTFOLIO: row["portfolio"], **attributes}

    def _fail(self, key: _Key, place: Place) -> None:
        self._keep(key)
        self._stream.expect_neighbours(place)
        self._keep_neighbours(place)

    def _keep_neighbours(self, place: Place) -> None:
        for key in self._stream.neighbours(place):
            self._keep(key)

    def _keep(self, key: _Key) -> None:
        span_id, parent = key
        self.kept.add(span_id)
        if parent is not None:
            self.parents.add(parent)


class _Waiting:
    """A row whose record is not written yet."""

    __slots__ = ("row", "time")

    def __init__(self, row: Mapping[str, Any], time: float) -> None:
        self.row = row
        self.time = time


def _end_of(row: Mapping[str, Any]) -> float:
    if row["duration"] is None:
        return math.inf
    return int(row["start_time"] or 0) + int(row["duration"])


def _as_recorded(
    rows: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Give rows in the order in which their records were written, and when that was.

    An event is written when it ends, or before that as something begins that names it as a cause. A
    handler's run has its cause written only as it is written itself.
    """
    waiting: dict[bytes, _Waiting] = {}
    due: list[tuple[float, int, bytes]] = []
    for row in rows:
        start = row["start_time"] or 0
        while due and due[0][0] <= start:
            yield from _due(due, waiting)
        one = _Waiting(row, _end_of(row))
        waiting[row["span_id"]] = one
        heapq.heappush(due, (one.time, row["sequence"], row["span_id"]))
        time = one.time if row["event_type"] == EventType.DELIVERY else start
        causes = [row["parent_span_id"], *(link["span_id"] for link in row["links"] or ())]
        for cause in causes:
            above = waiting.get(cause)
            while above is not None and time < above.time:
                above.time = time
                heapq.heappush(due, (time, above.row["sequence"], above.row["span_id"]))
                above = waiting.get(above.row["parent_span_id"])
    while due:
        yield from _due(due, waiting)


def _due(
    due: list[tuple[float, int, bytes]], waiting: dict[bytes, _Waiting]
) -> Iterator[tuple[Mapping[str, Any], float]]:
    time, _, span_id = heapq.heappop(due)
    one = waiting.get(span_id)
    if one is not None and one.time == time:
        del waiting[span_id]
        yield one.row, time
