"""Applies the sampling policy to batches of records, with every ancestor of what is kept.

Events are judged in the order in which they are recorded, a parent before its children. An event
that goes on beyond the batch is decided on when it ends; whatever wants it meanwhile keeps it. One
that has ended in an earlier batch and was left out there is brought back.

If several things keep an event, its reason is the one that came first: its own, then by the record
that gave rise to it; an ancestor rather than a neighbour of the same one. So the answers are the
same wherever batches end. A handler's error makes an event critical whatever kept it before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fillpath.exporters.batch_activity import grown
from fillpath.exporters.batch_judge import BatchJudge, Judgement
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.earlier_events import NEVER, EarlierEvents
from fillpath.exporters.event_batch import CODE_OF, BatchDecision, Codes, EndDecision, EventBatch
from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.exporters.sequence_memory import Lookup
from fillpath.exporters.site_table import SiteTable
from fillpath.exporters.spool_events import RecordedEvent
from fillpath.instrumentation.event_sampler import ANCESTOR, CONTEXT, CRITICAL, EventSampler
from fillpath.instrumentation.spool import Site

_BEFORE = -1
"""Trigger of what is kept since an earlier batch."""


class _Events(NamedTuple):
    """Events that a batch can decide on: those open from before, then those that begin in it."""

    sequence: Integers
    parent: Integers
    site: Integers
    reason: Codes
    probability: Doubles

    def only(self, rows: Booleans) -> _Events:
        return _Events(
            self.sequence[rows],
            self.parent[rows],
            self.site[rows],
            self.reason[rows],
            self.probability[rows],
        )


class BatchSampling:
    """Samples one run.

    Args:
        policy: The policy.
        run_id: The run; its span ids decide about the share that is kept.
        sites: Sites of the run by number; may grow.
        read_again: Gives an event that has ended, by its sequence; None when it was dropped.
        completeness: Where events are counted.
    """

    def __init__(
        self,
        policy: EventSampler,
        run_id: str,
        sites: Mapping[int, Site],
        read_again: Callable[[int], RecordedEvent | None],
        completeness: Completeness,
    ) -> None:
        self.table = SiteTable(policy, sites)
        self._judge = BatchJudge(policy, run_id, self.table)
        self._earlier = EarlierEvents(read_again)
        self._completeness = completeness
        self._open = _nothing()
        self._last_priced = np.zeros(0, np.int64)
        """Sequence of the newest price of each instrument: what its positions are worth."""

    def admit(self, batch: EventBatch) -> BatchDecision:
        """Take the next records of the run; decides on the events that ended in them.

        Raises:
            SpoolError: When the spool cannot be read again.
        """
        begin, end = np.flatnonzero(~batch.ends), np.flatnonzero(batch.ends)
        known = Lookup(np.concatenate([self._open.sequence, batch.sequence[begin]]))
        ended = known.places(batch.sequence[end])
        end, ended = end[ended >= 0], ended[ended >= 0]  # others began unrecorded
        sites = np.concatenate([self._open.site, batch.site[begin]])
        failed = batch.error[end]
        judged = self._judge.judge(batch, end[failed], sites[ended[failed]])
        events = _Events(
            known.numbers,
            np.concatenate([self._open.parent, batch.parent[begin]]),
            sites,
            np.concatenate([self._open.reason, judged.reason[begin]]),
            np.concatenate([self._open.probability, judged.probability[begin]]),
        )
        self._close(events, known, begin, judged, ended[failed], end[failed])

        rows = np.full(len(sites), -1)
        whole = ~batch.begins[begin]
        rows[len(self._open.sequence) :][whole] = begin[whole]
        rows[ended] = end
        over = rows >= 0
        kept = over & (events.reason != 0)
        decision = BatchDecision(
            np.zeros(len(batch), np.bool_),
            np.zeros(len(batch), np.uint8),
            np.zeros(len(batch)),
            *self._bring_back(),
        )
        decision.kept[rows[kept]] = True
        decision.reason[rows[kept]] = events.reason[kept]
        decision.probability[rows[over]] = events.probability[over]

        self._note_prices(batch)
        self._earlier.settle(events.sequence[kept])
        self._earlier.note(events.sequence, events.parent, events.site)
        self._count(events.site[kept], events.site[over & ~kept])
        self._open = events.only(~over)
        return decision

    def finish(self) -> EndDecision:
        """Decide on the events that never ended, when nothing follows.

        The newest price of each instrument is kept, as its end's neighbour: without it nobody
        could say what the positions that are left are worth.
        """
        events = self._open
        prices = [(sequence, 0) for sequence in self._last_priced.tolist() if sequence]
        none = np.empty(0, np.int64)
        judged = Judgement(np.empty(0, np.uint8), np.empty(0), none, prices)
        self._close(events, Lookup(events.sequence), none, judged, none, none)
        self._open = _nothing()
        kept = events.reason != 0
        self._earlier.settle(events.sequence[kept])
        self._count(events.site[kept], events.site[~kept])
        order = np.argsort(events.sequence)
        return EndDecision(
            events.sequence[order],
            events.reason[order],
            events.probability[order],
            *self._bring_back(),
        )

    def _note_prices(self, batch: EventBatch) -> None:
        rows = np.flatnonzero(np.isfinite(batch.value))
        self._last_priced = grown(self._last_priced, len(self.table.instruments), 0)
        instruments = self.table.instrument[batch.site[rows]]
        np.maximum.at(self._last_priced, instruments, batch.sequence[rows])

    def _close(
        self,
        events: _Events,
        known: Lookup,
        begin: Integers,
        judged: Judgement,
        failed: Integers,
        failed_rows: Integers,
    ) -> None:
        """Find what is kept because of other events; completes `events`, brings earlier ones back.

        What is kept is followed by the row that gave rise to it, its trigger, because the first
        one gives the reason.
        """
        number = len(self._open.sequence)
        context = np.full(len(events.sequence), NEVER)
        context[number:] = judged.wanted_by[begin]
        trigger = np.full(len(events.sequence), NEVER)
        trigger[number:] = np.where(events.reason[number:] != 0, begin, NEVER)
        trigger[:number][events.reason[:number] != 0] = _BEFORE
        trigger[failed] = np.minimum(trigger[failed], failed_rows)
        ancestor = np.full(len(events.sequence), NEVER)
        pending: list[tuple[int, int]] = []  # parents beyond the batch, and their triggers
        for sequence, row in judged.earlier:
            (place,) = known.places(np.array([sequence])).tolist()
            if place >= 0:
                context[place] = min(int(context[place]), row)
            elif parent := self._earlier.want_as_neighbour(sequence, row):
                pending.append((parent, row))
        np.minimum(trigger, context, out=trigger)
        parents = known.places(events.parent)
        new = np.flatnonzero((trigger != NEVER) & (trigger != _BEFORE))
        while len(new) or pending:
            beyond = new[(parents[new] < 0) & (events.parent[new] > 0)]
            beyond = beyond[self._earlier.unsettled(events.parent[beyond])]
            pending += zip(events.parent[beyond].tolist(), trigger[beyond].tolist(), strict=True)
            child = new[parents[new] >= 0]
            into, by = parents[child], trigger[child]
            if pending:
                reached = list(self._earlier.climb(pending, known))
                pending = []
                into = np.append(into, [place for place, _ in reached]).astype(np.int64)
                by = np.append(by, [row for _, row in reached]).astype(np.int64)
            before = trigger[into]
            np.minimum.at(ancestor, into, by)
            trigger[into] = np.minimum(before, ancestor[into])
            new = np.unique(into[trigger[into] < before])
        by_others = (events.reason == 0) & (trigger != NEVER)
        codes = np.where(ancestor <= context, CODE_OF[ANCESTOR], CODE_OF[CONTEXT])
        events.reason[by_others] = codes[by_others]
        events.probability[by_others] = 1.0
        events.reason[failed] = CODE_OF[CRITICAL]
        events.probability[failed] = 1.0

    def _bring_back(self) -> tuple[Integers, Codes]:
        """Give the sequences of what is brought back, and the codes of the reasons."""
        sequences, codes, sites = self._earlier.bring_back()
        self._count_sites(sites, self._completeness.brought_back)
        return sequences, codes

    def _count(self, kept: Integers, left_out: Integers) -> None:
        self._count_sites(kept, self._completeness.kept)
        self._count_sites(left_out, self._completeness.sampled_out)

    def _count_sites(self, sites: Integers, count: Callable[[str, str, int], None]) -> None:
        """Count events, and no runs of handlers, by their sites."""
        self.table.learn(sites)
        numbers = np.bincount(sites[self.table.publish[sites]])
        for place in np.flatnonzero(numbers).tolist():
            site = self.table.site(place)
            count(site.portfolio, site.event_type, int(numbers[place]))


def _nothing() -> _Events:
    none = np.empty(0, np.int64)
    return _Events(none, none, none, np.empty(0, np.uint8), np.empty(0))
