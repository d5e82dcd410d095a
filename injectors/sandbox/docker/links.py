"""The parts ``links`` and ``packets`` of a Docker sandbox: faults in the containers' own networks.

A fault on a link is put into the network of the container where the link begins, and hits
packets from and to the one where it ends; a fault on a slot hits all packets there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from gameday.injectors.errors import SandboxError, Unsupported, UsageError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.elsewhere import forget
from gameday.injectors.sandbox.docker.sharing import refuse_shared, refuse_strangers
from gameday.injectors.sandbox.docker.teardown import end_helpers
from gameday.injectors.sandbox.netns.kinds import overlap

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Links", "clear"]


class Links:
    """Both parts: what acts on connections elsewhere acts on packets here."""

    def __init__(self, box: DockerSandbox) -> None:
        self._box = box

    async def check(self, links: Sequence[str]) -> None:
        """Both ends have a network of their own, and one in common, and nobody else joined it."""
        found = [end for link in links for end in await _checked(link, self._box)]
        await refuse_strangers((end for end in found if end is not None), self._box)

    async def add(self, link: str, toxic: Toxic) -> None:
        """Put a network fault on a link, or on a slot."""
        source, target = await _checked(link, self._box)
        if source.process is None:
            raise SandboxError(f"nobody fills {source.slot}")
        network = self._box.network(source, source.process)
        await network.add(toxic, _addresses(source, target) if target is not None else ())

    async def toxics(self, link: str) -> tuple[Toxic, ...]:
        """What is in force on a link, or on a slot as a whole, as the kernel reports it."""
        try:
            source, target = await _ends(link, self._box)
        except UsageError:  # somebody removed a container, and what was in its network
            return ()
        if source.process is None:
            return ()
        found = await self._box.network(source, source.process).toxics()
        if target is None:
            return tuple(one.toxic for one in found if not one.peers)
        there = tuple(one for each in target.addresses.values() for one in each)
        return tuple(one.toxic for one in found if there and overlap(one.peers, there))


async def clear(link: str, tag: str, box: DockerSandbox) -> bool:
    """Take off what carries the tag where a link begins; False if nothing did."""
    source = await box.find(link.partition("->")[0])
    if source is None or source.process is None:
        if source is not None and box.outside:
            await forget(source, box)
        return await anyio.to_thread.run_sync(end_helpers, tag)
    return await box.network(source, source.process).remove(tag)


async def _ends(link: str, box: DockerSandbox) -> tuple[Container, Container | None]:
    source, arrow, target = link.partition("->")
    slots = {one.slot: one for one in await box.list_containers()}
    if source not in slots or (arrow and target not in slots):
        raise UsageError(f"there is no {'link' if arrow else 'slot'} {link!r}")
    return slots[source], slots[target] if arrow else None


async def _checked(link: str, box: DockerSandbox) -> tuple[Container, Container | None]:
    source, target = await _ends(link, box)
    refuse_shared(source)
    if target is not None:
        refuse_shared(target)
        if source.addresses.keys().isdisjoint(target.addresses):
            raise Unsupported(
                f"{source.slot} and {target.slot} are in no network together",
                hint="A fault on a link acts between addresses: put both into one network.",
            )
    return source, target


def _addresses(source: Container, target: Container) -> list[str]:
    """The target's, in the networks that both are in."""
    shared = [name for name, own in source.addresses.items() if own and name in target.addresses]
    found = [address for name in shared for address in target.addresses[name]]
    if not found:
        raise SandboxError(f"{source.slot} or {target.slot} has no address where both are")
    return found
