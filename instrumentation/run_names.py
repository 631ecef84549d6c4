"""Names of runs that nobody has named: one is kept ready, so that workers can be named after it.

Worker processes may be made before the run that they belong to begins, or without there ever being
one in the process that makes them.
"""

from __future__ import annotations

import os

from fillpath.instrumentation import identity, settings

_ready: str | None = None
_of_parent: str | None = None


def reserve() -> str:
    """Keep a name ready, unless one is; gives it."""
    global _ready  # noqa: PLW0603 - one process has one
    if _ready is None:
        _ready = identity.new_run_id()
    return _ready


def take_run_name() -> str:
    """Give the name for a run that begins now: ``FILLPATH_RUN_ID``, else the one that is ready."""
    global _ready
    given = os.environ.get(settings.ENV_RUN_ID)
    if given:
        return given
    taken, _ready = reserve(), identity.new_run_id()
    return taken


def of_workers() -> str:
    """Give the name after which workers are named while no session runs."""
    return os.environ.get(settings.ENV_RUN_ID) or _of_parent or reserve()


def _after_fork_in_child() -> None:
    # What the parent has ready names its own next run; this process may begin one of its own.
    global _ready, _of_parent
    _ready, _of_parent = None, _of_parent or _ready


os.register_at_fork(after_in_child=_after_fork_in_child)
