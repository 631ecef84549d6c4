"""Orders of a zipline run, as its blotter has them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.open_event import Cause

if TYPE_CHECKING:
    from fillpath.instrumentation.zipline_run import ZiplineRun

_TYPES: Final = {
    (False, False): "MARKET",
    (True, False): "LIMIT",
    (False, True): "STOP_MARKET",
    (True, True): "STOP_LIMIT",
}
"""By whether there is a limit and a stop."""
_OPEN: Final = "OPEN"
_UPDATED: Final = "UPDATED"
_CANCELLED: Final = "CANCELLED"


class ZiplineOrders:
    """Hears a blotter, of whatever class.

    Args:
        whole: The run.

    Attributes:
        target: The signal that an order which is being placed follows from, if it has one.
    """

    def __init__(self, whole: ZiplineRun) -> None:
        self.target: Cause | None = None
        self._whole = whole
        self._run = whole.run
        self._blotter = whole.algorithm.blotter
        self._costs: dict[int, float] = {}
        self._split: list[Any] = []
        hear = whole.listening.listen
        hear(self._blotter, "order", after=self._placed)
        for method in ("cancel", "reject", "hold"):
            hear(self._blotter, method, before=self._status, after=self._changed)
        for policy in ("execute_cancel_policy", "execute_daily_cancel_policy"):
            whole.listening.surround(
                self._blotter, policy, lambda *_: whole.housekeeping("cancel_policy")
            )
        hear(self._blotter, "process_splits", before=self._before_splits, after=self._after_splits)
        hear(self._blotter, "get_transactions", before=self._moment, after=self._traded)

    @property
    def assets(self) -> list[Any]:
        """Assets that have open orders."""
        return [asset for asset, orders in self._open.items() if orders]

    def order_of(self, transaction: Any) -> Any:
        """Give the order that a transaction is of; None if the engine made it by itself."""
        return self._find(transaction.order_id)

    def cost_of(self, transaction: Any) -> float:
        """Give the commission of a transaction. Once: it is forgotten then."""
        return self._costs.pop(id(transaction), 0.0)

    @property
    def _open(self) -> dict[Any, list[Any]]:
        return getattr(self._blotter, "open_orders", {})

    def _find(self, order_id: Hashable) -> Any:
        orders = getattr(self._blotter, "orders", {})
        return None if order_id is None else orders.get(order_id)

    def _placed(self, order_id: Any, _: Any, asset: Any, *__: Any, **___: Any) -> None:
        order = self._find(order_id)
        if order is None:  # of no shares
            return
        whole = self._whole
        self._tell(order, _OPEN, cause=self.target, links=(whole.bars.of(asset, whole.time),))

    def _status(self, order_id: Any, *_: Any, **__: Any) -> Any:
        order = self._find(order_id)
        return None if order is None else order.status

    def _changed(self, _: Any, before: Any, order_id: Any, *__: Any, **___: Any) -> None:
        order = self._find(order_id)
        if order is None or order.status == before:
            return
        reason = {semconv.Order.REJECT_REASON: order.reason or None}
        self._run.order(
            order.id,
            order.status.name,
            strategy=self._whole.strategy,
            instrument=self._whole.bars.instrument_of(order.asset),
            event_time=self._whole.time,
            attributes=reason,
            by_handler=True,
        )
        if not order.open:
            self._run.forget(order.id)

    def _tell(
        self,
        order: Any,
        status: str,
        *,
        cause: Cause | None = None,
        links: Iterable[Cause | None] = (),
    ) -> None:
        """Record a state with all that an order says."""
        policy = type(getattr(self._blotter, "cancel_policy", None)).__name__
        self._run.order(
            order.id,
            status,
            strategy=self._whole.strategy,
            instrument=self._whole.bars.instrument_of(order.asset),
            event_time=self._whole.time,
            attributes={
                semconv.Order.SIDE: "BUY" if order.amount > 0 else "SELL",
                semconv.Order.TYPE: type_of(order),
                semconv.Order.QUANTITY: abs(order.amount),
                semconv.Order.PRICE: order.limit,
                semconv.Order.TRIGGER_PRICE: order.stop,
                semconv.Order.TIME_IN_FORCE: "DAY" if policy == "EODCancel" else "GTC",
            },
            cause=cause,
            links=links,
        )

    def _moment(self, *_: Any) -> None:
        """Record the bars of a moment, before anything is filled at their prices."""
        self._whole.begin_moment()

    def _traded(self, result: Sequence[Any], *_: Any) -> None:
        """Find out which commission is of which transaction: zipline lists them apart."""
        transactions, commissions, _closed = result
        self._costs = {}
        charged: dict[Hashable, list[float]] = {}
        for one in commissions:
            charged.setdefault(one["order"].id, []).append(float(one["cost"]))
        parts: dict[Hashable, list[Any]] = {}
        for one in transactions:
            parts.setdefault(one.order_id, []).append(one)
        for order_id, costs in charged.items():
            own = parts.get(order_id, [])
            if len(costs) != len(own):
                costs = [*[0.0] * (len(own) - 1), sum(costs)]  # noqa: PLW2901
            self._costs.update({id(t): cost for t, cost in zip(own, costs, strict=False)})

    def _before_splits(self, splits: Iterable[tuple[Any, float]]) -> list[tuple[Any, Any]]:
        return [
            (order, (order.amount, order.limit, order.stop))
            for asset, _ in splits
            for order in self._open.get(asset, ())
        ]

    def _after_splits(self, _: Any, before: list[tuple[Any, Any]] | None, __: Any) -> None:
        """Keep the orders that a split has changed, until the split itself is recorded."""
        self._split = [
            order
            for order, was in before or ()
            if order.open_amount == 0 or was != (order.amount, order.limit, order.stop)
        ]

    def tell_split(self, asset: Any, cause: Cause | None) -> None:
        """Record what a split has made of the orders for an asset."""
        for order in [one for one in self._split if one.asset == asset]:
            self._split.remove(order)
            if order.open_amount == 0:  # nothing to trade is left, and the blotter drops it
                self._tell(order, _CANCELLED, cause=cause)
                self._run.forget(order.id)
            else:
                self._tell(order, _UPDATED, cause=cause)


def type_of(order: Any) -> str:
    """Name the type of an order. One whose stop was reached goes on as the other half."""
    return _TYPES[order.limit is not None, order.stop is not None]
