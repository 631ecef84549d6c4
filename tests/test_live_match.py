"""Signals of a live run and its backtest: matched at best, and what came of them."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fillpath.analytics import cli
from fillpath.analytics.signal_matching import match_times
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.errors import EXIT_DIFFERENT, EXIT_OK

TIMES = st.lists(st.integers(0, 40), max_size=9)


def lost(
    ours: list[int], theirs: list[int], pairs: list[tuple[int, int]], window: int
) -> tuple[int, int]:
    """Twice what a matching loses, and how many pairs it lacks."""
    apart = sum(2 * abs(ours[one] - theirs[other]) for one, other in pairs)
    return apart + window * (len(ours) + len(theirs) - 2 * len(pairs)), -len(pairs)


def best_loss(ours: list[int], theirs: list[int], window: int) -> tuple[int, int]:
    """What the best assignment loses, by scipy: whoever is alone is assigned to nobody."""
    from scipy.optimize import linear_sum_assignment

    both = len(ours) + len(theirs)
    many = 1000  # a pair is worth a little more than the same loss without one
    costs = np.zeros((both, both))
    costs[: len(ours), len(theirs) :] = window * many
    costs[len(ours) :, : len(theirs)] = window * many
    for one, time in enumerate(ours):
        for other, their in enumerate(theirs):
            apart = abs(time - their)
            costs[one, other] = 2 * apart * many - 1 if apart <= window else 1e9
    rows, columns = linear_sum_assignment(costs)
    pairs = [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if row < len(ours) and column < len(theirs)
    ]
    return lost(ours, theirs, pairs, window)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(TIMES, TIMES, st.integers(0, 15))
def test_no_assignment_loses_less(ours: list[int], theirs: list[int], window: int) -> None:
    pairs = match_times(ours, theirs, window)
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
    assert all(abs(ours[one] - theirs[other]) <= window for one, other in pairs)
    assert lost(ours, theirs, list(pairs), window) == best_loss(ours, theirs, window)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(TIMES, TIMES, st.integers(0, 15), st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_side_matters(
    ours: list[int], theirs: list[int], window: int, shuffler: random.Random
) -> None:
    pairs = match_times(ours, theirs, window)
    times = sorted((ours[one], theirs[other]) for one, other in pairs)
    mixed, mixed_others = list(ours), list(theirs)
    shuffler.shuffle(mixed)
    shuffler.shuffle(mixed_others)
    again = match_times(mixed, mixed_others, window)
    assert sorted((mixed[one], mixed_others[other]) for one, other in again) == times
    back = match_times(theirs, ours, window)
    assert len(back) == len(pairs)
    assert lost(theirs, ours, list(back), window) == lost(ours, theirs, list(pairs), window)


def test_one_signal_that_is_missing_moves_no_other() -> None:
    bars = list(range(0, 1000, 10))
    pairs = match_times(bars[1:], bars[:-1], 10)
    assert len(pairs) == 98
    assert all(bars[1:][one] == bars[:-1][other] for one, other in pairs)
