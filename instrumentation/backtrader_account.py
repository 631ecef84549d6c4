"""States what backtrader's simulated broker has, so that attribution can be held against it.

Where all that is traded is paid in full, cash is the balance: a fill moves it by what it costs.
Where there is margin or leverage, cash moves with every close; the balance is then what the account
would have if all were closed at its entry price, which a fill moves by the profit it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from fillpath.instrumentation import backtrader_words as words
from fillpath.instrumentation.engine_run import EngineRun, Instrument
from fillpath.instrumentation.open_event import OpenEvent

_MONEY_METHODS: Final = (
    "getvaluesize",
    "getoperationcost",
    "profitandloss",
    "cashadjust",
    "get_margin",
    "get_leverage",
)


class BrokerAccount:
    """Follows the cash of one broker in one run.

    Args:
        run: Takes the statements.
        broker: The simulated broker.
        scheme: The engine's base class of commission schemes.
        place: Gives the instrument of a feed.

    Attributes:
        is_due: Whether there was a fill or a transfer that no statement shows yet.
    """

    def __init__(
        self, run: EngineRun, broker: Any, scheme: Any, place: Callable[[Any], Instrument]
    ) -> None:
        self._run = run
        self._broker = broker
        self._scheme = scheme
        self._place = place
        self._type: str | None = None
        self._credit: dict[Any, float] = {}
        self._asked: deque[OpenEvent | None] = deque()
        self.is_due = False
        self._last_fill: OpenEvent | None = None

    @property
    def is_open(self) -> bool:
        """Whether there was a first statement."""
        return self._type is not None

    def open(self, event_time: int | None) -> None:
        """State what there is before anything is traded; once."""
        if self._type is None:
            in_full = self._broker.p.shortcash and all(
                map(self._is_paid_in_full, self._broker.comminfo.values())
            )
            self._type = "CASH" if in_full else "MARGIN"
            self._state(event_time)

    def filled(self, fill: OpenEvent | None) -> None:
        """Note that a fill is to be stated."""
        self.is_due = True
        self._last_fill = fill or self._last_fill

    def settle(self, event_time: int | None) -> None:
        """State what there is after a fill or a transfer."""
        self._state(event_time)

    def close(self, event_time: int | None) -> None:
        """State what there is at the end."""
        self.open(event_time)
        self._state(event_time)

    # -- Money without a fill -------------------------------------------------------------------

    def charge(self, event_time: int | None) -> None:
        """Record the interest that the broker has just taken for what is held."""
        for data, total in self._broker.d_credit.items():
            taken = total - self._credit.get(data, 0.0)
            if taken:
                self._credit[data] = total
                place = self._place(data)
                self._run.cash_flow(
                    "INTEREST", words.amount_of(-taken), instrument=place, event_time=event_time
                )

    def interest_in_commission(self, data: Any, closed: float) -> float:
        """Give the interest that the broker counts once more, in the commission of a closing fill.

        The account has paid it already, day by day.
        """
        return self._credit.pop(data, 0.0) if closed and self._broker.p.int2pnl else 0.0

    def ask(self) -> None:
        """Note who wants money to be put in or taken out."""
        self._asked.append(self._run.tracer.current)

    def transfer(self, amount: float, event_time: int | None) -> None:
        """Record money that was put in or taken out."""
        cause = self._asked.popleft() if self._asked else None
        if amount and self._type is not None:
            self.is_due = True
            kind = "DEPOSIT" if amount > 0 else "WITHDRAWAL"
            self._run.cash_flow(kind, words.amount_of(amount), event_time=event_time, cause=cause)

    def overwrite(self, amount: float, event_time: int | None) -> None:
        """Record that a history of the fund has set the cash to another amount."""
        if amount and self._type is not None:
            self.is_due = True
            self._run.cash_flow("FUND_HISTORY", words.amount_of(amount), event_time=event_time)

    # -- Statements -----------------------------------------------------------------------------

    def _state(self, event_time: int | None) -> None:
        broker, cash = self._broker, self._broker.cash
        cause, self._last_fill, self.is_due = self._last_fill, None, False
        tied = 0.0
        if self._type == "MARGIN":
            tied = sum(
                self._tied(position, broker.getcommissioninfo(data))
                for data, position in broker.positions.items()
                if position
            )
        self._run.statement(
            {None: cash + tied},
            account_type=self._type or "CASH",
            locked={None: tied} if tied else None,
            unrealized=broker._unrealized,
            event_time=event_time,
            cause=cause,
        )

    def _tied(self, position: Any, scheme: Any) -> float:
        """What closing a position at its entry price would add to the cash."""
        size, entry = position.size, position.price
        if self._broker.p.shortcash:
            value = scheme.getvaluesize(size, entry)
        else:
            value = scheme.getoperationcost(size, entry)
        if value > 0:
            value /= scheme.get_leverage()
        base = entry if position.adjbase is None else position.adjbase
        tied: float = value + scheme.cashadjust(size, base, entry)
        return tied

    def _is_paid_in_full(self, scheme: Any) -> bool:
        """Tell whether a fill moves the cash by price times size, and by nothing later."""
        own = all(
            getattr(type(scheme), name, None) is getattr(self._scheme, name)
            for name in _MONEY_METHODS
        )
        return bool(own and scheme.stocklike and scheme.get_leverage() == 1 and scheme.p.mult == 1)
