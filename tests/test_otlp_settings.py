"""The standard variables mean what they mean to OpenTelemetry's own exporters."""

from __future__ import annotations

import base64
import logging
import os
import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc import exporter as grpc_exporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.util.re import parse_env_headers

from fillpath.exporters.otlp_headers import parse_headers
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_OTLP, ENV_OTLP_TRACES

CANARY = "c4n4ry-7f3a9e"

GENERAL: list[dict[str, str]] = [
    {},
    {"HEADERS": "authorization=Bearer%20abc%3D%3D,X-Tenant=fund"},
    {"HEADERS": " a = b , c=d=e,,a=last"},
    {"HEADERS": "authorization=Bearer abc"},
    {"HEADERS": "a=general", "TRACES_HEADERS": "b=traces"},
    {"HEADERS": "a=general", "TRACES_HEADERS": ""},
    {"COMPRESSION": "gzip"},
    {"COMPRESSION": " GZIP "},
    {"TRACES_COMPRESSION": "gzip"},
    {"TIMEOUT": "2.5"},
    {"TIMEOUT": "2", "TRACES_TIMEOUT": "7"},
]
HTTP: list[dict[str, str]] = [
    *GENERAL,
    {"ENDPOINT": "http://collector:4318"},
    {"ENDPOINT": "http://collector:4318/"},
    {"ENDPOINT": "https://collector/otlp"},
    {"ENDPOINT": "https://[::1]:4318/otlp/"},
    {"TRACES_ENDPOINT": "http://collector:4318"},
    {"TRACES_ENDPOINT": "http://collector:4318/somewhere/else?tenant=1"},
    {"ENDPOINT": "http://one:4318", "TRACES_ENDPOINT": "https://two:4318/in"},
    {"ENDPOINT": "http://one:4318", "TRACES_ENDPOINT": ""},
    {"COMPRESSION": "none"},
    {"COMPRESSION": "gzip", "TRACES_COMPRESSION": "none"},
    {"CERTIFICATE": "ca.pem"},
    {"CERTIFICATE": "other.pem", "TRACES_CERTIFICATE": "ca.pem"},
    {"CLIENT_CERTIFICATE": "client.pem", "CLIENT_KEY": "client.key"},
    {"TRACES_CLIENT_CERTIFICATE": "client.pem", "CLIENT_KEY": "client.key"},
    {"CLIENT_CERTIFICATE": "client.pem"},
]
GRPC: list[dict[str, str]] = [
    *GENERAL,
    {"ENDPOINT": "http://collector:4317"},
    {"ENDPOINT": "https://collector:4317"},
    {"ENDPOINT": "http://collector:4317/ignored"},
    {"ENDPOINT": "https://[::1]:4317"},
    {"ENDPOINT": "collector:4317"},
    {"ENDPOINT": "collector:4317", "INSECURE": "true"},
    {"ENDPOINT": "collector:4317", "INSECURE": "False"},
    {"ENDPOINT": "collector:4317", "INSECURE": "false", "TRACES_INSECURE": "true"},
    {"ENDPOINT": "https://collector:4317", "INSECURE": "true"},
    {"ENDPOINT": "http://collector:4317", "INSECURE": "true"},
    {"ENDPOINT": "http://one:4317", "TRACES_ENDPOINT": "https://two:4317"},
    {"ENDPOINT": "https://collector:4317", "CERTIFICATE": "ca.pem"},
    {"ENDPOINT": "https://collector:4317", "TRACES_CERTIFICATE": "ca.pem"},
    {
        "ENDPOINT": "https://collector:4317",
        "CERTIFICATE": "ca.pem",
        "CLIENT_KEY": "client.key",
        "CLIENT_CERTIFICATE": "client.pem",
    },
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ca.pem", "other.pem", "client.pem", "client.key"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(ENV_OTLP + name, value)


def shown(variables: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in variables.items()) or "nothing"


def name_of(path: Path | str | None) -> str | None:
    return None if path is None else Path(path).name


@pytest.mark.parametrize("variables", HTTP, ids=shown)
def test_http_settings_are_those_of_the_standard_exporter(
    variables: dict[str, str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    ours = OtlpSettings.from_environment(protocol="http/protobuf")
    theirs: Any = HttpExporter()
    client: Any = theirs._client
    sent = dict(client._headers)
    for name in ("user-agent", "content-type", "Content-Encoding"):
        sent.pop(name, None)
    session = client._transport._session
    cert = session.cert if isinstance(session.cert, tuple) else (session.cert, None)
    assert ours.endpoint == theirs._endpoint
    assert dict(ours.headers) == sent
    assert ours.timeout == client._timeout
    assert ours.compression == theirs._compression.value
    assert name_of(ours.certificate) == (None if session.verify is True else session.verify)
    assert (name_of(ours.client_certificate), name_of(ours.client_key)) == cert
    theirs.shutdown()


@pytest.mark.parametrize("variables", GRPC, ids=shown)
def test_grpc_settings_are_those_of_the_standard_exporter(
    variables: dict[str, str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    credentials: list[dict[str, bytes | None]] = []
    make = grpc.ssl_channel_credentials

    def noted(**given: bytes | None) -> Any:
        credentials.append(given)
        return make()

    monkeypatch.setattr(grpc_exporter, "ssl_channel_credentials", noted)
    ours = OtlpSettings.from_environment()
    theirs: Any = GrpcExporter()
    host = f"[{ours.host}]" if ":" in ours.host else ours.host
    used = credentials[-1] if credentials else {}
    assert ours.protocol == "grpc"
    assert f"{host}:{ours.port}" == theirs._endpoint
    assert ours.insecure == theirs._insecure
    assert dict(ours.headers) == dict(theirs._headers or ())
    assert ours.timeout == theirs._timeout
    assert (ours.compression == "gzip") == (theirs._compression.name == "Gzip")
    for path, part in (
        (ours.certificate, "root_certificates"),
        (ours.client_key, "private_key"),
        (ours.client_certificate, "certificate_chain"),
    ):
        assert (path.read_bytes() if path else None) == used.get(part)
    theirs.shutdown()


def test_where_the_standard_exporters_fail_or_go_on_without_tls(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC of the SDK refuses `none`, which the specification names, ...
    monkeypatch.setenv(ENV_OTLP + "COMPRESSION", "none")
    assert OtlpSettings.from_environment().compression == "none"
    # ... and takes no client certificate without an authority.
    set_variables(
        monkeypatch,
        {
            "ENDPOINT": "https://collector",
            "CLIENT_CERTIFICATE": "client.pem",
            "CLIENT_KEY": "client.key",
        },
    )
    settings = OtlpSettings.from_environment()
    assert name_of(settings.client_key) == "client.key"
    assert settings.destination == "https://collector:443"
    # It also goes on with the usual authorities when a file is missing.
    monkeypatch.setenv(ENV_OTLP + "CERTIFICATE", "nowhere.pem")
    with pytest.raises(UsageError, match=r"CERTIFICATE names 'nowhere.pem'"):
        OtlpSettings.from_environment()


def test_protocol_is_that_of_the_sdk_unless_something_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert OtlpSettings.from_environment().destination == "http://localhost:4317"
    for endpoint, protocol, destination in (
        ("http://h:4317", "grpc", "http://h:4317"),
        ("http://h:4318", "http/protobuf", "http://h:4318/v1/traces"),
        ("http://h:4318/v1/traces", "http/protobuf", "http://h:4318/v1/traces"),
        ("http://h/otlp/", "http/protobuf", "http://h:80/otlp/v1/traces"),
        ("https://h", "grpc", "https://h:443"),
    ):
        settings = OtlpSettings.from_environment(endpoint)
        assert (settings.protocol, settings.destination) == (protocol, destination)
    monkeypatch.setenv(ENV_OTLP + "PROTOCOL", "http/protobuf")
    assert OtlpSettings.from_environment().destination == "http://localhost:4318/v1/traces"
    assert OtlpSettings.from_environment("http://h:1").destination == "http://h:1/v1/traces"
    monkeypatch.setenv(ENV_OTLP_TRACES + "PROTOCOL", "grpc")
    assert OtlpSettings.from_environment("http://h:4318").protocol == "grpc"
    assert OtlpSettings.from_environment(protocol="http/protobuf").protocol == "http/protobuf"


def test_credentials_in_the_url_become_a_header_and_are_not_shown() -> None:
    url = f"https://user:{CANARY}%40@h:4318/v1/traces?key={CANARY}"
    settings = OtlpSettings.from_environment(url)
    pair = base64.b64encode(f"user:{CANARY}@".encode()).decode()
    assert settings.headers["authorization"] == f"Basic {pair}"
    assert settings.endpoint == f"https://h:4318/v1/traces?key={CANARY}"
    assert settings.destination == "https://h:4318/v1/traces"
    assert CANARY not in repr(settings)
    assert pair not in repr(settings)
    other = OtlpSettings.from_environment("https://h:4318")
    assert other.fingerprint == settings.fingerprint
    assert len(settings.fingerprint) == 12


WRONG: list[tuple[str, str, str]] = [
    ("grpc", "HEADERS", f"authorization {CANARY}"),
    ("grpc", "HEADERS", f'ok=1,authorization="{CANARY}"'),
    ("grpc", "HEADERS", f"a b={CANARY}"),
    ("grpc", "HEADERS", f"authorization={CANARY}%0d%0aother:%20header"),
    ("grpc", "HEADERS", f"authorization={CANARY}%C3%A9"),
    ("grpc", "TRACES_HEADERS", f"grpc-timeout={CANARY}"),
    ("grpc", "TRACES_HEADERS", f"x!y={CANARY}"),
    ("http/protobuf", "HEADERS", f"content-length={CANARY}"),
    ("http/protobuf", "HEADERS", f"={CANARY}"),
    ("http/protobuf", "HEADERS", f"%20={CANARY}"),
    ("http/protobuf", "ENDPOINT", f"collector:4318/{CANARY}"),
    ("http/protobuf", "ENDPOINT", f"ftp://{CANARY}"),
    ("http/protobuf", "ENDPOINT", f"http://u:{CANARY}@h:port"),
    ("http/protobuf", "ENDPOINT", f"http://u:{CANARY}@"),
    ("http/protobuf", "ENDPOINT", f"http://[{CANARY}"),
    ("http/protobuf", "TRACES_ENDPOINT", f"http://h/{CANARY}\n"),
    ("http/protobuf", "TRACES_ENDPOINT", f"http://h/#{CANARY}"),
    ("grpc", "ENDPOINT", f"http://u:{CANARY}@h:4317"),
    ("grpc", "ENDPOINT", f"unix:/{CANARY}"),
    ("grpc", "ENDPOINT", "http://collector"),
    ("grpc", "ENDPOINT", "collector:"),
    ("grpc", "ENDPOINT", "collector:70000"),
    ("grpc", "CERTIFICATE", "nowhere"),
    ("grpc", "CERTIFICATE", "."),
    ("http/protobuf", "CLIENT_KEY", "client.key"),
    ("http/protobuf", "COMPRESSION", "zstd"),
    ("grpc", "TIMEOUT", "soon"),
    ("grpc", "TRACES_TIMEOUT", "0"),
    ("grpc", "TIMEOUT", "nan"),
    ("grpc", "PROTOCOL", "http/json"),
]


@pytest.mark.parametrize(
    ("protocol", "name", "value"), WRONG, ids=[f"{name}={value}" for _, name, value in WRONG]
)
def test_a_wrong_value_is_named_and_not_shown(
    protocol: str,
    name: str,
    value: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(ENV_OTLP + "PROTOCOL", protocol)
    if value.endswith("\n"):
        value = value.replace("\n", "\x07")
    monkeypatch.setenv(ENV_OTLP + name, value)
    with pytest.raises(UsageError) as caught:
        OtlpSettings.from_environment()
    assert ENV_OTLP + name in str(caught.value)
    assert caught.value.next_command
    # Without this test's own frame, which has the value.
    tail = caught.value.__traceback__
    error = caught.value.with_traceback(tail.tb_next if tail else None)
    everything = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert CANARY not in "".join(everything.format()) + caplog.text


def test_a_plain_endpoint_that_another_variable_wants_secure_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, {"ENDPOINT": "http://collector:4317", "INSECURE": "false"})
    with pytest.raises(UsageError, match=r"no TLS.*INSECURE is false"):
        OtlpSettings.from_environment()
    set_variables(monkeypatch, {"ENDPOINT": "collector:4317", "INSECURE": "maybe"})
    with pytest.raises(UsageError, match="INSECURE is neither"):
        OtlpSettings.from_environment()


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text('ab=,;%0 \t"\\/é\n', max_size=8),
            st.from_regex(r"[a-cA-C-]{1,3} ?= ?[a-z%=\x22 ]{0,6}", fullmatch=True),
            st.from_regex(r"[a-c]{1,2}=(%[0-9a-fA-F]{2}){1,3}", fullmatch=True),
        ),
        max_size=4,
    ).map(",".join)
)
def test_headers_that_are_taken_are_read_as_opentelemetry_reads_them(text: str) -> None:
    complaints: list[logging.LogRecord] = []
    log = logging.getLogger("opentelemetry.util.re")
    keep = complaints.append
    log.addFilter(lambda record: bool(keep(record)))
    try:
        theirs = dict(parse_env_headers(text, liberal=True))
    finally:
        log.filters.clear()
    try:
        ours = parse_headers(text, "HEADERS", grpc=False)
    except UsageError:
        sendable = all(
            name.isascii() and name.strip() and value.isascii() and value.isprintable()
            for name, value in theirs.items()
        )
        odd_name = any(set(name) & set('"(),/:;<=>?@[\\]{} ') for name in theirs)
        again = len(theirs) < len([each for each in text.split(",") if each.strip()])
        assert complaints or not sendable or odd_name or again
    else:
        # Nothing but blanks between two commas is no header, and no mistake.
        assert len(complaints) <= sum(part.isspace() for part in text.split(","))
        assert dict(ours) == theirs


def test_headers_survive_a_process_border_and_stay_hidden() -> None:
    headers = parse_headers(f"authorization=Bearer%20{CANARY}", "HEADERS", grpc=True)
    again = pickle.loads(pickle.dumps(headers))  # noqa: S301 - what this test has pickled
    assert dict(again) == {"authorization": f"Bearer {CANARY}"}
    assert again == headers
    assert hash(again) == hash(headers)
    for text in (repr(headers), str(headers), f"{headers}"):
        assert CANARY not in text
        assert "authorization" in text
    assert headers.hide_in(f"no such token: {CANARY}") == "no such token: ***"


def test_no_variable_of_the_machine_reaches_these_tests() -> None:
    assert not [name for name in os.environ if name.startswith(ENV_OTLP)]
