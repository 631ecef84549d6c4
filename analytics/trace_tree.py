"""A chain of events as a tree, as a whole or around what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fillpath.analytics.chain_span import ChainSpan, span_document
from fillpath.analytics.joined_trace import in_causal_order

DEEPEST: Final = 100
"""Deeper spans stand at this depth in a nested document; readers of JSON stop not far beyond."""


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


def grow_chain(
    spans: Iterable[ChainSpan], focus: Collection[str] = (), *, limit: int | None = None
) -> Chain:
    """Make the tree of one chain.

    With a focus, what leads to it, what came of it and the other states of its orders are shown;
    the rest is counted where it hangs. Without one, everything is.

    Args:
        spans: All spans of one chain, at least one; of several runs if processes share it.
        focus: Span ids that were asked for.
        limit: How many spans to show at most, but always the focus and what leads to it.
    """
    ordered = in_causal_order(spans)
    nodes: dict[str, Node] = {}
    for span in ordered:
        parent = None if span.parent_span_id is None else nodes.get(span.parent_span_id)
        nodes[span.span_id] = Node(
            span,
            parent,
            focus=span.span_id in focus,
            orphan=parent is None and span.parent_span_id is not None and not span.is_divided,
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
