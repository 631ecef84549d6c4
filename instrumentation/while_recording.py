"""Keeps what reads an engine from disturbing it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from fillpath.instrumentation.engine_run import EngineRun


class _Record(Protocol):
    run: EngineRun


_P = ParamSpec("_P")
_R = TypeVar("_R", bound=_Record)


def while_recording(
    method: Callable[Concatenate[_R, _P], None],
) -> Callable[Concatenate[_R, _P], None]:
    """Skip a method of an engine's record once nothing is recorded any more.

    What goes wrong in it is complained of, and does not reach the host.
    """

    def guarded(record: _R, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not record.run.is_recording:
            return
        try:
            method(record, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            record.run.tracer.complain(error)

    functools.update_wrapper(guarded, method)
    return guarded
