"""How much differs after two runs have parted: counts, by kind of event.

Beyond the place where a lane parts, events are found again by what they say, in whatever order,
and what is left is paired by kind and simulated time. That is not the shortest list of changes that
would make one run the other, but it takes no longer than sorting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fillpath.analytics.event_stream import EventStream, Hashes, Mask, Places, positions
from fillpath.analytics.run_diff import EventDiff, lanes_of, partners
from fillpath.instrumentation.semconv import EventType

_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class KindCounts:
    """Events of one kind.

    Attributes:
        event_type: The kind.
        a: Events of it in the first run: ``same + changed + only_a``.
        b: Events of it in the second run: ``same + changed + only_b``.
        same: Events that say the same in both.
        changed: Events at the same simulated time that say something else.
        only_a: Events that are in the first run only.
        only_b: Events that are in the second run only.
    """

    event_type: str
    a: int
    b: int
    same: int
    changed: int
    only_a: int
    only_b: int


@dataclass(frozen=True, slots=True)
class DiffCounts:
    """How much differs.

    Attributes:
        kinds: By kind of event, as far as there are any.
        only_a: Places of the events that are in the first run only.
        only_b: Places of the events that are in the second run only.
        changed: Places of events at the same simulated time that say something else, in both runs.
    """

    kinds: tuple[KindCounts, ...]
    only_a: Places
    only_b: Places
    changed: tuple[Places, Places]

    @property
    def differing(self) -> int:
        """All events that are changed or in one run only."""
        return len(self.only_a) + len(self.only_b) + len(self.changed[0])


def count_differences(diff: EventDiff) -> DiffCounts:
    """Count what differs between two runs."""
    a, b = diff.a, diff.b
    same_b = np.zeros(len(b), bool)
    same_b[diff.partner[diff.same]] = True
    rest_a, rest_b = np.flatnonzero(~diff.same), np.flatnonzero(~same_b)
    pairs_a, pairs_b, rest_a, rest_b = _paired(
        rest_a, rest_b, _mixed(a.lane, a.content), _mixed(b.lane, b.content)
    )
    same_a = diff.same.copy()
    same_a[pairs_a] = True
    same_b[pairs_b] = True
    changed_a, changed_b, only_a, only_b = _paired(
        rest_a, rest_b, _mixed(a.lane, _moment(a)), _mixed(b.lane, _moment(b))
    )
    kinds = tuple(
        KindCounts(
            kind,
            a=_count(a, kind, np.arange(len(a))),
            b=_count(b, kind, np.arange(len(b))),
            same=_count(a, kind, np.flatnonzero(same_a)),
            changed=_count(a, kind, changed_a),
            only_a=_count(a, kind, only_a),
            only_b=_count(b, kind, only_b),
        )
        for kind in sorted({*a.kinds, *b.kinds})
    )
    return DiffCounts(
        tuple(one for one in kinds if one.a or one.b), only_a, only_b, (changed_a, changed_b)
    )


def fills_among(stream: EventStream, places: Places) -> Places:
    """Give those of some events that are fills."""
    fill = np.array([kind == EventType.FILL for kind in stream.kinds], bool)
    return places[fill[stream.event_type[places]]] if len(fill) else places


def orders_among(stream: EventStream, order_slot: int, places: Places) -> Places:
    """Give the first events of those orders that begin among some events.

    Args:
        stream: The events of the run.
        order_slot: What stands in the column ``slot`` of its ids for the engine's id of an order.
        places: The events.
    """
    event, slot, space, name = stream.ids
    named = np.flatnonzero(slot == np.uint64(order_slot))
    if not len(named):
        return named
    order = named[np.argsort(event[named], kind="stable")]
    _, first = np.unique(_mixed(space[order], name[order]), return_index=True)
    return np.intersect1d(event[order[first]], places)


def _moment(stream: EventStream) -> Hashes:
    names = np.array([hash_of(kind) for kind in stream.kinds], np.uint64)
    kind = names[stream.event_type] if len(names) else np.empty(0, np.uint64)
    return _mixed(stream.event_time.astype(np.uint64), kind)


def hash_of(text: str) -> int:
    """Give a text a number of its own, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(one: Hashes, other: Hashes) -> Hashes:
    mixed = (one ^ (one >> np.uint64(32))) * _MIXER + other
    return (mixed ^ (mixed >> np.uint64(29))) * _MIXER


def _paired(
    rest_a: Places, rest_b: Places, key_a: Hashes, key_b: Hashes
) -> tuple[Places, Places, Places, Places]:
    """Pair events of equal keys one by one; gives the pairs and what is left of both."""
    lane_a, lane_b = key_a[rest_a], key_b[rest_b]
    partner = partners(lane_a, positions(lane_a), lanes_of(lane_b))
    paired: Mask = partner >= 0
    left = np.ones(len(rest_b), bool)
    left[partner[paired]] = False
    return rest_a[paired], rest_b[partner[paired]], rest_a[~paired], rest_b[left]


def _count(stream: EventStream, kind: str, places: Places) -> int:
    if kind not in stream.kinds:
        return 0
    return int(np.count_nonzero(stream.event_type[places] == stream.kinds.index(kind)))
