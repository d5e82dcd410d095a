"""``net.partition``: two sides cannot reach each other."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gameday.injectors.link_fault import LinkFault

_ONE_WAY = {"both": 0.0, "forth": 1.0, "back": 2.0}


class NetPartition(LinkFault, kind="net.partition", toxic="partition"):
    """Drop every packet between both ends of a link, or only those of one direction."""

    needs = ("packets",)
    excludes = ("net.partition", "net.blackhole", "net.reset")
    direction: Annotated[
        Literal["both", "forth", "back"],
        Meta(description="`forth`: only what goes from the link's first end to its second."),
    ] = "both"

    def figures(self) -> dict[str, float]:
        """As the toxic knows it: one way or not, and which."""
        return {"one_way": _ONE_WAY[self.direction]}
