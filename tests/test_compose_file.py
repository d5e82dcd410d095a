"""Compose files, read for what can be aimed at: as they are written, and with a place for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.errors import Problem, ScenarioError
from gameday.scenarios.compose_file import read_compose
from gameday.scenarios.shape import ServiceShape, Shape
from tests.commands import Terminal

OURS = 'labels: {gameday.sandbox: "true"}'
WORDS = st.sampled_from(["a", "web", "true", "2", "a=b", "${A}", "$A", "$$A", "", "<<", "file"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-9, 10**12), st.floats(-9, 9), WORDS)
KEYS = st.one_of(
    WORDS, st.sampled_from(["service", "replicas", "gameday.links", "gameday.sandbox"])
)
PLAIN = st.recursive(
    SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(KEYS, some, max_size=3)
)
READ = ("labels", "depends_on", "ports", "profiles", "deploy", "scale", "extends", "<<", "x-own")


def _read(folder: Path, text: str, replicas: dict[str, int] | None = None) -> Shape:
    path = folder / "compose.yaml"
    path.write_text(text)
    return read_compose(path, replicas or {})


def _problem(folder: Path, text: str) -> str:
    """The one problem of a file, as people see it, without its path."""
    with pytest.raises(ScenarioError) as caught:
        _read(folder, text)
    (problem,) = caught.value.problems
    return problem.show("f")


@given(
    given=st.dictionaries(st.sampled_from(READ), PLAIN, max_size=4),
    other=st.one_of(PLAIN, st.dictionaries(st.sampled_from(READ), PLAIN)),
    whole=st.booleans(),
)
def test_whatever_stands_there_it_is_read_or_refused_with_its_place(
    given: dict[str, Any], other: Any, whole: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    web = {"labels": {"gameday.sandbox": "true"}} | given
    document = {"services": other if whole else {"web": web, "a": other}, "x-own": other}
    problems: list[Problem] = []
    services: dict[str, ServiceShape] = {}
    try:
        services = _read(tmp_path_factory.getbasetemp(), json.dumps(document)).services
    except ScenarioError as error:
        problems = error.problems
    assert bool(problems) is not bool(services)
    assert all(problem.line and problem.column for problem in problems)
    assert all(0 <= service.replicas <= 100 for service in services.values())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("depends_on: 5", "4:17: services.web.depends_on: found the number 5, expected a list of"),
        ("depends_on: [[a]]", "4:18: services.web.depends_on: found a list, expected a name"),
        ("ports: 80", "4:12: services.web.ports: found the number 80, expected a list of ports"),
        ("ports: [[80]]", "4:13: services.web.ports: found a list, expected a port"),
        ("profiles: true", "4:15: services.web.profiles: found true, expected a list of names"),
        ("deploy: 2", "4:13: services.web.deploy: found the number 2, expected a mapping"),
        ("deploy: {replicas: []}", "4:24: services.web.deploy.replicas: found a list, expected a"),
        ("scale: -1", "4:12: services.web.scale: found the number -1, expected a whole number"),
        ("scale: 1000000", "4:12: services.web.scale: found the number 1000000, expected a whole"),
        ("scale: '${N:-2}'", "variables are not filled in here\n    Write the number out, or give"),
        ("extends: 5", "4:14: services.web.extends: found the number 5, expected the name of a"),
        ("extends: {service: }", "expected the name of a service"),
        ("extends: web", "4:14: services.web.extends: 'web' extends this one in its turn"),
        (
            "extends: '$BASE'",
            "there is no service '$BASE' in this file\n    Names are read as they",
        ),
        ("<<: 5", "4:9: services.web.<<: found the number 5, expected a mapping"),
    ],
)
def test_nonsense_is_one_problem_at_its_place(line: str, says: str, tmp_path: Path) -> None:
    text = f"services:\n  web:\n    {OURS}\n    {line}\n"
    assert says in _problem(tmp_path, text)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("5", "3:13: services.web.labels: found the number 5, expected a mapping"),
        ("[[a]]", "3:14: services.web.labels: found a list, expected NAME=VALUE"),
        ("{a: [b]}", "3:17: services.web.labels.a: found a list, expected text"),
        (
            '{gameday.sandbox: "${OPT:-true}"}',
            "3:31: services.web.labels.gameday.sandbox: found the text '${OPT:-true}', expected a "
            "plain value; variables are not filled in here\n    Write it out",
        ),
        ("['gameday.sandbox=$OPT']", "3:14: services.web.labels.gameday.sandbox: found the text"),
        ("{gameday.sandbox: true, gameday.tier: $T}", "services.web.labels.gameday.tier: found"),
    ],
)
def test_labels_are_read_as_they_are_written(labels: str, says: str, tmp_path: Path) -> None:
    assert says in _problem(tmp_path, f"services:\n  web:\n    labels: {labels}\n")


def test_variables_elsewhere_are_none_of_our_business(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        """\
services:
  web:
    image: "${IMAGE}"
    ports: ["${PORT}:80"]
    scale: "${N}"
    labels: {gameday.sandbox: "true", rule: "Host(`${DOMAIN}`)", gameday.owner: "$$a"}
  other: {image: x, deploy: {replicas: "${M}"}, labels: {gameday.tier: "${T}"}}
""",
        {"web": 2},
    )
    assert found.services["web"].replicas == 2
    assert list(found.services) == ["web"]


EXTENDED = """\
services:
  base:
    image: x
    ports: [80]
    depends_on: [cache]
    deploy: {replicas: 3}
    labels: {gameday.sandbox: "true", tier: front, team: a}
  back:
    extends: {service: base}
    depends_on: {store: {condition: service_started}}
    labels: [team=b]
  further: {extends: back, scale: 2}
  cache: {image: x, labels: [gameday.sandbox=true]}
  store: {image: x, labels: [gameday.sandbox=true, gameday.protected=true]}
  guarded: {image: x, extends: store}
"""


def test_what_a_service_extends_in_the_same_file_belongs_to_it(tmp_path: Path) -> None:
    found = _read(tmp_path, EXTENDED).services
    assert found["back"].replicas == 3
    assert found["back"].links == ("cache", "store")
    assert found["back"].labels.items() >= {("tier", "front"), ("team", "b")}
    assert found["further"].replicas == 2
    assert found["further"].links == ("cache", "store")
    assert found["guarded"].protected


def test_what_a_service_extends_in_another_file_is_said_to_be_unread(tmp_path: Path) -> None:
    extends = "extends: {file: other.yaml, service: base}"
    said = _problem(tmp_path, f"services:\n  back:\n    {extends}\n")
    assert "in this file: what `extends` takes from another one is not read" in said
    said = _problem(tmp_path, f"services:\n  back:\n    {extends}\n    {OURS}\n")
    assert "f:3:14: services.back.extends: found another file" in said
    labels = "labels: [gameday.sandbox=true, gameday.protected=false]"
    assert _read(tmp_path, f"services:\n  back:\n    {extends}\n    {labels}\n").services


def test_a_service_is_in_the_networks_that_it_names_or_in_the_one_of_all(tmp_path: Path) -> None:
    found = _read(
        tmp_path,
        f"""\
services:
  plain: {{{OURS}}}
  two: {{networks: [back, front], {OURS}}}
  told: {{networks: {{back: {{aliases: [x]}}}}, {OURS}}}
  more: {{extends: two, networks: [odd]}}
  beside: {{network_mode: "service:two", {OURS}}}
  usual: {{network_mode: bridge, {OURS}}}
networks: {{back: , front: {{name: corp}}, odd: {{name: "${{X}}"}}}}
""",
    ).services
    assert {name: service.networks for name, service in found.items()} == {
        "plain": ("default",),
        "two": ("back", "corp"),
        "told": ("back",),
        "more": ("back", "corp", "odd"),
        "beside": (),
        "usual": ("bridge",),
    }


def test_what_opted_in_under_a_profile_is_said_to_stay_down(tmp_path: Path) -> None:
    said = _problem(tmp_path, f"services:\n  back: {{profiles: [x], {OURS}}}\n")
    assert "what has the label gameday.sandbox=true is under a profile (back)" in said


def test_a_row_of_extensions_ends(tmp_path: Path) -> None:
    rows = "".join(f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(3000))
    with pytest.raises(ScenarioError, match="more than 20 in a row"):
        _read(tmp_path, f"services:\n{rows}  s3000: {{{OURS}}}\n")


def test_validate_tells_people(terminal: Terminal) -> None:
    (terminal.cwd / "compose.yaml").write_text(f"services:\n  web: {{{OURS}, depends_on: 5}}\n")
    (terminal.cwd / "s.yaml").write_text("""\
apiVersion: gameday/v1
name: s
title: One dies
sandbox: {kind: docker, compose: compose.yaml}
slis:
  availability: {service: web}
steady_state: {availability: ">= 99%"}
faults:
  - {at: 1s, inject: process.kill, target: {service: web, count: 1}}
""")
    done = terminal.gameday("validate", "s.yaml")
    assert done.returncode == 2
    assert "compose.yaml:2:56: services.web.depends_on: found the number 5" in done.stderr
