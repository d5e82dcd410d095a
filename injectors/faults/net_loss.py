"""``net.loss``: a link loses packets."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Share
from gameday.injectors.link_fault import LinkFault


class NetLoss(LinkFault, kind="net.loss", toxic="loss"):
    """Lose a share of the packets that cross a link, at random, in each direction."""

    needs = ("packets",)
    share: Annotated[Share, Meta(gt=0, description="How many of them: 10%.")]
