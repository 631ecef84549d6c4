"""Stands for the module `warnings` in backtesting.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_OURS: Final = "fillpath.instrumentation."


class WarningsOfTheHost:
    """Passes warnings on as they are, and tells of each.

    A warning names a line of the user's script by counting frames. Those that fillpath has put in
    between must not count: else the line would be one of fillpath's, and a filter for the script's
    module would no longer fit.

    Args:
        warnings: The module.
        hear: Gets each message and the frame that warned, once the warning is out.
    """

    def __init__(self, warnings: Any, hear: Callable[[Any, FrameType], None]) -> None:
        self._warnings = warnings
        self._hear = hear

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warnings, name)

    def warn(
        self, message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **kwargs: Any
    ) -> None:
        """Warn as `warnings.warn` does."""
        frame = sys._getframe(1)
        level = stacklevel + 1 + _ours_within(frame, stacklevel)
        self._warnings.warn(message, category, level, *args, **kwargs)
        self._hear(message, frame)


def _ours_within(frame: FrameType, stacklevel: int) -> int:
    """Count the frames of fillpath up to the one that a warning is to name."""
    ours, outer = 0, frame.f_back
    while outer is not None and stacklevel > 1:
        if str(outer.f_globals.get("__name__")).startswith(_OURS):
            ours += 1
        else:
            stacklevel -= 1
        outer = outer.f_back
    return ours
