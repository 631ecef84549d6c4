"""A stream of trading events as a bar strategy makes them, from real prices, at any length.

Ten symbols and five strategies. Every bar is the root of a chain: BAR, then for each strategy
FEATURES and SIGNAL, and where the signal changes, ORDER, FILL and POSITION. The strategies are
crossings of moving averages, so how often they trade follows from the prices.

The prices are the real bars of five stocks and of EUR/USD that ship in `bokeh_sampledata` and
`gym-anytrading`: blocks of 100 consecutive bars, drawn at random, are put one after another and
their returns scaled from a day (an hour) to a minute. Prices are rounded to the tick. Clocks are
drawn: the time between two events, and how long an event takes, are log-normal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fillpath.instrumentation.semconv import Fill, Order, Position
from fillpath.instrumentation.spool import SLOTS, Field, FieldKind
from real_prices import Doubles, real_bars
from stream_kinds import AVERAGES, SYMBOLS, Kind, kinds_by_sort, price_scale

Integers = NDArray[np.int64]

PORTFOLIO: Final = "fund/desk/book"
START: Final = 1_704_186_000_000_000_000
CLOCK_OFFSET: Final = START
"""What the stream's clock is behind the wall clock."""
MINUTE: Final = 60_000_000_000
_BLOCK: Final = 100
_MICROSECOND: Final = 1000


class Row(NamedTuple):
    """An event of a stream with all that is known of it; parent is 0 at a root."""

    sequence: int
    parent: int
    root: int
    start: int
    end: int
    event_time: int
    kind: Kind
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """Events by column, in the order in which they happened; a decimal number is its mantissa.

    `names` holds, by sequence, attributes that are texts of their own, such as order ids.
    `critical` tells orders, fills, positions, and signals that differ from the one before.
    """

    kinds: list[Kind]
    kind: Integers
    parent: Integers
    root: Integers
    start: Integers
    end: Integers
    event_time: Integers
    numbers: tuple[Doubles, ...]
    critical: NDArray[np.bool_]
    names: dict[int, dict[str, str]]

    def __len__(self) -> int:
        return len(self.kind)

    def rows(self, begin: int = 0, end: int | None = None) -> Iterator[Row]:
        """Give some of the events one by one, by default all."""
        some = slice(begin, end)
        columns = [
            column[some].tolist()
            for column in (self.parent, self.root, self.start, self.end, self.event_time, self.kind)
        ]
        numbers = zip(*(column[some].tolist() for column in self.numbers), strict=True)
        rows = zip(*columns, numbers, strict=True)
        for sequence, (parent, root, start, end_, time, number, values) in enumerate(
            rows, begin + 1
        ):
            kind = self.kinds[number]
            attributes: dict[str, Any] = dict(kind.texts)
            for field, value in zip(kind.fields, values, strict=False):
                attributes[field.key] = _plain(field, value)
            attributes.update(self.names.get(sequence, {}))
            yield Row(sequence, parent, root, start, end_, time, kind, attributes)


def _plain(field: Field, value: float) -> float | int:
    if field.kind == FieldKind.INTEGER:
        return int(value)
    return value / 10**field.scale if field.kind == FieldKind.DECIMAL else value


def make_stream(events: int, seed: int = 7) -> Stream:
    """Make the first so many events of the stream that belongs to a seed."""
    random = np.random.default_rng(seed)
    per_bar = len(SYMBOLS) * (1 + 2 * len(AVERAGES))
    bars = events // per_bar + 2
    paths = _Paths(bars, random)
    sorts = kinds_by_sort()
    kinds = [kind for listed in sorts.values() for kind in listed]
    first = {sort: kinds.index(listed[0]) for sort, listed in sorts.items()}
    changed = paths.signal != np.concatenate(
        [np.zeros((1, *paths.signal.shape[1:]), np.int8), paths.signal[:-1]]
    )

    # Where each event stands: one block of rows for a bar of a symbol, in it one for a strategy.
    of_strategy = 2 + 3 * changed.astype(np.int64)
    of_bar = 1 + of_strategy.sum(axis=2)
    bar = np.concatenate([[0], np.cumsum(of_bar)[:-1]]).reshape(of_bar.shape)
    features = bar[:, :, None] + 1 + np.cumsum(of_strategy, axis=2) - of_strategy
    total = int(of_bar.sum())

    columns = _Columns(total)
    step, symbol, strategy = np.indices(changed.shape)
    bar_of = np.broadcast_to(bar[:, :, None], changed.shape)
    s = np.broadcast_to(np.arange(len(SYMBOLS)), bar.shape)
    columns.put(bar, first["bar"] + s, -1, bar, [*paths.prices, paths.volume])
    cell = symbol * len(AVERAGES) + strategy
    columns.put(
        features, first["features"] + cell, bar_of, bar_of, [paths.momentum, paths.deviation]
    )
    columns.put(
        features + 1,
        first["signal"] + cell,
        features,
        bar_of,
        [paths.signal.astype(float), np.tanh(paths.deviation)],
    )
    at = np.nonzero(changed)
    buys = paths.signal[at] == 1
    place, root, which = features[at], bar_of[at], 2 * cell[at] + ~buys
    close, scale = paths.prices[3][at[:2]], paths.scale[at[1]]
    quantity = np.maximum(1.0, np.rint(10_000 * 10.0**scale / close))
    commission = np.rint(quantity * close / 10.0**scale * 0.0005 * 100)
    columns.put(place + 2, first["order"] + which, place + 1, root, [quantity])
    columns.put(place + 3, first["fill"] + which, place + 2, root, [quantity, close, commission])
    held = np.where(buys, quantity, 0.0)
    columns.put(place + 4, first["position"] + which, place + 3, root, [held, close])

    critical = np.zeros(total, bool)
    critical[(place[:, None] + np.arange(1, 5)).ravel()] = True
    time = np.zeros(total, np.int64)
    blocks = np.repeat(step[:, :, 0].ravel(), of_bar.ravel())
    time[:] = START + MINUTE * blocks
    gap = random.lognormal(np.log(3.0), 0.6, total)
    gap[bar.ravel()] = random.lognormal(np.log(40.0), 0.7, bar.size)
    start = np.cumsum((gap * _MICROSECOND).astype(np.int64)) + 1_000_000_000
    end = start + (random.lognormal(np.log(1.8), 0.5, total) * _MICROSECOND).astype(np.int64)
    cut = slice(0, events)
    kept = place[place + 4 < events]
    return Stream(
        kinds,
        columns.kind[cut],
        columns.parent[cut],
        columns.root[cut],
        start[cut],
        end[cut],
        time[cut],
        tuple(column[cut] for column in columns.numbers),
        critical[cut],
        _names(kept, kinds, columns.kind),
    )


def _names(places: Integers, kinds: list[Kind], kind: Integers) -> dict[int, dict[str, str]]:
    names: dict[int, dict[str, str]] = {}
    for number, place in enumerate(places.tolist(), 1):
        of = kinds[int(kind[place + 2])]
        order = {Order.CLIENT_ID: f"O-20240102-{number:07d}"}
        position = {Position.ID: f"{of.symbol}-{of.strategy}"}
        names[place + 3] = order
        names[place + 4] = {
            **order,
            Order.ID: f"{of.venue}-{number}",
            Fill.ID: f"F-{number}",
            **position,
        }
        names[place + 5] = position
    return names


class _Columns:
    def __init__(self, total: int) -> None:
        self.kind = np.zeros(total, np.int64)
        self.parent = np.zeros(total, np.int64)
        self.root = np.zeros(total, np.int64)
        self.numbers = tuple(np.zeros(total) for _ in range(SLOTS))

    def put(
        self, place: Any, kind: Any, parent_place: Any, root_place: Any, numbers: list[Any]
    ) -> None:
        """Set the events at these places; a sequence is a place and one."""
        self.kind[place] = kind
        self.parent[place] = np.asarray(parent_place) + 1
        self.root[place] = np.asarray(root_place) + 1
        for column, values in zip(self.numbers, numbers, strict=False):
            column[place] = values


class _Paths:
    """Prices of all symbols by bar, and what the strategies make of them."""

    def __init__(self, bars: int, random: np.random.Generator) -> None:
        real = real_bars()
        warm_up = max(slow for _, slow in AVERAGES)
        shape = (bars, len(SYMBOLS), len(AVERAGES))
        self.scale = np.array([price_scale(symbol) for symbol in SYMBOLS])
        self.prices = tuple(np.empty(shape[:2]) for _ in range(4))
        self.volume = np.empty(shape[:2])
        self.momentum, self.deviation = np.empty(shape), np.empty(shape)
        self.signal = np.empty(shape, np.int8)
        for s, symbol in enumerate(SYMBOLS):
            level, series, volume = real[symbol.removesuffix(".X")]
            number = bars + warm_up
            starts = random.integers(0, len(series) - _BLOCK, number // _BLOCK + 1)
            picked = (starts[:, None] + np.arange(_BLOCK)).ravel()[:number]
            returns = series[picked]
            before = np.concatenate([[0.0], np.cumsum(returns[:-1, 3])])
            path = level * np.exp(before[:, None] + returns)
            tick = 10.0 ** self.scale[s]
            mantissas = np.rint(path * tick)
            for target, column in zip(self.prices, mantissas.T, strict=True):
                target[:, s] = column[warm_up:]
            self.volume[:, s] = volume[picked][warm_up:]
            close = mantissas[:, 3] / tick
            sums = np.concatenate([[0.0], np.cumsum(close)])
            squares = np.concatenate([[0.0], np.cumsum(close**2)])
            for k, (fast, slow) in enumerate(AVERAGES):
                quick, slack = _average(sums, fast)[-bars:], _average(sums, slow)[-bars:]
                spread = np.sqrt(np.maximum(_average(squares, slow)[-bars:] - slack**2, 1e-12))
                self.momentum[:, s, k] = quick / slack - 1.0
                self.deviation[:, s, k] = (close[-bars:] - slack) / spread
                self.signal[:, s, k] = quick > slack


def _average(sums: Doubles, bars: int) -> Doubles:
    return (sums[bars:] - sums[:-bars]) / bars
