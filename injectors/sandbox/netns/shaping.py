"""Bandwidth in a namespace: packets are led through a device of our own that is narrow.

A filter at each interface's door (``clsact``) sends what it matches to a device of type
``ifb``, one for each direction, where a token bucket (``tbf``) lets so much pass; from there
it goes on where it would have gone. So whatever the user set up at an interface itself stays
as it is. Each device carries the fault in its alias, and which doors were made for it.
"""

from __future__ import annotations

import ipaddress
import math
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.netns import mark
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.interfaces import Interface, interfaces_of, is_ours
from gameday.injectors.sandbox.netns.mark import InForce

__all__ = ["add", "faults", "normalised", "remove"]

_DOOR = {"in": "ingress", "out": "egress"}
_QUEUE = 0.1
"""Seconds' worth of data that wait before a device; at least ten packets' worth."""
_LEAST_QUEUE, _LEAST_BURST, _BURST = 16_000, 3200, 0.004
_FILTER = re.compile(r"filter protocol (\S+) pref (\d+) u32 .*fh \S+::\S+")
_PREF = re.compile(r" pref (\d+) ")
_MATCH = re.compile(r"\s+match ([0-9a-f]{8})/([0-9a-f]{8}) at \d+")
_LEADS_TO = re.compile(r"mirred \(Egress Redirect to device (\S+)\)")
_NOISE = re.compile(r" refcnt \d+| ref \d+ bind \d+| index \d+")


class _Filter(NamedTuple):
    interface: str
    door: str
    protocol: str
    pref: str
    device: str
    peer: str


def faults(inside: Inside) -> tuple[InForce, ...]:
    """The bandwidth faults in force here."""
    links = interfaces_of(inside)
    ours = {link.name: link.fault for link in links if link.ours}
    found: dict[str, InForce] = {}
    for lead in _filters(inside, links) if ours else ():
        one = ours.get(lead.device)
        if one is not None:
            peers = found.get(one.toxic.tag, one).peers
            peers = tuple(dict.fromkeys(peers + ((lead.peer,) if lead.peer else ())))
            found[one.toxic.tag] = InForce(one.toxic, peers, one.direction)
    return tuple(found.values())


def add(inside: Inside, fault: InForce) -> None:
    """Narrow the way from and to the fault's peers.

    Raises:
        Unsupported: if an interface has a door of another kind already.
        SandboxError: if the kernel cannot do it.
    """
    links = interfaces_of(inside)
    interfaces = [link for link in links if link.name != "lo" and not link.ours]
    doors = {link.name: _door(inside, link.name) for link in interfaces}
    missing = ",".join(name for name, there in doors.items() if not there)
    ways = ("in", "out") if fault.direction == "both" else (fault.direction,)
    mtu = max((link.mtu for link in interfaces), default=1500)
    for way in ways:
        device = _name(fault.toxic.tag, way)
        inside.run("ip", "link", "add", device, "type", "ifb")
        alias = f"{mark.write(fault.toxic, fault.direction)}|{missing}"
        inside.run("ip", "link", "set", device, "alias", alias, "up")
    pref = _free_pref(inside, fault, [name for name, there in doors.items() if there])
    batch = [f"qdisc add dev {name} clsact" for name, there in doors.items() if not there]
    for way in ways:
        device = _name(fault.toxic.tag, way)
        batch.append(f"qdisc add dev {device} root tbf {_bucket(fault, mtu)}")
        for link in interfaces:
            head = f"filter add dev {link.name} {_DOOR[way]}"
            lead = f"action mirred egress redirect dev {device}"
            batch += [f"{head} {match} {lead}" for match in _matches(fault, way, pref)]
    inside.run("tc", "-batch", "-", given="\n".join(batch) + "\n")


def remove(inside: Inside, tag: str) -> bool:
    """Take the fault with this tag off; False if there was none."""
    links = interfaces_of(inside)
    names = {_name(tag, way) for way in _DOOR}
    gone = [link for link in links if link.name in names and _is(link, tag)]
    if not gone:
        return False
    devices = {link.name for link in gone}
    doomed: dict[tuple[str, str, str, str], None] = {}
    for one in _filters(inside, links):
        if one.device in devices:
            doomed[one[:4]] = None
    for interface, door, protocol, pref in doomed:  # all of a number at once: they are ours
        where = ("dev", interface, door, "protocol", protocol, "pref", pref)
        _attempt(inside, "tc", "filter", "delete", *where)
    made = frozenset[str]().union(*(link.made for link in gone))
    _close_doors(inside, made, [link for link in links if link.ours and link not in gone])
    for device in devices:
        _attempt(inside, "ip", "link", "delete", device)
    left = {link.name for link in interfaces_of(inside)} & devices
    if left:
        raise SandboxError(f"the devices {', '.join(sorted(left))} could not be deleted")
    return True


def normalised(inside: Inside) -> dict[str, str]:
    """What ``tc`` says of every interface, without counters; and which devices are ours."""
    found = {}
    for link in interfaces_of(inside):
        lines = inside.run("tc", "qdisc", "show", "dev", link.name).splitlines()
        shaped = any(not line.startswith("qdisc noqueue 0:") for line in lines)
        if shaped:
            lines += inside.run("tc", "class", "show", "dev", link.name).splitlines()
            for door in ("root", *_DOOR.values()):
                lines += [
                    f"{door}: {line}"
                    for line in inside.run(
                        "tc", "filter", "show", "dev", link.name, door
                    ).splitlines()
                ]
        found[f"tc {link.name}"] = "\n".join(
            _NOISE.sub("", line).rstrip() for line in lines if line.strip()
        )
    return found


def _close_doors(inside: Inside, made: frozenset[str], others: list[Interface]) -> None:
    """Remove the doors that were made for us and lead nowhere now; others of ours take over the rest."""
    heirs = [link for link in others if link.fault is not None]
    left = set()
    for name in made:
        used = any(
            inside.run("tc", "filter", "show", "dev", name, door).strip()
            for door in _DOOR.values()
            if _door(inside, name)
        )
        if used:
            left.add(name)
        else:
            _attempt(inside, "tc", "qdisc", "delete", "dev", name, "clsact")
    if left and heirs:
        heir = heirs[0]
        names = ",".join(sorted(heir.made | left))
        alias = f"{heir.alias.rpartition('|')[0]}|{names}"
        _attempt(inside, "ip", "link", "set", heir.name, "alias", alias)


def _is(link: Interface, tag: str) -> bool:
    """By its name; whoever died before naming the tag in it left the alias empty."""
    return not link.alias or (link.fault is not None and link.fault.toxic.tag == tag)


def _name(tag: str, way: str) -> str:
    return f"gd{zlib.crc32(tag.encode()):08x}{way[0]}"


def _bucket(fault: InForce, mtu: int) -> str:
    rate = fault.toxic.parameters["rate"]
    burst = max(_LEAST_BURST, 2 * (mtu + 14), round(rate / 8 * _BURST))
    limit = burst + max(_LEAST_QUEUE, round(rate / 8 * _QUEUE))
    return f"rate {max(8, round(rate))}bit burst {min(burst, 1 << 26)} limit {min(limit, 1 << 31)}"


def _free_pref(inside: Inside, fault: InForce, interfaces: Iterable[str]) -> int:
    """A pair of numbers for our filters that nobody uses: the narrowest way first, for a packet takes one."""
    taken = {
        int(found)
        for name in interfaces
        for door in _DOOR.values()
        for found in _PREF.findall(inside.run("tc", "filter", "show", "dev", name, door))
    }
    pref = 10_000 + 2 * round(math.log10(fault.toxic.parameters["rate"]) * 1000)
    while pref in taken or pref + 1 in taken:
        pref += 2
    return pref


def _matches(fault: InForce, way: str, pref: int) -> Iterable[str]:
    if not fault.peers:
        yield f"protocol ip pref {pref} u32 match u32 0 0"
        yield f"protocol ipv6 pref {pref + 1} u32 match u32 0 0"
    for peer in fault.peers:
        end = "dst" if way == "out" else "src"
        network = ipaddress.ip_network(peer)
        if network.version == 4:
            yield f"protocol ip pref {pref} u32 match ip {end} {network}"
        else:
            yield f"protocol ipv6 pref {pref + 1} u32 match ip6 {end} {network}"


def _door(inside: Inside, interface: str) -> bool:
    text = inside.run("tc", "qdisc", "show", "dev", interface)
    if "qdisc ingress " in text:
        raise Unsupported(
            f"{interface} has an ingress qdisc of somebody else's, which leaves no place for ours"
        )
    return "qdisc clsact " in text


def _filters(inside: Inside, links: Iterable[Interface]) -> Iterable[_Filter]:
    for link in links:
        if link.name == "lo" or link.ours:
            continue
        for door in _DOOR.values():
            yield from _read_filters(
                link.name, door, inside.run("tc", "filter", "show", "dev", link.name, door)
            )


def _read_filters(interface: str, door: str, text: str) -> Iterable[_Filter]:
    head: re.Match[str] | None = None
    matched: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("filter "):
            head, matched = _FILTER.match(line), []
        elif found := _MATCH.match(line):
            matched.append((found[1], found[2]))
        elif head is None or not (found := _LEADS_TO.search(line)):
            continue
        elif is_ours(found[1]):
            protocol, pref = head.groups()
            peer = _peer(protocol, matched)
            yield _Filter(interface, door, protocol, pref, found[1], peer)


def _peer(protocol: str, matched: list[tuple[str, str]]) -> str:
    words = 1 if protocol == "ip" else 4
    value = "".join(one for one, _ in matched).ljust(8 * words, "0")
    length = sum(int(mask, 16).bit_count() for _, mask in matched)
    if not length:
        return ""
    kind = ipaddress.IPv4Network if words == 1 else ipaddress.IPv6Network
    network = kind((int(value, 16), length))
    lone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if lone else str(network)


def _attempt(inside: Inside, *words: str) -> None:
    """Run what somebody else may have done already."""
    try:
        inside.run(*words)
    except SandboxError:
        pass
