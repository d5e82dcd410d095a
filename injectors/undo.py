"""Undo as data: the closed, versioned vocabulary of steps that put things back.

A step is plain data: it survives JSON, another process and another machine.
The sandbox's driver runs it (`Sandbox.run_step`), idempotently, also where the
injection never happened; no code of the fault is needed. The driver also knows each
step as a command to do by hand (`gameday.injectors.sandbox.kinds.by_hand`).

It imports nothing but msgspec: the watchdog must be standing within milliseconds.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "UNDO_VERSION",
    "AllowFile",
    "Armed",
    "ClearHold",
    "Compared",
    "ConnectNetwork",
    "CreateContainer",
    "DeleteFile",
    "EndHelpers",
    "Outcome",
    "ProcessId",
    "RemoveToxic",
    "ResolvePage",
    "RestoreAffinity",
    "RestoreClock",
    "RestoreFile",
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
    """Start the slot's process if none runs.

    Attributes:
        process: Who filled the slot when this was armed: any other one has taken it over.
    """

    slot: str
    process: ProcessId | None = None


class ClearHold(_Step, frozen=True):
    """Lift what keeps a slot's process from staying up; start it if none runs."""

    slot: str
    tag: str


class RemoveToxic(_Step, frozen=True):
    """Take a network fault off a link, or off all that a slot says and hears.

    Attributes:
        link: ``api-1->store-1``, or a slot: ``api-1``.
    """

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


class ConnectNetwork(_Step, frozen=True):
    """Connect a slot's container to a network that we took it off.

    Attributes:
        settings: How it was connected (aliases, fixed addresses), as JSON: the driver's own.
    """

    slot: str
    network: str
    settings: str


class CreateContainer(_Step, frozen=True):
    """Make a container again that we removed, and start it, unless another one fills its slot.

    Attributes:
        process: Who filled the slot when this was armed.
        tag: By it the driver finds what it kept of the container. Secrets may be in that, so
            it is no part of the step.
    """

    slot: str
    process: ProcessId
    tag: str


class RestoreFile(_Step, frozen=True):
    """Give the places of a file that we overwrote what they held, unless they were written since.

    Attributes:
        tag: By it the driver finds what it kept of the file. It is no part of the step, as
            secrets may be in it.
    """

    slot: str
    process: ProcessId
    path: str
    tag: str


class AllowFile(_Step, frozen=True):
    """Uncover a file that nobody could open."""

    slot: str
    process: ProcessId
    path: str
    tag: str


class RestoreClock(_Step, frozen=True):
    """Set the wall clock of a slot's programs right, unless somebody has set it since.

    Attributes:
        path: The file, as its programs see it, that says how far off their clock is.
        tag: By it the driver finds what the file held.
    """

    slot: str
    process: ProcessId
    path: str
    tag: str


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
    | ConnectNetwork
    | CreateContainer
    | RestoreFile
    | AllowFile
    | RestoreClock
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
    """A line of ``undo.jsonl``: written and fsynced *before* the change is made.

    Attributes:
        target: The slot or link that is hit; empty where it is no injection.
        before: The target's fingerprint without any fault of ours (`Sandbox.fingerprint`).
    """

    id: str
    what: str
    sandbox: SandboxRef
    steps: tuple[Step, ...]
    version: int = UNDO_VERSION
    target: str = ""
    before: dict[str, str] = {}


class Undone(msgspec.Struct, frozen=True, tag="undone"):
    """A line of ``undo.jsonl`` (by the runner) or ``recovery.jsonl``: an armed change was undone."""

    id: str
    outcome: Outcome
    detail: str = ""
    by: str = ""
    at: float = 0.0
    wall: float = 0.0


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    """A line of ``recovery.jsonl``: whether a target is as it was before, once it was put back.

    Attributes:
        detail: The difference.
    """

    id: str
    equal: bool
    detail: str = ""
    at: float = 0.0
    wall: float = 0.0


UndoRecord = Armed | Undone | Compared
