"""Has a worker process attach to the engines that its parent is attached to, once it imports one.

The text of this module is sent to processes that `multiprocessing` starts by `spawn` or
`forkserver`, and run there before anything of the host's. So it imports next to nothing that such a
process has not imported already: a worker without an engine, or without fillpath, is to notice
nothing of it, whatever release of Python it runs.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

KEY = "fillpath"
"""Under what `multiprocessing` sends it, beside what it sends itself."""
STARTERS = ("multiprocessing.spawn", "joblib.externals.loky.backend.spawn", "loky.backend.spawn")
"""Modules whose `get_preparation_data` gives what a process is sent before its work."""


class Message:
    """What is sent to a worker: unpickled there, it runs this module and `begin`.

    Args:
        given: `engines`, the instrumentors as ``module:Class``, by the module whose import brings
            an engine in; `origin`, the arguments of `WorkerOrigin`, or None; `path`, on which the
            parent finds its modules; `text`, of this module.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, dict[str, Any]]]:
        """Be pickled as a call that every Python knows and that cannot fail."""
        others = {name: value for name, value in self.given.items() if name != "text"}
        call = (
            "try:\n"
            f"    text = {self.given['text']!r}\n"
            "    names = {'__name__': 'fillpath_worker_bootstrap'}\n"
            "    exec(text, names)\n"
            f"    names['begin'](dict({others!r}, text=text))\n"
            "except Exception:\n"
            "    pass\n"
        )
        return exec, (call, {})


class EngineWatch:
    """A finder of modules that finds none, but sees an engine be imported and attaches to it first.

    Args:
        given: As in `Message`.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.waiting = dict(given["engines"])

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Attach to the engine that a module brings in, and leave the finding to the others."""
        if name not in self.waiting:
            return None
        self.attach(name)
        # The list of finders is being gone through: one that is new in it would be passed over.
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            found = None if find is None else find(name, path, target)
            if found is not None:
                return found
        return None

    def attach(self, name: str) -> None:
        """Attach to the engine that this module brings in; its import does not fail of us."""
        instrumentor = self.waiting.pop(name)
        if not self.waiting and self in sys.meta_path:
            sys.meta_path.remove(self)
        try:
            from fillpath.instrumentation.spawned_workers import attach_here

            attach_here(self.given, instrumentor)
        except Exception as error:  # noqa: BLE001 - the host works, whatever we do
            import logging

            logging.getLogger("fillpath").warning(
                "What this worker process does with %s is not recorded: %r",
                name.partition(".")[0],
                error,
            )


def begin(given: dict[str, Any]) -> None:
    """Wait for an engine to be imported, here and in the processes that this one starts.

    Args:
        given: As in `Message`.
    """
    watch = EngineWatch(given)
    sys.meta_path.insert(0, watch)
    for name in list(watch.waiting):
        if name in sys.modules:  # by the preloading of a fork server
            sys.path[:] = given["path"]  # which comes next by itself
            watch.attach(name)
    for name in STARTERS:
        if name in sys.modules:
            _pass_on(sys.modules[name], given)


def _pass_on(spawn: ModuleType, given: dict[str, Any]) -> None:
    prepare = spawn.get_preparation_data

    def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
        data = prepare(*args, **kwargs)
        data.setdefault(KEY, Message(given))
        return data

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]
