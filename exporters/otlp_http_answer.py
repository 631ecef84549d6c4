"""What the answer to an OTLP request over HTTP says."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from fillpath.exporters.otlp_outcome import (
    SET_HEADERS,
    OtlpRefused,
    OtlpUnavailable,
    Outcome,
    accepted,
    set_endpoint,
    shown,
)
from fillpath.exporters.otlp_settings import OtlpSettings

PROTOBUF = "application/x-protobuf"
_MAY_BE_SENT_AGAIN = frozenset({429, 502, 503, 504})


def judged(
    status: int, fields: Mapping[str, str], answer: bytes, settings: OtlpSettings
) -> Outcome:
    """Tell whether a request was accepted.

    Args:
        status: The answer's status code.
        fields: Its header fields, found in whatever case.
        answer: The start of its body.
        settings: Where it comes from.

    Raises:
        OtlpUnavailable: When it says that the request may be sent again.
        OtlpRefused: When it says something else.
    """
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    where = f"The server at {settings.destination}"
    if 200 <= status < 300:
        try:
            # Some servers take protobuf and answer JSON.
            return accepted(answer, settings.headers, as_json=kind == "application/json")
        except ValueError:
            # Whatever answers here need not have stored anything.
            raise OtlpRefused(
                f"{where} answered {_named(status)} with something that is no answer to OTLP"
                " (it seems to be another service).",
                next_command=set_endpoint(settings.protocol),
            ) from None
    if 300 <= status < 400:
        raise OtlpRefused(
            f"{where} answered {_named(status)} and points{_to(fields.get('location'))}; spans are"
            " sent nowhere else than where they were meant to go.",
            next_command=set_endpoint(settings.protocol),
        )
    said = shown(_said(answer, kind), settings.headers)
    message = f"{where} answered {_named(status)}" + (f": {said}" if said else ".")
    if status in _MAY_BE_SENT_AGAIN:
        raise OtlpUnavailable(message, retry_after=_retry_after(fields.get("retry-after")))
    mend = {
        401: SET_HEADERS,
        403: SET_HEADERS,
        404: set_endpoint(settings.protocol),
    }
    raise OtlpRefused(message, next_command=mend.get(status))


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _to(location: str | None) -> str:
    """Where an answer points: scheme and host, since path and query may hold a secret."""
    try:
        parts = urlsplit(location or "")
        host = parts.hostname
    except ValueError:
        return " elsewhere"
    printable = host and f"{parts.scheme}{host}".isascii() and host.isprintable() and parts.scheme
    return f" to {parts.scheme}://{host}" if printable else " elsewhere"


def _said(answer: bytes, kind: str) -> str:
    """The explanation in the body of an error, if there is one."""
    if kind == PROTOBUF:
        try:
            return str(Status.FromString(answer).message)
        except DecodeError:
            return ""
    text = answer.decode("utf-8", "replace")
    if kind == "application/json":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        message = found.get("message") if isinstance(found, dict) else None
        return message if isinstance(message, str) else ""
    return text if kind in {"text/plain", ""} else ""


def _retry_after(value: str | None) -> float | None:
    """Seconds until a `Retry-After`, which is a number of seconds or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = date.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
