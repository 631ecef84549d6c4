"""Names the user's code that an engine was running when it failed."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Final, NamedTuple

_OURS: Final = "fillpath"


class FailingCode(NamedTuple):
    """What the engine had called.

    Attributes:
        name: ``Class.method``, or the name of a function.
        owner: The object whose method it is; None for a function.
    """

    name: str
    owner: Any


def failing_code(error: BaseException, engine: str) -> FailingCode | None:
    """Find the user's code that an engine called last before it failed.

    That is where the engine handed over to the user for the last time, such as an indicator's
    `next`; what that called itself is in the traceback. The error may have been raised in the
    engine, if the user has called it wrongly.

    Args:
        error: With its traceback.
        engine: The engine's package.

    Returns:
        The code; None if no code of the user's was running.
    """
    found: FrameType | None = None
    trace, was_users = error.__traceback__, False
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        is_users = package not in {engine, _OURS} and package not in sys.stdlib_module_names
        if is_users and not was_users:
            found = frame
        was_users = is_users
    return None if found is None else _described(found)


def _described(frame: FrameType) -> FailingCode:
    code = frame.f_code
    if code.co_argcount:
        first = frame.f_locals.get(code.co_varnames[0])
        kind = first if isinstance(first, type) else type(first)
        if hasattr(kind, code.co_name):
            return FailingCode(f"{kind.__name__}.{code.co_name}", first)
    return FailingCode(code.co_qualname.rpartition("<locals>.")[2], None)
