"""``clock.skew`` on a real Docker Engine: what a running program sees, and what is refused."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from gameday.injectors.errors import Refused, SandboxError
from gameday.injectors.fault import Injection
from gameday.injectors.laws import Trial
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.undo import Outcome
from tests.containers import Containers, attach, containers, make, run
from tests.engine import CLOCK

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]
__all__ = ["containers"]

WAIT = 0.05
"""Seconds for which the program waits each time."""


@pytest.fixture
def box(containers: Containers) -> DockerSandbox:
    return attach(containers)


class Told(NamedTuple):
    """A line of the program's: what its clocks were, and how long it had waited."""

    wall: float
    monotonic: float
    way: int
    waited: float

    @property
    def off(self) -> float:
        """How far off its wall clock is by this machine's: all share its monotonic clock."""
        return self.wall - self.monotonic - (time.time() - time.monotonic())


def told(containers: Containers, since: float = 0.0) -> list[Told]:
    (clock,) = (name for name in containers.names if "-clock-" in name)
    lines = containers.docker("logs", "--tail", "1000", clock).splitlines()
    found = [Told(*map(float, line.split())) for line in lines]  # type: ignore[arg-type]
    return [each for each in found if each.monotonic >= since]


def trial_of(box: DockerSandbox, slot: str = "clock-1", offset: str = "1h") -> Trial:
    fault = make("clock.skew", target={"slot": slot}, offset=offset)
    return Trial(box, fault, patience=30.0, places=(f"{slot}:{CLOCK}",))


def injected(trial: Trial) -> Injection:
    ((injection, _),) = run(trial.inject)
    return injection


@pytest.mark.alone
@pytest.mark.short_form("-5m--300.0")
@pytest.mark.parametrize(("offset", "seconds"), [("1h", 3600.0), ("-5m", -300.0), ("+250ms", 0.25)])
def test_a_running_program_sees_the_wrong_time_and_no_other_clock_jumps(
    offset: str, seconds: float, box: DockerSandbox, containers: Containers
) -> None:
    trial = trial_of(box, offset=offset)
    image = run(trial.image)
    (injection,) = run(trial.plan)
    time.sleep(1.0)
    skewed = time.monotonic()
    run(trial.fault.inject, box, injection)
    time.sleep(2.0)
    seen = run(trial.fault.look, box, injection)
    righted = time.monotonic()
    (done,) = run(trial.undo, [injection])
    time.sleep(2.0)
    assert seen.took_effect, seen.seen
    assert done.outcome is Outcome.PUT_BACK
    lines = told(containers, since=skewed - 1.0)
    for begin, end, off in (
        (skewed - 1.0, skewed, 0.0),
        (skewed + 1.0, righted, seconds),
        (righted + 1.0, righted + 2.0, 0.0),
    ):
        between = [each for each in lines if begin <= each.monotonic < end]
        assert {each.way for each in between} == {0.0, 1.0, 2.0, 3.0}
        assert max(abs(each.off - off) for each in between) < 0.05, between
    assert all(WAIT * 0.9 < each.waited < WAIT + 0.5 for each in lines), lines
    steps = [b.monotonic - a.monotonic for a, b in itertools.pairwise(lines)]
    assert min(steps) > 0
    assert max(steps) < 1.0
    run(trial.expect, image)


def test_it_is_not_in_force_before_a_program_looks(
    box: DockerSandbox, containers: Containers
) -> None:
    """The file alone proves nothing: a program may have the library, and never ask it."""
    containers.start_clock("idle", program="import signal; signal.pause()")
    try:
        trial = trial_of(box, "idle-1")
        (injection,) = run(trial.plan)
        run(trial.fault.inject, box, injection)
        seen = run(trial.fault.look, box, injection)
        assert (seen.took_effect, seen.in_force) == (False, True)
        assert "nobody has looked" in seen.seen
        containers.docker("exec", containers.names[-1], "date")
        assert run(trial.fault.look, box, injection).took_effect
        run(trial.undo, [injection])
        assert not run(trial.fault.look, box, injection).in_force
    finally:
        containers.docker("rm", "--force", containers.names.pop())


@pytest.mark.short_form("kill-put-back")
@pytest.mark.parametrize(
    ("since", "outcome"),
    [
        (("exec", "{clock}", "sh", "-c", f"echo +60 > {CLOCK}"), Outcome.TAKEN_OVER),
        (("exec", "{clock}", "sh", "-c", f"echo +0 > {CLOCK}"), Outcome.NOTHING),
        (("exec", "{clock}", "rm", CLOCK), Outcome.TAKEN_OVER),
        (("restart", "--time", "1", "{clock}"), Outcome.PUT_BACK),
        (("kill", "{clock}"), Outcome.PUT_BACK),
        (("rm", "--force", "{clock}"), Outcome.TAKEN_OVER),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value.value,
)
def test_a_clock_is_set_right_whatever_became_of_it(
    since: tuple[str, ...], outcome: Outcome, box: DockerSandbox, containers: Containers
) -> None:
    """Also where no process runs any more; and what somebody else wrote since is left alone."""
    clock = containers.start_clock("other")
    there = True
    try:
        trial = trial_of(box, "other-1", "-1.5s")
        injection = injected(trial)
        containers.docker(*(word.format(clock=clock) for word in since))
        (done,) = run(trial.undo, [injection])
        assert done.outcome is outcome, done
        there = since[0] != "rm"
        if since[0] == "kill":
            containers.docker("start", clock)
        if there and "rm" not in since:
            left = containers.docker("exec", clock, "cat", CLOCK)
            assert left == ("+60" if outcome is Outcome.TAKEN_OVER else "+0")
        if there:
            listed = containers.docker("exec", clock, "ls", "-A", "/etc").split()
            assert not [name for name in listed if "gameday" in name]
        assert not list((containers.folder / "clocks").iterdir())
        (again,) = run(trial.undo, [injection])
        assert again.outcome is Outcome.NOTHING
    finally:
        containers.names.remove(clock)
        if there:
            containers.docker("rm", "--force", clock)


@pytest.mark.short_form("--breaks its sleep: up to 0.9.10, absolute sleeps end with EINVAL")
@pytest.mark.parametrize(
    ("other", "words", "says"),
    [
        ({"LD_PRELOAD": ""}, (), "no program of odd-1 has libfaketime loaded"),
        (
            {"LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1"},
            (),
            "breaks its sleep: up to 0.9.10, absolute sleeps end with EINVAL",
        ),
        ({"FAKETIME_TIMESTAMP_FILE": ""}, (), "FAKETIME_TIMESTAMP_FILE names no file"),
        ({"FAKETIME_TIMESTAMP_FILE": "clock"}, (), "FAKETIME_TIMESTAMP_FILE names no file"),
        ({"FAKETIME": "+0"}, (), "FAKETIME is set, which counts more than the file"),
        ({"FAKETIME_SKIP_CMDS": "python3"}, (), "FAKETIME_SKIP_CMDS is set"),
        ({"FAKETIME_DONT_FAKE_MONOTONIC": "0", "DONT_FAKE_MONOTONIC": "1"}, (), "would jump, too"),
        ({"FAKETIME_NO_CACHE": ""}, (), "looks at the file less often than every 5 s"),
        (
            {"FAKETIME_NO_CACHE": "", "FAKETIME_CACHE_DURATION": "60"},
            (),
            "looks at the file less often than every 5 s",
        ),
        ({"FAKETIME_TIMESTAMP_FILE": "/no/such"}, (), "odd-1 has no file /no/such"),
        ({"FAKETIME_TIMESTAMP_FILE": "/etc/none"}, (), "odd-1 has no file /etc/none"),
        ({"FAKETIME_TIMESTAMP_FILE": "/etc"}, (), "is no plain file"),
        ({}, ("--read-only",), "lies where all is read-only"),
        ({"FAKETIME_TIMESTAMP_FILE": "/v/clock"}, ("--volume", "{v}:/v"), "lies on a volume"),
        ({}, ("--volume", f"{{v}}/clock:{CLOCK}"), "lies on a volume"),
        ({"FAKETIME_TIMESTAMP_FILE": "/v/late"}, ("--volume", "{v}:/v"), "how far off its clock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_honestly_is_refused(
    other: dict[str, str],
    words: tuple[str, ...],
    says: str,
    box: DockerSandbox,
    containers: Containers,
) -> None:
    """Before anything is touched, and with what to do."""
    volume = containers.folder / "volume"
    volume.mkdir(exist_ok=True)
    (volume / "clock").write_text("+0\n")
    (volume / "late").write_text("-60\n")
    words = tuple(word.format(v=volume) for word in words)
    program = "import signal; signal.pause()"
    clock = containers.start_clock("odd", *words, program=program, **other)
    try:
        trial = trial_of(box, "odd-1")
        wait_until(lambda: has_begun(box))
        with pytest.raises(Refused, match=says) as refused:
            run(trial.plan)
        assert refused.value.hint
    finally:
        containers.names.remove(clock)
        containers.docker("rm", "--force", clock)


@pytest.mark.acceptance
def test_threads_need_the_library_for_threads(box: DockerSandbox, containers: Containers) -> None:
    program = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    single = "/usr/local/lib/faketime/libfaketime.so.1"
    copied = f"cp {CLOCK_LIBRARY} {single} && exec python3 -c '{program}'"
    clock = containers.start(
        *("odd", 1),
        *("--env", f"FAKETIME_TIMESTAMP_FILE={CLOCK}", "--env", "FAKETIME_NO_CACHE=1"),
        *("--env", "FAKETIME_DONT_FAKE_MONOTONIC=1"),
        command=("sh", "-c", copied.replace("exec", f"LD_PRELOAD={single} exec")),
    )
    try:
        trial = trial_of(box, "odd-1")
        wait_until(lambda: has_begun(box))
        with pytest.raises(Refused, match=r"has 2 threads, and libfaketime.so.1 is made for one"):
            run(trial.plan)
    finally:
        containers.names.remove(clock)
        containers.docker("rm", "--force", clock)


CLOCK_LIBRARY = "/usr/local/lib/faketime/libfaketimeMT.so.1"


@pytest.mark.acceptance
def test_the_waits_of_a_java_virtual_machine_are_not_broken(
    box: DockerSandbox, containers: Containers
) -> None:
    """A library of that name tells one."""
    program = """
import ctypes, shutil, signal
found = next(line.split()[-1] for line in open("/proc/self/maps") if "libm.so" in line)
ctypes.CDLL(shutil.copy(found, "/tmp/libjvm.so"))
signal.pause()
"""
    clock = containers.start_clock("odd", program=program)
    try:
        wait_until(lambda: has_begun(box))
        with pytest.raises(Refused, match="breaks the waits of its Java virtual machine"):
            run(trial_of(box, "odd-1").plan)
    finally:
        containers.names.remove(clock)
        containers.docker("rm", "--force", clock)


def test_who_dies_in_the_midst_of_it_leaves_nothing_behind(
    box: DockerSandbox, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file beside, which would have taken the place of the other, goes with the undo."""

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    trial = trial_of(box)
    image = run(trial.image)
    (injection,) = run(trial.plan)
    (clock,) = (name for name in containers.names if "-clock-" in name)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(Died):
            run(trial.fault.inject, box, injection)
    assert f".{injection.tag}" in containers.docker("exec", clock, "ls", "-A", "/etc").split()
    assert not run(trial.fault.look, box, injection).in_force
    (done,) = run(trial.undo, [injection])
    assert done.outcome is Outcome.NOTHING
    assert f".{injection.tag}" not in containers.docker("exec", clock, "ls", "-A", "/etc").split()
    run(trial.expect, image)


def has_begun(box: DockerSandbox) -> bool:
    """Whether the init of `odd-1` has started its program, and that has got as far as it will."""
    container = run(box.find, "odd-1")
    assert container is not None
    assert container.process is not None
    found = subprocess.run(
        ["pgrep", "--parent", str(container.process.pid), "python3"], capture_output=True
    )
    time.sleep(0.3)
    return found.returncode == 0


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_another_process_than_planned_for_is_left_alone(
    box: DockerSandbox, containers: Containers
) -> None:
    trial = trial_of(box)
    (injection,) = run(trial.plan)
    (clock,) = (name for name in containers.names if "-clock-" in name)
    containers.docker("restart", "--time", "1", clock)
    with pytest.raises(SandboxError, match="another process fills clock-1"):
        run(trial.fault.inject, box, injection)
    assert containers.docker("exec", clock, "cat", CLOCK) == "+0"
