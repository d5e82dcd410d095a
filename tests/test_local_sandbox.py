"""The local sandbox, on real processes: what it holds, declares and runs, and what hands do to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from gameday.injectors.errors import UsageError
from gameday.injectors.models import Misfits
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local.cluster import Cluster, Health, Service
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import RemoveToxic, SignalProcess, StartSlot
from tests.small_sandbox import (
    _true,
    do,
    fetch,
    is_healthy,
    run,
    sandbox,
    service,
    small,
    until,
    watched,
    who,
)

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="the local sandbox needs Linux"),
]


def test_up_shows_slots_and_links_and_down_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            slots = await box.list_slots()
            assert [slot.name for slot in slots] == ["front-1", "back-1", "back-2"]
            assert {slot.state for slot in slots} == {"running"}
            assert {slot.health for slot in slots} == {"healthy"}
            assert (slots[0].owner, slots[0].tier, slots[0].restarts) == ("web team", "1", 0)
            assert slots[0].since > max(slot.since for slot in slots[1:]), "dependencies first"
            links = {link.name: link for link in await box.list_links()}
            assert set(links) == {"front-1->back-1", "front-1->back-2"}
            assert await fetch(links["front-1->back-2"].address) == (200, "back-2")
            assert await fetch(slots[0].address) == (200, "front-1")
            low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
            assert all(int(slot.address.split(":")[1]) < low for slot in slots)
            said = [data async for data in box.hands.logs("back-1", lines=20, follow=False)]
            assert b"listening" in b"".join(said)
            folder = Path(box.ref.address)
            assert folder.stat().st_mode & 0o777 == 0o700
            assert (folder / "socket").stat().st_mode & 0o777 == 0o600

    run(test)


def test_two_sandboxes_at_once_do_not_meet(tmp_path: Path) -> None:
    async def test() -> None:
        one = Cluster(name="one", services={"a": service(tmp_path)})
        async with sandbox(one, tmp_path) as first, sandbox(one, tmp_path) as second:
            addresses = {(await box.list_slots())[0].address for box in (first, second)}
            assert len(addresses) == 2

    run(test)


def test_restart_keeps_the_port_and_says_who_did_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            before = (await box.list_slots())[1]
            called = time.monotonic()
            async with watched(box) as seen:
                await box.hands.restart("back-1", by="fixer")
                await until(lambda: is_healthy(box, "back-1"))
            after = (await box.list_slots())[1]
            assert after.address == before.address
            assert after.process != before.process
            assert after.restarts == 1
            told = [(c.action, c.by) for c in seen if c.slot == "back-1"]
            # A check may fall in between the order to restart and the end of the process.
            assert [each for each in told if each != ("health", "")] == [
                ("restart", "fixer"),
                ("exited", ""),
                ("started", "fixer"),
            ]
            assert told[-1] == ("health", "")
            times = [change.at for change in seen]
            assert times == sorted(times)
            assert times[0] >= called

    run(test)


def endpoints(box: LocalSandbox, slot: str) -> list[str]:
    content = json.loads((Path(box.ref.address) / "endpoints" / f"{slot}.json").read_text())
    return [one["slot"] for one in content["back"]]


def test_scale_and_drain_reach_the_clients(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            assert endpoints(box, "front-1") == ["back-1", "back-2"]
            await box.hands.drain("back-1", by="fixer")
            assert endpoints(box, "front-1") == ["back-2"]
            assert (await box.list_slots())[1].drained
            await box.hands.drain("back-1", by="fixer", back=True)
            assert endpoints(box, "front-1") == ["back-1", "back-2"]
            await box.hands.scale("back", 3, by="fixer")
            assert endpoints(box, "front-1") == ["back-1", "back-2", "back-3"]
            link = next(x for x in await box.list_links() if x.target == "back-3")
            assert await fetch(link.address) == (200, "back-3")
            await box.hands.scale("back", 1, by="fixer")
            assert endpoints(box, "front-1") == ["back-1"]
            assert [slot.name for slot in await box.list_slots()] == ["front-1", "back-1"]
            assert await do(box, StartSlot("back-2")) == ("taken-over", "fixer")
            assert await do(box, RemoveToxic("front-1->back-2", "t")) == ("taken-over", "fixer")
            with pytest.raises(UsageError, match="no service"):
                await box.hands.scale("bak", 1, by="fixer")

    run(test)


def test_clients_are_told_to_reload(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            await box.hands.drain("back-1", by="fixer")

            async def reloaded() -> bool:
                return await execute(box, "front-1", "cat", "reloaded") == (0, "x")

            await until(reloaded)

    run(test)


async def execute(box: LocalSandbox, slot: str, *argv: str) -> tuple[int, str]:
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        code = await box.hands.execute(slot, argv, by="fixer", stdio=(null, writer, null))
    finally:
        os.close(writer)
        os.close(null)
    with os.fdopen(reader) as output:
        return code, output.read()


def test_exec_runs_as_the_slot_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            async with watched(box) as seen:
                code, output = await execute(
                    box, "back-2", "sh", "-c", "echo $GAMEDAY_SLOT; pwd; exit 3"
                )
            assert (code, output.split("\n")[0]) == (3, "back-2")
            assert output.split("\n")[1].endswith("/data/back-2")
            # On a busy machine a check of health may change its mind meanwhile.
            told = [(c.action, c.by) for c in seen if c.action != "health"]
            assert told == [("exec", "fixer")]
            with pytest.raises(UsageError, match="cannot be run"):
                await execute(box, "back-2", "no-such-program-here")
            with anyio.move_on_after(0.2):
                await execute(box, "back-2", "sleep", "77.7")
            await until(lambda: _true(not find_command("77.7")))

    run(test)


def find_command(word: str) -> list[int]:
    found = []
    for pid in process.processes():
        with contextlib.suppress(OSError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def test_a_machine_without_namespaces_lacks_only_sized_disks(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=False) as box:
            assert set(box.parts) == {"processes", "holds", "links", "cpu", "memory", "hands"}
            assert "namespaces" in box.lacks()["disk"]

    run(test)


def test_a_long_tag_still_fits_into_a_socket_path(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    one, two = (LocalSandbox.plan_ref(deep, "gameday-" + "y" * 200 + end) for end in "ab")
    assert len(one.address + "/socket") <= 107
    assert one.address != two.address
    assert LocalSandbox.plan_ref(deep, "gameday-" + "y" * 200 + "a") == one


# Declarations

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "at least one entry"),
    ({"Api": {"command": ["x"]}}, "cannot name a service"),
    ({"api-2": {"command": ["x"]}}, "not ending in a number"),
    ({"api": {"command": []}}, "at least one entry"),
    ({"api": {"command": ["x"], "links": ["store"]}}, "which is no service; there are: api"),
    ({"api": {"command": ["x"], "links": ["api"]}}, "circle: api -> api"),
    ({"api": {"command": ["x"], "stop": "SIGFOO"}}, "is not a signal"),
    ({"api": {"command": ["x"], "files": {"../x": ""}}}, "not a file inside"),
    ({"api": {"command": ["x"], "environment": {"GAMEDAY_SLOT": "x"}}}, "choose another"),
    ({"api": {"command": ["x"], "health": {}}}, "exactly one of http, tcp and command"),
    ({"api": {"command": ["x"], "health": {"http": "health"}}}, "text that matches"),
    ({"api": {"command": ["x"], "grace": 3}}, "no unit"),
    ({"api": {"command": ["x"], "replicas": 0}}, "at least 1"),
    ({"api": {"command": ["x"], "comand": 1}}, "`comand` is no key of services.api"),
]


@pytest.mark.parametrize(("services", "message"), WRONG)
def test_wrong_declarations_are_refused(services: dict[str, Any], message: str) -> None:
    with pytest.raises(Misfits, match=message):
        Cluster.of({"name": "x", "services": services})


def test_a_circle_of_links_is_shown() -> None:
    services = {name: {"command": ["x"], "links": [to]} for name, to in ("ab", "bc", "ca")}
    with pytest.raises(Misfits, match="circle: a -> b -> c -> a"):
        Cluster.of({"name": "x", "services": services})


def test_an_unknown_entry_is_refused() -> None:
    with pytest.raises(Misfits, match="entry names 'web'"):
        Cluster.of({"name": "x", "entry": "web", "services": {"a": {"command": ["x"]}}})


# Other people's programs

NGINX = """
daemon off; pid {{ data }}/nginx.pid; error_log stderr; worker_processes 2;
{% if root %}{% endif %}
events {}
http {
  access_log off;
  client_body_temp_path {{ data }}/b; proxy_temp_path {{ data }}/p; fastcgi_temp_path {{ data }}/f;
  uwsgi_temp_path {{ data }}/u; scgi_temp_path {{ data }}/s;
  server { listen {{ host }}:{{ port }}; location / { return 200 "{{ slot }}"; } }
}
""".replace("{% if root %}{% endif %}", "user root;" if os.geteuid() == 0 else "")
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend web
  bind {{ host }}:{{ port }}
  default_backend web
backend web
{%- for end in links.web %}
  server {{ end.slot }} {{ end.address }}
{%- endfor %}

"""


def installed(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} has to be installed where CI=true")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_nginx_and_haproxy(tmp_path: Path) -> None:
    nginx, haproxy = installed("nginx"), installed("haproxy")
    cluster = Cluster(
        name="debian",
        services={
            "balancer": Service(
                command=[haproxy, "-W", "-db", "-f", "{{ data }}/haproxy.cfg"],
                files={"haproxy.cfg": HAPROXY},
                links=["web"],
                health=Health(http="/"),
                reload="SIGUSR2",
                grace=0.5,
            ),
            "web": Service(
                command=[nginx, "-p", "{{ data }}", "-c", "{{ data }}/nginx.conf"],
                files={"nginx.conf": NGINX},
                replicas=2,
                health=Health(http="/"),
                stop="SIGQUIT",
                grace=0.5,
            ),
        },
    )

    async def test() -> None:
        async with sandbox(cluster, tmp_path) as box:
            front = (await box.list_slots())[0].address
            assert {(await fetch(front))[1] for _ in range(6)} == {"web-1", "web-2"}
            await box.hands.drain("web-1", by="fixer")

            async def drained() -> bool:
                return {(await fetch(front))[1] for _ in range(4)} == {"web-2"}

            await until(drained)

            victim = await who(box, "web-2")
            address = (await box.list_slots())[2].address
            await box.processes.signal(victim, signal.SIGSTOP)
            with pytest.raises(OSError, match="timed out"):
                await fetch(address, timeout=0.3)  # its workers are stopped too
            assert await do(box, SignalProcess("web-2", victim, signal.SIGCONT)) == ("put-back", "")
            assert await fetch(address) == (200, "web-2")
            await box.processes.signal(victim, signal.SIGKILL)
            await until(lambda: refuses(address))  # its workers end with it
            assert await do(box, StartSlot("web-2")) == ("put-back", "")
            await until(lambda: is_healthy(box, "web-2"))

    run(test)


async def refuses(address: str) -> bool:
    try:
        await fetch(address)
    except OSError as error:
        return "refused" in str(error)
    return False


@pytest.mark.parametrize("isolate", [True, False])
def test_redis(tmp_path: Path, isolate: bool) -> None:
    redis = installed("redis-server")
    command = [redis, "--port", "{{ port }}", "--bind", "{{ host }}", "--dir", "{{ data }}"]
    cluster = Cluster(
        name="redis", services={"redis": Service(command=command, health=Health(tcp=True))}
    )

    async def test() -> None:
        async with sandbox(cluster, tmp_path, isolate=isolate) as box:
            host, port = (await box.list_slots())[0].address.split(":")
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(b"SET a 1\r\nGET a\r\n")
                assert b"+OK" in await stream.receive()

    run(test)
