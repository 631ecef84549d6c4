"""`fillpath runs show`: what a run was and what it came to, on a page of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from fillpath.analytics import report_format
from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.figure_words import figure_label, figure_words, parameter_words
from fillpath.analytics.output import (
    HEADING,
    LONGEST_NAME,
    data_console,
    inert,
    print_json,
    styled,
    table,
)
from fillpath.analytics.pnl_table import PnlLine, draw_pnl
from fillpath.analytics.reconciliation import AccountReconciliation, ReconciliationStatus
from fillpath.analytics.results_loading import loaded_runs, profit_of, reconciliation_words
from fillpath.analytics.run_backtests import common_parameters, own_parameters
from fillpath.analytics.run_figures import ALL_PORTFOLIOS

if TYPE_CHECKING:
    from rich.console import Console

    from fillpath.analytics.results_manager import ResultsManager, RunSummary

_MOST_PARAMETERS = 200
_FIGURES: Final = (
    "net_pnl", "total_return", "cagr", "annual_volatility", "sharpe", "sortino", "max_drawdown",
    "trades", "win_rate", "profit_factor", "exposure", "turnover",
)  # fmt: skip
"""What is shown; `fillpath figures` shows all."""
_OF_BACKTESTS: Final = ("net_pnl", "sharpe", "max_drawdown", "trades")
"""What is shown of each backtest of a run that holds several."""


def show_run(given: Invocation, wanted: str) -> None:
    """Print a run's card; a run that is in the lake is loaded first.

    Raises:
        NotFound: There is no such run.
        FillpathError: The lake or the results database cannot be used.
    """
    with loaded_runs(given.folder, [wanted]) as (results, (run_id,)):
        run = results.run(run_id)
        profit = profit_of(results, run_id)
        figures = results.rows("figures", run_id)
        counts = _counts(results, run_id)
    following = list(_next(given, run, profit.accounts))
    if given.json:
        print_json(
            {
                "run": run,
                "completeness": {
                    name: getattr(run, name)
                    for name in ("published", "kept", "sampled_out", "dropped")
                },
                "counts": counts,
                "figures": [
                    {name: row[name] for name in ("portfolio", "currency", "name", "value")}
                    for row in figures
                ],
                "profit": [line.document() for line in profit.lines],
                "accounts": [_account(account) for account in profit.accounts],
                "next": following,
            }
        )
        return
    console = data_console()
    _print_card(console, run, counts)
    if profit.lines:
        console.print(draw_pnl(profit.lines))
    _print_accounts(console, profit.accounts, profit.lines)
    _print_figures(console, figures)
    _print_backtests(console, run, figures)
    for command in following:
        console.print(styled(("  Next: ", "bold"), command), soft_wrap=True)


def _counts(results: ResultsManager, run_id: str) -> dict[str, int]:
    (row,) = results.read("counts", run_id=run_id)
    return {name: int(value) for name, value in row.items()}


def _print_card(console: Console, run: RunSummary, counts: dict[str, int]) -> None:
    console.print(styled((run.run_id, HEADING)), soft_wrap=True)
    card = table(("", ""))
    card.show_header = False
    for name, value in _card(run, counts):
        card.add_row(styled((name, "dim")), styled(value))
    console.print(card)
    console.print()


def _card(run: RunSummary, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    yield "status", " · ".join(filter(None, (run.status, run.mode)))
    if run.engine:
        yield "engine", f"{run.engine} {run.engine_version or ''}".strip()
    if run.service_name:
        yield "program", inert(run.service_name, LONGEST_NAME)
    if run.started_at is not None:
        took = ""
        if run.ended_at is not None:
            took = f", took {report_format.duration(run.ended_at - run.started_at)}"
        yield "started", report_format.timestamp(run.started_at // 10**9 * 10**9) + " UTC" + took
    if run.data_from is not None and run.data_to is not None:
        yield (
            "data",
            f"{report_format.timestamp(run.data_from)} to {report_format.timestamp(run.data_to)}",
        )
    if run.code_version:
        yield "code version", run.code_version
    if run.seed:
        yield "seed", run.seed
    if parameters := common_parameters(run.parameters, run.backtests):
        yield "parameters", parameter_words(parameters, _MOST_PARAMETERS)
    if run.portfolios:
        yield "portfolios", inert(", ".join(run.portfolios), _MOST_PARAMETERS)
    yield "events", event_words(run)
    yield (
        "traded",
        ", ".join(f"{report_format.count(many)} {what}" for what, many in counts.items()),
    )


def event_words(run: RunSummary) -> str:
    """Say what became of a run's events; they are counted for good when it ends."""
    if run.status == "Running" and not run.published:
        return "counted when the run ends"
    words = [f"{report_format.count(run.published or 0)} published"]
    words.append(f"{report_format.count(run.kept or 0)} kept")
    if run.sampled_out:
        words.append(f"{report_format.count(run.sampled_out)} sampled out")
    words.append(f"{report_format.count(run.dropped or 0)} lost")
    return ", ".join(words)


def _print_accounts(
    console: Console, accounts: Sequence[AccountReconciliation], lines: Sequence[PnlLine]
) -> None:
    if not accounts:
        return
    if lines:
        console.print()
    for account in accounts:
        holds, words = reconciliation_words(account)
        mark = ("✔", "bold green") if holds else ("✘", "bold red")
        console.print(styled(mark, " ", words), soft_wrap=True)
    console.print()


def _print_figures(console: Console, figures: Sequence[dict[str, Any]]) -> None:
    whole = [row for row in figures if row["portfolio"] == ALL_PORTFOLIOS]
    chosen = sorted(
        (row for row in whole if row["name"] in _FIGURES),
        key=lambda row: (row["currency"], _FIGURES.index(row["name"])),
    )
    if not chosen:
        return
    drawn = table(("figure", "value", "currency"), right=("value",))
    for row in chosen:
        drawn.add_row(
            styled(figure_label(row["name"])),
            styled(figure_words(row["name"], row["value"], row["currency"])),
            styled(row["currency"]),
        )
    console.print(drawn)
    console.print()


def _print_backtests(console: Console, run: RunSummary, figures: Sequence[dict[str, Any]]) -> None:
    """Put the backtests of a run side by side, if it holds several."""
    if not run.backtests:
        return
    of_portfolio: dict[str, dict[str, list[str]]] = {}
    for row in figures:
        words = figure_words(row["name"], row["value"], row["currency"])
        currency = f" {row['currency']}" if row["name"] == "net_pnl" and row["currency"] else ""
        of_portfolio.setdefault(row["portfolio"], {}).setdefault(row["name"], []).append(
            words + currency
        )
    names = [figure_label(name) for name in _OF_BACKTESTS]
    drawn = table(("backtest", "parameters", *names), right=names)
    for one in run.backtests:
        known = of_portfolio.get(one["portfolio"], {})
        drawn.add_row(
            styled((inert(one["portfolio"], LONGEST_NAME), "bold")),
            styled((parameter_words(own_parameters(one, run.backtests)), "dim")),
            *(styled(", ".join(known.get(name, ()))) for name in _OF_BACKTESTS),
        )
    console.print(drawn)
    console.print()


def _account(account: AccountReconciliation) -> dict[str, object]:
    holds, words = reconciliation_words(account)
    return {
        "portfolio": account.portfolio,
        "account_id": account.account_id,
        "currency": account.currency,
        "status": account.status.value,
        "start": account.start,
        "end": account.end,
        "difference": account.difference,
        "holds": holds,
        "words": words,
    }


def _next(
    given: Invocation, run: RunSummary, accounts: Sequence[AccountReconciliation]
) -> Iterator[str]:
    """Give the commands that this run calls for."""
    if run.dropped or run.status == "Crashed":
        yield given.command("completeness", run.run_id)
    if any(account.status is ReconciliationStatus.FAILED for account in accounts):
        yield given.command("attribution", run.run_id, "--reconcile")
    yield given.command("figures", run.run_id)
    yield given.command("report", run.run_id, "--open")
