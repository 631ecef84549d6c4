"""Matches two series of times one to one, each with what is nearest."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


class TimePair(NamedTuple):
    """Places of two times that belong together."""

    ours: int
    theirs: int


class _Choice(Enum):
    """What becomes of one of our times, if its partner is among the first so many of theirs."""

    ALONE = "alone"
    PAIR = "pair"
    EARLIER = "earlier"


class _Best(NamedTuple):
    """What is gained by matching the first few of both, and with how many pairs."""

    gain: int
    pairs: int


def match_times(ours: Sequence[int], theirs: Sequence[int], window: int) -> list[TimePair]:
    """Match times one to one, at most `window` apart, so that the sum of what is lost is least.

    A pair loses the distance of its times, a time without a partner half the window. So a nearer
    partner is never given up to match one time more far off, as the largest number of pairs would
    want it. Of equally good matchings one with the most pairs is taken. As times lie on a line, one
    of the best has no pairs that cross; that one is found, by going through both in order.

    Args:
        ours: Times in any order.
        theirs: Times in any order.
        window: The farthest that two may be apart, in the same unit; not negative.

    Returns:
        Places in both, by the time of `ours`.
    """
    by_time = sorted(range(len(ours)), key=lambda place: ours[place])
    others = sorted(range(len(theirs)), key=lambda place: theirs[place])
    times = [theirs[place] for place in others]
    # Row by row: what the first so many of theirs are worth, as far as a partner can be among them.
    row, low = [_Best(0, 0)], 0
    rows: list[tuple[int, list[_Choice]]] = []
    for place in by_time:
        time = ours[place]
        start, end = bisect_left(times, time - window), bisect_right(times, time + window)
        before = [row[min(max(count - low, 0), len(row) - 1)] for count in range(start, end + 1)]
        row, choices = [before[0]], [_Choice.ALONE]
        for at in range(1, end - start + 1):
            apart = abs(times[start + at - 1] - time)
            above = before[at - 1]
            best = _Best(above.gain + window - apart, above.pairs + 1)
            choice = _Choice.PAIR
            for other, other_choice in ((before[at], _Choice.ALONE), (row[-1], _Choice.EARLIER)):
                if other > best:
                    best, choice = other, other_choice
            row.append(best)
            choices.append(choice)
        low = start
        rows.append((start, choices))
    pairs = []
    count = len(others)
    for (start, choices), place in zip(reversed(rows), reversed(by_time), strict=True):
        at = min(count - start, len(choices) - 1)
        while at > 0 and choices[at] is _Choice.EARLIER:
            at -= 1
        if at > 0 and choices[at] is _Choice.PAIR:
            pairs.append(TimePair(place, others[start + at - 1]))
            at -= 1
        count = start + max(at, 0) if at >= 0 else count
    return pairs[::-1]
