"""The way to an engine through ssh: ``DOCKER_HOST=ssh://user@host``, as Docker's own client goes it.

Each connection is an `ssh` of its own, with the user's keys and configuration, that speaks to the
engine by ``docker system dial-stdio`` there. It has no terminal and asks nobody anything.

Light to use only by whoever talks to such an engine: it imports the SDK.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import tempfile
import weakref
from typing import IO, Any
from urllib.parse import urlsplit

from docker.transport.unixconn import (
    UnixHTTPAdapter,
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)

from gameday.injectors.errors import UsageError

__all__ = ["SshAdapter", "SshFailed", "command"]

_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10"),
    # What only listens, to the engine's events, would not notice that nobody is there any more.
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
_LAST_WORDS_WITHIN = 1.0


class SshFailed(Exception):
    """There is no way to the engine, or it broke off; says what `ssh` said."""


def command(address: str) -> list[str]:
    """The command whose input and output are a connection to the engine.

    Args:
        address: As in ``DOCKER_HOST``: ``ssh://user@host:port/path/of/the/engine's/socket``.

    Raises:
        UsageError: if that is no such address.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit("ssh:"), None
    if not parts.hostname or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"DOCKER_HOST is {address!r}, which is no way to an engine through ssh",
            hint="Write ssh://user@host or ssh://user@host:port; a password cannot be given.",
        )
    argv = ["ssh", *_OPTIONS]
    argv += ["-l", parts.username] if parts.username else []
    argv += ["-p", str(port)] if port else []
    there = ["--host", f"unix://{parts.path}"] if parts.path.strip("/") else []
    return [*argv, "--", parts.hostname, "docker", *there, "system", "dial-stdio"]


class SshAdapter(UnixHTTPAdapter):
    """What carries the SDK's requests.

    Args:
        address: As in ``DOCKER_HOST``.
        timeout: Seconds for an answer.
        pool: Connections that are kept for what comes next.
    """

    def __init__(self, address: str, timeout: int, pool: int) -> None:
        super().__init__("http+unix://ssh", timeout, max_pool_size=pool)
        self._argv = command(address)
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        with self.pools.lock:
            pool = self.pools.get("ssh")
            if pool is None:
                pool = _Pool(self._argv, self._all, self.timeout, self.max_pool_size)
                self.pools["ssh"] = pool
        return pool

    def close(self) -> None:
        super().close()
        for connection in list(self._all):  # also those on which somebody still listens
            connection.hang_up()


class _Pool(UnixHTTPConnectionPool):
    def __init__(
        self, argv: list[str], every: weakref.WeakSet[_Connection], timeout: int, maxsize: int
    ) -> None:
        super().__init__("http://localhost", "", timeout, maxsize)
        self._argv = argv
        self._every = every
        self._within = timeout

    def _new_conn(self) -> Any:
        made = _Connection(self._argv, self._within)
        self._every.add(made)
        return made


class _Connection(UnixHTTPConnection):
    def __init__(self, argv: list[str], timeout: int) -> None:
        super().__init__("http://localhost", "", timeout)
        self._argv = argv
        self._ssh: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._listens = False

    def connect(self) -> None:
        self.hang_up()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the connection
        ours, theirs = socket.socketpair()
        try:
            self._ssh = subprocess.Popen(
                self._argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for us: what we put back goes this way
            )
        except OSError as error:
            ours.close()
            raise SshFailed(
                f"ssh cannot be run: {error.strerror} (Debian: openssh-client)"
            ) from None
        finally:
            theirs.close()
        ours.settimeout(self.timeout)
        self.sock = ours

    def getresponse(self) -> Any:
        self._listens = True
        try:
            return super().getresponse()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise SshFailed(self._last_words() or f"ssh broke off: {error}") from None
        finally:
            self._listens = False

    def close(self) -> None:
        super().close()
        if not self._listens:  # else it may have words to say, or the rest of an answer
            self.hang_up()

    def hang_up(self) -> None:
        """End the `ssh`; harmless to repeat."""
        if self._ssh is not None:
            self._ssh.kill()
            self._ssh.wait()
            self._ssh = None
        if self._said is not None:
            self._said.close()
            self._said = None

    def _last_words(self) -> str:
        if self._ssh is None or self._said is None:
            return ""
        try:
            self._ssh.wait(_LAST_WORDS_WITHIN)
        except subprocess.TimeoutExpired:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
