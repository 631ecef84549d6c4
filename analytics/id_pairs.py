"""Which ids of one run stand for which ids of another: one for one, or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fillpath.analytics.event_stream import Hashes, Mask, Places

Ids = tuple[Places, Hashes, Hashes, Hashes]
"""Event, place in the event, space of names, name; one of each for every id."""
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class IdPairs:
    """Ids that stand in the same places of two events that are compared with each other.

    Attributes:
        event: Event of the first run.
        space: Space of names.
        a: Names in the first run.
        b: Names in the second run.
        miscounted: Events of the first run whose partner has other ids in number or place.
    """

    event: Places
    space: Hashes
    a: Hashes
    b: Hashes
    miscounted: Places

    def first(self, same: Mask, partner: Places) -> int | None:
        """Give the first event that has an id which stood for another one before.

        Args:
            same: Which events of the first run count.
            partner: Their events in the second run.
        """
        counted = np.flatnonzero(same[self.event]) if len(self.event) else self.event
        if not len(counted):
            return None
        event, space = self.event[counted], self.space[counted]
        rank = np.minimum(event, partner[event])
        clashes = [
            clash
            for one, other in ((self.a, self.b), (self.b, self.a))
            if (clash := _first_clash(rank, space, one[counted], other[counted])) is not None
        ]
        if not clashes:
            return None
        return int(event[min(clashes, key=lambda at: int(rank[at]))])

    def renamed(self, same: Mask) -> int:
        """Count the ids of the first run that are called otherwise in the second."""
        counted = np.flatnonzero(same[self.event]) if len(self.event) else self.event
        differs = counted[self.a[counted] != self.b[counted]]
        return len(np.unique(self.space[differs] * _MIXER ^ self.a[differs]))


def pair_ids(a: Ids, b: Ids, partner: Places) -> IdPairs:
    """Pair the ids of events that are compared with each other.

    Args:
        a: Ids of the first run.
        b: Ids of the second run.
        partner: For every event of the first run the one it is compared with; -1 without.
    """
    pair_a = partner[a[0]] if len(a[0]) else a[0]
    mine = np.lexsort((a[1], pair_a))
    mine = mine[pair_a[mine] >= 0]
    theirs = np.lexsort((b[1], b[0]))
    back = np.full(max(int(partner.max(initial=-1)), int(b[0].max(initial=-1))) + 1, -1, np.int64)
    there = np.flatnonzero(partner >= 0)
    back[partner[there]] = there
    theirs = theirs[back[b[0][theirs]] >= 0]
    counts_a = np.bincount(pair_a[mine], minlength=len(back))
    counts_b = np.bincount(b[0][theirs], minlength=len(back))
    miscounted = back[np.flatnonzero(counts_a != counts_b)]
    alike = counts_a == counts_b
    mine, theirs = mine[alike[pair_a[mine]]], theirs[alike[b[0][theirs]]]
    elsewhere = a[1][mine] != b[1][theirs]
    miscounted = np.union1d(miscounted, a[0][mine[elsewhere]]).astype(np.int64)
    mine, theirs = mine[~elsewhere], theirs[~elsewhere]
    return IdPairs(a[0][mine], a[2][mine], a[3][mine], b[3][theirs], miscounted)


def _first_clash(rank: Places, space: Hashes, one: Hashes, other: Hashes) -> int | None:
    """Give the place of the first id that stands for another one than before."""
    order = np.lexsort((rank, one, space))
    begins = np.r_[
        True,
        (one[order][1:] != one[order][:-1]) | (space[order][1:] != space[order][:-1]),
    ]
    meant = other[order][np.flatnonzero(begins)][np.cumsum(begins) - 1]
    clashing = order[other[order] != meant]
    return int(clashing[np.argmin(rank[clashing])]) if len(clashing) else None
