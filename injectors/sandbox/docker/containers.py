"""Containers as slots: pure reading of what the engine says of them.

A slot is one replica of a service: ``api-2`` is the container of the Compose service ``api``
with the number 2. A container that no Compose project made is its label ``gameday.service``,
else its own name, and replica 1; several with one label are numbered by their names (`places`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Link, Slot, labels_of
from gameday.injectors.undo import ProcessId

__all__ = ["OPT_IN", "Container", "links_of", "read_container"]

OPT_IN = "gameday.sandbox=true"
"""The label by which a container may be broken."""
_SERVICE, _NUMBER = "com.docker.compose.service", "com.docker.compose.container-number"
_DEPENDS_ON = "com.docker.compose.depends_on"
_STATES = {"created": "starting", "restarting": "starting", "dead": "exited", "removing": "exited"}
_IDENTITY = ("cgroup", "mountinfo")
"""Where a container's process shows whose it is: an engine in a machine of its own has other pids.

Its control group has the container's id; where a rootless engine may make none, the files
of its network, which the engine mounts, have."""
_HEALTH = {"healthy": "healthy", "unhealthy": "unhealthy", "starting": "unknown"}


class Container(msgspec.Struct, frozen=True):
    """One container.

    Attributes:
        service: The service whose replica it is; ``number`` which one, 0 if that is not settled.
        calls: Services that it calls.
        state: As `Slot.state`.
        process: Its main process: as this machine knows it if it is one of its own, else by the
            container's id and the instant of its start.
        started: UNIX time of its last start, seconds.
        addresses: Its IP addresses in each network.
        inspected: All that the engine says of it.
    """

    id: str
    name: str
    service: str
    number: int
    calls: tuple[str, ...]
    state: str
    health: str
    process: ProcessId | None
    address: str
    restarts: int
    started: float
    addresses: dict[str, tuple[str, ...]]
    inspected: dict[str, Any]

    @property
    def slot(self) -> str:
        """The slot that it fills."""
        return f"{self.service}-{self.number}"

    @property
    def is_numbered(self) -> bool:
        """Whether Compose settled which replica it is."""
        return bool(self.labels.get(_NUMBER))

    @property
    def here(self) -> bool:
        """Whether its process is one of this machine, and so can be acted on."""
        return self.process is not None and self.process.boot_id == process.boot_id()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels: dict[str, str] = self.inspected["Config"].get("Labels") or {}
        return labels

    @property
    def network_mode(self) -> str:
        """As the engine has it: a network, ``host``, ``none``, or ``container:`` and whose it shares."""
        return str(self.inspected["HostConfig"].get("NetworkMode", ""))

    @property
    def why_no_network(self) -> str:
        """Why it has no network of its own, for people; empty if it has one."""
        if self.network_mode == "none":
            return "it has none"
        if self.network_mode == "host":
            return "it uses its machine's"
        if self.network_mode.startswith("container:"):
            return "it shares another container's"
        return ""

    def as_slot(self, *, drained: bool, now: float, wall: float) -> Slot:
        """As `gameday sandbox ps` shows it; ``now`` and ``wall`` are one instant on two clocks."""
        owner, tier = (self.labels.get(name, "") for name in ("gameday.owner", "gameday.tier"))
        return Slot(
            name=self.slot,
            service=self.service,
            state=self.state,
            health=self.health,
            process=self.process,
            address=self.address,
            drained=drained,
            restarts=self.restarts,
            since=now - (wall - self.started),
            owner=owner,
            tier=tier,
            labels=labels_of(self.labels, owner=owner, tier=tier),
            protected=self.labels.get("gameday.protected") == "true",
        )


def read_container(found: Mapping[str, Any], *, near: bool, host: str) -> Container:
    """A container from what ``docker inspect`` says.

    Args:
        near: Whether its engine runs on this machine.
        host: Where ports are reached that it publishes.
    """
    labels = found["Config"].get("Labels") or {}
    name = found["Name"].removeprefix("/")
    state = found["State"]
    networks = found["NetworkSettings"].get("Networks") or {}
    addresses = {
        key: tuple(net[name] for name in ("IPAddress", "GlobalIPv6Address") if net.get(name))
        for key, net in networks.items()
    }
    depends = [one.partition(":")[0] for one in labels.get(_DEPENDS_ON, "").split(",") if one]
    calls = [one.strip() for one in labels.get("gameday.links", "").split(",") if one.strip()]
    return Container(
        id=found["Id"],
        name=name,
        service=labels.get(_SERVICE) or labels.get("gameday.service") or name,
        number=int(labels.get(_NUMBER) or 0),
        calls=tuple(dict.fromkeys(calls if "gameday.links" in labels else depends)),
        state=_state(state),
        health=_HEALTH.get((state.get("Health") or {}).get("Status", ""), "unknown"),
        process=_process(found, near),
        address=_address(found, addresses, near=near, host=host),
        restarts=int(found.get("RestartCount", 0)),
        started=_seconds(state.get("StartedAt", "")),
        addresses=addresses,
        inspected=dict(found),
    )


def links_of(containers: Iterable[Container]) -> tuple[Link, ...]:
    """The ways from each container to those of the services that it calls."""
    every = list(containers)
    return tuple(
        Link(f"{one.slot}->{other.slot}", one.slot, other.slot)
        for one in every
        for service in one.calls
        for other in every
        if other.service == service
    )


def _state(state: Mapping[str, Any]) -> str:
    if state.get("Paused"):
        return "paused"
    status = str(state.get("Status", ""))
    return _STATES.get(status, status)


def _process(found: Mapping[str, Any], near: bool) -> ProcessId | None:
    state = found["State"]
    pid = int(state.get("Pid") or 0)
    if not state.get("Running") or not pid:
        return None
    if near and any(found["Id"] in _told(pid, what) for what in _IDENTITY):
        return process.process_id(pid)
    started = round(_seconds(state["StartedAt"]) * 1e9)
    return ProcessId(f"container {found['Id']}", pid, started)


def _told(pid: int, what: str) -> str:
    """What /proc says of a process of this machine; empty if it says nothing."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:
        return ""


def _address(
    found: Mapping[str, Any],
    addresses: Mapping[str, tuple[str, ...]],
    *,
    near: bool,
    host: str,
) -> str:
    ports = found["NetworkSettings"].get("Ports") or {}
    wanted = (found["Config"].get("Labels") or {}).get("gameday.port", "")
    tcp = sorted(
        (int(port.split("/")[0]), bound or []) for port, bound in ports.items() if "/tcp" in port
    )
    if wanted.isdigit():
        tcp = [(int(wanted), dict(tcp).get(int(wanted), []))]
    for _, bound in tcp:
        for way in bound:
            at = way["HostIp"] if way["HostIp"] not in ("", "0.0.0.0", "::") else host
            return f"{at}:{way['HostPort']}"
    own = next((each[0] for each in addresses.values() if each), "")
    if near and tcp and own:
        return f"{own}:{tcp[0][0]}"
    return ""


def _seconds(text: str) -> float:
    """UNIX time of an instant as the engine writes it, with nanoseconds."""
    if not text or text.startswith("0001"):
        return 0.0
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    base = datetime.fromisoformat(whole.rstrip("Z") + "+00:00").timestamp()
    return base + (float(f"0.{digits}") if digits.isdigit() else 0.0)
