"""What the engine says of containers, read as slots: pure."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.injectors.sandbox.docker.containers import Container, links_of, read_container
from gameday.injectors.sandbox.docker.engine import Engine, EngineSilent
from gameday.injectors.sandbox.docker.files import read_at_rest
from gameday.injectors.sandbox.docker.places import Places, numbered


def inspected(name: str, *, pid: int = 0, **labels: str) -> dict[str, Any]:
    running = pid > 0
    return {
        "Id": name.ljust(64, "0"),
        "Name": f"/{name}",
        "Created": f"2026-01-01T00:00:0{len(name) % 10}Z",
        "State": {
            "Status": "running" if running else "exited",
            "Running": running,
            "Paused": False,
            "Pid": pid,
            "StartedAt": "2026-01-01T00:00:00.123456789Z",
        },
        "RestartCount": 0,
        "Config": {"Labels": {key.replace("__", "."): value for key, value in labels.items()}},
        "HostConfig": {},
        "NetworkSettings": {"Networks": {"n": {"IPAddress": "172.20.0.2"}}, "Ports": {}},
    }


def composed(service: str, number: int, **labels: str) -> dict[str, Any]:
    made = inspected(f"shop-{service}-{number}", **labels)
    made["Config"]["Labels"] |= {
        "com.docker.compose.service": service,
        "com.docker.compose.container-number": str(number),
    }
    return made


def read(*found: dict[str, Any]) -> list[Any]:
    return numbered(read_container(one, near=True, host="127.0.0.1") for one in found)


def test_a_pid_of_an_engine_elsewhere_is_no_process_of_this_machine() -> None:
    """An engine in a machine of its own, behind a socket here: its pids name strangers here."""
    (one,) = read(inspected("web", pid=os.getpid()))
    assert one.process is not None
    assert not one.here
    assert one.process.boot_id == f"container {one.id}"


def test_slots_are_services_and_numbers() -> None:
    names = [one.slot for one in read(composed("api", 2), composed("api", 1), composed("db", 1))]
    assert sorted(names) == ["api-1", "api-2", "db-1"]
    assert [name for name in names if name.startswith("api")] == ["api-1", "api-2"]


def test_what_compose_did_not_make_is_numbered_by_name() -> None:
    found = read(
        inspected("b-web", gameday__service="web"),
        inspected("a-web", gameday__service="web"),
        inspected("lone"),
    )
    assert {one.slot: one.name for one in found} == {
        "web-1": "a-web",
        "web-2": "b-web",
        "lone-1": "lone",
    }


def web(id: str, name: str = "") -> Container:  # noqa: A002 - Docker's own word
    made = inspected(name or id, gameday__service="web") | {"Id": id}
    return read_container(made, near=True, host="127.0.0.1")


def slots(found: list[Container]) -> dict[str, str]:
    return {one.id: one.slot for one in found}


def test_a_container_that_vanishes_hands_its_slot_to_none_of_the_others() -> None:
    """What is looked at after it, by the same name, would else be another one."""
    a, b, c = map(web, "abc")
    known = Places().noting(numbered([a, b, c]))
    assert slots(numbered([web("0"), b, c], known)) == {"b": "web-2", "c": "web-3", "0": "web-4"}
    assert slots(numbered([a, b, c], known)) == {"a": "web-1", "b": "web-2", "c": "web-3"}
    assert known.filler("web-2") == "b"


def test_a_container_keeps_its_slot_under_another_name_and_hands_it_on_by_its_name() -> None:
    """As deployments do it: the old one is renamed, and a new one gets its name."""
    known = Places().noting(numbered([web("a"), web("b")]))
    both = numbered([web("a", "a-old"), web("new", "a"), web("b")], known)
    assert slots(both) == {"a": "web-1", "b": "web-2", "new": "web-3"}
    assert slots(numbered([web("new", "a"), web("b")], known)) == {"new": "web-1", "b": "web-2"}
    alone = read_container(inspected("lone"), near=True, host="127.0.0.1")
    known = Places().noting(numbered([alone]))
    renamed = read_container(inspected("other") | {"Id": alone.id}, near=True, host="127.0.0.1")
    assert slots(numbered([renamed], known)) == {alone.id: "lone-1"}


@pytest.mark.parametrize(
    ("labels", "links"),
    [
        ({"gameday__links": "db"}, {"api-1->db-1"}),
        ({"gameday__links": ""}, set()),
        ({"com__docker__compose__depends_on": "db:service_started:false"}, {"api-1->db-1"}),
        ({"gameday__links": "", "com__docker__compose__depends_on": "db:x:y"}, set()),
        ({"gameday__links": "nobody"}, set()),
    ],
)
def test_links_are_what_the_labels_say(labels: dict[str, str], links: set[str]) -> None:
    found = read(composed("api", 1, **labels), composed("db", 1, gameday__links=""))
    assert {link.name for link in links_of(found)} == links


@pytest.mark.parametrize(
    ("ports", "labels", "address"),
    [
        ({}, {}, ""),
        ({"8000/tcp": None}, {}, "172.20.0.2:8000"),
        ({"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}]}, {}, "127.0.0.1:32768"),
        ({"8000/tcp": [{"HostIp": "127.0.0.2", "HostPort": "9"}]}, {}, "127.0.0.2:9"),
        ({"8000/udp": [{"HostIp": "", "HostPort": "9"}]}, {}, ""),
        ({"80/tcp": None, "8080/tcp": None}, {"gameday__port": "8080"}, "172.20.0.2:8080"),
    ],
)
def test_where_a_slot_is_reached(ports: Any, labels: dict[str, str], address: str) -> None:
    made = inspected("web", **labels)
    made["NetworkSettings"]["Ports"] = ports
    assert read(made)[0].address == address


@pytest.mark.parametrize(
    ("status", "paused", "state"),
    [
        ("running", False, "running"),
        ("paused", True, "paused"),
        ("created", False, "starting"),
        ("restarting", False, "starting"),
        ("dead", False, "exited"),
        ("exited", False, "exited"),
    ],
)
def test_states_are_the_words_of_slots(status: str, paused: bool, state: str) -> None:
    made = inspected("web")
    made["State"] |= {"Status": status, "Paused": paused}
    assert read(made)[0].state == state
    assert read(made)[0].started == pytest.approx(1767225600.123456789)


@pytest.mark.anyio
async def test_a_file_on_an_engine_that_is_gone_did_not_go_with_its_container() -> None:
    """Both are told as something that is not there; only one of them ends an undo."""
    engine = Engine({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    (container,) = read(inspected("api-1"))
    box: Any = SimpleNamespace(engine=engine)
    with pytest.raises(EngineSilent, match="does not answer"):
        await read_at_rest("/etc/clock", container, box)
