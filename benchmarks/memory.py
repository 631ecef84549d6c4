"""Memory that recording takes from the traced process.

Two hosts publish the same bars in processes of their own: one records, one does not and imports
nothing of fillpath. Their resident set is read from outside, from /proc, while they run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from harness import Figure, Size, figure

_HERE: Final = Path(__file__).resolve().parent
_PAUSE: Final = 0.01
_MIB: Final = 1 << 20


def measure(size: Size) -> dict[str, Figure]:
    """Watch a traced host and an untraced one."""
    events = size.pick(5_000, 2_000_000, 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        traced = _watched("traced", events, folder)
        untraced = _watched("untraced", events, folder)
    above = max(traced) - max(untraced)
    fifth = traced[len(traced) // 5]
    peer = "the same host, untraced"
    return {
        f"at most, {events:,} events": figure(
            max(traced) / _MIB,
            "MiB",
            peer=(peer, max(untraced) / _MIB),
            goal="≤ 64 MiB above untraced",
            holds=above <= 64 * _MIB,
        ),
        "above untraced": figure(above / _MIB, "MiB", goal="≤ 64 MiB", at_most=64),
        "growth over the last four fifths": figure((max(traced) - fifth) / _MIB, "MiB"),
    }


def _watched(kind: str, events: int, folder: str) -> list[int]:
    """Resident set of a host while it publishes, in bytes."""
    command = [sys.executable, "-P", str(_HERE), "--inside", "memory", kind, str(events), folder]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        if host.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the {kind} host did not start")
        host.stdin.write("go\n")
        host.stdin.flush()
        samples: list[int] = []
        while host.poll() is None:
            try:
                samples.append(_resident(host.pid))
            except (OSError, ValueError):
                break  # it has just ended
            time.sleep(_PAUSE)
        if host.wait() != 0:
            raise RuntimeError(f"the {kind} host failed")
    return samples


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def child(kind: str, events: str, folder: str) -> None:
    """Be one of the two hosts."""
    number = int(events)
    if kind == "untraced":
        _say_ready()
        _publish_untraced(number)
        return
    from bars import emit_bars
    from fillpath.instrumentation import Tracing

    with Tracing("benchmark", data=folder, writer="process") as session:
        publish = emit_bars(session.tracer)
        _say_ready()
        publish(number)


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _publish_untraced(events: int) -> None:
    def handle(*_: object) -> None:
        pass

    low = 100.25
    for time_ in range(events):
        handle(time_, None, 100.5, 101.75, low, 101.0, 5000.0)
