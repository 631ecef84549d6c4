"""Which receiver the environment names, and which of the two protocols is spoken with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast
from urllib.parse import SplitResult, urlsplit

from fillpath.instrumentation.errors import UsageError
from fillpath.instrumentation.settings import ENV_OTLP, ENV_OTLP_TRACES, otlp_variable

Protocol = Literal["grpc", "http/protobuf"]

_TRACES_PATH = "v1/traces"
_DEFAULT_ENDPOINT = {"grpc": "http://localhost:4317", "http/protobuf": "http://localhost:4318"}
_EXAMPLE = {"grpc": "https://HOST:4317", "http/protobuf": "https://HOST:4318"}
# What gRPC takes for a name without a port.
_GRPC_TLS_PORT = 443
_GRPC_RESOLVERS = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")


def variable_name(what: str) -> str:
    """Name of the variable that decides: the one for traces where it is set."""
    found = otlp_variable(what)
    return found[0] if found else ENV_OTLP + what


def chosen_protocol(endpoint: str | None, given: str | None) -> Protocol:
    """Tell which protocol is spoken.

    Args:
        endpoint: The endpoint that the caller names.
        given: The protocol that the caller names.

    Raises:
        UsageError: When there is no such protocol.
    """
    found = ("The protocol", given) if given is not None else otlp_variable("PROTOCOL")
    if found is None:
        return "http/protobuf" if endpoint is not None and _looks_like_http(endpoint) else "grpc"
    source, value = found
    if value not in _DEFAULT_ENDPOINT:
        raise UsageError(
            f"{source} is {value!r}; fillpath sends 'grpc' and 'http/protobuf'.",
            next_command=f"export {ENV_OTLP}PROTOCOL=http/protobuf",
        )
    return cast("Protocol", value)


def _looks_like_http(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        on_http_port = parts.port == 4318
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and (on_http_port or parts.path not in {"", "/"})


def chosen_endpoint(given: str | None, protocol: Protocol) -> tuple[SplitResult, str]:
    """Give the URL to send to, perhaps with credentials in it, and where it was named.

    Args:
        given: The endpoint that the caller names.
        protocol: How it is spoken with.

    Raises:
        UsageError: When it is none. The message does not show it.
    """
    found = ("The endpoint", given) if given is not None else otlp_variable("ENDPOINT")
    source, value = found or (ENV_OTLP + "ENDPOINT", _DEFAULT_ENDPOINT[protocol])

    def wrong(problem: str) -> UsageError:
        return UsageError(
            f"{source} {problem}.",
            next_command=f"export {ENV_OTLP}ENDPOINT={_EXAMPLE[protocol]}",
        )

    value = value.strip()
    if protocol == "grpc" and "://" not in value:
        if value.startswith(_GRPC_RESOLVERS):
            raise wrong("names a resolver of gRPC; fillpath takes a host and a port")
        value = f"{'http' if _insecure() else 'https'}://{value}"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        # What urllib says of it has parts of the text, which may be a password.
        raise wrong("is not a URL") from None
    printable = value.isascii() and value.isprintable() and " " not in value
    if url.scheme not in {"http", "https"} or not url.hostname or not printable:
        raise wrong("is not a URL that starts with http:// or https://")
    if url.netloc.endswith(":") or port == 0:
        raise wrong("has no port after the colon")
    if url.fragment:
        raise wrong("has a part after '#', which is never sent")
    if protocol == "grpc":
        return _grpc_url(url, port, wrong), source
    own = source != ENV_OTLP_TRACES + "ENDPOINT"
    if own and not (given is not None and url.path.rstrip("/").endswith("/" + _TRACES_PATH)):
        url = url._replace(path=f"{url.path.removesuffix('/')}/{_TRACES_PATH}")
    return url, source


def _grpc_url(
    url: SplitResult, port: int | None, wrong: Callable[[str], UsageError]
) -> SplitResult:
    if url.scheme == "http" and _insecure() is False:
        # The specification goes by the scheme, the SDK for Python by the other variable: one of the
        # two was not meant, and sending in the clear is not to be undone.
        raise wrong(f"starts with http:// (no TLS), and {variable_name('INSECURE')} is false (TLS)")
    if port is None and url.scheme == "http":
        raise wrong("has no port")
    netloc = url.netloc if port else f"{url.netloc}:{_GRPC_TLS_PORT}"
    return SplitResult(url.scheme, netloc, "", "", "")


def _insecure() -> bool | None:
    found = otlp_variable("INSECURE")
    if found is None:
        return None
    source, value = found
    if value.lower() not in {"true", "false"}:
        raise UsageError(
            f"{source} is neither 'true' nor 'false'.", next_command=f"export {source}=false"
        )
    return value.lower() == "true"
