"""One Docker Engine, through its SDK: each call in a thread, not too many at once, in limited time.

The SDK is imported with the first call, as that takes a third of a second.
"""

from __future__ import annotations

import math
import os
import socket
import stat
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.docker import contexts

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from docker.transport.unixconn import UnixHTTPAdapter

__all__ = [
    "POOL",
    "VARIABLES",
    "Engine",
    "EngineSilent",
    "open_client",
    "plain_reason",
    "surroundings",
]

POOL = 50
"""Calls at once: an engine serves each one in a goroutine of its own."""
VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""What says where the engine is; kept with a sandbox, for whoever looks for it from another shell."""
WITHIN = 30.0
_LOCAL = "unix:///var/run/docker.sock"
"""Where an engine is if nothing says so."""
_SSH = "ssh://"
_UNIX = "unix://"
_SSH_POOL = 4
"""Calls at once through ssh: an sshd refuses some of those who come ten at a time."""

_AT_SOCKET: dict[type[BaseException], str] = {
    FileNotFoundError: "there is no socket",
    PermissionError: "permission denied on its socket",
}
_REASONS: dict[type[BaseException], str] = {
    TimeoutError: "no answer in time",
    ConnectionRefusedError: "it refuses connections",
    ConnectionError: "it broke the connection off",
    socket.gaierror: "its host is not known",
}
"""What people are told of an error."""

Json = dict[str, Any]


class EngineSilent(SandboxError):
    """The engine does not answer. What it holds may well be there still."""


class Engine:
    """An engine.

    Args:
        where: Values of `VARIABLES`; what is missing is as Docker has it: the local socket.
    """

    def __init__(self, where: Mapping[str, str]) -> None:
        self._where = dict(where)
        self._limit: anyio.CapacityLimiter | None = None

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self._where.get("DOCKER_HOST") or _LOCAL

    @property
    def near(self) -> bool:
        """Whether it may run on this machine: then its processes are ours to see."""
        return self.address.startswith(_UNIX)

    @property
    def environment(self) -> dict[str, str]:
        """By which Docker's own programs find this engine, and no other that this shell knows."""
        return dict.fromkeys(VARIABLES, "") | self._where | {"DOCKER_HOST": self.address}

    async def call(
        self,
        method: str,
        *given: Any,
        within: float = WITHIN,
        whole: bool = False,
        **options: Any,
    ) -> Any:
        """Call a method of `docker.APIClient`, with its arguments, by its name.

        Args:
            whole: What it yields is waited for, as a list.

        Raises:
            EngineSilent: if the engine cannot be reached, or takes longer than ``within`` seconds.
            SandboxError: if it refuses; says what it said.
        """
        call = partial(self._call, method, whole, *given, **options)
        try:
            with anyio.fail_after(within):
                return await self._in_thread(call)
        except TimeoutError:
            raise self._silent(f"no answer within {within:g} s") from None

    async def takes_calls(self, *, within: float) -> bool:
        """Whether it answers who comes anew: one that is being shut down still serves whom it knows."""

        def anew(_: APIClient) -> None:
            open_client(self._where, within=math.ceil(within)).close()

        try:
            with anyio.fail_after(within):
                await self._in_thread(partial(self._done, anew))
        except (EngineSilent, TimeoutError):
            return False
        return True

    async def find(self, container: str) -> Json | None:
        """What `docker inspect` says of a container; None if there is none."""
        try:
            found: Json = await self.call("inspect_container", container)
        except SandboxError as error:
            if "No such container" in error.message:
                return None
            raise
        return found

    async def fetch(self, container: str, path: str) -> bytes:
        """A file or folder of a container, running or not, as a tar archive.

        Raises:
            EngineSilent, SandboxError: as `call` does.
        """
        call = partial(self._done, _fetch, container, path)
        try:
            with anyio.fail_after(WITHIN):
                data: bytes = await self._in_thread(call)
        except TimeoutError:
            raise self._silent(f"no answer within {WITHIN:g} s") from None
        return data

    def close(self) -> None:
        """Let go of its connections; harmless to repeat."""
        if "_client" in vars(self):
            self._client.close()

    def _call(self, method: str, whole: bool, *given: Any, **options: Any) -> Any:
        def act(client: APIClient) -> Any:
            found = getattr(client, method)(*given, **options)
            return list(found) if whole else found

        return self._done(act)

    def _done(self, act: Callable[..., Any], *given: Any) -> Any:
        """What comes of acting on the SDK's client, in our errors."""
        self._look_for_socket()
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        from gameday.injectors.sandbox.docker.ssh import SshFailed

        silent = (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            urllib3.exceptions.HTTPError,
            SshFailed,
            OSError,
        )
        try:
            return act(self._client, *given)
        except docker.errors.APIError as error:
            raise SandboxError(f"Docker says: {error.explanation or error}") from None
        except docker.errors.DockerException as error:
            raise self._silent(plain_reason(error, near=self.near)) from None
        except silent as error:
            raise self._silent(plain_reason(error, near=self.near)) from None

    def _look_for_socket(self) -> None:
        """Spare the import of the SDK where its first call must fail."""
        if not self.near or "_client" in vars(self):
            return
        path = self.address.removeprefix(_UNIX)
        try:
            there = stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - a string is wanted
        except OSError as error:
            raise self._silent(plain_reason(error, near=self.near)) from None
        if not there:
            raise self._silent("that is no socket")

    def _silent(self, why: str) -> EngineSilent:
        through = " (ssh must get there without asking for anything)" if self._by_ssh else ""
        return EngineSilent(
            f"the Docker engine at {self.address} does not answer: {why}",
            hint=f"Is it running, and may you use it? Try: docker info{through}",
        )

    @property
    def _by_ssh(self) -> bool:
        return self.address.startswith(_SSH)

    @cached_property
    def _client(self) -> APIClient:
        return open_client(self._where, within=int(WITHIN))

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._limit is None:  # it belongs to the event loop that runs now
            self._limit = anyio.CapacityLimiter(_SSH_POOL if self._by_ssh else POOL)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limit)


def _fetch(client: APIClient, container: str, path: str) -> bytes:
    stream, _ = client.get_archive(container, path)
    return b"".join(stream)


def open_client(where: Mapping[str, str], *, within: int) -> APIClient:
    """The SDK's client of an engine; asks it for its version.

    Args:
        where: As for `Engine`.
        within: Seconds for an answer.
    """
    from docker.api.client import APIClient
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.utils import kwargs_from_env

    address = where.get("DOCKER_HOST") or _LOCAL
    own = _adapter(address, within)
    # An empty mapping would stand for this process's own environment.
    found = kwargs_from_env(environment=where) if where and own is None else {}

    class Client(APIClient):
        def __init__(self) -> None:
            version = "auto" if own is None else DEFAULT_DOCKER_API_VERSION
            super().__init__(version=version, timeout=within, max_pool_size=POOL, **found)
            if own is not None:
                self._custom_adapter = own
                self.mount("http+docker://", own)
                told = self.version(api_version=False)
                self._version = told.get("ApiVersion", DEFAULT_DOCKER_API_VERSION)

        def merge_environment_settings(self, *given: Any) -> Any:
            # Else REQUESTS_CA_BUNDLE would stand before the engine's own certificate authority.
            self.trust_env = "tls" not in found
            return super().merge_environment_settings(*given)

    client: APIClient = Client()
    return client


def _adapter(address: str, within: int) -> UnixHTTPAdapter | None:
    """What carries requests there better than the SDK's own; None where that will do."""
    if address.startswith(_SSH):
        from gameday.injectors.sandbox.docker.ssh import SshAdapter

        # The SDK's own needs paramiko even where it runs `ssh`, and knows no deadline.
        return SshAdapter(address, within, _SSH_POOL)
    if address.startswith(_UNIX):
        from gameday.injectors.sandbox.docker.unix import UnixAdapter

        return UnixAdapter(address, within, POOL)
    return None


def plain_reason(error: BaseException, *, near: bool) -> str:
    """Why an engine could not be reached, for people: what lies under the SDK's error and those in it.

    Args:
        near: It was sought at a socket of this machine; else a missing file is none of that kind.
    """
    from gameday.injectors.sandbox.docker.ssh import SshFailed

    reasons = (_AT_SOCKET if near else {}) | _REASONS
    for each in _within(error):
        if isinstance(each, SshFailed):
            return str(each)
        for kind, reason in reasons.items():
            if isinstance(each, kind):
                return reason
        if isinstance(each, OSError) and each.errno and each.strerror:
            return each.strerror
    return str(error.__cause__ or error)


def _within(error: BaseException) -> list[BaseException]:
    """An error and all that it holds or came from, the outer ones first."""
    found: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, tuple):
            left += one
        elif isinstance(one, BaseException) and one not in found:
            found.append(one)
            left += [one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found


def surroundings() -> dict[str, str]:
    """Where `docker` would find the engine from here: by `VARIABLES`, else by the context in use.

    Raises:
        UsageError: if the context is of no use.
    """
    found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return found if "DOCKER_HOST" in found else found | contexts.in_use(os.environ)
