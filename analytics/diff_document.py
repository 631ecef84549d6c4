"""Two runs, compared, as one JSON document."""

from __future__ import annotations

from typing import Any

from fillpath.analytics.chain_span import ChainSpan, span_document
from fillpath.analytics.compared_runs import ComparedRuns, OneSided, PartingEvent, Way
from fillpath.analytics.pnl_effect import PnlComparison
from fillpath.analytics.run_lookup import RUN_COLUMNS


def diff_document(found: ComparedRuns, pnl: PnlComparison | None) -> dict[str, Any]:
    """Give a comparison as a document; amounts are decimals, `change` is B less A.

    Args:
        found: What `compare_events` found.
        pnl: The P&L of both, if it was compared.
    """
    a, b = found.one_sided
    document: dict[str, Any] = {
        "identical": found.identical,
        "a": {name: found.a.get(name) for name in RUN_COLUMNS},
        "b": {name: found.b.get(name) for name in RUN_COLUMNS},
        "differing_parameters": found.cards,
        "notes": found.notes,
        "events": {
            "a": len(found.diff.a),
            "b": len(found.diff.b),
            "alike_before": int(found.diff.same.sum()),
            "differing": found.counts.differing,
        },
        "renamed_ids": found.diff.renamed,
        "first_difference": None,
        "portfolios": [_parting(one) for one in found.portfolios],
        "parted_lanes": len(found.diff.lanes),
        "kinds": found.counts.kinds,
        "orders": {"only_a": a.orders, "only_b": b.orders},
        "fills": {"only_a": a.fills, "only_b": b.fills},
        "examples": {"only_a": _spans(a), "only_b": _spans(b)},
        "pnl": None,
    }
    if found.first is not None:
        document["first_difference"] = _parting(found.first)
        if found.ways is not None:
            ways = zip(("chain_a", "chain_b"), found.ways, strict=True)
            document["first_difference"] |= {name: _way(way) for name, way in ways}
    if pnl is not None:
        document["pnl"] = pnl_document(pnl)
    return document


def pnl_document(pnl: PnlComparison) -> dict[str, Any]:
    """Give the P&L of two runs as a document."""
    return {
        "rows": [row.document() for row in pnl.rows],
        "by_strategy": [row.document() for row in pnl.by_strategy()],
        "totals": [row.document() for row in pnl.totals()],
    }


def _parting(one: PartingEvent) -> dict[str, Any]:
    event = one.event
    return {
        "how": one.how,
        "number": one.number,
        "position": one.position,
        "portfolio": event.portfolio,
        "strategy": event.strategy,
        "symbol": event.symbol,
        "event_type": event.event_type,
        "event_time": event.event_time,
        "fields": one.fields,
        "a": _span(one.a),
        "b": _span(one.b),
        "next_a": _span(one.next_a),
        "next_b": _span(one.next_b),
    }


def _span(span: ChainSpan | None) -> dict[str, Any] | None:
    return None if span is None else span_document(span)


def _spans(one: OneSided) -> list[dict[str, Any]]:
    return [span_document(span) for span in one.examples]


def _way(way: Way) -> dict[str, Any]:
    return {
        "spans": [span_document(span) for span in way.spans],
        "left_out": way.left_out,
        "holds_event": way.holds_event,
    }
