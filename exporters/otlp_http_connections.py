"""The connections that OTLP requests take over HTTP: kept alive, through a proxy, and breakable."""

from __future__ import annotations

import contextlib
import socket
import ssl
import urllib.request
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from fillpath.exporters.otlp_settings import OtlpSettings
from fillpath.instrumentation.errors import UsageError


class HttpConnections:
    """One connection to an endpoint, opened anew when it is gone.

    urllib3 limits each wait, not their sum: a server that sends a byte now and then would hold a
    request for ever. Another thread can end that with `abort`.

    Args:
        settings: The endpoint.
        context: How TLS is spoken.

    Attributes:
        proxy: URL of the proxy on the way, without credentials.

    Raises:
        UsageError: When the environment names a proxy that cannot be used.
    """

    def __init__(self, settings: OtlpSettings, context: ssl.SSLContext) -> None:
        self._handles: list[tuple[HTTPConnection, socket.socket]] = []
        self._aborted = False
        found = _proxy_of(settings)
        self.proxy = found[0] if found else None
        if found is None:
            self.pools = urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=context)
        else:
            url, credentials = found
            headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
            self.pools = urllib3.ProxyManager(
                url, num_pools=1, maxsize=1, ssl_context=context, proxy_headers=headers
            )
        self.pools.pool_classes_by_scheme = _watched(self._keep_handle)

    def forget_closed(self) -> None:
        """Let go of connections that a request left closed."""
        for entry in list(self._handles):
            if entry[0].sock is None:
                self._handles.remove(entry)
                entry[1].close()

    def abort(self) -> None:
        """Break off what another thread waits for; no further request is possible."""
        self._aborted = True
        for _, handle in list(self._handles):
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; nothing may be under way."""
        self.pools.clear()
        for connection, handle in self._handles:
            connection.close()
            handle.close()
        self._handles.clear()

    def _keep_handle(self, connection: HTTPConnection, opened: socket.socket) -> None:
        # A second handle of the same connection: the first changes owner when TLS begins, and is
        # closed before the body is read when the server does not keep the connection alive.
        self._handles.append((connection, opened.dup()))
        if self._aborted:
            self.abort()


def _watched(
    keep: Callable[[HTTPConnection, socket.socket], None],
) -> dict[str, type[HTTPConnectionPool]]:
    """Pools by scheme whose connections tell of their sockets."""

    class Connection(HTTPConnection):
        # `http.client` prints requests with their headers when a program sets its own to 1.
        debuglevel = 0

        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            keep(self, opened)
            return opened

    class SecureConnection(HTTPSConnection):
        debuglevel = 0

        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            keep(self, opened)
            return opened

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


def _proxy_of(settings: OtlpSettings) -> tuple[str, str | None] | None:
    """The proxy's URL and its `name:password`, by `http_proxy`, `https_proxy` and `no_proxy`."""
    scheme = urlsplit(settings.endpoint).scheme
    proxies = urllib.request.getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(f"{settings.host}:{settings.port}"):
        return None
    url = urlsplit(found if "://" in found else f"http://{found}")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise UsageError(
            f"The variable {scheme}_proxy names no proxy that starts with http:// or https://.",
            next_command=f"export no_proxy={settings.host}",
        )
    credentials = None
    if url.username is not None:
        credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(), credentials
