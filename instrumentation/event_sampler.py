"""The sampling policy: which events are kept, why, and with what probability.

A policy is a pure value: the same event gets the same answer in every process and on every run, and
no random generator is asked. Where it is applied, every ancestor of a kept event is kept as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple, Self

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.semconv import CRITICAL_EVENT_TYPES
from fillpath.instrumentation.settings import ENV_CRITICAL_KINDS, ENV_SAMPLING_RATE

DEFAULT_RATE: Final = 0.1
"""Share of the events kept that nothing else keeps."""

ALL: Final = "all"
"""Reason: everything is kept, no policy applies."""
CRITICAL: Final = "critical"
"""Reason: its kind, an attribute of it, or a handler's error makes it critical."""
ANCESTOR: Final = "ancestor"
"""Reason: an event that is kept descends from it."""
CONTEXT: Final = "context"
"""Reason: its parent is kept."""
RANDOM: Final = "random"
"""Reason: its id fell within the rate."""

Operator = Literal["==", "!=", ">", ">=", "<", "<=", "exists"]
_OPERATORS: Final = ("==", "!=", ">", ">=", "<", "<=", "exists")
_SPAN: Final = 1 << 64


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
class CriticalWhen:
    """Makes an event critical by one of its attributes, such as a signal that is not zero.

    Numbers compare by value whatever their type; anything else compares by its text, and only
    with ``==`` and ``!=``. An event without the attribute is not critical by it.

    Args:
        attribute: Key of the attribute.
        operator: One of ``== != > >= < <= exists``.
        value: What to compare with.
        event_type: Kind of event it applies to; None means any.

    Raises:
        UsageError: When the operator is unknown.
    """

    attribute: str
    operator: Operator = "exists"
    value: str | int | float | bool | None = None
    event_type: str | None = None

    def __post_init__(self) -> None:
        if self.operator not in _OPERATORS:
            raise UsageError(
                f"{self.operator!r} is no operator of the sampling policy.",
                next_command=f"use one of {' '.join(_OPERATORS)}",
            )

    def holds(self, event_type: str, attributes: Mapping[str, Any]) -> bool:
        """Tell whether an event with these attributes is critical by this."""
        if self.event_type not in (None, event_type) or attributes.get(self.attribute) is None:
            return False
        if self.operator == "exists":
            return True
        actual, wanted = attributes[self.attribute], self.value
        left, right = _number(actual), _number(wanted)
        if left is None or right is None:
            same = str(actual) == str(wanted)
            return same if self.operator == "==" else not same and self.operator == "!="
        return {
            "==": left == right,
            "!=": left != right,
            ">": left > right,
            ">=": left >= right,
            "<": left < right,
            "<=": left <= right,
        }[self.operator]


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


@dataclass(frozen=True, slots=True)
class EventSampler:
    """The policy.

    Args:
        critical_kinds: Event types that are always kept.
        rate: Probability in [0, 1] with which any other event is kept.
        critical_when: Further conditions that make an event critical.

    Raises:
        UsageError: When the rate is not a number from 0 to 1.
    """

    critical_kinds: frozenset[str] = CRITICAL_EVENT_TYPES
    rate: float = DEFAULT_RATE
    critical_when: tuple[CriticalWhen, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:  # NaN is neither
            raise UsageError(
                f"The sampling rate is {self.rate}; it must be a number from 0 to 1.",
                next_command=f"{ENV_SAMPLING_RATE}={DEFAULT_RATE}",
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the policy from ``FILLPATH_SAMPLING_RATE`` and ``FILLPATH_CRITICAL_KINDS``.

        Raises:
            UsageError: When the rate is not a number from 0 to 1.
        """
        given = os.environ if environ is None else environ
        kinds = CRITICAL_EVENT_TYPES
        if (listed := given.get(ENV_CRITICAL_KINDS)) is not None and listed.strip():
            kinds = frozenset(kind.strip() for kind in listed.split(",") if kind.strip())
        rate = (given.get(ENV_SAMPLING_RATE) or "").strip()
        return cls(kinds, parse_rate(rate) if rate else DEFAULT_RATE)

    def is_critical(self, event_type: str, attributes: Mapping[str, Any] | None = None) -> bool:
        """Tell whether an event is never dropped."""
        if event_type in self.critical_kinds:
            return True
        return bool(attributes) and any(
            condition.holds(event_type, attributes or {}) for condition in self.critical_when
        )

    def decide(
        self, event_type: str, event_id: int, attributes: Mapping[str, Any] | None = None
    ) -> Decision:
        """Decide on one event by itself; its descendants may still bring it back.

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
        kept = _spread(event_id) < int(self.rate * _SPAN)
        return Decision(RANDOM if kept else None, self.rate)

    def to_dict(self) -> dict[str, Any]:
        """Give the policy as plain data, to be stored with a run."""
        return {
            "rate": self.rate,
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


def _spread(event_id: int) -> int:
    """Scatter an id over 64 bits: ids of other systems may be counters or share their low half."""
    data = event_id.to_bytes((event_id.bit_length() + 7) // 8 or 1, "big")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"fillpath-rate").digest())
