"""Fills, positions and money of a zipline run, as its ledger has them.

Nothing of the engine's is computed that it would not compute by itself. Its portfolio, say,
compounds its returns whenever it is asked for, so asking would change their last digits; what it
holds and its cash are read from where they are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fillpath.instrumentation import semconv
from fillpath.instrumentation.engine_run import NOWHERE
from fillpath.instrumentation.open_event import OpenEvent
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.zipline_orders import type_of
from fillpath.instrumentation.zipline_settlement import ZiplineSettlement

if TYPE_CHECKING:
    from fillpath.instrumentation.zipline_run import ZiplineRun

_CURRENCIES: Final = {
    "US": "USD", "??": "USD", "CA": "CAD", "GB": "GBP", "JP": "JPY", "CH": "CHF", "AU": "AUD",
    "DE": "EUR", "FR": "EUR", "NL": "EUR", "ES": "EUR", "IT": "EUR", "BE": "EUR", "AT": "EUR",
    "FI": "EUR", "IE": "EUR", "PT": "EUR", "HK": "HKD", "IN": "INR", "BR": "BRL", "SE": "SEK",
    "NO": "NOK", "DK": "DKK", "KR": "KRW", "SG": "SGD", "NZ": "NZD",
}  # fmt: skip
"""By country of the exchange; a bundle that names none is in dollars, as its reader says."""
_SAME_CASH: Final = 1e-13
"""Part of the cash that adding up doubles may leave."""


class _Owed(NamedTuple):
    """A dividend that is to be paid."""

    asset: Any
    amount: float


def currency_of(algorithm: Any) -> str | None:
    """Currency of what an algorithm can trade; None if there are several.

    zipline converts nothing: prices, cash and profit are in one unit that it does not name.
    """
    exchanges = algorithm.asset_finder.exchange_info.values()
    found = {_CURRENCIES.get(str(one.country_code)) for one in exchanges}
    return found.pop() if len(found) == 1 else None


class ZiplineAccount:
    """Hears a metrics tracker and its ledger.

    Args:
        whole: The run.
        tracker: The engine's `MetricsTracker`.
    """

    def __init__(self, whole: ZiplineRun, tracker: Any) -> None:
        self._whole = whole
        self._run = whole.run
        self._ledger = ledger = tracker._ledger
        self._tracker = ledger.position_tracker
        self._currency = currency_of(whole.algorithm)
        self._stated: float | None = None
        self._fills = 0
        self._cycles: dict[Any, int] = {}
        self._numbers: Counter[str | None] = Counter()
        self._entries: dict[Any, OpenEvent | None] = {}
        self._owed: dict[Any, list[_Owed]] = {}
        self._in_lieu: float | None = None
        self._last_fill: OpenEvent | None = None
        self._settlement = ZiplineSettlement(ledger, self._settle)
        hear = whole.listening.listen
        hear(ledger, "process_transaction", before=self._fill, after=self._move)
        hear(self._tracker, "handle_splits", after=self._note_in_lieu)
        hear(tracker, "handle_splits", before=self._before_splits, after=self._split)
        hear(tracker, "capital_change", after=self._capital)
        hear(tracker, "handle_market_close", after=self._close_session)
        hear(self._tracker, "earn_dividends", before=self._earn)
        hear(self._tracker, "pay_dividends", before=self._stock_owed, after=self._pay)
        self.state()

    @property
    def assets(self) -> Iterable[Any]:
        """Assets that are held."""
        return list(self._tracker.positions)

    @property
    def _cash(self) -> float:
        return float(self._ledger._immutable_portfolio.cash)

    def _quantity(self, asset: Any) -> float:
        """What is held of an asset, signed."""
        position = self._tracker.positions.get(asset)
        return 0 if position is None else position.amount

    def state(self) -> None:
        """Record what the engine says it has, and what contracts have paid into it."""
        self._settlement.tell()
        self._stated = self._cash
        self._run.statement({self._currency: self._stated}, event_time=self._whole.time)

    def state_changes(self) -> None:
        """Record what the engine has, if that has changed.

        Where only the prices of contracts did so, which may be every minute, the end of the session
        is soon enough.
        """
        cash, stated = self._cash, self._stated
        if cash == stated:
            return
        settled = self._settlement.untold
        if stated is None or abs(cash - stated - settled) > _SAME_CASH * abs(cash) or not settled:
            self.state()

    # -- Fills ----------------------------------------------------------------------------------

    def _fill(self, transaction: Any) -> float:
        """Record a fill; gives what was held before."""
        whole, asset, amount = self._whole, transaction.asset, transaction.amount
        orders, time = whole.orders, whole.time
        held = self._quantity(asset)
        self._settlement.before_fill(asset, transaction.price)
        self._fills += 1
        opens, closes = self._positions_of(asset, held, amount)
        order = orders.order_of(transaction)
        side = "BUY" if amount > 0 else "SELL"
        quantity, price = plain(abs(amount)), float(transaction.price)
        commission = orders.cost_of(transaction)
        more = {
            semconv.Order.TYPE: None if order is None else type_of(order),
            semconv.Fill.CURRENCY: self._currency,
            semconv.Fill.COMMISSION_CURRENCY: self._currency,
            semconv.Fill.MULTIPLIER: multiplier_of(asset),
            semconv.Fill.VALUATION_METHOD: "FUT" if is_future(asset) else None,
            semconv.Position.ID: closes or opens,
        }
        if order is not None:
            more[semconv.Order.STATUS] = "PARTIALLY_FILLED" if order.open else "FILLED"
            self._last_fill = self._run.fill(
                order.id,
                str(self._fills),
                side,
                quantity,
                price,
                commission=commission,
                strategy=whole.strategy,
                instrument=whole.bars.instrument_of(asset),
                event_time=time,
                attributes=more,
                market=whole.bars.of(asset, time),
                opens=opens,
                closes=closes,
            )
            return held
        # The engine closes a position by itself when its asset is traded no more.
        self._last_fill = self._run.event(
            EventType.FILL,
            strategy=whole.strategy,
            instrument=whole.bars.instrument_of(asset),
            event_time=time,
            attributes={
                semconv.Fill.ID: str(self._fills),
                semconv.Order.SIDE: side,
                semconv.Order.REASON: "auto_close",
                semconv.Fill.QUANTITY: quantity,
                semconv.Fill.PRICE: price,
                semconv.Fill.COMMISSION: commission,
                **more,
            },
            links=(self._entries.get(asset),),
        )
        return held

    def _positions_of(
        self, asset: Any, held: float, amount: float
    ) -> tuple[str | None, str | None]:
        """Name the position that a fill opens or adds to, and the one that it reduces."""
        now = self._position_id(asset)
        if not held or (held > 0) == (amount > 0):
            return now, None
        if abs(amount) <= abs(held):
            return None, now
        symbol = self._whole.bars.instrument_of(asset).symbol
        return f"{symbol}-{self._numbers[symbol] + 1}", now

    def _position_id(self, asset: Any) -> str:
        """Name the position in an asset. Other assets may have had its symbol, or have it."""
        symbol = self._whole.bars.instrument_of(asset).symbol
        if asset not in self._cycles:
            self._numbers[symbol] += 1
            self._cycles[asset] = self._numbers[symbol]
        return f"{symbol}-{self._cycles[asset]}"

    def _end_position(self, asset: Any) -> None:
        """Note that what comes next is another position."""
        self._cycles.pop(asset, None)
        self._entries.pop(asset, None)

    def _move(self, _: Any, held: float, transaction: Any) -> None:
        """Record what a fill has made of its position."""
        asset, now = transaction.asset, self._quantity(transaction.asset)
        self._settlement.after_fill(asset)
        if held and (not now or (now > 0) != (held > 0)):
            self._tell_position(EventType.POSITION_CLOSE, asset, 0)
            self._end_position(asset)
            held = 0
        if now:
            kind = EventType.POSITION_CHANGE if held else EventType.POSITION_OPEN
            self._tell_position(kind, asset, now)
            self._entries.setdefault(asset, self._last_fill)

    def _tell_position(self, event_type: str, asset: Any, now: float) -> None:
        """Record a change of a position that the last fill has made."""
        instrument = self._whole.bars.instrument_of(asset)
        position = self._tracker.positions.get(asset)
        self._run.position(
            event_type,
            self._position_id(asset),
            side_of(now),
            plain(abs(now)),
            strategy=self._whole.strategy,
            instrument=instrument,
            event_time=self._whole.time,
            attributes={
                semconv.Position.AVERAGE_OPEN_PRICE: (
                    str(float(position.cost_basis)) if now and position is not None else None
                ),
            },
            cause=self._last_fill,
        )

    # -- What happens without a fill ------------------------------------------------------------

    def _before_splits(self, splits: Iterable[tuple[Any, float]]) -> dict[Any, tuple[float, float]]:
        """Note what is held, and at which cost, of the assets that are split."""
        self._in_lieu = None
        positions = self._tracker.positions
        held = [asset for asset, _ in splits if asset in positions]
        return {a: (positions[a].amount, positions[a].cost_basis) for a in held}

    def _note_in_lieu(self, cash: float, *_: Any) -> None:
        self._in_lieu = float(cash)

    def _split(
        self,
        _: Any,
        before: dict[Any, tuple[float, float]] | None,
        splits: Iterable[tuple[Any, float]],
    ) -> None:
        """Record each split, with what is held after it and the money for a fraction."""
        before = before or {}
        for asset, ratio in splits:
            in_lieu = None
            if asset in before:
                amount, cost = before[asset]
                in_lieu = self._in_lieu if len(before) == 1 else in_lieu_of(amount, cost, ratio)
            event = self._act(
                "SPLIT", asset, ratio=float(ratio), in_lieu=in_lieu, is_held=asset in before
            )
            self._whole.orders.tell_split(asset, event)
            if asset in before and not self._quantity(asset):
                self._end_position(asset)
        self.state_changes()

    def _act(
        self,
        kind: str,
        asset: Any,
        *,
        ratio: float,
        in_lieu: float | None = None,
        is_held: bool = True,
    ) -> OpenEvent | None:
        """Record what an issuer did to an asset, and what is held of it now."""
        now = self._quantity(asset)
        instrument = self._whole.bars.instrument_of(asset)
        return self._run.event(
            EventType.CORPORATE_ACTION,
            strategy=self._whole.strategy,
            instrument=instrument,
            event_time=self._whole.time,
            attributes={
                semconv.CorporateAction.TYPE: kind,
                semconv.CorporateAction.RATIO: ratio,
                semconv.Position.ID: self._position_id(asset) if is_held else None,
                semconv.Position.SIDE: side_of(now) if is_held else None,
                semconv.Position.QUANTITY: plain(abs(now)) if is_held else None,
                semconv.CashFlow.AMOUNT: in_lieu or None,
                semconv.CashFlow.CURRENCY: self._currency if in_lieu else None,
            },
            cause=self._run.market,
        )

    def _earn(self, cash: Iterable[Any], *_: Any) -> None:
        """Note which asset owes a dividend; the engine keeps only the amounts."""
        for one in cash:
            owed = _Owed(one.asset, self._quantity(one.asset) * one.amount)
            self._owed.setdefault(one.pay_date, []).append(owed)

    def _stock_owed(self, day: Any) -> list[Any]:
        """Note whose shares come as a dividend."""
        owed = self._tracker._unpaid_stock_dividends.get(day, ())
        return list(dict.fromkeys(one["payment_asset"] for one in owed))

    def _pay(self, paid: float, in_shares: list[Any] | None, day: Any) -> None:
        """Record the dividends of a day."""
        owed = self._owed.pop(day, [])
        if sum((one.amount for one in owed), 0.0) != paid:
            owed = [_Owed(None, paid)] if paid else []
        for asset, amount in owed:
            self._flow("DIVIDEND", amount, asset)
        for asset in in_shares or ():
            self._act("STOCK_DIVIDEND", asset, ratio=1.0)

    def _flow(self, kind: str, amount: float, asset: Any = None) -> None:
        self._run.cash_flow(
            kind,
            float(amount),
            currency=self._currency,
            instrument=NOWHERE if asset is None else self._whole.bars.instrument_of(asset),
            event_time=self._whole.time,
            cause=self._run.market,
        )

    def _settle(self, asset: Any, amount: float) -> None:
        self._flow("VARIATION_MARGIN", amount, asset)

    def _capital(self, _: Any, __: Any, amount: float) -> None:
        """Record money that the host has put in or taken out (`capital_changes`)."""
        if amount:
            self._flow("DEPOSIT" if amount > 0 else "WITHDRAWAL", amount)
        self.state_changes()

    def _close_session(self, *_: Any) -> None:
        """State what there is at the end of each day, and at which prices."""
        positions = list(self._tracker.positions.items())
        self._whole.bars.mark(self._whole.time, [(a, p.last_sale_price) for a, p in positions])
        self.state()


def plain(number: Any) -> float:
    """A number as Python's own; a whole one as an integer."""
    value = float(number)
    return int(value) if value.is_integer() else value


def side_of(quantity: float) -> str:
    """Name the side of a signed quantity."""
    return "LONG" if quantity > 0 else "SHORT" if quantity < 0 else "FLAT"


def is_future(asset: Any) -> bool:
    """Tell whether an asset is a contract, which pays what it gains and has no price to be paid."""
    return any(c.__name__ == "Future" for c in type(asset).__mro__)


def multiplier_of(asset: Any) -> float | None:
    """Units of the underlying in one contract of a future; None for a share."""
    multiplier = float(getattr(asset, "price_multiplier", 1.0))
    return None if multiplier == 1.0 else multiplier


def in_lieu_of(amount: float, cost_basis: float, ratio: float) -> float:
    """Money for the fraction that a split leaves, as `Position.handle_split` reckons it."""
    shares = amount / float(ratio)
    return round(float((shares - math.trunc(shares)) * round(cost_basis * ratio, 2)), 2)
