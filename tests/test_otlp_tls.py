"""TLS to an OTLP receiver: what is not right fails closed, and says what is wrong."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from fillpath.exporters.otlp_sender import OtlpRefused, OtlpUnavailable, Outcome, open_sender
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import FillpathError, UsageError

sys.path.append(str(Path(__file__).parent))

from otlp_receivers import GrpcReceiver, HttpReceiver, one_span, raw_server
from real_backends import Collector, wait_until

PROTOCOLS = ["grpc", "http/protobuf"]
TOKEN = "c4n4ry-0b8d"  # noqa: S105 - no server knows it
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authorities:
    """Two authorities, and files of certificates of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known, self.unknown = trustme.CA(), trustme.CA()
        self.known.cert_pem.write_to_path(folder / "ca.pem")
        self.unknown.cert_pem.write_to_path(folder / "other-ca.pem")
        self.issue("right", "localhost")
        self.issue("other-name", "collector.example")
        self.issue("expired", "localhost", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
        self.issue("early", "localhost", not_before=NOW + DAY, not_after=NOW + 9 * DAY)
        self.issue("client", "fund@example.com")
        stranger = self.unknown.issue_cert("fund@example.com")
        stranger.private_key_and_cert_chain_pem.write_to_path(folder / "stranger.pem")

    def issue(self, name: str, identity: str, **more: Any) -> None:
        issued = self.known.issue_cert(identity, **more)
        issued.private_key_pem.write_to_path(self.folder / f"{name}.key")
        (self.folder / f"{name}.pem").write_bytes(issued.cert_chain_pems[0].bytes())

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def server(
        self, protocol: str, name: str, *, ask_client: bool = False
    ) -> GrpcReceiver | HttpReceiver:
        """A receiver with one of the certificates."""
        if protocol == "grpc":
            pair = (
                (self.folder / f"{name}.key").read_bytes(),
                (self.folder / f"{name}.pem").read_bytes(),
            )
            roots = self.known.cert_pem.bytes() if ask_client else None
            credentials = grpc.ssl_server_credentials([pair], roots, ask_client)
            return GrpcReceiver(credentials=credentials)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return HttpReceiver(tls=context)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def variables(authorities: Authorities, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables of sending; every request carries a secret."""

    def set_them(**given: str) -> None:
        for name, value in {"HEADERS": f"authorization=Bearer%20{TOKEN}", **given}.items():
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)

    set_them()
    return set_them


def send(url: str, protocol: str, timeout: float = 5) -> Outcome | FillpathError:
    """Send one span; gives the error where there is one, with the secret in no part of it."""
    with open_sender(OtlpSettings.from_environment(url, protocol)) as sender:
        try:
            return sender.send(one_span(), timeout)
        except FillpathError as caught:
            error = caught
    assert TOKEN not in f"{error!r}{error}{error.next_command}"
    assert error.__context__ is None
    return error


def test_a_private_authority_is_trusted_when_it_is_named(
    protocol: str, authorities: Authorities, variables: Any
) -> None:
    variables(CERTIFICATE=authorities.path("ca.pem"))
    with authorities.server(protocol, "right") as server:
        assert send(server.url, protocol) == Outcome()
        assert server.received[0].headers["authorization"] == f"Bearer {TOKEN}"


WRONG = {
    "expired": ("ca.pem", "has a certificate that has expired", "x509 -noout -dates"),
    "early": ("ca.pem", "has a certificate that is not valid yet", "x509 -noout -dates"),
    "other-name": ("ca.pem", "for another name than localhost", "OTLP_ENDPOINT"),
    "right": ("other-ca.pem", "an authority that is not trusted here", "OTLP_CERTIFICATE"),
    "right ": ("", "an authority that is not trusted here", "OTLP_CERTIFICATE"),
}


@pytest.mark.parametrize("certificate", WRONG)
def test_a_wrong_certificate_is_refused_before_anything_is_sent(
    certificate: str, protocol: str, authorities: Authorities, variables: Any
) -> None:
    authority, problem, mend = WRONG[certificate]
    if authority:
        variables(CERTIFICATE=authorities.path(authority))
    with authorities.server(protocol, certificate.strip()) as server:
        error = send(server.url, protocol)
        assert isinstance(error, OtlpRefused), error
        assert f"https://localhost:{server.port}" in error.message
        assert problem in error.message
        assert mend in (error.next_command or "")
        assert not server.received


def test_a_client_certificate_is_shown_when_there_is_one(
    protocol: str, authorities: Authorities, variables: Any
) -> None:
    variables(CERTIFICATE=authorities.path("ca.pem"))
    with authorities.server(protocol, "right", ask_client=True) as server:
        # The server of this gRPC library closes the connection without a reason.
        for certificate in ("", authorities.path("stranger.pem")):
            variables(CLIENT_CERTIFICATE=certificate)
            error = send(server.url, protocol)
            assert isinstance(error, OtlpRefused), error
            assert "TLS handshake" in error.message
            if not certificate:
                assert "ask for a client's certificate" in error.message
                assert "OTLP_CLIENT_CERTIFICATE" in (error.next_command or "")
        assert not server.received
        variables(
            CLIENT_CERTIFICATE=authorities.path("client.pem"),
            CLIENT_KEY=authorities.path("client.key"),
        )
        assert send(server.url, protocol) == Outcome()


def test_a_server_without_tls_gets_nothing_in_the_clear(
    protocol: str, authorities: Authorities, variables: Any
) -> None:
    heard: list[bytes] = []

    def listen(connection: Any) -> None:
        while piece := connection.recv(65536):
            heard.append(piece)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with raw_server(listen) as port:
        error = send(f"https://localhost:{port}", protocol)
    assert isinstance(error, OtlpRefused), error
    assert "does not speak TLS" in error.message
    assert heard
    assert TOKEN.encode() not in b"".join(heard)
    assert all(piece.startswith(b"\x16\x03") for piece in heard[:1])


def test_a_connection_that_breaks_off_in_the_handshake_may_be_tried_again(
    protocol: str, variables: Any
) -> None:
    with raw_server(lambda connection: None) as port:
        assert isinstance(send(f"https://localhost:{port}", protocol), OtlpUnavailable)


@pytest.mark.parametrize("oldest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_closes_connections_for_another_reason_may_be_tried_again(
    protocol: str, authorities: Authorities, variables: Any, oldest: ssl.TLSVersion
) -> None:
    variables(CERTIFICATE=authorities.path("ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authorities.path("right.pem"), authorities.path("right.key"))
    context.set_alpn_protocols(["h2"])
    context.minimum_version = oldest

    def close_at_once(connection: Any) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with raw_server(close_at_once) as port:
        error = send(f"https://localhost:{port}", protocol)
    assert isinstance(error, OtlpUnavailable), error
    assert "right after the TLS handshake" in error.message


def test_files_that_are_no_certificates_are_named(
    protocol: str, authorities: Authorities, variables: Any, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    variables(CERTIFICATE=str(junk))
    settings = OtlpSettings.from_environment("https://localhost:1", protocol)
    with pytest.raises(UsageError, match=r"OTLP_CERTIFICATE names '.*junk.pem'"):
        open_sender(settings)
    variables(
        CERTIFICATE=authorities.path("ca.pem"),
        CLIENT_CERTIFICATE=authorities.path("client.pem"),
        CLIENT_KEY=authorities.path("right.key"),
    )
    settings = OtlpSettings.from_environment("https://localhost:1", protocol)
    with pytest.raises(UsageError, match=r"OTLP_CLIENT_CERTIFICATE names .*right.key"):
        open_sender(settings)


COLLECTOR = """
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC}", tls: &tls {cert_file: "${env:CERTS}/right.pem",
        key_file: "${env:CERTS}/right.key", client_ca_file: "${env:CERTS}/ca.pem"}}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP}", tls: *tls}
exporters:
  file: {path: "${env:RECEIVED}", append: true, flush_interval: 100ms}
extensions:
  health_check: {endpoint: "127.0.0.1:${env:HEALTH}"}
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
  telemetry: {metrics: {level: none}}
"""


@pytest.fixture(scope="module")
def collector(
    authorities: Authorities, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("collector")
    config = folder / "collector.yaml"
    config.write_text(COLLECTOR)
    with Collector(folder, config, {"CERTS": str(authorities.folder)}) as running:
        yield running


def test_the_collector_takes_spans_by_mutual_tls_alone(
    protocol: str, authorities: Authorities, collector: Collector, variables: Any
) -> None:
    address = collector.otlp_grpc if protocol == "grpc" else collector.otlp_http
    port = address.rpartition(":")[2]
    before = len(collector.spans())

    variables(CERTIFICATE=authorities.path("ca.pem"))
    error = send(f"https://localhost:{port}", protocol)
    assert isinstance(error, OtlpRefused), error
    assert "client's certificate" in error.message

    variables(
        CLIENT_CERTIFICATE=authorities.path("client.pem"),
        CLIENT_KEY=authorities.path("client.key"),
    )
    error = send(f"https://127.0.0.1:{port}", protocol)
    assert isinstance(error, OtlpRefused), error
    assert "another name than 127.0.0.1" in error.message

    variables(CERTIFICATE=authorities.path("other-ca.pem"))
    error = send(f"https://localhost:{port}", protocol)
    assert isinstance(error, OtlpRefused), error
    assert "not trusted here" in error.message

    variables(CERTIFICATE=authorities.path("ca.pem"))
    assert isinstance(send(f"http://localhost:{port}", protocol), FillpathError)
    assert send(f"https://localhost:{port}", protocol) == Outcome()
    wait_until(lambda: len(collector.spans()) > before, "the span does not arrive")
    assert len(collector.spans()) == before + 1
