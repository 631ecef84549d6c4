"""A condition on an event's attributes that makes it critical for the sampling policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from fillpath.instrumentation.errors import UsageError

Operator = Literal["==", "!=", ">", ">=", "<", "<=", "exists"]
_OPERATORS: Final = ("==", "!=", ">", ">=", "<", "<=", "exists")


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
        left, right = number_of(actual), number_of(wanted)
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


def number_of(value: Any) -> Decimal | None:
    """The finite number that a value is or spells; None when it is none, or true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
