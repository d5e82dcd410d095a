"""What a user declares: the services of a cluster, and which of them call which."""

# Annotations are types here, not texts: each text would be evaluated at every start.

import re
import signal as signals
from typing import Annotated, Literal

from msgspec import Meta

from gameday.injectors.fault import Bytes, Seconds
from gameday.injectors.models import Check, Model, Within

__all__ = ["Cluster", "Health", "Service", "links_order"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SMALLEST_DISK = 64 * 1024


def _service_name(name: str) -> str:
    if not _NAME.fullmatch(name) or re.fullmatch(r".*-\d+", name):
        raise ValueError(
            f"{name!r} cannot name a service; use lower-case letters, digits and dashes, "
            "beginning with a letter and not ending in a number, such as api or order-db"
        )
    return name


def _signal(name: str) -> str:
    full = name if name.startswith("SIG") else f"SIG{name}"
    if full not in signals.Signals.__members__:
        raise ValueError(f"{name!r} is not a signal; write it as SIGTERM, SIGHUP or SIGUSR1")
    return full


def _file_name(name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{name!r} is not a file inside the slot's folder; write it as nginx.conf or conf.d/a.conf"
        )
    return name


def _variable(name: str) -> str:
    if not _ENVIRONMENT.fullmatch(name):
        raise ValueError(f"{name!r} cannot name an environment variable")
    if name in ("GAMEDAY_SANDBOX", "GAMEDAY_SLOT"):
        raise ValueError(f"{name} is how the sandbox finds its processes again; choose another")
    return name


ServiceName = Annotated[str, Check(_service_name)]
SignalName = Annotated[str, Check(_signal), Meta(examples=["SIGTERM", "SIGQUIT", "SIGHUP"])]
FileName = Annotated[str, Check(_file_name)]
VariableName = Annotated[str, Check(_variable)]


class Health(Model):
    """How to tell that a replica can do its work; exactly one of http, tcp and command."""

    http: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(description="A path of the slot's port that answers with a status below 400."),
    ] = None
    tcp: Annotated[
        Literal[True] | None, Meta(description="The slot's port accepts connections.")
    ] = None
    command: Annotated[
        Annotated[list[str], Meta(min_length=1)] | None,
        Meta(
            description="A command, with templates, that exits with 0. "
            "It runs with the slot's environment, in the slot's folder."
        ),
    ] = None
    every: Annotated[Seconds, Within(0.01, 3600), Meta(description="Time between two checks.")] = (
        0.5
    )
    timeout: Annotated[
        Seconds,
        Within(0.01, 3600),
        Meta(description="A check that takes longer has failed."),
    ] = 1.0
    start_within: Annotated[
        Seconds,
        Within(0.01, 3600),
        Meta(description="A replica has to be healthy this soon after its start."),
    ] = 15.0

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.http, self.tcp, self.command)) != 1:
            raise ValueError(
                "give exactly one of http, tcp and command, such as {http: /health} or {tcp: true}"
            )


class Service(Model):
    """One service: how to start a replica of it, how many there are, and what they call.

    Templates (Jinja) may stand in ``command``, in the values of ``environment``, in ``files``
    and in the health command. They see ``python``, ``slot``, ``service``, ``number``, ``host``,
    ``port``, ``data``, ``folder``, ``endpoints`` and ``links``; ``links.order_db`` is a list of
    ``slot``, ``address``, ``host`` and ``port``, one for each replica of order-db.
    """

    command: Annotated[
        list[str],
        Meta(
            min_length=1,
            description="Program and arguments, with templates. No shell; relative paths are found "
            "from the slot's folder, so write {{ folder }}/serve.py for a file beside the YAML file.",
            examples=[["{{ python }}", "{{ folder }}/api.py", "--port", "{{ port }}"]],
        ),
    ]
    replicas: Annotated[int, Meta(ge=1, le=100, description="How many processes of it run.")] = 1
    environment: Annotated[
        dict[VariableName, str],
        Meta(description="Environment variables, with templates, on top of our own environment."),
    ] = {}
    files: Annotated[
        dict[FileName, str],
        Meta(
            description="Files, with templates, that are written into the slot's folder before each "
            "start: nginx.conf, haproxy.cfg and the like. {{ data }}/nginx.conf is its path."
        ),
    ] = {}
    protected: Annotated[
        bool,
        Meta(description="Whether faults may never hit a replica of it, whatever a scenario says."),
    ] = False
    links: Annotated[
        list[ServiceName],
        Meta(description="Services that it calls; each way is a link that faults can hit."),
    ] = []
    health: Annotated[
        Health | None, Meta(description="How to tell that a replica is healthy; left out: unknown.")
    ] = None
    reload: Annotated[
        SignalName | None,
        Meta(
            description="Sent to a replica after its files were written anew because what it "
            "calls was scaled or drained."
        ),
    ] = None
    stop: Annotated[SignalName, Meta(description="Asks a replica to stop.")] = "SIGTERM"
    grace: Annotated[
        Seconds,
        Within(0, 60),
        Meta(description="Time to stop in; then it is killed."),
    ] = 3.0
    restart: Annotated[
        Literal["never", "always"],
        Meta(
            description="What happens when a replica dies: never leaves that to the fixers, "
            "always starts it again after a pause that grows."
        ),
    ] = "never"
    owner: Annotated[str, Meta(description="The team or role that owns it.")] = ""
    tier: Annotated[str, Meta(description="How much depends on it, in your own words.")] = ""
    description: Annotated[str, Meta(description="What it does, for people.")] = ""

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.links if self.links.count(name) > 1})
        if twice:
            raise ValueError(f"links names {', '.join(twice)} more than once")


def links_order(links: dict[str, list[str]]) -> list[str]:
    """Services so that each comes after everything that it calls.

    Raises:
        ValueError: if they call each other in a circle; names it.
    """
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise ValueError(f"links form a circle: {circle}; a start order is then impossible")
        path.append(name)
        for other in links.get(name, ()):
            visit(other)
        path.pop()
        order.append(name)

    for name in links:
        visit(name)
    return order


class Cluster(Model):
    """A cluster of real processes on this machine."""

    name: Annotated[ServiceName, Meta(description="What the cluster is called.")]
    description: Annotated[str, Meta(description="What it is, for people.")] = ""
    entry: Annotated[
        str | None, Meta(description="The service that users reach: probes and load go there.")
    ] = None
    disk: Annotated[
        Bytes,
        Within(_SMALLEST_DISK, 1 << 40),
        Meta(description="Size of each replica's folder, where the machine permits sized disks."),
    ] = 64 << 20
    services: Annotated[
        dict[ServiceName, Service], Meta(min_length=1, description="The services by name.")
    ]

    def __post_init__(self) -> None:
        known = ", ".join(self.services)
        for name, service in self.services.items():
            for other in service.links:
                if other not in self.services:
                    raise ValueError(
                        f"{name} links to {other!r}, which is no service; there are: {known}"
                    )
        if self.entry is not None and self.entry not in self.services:
            raise ValueError(f"entry names {self.entry!r}, which is no service; there are: {known}")
        links_order({name: service.links for name, service in self.services.items()})
