"""Applies the sampling policy to rows of the lake, as it is applied to records on their way there.

The order is that of the records: a handler's error counts where the event ended, not where it
began, and tells of the market from there on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from itertools import chain, pairwise
from typing import Any, Final

from fillpath.exporters.schema import SPAN_SCHEMA
from fillpath.exporters.span_attributes import parts_of
from fillpath.exporters.span_rows import STATUS_ERROR
from fillpath.instrumentation.event_sampler import ALL, CRITICAL, EventSampler
from fillpath.instrumentation.sampling_stream import PRICE_KEYS, Place, SamplingStream, price_of
from fillpath.instrumentation.semconv import Event, EventType, Resource, Sampling

_UNUSED: Final = frozenset(
    {"trace_id", "links", "host_name", "service_name", "trace_state", "resource_attributes"}
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
        for row, following in pairwise(chain(rows, [None])):
            if row is not None:
                self._take(row, None if following is None else following["start_time"])
        while self._failing:
            self._fail(*heapq.heappop(self._failing)[1:])
        # As at the end of a run: without the newest price of each instrument nobody could say what
        # the positions that are left are worth.
        for key in self._priced.values():
            self._keep(key)

    def _take(self, row: Mapping[str, Any], next_start: int | None) -> None:
        key: _Key = (row["span_id"], row["parent_span_id"])
        start = row["start_time"]
        while self._failing and start is not None and self._failing[0][0] <= start:
            self._fail(*heapq.heappop(self._failing)[1:])
        failed = row["status_code"] == STATUS_ERROR
        if row["sampling_reason"] != ALL:
            self._keep(key)
        elif row["root_sequence"] is None:
            if failed or self._keeps_alone(row):
                self._keep(key)
        else:
            self._judge(row, key, next_start, failed=failed)

    def _judge(
        self, row: Mapping[str, Any], key: _Key, next_start: int | None, *, failed: bool
    ) -> None:
        place = Place(row["portfolio"], row["symbol"], row["strategy"])
        end = None
        if failed and row["duration"] is not None:
            end = (row["start_time"] or 0) + row["duration"]
            if next_start is None or end <= next_start:
                end = None  # nothing came while it went on: it is one record
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
