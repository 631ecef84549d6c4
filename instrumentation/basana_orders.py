"""Records what basana's simulated exchanges do: orders, fills, balances, interest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, NamedTuple

from basana.backtesting.account_balances import AccountBalances
from basana.backtesting.config import Config

from fillpath.instrumentation import semconv
from fillpath.instrumentation.basana_events import nanoseconds
from fillpath.instrumentation.basana_rounding import told_rounding
from fillpath.instrumentation.engine_run import EngineRun, Instrument
from fillpath.instrumentation.open_event import Cause, OpenEvent
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.while_recording import while_recording

_TYPES: Final = {
    "MarketOrder": "MARKET",
    "LimitOrder": "LIMIT",
    "StopOrder": "STOP_MARKET",
    "StopLimitOrder": "STOP_LIMIT",
}
"""Types of orders and of requests for them, by the names of their classes."""
_ZERO: Final = Decimal(0)


class Account(NamedTuple):
    """Balances of one exchange, what they are called here, and the digits of its pairs."""

    name: str
    balances: AccountBalances
    config: Config


class _Known(NamedTuple):
    """What all events of one order have in common."""

    account: Account
    strategy: str | None
    instrument: Instrument
    attributes: Mapping[str, Any]


class _Holding:
    """What a strategy holds of a pair, and how often it has come to hold something anew."""

    __slots__ = ("cycle", "quantity")

    def __init__(self) -> None:
        self.quantity = _ZERO
        self.cycle = 0


class SimulatedOrders:
    """Orders of the exchanges that one dispatcher drives.

    Args:
        run: Records the events.
        now: Gives the dispatcher's time in nanoseconds, or None before there is one.
        bars: The last bar of each pair, as a cause.
        opinion_of: Gives the record of the signal that the running handler was given about a
            symbol, if that handler was given opinions of several.
        following: Called with the id of each order that becomes known.
    """

    def __init__(
        self,
        run: EngineRun,
        now: Callable[[], int | None],
        bars: Mapping[Any, Cause | None],
        opinion_of: Callable[[str | None], OpenEvent | None],
        following: Callable[[str], None],
    ) -> None:
        self.run = run
        self._now = now
        self._bars = bars
        self._opinion_of = opinion_of
        self._following = following
        self._known: dict[str, _Known] = {}
        self._accounts: dict[int, Account] = {}
        self._holdings: dict[tuple[str, str | None, str | None], _Holding] = {}
        self._fills = 0
        self._refusals = 0
        self._refused: BaseException | None = None
        self._why_not: str | None = None
        self._cancelled_by_user: str | None = None
        self._in_process: OpenEvent | None = None
        self._is_processing = False

    # -- Orders ---------------------------------------------------------------------------------

    def strategy_of(self, order_id: str) -> str | None:
        """Give the strategy that an order is of."""
        known = self._known.get(order_id)
        return None if known is None else known.strategy

    @while_recording
    def asked_for(self, manager: Any, order: Any) -> None:
        """An order has been asked for; it is not accepted yet."""
        account = self.account(manager._ctx)
        self._known[order.id] = known = self._about(account, order)
        self._following(order.id)
        self._state(order.id, known, "INITIALIZED", cause=self._opinion_of(known.instrument.symbol))

    @while_recording
    def accepted(self, order: Any) -> None:
        """The exchange has taken it: what it may cost is on hold."""
        self._state(order.id, self._known[order.id], "ACCEPTED")

    @while_recording
    def refused(self, order: Any, error: Exception) -> None:
        """The exchange has not taken it."""
        self._refused = error
        known = self._known.get(order.id)
        if known is not None:
            self._state(order.id, known, "REJECTED", reason=str(error))

    @while_recording
    def request_refused(self, exchange: Any, request: Any, error: Exception) -> None:
        """A request was refused; maybe before it became an order, for digits or the amount."""
        if error is self._refused:
            self._refused = None
            return
        known = self._about(self.account(exchange._order_mgr._ctx), request)
        self._refusals += 1
        self._state(
            f"refused-{self._refusals}",
            known,
            "REJECTED",
            reason=str(error),
            cause=self._opinion_of(known.instrument.symbol),
        )

    @while_recording
    def cancelled(self, order: Any) -> None:
        """An order has been cancelled: by the user, or by the exchange that could not fill it."""
        is_wanted = self._cancelled_by_user == order.id
        self._state(
            order.id,
            self._known[order.id],
            "CANCELED",
            by_handler=is_wanted,
            reason=None if is_wanted else self._why_not or "not enough liquidity",
            links=() if is_wanted else (self._bars.get(order.pair),),
        )

    @while_recording
    def filled(self, order: Any, fill: Any) -> None:
        """An order has been filled, in full or in part."""
        known = self._known[order.id]
        pair, updates = order.pair, fill.balance_updates
        bought = updates[pair.base_symbol]
        fees = {symbol: -amount for symbol, amount in fill.fees.items() if amount}
        in_quote = pair.quote_symbol in fees or not fees
        currency = pair.quote_symbol if in_quote else next(iter(fees))
        self._fills += 1
        opens, closes = self._positions(known, bought)
        event = self.run.fill(
            order.id,
            f"F-{self._fills}",
            order.operation.name,
            abs(bought),
            fill.price,
            commission=fees.pop(currency, _ZERO),
            strategy=known.strategy,
            instrument=known.instrument,
            event_time=nanoseconds(fill.when),
            attributes={
                semconv.Account.ID: known.account.name,
                semconv.Order.TYPE: known.attributes[semconv.Order.TYPE],
                semconv.Order.QUANTITY: known.attributes[semconv.Order.QUANTITY],
                semconv.Order.STATUS: "PARTIALLY_FILLED" if order.is_open else "FILLED",
                semconv.Fill.CURRENCY: pair.quote_symbol,
                semconv.Fill.BASE_CURRENCY: pair.base_symbol,
                semconv.Fill.COMMISSION_CURRENCY: currency,
            },
            market=self._bars.get(pair),
            opens=opens,
            closes=closes,
        )
        self._in_process = event
        rounding = told_rounding(order, fill, known.account.balances, known.account.config)
        if rounding:
            self._money(known.account, "ROUNDING", rounding, pair.quote_symbol, cause=event)
        for symbol, amount in fees.items():
            self._money(known.account, "FEE", -amount, symbol, cause=event)

    def _about(self, account: Account, order: Any) -> _Known:
        """What is known of an order, or of a request for one."""
        current = self.run.tracer.current
        return _Known(
            account,
            None if current is None else current.place.parts[3],
            Instrument(str(order.pair)),
            {
                semconv.Account.ID: account.name,
                semconv.Order.SIDE: order.operation.name,
                semconv.Order.TYPE: _type_of(order),
                semconv.Order.QUANTITY: order.amount,
                semconv.Order.PRICE: getattr(order, "_limit_price", None),
                semconv.Order.TRIGGER_PRICE: getattr(order, "_stop_price", None),
            },
        )

    def _state(
        self,
        order_id: str,
        known: _Known,
        status: str,
        *,
        reason: str | None = None,
        by_handler: bool = False,
        cause: Cause | None = None,
        links: tuple[Cause | None, ...] = (),
    ) -> None:
        self.run.order(
            order_id,
            status,
            strategy=known.strategy,
            instrument=known.instrument,
            event_time=self._now(),
            attributes={**known.attributes, semconv.Order.REJECT_REASON: reason},
            by_handler=by_handler,
            cause=cause,
            links=links,
        )

    def _positions(self, known: _Known, bought: Decimal) -> tuple[Any, Any]:
        """Name the positions that a fill adds to, and reduces."""
        key = known.account.name, known.strategy, known.instrument.symbol
        holding = self._holdings.setdefault(key, _Holding())
        before, after = holding.quantity, holding.quantity + bought
        holding.quantity = after
        closes = (*key, holding.cycle) if before * bought < 0 else None
        if before == 0 or before * after < 0:
            holding.cycle += 1
        opens = (*key, holding.cycle) if before * bought >= 0 or before * after < 0 else None
        return opens, closes

    # -- What the exchange is doing -------------------------------------------------------------

    @contextmanager
    def processing(self, manager: Any) -> Iterator[None]:
        """The body tries to fill an order; what changes the balances is stated afterwards."""
        outer = self._is_processing, self._in_process
        self._is_processing, self._in_process, self._why_not = True, None, None
        try:
            yield
        finally:
            event = self._in_process
            self._is_processing, self._in_process = outer
            if event is not None:
                self.state(self.account(manager._ctx), event)

    @contextmanager
    def cancelling(self, order_id: str) -> Iterator[None]:
        """In the body, the user cancels an order."""
        self._cancelled_by_user = order_id
        try:
            yield
        finally:
            self._cancelled_by_user = None

    @while_recording
    def short_of(self, error: Exception) -> None:
        """What an order that is being filled would cost is not there."""
        if self._is_processing:
            self._why_not = str(error)

    @while_recording
    def loan_repaid(self, manager: Any, loan_id: str) -> None:
        """A loan was paid back: by hand, or by an order that was filled."""
        account = self.account(manager._ctx)
        interest = manager._loans.get(loan_id).paid_interest
        for symbol, amount in interest.items():
            self._money(account, "INTEREST", -amount, symbol, cause=self._in_process)
        if not self._is_processing:
            self.state(account)

    # -- Money ----------------------------------------------------------------------------------

    def account(self, context: Any) -> Account:
        """Name the balances of an exchange, by its context, and state them when they are new."""
        balances = context.account_balances
        found = self._accounts.get(id(balances))
        if found is None:
            number = len(self._accounts) + 1
            name = "basana" if number == 1 else f"basana-{number}"
            found = self._accounts[id(balances)] = Account(name, balances, context.config)
            self.state(found)
        return found

    def state_all(self) -> None:
        """State the balances of every exchange."""
        for account in self._accounts.values():
            self.state(account)

    @while_recording
    def state(self, account: Account, cause: Cause | None = None) -> None:
        """State the balances of an exchange. What is borrowed is no part of a total."""
        held = account.balances
        symbols = sorted({*held.balances, *held.holds, *held.borrowed})
        self.run.event(
            EventType.PORTFOLIO,
            event_time=self._now(),
            attributes={
                semconv.Account.ID: account.name,
                semconv.Account.TYPE: "CASH",
                semconv.Account.BALANCES: [
                    {
                        "currency": symbol,
                        "total": held.balances.get(symbol, _ZERO)
                        - held.get_borrowed_balance(symbol),
                        "free": held.get_available_balance(symbol),
                        "locked": held.get_balance_on_hold(symbol),
                    }
                    for symbol in symbols
                ],
            },
            cause=cause,
        )

    def _money(
        self, account: Account, flow_type: str, amount: Decimal, symbol: str, cause: Cause | None
    ) -> None:
        self.run.cash_flow(
            flow_type,
            amount,
            currency=symbol,
            account_id=account.name,
            event_time=self._now(),
            cause=cause,
        )


def _type_of(order: Any) -> str:
    for kind in type(order).__mro__:
        if kind.__name__ in _TYPES:
            return _TYPES[kind.__name__]
    return type(order).__name__.upper()
