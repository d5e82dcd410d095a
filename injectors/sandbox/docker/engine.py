"""One Docker Engine, through its SDK: each call in a thread, not too many at once, in limited time.

The SDK is imported with the first call, as that takes a third of a second.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread

from gameday.injectors.errors import SandboxError

if TYPE_CHECKING:
    from docker.api.client import APIClient

__all__ = ["POOL", "VARIABLES", "Engine", "EngineSilent"]

POOL = 50
"""Calls at once: an engine serves each one in a goroutine of its own."""
VARIABLES = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
"""What says where the engine is; kept with a sandbox, for whoever looks for it from another shell."""
WITHIN = 30.0

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
        return self._where.get("DOCKER_HOST") or "unix:///var/run/docker.sock"

    @property
    def near(self) -> bool:
        """Whether it may run on this machine: then its processes are ours to see."""
        return self.address.startswith("unix://")

    async def call(self, method: str, *given: Any, within: float = WITHIN, **options: Any) -> Any:
        """Call a method of `docker.APIClient`, with its arguments, by its name.

        Raises:
            EngineSilent: if the engine cannot be reached, or takes longer than ``within`` seconds.
            SandboxError: if it refuses; says what it said.
        """
        call = partial(self._call, method, *given, **options)
        try:
            with anyio.fail_after(within):
                return await self._in_thread(call)
        except TimeoutError:
            raise self._silent(f"no answer within {within:g} s") from None

    async def find(self, container: str) -> Json | None:
        """What `docker inspect` says of a container; None if there is none."""
        try:
            found: Json = await self.call("inspect_container", container)
        except SandboxError as error:
            if "No such container" in error.message:
                return None
            raise
        return found

    def close(self) -> None:
        """Let go of its connections; harmless to repeat."""
        if "_client" in vars(self):
            self._client.close()

    def _call(self, method: str, *given: Any, **options: Any) -> Any:
        self._look_for_socket()
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        silent = (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            urllib3.exceptions.HTTPError,
            OSError,
        )
        try:
            return getattr(self._client, method)(*given, **options)
        except docker.errors.APIError as error:
            raise SandboxError(f"Docker says: {error.explanation or error}") from None
        except docker.errors.DockerException as error:
            raise self._silent(str(error)) from None
        except silent as error:
            raise self._silent(str(error)) from None

    def _look_for_socket(self) -> None:
        """Spare the SDK a call that must fail: it would leave a socket open behind it."""
        if not self.near or "_client" in vars(self):
            return
        path = self.address.removeprefix("unix://")
        try:
            there = stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - a string is wanted
        except OSError as error:
            raise self._silent(error.strerror or str(error)) from None
        if not there:
            raise self._silent("that is no socket")

    def _silent(self, why: str) -> EngineSilent:
        return EngineSilent(
            f"the Docker engine at {self.address} does not answer: {why}",
            hint="Is it running, and may you use it? Try: docker info",
        )

    @cached_property
    def _client(self) -> APIClient:
        from docker.api.client import APIClient
        from docker.utils import kwargs_from_env

        found = kwargs_from_env(environment=self._where)

        class Client(APIClient):
            def merge_environment_settings(self, *given: Any) -> Any:
                # Else REQUESTS_CA_BUNDLE would stand before the engine's own certificate authority.
                self.trust_env = "tls" not in found
                return super().merge_environment_settings(*given)

        client: APIClient = Client(
            version="auto", timeout=int(WITHIN), max_pool_size=POOL, use_ssh_client=True, **found
        )
        return client

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._limit is None:  # it belongs to the event loop that runs now
            self._limit = anyio.CapacityLimiter(POOL)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limit)


def surroundings() -> dict[str, str]:
    """`VARIABLES` as this process's environment has them."""
    return {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
