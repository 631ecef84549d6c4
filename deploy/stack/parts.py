"""What the stack consists of: each server with the configuration that docker-compose.yml mounts."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from places import ROOT, USUAL_PORTS, StackError, built_program, found_program
from servers import Server

COLLECTOR_CONFIG: Final = ROOT / "otel-collector-config.yaml"
JAEGER_FOLDER: Final = ROOT / "deploy/jaeger"
PROMETHEUS_FOLDER: Final = ROOT / "deploy/prometheus"
DASHBOARDS_ROLE: Final = ROOT / "deploy/postgres/20_dashboards_role.sql"


def make_servers(state: Path, reports: Path, ports: Mapping[str, int]) -> list[Server]:
    """Give the servers in the order to start them; Prometheus only where it is installed.

    Args:
        state: The folder for what they keep.
        reports: The folder of reports, which Jaeger links to.
        ports: By the names of `places.USUAL_PORTS`.

    Raises:
        StackError: A server was not built, or something that was named is not there.
    """
    servers = [_reports(state, reports, ports), _jaeger(state, ports), _collector(state, ports)]
    prometheus = found_program("prometheus")
    if prometheus is not None:
        servers.append(_prometheus(prometheus, state, ports))
    return servers


def _reports(state: Path, reports: Path, ports: Mapping[str, int]) -> Server:
    program = Path(__file__).with_name("reports.py")
    return Server(
        "The reports' server",
        [sys.executable, "-P", program, str(ports["reports"]), reports],
        _url(ports, "reports", "/"),
        state / "reports.log",
    )


def _jaeger(state: Path, ports: Mapping[str, int]) -> Server:
    folder = state / "jaeger"
    folder.mkdir(exist_ok=True)
    assets = os.environ.get("JAEGER_UI_ASSETS")
    if assets and not (Path(assets).absolute() / "index.html").is_file():
        raise StackError(f"JAEGER_UI_ASSETS is {assets}, which has no index.html.")
    pages = (JAEGER_FOLDER / "ui.json").read_text(encoding="utf-8")
    usual = f"127.0.0.1:{USUAL_PORTS['reports']}"
    settings = folder / "ui.json"
    settings.write_text(pages.replace(usual, _address(ports, "reports")), encoding="utf-8")
    return Server(
        "Jaeger",
        [built_program("jaeger"), "--config", JAEGER_FOLDER / "config.yaml"],
        _url(ports, "jaeger_health", "/status"),
        state / "jaeger.log",
        {
            "JAEGER_OTLP_GRPC_ENDPOINT": _address(ports, "jaeger_otlp"),
            "JAEGER_QUERY_ENDPOINT": _address(ports, "jaeger"),
            "JAEGER_QUERY_GRPC_ENDPOINT": _address(ports, "jaeger_grpc"),
            "JAEGER_HEALTH_ENDPOINT": _address(ports, "jaeger_health"),
            "JAEGER_METRICS_PORT": str(ports["jaeger_metrics"]),
            "JAEGER_STORAGE_FOLDER": str(folder),
            "JAEGER_UI_CONFIG": str(settings),
            "JAEGER_UI_ASSETS": str(Path(assets).absolute()) if assets else "",
        },
    )


def _collector(state: Path, ports: Mapping[str, int]) -> Server:
    return Server(
        "The Collector",
        [built_program("otelcol"), "--config", COLLECTOR_CONFIG],
        _url(ports, "collector_health", "/"),
        state / "collector.log",
        {
            "OTELCOL_OTLP_GRPC_ENDPOINT": _address(ports, "otlp_grpc"),
            "OTELCOL_OTLP_HTTP_ENDPOINT": _address(ports, "otlp_http"),
            "OTELCOL_HEALTH_ENDPOINT": _address(ports, "collector_health"),
            "OTELCOL_PROMETHEUS_ENDPOINT": _address(ports, "collector_metrics"),
            "OTELCOL_TELEMETRY_PORT": str(ports["collector_telemetry"]),
            "OTELCOL_QUEUE_FOLDER": str(state / "queue"),
            "JAEGER_OTLP_ENDPOINT": _address(ports, "jaeger_otlp"),
        },
    )


def _prometheus(program: Path, state: Path, ports: Mapping[str, int]) -> Server:
    # The configuration finds what to scrape in the file beside it, which is the one thing that
    # differs from host to host.
    folder = state / "prometheus"
    shutil.copytree(PROMETHEUS_FOLDER, folder, dirs_exist_ok=True)
    (folder / "targets.json").write_text(json.dumps(_targets(ports), indent=2), encoding="utf-8")
    return Server(
        "Prometheus",
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={state / 'metrics'}",
            "--enable-feature=exemplar-storage",
            f"--web.listen-address={_address(ports, 'prometheus')}",
        ],
        _url(ports, "prometheus", "/-/ready"),
        state / "prometheus.log",
    )


def _targets(ports: Mapping[str, int]) -> list[dict[str, object]]:
    return [
        {"labels": {"job": job}, "targets": [_address(ports, name)]}
        for job, name in (
            ("spans", "collector_metrics"),
            ("collector", "collector_telemetry"),
            ("jaeger", "jaeger_metrics"),
            ("prometheus", "prometheus"),
        )
    ]


def _address(ports: Mapping[str, int], name: str) -> str:
    return f"127.0.0.1:{ports[name]}"


def _url(ports: Mapping[str, int], name: str, path: str) -> str:
    return f"http://{_address(ports, name)}{path}"
