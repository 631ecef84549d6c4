"""TLS of OTLP requests, and what is wrong when a server and this side do not agree on it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import Literal

from fillpath.exporters.otlp_outcome import (
    SET_AUTHORITY,
    SET_CLIENT_CERTIFICATE,
    OtlpRefused,
    OtlpUnavailable,
    set_endpoint,
)
from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_OTLP

# OpenSSL's X509_V_ERR_*, which the ssl module does not name.
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset({62, 64})
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
# A server that misses a client's certificate says so at once, after the handshake.
_LONGEST_PROBE = 1.0


def client_context(settings: OtlpSettings) -> ssl.SSLContext:
    """Make the context of the connections: TLS 1.2 or later, the server's certificate checked.

    Raises:
        UsageError: When a file of the settings has no certificate or key that can be used.
    """
    context = ssl.create_default_context()
    if settings.certificate is not None:
        # These authorities alone: none of the system's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=settings.certificate)
        except (ssl.SSLError, OSError):
            raise _unusable("CERTIFICATE", settings.certificate, "no certificate") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_certificate is not None:
        key = settings.client_key or settings.client_certificate
        try:
            # With a password here OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(settings.client_certificate, key, password="")
        except (ssl.SSLError, OSError):
            raise _unusable(
                "CLIENT_CERTIFICATE",
                settings.client_certificate,
                f"no certificate with an unencrypted key in {str(key)!r} that belongs to it",
            ) from None
    return context


def _unusable(what: str, path: Path, problem: str) -> UsageError:
    return UsageError(
        f"{ENV_OTLP}{what} names {str(path)!r}, which holds {problem}.",
        next_command=f"export {ENV_OTLP}{what}=/path/to/file.pem",
    )


def refusal(error: ssl.SSLError, settings: OtlpSettings) -> OtlpRefused | None:
    """Say what a failed handshake means; None when the connection just broke off."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return None
    where = f"The server at {settings.destination}"
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in _WRONG_NAME:
            return OtlpRefused(
                f"{where} has a certificate for another name than {settings.host}.",
                next_command=set_endpoint(settings.protocol),
            )
        if code in {_EXPIRED, _NOT_YET_VALID}:
            when = "has expired" if code == _EXPIRED else "is not valid yet"
            return OtlpRefused(
                f"{where} has a certificate that {when}.",
                next_command=f"openssl s_client -connect {settings.host}:{settings.port} </dev/null"
                " | openssl x509 -noout -dates",
            )
        if code in _UNKNOWN_AUTHORITY:
            return OtlpRefused(
                f"{where} has a certificate of an authority that is not trusted here.",
                next_command=SET_AUTHORITY,
            )
        return OtlpRefused(
            f"{where} has a certificate that is not accepted: {error.verify_message}.",
            next_command=SET_AUTHORITY,
        )
    reason = (error.reason or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
        return OtlpRefused(
            f"{where} does not speak TLS.",
            next_command=set_endpoint(settings.protocol),
        )
    if "ALERT" in reason:
        asks = "CERTIFICATE" in reason or settings.client_certificate is None
        return OtlpRefused(
            f"{where} broke off the TLS handshake ({reason.replace('_', ' ').lower()})"
            + ("; it may ask for a client's certificate." if asks else "."),
            next_command=SET_CLIENT_CERTIFICATE if asks else None,
        )
    return OtlpRefused(f"TLS with {settings.destination} failed ({reason.lower() or 'no reason'}).")


def ask_why(
    settings: OtlpSettings, context: ssl.SSLContext, seconds: float
) -> OtlpRefused | OtlpUnavailable | None:
    """Find out by a connection of its own whether TLS is why a request got no answer.

    gRPC tells in words alone what went wrong; and a server that misses a client's certificate may
    close the connection so fast that its reason is lost.

    Args:
        settings: The endpoint.
        context: How to connect.
        seconds: How long this may take, with a step of a second at most.

    Returns:
        What is wrong, or None when TLS is fine or the server cannot be reached at all.
    """
    if settings.insecure:
        return None
    until = time.monotonic() + seconds
    found = _probe(settings, context, until)
    if found != "after":
        return found if isinstance(found, OtlpRefused) else None
    # Some servers give no reason. This may also be a server that is about to end, or a proxy of
    # one that is gone.
    wrong = "not like the client's" if settings.client_certificate else "ask for a client's"
    message = (
        f"The server at {settings.destination} closed the connection right after the TLS handshake;"
        f" it may {wrong} certificate."
    )
    if _breaks_off_earlier_in_tls_1_2(settings, until) and (
        _probe(settings, context, until) == "after"
    ):
        return OtlpRefused(message, next_command=SET_CLIENT_CERTIFICATE)
    return OtlpUnavailable(message, next_command=SET_CLIENT_CERTIFICATE)


def _breaks_off_earlier_in_tls_1_2(settings: OtlpSettings, until: float) -> bool:
    """Tell whether a server that closes connections after the handshake does so because of it.

    In TLS 1.2 the client's certificate is part of the handshake, and so is the server's verdict on
    it. Whoever closes connections for another reason does so after it, as in TLS 1.3, and one that
    does not speak TLS 1.2 says so.
    """
    try:
        context = client_context(settings)
    except UsageError:
        return False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if settings.protocol == "grpc":
        context.set_alpn_protocols(["h2"])
    return _probe(settings, context, until) == "within"


def _probe(
    settings: OtlpSettings, context: ssl.SSLContext, until: float
) -> OtlpRefused | Literal["within", "after"] | None:
    """Connect once; tells whether the connection broke off within or after the handshake.

    Returns:
        Where it broke off without a reason, or the reason; None when it did not, or when that is
        not known.
    """
    seconds = min(until - time.monotonic(), _LONGEST_PROBE)
    if seconds <= 0:
        return None
    with contextlib.ExitStack() as opened:
        try:
            plain = socket.create_connection((settings.host, settings.port), timeout=seconds)
        except OSError:
            return None
        opened.enter_context(plain)
        try:
            secured = context.wrap_socket(plain, server_hostname=settings.host)
        except (ssl.SSLEOFError, ConnectionError):
            return "within"
        except ssl.SSLError as error:
            return refusal(error, settings)
        except OSError:
            return None
        opened.enter_context(secured)
        try:
            # In TLS 1.3 the server's verdict on the client comes after the handshake.
            return None if secured.recv(1) else "after"
        except (ssl.SSLEOFError, ConnectionError):
            return "after"
        except ssl.SSLError as error:
            return refusal(error, settings)
        except OSError:
            return None
