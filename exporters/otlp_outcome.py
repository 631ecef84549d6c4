"""What becomes of an OTLP request: accepted, perhaps in part; to be tried again; or refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from fillpath.exporters.otlp_headers import SecretHeaders
from fillpath.instrumentation.errors import BackendUnreachable, FillpathError
from fillpath.instrumentation.settings import ENV_OTLP

MAX_ANSWER_BYTES = 64 * 1024
"""As much is read of an answer; those of real receivers have some tens of bytes."""
_MAX_SHOWN = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")

SET_HEADERS = f"export {ENV_OTLP}HEADERS=authorization=Bearer%20TOKEN"
"""What would mend a request without the right credentials."""
SET_PROXY = "export https_proxy=http://NAME:PASSWORD@HOST:PORT"
"""What would mend a proxy that asks for credentials."""
SET_AUTHORITY = f"export {ENV_OTLP}CERTIFICATE=/path/to/ca.pem"
"""What would mend a server certificate of an unknown authority."""
SET_CLIENT_CERTIFICATE = (
    f"export {ENV_OTLP}CLIENT_CERTIFICATE=/path/to/client.pem"
    f" {ENV_OTLP}CLIENT_KEY=/path/to/client.key"
)
"""What would mend a request without a client certificate."""


def set_endpoint(protocol: str) -> str:
    """What would mend an endpoint that is none."""
    return f"export {ENV_OTLP}ENDPOINT=https://HOST:{4317 if protocol == 'grpc' else 4318}"


def not_listening(where: str) -> str:
    """Say that a connection was refused, and the two ways in which that can be mended."""
    return (
        f"Nothing listens at {where} (connection refused): start the Collector there, or set"
        f" {ENV_OTLP}ENDPOINT to where it is."
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """An accepted request.

    Attributes:
        rejected_spans: How many of its spans the server did not take all the same. Sending them
            again is no use.
        message: What the server says, made fit to be shown; None when it says nothing.
    """

    rejected_spans: int = 0
    message: str | None = None


class OtlpUnavailable(BackendUnreachable):
    """The request was not accepted and may be sent again later.

    Args:
        message: What happened, and where.
        retry_after: Seconds that the server asks to wait, if it does.
        next_command: What would mend it.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, next_command: str | None = None
    ) -> None:
        super().__init__(message, next_command=next_command)
        self.retry_after = retry_after


class OtlpRefused(FillpathError):
    """The request was not accepted, and would not be when it is sent again as it is."""


def accepted(answer: bytes, secrets: SecretHeaders, *, as_json: bool = False) -> Outcome:
    """Read an `ExportTraceServiceResponse`; an empty one stands for complete success.

    Raises:
        ValueError: When it is none.
    """
    if len(answer) >= MAX_ANSWER_BYTES:
        raise ValueError("too long")
    try:
        if as_json and answer:
            if not answer.lstrip().startswith(b"{"):
                raise ValueError("not a JSON object")
            response = json_format.Parse(
                answer, ExportTraceServiceResponse(), ignore_unknown_fields=True
            )
        else:
            response = ExportTraceServiceResponse.FromString(answer)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise ValueError("not an ExportTraceServiceResponse") from None
    partial = response.partial_success
    return Outcome(max(0, partial.rejected_spans), shown(partial.error_message, secrets) or None)


def shown(text: str, secrets: SecretHeaders) -> str:
    """Make a text of a server fit to be shown: one line, not too long, without header values."""
    # A server may repeat what it was sent. Values are searched for before anything else changes
    # the text, and afterwards once more.
    text = _UNPRINTABLE.sub(" ", secrets.hide_in(text))
    text = secrets.hide_in(" ".join(text.split()))
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
