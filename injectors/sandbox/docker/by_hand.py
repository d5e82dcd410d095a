"""Undo steps as commands that a person runs: Docker's own, where there is one."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec

from gameday.injectors.sandbox.docker import teardown
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.injectors.sandbox.docker.deeds import Deeds
from gameday.injectors.sandbox.docker.networks import Connection
from gameday.injectors.sandbox.docker.places import Places
from gameday.injectors.undo import (
    ClearHold,
    ConnectNetwork,
    DeleteFile,
    EndHelpers,
    RemoveToxic,
    RestoreAffinity,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    TearDown,
)

__all__ = ["command"]


def command(step: Step, ref: SandboxRef, usual: Callable[[Step, SandboxRef], str]) -> str:
    """The shell command that does ``step``; ``usual``: what does it on any sandbox."""
    host = ref.options.get("DOCKER_HOST", "")
    there = f"DOCKER_HOST={shlex.quote(host)} " if host else ""
    docker = f"{there}docker"
    match step:
        case SignalProcess(slot):
            return f"{docker} unpause {_pick(docker, slot, ref)}"
        case StartSlot(slot):
            return f"{docker} start {_pick(docker, slot, ref)}"
        case ClearHold(slot):
            ends = usual(EndHelpers(slot, step.tag), ref)
            return f"{ends}; {docker} start {_pick(docker, slot, ref)}"
        case RestoreAffinity(slot, _, cpus):
            every = f"$({docker} top {_pick(docker, slot, ref)} -eo pid | tail -n +2)"
            return f"for p in {every}; do taskset -a -cp {','.join(map(str, cpus))} $p; done"
        case EndHelpers(_, tag):
            group = f"find /sys/fs/cgroup -depth -type d -name {shlex.quote(tag)}"
            return f"{usual(step, ref)}; sleep 1; {group} -exec rmdir {{}} \\;"
        case RemoveToxic():
            return there + usual(step, ref)
        case DeleteFile(slot, name):
            label = '{{index .Config.Labels "gameday.data"}}'
            container = _pick(docker, slot, ref)
            # From outside: the image may hold nothing that deletes a file.
            asked = shlex.quote(f"/proc/{{{{.State.Pid}}}}/root{label}")
            folder = f"$({docker} inspect --format {asked} {container})"
            return f"rm -f {folder}/{shlex.quote(name)}"
        case ConnectNetwork(slot, network, settings):
            how = _connect_options(msgspec.json.decode(settings, type=Connection))
            container = _pick(docker, slot, ref)
            return f"{docker} network connect{how} {shlex.quote(network)} {container}"
        case TearDown():
            project = shlex.quote(ref.options.get("project", ref.address))
            return f"{docker} compose --project-name {project} down --volumes"
    return usual(step, ref)


def _pick(docker: str, slot: str, ref: SandboxRef) -> str:
    """A shell expression for the container that fills a slot."""
    service, _, number = slot.rpartition("-")
    project = ref.options.get("project", "")
    if not project:
        if one := Places.kept(Deeds(ref.options.get("deeds", ""))).filler(slot):
            return one[:12]
        chosen = [each for each in (ref.options.get("label", ""), OPT_IN) if each]
        words = " ".join(f"--filter {shlex.quote(f'label={one}')}" for one in chosen)
        form = '{{or (.Label "gameday.service") .Names}} {{.Names}} {{.ID}}'
        listed = f"{docker} ps -a {words} --format '{form}' | LC_ALL=C sort"
        ours = f"awk -v s={shlex.quote(service)} '$1 == s {{print $3}}'"
        return f"$({listed} | {ours} | sed -n {shlex.quote(number + 'p')})"
    filters = [
        f"label={teardown.PROJECT}={project}",
        f"label=com.docker.compose.service={service}",
        f"label=com.docker.compose.container-number={number}",
    ]
    words = " ".join(f"--filter {shlex.quote(one)}" for one in filters)
    return f"$({docker} ps -aq {words})"


def _connect_options(how: Connection) -> str:
    """Options of `docker network connect`."""
    words = [f"--alias {shlex.quote(one)}" for one in how.aliases]
    words += [f"--link {shlex.quote(one)}" for one in how.links]
    words += [f"--link-local-ip {shlex.quote(one)}" for one in how.link_local_ips]
    words += [f"--driver-opt {shlex.quote(f'{k}={v}')}" for k, v in how.driver_opt.items()]
    for option, address in (("--ip", how.ipv4_address), ("--ip6", how.ipv6_address)):
        words += [f"{option} {shlex.quote(address)}"] if address else []
    return "".join(f" {word}" for word in words)
