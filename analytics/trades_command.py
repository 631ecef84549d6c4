"""`fillpath trades`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from fillpath.analytics.cli_options import Invocation
from fillpath.analytics.exact import ZERO, exact_arithmetic
from fillpath.analytics.lake_reading import lake_connection
from fillpath.analytics.output import data_console, print_json, say
from fillpath.analytics.results_loading import results_of
from fillpath.analytics.run_lookup import find_run, listed
from fillpath.analytics.trade_view import print_trade, print_trades
from fillpath.exporters.event_store import EventStore
from fillpath.instrumentation.errors import NotFound, UsageError

_MOST: Final = 20
_LOAD: Final = ("run_id", "shard")

Row = dict[str, Any]
_By = Callable[[Mapping[str, Any]], Any]
_ORDERS: Final[Mapping[str, tuple[_By, bool]]] = {
    # What to sort by, and whether the largest comes first.
    "entry": (lambda trade: trade["entry_sequence"], False),
    "exit": (lambda trade: trade["exit_time"], False),
    "net": (lambda trade: trade["net"], True),
    "shortfall": (lambda trade: trade["shortfall"], True),
    "delay": (lambda trade: trade["delay_cost"], True),
    "impact": (lambda trade: trade["impact_cost"], True),
    "commission": (lambda trade: trade["commission"], True),
    "favourable": (lambda trade: trade["favourable_excursion"], True),
    "adverse": (lambda trade: _negated(trade["adverse_excursion"]), True),
    "held": (lambda trade: trade["holding_time"], True),
    "latency": (lambda trade: trade["entry_latency"], True),
}


def show_trades(
    given: Invocation, wanted: str, *, sort: str, reverse: bool, limit: int | None
) -> None:
    """Print the trades of a run.

    Args:
        given: What the command line says.
        wanted: The run.
        sort: What to sort by; trades that lack it come last.
        reverse: The other way round.
        limit: How many.

    Raises:
        NotFound: There is no such run.
        UsageError: Trades cannot be sorted so.
        FillpathError: The results cannot be loaded.
    """
    if sort not in _ORDERS:
        raise UsageError(
            f"Trades cannot be sorted by '{sort}'.",
            next_command=given.command("trades", wanted, "--sort", "net"),
        )
    run_id, every, _ = _read(given, wanted)
    by, largest_first = _ORDERS[sort]
    known = sorted(
        (trade for trade in every if by(trade) is not None),
        key=by,
        reverse=largest_first is not reverse,
    )
    ordered = known + [trade for trade in every if by(trade) is None]
    most = limit if limit is not None else len(ordered) if given.json else _MOST
    shown = ordered[:most]
    if given.json:
        print_json({"run_id": run_id, "count": len(ordered), "trades": shown})
    elif not shown:
        say(f"The run {run_id} has no trades: nothing was filled.")
    else:
        print_trades(data_console(), shown)
        hidden = len(ordered) - len(shown)
        if hidden:
            say((f"… and {hidden} more; --limit {len(ordered)} shows them.", "dim"))
        say(("One of them: ", "dim"), given.command("trades", run_id, shown[0]["trade_id"]))


def show_trade(given: Invocation, wanted: str, trade: str) -> None:
    """Print one trade with its orders.

    Args:
        given: What the command line says.
        wanted: The run.
        trade: Id of the trade, or the beginning of it.

    Raises:
        NotFound: There is no such run, or no such trade.
        UsageError: Several trades begin so.
        FillpathError: The results cannot be loaded.
    """
    run_id, trades, executions = _read(given, wanted)
    found = _find(given, run_id, trades, trade)
    ids = {fill["client_order_id"] for fill in found["fills"]}
    orders = [
        order
        for order in executions
        if order["portfolio"] == found["portfolio"] and order["client_order_id"] in ids
    ]
    if given.json:
        print_json({"run_id": run_id, "trade": found, "orders": orders})
        return
    print_trade(data_console(), run_id, found, orders)
    say(("The chain of its entry: ", "dim"), _trace(given, run_id, found["entry_span_id"]))
    if found["exit_span_id"]:
        say(("The chain of its exit:  ", "dim"), _trace(given, run_id, found["exit_span_id"]))


def _trace(given: Invocation, run_id: str, span_id: str) -> str:
    return given.command("trace", "show", span_id, "--run", run_id)


def _find(given: Invocation, run_id: str, trades: Sequence[Row], trade: str) -> Row:
    beginning = [one for one in trades if trade and one["trade_id"].startswith(trade.lower())]
    if len(beginning) == 1:
        return beginning[0]
    again = given.command("trades", run_id)
    if beginning:
        names = listed([one["trade_id"] for one in beginning])
        raise UsageError(
            f"{len(beginning)} trades begin with '{trade}':\n{names}", next_command=again
        )
    raise NotFound(f"There is no trade '{trade}' in the run {run_id}.", next_command=again)


def _read(given: Invocation, wanted: str) -> tuple[str, list[Row], list[Row]]:
    """Bring the results of a run up to date; gives its id, its trades and its executions."""
    with lake_connection(given.folder) as connection:
        run_id = find_run(connection, wanted)
    with results_of(given.folder) as results:
        results.load(EventStore(given.folder), run_id)
        trades = [_document(row) for row in results.rows("trades", run_id)]
        executions = [_document(row) for row in results.rows("executions", run_id)]
    for trade in trades:
        trade["net"] = _net(trade)
    return run_id, trades, executions


def _document(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in _LOAD}


def _net(trade: Mapping[str, Any]) -> Decimal:
    with exact_arithmetic():
        profit = (trade["realized_pnl"] or ZERO) + (trade["unrealized_pnl"] or ZERO)
        return profit - (trade["commission"] or ZERO)


def _negated(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.copy_negate()
