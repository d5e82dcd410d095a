"""Network faults inside the network namespace of a process, such as a container's, by root on its host.

Everything is read back from the kernel: each rule carries a comment with the tag, the link,
the kind and the parameters of the fault that it belongs to, so that it is found again by
whoever looks, and an undo removes exactly ours.

A fault on a link acts where the link begins. Packets of the other direction are met when
they come in there, but for ``bandwidth``: what comes in is shaped where it is sent.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.base import Toxic

__all__ = ["KINDS", "Mark", "Namespace", "lacking"]

KINDS = ("latency", "blackhole", "reset", "bandwidth", "loss", "partition")
_MARK = "gameday"
_ROOT = "6a6d:"
"""Handle of the queueing discipline that is ours."""
_BURST = "4kb"
_PROGRAMS = ("iptables", "iptables-save", "iptables-restore", "tc", "ip", "nsenter")


class Mark(msgspec.Struct, frozen=True):
    """A fault as the comment of a rule names it."""

    link: str
    toxic: Toxic

    def comment(self) -> str:
        """At most 255 characters, none of which needs quotes where rules are restored."""
        parameters = ",".join(f"{key}={value:g}" for key, value in self.toxic.parameters.items())
        return "|".join((_MARK, self.toxic.tag, self.link, self.toxic.kind, parameters))

    @classmethod
    def read(cls, comment: str) -> Mark | None:
        """What a comment names; None if it is not ours."""
        words = comment.split("|")
        if len(words) != 5 or words[0] != _MARK:
            return None
        pairs = (pair.partition("=") for pair in words[4].split(",") if pair)
        try:
            parameters = {key: float(value) for key, _, value in pairs}
        except ValueError:
            return None
        return cls(words[2], Toxic(words[3], words[1], parameters))

    @property
    def number(self) -> int:
        """Of its queue or class: drawn from its tag, 1 to 65534."""
        return zlib.crc32(self.toxic.tag.encode()) % 65534 + 1


def lacking() -> str:
    """Why no network fault can be made here; empty if all can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"the programs {', '.join(missing)} are not on this machine (Debian: iptables, iproute2)"
    return ""


class Namespace:
    """The network namespace of a process.

    Args:
        pid: Any process in it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def add(self, mark: Mark, peers: Sequence[str], *, outgoing: bool = True) -> None:
        """Put a fault on what goes to and comes from these addresses.

        Args:
            peers: IPv4 addresses of the link's other end.
            outgoing: False for the far end of a ``bandwidth``: only what goes out there.

        Raises:
            Unsupported: if the kernel cannot do it, or an interface is shaped by others.
            SandboxError: if the namespace is gone.
        """
        rules = [rule for peer in peers for rule in _rules(mark, peer)]
        if mark.toxic.kind == "bandwidth":
            for peer in peers:
                self._shape(mark, peer)
        self._restore(f"-A {rule}" for rule in rules)

    def remove(self, tag: str) -> bool:
        """Take off what carries the tag; False if nothing did, or the namespace is gone."""
        if not Path(f"/proc/{self.pid}/ns/net").exists():
            return False
        ours = [(table, rule) for table, rule in self._rules() if _tag_of(rule) == tag]
        for _, rule in ours:
            mark = _mark_of(rule)
            if mark is not None and mark.toxic.kind == "bandwidth":
                self._unshape(mark)
        self._restore(f"{table} {rule.replace('-A ', '-D ', 1)}" for table, rule in ours)
        return bool(ours)

    def marks(self) -> tuple[Mark, ...]:
        """The faults that are in force here, each once."""
        marks = (_mark_of(rule) for _, rule in self._rules())
        return tuple({mark.toxic.tag: mark for mark in marks if mark is not None}.values())

    def rules(self) -> tuple[str, ...]:
        """Every rule and every queueing discipline here, without counters.

        Docker's own for its name server are left out: they differ with each start.
        """
        shaping = self._run("tc", "qdisc", "show").splitlines()
        classes = self._run("tc", "class", "show").splitlines()
        rules = (f"{table} {rule}" for table, rule in self._rules() if "DOCKER_" not in rule)
        return (*rules, *map(str.strip, shaping + classes))

    # tc

    def _device(self, peer: str) -> str:
        words = self._run("ip", "-o", "route", "get", peer).split()
        return words[words.index("dev") + 1]

    def _shape(self, mark: Mark, peer: str) -> None:
        device, number = self._device(peer), f"{_ROOT}{mark.number:x}"
        root = self._run("tc", "qdisc", "show", "dev", device, "root")
        if _ROOT not in root:
            if not root.startswith(
                ("qdisc noqueue", "qdisc pfifo_fast", "qdisc fq_codel", "qdisc mq")
            ):
                raise Unsupported(
                    f"{device} is shaped already ({root.strip()}), and that is not ours to change"
                )
            self._run("tc", "qdisc", "add", "dev", device, "root", "handle", _ROOT, "htb")
        rate = f"{mark.toxic.parameters['rate']:.0f}bit"
        if number not in self._run("tc", "class", "show", "dev", device):
            self._run(
                *("tc", "class", "add", "dev", device, "parent", _ROOT, "classid", number),
                *("htb", "rate", rate, "burst", _BURST, "cburst", _BURST),
            )
        self._run(
            *("tc", "filter", "add", "dev", device, "parent", _ROOT, "protocol", "ip"),
            *("prio", str(mark.number), "u32", "match", "ip", "dst", peer, "flowid", number),
        )

    def _unshape(self, mark: Mark) -> None:
        number = f"{_ROOT}{mark.number:x}"
        for line in self._run("tc", "qdisc", "show").splitlines():
            words = line.split()
            if _ROOT not in words:
                continue
            device = words[words.index("dev") + 1]
            classes = self._run("tc", "class", "show", "dev", device).splitlines()
            if not [one for one in classes if number not in one.split()]:
                self._run("tc", "qdisc", "delete", "dev", device, "root")
                continue
            prio = ("prio", str(mark.number))
            self._try("tc", "filter", "delete", "dev", device, "parent", _ROOT, *prio)
            self._try("tc", "class", "delete", "dev", device, "classid", number)

    # iptables

    def _rules(self) -> list[tuple[str, str]]:
        """Each rule with its table."""
        found, table = [], ""
        for line in self._run("iptables-save").splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("-A "):
                found.append((table, line))
        return found

    def _restore(self, lines: Iterable[str]) -> None:
        """Change rules, all or none; each line begins with its table."""
        tables: dict[str, list[str]] = {}
        for line in lines:
            how, rest = line.split(" ", 1)
            if how == "-A":  # of ours: the table comes after it
                table, rest = rest.split(" ", 1)
                rest = f"-A {rest}"
            else:
                table = how
            tables.setdefault(table, []).append(rest)
        text = "".join(
            f"*{table}\n" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n"
            for table, rules in tables.items()
        )
        if text:
            self._run("iptables-restore", "--noflush", "--wait", "5", given=text)

    def _try(self, *words: str) -> None:
        try:
            self._run(*words)
        except SandboxError:
            pass

    def _run(self, *words: str, given: str | None = None) -> str:
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise SandboxError(f"{words[0]} failed in the namespace of process {self.pid}: {said}")
        return done.stdout


def _rules(mark: Mark, peer: str) -> list[str]:
    """The rules of a fault, each as ``TABLE CHAIN …``."""
    comment = f"-m comment --comment {mark.comment()}"
    out, back = f"mangle OUTPUT -d {peer} {comment}", f"mangle PREROUTING -s {peer} {comment}"
    match mark.toxic.kind:
        case "latency":
            queue = f"-j NFQUEUE --queue-num {mark.number} --queue-bypass"
            return [f"{out} {queue}", f"{back} {queue}"]
        case "blackhole":
            return [f"{out} -j DROP", f"{back} -j DROP"]
        case "partition":
            one_way = [f"{out} -j DROP"]
            return (
                one_way if mark.toxic.parameters.get("one_way") else [*one_way, f"{back} -j DROP"]
            )
        case "reset":
            reset = "-p tcp -j REJECT --reject-with tcp-reset"
            return [
                f"filter OUTPUT -d {peer} {reset} {comment}",
                f"filter INPUT -s {peer} {reset} {comment}",
            ]
        case "loss":
            share = mark.toxic.parameters["share"]
            lose = f"-m statistic --mode random --probability {share:.9f} -j DROP"
            return [f"{out} {lose}", f"{back} {lose}"]
        case "bandwidth":
            return [out]  # it only carries the mark; the shaping is tc's
    raise Unsupported(f"no {mark.toxic.kind} can be made on a link here")


def _mark_of(rule: str) -> Mark | None:
    words = shlex.split(rule)
    if "--comment" not in words:
        return None
    return Mark.read(words[words.index("--comment") + 1])


def _tag_of(rule: str) -> str:
    mark = _mark_of(rule)
    return mark.toxic.tag if mark is not None else ""
