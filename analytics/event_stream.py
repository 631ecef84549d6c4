"""The events of a run as arrays of numbers: two runs of millions can be compared at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fillpath.analytics.sql_files import read_sql
from fillpath.exporters.schema import (
    DROPPED_BY_SDK,
    LINK_ATTRIBUTES,
    LINK_TRACE_STATES,
    ORIGIN_PARTS,
    OWN_NUMBER_COLUMNS,
    PARENT_DROPPED,
    SPAN_EVENTS,
)
from fillpath.instrumentation.semconv import Account, Event, Order, Position

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Places = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

NOWHERE: Final = -1
"""Place of the cause of an event that has none."""
UNKNOWN: Final = -2
"""Place of a cause that is not among the run's spans."""

EXACT_IDS: Final = frozenset({Account.ID})
"""Keys that end like an id's and still are compared as they are: whose account it is, counts."""
ORDER_IDS: Final = (
    "client_order_id",
    Order.CLIENT_ID,
    Order.LINKED_IDS,
    Order.PARENT_ID,
    Position.OPENING_ORDER_ID,
    Position.CLOSING_ORDER_ID,
)
"""Where the engine's ids of orders stand."""
EVENT_IDS: Final = (Event.ID, Event.CAUSATION_ID)
"""Where the host's ids of events stand."""
NEVER_COMPARED: Final = frozenset(
    {
        *ORIGIN_PARTS,
        SPAN_EVENTS,
        DROPPED_BY_SDK,
        LINK_ATTRIBUTES,
        LINK_TRACE_STATES,
        PARENT_DROPPED,
        Event.UNFINISHED,
        "exception.stacktrace",
    }
)
"""Attributes that tell how an event was recorded, not what it was."""

ID_KEY: Final = r"(?:[^\"\\]*[._])?(?:ids?|uuid)"
"""Keys whose values are ids: the last word is id, ids or uuid."""
UUID: Final = r"\b[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}\b"
"""What is an id wherever it stands."""
_MOST_DOUBLINGS: Final = 64
_VALUE: Final = r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,}\]]*'
_ID_MEMBER: Final = f'"({ID_KEY})":({_VALUE})'
_ANY_ID: Final = f'"{ID_KEY}":|{UUID}'


@dataclass(frozen=True, slots=True)
class EventStream:
    """What a run published, in the order of sequence; an event's place is its index.

    Attributes:
        run_id: The run.
        sequence: Positions in the run.
        event_time: Simulated times, ns; 0 if unknown.
        event_type: Kinds, as places in `kinds`.
        portfolio: Portfolios, as places in `portfolios`.
        lane: Which events follow each other: those of one portfolio, strategy and symbol.
        position: How many events of its lane came before.
        content: What the event says, without ids.
        cause: Place of the nearest event that led to it; `NOWHERE` or `UNKNOWN` without.
        handler: The handler that published it.
        kinds: Names of the kinds.
        portfolios: Names of the portfolios.
        ids: Columns ``event`` (place), ``slot``, ``space`` and ``name`` of the ids.
        links: Columns ``event`` and ``target`` (places) of the further causes.
        span: Hashes of the events' span ids.
        spans: For every span of the run its sequence, the place of its parent among the spans, and
            for every event the place of its own span.
    """

    run_id: str
    sequence: Places
    event_time: Places
    event_type: Places
    portfolio: Places
    lane: Hashes
    position: Places
    content: Hashes
    cause: Places
    handler: Hashes
    kinds: list[str]
    portfolios: list[str]
    ids: tuple[Places, Hashes, Hashes, Hashes]
    links: tuple[Places, Places]
    span: Hashes
    spans: tuple[Places, Places, Places]

    def __len__(self) -> int:
        """How many events there are."""
        return len(self.sequence)

    def path(self, event: int) -> list[int]:
        """Sequences of the spans that led to an event, the first cause first, itself last."""
        sequence, parent, own = self.spans
        place, found = int(own[event]), []
        last = len(sequence)
        while 0 <= place < last:  # a cause comes before; a circle ends here
            found.append(int(sequence[place]))
            place, last = int(parent[place]), place
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What of two runs is compared, and how.

    Args:
        portfolio: Only this one's events.
        by_portfolio: Whether events of portfolios with different names are different.
        kinds: Whether all events of a kind are compared, or those that are critical; kinds that
            are missing are not compared. None compares all of all.
        ignored: Keys of attributes, or columns, that do not count.
        tolerance: Numbers that differ by this much, of themselves or absolutely, are the same.
    """

    portfolio: str | None = None
    by_portfolio: bool = True
    kinds: Mapping[str, bool] | None = None
    ignored: Collection[str] = field(default=())
    tolerance: float = 0.0


def read_stream(connection: DuckDBPyConnection, run_id: str, comparison: Comparison) -> EventStream:
    """Read what a run published, as far as it is compared.

    Args:
        connection: A connection with the view `raw_spans`.
        run_id: The run.
        comparison: What counts.
    """
    ignored = sorted({*comparison.ignored, *NEVER_COMPARED})
    columns = [*ignored, *(OWN_NUMBER_COLUMNS[key] for key in ignored if key in OWN_NUMBER_COLUMNS)]
    connection.execute("SET VARIABLE ignored_columns = ?", [columns])
    parameters: dict[str, Any] = {
        "run_id": run_id,
        "by_portfolio": comparison.by_portfolio,
        "ignored": f'"(?:{"|".join(map(re.escape, ignored))})":(?:{_VALUE}),?',
        "id_member": _ID_MEMBER,
        "uuid": UUID,
        "account_id": f'"{Account.ID}":',
    }
    parameters["any"] = f"{parameters['ignored']}|{_ANY_ID}"
    rows = connection.sql(read_sql("run_events"), params=parameters).to_arrow_table()
    kind, kinds = _coded(rows["event_type"])
    portfolio, portfolios = _coded(rows["portfolio"])
    compared = _compared(rows, kind, kinds, comparison)
    if comparison.portfolio is not None:
        wanted = [number for number, name in enumerate(portfolios) if name == comparison.portfolio]
        compared &= np.isin(portfolio, wanted)
    span = _numbers(rows["span"])
    finder = _Finder(span)
    parent = finder.places(_numbers(rows["parent"]))
    parent[_numbers(rows["parent"]) == 0] = NOWHERE
    own = np.flatnonzero(compared)
    event_of = np.full(len(span), NOWHERE, np.int64)
    event_of[own] = np.arange(len(own))
    lane = _numbers(rows["lane"])[own]
    nearest = _nearest(parent, compared)
    cause = np.where(parent >= 0, nearest[parent], parent)[own]
    ids = connection.sql(
        read_sql("run_event_ids"),
        params={
            "run_id": run_id,
            "id_member": _ID_MEMBER,
            "uuid": UUID,
            "any": _ANY_ID,
            "account_id": parameters["account_id"],
            "order_keys": list(ORDER_IDS),
            "event_keys": list(EVENT_IDS),
            "ignored_keys": ignored,
        },
    ).to_arrow_table()
    links = connection.sql(read_sql("run_event_links"), params={"run_id": run_id}).to_arrow_table()
    return EventStream(
        run_id=run_id,
        sequence=_numbers(rows["sequence"])[own],
        event_time=_numbers(rows["event_time"])[own],
        event_type=kind[own],
        portfolio=portfolio[own],
        lane=lane,
        position=positions(lane),
        content=_numbers(rows["content"])[own],
        cause=np.where(cause >= 0, event_of[cause], cause),
        handler=_handlers(parent, rows)[own],
        kinds=kinds,
        portfolios=portfolios,
        ids=_of_events(finder, event_of, ids),
        links=_links(finder, event_of, nearest, links),
        span=span[own],
        spans=(_numbers(rows["sequence"]), parent, own),
    )


class _Finder:
    """Finds the places of spans by the hashes of their ids."""

    def __init__(self, spans: Hashes) -> None:
        self._order = np.argsort(spans, kind="stable")
        self._sorted = spans[self._order]

    def places(self, wanted: Hashes) -> Places:
        """Places of spans; `UNKNOWN` for those that are not there."""
        found = np.full(len(wanted), UNKNOWN, np.int64)
        if not len(self._sorted):
            return found
        at = np.searchsorted(self._sorted, wanted)
        at[at == len(self._sorted)] = 0
        there = self._sorted[at] == wanted
        found[there] = self._order[at[there]]
        return found


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = column.to_numpy()
    return numbers


def _coded(column: pa.ChunkedArray) -> tuple[Places, list[str]]:
    coded = column.combine_chunks().dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()


def _compared(rows: pa.Table, kind: Places, kinds: list[str], comparison: Comparison) -> Mask:
    compared: Mask = _numbers(rows["is_event"]).astype(bool)
    if comparison.kinds is None:
        return compared
    wholly = np.array([comparison.kinds.get(name) is True for name in kinds], bool)
    critical = np.array([comparison.kinds.get(name) is False for name in kinds], bool)
    if not len(kinds):
        return compared
    compared &= wholly[kind] | (critical[kind] & _numbers(rows["is_critical"]).astype(bool))
    return compared


def _nearest(parent: Places, compared: Mask) -> Places:
    """Give for every span the nearest one above it that is compared, itself if it is."""
    here = np.arange(len(parent))
    nearest = np.where(compared, here, parent)
    for _ in range(_MOST_DOUBLINGS):
        open_ones = np.flatnonzero((nearest >= 0) & ~compared[nearest])
        if not len(open_ones):
            break
        nearest[open_ones] = nearest[nearest[open_ones]]  # twice as far each time
    else:
        nearest[open_ones] = UNKNOWN  # parents in a circle: made up
    return nearest


def _handlers(parent: Places, rows: pa.Table) -> Hashes:
    """Give for every span the handler that published it; 0 without one."""
    handler = _numbers(rows["handler"])
    delivered = _numbers(rows["is_delivery"]).astype(bool)
    by_handler = (parent >= 0) & delivered[parent]
    handlers: Hashes = np.where(by_handler, handler[parent], np.uint64(0))
    return handlers


def positions(lane: Hashes) -> Places:
    """Count for every event how many of its lane come before."""
    order = np.argsort(lane, kind="stable")
    ordered = lane[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(lane) else order
    counts = np.diff(np.r_[first, len(lane)])
    position = np.empty(len(lane), np.int64)
    position[order] = np.arange(len(lane)) - np.repeat(first, counts)
    return position


def _of_events(
    finder: _Finder, event_of: Places, ids: pa.Table
) -> tuple[Places, Hashes, Hashes, Hashes]:
    place = finder.places(_numbers(ids["span"]))
    event = np.where(place >= 0, event_of[place], NOWHERE) if len(event_of) else place
    there = np.flatnonzero(event >= 0)
    columns = (_numbers(ids[name])[there] for name in ("place", "space", "name"))
    slot, space, name = columns
    return event[there], slot, space, name


def _links(
    finder: _Finder, event_of: Places, nearest: Places, links: pa.Table
) -> tuple[Places, Places]:
    place = finder.places(_numbers(links["span"]))
    if not len(event_of):
        return place, place
    event = np.where(place >= 0, event_of[place], NOWHERE)
    there = np.flatnonzero(event >= 0)
    target = finder.places(_numbers(links["target"])[there])
    # A link to a handler's run means what was handled.
    target = np.where(target >= 0, nearest[target], UNKNOWN)
    return event[there], np.where(target >= 0, event_of[target], UNKNOWN)
