"""Histograms of durations that can be added up without losing anything more.

They are OpenTelemetry's base-2 exponential histograms, as its metrics data model defines them
(https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram): bucket ``i``
holds ``(base**i, base**(i + 1)]`` with ``base = 2**(2**-scale)``, and where more than `MAX_BUCKETS`
would be needed the scale falls, which joins buckets in pairs. The scale follows from the smallest
and the largest value alone, so the sum of histograms is, bucket by bucket, the histogram of all
their values, in whatever order they are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

MAX_SCALE: Final = 6
"""Scale of the finest buckets, each 1.1 % wide."""
MAX_BUCKETS: Final = 160
"""Most buckets of a histogram: OpenTelemetry's default."""
_BITS: Final = 63

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ExponentialHistogram:
    """How many whole numbers that are not negative lie in each bucket.

    Attributes:
        count: Of how many values.
        sum: Of the values, exact.
        min: The smallest; 0 without any.
        max: The largest; 0 without any.
        scale: Fineness of the buckets.
        zero_count: How many values are 0; they are in no bucket.
        offset: Index of the first of `counts`.
        counts: Of the buckets, one after the other; the first and the last are not 0.
    """

    count: int = 0
    sum: int = 0
    min: int = 0
    max: int = 0
    scale: int = MAX_SCALE
    zero_count: int = 0
    offset: int = 0
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Iterable[int]) -> Self:
        """Count values.

        Raises:
            ValueError: One is negative.
        """
        ordered = np.sort(np.fromiter(values, np.int64))
        if ordered.size and ordered[0] < 0:
            raise ValueError(f"a histogram of durations cannot hold {ordered[0]}")
        return cls.of_sorted(ordered, bucket_indices(ordered))

    @classmethod
    def of_sorted(cls, values: Integers, indices: NDArray[np.int32]) -> Self:
        """Count values that are in order and whose `bucket_indices` are known."""
        if not values.size:
            return cls()
        zeros = int(np.searchsorted(values, 0, side="right"))
        scale, offset = MAX_SCALE, 0
        counts: tuple[int, ...] = ()
        if zeros < values.size:
            low, high = int(indices[zeros]), int(indices[-1])
            shift = _shift(low, high)
            scale, offset = MAX_SCALE - shift, low >> shift
            counted = np.bincount((indices[zeros:] >> shift) - offset)
            counts = tuple(counted.tolist())
        # Halves of the numbers, so that no sum leaves 64 bits.
        total = (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
        first, last = int(values[0]), int(values[-1])
        return cls(values.size, total, first, last, scale, zeros, offset, counts)

    def __add__(self, other: Self) -> Self:
        """Give the histogram of the values of both."""
        if not self.count or not other.count:
            return self if self.count else other
        scale = min(self.scale, other.scale)
        filled = [one for one in (self, other) if one.counts]
        offset = 0
        counts: tuple[int, ...] = ()
        if filled:
            ends = [one._ends(scale) for one in filled]
            low, high = min(end[0] for end in ends), max(end[1] for end in ends)
            shift = _shift(low, high)
            scale, offset = scale - shift, low >> shift
            added = [0] * ((high >> shift) - offset + 1)
            for one in filled:
                coarser = one.scale - scale
                for index, number in enumerate(one.counts, one.offset):
                    added[(index >> coarser) - offset] += number
            counts = tuple(added)
        return type(self)(
            self.count + other.count,
            self.sum + other.sum,
            min(self.min, other.min),
            max(self.max, other.max),
            scale,
            self.zero_count + other.zero_count,
            offset,
            counts,
        )

    def _ends(self, scale: int) -> tuple[int, int]:
        shift = self.scale - scale
        return self.offset >> shift, (self.offset + len(self.counts) - 1) >> shift

    @property
    def mean(self) -> float | None:
        """Mean of the values, exact but for the last digit; None without any."""
        return self.sum / self.count if self.count else None

    @property
    def relative_error(self) -> float:
        """How far off a quantile may be, as a part of it; half a unit from rounding comes on top.

        A bucket's values are told as the harmonic mean of its bounds, ``2ab / (a + b)``, which is
        no further than ``(base - 1) / (base + 1)`` from any of them.
        """
        base = 2.0 ** (2.0**-self.scale)
        return (base - 1) / (base + 1) if self.counts else 0.0

    def quantile(self, part: int, of: int = 100) -> int | None:
        """Tell the smallest value that at least ``part / of`` of the values do not exceed.

        It is that of `rank` among the ordered values, told as well as its bucket allows; the
        smallest and the largest are exact. None without values.
        """
        if not self.count:
            return None
        place = rank(self.count, part, of)
        if place in {1, self.count}:
            return self.min if place == 1 else self.max
        reached = self.zero_count
        if place <= reached:
            return 0
        for index, number in enumerate(self.counts, self.offset):
            reached += number
            if place <= reached:
                return min(max(self._middle(index), self.min), self.max)
        return self.max

    def _middle(self, index: int) -> int:
        """The value that whole numbers in a bucket are told as."""
        shift = MAX_SCALE - self.scale
        uppers = _upper_bounds()
        low = int(uppers[index << shift]) + 1 if index >= 0 else 1
        high = int(uppers[(index + 1) << shift])
        return (4 * low * high + low + high) // (2 * (low + high))


def rank(count: int, part: int, of: int = 100) -> int:
    """Place of a quantile among so many ordered values, from 1: SQL's ``percentile_disc``."""
    return max(1, -(-count * part // of))


def bucket_indices(values: Integers) -> NDArray[np.int32]:
    """Give the bucket of each value at `MAX_SCALE`; a 0 has none, and gets that of a 1."""
    return (np.searchsorted(_upper_bounds(), values) - 1).astype(np.int32)


def added(histograms: Iterable[ExponentialHistogram]) -> ExponentialHistogram:
    """Give the histogram of the values of all."""
    total = ExponentialHistogram()
    for one in histograms:
        total += one
    return total


def from_row(row: Any) -> ExponentialHistogram:
    """Read a row of table ``latency_histograms``, by column."""
    counts: Sequence[int] = row["bucket_counts"]
    return ExponentialHistogram(
        row["count"],
        int(row["sum"]),
        row["min"],
        row["max"],
        row["scale"],
        row["zero_count"],
        row["bucket_offset"],
        tuple(counts),
    )


def _shift(low: int, high: int) -> int:
    """By how many scales buckets from `low` to `high` must become coarser."""
    shift = 0
    while (high >> shift) - (low >> shift) >= MAX_BUCKETS:
        shift += 1
    return shift


@cache
def _upper_bounds() -> Integers:
    """The largest whole number in each bucket at `MAX_SCALE`, from bucket -1 on; exact."""
    bounds = []
    for exponent in range(_BITS << MAX_SCALE):
        power = 1 << exponent
        # The floor of a square root of a floor is that of the root.
        for _ in range(MAX_SCALE):
            power = math.isqrt(power)
        bounds.append(power)
    bounds.append((1 << _BITS) - 1)
    return np.array(bounds, np.int64)
