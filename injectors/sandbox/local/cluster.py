"""What a user declares: the services of a cluster, and which of them call which."""

# Annotations are types here, not texts: pydantic would evaluate each one at every start.

import re
import signal as signals
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from gameday.injectors.fault import Bytes, Seconds, within
from gameday.injectors.units import show_duration, show_size

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


ServiceName = Annotated[str, AfterValidator(_service_name)]
SignalName = Annotated[
    str, AfterValidator(_signal), Field(examples=["SIGTERM", "SIGQUIT", "SIGHUP"])
]
FileName = Annotated[str, AfterValidator(_file_name)]
VariableName = Annotated[str, AfterValidator(_variable)]


class Health(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """How to tell that a replica can do its work; exactly one of http, tcp and command."""

    http: Annotated[str, Field(pattern="^/")] | None = Field(
        None, description="A path of the slot's port that answers with a status below 400."
    )
    tcp: Literal[True] | None = Field(None, description="The slot's port accepts connections.")
    command: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="A command, with templates, that exits with 0. "
        "It runs with the slot's environment, in the slot's folder.",
    )
    every: Annotated[Seconds, within(0.01, 3600, show_duration)] = Field(
        0.5, description="Time between two checks.", json_schema_extra={"default": "500ms"}
    )
    timeout: Annotated[Seconds, within(0.01, 3600, show_duration)] = Field(
        1.0,
        description="A check that takes longer has failed.",
        json_schema_extra={"default": "1s"},
    )
    start_within: Annotated[Seconds, within(0.01, 3600, show_duration)] = Field(
        15.0,
        description="A replica has to be healthy this soon after its start.",
        json_schema_extra={"default": "15s"},
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(way is not None for way in (self.http, self.tcp, self.command)) != 1:
            raise ValueError(
                "give exactly one of http, tcp and command, such as {http: /health} or {tcp: true}"
            )
        return self


class Service(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """One service: how to start a replica of it, how many there are, and what they call.

    Templates (Jinja) may stand in ``command``, in the values of ``environment``, in ``files``
    and in the health command. They see ``python``, ``slot``, ``service``, ``number``, ``host``,
    ``port``, ``data``, ``folder``, ``endpoints`` and ``links``; ``links.order_db`` is a list of
    ``slot``, ``address``, ``host`` and ``port``, one for each replica of order-db.
    """

    command: list[str] = Field(
        min_length=1,
        description="Program and arguments, with templates. No shell; relative paths are found "
        "from the slot's folder, so write {{ folder }}/serve.py for a file beside the YAML file.",
        examples=[["{{ python }}", "{{ folder }}/api.py", "--port", "{{ port }}"]],
    )
    replicas: Annotated[int, Field(ge=1, le=100)] = Field(
        1, description="How many processes of it run."
    )
    environment: dict[VariableName, str] = Field(
        default={},
        description="Environment variables, with templates, on top of our own environment.",
    )
    files: dict[FileName, str] = Field(
        default={},
        description="Files, with templates, that are written into the slot's folder before each "
        "start: nginx.conf, haproxy.cfg and the like. {{ data }}/nginx.conf is its path.",
    )
    protected: bool = Field(
        False, description="Whether faults may never hit a replica of it, whatever a scenario says."
    )
    links: list[ServiceName] = Field(
        default=[], description="Services that it calls; each way is a link that faults can hit."
    )
    health: Health | None = Field(
        None, description="How to tell that a replica is healthy; left out: unknown."
    )
    reload: SignalName | None = Field(
        None,
        description="Sent to a replica after its files were written anew because what it "
        "calls was scaled or drained.",
    )
    stop: SignalName = Field("SIGTERM", description="Asks a replica to stop.")
    grace: Annotated[Seconds, within(0, 60, show_duration)] = Field(
        3.0,
        description="Time to stop in; then it is killed.",
        json_schema_extra={"default": "3s"},
    )
    restart: Literal["never", "always"] = Field(
        "never",
        description="What happens when a replica dies: never leaves that to the fixers, "
        "always starts it again after a pause that grows.",
    )
    owner: str = Field("", description="The team or role that owns it.")
    tier: str = Field("", description="How much depends on it, in your own words.")
    description: str = Field("", description="What it does, for people.")

    @model_validator(mode="after")
    def _links_once(self) -> Self:
        twice = sorted({name for name in self.links if self.links.count(name) > 1})
        if twice:
            raise ValueError(f"links names {', '.join(twice)} more than once")
        return self


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


class Cluster(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """A cluster of real processes on this machine."""

    name: ServiceName = Field(description="What the cluster is called.")
    description: str = Field("", description="What it is, for people.")
    entry: str | None = Field(
        None, description="The service that users reach: probes and load go there."
    )
    disk: Annotated[Bytes, within(_SMALLEST_DISK, 1 << 40, show_size)] = Field(
        64 << 20,
        description="Size of each replica's folder, where the machine permits sized disks.",
        json_schema_extra={"default": "64MiB"},
    )
    services: dict[ServiceName, Service] = Field(min_length=1, description="The services by name.")

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
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
        return self
