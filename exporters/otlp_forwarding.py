"""The process that sends one run by OTLP: `python -m fillpath.exporters --forward RUN`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Final

from fillpath.exporters import host_process
from fillpath.exporters.otlp_forwarder import PATIENCE_SECONDS, OtlpForwarder, Selection, alone
from fillpath.exporters.otlp_metrics import OTLP_METRICS
from fillpath.exporters.otlp_positions import left_to_replay
from fillpath.exporters.otlp_sender import open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.exporters.process_metrics import process_metrics
from fillpath.instrumentation.errors import (
    EXIT_FAILURE,
    EXIT_OK,
    EXIT_USAGE,
    FillpathError,
    UsageError,
)
from fillpath.instrumentation.forwarder_files import Forwarding
from fillpath.instrumentation.settings import ENV_OTLP_PATIENCE, DataFolder

_log = logging.getLogger("fillpath.otlp")
_NICENESS: Final = 10
"""The host and its writer go first."""


def forward(
    data: DataFolder, run_id: str, selection: Selection, leaving: Callable[[], bool]
) -> int:
    """Send a run until all of it is there, or the rest has to wait for a replay.

    Args:
        data: The data folder.
        run_id: The run, which has a spool.
        selection: What to send.
        leaving: Tells that the process should leave at once.

    Returns:
        The exit code: that of a usage error when the settings cannot be used as they are.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    folder = data.spool / run_id
    try:
        with alone(folder) as is_alone:
            if not is_alone:
                return EXIT_OK
            settings = OtlpSettings.from_environment()
            with process_metrics("fillpath-forwarder"), open_sender(settings) as sender:
                OTLP_METRICS.register()
                OtlpForwarder(
                    data, run_id, selection, sender, patience=_patience(), leaving=leaving
                ).forward()
    except FillpathError as error:
        mark = host_process.start_mark(os.getpid()) or 0
        left = left_to_replay(error, run_id, selection)
        Forwarding(os.getpid(), mark, selection=selection).become("gave_up", left).write(folder)
        _log.warning("Run '%s' is not sent: %s", run_id, error)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE
    except OSError as error:
        _log.warning("Run '%s' is not sent: %s", run_id, error)
        return EXIT_FAILURE
    return EXIT_OK


def _patience() -> float:
    given = os.environ.get(ENV_OTLP_PATIENCE, "").strip()
    if not given:
        return PATIENCE_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(
            f"{ENV_OTLP_PATIENCE} is {given!r}; it must be a number of seconds.",
            next_command=f"export {ENV_OTLP_PATIENCE}={PATIENCE_SECONDS:g}",
        )
    return seconds
