"""Identity that exists from the moment of recording.

A trace id is the run's key (88 bits) and the sequence of the chain's root (40 bits); a span id is
the run's tag (24 bits of the key) and the event's sequence (40 bits). So an id names its run and
its event without an index, ids of one run lie close together, which makes them small in a file and
lets a reader skip what cannot hold them, and a rerun under the same run id gives the same ids.
They are unique, not random: OpenTelemetry's flag for random trace ids is never set, and a sampler
that wants a share of the traces has to hash the id. Nothing here touches a random generator that a
strategy could use.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time

SEQUENCE_BITS = 40
MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1
"""Largest sequence number of a run."""
KEY_BITS = 88
TAG_BITS = 24
_TAG_MASK = (1 << TAG_BITS) - 1
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# 32 hex digits, or a UUID in one of the forms of RFC 9562: bare, as a URN, in braces.
_ID_OF_A_TRACE = re.compile(
    r"[0-9a-f]{32}"
    r"|(urn:uuid:)?(?P<brace>\{)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(brace)\})"
)
_NOT_HEX = re.compile(r"urn:uuid:|[{}-]")


def new_run_id(prefix: str = "run") -> str:
    """Make a run id that sorts by time and does not repeat: `run-20261122T153000-3f9a1c`."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return f"{prefix}-{stamp}-{secrets.token_hex(3)}"


def is_valid_run_id(run_id: str) -> bool:
    """Tell whether it can be a run id: 1 to 100 letters, digits, dots, dashes, underscores."""
    return _RUN_ID.fullmatch(run_id) is not None


def run_key(run_id: str) -> int:
    """Turn a run id into the 88-bit number that its trace ids begin with."""
    digest = hashlib.blake2b(
        run_id.encode(), digest_size=KEY_BITS // 8, person=b"fillpath"
    ).digest()
    return int.from_bytes(digest, "big") or 1


def span_id(key: int, sequence: int) -> int:
    """Span id (64 bits, never 0) of the event with this sequence in the run with this key."""
    return (key & _TAG_MASK) << SEQUENCE_BITS | sequence


def trace_id(key: int, root_sequence: int) -> int:
    """Trace id (128 bits, never 0) of the chain that began with this sequence."""
    return key << SEQUENCE_BITS | root_sequence


def root_of_trace(value: int) -> tuple[int, int] | None:
    """Turn a trace id into (run key, root sequence); None when it cannot be one of ours.

    Most foreign ids look as if they could be: the caller must check that a run has this key.
    """
    key, sequence = value >> SEQUENCE_BITS, value & MAX_SEQUENCE
    return (key, sequence) if key and sequence else None


def sequence_of_span(value: int) -> tuple[int, int] | None:
    """Turn a span id into (tag of the run, sequence); None when it cannot be one of ours."""
    tag, sequence = value >> SEQUENCE_BITS, value & MAX_SEQUENCE
    return (tag, sequence) if sequence else None


def tag_of(key: int) -> int:
    """The part of a run's key that its span ids begin with."""
    return key & _TAG_MASK


def trace_id_of_correlation(run_id: str, correlation_id: str) -> int:
    """Trace id of a chain that the host named.

    A UUID or 32 hex digits are used as they are (unless all are 0, which no trace id may be); any
    other string is hashed with the run's id.
    """
    text = correlation_id.strip().lower()
    if _ID_OF_A_TRACE.fullmatch(text):
        value = int(_NOT_HEX.sub("", text), 16)
        if value:
            return value
    hashed = hashlib.blake2b(
        correlation_id.encode("utf-8", "surrogatepass"),
        key=hashlib.blake2b(run_id.encode(), digest_size=32).digest(),
        digest_size=16,
        person=b"fillpath-corr",
    )
    return int.from_bytes(hashed.digest(), "big") or 1
