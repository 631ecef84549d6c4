"""Which rows of a run can give way to a summary: ticks to bars, features to snapshots.

Of all ticks of a symbol in an interval the last one stays, with the bar of all of them in its
attributes; of all features of a strategy and symbol the last ones stay. An event from which
anything came that stays, stays itself, at any distance: no row loses its cause.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fillpath.instrumentation.semconv import EventType, Summary

SUMMARISED_KINDS: Final = (EventType.TICK, EventType.FEATURES)
"""Event types that a cold run has summaries of."""
COLUMNS_NEEDED: Final = (
    "run_id",
    "portfolio",
    "span_id",
    "parent_span_id",
    "sequence",
    "span_kind",
    "event_type",
    "event_time",
    "strategy",
    "symbol",
    "venue",
    "price",
    "quantity",
    "bid",
    "ask",
    "links",
)
_KEYS: Final = {
    EventType.TICK: ("portfolio", "symbol", "venue"),
    EventType.FEATURES: ("portfolio", "symbol", "strategy"),
}
_HANDLER_RUN: Final = "CONSUMER"
_EVENT: Final = "PRODUCER"
_NOWHERE: Final = -1

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Thinning:
    """What becomes of the rows of a run, in their order.

    Attributes:
        kept: Whether each row stays.
        summaries: Attributes that rows get, by their place.
        removed: How many events give way, by portfolio and event type; handler runs do not count.
        rows_removed: How many rows give way, handler runs among them.
    """

    kept: Mask
    summaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def rows_removed(self) -> int:
        """How many rows give way, handler runs among them."""
        return int((~self.kept).sum())


def thin(
    rows: pa.Table,
    interval: int,
    kinds: Collection[str] = SUMMARISED_KINDS,
) -> Thinning:
    """Decide what becomes of the rows of one run.

    Args:
        rows: The columns `COLUMNS_NEEDED` of all rows of the run, causes before what they caused.
        interval: Length of a bar and of a snapshot's interval, ns of event time.
        kinds: Event types that may give way, of `SUMMARISED_KINDS`.
    """
    parents = _places(rows["parent_span_id"], rows["span_id"])
    kind = rows["event_type"]
    is_event = _mask(pc.equal(rows["span_kind"], _EVENT)) & _mask(pc.is_valid(rows["event_time"]))
    may_go = np.zeros(rows.num_rows, bool)
    summaries: dict[int, dict[str, Any]] = {}
    for one in kinds:
        places = np.flatnonzero(_mask(pc.equal(kind, one)) & is_event)
        if len(places):
            may_go[places] = True
            for last, summary in _summaries(rows, places, one, interval):
                may_go[last] = False
                summaries[last] = summary
    may_go |= _handler_runs_below(rows, parents, may_go)
    kept = ~may_go
    _keep_causes(kept, parents, _link_places(rows))
    # A handler run goes with its event, and stays with it too.
    handlers = np.flatnonzero(_mask(pc.equal(rows["span_kind"], _HANDLER_RUN)) & (parents >= 0))
    kept[handlers] |= kept[parents[handlers]]
    gone = np.flatnonzero(~kept & _mask(pc.equal(rows["span_kind"], _EVENT)))
    removed: Counter[tuple[str, str]] = Counter(
        zip(
            rows["portfolio"].take(gone).to_pylist(),
            kind.take(gone).to_pylist(),
            strict=True,
        )
    )
    return Thinning(kept, {p: s for p, s in summaries.items() if s[Summary.COUNT] > 1}, removed)


def _mask(values: pa.ChunkedArray) -> Mask:
    filled: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return filled


def _places(wanted: pa.ChunkedArray | pa.Array, ids: pa.ChunkedArray) -> Places:
    """Find the places of span ids among the rows; -1 for NULL and for what is not there."""
    found = pc.index_in(wanted, value_set=ids.combine_chunks(), skip_nulls=True)
    places: Places = pc.fill_null(found, _NOWHERE).to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def _handler_runs_below(rows: pa.Table, parents: Places, may_go: Mask) -> Mask:
    below = _mask(pc.equal(rows["span_kind"], _HANDLER_RUN)) & (parents >= 0)
    below[below] = may_go[parents[below]]
    return below


def _link_places(rows: pa.Table) -> tuple[Places, Places]:
    """Give pairs of a row and a row that it links to."""
    links = rows["links"].combine_chunks()
    owners = pc.list_parent_indices(links).to_numpy(zero_copy_only=False).astype(np.int64)
    ids = pc.struct_field(pc.list_flatten(links), "span_id")
    targets = _places(ids, rows["span_id"])
    there = targets >= 0
    return owners[there], targets[there]


def _keep_causes(kept: Mask, parents: Places, links: tuple[Places, Places]) -> None:
    """Keep whatever something that is kept came of, at any distance."""
    owners, targets = links
    news = np.flatnonzero(kept)
    while len(news):
        is_new = np.zeros(len(kept), bool)
        is_new[news] = True
        causes = np.concatenate([parents[news], targets[is_new[owners]]])
        causes = np.unique(causes[causes >= 0])
        news = causes[~kept[causes]]
        kept[news] = True


def _summaries(
    rows: pa.Table, places: Places, kind: str, interval: int
) -> list[tuple[int, dict[str, Any]]]:
    """Give the last row of every group and interval, and the summary of its group."""
    own = rows.take(places)
    times = own["event_time"].to_numpy()
    codes = [_codes(own[key]) for key in _KEYS[kind]]
    order = np.lexsort((np.arange(len(places)), times, times // interval, *codes))
    changes = np.zeros(len(places), bool)
    changes[0] = True
    for values in (times // interval, *codes):
        changes[1:] |= values[order][1:] != values[order][:-1]
    starts = np.flatnonzero(changes)
    ends = np.append(starts[1:], len(places))
    prices = _prices(own) if kind == EventType.TICK else None
    sizes = _floats(own["quantity"])
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        group = order[start:end]
        summary: dict[str, Any] = {
            Summary.COUNT: end - start,
            Summary.INTERVAL: interval,
            Summary.FIRST_TIME: int(times[group[0]]),
        }
        if prices is not None:
            summary |= _bar(prices[group], sizes[group])
        found.append((int(places[group[-1]]), summary))
    return found


def _codes(values: pa.ChunkedArray) -> Places:
    coded = values.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    codes: Places = pc.fill_null(coded.indices, _NOWHERE).to_numpy(zero_copy_only=False)
    return codes


def _floats(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    floats: npt.NDArray[np.float64] = pc.fill_null(
        values.cast(pa.float64()), float("nan")
    ).to_numpy(zero_copy_only=False)
    return floats


def _prices(ticks: pa.Table) -> npt.NDArray[np.float64]:
    """A trade's price; a quote's middle."""
    middle = (_floats(ticks["bid"]) + _floats(ticks["ask"])) / 2
    prices = _floats(ticks["price"])
    return np.where(np.isnan(prices), middle, prices)


def _bar(prices: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> dict[str, str]:
    known = prices[~np.isnan(prices)]
    bar = {}
    if len(known):
        bar = {
            Summary.OPEN: _digits(known[0]),
            Summary.HIGH: _digits(known.max()),
            Summary.LOW: _digits(known.min()),
            Summary.CLOSE: _digits(known[-1]),
        }
    if not np.isnan(sizes).all():
        bar[Summary.VOLUME] = _digits(np.nansum(sizes))
    return bar


def _digits(value: Any) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() else repr(number)


def with_summaries(rows: pa.Table, first: int, thinning: Thinning) -> pa.Table:
    """Give those of some rows that stay, with their summaries in their attributes.

    Args:
        rows: Some of the run's rows, all columns.
        first: Place of the first of them among the run's rows.
        thinning: What `thin` decided.
    """
    kept = thinning.kept[first : first + rows.num_rows]
    here: Sequence[int] = [p - first for p in thinning.summaries if 0 <= p - first < rows.num_rows]
    if here:
        attributes = rows["attributes"].to_pylist()
        for place in here:
            own = json.loads(attributes[place] or "{}")
            own |= thinning.summaries[first + place]
            attributes[place] = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
        column = rows.schema.get_field_index("attributes")
        rows = rows.set_column(column, rows.schema.field(column), pa.array(attributes, pa.string()))
    return rows.filter(pa.array(kept))
