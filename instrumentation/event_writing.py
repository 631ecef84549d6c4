"""The writing of events: when one becomes a record, and what the record says.

An event is written when it ends, or as begun when another one is about to name it. So a parent
stands before its child, and a spool that was cut off anywhere holds the ancestors of all it holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from fillpath.instrumentation.attribute_sites import NO_NUMBERS, AttributeSites
from fillpath.instrumentation.event_numbers import EventNumbers
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.host_attributes import attributes_of, copied
from fillpath.instrumentation.named_causes import NamedCauses
from fillpath.instrumentation.open_event import OpenEvent, Placed, RemoteEvent
from fillpath.instrumentation.payload import merged
from fillpath.instrumentation.recorder import Recorder
from fillpath.instrumentation.running_event import failure_of
from fillpath.instrumentation.semconv import Event
from fillpath.instrumentation.side_texts import are_texts
from fillpath.instrumentation.span_parts import CAUSE_TRACE
from fillpath.instrumentation.spool import FLAGS_SHIFT, Flag, SideRecord
from fillpath.instrumentation.spool_writer import pack_side_record

_BEGIN, _FINISH, _ERROR, _SIDE = (
    int(flag) for flag in (Flag.BEGIN, Flag.FINISH, Flag.ERROR, Flag.SIDE)
)


class EventWriting(NamedCauses):
    """The part of a tracer that hands events over to the recorder.

    No lock is held while code of the host runs (its attributes' `__str__`, a function that gives
    attributes).

    Args:
        numbers: Gives the run's events their sequences and chains.
        recorder: Takes the records.
    """

    def __init__(self, numbers: EventNumbers, recorder: Recorder) -> None:
        super().__init__(numbers)
        self._recorder = recorder
        self._append = recorder.append
        self._placed_by_site = AttributeSites(recorder.site).place
        self._take = self._numbers.take
        self._number = self._numbers.number
        self._copied = partial(copied, complain=self.complain)
        self._open: dict[int, OpenEvent | Publication] = {}
        self._lock = threading.RLock()

    def begin(self, event: OpenEvent) -> None:
        """Write the event now, because another one is about to name it."""
        if event.written:
            return
        if event.sequence == 0 and event.parent is not None:
            self.begin(event.parent)
        ready = event.attributes
        placed = (
            ready
            if type(ready) is tuple
            else self._placed(event, attributes_of(ready, self.complain))
        )
        with self._lock:
            if event.claimed:  # another thread was quicker
                return
            # A task that a handler left behind may name a delivery that has ended already.
            self._write(event, placed, {}, 0 if event.closed else _BEGIN)

    def _placed(self, event: OpenEvent, attributes: dict[str, Any]) -> Placed:
        """Site and numbers for the attributes, and what has to go beside the record."""
        place = event.place
        if not attributes:
            return place.site, NO_NUMBERS, attributes
        return self._placed_by_site(place.site, place.parts, attributes)

    def _write(
        self,
        event: OpenEvent,
        placed: Placed,
        extra: dict[str, Any],
        flags: int,
    ) -> None:
        """Hand a record over. The caller holds the lock, and has begun the event's parent."""
        event.claimed = True
        if event.sequence == 0:
            self._number(event)
        site, numbers, attributes = placed
        sequence, chain, links, parent = event.sequence, event.chain, event.links, event.parent
        event.links, event.attributes = (), None
        if not flags & _FINISH:
            name = event.correlation_id
            if chain.correlation_id is not None and chain.root == sequence:
                extra["correlation_id"] = chain.correlation_id
            if name is not None and name != chain.correlation_id:
                attributes = {**attributes, Event.CORRELATION_ID: name}
            if event.event_id is not None:
                extra["event_id"] = event.event_id
            if type(parent) is RemoteEvent:
                extra["parent"] = parent.parent_record
            if parent is not None and parent.sequence and parent.chain is not chain:
                attributes = {**attributes, CAUSE_TRACE: f"{parent.chain.trace_id:032x}"}
        side: bytes | dict[str, Any] | None = None
        if attributes or links or extra:
            flags |= _SIDE
            if links or extra or not are_texts(attributes):
                pairs = [pair for link in links if (pair := self.pair(link)) is not None]
                side = pack_side_record(SideRecord(sequence, attributes, pairs, extra))
            else:
                side = attributes  # texts are packed with those of the other events
        row = (
            sequence,
            0 if parent is None else parent.sequence,
            chain.root,
            event.start,
            event.end,
            event.event_time,
            site | flags << FLAGS_SHIFT if flags else site,
            *numbers,
            side,
        )
        self._append(row)
        event.written = True  # only now: whoever sees this may write a child

    def close(
        self,
        event: OpenEvent,
        *,
        attributes: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
        end: int | None = None,
    ) -> None:
        """End an event. A second call does nothing.

        Args:
            event: What `open` gave.
            attributes: What became known while it was handled.
            error: What a handler raised; the span's status becomes Error. A cancelled task or a
                closed generator is no error.
            end: When it ended, by `now`; this moment when left out.
        """
        if event.closed:
            return
        if (
            error is None
            and attributes is None
            and type(event.attributes) is tuple
            and self._close_root(event, time.perf_counter_ns() if end is None else end)
        ):
            self._recorder.flush_if_full()
            return
        if error is None and attributes is None and event.claimed and not event.links:
            self._close_begun(event, time.perf_counter_ns() if end is None else end)
            self._recorder.flush_if_full()
            return
        if error is None and event.place.is_delivery and not event.claimed:
            with self._lock:
                if not event.claimed:  # it caused nothing, so there is nothing to write
                    event.closed = True
                    event.end = time.perf_counter_ns() if end is None else end
                    return
        extra: dict[str, Any] = {} if error is None else failure_of(error)
        late = {} if attributes is None else self._copied(attributes)
        is_news = bool(extra) or not event.place.is_delivery
        late_only = event.place.site, NO_NUMBERS, late
        placed = self._at_last(event, late) if is_news and not event.claimed else late_only
        with self._lock:
            if event.closed:  # another thread was quicker
                return
            event.closed = True
            event.end = time.perf_counter_ns() if end is None else end
            if not is_news and not event.claimed:
                return
            flags = _ERROR if extra else 0
            if event.claimed:
                # Another thread may have begun the event since its attributes were placed.
                self._write(event, late_only, extra, flags | _FINISH)
            else:
                self._write(event, placed, extra, flags)
            self._open.pop(event.sequence, None)
            event.parent = None  # an adapter may keep this event; its ancestors must not pile up
        self._recorder.flush_if_full()

    def _close_begun(self, event: OpenEvent, end: int) -> None:
        """End an event of which everything is written but that it is over."""
        with self._lock:
            if event.closed:  # another thread was quicker
                return
            event.closed = True
            event.end = end
            parent, sequence = event.parent, event.sequence
            self._append(
                (
                    sequence,
                    0 if parent is None else parent.sequence,
                    event.chain.root,
                    event.start,
                    end,
                    event.event_time,
                    event.place.site | _FINISH << FLAGS_SHIFT,
                    *NO_NUMBERS,
                    None,
                )
            )
            self._open.pop(sequence, None)
            event.parent = None  # an adapter may keep this event; its ancestors must not pile up

    def _at_last(self, event: OpenEvent, late: dict[str, Any]) -> Placed:
        """Place the attributes of an event that ends before anything has named it."""
        if event.parent is not None and not event.parent.written:
            self.begin(event.parent)
        if type(event.attributes) is not tuple:
            early = event.attributes
            if type(early) is not dict:
                early = attributes_of(event.attributes, self.complain)
            return self._placed(event, merged(early, late) if late else early)
        if late:  # the numbers are placed already, so what is late comes as an addition
            self.begin(event)
            return event.place.site, NO_NUMBERS, late
        return event.attributes

    def close_all(self, events: Iterable[OpenEvent]) -> None:
        """End events at the times that are noted on them, or at once after they began."""
        for event in events:
            if not self._close_root(event, max(event.end, event.start)):
                self.close(event, end=max(event.end, event.start))
        self._recorder.flush_if_full()

    def _close_root(self, event: OpenEvent, end: int) -> bool:
        """End an event at the least cost if it is but numbers, has no cause and has caused nothing.

        Most market data are so. Gives False for another event, and does nothing then.
        """
        placed = event.attributes
        if type(placed) is not tuple or event.parent is not None or event.claimed or event.links:
            return False
        site, numbers, rest = placed
        if rest:
            return False
        with self._lock:
            if event.claimed or event.closed:  # another thread was quicker
                return event.closed
            event.claimed = event.closed = True
            event.end = end
            event.attributes = None
            sequence = event.sequence
            self._append(
                (sequence, 0, sequence, event.start, end, event.event_time, site, *numbers, None)
            )
            event.written = True
            self._open.pop(sequence, None)
        return True

    def _outside(self, event: OpenEvent) -> None:
        """Mark an event that is in no run."""
        self._number(event)
        event.written = event.claimed = event.closed = True
