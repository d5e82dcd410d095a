"""The way to an engine of this machine: through its socket, of which nothing stays open that led nowhere.

Light to use only by whoever talks to such an engine: it imports the SDK.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)

__all__ = ["UnixAdapter"]


class UnixAdapter(UnixHTTPAdapter):
    """What carries the SDK's requests.

    The SDK's own leaves a socket open with each try to connect that fails, until its error is
    collected; a drill that waits for an engine to come back tries many times.

    Args:
        address: As in ``DOCKER_HOST``: ``unix:///path/of/the/socket``.
        timeout: Seconds for an answer.
        pool: Connections that are kept for what comes next.
    """

    def __init__(self, address: str, timeout: int, pool: int) -> None:
        super().__init__(f"http+{address}", timeout, max_pool_size=pool)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        with self.pools.lock:
            pool = self.pools.get("unix")
            if pool is None:
                pool = _Pool(self.socket_path, self.timeout, self.max_pool_size)
                self.pools["unix"] = pool
        return pool


class _Pool(UnixHTTPConnectionPool):
    def __init__(self, path: str, timeout: int, maxsize: int) -> None:
        super().__init__("http://localhost", path, timeout, maxsize)
        self._within = timeout

    def _new_conn(self) -> Any:
        return _Connection("http://localhost", self.socket_path, self._within)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
