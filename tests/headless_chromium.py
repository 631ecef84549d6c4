"""A real browser for tests: headless Chromium over a pipe, without network and without packages."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """A headless Chromium driven over a pipe, with everything it complained about or asked for."""

    def __init__(self, process: subprocess.Popen[bytes], writer: int, reader: int) -> None:
        self._process, self._writer, self._reader = process, writer, reader
        self._buffer, self._calls, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol and return its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._calls:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], 60)
            assert ready, f"no answer from chromium; so far it said {self.complaints}"
            chunk = os.read(self._reader, 1 << 20)
            assert chunk, f"chromium ended with {self._process.wait(5)}"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, details = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif method in {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}:
            self.complaints.append(json.dumps(details))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {details['message']}")

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show the page and wait until its charts are drawn."""
        if not self._session:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        drawn = "document.documentElement?.dataset.charts === 'done'"
        assert self.until(drawn, 60), self.complaints

    def until(self, condition: str, seconds: float = 10) -> bool:
        """Wait until a JavaScript condition is true; tell whether it became so."""
        deadline = time.monotonic() + seconds
        while not (met := bool(self.run(condition))) and time.monotonic() < deadline:
            time.sleep(0.02)
        return met

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


def _pipe() -> tuple[int, int]:
    """Return a pipe's ends, above the numbers that the browser is to have them under."""
    ends = os.pipe()
    above = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return above[0], above[1]


@contextmanager
def a_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium without network; where there is none, skip the test (which fails in CI)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on PATH to draw the report")
    to_browser, our_end = _pipe()
    our_start, from_browser = _pipe()
    # The browser reads commands from descriptor 3 and answers on 4, whatever numbers ours have.
    script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            script,
            "bash",
            program,
            *FLAGS,
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
        ],
        pass_fds=(to_browser, from_browser),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    browser = Browser(process, our_end, our_start)
    try:
        yield browser
        browser._session = ""
        browser.call("Browser.close")
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        os.close(our_end)
        os.close(our_start)
