"""Sessions of an optimisation's worker processes: each run of the engine is a run of its own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Mapping
from typing import Any, Final

from fillpath.instrumentation import identity, settings
from fillpath.instrumentation.tracing import Tracing

_LONGEST_PARENT: Final = 70
_numbers = itertools.count(1)


def is_worker() -> bool:
    """Tell whether this process is one that another Python process has made to work for it.

    That is a child forked from one that records, or any of `multiprocessing`. Such a process may
    end without a word, so what it records must not wait for its end.
    """
    return Tracing.forked_from is not None or multiprocessing.parent_process() is not None


def session_of_worker(parameters: Mapping[str, Any] | None) -> Tracing:
    """Make the session of one run of an engine in a worker process.

    It goes to the data folder of the session that this process was forked from, if it was. Its name
    is that one's, or ``FILLPATH_RUN_ID``, with the worker's process and a number behind it. No
    writer is started: the next command that reads takes the spool into the lake.

    Args:
        parameters: What this run is made with.
    """
    origin = Tracing.forked_from
    given = os.environ.get(settings.ENV_RUN_ID) if origin is None else origin.run_id
    parent = (given or identity.new_run_id())[:_LONGEST_PARENT]
    session = Tracing(
        f"{parent}.{os.getpid()}.{next(_numbers)}",
        portfolio=None if origin is None else origin.portfolio,
        service_name=None if origin is None else origin.service_name,
        parameters=parameters,
        writer="none",
        way="spool",
        otlp="off",
    )
    if origin is not None:
        session.folder, session.mode = origin.folder, origin.mode
        session.delivery, session.lake_sampling = origin.delivery, origin.lake_sampling
    return session
