"""``net.partition``: two sides cannot reach each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gameday.injectors.link_fault import LinkFault


class NetPartition(LinkFault, kind="net.partition", toxic="partition"):
    """Drop every packet between both ends of a link, or only those that leave its first end."""

    needs = ("packets",)
    excludes = ("net.partition", "net.blackhole", "net.reset")
    one_way: Annotated[
        bool,
        Field(description="Drop only what goes from the link's first end to its second."),
    ] = False
