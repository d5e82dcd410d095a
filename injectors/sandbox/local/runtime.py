"""The running cluster: its replicas, the links between them, and everything done to them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox import disk, ports, process
from gameday.injectors.sandbox.base import Change, Link, Toxic
from gameday.injectors.sandbox.local import cgroups, namespaces, orders, templates
from gameday.injectors.sandbox.local.burners import Burners
from gameday.injectors.sandbox.local.child import Child
from gameday.injectors.sandbox.local.orders import Ensured, ServiceSpec, Spec
from gameday.injectors.sandbox.local.replica import Replica
from gameday.injectors.sandbox.proxy import LinkProxy
from gameday.injectors.undo import ProcessId

__all__ = ["Runtime"]

_TEARDOWN_GRACE = 1.0
_GROUPS_WITHIN = 0.5


class Runtime:
    """What the supervisor holds.

    Args:
        run: The sandbox's run folder.
        no_disks: Why there are no sized disks; empty if there are.
    """

    def __init__(self, spec: Spec, run: Path, no_disks: str) -> None:
        self.spec, self.run, self.no_disks = spec, run, no_disks
        self.replicas: dict[str, Replica] = {}
        self.proxies: dict[tuple[str, str], LinkProxy] = {}
        self.watchers: set[asyncio.Queue[Change]] = set()
        self.over = asyncio.Event()
        self._services = {service.name: service for service in spec.services}
        self.burners = Burners(spec.tag)
        self._taken: set[int] = set()
        self._scaled_by: dict[str, str] = {}
        self._scaling = asyncio.Lock()
        apart = os.environ.get("GAMEDAY_ISOLATE") != "0"
        self._groups = self._make_groups() if apart else None
        Child.beside = self._groups.beside if self._groups is not None else None

    def _make_groups(self) -> cgroups.Groups | None:
        """Make the control groups; first write down where: others look from a group of their own."""
        found = cgroups.Groups.find(self.spec.tag)
        if found is not None:
            self._write(orders.GROUPS, str(found[0]))
        return cgroups.Groups.make(self.spec.tag)

    def end(self, why: str) -> None:
        """Let it be over; the first reason goes into the supervisor's log."""
        if not self.over.is_set():
            print(f"the sandbox ends: {why}", file=sys.stderr, flush=True)
            self.over.set()

    # Changes

    def publish(
        self,
        action: str,
        slot: str = "",
        by: str = "",
        detail: str = "",
        *,
        at: float | None = None,
    ) -> None:
        """Tell everybody who watches."""
        change = Change(time.monotonic() if at is None else at, action, slot, by, detail)
        if action in ("started", "exited") and Child.bound:
            children = (replica.child for replica in self.replicas.values())
            self.note_processes(child.identity for child in children if child is not None)
        for watcher in self.watchers:
            watcher.put_nowait(change)

    def note_processes(self, running: Iterable[ProcessId]) -> None:
        """Write down who runs: without a pid namespace, leftovers are found again by it."""
        self._write(orders.PROCESSES, list(running))

    def _write(self, name: str, what: object) -> None:
        fresh = self.run / f"{name}.new"
        fresh.write_bytes(msgspec.json.encode(what))
        fresh.replace(self.run / name)

    def lacks(self) -> dict[str, str]:
        """Parts that it cannot have on this machine, with the reason."""
        return {"disk": self.no_disks} if self.no_disks else {}

    # Replicas and links

    def slots(self) -> list[Replica]:
        """Every replica, by service as declared, then by number."""
        order = {name: place for place, name in enumerate(self._services)}
        return sorted(self.replicas.values(), key=lambda r: (order[r.service.name], r.number))

    def find(self, slot: str) -> Replica:
        """The replica of that name.

        Raises:
            UsageError: if there is none.
        """
        try:
            return self.replicas[slot]
        except KeyError:
            known = ", ".join(replica.name for replica in self.slots())
            raise UsageError(f"there is no slot {slot!r}", hint=f"There are: {known}.") from None

    def of(self, service: str) -> list[Replica]:
        """The replicas of a service, by number."""
        return [replica for replica in self.slots() if replica.service.name == service]

    def _add(self, service: ServiceSpec, number: int) -> Replica:
        name = f"{service.name}-{number}"
        data = self.run / "data" / name
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        if not self.no_disks:
            namespaces.mount_disk(data, self.spec.disk)
        port = ports.free_port(self._taken)
        self._taken.add(port)
        self.replicas[name] = replica = Replica(
            service,
            number,
            tag=self.spec.tag,
            port=port,
            data=data,
            endpoints=self.run / "endpoints" / f"{name}.json",
            folder=self.spec.folder,
            log=Path(self.spec.log_dir) / f"{name}.log",
            group=self._groups.of(name) if self._groups is not None else None,
            publish=self.publish,
        )
        return replica

    async def _drop(self, replica: Replica) -> None:
        del self.replicas[replica.name]
        for ends in [ends for ends in self.proxies if replica.name in ends]:
            await self.proxies.pop(ends).close()
        if not self.no_disks:
            namespaces.unmount(replica.data)
        shutil.rmtree(replica.data, ignore_errors=True)
        replica.endpoints.unlink(missing_ok=True)

    async def _connect(self) -> None:
        """Make the proxies that are missing: one for each replica that calls and each that is called."""
        for client in self.slots():
            for service in client.service.links:
                for server in self.of(service):
                    ends = (client.name, server.name)
                    if ends not in self.proxies:
                        self.proxies[ends] = await self._proxy(*ends)

    async def _proxy(self, client: str, server: str) -> LinkProxy:
        replica = self.replicas[server]
        proxy = LinkProxy(f"{client}->{server}", upstream=lambda: (templates.HOST, replica.port))
        await proxy.start()
        return proxy

    def links(self) -> list[Link]:
        """Every link."""
        return [
            Link(f"{client}->{server}", client, server, _address(self.proxies[client, server]))
            for client, server in self.proxies
        ]

    def _proxy_of(self, link: str) -> LinkProxy:
        client, _, server = link.partition("->")
        try:
            return self.proxies[client, server]
        except KeyError:
            known = ", ".join(link.name for link in self.links()) or "none"
            raise UsageError(f"there is no link {link!r}", hint=f"There are: {known}.") from None

    def _ends(self, client: Replica, service: str) -> list[dict[str, Any]]:
        ends = []
        for server in self.of(service):
            proxy = self.proxies.get((client.name, server.name))
            if proxy is None or proxy.address is None or server.drained:
                continue
            host, port = proxy.address
            address = f"{host}:{port}"
            ends.append({"slot": server.name, "address": address, "host": host, "port": port})
        return ends

    def tell_clients(self, *, start: bool = False) -> None:
        """Write what each replica calls; tell those for which it changed."""
        problems = []
        for client in self.slots():
            links = {name: self._ends(client, name) for name in client.service.links}
            if links == client.links and client.endpoints.exists():
                continue
            client.links = links
            client.endpoints.parent.mkdir(mode=0o700, exist_ok=True)
            fresh = client.endpoints.with_suffix(".new")
            fresh.write_text(json.dumps(links))
            fresh.replace(client.endpoints)
            try:
                if not start:
                    client.write_files()
                    client.reload()
            except SandboxError as error:
                problems.append(error.message)
        if problems:
            raise SandboxError("; ".join(problems))

    # Up and down

    async def prepare(self) -> None:
        """Make every slot, disk and link; start nothing yet."""
        for service in self.spec.services:
            for number in range(1, service.replicas + 1):
                self._add(service, number)
        await self._connect()
        self.tell_clients(start=True)

    async def up(self) -> None:
        """Start every service after those that it calls, each as soon as those are healthy.

        Raises:
            SandboxError: if a replica does not become healthy.
        """
        healthy = {name: asyncio.Event() for name in self._services}

        async def start(service: ServiceSpec) -> None:
            for other in service.links:
                await healthy[other].wait()
            async with asyncio.TaskGroup() as group:
                for replica in self.of(service.name):
                    group.create_task(replica.start_first(self._taken))
            healthy[service.name].set()

        try:
            async with asyncio.TaskGroup() as group:
                for service in self.spec.services:
                    group.create_task(start(service))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def down(self) -> None:
        """Stop everything, briefly politely."""
        self.burners.kill()
        try:
            async with asyncio.TaskGroup() as group:
                for replica in self.replicas.values():
                    status = replica.status()
                    if status.state == "paused":
                        replica.kill()
                    elif status.state == "running":
                        grace = min(replica.service.grace, _TEARDOWN_GRACE)
                        group.create_task(replica.stop("gameday", grace=grace))
        finally:  # even if that took too long: none may start again
            for replica in self.replicas.values():
                replica.kill()
        for proxy in self.proxies.values():
            await proxy.close()
        for replica in list(self.replicas.values()):
            if not self.no_disks:
                namespaces.unmount(replica.data)

    async def forget_groups(self) -> bool:
        """Take the control groups away, as soon as the killed have left them; False if they stay."""
        deadline = time.monotonic() + _GROUPS_WITHIN
        while self._groups is not None and not self._groups.remove():
            if time.monotonic() > deadline:
                print("the control groups cannot be removed", file=sys.stderr)
                return False
            await asyncio.sleep(0.005)
        return True

    # Hands

    async def restart(self, slot: str, by: str) -> None:
        """Stop the slot's process and start a new one."""
        replica = self.find(slot)
        self.publish("restart", slot, by)
        async with replica.lock:
            await replica.stop(by)
            replica.start(by)

    async def stop(self, slot: str, by: str) -> None:
        """Stop the slot's process and leave it stopped."""
        replica = self.find(slot)
        self.publish("stop", slot, by)
        async with replica.lock:
            await replica.stop(by)

    async def drain(self, slot: str, by: str, back: bool) -> None:
        """Take the slot out of every link that leads to it, or put it back."""
        replica = self.find(slot)
        self.publish("undrain" if back else "drain", slot, by)
        replica.drained = not back
        self.tell_clients()

    async def scale(self, service: str, replicas: int, by: str) -> None:
        """Start or stop replicas."""
        if service not in self._services:
            known = ", ".join(self._services)
            raise UsageError(f"there is no service {service!r}", hint=f"There are: {known}.")
        if not 0 <= replicas <= 100:
            raise UsageError(f"{replicas} replicas cannot be; choose 0 to 100")
        async with self._scaling:
            now = self.of(service)
            self.publish("scale", service, by, f"{len(now)} to {replicas}")
            for replica in now[replicas:]:
                self._scaled_by[replica.name] = by
                replica.drained = True
            self.tell_clients()
            async with asyncio.TaskGroup() as group:
                for replica in now[replicas:]:
                    group.create_task(self._retire(replica, by))
            await self._grow(self._services[service], len(now), replicas, by)

    async def _retire(self, replica: Replica, by: str) -> None:
        async with replica.lock:
            await replica.stop(by)
        await self._drop(replica)

    async def _grow(self, service: ServiceSpec, now: int, wanted: int, by: str) -> None:
        fresh = [self._add(service, number) for number in range(now + 1, wanted + 1)]
        if not fresh:
            return
        for replica in fresh:
            replica.drained = True  # until it can answer
            self._scaled_by.pop(replica.name, None)
        await self._connect()
        self.tell_clients()
        try:
            async with asyncio.TaskGroup() as group:
                for replica in fresh:
                    group.create_task(replica.start_first(self._taken, by))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            for replica in fresh:
                replica.drained = False
            self.tell_clients()

    async def execute(
        self, slot: str, argv: tuple[str, ...], by: str, stdio: tuple[int, int, int]
    ) -> Child:
        """Run a command as the slot's processes run."""
        replica = self.find(slot)
        self.publish("exec", slot, by, " ".join(argv))
        try:
            return Child(
                argv, environment=replica.environment(), folder=str(replica.data), stdio=stdio
            )
        except OSError as error:
            raise UsageError(f"{argv[0]} cannot be run: {error.strerror}") from error

    # Faults on processes

    async def ensure(self, slot: str, *, held: bool = False) -> Ensured:
        """Start the slot's process if none runs and nobody stopped it on purpose."""
        replica = self.replicas.get(slot)
        if replica is None:
            return Ensured(False, by=self._scaled_by.get(slot, ""), gone=True, held=held)
        async with replica.lock:
            status = replica.status()
            if status.process is not None and not process.is_dying(status.process):
                return Ensured(False, status.restarts, replica.by, held=held)
            if not replica.wanted and not held:
                return Ensured(False, status.restarts, replica.by, gone=True)
            if replica.child is not None:
                await replica.child.wait(process.DIES_WITHIN)  # dead or dying, and not yet reaped
            if replica.running:
                raise process.still_dying(slot)
            replica.start("gameday")
        return Ensured(True, max(0, replica.starts - 1), "gameday", held=held)

    def who_started(self, slot: str) -> Ensured:
        """Whether a process fills the slot, and who started it."""
        replica = self.replicas.get(slot)
        if replica is None:
            return Ensured(False, by=self._scaled_by.get(slot, ""), gone=True)
        status = replica.status()
        return Ensured(status.process is not None, status.restarts, replica.by)

    def hold(self, slot: str, tag: str, uptime: float) -> None:
        """Crash the slot's process ``uptime`` seconds after each start."""
        self.find(slot).hold(tag, uptime)

    async def unhold(self, slot: str, tag: str) -> Ensured:
        """Lift a hold, and start the slot's process if none runs."""
        replica = self.replicas.get(slot)
        held = replica.unhold(tag) if replica is not None else False
        return await self.ensure(slot, held=held and replica is not None and replica.wanted)

    # Faults on links

    def add_toxic(self, link: str, toxic: Toxic) -> None:
        """Put a network fault on a link."""
        self._proxy_of(link).add(toxic)

    def clear_toxic(self, link: str, tag: str) -> Ensured:
        """Take a network fault off a link."""
        client, _, server = link.partition("->")
        proxy = self.proxies.get((client, server))
        if proxy is None:
            by = self._scaled_by.get(client) or self._scaled_by.get(server) or ""
            return Ensured(False, by=by, gone=True)
        return Ensured(proxy.remove(tag))

    def toxics(self, link: str) -> tuple[Toxic, ...]:
        """What is in force on a link."""
        return tuple(self._proxy_of(link).toxics)

    # Faults on the CPU

    async def burn(self, slot: str, tag: str, workers: int) -> None:
        """Pin the slot's process to one CPU and start burners there."""
        who = self.find(slot).status().process
        if who is None or not await self.burners.start(slot, who, tag, workers):
            raise SandboxError(f"nobody fills {slot}, so there is nothing to starve")

    # Faults on memory

    def memory_group(self, slot: str) -> tuple[str, ...]:
        """The limit's file in the slot's own control group; empty if it has none."""
        group = self.find(slot).group
        return (str(group.limit),) if group is not None else ()

    def cap_memory(self, slot: str, headroom: int) -> None:
        """Leave the slot's own control group ``headroom`` bytes beyond what it uses."""
        group = self.find(slot).group
        if group is None:
            raise SandboxError(f"{slot} has no control group of its own")
        group.limit.write_text(str(group.used() + headroom))

    # Faults on the disk

    async def fill(self, slot: str, name: str, leave: int) -> None:
        """Fill the slot's data folder until ``leave`` bytes are free."""
        if self.no_disks:
            raise SandboxError(f"{slot} has no disk of its own: {self.no_disks}")
        await disk.fill(disk.inside(self.find(slot).data, name), leave)

    def size(self, slot: str, name: str) -> int | None:
        """Size of a file in the slot's data folder; None if it is not there."""
        path = disk.inside(self.find(slot).data, name)
        return path.stat().st_size if path.exists() else None

    def free(self, slot: str) -> int:
        """Bytes free in the slot's data folder."""
        return disk.free(self.find(slot).data)

    def ours(self, slot: str) -> tuple[str, ...]:
        """Names of our own files in the slot's data folder."""
        return tuple(sorted(p.name for p in self.find(slot).data.glob("gameday-*")))

    def remove(self, slot: str, name: str) -> bool:
        """Delete a file of ours from the slot's data folder; False if it is not there."""
        replica = self.replicas.get(slot)
        if replica is None:
            return False
        try:
            disk.inside(replica.data, name).unlink()
        except FileNotFoundError:
            return False
        return True


def _address(proxy: LinkProxy) -> str:
    return "{}:{}".format(*proxy.address) if proxy.address is not None else ""


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several errors that happened at once."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
