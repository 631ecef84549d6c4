"""The sampling policy's own answers on a batch: critical, a neighbour of such, or left to chance.

It answers what `SamplingStream` answers on the same events one by one, wherever batches end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fillpath.exporters.batch_activity import BatchActivity, Groups, grown, probabilities
from fillpath.exporters.earlier_events import NEVER
from fillpath.exporters.event_batch import CODE_OF, Codes, EventBatch
from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.exporters.site_table import SiteTable
from fillpath.instrumentation import identity
from fillpath.instrumentation.event_sampler import CONTEXT, CRITICAL, RANDOM, EventSampler
from fillpath.instrumentation.id_share import FACTORS, KEPT_BITS, SALT, SHIFTS, STEP
from fillpath.instrumentation.semconv import Event
from fillpath.instrumentation.signal_meaning import FLAT, UNTOLD


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the policy says of the records of a batch.

    Attributes:
        reason: Code of the reason for which the event is kept by itself; 0 if it is not.
        probability: Probability of that.
        wanted_by: Row of the first critical event that wants the event as a neighbour before it;
            `NEVER` if there is none.
        earlier: Events of earlier batches that are wanted as neighbours: sequence, and row of
            the critical event.
    """

    reason: Codes
    probability: Doubles
    wanted_by: Integers
    earlier: list[tuple[int, int]]


class BatchJudge:
    """Judges the events of one run.

    Args:
        policy: The policy.
        run_id: The run; its span ids decide about chance.
        table: Its sites.
    """

    def __init__(self, policy: EventSampler, run_id: str, table: SiteTable) -> None:
        self._policy = policy
        self._ids = np.uint64(identity.span_id(identity.run_key(run_id), 0))
        self._table = table
        self._activity = BatchActivity(table)
        self._last_signal = np.empty(0, np.int64)
        self._before: dict[int, list[int]] = {}
        """Sequences of the newest events of a market that are not critical."""
        self._after = np.empty(0, np.int64)
        """How many events of a market are still to be kept."""

    def judge(self, batch: EventBatch, failed: Integers, failed_sites: Integers) -> Judgement:
        """Judge a batch.

        Args:
            batch: The batch.
            failed: Rows that end an event with an error.
            failed_sites: Sites of these events.
        """
        table = self._table
        site = batch.site.copy()
        site[failed] = failed_sites
        publish = batch.is_publish & ~batch.ends
        critical = publish & table.critical[site]
        self._judge_signals(batch, np.flatnonzero(publish & table.signal[site]), critical)
        if self._policy.critical_when:
            self._judge_attributes(batch, np.flatnonzero(publish & ~critical), critical)
        critical |= batch.error & ~batch.ends
        light = publish & ~critical
        trigger = critical.copy()
        trigger[failed] = True
        markets = Groups.of(table.market[site])
        probability = probabilities(
            self._policy.rate, self._activity.scores(batch, publish, markets)
        )
        reason = np.where(critical, CODE_OF[CRITICAL], 0).astype(np.uint8)
        rows = np.flatnonzero(light)
        ids = self._ids | batch.sequence[rows].astype(np.uint64)
        chosen = rows[places_of(ids) < probability[rows]]
        reason[chosen] = CODE_OF[RANDOM]
        wanted_by = np.full(len(batch), NEVER)
        earlier: list[tuple[int, int]] = []
        if self._policy.context:
            has_symbol = table.has_symbol[site]
            after = self._neighbours(
                batch, markets, light & has_symbol, trigger & has_symbol, wanted_by, earlier
            )
            reason[after] = CODE_OF[CONTEXT]
        probability[(reason != 0) & (reason != CODE_OF[RANDOM])] = 1.0
        probability[~publish & (reason == 0)] = 0.0
        return Judgement(reason, probability, wanted_by, earlier)

    def _judge_signals(self, batch: EventBatch, rows: Integers, critical: Booleans) -> None:
        """Find the signals that do not say what the last of their place and name said."""
        if not len(rows):
            return
        table = self._table
        keys = table.signal_of[batch.site[rows]]
        if batch.signal_names:
            for place, row in enumerate(rows.tolist()):
                if row in batch.signal_names:
                    own = table.site(int(batch.site[row]))
                    keys[place] = table.signal_key(own, batch.signal_names[row])
        self._last_signal = grown(self._last_signal, len(table.signals), FLAT)
        meaning = batch.signal[rows]
        told = meaning != UNTOLD
        critical[rows[~told]] = True
        rows, keys, meaning = rows[told], keys[told], meaning[told]
        if not len(rows):
            return
        groups = Groups.of(keys)
        ordered = meaning[groups.order]
        before = np.empty_like(ordered)
        before[1:] = ordered[:-1]
        before[groups.starts] = self._last_signal[groups.keys]
        self._last_signal[groups.keys] = ordered[groups.ends]
        critical[rows[groups.order[ordered != before]]] = True

    def _judge_attributes(self, batch: EventBatch, rows: Integers, critical: Booleans) -> None:
        kinds = {condition.event_type for condition in self._policy.critical_when}
        for row in rows.tolist():
            number = int(batch.site[row])
            kind = self._table.site(number).event_type
            if None in kinds or kind in kinds:
                attributes = {
                    Event.TYPE: kind,
                    **self._table.known_by_site(number),
                    **batch.attributes(row),
                }
                critical[row] = self._policy.is_critical_by(kind, attributes)

    def _neighbours(
        self,
        batch: EventBatch,
        markets: Groups,
        light: Booleans,
        trigger: Booleans,
        wanted_by: Integers,
        earlier: list[tuple[int, int]],
    ) -> Integers:
        """Find the events near critical ones; gives the rows of those behind one."""
        context = self._policy.context
        self._after = grown(self._after, len(self._table.markets), 0)
        order, number = markets.order, markets.number
        is_light, is_trigger = light[order], trigger[order]
        if not len(order):
            return order
        count = np.cumsum(is_light)  # neighbours are counted in events that are not critical
        base: Integers = (count - is_light)[markets.starts]
        places = np.arange(len(order))
        last = np.maximum.accumulate(np.where(is_trigger, places, -1))
        here = last >= markets.starts[number]
        left = self._after[markets.keys]
        behind = np.where(
            here, count - count[np.maximum(last, 0)], count - base[number] + context - left[number]
        )
        coming = np.where(is_trigger, places, len(order))
        following = np.minimum.accumulate(coming[::-1])[::-1]
        follows = following <= markets.ends[number]
        following = np.minimum(following, len(order) - 1)
        before = is_light & follows & (count[following] - count < context)
        wanted_by[order[before]] = order[following[before]]

        ends = markets.ends
        self._after[markets.keys] = np.maximum(context - behind[ends], 0)
        self._note(batch, markets, is_light, following, follows, count - is_light, earlier)
        return order[is_light & (behind <= context)]

    def _note(
        self,
        batch: EventBatch,
        markets: Groups,
        is_light: Booleans,
        following: Integers,
        follows: Booleans,
        before: Integers,
        earlier: list[tuple[int, int]],
    ) -> None:
        """Remember the newest events of each market, and name those that are wanted now."""
        context = self._policy.context
        starts, ends, order = markets.starts, markets.ends, markets.order
        for key, start, end in zip(
            markets.keys.tolist(), starts.tolist(), ends.tolist(), strict=True
        ):
            remembered = self._before.get(key, [])
            if follows[start] and remembered:
                found = int(before[following[start]] - before[start])
                row = int(order[following[start]])
                wanted = remembered[-(context - found) :] if found < context else []
                earlier += [(sequence, row) for sequence in wanted]
            fresh = order[start : end + 1][is_light[start : end + 1]][-context:]
            if len(fresh):
                newest = batch.sequence[fresh].tolist()
                self._before[key] = [*remembered, *newest][-context:]


def places_of(ids: npt.NDArray[np.uint64]) -> Doubles:
    """Do what `place_of` does, to an array of 64-bit ids."""
    value = ids ^ np.uint64(SALT)
    value += np.uint64(STEP)
    for factor, shift in zip(FACTORS, SHIFTS[:2], strict=True):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    value ^= value >> np.uint64(SHIFTS[2])
    return (value >> np.uint64(64 - KEPT_BITS)).astype(np.float64) * 2.0**-KEPT_BITS
