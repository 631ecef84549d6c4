"""Where spans are sent and how, by OpenTelemetry's standard variables."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit

from fillpath.exporters.otlp_endpoint import (
    Protocol,
    chosen_endpoint,
    chosen_protocol,
    variable_name,
)
from fillpath.exporters.otlp_headers import SecretHeaders, parse_headers
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_OTLP, otlp_variable

Compression = Literal["gzip", "none"]

_DEFAULT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """One endpoint and what is needed to send to it.

    Attributes:
        endpoint: URL that takes the requests: with the path for HTTP, without one for gRPC. It may
            have a query that is a secret, and is not printed; `destination` is.
        protocol: `grpc` or `http/protobuf`.
        headers: Sent with every request.
        certificate: PEM file of the authorities that the server's certificate is checked against,
            instead of the usual ones.
        client_key: PEM file of the key to `client_certificate`.
        client_certificate: PEM file of the certificate to show to the server.
        compression: `gzip` or `none`.
        timeout: Seconds that one request may take.
    """

    endpoint: str = field(repr=False)
    protocol: Protocol
    headers: SecretHeaders = field(default_factory=SecretHeaders)
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None
    compression: Compression = "none"
    timeout: float = _DEFAULT_TIMEOUT

    @classmethod
    def from_environment(
        cls, endpoint: str | None = None, protocol: str | None = None
    ) -> OtlpSettings:
        """Read ``OTEL_EXPORTER_OTLP_TRACES_*`` and ``OTEL_EXPORTER_OTLP_*``.

        Args:
            endpoint: Instead of the environment's; over HTTP `v1/traces` is added to it, unless it
                ends so.
            protocol: Instead of the environment's. When neither says, it is `grpc`, as in the SDK;
                for an `endpoint` of port 4318 or with a path it is `http/protobuf`.

        Raises:
            UsageError: When one of them makes no sense. The message names the variable, and shows
                no value that may be secret.
        """
        try:
            return _from_environment(endpoint, protocol)
        except UsageError as found:
            error = found
        # Without the frames that have read the variables: they hold what is in them.
        error.__context__ = None
        raise error.with_traceback(None)

    @property
    def insecure(self) -> bool:
        """Whether requests go without TLS."""
        return urlsplit(self.endpoint).scheme == "http"

    @property
    def host(self) -> str:
        """Name or address of the server."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def port(self) -> int:
        """Port of the server."""
        parts = urlsplit(self.endpoint)
        return parts.port or (80 if parts.scheme == "http" else 443)

    @property
    def destination(self) -> str:
        """The endpoint as it may be shown: `scheme://host:port/path`."""
        parts = urlsplit(self.endpoint)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{parts.scheme}://{host}:{self.port}{parts.path}"

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that stand for the destination, for the names of files."""
        return hashlib.sha256(self.destination.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("destination", *self.__slots__)
            if name != "endpoint"
        )
        return f"OtlpSettings({shown})"


def _from_environment(endpoint: str | None, protocol: str | None) -> OtlpSettings:
    chosen = chosen_protocol(endpoint, protocol)
    url, source = chosen_endpoint(endpoint, chosen)
    headers = SecretHeaders()
    if found := otlp_variable("HEADERS"):
        headers = parse_headers(found[1], found[0], grpc=chosen == "grpc")
    if url.username is not None or url.password is not None:
        headers = _with_basic_authorization(headers, url, source, chosen)
    key, certificate = _file("CLIENT_KEY"), _file("CLIENT_CERTIFICATE")
    if key is not None and certificate is None:
        raise UsageError(
            f"{variable_name('CLIENT_KEY')} is set and no client certificate.",
            next_command=f"export {ENV_OTLP}CLIENT_CERTIFICATE=/path/to/client.pem",
        )
    return OtlpSettings(
        endpoint=url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(),
        protocol=chosen,
        headers=headers,
        certificate=_file("CERTIFICATE"),
        client_key=key,
        client_certificate=certificate,
        compression=_compression(),
        timeout=_timeout(),
    )


def _with_basic_authorization(
    headers: SecretHeaders, url: SplitResult, source: str, protocol: Protocol
) -> SecretHeaders:
    if protocol == "grpc":
        raise UsageError(
            f"There are credentials in {source}; over gRPC they go into a header.",
            next_command=f"export {ENV_OTLP}HEADERS=authorization=Bearer%20TOKEN",
        )
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    token = base64.b64encode(pair.encode()).decode()
    return SecretHeaders({**headers, "authorization": f"Basic {token}"})


def _file(what: str) -> Path | None:
    found = otlp_variable(what)
    if found is None:
        return None
    path = Path(found[1])
    if not path.is_file() or not os.access(path, os.R_OK):
        raise UsageError(
            f"{found[0]} names {str(path)!r}, which is no file that can be read.",
            next_command=f"export {found[0]}=/path/to/file.pem",
        )
    return path.absolute()


def _compression() -> Compression:
    source, value = otlp_variable("COMPRESSION") or ("", "none")
    if value.lower() not in {"gzip", "none"}:
        raise UsageError(
            f"{source} is {value!r}; fillpath knows 'gzip' and 'none'.",
            next_command=f"export {source}=gzip",
        )
    return cast("Compression", value.lower())


def _timeout() -> float:
    source, value = otlp_variable("TIMEOUT") or ("", str(_DEFAULT_TIMEOUT))
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(
            f"{source} is {value!r}, not a number of seconds.", next_command=f"export {source}=10"
        )
    return seconds
