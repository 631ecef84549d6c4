"""OTLP requests over HTTP: protobuf in the body of a POST."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
import time
from importlib.metadata import version

import urllib3
from urllib3 import exceptions

from fillpath.exporters.otlp_http_answer import PROTOBUF, judged
from fillpath.exporters.otlp_http_connections import HttpConnections
from fillpath.exporters.otlp_outcome import (
    MAX_ANSWER_BYTES,
    SET_PROXY,
    OtlpRefused,
    OtlpUnavailable,
    Outcome,
    not_listening,
    set_endpoint,
)
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.otlp_tls import ask_why, client_context, refusal
from fillpath.instrumentation.settings import ENV_OTLP

_OTHER_PROTOCOL = f"export {ENV_OTLP}PROTOCOL=grpc"
_GRPC_PORT = 4317


class HttpTransport:
    """Connections to one endpoint, kept alive from request to request.

    Args:
        settings: The endpoint.

    Raises:
        UsageError: When a file of the settings cannot be used.
    """

    def __init__(self, settings: OtlpSettings) -> None:
        self._settings = settings
        self._context = client_context(settings)
        self._headers = {
            "user-agent": f"fillpath/{version('fillpath')}",
            **settings.headers,
            "content-type": PROTOBUF,
        }
        if settings.compression == "gzip":
            self._headers["content-encoding"] = "gzip"
        self._connections = HttpConnections(settings, self._context)

    def attempt(self, request: bytes, seconds: float) -> Outcome:
        """Send a request once.

        Args:
            request: A serialized `ExportTraceServiceRequest`.
            seconds: How long to wait for the connection, and then for each part of the answer.

        Raises:
            OtlpUnavailable: When it may be tried again.
            OtlpRefused: When that is no use.
        """
        deadline = time.monotonic() + seconds
        body = gzip.compress(request, 6) if self._settings.compression == "gzip" else request
        try:
            response = self._connections.pools.urlopen(
                "POST",
                self._settings.endpoint,
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            answer = response.read(MAX_ANSWER_BYTES)
            missing = response.length_remaining or 0
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()
            if missing and len(answer) < MAX_ANSWER_BYTES:
                raise exceptions.IncompleteRead(len(answer), missing)
        except (exceptions.HTTPError, OSError) as error:
            raise self._explained(error, seconds, deadline) from None
        finally:
            self._connections.forget_closed()
        return judged(response.status, response.headers, answer, self._settings)

    def abort(self) -> None:
        """Break off what `attempt` waits for in another thread; no further attempt is possible."""
        self._connections.abort()

    def close(self) -> None:
        """Close the connection."""
        self._connections.close()

    def _explained(
        self, error: Exception, seconds: float, deadline: float
    ) -> OtlpRefused | OtlpUnavailable:
        settings, proxy = self._settings, self._connections.proxy
        where = settings.destination + (f" through the proxy {proxy}" if proxy else "")
        cause = _innermost(error)
        if isinstance(cause, ssl.SSLError) and (refused := refusal(cause, settings)):
            return refused
        if isinstance(cause, socket.gaierror):
            return OtlpUnavailable(
                f"No address is known for {where}.", next_command=set_endpoint(settings.protocol)
            )
        if isinstance(cause, ConnectionRefusedError):
            if proxy:
                return OtlpUnavailable(f"{where} is not reached: connection refused.")
            return OtlpUnavailable(not_listening(where))
        connected = not isinstance(error, exceptions.NewConnectionError)
        if isinstance(cause, TimeoutError) or (
            connected and isinstance(error, exceptions.TimeoutError)
        ):
            return OtlpUnavailable(f"{where} did not answer within {seconds:g} s.")
        if proxy and " 407" in str(cause):
            return OtlpRefused(
                f"{where} is not reached: the proxy asks for credentials.", next_command=SET_PROXY
            )
        if not proxy and (found := ask_why(settings, self._context, deadline - time.monotonic())):
            return found
        reason = errno.errorcode.get(getattr(cause, "errno", None) or 0, type(cause).__name__)
        return OtlpUnavailable(
            f"The connection to {where} broke off before the answer ({reason}).",
            next_command=_OTHER_PROTOCOL if settings.port == _GRPC_PORT else None,
        )


def _innermost(error: BaseException) -> BaseException:
    """What the operating system or the TLS library said, below what urllib3 made of it."""
    for _ in range(8):
        inner = error.__cause__ or next(
            (each for each in reversed(error.args) if isinstance(each, BaseException)), None
        )
        inner = inner or getattr(error, "original_error", None)
        if inner is None:
            break
        error = inner
    return error
