"""A canary in the headers of OTLP requests is seen by the server, and by nobody else."""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3

from fillpath.exporters.otlp_sender import OtlpUnavailable, Outcome, open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import FillpathError

sys.path.append(str(Path(__file__).parent))

from otlp_receivers import (
    Answer,
    GrpcReceiver,
    HttpReceiver,
    abort_with,
    one_span,
    partial,
    raw_server,
    reset,
    say_nothing,
)
from real_backends import free_port

PROTOCOLS = ["grpc", "http/protobuf"]
CANARY = "c4n4ry-51f0aa"
HEADERS = f"authorization=Bearer%20{CANARY},x-api-key={CANARY}"


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_locals(error: BaseException) -> str:
    """All that a traceback can show of an error, with what led to it, but without this file."""
    shown: list[str] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (each := waiting.pop()) is None:
            continue
        waiting += [each.__cause__, each.__context__]
        frames = each.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        whole = traceback.TracebackException(type(each), each, frames, capture_locals=True)
        shown += [*whole.format(), repr(each), str(each), repr(each.args), repr(vars(each))]
    return "".join(shown)


class Everything:
    """What could be seen of sending by someone who looks everywhere."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog = caplog
        self._capfd = capfd
        self._texts: list[str] = []

    def send(self, url: str, protocol: str, timeout: float = 5) -> Outcome | FillpathError:
        """Send one span, and note what can be seen."""
        settings = OtlpSettings.from_environment(url, protocol)
        self._texts += [repr(settings), str(settings), f"{settings.headers}"]
        with open_sender(settings) as sender:
            self._texts.append(repr(vars(sender)))
            try:
                outcome: Outcome | FillpathError = sender.send(one_span(), timeout)
            except FillpathError as caught:
                outcome = caught
        if isinstance(outcome, FillpathError):
            self._texts.append(with_locals(outcome))
        self._texts.append(repr(outcome))
        return outcome

    def text(self) -> str:
        """All of it: also what was logged and printed."""
        printed = self._capfd.readouterr()
        records = [f"{record.getMessage()}{vars(record)!r}" for record in self._caplog.records]
        return "\n".join([*self._texts, *records, self._caplog.text, printed.out, printed.err])


@pytest.fixture
def everything(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Everything:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "urllib3.connectionpool", "grpc", "grpc._cython", "fillpath"):
        caplog.set_level(logging.DEBUG, name)
    # As programs do that want to see their requests.
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", HEADERS)
    return Everything(caplog, capfd)


def echoing(protocol: str) -> GrpcReceiver | HttpReceiver:
    """A receiver that repeats a request's secrets when it refuses it."""
    if protocol == "grpc":

        def refuse(received: Any, context: Any) -> Any:
            text = f"no such token: {received.headers['authorization']}, {CANARY}"
            abort_with(context, grpc.StatusCode.UNAUTHENTICATED, text)

        return GrpcReceiver(refuse)
    return HttpReceiver(
        lambda received: Answer(
            401,
            f"no such token: {received.headers['authorization']},\n{CANARY}".encode(),
            {"content-type": "text/plain", "location": f"http://h/{CANARY}"},
        )
    )


def rejecting(protocol: str) -> GrpcReceiver | HttpReceiver:
    """A receiver that takes the request and repeats its secrets all the same."""
    response = partial(1, f"{CANARY} may not send this")
    if protocol == "grpc":
        return GrpcReceiver(lambda *_: response)
    return HttpReceiver(lambda _: Answer(body=response.SerializeToString()))


@contextmanager
def nothing() -> Iterator[int]:
    yield free_port()


ENDINGS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "refused": nothing,
    "reset": lambda: raw_server(reset),
    "silent": lambda: raw_server(say_nothing),
    "closed": lambda: raw_server(lambda _: None),
}


def test_the_server_alone_sees_header_values(protocol: str, everything: Everything) -> None:
    with echoing(protocol) as server:
        error = everything.send(server.url, protocol)
        assert isinstance(error, FillpathError)
        assert "no such token: ***" in error.message
        assert f"localhost:{server.port}" in error.message
        assert "OTEL_EXPORTER_OTLP_HEADERS" in (error.next_command or "")
        assert server.received[0].headers["authorization"] == f"Bearer {CANARY}"
    with rejecting(protocol) as server:
        assert everything.send(server.url, protocol) == Outcome(1, "*** may not send this")
    assert CANARY not in everything.text()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_failure_shows_header_values(scheme: str, protocol: str, everything: Everything) -> None:
    for ending in ENDINGS.values():
        with ending() as port:
            error = everything.send(f"{scheme}://localhost:{port}", protocol, 0.3)
            assert isinstance(error, FillpathError)
    everything.send(f"{scheme}://no-such-host.invalid:4318", protocol)
    assert CANARY not in everything.text()


def test_nor_does_what_nobody_thought_of(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*given: Any, **more: Any) -> Any:
        raise RuntimeError(f"cannot send {given} {more}")

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", explode)
    error = everything.send("http://localhost:4318", "http/protobuf")
    assert isinstance(error, OtlpUnavailable)
    assert "RuntimeError" in error.message
    assert CANARY not in everything.text()


def test_credentials_of_urls_are_not_shown(
    everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://user:{CANARY}@localhost:{free_port()}"
    error = everything.send(f"{url}/v1/traces", "http/protobuf")
    assert isinstance(error, OtlpUnavailable)
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.setenv("no_proxy", "")
    error = everything.send("http://collector.example:4318", "http/protobuf")
    assert isinstance(error, OtlpUnavailable)
    assert "through the proxy" in error.message
    assert CANARY not in everything.text()


SCRIPT = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from fillpath.exporters.otlp_sender import open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
settings = OtlpSettings.from_environment()
with open_sender(settings) as sender:
    for _ in range(2):
        try:
            print(sender.send(b"", 2))
        except Exception:
            traceback.print_exc()
"""


def test_a_process_that_logs_all_it_can_does_not_print_them(protocol: str, tmp_path: Path) -> None:
    server = echoing(protocol)
    with server:
        done = subprocess.run(
            [sys.executable, "-P", "-X", "dev", "-c", SCRIPT],
            cwd=tmp_path,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_HEADERS": HEADERS,
                "GRPC_VERBOSITY": "DEBUG",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert len(server.received) == 2
    assert "OtlpRefused" in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
