"""``net.duplicate``: a link delivers packets twice."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Share
from gameday.injectors.link_fault import LinkFault


class NetDuplicate(LinkFault, kind="net.duplicate", toxic="duplicate"):
    """Deliver a share of the packets that cross a link twice, at random, in each direction."""

    needs = ("packets",)
    share: Annotated[Share, Meta(gt=0, description="How many of them: 10%.")]
