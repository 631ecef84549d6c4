"""OTLP requests over gRPC."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from fillpath.exporters.otlp_outcome import (
    MAX_ANSWER_BYTES,
    SET_AUTHORITY,
    SET_HEADERS,
    OtlpRefused,
    OtlpUnavailable,
    Outcome,
    accepted,
    not_listening,
    set_endpoint,
    shown,
)
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.otlp_tls import ask_why, client_context
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_OTLP

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# As the OTLP specification lists them. RESOURCE_EXHAUSTED counts only with a RetryInfo.
_MAY_BE_SENT_AGAIN = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_OTHER_PROTOCOL = f"export {ENV_OTLP}PROTOCOL=http/protobuf"
_HTTP_PORT = 4318


class GrpcTransport:
    """A channel to one endpoint, made anew after it could not be reached.

    Args:
        settings: The endpoint.

    Raises:
        UsageError: When a file of the settings cannot be used.
    """

    def __init__(self, settings: OtlpSettings) -> None:
        self._settings = settings
        # Not used for the channel: it finds out whether the files are right, and what went wrong.
        self._context = client_context(settings)
        self._context.set_alpn_protocols(["h2"])
        self._credentials = None if settings.insecure else _credentials(settings)
        self._channel: Any = None
        self._aborted = False

    def attempt(self, request: bytes, seconds: float) -> Outcome:
        """Send a request once.

        Args:
            request: A serialized `ExportTraceServiceRequest`.
            seconds: How long it may take.

        Raises:
            OtlpUnavailable: When it may be tried again.
            OtlpRefused: When that is no use.
        """
        deadline = time.monotonic() + seconds
        channel = self._channel = self._channel or self._open_channel()
        try:
            answer: bytes = channel.unary_unary(_METHOD)(
                request, timeout=seconds, metadata=tuple(self._settings.headers.items())
            )
        except grpc.RpcError as error:
            raise self._explained(error, seconds, deadline) from None
        except ValueError:
            # What gRPC says when its channel was closed meanwhile; it may also show the headers.
            raise OtlpUnavailable(f"Sending to {self._settings.destination} broke off.") from None
        try:
            return accepted(answer, self._settings.headers)
        except ValueError:
            raise OtlpRefused(
                f"The server at {self._settings.destination} gave no answer to OTLP: it seems to be"
                " another service.",
                next_command=set_endpoint("grpc"),
            ) from None

    def abort(self) -> None:
        """Break off what `attempt` waits for in another thread."""
        self.close()

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open_channel(self) -> Any:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        target = f"{host}:{settings.port}"
        options = (
            ("grpc.primary_user_agent", f"fillpath/{version('fillpath')}"),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            # One attempt is one attempt: who sends again, and when, is decided elsewhere. gRPC
            # would also share a failed connection, and its pauses, between channels.
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        )
        gzip = settings.compression == "gzip"
        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        if self._credentials is None:
            return grpc.insecure_channel(target, options=options, compression=compression)
        return grpc.secure_channel(
            target, self._credentials, options=options, compression=compression
        )

    def _explained(
        self, error: Any, seconds: float, deadline: float
    ) -> OtlpRefused | OtlpUnavailable:
        settings = self._settings
        code: grpc.StatusCode = error.code()
        detail = error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline - time.monotonic() < 0.05:
            self.close()
            return OtlpUnavailable(f"{settings.destination} did not answer within {seconds:g} s.")
        if code is grpc.StatusCode.UNAVAILABLE:
            # A channel that failed waits longer and longer by itself before it connects again.
            self.close()
            if found := ask_why(settings, self._context, deadline - time.monotonic()):
                return found
            # Another port is that of a proxy.
            if "Connection refused" in detail and f":{settings.port}: " in detail:
                return OtlpUnavailable(not_listening(settings.destination))
        message = (
            f"The server at {settings.destination} answered {code.name}"
            if code is not grpc.StatusCode.UNAVAILABLE
            else f"{settings.destination} is not available"
        )
        if said := shown(detail, settings.headers):
            message += f": {said}"
        asked = _retry_info(error)
        if "andshake failed" in detail and "CERTIFICATE" in detail:
            return OtlpRefused(message, next_command=SET_AUTHORITY)
        if code in _MAY_BE_SENT_AGAIN or (
            code is grpc.StatusCode.RESOURCE_EXHAUSTED and asked is not None
        ):
            # A server of HTTP/1 answers what gRPC cannot read.
            other = settings.port == _HTTP_PORT or "HTTP/2" in detail or "http1" in detail
            return OtlpUnavailable(
                message, retry_after=asked, next_command=_OTHER_PROTOCOL if other else None
            )
        mend = {
            grpc.StatusCode.UNAUTHENTICATED: SET_HEADERS,
            grpc.StatusCode.PERMISSION_DENIED: SET_HEADERS,
            grpc.StatusCode.UNIMPLEMENTED: set_endpoint("grpc"),
        }
        return OtlpRefused(message, next_command=mend.get(code))


def _credentials(settings: OtlpSettings) -> Any:
    try:
        roots = settings.certificate.read_bytes() if settings.certificate else None
        chain = key = None
        if settings.client_certificate is not None:
            chain = settings.client_certificate.read_bytes()
            key = (settings.client_key or settings.client_certificate).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{error.filename!r} cannot be read.",
            next_command=f"export {ENV_OTLP}CERTIFICATE=/path/to/file.pem",
        ) from None
    return grpc.ssl_channel_credentials(roots, key, chain)


def _retry_info(error: Any) -> float | None:
    """Seconds that the server asks to wait, in the details of its status."""
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        try:
            details = Status.FromString(value).details
            for detail in details:
                info = RetryInfo()
                if detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(info):
                    delay = info.retry_delay
                    return max(0.0, float(delay.seconds + delay.nanos / 1e9))
        except DecodeError:
            continue
    return None
