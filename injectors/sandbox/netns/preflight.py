"""What of the network faults this machine can do: tried out, in a namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns.inside import PATH
from gameday.injectors.sandbox.netns.kinds import KINDS
from gameday.injectors.sandbox.netns.namespace import Namespace

__all__ = ["LATENCY", "lacks", "lacks_here", "missing"]

LATENCY = "latency by a packet queue, or by a proxy where the kernel has none"
"""How latency is made: netem is not used."""

_PROGRAMS = {
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "iptables-save": "iptables",
    "iptables-restore": "iptables",
    "ip": "iproute2",
    "tc": "iproute2",
    "ss": "iproute2",
}
_FURNISH = "ip link set lo up; ip link add try type ifb && ip link set try up"
_ROOM = f"{_FURNISH}; echo; exec cat"
_TRIED = {"rate": 1e6, "delay": 0.001, "share": 0.5, "jitter": 0.0, "refused": 1.0, "one_way": 0.0}


def lacks() -> dict[str, str]:
    """Kinds that this machine cannot do, each with the reason; changes nothing. Takes about a second."""
    why = missing()
    if why:
        return dict.fromkeys(KINDS, why)
    command = ["unshare", "--net", "--kill-child", "sh", "-c", _ROOM]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": PATH},
    ) as room:
        try:
            if not (room.stdout and room.stdout.readline()):
                said = room.stderr.read().decode(errors="replace") if room.stderr else ""
                return dict.fromkeys(KINDS, f"no network namespace can be made ({said.strip()})")
            return _tried(Namespace(room.pid))
        finally:
            room.kill()


def lacks_here(namespace: Namespace) -> dict[str, str]:
    """As `lacks`, in a namespace that we are in and nobody else uses."""
    why = missing()
    if why:
        return dict.fromkeys(KINDS, why)
    subprocess.run(["sh", "-c", _FURNISH], env={"PATH": PATH}, capture_output=True, check=False)
    return _tried(namespace)


def missing() -> str:
    """Why nothing of it works here, as far as can be seen at once; else empty."""
    if sys.platform != "linux":
        return "network faults on a process need Linux"
    if os.geteuid() != 0:
        return "network faults on a process need root on its host"
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=PATH) is None:
            return f"{program} is not on this machine (Debian: {package})"
    return ""


def _tried(namespace: Namespace) -> dict[str, str]:
    found = {}
    for name, kind in KINDS.items():
        tag = f"gameday-preflight-{os.getpid()}-{name}"
        figures = {parameter: _TRIED[parameter] for parameter in kind.parameters}
        try:
            namespace.add_now(Toxic(name, tag, figures), ["192.0.2.1"])
            if tag not in [one.toxic.tag for one in namespace.toxics_now()]:
                found[name] = "it was made, and then it was not there"
            namespace.remove_now(tag)
        except GamedayError as error:
            found[name] = error.message
    return found
