"""OTLP receivers for tests, in this process: they answer what a test wants, or not at all."""

from __future__ import annotations

import contextlib
import gzip
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """One request, as it arrived."""

    path: str
    headers: Mapping[str, str]
    message: ExportTraceServiceRequest


@dataclass(frozen=True)
class Answer:
    """What to answer over HTTP; by default that all is well."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "application/x-protobuf"}
    )


def partial(rejected: int, message: str) -> ExportTraceServiceResponse:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return response


def one_span(name: str = "publish FILL") -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id = name, b"\x01" * 16, b"\x02" * 8
    return bytes(request.SerializeToString())


class HttpReceiver:
    """OTLP over HTTP on a free port of loopback.

    Args:
        answer: What to answer each request.
        tls: How TLS is spoken; plain HTTP without it.
    """

    def __init__(
        self, answer: Callable[[Received], Answer] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[Received] = []
        self.connections: set[tuple[str, int]] = set()
        self._open: list[socket.socket] = []
        receiver, give = self, answer or (lambda _: Answer())

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                message = ExportTraceServiceRequest.FromString(body)
                received = Received(self.path, headers, message)
                receiver.received.append(received)
                receiver.connections.add(self.client_address)
                answer = give(received)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "content-length" not in answer.headers:
                    self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                plain, address = super().get_request()
                if tls is None:
                    return plain, address
                # A handshake that fails ends this connection alone, as an OSError.
                plain.settimeout(10)
                return tls.wrap_socket(plain, server_side=True), address

            def handle_error(self, *_: Any) -> None:
                pass

            def process_request(self, request: Any, client_address: Any) -> None:
                receiver._open.append(request)
                super().process_request(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self.secure = tls is not None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


class GrpcReceiver:
    """OTLP over gRPC on a free port of loopback.

    Args:
        answer: What to answer each request; it may abort the call by the context.
        credentials: For TLS.
    """

    def __init__(
        self,
        answer: Callable[[Received, Any], ExportTraceServiceResponse] | None = None,
        credentials: Any = None,
    ) -> None:
        self.received: list[Received] = []
        receiver, give = self, answer or (lambda *_: ExportTraceServiceResponse())

        class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(  # noqa: N802 - the library's name
                self, request: ExportTraceServiceRequest, context: Any
            ) -> ExportTraceServiceResponse:
                received = Received("", dict(context.invocation_metadata()), request)
                receiver.received.append(received)
                return give(received, context)

        self._server = grpc.server(ThreadPoolExecutor(4))
        add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(Servicer(), self._server)
        self.secure = credentials is not None
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


def abort_with(context: Any, code: Any, message: str, retry_delay: float | None = None) -> None:
    """End a gRPC call with a status, and with a RetryInfo when there is a delay."""
    if retry_delay is not None:
        info = AnyMessage()
        seconds = int(retry_delay)
        delay = Duration(seconds=seconds, nanos=round((retry_delay - seconds) * 1e9))
        info.Pack(RetryInfo(retry_delay=delay))
        status = Status(code=code.value[0], message=message, details=[info])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that does with each connection what `serve` says; gives its port."""
    stopped = threading.Event()
    open_now: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        while not stopped.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(10)
                open_now.append(connection)
                thread = threading.Thread(target=one, args=(connection,), daemon=True)
                thread.start()
                threads.append(thread)

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            stopped.set()
            acceptor.join()
            for connection in open_now:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


def say_nothing(connection: socket.socket) -> None:
    """Take what comes, and never answer."""
    while connection.recv(65536):
        pass


def read_nothing(connection: socket.socket) -> None:
    """Not even take what comes, until the other side ends the connection."""
    ended = select.poll()
    ended.register(connection, select.POLLRDHUP | select.POLLHUP)
    ended.poll(10_000)


def reset(connection: socket.socket) -> None:
    """Cut the connection off in the middle of a request."""
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def drip(head: bytes) -> Callable[[socket.socket], None]:
    """Answer with `head`, and then a byte at a time, for ever."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return serve


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose connections are neither accepted nor refused: its SYNs are dropped."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield int(listener.getsockname()[1])
