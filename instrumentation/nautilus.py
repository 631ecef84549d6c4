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
from fillpath.instrumentation.settings import recording_enabled
from fillpath.instrumentation.tracing import Tracing

_log = logging.getLogger(__name__)
_KERNEL: Final = "nautilus_trader.system.kernel"


def _is_recorded(session: Tracing, trader_id: Any = None, *_: Any, **__: Any) -> bool:
    """Tell whether the events of an engine are wanted, whose bus is built with these arguments."""
    name = getattr(trader_id, "value", None)
    return name is None or session.rollout.takes_portfolio(namespace_of_trader(name))


class NautilusInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]  # no types
    """Traces every engine that is built from now on.

    `instrument()` replaces the message bus class that the engine's kernel builds, as soon as the
    kernel is imported; it imports nothing itself. Without a running `Tracing` session, the first
    engine starts one with the settings of the environment; it ends with the process. Its events go
    through OpenTelemetry's SDK if `opentelemetry-instrument` has set it up with exporters, or
    `instrument(tracer_provider=...)` names a provider; else to a spool.
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
        self._declined = False
        self._attached = recording_enabled()
        if not self._attached:
            return
        wrapt.register_post_import_hook(self._attach, _KERNEL)

    def _attach(self, kernel: Any) -> None:
        if not self._attached or self._original is not None:
            return
        bus = importlib.import_module("fillpath.instrumentation.nautilus_bus")
        original = kernel.MessageBus

        def build_bus(*args: Any, **kwargs: Any) -> Any:
            try:
                session = self._session()
                if session is None or not _is_recorded(session, *args, **kwargs):
                    return original(*args, **kwargs)
                session.note_engine("NautilusTrader", metadata.version("nautilus_trader"))
            except FillpathError as error:
                _log.warning("The engine runs untraced: %s", error)
                return original(*args, **kwargs)
            return bus.TracedMessageBus(*args, **kwargs)

        kernel.MessageBus = build_bus
        self._original = original

    def _session(self) -> Tracing | None:
        """The session that records the next engine, if one does."""
        active = Tracing.active()
        if active is not None or self._declined or not self._attached:
            return active if self._attached else None
        session = Tracing.of_engine(self._provider).start()
        self._declined = not session.running  # else every engine would draw the run's lot anew
        return session if session.running else None

    def _uninstrument(self, **_: Any) -> None:
        self._attached = False
        if self._original is None:
            return
        kernel: Any = sys.modules[_KERNEL]
        kernel.MessageBus = self._original
        self._original = None


def namespace_of_trader(trader_id: str) -> str:
    """Portfolio namespace of an engine's trader id: ``DEMO-EQUITIES`` is ``demo/equities``."""
    return trader_id.lower().replace("-", "/")
