"""Checks of what is sent by OTLP: where to, and whether all of it has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fillpath.analytics.amounts import size_words
from fillpath.analytics.check_result import CheckResult
from fillpath.analytics.report_format import count
from fillpath.exporters import host_process
from fillpath.exporters.otlp_positions import replay_command
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.forwarder_files import AT_WORK, FORWARDING_NAME, Forwarding
from fillpath.instrumentation.settings import DataFolder, otlp_choice

_AREA: Final = "OTLP"


def check_otlp(folder: DataFolder) -> Iterator[CheckResult]:
    """Check the endpoint that the environment names, and every run that is not sent as a whole."""
    choice = otlp_choice()
    if choice == "off":
        advice = "export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317"
        yield CheckResult.skipped(_AREA, "nothing is sent: no endpoint is named", advice)
    else:
        try:
            settings = OtlpSettings.from_environment()
        except UsageError as error:
            yield CheckResult.failed(_AREA, error.message, error.next_command)
        else:
            what = "what the policy keeps" if choice == "sampled" else "every span"
            how = f"{settings.destination} by {settings.protocol}"
            yield CheckResult.passed(_AREA, f"new runs send {what} to {how}")
    whole = 0
    for path in sorted(folder.spool.glob(f"*/{FORWARDING_NAME}")):
        found = Forwarding.read(path.parent)
        if found is None:
            continue
        if found.state == "ended" and found.error is None:
            whole += 1
        else:
            yield _check_run(path.parent.name, found)
    if whole:
        runs = "run was" if whole == 1 else "runs were"
        yield CheckResult.passed(_AREA, f"{whole} {runs} sent as a whole")


def _check_run(run_id: str, found: Forwarding) -> CheckResult:
    if found.destination and found.selected:
        sent = f"{count(found.acknowledged)} of {count(found.selected)} spans are at "
        sent += found.destination
    else:
        sent = "no span of it was sent"
    alive = host_process.start_mark(found.pid) == found.mark
    missing = replay_command(run_id, found.selection)
    if found.state in AT_WORK and not alive:
        finding = f"run {run_id}: the process that sent it is gone; {sent}"
        return CheckResult.warned(_AREA, finding, missing)
    if found.error is not None:
        return CheckResult.warned(
            _AREA,
            f"run {run_id}: {found.error} {sent[0].upper()}{sent[1:]}",
            found.next_command or missing,
        )
    if found.state in AT_WORK:
        behind = f"{size_words(found.lag_bytes)} of its spool are not read yet"
        return CheckResult.passed(_AREA, f"run {run_id} is being sent: {sent}; {behind}")
    return CheckResult.warned(_AREA, f"run {run_id} was left: {sent}", missing)
