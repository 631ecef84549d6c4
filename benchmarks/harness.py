"""How every benchmark measures, and the form its figures take.

A figure is compared with its peer in the same run: ours, the peer, ours, the peer, and so on, each
once unmeasured first. What counts is the median over the rounds, and the ratio of the two.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Prepared = Callable[[], AbstractContextManager[Callable[[], int]]]
"""Prepares one round, outside the clock; what it gives does the work and counts its operations."""


class Size(StrEnum):
    """How much a benchmark does."""

    TINY = "tiny"
    """Only shows that it runs; its figures mean nothing."""
    USUAL = "usual"
    """Under 50 seconds for each benchmark."""
    FULL = "full"
    """As large as the goal says."""

    def pick(self, tiny: int, usual: int, full: int) -> int:
        """Choose a number by the size."""
        return {Size.TINY: tiny, Size.USUAL: usual, Size.FULL: full}[self]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        value: The number, in `unit`.
        unit: Its unit.
        peer: What it is compared with.
        peer_value: The same number of the peer.
        ratio: How many times better ours is; for sizes, how many times smaller.
        goal: What is wanted, in words.
        met: Whether that is reached; None without a goal.
    """

    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return asdict(self)


def figure(
    value: float,
    unit: str,
    *,
    peer: tuple[str, float] | None = None,
    more_is_better: bool = False,
    goal: str | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
    ratio_at_least: float | None = None,
    holds: bool = True,
) -> Figure:
    """Make a figure and judge it.

    Args:
        value: The number.
        unit: Its unit.
        peer: Name and number of what it is compared with.
        more_is_better: Whether larger numbers are better, as with rates.
        goal: What is wanted, in words; the limits below say the same in numbers.
        at_most: Largest number that meets the goal.
        at_least: Smallest number that meets it.
        ratio_at_least: Smallest ratio to the peer that meets it.
        holds: Whether whatever else the goal asks for is so.
    """
    ratio = None
    if peer is not None and value and peer[1]:
        ratio = value / peer[1] if more_is_better else peer[1] / value
    met = None
    if goal is not None:
        met = (
            holds
            and (at_most is None or value <= at_most)
            and (at_least is None or value >= at_least)
            and (ratio_at_least is None or (ratio is not None and ratio >= ratio_at_least))
        )
    name, peer_value = peer if peer is not None else (None, None)
    return Figure(value, unit, name, peer_value, ratio, goal, met)


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds of one operation: the median over the rounds.

    Attributes:
        thread: CPU time of the calling thread.
        cpu: CPU time of all threads of the process.
        wall: Time that passed.
    """

    thread: float
    cpu: float
    wall: float


def alternate(variants: Mapping[str, Prepared], rounds: int) -> dict[str, Cost]:
    """Measure variants in turn, round after round, after one round that does not count."""
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, prepare in variants.items():
            with prepare() as work:
                gc.collect()
                thread, cpu, wall = time.thread_time_ns(), time.process_time_ns(), _now()
                done = work()
                spent = (
                    (time.thread_time_ns() - thread) / done,
                    (time.process_time_ns() - cpu) / done,
                    (_now() - wall) / done,
                )
            if number:
                taken[name].append(spent)
    return {
        name: Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))
        for name, costs in taken.items()
    }


_now = time.perf_counter_ns


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the processes it starts, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
