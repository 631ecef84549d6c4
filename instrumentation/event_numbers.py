"""Gives the events of one run their sequences, their chains and their addresses."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from opentelemetry.trace import SpanContext

from fillpath.instrumentation import identity
from fillpath.instrumentation.compiled_rows import COMPILED
from fillpath.instrumentation.open_event import Chain, OpenEvent, RemoteEvent
from fillpath.instrumentation.trace_limit import TraceLimit

_REMEMBERED_CHAINS: Final = 1 << 16


class EventNumbers:
    """Counts the events of a run, and knows the chains that a host has named.

    Args:
        run_id: The run; with a sequence number it makes every id.
        limit: Says which events begin a new trace although they have a cause.

    Attributes:
        take: Gives the next sequence; a single step that threads cannot come between.
    """

    def __init__(self, run_id: str, limit: TraceLimit) -> None:
        self._run_id = run_id
        self._key = identity.run_key(run_id)
        self._limit = limit
        self._named: OrderedDict[int, Chain] = OrderedDict()
        self.take: Callable[[], int] = (
            itertools.count(1).__next__ if COMPILED is None else COMPILED.Sequences().take
        )

    def number(self, event: OpenEvent) -> None:
        """Give the event its sequence, its chain, and the name it goes by."""
        parent, name = event.parent, event.correlation_id
        event.sequence = sequence = self.take()
        if parent is not None and parent.sequence >= sequence:  # a handle that somebody made up
            parent = event.parent = None
        if parent is None or not parent.sequence:
            if isinstance(parent, RemoteEvent):
                if parent.may_cause(sequence):
                    event.chain = self.chain_from_elsewhere(sequence, parent, name)
                    return
                event.parent = None
            if name is None:
                event.chain = Chain(sequence, self._key)
                return
            trace_id = identity.trace_id_of_correlation(self._run_id, name)
            if self._limit.is_full_of(trace_id):
                event.chain = Chain(sequence, self._key)  # the name is an attribute then
                return
            event.chain = self._remembered(Chain(sequence, self._key, name, trace_id))
            return
        chain = event.chain = parent.chain
        if self._is_full(chain, sequence):
            event.chain = Chain(sequence, self._key)
        if name is None:
            event.correlation_id = parent.correlation_id
        elif name != chain.correlation_id:
            trace_id = identity.trace_id_of_correlation(self._run_id, name)
            if trace_id == chain.trace_id:  # the same name in another spelling
                event.correlation_id = chain.correlation_id

    def _is_full(self, chain: Chain, sequence: int) -> bool:
        """Tell whether an event that is caused in a chain has to begin a new one."""
        if chain.correlation_id is not None and chain.named is not None:
            return self._limit.is_full_of(chain.named)
        return sequence - chain.root >= self._limit.far and self._limit.is_full(chain.root)

    def _remembered(self, chain: Chain) -> Chain:
        self._named[chain.root] = chain
        if len(self._named) > _REMEMBERED_CHAINS:
            self._named.popitem(last=False)
        return chain

    def own(self, ids: SpanContext) -> tuple[int, Chain | None]:
        """Sequence of an event of this run (0: of another) and its chain, if that began here."""
        root = identity.root_of_trace(ids.trace_id)
        if root is None or root[0] != self._key:
            return 0, None
        chain = self.chain(root[1])
        if chain.trace_id != ids.trace_id:
            return 0, None
        span = identity.sequence_of_span(ids.span_id)
        is_own = span is not None and span[0] == identity.tag_of(self._key)
        return (span[1] if is_own and span is not None and span[1] >= root[1] else 0), chain

    def chain_from_elsewhere(
        self, sequence: int, cause: RemoteEvent, name: str | None = None
    ) -> Chain:
        """Give the chain of an event that another process's event caused.

        Args:
            sequence: The event's.
            cause: Its cause.
            name: What the host calls the chain; its name only if that means this very trace.
        """
        ids, here = cause.address, cause.chain_here
        if here is not None:
            return here
        if name is not None and ids.trace_id != identity.trace_id_of_correlation(
            self._run_id, name
        ):
            name = None
        return self._remembered(
            Chain(sequence, self._key, name, ids.trace_id, ids.trace_state or None)
        )

    def chain(self, root: int) -> Chain:
        """Give the chain that began with this sequence."""
        return self._named.get(root) or Chain(root, self._key)

    def span_id(self, event: OpenEvent) -> int:
        """Span id of an event that has a sequence."""
        return identity.span_id(self._key, event.sequence)

    def address(self, event: OpenEvent) -> tuple[bytes, bytes]:
        """Trace id and span id of an event that has a sequence."""
        return event.chain.trace_id.to_bytes(16, "big"), self.span_id(event).to_bytes(8, "big")
