"""The servers of the stack: started in order, watched, and ended in the reverse order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from places import ROOT, StackError

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1


class Interrupted(Exception):
    """The user wants the stack to end."""


@dataclass(slots=True)
class Server:
    """One server.

    Args:
        name: What the user calls it.
        argv: Its command line.
        health: URL that answers 200 when it is ready.
        log: Where its output goes.
        environment: Variables besides those of this process.
    """

    name: str
    argv: Sequence[str | Path]
    health: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, interrupted: Callable[[], bool]) -> None:
        """Start it and wait until it is ready.

        Raises:
            StackError: It ended, or did not become ready in time.
            Interrupted: The user does not want to wait.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=ROOT,
                # Ctrl-C is for the stack, which ends its servers in order.
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs here
            )
        deadline = time.monotonic() + _START_SECONDS
        while not answers(self.health):
            if interrupted():
                raise Interrupted
            if self.process.poll() is not None:
                raise StackError(f"{self.name} does not start:\n{self._said()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} does not answer at {self.health}; see {self.log}")
            time.sleep(_POLL_SECONDS)

    def has_ended(self) -> bool:
        """Tell whether it ended without being asked."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()


def answers(url: str) -> bool:
    """Tell whether a server of ours answers that it is well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - always http
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _end_with_parent() -> None:
    # Also a stack that is killed leaves no server behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
