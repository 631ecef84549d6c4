"""What the sampling policy needs to know of a run's sites, as arrays by the number of the site."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from fillpath.exporters.event_batch import EventBatch, row_attributes
from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.instrumentation.errors import SpoolError
from fillpath.instrumentation.event_activity import kind_weight
from fillpath.instrumentation.event_sampler import EventSampler
from fillpath.instrumentation.sampling_stream import PRICE_KEYS, price_of, signal_name
from fillpath.instrumentation.semconv import PUBLISH, EventType, Resource, Signal, Trading
from fillpath.instrumentation.signal_meaning import UNTOLD, meaning_of, signal_meaning
from fillpath.instrumentation.spool import FLAGS_SHIFT, FieldKind, Flag, Site

_NO_SLOT: Final = -1
_SIGNAL_KEYS: Final = (Signal.VALUE, Signal.STRENGTH)


class _Numbers:
    """Numbers things as they come, from 0."""

    def __init__(self) -> None:
        self._number_of: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._number_of)

    def __getitem__(self, thing: Hashable) -> int:
        return self._number_of.setdefault(thing, len(self._number_of))


class SiteTable:
    """Learns sites as they appear.

    Args:
        policy: The policy.
        sites: Sites of the run by number; may grow.
    """

    def __init__(self, policy: EventSampler, sites: Mapping[int, Site]) -> None:
        self._policy = policy
        self._sites = sites
        self.markets = _Numbers()
        self.instruments = _Numbers()
        self.series = _Numbers()
        self.signals = _Numbers()
        self._known = np.zeros(1, np.bool_)
        self.publish = np.zeros(1, np.bool_)
        self.critical = np.zeros(1, np.bool_)
        """Whether the kind is critical, and no signal: of those it depends on what they say."""
        self.signal = np.zeros(1, np.bool_)
        """Whether it is a signal whose change is critical."""
        self.market = np.zeros(1, np.int64)
        self.has_symbol = np.zeros(1, np.bool_)
        self.instrument = np.zeros(1, np.int64)
        self.series_of = np.zeros(1, np.int64)
        self.signal_of = np.zeros(1, np.int64)
        self.weight = np.zeros(1, np.float64)
        self._price_slot = np.full((1, 2), _NO_SLOT, np.int64)
        self._signal_slot = np.full((1, 2), _NO_SLOT, np.int64)
        self._divisor = np.ones((1, 4), np.float64)
        """What the numbers in the four slots above are divided by."""
        self._constant_signal = np.full(1, UNTOLD, np.int64)

    def site(self, number: int) -> Site:
        """Give a site.

        Raises:
            SpoolError: When the spool does not describe it.
        """
        try:
            return self._sites[number]
        except KeyError:
            raise SpoolError(
                f"The spool is damaged: a record refers to site {number}, which it does not "
                f"describe."
            ) from None

    def learn(self, numbers: Integers) -> None:
        """Make sure that these sites are in the arrays."""
        if not len(numbers):
            return
        self._grow(self.site(int(numbers.max())).number + 1)
        for number in np.unique(numbers[~self._known[numbers]]).tolist():
            self._learn(self.site(number))
            self._known[number] = True

    def _grow(self, size: int) -> None:
        have = len(self._known)
        if size <= have:
            return
        more = max(size, 2 * have) - have
        for name, array in list(vars(self).items()):
            if isinstance(array, np.ndarray):
                fill = np.repeat(array[:1], more, axis=0)  # row 0 stands for no site
                setattr(self, name, np.concatenate([array, fill]))

    def _learn(self, site: Site) -> None:
        place, kind = site.number, site.event_type
        critical = site.operation == PUBLISH and kind in self._policy.critical_kinds
        self.publish[place] = site.operation == PUBLISH
        self.signal[place] = critical and kind == EventType.SIGNAL
        self.critical[place] = critical and kind != EventType.SIGNAL
        self.market[place] = self.markets[site.portfolio, site.symbol]
        self.has_symbol[place] = site.symbol is not None
        self.instrument[place] = self.instruments[site.portfolio, site.symbol, site.venue]
        self.series_of[place] = self.series[kind, site.portfolio, site.symbol, site.strategy]
        self.weight[place] = kind_weight(kind)
        texts = dict(site.texts)
        self.signal_of[place] = self.signal_key(site, texts.get(Signal.NAME))
        slots = {field.key: number for number, field in enumerate(site.fields)}
        for keys, columns, first in (
            (PRICE_KEYS.get(kind, ()), self._price_slot, 0),
            (_SIGNAL_KEYS if kind == EventType.SIGNAL else (), self._signal_slot, 2),
        ):
            for column, key in enumerate(keys):
                slot = columns[place, column] = slots.get(key, _NO_SLOT)
                if slot != _NO_SLOT and site.fields[slot].kind == FieldKind.DECIMAL:
                    self._divisor[place, first + column] = 10.0 ** site.fields[slot].scale
        for column, key in enumerate(_SIGNAL_KEYS):
            if key in texts and kind == EventType.SIGNAL:
                self._constant_signal[place] = meaning_of(texts[key])
                self._signal_slot[place, column + 1 :] = _NO_SLOT
                break

    def signal_key(self, site: Site, name: object) -> int:
        """Number of the signals of a place and a name."""
        return self.signals[site.portfolio, site.symbol, site.strategy, signal_name(name)]

    def known_by_site(self, number: int) -> dict[str, Any]:
        """Attributes that all events of a site have by their place."""
        site = self.site(number)
        return {
            Resource.PORTFOLIO: site.portfolio,
            Trading.STRATEGY: site.strategy,
            Trading.SYMBOL: site.symbol,
            Trading.VENUE: site.venue,
        }

    def batch(
        self,
        sequence: Integers,
        parent: Integers,
        root: Integers,
        event_time: Integers,
        place: Integers,
        numbers: Sequence[Doubles],
        sides: Mapping[int, Mapping[str, Any]] | None = None,
        failed: Sequence[int] = (),
    ) -> EventBatch:
        """Make a batch of the columns of EVENTS blocks.

        Args:
            sequence: The column of this name, as 64-bit integers.
            parent: The same.
            root: The same.
            event_time: The same.
            place: The same.
            numbers: The columns of numbers.
            sides: Attributes of side records by row.
            failed: Rows with an error in their side record, should the flag be missing.

        Raises:
            SpoolError: When a site is not described.
        """
        sides = sides or {}
        flags = place >> FLAGS_SHIFT
        site = place & 0xFFFFFFFF
        ends = (flags & Flag.FINISH) != 0
        error = (flags & Flag.ERROR) != 0
        error[list(failed)] = True
        self.learn(site[~ends])
        site = np.where(ends, 0, site)
        price = np.full(len(site), np.nan)
        self._fill(price, self._price_slot, 0, site, flags, numbers)
        said = np.full(len(site), np.nan)
        told = self._fill(said, self._signal_slot, 2, site, flags, numbers)
        meaning = self._constant_signal[site]
        meaning[told] = meanings_of_numbers(said[told])

        def attributes(row: int) -> dict[str, Any]:
            values = [float(column[row]) for column in numbers]
            own = self.site(int(site[row]))
            return row_attributes(own, int(flags[row]), values, sides.get(row))

        names: dict[int, str] = {}
        for row in sides:
            kind = "" if ends[row] else self.site(int(site[row])).event_type
            if kind in PRICE_KEYS:
                price[row] = price_of(kind, attributes(row))
            elif kind == EventType.SIGNAL:
                held = attributes(row)
                meaning[row] = signal_meaning(held)
                names[row] = signal_name(held.get(Signal.NAME))
        return EventBatch(
            sequence, parent, root, site, event_time, error, price, self.publish[site],
            (flags & Flag.BEGIN) != 0, ends, meaning, names, attributes,
        )  # fmt: skip

    def _fill(
        self,
        target: Doubles,
        slots: Integers,
        first: int,
        site: Integers,
        flags: Integers,
        numbers: Sequence[Doubles],
    ) -> Booleans:
        """Fill in the numbers of the first slot that is there; tells where there was one."""
        filled = np.zeros(len(site), np.bool_)
        for column in (1, 0):
            slot_of = slots[site, column]
            for slot, values in enumerate(numbers):
                rows = np.flatnonzero((slot_of == slot) & (flags & (Flag.ABSENT << slot) == 0))
                if len(rows):
                    target[rows] = values[rows] / self._divisor[site[rows], first + column]
                    filled[rows] = True
        return filled


def meanings_of_numbers(values: Doubles) -> Integers:
    """Do what `meaning_of_number` does, to an array."""
    bits = np.ascontiguousarray(values).view(np.int64).copy()
    bits[(values == 0.0) | np.isnan(values)] = 0
    return bits
