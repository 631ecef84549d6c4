"""Sends serialized OTLP requests to one endpoint, one attempt at a time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from fillpath.exporters.otlp_outcome import OtlpRefused, OtlpUnavailable, Outcome
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import UsageError

__all__ = ["OtlpRefused", "OtlpSender", "OtlpUnavailable", "Outcome", "open_sender"]

# A transport ends by itself at the deadline, and can then say why; it gets this long to do so.
_GRACE = 0.1


class _Transport(Protocol):
    """What the two protocols have in common."""

    def attempt(self, request: bytes, seconds: float) -> Outcome: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class OtlpSender:
    """An endpoint that requests can be sent to; `open_sender` makes it.

    One thread sends at a time; another may close it meanwhile.

    Args:
        settings: The endpoint.

    Raises:
        UsageError: When a certificate or a key cannot be used.
    """

    def __init__(self, settings: OtlpSettings) -> None:
        self.settings = settings
        self._transport: _Transport | None = _transport(settings)
        self._under_way: _Attempt | None = None
        self._closed = False

    def send(self, request: bytes, timeout: float | None = None) -> Outcome:
        """Send a request once, without trying again.

        Args:
            request: A serialized `ExportTraceServiceRequest`.
            timeout: Seconds after which this returns at the latest, whatever the server does; the
                settings' timeout when that is shorter, or when there is none.

        Returns:
            That the request was accepted, and how many of its spans were not.

        Raises:
            OtlpUnavailable: When it was not and may be sent again: no connection, no answer in
                time, an answer of that kind. The server may have taken it all the same.
            OtlpRefused: When it was not and would not be later either: TLS failed, or the server
                does not take it.
        """
        seconds = self.settings.timeout if timeout is None else min(timeout, self.settings.timeout)
        if self._closed:
            raise OtlpUnavailable(f"The sender to {self.settings.destination} is closed.")
        deadline = time.monotonic() + seconds
        if self._under_way is not None:
            # A name lookup cannot be broken off. There is one at a time.
            self._under_way.join(max(0.0, seconds))
            if self._under_way.is_alive():
                raise self._timed_out(seconds)
            self._under_way = None
        if self._transport is None:
            self._transport = self._another_transport()
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out(seconds)
        attempt = self._under_way = _Attempt(self._transport, request, left)
        attempt.start()
        attempt.join(left + _GRACE)
        if attempt.is_alive():
            attempt.give_up()
            self._transport = None
            raise self._timed_out(seconds)
        self._under_way = None
        if isinstance(attempt.result, Outcome):
            return attempt.result
        # Without what led to it: its frames hold the headers.
        raise attempt.result.with_traceback(None)

    def close(self) -> None:
        """Close the connections; a request that is under way is broken off."""
        self._closed = True
        transport, self._transport = self._transport, None
        if (attempt := self._under_way) is not None:
            attempt.give_up()
        elif transport is not None:
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _another_transport(self) -> _Transport:
        try:
            return _transport(self.settings)
        except UsageError as error:
            found = error
        raise OtlpRefused(found.message, next_command=found.next_command)

    def _timed_out(self, seconds: float) -> OtlpUnavailable:
        return OtlpUnavailable(
            f"{self.settings.destination} did not answer within {max(0.0, seconds):g} s."
        )


def open_sender(settings: OtlpSettings) -> OtlpSender:
    """Make a sender; it connects when the first request is sent.

    Raises:
        UsageError: When a certificate or a key of the settings cannot be used.
    """
    return OtlpSender(settings)


class _Attempt(threading.Thread):
    """One request in a thread of its own, since not all that it waits for knows a deadline."""

    def __init__(self, transport: _Transport, request: bytes, seconds: float) -> None:
        super().__init__(name="fillpath-otlp-request", daemon=True)
        self._transport = transport
        self._request = request
        self._seconds = seconds
        self.result: Outcome | OtlpRefused | OtlpUnavailable = OtlpUnavailable("Not sent.")
        self._given_up = False

    def give_up(self) -> None:
        """Break it off; its transport is closed as soon as nothing uses it."""
        self._given_up = True
        self._transport.abort()
        if not self.is_alive():
            self._transport.close()

    def run(self) -> None:
        try:
            self.result = self._transport.attempt(self._request, self._seconds)
        except (OtlpRefused, OtlpUnavailable) as error:
            error.__context__ = error.__cause__ = None
            self.result = error
        except Exception as error:  # noqa: BLE001 - its text, or its frames, may show the headers
            self.result = OtlpUnavailable(f"Sending failed unexpectedly ({type(error).__name__}).")
        if self._given_up:
            self._transport.close()


def _transport(settings: OtlpSettings) -> _Transport:
    # Each takes a while to import, and only one is needed.
    if settings.protocol == "grpc":
        from fillpath.exporters.otlp_grpc import GrpcTransport

        return GrpcTransport(settings)
    from fillpath.exporters.otlp_http import HttpTransport

    return HttpTransport(settings)
