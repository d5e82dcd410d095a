"""What the network faults share: one toxic on each chosen link, or on all that a slot says and hears.

Such a fault is its parameters, and the name of the toxic that takes them::

    class NetLatency(LinkFault, kind="net.latency", toxic="latency"):
        \"\"\"Delay everything that crosses a link.\"\"\"

        delay: Annotated[Seconds, Within(0.001, 60)]
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ClassVar

from gameday.injectors.fault import Evidence, Fault, Injection, LinkTarget, choose_links
from gameday.injectors.sandbox.base import Link, Sandbox, Toxic
from gameday.injectors.undo import RemoveToxic
from gameday.injectors.units import show_duration, show_rate, show_share

__all__ = ["LinkFault", "NetworkFault"]

_SHOW: dict[str, Callable[[float], str]] = {
    "delay": show_duration,
    "jitter": show_duration,
    "rate": show_rate,
    "share": show_share,
}


class NetworkFault(Fault):
    """A toxic on a link, or on a slot. Its fields are the toxic's parameters, in SI units.

    Attributes:
        toxic: The kind of toxic: the class keyword.
    """

    toxic: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("links",)

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Put the toxic there."""
        await box.part(self.needs[0]).add(
            injection.target, Toxic(self.toxic, injection.tag, self.figures())
        )

    def figures(self) -> dict[str, float]:
        """The toxic's parameters: by default the fault's own."""
        return {key: float(value) for key, value in self.parameters().items()}

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Ask what is in force there: the link's proxy, or the kernel."""
        ours = [
            t
            for t in await box.part(self.needs[0]).toxics(injection.target)
            if t.tag == injection.tag
        ]
        if not ours:
            seen = f"{injection.target} has no {self.toxic} of ours"
            return Evidence(False, False, seen, box.now())
        figures = ", ".join(
            f"{k} {_SHOW.get(k, str)(v)}" for k, v in ours[0].parameters.items() if v
        )
        what = f"{ours[0].kind} ({figures})" if figures else ours[0].kind
        return Evidence(True, True, f"{injection.target} has {what}", box.now())


class LinkFault(NetworkFault):
    """A network fault on links."""

    target: LinkTarget

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """One injection for each link that the target names."""
        for part in self.needs:
            box.part(part)
        plan = []
        chosen = await self.choose(box, rng)
        await box.part(self.needs[0]).check([link.name for link in chosen])
        for link in chosen:
            tag = self.new_tag(box, rng)
            plan.append(self.injection(link.name, RemoveToxic(link.name, tag), tag=tag))
        return plan

    async def choose(self, box: Sandbox, rng: Random) -> list[Link]:
        """The links that are hit."""
        return await choose_links(box, self.target, rng)
