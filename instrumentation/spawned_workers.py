"""Has workers that are started by `spawn` or `forkserver` attach to the engines their parent has.

A forked worker has it all by being forked. To the others, `multiprocessing` sends what they are to
know before their work is unpickled; a message of ours goes along (see `worker_bootstrap`). loky,
which joblib brings, starts its workers by a copy of that, and is treated alike.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import wrapt

from fillpath.instrumentation import run_names, worker_bootstrap
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.worker_bootstrap import KEY, STARTERS, Message
from fillpath.instrumentation.worker_origin import WorkerOrigin

if TYPE_CHECKING:
    from types import ModuleType

    from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_engines: dict[str, str] = {}
_inherited: dict[str, str] = {}
_patches = Patches()
_patched: set[str] = set()
_is_listening = False


def carry(instrumentor: EngineInstrumentor) -> None:
    """Have the workers that are started from now on attach to an engine as this process is."""
    kind = type(instrumentor)
    run_names.reserve()
    if kind.__module__ == "__main__":
        return  # a worker has no such module
    with _lock:
        is_first = not _engines
        _engines[instrumentor.trigger] = f"{kind.__module__}:{kind.__qualname__}"
        if is_first:
            _patch_all()


def carry_no_more(instrumentor: EngineInstrumentor) -> None:
    """Leave workers alone as far as this engine goes; after the last one, `multiprocessing` too."""
    with _lock:
        if _engines.pop(instrumentor.trigger, None) is not None and not _engines:
            _patches.undo()
            _patched.clear()


def _patch_all() -> None:
    global _is_listening  # noqa: PLW0603 - a hook cannot be taken back, so it is hung up once
    importlib.import_module(STARTERS[0])
    for name in STARTERS:
        # Not imported: another thread may be about to, and wait for the lock that is held here.
        if name in sys.modules:
            _patch(sys.modules[name])
    if not _is_listening:
        _is_listening = True
        for name in STARTERS:
            wrapt.register_post_import_hook(_imported, name)


def _imported(module: ModuleType) -> None:
    # Registered under the lock for what is imported already, and that is patched.
    if module.__name__ not in _patched:
        with _lock:
            if _engines:
                _patch(module)


def _patch(module: ModuleType) -> None:
    if module.__name__ in _patched or not hasattr(module, "get_preparation_data"):
        return
    _patched.add(module.__name__)
    _patches.wrap(module, "get_preparation_data", _sending)


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        try:
            data[KEY] = Message(_message())
        except Exception as error:  # noqa: BLE001 - the host's worker starts, whatever we do
            _log.warning("What a worker process does is not recorded: %r", error)
        return data

    return get_preparation_data


def _message() -> dict[str, Any]:
    with _lock:
        engines = _inherited | _engines
    return {
        "engines": engines,
        "origin": asdict(WorkerOrigin.of_this_process()),
        "path": [folder for folder in sys.path if isinstance(folder, str)],
        "text": _text(),
    }


@lru_cache(1)
def _text() -> str:
    return inspect.getsource(worker_bootstrap)


def attach_here(given: Mapping[str, Any], place: str) -> None:
    """Attach to an engine in a worker, which is about to import it.

    Args:
        given: What the worker was sent.
        place: The instrumentor, as ``module:Class``.
    """
    WorkerOrigin.sent = WorkerOrigin(**given["origin"])
    with _lock:
        _inherited.update(given["engines"])
    module, _, name = place.partition(":")
    instrumentor = getattr(importlib.import_module(module), name)()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(skip_dep_check=True)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not here any more may have held it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
