"""Real servers for tests, on loopback and on ports of their own: Jaeger and the Collector.

`make backends` builds them. Where one is missing a test is skipped with the reason; in CI it fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import pytest

ROOT: Final = Path(__file__).parent.parent
_MODULES: Final = {
    "versitygw": ("versitygw", "github.com/versity/versitygw"),
    "otelcol": ("collector", "go.opentelemetry.io/collector/processor/batchprocessor"),
    "jaeger": ("jaeger", "github.com/jaegertracing/jaeger"),
    "telemetrygen": (
        "telemetrygen",
        "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen",
    ),
}
_PATIENCE_SECONDS: Final = 30.0


def program(name: str) -> Path:
    """Give the path of a server that `make backends` has built; skips (in CI: fails) without it."""
    folder, module = _MODULES[name]
    pins = (ROOT / "deploy/backends" / folder / "go.mod").read_text()
    found = re.search(rf"(?m)^[^/\n]*{re.escape(module)} v(\S+)", pins)
    assert found, f"deploy/backends/{folder}/go.mod does not pin {module}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "fillpath/backends" / f"{name}-{found[1]}"
    if not path.is_file():
        missing(f"{path} is not there; run  make backends")
    return path


def missing(reason: str) -> None:
    """Skip the test, since something is not on this machine; in CI it fails."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Give a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: str | int) -> bool:
    """Tell whether somebody takes connections at a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def wait_until(true: Callable[[], Any], what: str, seconds: float = _PATIENCE_SECONDS) -> Any:
    """Wait until something is true, and give it; fails with `what` when it does not become so."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def get_json(url: str) -> Any:
    """Give what a server answers; None when it does not answer, or that it has nothing."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - it is http
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


class Server:
    """A server in a process of its own; it can be stopped, killed and started again.

    Args:
        command: What starts it.
        log: Where its output goes.
        environment: Variables besides those of this process.
    """

    def __init__(
        self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.command = command
        self.log = log
        self.environment = environment

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        wait_until(self._is_up, f"{self.command[0]} does not answer; its log: {self.log}")
        return self

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            tail = self.log.read_text()[-4000:]
            raise AssertionError(f"{self.command[0]} does not start: {tail}")
        return self.is_ready()

    def kill(self) -> None:
        """Let it die as by kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


_JAEGER_CONFIG: Final = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 1000000}}}}
  jaeger_query:
    storage: {traces: memory}
    enable_tracing: false
    http: {endpoint: "127.0.0.1:${env:QUERY_HTTP}"}
    grpc: {endpoint: "127.0.0.1:${env:QUERY_GRPC}"}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC}", max_recv_msg_size_mib: 64}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP}"}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
"""


class Jaeger(Server):
    """Jaeger with all its storage in memory.

    Args:
        folder: Where its configuration and its log go.
        config: Another configuration than one that takes OTLP; the ports are in the environment.

    Attributes:
        url: Of its HTTP API and its pages.
        otlp_grpc: Address that takes OTLP by gRPC.
        otlp_http: URL that takes OTLP by HTTP, without `/v1/traces`.
    """

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        if config is None:
            config = folder / "jaeger.yaml"
            config.write_text(_JAEGER_CONFIG)
        names = ("QUERY_HTTP", "QUERY_GRPC", "OTLP_GRPC", "OTLP_HTTP")
        ports = {name: str(free_port()) for name in names}
        super().__init__([program("jaeger"), "--config", config], folder / "jaeger.log", ports)
        self.url = f"http://127.0.0.1:{ports['QUERY_HTTP']}"
        self.otlp_grpc = f"127.0.0.1:{ports['OTLP_GRPC']}"
        self.otlp_http = f"http://127.0.0.1:{ports['OTLP_HTTP']}"

    def is_ready(self) -> bool:
        """Tell whether it answers, and takes spans."""
        takes = all(listens(self.environment[name]) for name in ("OTLP_GRPC", "OTLP_HTTP"))
        return takes and get_json(f"{self.url}/api/services") is not None

    def services(self) -> set[str]:
        """Give the names of the services it has spans of."""
        answer = get_json(f"{self.url}/api/services") or {}
        return set(answer.get("data") or ())

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Give one trace in Jaeger's own JSON; None when it has no such trace."""
        answer = get_json(f"{self.url}/api/traces/{trace_id}") or {}
        return next(iter(answer.get("data") or ()), None)

    def otlp_trace(self, trace_id: str) -> dict[str, Any] | None:
        """Give one trace as OTLP JSON; None when it has no such trace."""
        answer = get_json(f"{self.url}/api/v3/traces/{trace_id}")
        return None if answer is None else dict(answer["result"])


# With a rotation the file is written at once: what is acknowledged is there after a kill -9.
_COLLECTOR_CONFIG: Final = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC}", max_recv_msg_size_mib: 64}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP}"}
exporters:
  file: {path: "${env:RECEIVED}", rotation: {max_megabytes: 10000}}
extensions:
  health_check: {endpoint: "127.0.0.1:${env:HEALTH}"}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
  telemetry: {metrics: {level: none}}
"""


class Collector(Server):
    """The Collector; with its usual configuration here, it writes what it takes to a file.

    Args:
        folder: Where its configuration, its log and what it takes go.
        config: Another configuration; the ports are in the environment.
        environment: Variables for that.

    Attributes:
        otlp_grpc: Address that takes OTLP by gRPC.
        otlp_http: URL that takes OTLP by HTTP, without `/v1/traces`.
        received: File of one request as OTLP JSON a line.
    """

    def __init__(
        self,
        folder: Path,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if config is None:
            config = folder / "collector.yaml"
            config.write_text(_COLLECTOR_CONFIG)
        self.received = folder / "received.jsonl"
        ports = {name: str(free_port()) for name in ("OTLP_GRPC", "OTLP_HTTP", "HEALTH")}
        variables = {**ports, "RECEIVED": str(self.received), **(environment or {})}
        command: list[str | Path] = [program("otelcol"), "--config", config]
        super().__init__(command, folder / "collector.log", variables)
        self.otlp_grpc = f"127.0.0.1:{variables['OTLP_GRPC']}"
        self.otlp_http = f"http://127.0.0.1:{variables['OTLP_HTTP']}"
        self._health = f"http://127.0.0.1:{variables['HEALTH']}"

    def is_ready(self) -> bool:
        """Tell whether it answers that it is well, which it does once all of it has started."""
        return get_json(self._health) is not None

    def spans(self) -> list[dict[str, Any]]:
        """Give the spans that it has written so far, as OTLP JSON, each with its `resource`."""
        if not self.received.is_file():
            return []
        lines = self.received.read_bytes().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [
            {**span, "resource": group["resource"]}
            for request in whole
            for group in request["resourceSpans"]
            for scope in group["scopeSpans"]
            for span in scope["spans"]
        ]
