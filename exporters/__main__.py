"""The processes of this floor: `python -m fillpath.exporters --data FOLDER [--forward RUN]`.

Without a run it is the writer of the data folder, with one it sends that run by OTLP.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fillpath.instrumentation.settings import DataFolder

_SECONDS_TO_LEAVE: Final = 5.0
_log = logging.getLogger("fillpath.writer")


class _WithoutPandas(MetaPathFinder):
    """Hides pandas: pyarrow would import it if it is there, and the writer has no use for it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)
        return None


def main(arguments: list[str] | None = None) -> int:
    """Follow the runs of a data folder, or one of them, to the end; gives the exit code."""
    # Ctrl-C and a closed terminal reach the whole group. The host decides what becomes of the run;
    # if it dies of it, the writer finds that out.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leave_at: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: leave_at.append(time.monotonic() + _SECONDS_TO_LEAVE))
    sys.meta_path.insert(0, _WithoutPandas())
    from fillpath.instrumentation.settings import data_folder, keep_grpc_quiet

    keep_grpc_quiet()
    parser = argparse.ArgumentParser(prog="python -m fillpath.exporters", description=__doc__)
    parser.add_argument("--data", required=True, help="data folder")
    parser.add_argument("--lock", type=int, help="open descriptor that holds the folder's lock")
    parser.add_argument("--idle", type=float, help="seconds to wait for another run")
    parser.add_argument("--forward", metavar="RUN", help="send this run by OTLP instead")
    parser.add_argument("--select", choices=("sampled", "all"), default="sampled")
    given = parser.parse_args(arguments)
    name = "writer" if given.forward is None else "forwarder"
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s fillpath {name} %(process)d: %(message)s"
    )
    folder = data_folder(given.data)
    if given.forward is not None:
        from fillpath.exporters.otlp_forwarding import forward

        return forward(folder, given.forward, given.select, lambda: bool(leave_at))
    return _write(folder, given.lock, given.idle, leave_at)


def _write(folder: DataFolder, given: int | None, idle: float | None, leave_at: list[float]) -> int:
    from fillpath.exporters.process_metrics import process_metrics
    from fillpath.exporters.writer_service import IDLE_SECONDS, WriterService
    from fillpath.instrumentation.errors import EXIT_FAILURE, EXIT_OK
    from fillpath.instrumentation.writer_files import take_lock

    try:
        lock = take_lock(folder.spool) if given is None else given
    except OSError as error:
        _log.error("The spools in %s cannot be read: %s", folder.spool, error)
        return EXIT_FAILURE
    if lock is None:
        _log.warning("The data folder %s has a writer already.", folder.path)
        return EXIT_OK
    service = WriterService(
        folder,
        lock,
        idle_seconds=IDLE_SECONDS if idle is None else idle,
        leaving=lambda: bool(leave_at) and (time.monotonic() >= leave_at[0]),
    )
    with process_metrics("fillpath-writer"):
        service.serve()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
