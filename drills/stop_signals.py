"""What says from outside that a real incident is going on: a file that is touched, a URL that is served.

Drills then do not begin, and those that run end at once; `gameday stop-all` is the third
such signal (`gameday.drills.state`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gameday.drills.http import HttpFailure, request
from gameday.injectors.errors import Refused, UsageError

__all__ = ["StopSignals"]

_TIMEOUT = 2.0
_LONGEST = 200
_NOTHING = (b"", b"[]", b"{}", b"null", b"false", b"0")
"""Answers of a stop URL that say that nothing is going on, as a list of no alerts does."""


class StopSignals(msgspec.Struct, frozen=True):
    """Where to look.

    Attributes:
        file: Drills stop as long as it is there; its first line says why.
        url: Drills stop as long as it answers 200 with anything but an empty text, list or object,
            ``null``, ``false`` or ``0``; so Alertmanager's ``/api/v2/alerts?filter=…`` serves as it is. 204 and 404 say
            that nothing is going on; any other answer, and none, says nothing.
    """

    file: str = ""
    url: str = ""

    @classmethod
    def given(
        cls, file: str | None, url: str | None, environment: Mapping[str, str]
    ) -> StopSignals:
        """From the command line, else from ``GAMEDAY_STOP_FILE`` and ``GAMEDAY_STOP_URL``.

        Raises:
            UsageError: if the URL is none.
        """
        file = file or environment.get("GAMEDAY_STOP_FILE", "")
        found = cls(
            str(Path(file).absolute()) if file else "",
            url or environment.get("GAMEDAY_STOP_URL", ""),
        )
        if found.url:
            found._parts()
        return found

    def file_says(self) -> str:
        """Why drills stop, by the file; empty if they may run. One that cannot be read stops."""
        if not self.file:
            return ""
        try:
            line = _first_line(self.file)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            line = f"it cannot be read: {error.strerror}"
        return f"the stop file {self.file} is there{f': {line}' if line else ''}"

    async def url_says(self) -> str:
        """Why drills stop, by the URL; empty if they may run.

        Raises:
            Refused: if it does not say.
        """
        if not self.url:
            return ""
        tls, host, port, path = self._parts()
        try:
            context = ssl.create_default_context() if tls else None
            answer = await request("GET", host, port, path, tls=context, timeout=_TIMEOUT)
        except HttpFailure as error:
            raise self._mute(str(error)) from None
        if answer.status in (204, 404):
            return ""
        if answer.status != 200:
            raise self._mute(f"it answered {answer.status}")
        if b"".join(answer.body.split()) in _NOTHING:
            return ""
        said = answer.body.strip()[:_LONGEST].decode(errors="replace").splitlines()[0]
        return f"the stop URL says: {said}"

    async def check(self) -> None:
        """Let a drill begin.

        Raises:
            Refused: if one of them says no, or cannot say.
        """
        if why := self.file_says() or await self.url_says():
            raise Refused(
                f"drills are stopped: {why}", hint="Run the drill when the incident is over."
            )

    def _mute(self, why: str) -> Refused:
        host = urlsplit(self.url).hostname
        return Refused(
            f"the stop URL ({host}) does not say whether an incident is going on: {why}",
            hint="Mend it, or run without it.",
        )

    def _parts(self) -> tuple[bool, str, int, str]:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or parts.scheme not in ("http", "https"):
            raise UsageError(
                f"{_without_secret(self.url)!r} is no stop URL; one with http or https was expected",
                hint="Write it as http://alertmanager:9093/api/v2/alerts?active=true.",
            )
        tls = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return tls, host, port or (443 if tls else 80), path


def _first_line(path: str) -> str:
    """A file's, without waiting: what is there may be a pipe that nobody writes to."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(file, _LONGEST).partition(b"\n")[0].decode(errors="replace").strip()
    finally:
        os.close(file)


def _without_secret(url: str) -> str:
    """A URL without a user's name and password, and without its query: as far as it is one."""
    before, at, after = url.partition("?")[0].rpartition("@")
    if not at:
        return after
    scheme, slashes, _ = before.partition("//")
    return f"{scheme}//…@{after}" if slashes else f"…@{after}"
