"""Traces a home-made event bus by wrapping it.

Nesting tells causes: what is published while an event's `publish` call runs was caused by it. A
subscriber's run is a delivery of its own, recorded when it causes something. A queued bus that
delivers later keeps causes too, because the wrapped handler remembers which event it was given.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from typing import Any, Final

from fillpath.instrumentation import semconv
from fillpath.instrumentation.event_tracer import CURRENT, EventTracer, OpenEvent
from fillpath.instrumentation.semconv import PROCESS
from fillpath.instrumentation.tracing import Tracing

Extractor = str | tuple[str, ...] | Callable[[Any], Any]
"""How to find a part of an event: an attribute or key, several to try in turn, or a function."""

_REMEMBERED_EVENTS: Final = 65_536


@dataclass(frozen=True, slots=True)
class EventFields:
    """Where a host's events keep what fillpath needs; every part may be missing.

    Attributes:
        event_type: Kind of event; an Enum gives its value if that is a string, else its name.
            When there is none, the event's class names the kind.
        event_id: The host's id of the event.
        correlation_id: The host's name of the chain.
        causation_id: The host's id of the causing event.
        event_time: Market time: nanoseconds (integer), seconds (float), or a datetime (a naive
            one is taken as UTC).
        strategy: Who trades.
        symbol: What is traded.
        portfolio: Namespace such as ``fund/desk/book``.
        payload: The rest; a mapping, or an object whose fields are taken.
    """

    event_type: Extractor = ("event_type", "kind", "type")
    event_id: Extractor = ("event_id", "id")
    correlation_id: Extractor = "correlation_id"
    causation_id: Extractor = ("causation_id", "cause_id", "parent_id")
    event_time: Extractor = ("event_time", "timestamp", "ts_event", "time")
    strategy: Extractor = ("strategy", "strategy_id")
    symbol: Extractor = ("symbol", "instrument", "ticker")
    portfolio: Extractor = ("portfolio", "namespace", "book")
    payload: Extractor = ("payload", "data")


_KNOWN_KEYS: Final[Mapping[str, str]] = {
    "client_order_id": semconv.Order.CLIENT_ID,
    "order_id": semconv.Order.CLIENT_ID,
    "side": semconv.Order.SIDE,
    "order_type": semconv.Order.TYPE,
    "status": semconv.Order.STATUS,
    "reason": semconv.Order.REJECT_REASON,
    "fill_id": semconv.Fill.ID,
    "trade_id": semconv.Fill.ID,
    "commission": semconv.Fill.COMMISSION,
    "fee": semconv.Fill.COMMISSION,
    "currency": semconv.Fill.CURRENCY,
    "position_id": semconv.Position.ID,
    "venue": semconv.Trading.VENUE,
    "open": semconv.Bar.OPEN,
    "high": semconv.Bar.HIGH,
    "low": semconv.Bar.LOW,
    "close": semconv.Bar.CLOSE,
    "volume": semconv.Bar.VOLUME,
    "rule": semconv.Risk.RULE,
    "limit": semconv.Risk.LIMIT,
}
_KEYS_BY_TYPE: Final[Mapping[str, Mapping[str, str]]] = {
    "FILL": {"quantity": semconv.Fill.QUANTITY, "price": semconv.Fill.PRICE},
    "ORDER": {"quantity": semconv.Order.QUANTITY, "price": semconv.Order.PRICE},
    "SIGNAL": {
        "value": semconv.Signal.VALUE,
        "strength": semconv.Signal.STRENGTH,
        "name": semconv.Signal.NAME,
        "signal": semconv.Signal.NAME,
    },
    "TICK": {"price": semconv.Tick.PRICE, "size": semconv.Tick.SIZE},
}


class TracedEventBus:
    """A bus in front of a host's own; give it to the host in place of the one it wraps.

    `publish` and `subscribe` are followed, everything else is passed on as it is. The host's
    events are never changed, and nothing fillpath fails at is raised into the host.

    Args:
        bus: The host's bus.
        tracing: The session that records; the active one when left out.
        fields: Where the host's events keep what fillpath needs.
        publish: Name of the host's publishing method. The event is its last positional argument,
            or the keyword argument ``event``.
        subscribe: Name of the host's subscribing method. Every callable argument is followed.
    """

    def __init__(
        self,
        bus: Any,
        tracing: Tracing | None = None,
        *,
        fields: EventFields | None = None,
        publish: str = "publish",
        subscribe: str = "subscribe",
    ) -> None:
        self._bus = bus
        self._tracing = tracing
        self._fields = fields or EventFields()
        self._seen: OrderedDict[int, tuple[Any, OpenEvent]] = OrderedDict()
        self._by_id: OrderedDict[str, OpenEvent] = OrderedDict()
        setattr(self, publish, self._following_publish(getattr(bus, publish)))
        setattr(self, subscribe, self._following_subscribe(getattr(bus, subscribe)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def _tracer(self) -> EventTracer | None:
        tracing = self._tracing or Tracing.active()
        return tracing.tracer if tracing is not None and tracing.running else None

    def _following_publish(self, publish: Callable[..., Any]) -> Callable[..., Any]:
        def publish_traced(*args: Any, **kwargs: Any) -> Any:
            tracer = self._tracer()
            event = kwargs.get("event", args[-1] if args else None)
            opened = None if tracer is None else self._open(tracer, event)
            if tracer is None or opened is None:
                return publish(*args, **kwargs)
            failure: BaseException | None = None
            with tracer.entered(opened):
                try:
                    return publish(*args, **kwargs)
                except BaseException as error:
                    failure = error
                    raise
                finally:
                    tracer.close(opened, error=failure)

        return publish_traced

    def _following_subscribe(self, subscribe: Callable[..., Any]) -> Callable[..., Any]:
        def subscribe_traced(*args: Any, **kwargs: Any) -> Any:
            followed = [self._follow(a) if callable(a) and not isinstance(a, type) else a
                        for a in args]
            named = {k: self._follow(v) if callable(v) and not isinstance(v, type) else v
                     for k, v in kwargs.items()}
            return subscribe(*followed, **named)

        return subscribe_traced

    def _follow(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        return _FollowedHandler(self, handler)

    def _open(self, tracer: EventTracer, event: Any) -> OpenEvent | None:
        try:
            parts = self._parts(event)
            cause = parts.pop("causation_id")
            parent: Any = CURRENT
            if cause is not None and str(cause) in self._by_id:
                parent = self._by_id[str(cause)]
            opened = tracer.open(parent=parent, **parts)
            self._remember(event, opened)
        except Exception as error:
            tracer.complain(error)
            return None
        return opened

    def _parts(self, event: Any) -> dict[str, Any]:
        fields = self._fields
        kind = _kind(_extract(event, fields.event_type), event)
        attributes = self._attributes(kind, event)
        event_id = _text(_extract(event, fields.event_id))
        causation = _text(_extract(event, fields.causation_id))
        if causation is not None:
            attributes[semconv.Event.CAUSATION_ID] = causation
        return {
            "event_type": kind,
            "event_id": event_id,
            "correlation_id": _text(_extract(event, fields.correlation_id)),
            "causation_id": causation,
            "event_time": _nanoseconds(_extract(event, fields.event_time)),
            "strategy": _text(_extract(event, fields.strategy)),
            "symbol": _text(_extract(event, fields.symbol)),
            "venue": _text(attributes.pop(semconv.Trading.VENUE, None)),
            "portfolio": _text(_extract(event, fields.portfolio)),
            "attributes": attributes,
        }

    def _attributes(self, kind: str, event: Any) -> dict[str, Any]:
        values = {**_fields_of(event), **_fields_of(_extract(event, self._fields.payload))}
        by_type = _KEYS_BY_TYPE.get(kind, {})
        attributes: dict[str, Any] = {}
        for name, value in values.items():
            if name in _envelope_names(self._fields):
                continue
            key = by_type.get(name) or _KNOWN_KEYS.get(name) or f"trading.{kind.lower()}.{name}"
            if key == semconv.Order.SIDE:
                value = _side(value)
            attributes[key] = value
        return attributes

    def _remember(self, event: Any, opened: OpenEvent) -> None:
        # The event is kept too, so that its address is not given to another one meanwhile.
        self._seen[id(event)] = (event, opened)
        if opened.event_id is not None:
            self._by_id[opened.event_id] = opened
        for remembered in (self._seen, self._by_id):
            if len(remembered) > _REMEMBERED_EVENTS:
                remembered.popitem(last=False)

    def deliver(self, handler: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a handler as the delivery of the event among its arguments."""
        tracer = self._tracer()
        event = None if tracer is None else self._event_among(args, kwargs)
        if tracer is None or event is None:
            return handler(*args, **kwargs)
        run = tracer.open(
            event.event_type,
            operation=PROCESS,
            portfolio=event.portfolio,
            handler=_handler_name(handler),
            parent=event,
        )
        failure: BaseException | None = None
        with tracer.handling(run):
            try:
                return handler(*args, **kwargs)
            except BaseException as error:
                failure = error
                raise
            finally:
                tracer.close(run, error=failure)

    def _event_among(self, args: Any, kwargs: Any) -> OpenEvent | None:
        for value in (*args, *kwargs.values()):
            found = self._seen.get(id(value))
            if found is not None and found[0] is value:
                return found[1]
        return None


class _FollowedHandler:
    """A subscriber that is followed; equal to the handler it wraps, so it can be unsubscribed."""

    def __init__(self, bus: TracedEventBus, handler: Callable[..., Any]) -> None:
        self._bus = bus
        self._handler = handler

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._bus.deliver(self._handler, args, kwargs)

    def __eq__(self, other: object) -> bool:
        return bool(self._handler == getattr(other, "_handler", other))

    def __hash__(self) -> int:
        return hash(self._handler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


def _envelope_names(fields: EventFields) -> set[str]:
    names: set[str] = set()
    for extractor in asdict(fields).values():
        if isinstance(extractor, str):
            names.add(extractor)
        elif isinstance(extractor, tuple):
            names.update(extractor)
    return names


def _extract(event: Any, extractor: Extractor) -> Any:
    if callable(extractor):
        return extractor(event)
    for name in (extractor,) if isinstance(extractor, str) else extractor:
        value = event.get(name) if isinstance(event, Mapping) else getattr(event, name, None)
        if value is not None and not callable(value):
            return value
    return None


def _fields_of(value: Any) -> dict[str, Any]:
    if value is None or isinstance(value, str | bytes | int | float):
        return {}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    fields = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                fields[name] = getattr(value, name)
    return {k: v for k, v in fields.items() if not k.startswith("_") and not callable(v)}


def _kind(given: Any, event: Any) -> str:
    if isinstance(given, Enum):
        given = given.value if isinstance(given.value, str) else given.name
    text = str(given) if given else re.sub(r"Event$", "", type(event).__name__)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\s\-]+", "_", text.strip()).upper()[:100] or "EVENT"


def _side(value: Any) -> Any:
    text = str(value.name if isinstance(value, Enum) else value).strip().upper()
    return {"B": "BUY", "LONG": "BUY", "S": "SELL", "SHORT": "SELL", "1": "BUY", "-1": "SELL"}.get(
        text, text
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value.value if isinstance(value, Enum) else value)


def _nanoseconds(value: Any) -> int | None:
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        since = aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return round(value * 1e9)
    return None


def _handler_name(handler: Callable[..., Any]) -> str:
    inner = handler
    while hasattr(inner, "func"):  # a partial has no name of its own
        inner = inner.func
    return getattr(inner, "__qualname__", type(inner).__qualname__)
