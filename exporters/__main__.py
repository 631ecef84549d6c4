"""The writer process: `python -m fillpath.exporters --data FOLDER --run RUN --host-pid PID`."""

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
from typing import Final

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
    """Follow one run until it is over; gives the exit code."""
    # Ctrl-C and a closed terminal reach the whole group. The host decides what becomes of the run;
    # if it dies of it, the writer finds that out.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leave_at: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: leave_at.append(time.monotonic() + _SECONDS_TO_LEAVE))
    sys.meta_path.insert(0, _WithoutPandas())
    from fillpath.exporters.writer import follow
    from fillpath.instrumentation.errors import EXIT_OK, FillpathError
    from fillpath.instrumentation.settings import data_folder

    parser = argparse.ArgumentParser(prog="python -m fillpath.exporters", description=__doc__)
    parser.add_argument("--data", required=True, help="data folder")
    parser.add_argument("--run", required=True, help="run to bring into the lake")
    parser.add_argument("--host-pid", required=True, type=int, help="process that records it")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="fillpath writer: %(message)s")
    try:
        follow(
            data_folder(given.data),
            given.run,
            given.host_pid,
            lambda: bool(leave_at) and time.monotonic() >= leave_at[0],
        )
    except FillpathError as error:
        _log.error("%s", error)
        return error.exit_code
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
