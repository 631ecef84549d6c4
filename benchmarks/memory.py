"""Memory that recording takes from the traced process.

Two hosts publish the same bars in processes of their own: one records, one does not and imports
nothing of fillpath. Their resident set is read from outside, from /proc, from before the first
event until they end.
"""

from __future__ import annotations

import os
import re
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
    events = size.pick(20_000, 2_000_000, 10_000_000)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        traced, at_end = _watched("traced", events, folder)
        untraced, _ = _watched("untraced", events, folder)
        rows = _events_in_the_lake(folder)
    if rows != events:
        raise RuntimeError(f"{events} events were published, {rows} are in the lake")
    above = max(traced) - max(untraced)
    growth = traced[at_end] - traced[at_end // 5]
    peer = f"the same host, untraced, {events:,} events"
    return {
        "at most": figure(
            max(traced) / _MIB,
            "MiB",
            peer=(peer, max(untraced) / _MIB),
            goal="≤ 64 MiB above untraced",
            holds=above <= 64 * _MIB,
        ),
        "above untraced": figure(above / _MIB, "MiB", goal="≤ 64 MiB", at_most=64),
        "growth over the last four fifths": figure(growth / _MIB, "MiB"),
    }


def _watched(kind: str, events: int, folder: str) -> tuple[list[int], int]:
    """Resident set of a host in bytes, by time; and which of these was its last publishing."""
    command = [sys.executable, "-P", str(_HERE), "--inside", "memory", kind, str(events), folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        if host.stdout.readline().strip() != b"ready":
            raise RuntimeError(f"the {kind} host did not start")
        host.stdin.write(b"go\n")
        host.stdin.flush()
        os.set_blocking(host.stdout.fileno(), False)
        samples: list[int] = []
        at_end = -1
        while host.poll() is None:
            try:
                samples.append(_resident(host.pid))
            except OSError:
                break  # it has just ended
            if at_end < 0 and host.stdout.readline():
                at_end = len(samples) - 1
            time.sleep(_PAUSE)
        if host.wait() != 0:
            raise RuntimeError(f"the {kind} host failed")
    return samples, len(samples) - 1 if at_end < 0 else at_end


def _events_in_the_lake(folder: str) -> int:
    from fillpath.exporters.event_store import EventStore

    return EventStore(folder).facts()["spans"].rows


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", status)
    if found is None:
        raise ProcessLookupError(f"process {pid} is ending")
    return int(found[1]) * 1024


def child(kind: str, events: str, folder: str) -> None:
    """Be one of the two hosts."""
    number = int(events)
    if kind == "untraced":
        _say("ready")
        sys.stdin.readline()
        _publish_untraced(number)
        _say("done")
        return
    from bars import emit_bars
    from fillpath.instrumentation import Tracing

    with Tracing("benchmark", data=folder, writer="process") as session:
        publish = emit_bars(session.tracer)
        _say("ready")
        sys.stdin.readline()
        publish(number)
        _say("done")


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _publish_untraced(events: int) -> None:
    def handle(*_: object) -> None:
        pass

    low = 100.25
    for time_ in range(events):
        handle(time_, None, 100.5, 101.75, low, 101.0, 5000.0)
