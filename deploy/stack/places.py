"""Where the stack's parts are: ports, programs, and the file that tells others."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
STATE_FOLDER: Final = ".fillpath-stack"
"""What the stack keeps: queue, spans, metrics, logs."""
USUAL_PORTS: Final = {
    "otlp_grpc": 4317,
    "otlp_http": 4318,
    "collector_health": 13133,
    "collector_metrics": 8889,
    "collector_telemetry": 8888,
    "jaeger": 16686,
    "jaeger_grpc": 16685,
    "jaeger_otlp": 14317,
    "jaeger_health": 13134,
    "jaeger_metrics": 8890,
    "prometheus": 9090,
    "reports": 8787,
}
"""What listens where, unless others do; the configurations have the same defaults."""
_PINS: Final = {
    "otelcol": ("collector", "go.opentelemetry.io/collector/processor/batchprocessor"),
    "jaeger": ("jaeger", "github.com/jaegertracing/jaeger"),
}
_STACK_FILE: Final = "stack.json"


class StackError(Exception):
    """Something that the user has to know; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where a stack listens, and whose it is.

    Args:
        pid: The process that runs it; 0 for one that docker runs.
        data: The data folder whose results it serves; empty if not known.
        ports: By the names of `USUAL_PORTS`.
    """

    pid: int
    data: str
    ports: dict[str, int]

    def url(self, name: str) -> str:
        """Give the URL of a part."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def write(self, state: Path) -> None:
        """Tell others about it."""
        new = state / f"{_STACK_FILE}.new"
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.replace(state / _STACK_FILE)


def read_stack(state: Path) -> Stack | None:
    """Give the stack that was started from the folder `state`; it may have ended."""
    try:
        return Stack(**json.loads((state / _STACK_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def forget_stack(state: Path) -> None:
    """Say that there is no stack any more."""
    (state / _STACK_FILE).unlink(missing_ok=True)


def choose_ports(*, free: bool) -> tuple[dict[str, int], list[int]]:
    """Give a port to each part; also those usual ones that are taken.

    Args:
        free: Take none of the usual ones.
    """
    ports: dict[str, int] = {}
    taken: list[int] = []
    held: list[socket.socket] = []
    try:
        for name, usual in USUAL_PORTS.items():
            if not free and (probe := _bound(usual)) is not None:
                ports[name] = usual
            else:
                taken += [] if free else [usual]
                probe = _bound(0)
                if probe is None:
                    raise StackError("There is no free port on 127.0.0.1.")
                ports[name] = probe.getsockname()[1]
            held.append(probe)
    finally:
        for probe in held:
            probe.close()
    return ports, taken


def _bound(port: int) -> socket.socket | None:
    probe = socket.socket()
    # A server that has just ended does not keep its port from the next.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return None
    return probe


def shown(path: Path) -> str:
    """Write a path from the current folder, where it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def built_program(name: str) -> Path:
    """Give the path of a server that `make backends` builds.

    Raises:
        StackError: It is not there.
    """
    folder, module = _PINS[name]
    pins = (ROOT / "deploy/backends" / folder / "go.mod").read_text(encoding="utf-8")
    version = re.search(rf"(?m)^[^/\n]*{re.escape(module)} v(\S+)", pins)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "fillpath/backends" / f"{name}-{version[1] if version else ''}"
    if not os.access(path, os.X_OK):
        raise StackError(f"{path} is not there: run  make backends  once (it needs Go).")
    return path


def found_program(name: str) -> Path | None:
    """Give the path of a program that may be installed on this machine."""
    found = shutil.which(name)
    return Path(found) if found else None
