"""The leaves of the ledger: every amount of profit once, and what it can be broken down by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from fillpath.analytics.ledger_events import FillEvent, SpanRef

SliceKind = Literal[
    "realized",
    "unrealized",
    "commission",
    "cash_flow",
    "funding",
    "conversion",
    "rounding",
    "reclassification",
]

_SECOND: Final = 1_000_000_000
_HOUR: Final = 3600 * _SECOND
_DAY: Final = 24 * _HOUR
_CLASSES: Final = (
    (60 * _SECOND, "under 1m"),
    (_HOUR, "1m to 1h"),
    (_DAY, "1h to 1d"),
    (7 * _DAY, "1d to 1w"),
    (30 * _DAY, "1w to 30d"),
)
_LONGEST: Final = "over 30d"
HOLDING_CLASSES: Final = (*(name for _, name in _CLASSES), _LONGEST)
"""Names of the classes of holding times, the shortest first; a limit belongs to the longer one."""


def holding_class(nanoseconds: int) -> str:
    """Name the class of a holding time."""
    return next((name for limit, name in _CLASSES if nanoseconds < limit), _LONGEST)


@dataclass(frozen=True, slots=True)
class Slice:
    """One amount of profit; any breakdown is a sum of these.

    Attributes:
        ref: The span that brought it about: the fill, the price it is valued at, or the account.
        strategy: Empty if none.
        symbol: Empty if none.
        currency: Currency of the amount; empty if the host names none.
        kind: `realized` is a match, first in first out, of an exit with its entry; `unrealized`
            what a price added to a lot, taken back when it is closed; `commission` is negative
            for a cost; `reclassification` adds up to nothing.
        amount: As the account feels it.
        fill_id: The venue's id of the fill, if it was one.
        account_id: The engine's id of the account; empty if it has none.
        venue: Empty if unknown.
        side: `LONG` or `SHORT`: the side of the lot; ``None`` if there is none.
        signal: Name of the signal that the lot's entry came from.
        regime: Regime of the market when the lot was entered.
        exit_reason: Why the lot was closed; ``None`` for what it was worth while it was open.
        holding_time: Simulated time from entry to exit, ns; ``None`` as for `exit_reason`.
        quantity: Quantity of the lot that the amount is for.
        trade_id: The trade it belongs to.
        reclassified: `realized` or `unrealized`: what a reclassification adds to.
    """

    ref: SpanRef
    strategy: str
    symbol: str
    currency: str
    kind: SliceKind
    amount: Decimal
    fill_id: str | None = None
    account_id: str = ""
    venue: str = ""
    side: str | None = None
    signal: str | None = None
    regime: str | None = None
    exit_reason: str | None = None
    holding_time: int | None = None
    quantity: Decimal | None = None
    trade_id: str | None = None
    reclassified: str | None = None

    @property
    def holding(self) -> str | None:
        """The class of `holding_time`."""
        return None if self.holding_time is None else holding_class(self.holding_time)

    @property
    def line(self) -> str:
        """Its line in a breakdown: its kind, the two halves of a reclassification apart."""
        return f"reclassified_{self.reclassified}" if self.reclassified else self.kind


def _no_regime(portfolio: str, symbol: str, sequence: int) -> str | None:
    del portfolio, symbol, sequence
    return None


@dataclass(frozen=True, slots=True)
class SliceLabels:
    """What other parts know about orders and moments, for the breakdowns.

    Args:
        signals: Name of the signal that an order came from, by portfolio and client order id.
        reasons: Why an order was sent, likewise.
        regime: Regime of the market at a portfolio, symbol and sequence, without a look ahead.
    """

    signals: Mapping[tuple[str, str], str] = field(default_factory=dict)
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)
    regime: Callable[[str, str, int], str | None] = _no_regime

    def signal_of(self, fill: FillEvent) -> str | None:
        """The signal that a fill's order came from."""
        return self.signals.get((fill.ref.portfolio, fill.client_order_id or ""))

    def reason_of(self, fill: FillEvent) -> str | None:
        """Why a fill's order was sent, or the fill made by itself."""
        if fill.client_order_id is None:
            return fill.reason
        return self.reasons.get((fill.ref.portfolio, fill.client_order_id))

    def regime_at(self, fill: FillEvent) -> str | None:
        """The regime at a fill."""
        return self.regime(fill.ref.portfolio, fill.symbol, fill.ref.sequence)
