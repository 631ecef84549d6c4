"""`fillpath otlp`: what is sent by OTLP, and was."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fillpath.analytics.cli_options import DataOption, JsonOption, invocation

otlp_app = typer.Typer(
    help="Spans on their way to an OTLP endpoint, such as a Collector or Jaeger.",
    no_args_is_help=True,
)
_RUN_HELP = "A run, the beginning of its id, or latest."


@otlp_app.callback()
def _group_options(
    context: typer.Context, *, data: DataOption = None, json: JsonOption = False
) -> None:
    invocation(context).take(data, json)


@otlp_app.command("replay")
def otlp_replay(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP)],
    *,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            metavar="",
            help="Send every span of the run; else those that the sampling policy keeps.",
            show_default=False,
        ),
    ] = False,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            metavar="",
            help="Send only what this endpoint has not acknowledged yet.",
            show_default=False,
        ),
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Only what was recorded from then on: 2026-03-01T09:30 (UTC), 10m (ago), or a "
            "sequence.",
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", help="Where to; else OTEL_EXPORTER_OTLP_ENDPOINT."
        ),
    ] = None,
    protocol: Annotated[
        Literal["grpc", "http/protobuf"] | None,
        typer.Option("--protocol", help="How; else OTEL_EXPORTER_OTLP_PROTOCOL."),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(
            "--patience",
            metavar="SECONDS",
            min=0,
            help="How long to go on without an answer (15).",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Send a run from the lake, with the same ids every time.

    The exit code is 0 when the endpoint has taken all of it, 3 when it did not want some spans,
    and 4 when it cannot be reached.
    """
    from fillpath.analytics.otlp_command import replay_run

    replay_run(
        invocation(context).take(data, json),
        run,
        everything=everything,
        missing=missing,
        since=since,
        endpoint=endpoint,
        protocol=protocol,
        patience=patience,
    )


@otlp_app.command("status")
def otlp_status(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help=_RUN_HELP, show_default=False)
    ] = None,
    *,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait so long for the run to be sent.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show what of each run every endpoint has acknowledged, and what waits."""
    from fillpath.analytics.otlp_command import show_status

    show_status(invocation(context).take(data, json), run, wait=wait)
