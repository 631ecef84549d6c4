"""Identity that exists from the moment of recording.

A span id is a fixed scrambling of (run, sequence), a trace id one of (run, sequence of the root).
Both are spread evenly over all their bits, and both can be turned back: a trace id names its run
and its root without an index. Nothing here touches a random generator that a strategy could use.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
# Multipliers of the splitmix64 finaliser (Steele, Lea & Flood, 2014) and their inverses mod 2**64.
_MUL_1 = 0xBF58476D1CE4E5B9
_MUL_2 = 0x94D049BB133111EB
_INV_1 = pow(_MUL_1, -1, 1 << 64)
_INV_2 = pow(_MUL_2, -1, 1 << 64)
MAX_SEQUENCE = (1 << 48) - 1
"""Largest sequence number of a run."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# 32 hex digits, or a UUID in one of the forms of RFC 9562: bare, as a URN, in braces.
_ID_OF_A_TRACE = re.compile(
    r"[0-9a-f]{32}"
    r"|(urn:uuid:)?(?P<brace>\{)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(brace)\})"
)
_NOT_HEX = re.compile(r"urn:uuid:|[{}-]")


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * _MUL_1) & _MASK
    value = ((value ^ (value >> 27)) * _MUL_2) & _MASK
    return value ^ (value >> 31)


def _unmix(value: int) -> int:
    value = value ^ (value >> 31) ^ (value >> 62)
    value = (value * _INV_2) & _MASK
    value = value ^ (value >> 27) ^ (value >> 54)
    value = (value * _INV_1) & _MASK
    return value ^ (value >> 30) ^ (value >> 60)


def new_run_id(prefix: str = "run") -> str:
    """Make a run id that sorts by time and does not repeat: `run-20261122T153000-3f9a1c`."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return f"{prefix}-{stamp}-{secrets.token_hex(3)}"


def is_valid_run_id(run_id: str) -> bool:
    """Tell whether it can be a run id: 1 to 100 letters, digits, dots, dashes, underscores."""
    return _RUN_ID.fullmatch(run_id) is not None


def run_key(run_id: str) -> int:
    """Turn a run id into the 63-bit number that its span and trace ids are made with."""
    digest = hashlib.blake2b(run_id.encode(), digest_size=8, person=b"fillpath").digest()
    return (int.from_bytes(digest, "big") >> 1) | 1


def span_id(key: int, sequence: int) -> int:
    """Span id (64 bits, never 0) of the event with this sequence in the run with this key."""
    return _mix((key + sequence * _GOLDEN) & _MASK) or 1


def trace_id(key: int, root_sequence: int) -> int:
    """Trace id (128 bits, never 0) of the chain that began with this sequence."""
    low = _mix((root_sequence + key) & _MASK)
    high = _mix(key ^ low)
    return (high << 64 | low) or 1


def root_of_trace(value: int) -> tuple[int, int] | None:
    """Turn a trace id back into (run key, root sequence); None when it is not one of ours.

    A foreign id passes by chance about once in 2**18: the caller must check that the run exists.
    """
    high, low = value >> 64, value & _MASK
    key = _unmix(high) ^ low
    sequence = (_unmix(low) - key) & _MASK
    if key >> 63 or not key & 1 or not 0 < sequence <= MAX_SEQUENCE:
        return None
    return key, sequence


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
