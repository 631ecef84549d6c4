"""The positions of a run, fill by fill, beside what the engine says about them."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from fillpath.analytics.average_cost import Holding
from fillpath.analytics.currencies import AccountDigits
from fillpath.analytics.exact import ZERO, minor_unit, rounded
from fillpath.analytics.ledger_events import PLACES_OF_A_DOUBLE, FillEvent, PositionEvent
from fillpath.analytics.round_trips import RoundTrip
from fillpath.instrumentation.semconv import EventType

FLOAT_NOISE: Final = Decimal(2) ** -47
"""An engine that reckons in doubles knows about 14 digits of a notional."""
_DRIFT: Final = Decimal(2) ** -40
"""Part of a position that adding up thousands of doubles may leave."""
_FINEST_QUANTITY: Final = Decimal(10) ** -10
"""No engine that reckons exactly has a smaller unit; one that reckons in doubles is less exact."""

HoldingKey = tuple[str, ...]
"""Portfolio, account, and the position: its id and symbol; where the host names no positions, its
strategy, symbol and venue, or only the last two where the account nets its strategies."""
Place = tuple[str, str, str, str]
"""Portfolio, account, symbol and venue."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill and what it did to its position.

    Attributes:
        fill: The fill.
        holding: Key of the position that the fill left open or closed.
        closing: Key of the position that the fill closed a part of; of `holding` if of none. A
            hedging engine goes on in another position when a fill turns one.
        closed: Quantity that closed, positive.
        held_before: Size of the position before, positive.
        booked_realized: Profit of what closed, before commission, rounded as the engine rounds
            it, in the settlement currency.
        exact_realized: The same before it is rounded.
        basis_before: What had been paid for the position before, exact.
        basis_after: The same after the fill.
        restated: What of the change of basis comes from `restated_quantity`.
        restated_quantity: Signed quantity by which the engine itself changed the position, for a
            commission paid in the bought currency.
        exit_of: The round trip that the fill closed a part of.
        entry_of: The round trip that the fill opened or added to.
        engine_realized: The profit by the engine's own position events; ``None`` if not told.
        is_told: Whether the engine told how large the position is afterwards.
        differs: What the engine's position events contradict, in words; empty if nothing.
        margin: What the part that closed has been paid of its profit before, where such a position
            is paid as it gains (`VARIATION_MARGIN`); ``None`` where it is not.
    """

    fill: FillEvent
    holding: HoldingKey
    closed: Decimal = ZERO
    held_before: Decimal = ZERO
    booked_realized: Decimal = ZERO
    exact_realized: Decimal = ZERO
    basis_before: Decimal = ZERO
    basis_after: Decimal = ZERO
    restated: Decimal = ZERO
    restated_quantity: Decimal = ZERO
    exit_of: RoundTrip | None = None
    entry_of: RoundTrip | None = None
    engine_realized: Decimal | None = None
    is_told: bool = False
    differs: str = ""
    closing: HoldingKey = ()
    margin: Decimal | None = None

    @property
    def notional(self) -> Decimal:
        """Price times quantity times multiplier, positive."""
        return abs(self.fill.price) * self.fill.quantity * self.fill.multiplier


@dataclass(slots=True)
class OpenPosition:
    """A position that is held now.

    Attributes:
        holding: What is held.
        trip: The round trip that is under way.
        account_id: The account it belongs to, if known.
        exact: Profit of its exits so far, exact.
        booked: The same as booked.
    """

    holding: Holding
    trip: RoundTrip
    account_id: str | None
    exact: Decimal = ZERO
    booked: Decimal = ZERO


@dataclass(slots=True)
class PositionBook:
    """Keeps every position of a run at average cost.

    Attributes:
        digits: Decimal places of the currencies of every account.
        positions: What is held now.
        trips: Every round trip so far, in the order of their first fills.
        netted: Where fills of all strategies meet in one position, if the host names none.
    """

    digits: AccountDigits
    positions: dict[HoldingKey, OpenPosition] = field(default_factory=dict)
    trips: list[RoundTrip] = field(default_factory=list)
    netted: AbstractSet[Place] = frozenset()
    _engine_totals: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    def apply(
        self,
        fill: FillEvent,
        said: Sequence[PositionEvent],
        *,
        account_id: str | None,
        rounds_each: bool,
    ) -> Execution:
        """Take a fill.

        Args:
            fill: The fill.
            said: What the engine said about positions because of it.
            account_id: The account that the fill belongs to, if known.
            rounds_each: Whether every fill's profit is rounded by itself, as engines do that keep
                an account. Otherwise parts are rounded, and the exit that empties the position
                takes the rest, so that the profits of a round trip add up to its cash flows.
        """
        fill = self._as_added_up(fill, said, account_id)
        engine_realized = self._engine_realized(fill, said)
        key = closing = self._key(fill, fill.position_id, account_id)
        held = self.positions.get(key)
        held_before = abs(held.holding.quantity) if held else ZERO
        average_before = held.holding.average_price if held else fill.price
        basis_before = held.holding.basis if held else ZERO
        opened = held.holding.opens(fill.sign, fill.quantity) if held else fill.quantity
        closed = fill.quantity - opened
        booked = exact = ZERO
        exit_of = entry_of = None
        if closed and held:
            exit_of = held.trip
            before = held.exact
            booked = self._close(fill, held, closed, engine_realized, rounds_each=rounds_each)
            exact = held.exact - before
            if not held.holding.quantity:
                del self.positions[key]
        if opened:
            position_id = fill.position_id
            if closed:
                position_id = _opened_id(said) or position_id
                key = self._key(fill, position_id, account_id)
            entry_of = self._enter(fill, key, opened, account_id, position_id)
        emptied = OpenPosition(Holding(fill.multiplier), exit_of, account_id) if exit_of else None
        restated, restated_quantity, differs = self._restate(
            fill, key, said, self.positions.get(key) or emptied, average_before
        )
        if engine_realized is not None and abs(engine_realized - booked) > self._noise(
            fill, account_id
        ):
            differs = differs or (
                f"fill {fill.fill_id} earned {booked} {fill.settlement_currency} by the fills, "
                f"{engine_realized} by the engine's position {fill.position_id}"
            )
        now = self.positions.get(key)
        for trip in (exit_of, entry_of):
            if trip is not None:
                still_held = now is not None and now.trip is trip
                trip.open_quantity = abs(now.holding.quantity) if now and still_held else ZERO
        return Execution(
            fill=fill,
            holding=key,
            closed=closed,
            held_before=held_before,
            booked_realized=booked,
            exact_realized=exact,
            basis_before=basis_before,
            basis_after=now.holding.basis if now else ZERO,
            restated=restated,
            restated_quantity=restated_quantity,
            exit_of=exit_of,
            entry_of=entry_of,
            engine_realized=engine_realized,
            is_told=bool(said) and said[-1].quantity is not None,
            differs=differs,
            closing=closing,
        )

    def _as_added_up(
        self, fill: FillEvent, said: Sequence[PositionEvent], account_id: str | None
    ) -> FillEvent:
        """Take the quantity by which an engine that adds up doubles says its position changed.

        Thousands of parts of a share do not add up in doubles as they do in decimals: of a position
        that the engine has closed, something would be left.
        """
        key = self._key(fill, fill.position_id, account_id)
        is_told = said and said[-1].quantity is not None
        is_same = is_told and key[2:4] == ("position", said[-1].position_id)
        if not is_same or not self.digits.in_doubles(fill.ref.portfolio, account_id):
            return fill
        held = self.positions.get(key)
        before = held.holding.quantity if held else ZERO
        changed = fill.sign * ((said[-1].quantity or ZERO) - before)
        largest = max(fill.quantity, abs(before))
        is_drift = 0 < abs(changed - fill.quantity) <= largest * _DRIFT
        return replace(fill, quantity=changed) if is_drift and changed > 0 else fill

    def pass_over(self, fill: FillEvent, account_id: str | None) -> Execution:
        """Take a fill that the engine kept out of every position, such as one of a spread."""
        return Execution(fill, self._key(fill, fill.position_id, account_id))

    def _key(self, fill: FillEvent, position_id: str | None, account_id: str | None) -> HoldingKey:
        portfolio, account = fill.ref.portfolio, account_id or ""
        if position_id:
            return portfolio, account, "position", position_id, fill.symbol
        if (portfolio, account, fill.symbol, fill.venue) in self.netted:
            return portfolio, account, "net", fill.symbol, fill.venue
        return portfolio, account, "book", fill.strategy, fill.symbol, fill.venue

    def _close(
        self,
        fill: FillEvent,
        held: OpenPosition,
        quantity: Decimal,
        engine_realized: Decimal | None,
        *,
        rounds_each: bool,
    ) -> Decimal:
        exact = held.holding.close(quantity, fill.price)
        held.exact += exact
        held.trip.leave(fill, quantity)
        if rounds_each or held.holding.quantity:
            digits = self.digits.of(fill.ref.portfolio, held.account_id)
            booked = rounded(exact, digits[fill.settlement_currency])
        else:
            booked = held.exact - held.booked
        if engine_realized is not None and abs(engine_realized - booked) <= self._noise(
            fill, held.account_id
        ):
            booked = engine_realized
        held.booked += booked
        return booked

    def _enter(
        self,
        fill: FillEvent,
        key: HoldingKey,
        quantity: Decimal,
        account_id: str | None,
        position_id: str | None,
    ) -> RoundTrip:
        held = self.positions.get(key)
        if held is None:
            trip = RoundTrip(
                opened_by=fill,
                position_id=position_id or None,
                direction="LONG" if fill.sign > 0 else "SHORT",
            )
            self.trips.append(trip)
            holding = Holding(fill.multiplier, fill.is_inverse)
            held = self.positions[key] = OpenPosition(holding, trip, account_id)
        held.holding.add(fill.sign, quantity, fill.price)
        held.trip.enter(fill, quantity)
        return held.trip

    def _engine_realized(self, fill: FillEvent, said: Sequence[PositionEvent]) -> Decimal | None:
        """Take the profit of a fill from the running totals of the engine's positions."""
        profit: Decimal | None = None
        for event in said:
            key = (event.ref.portfolio, event.position_id)
            before = self._engine_totals.get(key)
            if event.event_type == EventType.POSITION_OPEN:
                before = ZERO
            if event.realized_pnl is None or event.currency != fill.settlement_currency:
                return None
            self._engine_totals[key] = event.realized_pnl
            if before is None:
                return None
            profit = (profit or ZERO) + event.realized_pnl - before
        if profit is not None and fill.commission_currency == fill.settlement_currency:
            profit += fill.commission
        return profit

    def _restate(
        self,
        fill: FillEvent,
        key: HoldingKey,
        said: Sequence[PositionEvent],
        held: OpenPosition | None,
        average_price: Decimal,
    ) -> tuple[Decimal, Decimal, str]:
        """Compare the quantity with the engine's, and follow it where it took a commission off.

        Such a commission may also leave something of a position that was to be closed; the engine
        goes on with it at the old average price.
        """
        if not said or said[-1].quantity is None or key[2:4] != ("position", said[-1].position_id):
            return ZERO, ZERO, ""
        ours = held.holding.quantity if held else ZERO
        difference = said[-1].quantity - ours
        largest = max(fill.quantity, abs(ours), abs(said[-1].quantity))
        if abs(difference) <= min(largest * FLOAT_NOISE, _FINEST_QUANTITY):
            return ZERO, ZERO, ""
        paid_in_kind = fill.commission_currency == fill.base_currency and not fill.is_inverse
        if held is None or not paid_in_kind or abs(difference) > 2 * abs(fill.commission):
            differs = (
                f"position {said[-1].position_id} is {ours} after fill {fill.fill_id} by the "
                f"fills, {said[-1].quantity} by the engine"
            )
            return ZERO, ZERO, differs
        restated = held.holding.restate(said[-1].quantity, average_price)
        if held.holding.quantity:
            self.positions[key] = held
        else:
            self.positions.pop(key, None)
        return restated, difference, ""

    def _noise(self, fill: FillEvent, account_id: str | None) -> Decimal:
        digits = self.digits.of(fill.ref.portfolio, account_id)
        places = digits[fill.settlement_currency]
        if self.digits.in_doubles(fill.ref.portfolio, account_id):
            places = min(places, PLACES_OF_A_DOUBLE)
        return minor_unit(places) + abs(fill.price) * fill.quantity * fill.multiplier * FLOAT_NOISE


def _opened_id(said: Sequence[PositionEvent]) -> str | None:
    """The position that a turning fill opened; a hedging engine gives it an id of its own."""
    opened = [e.position_id for e in said if e.event_type == EventType.POSITION_OPEN]
    return opened[-1] if opened else None
