"""All that a report must show, by its place on the page."""

from __future__ import annotations

from collections import defaultdict

from numbers_shown import Place, first_words
from reckoned_by_hand import Figures, Reckoning, took
from reckoned_latency import Latencies
from reckoned_orders import Orders, Signals, regimes
from reckoned_tearsheet import Sheet

WORDS_OF_ALL = "Every trade, from the fill that opened it to the one that closed it"


def reckoned_page(run: Reckoning, engine: str) -> dict[Place, list[str]]:
    """Every figure that the page must show, by its place."""
    further = {
        "tearsheet": Sheet(run).figures(),
        "signals": Signals(run).figures(),
        "regimes": regimes(run),
        "executions": Orders(run).figures(),
        "latency": Latencies(run).figures(),
        "trades": traces(run),
    }
    found = run.expected(engine)
    found |= counts(run, found)
    for section, figures in further.items():
        for table, row, column, texts in figures:
            if texts:
                found[Place(section, table, row, column)] = texts
    return found


def traces(run: Reckoning) -> Figures:
    """How many events each trace has, and how long it took; a page shows some of them."""
    by_trace: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in run.events:
        by_trace[event["trace_id"]].append((event["start_time"], event["end_time"]))
    for trace_id, times in by_trace.items():
        lasted = max(end for _, end in times) - min(start for start, _ in times)
        yield "Their traces", f"trace-{trace_id}", "took", [f"{len(times):,}", took(lasted)]


def counts(run: Reckoning, found: dict[Place, list[str]]) -> dict[Place, list[str]]:
    """What is said in words of how much there is of something."""
    rows: dict[str, set[str]] = defaultdict(set)
    for place in found:
        if place.table.startswith("By ") and place.section == "attribution":
            rows[place.table.removesuffix(", USD")].add(place.row)
    kinds = {event["event_type"] for event in run.published}
    said = {
        ("completeness", "", "by kind # kinds", "summary"): len(kinds),
        ("orders", "", "\N{CHECK MARK} equal to the run's # orders", "p"): len(run.orders),
        ("all-trades", "", first_words(WORDS_OF_ALL), "p"): len(run.trades),
    }
    for title, its in rows.items():
        words = f"{title} # in USD"
        said["attribution", "From start to end USD", words, "summary"] = len(its - {"Total"})
    return {Place(*place): [f"{number:,}"] for place, number in said.items()}
