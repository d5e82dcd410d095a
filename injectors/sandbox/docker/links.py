"""The parts ``links`` and ``packets`` of a Docker sandbox: faults in the containers' own networks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from gameday.injectors.errors import SandboxError, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.teardown import end_helpers
from gameday.injectors.sandbox.netns import Mark, Namespace
from gameday.injectors.undo import ProcessId

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Links", "clear"]

_READY_WITHIN = 5.0
_children: list[subprocess.Popen[bytes]] = []


class Links:
    """Both parts: what acts on connections elsewhere acts on packets here."""

    def __init__(self, box: DockerSandbox) -> None:
        self._box = box

    async def add(self, link: str, toxic: Toxic) -> None:
        """Put a network fault on a link: in the network of the container where it begins."""
        source, target = await _ends(link, self._box)
        mark = Mark(link, toxic)
        here, there = _shared(source, target)
        await anyio.to_thread.run_sync(
            partial(_add, mark, (_pid(source), here), (_pid(target), there), self._box)
        )

    async def toxics(self, link: str) -> tuple[Toxic, ...]:
        """What is in force on a link, as the kernel reports it."""
        source, _ = await _ends(link, self._box)
        if source.process is None:
            return ()
        marks = await anyio.to_thread.run_sync(Namespace(source.process.pid).marks)
        found = [mark.toxic for mark in marks if mark.link == link]
        return tuple(toxic for toxic in found if toxic.kind != "latency" or _delayed_by(toxic.tag))


async def clear(link: str, tag: str, box: DockerSandbox) -> bool:
    """Take off what carries the tag, at both ends; False if nothing did."""
    names = link.split("->")
    found = [one for one in await box.containers() if one.slot in names and one.process]

    def remove() -> bool:
        gone = [Namespace(_pid(one)).remove(tag) for one in found]
        return end_helpers(tag) | any(gone)

    return await anyio.to_thread.run_sync(remove)


async def _ends(link: str, box: DockerSandbox) -> tuple[Container, Container]:
    source, _, target = link.partition("->")
    slots = {one.slot: one for one in await box.containers()}
    if source not in slots or target not in slots:
        raise UsageError(f"there is no link {link!r}")
    return slots[source], slots[target]


def _pid(container: Container) -> int:
    if container.process is None:
        raise SandboxError(f"nobody fills {container.slot}")
    return container.process.pid


def _shared(source: Container, target: Container) -> tuple[list[str], list[str]]:
    """The addresses of each in the networks that both are in."""
    networks = [name for name in source.addresses if name in target.addresses]
    if not networks:
        raise Unsupported(
            f"{source.slot} and {target.slot} are in no network together",
            hint="A fault on a link acts between addresses; one of them may use the host's network.",
        )
    return (
        [source.addresses[name] for name in networks],
        [target.addresses[name] for name in networks],
    )


def _add(
    mark: Mark, source: tuple[int, list[str]], target: tuple[int, list[str]], box: DockerSandbox
) -> None:
    (here, ours), (there, theirs) = source, target
    if mark.toxic.kind == "latency":
        _start_queue(mark, here, box)
    Namespace(here).add(mark, theirs)
    if mark.toxic.kind == "bandwidth":
        Namespace(there).add(mark, ours)


def _start_queue(mark: Mark, pid: int, box: DockerSandbox) -> None:
    toxic = mark.toxic
    owners: Sequence[ProcessId] = box.owners
    command = [
        *("nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-P", "-m"),
        *("gameday.injectors.sandbox.packet_queue", str(mark.number)),
        *(str(toxic.parameters.get(key, 0.0)) for key in ("delay", "jitter")),
        msgspec.json.encode(owners).decode(),
    ]
    marks = {"GAMEDAY_HELPER": toxic.tag, "GAMEDAY_SANDBOX": box.tag}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | marks,
        start_new_session=True,
    )
    _children[:] = [other for other in _children if other.poll() is None] + [child]
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        if child.stdout.readline() != b"ready\n":
            said = child.stderr.read().decode("utf-8", "replace").strip().splitlines()
            raise Unsupported(
                f"packets cannot be delayed here: {said[-1] if said else 'the helper ended'}",
                hint="The kernel needs nfnetlink_queue and xt_NFQUEUE.",
            )
    finally:
        child.stdout.close()
        child.stderr.close()


def _delayed_by(tag: str) -> bool:
    return bool(process.find_by_environment("GAMEDAY_HELPER", tag))
