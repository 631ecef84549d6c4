"""Records of a spool as numpy columns, as the sampling policy takes them, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fillpath.exporters.record_columns import Booleans, Doubles, Integers
from fillpath.instrumentation.event_sampler import ALL, ANCESTOR, CONTEXT, CRITICAL, RANDOM
from fillpath.instrumentation.spool import Site

Codes = npt.NDArray[np.uint8]

REASONS: Final = (None, CRITICAL, CONTEXT, ANCESTOR, RANDOM, ALL)
"""Reasons by their code; code 0 means that the event is not kept."""
CODE_OF: Final = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Records of some EVENTS blocks, one after another, in the order in which they stand there.

    A record is a whole event, the beginning of one or the end of one. `SiteTable.batch` makes a
    batch of the columns of the spool.

    Attributes:
        sequence: Position in the run.
        parent: Sequence of the cause, 0 at a root.
        root: Sequence of the first event of the chain.
        site: Number of the site.
        event_time: Nanoseconds since the epoch; `spool.NO_TIME` if unknown.
        error: Whether a handler raised.
        value: Price of a bar or tick, NaN when there is none.
        is_publish: Whether it is an event and no handler's run.
        begins: Whether the event goes on: a record that ends it follows.
        ends: Whether it is the end of an event that began in an earlier record; of such a record
            only `sequence` and `error` count.
        signal: What a signal says, by `signal_meaning`; `UNTOLD` otherwise.
        signal_names: Names of signals by row, where the site does not give it.
        attributes: Gives the attributes of a row; asked only when the policy has conditions on
            attributes.
    """

    sequence: Integers
    parent: Integers
    root: Integers
    site: Integers
    event_time: Integers
    error: Booleans
    value: Doubles
    is_publish: Booleans
    begins: Booleans
    ends: Booleans
    signal: Integers
    signal_names: Mapping[int, str]
    attributes: Callable[[int], Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True, slots=True)
class BatchDecision:
    """What becomes of the events that ended in a batch.

    Attributes:
        kept: For each record, whether it ended an event that is kept.
        reason: For each record, the code of the reason, see `REASONS`; 0 where not kept.
        probability: For each record, the probability with which an event like this one is kept.
        bring_back: Sequences of events that ended in earlier batches and were left out there, and
            are kept after all; ascending.
        bring_back_reason: Codes of their reasons; the probability is 1.
    """

    kept: Booleans
    reason: Codes
    probability: Doubles
    bring_back: Integers
    bring_back_reason: Codes


@dataclass(frozen=True, slots=True)
class EndDecision:
    """What becomes of the events that never ended, and what the end of a run brings back.

    Attributes:
        sequence: Sequences of the events that never ended, ascending.
        reason: Codes of their reasons, 0 where not kept.
        probability: Probabilities with which events like these are kept.
        bring_back: As in `BatchDecision`.
        bring_back_reason: As in `BatchDecision`.
    """

    sequence: Integers
    reason: Codes
    probability: Doubles
    bring_back: Integers
    bring_back_reason: Codes


def row_attributes(
    site: Site, flags: int, numbers: Sequence[float], side: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Put the attributes of a record together: its site's texts, its numbers, its side record's."""
    return {**site.attributes(tuple(numbers), flags), **(side or {})}
