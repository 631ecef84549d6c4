"""Attaches fillpath to NautilusTrader 1.x without a change to the user's code."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Collection
from importlib import metadata
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)
_KERNEL: Final = "nautilus_trader.system.kernel"


class NautilusInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]  # no types
    """Traces every engine that is built from now on.

    `instrument()` replaces the message bus class that the engine's kernel builds, as soon as the
    kernel is imported; it imports nothing itself. Without a running `Tracing` session, the first
    engine starts one with the settings of the environment; it ends with the process. Its events go
    through OpenTelemetry's SDK if that has exporters (`opentelemetry-instrument` sets it up so), or
    if `instrument(tracer_provider=...)` names a provider; else to a spool.
    `uninstrument()` puts back exactly what was there. Engines built meanwhile keep their bus,
    which then only passes messages on.
    """

    _original: Any

    def instrumentation_dependencies(self) -> Collection[str]:
        """Versions of the engine that this is tested with."""
        return ("nautilus_trader >= 1.221, < 2",)

    def _instrument(self, **kwargs: Any) -> None:
        self._provider = kwargs.get("tracer_provider")
        self._original = None
        self._attached = True
        wrapt.register_post_import_hook(self._attach, _KERNEL)

    def _attach(self, kernel: Any) -> None:
        if not self._attached or self._original is not None:
            return
        bus = importlib.import_module("fillpath.instrumentation.nautilus_bus")
        original = kernel.MessageBus

        def build_bus(*args: Any, **kwargs: Any) -> Any:
            if not self._attached:
                return original(*args, **kwargs)
            try:
                session = Tracing.active() or Tracing.of_engine(self._provider).start()
                session.note_engine("NautilusTrader", metadata.version("nautilus_trader"))
            except FillpathError as error:
                _log.warning("The engine runs untraced: %s", error)
                return original(*args, **kwargs)
            return bus.TracedMessageBus(*args, **kwargs)

        kernel.MessageBus = build_bus
        self._original = original

    def _uninstrument(self, **_: Any) -> None:
        self._attached = False
        if self._original is None:
            return
        kernel: Any = sys.modules[_KERNEL]
        kernel.MessageBus = self._original
        self._original = None
