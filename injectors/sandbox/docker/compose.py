"""Bringing a Compose project up, with whichever Docker Compose is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import anyio

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.docker.contexts import config_folder

__all__ = ["Compose"]

_END = 40
"""Lines of what it said that are shown when it fails."""


class Compose:
    """One project.

    Args:
        project: Its name.
        files: The Compose files, each refining the one before.
        environment: Where the engine is (`Engine.environment`), and marks by which the process is found.
        log: Where it writes what it says.
    """

    def __init__(
        self, project: str, files: Sequence[Path], environment: Mapping[str, str], log: Path | None
    ) -> None:
        self.project = project
        self.files = tuple(files)
        self._environment = dict(environment)
        self._log = log

    async def up(self, *services: str, scale: Mapping[str, int] | None = None) -> None:
        """Start what is not there; builds and pulls what is missing.

        Args:
            services: Which ones; by default all.
            scale: How many containers of a service, where others than the file says.

        Raises:
            Unsupported: if there is no Docker Compose here.
            SandboxError: with what it said, if it fails.
        """
        words = ["up", "--detach", "--no-color" if self._standalone else "--quiet-pull"]
        if services:
            words += ["--no-recreate", "--no-deps"]
        for name, count in (scale or {}).items():
            words += ["--scale", f"{name}={count}"]
        await self._run(*words, *services)

    @property
    def _standalone(self) -> bool:
        return self.command()[-1].endswith("docker-compose")

    @staticmethod
    def command() -> list[str]:
        """How it is called here.

        Raises:
            Unsupported: if there is none.
        """
        plugin = _plugin()
        if plugin:
            # Run as itself, it ends when we end it; behind `docker compose` it would not.
            return [plugin, "compose"]
        alone = shutil.which("docker-compose")
        if alone:
            return [alone]
        raise Unsupported(
            "there is no Docker Compose on this machine",
            hint="Install Docker's Compose plugin, or docker-compose.",
        )

    async def _run(self, *words: str) -> None:
        argv = [*self.command(), "--project-name", self.project]
        for file in self.files:
            argv += ["--file", str(file)]
        environment = os.environ | self._environment
        child: subprocess.Popen[bytes] | None = None
        try:
            with _output(self._log) as log:
                child = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                    [*argv, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
                pidfd = os.pidfd_open(child.pid)
                try:
                    await anyio.wait_readable(pidfd)
                finally:
                    os.close(pidfd)
                code = child.wait()
                if code:
                    log.seek(0)
                    said = log.read().decode("utf-8", "replace").strip().splitlines()
                    raise SandboxError(
                        f"Docker Compose could not bring up {self.project} (exit code {code})",
                        hint="\n  ".join(said[-_END:]) or "It said nothing.",
                    )
        finally:
            if child is not None and child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _plugin() -> str:
    """Docker's Compose plugin, where Docker looks for plugins."""
    config = config_folder(os.environ)
    system = ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
    folders = [config / "cli-plugins", *(Path(each) / "docker/cli-plugins" for each in system)]
    found = (folder / "docker-compose" for folder in folders)
    return next((str(path) for path in found if os.access(path, os.X_OK)), "")


def _output(log: Path | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile()
    log.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "r+b")
