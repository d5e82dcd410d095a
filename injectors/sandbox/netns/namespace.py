"""The network of one process, with the faults that are in force there."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import anyio.to_thread

from gameday.injectors.errors import GamedayError, SandboxGone, Unsupported
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import detour, helpers, kinds, rules, shaping, sockets
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.mark import InForce
from gameday.injectors.undo import ProcessId

__all__ = ["Namespace"]


class Namespace:
    """The network namespace of a process.

    Nothing is remembered and nothing is held open: any number of these may serve the same
    process, in any number of processes. Each verb also exists without ``await``
    (``add_now`` …), for whoever has no event loop, and blocks for some tens of milliseconds.

    Args:
        process: Who lives in it: a pid as seen from here, or a `ProcessId`.
        owners: Helper processes end by themselves when all of these are gone; none: they
            end when their fault is removed, or the process is gone.
        environment: What helpers carry besides ``GAMEDAY_HELPER``, their fault's tag:
            ``GAMEDAY_SANDBOX``, for whoever ends all that belongs to one.
        here: It is our own namespace, and not this machine's: nothing has to be entered.
    """

    def __init__(
        self,
        process: int | ProcessId,
        owners: Sequence[ProcessId] = (),
        environment: Mapping[str, str] | None = None,
        *,
        here: bool = False,
    ) -> None:
        self._inside = _inside(process, here)
        self._owners = tuple(owners)
        self._environment = dict(environment or {})
        self._process = process

    async def add(self, toxic: Toxic, peers: Sequence[str] = (), *, direction: str = "") -> None:
        """Put a fault on packets from and to ``peers``.

        Args:
            toxic: Its kind is one of `KINDS`; its tag is used once in a namespace.
            peers: Addresses or networks, IPv4 or IPv6; none: everything but loopback.
            direction: ``in`` (what comes from the peers), ``out`` (what goes to them) or
                ``both``; empty: as the kind has it.

        Raises:
            UsageError: if the fault, a peer or the direction is impossible.
            Refused: if the process has no network of its own.
            Unsupported: if this machine cannot do it.
            SandboxGone: if the process is gone.
            SandboxError: if it did not work. Nothing of it is left then.
        """
        await anyio.to_thread.run_sync(lambda: self.add_now(toxic, peers, direction=direction))

    async def remove(self, tag: str) -> bool:
        """Take the fault with this tag off; False if there was none, or the process is gone.

        Raises:
            SandboxError: if something of it cannot be removed.
        """
        return await anyio.to_thread.run_sync(self.remove_now, tag)

    async def toxics(self) -> tuple[InForce, ...]:
        """The faults in force, as the kernel has them; none if the process is gone.

        One whose helper is gone is not in force.
        """
        return await anyio.to_thread.run_sync(self.toxics_now)

    async def fingerprint(self) -> dict[str, str]:
        """Every rule and everything of ``tc``, without counters; empty if the process is gone."""
        return await anyio.to_thread.run_sync(self.fingerprint_now)

    def add_now(self, toxic: Toxic, peers: Sequence[str] = (), *, direction: str = "") -> None:
        """As `add`, blocking."""
        fault = kinds.checked(toxic, peers, direction)
        inside = self._inside
        if inside is None:
            raise SandboxGone(f"process {self._process} is gone, and with it its network")
        inside.refuse_hosts()
        with inside.alone():
            try:
                self._add(inside, fault)
            except GamedayError:
                _remove(inside, toxic.tag)
                raise

    def remove_now(self, tag: str) -> bool:
        """As `remove`, blocking."""
        inside = self._inside
        if inside is None or not inside.there:
            return helpers.end(tag)
        try:
            with inside.alone(within=1.0, insist=False):
                return _remove(inside, tag)
        except SandboxGone:  # just now, and all that was in it
            return helpers.end(tag)

    def toxics_now(self) -> tuple[InForce, ...]:
        """As `toxics`, blocking."""
        if self._inside is None or not self._inside.there:
            return ()
        try:
            present = rules.read(self._inside)
            found = rules.faults(present) + shaping.faults(self._inside)
            queued = rules.slots(present)
            return tuple(one for one in found if _acts(self._inside, one, queued))
        except SandboxGone:
            return ()

    def fingerprint_now(self) -> dict[str, str]:
        """As `fingerprint`, blocking."""
        if self._inside is None or not self._inside.there:
            return {}
        try:
            return (
                rules.normalised(self._inside)
                | shaping.normalised(self._inside)
                | detour.normalised(self._inside)
            )
        except SandboxGone:
            return {}

    def _add(self, inside: Inside, fault: InForce) -> None:
        kind = fault.toxic.kind
        if kind == "bandwidth":
            shaping.add(inside, fault)
            return
        ipv6 = inside.has_ipv6
        if kind in kinds.QUEUED:
            slot = _free_slot(inside, fault)
            queue = helpers.start(inside, fault.toxic, self._owners, self._environment)
            if queue is None:
                fault = _outward(fault, rules.read(inside))
                detour.add(inside, fault)
                made = kinds.make_rules(fault, ipv6=ipv6, detour=detour.number(fault.toxic.tag))
            else:
                made = kinds.make_rules(fault, ipv6=ipv6, queue=queue, slot=slot)
        else:
            made = kinds.make_rules(fault, ipv6=ipv6)
        rules.add(inside, made)
        if kind == "reset":
            sockets.destroy(inside, fault.peers)


def _inside(who: int | ProcessId, here: bool) -> Inside | None:
    found = process.process_id(who) if isinstance(who, int) else who
    return Inside(found, here=here) if found is not None else None


def _remove(inside: Inside, tag: str) -> bool:
    # The rules first: nothing new comes to the helper, and what it holds goes on.
    kind = rules.remove(inside, tag)
    if kind and kind not in kinds.QUEUED:
        return True
    if not kind and shaping.remove(inside, tag):
        return True
    led = detour.remove(inside, tag)
    return helpers.end(tag) or led or bool(kind)


def _acts(inside: Inside, fault: InForce, queued: Container[str]) -> bool:
    """Whether the packets that its rules hit meet with anything."""
    tag = fault.toxic.tag
    if fault.toxic.kind not in kinds.QUEUED:
        return True
    return bool(helpers.find(tag)) and (tag in queued or detour.leads(inside, tag))


def _outward(fault: InForce, present: Sequence[kinds.Rule]) -> InForce:
    """The fault as a proxy can do it: on what goes out. A request and its answer take the delay once, as before."""
    if fault.direction == "both":
        raise Unsupported("without a packet queue, packets are delayed in one direction only")
    for other in rules.faults(present):
        if other.toxic.kind == "latency" and kinds.overlap(other.peers, fault.peers):
            raise Unsupported("these packets are delayed already, and there is no packet queue")
    return InForce(fault.toxic, fault.peers, "out")


def _free_slot(inside: Inside, fault: InForce) -> int:
    present = rules.read(inside)
    taken = rules.slots(present)
    others = [
        taken[one.toxic.tag]
        for one in rules.faults(present)
        if one.toxic.tag in taken and kinds.overlap(one.peers, fault.peers)
    ]
    for slot in range(len(kinds.SLOTS)):
        if slot not in others:
            return slot
    raise Unsupported(
        f"{len(kinds.SLOTS)} faults of the kinds {', '.join(kinds.QUEUED)} are on these packets "
        "already, and there is no room for more"
    )
