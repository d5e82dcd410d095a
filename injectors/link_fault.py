"""What the network faults share: one toxic on the proxy of each chosen link.

Such a fault is its parameters, and the name of the toxic that takes them::

    class NetLatency(LinkFault, kind="net.latency", toxic="latency"):
        \"\"\"Delay everything that crosses a link.\"\"\"

        delay: Annotated[Seconds, within(0.001, 60, show_duration)]
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from gameday.injectors.fault import Evidence, Fault, Injection, LinkTarget, choose_links
from gameday.injectors.sandbox.base import Sandbox, Toxic
from gameday.injectors.undo import RemoveToxic
from gameday.injectors.units import show_duration, show_rate, show_share

__all__ = ["LinkFault"]

_SHOW: dict[str, Callable[[float], str]] = {
    "delay": show_duration,
    "jitter": show_duration,
    "rate": show_rate,
    "share": show_share,
}


class LinkFault(Fault):
    """A fault on links. Its fields are the toxic's parameters, in SI units.

    Attributes:
        toxic: The kind of toxic: the class keyword.
    """

    toxic: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("links",)

    target: LinkTarget

    def __init_subclass__(cls, *, toxic: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)

    @classmethod
    def __pydantic_init_subclass__(cls, *, toxic: str = "", **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if toxic:
            cls.toxic = toxic

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """One injection for each link that the target names."""
        for part in self.needs:
            box.part(part)
        plan = []
        for link in await choose_links(box, self.target, rng):
            tag = self.new_tag(box, rng)
            plan.append(self.injection(link.name, RemoveToxic(link.name, tag), tag=tag))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Put the toxic on the link."""
        await box.part(self.needs[0]).add(
            injection.target, Toxic(self.toxic, injection.tag, _figures(injection.parameters))
        )

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Ask what is in force on the link: its proxy, or the kernel."""
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


def _figures(parameters: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in parameters.items()}
