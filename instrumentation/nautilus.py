"""Attaches fillpath to NautilusTrader, 1.x or 2.x, without a change to the user's code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final

from packaging.version import InvalidVersion, Version

from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)
_KERNEL: Final = "nautilus_trader.system.kernel"
_TESTED: Final = ">=1.221,<2"
_PROBES: Final = {_KERNEL: ("MessageBus.subscribe", "MessageBus.send")}


class NautilusInstrumentor(EngineInstrumentor):
    """Traces NautilusTrader, whichever version is installed.

    Of 1.x, every engine that is built from now on: `instrument()` replaces the message bus class
    that the engine's kernel builds. Engines built while it was there keep their bus after
    `uninstrument()`; it then only passes messages on.

    Of 2.x, every run from now on, also of an engine that has been built already.
    """

    engine = "NautilusTrader"
    distribution = "nautilus_trader"
    tested = _TESTED
    trigger = _KERNEL
    probes: ClassVar[Mapping[str, Collection[str]]] = _PROBES

    _is_late = False

    def _instrument(self, **kwargs: Any) -> None:
        kind = type(self)
        if self.is_rust:
            rust = importlib.import_module("fillpath.instrumentation.nautilus_rust")
            kind.tested, kind.trigger, kind.probes = rust.TESTED, rust.TRIGGER, rust.PROBES
            self._is_late = rust.TRIGGER in sys.modules
        else:
            kind.tested, kind.trigger, kind.probes = _TESTED, _KERNEL, _PROBES
        super()._instrument(**kwargs)

    @property
    def is_rust(self) -> bool:
        """Whether the engine that is installed is the one whose core is written in Rust."""
        with contextlib.suppress(InvalidVersion):
            return Version(self.version).major >= 2
        return False

    def attach(self, patches: Patches) -> None:
        """Have the kernel build a bus that is followed; take hold of 2.x at its classes."""
        if self.is_rust:
            rust = importlib.import_module("fillpath.instrumentation.nautilus_rust")
            rust.RustAttachment(self, namespace_of_trader, is_late=self._is_late).attach(patches)
            return
        kernel: Any = sys.modules[_KERNEL]
        bus = importlib.import_module("fillpath.instrumentation.nautilus_bus")
        original = kernel.MessageBus

        def build_bus(*args: Any, **kwargs: Any) -> Any:
            try:
                session = self.session()
                if session is None or not _is_recorded(session, *args, **kwargs):
                    return original(*args, **kwargs)
                session.note_engine(self.engine, self.version)
            except FillpathError as error:
                _log.warning("The engine runs untraced: %s", error)
                return original(*args, **kwargs)
            return bus.TracedMessageBus(*args, **kwargs)

        patches.replace(kernel, "MessageBus", build_bus)


def _is_recorded(session: Tracing, trader_id: Any = None, *_: Any, **__: Any) -> bool:
    """Tell whether the events of an engine are wanted, whose bus is built with these arguments."""
    name = getattr(trader_id, "value", None)
    return name is None or session.rollout.takes_portfolio(namespace_of_trader(name))


def namespace_of_trader(trader_id: str) -> str:
    """Portfolio namespace of an engine's trader id: ``DEMO-EQUITIES`` is ``demo/equities``."""
    return trader_id.lower().replace("-", "/")
