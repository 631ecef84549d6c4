"""Applies the sampling policy to a run so that every ancestor of a kept event is kept, too.

An ancestor may have ended long before its descendant appears, and may have been left out by then.
It is read again from the spool and brought back, at any distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fillpath.exporters.batch_sampling import BatchSampling
from fillpath.exporters.completeness import Completeness
from fillpath.exporters.event_batch import REASONS, BatchDecision, EndDecision, EventBatch
from fillpath.exporters.other_events import OtherEvents
from fillpath.exporters.record_columns import RecordColumns
from fillpath.exporters.spool_events import RecordedEvent, SpoolEvents
from fillpath.instrumentation.event_sampler import Decision, EventSampler

Kept = tuple[RecordedEvent, Decision]


class CausalSampling:
    """Keeps what the policy keeps, and the ancestors of all that.

    A handler run is kept only as an ancestor, or when it raised.

    Args:
        policy: The policy.
        run_id: The run; its span ids decide about the share that is kept.
        events: Knows the sites.
        read_again: Gives an event that has ended, by its sequence; None when it was dropped.
        completeness: Where events are counted.
    """

    def __init__(
        self,
        policy: EventSampler,
        run_id: str,
        events: SpoolEvents,
        read_again: Callable[[int], RecordedEvent | None],
        completeness: Completeness,
    ) -> None:
        self._batches = BatchSampling(policy, run_id, events.sites, read_again, completeness)
        self._read_again = read_again

    def admit(
        self, columns: RecordColumns, others: OtherEvents
    ) -> tuple[BatchDecision, list[Kept]]:
        """Take the next records of the run; decides on the events that ended in them.

        Args:
            columns: The records, in the order of the spool.
            others: What is known of those that are more than their records.

        Returns:
            The decisions by row, and what is kept of `others` and of earlier batches.

        Raises:
            SpoolError: When a record refers to a site that was not described, or the spool cannot
                be read again.
        """
        decision = self.admit_batch(
            self._batches.table.batch(
                columns.sequence,
                columns.parent,
                columns.root,
                columns.event_time,
                columns.place,
                list(columns.numbers),
                others.attributes,
                others.failed,
            )
        )
        kept = [
            (event, Decision(REASONS[decision.reason[row]], float(decision.probability[row])))
            for row, event in others.ended.items()
            if decision.kept[row]
        ]
        return decision, [*kept, *self._brought_back(decision)]

    def admit_batch(self, batch: EventBatch) -> BatchDecision:
        """Decide on the events that ended in a batch."""
        return self._batches.admit(batch)

    def finish(self, unfinished: Iterable[RecordedEvent]) -> list[Kept]:
        """Decide on the events that never ended, when nothing follows; gives what is kept."""
        decision = self._batches.finish()
        answers = zip(decision.reason.tolist(), decision.probability.tolist(), strict=True)
        by_sequence = dict(zip(decision.sequence.tolist(), answers, strict=True))
        kept = []
        for event in unfinished:
            code, probability = by_sequence.get(event.sequence, (0, 0.0))
            if code:
                kept.append((event, Decision(REASONS[code], probability)))
        return [*kept, *self._brought_back(decision)]

    def _brought_back(self, decision: BatchDecision | EndDecision) -> Iterator[Kept]:
        for sequence, code in zip(
            decision.bring_back.tolist(), decision.bring_back_reason.tolist(), strict=True
        ):
            event = self._read_again(sequence)
            if event is not None:  # it was there, or it would not be brought back
                yield event, Decision(REASONS[code], 1.0)
