"""The loader: a good scenario, its sandbox's declaration, whatever lies at a path, and what it costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.errors import ScenarioError
from gameday.injectors.registry import fault_class, known_kinds
from gameday.scenarios.load import load_cluster, load_scenario, load_text, load_yaml
from gameday.scenarios.model import Load, Scenario
from gameday.scenarios.sandboxes import PARTS
from gameday.scenarios.source import read_source
from tests.good_scenario import CLUSTER, GOOD, folder, problems

__all__ = ["folder"]


# A good file


def test_a_good_scenario_comes_with_what_it_names(folder: Path) -> None:
    loaded = load_scenario(folder / "good.yaml")
    assert loaded.text == GOOD
    assert loaded.scenario.name == "good"
    assert loaded.cluster is not None
    assert list(loaded.cluster.services) == ["web", "api", "db"]
    assert loaded.cluster_path == folder / "sandbox.yaml"
    assert loaded.locustfile == folder / "visit.py"
    assert loaded.runbooks == {"runbooks/a.md": "# Runbook\n"}
    assert [fault.breaks.kind for fault in loaded.scenario.faults] == [
        "process.kill",
        "net.latency",
    ]
    assert loaded.scenario.load is not None
    assert loaded.scenario.load.spawn_rate == 2.5


def test_the_scenario_changes_the_cluster_that_it_breaks(folder: Path) -> None:
    own = "{file: sandbox.yaml, replicas: {api: 5}, environment: {api: {MODE: slow, NEW: x}}}"
    (folder / "good.yaml").write_text(GOOD.replace("{file: sandbox.yaml}", own))
    cluster = load_scenario(folder / "good.yaml").cluster
    assert cluster is not None
    assert cluster.services["api"].replicas == 5
    assert cluster.services["api"].environment == {"MODE": "slow", "LEVEL": "info", "NEW": "x"}


def test_a_control_drill_needs_neither_faults_nor_alerts_nor_hypotheses(folder: Path) -> None:
    text = GOOD[: GOOD.index("hypotheses:")]
    (folder / "control.yaml").write_text(text)
    scenario = load_scenario(folder / "control.yaml").scenario
    assert (scenario.faults, scenario.alerts, scenario.hypotheses) == ([], [], [])


def test_the_copy_in_a_drills_folder_is_read_without_the_files_beside_it() -> None:
    loaded = load_text(GOOD, "scenario.yaml")
    assert loaded.scenario == load_text(GOOD, "x").scenario
    assert loaded.cluster is None
    assert loaded.runbooks == {}
    with pytest.raises(ScenarioError, match=r"scenario.yaml:4:11: severity"):
        load_text(GOOD.replace("SEV-2", "SEV-9"), "scenario.yaml")


def test_a_byte_order_mark_and_other_line_ends_are_fine(folder: Path) -> None:
    path = folder / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_scenario(path).scenario.name == "good"


def test_simple_aliases_are_fine(folder: Path) -> None:
    text = GOOD.replace('">= 99%", slow', '&bound ">= 99%", slow').replace('">= 97%"', "*bound")
    (folder / "alias.yaml").write_text(text)
    assert load_scenario(folder / "alias.yaml").scenario.acceptable == {"availability": ">= 99%"}


def test_any_model_can_be_read(folder: Path) -> None:
    (folder / "load.yaml").write_text("users: 3\n")
    assert load_yaml(folder / "load.yaml", Load).value == Load(users=3)
    (folder / "load.yaml").write_text("usres: 3\n")
    assert problems(folder / "load.yaml", lambda path: load_yaml(path, Load)) == [
        "1:1 `usres` is no key | Did you mean `users`?"
    ]


# What lies at the path


def test_a_missing_file_names_the_nearest(folder: Path) -> None:
    assert problems(folder / "god.yaml") == [
        f"None:None there is no such file | Did you mean {folder / 'good.yaml'}?"
    ]
    assert "There is no folder" in problems(folder / "no" / "such.yaml")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "None:None the file is empty | `gameday init` writes a first scenario."),
        (b" \n\n", "None:None the file is empty | `gameday init` writes a first scenario."),
        (b"# nothing\n", "None:None there is nothing in the file but comments"),
        (b"a: \0b", "None:None the file is binary (byte 4 is NUL); expected UTF-8 text"),
        ("a: b".encode("utf-16"), "the file is UTF-16; expected UTF-8"),
        ("a: 1\nb: ä".encode("latin-1"), "2:4 the file is not UTF-8: found the byte 0xe4"),
        (b"\x7fELF\x02\x01\x01\0", "the file is binary"),
        (b"a: \x07", "1:4 found the control character U+0007"),
        (b'a: "\\e[31m"', "1:4 found the control character U+001B in a text"),
        ("a: b\u2028c".encode(), "1:5 found the control character U+2028"),
    ],
)
def test_no_text_no_scenario(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    (found,) = problems(path)
    assert message in found


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = {
            "directory": problems(tmp_path),
            "pipe": problems(fifo),
            "device": problems(Path("/dev/zero")),
            "socket": problems(tmp_path / "socket"),
        }
    for kind, (text,) in found.items():
        assert kind in text
        assert "expected a file" in text
    assert "cannot be opened" in problems(loop)[0]
    assert "NUL" in problems(tmp_path / "a\0b")[0]
    assert "cannot be opened" in problems(tmp_path / ("x" * 5000))[0]


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert problems(path) == [
        "None:None the file is too large: found 100 MiB, expected at most 1 MiB"
    ]


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read everything, so be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with an_ordinary_user():
        assert "permission denied" in problems(path)[0]


def test_a_file_that_grows_while_it_is_read_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="too large"):
        read_source(Path("/proc/kallsyms"), limit=1000)


# The sandbox's declaration


def test_a_declaration_is_checked_as_well(folder: Path) -> None:
    path = folder / "sandbox.yaml"
    path.write_text(
        "name: own\nentry: wbe\nservices:\n  web: {command: [serve], links: [apii, db]}\n"
        "  api: {comand: [serve]}\n  db: {command: [serve], links: [web]}\n"
    )
    assert problems(path, load_cluster) == [
        "2:8 entry: there is no service 'wbe' | Did you mean web?",
        "4:3 links form a circle: web -> db -> web; a start order is then impossible",
        "4:35 services.web.links: there is no service 'apii' | Did you mean api?",
        "5:9 `comand` is no key of services.api | Did you mean `command`?",
    ]
    (found,) = problems(folder / "good.yaml")
    assert found.startswith("7:17 sandbox.file: sandbox.yaml has 4 problems")
    assert f"{path}:5:9: `comand` is no key of services.api" in found


def test_a_declaration_without_an_entry_needs_a_service_to_probe(folder: Path) -> None:
    (folder / "sandbox.yaml").write_text(CLUSTER.replace("entry: web\n", ""))
    found = problems(folder / "good.yaml")
    assert "declares no entry" in found[0]


def test_unknown_journeys_of_the_shop(folder: Path) -> None:
    text = GOOD.replace("{file: sandbox.yaml}", "{app: shop}").replace("visit.py", "brwse")
    (folder / "shop.yaml").write_text(text)
    assert any(
        one.endswith("shop has no journey 'brwse' | Did you mean browse?")
        for one in problems(folder / "shop.yaml")
    )


# What it costs


def test_validating_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from gameday.scenarios.load import load_scenario;"
        "from gameday.scenarios.catalog import find_scenario;"
        "load_scenario(find_scenario('api-node-failure', Path('.')));"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jinja2", "locust", "gevent", "aiohttp", "anyio", "rich", "asyncio", "jsonschema"}
    heavy |= {"prometheus_client", "docker", "kubernetes", "sqlalchemy", "click"}
    assert heavy.isdisjoint(done.stdout.split())


def test_the_default_of_each_key_is_valid() -> None:
    text = "{apiVersion: gameday/v1, name: a, title: t, sandbox: {kind: attached}, "
    loaded = load_text(text + "slis: {a: {}}, steady_state: {a: '>= 1%'}}", "a.yaml")
    assert isinstance(loaded.scenario, Scenario)


def test_what_a_kind_of_sandbox_can_do_is_what_its_driver_says() -> None:
    from gameday.injectors.sandbox import attached
    from gameday.injectors.sandbox.local import parts
    from gameday.injectors.sandbox.local.client import Client

    assert PARTS["local"] == set(parts.make(cast(Client, None)))
    assert PARTS["attached"].isdisjoint(attached._LACKS)
    assert PARTS["attached"] | set(attached._LACKS) == PARTS["local"]


def test_every_built_in_fault_can_be_done_somewhere() -> None:
    for kind in known_kinds():
        needs = set(fault_class(kind).needs)
        assert any(needs <= able for able in PARTS.values()), kind


# Templates of a declaration


TEMPLATED = """\
name: own
entry: web
services:
  web:
    command: [serve, "{{ %s }}"]
    links: [order-db]
  order-db: {command: [serve, "{{ port }}"]}
"""


@pytest.mark.parametrize(
    ("inside", "message", "hint"),
    [
        ("prot", "a template sees no 'prot'", "Did you mean port?"),
        ("links.order_dbb", "links.order_dbb: the service's `links` do not", "mean order_db?"),
        ("links.web[0].port", "links.web: the service's `links`", "Add web to"),
        ("links['orders'][0]", "links.orders: the service's `links`", "order_db"),
        ("", "names nothing", "Templates see python"),
        ("my port", "is no expression", "Templates see"),
        ("(port", "brackets", "Close"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_told_where_it_stands(
    tmp_path: Path, inside: str, message: str, hint: str
) -> None:
    path = tmp_path / "sandbox.yaml"
    path.write_text(TEMPLATED % inside)
    with pytest.raises(ScenarioError) as caught:
        load_cluster(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (5, 22)
    assert problem.message.startswith("services.web.command[1]: ")
    assert message in problem.message
    assert hint in problem.hint


def test_a_template_that_is_not_closed_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.yaml"
    files = "\n    files:\n      a.conf: |\n        one\n        bind {{ port }\n"
    path.write_text((TEMPLATED % "port").replace("\n    links:", files + "    links:"))
    with pytest.raises(ScenarioError, match=r"7:15: services.web.files.a.conf, line 2 of it: a '"):
        load_cluster(path)


def test_templates_that_a_scenario_adds_are_looked_over_too(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    more = 'sandbox: {file: sandbox.yaml, environment: {api: {WHERE: "{{ hots }}"}}}'
    path.write_text(GOOD.replace("sandbox: {file: sandbox.yaml}", more))
    with pytest.raises(
        ScenarioError, match=r"sandbox\.environment\.api\.WHERE: .*'hots'"
    ) as caught:
        load_scenario(path)
    assert "Did you mean host?" in str(caught.value)


PIECES = st.sampled_from(
    [
        *("{{ port }}", "{{- slot -}}", "{{ links.order_db[0].address }}", "{{ number + 1 }}"),
        *("{{ links['order-db']|length }}", "{{ port  |  string | upper }}", "{{ 'a }} b' }}"),
        *("{{ links.order_db | map(attribute='address') | join(',') }}", "{{ {'a': {}} }}"),
        *("{{ prot | default(port) }}", "{{ 1 if prot is defined else 2 }}", "{# {{ prot }} #}"),
        *("{% for one in links.order_db %}{{ one.port }} {{ loop.index }}{% endfor %}", "{ x }"),
        *("{% set mine = port %}{{ mine }}", "{% raw %}{{ prot }}{% endraw %}", "it's", "}}", "\n"),
        *("{% for name, ends in links.items() %}{{ name }}={{ ends|length }}{% endfor %}", '"'),
        *("{% if prot is defined %}{{ prot }}{% endif %}", "{{ range(3) | list }}", "{{ port>1 }}"),
        *("{{ 'x' ~ port ~ \"'\" }}", "{{ not port }}", "{{ [port, host][0] }}", "{{ true }}"),
        *("{{ 2 * 1.5e3 }}", "{{ '%s' % port }}", "{{ links.get('none') }}", "{{ port == 1 }}"),
    ]
)


@given(st.lists(PIECES, max_size=5).map(" ".join))
def test_no_template_that_can_be_filled_in_is_complained_of(text: str) -> None:
    from gameday.injectors.sandbox.local.templates import render, variables
    from gameday.scenarios.document import Node, Place
    from gameday.scenarios.templates import KNOWN, template_problems

    ends = [{"slot": "order-db-1", "address": "a:1", "host": "a", "port": 1}]
    values = variables(
        slot="web-1",
        service="web",
        number=1,
        port=1,
        data="/data",
        endpoints="/endpoints.json",
        folder="/",
        links={"order-db": ends},
    )
    assert set(values) == set(KNOWN)
    render(text, values)
    node = Node(Place(1, 1), text, raw=text)
    assert not list(template_problems(node, "it", ["order-db"], ["web", "order-db"]))
