"""Tells what several runs have of one trace: processes hand traces on, and each records its part.

A trace id of our own says which run to look in. Where another run goes on with that trace, it does
not; so a file with such rows says so in its name, and who looks for a trace looks there as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fillpath.exporters.id_words import all_begin_with
from fillpath.instrumentation import identity

_ID_BYTES: Final = 16
_KEY_BYTES: Final = identity.KEY_BITS // 8
_TAG_BYTES: Final = identity.TAG_BITS // 8


def are_of_own_traces(rows: pa.Table) -> bool:
    """Tell whether the trace ids of some rows of one run all follow from the run."""
    own = _key_of(rows)
    found = [all_begin_with(chunk, own, _ID_BYTES) for chunk in rows["trace_id"].chunks]
    if None not in found:
        return all(found)
    return not pc.any(_of_others(rows, own)).as_py()


def _key_of(rows: pa.Table) -> bytes:
    return identity.run_key(rows["run_id"][0].as_py()).to_bytes(_KEY_BYTES, "big")


def _of_others(rows: pa.Table, own: bytes) -> pa.ChunkedArray:
    begin = pc.binary_slice(rows["trace_id"], 0, _KEY_BYTES)
    return pc.not_equal(begin, pa.scalar(own, pa.binary()))


def joins_traces(rows: pa.Table) -> bool:
    """Tell whether rows of one run go on with traces that another began.

    A chain that the host has named has such a trace id too, but it has its name.
    """
    if "trace_id" not in rows.schema.names or not rows.num_rows:
        return False
    if are_of_own_traces(rows):
        return False
    foreign = _of_others(rows, _key_of(rows))
    unnamed = pc.and_(foreign, rows["correlation_id"].is_null())
    if pc.any(unnamed).as_py():
        return True
    entered = pc.not_equal(
        pc.binary_slice(rows["parent_span_id"], 0, _TAG_BYTES),
        pc.binary_slice(rows["span_id"], 0, _TAG_BYTES),
    )
    return bool(pc.any(entered).as_py())


class _InTrace(Protocol):
    """A span, as far as traces are concerned."""

    @property
    def run_id(self) -> str:
        """Its run."""

    @property
    def span_id(self) -> str:
        """Its id."""

    @property
    def parent_span_id(self) -> str | None:
        """That of its parent."""


_Span = TypeVar("_Span", bound=_InTrace)


def joined_with(run_id: str, spans: Iterable[_Span]) -> list[_Span]:
    """Give the spans of a run, and those of the runs that are joined with it.

    Runs that merely use the same trace ids, because a host names its chains by ids that it has had
    before, are not joined: a span of one has to be the parent of a span of the other.

    Args:
        run_id: The run.
        spans: All spans of a trace, or of several, of any runs.
    """
    apart: dict[str, list[_Span]] = {}
    for span in spans:
        apart.setdefault(span.run_id, []).append(span)
    joined = apart.pop(run_id, [])
    ids = {span.span_id for span in joined}
    parents = {span.parent_span_id for span in joined}
    while found := [
        other
        for other, others in apart.items()
        if any(one.parent_span_id in ids or one.span_id in parents for one in others)
    ]:
        for other in found:
            others = apart.pop(other)
            joined += others
            ids.update(span.span_id for span in others)
            parents.update(span.parent_span_id for span in others)
    return joined
