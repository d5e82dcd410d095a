"""What a sandbox is to the faults: slots, links, and the parts that act on them.

A **slot** is a place that a process fills: ``api-2`` is replica 2 of service
``api``, and stays ``api-2`` when its process is replaced. A **link** is a way
from one slot to another: ``gateway-1->api-2``.

A fault acts through *parts*, small protocols that a sandbox has or lacks. The
same fault therefore means the same thing on every sandbox, and `validate` can
refuse a fault whose part is missing. Every change that a part makes carries the
drill's tag, is found again by it, and has an undo step (`gameday.injectors.undo`).
"""

from __future__ import annotations

import abc
import shlex
import signal as signals
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from gameday.injectors.errors import Unsupported
from gameday.injectors.undo import (
    AllowFile,
    ClearHold,
    ConnectNetwork,
    CreateContainer,
    DeleteFile,
    EndHelpers,
    ProcessId,
    RemoveToxic,
    ResolvePage,
    RestoreAffinity,
    RestoreClock,
    RestoreFile,
    RestoreLimit,
    RunCommand,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)

__all__ = [
    "GONE",
    "Change",
    "Containers",
    "Cpu",
    "Disk",
    "Files",
    "Hands",
    "Holds",
    "Limit",
    "Limits",
    "Link",
    "Links",
    "Memory",
    "Networks",
    "ProcessStatus",
    "Processes",
    "Sandbox",
    "Skew",
    "Slot",
    "Toxic",
    "WallClock",
    "carries",
    "label_words",
    "labels_of",
]

GONE: Mapping[str, str] = {"container": "none"}
"""The fingerprint of a slot whose container is not there."""


class Slot(msgspec.Struct, frozen=True):
    """One replica's place, as `gameday sandbox ps` shows it.

    Attributes:
        name: ``api-2``.
        service: ``api``.
        state: ``running``, ``paused``, ``stopped`` (nobody wants it up), ``exited`` or ``starting``.
        health: ``healthy``, ``unhealthy`` or ``unknown`` (no health check).
        process: Who fills the slot now; None if nobody.
        address: ``host:port`` where it listens; empty if it does not.
        drained: True if links no longer lead to it.
        since: CLOCK_MONOTONIC of the last start, seconds.
        labels: What it can be aimed at by beside its names (`labels_of`).
        protected: It says of itself that it is never a target.
    """

    name: str
    service: str
    state: str
    health: str = "unknown"
    process: ProcessId | None = None
    address: str = ""
    drained: bool = False
    restarts: int = 0
    since: float = 0.0
    owner: str = ""
    tier: str = ""
    labels: dict[str, str] = {}
    protected: bool = False


def labels_of(own: Mapping[str, str], *, owner: str, tier: str) -> dict[str, str]:
    """The labels of a slot: its own, and what is declared of its service, unless its own say otherwise."""
    declared = {"owner": owner, "tier": tier}
    return {name: value for name, value in declared.items() if value} | dict(own)


def carries(labels: Mapping[str, str], label: str) -> bool:
    """Whether ``label`` is among them: ``tier=cache``, or ``tier`` with any value."""
    name, equals, value = label.partition("=")
    return name in labels and (not equals or labels[name] == value)


def label_words(every: Iterable[Mapping[str, str]], like: str) -> list[str]:
    """What could have been meant by ``like``: names, or names with values; none of an engine's own."""
    found = {
        f"{name}={value}" if "=" in like else name
        for labels in every
        for name, value in labels.items()
        if not name.startswith(("gameday.", "com.docker."))
    }
    return sorted(found)


class Link(msgspec.Struct, frozen=True):
    """A way from one slot to another, with the listener that the client's side connects to."""

    name: str
    source: str
    target: str
    address: str = ""


class Toxic(msgspec.Struct, frozen=True):
    """One network fault in force on one link.

    Attributes:
        kind: ``latency``, ``blackhole``, ``reset`` or ``bandwidth``; on packets also
            ``loss``, ``partition``, ``corrupt``, ``duplicate`` and, of a slot, ``dns``.
        tag: The injection's tag; its name on the link.
        parameters: SI units: ``delay``/``jitter`` in s, ``rate`` in bit/s, ``share`` of 1.
    """

    kind: str
    tag: str
    parameters: dict[str, float] = {}


class ProcessStatus(msgspec.Struct, frozen=True):
    """What a look at a slot's process showed.

    Attributes:
        process: Who fills the slot; None if nobody.
        state: ``running``, ``paused`` (every thread stopped) or ``gone``.
        holds: Tags of what keeps the slot's process from staying up.
        restarts: Starts of the slot beyond the first.
    """

    process: ProcessId | None
    state: str
    holds: tuple[str, ...] = ()
    restarts: int = 0


class Change(msgspec.Struct, frozen=True):
    """Something that happened in the sandbox.

    Attributes:
        at: CLOCK_MONOTONIC, seconds (absolute).
        action: ``started``, ``exited``, ``health``, or what somebody did: ``restart``,
            ``scale``, ``drain``, ``undrain``, ``exec``, ``stop``.
        slot: The slot or service concerned; empty for the whole sandbox.
        by: The role of who did it; ``gameday`` for our own doing, empty where nobody did.
        detail: For people.
    """

    at: float
    action: str
    slot: str = ""
    by: str = ""
    detail: str = ""


class Processes(Protocol):
    """The part ``processes``."""

    async def status(self, slot: str) -> ProcessStatus:
        """Look at the slot's process."""
        ...

    async def check_end(self, slots: Sequence[str]) -> None:
        """Whether the processes of these slots can end and be started anew with harm to nobody else.

        Reads only.

        Raises:
            Unsupported: if they could not.
        """
        ...

    async def signal(self, process: ProcessId, signal: int) -> bool:
        """Send a signal to a process; False if it is no longer that process."""
        ...


class Holds(Protocol):
    """The part ``holds``: whoever starts the slot's processes can keep them from staying up."""

    async def hold(self, slot: str, tag: str, *, uptime: float) -> None:
        """From now on kill the slot's process ``uptime`` seconds after each of its starts, and restart it."""
        ...


class Links(Protocol):
    """The parts ``links``, and ``packets`` where faults act on single packets as well.

    For ``packets``, a slot in a link's place means all that it says and hears.
    """

    async def check(self, links: Sequence[str]) -> None:
        """Whether faults there would hit these links, and nothing beside them. Reads only.

        Raises:
            Unsupported: if it would not.
        """
        ...

    async def add(self, link: str, toxic: Toxic) -> None:
        """Put a network fault on a link; new and open connections are hit."""
        ...

    async def toxics(self, link: str) -> tuple[Toxic, ...]:
        """What is in force on a link, as its proxy reports."""
        ...


class Cpu(Protocol):
    """The part ``cpu``."""

    async def affinity(self, slot: str) -> tuple[int, ...]:
        """CPUs on which the slot's process may run; empty if nobody fills it."""
        ...

    async def burn(self, slot: str, tag: str, *, workers: int) -> None:
        """Pin the slot's process to one CPU and start that many burners beside it there."""
        ...

    async def helpers(self, tag: str) -> tuple[ProcessId, ...]:
        """Helper processes (burners, hogs) that carry the tag and run."""
        ...

    async def burning(self) -> tuple[int, ...]:
        """CPUs on which burners run now: whoever measures keeps off them."""
        ...


class Memory(Protocol):
    """The part ``memory``."""

    async def limit(self, slot: str) -> tuple[str, str]:
        """The limit that `squeeze` would change, and its value, as in `RestoreLimit`.

        Empty if nobody fills the slot and the limit is the process's own.
        """
        ...

    async def squeeze(self, slot: str, tag: str, *, headroom: int) -> None:
        """Leave the slot's process only ``headroom`` bytes beyond what it uses now."""
        ...


class Disk(Protocol):
    """The part ``disk``."""

    async def fill(self, slot: str, name: str, *, leave: int) -> None:
        """Fill the slot's data folder with a file ``name`` until ``leave`` bytes are free."""
        ...

    async def filled(self, slot: str, name: str) -> int | None:
        """Size of that file in bytes; None if it is not there."""
        ...

    async def free(self, slot: str) -> int:
        """Bytes free in the slot's data folder."""
        ...


class Limit(NamedTuple):
    """What a slot may use.

    Attributes:
        path: Names the limit, as in `RestoreLimit`; empty if nobody fills the slot.
        value: Its value, as in `RestoreLimit`.
        amount: The same in CPUs or bytes; infinite if there is no limit.
    """

    path: str
    value: str
    amount: float


class Limits(Protocol):
    """The part ``limits``: what whoever runs the slot's processes lets them have.

    ``resource`` is ``cpu`` or ``memory``.
    """

    async def limit(self, slot: str, resource: str) -> Limit:
        """The limit that is in force."""
        ...

    async def lower(self, slot: str, resource: str, amount: float) -> None:
        """Let the slot have ``amount`` CPUs or bytes, and no more."""
        ...


class Networks(Protocol):
    """The part ``networks``: the networks that a slot's container is in."""

    async def networks(self, slot: str) -> Mapping[str, str]:
        """Their names, each with the settings that `ConnectNetwork` takes."""
        ...

    async def check(self, slots: Sequence[str]) -> None:
        """Whether taking these slots off their networks would hit nobody else. Reads only.

        Raises:
            Unsupported: if it would.
        """
        ...

    async def disconnect(self, slot: str, network: str) -> None:
        """Take the slot's container off a network."""
        ...


class Containers(Protocol):
    """The part ``containers``: what an engine does to a container as a whole.

    ``process`` is who filled the slot when the fault was planned: another one is not hit.
    """

    async def stop(self, slot: str, process: ProcessId | None, *, grace: float) -> None:
        """Ask it to end (SIGTERM), and kill it after ``grace`` seconds."""
        ...

    async def check(self, slot: str) -> None:
        """Whether it could be made again. Reads only.

        Raises:
            Unsupported: if it could not.
        """
        ...

    async def remove(self, slot: str, process: ProcessId | None, tag: str) -> None:
        """Keep what it takes to make it again, then kill and remove it; its volumes stay."""
        ...


class Files(Protocol):
    """The part ``files``: single files, as the slot's processes see them; ``path`` is absolute."""

    async def check(self, slot: str, path: str) -> None:
        """Whether there is such a file. Reads only.

        Raises:
            UsageError: if there is none, or it is no plain file.
        """
        ...

    async def corrupt(
        self, slot: str, process: ProcessId | None, path: str, tag: str, *, blocks: int
    ) -> None:
        """Keep what ``blocks`` places of 16 bytes hold, then overwrite them with noise."""
        ...

    async def corrupted(self, slot: str, path: str, tag: str) -> int:
        """How many places hold our noise."""
        ...

    async def deny(self, slot: str, process: ProcessId | None, path: str, tag: str) -> None:
        """Let nobody in the container open the file."""
        ...

    async def denied(self, slot: str, tag: str) -> bool:
        """Whether a file is denied under that tag."""
        ...


class WallClock(Protocol):
    """The part ``clock``: the wall clock that a slot's programs see, where they let it be set."""

    async def check(self, slot: str) -> str:
        """The file that says how far off their clock is. Reads only.

        Raises:
            Unsupported: if it could not be set honestly, and what would have to be done.
        """
        ...

    async def skew(self, slot: str, process: ProcessId | None, tag: str, *, offset: float) -> None:
        """Keep what the file holds, then let the clock be off by so many seconds."""
        ...

    async def skewed(self, slot: str, tag: str) -> Skew:
        """What is to be seen of it."""
        ...


class Skew(NamedTuple):
    """How a slot's clock was set under a tag.

    Attributes:
        told: The offset is ours, and a program runs there that goes by it.
        read: A program there has read it since.
    """

    told: bool
    read: bool


class Hands(Protocol):
    """The part ``hands``: what fixers do, from a terminal or scripted; each is a `Change` of theirs.

    ``by`` is the role of who does it.
    """

    async def restart(self, slot: str, *, by: str) -> None:
        """Stop the slot's process (kill it if it does not stop) and start a new one."""
        ...

    async def stop(self, slot: str, *, by: str) -> None:
        """Stop the slot's process and leave it stopped."""
        ...

    async def scale(self, service: str, replicas: int, *, by: str) -> None:
        """Start or stop replicas, the highest numbers first to go."""
        ...

    async def drain(self, slot: str, *, by: str, back: bool = False) -> None:
        """Take the slot out of every link that leads to it; ``back`` puts it in again."""
        ...

    async def execute(
        self, slot: str, argv: Sequence[str], *, by: str, stdio: tuple[int, int, int]
    ) -> int:
        """Run a command with the slot's environment, folder and namespaces; its exit code."""
        ...

    def logs(self, slot: str, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        """The last ``lines`` lines that the slot's processes wrote to stdout and stderr.

        With ``follow`` it goes on as they come in.
        """
        ...


class Sandbox(abc.ABC):
    """A cluster under drill, reached by any process that holds its `SandboxRef`.

    Attributes:
        ref: How to find it again.
        parts: What it can do: ``processes``, ``holds``, ``links``, ``packets``, ``cpu``, ``memory``, ``disk``,
            ``limits``, ``networks``, ``containers``, ``files``, ``clock``, ``hands``, ``channels``; third parties may
            add their own.
        drill: Id of the drill that uses it now; the first part of every tag.
    """

    ref: SandboxRef
    drill: str = ""
    parts: Mapping[str, Any]

    def now(self) -> float:
        """The instant, on the clock that the sandbox lives by: CLOCK_MONOTONIC, seconds."""
        return time.monotonic()

    def part(self, name: str) -> Any:
        """The part of that name.

        Raises:
            Unsupported: if this sandbox, or this machine, lacks it.
        """
        try:
            return self.parts[name]
        except KeyError:
            why = self.lacks().get(name, "it has no such part")
            raise Unsupported(
                f"this {self.ref.kind} sandbox cannot do {name!r}: {why}",
                hint="`gameday doctor` says what this machine can do.",
            ) from None

    def lacks(self) -> Mapping[str, str]:
        """Parts that this kind has elsewhere but not here, each with the reason."""
        return {}

    @property
    def processes(self) -> Processes:
        """The part ``processes``."""
        part: Processes = self.part("processes")
        return part

    @property
    def holds(self) -> Holds:
        """The part ``holds``."""
        part: Holds = self.part("holds")
        return part

    @property
    def links(self) -> Links:
        """The part ``links``."""
        part: Links = self.part("links")
        return part

    @property
    def cpu(self) -> Cpu:
        """The part ``cpu``."""
        part: Cpu = self.part("cpu")
        return part

    @property
    def memory(self) -> Memory:
        """The part ``memory``."""
        part: Memory = self.part("memory")
        return part

    @property
    def disk(self) -> Disk:
        """The part ``disk``."""
        part: Disk = self.part("disk")
        return part

    @property
    def limits(self) -> Limits:
        """The part ``limits``."""
        part: Limits = self.part("limits")
        return part

    @property
    def networks(self) -> Networks:
        """The part ``networks``."""
        part: Networks = self.part("networks")
        return part

    @property
    def containers(self) -> Containers:
        """The part ``containers``."""
        part: Containers = self.part("containers")
        return part

    @property
    def files(self) -> Files:
        """The part ``files``."""
        part: Files = self.part("files")
        return part

    @property
    def clock(self) -> WallClock:
        """The part ``clock``."""
        part: WallClock = self.part("clock")
        return part

    @property
    def hands(self) -> Hands:
        """The part ``hands``."""
        part: Hands = self.part("hands")
        return part

    @classmethod
    @abc.abstractmethod
    async def connect(cls, ref: SandboxRef) -> Sandbox:
        """The sandbox that ``ref`` leads to, whatever process made it."""

    @abc.abstractmethod
    async def list_slots(self) -> tuple[Slot, ...]:
        """Every slot, ordered by service as declared, then by number. Reads only."""

    @abc.abstractmethod
    async def list_links(self) -> tuple[Link, ...]:
        """Every link. Reads only."""

    @abc.abstractmethod
    async def run_step(self, step: Step) -> StepResult:
        """Carry out one undo step, idempotently, whether or not the injection ever happened.

        Raises:
            SandboxError: if it could not be done.
        """

    @abc.abstractmethod
    async def fingerprint(self, slot: str) -> Mapping[str, str]:
        """What a fault could have changed at a slot or link, or at a file (``api-1:/etc/hosts``),
        without identity.

        Equal before an injection and after its undo: no pids, start times or counters.
        """

    @abc.abstractmethod
    def changes(self) -> AsyncIterator[Change]:
        """What happens in the sandbox, from now on, as it happens."""

    @classmethod
    def by_hand(cls, step: Step, ref: SandboxRef) -> str:
        """The shell command by which a person does ``step`` without us; of a page, what to do."""
        where = f" --sandbox {shlex.quote(ref.address)}" if ref.address else ""
        match step:
            case SignalProcess():
                return f"kill -{_signal_name(step.signal)} {step.process.pid}"
            case StartSlot():
                return f"gameday sandbox restart {shlex.quote(step.slot)}{where}"
            case ClearHold():
                return (
                    f"gameday sandbox clear {shlex.quote(step.slot)} {shlex.quote(step.tag)}{where}"
                )
            case RemoveToxic():
                return (
                    f"gameday sandbox clear {shlex.quote(step.link)} {shlex.quote(step.tag)}{where}"
                )
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
                # No command: a channel's address may be a secret, and only people see who was told.
                page, channels = shlex.quote(step.page), ", ".join(step.channels)
                return f"resolve the page {page} where it was sent ({channels})"
            case (
                CreateContainer() | ConnectNetwork() | RestoreFile() | AllowFile() | RestoreClock()
            ):
                # It alone knows how the container was made: a secret may be in that.
                return "gameday recover"
            case TearDown():
                return f"gameday sandbox down{where}"
            case RunCommand():
                return shlex.join(step.argv) or "(an empty command)"

    async def aclose(self) -> None:
        """Let go of the sandbox (not: end it)."""


def _signal_name(number: int) -> str:
    """``KILL``, ``CONT``; the number itself, where it is no signal here."""
    try:
        return signals.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
