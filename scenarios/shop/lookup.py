"""Where services are in a network of containers: by the names that it gives them.

A service's name leads to all of its containers, an address leads back to a container's
name. As many clients do, this one remembers: a container that is gone keeps its place, and
its share of the requests, until another takes it or ten minutes have passed.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import dataclass

from gameday.scenarios.shop.endpoints import Endpoint
from gameday.scenarios.shop.logs import Log

__all__ = ["Lookup", "own_slot"]

_EVERY = 0.5
_REMEMBERED = 600.0


@dataclass(slots=True)
class _Known:
    """A container as it was seen last."""

    address: str
    name: str
    seen: float


class Lookup:
    """The endpoints of each service, looked up beside the event loop.

    Args:
        wanted: ``api:8000, store:8000``: names and ports.
    """

    def __init__(self, wanted: str, log: Log) -> None:
        pairs = (one.strip().rpartition(":") for one in wanted.split(",") if one.strip())
        self._ports = {name: int(port) for name, _, port in pairs}
        self._log = log
        self._known: dict[str, dict[str, _Known]] = {name: {} for name in self._ports}
        self._found: dict[str, tuple[Endpoint, ...]] = {}
        threading.Thread(target=self._look_for_ever, name="lookup", daemon=True).start()

    def of(self, service: str) -> tuple[Endpoint, ...]:
        """The service's endpoints, by their numbers; empty if it has none."""
        return self._found.get(service, ())

    def _look_for_ever(self) -> None:
        while True:
            found = {name: self._look(name, port) for name, port in self._ports.items()}
            if found != self._found:
                self._found = found
                names = {name: [one.slot for one in many] for name, many in found.items()}
                self._log.info("endpoints", **names)
            time.sleep(_EVERY)

    def _look(self, service: str, port: int) -> tuple[Endpoint, ...]:
        known, now = self._known[service], time.monotonic()
        addresses = _addresses(service)
        for address in addresses:
            name = _name(address)
            known[_slot(service, name, address)] = _Known(address, name, now)
        for slot, one in list(known.items()):
            taken = any(one.address == other.address for s, other in known.items() if s != slot)
            drained = one.address not in addresses and one.address in _addresses(one.name)
            if (taken and one.seen < now) or drained or now - one.seen > _REMEMBERED:
                del known[slot]
        return tuple(Endpoint(slot, f"{known[slot].address}:{port}") for slot in sorted(known))


def own_slot(service: str) -> str:
    """Which replica this container is; the first, if the network does not say."""
    address = next(iter(_addresses(socket.gethostname())), "")
    return _slot(service, _name(address), "1") if address else f"{service}-1"


def _addresses(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(one[4][0]) for one in found})


def _name(address: str) -> str:
    try:
        return socket.gethostbyaddr(address)[0].partition(".")[0]
    except OSError:
        return ""


def _slot(service: str, name: str, otherwise: str) -> str:
    """``api-2``, of a container that is called ``shop-api-2`` or ``shop_api_2``."""
    match = re.search(rf"(?:^|[-_]){re.escape(service)}[-_](\d+)$", name)
    return f"{service}-{match[1] if match else otherwise}"
