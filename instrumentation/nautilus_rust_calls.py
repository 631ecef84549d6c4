"""What calls of a strategy's methods tell: its commands, and its empty handlers.

Each function is told of a call before the engine's own method runs, and gets the same arguments;
what it gives back is called when that is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.nautilus_rust_run import RustRun, clock_of, name_of


def submit_order(run: RustRun, strategy: Any, order: Any, *_: Any, **__: Any) -> None:
    """Record the order and that it is sent."""
    run.accounts.begin()
    run.orders.submit("SubmitOrder", [order], name_of(strategy), clock_of(strategy))


def _submit_order_list(run: RustRun, strategy: Any, order_list: Any, *_: Any, **__: Any) -> None:
    if isinstance(order_list, list | tuple) and order_list:
        run.accounts.begin()
        run.orders.submit(
            "SubmitOrderList", list(order_list), name_of(strategy), clock_of(strategy)
        )


def _ids(given: Sequence[Any]) -> list[str]:
    """Texts of orders' ids; what is none the engine refuses, so there is no command."""
    texts = [getattr(one, "value", None) for one in given]
    return [text for text in texts if isinstance(text, str)]


def _modify_order(
    run: RustRun,
    strategy: Any,
    client_order_id: Any,
    quantity: Any = None,
    price: Any = None,
    trigger_price: Any = None,
    *_: Any,
    **__: Any,
) -> None:
    ids = _ids([client_order_id])
    wanted = {
        semconv.Order.QUANTITY: quantity,
        semconv.Order.PRICE: price,
        semconv.Order.TRIGGER_PRICE: trigger_price,
    }
    if ids and all(value is None or hasattr(value, "as_decimal") for value in wanted.values()):
        changes = {key: value.as_decimal() for key, value in wanted.items() if value is not None}
        run.orders.change("ModifyOrder", ids, name_of(strategy), clock_of(strategy), changes)


def _modify_orders(run: RustRun, strategy: Any, updates: Any = (), *_: Any, **__: Any) -> None:
    if isinstance(updates, list | tuple):
        ids = _ids([update[0] for update in updates if isinstance(update, tuple) and update])
        if ids:
            run.orders.change("BatchModifyOrders", ids, name_of(strategy), clock_of(strategy))


def _cancel_order(run: RustRun, strategy: Any, client_order_id: Any, *_: Any, **__: Any) -> None:
    ids = _ids([client_order_id])
    if ids:
        run.orders.change("CancelOrder", ids, name_of(strategy), clock_of(strategy))


def _cancel_orders(run: RustRun, strategy: Any, client_order_ids: Any, *_: Any, **__: Any) -> None:
    ids = _ids(client_order_ids) if isinstance(client_order_ids, list | tuple) else []
    if ids:
        run.orders.change("BatchCancelOrders", ids, name_of(strategy), clock_of(strategy))


def _cancel_all_orders(
    run: RustRun,
    strategy: Any,
    instrument_id: Any,
    order_side: Any = None,
    client_id: Any = None,
    strategy_only: bool = True,
    *_: Any,
    **__: Any,
) -> None:
    del client_id
    whose = strategy.strategy_id if strategy_only else None
    side = None if order_side is None else order_side.name
    ids = run.orders.open_orders(instrument_id, whose, side)
    run.orders.change("CancelAllOrders", ids, name_of(strategy), clock_of(strategy))


def _close_position(
    run: RustRun, strategy: Any, position: Any, *_: Any, **__: Any
) -> Callable[[], None]:
    return run.closing(strategy, str(position.instrument_id))


def _close_all_positions(
    run: RustRun, strategy: Any, instrument_id: Any, *_: Any, **__: Any
) -> Callable[[], None]:
    return run.closing(strategy, str(instrument_id))


def _market_exit(run: RustRun, strategy: Any) -> Callable[[], None]:
    return run.closing(strategy, None)


def on_order_event(run: RustRun, _: Any, event: Any) -> None:
    """Record an order's event."""
    run.told_order(event)


def on_position_event(run: RustRun, _: Any, event: Any) -> None:
    """Record a position's event."""
    run.told_position(event)


def on_data(run: RustRun, _: Any, data: Any, *, handler: str) -> None:
    """Record market data."""
    run.told_data(handler, data)


Told = Callable[..., Callable[[], None] | None]
STRATEGY_COMMANDS: Final[Mapping[str, Told]] = {
    "submit_order": submit_order,
    "submit_order_list": _submit_order_list,
    "modify_order": _modify_order,
    "modify_orders": _modify_orders,
    "cancel_order": _cancel_order,
    "cancel_orders": _cancel_orders,
    "cancel_all_orders": _cancel_all_orders,
    "close_position": _close_position,
    "close_all_positions": _close_all_positions,
    "market_exit": _market_exit,
    "publish_signal": RustRun.signal,
}
"""What to do with a call of a strategy's method."""
