"""What can be named as the cause of an event: one of this run by object or handle, or another's."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final

from opentelemetry.trace import SpanContext

from fillpath.instrumentation.event_numbers import EventNumbers
from fillpath.instrumentation.event_span import Publication
from fillpath.instrumentation.open_event import (
    Chain,
    Current,
    OpenEvent,
    Place,
    RemoteEvent,
)
from fillpath.instrumentation.payload import snapshot
from fillpath.instrumentation.running_event import RunningEvent
from fillpath.instrumentation.semconv import PUBLISH
from fillpath.instrumentation.spool import NO_TIME, SideRecord
from fillpath.instrumentation.spool_writer import pack_side_record
from fillpath.instrumentation.tally import Tally

_ELSEWHERE: Final = Place((PUBLISH, "EVENT", "", None, None, None, None), 0, Tally())
_NOWHERE: Final = Place((PUBLISH, "EVENT", "", None, None, None, None), 0, Tally(), is_off=True)


class NamedCauses(RunningEvent):
    """The part of a tracer that knows what the name of a cause stands for.

    Args:
        numbers: Gives the run's events their sequences and chains.
    """

    def __init__(self, numbers: EventNumbers) -> None:
        super().__init__()
        self._numbers = numbers
        self.nothing = self.stand_in(0, Chain(0, 0))
        self.nothing.place = _NOWHERE

    @abstractmethod
    def begin(self, event: OpenEvent) -> None:
        """Write the event now, because another one is about to name it."""

    def event_of(self, cause: Any) -> OpenEvent | None:
        """Stand in for what is no open event: a handle, or ids of another process; else None."""
        if isinstance(cause, Current):
            return self.current
        if type(cause) is Publication:
            return cause.event
        if isinstance(cause, SpanContext):
            return self._from_elsewhere(cause)
        if type(cause) is not tuple or len(cause) != 2:
            return None
        sequence, root = cause
        if type(sequence) is not int or type(root) is not int or not 0 < root <= sequence:
            return None
        return self.stand_in(sequence, self._numbers.chain(root))

    def _from_elsewhere(self, ids: SpanContext) -> OpenEvent | None:
        if not ids.is_valid:
            return None
        sequence, chain = self._numbers.own(ids)
        if sequence and chain is not None:
            return self.stand_in(sequence, chain)
        return RemoteEvent(self, _ELSEWHERE, ids, chain)  # type: ignore[arg-type]  # an EventTracer

    def stand_in(self, sequence: int, chain: Chain) -> OpenEvent:
        """Make what can be the cause of an event, for a record of this run that is written."""
        event = OpenEvent(self, _ELSEWHERE, None, NO_TIME, None, (), None, None)  # type: ignore[arg-type]
        event.sequence = sequence
        event.chain = chain
        event.correlation_id = event.chain.correlation_id
        event.written = event.claimed = event.closed = True
        return event

    def resolve(self, cause: Any) -> tuple[int, int, RemoteEvent | None]:
        """Find a cause that is no handle.

        Returns:
            Its sequence and root, zeros when it is none of this run; and what stands for it if it
            is one of another process.
        """
        if type(cause) is OpenEvent:
            if cause.tracer is not self:
                return 0, 0, None
            self.begin(cause)
            return cause.sequence, cause.chain.root, None
        if isinstance(cause, SpanContext):
            found = self._from_elsewhere(cause)
            if isinstance(found, RemoteEvent):
                return 0, 0, found
            if found is not None:
                return found.sequence, found.chain.root, None
        return 0, 0, None

    def record_remote(
        self, sequence: int, cause: RemoteEvent, texts: dict[str, Any]
    ) -> tuple[int, bytes]:
        """Give root and side record of an event of the fast door that another process caused."""
        root, extra = sequence, {}
        attributes: dict[str, Any] = {}
        try:
            if cause.may_cause(sequence):
                root = self._numbers.chain_from_elsewhere(sequence, cause).root
                extra["parent"] = cause.parent_record
            attributes = snapshot({key: text for key, text in texts.items() if text is not None})
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self.complain(error)
        return root, pack_side_record(SideRecord(sequence, attributes, [], extra))

    def pair(self, cause: Any) -> tuple[bytes, bytes] | None:
        """Address of a further cause; None when it was never recorded."""
        event = cause if type(cause) is OpenEvent else self.event_of(cause)
        if isinstance(event, RemoteEvent):
            ids = event.address
            return ids.trace_id.to_bytes(16, "big"), ids.span_id.to_bytes(8, "big")
        return self._numbers.address(event) if event is not None and event.sequence else None
