"""Finds the compiled half of recording, if there is one: the fast door and the packing of rows.

`_compiled_rows.c` does what `emitter`, `event_columns` and `side_texts` do, byte for byte, in less
time. It is built when fillpath is installed and there is a C compiler. Where there is none, or it
is switched off, or an interpreter has no lock of its own, recording is Python's alone.
"""

from __future__ import annotations

import importlib
import sysconfig
from types import ModuleType
from typing import Final

from fillpath.instrumentation import settings

_INTERFACE: Final = 1
"""What this version of fillpath calls; a checkout may still hold what was built for another."""


def _find() -> tuple[ModuleType | None, str]:
    if not settings.compiled_wanted():
        return None, f"{settings.ENV_COMPILED} switches the compiled one off"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None, "a free-threaded Python has no compiled one"
    try:
        module = importlib.import_module("fillpath.instrumentation._compiled_rows")
    except ImportError:
        return None, "the compiled one was not built"
    if getattr(module, "INTERFACE", None) != _INTERFACE:
        return None, "the compiled one was built for another version of fillpath"
    return module, ""


COMPILED: Final[ModuleType | None]
"""The compiled module, whose parts `_compiled_rows.pyi` describes; None: Python does it."""
WHY_NOT: Final[str]
"""Why there is none; empty if there is one."""
COMPILED, WHY_NOT = _find()
