"""The sampling policy: which events are kept, why, and with what probability.

A policy is a pure value: the same event gets the same answer in every process and on every run, and
no random generator is asked. What takes the events that went before into account (a signal that
says nothing new, the neighbours of a critical event, how lively the market is) is in
`sampling_stream`. Where the policy is applied, every ancestor of a kept event is kept as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from fillpath.instrumentation.critical_when import CriticalWhen
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.id_share import place_of
from fillpath.instrumentation.semconv import CRITICAL_EVENT_TYPES
from fillpath.instrumentation.settings import (
    ENV_CRITICAL_KINDS,
    ENV_SAMPLING_CONTEXT,
    ENV_SAMPLING_RATE,
)

__all__ = ["CriticalWhen", "Decision", "EventSampler", "by_chance", "parse_rate"]

DEFAULT_RATE: Final = 0.01
"""Share of the events of a quiet market kept that nothing else keeps."""
DEFAULT_CONTEXT: Final = 3
"""Neighbours kept on either side of a critical event."""
MOST_CONTEXT: Final = 10_000

ALL: Final = "all"
"""Reason: everything is kept, no policy applies."""
CRITICAL: Final = "critical"
"""Reason: its kind, an attribute of it, or a handler's error makes it critical."""
ANCESTOR: Final = "ancestor"
"""Reason: an event that is kept descends from it."""
CONTEXT: Final = "context"
"""Reason: a neighbour of it is critical; in the SDK's sampler, its parent is sampled."""
RANDOM: Final = "random"
"""Reason: its id fell within the probability that the rate and the market's activity give."""


class Decision(NamedTuple):
    """What becomes of an event.

    Attributes:
        reason: Why it is kept; None when it is not.
        probability: Probability with which an event like this one is kept, in [0, 1].
    """

    reason: str | None
    probability: float

    @property
    def kept(self) -> bool:
        """Whether the event is kept."""
        return self.reason is not None


KEEP_ALL: Final = Decision(ALL, 1.0)
"""The answer where no policy applies."""
KEEP_CRITICAL: Final = Decision(CRITICAL, 1.0)
KEEP_ANCESTOR: Final = Decision(ANCESTOR, 1.0)
KEEP_CONTEXT: Final = Decision(CONTEXT, 1.0)
SAMPLED_OUT: Final = Decision(None, 0.0)


@dataclass(frozen=True, slots=True)
class EventSampler:
    """The policy.

    Args:
        critical_kinds: Event types that are always kept; of signals, those that change something.
        rate: Probability in [0, 1] with which any other event of a quiet market is kept; it rises
            with the market's activity.
        critical_when: Further conditions that make an event critical.
        context: How many other events are kept before and after a critical one, in its portfolio
            and symbol.

    Raises:
        UsageError: When the rate is not a number from 0 to 1, or the context no small number.
    """

    critical_kinds: frozenset[str] = CRITICAL_EVENT_TYPES
    rate: float = DEFAULT_RATE
    critical_when: tuple[CriticalWhen, ...] = ()
    context: int = DEFAULT_CONTEXT

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:  # NaN is neither
            raise UsageError(
                f"The sampling rate is {self.rate}; it must be a number from 0 to 1.",
                next_command=f"{ENV_SAMPLING_RATE}={DEFAULT_RATE}",
            )
        if not 0 <= self.context <= MOST_CONTEXT:
            raise UsageError(
                f"The sampling context is {self.context}; it must be a number of events from 0 to "
                f"{MOST_CONTEXT}.",
                next_command=f"{ENV_SAMPLING_CONTEXT}={DEFAULT_CONTEXT}",
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the policy from the environment.

        ``FILLPATH_SAMPLING_RATE``, ``FILLPATH_CRITICAL_KINDS`` and ``FILLPATH_SAMPLING_CONTEXT``.

        Raises:
            UsageError: When the rate is not a number from 0 to 1, or the context no small number.
        """
        given = os.environ if environ is None else environ
        kinds = CRITICAL_EVENT_TYPES
        if (listed := given.get(ENV_CRITICAL_KINDS)) is not None and listed.strip():
            kinds = frozenset(kind.strip() for kind in listed.split(",") if kind.strip())
        rate = (given.get(ENV_SAMPLING_RATE) or "").strip()
        context = (given.get(ENV_SAMPLING_CONTEXT) or "").strip()
        return cls(
            kinds,
            parse_rate(rate) if rate else DEFAULT_RATE,
            context=_parse_context(context) if context else DEFAULT_CONTEXT,
        )

    def is_critical(self, event_type: str, attributes: Mapping[str, Any] | None = None) -> bool:
        """Tell whether an event is never dropped, a signal being one that changes something."""
        return event_type in self.critical_kinds or self.is_critical_by(event_type, attributes)

    def is_critical_by(self, event_type: str, attributes: Mapping[str, Any] | None) -> bool:
        """Tell whether a further condition makes an event critical."""
        return bool(attributes) and any(
            condition.holds(event_type, attributes or {}) for condition in self.critical_when
        )

    def decide(
        self, event_type: str, event_id: int, attributes: Mapping[str, Any] | None = None
    ) -> Decision:
        """Decide on one event by itself, in a quiet market; others may still bring it back.

        Args:
            event_type: Its kind.
            event_id: Its span id, or its trace id where whole traces are to stay together; it need
                not be random.
            attributes: By semantic-convention key.
        """
        if self.is_critical(event_type, attributes):
            return KEEP_CRITICAL
        return self.decide_by_rate(event_id)

    def decide_by_rate(self, event_id: int) -> Decision:
        """Decide by the rate alone. What is kept at a rate is kept at every higher one."""
        return by_chance(event_id, self.rate)

    def to_dict(self) -> dict[str, Any]:
        """Give the policy as plain data, to be stored with a run."""
        return {
            "rate": self.rate,
            "context": self.context,
            "critical_kinds": sorted(self.critical_kinds),
            "critical_when": [
                {
                    "attribute": condition.attribute,
                    "operator": condition.operator,
                    "value": condition.value,
                    "event_type": condition.event_type,
                }
                for condition in self.critical_when
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Undo `to_dict`; absent parts take their defaults.

        Raises:
            UsageError: When a part is not one that `to_dict` can give.
        """
        try:
            return cls(
                frozenset(data.get("critical_kinds", CRITICAL_EVENT_TYPES)),
                float(data.get("rate", DEFAULT_RATE)),
                tuple(CriticalWhen(**condition) for condition in data.get("critical_when", ())),
                int(data.get("context", DEFAULT_CONTEXT)),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"This is no sampling policy: {data!r} ({error}).") from error


def parse_rate(text: str) -> float:
    """Read a sampling rate.

    Raises:
        UsageError: When it is not a number; `EventSampler` checks its range.
    """
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"The sampling rate is {text!r}; it must be a number from 0 to 1.",
            next_command=f"{ENV_SAMPLING_RATE}={DEFAULT_RATE}",
        ) from None


def by_chance(event_id: int, probability: float) -> Decision:
    """Decide by where an id falls. What is kept with a probability is kept with a higher one."""
    kept = place_of(event_id) < probability
    return Decision(RANDOM if kept else None, probability)


def _parse_context(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"The sampling context is {text!r}; it must be a number of events.",
            next_command=f"{ENV_SAMPLING_CONTEXT}={DEFAULT_CONTEXT}",
        ) from None
