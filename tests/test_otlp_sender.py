"""One OTLP request to one endpoint: what is accepted, what may be sent again, what is refused."""

from __future__ import annotations

import email.utils
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from fillpath.exporters.otlp_backoff import Backoff
from fillpath.exporters.otlp_sender import (
    OtlpRefused,
    OtlpSender,
    OtlpUnavailable,
    Outcome,
    open_sender,
)
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import EXIT_UNREACHABLE, FillpathError

sys.path.append(str(Path(__file__).parent))

from otlp_receivers import (
    Answer,
    GrpcReceiver,
    HttpReceiver,
    abort_with,
    drip,
    full_backlog,
    one_span,
    partial,
    raw_server,
    read_nothing,
    reset,
    say_nothing,
)
from real_backends import Collector, free_port, wait_until

PROTOCOLS = ["grpc", "http/protobuf"]
TOLERANCE = 0.3
"""Seconds by which a send may exceed its timeout."""


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sender_to(url: str, protocol: str) -> OtlpSender:
    return open_sender(OtlpSettings.from_environment(url, protocol))


def receiver(protocol: str, rejected: int = 0, message: str = "") -> HttpReceiver | GrpcReceiver:
    response = partial(rejected, message)
    if protocol == "grpc":
        return GrpcReceiver(lambda *_: response)
    return HttpReceiver(lambda _: Answer(body=response.SerializeToString()))


def failure_of(
    sender: OtlpSender, timeout: float | None = 5.0, request: bytes | None = None
) -> FillpathError:
    with pytest.raises(FillpathError) as caught:
        sender.send(request or one_span(), timeout)
    return caught.value


def requests_under_way() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "fillpath-otlp-request"]


def nothing_is_left_behind() -> None:
    wait_until(lambda: not requests_under_way(), "a request is still under way", 5)


@pytest.mark.smoke
def test_a_request_arrives_with_path_headers_and_compression(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,tenant=fund")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with receiver(protocol) as server, sender_to(server.url, protocol) as sender:
        assert sender.send(one_span(), 5) == Outcome()
    (received,) = server.received
    assert received.message.SerializeToString() == one_span()
    assert received.headers["authorization"] == "Bearer x"
    assert received.headers["tenant"] == "fund"
    assert received.headers["user-agent"].startswith("fillpath/")
    if protocol != "grpc":
        assert received.path == "/v1/traces"
        assert received.headers["content-type"] == "application/x-protobuf"
        assert received.headers["content-encoding"] == "gzip"


def test_a_request_arrives_as_that_of_the_standard_exporter(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x, a=b=c ,d= e f")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with receiver(protocol) as server:
        url = server.url.replace("http://", "http://user:p%40ss@") if protocol != "grpc" else ""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url or server.url)
        exporter = GrpcExporter() if protocol == "grpc" else HttpExporter()
        span = TracerProvider().get_tracer("test").start_span("one")
        span.end()
        assert isinstance(span, ReadableSpan)
        assert exporter.export([span]) is SpanExportResult.SUCCESS
        exporter.shutdown()
        theirs = server.received[0]
        with open_sender(OtlpSettings.from_environment(protocol=protocol)) as sender:
            sender.send(theirs.message.SerializeToString(), 5)
        ours = server.received[1]
    # How long the body is depends on the level of compression.
    own = {"user-agent", "content-length", "accept", "accept-encoding", "connection"}
    assert ours.path == theirs.path
    assert ours.message == theirs.message
    assert {name: value for name, value in ours.headers.items() if name not in own} == {
        name: value for name, value in theirs.headers.items() if name not in own
    }


def test_spans_that_a_server_rejects_are_counted(protocol: str) -> None:
    with (
        receiver(protocol, 3, "too\x1b[31m old\n") as server,
        sender_to(server.url, protocol) as sender,
    ):
        assert sender.send(one_span()) == Outcome(3, "too [31m old")
    with receiver(protocol, 0, "slow down") as server, sender_to(server.url, protocol) as sender:
        assert sender.send(one_span()) == Outcome(0, "slow down")
    with receiver(protocol, -1) as server, sender_to(server.url, protocol) as sender:
        assert sender.send(one_span()) == Outcome()


def test_connections_are_kept_alive() -> None:
    with HttpReceiver() as server, sender_to(server.url, "http/protobuf") as sender:
        for _ in range(5):
            sender.send(one_span(), 5)
        assert len(server.received) == 5
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("status", "wait"),
    [(429, "7"), (429, None), (502, None), (503, "date"), (503, "nonsense"), (504, "7")],
)
def test_http_statuses_that_may_be_tried_again_say_when(status: int, wait: str | None) -> None:
    value = email.utils.formatdate(time.time() + 7, usegmt=True) if wait == "date" else wait
    headers = {"content-type": "application/x-protobuf"}
    if value is not None:
        headers["retry-after"] = value
    body = Status(message="busy").SerializeToString()
    with (
        HttpReceiver(lambda _: Answer(status, body, headers)) as server,
        sender_to(server.url, "http/protobuf") as sender,
    ):
        error = failure_of(sender)
    assert isinstance(error, OtlpUnavailable)
    assert error.exit_code == EXIT_UNREACHABLE
    assert f"{server.url}/v1/traces answered {status}" in error.message
    assert error.message.endswith(": busy")
    if wait in {"7", "date"}:
        assert error.retry_after == pytest.approx(7, abs=2)
    else:
        assert error.retry_after is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 418, 500, 501, 599])
def test_other_http_statuses_are_final(status: int) -> None:
    body = json.dumps({"message": "not like this"}).encode()
    answer = Answer(status, body, {"content-type": "application/json"})
    with HttpReceiver(lambda _: answer) as server, sender_to(server.url, "http/protobuf") as sender:
        error = failure_of(sender)
    assert isinstance(error, OtlpRefused)
    assert f"{server.url}/v1/traces answered {status}" in error.message
    assert error.message.endswith("not like this")
    if status in {401, 403}:
        assert error.next_command
        assert "OTEL_EXPORTER_OTLP_HEADERS" in error.next_command


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with HttpReceiver() as elsewhere:
        answer = Answer(status, b"", {"location": f"{elsewhere.url}/v1/traces?key=secret"})
        with (
            HttpReceiver(lambda _: answer) as server,
            sender_to(server.url, "http/protobuf") as sender,
        ):
            error = failure_of(sender)
    assert isinstance(error, OtlpRefused)
    assert "points to http://localhost" in error.message
    assert "secret" not in error.message
    assert not elsewhere.received


@pytest.mark.parametrize(
    ("body", "kind", "outcome"),
    [
        (b"", "text/plain", Outcome()),
        (b"{}", "application/json", Outcome()),
        (
            b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "old"}, "more": 1}',
            "application/json; charset=utf-8",
            Outcome(2, "old"),
        ),
        (b"<html>welcome</html>", "text/html", None),
        (b"OK", "text/plain", None),
        (b"[]", "application/json", None),
        (b'{"partialSuccess": {"rejectedSpans": "many"}}', "application/json", None),
        (b"[" * 60_000, "application/json", None),
        (b"x" * 1_000_000, "application/x-protobuf", None),
    ],
)
def test_only_an_answer_to_otlp_counts_as_accepted(
    body: bytes, kind: str, outcome: Outcome | None
) -> None:
    with (
        HttpReceiver(lambda _: Answer(200, body, {"content-type": kind})) as server,
        sender_to(server.url, "http/protobuf") as sender,
    ):
        if outcome is not None:
            assert sender.send(one_span(), 5) == outcome
            return
        error = failure_of(sender)
    assert isinstance(error, OtlpRefused)
    assert "another service" in error.message


RETRYABLE = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE"]
RETRYABLE += ["DATA_LOSS"]
FINAL = ["UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"]
FINAL += ["FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL", "UNAUTHENTICATED"]
FINAL += ["RESOURCE_EXHAUSTED"]


@pytest.mark.parametrize("name", RETRYABLE + FINAL)
def test_grpc_codes_count_as_the_specification_says(name: str) -> None:
    code = grpc.StatusCode[name]

    def refuse(_: Any, context: Any) -> Any:
        abort_with(context, code, "not\x00 now")

    with GrpcReceiver(refuse) as server, sender_to(server.url, "grpc") as sender:
        error = failure_of(sender)
    assert isinstance(error, OtlpUnavailable if name in RETRYABLE else OtlpRefused)
    assert f"localhost:{server.port}" in error.message
    assert error.message.endswith("not now")
    assert len(server.received) == 1
    if name in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        assert error.next_command
        assert "OTEL_EXPORTER_OTLP_HEADERS" in error.next_command


def test_grpc_throttling_says_when_to_come_back() -> None:
    def throttle(_: Any, context: Any) -> Any:
        abort_with(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "later", 2.5)

    with GrpcReceiver(throttle) as server, sender_to(server.url, "grpc") as sender:
        error = failure_of(sender)
    assert isinstance(error, OtlpUnavailable)
    assert error.retry_after == 2.5


def test_a_port_where_nothing_listens_is_unavailable(protocol: str) -> None:
    port = free_port()
    with sender_to(f"http://localhost:{port}", protocol) as sender:
        error = failure_of(sender)
        assert isinstance(error, OtlpUnavailable)
        assert f"http://localhost:{port}" in error.message
        assert "connection refused" in error.message
        assert "start the Collector there, or set OTEL_EXPORTER_OTLP_ENDPOINT" in error.message
        assert error.next_command is None


def test_a_server_that_comes_up_is_found_at_once(protocol: str) -> None:
    with receiver(protocol) as first, sender_to(first.url, protocol) as sender:
        sender.send(one_span(), 5)
        port = first.port
        first.__exit__()
        for _ in range(3):
            assert isinstance(failure_of(sender), OtlpUnavailable)
        # gRPC alone would now wait for a second and more before it connects again.
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(0.5)
            thread = threading.Thread(target=lambda: failure_of(sender, 0.5))
            thread.start()
            listener.accept()[0].close()
            thread.join()


def test_an_unknown_name_is_unavailable(protocol: str) -> None:
    with sender_to("http://no-such-host.invalid:4318", protocol) as sender:
        error = failure_of(sender)
    assert isinstance(error, OtlpUnavailable)
    assert "no-such-host.invalid" in error.message


def test_an_answer_that_breaks_off_is_unavailable() -> None:
    def half(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n\x0a\x02")

    with (
        raw_server(half) as port,
        sender_to(f"http://localhost:{port}", "http/protobuf") as sender,
    ):
        assert isinstance(failure_of(sender), OtlpUnavailable)


def test_a_connection_that_is_reset_is_unavailable(protocol: str) -> None:
    with raw_server(reset) as port, sender_to(f"http://localhost:{port}", protocol) as sender:
        assert isinstance(failure_of(sender), OtlpUnavailable)


BLACK_HOLES: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "never answers": lambda: raw_server(say_nothing),
    "never reads": lambda: raw_server(read_nothing),
    "drops SYNs": full_backlog,
    "drips its status line": lambda: raw_server(drip(b"HTTP/1.1 2")),
    "drips its headers": lambda: raw_server(drip(b"HTTP/1.1 200 OK\r\n")),
    "drips its body": lambda: raw_server(
        drip(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\nconnection: close\r\n\r\n")
    ),
}


@pytest.mark.parametrize(
    ("protocol", "scheme", "hole"),
    [
        *[("http/protobuf", "http", hole) for hole in BLACK_HOLES],
        *[(each, "https", hole) for each in PROTOCOLS for hole in ("never answers", "never reads")],
        *[("grpc", "http", hole) for hole in ("never answers", "never reads", "drops SYNs")],
    ],
)
def test_a_black_hole_takes_no_longer_than_the_timeout(
    protocol: str, scheme: str, hole: str
) -> None:
    request = one_span("x" * 8_000_000) if hole == "never reads" else one_span()
    with BLACK_HOLES[hole]() as port, sender_to(f"{scheme}://127.0.0.1:{port}", protocol) as sender:
        for timeout in (0.1, 0.3):
            start = time.monotonic()
            error = failure_of(sender, timeout, request)
            taken = time.monotonic() - start
            assert timeout - 0.05 < taken < timeout + TOLERANCE
            assert isinstance(error, OtlpUnavailable)
            assert "did not answer within" in error.message
        nothing_is_left_behind()


def test_a_server_that_is_slow_over_grpc_is_given_up_in_time() -> None:
    released = threading.Event()

    def slow(*_: Any) -> Any:
        released.wait(10)
        return partial(0, "")

    with GrpcReceiver(slow) as server, sender_to(server.url, "grpc") as sender:
        start = time.monotonic()
        error = failure_of(sender, 0.3)
        assert time.monotonic() - start < 0.3 + TOLERANCE
        assert isinstance(error, OtlpUnavailable)
        released.set()
        assert sender.send(one_span(), 5) == Outcome()


def test_a_name_lookup_that_hangs_holds_one_thread_and_no_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def hang(*given: Any, **more: Any) -> Any:
        answered.wait(10)
        return look_up(*given, **more)

    with HttpReceiver() as server, sender_to(server.url, "http/protobuf") as sender:
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        for _ in range(3):
            start = time.monotonic()
            assert isinstance(failure_of(sender, 0.2), OtlpUnavailable)
            assert time.monotonic() - start < 0.2 + TOLERANCE
            assert len(requests_under_way()) == 1
        answered.set()
        nothing_is_left_behind()
        assert sender.send(one_span(), 5) == Outcome()
        assert len(server.received) == 1


def test_the_timeout_of_the_settings_is_the_longest(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with raw_server(say_nothing) as port, sender_to(f"http://localhost:{port}", protocol) as sender:
        for timeout in (None, 60.0, 0.2, 0.0, -1.0):
            start = time.monotonic()
            assert isinstance(failure_of(sender, timeout), OtlpUnavailable)
            assert time.monotonic() - start < 0.2 + TOLERANCE


def test_closing_breaks_off_what_is_under_way(protocol: str) -> None:
    with raw_server(say_nothing) as port:
        sender = sender_to(f"http://localhost:{port}", protocol)
        threading.Timer(0.2, sender.close).start()
        start = time.monotonic()
        assert isinstance(failure_of(sender, 5), OtlpUnavailable)
        assert time.monotonic() - start < 2
        assert "is closed" in failure_of(sender).message
        nothing_is_left_behind()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_other_protocol_of_a_port_is_named(protocol: str) -> None:
    other = "http/protobuf" if protocol == "grpc" else "grpc"
    with receiver(other) as server, sender_to(server.url, protocol) as sender:
        error = failure_of(sender)
    assert not server.received
    if protocol == "grpc":
        assert error.next_command
        assert "PROTOCOL=http/protobuf" in error.next_command


def test_a_proxy_is_used_and_its_credentials_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with HttpReceiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:c4n4ry@localhost:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        with sender_to("http://collector.example:4318", "http/protobuf") as sender:
            assert sender.send(one_span(), 5) == Outcome()
            (received,) = proxy.received
            assert received.path == "http://collector.example:4318/v1/traces"
            assert received.headers["proxy-authorization"].startswith("Basic ")
    with sender_to("http://collector.example:4318", "http/protobuf") as sender:
        error = failure_of(sender)
        assert f"through the proxy http://localhost:{proxy.port}" in error.message
        assert "c4n4ry" not in str(error)
    monkeypatch.setenv("no_proxy", "localhost")
    with HttpReceiver() as server, sender_to(server.url, "http/protobuf") as sender:
        assert sender.send(one_span(), 5) == Outcome()


def test_the_collector_takes_what_is_sent(protocol: str, tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        port = collector.otlp_grpc if protocol == "grpc" else collector.otlp_http[7:]
        with sender_to(f"http://{port}", protocol) as sender:
            assert sender.send(one_span(), 5) == Outcome()
            wait_until(lambda: len(collector.spans()) == 1, "the span does not arrive")
            collector.kill()
            assert isinstance(failure_of(sender), OtlpUnavailable)
            collector.start()
            assert sender.send(one_span(), 5) == Outcome()
        wait_until(lambda: len(collector.spans()) == 2, "the spans do not arrive")


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 10_000, allow_nan=False))),
    st.randoms(use_true_random=False),
)
def test_delays_grow_by_chance_up_to_a_limit_and_respect_the_server(
    asked: list[float | None], chance: random.Random
) -> None:
    backoff = Backoff(first=1, longest=30, longest_asked=600, chance=chance)
    for number, retry_after in enumerate(asked):
        step = min(30.0, 2.0**number)
        delay = backoff.next(retry_after)
        wanted = min(retry_after or 0.0, 600.0)
        assert max(step / 2, wanted) <= delay <= max(step, wanted * 1.1)
    backoff.reset()
    assert backoff.next() <= 1


def test_chance_is_not_taken_from_the_hosts_generator() -> None:
    before = random.getstate()
    first, second = Backoff(), Backoff()
    assert [first.next() for _ in range(5)] != [second.next() for _ in range(5)]
    assert random.getstate() == before


def test_odd_waits_that_a_server_asks_for_are_ignored() -> None:
    for odd in (float("nan"), float("inf"), -5.0, 0.0):
        assert 0.5 <= Backoff().next(odd) <= 1
