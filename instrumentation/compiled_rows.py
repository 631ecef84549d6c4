"""Finds the compiled half of recording, if there is one: the fast door and the packing of rows.

`_compiled_rows.c` does what `emitter`, `event_columns` and `side_texts` do, byte for byte, in less
time. It is built when fillpath is installed and there is a C compiler. Where there is none, or it
is switched off, or the interpreter is free-threaded, Python does it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Final

from fillpath.instrumentation import settings

_NAME: Final = "fillpath.instrumentation._compiled_rows"
_INTERFACE: Final = 2
"""What this version of fillpath calls; a checkout may still hold what was built for another."""
_AGAIN: Final = "install fillpath again"


def _find() -> tuple[ModuleType | None, str, str]:
    if not settings.compiled_wanted():
        name = settings.ENV_COMPILED
        return None, f"{name} switches the compiled part off", f"unset {name}"
    if "t" in sys.abiflags:
        return None, "free-threaded Pythons have no compiled part", ""
    try:
        module = importlib.import_module(_NAME)
    except ImportError as error:
        if error.name == _NAME and error.path is None:
            return (
                None,
                "the compiled part was not built",
                "install a C compiler, then fillpath again",
            )
        return None, f"the compiled part cannot be loaded ({error})", _AGAIN
    if getattr(module, "INTERFACE", None) != _INTERFACE:
        return None, "the compiled part was built for another version of fillpath", _AGAIN
    return module, "", ""


_FOUND: Final = _find()
COMPILED: Final = _FOUND[0]
"""The compiled module, whose parts `_compiled_rows.pyi` describes; None: Python does it."""
WHY_NOT: Final = _FOUND[1]
"""Why there is none; empty if there is one."""
ADVICE: Final = _FOUND[2]
"""What to do to have one; empty if there is nothing."""
