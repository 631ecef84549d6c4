"""Turns spans that were read from OTLP into spans of the lake, losing nothing of them.

What fillpath itself sent out comes back as it was. It is known by its resource: the run that it
names is also its service's instance, and fillpath the service's namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fillpath.exporters.exact_json import clean, digits, to_json
from fillpath.exporters.otel_spans import Recent, Sequences, taken_run_id
from fillpath.exporters.otlp_input import InputResource, InputScope, InputSpan
from fillpath.exporters.schema import (
    DROPPED_BY_SDK,
    LINK_ATTRIBUTES,
    LINK_TRACE_STATES,
    RESOURCE_SCHEMA_URL,
    SCOPE_ATTRIBUTES,
    SCOPE_SCHEMA_URL,
    SCOPE_VERSION,
    SPAN_EVENTS,
    STATUS_CODE,
    STATUS_DESCRIPTION,
)
from fillpath.exporters.span_rows import STATUS_ERROR, Span
from fillpath.instrumentation import span_parts
from fillpath.instrumentation.event_sampler import ALL, Decision
from fillpath.instrumentation.identity import MAX_SEQUENCE, root_of_trace, run_key
from fillpath.instrumentation.semconv import (
    SCHEMA_URL,
    SCOPE_NAME,
    Bar,
    Event,
    Fill,
    Order,
    Position,
    Resource,
    Risk,
    Sampling,
    Summary,
    Tick,
)

DECIMALS: Final = frozenset(
    {
        *(Bar.OPEN, Bar.HIGH, Bar.LOW, Bar.CLOSE, Bar.VOLUME),
        *(Tick.BID, Tick.ASK, Tick.BID_SIZE, Tick.ASK_SIZE, Tick.PRICE, Tick.SIZE),
        *(Order.QUANTITY, Order.PRICE, Order.TRIGGER_PRICE),
        *(Fill.PRICE, Fill.QUANTITY, Fill.COMMISSION, Fill.MULTIPLIER),
        *(Position.QUANTITY, Position.REALIZED_PNL),
        *(Risk.LIMIT, Risk.VALUE),
        *(Summary.OPEN, Summary.HIGH, Summary.LOW, Summary.CLOSE, Summary.VOLUME),
    }
)
"""Attributes that are decimals by the semantic conventions; OTLP carries them as text. An
engine's average prices are text in the lake as well."""
_INT64: Final = range(-(1 << 63), 1 << 63)
_SEQUENCES: Final = range(1, MAX_SEQUENCE + 1)
_MOST_DIGITS: Final = 60
_MOST_RESOURCES: Final = 100


@dataclass(frozen=True, slots=True)
class ImportedOrigin:
    """What all spans of one resource have in common."""

    run_id: str | None
    """Run that it names, if it names one that can be."""
    is_own: bool
    """Whether fillpath made it."""
    mode: str | None
    portfolio: str | None
    service_name: str | None
    host_name: str | None
    sdk_version: str | None
    others: dict[str, Any]
    """The other attributes."""

    @property
    def program(self) -> str | None:
        """Name of the program: of a run of ours, the service without the portfolio."""
        if self.service_name is None or not self.is_own:
            return self.service_name
        return self.service_name.removesuffix(f"/{self.portfolio}")

    @classmethod
    def of(cls, resource: InputResource) -> ImportedOrigin:
        """Read a resource. What is no text where one belongs stays among the others."""
        others = dict(resource.attributes)
        run_id = taken_run_id(others)
        is_own = (
            run_id is not None
            and others.get(Resource.SERVICE_NAMESPACE) == SCOPE_NAME
            and others.get(Resource.SERVICE_INSTANCE_ID) == run_id
        )
        mode = others.get(Resource.RUN_MODE)
        version = others.get("telemetry.sdk.version")
        return cls(
            run_id,
            is_own,
            mode if isinstance(mode, str) else None,
            _taken_text(others, Resource.PORTFOLIO),
            _taken_text(others, Resource.SERVICE_NAME),
            _taken_text(others, Resource.HOST_NAME),
            version if isinstance(version, str) else None,
            others,
        )


def _taken_text(attributes: dict[str, Any], key: str) -> str | None:
    value = attributes.get(key)
    if not isinstance(value, str) or clean(value) != value:
        return None
    del attributes[key]
    return value


class ImportedRun:
    """Makes spans of one run.

    Args:
        run_id: The run.
        portfolio: Namespace, when neither a span nor its resource names one.
        mode: The run's mode as it is known; spans of the run's own need not repeat it.
    """

    def __init__(self, run_id: str, portfolio: str, mode: str | None) -> None:
        self.run_id = run_id
        self.mode = mode
        self._key = run_key(run_id)
        self._portfolio = portfolio
        self._sequences = Sequences()
        self._roots: Recent[bytes] = Recent()
        self._resources: dict[tuple[int, str, bool], tuple[ImportedOrigin, str | None]] = {}

    def span_of(
        self, span: InputSpan, scope: InputScope, origin: ImportedOrigin, schema_url: str
    ) -> Span:
        """Make a span of the lake.

        Args:
            span: The span; its attributes may be changed.
            scope: Its instrumentation scope.
            origin: What its resource says.
            schema_url: Schema of the resource.

        Raises:
            ValueError: A time does not fit into the lake.
        """
        duration = span.end - span.start
        if not all(time in _INT64 for time in (span.start, span.end, duration)):
            raise ValueError(f"the span {span.name!r} has a time beyond 64 bits")
        attributes = span.attributes
        for key in DECIMALS.intersection(attributes):
            attributes[key] = _decimal(attributes[key])
        named = attributes.get(Resource.PORTFOLIO)
        portfolio = clean(named) if isinstance(named, str) else origin.portfolio or self._portfolio
        sequence, root = self._places(span, attributes, is_own=origin.is_own)
        end = span.end or None
        if attributes.get(Event.UNFINISHED) is True and span.end == span.start:
            end = None  # as `fillpath export` writes what did not end
        event_type = clean(span_parts.event_type_of(span.name, attributes.get(Event.TYPE)))
        is_event = root is not None and scope.name == SCOPE_NAME
        error = None
        if span.status_code == STATUS_ERROR:
            error = (None, clean(span.status_message) or None)
        event_time = _taken_integer(attributes, Event.TIME)
        decision = _taken_decision(attributes)
        _add_parts(attributes, span, scope, schema_url, is_event=is_event)
        return Span(
            self.run_id,
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            sequence,
            root,
            clean(span.name),
            span.kind,
            event_type,
            portfolio,
            event_time=event_time,
            start_time=span.start or None,
            end_time=end,
            attributes=attributes,
            links=[(link.trace_id, link.span_id) for link in span.links],
            error=error,
            decision=decision,
            service_name=origin.service_name,
            host_name=origin.host_name,
            scope_name=None if scope.name is None else clean(scope.name),
            trace_state=clean(span.trace_state) or None,
            resource_attributes=self._resource(origin, portfolio, is_own=root is not None),
        )

    def _places(
        self, span: InputSpan, attributes: dict[str, Any], *, is_own: bool
    ) -> tuple[int, int | None]:
        """Give a span's sequence and its root's; a span that is not the run's own has no root."""
        given = attributes.get(Event.SEQUENCE)
        if is_own and type(given) is int and given in _SEQUENCES:
            del attributes[Event.SEQUENCE]
            address = root_of_trace(int.from_bytes(span.trace_id, "big"))
            if address is not None and address[0] == self._key:
                return given, address[1]
            # The host named this chain. Spans come by their sequence: the first is its root.
            root = self._roots.get(span.trace_id)
            if root is None:
                root = given
                self._roots.note(span.trace_id, root)
            return given, root
        if type(given) is int and given in _INT64:
            return given, None
        parent = span.parent_span_id
        number = self._sequences.number(
            int.from_bytes(span.span_id, "big"),
            None if parent is None else int.from_bytes(parent, "big"),
            span.start,
        )
        if number not in _INT64:
            raise ValueError(f"the span {span.name!r} has a time beyond 64 bits")
        return number, None

    def _resource(self, origin: ImportedOrigin, portfolio: str, *, is_own: bool) -> str | None:
        """Write the resource's attributes that no column tells."""
        key = (id(origin), portfolio, is_own)
        known = self._resources.get(key)
        if known is None or known[0] is not origin:
            others = dict(origin.others)
            if is_own:
                del others[Resource.SERVICE_NAMESPACE], others[Resource.SERVICE_INSTANCE_ID]
                if origin.mode is not None and origin.mode == self.mode:
                    del others[Resource.RUN_MODE]
            if origin.portfolio is not None and origin.portfolio != portfolio:
                others[Resource.PORTFOLIO] = origin.portfolio
            if len(self._resources) >= _MOST_RESOURCES:
                self._resources.clear()
            known = self._resources[key] = (origin, to_json(others) if others else None)
        return known[1]


def _decimal(value: Any) -> Any:
    """Make a decimal of its text, if its text can be had again from it."""
    if not isinstance(value, str) or len(value) > _MOST_DIGITS or not value.isascii():
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return number if number.is_finite() and digits(number) == value else value


def _taken_integer(attributes: dict[str, Any], key: str) -> int | None:
    value = attributes.get(key)
    if type(value) is not int or value not in _INT64:
        return None
    del attributes[key]
    return value


def _taken_decision(attributes: dict[str, Any]) -> Decision:
    reason, probability = attributes.get(Sampling.REASON), attributes.get(Sampling.PROBABILITY)
    if not isinstance(reason, str) or not isinstance(probability, float) or clean(reason) != reason:
        return Decision(ALL, 1.0)
    del attributes[Sampling.REASON], attributes[Sampling.PROBABILITY]
    return Decision(reason, probability)


def _add_parts(
    attributes: dict[str, Any],
    span: InputSpan,
    scope: InputScope,
    schema_url: str,
    *,
    is_event: bool,
) -> None:
    """Add to the attributes what the lake has no column for."""
    if span.events:
        attributes[SPAN_EVENTS] = span.events
    if span.links:
        if any(link.attributes for link in span.links):
            attributes[LINK_ATTRIBUTES] = [link.attributes for link in span.links]
        if any(link.trace_state for link in span.links):
            attributes[LINK_TRACE_STATES] = [link.trace_state for link in span.links]
    if span.status_code != "UNSET" and not (is_event and span.status_code == STATUS_ERROR):
        attributes[STATUS_CODE] = span.status_code
    if span.status_message and not is_event:
        attributes[STATUS_DESCRIPTION] = span.status_message
    if scope.version:
        attributes[SCOPE_VERSION] = scope.version
    if scope.attributes:
        attributes[SCOPE_ATTRIBUTES] = scope.attributes
    if scope.schema_url and not (scope.name == SCOPE_NAME and scope.schema_url == SCHEMA_URL):
        attributes[SCOPE_SCHEMA_URL] = scope.schema_url
    if schema_url:
        attributes[RESOURCE_SCHEMA_URL] = schema_url
    if span.dropped:
        attributes[DROPPED_BY_SDK] = {
            part: span.dropped.get(part, 0) for part in ("attributes", "events", "links")
        }


def causes_first(
    spans: Sequence[tuple[InputSpan, Any]],
) -> list[tuple[InputSpan, Any]]:
    """Order spans, each with what belongs to it, by their start; of equals, parents come first."""
    parents = {span.span_id: span.parent_span_id for span, _ in spans}
    depths: dict[bytes, int] = {}

    def depth(span_id: bytes) -> int:
        way: list[bytes] = []
        here: Any = span_id
        while here in parents and here not in depths and len(way) < len(parents):
            way.append(here)
            here = parents[here]
        below = 0 if here is None else depths.get(here, -1) + 1
        for number, each in enumerate(reversed(way)):
            depths[each] = below + number
        return depths[span_id]

    return sorted(spans, key=lambda pair: (pair[0].start, depth(pair[0].span_id)))
