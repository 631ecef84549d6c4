"""The process that sends a run by OTLP, as a host sees it: started, and looked after."""

from __future__ import annotations

import logging
import subprocess
import threading
from typing import Final

from fillpath.instrumentation.errors import EXIT_USAGE, FillpathError
from fillpath.instrumentation.forwarder_files import LOG_NAME, Forwarding
from fillpath.instrumentation.settings import DataFolder
from fillpath.instrumentation.writer_process import spawn_exporter

_log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 2.0
_LONGEST_WATCH_SECONDS: Final = 300.0


class ForwarderProcess:
    """Sees to it that one run is sent to the OTLP endpoint that the environment names.

    The process reads the run's spool by itself and outlives the host until all is sent. The
    endpoint, its headers and keys stand in the environment, which it inherits: they are never
    written to a file or a command line.

    Args:
        data: The data folder.
        run_id: The run.
        selection: `sampled` or `all`.
    """

    def __init__(self, data: DataFolder, run_id: str, selection: str) -> None:
        self._data = data
        self._folder = data.spool / run_id
        self._run_id = run_id
        self._selection = selection
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._told: str | None = None

    def start(self) -> None:
        """Start the process, and another one whenever it dies while the run goes on."""
        self.spawn()
        threading.Thread(target=self._watch, name="fillpath-otlp", daemon=True).start()

    def spawn(self) -> None:
        """Start the process; a host that cannot goes on, and the run waits for a replay."""
        try:
            self._process = spawn_exporter(
                ["--forward", self._run_id, "--select", self._selection],
                self._data,
                self._data.spool / LOG_NAME,
            )
        except OSError as error:
            self._tell(f"the process that sends it cannot be started ({error})")

    def stop(self) -> None:
        """Leave the process to itself: the run has ended, and it sends what is left."""
        self._stopped.set()

    def _watch(self) -> None:
        pause = _WATCH_SECONDS
        while not self._stopped.wait(pause):
            code = None if self._process is None else self._process.poll()
            forwarding = Forwarding.read(self._folder)
            if forwarding is not None and forwarding.error is not None:
                why = FillpathError(forwarding.error, next_command=forwarding.next_command)
                self._tell(str(why))
            if code == EXIT_USAGE:
                return  # the settings are wrong, and stay so
            if code is not None and code != 0:
                self.spawn()
                pause = min(2 * pause, _LONGEST_WATCH_SECONDS)

    def _tell(self, why: str) -> None:
        if self._told is None:
            _log.warning(
                "The host goes on. Run '%s' is not sent by OTLP for now: %s", self._run_id, why
            )
        self._told = why
