"""Attaches fillpath to zipline (zipline-reloaded) without a change to the user's code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.patches import Patches
from fillpath.instrumentation.zipline_names import parameters_of
from fillpath.instrumentation.zipline_run import ZiplineRun

_log = logging.getLogger(__name__)

Method = Callable[..., Any]


class ZiplineInstrumentor(EngineInstrumentor):
    """Traces every run of an algorithm that begins from now on, also of one that was built before.

    `instrument()` wraps `TradingAlgorithm.run`, to which `run_algorithm` and the command
    ``zipline run`` come as well, the generator of who steps through a run by himself, and what
    calls the user's functions and the controls. All else is heard on the objects of each run, for
    as long as it lasts.
    """

    engine = "zipline"
    distribution = "zipline-reloaded"
    tested = ">=3.2,<3.3"
    trigger = "zipline.algorithm"
    probes: ClassVar = {
        "zipline.algorithm": (
            "TradingAlgorithm.run",
            "TradingAlgorithm.handle_data",
            "TradingAlgorithm._create_metrics_tracker",
            "TradingAlgorithm._create_generator",
        ),
        "zipline.utils.events": ("Event.handle_data", "EventManager.handle_data"),
        "zipline.gens.tradesimulation": ("AlgorithmSimulator._cleanup_expired_assets",),
        "zipline.finance.blotter": (
            "SimulationBlotter.order",
            "SimulationBlotter.cancel",
            "SimulationBlotter.get_transactions",
        ),
        "zipline.finance.ledger": (
            "Ledger.process_transaction",
            "PositionTracker.pay_dividends",
        ),
        "zipline.finance.controls": ("TradingControl.handle_violation", "AccountControl.fail"),
        "zipline.utils.algo_instance": ("get_algo_instance",),
    }

    def attach(self, patches: Patches) -> None:
        """Wrap the few methods that begin a run, or call what is the user's."""
        self._by_algorithm: dict[int, ZiplineRun] = {}
        self._current = sys.modules["zipline.utils.algo_instance"].get_algo_instance
        algorithm: Any = sys.modules["zipline.algorithm"]
        patches.wrap(algorithm.TradingAlgorithm, "run", self._recorded)
        patches.wrap(algorithm.TradingAlgorithm, "_create_generator", self._stepped)
        events: Any = sys.modules["zipline.utils.events"]
        patches.wrap(events.Event, "handle_data", self._handled)
        simulation: Any = sys.modules["zipline.gens.tradesimulation"]
        patches.wrap(simulation.AlgorithmSimulator, "_cleanup_expired_assets", self._cleaned_up)
        controls: Any = sys.modules["zipline.finance.controls"]
        patches.wrap(controls.TradingControl, "handle_violation", self._told)
        patches.wrap(controls.AccountControl, "fail", self._told)

    def _recorded(self, original: Method) -> Method:
        def run(algorithm: Any, *args: Any, **kwargs: Any) -> Any:
            with self._following(algorithm):
                return original(algorithm, *args, **kwargs)

        return run

    @contextmanager
    def _following(self, algorithm: Any) -> Iterator[None]:
        """Record what an algorithm does in the body."""
        runs = self._by_algorithm
        parameters = _quietly(parameters_of, algorithm)
        with self.recorded_run(parameters=parameters) as engine_run:
            whole = engine_run and _quietly(ZiplineRun, engine_run, algorithm)
            if not whole:
                yield
                return
            runs[id(algorithm)] = whole
            try:
                yield
            finally:
                whole.stop()
                runs.pop(id(algorithm), None)

    def _stepped(self, original: Method) -> Method:
        """Record a run whose days somebody steps through himself, without `run`."""

        def create_generator(algorithm: Any, *args: Any, **kwargs: Any) -> Any:
            if id(algorithm) in self._by_algorithm:
                return original(algorithm, *args, **kwargs)
            with ExitStack() as stack:
                stack.enter_context(self._following(algorithm))
                days = original(algorithm, *args, **kwargs)
                following = stack.pop_all()
            return _stepping(days, following)

        return create_generator

    def _handled(self, original: Method) -> Method:
        runs = self._by_algorithm

        def handle_data(event: Any, algorithm: Any, data: Any, dt: Any) -> Any:
            whole = runs.get(id(algorithm))
            if whole is None or not whole.run.is_recording:
                return original(event, algorithm, data, dt)
            # As the original does; a rule may be asked only once, since some count.
            if event.rule.should_trigger(dt):
                with whole.handling(event.callback):
                    event.callback(algorithm, data)
            return None

        return handle_data

    def _cleaned_up(self, original: Method) -> Method:
        runs = self._by_algorithm

        def clean_up(simulator: Any, *args: Any) -> Any:
            whole = runs.get(id(simulator.algo))
            context = whole and whole.listening.quietly(whole.housekeeping, "auto_close")
            if not context:
                return original(simulator, *args)
            with context:
                return original(simulator, *args)

        return clean_up

    def _told(self, original: Method) -> Method:
        runs, current = self._by_algorithm, self._current

        def say_no(control: Any, *args: Any, **kwargs: Any) -> Any:
            whole = runs.get(id(current()))
            if whole is not None:
                asset, amount = (*args, None, None)[:2]
                whole.listening.quietly(whole.breach, control, amount, asset)
            return original(control, *args, **kwargs)

        return say_no


def _stepping(days: Iterator[Any], following: ExitStack) -> Iterator[Any]:
    """Give the days of a run on; its record ends with them, or where they are left."""
    with following:
        try:
            yield from days
        except GeneratorExit:  # who has seen enough has not failed
            return


def _quietly(make: Callable[..., Any], *args: Any) -> Any:
    """Call what only a recording needs; gives None where it fails."""
    try:
        return make(*args)
    except Exception as error:  # noqa: BLE001 - the engine runs, whatever we do
        _log.warning("A run of zipline is not recorded as it should be: %r", error)
        return None
