"""Two runs or more, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from fillpath.analytics.exact import ZERO, exact_arithmetic

if TYPE_CHECKING:
    from fillpath.analytics.results_manager import PnlSum, ResultsManager, RunSummary

Side = Mapping[tuple[str | None, ...], Any]


@dataclass(frozen=True, slots=True)
class ComparedLine:
    """One quantity of every run.

    Attributes:
        names: What it is of, such as portfolio, strategy, symbol and currency.
        values: One a run; ``None`` where a run has none.
    """

    names: Mapping[str, str | None]
    values: Sequence[Any]

    @property
    def change(self) -> Any:
        """The last run's value less the first one's; ``None`` if one is missing."""
        first, last = self.values[0], self.values[-1]
        if first is None or last is None:
            return None
        if isinstance(first, Decimal) or isinstance(last, Decimal):
            with exact_arithmetic():
                return last - first
        return last - first


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Runs side by side; every line has a value a run, in the order of `runs`.

    Attributes:
        runs: The runs.
        parameters: Parameters that differ, by name.
        figures: Figures, by portfolio, currency and name.
        profit: P&L of everything, by currency.
        profit_by_strategy: By portfolio, strategy and currency.
        profit_by_symbol: By symbol and currency.
        completeness: Events published, kept, sampled out and dropped.
        latency: Median and 99th percentile of each hop, nanoseconds.
    """

    runs: Sequence[RunSummary]
    parameters: Mapping[str, Sequence[Any]]
    figures: Sequence[ComparedLine]
    profit: Sequence[ComparedLine]
    profit_by_strategy: Sequence[ComparedLine]
    profit_by_symbol: Sequence[ComparedLine]
    completeness: Sequence[ComparedLine]
    latency: Sequence[ComparedLine]


def compare_runs(results: ResultsManager, run_ids: Sequence[str]) -> RunComparison:
    """Put runs that are loaded side by side.

    Args:
        results: The results.
        run_ids: Whole ids.

    Raises:
        NotFound: One is not loaded.
    """
    runs = [results.run(run_id) for run_id in run_ids]
    names = list(dict.fromkeys(name for run in runs for name in run.parameters))
    values = {name: [run.parameters.get(name) for run in runs] for name in names}
    figures: list[Side] = [
        {(row["portfolio"], row["currency"], row["name"]): row["value"] for row in rows}
        for rows in (results.rows("figures", run_id) for run_id in run_ids)
    ]
    latency: list[Side] = [
        {
            (row["portfolio"], row["hop"], quantile): row[quantile]
            for row in results.read("hops_of_run", run_id=run_id)
            for quantile in ("p50", "p99")
        }
        for run_id in run_ids
    ]
    counts: list[Side] = [
        {(name,): getattr(run, name) for name in ("published", "kept", "sampled_out", "dropped")}
        for run in runs
    ]
    # Asked once a run, at its finest; the rest are sums of that.
    sums = [results.pnl_by(run_id, "portfolio", "strategy", "symbol") for run_id in run_ids]
    return RunComparison(
        runs,
        {name: each for name, each in values.items() if any(one != each[0] for one in each)},
        _lines(("portfolio", "currency", "name"), figures),
        _profit(sums),
        _profit(sums, ("portfolio", "strategy")),
        _profit(sums, ("symbol",)),
        _lines(("events",), counts),
        _lines(("portfolio", "hop", "quantile"), latency),
    )


def _profit(sums: Sequence[Sequence[PnlSum]], dimensions: Sequence[str] = ()) -> list[ComparedLine]:
    """Add the finest sums of every run up by some dimensions."""
    sides: list[Side] = []
    with exact_arithmetic():
        for finest in sums:
            side: dict[tuple[str | None, ...], Decimal] = {}
            for one in finest:
                key = (*(one.names[name] for name in dimensions), one.currency)
                side[key] = side.get(key, ZERO) + one.total
            sides.append(side)
    return _lines((*dimensions, "currency"), sides)


def _lines(names: Sequence[str], sides: Sequence[Side]) -> list[ComparedLine]:
    keys = dict.fromkeys(key for side in sides for key in side)
    ordered = sorted(keys, key=lambda key: tuple(one or "" for one in key))
    return [
        ComparedLine(dict(zip(names, key, strict=True)), [side.get(key) for side in sides])
        for key in ordered
    ]
