"""What is said over the supervisor's socket: JSON lines, a closed vocabulary.

One order for each connection and one answer to it; `Watch` is answered by an
endless stream of changes. `Execute` carries three file descriptors beside its line.
"""

from __future__ import annotations

import msgspec

from gameday.injectors.sandbox.base import Change, Link, ProcessStatus, Slot, Toxic
from gameday.injectors.undo import ProcessId

__all__ = [
    "GROUPS",
    "PROCESSES",
    "SOCKET",
    "SPEC",
    "SUPERVISES",
    "About",
    "AddToxic",
    "Answer",
    "Burn",
    "Burning",
    "CapMemory",
    "ChangeSeen",
    "ClearToxic",
    "Count",
    "Cpus",
    "Done",
    "Down",
    "Drain",
    "EndHelpersOf",
    "Ended",
    "Ensure",
    "Ensured",
    "Execute",
    "Failed",
    "FileSize",
    "Files",
    "Fill",
    "FindLinks",
    "FindSlots",
    "Free",
    "FreeBytes",
    "GetStatus",
    "GetToxics",
    "HealthSpec",
    "Hello",
    "Hold",
    "LinkList",
    "LogOf",
    "MemoryGroup",
    "Names",
    "Order",
    "Remove",
    "Restart",
    "Scale",
    "ServiceSpec",
    "SlotList",
    "Spec",
    "StatusOf",
    "Stop",
    "ToxicList",
    "Unhold",
    "Up",
    "Watch",
    "WhoStarted",
]

SOCKET = "socket"
"""The socket's name in the sandbox's run folder."""

SPEC = "spec.json"
"""The name, there, of the file that holds the `Spec`."""

GROUPS = "groups.json"
"""The name, there, of the file that tells the folder of the sandbox's control groups."""

PROCESSES = "processes.json"
"""The name, there, of the file that tells the processes in the slots, or those that do not end."""

SUPERVISES = "GAMEDAY_SUPERVISES"
"""The variable that tells a supervisor by its run folder; its services do not inherit it."""


class HealthSpec(msgspec.Struct, frozen=True):
    """`cluster.Health`, for the supervisor, which starts without what reads a declaration."""

    http: str | None = None
    tcp: bool = False
    command: tuple[str, ...] | None = None
    every: float = 0.5
    timeout: float = 1.0
    start_within: float = 15.0


class ServiceSpec(msgspec.Struct, frozen=True):
    """`cluster.Service`, for the supervisor. Signals are numbers."""

    name: str
    command: tuple[str, ...]
    replicas: int
    environment: dict[str, str]
    files: dict[str, str]
    links: tuple[str, ...]
    health: HealthSpec | None
    reload: int | None
    stop: int
    grace: float
    restart: bool
    owner: str
    tier: str


class Spec(msgspec.Struct, frozen=True):
    """All that a supervisor has to know; it reads it from ``spec.json`` in its run folder.

    Attributes:
        tag: What every process of the sandbox carries in ``GAMEDAY_SANDBOX``.
        owners: The supervisor ends when all of them are gone; empty: when it is told to.
        services: In the order in which they were declared.
    """

    tag: str
    name: str
    disk: int
    folder: str
    log_dir: str
    owners: tuple[ProcessId, ...]
    services: tuple[ServiceSpec, ...]


class _Order(msgspec.Struct, frozen=True, tag_field="order", tag=lambda name: name):
    pass


class Up(_Order, frozen=True):
    """Answer once every service is healthy."""


class Down(_Order, frozen=True):
    """End everything. Answered when it has begun; the connection closes when it is done."""

    by: str = ""


class FindSlots(_Order, frozen=True):
    """List the slots."""


class FindLinks(_Order, frozen=True):
    """List the links."""


class Watch(_Order, frozen=True):
    """Stream changes from now on."""


class Hello(_Order, frozen=True):
    """Ask what this sandbox has and lacks."""


class GetStatus(_Order, frozen=True):
    """Look at a slot's process."""

    slot: str


class WhoStarted(_Order, frozen=True):
    """Whether a process fills the slot, and who started it."""

    slot: str


class LogOf(_Order, frozen=True):
    """The file with the output of the slot's processes."""

    slot: str


class Ensure(_Order, frozen=True):
    """Start the slot's process if none runs."""

    slot: str


class Hold(_Order, frozen=True):
    """Crash the slot's process ``uptime`` seconds after each start."""

    slot: str
    tag: str
    uptime: float


class Unhold(_Order, frozen=True):
    """Lift a hold, and start the slot's process if none runs."""

    slot: str
    tag: str


class AddToxic(_Order, frozen=True):
    """Put a network fault on a link."""

    link: str
    toxic: Toxic


class ClearToxic(_Order, frozen=True):
    """Take a network fault off a link."""

    link: str
    tag: str


class GetToxics(_Order, frozen=True):
    """What is in force on a link."""

    link: str


class Burn(_Order, frozen=True):
    """Pin the slot's process to one CPU and start burners there."""

    slot: str
    tag: str
    workers: int


class Burning(_Order, frozen=True):
    """CPUs on which burners run."""


class EndHelpersOf(_Order, frozen=True):
    """End the burners that carry a tag."""

    tag: str


class MemoryGroup(_Order, frozen=True):
    """The limit's file in the control group of the slot's own; no name if it has none."""

    slot: str


class CapMemory(_Order, frozen=True):
    """Leave the control group of the slot's own ``headroom`` bytes beyond what it uses."""

    slot: str
    headroom: int


class Fill(_Order, frozen=True):
    """Fill the slot's data folder."""

    slot: str
    name: str
    leave: int


class FileSize(_Order, frozen=True):
    """Size of a file in the slot's data folder."""

    slot: str
    name: str


class Free(_Order, frozen=True):
    """Bytes free in the slot's data folder."""

    slot: str


class Files(_Order, frozen=True):
    """Names in the slot's data folder that carry a tag of ours."""

    slot: str


class Remove(_Order, frozen=True):
    """Delete a file from the slot's data folder."""

    slot: str
    name: str


class Restart(_Order, frozen=True):
    """Stop the slot's process and start a new one."""

    slot: str
    by: str


class Stop(_Order, frozen=True):
    """Stop the slot's process and leave it stopped."""

    slot: str
    by: str


class Scale(_Order, frozen=True):
    """Start or stop replicas."""

    service: str
    replicas: int
    by: str


class Drain(_Order, frozen=True):
    """Take a slot out of the links that lead to it, or put it back."""

    slot: str
    by: str
    back: bool = False


class Execute(_Order, frozen=True):
    """Run a command as the slot's processes run; stdin, stdout and stderr come beside this line."""

    slot: str
    argv: tuple[str, ...]
    by: str


Order = (
    Up
    | Down
    | FindSlots
    | FindLinks
    | Watch
    | Hello
    | GetStatus
    | WhoStarted
    | LogOf
    | Ensure
    | Hold
    | Unhold
    | AddToxic
    | ClearToxic
    | GetToxics
    | Burn
    | Burning
    | EndHelpersOf
    | MemoryGroup
    | CapMemory
    | Fill
    | FileSize
    | Free
    | Files
    | Remove
    | Restart
    | Stop
    | Scale
    | Drain
    | Execute
)


class _Answer(msgspec.Struct, frozen=True, tag_field="answer", tag=lambda name: name):
    pass


class Done(_Answer, frozen=True):
    """It was done; or not, where there was nothing to do."""

    changed: bool = True


class Failed(_Answer, frozen=True):
    """It could not be done. ``usage`` means that the order named what does not exist."""

    message: str
    hint: str = ""
    usage: bool = False


class SlotList(_Answer, frozen=True):
    """The slots."""

    slots: tuple[Slot, ...]


class LinkList(_Answer, frozen=True):
    """The links."""

    links: tuple[Link, ...]


class ToxicList(_Answer, frozen=True):
    """The network faults of a link."""

    toxics: tuple[Toxic, ...]


class StatusOf(_Answer, frozen=True):
    """A slot's process."""

    status: ProcessStatus


class Ensured(_Answer, frozen=True):
    """Whether a process was started, or who started the one that runs.

    Attributes:
        started: We started one just now.
        restarts: Starts beyond the first.
        by: Who started the process that runs, or stopped it on purpose.
        gone: The slot was scaled away, or is kept stopped, by ``by``.
        held: A hold of that tag was lifted.
    """

    started: bool
    restarts: int = 0
    by: str = ""
    gone: bool = False
    held: bool = False


class Count(_Answer, frozen=True):
    """A number; None where there is none."""

    value: int | None


class FreeBytes(_Answer, frozen=True):
    """Bytes free."""

    free: int


class Cpus(_Answer, frozen=True):
    """Some CPUs."""

    cpus: tuple[int, ...]


class Names(_Answer, frozen=True):
    """Some names."""

    names: tuple[str, ...]


class About(_Answer, frozen=True):
    """What the sandbox is: parts that it lacks, with the reason of each."""

    lacks: dict[str, str]
    supervisor: int


class Ended(_Answer, frozen=True):
    """A command ended, with this exit code."""

    code: int


class ChangeSeen(_Answer, frozen=True):
    """Something happened."""

    change: Change


Answer = (
    Done
    | Failed
    | SlotList
    | LinkList
    | ToxicList
    | StatusOf
    | Ensured
    | Count
    | FreeBytes
    | Cpus
    | Names
    | About
    | Ended
    | ChangeSeen
)
