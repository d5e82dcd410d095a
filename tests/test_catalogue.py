"""The shipped scenarios, their schema, and the first scenario of one's own. Nothing is started."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gameday.injectors.errors import ScenarioError, UsageError
from gameday.injectors.registry import known_kinds
from gameday.scenarios.catalog import CATALOGUE, catalogue, find_scenario
from gameday.scenarios.document import parse_document
from gameday.scenarios.draft import sketch
from gameday.scenarios.first import write_first_scenario
from gameday.scenarios.load import load_cluster, load_scenario, load_text
from gameday.scenarios.model import TIMINGS
from gameday.scenarios.sandboxes import APPS, app_declaration, app_journeys
from gameday.scenarios.schema import (
    SANDBOX_FILE,
    SCENARIO_FILE,
    sandbox_schema,
    scenario_schema,
    schema_text,
)
from gameday.scenarios.steps import Drain, Execute, Restart, Scale

SHIPPED = sorted(CATALOGUE.glob("*.yaml"))
NAMES = [
    "api-node-failure",
    "false-alarm",
    "gateway-cpu-starved",
    "slow-store",
    "store-unreachable",
]
shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)

SCENARIO = jsonschema.Draft202012Validator(scenario_schema())
SANDBOX = jsonschema.Draft202012Validator(sandbox_schema())


def tree(path: Path) -> Any:
    return yaml.load(path.read_text(), yaml.CSafeLoader)


# The catalogue


def test_the_catalogue_lists_what_is_shipped() -> None:
    entries = catalogue()
    assert [entry.name for entry in entries] == NAMES
    for entry in entries:
        assert entry.title
        assert entry.objectives
        assert entry.path.stem == entry.name


@shipped
def test_the_parts_of_a_whole_are_what_each_is_alone(path: Path) -> None:
    """Checks see the same, whether the file is valid as a whole or only in parts."""
    root, problems = parse_document(path.read_text(), path.name)
    assert not problems
    whole = load_scenario(path).scenario
    once, alone = (sketch(root, each, duration=180, stabilise=5) for each in (whole, None))
    for field in once.__struct_fields__:
        assert getattr(once, field) == getattr(alone, field), field
    assert once.slis
    assert once.sandbox is not None


@shipped
def test_a_shipped_scenario_is_complete(path: Path) -> None:
    loaded = load_scenario(path)
    scenario = loaded.scenario
    assert scenario.description
    assert scenario.roles["fixer"]
    assert scenario.load is not None
    assert scenario.hints
    assert scenario.debrief.questions
    assert scenario.severity_scheme
    assert scenario.fixers.scripted is not None
    assert loaded.locustfile is not None
    assert loaded.cluster is not None
    for alert in scenario.alerts:
        assert alert.runbook in loaded.runbooks
    assert any(one.comparison.name in TIMINGS for one in scenario.hypotheses)


@shipped
def test_a_shipped_scenario_measures_what_it_claims(path: Path) -> None:
    """A claim on an SLI is no looser than what counts as an impact."""
    scenario = load_scenario(path).scenario
    if not scenario.faults:
        return
    assert any(one.comparison.name in scenario.slis for one in scenario.hypotheses)
    assert scenario.guard_rails


@shipped
def test_a_scripted_fixer_knows_no_more_than_people(path: Path) -> None:
    """Slots are named by `sandbox ps`; only a service with one replica can be meant by its name."""
    loaded = load_scenario(path)
    scripted, cluster = loaded.scenario.fixers.scripted, loaded.cluster
    assert scripted is not None
    assert cluster is not None
    for step in scripted.script:
        assert not isinstance(step, Execute | Scale)
        if isinstance(step, Restart | Drain) and not step.slot.startswith("{{"):
            assert cluster.services[step.slot.rpartition("-")[0]].replicas == 1


def test_the_files_of_the_catalogue_are_all_used() -> None:
    used = {name for path in SHIPPED for name in load_scenario(path).runbooks}
    assert used == {f"runbooks/{path.name}" for path in (CATALOGUE / "runbooks").iterdir()}


# Runbooks


HANDS = {"ps", "logs", "restart", "scale", "drain", "exec"}
VERBS = {"sandbox", "ack", "declare", "note", "update", "identify", "mitigate", "resolve"}
VERBS |= {"all-clear", "hint", "status"}
TEXTS = [
    *SHIPPED,
    *sorted((CATALOGUE / "runbooks").iterdir()),
    *(CATALOGUE.parent / "first" / name for name in ("scenario.yaml", "runbook.md")),
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts_name_commands_that_exist_and_can_be_pasted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\u2010-\u2015\u2018-\u201f\u2026\u00a0]", text), "typographic characters"
    for command in re.findall(r"`gameday ([^`]*)`", text):
        verb, *rest = command.split()
        if path.suffix == ".yaml" and verb in ("schema", "run", "validate"):
            continue
        assert verb in VERBS, command
        assert verb != "sandbox" or rest[0] in HANDS, command


@pytest.mark.parametrize("path", sorted((CATALOGUE / "runbooks").iterdir()), ids=lambda p: p.stem)
def test_a_runbook_is_a_checklist_with_cues(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for cue in ("STOP", "VERIFY", "DONE", "- [ ] `gameday ack`", "Owner:", "Escalate:"):
        assert cue in text
    assert len(text.splitlines()) < 50
    longest = max(len(line) for line in text.splitlines() if not line.startswith(("|", "- [ ]")))
    assert longest <= 110


def test_no_text_of_ours_blames() -> None:
    blaming = r"\b(fault of|careless|should have|failed to|mistake by|human error|forgot)\b"
    for path in TEXTS:
        assert not re.search(blaming, path.read_text(encoding="utf-8"), re.IGNORECASE), path


# Finding


def test_a_scenario_is_found_by_path_then_here_then_shipped(tmp_path: Path) -> None:
    assert find_scenario("slow-store", tmp_path) == CATALOGUE / "slow-store.yaml"
    (tmp_path / "slow-store.yaml").write_text("x")
    assert find_scenario("slow-store", tmp_path) == tmp_path / "slow-store.yaml"
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "slow-store.yml").write_text("x")
    assert find_scenario("slow-store", tmp_path) == tmp_path / "scenarios" / "slow-store.yml"
    assert find_scenario("a/b.yaml", tmp_path) == tmp_path / "a" / "b.yaml"
    assert find_scenario("/a/b", tmp_path) == Path("/a/b")
    assert find_scenario("gone.yaml", tmp_path) == tmp_path / "gone.yaml"


@pytest.mark.parametrize("name", ["slow-stor", "api-node", "", "x" * 300, "a\0b"])
def test_an_unknown_name_is_one_clear_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScenarioError, match="there is no scenario of this name") as caught:
        find_scenario(name, tmp_path)
    assert "Shipped are: api-node-failure" in caught.value.problems[0].hint


def test_an_unknown_name_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("x")
    for name, near in (("slow-stor", "slow-store"), ("minee", "mine"), ("api", "api-node-failure")):
        with pytest.raises(ScenarioError, match=f"Did you mean {near}\\?"):
            find_scenario(name, tmp_path)


# The schema


def test_the_shipped_schema_is_current() -> None:
    current = (CATALOGUE / SCENARIO_FILE).read_text(encoding="utf-8")
    assert current == schema_text(scenario_schema()), (
        "write it anew: python -m gameday.scenarios.schema"
    )


def test_the_schemas_are_schemas() -> None:
    jsonschema.Draft202012Validator.check_schema(scenario_schema())
    jsonschema.Draft202012Validator.check_schema(sandbox_schema())


@shipped
def test_a_shipped_scenario_fits_the_schema_that_it_names(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCENARIO_FILE}"
    SCENARIO.validate(tree(path))


def test_shipped_declarations_fit_the_schema() -> None:
    for app in APPS:
        SANDBOX.validate(tree(app_declaration(app)))
        load_cluster(app_declaration(app))
        assert app_journeys(app)


def test_the_schema_describes_every_fault_and_every_key() -> None:
    schema = scenario_schema()
    entries = schema["properties"]["faults"]["items"]["oneOf"]
    assert [one["$ref"].rpartition("/")[2] for one in entries] == list(known_kinds())
    for kind in known_kinds():
        entry = schema["$defs"][kind]
        assert entry["description"]
        assert entry["properties"]["inject"] == {"const": kind}
        assert {"at", "inject", "target"} <= set(entry["required"])
    for key, value in schema["properties"].items():
        name = value.get("$ref", "").rpartition("/")[2]
        assert (value | schema["$defs"].get(name, {})).get("description"), key
    text = json.dumps(schema)
    for jargon in ("msgspec", "``", "\\n\\n", '"default": null'):
        assert jargon not in text


MUTATIONS: list[tuple[str, Callable[[Any], object]]] = [
    ("another version", lambda t: t.update(apiVersion="v2")),
    ("no title", lambda t: t.pop("title")),
    ("a misspelt key", lambda t: t.update(hypothesis=[])),
    ("a duration without unit", lambda t: t.update(duration=120)),
    ("a duration that is none", lambda t: t.update(duration="soon")),
    ("a severity that is none", lambda t: t.update(severity="SEV-7")),
    ("an app and a file", lambda t: t["sandbox"].update(file="x.yaml")),
    ("no sandbox", lambda t: t.pop("sandbox")),
    ("users in words", lambda t: t["load"].update(users="twenty")),
    ("a path without slash", lambda t: t["slis"]["availability"].update(path="products")),
    ("a bound without operator", lambda t: t["steady_state"].update(availability="99%")),
    ("no steady state", lambda t: t.update(steady_state={})),
    ("a hypothesis without claim", lambda t: t["hypotheses"][0].pop("claim")),
    ("an unknown tier", lambda t: t["alerts"][0].update(tier="siren")),
    ("a page without impact", lambda t: t["alerts"][0].pop("impact")),
    ("a page with an empty first step", lambda t: t["alerts"][0].update(first_step=" ")),
    ("an alert with two triggers", lambda t: t["alerts"][0].update(at="5s")),
    ("an alert without trigger", lambda t: t["alerts"][0].pop("when")),
    ("an unknown fault", lambda t: t["faults"][0].update(inject="process.kil")),
    ("a fault without a time", lambda t: t["faults"][0].pop("at")),
    ("a fault without a target", lambda t: t["faults"][0].pop("target")),
    ("a parameter of another fault", lambda t: t["faults"][0].update(delay="1s")),
    ("a target by service and slot", lambda t: t["faults"][0]["target"].update(slot="api-1")),
    ("no such count", lambda t: t["faults"][0]["target"].update(count=0)),
    ("a count in words", lambda t: t["faults"][0]["target"].update(count="all")),
    ("a share beyond everything", lambda t: t["faults"][0].update(target={"service": "api", "share": 2})),
    ("an unknown reporter", lambda t: t["reports"][0].update({"from": "press"})),
    ("an unknown step", lambda t: t["fixers"]["scripted"]["steps"].append("reboot")),
    ("no steps", lambda t: t["fixers"]["scripted"].update(steps=[])),
    ("questions in prose", lambda t: t["debrief"].update(questions="Why?")),
]  # fmt: skip


@pytest.mark.parametrize("change", [m[1] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS])
def test_what_the_loader_refuses_the_schema_refuses(change: Callable[[Any], object]) -> None:
    mutated = copy.deepcopy(tree(CATALOGUE / "api-node-failure.yaml"))
    change(mutated)
    with pytest.raises(jsonschema.ValidationError):
        SCENARIO.validate(mutated)
    with pytest.raises(ScenarioError):
        load_text(yaml.safe_dump(mutated), "a.yaml")


@pytest.mark.parametrize(
    "value",
    ["500ms", "1m30s", "1.5 s", "0", 0, "1 min 5 s", "10us", 3, 2.5, "", "s", "-1s", "1s 1"],
)
def test_schema_and_loader_agree_on_durations(value: object) -> None:
    changed = tree(CATALOGUE / "api-node-failure.yaml")
    changed["faults"][0]["at"] = value
    fits = SCENARIO.is_valid(changed)
    try:
        load_text(json.dumps(changed), "a.yaml")
    except ScenarioError:
        assert not fits
    else:
        assert fits


# A first scenario


def test_the_first_scenario_is_valid_and_teaches(tmp_path: Path) -> None:
    written = write_first_scenario(tmp_path / "a" / "b", "mine")
    assert written[0] == tmp_path / "a" / "b" / "mine.yaml"
    assert all(path.is_file() for path in written)
    loaded = load_scenario(written[0])
    assert loaded.scenario.name == "mine"
    assert loaded.cluster is not None
    assert {name: one.replicas for name, one in loaded.cluster.services.items()} == {
        "front": 1,
        "back": 2,
    }
    assert loaded.locustfile == tmp_path / "a" / "b" / "visit.py"
    assert list(loaded.runbooks) == ["runbooks/mine.md"]
    assert loaded.text.count("#") > 20
    assert "mypy" not in (tmp_path / "a" / "b" / "visit.py").read_text()
    SCENARIO.validate(tree(written[0]))
    SANDBOX.validate(tree(tmp_path / "a" / "b" / "sandbox.yaml"))
    for name, schema in ((SCENARIO_FILE, scenario_schema()), (SANDBOX_FILE, sandbox_schema())):
        assert json.loads((tmp_path / "a" / "b" / "schemas" / name).read_text()) == schema


def test_the_first_scenario_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_text("mine")
    with pytest.raises(UsageError, match=r"already there: .*sandbox\.yaml"):
        write_first_scenario(tmp_path, "first")
    assert [path.name for path in tmp_path.iterdir()] == ["sandbox.yaml"]
    assert (tmp_path / "sandbox.yaml").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "service.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(UsageError, match="already there"):
        write_first_scenario(tmp_path, "first")
    assert not (tmp_path / "elsewhere.py").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "runbooks").write_text("a file, where a folder has to be")
    with pytest.raises(UsageError, match="cannot be written"):
        write_first_scenario(tmp_path, "first")
    assert [path.name for path in tmp_path.iterdir()] == ["runbooks"]


@pytest.mark.parametrize("name", ["", "Mine", "../x", "a b", "-x", "x" * 64])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a scenario"):
        write_first_scenario(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_the_service_of_the_first_scenario_needs_only_python(tmp_path: Path) -> None:
    write_first_scenario(tmp_path, "first")
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import runpy; runpy.run_path('service.py')"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    imported = re.findall(r"^(?:import|from) (\w+)", (tmp_path / "service.py").read_text(), re.M)
    assert set(imported) <= set(sys.stdlib_module_names)
