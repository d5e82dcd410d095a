"""Where the services are that this process calls: a JSON file that is re-read when it changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from gameday.scenarios.shop.logs import Log

__all__ = ["Endpoint", "Endpoints", "Finds"]

_STAT_EVERY = 0.2


class Endpoint(NamedTuple):
    """One replica of a service, or the near end of the link that leads to it."""

    slot: str
    address: str


class Finds(Protocol):
    """What knows where services are: a file (`Endpoints`), or the network (`lookup.Lookup`)."""

    def of(self, service: str) -> tuple[Endpoint, ...]:
        """The service's endpoints now."""
        ...


def _parse(text: str) -> dict[str, tuple[Endpoint, ...]]:
    return {
        service: tuple(Endpoint(str(one["slot"]), str(one["address"])) for one in replicas)
        for service, replicas in json.loads(text).items()
    }


class Endpoints:
    """The current endpoints of each service.

    The file is replaced (renamed over) when somebody scales or drains. It is
    looked at no more often than every 200 ms; one that cannot be read is logged
    and changes nothing.
    """

    def __init__(
        self, path: Path | None, log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._log = log
        self._clock = clock
        self._looked = float("-inf")
        self._version: tuple[int, int, int] | None = None
        self._services: dict[str, tuple[Endpoint, ...]] = {}

    def of(self, service: str) -> tuple[Endpoint, ...]:
        """The service's endpoints, in the file's order; empty if it has none."""
        now = self._clock()
        if self._path is not None and now - self._looked >= _STAT_EVERY:
            self._looked = now
            self._refresh(self._path)
        return self._services.get(service, ())

    def _refresh(self, path: Path) -> None:
        try:
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version == self._version:
                return
            self._version = version
            self._services = _parse(path.read_text("utf-8"))
        except OSError as error:
            self._log.warning("cannot read the endpoints", file=str(path), error=str(error))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warning("the endpoints are malformed", file=str(path), error=repr(error))
        else:
            found = {name: [one.slot for one in many] for name, many in self._services.items()}
            self._log.info("endpoints", **found)
