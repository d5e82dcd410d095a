"""The command itself: help, imports, order of packages, outputs, pipes, codes, completion."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import gameday
from gameday.drills import state
from gameday.drills.cli import COMMANDS
from gameday.injectors.registry import fault_class, known_kinds
from gameday.injectors.sandbox.attached import AttachedSandbox
from gameday.injectors.sandbox.kinds import KINDS
from gameday.scenarios.catalog import CATALOGUE
from gameday.scoring import events
from tests.commands import Terminal, assert_nothing_left, copy_scenario, no_traceback

ROOT = Path(__file__).parent.parent
NAMES = [name for section in COMMANDS.values() for name in section]
SHIPPED = sorted(path.stem for path in CATALOGUE.glob("*.yaml"))


# Help and version


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(terminal: Terminal, name: str) -> None:
    told = terminal.say(name, "--help")
    assert told.startswith(f"Usage: gameday {name}")
    assert max(map(len, told.splitlines())) <= 88
    about = told.split("\n\n", 2)[1]
    assert len(about.strip()) > 10
    # Every option says what it does.
    for option in re.findall(r"(?m)^  (-\S.*)$", told):
        assert re.search(r"\S {2,}\S", option) or len(option) > 20, (name, option)
    assert not list(terminal.cwd.iterdir())


@pytest.mark.parametrize(
    "name", ["up", "down", "ps", "logs", "restart", "stop", "scale", "drain", "exec", "clear"]
)
def test_every_hand_explains_itself(terminal: Terminal, name: str) -> None:
    assert terminal.say("sandbox", name, "--help").startswith(f"Usage: gameday sandbox {name}")


def test_help_lists_every_command_with_its_summary(terminal: Terminal) -> None:
    told = terminal.say("--help")
    assert told == terminal.say("-h")
    for section in COMMANDS.values():
        for name, (_, summary) in section.items():
            assert re.search(rf"(?m)^  {name} +{re.escape(summary.split()[0])}", told), name


def test_version(terminal: Terminal) -> None:
    version = importlib.metadata.version("gameday-drills")
    assert terminal.say("--version") == f"gameday, version {version}\n"
    assert terminal.say("-V") == terminal.say("--version")


# What is imported


HEAVY = {
    *("rich", "jinja2", "locust", "gevent", "aiohttp", "docker", "kubernetes"),
    *("yaml", "anyio", "msgspec", "h11", "prometheus_client", "asyncio", "ssl"),
}
FOR_DRILLS = {"locust", "gevent", "jinja2", "aiohttp", "rich", "docker", "kubernetes", "h11", "ssl"}
PROBE = """
import sys
from gameday.drills.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(terminal: Terminal, *args: str) -> set[str]:
    """Top-level names of what a command imports."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, *args],
        cwd=terminal.cwd,
        env=terminal.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["run", "--help"], ["ack", "--help"]])
def test_help_and_version_import_next_to_nothing(terminal: Terminal, args: list[str]) -> None:
    assert not imported(terminal, *args) & HEAVY


@pytest.mark.parametrize(
    "args",
    [["validate", "api-node-failure"], ["catalog"], ["list"], ["schema"]],
    ids=lambda args: args[0],
)
def test_what_only_reads_files_is_light(terminal: Terminal, args: list[str]) -> None:
    assert not imported(terminal, *args) & FOR_DRILLS


# The order of the packages


ORDER = ("injectors", "scenarios", "scoring", "drills")


def sources() -> Iterator[tuple[str, Path]]:
    for package in ORDER:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield package, path


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """Line, name, and level of every import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "", node.level


def test_packages_import_only_to_the_left() -> None:
    """injectors <- scenarios <- scoring <- drills; ours by absolute names alone.

    A file that is written out for users (scenarios/first) stands for itself.
    """
    wrong, seen = [], 0
    for package, path in sources():
        allowed = ORDER[: ORDER.index(package) + 1]
        for line, name, level in imports(path):
            where = f"{path.relative_to(ROOT)}:{line}: {name or '.'}"
            parts = name.split(".")
            if level:
                wrong.append(f"{where}: relative")
            elif parts[0] == "gameday":
                seen += 1
                if len(parts) > 1 and parts[1] not in (*allowed, "_version"):
                    wrong.append(f"{where}: to the right")
                if parts == ["gameday"]:
                    wrong.append(f"{where}: the whole package")
            elif parts[0] in (*ORDER, "tests"):
                wrong.append(f"{where}: not by its full name")
    assert not wrong, "\n".join(wrong)
    assert seen > 300


def test_the_checkout_is_what_is_imported() -> None:
    """Tracebacks and go-to-definition lead to the files that one edits."""
    for package in ORDER:
        assert (ROOT / "src" / "gameday" / package).resolve() == ROOT / package
    assert Path(gameday.__file__).parent == ROOT / "src" / "gameday"


def test_linux_alone_is_imported_late(terminal: Terminal) -> None:
    """On other systems the command starts, and says what it cannot do."""
    code = (
        "import sys\n"
        "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'):\n"
        "    sys.modules[name] = None\n"
        "from gameday.drills.cli import main\n"
        "main(['--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=terminal.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# Outputs


def test_doctor(terminal: Terminal) -> None:
    done = terminal.gameday("doctor")
    assert done.returncode in (0, 3), done.stderr
    no_traceback(done.stdout, done.stderr)
    found = json.loads(terminal.gameday("doctor", "--json").stdout)
    able = KINDS["local"].parts
    local = {kind for kind in known_kinds() if set(fault_class(kind).needs) <= able}
    assert {fact["name"] for fact in found["faults"]} == local
    assert all(fact["found"] for fact in found["machine"])
    fine = all(fact["fine"] or not fact["needed"] for fact in found["machine"])
    assert done.returncode == (0 if fine else 3)
    for fact in (*found["machine"], *found["faults"]):
        assert fact["name"] in done.stdout
        assert fact["fine"] or fact["found"] or fact["means"]
    assert not (terminal.cwd / ".gameday").exists()


def test_doctor_without_docker(terminal: Terminal) -> None:
    """One line says it of all faults there, and it counts once."""
    there = terminal.gameday("doctor").returncode
    done = terminal.gameday("doctor", env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert done.returncode == there  # Docker may be missing
    (line, _, _) = done.stdout.partition("Faults on Docker\n")[2].splitlines()
    assert line.startswith("  no   none ")
    assert line.endswith("does not answer: there is no socket")


def test_doctor_on_a_bad_machine(terminal: Terminal) -> None:
    """A state that cannot be kept is said with its reason."""
    in_the_way = terminal.cwd / "file"
    in_the_way.write_text("")
    done = terminal.gameday("doctor", env={"GAMEDAY_STATE": str(in_the_way / "state")})
    assert done.returncode == 3, done.stdout
    assert "no " in done.stdout
    assert "GAMEDAY_STATE" in done.stdout or str(in_the_way) in done.stdout


def test_schema(terminal: Terminal) -> None:
    schema = json.loads(terminal.say("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for path in sorted(CATALOGUE.glob("*.yaml")):
        check.validate(yaml.safe_load(path.read_text()))
    assert not check.is_valid({"apiVersion": "gameday/v1"})


def test_catalog(terminal: Terminal) -> None:
    told = terminal.say("catalog")
    rows = json.loads(terminal.say("catalog", "--json"))
    assert [row["name"] for row in rows] == SHIPPED
    for row in rows:
        assert row["name"] in told
        assert row["title"] in told
        shown = terminal.say("catalog", row["name"])
        assert row["title"] in shown
        source = terminal.say("catalog", row["name"], "--source")
        assert source == (CATALOGUE / f"{row['name']}.yaml").read_text()
    wrong = terminal.gameday("catalog", "slow-stor")
    assert wrong.returncode == 2
    assert "Did you mean slow-store?" in wrong.stderr


def test_validate(terminal: Terminal) -> None:
    told = terminal.say("validate", *SHIPPED)
    assert [line.partition(":")[0] for line in told.splitlines()] == SHIPPED
    assert terminal.say("validate", "-q", *SHIPPED) == ""
    assert terminal.gameday("validate").returncode == 2
    own = copy_scenario(terminal.cwd / "scenarios", "slow-store", called="mine")
    assert "mine: fine" in terminal.say("validate", "mine")  # found in the folder's scenarios/
    assert "fine" in terminal.say("validate", own)


def test_list_without_drills(terminal: Terminal) -> None:
    assert "No drill was run here" in terminal.say("list")
    assert json.loads(terminal.say("list", "--json")) == []
    for command in (["debrief"], ["debrief", "20200101-000000-abcd"]):
        told = terminal.gameday(*command)
        assert told.returncode == 2
        assert "no drill" in told.stderr
        no_traceback(told.stderr)
    assert terminal.say("recover").strip() == "Nothing is outstanding."
    assert not list(terminal.cwd.iterdir())


# A plan, and the drill that carries it out


@pytest.mark.parametrize("name", SHIPPED)
def test_a_dry_run_shows_everything_and_touches_nothing(terminal: Terminal, name: str) -> None:
    one = terminal.say("run", name, "--dry-run", "--seed", "7")
    assert one == terminal.say("run", name, "--dry-run", "--seed", "7")
    plan = json.loads(terminal.say("run", name, "--dry-run", "--seed", "7", "--json"))
    for injection in plan["injections"]:
        assert injection["fault"] in one
        assert injection["target"].split("->")[0] in one
        assert injection["undo"]
    assert "seed 7" in one
    assert "Nothing was started" in one
    assert not (terminal.cwd / ".gameday").exists()
    assert not terminal.state.exists()


def test_the_seed_chooses(terminal: Terminal) -> None:
    targets = set()
    for seed in range(6):
        plan = terminal.say("run", "api-node-failure", "--dry-run", "--json", "--seed", str(seed))
        targets.add(json.loads(plan)["injections"][0]["target"])
    assert len(targets) > 1


SEEDED = """\
apiVersion: gameday/v1
name: seeded
title: Several targets
sandbox: {kind: local, app: shop}
slis: {availability: {path: /products, every: 100ms, good: status < 500, over: 500ms}}
steady_state: {availability: ">= 10%"}
stabilise: 500ms
duration: 2s
faults:
  - {at: 600ms, inject: net.latency, target: {link: gateway->api, count: 2}, delay: 5ms}
  - {at: 200ms, inject: process.pause, lasts: 300ms, target: {service: api, count: 1}}
  - {at: 200ms, inject: net.latency, target: {link: api->store, count: 1}, delay: 5ms}
"""


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_drill_carries_out_its_plan(terminal: Terminal) -> None:
    """The same seed, dry and for real: the same faults on the same targets, undone the same way."""
    (terminal.cwd / "seeded.yaml").write_text(SEEDED)
    plan = json.loads(terminal.say("run", "seeded", "--dry-run", "--json", "--seed", "11"))
    run = terminal.start("seeded", "-q", "--seed", "11")
    assert run.wait() in (0, 3), run.said()
    done = [event.injection for event in run.of(events.InjectionArmed)]
    planned = {(one["fault"], one["target"]) for one in plan["injections"]}
    assert {(one.fault, one.target) for one in done} == planned
    assert len(done) == len(plan["injections"]) == 4
    kinds = {one["fault"]: [step["step"] for step in one["undo"]] for one in plan["injections"]}
    for one in done:
        assert [type(step).__struct_config__.tag for step in one.undo] == kinds[one.fault]
    assert run.debrief()["drill"]["seed"] == 11
    assert_nothing_left(terminal, run.id)


@pytest.mark.acceptance
@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_init_writes_runs(terminal: Terminal) -> None:
    told = terminal.say("init", "mine", "--name", "tea-time")
    assert "gameday run mine/tea-time.yaml" in told
    assert "fine" in terminal.say("validate", "mine/tea-time.yaml")
    again = terminal.gameday("init", "mine", "--name", "tea-time")
    assert again.returncode == 2
    assert "already there" in again.stderr
    run = terminal.start("mine/tea-time.yaml")
    assert run.wait(within=150) in (0, 1), run.said()
    no_traceback(run.said())
    debrief = run.debrief()
    assert debrief["drill"]["scenario"] == "tea-time"
    assert debrief["injections"]
    assert all(each["took_effect"] for each in debrief["injections"])
    assert all(each["how"] in ("put-back", "taken-over") for each in debrief["injections"])
    assert "Debrief  .gameday/drills/" in run.out.read_text()
    # Printed to a file, so: plain lines, no colours, no cursor movements.
    assert "\x1b" not in run.said()
    rows = json.loads(terminal.say("list", "--json"))
    assert [row["scenario"] for row in rows] == ["tea-time"]
    for form, begins in (
        ("md", "#"),
        ("html", "<!doctype html>"),
        ("json", "{"),
        ("junit", "<?xml"),
    ):
        assert terminal.say("debrief", "--format", form).lower().startswith(begins), form
    assert_nothing_left(terminal, run.id)


# Wrong words, folders, pipes


@pytest.mark.parametrize(
    ("word", "near"),
    [("rum", "run"), ("validat", "validate"), ("ak", "ack"), ("allclear", "all-clear")],
)
def test_an_unknown_command_names_the_nearest(terminal: Terminal, word: str, near: str) -> None:
    told = terminal.gameday(word)
    assert told.returncode == 2
    assert f"Did you mean {near!r}?" in told.stderr
    assert told.stdout == ""


def test_an_unknown_command_like_none(terminal: Terminal) -> None:
    told = terminal.gameday("xyzzyplugh")
    assert told.returncode == 2
    assert "xyzzyplugh" in told.stderr
    no_traceback(told.stderr)


def test_nothing_at_all_shows_the_help(terminal: Terminal) -> None:
    told = terminal.gameday()
    assert "Usage: gameday" in told.stdout + told.stderr
    assert told.returncode in (0, 2)


@pytest.mark.parametrize(
    "args",
    [
        ["run", "gateway-cpu-starved", "--dry-run"],
        ["run", "gateway-cpu-starved", "--dry-run", "--json"],
        ["catalog", "api-node-failure"],
        ["catalog"],
        ["--help"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_is_no_verdict(terminal: Terminal, args: list[str]) -> None:
    """The reader is gone before the first word; 1 would say that a hypothesis was refuted."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gameday", *args],
            cwd=terminal.cwd,
            env=terminal.environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


INVENTED = """\
apiVersion: gameday/v1
name: invented
title: What nobody knows before the drill
sandbox: {kind: local, app: shop}
slis: {availability: {path: /products, every: 100ms, good: status < 500, over: 500ms}}
steady_state: {availability: ">= 10%"}
duration: 20s
faults:
  - {at: 1s, inject: process.pause, target: {slot: gateway-1}}
  - {at: 1s, inject: memory.hog, target: {slot: api-1}}
  - {at: 1s, inject: cpu.burn, target: {slot: store-1}, workers: 1}
  - {at: 1s, inject: net.latency, target: {link: gateway->api, count: 1}, delay: 5ms}
"""


def test_a_dry_run_invents_nothing_to_type(terminal: Terminal) -> None:
    (terminal.cwd / "invented.yaml").write_text(INVENTED)
    wide = terminal.environment() | {"COLUMNS": "200"}
    told = terminal.say("run", "invented", "--dry-run", "--seed", "1", env=wide)
    told = " ".join(told.split())
    assert "gameday-plan" not in told
    assert "PID of" in told
    assert "TAG" in told
    assert not re.search(r"\b1\d{3}\b", told)  # the fake sandbox counts its pids from 1000
    raw = terminal.say("run", "invented", "--dry-run", "--seed", "1", "--json")
    steps = [step for each in json.loads(raw)["injections"] for step in each["undo"]]
    assert len(steps) == 6
    for step in steps:
        assert step.keys() <= {"step", "slot", "link", "signal"}, step
    assert "gameday-plan" not in raw


UNITS = """\
apiVersion: gameday/v1
name: units
title: Durations, sizes, rates and shares
sandbox: {kind: local, app: shop}
slis: {availability: {path: /products, every: 100ms}}
steady_state: {availability: ">= 10%"}
stabilise: 1s
duration: 20s
faults:
  - {at: 1s, inject: memory.hog, target: {slot: api-1}, headroom: 64MiB}
  - {at: 1s, inject: disk.fill, target: {slot: store-1}}
  - {at: 1s, inject: net.bandwidth, target: {link: gateway->api, share: 50%}, rate: 1Mbit/s}
  - {at: 1s, inject: net.latency, target: {link: api->store, count: 1}, delay: 100ms}
"""


def test_what_a_fault_is_given_is_shown_with_its_unit(terminal: Terminal) -> None:
    (terminal.cwd / "units.yaml").write_text(UNITS)
    wide = terminal.environment() | {"COLUMNS": "200"}
    plan = terminal.say("run", "units", "--dry-run", env=wide)
    told = terminal.say("catalog", "units")
    for how in ("headroom 64 MiB", "leave 0 B", "rate 1 Mbit/s", "delay 100 ms, jitter 0 s"):
        assert how in plan
        assert f"({how})" in told
    assert "50 % gateway->api" in told
    raw = json.loads(terminal.say("run", "units", "--dry-run", "--json"))
    given = [each["parameters"] for each in raw["injections"]]
    assert {"headroom": 64 << 20} in given  # for machines: SI
    assert {"delay": 0.1, "jitter": 0.0} in given


ATTACHED = """\
apiVersion: gameday/v1
name: real
title: A process of the user's own
sandbox: {kind: attached}
slis: {availability: {address: "127.0.0.1:9", path: /, every: 100ms}}
steady_state: {availability: ">= 10%"}
stabilise: 1s
duration: 5s
faults: [{at: 1s, inject: process.pause, target: {service: web}}]
"""


@pytest.mark.sandbox
def test_a_dry_run_on_an_attached_process_names_it(terminal: Terminal) -> None:
    """There the pid is real: leave nothing out."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (terminal.cwd / "real.yaml").write_text(ATTACHED)
        raw = terminal.say("run", "real", "--dry-run", "--json", "--attach", f"web={process.pid}")
    finally:
        process.kill()
        process.wait()
    [[step]] = [each["undo"] for each in json.loads(raw)["injections"]]
    assert step["process"]["pid"] == process.pid


@pytest.mark.sandbox
def test_a_drill_that_is_refused_its_sandbox_is_not_listed(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(terminal.state))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        web = {"web": str(process.pid)}
        identity = AttachedSandbox.attach(web, {}, log_dir=terminal.cwd).ref.identity
        lock = state.lock_sandbox(identity, "20260101-000000-abcd")
        (terminal.cwd / "real.yaml").write_text(ATTACHED)
        done = terminal.gameday("run", "real", "--attach", f"web={process.pid}")
        lock.release()
    finally:
        process.kill()
        process.wait()
    assert done.returncode == 6, done.stdout + done.stderr
    assert "the drill 20260101-000000-abcd has this sandbox" in done.stderr
    assert "No drill was run here" in terminal.say("list")
    assert not list((terminal.cwd / ".gameday" / "drills").iterdir())


@pytest.mark.parametrize("args", [["--help"], ["catalog"], ["schema"], ["doctor"]], ids=" ".join)
def test_a_closed_pipe_is_quiet(terminal: Terminal, args: list[str]) -> None:
    """`gameday … | head -1`."""
    command = " ".join([sys.executable, "-m", "gameday", *args])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"],
        cwd=terminal.cwd,
        env=terminal.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 1, 3, 141)


@pytest.mark.parametrize("args", ["--help", "--version", "catalog", "list", "status", "doctor"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", ">/dev/full"])
def test_closed_and_full_outputs_are_survived(terminal: Terminal, args: str, closed: str) -> None:
    command = f"{sys.executable} -m gameday {args} {closed}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=terminal.cwd,
        env=terminal.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    no_traceback(done.stdout, done.stderr)
    assert "fault of Gameday's own" not in done.stderr
    assert done.returncode != 70
    if closed.startswith((">&-", ">/dev/full")) and args != "status":  # which has nothing to say
        assert done.returncode == 4
        assert done.stderr.startswith("gameday: the output cannot be written") or "2>" in closed


def test_a_locale_without_umlauts(terminal: Terminal) -> None:
    env = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for args in (
        ["catalog"],
        ["--help"],
        ["run", "--help"],
        ["catalog", "slow-store"],
        ["schema"],
        ["run", "slow-store", "--dry-run"],
    ):
        done = terminal.gameday(*args, env=env)
        no_traceback(done.stderr)
        assert done.returncode == 0, (args, done.stderr)


def test_a_folder_that_cannot_be_written_to(terminal: Terminal) -> None:
    """Before anything is started: where, why, what to do."""
    (terminal.cwd / ".gameday").write_text("a file is in the way")
    done = terminal.gameday("run", "api-node-failure", "-q")
    assert done.returncode == 4, done
    no_traceback(done.stdout, done.stderr)
    assert ".gameday" in done.stderr
    assert "write" in done.stderr
    assert not terminal.open_drills()


def test_a_drill_that_is_refused_leaves_nothing(terminal: Terminal) -> None:
    done = terminal.gameday("run", "no-such-scenario")
    assert done.returncode == 2, done
    no_traceback(done.stderr)
    assert list(terminal.cwd.iterdir()) == []
    assert not terminal.state.exists()


def test_a_state_that_cannot_be_kept(terminal: Terminal) -> None:
    in_the_way = terminal.cwd / "file"
    in_the_way.write_text("")
    env = {"GAMEDAY_STATE": str(in_the_way / "state")}
    done = terminal.gameday("run", "api-node-failure", "-q", env=env)
    assert done.returncode == 4, done
    no_traceback(done.stdout, done.stderr)
    assert "GAMEDAY_STATE" in done.stderr
    for command in (["list"], ["status"], ["catalog"]):
        told = terminal.gameday(*command, env=env)
        no_traceback(told.stderr)
        assert told.returncode in (0, 2), told


def test_our_own_faults_say_where_to_report_them(terminal: Terminal) -> None:
    """Exit 70, no traceback; with GAMEDAY_DEBUG the traceback."""
    code = (
        "import gameday.scenarios.catalog as c\n"
        "def broken(): raise RuntimeError('a bug')\n"
        "c.catalogue = broken\n"
        "from gameday.drills.cli import main\n"
        "main(['catalog'])\n"
    )
    argv = [sys.executable, "-P", "-c", code]
    done = subprocess.run(argv, env=terminal.environment(), capture_output=True, text=True)
    assert done.returncode == 70
    no_traceback(done.stderr)
    assert "RuntimeError: a bug" in done.stderr
    assert "GAMEDAY_DEBUG" in done.stderr
    env = terminal.environment({"GAMEDAY_DEBUG": "1"})
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "a bug" in done.stderr


# Completion


def completed(terminal: Terminal, shell: str, tmp: Path, *words: str) -> set[str]:
    """What the shell would offer for the last word, by running its own script."""
    script = tmp / f"complete.{shell}"
    script.write_text(terminal.say("completion", shell))
    wrapper = tmp / "bin" / "gameday"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m gameday "$@"\n')
    wrapper.chmod(0o755)
    env = terminal.environment()
    env["PATH"] = f"{wrapper.parent}:{env.get('PATH', '')}"
    quoted = " ".join(f"'{word}'" for word in words)
    body = f"""
source {script}
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{" ".join(words)}'
function=$(complete -p gameday | sed -E 's/.*-F ([^ ]+).*/\\1/')
$function gameday
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", body],
        env=env,
        cwd=terminal.cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["gameday", ""], {"run", "validate", "ack", "sandbox", "completion"}),
        (["gameday", "va"], {"validate"}),
        (["gameday", "run", "--d"], {"--dry-run"}),
        (["gameday", "run", "--fixers", ""], {"scripted", "people"}),
        (["gameday", "sandbox", "re"], {"restart"}),
        (["gameday", "run", "slow"], {"slow-store"}),
        (["gameday", "catalog", "st"], {"store-unreachable"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes(
    terminal: Terminal,
    tmp_path: Path,
    needs: Callable[[bool, str], None],
    words: list[str],
    offered: set[str],
) -> None:
    needs(shutil.which("bash") is not None, "bash is not installed")
    assert offered <= completed(terminal, "bash", tmp_path, *words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(terminal: Terminal, shell: str) -> None:
    script = terminal.say("completion", shell)
    assert "_GAMEDAY_COMPLETE" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_a_shell_that_is_unknown(terminal: Terminal) -> None:
    told = terminal.gameday("completion", "tcsh")
    assert told.returncode == 2
    assert "bash" in told.stderr


# The docs of exit codes


def test_the_exit_codes_are_told(terminal: Terminal) -> None:
    told = " ".join(terminal.say("run", "--help").split())
    for code in (0, 1, 2, 3, 4, 5, 6, 70):
        assert re.search(rf"\b{code} \w+", told), code


def test_every_module_states_what_it_offers() -> None:
    """A module's ``__all__`` names what exists, and nothing private."""
    for package, path in sources():
        if path.name.startswith("_") or "first" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        given: Any = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        for names in given:
            assert not [name for name in names if name.startswith("_")], (package, path)


def test_ctrl_c_in_the_midst_of_an_import_is_one_line() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('gameday.drills'): raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from gameday.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "gameday: interrupted\n")
