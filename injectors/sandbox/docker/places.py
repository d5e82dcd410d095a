"""Which slot a container fills that Compose did not number.

By its service, and by its name among those of that service, when it is first seen; from then on it
keeps its slot as long as the drill lasts, whatever becomes of the others, and of its own name. A
file of the drill holds that for all who look: the watchdog, and fixers in other terminals.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.deeds import Deeds
from gameday.injectors.sandbox.docker.keeping import keep, read_kept

__all__ = ["Place", "Places", "numbered"]

_FILE = "slots.json"


class Place(msgspec.Struct, frozen=True):
    """A slot: which replica of which service."""

    service: str
    number: int

    @property
    def slot(self) -> str:
        """Its name."""
        return f"{self.service}-{self.number}"


class Places(msgspec.Struct, frozen=True):
    """Slots that were given.

    Attributes:
        ids: By the container's id.
        names: By its name at that time: one that is made again under it fills the slot, too.
    """

    ids: dict[str, Place] = {}
    names: dict[str, Place] = {}

    @classmethod
    def kept(cls, deeds: Deeds) -> Places:
        """Those that a drill's processes have noted beside its deeds; none that cannot be read."""
        path = deeds.beside(_FILE)
        with suppress(SandboxError):
            return (path and read_kept(path, cls)) or cls()
        return cls()

    def keep(self, deeds: Deeds) -> None:
        """Note them there; where that does not work, they are known as long as we are."""
        if (path := deeds.beside(_FILE)) is not None:
            with suppress(SandboxError):
                keep(path, msgspec.json.encode(self))

    def __or__(self, other: Places) -> Places:
        """Both; where they differ, the other's."""
        return Places(self.ids | other.ids, self.names | other.names)

    def noting(self, settled: Iterable[Container]) -> Places:
        """With those of these containers that are new."""
        new = [one for one in settled if not one.is_numbered and one.id not in self.ids]
        found = {one.id: Place(one.service, one.number) for one in new}
        return self | Places(found, {one.name: found[one.id] for one in new})

    def filler(self, slot: str) -> str:
        """The id of the container that filled a slot last; empty if none is known."""
        return next((id for id in reversed(self.ids) if self.ids[id].slot == slot), "")  # noqa: A001 - Docker's own word

    def of(self, one: Container, present: Iterable[Container]) -> Place | None:
        """The slot that it has had, or inherits by its name from one that is gone."""
        if (place := self.ids.get(one.id)) is not None:
            return place
        place = self.names.get(one.name)
        held = {self.ids.get(other.id) for other in present}
        return place if place is not None and place not in held else None


def numbered(containers: Iterable[Container], known: Places | None = None) -> list[Container]:
    """Each with its number, ordered by service as first created, then by number.

    Args:
        known: Slots that were given before: they stay, and belong to nobody else.
    """
    known = known or Places()
    found = sorted(containers, key=lambda one: one.inspected.get("Created", ""))
    every = [_placed(one, known.of(one, found)) for one in found]
    given = {*known.ids.values(), *known.names.values()}
    settled = []
    for service in dict.fromkeys(one.service for one in every):
        ours = [one for one in every if one.service == service]
        taken = {one.number for one in ours}
        taken |= {place.number for place in given if place.service == service}
        free = (number for number in range(1, len(ours) + 1 + max(taken)) if number not in taken)
        for one in sorted(ours, key=lambda one: (one.number or 1 << 30, one.name)):
            settled.append(msgspec.structs.replace(one, number=one.number or next(free)))
    return settled


def _placed(one: Container, place: Place | None) -> Container:
    if one.is_numbered or place is None:
        return one
    return msgspec.structs.replace(one, service=place.service, number=place.number)
