"""Chains of events as trees: what an id stands for, how it came about and what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics.trace_lookup import Target
from fillpath.instrumentation.semconv import EventType

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_SPANS: Final = 60
"""Spans of one chain that are shown unless all are asked for."""
MOST_CHAINS: Final = 4
"""Chains that are shown of an order or a position that is in many, unless all are asked for."""
DEEPEST: Final = 100
"""Deeper spans stand at this depth in a nested document; readers of JSON stop not far beyond."""

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
    def is_fill(self) -> bool:
        """Whether it is a fill itself."""
        return self.event_type == EventType.FILL and not self.is_delivery


@dataclass(slots=True)
class Node:
    """A span in its tree.

    Args:
        span: The span.
        parent: What caused it; None at a root.
        children: What it caused, in the order of sequence, as far as it is shown.
        focus: Whether it is what was asked for.
        orphan: Whether it names a parent that its chain does not hold.
        hidden: How many spans below it are left out, by event type.
    """

    span: ChainSpan
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    focus: bool = False
    orphan: bool = False
    hidden: Counter[str] = field(default_factory=Counter)

    @property
    def latency(self) -> int | None:
        """Wall-clock nanoseconds since its parent began; None at a root."""
        return None if self.parent is None else self.span.start_time - self.parent.span.start_time

    def ancestors(self) -> Iterator[Node]:
        """Its parent, the parent's parent, up to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of events, or the part of it that is to be shown.

    Args:
        trace_id: Its id.
        correlation_id: Its name, if the host gave one; otherwise the trace id.
        roots: Usually one; more if parents are missing.
        total: How many spans it has altogether.
        hidden: Spans left out that are below no root that is shown, by event type.
    """

    trace_id: str
    correlation_id: str
    roots: tuple[Node, ...]
    total: int
    hidden: Counter[str]

    def nodes(self) -> Iterator[Node]:
        """Every node shown, each after its parent, depth first."""
        waiting = list(reversed(self.roots))
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class Trace:
    """What an id stands for: its chains, and what they link to.

    Args:
        target: What was asked for.
        chains: In the order of sequence.
        linked: Spans that the chains link to, by span id.
        followers: Fills that link to a fill asked for: its exits.
        other_chains: How many chains of the target are not shown.
        cycles: For a position, how often it was opened; a netting engine uses the id again.
    """

    target: Target
    chains: tuple[Chain, ...]
    linked: Mapping[str, ChainSpan]
    followers: tuple[ChainSpan, ...] = ()
    other_chains: int = 0
    cycles: int = 0


def load_trace(
    connection: DuckDBPyConnection, target: Target, *, everything: bool = False
) -> Trace:
    """Read the chains of a target.

    Args:
        connection: A connection with the view `spans`.
        target: What `find_target` found.
        everything: Leave nothing out.
    """
    asked = _spans_of(connection, target)
    cycles = 0
    if target.column == "position_id":
        cycles = sum(_opens(span) for span in asked) or 1
        if not everything:
            asked = _last_cycle(asked)
    trace_ids = list(dict.fromkeys(span.trace_id for span in asked))
    shown = trace_ids if everything else _most_telling(trace_ids, asked)
    whole_chain = target.column in {"trace_id", "correlation_id"}
    focus = frozenset() if whole_chain else frozenset(span.span_id for span in asked)
    by_trace: dict[str, list[ChainSpan]] = {trace_id: [] for trace_id in shown}
    for span in _select(
        connection, "run_id = ? AND trace_id IN (SELECT unnest(?))", [target.run_id, shown]
    ):
        by_trace[span.trace_id].append(span)
    limit = None if everything else MOST_SPANS
    chains = tuple(grow_chain(spans, focus, limit=limit) for spans in by_trace.values())
    fills = [span for span in asked if span.is_fill]
    return Trace(
        target,
        chains,
        linked=_linked(connection, target.run_id, chains),
        followers=_followers(connection, target.run_id, fills),
        other_chains=len(trace_ids) - len(shown),
        cycles=cycles,
    )


def grow_chain(
    spans: Iterable[ChainSpan], focus: Collection[str] = (), *, limit: int | None = None
) -> Chain:
    """Make the tree of one chain.

    With a focus, what leads to it, what came of it and the other states of its orders are shown;
    the rest is counted where it hangs. Without one, everything is.

    Args:
        spans: All spans of one chain, at least one.
        focus: Span ids that were asked for.
        limit: How many spans to show at most, but always the focus and what leads to it.
    """
    ordered = sorted(spans, key=lambda span: span.sequence)
    nodes: dict[str, Node] = {}
    for span in ordered:
        parent = None if span.parent_span_id is None else nodes.get(span.parent_span_id)
        nodes[span.span_id] = Node(
            span,
            parent,
            focus=span.span_id in focus,
            orphan=parent is None and span.parent_span_id is not None,
        )
    shown = _shown(nodes, limit)
    roots: list[Node] = []
    hidden: Counter[str] = Counter()
    owners: dict[str, Node | None] = {}
    for span_id, node in nodes.items():
        owner = None if node.parent is None else owners[node.parent.span.span_id]
        if span_id in shown:
            (roots if owner is None else owner.children).append(node)
            owner = node
        else:
            (hidden if owner is None else owner.hidden)[node.span.event_type] += 1
        owners[span_id] = owner
    first = ordered[0]
    return Chain(
        first.trace_id,
        first.correlation_id or first.trace_id,
        tuple(roots),
        total=len(nodes),
        hidden=hidden,
    )


def _shown(nodes: Mapping[str, Node], limit: int | None) -> set[str]:
    """Decide which spans are shown; whoever is shown has a parent that is shown."""
    focused = [node for node in nodes.values() if node.focus]
    orders = {node.span.client_order_id for node in focused} - {None}
    must: set[str] = set()
    for node in focused:
        must.add(node.span.span_id)
        must.update(above.span.span_id for above in node.ancestors())
    if limit is None:
        return set(nodes)
    wanted: set[str] = set()
    for span_id, node in nodes.items():
        follows = node.parent is not None and node.parent.span.span_id in wanted
        above_wanted = node.parent is not None and node.parent.span.span_id in must
        same_order = above_wanted and node.span.client_order_id in orders
        if not focused or node.focus or follows or same_order:
            wanted.add(span_id)
    shown = set(must)
    for span_id, node in nodes.items():
        if len(shown) >= limit:
            break
        reachable = node.parent is None or node.parent.span.span_id in shown
        if span_id in wanted and reachable:
            shown.add(span_id)
    return shown


def trace_document(trace: Trace) -> dict[str, Any]:
    """Give what an id stands for as one nested document."""
    target = trace.target
    return {
        "id": target.value,
        "kind": target.kind,
        "run_id": target.run_id,
        "portfolio": target.portfolio,
        "notes": list(target.elsewhere),
        "chains": [chain_document(chain) for chain in trace.chains],
        "linked": [span_document(span) for span in trace.linked.values()],
        "closed_by": [span_document(span) for span in trace.followers],
    }


def chain_document(chain: Chain) -> dict[str, Any]:
    """Give a chain as a nested document; every span holds its `children`."""
    documents: dict[str, tuple[dict[str, Any], int]] = {}
    roots: list[dict[str, Any]] = []
    for node in chain.nodes():
        document = span_document(node.span)
        document["latency"] = node.latency
        document["focus"] = node.focus
        document["children"] = []
        home, depth = roots, 0
        if node.parent is not None and node.parent.span.span_id in documents:
            above, depth = documents[node.parent.span.span_id]
            if depth >= DEEPEST:
                # Beside its parent; parent_span_id still tells.
                above, depth = documents[_ancestor_at(node, documents)]
            home, depth = above["children"], depth + 1
        documents[node.span.span_id] = document, depth
        home.append(document)
    return {
        "trace_id": chain.trace_id,
        "correlation_id": chain.correlation_id,
        "spans": chain.total,
        "roots": roots,
    }


def _ancestor_at(node: Node, documents: Mapping[str, tuple[dict[str, Any], int]]) -> str:
    return next(
        above.span.span_id
        for above in node.ancestors()
        if documents[above.span.span_id][1] < DEEPEST
    )


def span_document(span: ChainSpan) -> dict[str, Any]:
    """Give a span as a document with the columns of the view `spans`."""
    document = {column: getattr(span, column) for column in _COLUMNS}
    document["links"] = [
        {"trace_id": link.trace_id, "span_id": link.span_id} for link in span.links
    ]
    return document


def _select(
    connection: DuckDBPyConnection, condition: str, values: Sequence[object]
) -> list[ChainSpan]:
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


def _spans_of(connection: DuckDBPyConnection, target: Target) -> list[ChainSpan]:
    condition, values = f"run_id = ? AND {target.column} = ?", [target.run_id, target.value]
    if target.portfolio is not None:
        condition += " AND portfolio = ?"
        values.append(target.portfolio)
    return _select(connection, condition, values)


def _opens(span: ChainSpan) -> bool:
    return span.event_type == EventType.POSITION_OPEN and not span.is_delivery


def _last_cycle(asked: list[ChainSpan]) -> list[ChainSpan]:
    """Keep what belongs to the last time a position was opened."""
    start = max((number for number, span in enumerate(asked) if _opens(span)), default=0)
    # The fill that opened it comes just before.
    while start > 0 and asked[start - 1].span_id == asked[start].parent_span_id:
        start -= 1
    return asked[start:]


def _most_telling(trace_ids: list[str], asked: list[ChainSpan]) -> list[str]:
    """Choose the chain where it began, those with a fill, and the last ones."""
    if len(trace_ids) <= MOST_CHAINS:
        return trace_ids
    filled = dict.fromkeys(span.trace_id for span in asked if span.is_fill)
    preferred = dict.fromkeys((trace_ids[0], *reversed(filled), *reversed(trace_ids)))
    chosen = set(list(preferred)[:MOST_CHAINS])
    return [trace_id for trace_id in trace_ids if trace_id in chosen]


def _linked(
    connection: DuckDBPyConnection, run_id: str, chains: Iterable[Chain]
) -> dict[str, ChainSpan]:
    wanted = {
        link.span_id for chain in chains for node in chain.nodes() for link in node.span.links
    }
    if not wanted:
        return {}
    found = _select(
        connection, "run_id = ? AND span_id IN (SELECT unnest(?))", [run_id, sorted(wanted)]
    )
    return {span.span_id: span for span in found}


def _followers(
    connection: DuckDBPyConnection, run_id: str, fills: list[ChainSpan]
) -> tuple[ChainSpan, ...]:
    if not fills:
        return ()
    ids = {fill.span_id for fill in fills}
    later = _select(
        connection,
        "run_id = ? AND event_type = 'FILL' AND sequence > ? AND links::VARCHAR <> '[]'",
        [run_id, fills[0].sequence],
    )
    return tuple(
        span for span in later if span.is_fill and any(link.span_id in ids for link in span.links)
    )
