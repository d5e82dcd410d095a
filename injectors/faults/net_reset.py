"""``net.reset``: a link breaks every connection."""

from __future__ import annotations

from gameday.injectors.link_fault import LinkFault


class NetReset(LinkFault, kind="net.reset", toxic="reset"):
    """Reset every connection that crosses a link, the open ones and each new one."""

    excludes = ("net.reset", "net.blackhole", "net.partition")
