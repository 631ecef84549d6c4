"""Rows of the view `spans`, as the tree of a trace holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.instrumentation.semconv import EventType

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COLUMNS: Final = (
    "run_id", "portfolio", "trace_id", "span_id", "parent_span_id", "sequence", "name", "span_kind",
    "event_type", "correlation_id", "event_time", "start_time", "end_time", "strategy", "symbol",
    "venue", "order_id", "client_order_id", "fill_id", "position_id", "side", "order_type",
    "status", "quantity", "price", "commission", "currency", "handler", "attributes",
)  # fmt: skip
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)}, links FROM spans"  # noqa: S608 - names are ours


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A link to a span of this or another chain."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class ChainSpan:
    """One row of the view `spans`; times in nanoseconds, numbers exact."""

    run_id: str
    portfolio: str | None
    trace_id: str
    span_id: str
    parent_span_id: str | None
    sequence: int
    name: str
    span_kind: str
    event_type: str
    correlation_id: str | None
    event_time: int | None
    start_time: int
    end_time: int | None
    strategy: str | None
    symbol: str | None
    venue: str | None
    order_id: str | None
    client_order_id: str | None
    fill_id: str | None
    position_id: str | None
    side: str | None
    order_type: str | None
    status: str | None
    quantity: Decimal | None
    price: Decimal | None
    commission: Decimal | None
    currency: str | None
    handler: str | None
    attributes: Mapping[str, Any]
    links: tuple[SpanLink, ...]

    @property
    def is_delivery(self) -> bool:
        """Whether it stands for a handler's run, not for an event."""
        return self.span_kind == "CONSUMER"

    @property
    def is_divided(self) -> bool:
        """Whether its cause is in another trace, to which a link leads: the trace was divided."""
        return any(
            link.span_id == self.parent_span_id and link.trace_id != self.trace_id
            for link in self.links
        )

    @property
    def is_fill(self) -> bool:
        """Whether it is a fill itself."""
        return self.event_type == EventType.FILL and not self.is_delivery


def select_spans(
    connection: DuckDBPyConnection, condition: str, values: Sequence[object]
) -> list[ChainSpan]:
    """Read the spans that meet a condition, in the order of sequence.

    Args:
        connection: A connection with the view `spans`.
        condition: SQL of ours, with a question mark for each value.
        values: The values.
    """
    query = f"{_SELECT} WHERE {condition} ORDER BY sequence"
    return [_chain_span(row) for row in connection.execute(query, values).fetchall()]


def _chain_span(row: Sequence[Any]) -> ChainSpan:
    fields: dict[str, Any] = dict(zip((*_COLUMNS, "links"), row, strict=True))
    fields["attributes"] = _parsed(fields["attributes"], dict)
    fields["links"] = tuple(
        SpanLink(str(link["trace_id"]), str(link["span_id"]))
        for link in _parsed(fields["links"], list)
    )
    return ChainSpan(**fields)


def _parsed(value: Any, kind: type) -> Any:
    parsed = json.loads(value) if isinstance(value, str) else value
    return kind() if parsed is None else parsed


def span_document(span: ChainSpan) -> dict[str, Any]:
    """Give a span as a document with the columns of the view `spans`."""
    document = {column: getattr(span, column) for column in _COLUMNS}
    document["links"] = [
        {"trace_id": link.trace_id, "span_id": link.span_id} for link in span.links
    ]
    return document
