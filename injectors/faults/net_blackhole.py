"""``net.blackhole``: a link swallows everything."""

from __future__ import annotations

from gameday.injectors.link_fault import LinkFault


class NetBlackhole(LinkFault, kind="net.blackhole", toxic="blackhole"):
    """Swallow whatever crosses a link: connections stay open and nothing arrives."""

    excludes = ("net.blackhole", "net.reset", "net.partition")
