"""Where things are and which environment variables decide: the one home of paths and settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.rollout import Rollout

ENV_DATA = "FILLPATH_DATA"
"""Data folder for spool, lake, results and reports."""
ENV_LAKE = "FILLPATH_LAKE"
"""Where the lake is when it is not in the data folder: `s3://bucket/prefix`, or a folder."""
ENV_ENABLED = "FILLPATH_ENABLED"
"""`false` switches recording off. For a gradual roll-out, a comma-separated list of a share of the
runs (`25%`, `0.25`) and patterns of portfolio namespaces (`fund/desk`, `fund/*/book`)."""
ENV_RUN_ID = "FILLPATH_RUN_ID"
"""Name of the run to record; made up when absent."""
ENV_PORTFOLIO = "FILLPATH_PORTFOLIO"
"""Portfolio namespace for events whose engine does not name one."""
ENV_MODE = "FILLPATH_MODE"
"""`backtest` (default) or `live`."""
ENV_WAY = "FILLPATH_WAY"
"""How events leave the process: `spool` (default), or `otel`, through the span processors of the
process's OpenTelemetry SDK. An engine that nobody started a session for takes `otel` when
`opentelemetry-instrument` has set up exporters."""
ENV_DELIVERY = "FILLPATH_DELIVERY"
"""What happens when the spool is too far ahead of the process that takes it into the lake:
`lossless` (default of a backtest) waits, `live` (default of a live run) counts what it drops."""
ENV_SPOOL_LIMIT = "FILLPATH_SPOOL_LIMIT"
"""Bytes that a run's spool may be ahead of the process that takes it into the lake (2 GiB)."""
ENV_SPOOL_SYNC = "FILLPATH_SPOOL_SYNC"
"""How often the spool is made safe from a loss of power: `none` (default), `10ms` or `200ms`. A
process that is killed loses nothing of what it has written in any case."""
ENV_WRITER = "FILLPATH_WRITER"
"""`process` (default), `inline`, or `none` (leave the spool for a later writer)."""
ENV_LAKE_SAMPLING = "FILLPATH_LAKE_SAMPLING"
"""`all` (default) keeps every event in the lake, `policy` applies the sampling policy to it."""
ENV_SAMPLING_RATE = "FILLPATH_SAMPLING_RATE"
"""Probability in [0, 1] with which the policy keeps an event of a quiet market that nothing else
keeps."""
ENV_SAMPLING_CONTEXT = "FILLPATH_SAMPLING_CONTEXT"
"""How many events of its portfolio and symbol the policy keeps before and after a critical one."""
ENV_CRITICAL_KINDS = "FILLPATH_CRITICAL_KINDS"
"""Comma-separated event types that are never dropped, instead of the built-in list."""
ENV_OTLP_SELECTION = "FILLPATH_OTLP"
"""What of a run is sent to an OTLP endpoint while it is recorded: `sampled` (what the sampling
policy keeps, and all that led to it), `all` (what is in the lake) or `off`. Default: `sampled` when
OpenTelemetry's variables name an endpoint, else `off`."""
ENV_OTLP_PATIENCE = "FILLPATH_OTLP_PATIENCE"
"""Seconds for which sending goes on without success after the run has ended (60); what is not sent
then waits for `fillpath otlp replay`."""
ENV_POSTGRES_DSN = "FILLPATH_POSTGRES__DSN"
"""Connection string of the results database; an embedded server is used when absent."""
ENV_TRACE_LIMIT = "FILLPATH_TRACE_LIMIT"
"""Events that a trace may have, about (10,000; at least 100); beyond, an event begins a new trace
that is linked to its cause. `none` for any number."""
SMALLEST_TRACE_LIMIT = 100
"""Least that it may be. Only traces of as many events are asked whether they were divided."""
ENV_TRACE_URL = "FILLPATH_TRACE_URL"
"""Where traces are shown: a URL with `{trace_id}` in it, or the mere address of a Jaeger."""
ENV_TRACE_LINKS = "FILLPATH_TRACE_LINKS"
"""Several viewers by name, `NAME=URL NAME=URL`; of `jaeger`, `grafana` and `tempo` the mere address
is enough."""
ENV_CODE_VERSION = "FILLPATH_CODE_VERSION"
"""Version of the code that a run is made with; the git commit of the script's folder if absent."""
ENV_REPORT_TEMPLATES = "FILLPATH_REPORT_TEMPLATES"
"""Folder whose templates are further sections of every report."""
ENV_COMPILED = "FILLPATH_COMPILED"
"""`false` has Python alone record, without fillpath's compiled part, which does the same in less
time. Read when fillpath is imported."""
ENV_DEBUG = "FILLPATH_DEBUG"
"""When set, an error on the command line shows where it happened."""
ENV_OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED"
"""OpenTelemetry's own off switch; `true` switches recording off too."""
ENV_OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME"
"""OpenTelemetry's name of the service; recorded with the run."""
ENV_OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
"""OpenTelemetry's attributes of the process; `service.version` is the version of the code."""
ENV_OTEL_TRACES_EXPORTER = "OTEL_TRACES_EXPORTER"
"""OpenTelemetry's names of exporters; a list without `otlp` switches sending off."""
ENV_OTLP = "OTEL_EXPORTER_OTLP_"
"""Start of the names of OpenTelemetry's variables for sending OTLP: `ENDPOINT`, `PROTOCOL`,
`HEADERS`, `CERTIFICATE`, `CLIENT_KEY`, `CLIENT_CERTIFICATE`, `COMPRESSION`, `TIMEOUT` and
`INSECURE`."""
ENV_OTLP_TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
"""The same for traces alone; such a variable wins over the general one."""
ENV_OTEL_METRICS_EXPORTER = "OTEL_METRICS_EXPORTER"
"""OpenTelemetry's choice of where metrics go: `otlp`, `console`, `prometheus`, several with commas
between them, or `none`. Unlike there, nothing is chosen when it is absent."""
ENV_OTLP_METRICS = "OTEL_EXPORTER_OTLP_METRICS_"
"""Start of the names of those for metrics alone."""
ENV_GRPC_VERBOSITY = "GRPC_VERBOSITY"
"""gRPC's own setting of what it prints to the standard error stream."""

_AUTO_INSTRUMENTATION = str(Path("opentelemetry", "instrumentation", "auto_instrumentation"))


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The layout of one data folder; everything fillpath keeps lies below it.

    Args:
        path: The folder itself. It need not exist yet.
        lake_root: Where the lake's two tables are instead of below it: the URL of an object store,
            or an absolute path.
    """

    path: Path
    lake_root: str | None = None

    @property
    def spool(self) -> Path:
        """Folder with one folder of spool files per run."""
        return self.path / "spool"

    @property
    def lake_is_remote(self) -> bool:
        """Whether the lake is in an object store."""
        return self.lake_root is not None and "://" in self.lake_root

    @property
    def lake_place(self) -> str:
        """Path or URL of the Delta Lake table of spans."""
        return self._table_place("lake")

    @property
    def runs_place(self) -> str:
        """Path or URL of the Delta Lake table of runs."""
        return self._table_place("runs")

    def _table_place(self, name: str) -> str:
        root = str(self.path) if self.lake_root is None else self.lake_root
        return f"{root}{name}" if root.endswith("/") else f"{root}/{name}"

    @property
    def lake(self) -> Path:
        """The Delta Lake table of spans, of a lake that is not in an object store."""
        return Path(self.lake_place)

    @property
    def runs(self) -> Path:
        """The Delta Lake table of runs, of a lake that is not in an object store."""
        return Path(self.runs_place)

    @property
    def postgres(self) -> Path:
        """The cluster of the embedded Postgres."""
        return self.path / "postgres"

    @property
    def otlp(self) -> Path:
        """Folder that says, by run and destination, which spans were sent by OTLP."""
        return self.path / "otlp"

    @property
    def reports(self) -> Path:
        """Folder of HTML reports."""
        return self.path / "reports"


def data_folder(
    given: str | os.PathLike[str] | None = None, lake: str | os.PathLike[str] | None = None
) -> DataFolder:
    """Find the data folder: `given`, else ``FILLPATH_DATA``, else the user's data directory.

    Args:
        given: The folder that the caller names.
        lake: Where its lake is: `s3://bucket/prefix` or a folder; ``FILLPATH_LAKE``, else in the
            data folder.
    """
    chosen = given or os.environ.get(ENV_DATA) or platformdirs.user_data_dir("fillpath", False)
    root = os.fspath(lake or os.environ.get(ENV_LAKE) or "") or None
    if root is not None and "://" not in root:
        root = str(Path(root).expanduser().absolute())
    return DataFolder(Path(chosen).expanduser().absolute(), root)


def rollout() -> Rollout:
    """Read what is recorded from ``FILLPATH_ENABLED`` and ``OTEL_SDK_DISABLED``.

    Raises:
        UsageError: When ``FILLPATH_ENABLED`` makes no sense.
    """
    if os.environ.get(ENV_OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return Rollout(0.0)
    return Rollout.parse(os.environ.get(ENV_ENABLED, ""))


def recording_enabled() -> bool:
    """Tell whether any run of this process can be recorded.

    A ``FILLPATH_ENABLED`` that makes no sense switches nothing off: whoever starts a session is
    told of it.
    """
    try:
        return rollout().share > 0.0
    except UsageError:
        return True


def compiled_wanted() -> bool:
    """Tell whether recording may be done by compiled code where there is some."""
    return os.environ.get(ENV_COMPILED, "").strip().lower() not in {"false", "0", "no", "off"}


def delivery_is_live() -> bool:
    """Tell whether the environment asks for ``live`` delivery, by itself or by a live run."""
    delivery = os.environ.get(ENV_DELIVERY) or os.environ.get(ENV_MODE)
    return delivery == "live"


def own_environment() -> dict[str, str]:
    """Environment of a process of ours beside the host: the host's, without auto-instrumentation.

    `opentelemetry-instrument` instruments every Python program that its program starts, too.
    """
    environment = dict(os.environ)
    if (folders := environment.pop("PYTHONPATH", None)) is not None:
        left = [one for one in folders.split(os.pathsep) if not one.endswith(_AUTO_INSTRUMENTATION)]
        if left:
            environment["PYTHONPATH"] = os.pathsep.join(left)
    return environment


def otlp_choice() -> str:
    """Tell what the environment wants to be sent by OTLP: ``FILLPATH_OTLP``, if it is set.

    Else it is `sampled` where OpenTelemetry's variables name an endpoint, unless
    ``OTEL_TRACES_EXPORTER`` leaves `otlp` out, and `off` everywhere else.
    """
    if chosen := os.environ.get(ENV_OTLP_SELECTION, "").strip():
        return chosen
    exporters = os.environ.get(ENV_OTEL_TRACES_EXPORTER) or "otlp"
    wanted = "otlp" in {name.strip().partition("_")[0] for name in exporters.split(",")}
    return "sampled" if wanted and otlp_variable("ENDPOINT") is not None else "off"


def otlp_variable(what: str) -> tuple[str, str] | None:
    """Find a variable for sending OTLP, that for traces before the general one.

    Args:
        what: The end of its name, such as ``"HEADERS"``.

    Returns:
        Its name and its value, or None. An empty variable counts as absent.
    """
    for start in (ENV_OTLP_TRACES, ENV_OTLP):
        if value := os.environ.get(start + what, "").strip():
            return start + what, value
    return None


def keep_grpc_quiet() -> None:
    """Have gRPC print errors alone, unless the user wants more; its callers tell what is wrong.

    For processes of fillpath's own, before they import gRPC: those of a host are its owner's.
    """
    os.environ.setdefault(ENV_GRPC_VERBOSITY, "ERROR")


def metrics_exporters() -> list[str]:
    """Name the exporters of fillpath's own metrics; none unless ``OTEL_METRICS_EXPORTER`` does.

    `otlp` needs an endpoint: there may be nobody at the usual one.
    """
    given = os.environ.get(ENV_OTEL_METRICS_EXPORTER, "").split(",")
    names = dict.fromkeys(name.strip().lower() for name in given)
    if os.environ.get(ENV_OTEL_SDK_DISABLED, "").strip().lower() == "true" or "none" in names:
        return []
    has_endpoint = otlp_metrics_variable("ENDPOINT") is not None
    return [name for name in names if name and (has_endpoint or not name.startswith("otlp"))]


def otlp_metrics_variable(name: str) -> str | None:
    """Find one of OpenTelemetry's variables for sending metrics, such as `ENDPOINT`."""
    found = (os.environ.get(start + name, "").strip() for start in (ENV_OTLP_METRICS, ENV_OTLP))
    return next((value for value in found if value), None)
