"""Attaches to NautilusTrader 2.x, whose engine is compiled: its bus is out of reach.

What can be taken hold of is where Python calls the engine (a run, a strategy's commands) and where
the engine calls Python (a strategy's handlers, a timer's).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation.nautilus_rust_calls import (
    STRATEGY_COMMANDS,
    Told,
    on_data,
    on_order_event,
    on_position_event,
    submit_order,
)
from fillpath.instrumentation.nautilus_rust_engines import EngineKind, EngineParts, engine_kinds
from fillpath.instrumentation.nautilus_rust_run import RustRun, name_of
from fillpath.instrumentation.patches import Patches

if TYPE_CHECKING:
    from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor

_log = logging.getLogger(__name__)

TESTED: Final = ">=2.0.0rc3,<=2.0.0rc7"
TRIGGER: Final = "nautilus_trader"
"""All of the compiled part comes with the package itself."""

_TIMERS: Final = {
    "set_time_alert": 2,
    "set_time_alert_ns": 2,
    "set_timer": 4,
    "set_timer_ns": 4,
    "set_timer_zoned": 4,
}
"""Methods of a clock that take a call-back, and its place among their arguments."""
_MARKET_HANDLERS: Final = ("on_bar", "on_quote", "on_trade")

PROBES: Final[Mapping[str, tuple[str, ...]]] = {
    "nautilus_trader.backtest": tuple(
        f"BacktestEngine.{name}"
        for name in (
            "add_strategy",
            "add_actor",
            "add_exec_algorithm",
            "run",
            "end",
            "reset",
            "dispose",
            "instance_id",
            "cache",
            "list_venues",
            "portfolio",
        )
    ),
    "nautilus_trader.trading": (
        *(f"Strategy.{name}" for name in STRATEGY_COMMANDS),
        "Strategy.on_order_event",
        "Strategy.on_position_event",
        "ExecutionAlgorithm.submit_order",
    ),
    "nautilus_trader.common": ("DataActor.publish_signal", "Clock.set_timer_ns"),
    "nautilus_trader.portfolio": ("Portfolio.build_snapshot",),
    "nautilus_trader.model": ("OrderFilled.event_id", "Position.apply", "MarketOrder.init_event"),
}


class RustAttachment:
    """What is done to the engine's classes, and the runs that go on.

    Args:
        instrumentor: Gives the session.
        namespace_of: Makes a portfolio namespace of a trader's id.
        is_late: Whether there may be engines that have strategies already.
    """

    def __init__(
        self,
        instrumentor: EngineInstrumentor,
        namespace_of: Callable[[str], str],
        *,
        is_late: bool,
    ) -> None:
        self._is_late = is_late
        self._made_by_config: set[Any] = set()
        self._warned: set[tuple[str, str]] = set()
        self._going_on: set[RustRun] = set()
        self._instrumentor = instrumentor
        self._namespace_of = namespace_of
        trading = importlib.import_module("nautilus_trader.trading")
        common = importlib.import_module("nautilus_trader.common")
        self._clock = common.Clock
        # Makes strategies while its engine runs; not all releases have it.
        self._controller: Any = getattr(trading, "Controller", None)
        self._strategy, self._algorithm = trading.Strategy, trading.ExecutionAlgorithm
        self._actor = common.DataActor
        self._kinds: tuple[type, ...] = (self._strategy, self._algorithm, self._actor)
        self._here = threading.local()  # the engine calls back in the thread that runs it
        self._components: dict[Any, list[weakref.ref[Any]]] = {}
        self._runs: dict[Any, RustRun] = {}

    def attach(self, patches: Patches) -> None:
        """Patch the engine."""
        for kind in engine_kinds():
            self._attach_to_engines(patches, kind)
        self._attach_to_strategies(patches)
        for name, place in _TIMERS.items():
            if hasattr(self._clock, name):  # not all releases have all of them
                patches.wrap(self._clock, name, functools.partial(self._timer, place))

    def detach(self) -> None:
        """Take off the strategies what follows their handlers, also while they run."""
        for run in tuple(self._going_on):
            run.unwrap()

    def _attach_to_engines(self, patches: Patches, kind: EngineKind) -> None:
        ways = (
            (kind.adders, self._add),
            (kind.config_adders, self._add_by_config),
            (kind.runs, self._run),
            (kind.coroutines, self._run_async),
            (kind.resets, self._forget),
        )
        for names, make in ways:
            for name in names:
                if hasattr(kind.owner, name):  # rc3's nodes take configurations alone
                    patches.wrap(kind.owner, name, functools.partial(make, kind))
        if kind.is_disposing and hasattr(kind.owner, "build"):
            patches.wrap(kind.owner, "build", functools.partial(self._build, kind))

    def _attach_to_strategies(self, patches: Patches) -> None:
        for name, tell in STRATEGY_COMMANDS.items():
            patches.wrap(self._strategy, name, self._told_first(tell))
        patches.wrap(self._algorithm, "submit_order", self._told_first(submit_order))
        for kind in (self._actor, self._algorithm):
            patches.wrap(kind, "publish_signal", self._told_first(RustRun.signal))
        for kind in (self._strategy, self._algorithm):
            patches.wrap(kind, "on_order_event", self._told_first(on_order_event))
            patches.wrap(kind, "on_position_event", self._told_first(on_position_event))
        for name in ("create_strategy_from_config", "create_actor_from_config"):
            if hasattr(self._controller, name):
                patches.wrap(self._controller, name, self._make)
        for kind in (self._strategy, self._actor):
            for name in _MARKET_HANDLERS:
                patches.wrap(kind, name, self._told_first(functools.partial(on_data, handler=name)))

    @property
    def current(self) -> RustRun | None:
        """The run that goes on in this thread, if it is recorded."""
        run: RustRun | None = getattr(self._here, "run", None)
        return run if run is not None and run.run.is_recording else None

    def _told_first(self, tell: Told) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make what tells the run of a call before the engine's own method does it."""

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def told(component: Any, *args: Any, **kwargs: Any) -> Any:
                run = self.current
                if run is None:
                    return original(component, *args, **kwargs)
                after = None
                try:
                    after = tell(run, component, *args, **kwargs)
                except Exception as error:  # noqa: BLE001 - a trading system must survive us
                    run.run.tracer.complain(error)
                if after is None:
                    return original(component, *args, **kwargs)
                try:
                    return original(component, *args, **kwargs)
                finally:
                    after()

            return told

        return make

    # -- Engines --------------------------------------------------------------------------------

    def _add(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        def add(engine: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(engine, *args, **kwargs)
            with contextlib.suppress(Exception):  # what cannot be remembered is searched for
                for given in (*args, *kwargs.values()):
                    for one in given if isinstance(given, list | tuple) else (given,):
                        if isinstance(one, self._kinds):
                            known = self._components.setdefault(kind.key(engine), [])
                            known.append(weakref.ref(one))
            return result

        return add

    def _build(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        """Forget a node that had the place in memory that this one, which is new, has now."""

        def build(node: Any, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(Exception):
                if kind.read(node) is None:
                    self._forget_all_of(kind.key(node))
            return original(node, *args, **kwargs)

        return build

    def _run(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(engine: Any, *args: Any, **kwargs: Any) -> Any:
            with self._recording(kind, self._read(kind, engine)):
                return original(engine, *args, **kwargs)

        return run

    def _run_async(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        """Record what an engine does while the coroutine runs that drives it."""

        def run_async(engine: Any, *args: Any, **kwargs: Any) -> Any:
            read = self._read(kind, engine)  # which is not answered any more in the coroutine
            driving = original(engine, *args, **kwargs)

            async def drive() -> Any:
                with self._recording(kind, read):
                    return await driving

            return drive()

        return run_async

    def _read(self, kind: EngineKind, engine: Any) -> tuple[Any, EngineParts] | None:
        """Read an engine that is about to run; None, with a warning, if it cannot be traced."""
        try:
            parts = kind.read(engine)
            if parts is not None:
                return kind.key(engine), parts
        except Exception as error:  # noqa: BLE001 - the engine runs, whatever we do
            self._warn(kind, repr(error))
            return None
        self._warn(
            kind,
            "its engine is not built, so there is no strategy to follow. Call build(), and add "
            "strategies, before run().",
        )
        return None

    def _warn(self, kind: EngineKind, why: str) -> None:
        if (kind.name, why) not in self._warned:  # a sweep has thousands of runs
            self._warned.add((kind.name, why))
            _log.warning("A %s of NautilusTrader runs untraced: %s", kind.name, why)

    @contextlib.contextmanager
    def _recording(self, kind: EngineKind, read: tuple[Any, EngineParts] | None) -> Iterator[None]:
        """Record what an engine does in the body."""
        outer = getattr(self._here, "run", None)
        found = self._begun(kind, *read) if outer is None and read is not None else None
        if found is None:
            yield
            return
        run, stack = found
        self._here.run = run
        self._going_on.add(run)
        try:
            with stack:
                try:
                    yield
                finally:
                    run.finish()
        finally:
            run.unwrap()
            self._going_on.discard(run)
            self._here.run = outer

    def _begun(
        self, kind: EngineKind, key: Any, parts: EngineParts
    ) -> tuple[RustRun, ExitStack] | None:
        """Begin to record a run of an engine, or go on with an earlier one of it."""
        stack = ExitStack()
        try:
            components = self._components_of(key, parts.trader_id)
            known = self._runs.get(key)
            if known is not None and not known.run.tracer.stopped:
                run = known
                run.run.active = True
                stack.callback(setattr, run.run, "active", False)
            else:
                recorded = stack.enter_context(
                    self._instrumentor.recorded_run(
                        parameters=_parameters_of(components),
                        namespace=self._namespace_of(parts.trader_id.value),
                    )
                )
                if recorded is None:
                    return None
                run = self._runs[key] = RustRun(recorded, self._kinds)
                run.orders.passes_over(parts.cache.orders())
            run.of(parts)
            run.wrap(components, is_disposing=kind.is_disposing)
        except Exception as error:  # noqa: BLE001 - the engine runs, whatever we do
            self._warn(kind, repr(error))
            stack.close()
            return None
        return run, stack

    def _components_of(self, key: Any, trader_id: Any) -> list[Any]:
        """The strategies, actors and algorithms of an engine that are written in Python.

        An engine does not tell. Those that were added while we did not look, or that the engine
        itself made of a configuration, are among all the objects there are.
        """
        found = self._known_components(key)
        is_controlled = self._controller is not None and self._controller.__subclasses__()
        if self._is_late or is_controlled or key in self._made_by_config:
            for one in self._all_components(trader_id):
                found.setdefault(id(one), one)
        return list(found.values())

    def _known_components(self, key: Any) -> dict[int, Any]:
        added = self._components.get(key, ())
        return {id(one): one for one in (known() for known in added) if one is not None}

    def _all_components(self, trader_id: Any) -> Iterator[Any]:
        for one in gc.get_objects():
            if issubclass(type(one), self._kinds) and one.trader_id == trader_id:
                yield one

    def _forget(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        is_end = original.__name__ == "dispose"

        def forget(engine: Any, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(Exception):
                key = kind.key(engine)
                self._runs.pop(key, None)
                if is_end:
                    self._forget_all_of(key)
            return original(engine, *args, **kwargs)

        return forget

    def _forget_all_of(self, key: Any) -> None:
        self._runs.pop(key, None)
        self._components.pop(key, None)
        self._made_by_config.discard(key)

    def _add_by_config(self, kind: EngineKind, original: Callable[..., Any]) -> Callable[..., Any]:
        def add(engine: Any, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(Exception):
                self._made_by_config.add(kind.key(engine))
            return original(engine, *args, **kwargs)

        return add

    def _make(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Follow what a controller makes while its engine runs."""

        def make(controller: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(controller, *args, **kwargs)
            run = self.current
            if run is not None:
                try:
                    run.wrap(self._all_components(controller.trader_id))
                except Exception as error:  # noqa: BLE001 - a trading system must survive us
                    run.run.tracer.complain(error)
            return result

        return make

    # -- Timers ---------------------------------------------------------------------------------

    def _timer(self, place: int, original: Callable[..., Any]) -> Callable[..., Any]:
        """Have a call-back of the user's followed that a timer is set with."""

        def set_timer(clock: Any, *args: Any, **kwargs: Any) -> Any:
            run = self.current
            if run is not None:
                if callable(kwargs.get("callback")):
                    kwargs["callback"] = run.timer(kwargs["callback"])
                elif len(args) > place and callable(args[place]):
                    args = (*args[:place], run.timer(args[place]), *args[place + 1 :])
            return original(clock, *args, **kwargs)

        return set_timer


def _parameters_of(components: list[Any]) -> dict[str, Any]:
    """What the user's own configurations say; with several strategies, by their names."""
    by_strategy = {}
    for component in components:
        config = getattr(component, "config", None)
        own = {k: v for k, v in getattr(config, "__dict__", {}).items() if not k.startswith("_")}
        if own:
            by_strategy[name_of(component)] = own
    if len(by_strategy) == 1:
        (found,) = by_strategy.values()
    else:
        found = {f"{one}.{k}": v for one, own in by_strategy.items() for k, v in own.items()}
    return {key: value if _is_plain(value) else str(value) for key, value in found.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
