"""The commands `fillpath runs …`, as the command line has them."""

from __future__ import annotations

from typing import Annotated

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation
from fillpath.analytics.diff_cli import runs_diff

runs_app = typer.Typer(help="The runs: one by one, side by side, the best.", no_args_is_help=True)

WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="NAME=VALUE", help="Runs with this parameter; several add up."),
]
FigureOption = Annotated[
    str, typer.Option("--by", "--figure", metavar="FIGURE", help="As in table figures.")
]
OfPortfolioOption = Annotated[
    str, typer.Option("--portfolio", metavar="NAME", help="Its figure; else that of all the run.")
]
CurrencyOption = Annotated[
    str | None, typer.Option("--currency", metavar="CODE", help="Figures in this currency only.")
]
LowestOption = Annotated[
    bool,
    typer.Option("--lowest", metavar="", help="The lowest is the best.", show_default=False),
]


@runs_app.command("list")
def runs_list(context: typer.Context, *, data: DataOption = None, json: JsonOption = False) -> None:
    """List the runs, the newest first."""
    from fillpath.analytics.runs_view import list_runs

    list_runs(invocation(context).take(data, json))


@runs_app.command("show")
def runs_show(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run, the beginning of its id, or latest.")
    ] = "latest",
    *,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a run was, what it came to, and what to look at next."""
    from fillpath.analytics.run_show import show_run

    show_run(invocation(context).take(data, json), run)


@runs_app.command("compare")
def runs_compare(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Runs, beginnings of their ids, or latest."),
    ],
    *,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Put runs side by side: parameters that differ, figures, P&L, completeness, latency."""
    from fillpath.analytics.compare_command import show_comparison

    show_comparison(invocation(context).take(data, json), runs)


@runs_app.command("top")
def runs_top(
    context: typer.Context,
    *,
    by: FigureOption = "sharpe",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many at most.")
    ] = 10,
    where: WhereOption = None,
    portfolio: OfPortfolioOption = "",
    currency: CurrencyOption = None,
    lowest: LowestOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """List the runs that are loaded by a figure, the highest first."""
    from fillpath.analytics.top_runs import show_top

    show_top(
        invocation(context).take(data, json),
        by,
        limit,
        where or [],
        portfolio=portfolio,
        currency=currency,
        lowest=lowest,
    )


@runs_app.command("sweep")
def runs_sweep(
    context: typer.Context,
    *,
    over: Annotated[
        str, typer.Option("--over", metavar="NAMES", help="Parameters, with commas between them.")
    ],
    by: FigureOption = "sharpe",
    where: WhereOption = None,
    portfolio: OfPortfolioOption = "",
    currency: CurrencyOption = None,
    lowest: LowestOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Group the runs that are loaded by values of parameters, and compare a figure."""
    from fillpath.analytics.top_runs import show_sweep

    show_sweep(
        invocation(context).take(data, json),
        [name.strip() for name in over.split(",") if name.strip()],
        by,
        where or [],
        portfolio=portfolio,
        currency=currency,
        lowest=lowest,
    )


runs_app.command("diff")(runs_diff)
