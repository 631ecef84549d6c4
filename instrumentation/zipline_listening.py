"""Listens to the objects that one run of zipline is made of, for as long as the run lasts.

The algorithm, its blotter and its metrics tracker belong to one run, and any of them may be of a
class of the user's own. So it is the objects that are listened to, and not their classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fillpath.instrumentation.engine_run import EngineRun
from fillpath.instrumentation.patches import Patches

Note = Callable[..., Any]


class ZiplineListening:
    """Hears the calls of some methods of some objects. What fails here never reaches the engine.

    Args:
        run: Whose recording this is for; nothing is heard while it does not record.
    """

    def __init__(self, run: EngineRun) -> None:
        self._run = run
        self._ears = Patches()

    def listen(
        self, owner: Any, name: str, *, before: Note | None = None, after: Note | None = None
    ) -> None:
        """Hear a method.

        Args:
            owner: The object.
            name: Its method; nothing happens if there is none.
            before: Gets the arguments, before the call.
            after: Gets the result, what `before` gave, and the arguments.
        """
        method = getattr(owner, name, None)
        if method is None:
            return

        @functools.wraps(method)
        def heard(*args: Any, **kwargs: Any) -> Any:
            told = None if before is None else self.quietly(before, *args, **kwargs)
            result = method(*args, **kwargs)
            if after is not None:
                self.quietly(after, result, told, *args, **kwargs)
            return result

        self._ears.replace(owner, name, heard)

    def surround(
        self, owner: Any, name: str, enter: Callable[..., AbstractContextManager[Any] | None]
    ) -> None:
        """Have a method run inside of what `enter` makes of its arguments."""
        method = getattr(owner, name, None)
        if method is None:
            return

        @functools.wraps(method)
        def surrounded(*args: Any, **kwargs: Any) -> Any:
            context = self.quietly(enter, *args, **kwargs)
            if context is None:
                return method(*args, **kwargs)
            with context:
                return method(*args, **kwargs)

        self._ears.replace(owner, name, surrounded)

    def quietly(self, note: Note, *args: Any, **kwargs: Any) -> Any:
        """Call what takes note of something; gives None where that fails or nothing is recorded."""
        if not self._run.is_recording:
            return None
        try:
            return note(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            self._run.tracer.complain(error)
            return None

    def stop(self) -> None:
        """Leave the objects as they were."""
        self._ears.undo()
