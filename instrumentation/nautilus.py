"""Attaches fillpath to NautilusTrader 1.x without a change to the user's code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection
from importlib import metadata
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from fillpath.instrumentation.tracing import Tracing

_KERNEL: Final = "nautilus_trader.system.kernel"
_TRADER: Final = "nautilus_trader.trading.trader"
_BUS: Final = "MessageBus"


class NautilusInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]  # no types
    """Traces every engine that is built from now on.

    `instrument()` replaces the message bus class that the engine's kernel builds, as soon as the
    kernel is imported; it imports nothing itself. Without a running `Tracing` session, the first
    engine starts one with the settings of the environment; it ends with the process.
    `uninstrument()` puts back exactly what was there. Engines built meanwhile keep their bus,
    which then only passes messages on.
    """

    _originals: dict[tuple[str, str], Any]

    def instrumentation_dependencies(self) -> Collection[str]:
        """Versions of the engine that this is tested with."""
        return ("nautilus_trader >= 1.221, < 2",)

    def _instrument(self, **_: Any) -> None:
        self._originals = {}
        self._attached = True
        wrapt.register_post_import_hook(self._attach, _KERNEL)

    def _attach(self, kernel: Any) -> None:
        if not self._attached or self._originals:
            return
        bus = importlib.import_module("fillpath.instrumentation.nautilus_bus")
        trader = importlib.import_module(_TRADER)
        originals = {(_KERNEL, _BUS): kernel.MessageBus, (_TRADER, "reset"): trader.Trader.reset}
        original_reset = trader.Trader.reset

        def build_bus(*args: Any, **kwargs: Any) -> Any:
            if not self._attached:
                return originals[_KERNEL, _BUS](*args, **kwargs)
            session = Tracing.active() or Tracing().start()
            session.note_engine("NautilusTrader", metadata.version("nautilus_trader"))
            return bus.TracedMessageBus(*args, **kwargs)

        def reset(self: Any) -> None:
            original_reset(self)
            follower = getattr(self._msgbus, "follower", None)
            if follower is not None:
                follower.on_engine_reset()

        kernel.MessageBus = build_bus
        trader.Trader.reset = reset
        self._originals = originals

    def _uninstrument(self, **_: Any) -> None:
        self._attached = False
        if not self._originals:
            return
        kernel: Any = sys.modules[_KERNEL]
        kernel.MessageBus = self._originals[_KERNEL, _BUS]
        trader: Any = sys.modules[_TRADER]
        trader.Trader.reset = self._originals[_TRADER, "reset"]
        self._originals = {}
