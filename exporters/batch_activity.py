"""Activity scores of a whole batch: what `SeriesActivity` reckons for one event, for thousands.

The operations on doubles and their order are the same, so the scores are the same to the last bit,
and they do not depend on where a batch begins and ends.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fillpath.exporters.event_batch import EventBatch
from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.exporters.site_table import SiteTable
from fillpath.instrumentation.event_activity import (
    BURST_SHARE,
    FARTHEST,
    GAIN,
    GAP_SHARE,
    LONG,
    MOVE_SHARE,
    SHORT,
    TIMES_LONGER,
    TIMES_MORE,
)
from fillpath.instrumentation.spool import NO_TIME


class Groups(NamedTuple):
    """Rows of equal keys, one after another in their order.

    Attributes:
        order: Rows so that equal keys lie together.
        keys: The key of each group.
        starts: Where each group begins in `order`.
        number: For each place in `order`, the number of its group.
    """

    order: Integers
    keys: Integers
    starts: Integers
    number: Integers

    @classmethod
    def of(cls, keys: Integers) -> Groups:
        """Group rows by their keys."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.ones(len(keys), np.bool_)
        new[1:] = ordered[1:] != ordered[:-1]
        starts = np.flatnonzero(new)
        return cls(order, ordered[starts], starts, np.cumsum(new) - 1)

    @property
    def ends(self) -> Integers:
        """Where the last row of each group stands in `order`."""
        return np.append(self.starts[1:], len(self.order)) - 1


class BatchActivity:
    """Gives the events of a run their scores, batch by batch.

    Args:
        table: The sites.
    """

    def __init__(self, table: SiteTable) -> None:
        self._table = table
        self._times = np.empty((0, LONG), np.int64)
        """The newest times of each series."""
        self._prices = np.empty((0, SHORT + 1), np.float64)
        self._moves = np.empty(0, np.float64)
        """The newest move of each market."""

    def scores(self, batch: EventBatch, publish: Booleans, markets: Groups) -> Doubles:
        """Score every event that the batch begins with; 0 for other records.

        Args:
            batch: The batch.
            publish: Which records begin or are an event.
            markets: All records by their market.
        """
        table = self._table
        self._times = grown(self._times, len(table.series), NO_TIME)
        self._prices = grown(self._prices, len(table.series), np.nan)
        self._moves = grown(self._moves, len(table.markets), 0.0)
        rows = np.flatnonzero(publish)
        tempo = np.zeros(len(batch))
        own_move = np.full(len(batch), np.nan)
        if len(rows):
            series = table.series_of[batch.site[rows]]
            tempo[rows] = self._tempo(series, batch.event_time[rows])
            priced = np.isfinite(batch.value[rows])
            rows = rows[priced]
            if len(rows):
                own_move[rows] = self._move(series[priced], batch.value[rows])
        move = self._newest(own_move, markets)
        return table.weight[batch.site] * (MOVE_SHARE * move + tempo)

    def _tempo(self, series: Integers, event_time: Integers) -> Doubles:
        known = (event_time <= FARTHEST) & (event_time >= -FARTHEST)
        groups = Groups.of(series)
        times, at = _behind(self._times, groups, np.where(known, event_time, NO_TIME))
        now, last, recent, oldest = (times[at - back] for back in (0, 1, SHORT, LONG))
        told = (now != NO_TIME) & (last != NO_TIME) & (recent != NO_TIME) & (oldest != NO_TIME)
        long = np.where(told, now - oldest, 0)
        usual = np.where(long > 0, long, 1).astype(np.float64)
        short = np.where(told, now - recent, 0)
        divisor = np.where(short > 0, short, 1).astype(np.float64)
        burst = _ramp((usual * SHORT / (divisor * LONG) - 1.0) / TIMES_MORE)
        burst[short <= 0] = 1.0
        since = np.where(told, now - last, 0).astype(np.float64)
        gap = _ramp((since * LONG / usual - 1.0) / TIMES_LONGER)
        tempo = np.empty(len(series))
        tempo[groups.order] = np.where(long > 0, BURST_SHARE * burst + GAP_SHARE * gap, 0.0)
        return tempo

    def _move(self, series: Integers, price: Doubles) -> Doubles:
        groups = Groups.of(series)
        prices, at = _behind(self._prices, groups, price)
        with np.errstate(all="ignore"):  # no price yet, or the first move after a standstill
            steps = np.abs(np.diff(prices, prepend=np.nan))
            sums = steps
            width = 1
            while width < SHORT:
                sums = sums + np.concatenate([np.full(width, np.nan), sums[:-width]])
                width *= 2
            usual = sums[at - 1] / SHORT
            moved = _ramp((steps[at] / usual - 1.0) / TIMES_MORE)
        move = np.empty(len(series))
        move[groups.order] = np.where(np.isnan(moved), 0.0, moved)
        return move

    def _newest(self, own_move: Doubles, markets: Groups) -> Doubles:
        """Give each record the newest move of its market."""
        ordered = own_move[markets.order]
        places = np.where(np.isnan(ordered), -1, np.arange(len(ordered)))
        newest = np.maximum.accumulate(places) if len(places) else places
        here = newest >= markets.starts[markets.number]
        before = self._moves[markets.keys][markets.number]
        moves = np.where(here, ordered[np.maximum(newest, 0)], before)
        self._moves[markets.keys] = moves[markets.ends]
        result = np.empty(len(ordered))
        result[markets.order] = moves
        return result


def probabilities(rate: float, scores: Doubles) -> Doubles:
    """Do what `probability_of` does, to an array."""
    return np.minimum(1.0, rate * (1.0 + GAIN * (scores * scores)))


def _behind(memory: npt.NDArray[Any], groups: Groups, values: Any) -> tuple[Any, Integers]:
    """Put the values of each group behind what is remembered of its key, and remember the newest.

    Returns:
        All these values in one array, and where the group's own ones stand in it.
    """
    deep = memory.shape[1]
    at = np.arange(len(groups.order)) + deep * (groups.number + 1)
    whole = np.empty(len(at) + deep * len(groups.keys), memory.dtype)
    whole[at] = values[groups.order]
    back = np.arange(deep)
    first = groups.starts + deep * np.arange(len(groups.keys))
    whole[first[:, None] + back] = memory[groups.keys]
    memory[groups.keys] = whole[at[groups.ends][:, None] - back[::-1]]
    return whole, at


def _ramp(values: Doubles) -> Doubles:
    return np.minimum(np.maximum(values, 0.0), 1.0)


def grown(array: npt.NDArray[Any], rows: int, fill: Any) -> npt.NDArray[Any]:
    """Make an array long enough; new rows hold `fill`."""
    missing = rows - len(array)
    if missing <= 0:
        return array
    more = np.full((max(missing, len(array)), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, more])
