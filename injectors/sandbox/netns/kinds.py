"""What each kind of fault does to packets in a namespace, as rules of iptables. Pure.

The words mean what they mean on the link proxy (`injectors/sandbox/proxy/`), with the
namespace in the place of the link's first end. What differs, since packets are not
streams: see each kind below.

Two things are done otherwise than one would think:

- What must vanish on its way *out* is led to a packet queue to which nobody listens. The
  target DROP would tell the sender: ``sendto`` fails with EPERM, so a resolver gives up
  at once, and TCP sends again at once, as if hardly anything were lost. A network tells nobody.
- A packet that comes back from a packet queue skips the rest of the chain that it was
  in. So rules that lead to a queue stand last, and faults that would hit the same packets
  stand in different chains (`SLOTS`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import mark
from gameday.injectors.sandbox.netns.mark import InForce

__all__ = [
    "COPY_MARK",
    "DETOUR_MARK",
    "KINDS",
    "PASSED_MARK",
    "QUEUED",
    "SLOTS",
    "Kind",
    "Rule",
    "checked",
    "make_rules",
    "overlap",
]

SLOTS = (
    {"in": ("mangle", "INPUT"), "out": ("mangle", "OUTPUT")},
    {"in": ("security", "INPUT"), "out": ("security", "OUTPUT")},
    {"in": ("mangle", "PREROUTING"), "out": ("mangle", "POSTROUTING")},
)
"""Chains for rules that lead to a packet queue; a packet passes each of them once."""

COPY_MARK = 0x67640000
"""The firewall mark of a packet that we duplicated, so that it is not duplicated again."""

DETOUR_MARK = 0x67660000
"""The upper half of the firewall mark of packets that go through a proxy of ours (`detour`)."""

PASSED_MARK = 0x67650000
"""The firewall mark of a packet that has been through it."""

_ONE_WAY = {1.0: "out", 2.0: "in"}
_NOBODY = "-j NFQUEUE --queue-num 65535"
_DNS = 53


class Rule(NamedTuple):
    """One rule: for IPv4 or IPv6, in which table, and ``-A CHAIN …`` or ``-I CHAIN …``."""

    family: int
    table: str
    text: str


class _Parameter(NamedTuple):
    unit: str
    least: float
    most: float
    required: bool = True


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        parameters: Their names, in SI units.
        direction: What it hits where none is named.
        one_way: Whether it can hit one direction only.
        does: For people.
    """

    parameters: dict[str, _Parameter]
    direction: str
    one_way: bool
    does: str


_DELAY, _SHARE = _Parameter("s", 0, 3600), _Parameter("a share", 0, 1)
_SWITCH = _Parameter("0 or 1", 0, 1, required=False)

KINDS: dict[str, Kind] = {
    "latency": Kind(
        {"delay": _DELAY, "jitter": _DELAY._replace(required=False)},
        direction="in",
        one_way=True,
        does="What comes in arrives later: a request and its answer together take the delay "
        "once. Packets of one direction keep their order. Connecting is not delayed.",
    ),
    "blackhole": Kind(
        {},
        direction="both",
        one_way=False,
        does="Packets vanish, and nobody is told. Open connections stay open and go on when "
        "it is lifted, as TCP sends again; new ones wait.",
    ),
    "partition": Kind(
        {"one_way": _SWITCH._replace(unit="0, 1 (out) or 2 (in)", most=2)},
        direction="both",
        one_way=True,
        does="Packets vanish, in both directions or (one_way) only those of one.",
    ),
    "reset": Kind(
        {},
        direction="both",
        one_way=False,
        does="Open TCP connections are reset, and each new one is refused; both ends are told.",
    ),
    "bandwidth": Kind(
        {"rate": _Parameter("bit/s", 1, 1e12)},
        direction="both",
        one_way=True,
        does="Each direction carries so many bits in a second, headers included, for all "
        "peers together; what does not fit into a short queue is lost.",
    ),
    "loss": Kind(
        {"share": _SHARE},
        direction="both",
        one_way=True,
        does="Each packet is lost with this probability, and nobody is told.",
    ),
    "corrupt": Kind(
        {"share": _SHARE},
        direction="both",
        one_way=True,
        does="One bit of each packet flips with this probability, behind the IP header: its "
        "receiver finds the checksum wrong and drops it.",
    ),
    "duplicate": Kind(
        {"share": _SHARE},
        direction="both",
        one_way=True,
        does="Each packet arrives twice with this probability.",
    ),
    "dns": Kind(
        {"refused": _SWITCH},
        direction="out",
        one_way=False,
        does="Queries to port 53, also to a resolver on loopback, get no answer or (refused) "
        "are refused at once.",
    ),
}

QUEUED = ("latency", "corrupt", "duplicate")
"""Kinds whose packets pass through a helper process."""


def checked(toxic: Toxic, peers: Sequence[str], direction: str) -> InForce:
    """The fault, with its peers as the kernel would name them and its direction settled.

    Raises:
        UsageError: if anything about it is unknown, missing or impossible.
    """
    kind = KINDS.get(toxic.kind)
    if kind is None:
        known = ", ".join(KINDS)
        raise UsageError(f"a network has no fault {toxic.kind!r}", hint=f"There are: {known}.")
    mark.check_tag(toxic.tag)
    for name in toxic.parameters:
        if name not in kind.parameters:
            takes = ", ".join(kind.parameters) or "none"
            raise UsageError(
                f"{toxic.kind} has no parameter {name!r}", hint=f"Its parameters: {takes}."
            )
    for name, parameter in kind.parameters.items():
        if name in toxic.parameters:
            _check(toxic.kind, name, parameter, toxic.parameters[name])
        elif parameter.required:
            raise UsageError(
                f"{toxic.kind} lacks its parameter {name!r}", hint=f"Give it in {parameter.unit}."
            )
    return InForce(
        toxic, tuple(dict.fromkeys(map(_address, peers))), _direction(kind, toxic, direction)
    )


def _check(kind: str, name: str, parameter: _Parameter, value: object) -> None:
    usable = (
        isinstance(value, int | float)
        and math.isfinite(value)
        and parameter.least <= value <= parameter.most
    )
    if not usable:
        raise UsageError(
            f"{kind}: {name} is {value!r}",
            hint=f"It is {parameter.unit}, {parameter.least:g} to {parameter.most:g}.",
        )


def _direction(kind: Kind, toxic: Toxic, asked: str) -> str:
    if asked and asked not in mark.DIRECTIONS:
        raise UsageError(f"{asked!r} is no direction", hint="There are: in, out, both.")
    usual = _ONE_WAY.get(toxic.parameters.get("one_way", 0), "")
    direction = asked or usual or kind.direction
    if not kind.one_way and direction != kind.direction:
        raise UsageError(f"{toxic.kind} has no direction", hint="Leave the direction out.")
    return direction


def _address(peer: str) -> str:
    try:
        network = ipaddress.ip_network(peer, strict=False)
    except ValueError:
        raise UsageError(
            f"{peer!r} is no address of a peer", hint="Give an IP address, such as 172.20.0.3."
        ) from None
    lone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if lone else str(network)


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a packet can be from or to one of each; no peers are everybody."""
    if not one or not other:
        return True
    ours, theirs = map(ipaddress.ip_network, one), [ipaddress.ip_network(peer) for peer in other]
    return any(a.version == b.version and a.overlaps(b) for a in ours for b in theirs)


# Rules


def make_rules(
    fault: InForce, *, ipv6: bool = True, queue: int = 0, slot: int = 0, detour: int = 0
) -> tuple[Rule, ...]:
    """The rules of a fault; bandwidth has none.

    Args:
        ipv6: Whether IPv6 is spoken in the namespace; asked only where there are no peers.
        queue: The packet queue of its helper.
        slot: Where among `SLOTS` its rules stand.
        detour: The mark that leads packets to its proxy, where it has one and no queue.
    """
    make = _detour if detour else _MAKERS.get(fault.toxic.kind)
    if make is None:
        return ()
    rules: list[Rule] = []
    for peer in fault.peers or ("",):
        families = (ipaddress.ip_network(peer).version,) if peer else (4, 6) if ipv6 else (4,)
        for family in families:
            rules += make(_Place(fault, peer, family, queue, slot, detour))
    return tuple(rules)


class _Place(NamedTuple):
    fault: InForce
    peer: str
    family: int
    queue: int
    slot: int
    detour: int

    @property
    def ways(self) -> tuple[str, ...]:
        return ("out", "in") if self.fault.direction == "both" else (self.fault.direction,)

    def who(self, way: str) -> str:
        """Which packets: those to or from the peer, or all but those on loopback."""
        if self.peer:
            return f"{'-d' if way == 'out' else '-s'} {self.peer}"
        return f"! {'-o' if way == 'out' else '-i'} lo"

    def rule(self, where: str, table: str, chain: str, *words: str) -> Rule:
        comment = f"-m comment --comment {mark.write(self.fault.toxic, self.fault.direction)}"
        text = " ".join(word for word in (where, chain, *words[:-1], comment, words[-1]) if word)
        return Rule(self.family, table, text)


def _vanish(at: _Place, extra: str = "") -> list[Rule]:
    rules = []
    for way in at.ways:
        chain, target = ("OUTPUT", _NOBODY) if way == "out" else ("INPUT", "-j DROP")
        rules.append(at.rule("-I", "mangle", chain, at.who(way), extra, target))
    return rules


def _lose(at: _Place) -> list[Rule]:
    share = at.fault.toxic.parameters["share"]
    return _vanish(at, f"-m statistic --mode random --probability {share:.9f}")


def _reset(at: _Place) -> list[Rule]:
    # Resets themselves pass: those of the kernel here, and those of the peers.
    which = "-p tcp -m tcp ! --tcp-flags RST RST"
    target = "-j REJECT --reject-with tcp-reset"
    return [
        at.rule("-I", "filter", "OUTPUT", at.who("out"), which, target),
        at.rule("-I", "filter", "INPUT", at.who("in"), which, target),
    ]


# Connecting is not delayed, as on the link proxy. A sender that uses BBR takes its
# round trip from the handshake, and so sends slowly over a delayed way at first.
_NOT_CONNECTING = "-p tcp -m tcp ! --tcp-flags SYN SYN"


def _queue(at: _Place) -> list[Rule]:
    target = f"-j NFQUEUE --queue-num {at.queue} --queue-bypass"
    match at.fault.toxic.kind:
        case "latency":
            which = ["! -p tcp", _NOT_CONNECTING]
        case "duplicate":
            which = [f"-m mark ! --mark {COPY_MARK:#x}"]
        case _:
            which = [""]
    rules = []
    for way in at.ways:
        table, chain = SLOTS[at.slot][way]
        rules += [at.rule("-A", table, chain, at.who(way), one, target) for one in which]
    return rules


def _detour(at: _Place) -> list[Rule]:
    # What finds neighbours, and what goes to many at once, is not led anywhere.
    others = "! -p tcp" if at.family == 4 else "-p udp"
    which = [f"{one} -m addrtype --dst-type UNICAST" for one in (others, _NOT_CONNECTING)]
    again = f"-m mark ! --mark {PASSED_MARK:#x}"
    target = f"-j MARK --set-mark {at.detour:#x}"
    return [at.rule("-A", "mangle", "OUTPUT", at.who("out"), one, again, target) for one in which]


def _dns(at: _Place) -> list[Rule]:
    who = f"-d {at.peer}" if at.peer else ""
    if not at.fault.toxic.parameters.get("refused"):
        return [
            at.rule("-I", "mangle", "OUTPUT", who, f"-p {proto} -m {proto} --dport {_DNS}", _NOBODY)
            for proto in ("udp", "tcp")
        ]
    # Only the table filter can refuse, and there a resolver of Docker's own has another port by now.
    # The refusal itself belongs to the same connection, in the other direction.
    original = f"-m conntrack --ctorigdstport {_DNS} --ctdir ORIGINAL"
    if at.peer:
        original += f" --ctorigdst {at.peer}"
    unreachable = "icmp-port-unreachable" if at.family == 4 else "icmp6-port-unreachable"
    ways = {"udp": unreachable, "tcp": "tcp-reset"}
    return [
        at.rule(
            "-I", "filter", "OUTPUT", f"-p {proto} {original}", f"-j REJECT --reject-with {how}"
        )
        for proto, how in ways.items()
    ]


_MAKERS: dict[str, Callable[[_Place], Iterable[Rule]]] = {
    "latency": _queue,
    "corrupt": _queue,
    "duplicate": _queue,
    "blackhole": _vanish,
    "partition": _vanish,
    "loss": _lose,
    "reset": _reset,
    "dns": _dns,
}
