"""The headers of OTLP requests: read as OpenTelemetry writes them, and kept secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from fillpath.instrumentation.errors import UsageError

HIDDEN = "***"
"""What is shown in place of a header's value."""

# A token of RFC 9110, in lower case.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_GRPC_NAME = re.compile(r"[0-9a-z_.\-]+")
# Printable ASCII. A line break, which a value may hold percent-encoded, would start another header.
_VALUE = re.compile(r"[\x20-\x7e]*")
# As OpenTelemetry's own parser has it: a value that is not percent-encoded may hold spaces.
_ENTRY_NAME = re.compile(r"[\x21\x23-\x27\x2a\x2b\x2d\x2e\x30-\x39\x41-\x5a\x5e-\x7a\x7c\x7e]+")
_ENCODED = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_WITH_SPACES = re.compile(r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_OURS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
# A shorter text says too little to be told from the words of an answer.
_SHORTEST_SECRET = 4


class SecretHeaders(Mapping[str, str]):
    """Headers by their names in lower case. Printed, it shows the names alone."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"SecretHeaders({dict.fromkeys(self._values, HIDDEN)})"

    def __reduce__(self) -> tuple[type[SecretHeaders], tuple[dict[str, str]]]:
        return SecretHeaders, (self._values,)

    def hide_in(self, text: str) -> str:
        """Take the values, and their parts such as the token behind `Bearer`, out of a text."""
        parts = {part for value in self._values.values() for part in (value, *value.split())}
        for part in sorted(parts, key=len, reverse=True):
            if len(part) >= _SHORTEST_SECRET and part.lower() not in {"basic", "bearer"}:
                text = text.replace(part, HIDDEN)
        return text


def parse_headers(text: str, variable: str, *, grpc: bool) -> SecretHeaders:
    """Read `name=value,name=value`, the values percent-encoded.

    What OpenTelemetry's own parser takes means the same here. What it leaves out with a warning
    (that shows the value) is an error here.

    Args:
        text: The variable's value.
        variable: Its name, for messages.
        grpc: Whether the headers are for gRPC, which allows fewer characters in names.

    Raises:
        UsageError: When an entry is no header. The message has its place, never its text.
    """
    found: dict[str, str] = {}
    for place, entry in enumerate(re.split(r"[ \t]*,[ \t]*", text), 1):
        if not entry.strip():
            continue
        raw_name, equals, raw_value = (part.strip(" \t") for part in entry.strip().partition("="))
        name, value = raw_name.lower(), raw_value
        if _ENCODED.fullmatch(raw_value):
            name, value = unquote(raw_name).strip().lower(), unquote(raw_value).strip()
        if not (equals and _ENTRY_NAME.fullmatch(raw_name) and _WITH_SPACES.fullmatch(raw_value)):
            problem = "is not of the form name=value with a percent-encoded value"
        elif not (_GRPC_NAME if grpc else _NAME).fullmatch(name):
            problem = "has a name that no header can have"
        elif name in _OURS or (grpc and name.startswith("grpc-")):
            problem = f"sets {name}, which is fillpath's to set"
        elif not _VALUE.fullmatch(value):
            problem = "has a value with characters that are not printable ASCII"
        else:
            found[name] = value
            continue
        raise UsageError(
            f"Entry {place} of {variable} {problem}.",
            next_command=f"export {variable}='authorization=Bearer%20TOKEN,tenant=NAME'",
        )
    return SecretHeaders(found)
