"""What the readers of OTLP give, whatever form it was written in, and what they complain of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

UNSPECIFIED: Final = "UNSPECIFIED"
SPAN_KINDS: Final = (UNSPECIFIED, "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
"""OTLP's kinds of spans by their numbers."""
STATUS_CODES: Final = ("UNSET", "OK", "ERROR")
"""OTLP's status codes by their numbers."""
_NO_PARENT: Final = bytes(8)


class OtlpDamage(ValueError):
    """Something in a file is not OTLP.

    Args:
        what: What is wrong.
        where: Line or byte of the file, in words.
    """

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what
        self.where = where


@dataclass(slots=True)
class InputLink:
    """A link of a span."""

    trace_id: bytes
    span_id: bytes
    attributes: dict[str, Any]
    trace_state: str = ""


@dataclass(slots=True)
class InputSpan:
    """A span as it was read. Ids are bytes, times nanoseconds since the epoch and 0 if absent."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any]
    trace_state: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    """As the lake has them: name, time_unix_nano and attributes."""
    links: list[InputLink] = field(default_factory=list)
    status_code: str = STATUS_CODES[0]
    status_message: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    """What the SDK cut off: counts of attributes, events and links."""


@dataclass(slots=True)
class InputScope:
    """Spans of one instrumentation scope."""

    name: str | None
    version: str
    attributes: dict[str, Any]
    schema_url: str
    spans: list[InputSpan]


@dataclass(slots=True)
class InputResource:
    """Spans of one resource.

    Attributes:
        malformed: Spans that could not be read, each in words.
    """

    attributes: dict[str, Any]
    schema_url: str
    scopes: list[InputScope]
    malformed: list[str] = field(default_factory=list)


def checked_ids(
    trace_id: bytes, span_id: bytes, parent: bytes
) -> tuple[bytes, bytes, bytes | None]:
    """Check a span's ids; a parent of zeros is none.

    Raises:
        ValueError: They are no ids.
    """
    if len(trace_id) != 16 or not any(trace_id):
        raise ValueError(f"{trace_id.hex() or 'nothing'} is no trace id")
    if len(span_id) != 8 or not any(span_id):
        raise ValueError(f"{span_id.hex() or 'nothing'} is no span id")
    if len(parent) not in {0, 8}:
        raise ValueError(f"{parent.hex()} is no span id of a parent")
    return trace_id, span_id, parent if parent and parent != _NO_PARENT else None
