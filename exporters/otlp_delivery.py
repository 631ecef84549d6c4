"""Sends rows of one run to one OTLP destination, and remembers what it has answered for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import pyarrow as pa

from fillpath.exporters.otlp_backoff import Backoff
from fillpath.exporters.otlp_encoder import OtlpEncoder
from fillpath.exporters.otlp_metrics import OTLP_METRICS
from fillpath.exporters.otlp_outcome import OtlpRefused, OtlpUnavailable, Outcome
from fillpath.exporters.otlp_positions import Positions

REQUEST_SPANS: Final = 2048
"""Spans of one request."""
REQUEST_BYTES: Final = 1 << 20
"""Bytes of one request: many proxies take no more."""
PART_SPANS: Final = 64
"""Spans of a part of a request that was refused."""
FIRST_SECONDS: Final = 0.5
"""How long a destination that cannot be reached is left alone at first, at most;"""
LONGEST_SECONDS: Final = 5.0
"""and later. Whoever waits for a flush waits for this, so it is not longer."""
REFUSED_SECONDS: Final = 30.0
"""How long a destination is left alone that accepts nothing."""
_MOST_ASIDE: Final = 4096
"""Spans that are kept at hand to be sent once more at the end."""
_MOST_TRIES: Final = 3
"""How often one request is sent to a destination that accepts nothing."""


class _Sender(Protocol):
    def send(self, request: bytes, timeout: float | None = None) -> Outcome: ...


Waiting = Callable[[OtlpUnavailable | OtlpRefused, float], None]
"""Waits so many seconds before a request is sent again, or raises when it shall not be."""


class Delivery:
    """Sends rows, a request after another, each until it is answered for.

    A destination that cannot be reached is tried again for as long as `wait` allows. One that
    refuses a request gets it once more in small parts, so that a span that it cannot take does not
    keep others from it; parts that it refuses again are set aside. One that accepts nothing at all
    (a wrong header, say) is left alone for a while between requests.

    Args:
        sender: The destination.
        positions: Where it is remembered what it has answered for.
        runs: Further resource attributes by run id.
        wait: Waits, or raises.

    Attributes:
        answered_at: When the destination answered last, by the monotonic clock.
        sent: Spans that were sent and answered for.
        rejected: Of these, those that the destination did not want.
        refused: Spans that were set aside.
        trouble: What the destination last said about spans that it did not take.
    """

    def __init__(
        self,
        sender: _Sender,
        positions: Positions,
        runs: Mapping[str, Mapping[str, Any]],
        wait: Waiting,
    ) -> None:
        self._sender = sender
        self._positions = positions
        self._destination = positions.about.destination
        self._encoder = OtlpEncoder(runs, max_spans=REQUEST_SPANS, max_bytes=REQUEST_BYTES)
        self._wait = wait
        self._backoff = Backoff(first=FIRST_SECONDS, longest=LONGEST_SECONDS)
        self._accepts = False
        self._aside: list[pa.Table] = []
        self.answered_at = time.monotonic()
        self.sent = 0
        self.rejected = 0
        self.refused = 0
        self.trouble: str | None = None

    def deliver(self, rows: pa.Table) -> None:
        """Send rows of `SPAN_SCHEMA`, and come back when all are answered for or set aside.

        Raises:
            Exception: What `wait` raises; the rows behind are not sent.
        """
        at = 0
        for request, number in self._encoder.encode_counted(rows.to_batches()):
            self._deliver(request, rows.slice(at, number))
            at += number

    def deliver_what_was_set_aside(self) -> None:
        """Send once more what was refused, now that all else is there: it may have been chance.

        Raises:
            Exception: What `wait` raises.
        """
        parts, self._aside = self._aside, []
        for rows in parts:
            for request, _ in self._encoder.encode_counted(rows.to_batches()):
                with contextlib.suppress(OtlpRefused):
                    self._send(request, rows)
                    self.refused -= len(rows)
        if not self.refused and not self.rejected:
            self.trouble = None

    def _deliver(self, request: bytes, rows: pa.Table) -> None:
        for _ in range(_MOST_TRIES):
            try:
                self._send(request, rows)
            except OtlpRefused as error:
                if self._accepts:
                    self._accepts = False
                    self._deliver_in_parts(rows, error)
                    return
                self._wait(error, REFUSED_SECONDS)
            else:
                return
        self._set_aside(rows, OtlpRefused("The destination refused it again and again."))

    def _deliver_in_parts(self, rows: pa.Table, error: OtlpRefused) -> None:
        """Send rows whose request was refused in small parts, and the worst of these one by one."""
        left = [rows]
        for size in (PART_SPANS, 1):
            parts, left = left, []
            for start in (
                part.slice(at, size) for part in parts for at in range(0, len(part), size)
            ):
                at = 0
                for request, number in self._encoder.encode_counted(start.to_batches()):
                    of_it = start.slice(at, number)
                    try:
                        self._send(request, of_it)
                    except OtlpRefused as again:
                        error = again
                        left.append(of_it)
                    at += number
            if not self._accepts:
                break
        for part in left:
            self._set_aside(part, error)

    def _send(self, request: bytes, rows: pa.Table) -> None:
        """Send a request until it is answered.

        Raises:
            OtlpRefused: When the answer is no.
        """
        while True:
            began = time.perf_counter()
            try:
                outcome = self._sender.send(request)
            except OtlpUnavailable as error:
                OTLP_METRICS.retries(self._destination, error)
                self._wait(error, self._backoff.next(error.retry_after))
            else:
                break
        OTLP_METRICS.answered(self._destination, time.perf_counter() - began)
        self._backoff.reset()
        self._accepts = True
        self.answered_at = time.monotonic()
        rejected = min(outcome.rejected_spans, len(rows))
        self.sent += len(rows)
        self.rejected += rejected
        if rejected:
            self.trouble = f"It rejected {rejected} spans of a request, and says: {outcome.message}"
        self._positions.answered(rows, rejected)

    def _set_aside(self, rows: pa.Table, error: OtlpRefused) -> None:
        self.refused += len(rows)
        if self.refused <= _MOST_ASIDE:
            self._aside.append(rows.take(pa.array(range(len(rows)))))  # without its neighbours
        self.trouble = self.trouble or error.message
