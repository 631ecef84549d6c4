"""Attaches fillpath to NautilusTrader 1.x without a change to the user's code."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, ClassVar, Final

from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)
_KERNEL: Final = "nautilus_trader.system.kernel"


class NautilusInstrumentor(EngineInstrumentor):
    """Traces every engine that is built from now on.

    `instrument()` replaces the message bus class that the engine's kernel builds. Engines built
    while it was there keep their bus after `uninstrument()`; it then only passes messages on.
    """

    engine = "NautilusTrader"
    distribution = "nautilus_trader"
    tested = ">=1.221,<2"
    trigger = _KERNEL
    probes: ClassVar = {_KERNEL: ("MessageBus.subscribe", "MessageBus.send")}

    def attach(self, patches: Patches) -> None:
        """Have the kernel build a bus that is followed."""
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
