"""Which prices of a zipline run become events: those the algorithm looks at, not all of a bundle.

zipline does not hand bars to an algorithm, it asks for what it wants. So for each simulated moment
the bars of a few assets are recorded: those that it has looked up by `symbol` or `sid`, holds, or
has orders for. They are read from the data portal, which keeps no state that trading depends on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.emitter import Emitter
from fillpath.instrumentation.engine_run import NOWHERE, EngineRun, Instrument
from fillpath.instrumentation.open_event import Cause, Handle
from fillpath.instrumentation.semconv import EventType
from fillpath.instrumentation.spool import NO_TIME

MAX_LOOKED_UP: Final = 32
"""Looked-up assets whose bars are recorded all the time; of more, a universe is screened."""
MAX_HELD: Final = 64
"""Held assets whose bars are recorded all the time; of further ones, the last of each session."""
MAX_LINKS: Final = 8
"""Bars that a handler's run names as further causes."""
_NO_DATA: Final = frozenset({"NoDataOnDate", "NoDataForSid"})
"""What the engine's readers raise where there is no price."""
_FIELDS: Final = ("open", "high", "low", "close", "volume")


def instrument_of(asset: Any) -> Instrument:
    """What an asset is called, and where it is traded, in the bundle's words."""
    symbol = str(asset.symbol or "") or f"sid {asset.sid}"
    return Instrument(symbol, str(asset.exchange or "") or None)


class ZiplineBars:
    """Records the bars of one run.

    Args:
        run: Takes the events.
        algorithm: The `TradingAlgorithm`, which has the data portal.

    Attributes:
        cause: What the algorithm's functions are handling now: the bar of the only asset it looks
            at, or else the moment itself, a bar without an instrument.
        instrument: What that is about.
        links: Bars of this moment that are no `cause`.
    """

    def __init__(self, run: EngineRun, algorithm: Any) -> None:
        self.cause: Cause | None = None
        self.instrument: Instrument = NOWHERE
        self.links: tuple[Cause, ...] = ()
        self._run = run
        self._algorithm = algorithm
        self._looked_up: dict[Any, None] = {}
        self._instruments: dict[Any, Instrument] = {}
        self._now: dict[Any, Handle | None] = {}
        self._closes: dict[Any, float] = {}
        self._ticks: dict[Any, Emitter] = {}
        self._moment: Emitter | None = None
        self._when: tuple[int | None, Callable[[Any, Any, str], Any], Any] | None = None

    def look_up(self, assets: Iterable[Any]) -> None:
        """Take note of what the algorithm has looked up."""
        for asset in assets:
            if asset not in self._looked_up and len(self._looked_up) < MAX_LOOKED_UP:
                self._looked_up[asset] = None

    def instrument_of(self, asset: Any) -> Instrument:
        """What an asset is called."""
        known = self._instruments.get(asset)
        if known is None:
            known = self._instruments[asset] = instrument_of(asset)
        return known

    def begin(self, time: int, held: Iterable[Any], ordered: Iterable[Any]) -> None:
        """Record the bars of a moment that has come.

        Args:
            time: Simulated time, ns.
            held: Assets of open positions.
            ordered: Assets of open orders, which are all recorded, because they may be filled.
        """
        self._now = {}
        positions = list(held)[:MAX_HELD]
        for asset in dict.fromkeys((*self._looked_up, *positions, *ordered)):
            self._record(asset, time)
        told = [(a, handle) for a, handle in self._now.items() if handle is not None]
        if len(told) == 1:
            ((asset, self.cause),) = told
            self.instrument = self.instrument_of(asset)
            self.links = ()
            return
        self.cause = self._run.market = self._emit_moment(time)
        self.instrument = NOWHERE
        self.links = tuple(handle for _, handle in told[:MAX_LINKS])

    def of(self, asset: Any, time: int | None) -> Handle | None:
        """Give the bar of an asset at this moment; it is recorded now if it was not yet."""
        if asset not in self._now:
            self._record(asset, time)
        return self._now[asset]

    def mark(self, time: int | None, held: Iterable[tuple[Any, float]]) -> None:
        """Record the bars of all that is held, as far as they are not yet: a session ends.

        Args:
            time: Simulated time, ns.
            held: Assets with the price that the engine values them at. Where the last bar has
                another one, as with a data portal that makes prices of its own, this is recorded
                too.
        """
        for asset, price in held:
            self.of(asset, time)
            value = float(price)
            # A position that was only just taken over has no price yet, which is zero.
            if value and not math.isnan(value) and value != self._closes.get(asset):
                self._closes[asset] = value
                self._tick(asset)(NO_TIME if time is None else time, None, value)

    def _tick(self, asset: Any) -> Emitter:
        emit = self._ticks.get(asset)
        if emit is None:
            symbol, venue = self.instrument_of(asset)
            emit = self._ticks[asset] = self._run.tracer.emitter(
                EventType.TICK,
                portfolio=self._run.portfolio,
                symbol=symbol,
                venue=venue,
                fields=(semconv.Tick.PRICE,),
            )
        return emit

    def _emit_moment(self, time: int) -> Handle | None:
        if self._moment is None:
            portfolio = self._run.portfolio
            self._moment = self._run.tracer.emitter(EventType.BAR, portfolio=portfolio)
        return self._moment(time)

    def _record(self, asset: Any, time: int | None) -> None:
        """Record the bar of an asset, if it has one: not where nothing was traded."""
        self._now[asset] = None
        try:
            read, when = self._reading(time)
            close = float(read(asset, when, "close"))
            if math.isnan(close):
                return
            prices = [close if f == "close" else float(read(asset, when, f)) for f in _FIELDS]
        except Exception as error:  # noqa: BLE001 - other assets have their prices
            if not _has_no_data(error):  # the asset was not traded yet, or is no more
                self._run.tracer.complain(error)
            return
        self._closes[asset] = close
        self._now[asset] = self._run.bar(self.instrument_of(asset), time, *prices)

    def _reading(self, time: int | None) -> tuple[Callable[[Any, Any, str], Any], Any]:
        """Give what reads a field of an asset, and what it calls this moment.

        That is below `get_spot_value`, which would ask the calendar for the session each time.
        """
        if self._when is None or self._when[0] != time:
            algorithm = self._algorithm
            portal, moment = algorithm.data_portal, algorithm.datetime
            if algorithm.data_frequency == "daily":
                moment = portal.trading_calendar.minute_to_session(moment)
            reader = portal._get_pricing_reader(algorithm.data_frequency)
            self._when = time, reader.get_value, moment
        return self._when[1:]


def _has_no_data(error: Exception) -> bool:
    return any(kind.__name__ in _NO_DATA for kind in type(error).__mro__)
