"""The way of packets through a proxy of ours (`tunnel`), where the kernel has no packet queue.

A rule of iptables marks them (`kinds.make_rules`), a rule of routing leads what is marked into a routing table of
the fault's own, and that has one route: into the proxy's device. When the proxy is gone, so are its device and the
route; what is marked then finds nothing in that table, and goes by the main one.

All of it is named after the fault's tag: the device, the mark and the table, which is the mark as a number.
"""

from __future__ import annotations

import ipaddress
import zlib
from contextlib import suppress

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.netns import kinds
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.interfaces import interfaces_of
from gameday.injectors.sandbox.netns.mark import InForce

__all__ = ["add", "device", "leads", "normalised", "number", "remove"]

_FAMILIES = ("-4", "-6")
_ROOM = 5000
"""Packets that wait for the proxy to read them."""


def device(tag: str) -> str:
    """The name of the proxy's device."""
    return f"gd{zlib.crc32(tag.encode()):08x}t"


def number(tag: str) -> int:
    """The firewall mark of packets that go to the proxy, and their routing table."""
    return kinds.DETOUR_MARK | (zlib.crc32(tag.encode()) & 0xFFFF)


def add(inside: Inside, fault: InForce) -> None:
    """Lead what is marked into the proxy's device.

    Raises:
        Unsupported: if the kernel does not route by marks, or another fault has that mark.
        SandboxError: if it does not work.
    """
    name, mark = device(fault.toxic.tag), number(fault.toxic.tag)
    if leads(inside, fault.toxic.tag):
        raise Unsupported(f"a rule of routing for the mark {mark:#x} is there already")
    others = [one.mtu for one in interfaces_of(inside) if one.name != "lo" and not one.ours]
    size = str(min(others, default=1500))  # what is larger could not be sent on
    # No address of its own: the kernel would announce it, and the proxy send that on.
    inside.run("ip", "link", "set", name, "addrgenmode", "none", "txqueuelen", str(_ROOM))
    inside.run("ip", "link", "set", name, "mtu", size, "up")
    table = str(mark)
    for family in _spoken(inside, fault):
        if family == "-6":  # off in each new device, where containers have it only by network
            with suppress(SandboxError):
                inside.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        try:
            inside.run("ip", family, "route", "add", "default", "dev", name, "table", table)
            inside.run("ip", family, "rule", "add", "fwmark", f"{mark:#x}", "lookup", table)
        except SandboxError as error:
            raise Unsupported(f"packets cannot be led to a proxy: {error.message}") from None


def remove(inside: Inside, tag: str) -> bool:
    """Lead them there no more; False if they were not."""
    mark = number(tag)
    found = _leading(inside, mark)
    for family in found:
        inside.run("ip", family, "rule", "delete", "fwmark", f"{mark:#x}", "lookup", str(mark))
    return bool(found)


def leads(inside: Inside, tag: str) -> bool:
    """Whether packets are led to the proxy of this fault."""
    return bool(_leading(inside, number(tag)))


def normalised(inside: Inside) -> dict[str, str]:
    """The rules of routing."""
    return {f"ip {family} rule": "\n".join(found) for family, found in _rules(inside).items()}


def _leading(inside: Inside, mark: int) -> list[str]:
    """The families of which packets with the mark are led to its table, once for each rule."""
    led = f"fwmark {mark:#x} lookup {mark}"
    return [family for family, found in _rules(inside).items() for line in found if led in line]


def _rules(inside: Inside) -> dict[str, list[str]]:
    """Those of each family, asked for at once: every fingerprint waits for it."""
    families = _families(inside)
    asked = " && echo && ".join(f"ip {family} rule show" for family in families)
    parts = inside.run("sh", "-c", asked).split("\n\n")
    return {
        family: [line.rstrip() for line in part.splitlines()]
        for family, part in zip(families, parts, strict=True)
    }


def _spoken(inside: Inside, fault: InForce) -> list[str]:
    """By which protocols packets go that the fault can hit."""
    if fault.peers:
        versions = {ipaddress.ip_network(peer).version for peer in fault.peers}
    else:
        versions = {4, 6} if inside.speaks_ipv6 else {4}
    return [f"-{version}" for version in sorted(versions)]


def _families(inside: Inside) -> tuple[str, ...]:
    return _FAMILIES if inside.has_ipv6 else _FAMILIES[:1]
