"""Attaches fillpath to NautilusTrader, 1.x or 2.x, without a change to the user's code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final

from packaging.version import InvalidVersion, Version

from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.errors import FillpathError
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.tracing import Tracing
from fillpath.instrumentation.worker_runs import of_this_process

_log = logging.getLogger(__name__)
_KERNEL: Final = "nautilus_trader.system.kernel"
_TESTED: Final = ">=1.221,<2"
_PROBES: Final = {
    _KERNEL: (
        "MessageBus.subscribe",
        "MessageBus.send",
        "NautilusKernel.start",
        "NautilusKernel.start_async",
        "NautilusKernel.dispose",
    )
}


class NautilusInstrumentor(EngineInstrumentor):
    """Traces NautilusTrader, whichever version is installed.

    Of 1.x, every engine that is built from now on: `instrument()` replaces the message bus class
    that the engine's kernel builds. Engines built while it was there keep their bus after
    `uninstrument()`; it then only passes messages on, also in the middle of a run. An engine built
    before runs untraced, with a warning.

    Of 2.x, every run from now on, also of an engine that has been built already.

    The strategies' configuration is kept with the run as its parameters.
    """

    engine = "NautilusTrader"
    distribution = "nautilus_trader"
    tested = _TESTED
    trigger = _KERNEL
    probes: ClassVar[Mapping[str, Collection[str]]] = _PROBES

    _has_warned = False
    _is_late = False
    _rust: Any = None

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
            self._rust = rust.RustAttachment(self, namespace_of_trader, is_late=self._is_late)
            self._rust.attach(patches)
            return
        kernel: Any = sys.modules[_KERNEL]
        self._bus = importlib.import_module("fillpath.instrumentation.nautilus_bus")
        self._joined: weakref.WeakKeyDictionary[Any, Tracing] = weakref.WeakKeyDictionary()
        self._followers: weakref.WeakSet[Any] = weakref.WeakSet()

        def start(start_kernel: Any) -> Any:
            def run(system: Any) -> Any:
                self._started(system)
                return start_kernel(system)

            return run

        def dispose(dispose_kernel: Any) -> Any:
            def run(system: Any) -> None:
                dispose_kernel(system)
                if isinstance(system.msgbus, self._bus.TracedMessageBus):
                    session = self._joined.pop(system.msgbus.follower, None)
                    if session is not None:
                        of_this_process.leave(session)

            return run

        patches.replace(kernel, "MessageBus", self._building_bus(kernel.MessageBus))
        patches.wrap(kernel.NautilusKernel, "start", start)
        patches.wrap(kernel.NautilusKernel, "start_async", start)
        patches.wrap(kernel.NautilusKernel, "dispose", dispose)

    def _building_bus(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build_bus(*args: Any, **kwargs: Any) -> Any:
            try:
                session, has_joined = self.session_to_join()
            except FillpathError as error:
                _log.warning("The engine runs untraced: %s", error)
                return original(*args, **kwargs)
            if session is None or not _is_recorded(session, *args, **kwargs):
                if session is not None and has_joined:
                    of_this_process.leave(session)
                return original(*args, **kwargs)
            session.note_engine(self.engine, self.version)
            bus = self._bus.TracedMessageBus(*args, **kwargs)
            self._followers.add(bus.follower)
            if has_joined:
                self._joined[bus.follower] = session
            return bus

        return build_bus

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        if self._rust is not None:
            self._rust.detach()
            self._rust = None
        for follower in tuple(getattr(self, "_followers", ())):
            follower.detach()

    def _started(self, system: Any) -> None:
        """Keep with the run what the engine's strategies are configured with."""
        try:
            if not isinstance(system.msgbus, self._bus.TracedMessageBus):
                self._warn_of_untraced(system)
                return
            session, portfolio = Tracing.active(), system.msgbus.follower.portfolio()
            if session is not None and portfolio is not None:
                namespace = namespace_of_trader(system.trader_id.value)
                session.note_backtest(portfolio, namespace, _configuration(system.trader))
        except Exception as error:  # noqa: BLE001 - a trading system must survive its observer
            _log.warning("fillpath could not note the start of an engine: %r", error)

    def _warn_of_untraced(self, system: Any) -> None:
        session = Tracing.active()
        if session is None or self._has_warned or not _is_recorded(session, system.trader_id):
            return
        self._has_warned = True
        _log.warning(
            "The engine %s was built before instrument() and runs untraced; call instrument() "
            "first, or start the script by: fillpath run SCRIPT",
            system.trader_id.value,
        )


def _configuration(trader: Any) -> dict[str, Any]:
    """What the strategies are configured with beyond what any is; by strategy if several are."""
    usual = importlib.import_module("nautilus_trader.trading.config").StrategyConfig
    strategies = trader.strategies()
    found: dict[str, Any] = {}
    for strategy in strategies:
        for name, value in strategy.config.json_primitives().items():
            if value is not None and name not in usual.__struct_fields__:
                found[name if len(strategies) == 1 else f"{strategy.id.value}.{name}"] = value
    return found


def _is_recorded(session: Tracing, trader_id: Any = None, *_: Any, **__: Any) -> bool:
    """Tell whether the events of an engine are wanted, whose bus is built with these arguments."""
    name = getattr(trader_id, "value", None)
    return name is None or session.rollout.takes_portfolio(namespace_of_trader(name))


def namespace_of_trader(trader_id: str) -> str:
    """Portfolio namespace of an engine's trader id: ``DEMO-EQUITIES`` is ``demo/equities``."""
    return trader_id.lower().replace("-", "/")
