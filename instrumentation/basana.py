"""Attaches fillpath to basana without a change to the user's code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from fillpath.instrumentation.engine_instrumentor import EngineInstrumentor
from fillpath.instrumentation.patches import Patches

if TYPE_CHECKING:
    from fillpath.instrumentation.basana_run import BasanaRun, BasanaRuns

_Function = Callable[..., Any]


class BasanaInstrumentor(EngineInstrumentor):
    """Traces every dispatcher of basana from its next `run` on, whenever it was built.

    A dispatcher's run is a run of the engine. What its handlers do is recorded, and what simulated
    exchanges do with their orders, fills, balances and loans. Exchanges that are real are followed
    as far as their events go: bars, trades and books that handlers are given.
    """

    engine = "basana"
    distribution = "basana"
    tested = ">=1.11,<1.12"
    trigger = "basana"
    probes: ClassVar[Mapping[str, Collection[str]]] = {
        "basana.core.dispatcher.base": (
            "EventDispatcher.run",
            "EventDispatcher.schedule",
            "EventDispatcher._call_event_handler",
            "EventDispatcher._execute_scheduled",
        ),
        "basana.core.event": ("FifoQueueEventSource.push",),
        "basana.core.event_sources.trading_signal": ("BaseTradingSignal.get_pairs",),
        "basana.backtesting.exchange": ("Exchange.create_order", "Exchange._on_bar_event"),
        "basana.backtesting.order_mgr": (
            "OrderEvent",
            "OrderManager.add_order",
            "OrderManager.cancel_order",
            "OrderManager._process_order",
            "OrderManager._update_balances",
        ),
        "basana.backtesting.orders": ("Order.add_fill", "Order.cancel", "Order.get_order_info"),
        "basana.backtesting.helpers": ("ExchangeObjectContainer.add",),
        "basana.backtesting.loan_mgr": ("LoanManager.repay_loan",),
    }

    def attach(self, patches: Patches) -> None:
        """Patch the dispatcher, the sources that are queues, and the simulated exchange."""
        # What reads basana's objects imports it, so it must not be imported before the user does.
        runs: BasanaRuns = importlib.import_module(
            "fillpath.instrumentation.basana_run"
        ).BasanaRuns()
        modules = {name.rpartition(".")[2]: importlib.import_module(name) for name in self.probes}
        dispatcher = modules["base"].EventDispatcher
        patches.wrap(dispatcher, "run", partial(self._run, runs))
        for name, make in (
            ("schedule", _schedule),
            ("_call_event_handler", _call_event_handler),
            ("_execute_scheduled", _execute_scheduled),
        ):
            patches.wrap(dispatcher, name, partial(make, runs))
        for owner, name, make in (
            (modules["event"].FifoQueueEventSource, "push", _push),
            (modules["exchange"].Exchange, "create_order", _create_order),
            (modules["order_mgr"].OrderManager, "add_order", _add_order),
            (modules["order_mgr"].OrderManager, "cancel_order", _cancel_order),
            (modules["order_mgr"].OrderManager, "_process_order", _process_order),
            (modules["order_mgr"].OrderManager, "_update_balances", _update_balances),
            (modules["orders"].Order, "add_fill", _add_fill),
            (modules["orders"].Order, "cancel", _cancel),
            (modules["helpers"].ExchangeObjectContainer, "add", _add),
            (modules["loan_mgr"].LoanManager, "repay_loan", _repay_loan),
        ):
            patches.wrap(owner, name, partial(make, runs))

    def _run(self, runs: BasanaRuns, original: _Function) -> _Function:
        async def run(dispatcher: Any, *args: Any, **kwargs: Any) -> Any:
            parameters = runs.parameters_of(dispatcher)
            with self.recorded_run(parameters=parameters) as recorded:
                if recorded is None:
                    return await original(dispatcher, *args, **kwargs)
                with runs.following(dispatcher, recorded):
                    return await original(dispatcher, *args, **kwargs)

        return run


def _schedule(runs: BasanaRuns, original: _Function) -> _Function:
    def schedule(dispatcher: Any, when: Any, job: Any) -> Any:
        result = original(dispatcher, when, job)
        found = runs.of(dispatcher)
        if found is not None:
            found.scheduled(when, job)
        return result

    return schedule


def _call_event_handler(runs: BasanaRuns, original: _Function) -> _Function:
    """Give every handler's call to `original` as one that is followed: the one choke point."""

    def call_event_handler(dispatcher: Any, event: Any, handler: Any) -> Coroutine[Any, Any, Any]:
        found = runs.of(dispatcher)
        followed = handler if found is None else found.delivery(event, handler)
        coroutine: Coroutine[Any, Any, Any] = original(dispatcher, event, followed)
        return coroutine

    return call_event_handler


def _execute_scheduled(runs: BasanaRuns, original: _Function) -> _Function:
    def execute_scheduled(dispatcher: Any, when: Any, job: Any) -> Coroutine[Any, Any, Any]:
        found = runs.of(dispatcher)
        followed = job if found is None else found.job(when, job)
        coroutine: Coroutine[Any, Any, Any] = original(dispatcher, when, followed)
        return coroutine

    return execute_scheduled


def _push(runs: BasanaRuns, original: _Function) -> _Function:
    def push(source: Any, event: Any) -> Any:
        # A task from before the run does not know it, but a source of signals does.
        found = runs.running() or runs.of(getattr(source, "_dispatcher", None))
        if found is not None:
            found.published(source, event)
        return original(source, event)

    return push


def _create_order(runs: BasanaRuns, original: _Function) -> _Function:
    async def create_order(exchange: Any, request: Any) -> Any:
        try:
            return await original(exchange, request)
        except Exception as error:
            found = runs.of(exchange._dispatcher)
            if found is not None:
                found.orders.request_refused(exchange, request, error)
            raise

    return create_order


def _add_order(runs: BasanaRuns, original: _Function) -> _Function:
    def add_order(manager: Any, order: Any) -> Any:
        found = runs.of(manager._ctx.dispatcher)
        if found is None:
            return original(manager, order)
        with found.asking():
            found.orders.asked_for(manager, order)
            try:
                return original(manager, order)
            except Exception as error:
                found.orders.refused(order, error)
                raise

    return add_order


def _cancel_order(runs: BasanaRuns, original: _Function) -> _Function:
    def cancel_order(manager: Any, order_id: str) -> Any:
        found = runs.of(manager._ctx.dispatcher)
        if found is None:
            return original(manager, order_id)
        with found.asking(), found.orders.cancelling(order_id):
            return original(manager, order_id)

    return cancel_order


def _process_order(runs: BasanaRuns, original: _Function) -> _Function:
    def process_order(manager: Any, order: Any, bar: Any, liquidity: Any) -> Any:
        found = runs.of(manager._ctx.dispatcher)
        if found is None:
            return original(manager, order, bar, liquidity)
        with found.orders.processing(manager):
            return original(manager, order, bar, liquidity)

    return process_order


def _update_balances(runs: BasanaRuns, original: _Function) -> _Function:
    def update_balances(manager: Any, order: Any, updates: Any) -> Any:
        try:
            return original(manager, order, updates)
        except Exception as error:
            found = runs.of(manager._ctx.dispatcher)
            if found is not None:
                found.orders.short_of(error)
            raise

    return update_balances


def _add_fill(runs: BasanaRuns, original: _Function) -> _Function:
    def add_fill(order: Any, fill: Any) -> Any:
        result = original(order, fill)
        found = runs.of_order(order)
        if found is not None:
            found.filled(order, fill)
        return result

    return add_fill


def _cancel(runs: BasanaRuns, original: _Function) -> _Function:
    def cancel(order: Any) -> Any:
        result = original(order)
        found = runs.of_order(order)
        if found is not None:
            found.cancelled(order)
        return result

    return cancel


def _add(runs: BasanaRuns, original: _Function) -> _Function:
    def add(container: Any, item: Any) -> Any:
        result = original(container, item)
        found = runs.of_order(item)
        if found is not None:
            found.accepted(item)
        return result

    return add


def _repay_loan(runs: BasanaRuns, original: _Function) -> _Function:
    def repay_loan(manager: Any, loan_id: str) -> Any:
        result = original(manager, loan_id)
        found: BasanaRun | None = runs.of(manager._ctx.dispatcher)
        if found is not None:
            found.orders.loan_repaid(manager, loan_id)
        return result

    return repay_loan
