"""A Docker sandbox as a drill, a watchdog or a fixer's terminal holds it.

Light to import: the SDK comes with the first call to the engine.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

from gameday.injectors.errors import Refused, SandboxError, Unsupported
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import GONE, Change, Link, Sandbox, Slot
from gameday.injectors.sandbox.docker import by_hand, changes, files, parts, teardown, undoing
from gameday.injectors.sandbox.docker.compose import Compose
from gameday.injectors.sandbox.docker.containers import (
    OPT_IN,
    Container,
    links_of,
    read_container,
)
from gameday.injectors.sandbox.docker.deeds import Deeds
from gameday.injectors.sandbox.docker.elsewhere import Elsewhere
from gameday.injectors.sandbox.docker.engine import VARIABLES, Engine, surroundings
from gameday.injectors.sandbox.docker.limits import read_limit
from gameday.injectors.sandbox.docker.networks import connection_of
from gameday.injectors.sandbox.docker.places import Places, numbered
from gameday.injectors.sandbox.netns import preflight
from gameday.injectors.sandbox.netns.namespace import Namespace
from gameday.injectors.sandbox.ports import free_port
from gameday.injectors.undo import (
    ProcessId,
    SandboxRef,
    Step,
    StepResult,
)

__all__ = ["DockerSandbox", "why_outside"]

_HEALTHY_WITHIN = 300.0
_LOOK_EVERY = 0.1
_OURS_FOR = 5.0
"""Seconds in which what the engine tells may be what we did."""
_CHECK_WITHIN = 1.0
"""Seconds that a pause waits for a health check to end."""
_PORT = "GAMEDAY_PORT"
"""The variable by which a Compose file can publish a port that is free here, and stays."""
_NAMELESS = re.compile("[0-9a-f]{64}")
"""What the engine calls a volume that nobody named."""
_COMPOSE_LABELS = "com.docker.compose."
_MAY_HOLD_SECRETS = frozenset({"Cmd", "Entrypoint", "Healthcheck", "LogConfig"})
"""Parts of a configuration into which passwords and tokens get written."""
_STARTS_WITHIN = 45.0
"""Seconds between a restart that is noted and the start of the new process: the old one has to end."""
_SAME = {
    "start": ("restart", "start"),
    "kill": ("stop", "restart", "kill"),
    "connect": ("connect", "drain", "undrain"),
    "disconnect": ("disconnect", "drain", "undrain"),
}
_NETWORK = ("connect", "disconnect")


class DockerSandbox(Sandbox):
    """Containers of a Compose project, or with a label, that opted in by ``gameday.sandbox=true``.

    Attributes:
        owners: Who a helper of a fault lives with: the drill's runner and its watchdog.
        outside: Why the networks of containers cannot be entered from here, so that helper
            containers do it; empty if they can.
        helping: Held by whoever starts, uses or removes a helper container.
    """

    def __init__(
        self, ref: SandboxRef, lacks: Mapping[str, str] | None = None, outside: str | None = None
    ) -> None:
        self.ref = ref
        self.where = {name: ref.options[name] for name in VARIABLES if name in ref.options}
        self.engine = Engine(self.where)
        self.tag = ref.options["tag"]
        self.project = ref.options.get("project", "")
        self.ours = ref.options.get("brought up") == "yes"
        self.deeds = Deeds(ref.options.get("deeds", ""))
        self.owners: tuple[ProcessId, ...] = ()
        self._fills: dict[ProcessId, Container] = {}
        self._did: list[tuple[str, str, float]] = []
        self._noticed: dict[tuple[str, str], str] = {}
        self._listing = anyio.Lock()
        self._listed: list[Container] = []
        self._listed_at = 0.0
        self._places = Places()
        self._lacks = dict(lacks or {})
        self.outside = why_outside(self.engine) if outside is None else outside
        self.helping = anyio.Lock()
        every = parts.make_parts(self)
        self.parts = {name: part for name, part in every.items() if name not in self._lacks}

    # Making and finding one

    @classmethod
    def plan_ref(
        cls,
        tag: str,
        *,
        project: str = "",
        label: str = "",
        bring_up: bool = False,
        deeds: Path | None = None,
        where: Mapping[str, str] | None = None,
    ) -> SandboxRef:
        """How a sandbox will be found; nothing is touched yet.

        Args:
            tag: Unique; what everything that its drill makes carries.
            project: The Compose project; by default, one of its own is brought up under the tag.
            label: Instead of a project, a label that its containers carry: ``app=shop``.
            bring_up: Whether the project is ours to bring up and to remove.
            deeds: The file in which `gameday sandbox` notes who does what.
            where: Where the engine is; by default, as the environment says.
        """
        found = dict(surroundings() if where is None else where)
        project = project or ("" if label else f"gameday-{tag}")
        name = project or label
        options = {
            "tag": tag,
            "project": project,
            "label": label,
            "brought up": "yes" if bring_up else "no",
            "deeds": str(deeds or ""),
            **found,
        }
        identity = f"docker:{Engine(found).address}:{name}"
        return SandboxRef("docker", identity, name, options)

    @classmethod
    async def preflight(cls, project: str = "") -> None:
        """Whether a project can be brought up here; before anything is armed or touched.

        What is there of that name would be removed with it, so there must be nothing.

        Args:
            project: Its name, where it is not one of its own.

        Raises:
            Unsupported: if there is no Docker Compose.
            EngineSilent: if the engine does not answer.
            Refused: if there is something of that name already.
        """
        Compose.command()
        engine = Engine(surroundings())
        label = {"label": f"{teardown.PROJECT}={project or 'gameday'}"}
        found = [
            *await engine.call("containers", all=True, filters=label),
            *await engine.call("networks", filters=label),
            *((await engine.call("volumes", filters=label)).get("Volumes") or ()),
        ]
        if project and found:
            raise Refused(
                f"there is something of a Compose project {project!r} already, "
                "and it is not ours to remove",
                hint="Leave `compose` and `app` out to attach to it, or choose another `project`.",
            )

    @classmethod
    async def up(
        cls,
        ref: SandboxRef,
        *,
        files: Sequence[Path],
        replicas: Mapping[str, int] | None = None,
        environment: Mapping[str, Mapping[str, str]] | None = None,
        owners: Sequence[ProcessId] = (),
        log_dir: Path,
    ) -> DockerSandbox:
        """Bring a Compose project up, and wait until each container of it that can be hit is well.

        Args:
            ref: From `plan_ref`, with ``bring_up``, after `preflight`.
            files: Its Compose files.
            replicas: How many containers of a service, where others than the files say.
            environment: Variables to add, by service.
            log_dir: Where goes what Compose says.

        Raises:
            Refused: if no service opted in.
            SandboxError: if a container does not become healthy, with the end of its log.
                Nothing is left then.
        """
        box = cls(ref)
        marks = {"GAMEDAY_HELPER": box.tag, **box.engine.environment}
        if box.engine.near:  # a port that Docker chooses is another one after each restart
            marks[_PORT] = str(free_port(()))
        every = [*files, *_changed(environment or {}, log_dir)]
        compose = Compose(box.project, every, marks, log_dir / "compose.log")
        stands = False
        try:
            await compose.up(scale=replicas)
            await box._wait_healthy()
            stands = True
        finally:
            if not stands:
                with anyio.CancelScope(shield=True):
                    await teardown.tear_down(box)
        found = await cls.connect(ref)
        found.owners = tuple(owners)
        return found

    @classmethod
    async def connect(cls, ref: SandboxRef) -> DockerSandbox:
        """The sandbox that ``ref`` leads to; what its engine and this machine cannot do is found out."""
        box = cls(ref)
        try:
            why = await box._why_not_here()
        except SandboxError:
            return box  # undo steps find that out, and say it
        return cls(ref, _lacking(why), why or box.outside)

    async def _why_not_here(self) -> str:
        """Why the processes of the containers cannot be acted on from here; empty if they can."""
        if why := _why_elsewhere(self.engine):
            return why
        for one in await self.list_containers():
            if one.process is not None and not one.here:
                return f"the engine at {self.engine.address} runs in a machine of its own"
        return ""

    @staticmethod
    def lacks_beforehand() -> dict[str, str]:
        """Parts that a sandbox that is brought up here will lack, each with the reason."""
        return _lacking(_why_elsewhere(Engine(surroundings())))

    def network(self, container: Container, who: ProcessId) -> Namespace | Elsewhere:
        """The network of a container that runs, to put faults into: entered, or by helper container."""
        if self.outside:
            return Elsewhere(self, container)
        return Namespace(who, self.owners, {"GAMEDAY_SANDBOX": self.tag})

    def lacks(self) -> Mapping[str, str]:
        """Parts that cannot be had here, each with the reason."""
        return self._lacks

    # Looking at it

    async def list_containers(self) -> list[Container]:
        """Every container of the sandbox, running or not.

        As it was at some instant after the call: those who ask together share the answer.
        """
        asked = time.monotonic()
        async with self._listing:
            if self._listed_at <= asked:
                begun = time.monotonic()
                self._listed = await self._look()
                self._listed_at = begun
            return list(self._listed)

    async def _look(self) -> list[Container]:
        labels = [OPT_IN]
        if self.project:
            labels.append(f"{teardown.PROJECT}={self.project}")
        if label := self.ref.options.get("label", ""):
            labels.append(label)
        found: list[Container] = []

        async def look(container: str) -> None:
            inspected = await self.engine.find(container)
            if inspected is not None:
                found.append(read_container(inspected, near=self.engine.near, host=self._host))

        listed = await self.engine.call("containers", all=True, filters={"label": labels})
        async with anyio.create_task_group() as group:
            for one in listed:
                if one["Labels"].get("com.docker.compose.oneoff") != "True":
                    group.start_soon(look, one["Id"])
        every = self._numbered(found)
        self._fills.update((one.process, one) for one in every if one.process is not None)
        return every

    def _numbered(self, found: Sequence[Container]) -> list[Container]:
        """In the slots that they had before, whoever of the drill's processes saw them first."""
        if any(not one.is_numbered and one.id not in self._places.ids for one in found):
            self._places |= Places.kept(self.deeds)
        every = numbered(found, self._places)
        known = self._places.noting(every)
        if known != self._places:
            known.keep(self.deeds)
        self._places = known
        return every

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self.engine.near else urlsplit(self.engine.address).hostname or ""

    async def find(self, slot: str) -> Container | None:
        """The container that fills a slot, or filled it last."""
        return next((one for one in await self.list_containers() if one.slot == slot), None)

    async def filled_by(self, who: ProcessId) -> Container | None:
        """The container whose main process that is, as long as it runs."""
        known = self._fills.get(who)
        if known is None or not self.engine.near:
            await self.list_containers()
            return self._fills.get(who)
        return known if process.is_alive(who) else None

    async def list_slots(self) -> tuple[Slot, ...]:
        """Every slot, by service as first created, then by number."""
        now, wall = time.monotonic(), time.time()
        return tuple(
            one.as_slot(drained=_is_drained(one), now=now, wall=wall)
            for one in await self.list_containers()
        )

    async def list_links(self) -> tuple[Link, ...]:
        """Every way from a container to those of the services that it calls."""
        return links_of(await self.list_containers())

    async def fingerprint(self, slot: str) -> Mapping[str, str]:
        """What a fault could have changed at a slot or link, without identity."""
        if "->" in slot:
            return {"toxics": _show(await self.links.toxics(slot)) if "links" in self.parts else ""}
        slot, colon, path = slot.partition(":")
        if colon:
            return await files.fingerprint(await self.find(slot), path)
        container = await self.find(slot)
        if container is None:
            return dict(GONE)
        return {
            "state": container.state,
            **_each(_config(container), "configuration"),
            **_environment(container),
            **_each(_host_config(container), "host configuration"),
            "networks": _show(_networks(container)),
            "mounts": _show(sorted(map(_mount, container.inspected.get("Mounts") or ()))),
            "holds": _show(parts.holds_on(slot, self.tag)),
            **await self._of_the_host(container),
        }

    async def _of_the_host(self, container: Container) -> dict[str, str]:
        here = "cpu" not in self._lacks and container.here
        if container.process is None or not (here or self.outside):
            return {}
        network: Mapping[str, str] = {}
        if not container.why_no_network:  # else it changes with what others do there
            network = await self.network(container, container.process).fingerprint()
        if not here:
            return dict(network)
        masks = {process.affinity(member) for member in process.tree(container.process)} - {()}
        found = {"cpus": _show(sorted(masks))} | _nameless(network)
        for resource in ("cpu", "memory"):
            with suppress(Unsupported):  # so no fault changes it
                found[f"{resource} limit"] = read_limit(container, resource).value
        try:
            with parts.data_folder(container, container.process) as folder:
                found["files"] = _show(sorted(each.name for each in folder.iterdir()))
        except (SandboxError, Refused):
            pass  # no disk of its own, so no fault fills it
        return found

    async def changes(self) -> AsyncIterator[Change]:
        """What happens to the containers, from now on, and who is likely behind it."""
        async for change in changes.watch(self):
            yield change

    # Acting on it

    async def signal(self, container: Container, signal: int) -> None:
        """Signal a container's main process; stopping and continuing reach all of them."""
        import signal as signals

        match signal:
            case signals.SIGSTOP:
                await self._between_checks(container)
                self.remember("pause", container.slot)
                await self.engine.call("pause", container.id)
            case signals.SIGCONT:
                self.remember("unpause", container.slot)
                await self.engine.call("unpause", container.id)
            case _:
                self.remember("kill", container.slot)
                await self.engine.call("kill", container.id, signal=signal)

    async def _between_checks(self, container: Container) -> None:
        """Wait a moment until no command runs there that somebody executes, such as a health check.

        An engine that is just starting one in a container that is paused then lets neither go on
        before the check has met its time limit (seen with 20.10).
        """
        end = time.monotonic() + _CHECK_WITHIN
        while time.monotonic() < end:
            found = await self.engine.find(container.id)
            if not (found and found.get("ExecIDs")):
                break
            await anyio.sleep(0.01)

    async def start(self, container: Container) -> None:
        """Start a container that does not run."""
        self.remember("start", container.slot)
        with suppress(SandboxError):  # a full disk is no reason not to put back
            self.deeds.note("start", container.slot, "gameday")
        await self.engine.call("start", container.id)

    def remember(self, action: str, slot: str, at: float | None = None) -> None:
        """Note that something is not somebody else's doing when the engine tells it."""
        self._did.append((slot, action, time.monotonic() if at is None else at))

    def did(self, slot: str, action: str, at: float) -> bool:
        """Whether it was us, or somebody through us, who did that with a slot just then."""
        if parts.is_restarted(slot, self.tag):
            return True
        same = _SAME.get(action, (action,))
        return any(
            one == slot and what in same and abs(when - at) < _OURS_FOR + undone
            for one, what, when in self._did
            for undone in (30.0 if what in ("restart", "stop", "scale") else 0.0,)
        )

    def who_restarted(self, container: Container, *, since: float = 0.0) -> str:
        """Who is likely to have started what fills a slot now; empty if that is not known.

        Args:
            since: CLOCK_MONOTONIC before which it was certainly not started, seconds.
        """
        begun = time.monotonic() - (time.time() - container.started)
        for deed in reversed(self.deeds.every()):
            if deed.at < since:
                break
            if deed.slot == container.slot and deed.action in ("restart", "start"):
                # An engine elsewhere has a clock of its own.
                if self.engine.near and not -0.5 < begun - deed.at < _STARTS_WITHIN:
                    continue
                return deed.by
        return "the engine's restart policy" if container.restarts else ""

    def took_off(self, slot: str, network: str) -> bool:
        """Whether we took a slot off a network, and have not connected it again."""
        ours = [
            deed.action
            for deed in self.deeds.every()
            if (deed.slot, deed.detail) == (slot, network) and deed.action in _NETWORK
        ]
        return bool(ours) and ours[-1] == "disconnect"

    def noticed(self, action: str, slot: str, network: str) -> None:
        """Note what a fixer did with Docker to a slot in a network."""
        self._noticed[slot, network] = action

    def who_connected(self, slot: str, network: str) -> str:
        """Who connected a slot to a network with Docker; empty if that is not known."""
        return "fixer" if self._noticed.get((slot, network)) == "connect" else ""

    def who_stopped(self, slot: str) -> str:
        """Who stopped a slot by `gameday sandbox stop`, if that was the last deed there."""
        others = ("exec", *_NETWORK)
        last = [
            deed for deed in self.deeds.every() if deed.slot == slot and deed.action not in others
        ]
        return last[-1].by if last and last[-1].action == "stop" else ""

    # Putting back

    async def run_step(self, step: Step) -> StepResult:
        """Carry out one undo step; see `undoing` for how each of them ends."""
        return await undoing.run_step(step, self)

    async def aclose(self) -> None:
        """Let go of the engine."""
        self.engine.close()

    @classmethod
    def by_hand(cls, step: Step, ref: SandboxRef) -> str:
        """With Docker's own command, where there is one."""
        return by_hand.command(step, ref, super().by_hand)

    async def _wait_healthy(self) -> None:
        with anyio.move_on_after(_HEALTHY_WITHIN):
            while True:
                containers = await self.list_containers()
                if not containers:
                    raise Refused(
                        f"no container of {self.project} opted in, so nothing may be broken there",
                        hint=f"Give each service that may be broken the label {OPT_IN}.",
                    )
                for one in containers:
                    if one.state == "exited" or one.health == "unhealthy":
                        await self._did_not_start(one)
                checked = (one.health == "healthy" or not _has_check(one) for one in containers)
                if all(checked) and all(one.state == "running" for one in containers):
                    return
                await anyio.sleep(_LOOK_EVERY)
        raise SandboxError(f"{self.project} is not healthy after {_HEALTHY_WITHIN:g} s")

    async def _did_not_start(self, container: Container) -> None:
        said = await self.engine.call("logs", container.id, tail=20)
        lines = bytes(said).decode("utf-8", "replace").strip().splitlines()
        code = container.inspected["State"].get("ExitCode")
        how = f"ended with {code}" if container.state == "exited" else "is unhealthy"
        raise SandboxError(
            f"{container.slot} {how} while the sandbox started",
            hint="\n  ".join(lines) or "It wrote nothing.",
        )


def _why_elsewhere(engine: Engine) -> str:
    """Why nothing but the engine itself can act on its containers, as far as that is seen at once."""
    if not engine.near:
        return f"the engine at {engine.address} runs on another machine"
    if os.geteuid() != 0:
        return "it takes root on the engine's machine to act on a container's processes"
    return ""


def why_outside(engine: Engine) -> str:
    """Why the networks of its containers cannot be entered from here, as far as is seen at once."""
    return _why_elsewhere(engine) or preflight.missing()


def _lacking(why: str) -> dict[str, str]:
    """What is lacking for that reason."""
    return dict.fromkeys(parts.HOST_PARTS, why) if why else {}


def _changed(environment: Mapping[str, Mapping[str, str]], folder: Path) -> list[Path]:
    """A Compose file that adds to the services' environment."""
    if not environment:
        return []
    path = folder / "compose.override.json"  # JSON is YAML
    added = {"services": {name: {"environment": dict(of)} for name, of in environment.items()}}
    path.write_bytes(msgspec.json.encode(added))
    return [path]


def _has_check(container: Container) -> bool:
    return "Health" in container.inspected["State"]


def _is_drained(container: Container) -> bool:
    if "com.docker.compose.service" not in container.labels:
        return False
    networks = container.inspected["NetworkSettings"].get("Networks") or {}
    named = [net for net in networks.values() if net.get("Aliases")]
    return bool(named) and not any(container.service in net["Aliases"] for net in named)


def _networks(container: Container) -> dict[str, Any]:
    """The order in which somebody gave the aliases means nothing."""
    networks = container.inspected["NetworkSettings"].get("Networks") or {}
    found = {name: connection_of(net, container.id) for name, net in sorted(networks.items())}
    return {
        name: msgspec.structs.replace(how, aliases=tuple(sorted(how.aliases)))
        for name, how in found.items()
    }


def _nameless(network: Mapping[str, str]) -> dict[str, str]:
    """Without the names of interfaces: one that is connected again is ``eth1`` where it was ``eth0``."""
    loopback = "tc lo"
    others = sorted(
        of for name, of in network.items() if name.startswith("tc ") and name != loopback
    )
    kept = {
        name: of for name, of in network.items() if name == loopback or not name.startswith("tc ")
    }
    return kept | {"tc": _show(others)}


def _config(container: Container) -> dict[str, Any]:
    """Without identity and environment, and without Compose's own labels: they tell who made it when."""
    config = _told(container.inspected["Config"])
    labels = {
        name: value
        for name, value in container.labels.items()
        if not name.startswith(_COMPOSE_LABELS)
    }
    unlike = ("Hostname", "Image", "Env")
    return {key: of for key, of in config.items() if key not in unlike} | {"Labels": labels}


def _environment(container: Container) -> dict[str, str]:
    """The names of the variables; of their values a digest of all, as secrets may be among them."""
    variables = sorted(container.inspected["Config"].get("Env") or ())
    if not variables:
        return {}
    names = [variable.partition("=")[0] for variable in variables]
    return {"environment": _show(names), "values of the environment": _digest(variables)}


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """With a digest for what may hold a secret: fingerprints are recorded and shown."""
    return {
        key: _digest(value) if value and key in _MAY_HOLD_SECRETS else value
        for key, value in config.items()
    }


def _digest(value: object) -> str:
    return f"sha256 {hashlib.sha256(_show(value).encode()).hexdigest()}"


def _host_config(container: Container) -> dict[str, Any]:
    """Without volumes that have no name: a container that is made again must name them."""
    host = _told(container.inspected["HostConfig"])
    nameless = {
        mount["Name"]
        for mount in container.inspected.get("Mounts") or ()
        if mount["Type"] == "volume" and _NAMELESS.fullmatch(mount["Name"])
    }
    binds = host.get("Binds") or ()
    host["Binds"] = [bind for bind in binds if str(bind).partition(":")[0] not in nameless]
    host["Mounts"] = [
        {key: value for key, value in mount.items() if key != "Source" or value not in nameless}
        for mount in host.get("Mounts") or ()
    ]
    return host


def _mount(mount: Mapping[str, Any]) -> str:
    return f"{mount['Type']} {mount.get('Name') or mount.get('Source', '')} {mount['Destination']}"


def _each(found: Mapping[str, Any], title: str, *but: str) -> dict[str, str]:
    """Each setting by itself, so that a difference can be read; those that are not set are left out."""
    set_ = {key: value for key, value in found.items() if value and key not in but}
    return {f"{title} {key}": _show(value) for key, value in set_.items()}


def _show(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
