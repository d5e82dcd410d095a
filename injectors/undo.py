"""Undo as data: the closed, versioned vocabulary of steps that put things back.

A step is plain data: it survives JSON, another process and another machine.
The sandbox's driver runs it (`Sandbox.run_step`), idempotently, also where the
injection never happened; no code of the fault is needed. Each step prints
itself as a command to do by hand.

msgspec, not pydantic: the watchdog must be standing within milliseconds.
"""

from __future__ import annotations

import enum
import shlex
import signal as signals

import msgspec

from gameday.injectors.reading import UNREADABLE

__all__ = [
    "UNDO_VERSION",
    "Armed",
    "ClearHold",
    "DeleteFile",
    "EndHelpers",
    "Outcome",
    "ProcessId",
    "RemoveToxic",
    "ResolvePage",
    "RestoreAffinity",
    "RestoreLimit",
    "RunCommand",
    "SandboxRef",
    "SignalProcess",
    "StartSlot",
    "Step",
    "StepResult",
    "TearDown",
    "UndoRecord",
    "Undone",
    "by_hand",
]

UNDO_VERSION = 1


class ProcessId(msgspec.Struct, frozen=True):
    """A process, beyond doubt: a pid alone is reused.

    Attributes:
        boot_id: ``/proc/sys/kernel/random/boot_id`` of its host.
        pid: Its pid as its host sees it.
        started: Its start time in clock ticks since boot (``/proc/PID/stat``, field 22).
    """

    boot_id: str
    pid: int
    started: int


class SandboxRef(msgspec.Struct, frozen=True):
    """How any process, now or after a reboot, finds a sandbox again.

    Attributes:
        kind: ``local``, ``attached``, ``fake`` …: names the driver.
        identity: What two drills on the same sandbox share; the lock's key.
        address: The driver's own: a socket path, a project, a context.
        options: The driver's own further facts.
    """

    kind: str
    identity: str
    address: str
    options: dict[str, str] = {}


class _Step(msgspec.Struct, frozen=True, tag_field="step", tag=lambda name: name):
    pass


class SignalProcess(_Step, frozen=True):
    """Send a signal to one process, if it is still that process."""

    slot: str
    process: ProcessId
    signal: int


class StartSlot(_Step, frozen=True):
    """Start the slot's process if none runs."""

    slot: str


class ClearHold(_Step, frozen=True):
    """Lift what keeps a slot's process from staying up; start it if none runs."""

    slot: str
    tag: str


class RemoveToxic(_Step, frozen=True):
    """Take a network fault off a link."""

    link: str
    tag: str


class EndHelpers(_Step, frozen=True):
    """End the helper processes (burners, hogs) that carry this tag."""

    slot: str
    tag: str


class RestoreAffinity(_Step, frozen=True):
    """Let a process run on these CPUs again, if it is still that process."""

    slot: str
    process: ProcessId
    cpus: tuple[int, ...]


class RestoreLimit(_Step, frozen=True):
    """Give a process its resource limit back (an rlimit, or a cgroup file of its own).

    Attributes:
        limit: ``as`` for RLIMIT_AS, else the path of a cgroup file.
        value: ``soft hard`` for an rlimit (-1 is unlimited), else the file's content.
    """

    slot: str
    process: ProcessId
    limit: str
    value: str


class DeleteFile(_Step, frozen=True):
    """Delete a file that we made in a slot's data folder. ``name`` carries the tag."""

    slot: str
    name: str


class ResolvePage(_Step, frozen=True):
    """Resolve an alert that we fired, on every channel that took it, saying EXERCISE ENDED."""

    page: str
    alert: str
    channels: tuple[str, ...]


class TearDown(_Step, frozen=True):
    """End an embedded sandbox and everything that belongs to it."""

    tag: str


class RunCommand(_Step, frozen=True):
    """Run a command of the user's own (``--allow-exec``, or the restart of an attached process)."""

    slot: str
    argv: tuple[str, ...]


Step = (
    SignalProcess
    | StartSlot
    | ClearHold
    | RemoveToxic
    | EndHelpers
    | RestoreAffinity
    | RestoreLimit
    | DeleteFile
    | ResolvePage
    | TearDown
    | RunCommand
)


class Outcome(enum.Enum):
    """How an undo ended.

    ``taken-over``: somebody (a fixer's restart, a rollout) had already put it back
    or replaced what we broke; that is a mitigation, not a conflict.
    ``nothing``: there was nothing to undo; the injection never took effect.
    """

    PUT_BACK = "put-back"
    TAKEN_OVER = "taken-over"
    NOTHING = "nothing"
    FAILED = "failed"


class StepResult(msgspec.Struct, frozen=True):
    """What one step did. ``by`` names who took it over, where that is known."""

    outcome: Outcome
    detail: str = ""
    by: str = ""


class Armed(msgspec.Struct, frozen=True, tag="armed"):
    """A line of ``undo.jsonl``: written and fsynced *before* the change is made."""

    id: str
    what: str
    sandbox: SandboxRef
    steps: tuple[Step, ...]
    version: int = UNDO_VERSION


class Undone(msgspec.Struct, frozen=True, tag="undone"):
    """A line of ``undo.jsonl`` (by the runner) or ``recovery.jsonl``: an armed change was undone."""

    id: str
    outcome: Outcome
    detail: str = ""
    by: str = ""
    at: float = 0.0
    wall: float = 0.0


UndoRecord = Armed | Undone


def by_hand(step: Step, sandbox: SandboxRef) -> str:
    """The shell command by which a person does ``step`` without us."""
    where = f" --sandbox {shlex.quote(sandbox.address)}" if sandbox.address else ""
    match step:
        case SignalProcess():
            return f"kill -{_signal_name(step.signal)} {step.process.pid}"
        case StartSlot() if sandbox.kind == "attached":
            return _restart_command(step.slot, sandbox)
        case StartSlot():
            return f"gameday sandbox restart {shlex.quote(step.slot)}{where}"
        case ClearHold():
            return f"gameday sandbox clear {shlex.quote(step.slot)} {shlex.quote(step.tag)}{where}"
        case RemoveToxic():
            return f"gameday sandbox clear {shlex.quote(step.link)} {shlex.quote(step.tag)}{where}"
        case EndHelpers():
            # Their environment names them, and nothing that anybody else has on a command line.
            mark = shlex.quote(f"GAMEDAY_HELPER={step.tag}")
            found = f"grep -slzxF {mark} /proc/[0-9]*/environ | cut -d/ -f3"
            return f"{found} | xargs -r kill -KILL"
        case RestoreAffinity():
            return f"taskset -a -cp {','.join(map(str, step.cpus))} {step.process.pid}"
        case RestoreLimit(limit="as"):
            soft, _, hard = step.value.replace("-1", "unlimited").partition(" ")
            limits = shlex.quote(f"{soft}:{hard}")
            return f"prlimit --pid {step.process.pid} --as={limits}"
        case RestoreLimit():
            return f"echo {shlex.quote(step.value)} > {shlex.quote(step.limit)}"
        case DeleteFile():
            return f"gameday sandbox exec {shlex.quote(step.slot)}{where} -- rm -f {shlex.quote(step.name)}"
        case ResolvePage():
            return "gameday recover"  # it alone knows the channels: a webhook may be a secret
        case TearDown():
            return f"gameday sandbox down{where}"
        case RunCommand():
            return shlex.join(step.argv) or "(an empty command)"


def _restart_command(slot: str, sandbox: SandboxRef) -> str:
    """How an attached process is started: as the user said, else as it had been started."""
    try:
        known = msgspec.json.decode(
            sandbox.options.get("attached", "{}"), type=dict[str, _HowItRuns]
        )
    except UNREADABLE:
        known = {}  # damaged; there is still the name
    one = known.get(slot.removesuffix("-1"), _HowItRuns())
    return shlex.join(one.restart or one.command) or f"start {shlex.quote(slot)} again"


class _HowItRuns(msgspec.Struct):
    restart: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def _signal_name(number: int) -> str:
    """``KILL``, ``CONT``; the number itself, where it is no signal here."""
    try:
        return signals.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
