"""The scenario file's model: what a valid file may say.

`gameday schema` prints the JSON Schema that follows from it. Problems of a
single value are found here; what needs the whole file (a hypothesis on an SLI
that does not exist, two faults that exclude each other) in
`gameday.scenarios.load`, which also gives every problem its line and column.
"""

# Annotations are types here, not texts: pydantic would evaluate each one at every start.

from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema

from gameday.injectors.errors import UsageError
from gameday.injectors.fault import Fault, Seconds, Share
from gameday.injectors.registry import fault_class, known_kinds
from gameday.scenarios.blast_radius import Most, parse_most
from gameday.scenarios.expressions import (
    Comparison,
    Condition,
    When,
    names_of,
    parse_bound,
    parse_comparison,
    parse_condition,
    parse_when,
)
from gameday.scenarios.misfit import Misfit
from gameday.scenarios.steps import Step, parse_step

__all__ = [
    "MOST_FAULTS",
    "TIMINGS",
    "AlertRule",
    "BlastRadiusLimits",
    "Debrief",
    "FaultEntry",
    "Fixers",
    "Hypothesis",
    "Load",
    "Report",
    "SandboxChoice",
    "Scenario",
    "Scripted",
    "Sli",
]

TIMINGS = (
    "time_to_detect",
    "time_to_acknowledge",
    "time_to_identify",
    "time_to_mitigate",
    "time_to_restore",
    "time_to_all_clear",
)
"""Durations that a hypothesis may speak of (DESIGN §2)."""

MOST_FAULTS = 100
"""Faults in one scenario; alerts and hypotheses likewise."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]


def _check_bound(text: str) -> str:
    parse_bound(text, "")
    return text


def _check_when(text: str) -> str:
    parse_when(text)
    return text


def _check_step(text: str) -> str:
    parse_step(text)
    return text


Bound = Annotated[
    str,
    AfterValidator(_check_bound),
    WithJsonSchema({"type": "string", "pattern": "^ *(<=|>=|==|!=|<|>)", "examples": [">= 99%"]}),
]
ScriptStep = Annotated[Text, AfterValidator(_check_step)]


def _check_most(text: int | str) -> int | str:
    parse_most(text)
    return text


AtMost = Annotated[
    int | str,
    AfterValidator(_check_most),
    WithJsonSchema({"type": ["string", "integer"], "minimum": 0, "examples": ["1 of 3", "30%"]}),
]
Guard = Annotated[str, AfterValidator(_check_when), Field(examples=["availability < 10% for 20s"])]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class BlastRadiusLimits(_Part):
    """How far the drill may reach; what goes further is refused before anything is touched."""

    at_most: AtMost | None = Field(
        None,
        description="How many of a service's replicas, or of the links between two services, may be "
        "hit at a time: 1 of 3, 30%, or a number. Shares are rounded down.",
    )
    protected: list[Text] = Field(
        default=[],
        description="Services, slots and links that are never a target: store, api-1, gateway->api.",
    )
    at_once: Annotated[int, Field(ge=1)] | None = Field(
        None, description="How many faults may be in force at a time."
    )

    @property
    def most(self) -> Most | None:
        """``at_most``, parsed."""
        return parse_most(self.at_most) if self.at_most is not None else None


class SandboxChoice(_Part):
    """Which cluster is broken."""

    kind: Literal["local", "attached", "docker"] = Field(
        "local", description="The kind of sandbox."
    )
    app: str | None = Field(None, description="A shipped application, such as `shop`.")
    file: str | None = Field(
        None, description="A sandbox declaration of your own, beside the scenario file."
    )
    compose: str | None = Field(
        None,
        description="A Compose file beside the scenario file, brought up for the drill (docker).",
    )
    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] | None = Field(
        None,
        description="The Compose project's name; without `compose` and `app`, one that runs (docker).",
    )
    label: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._/-]+(=.*)?$",
        description="A label of containers that run: app=shop (docker).",
    )
    environment: dict[str, dict[str, str]] = Field(
        default={},
        description="Environment variables to add, by service: switch retries on, shorten a timeout.",
    )
    replicas: dict[str, Annotated[int, Field(ge=0, le=100)]] = Field(
        default={}, description="Replicas by service, where the scenario wants others."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = {name for name in _SOURCES if getattr(self, name) is not None}
        known = _SOURCES_OF[self.kind]
        if alien := sorted(given - {name for choice in known for name in choice}):
            raise ValueError(
                f"{alien[0]} is not for a sandbox of kind {self.kind}; {_WANTED[self.kind]}"
            )
        if given not in known:
            raise ValueError(_WANTED[self.kind])
        return self

    @property
    def brings_up(self) -> bool:
        """Whether the cluster is started for the drill, and ended after it."""
        return any((self.app, self.file, self.compose))


_SOURCES = ("app", "file", "compose", "project", "label")
_SOURCES_OF: dict[str, tuple[set[str], ...]] = {
    "local": ({"app"}, {"file"}),
    "attached": (set(),),
    "docker": (
        {"app"},
        {"compose"},
        {"app", "project"},
        {"compose", "project"},
        {"project"},
        {"label"},
    ),
}
_WANTED = {
    "local": "give app (a shipped application) or file (a declaration of your own)",
    "attached": "attached processes are named on the command line; leave out app and file",
    "docker": "give app (a shipped application) or compose (a Compose file of your own), "
    "or, for containers that run already, project or label",
}


class Load(_Part):
    """Synthetic users, by Locust."""

    journey: str = Field(
        "browse", description="A journey of the application, or a locustfile beside the scenario."
    )
    users: Annotated[int, Field(ge=1, le=10_000)] = Field(
        10, description="How many of them at once."
    )
    spawn_rate: Annotated[float, Field(gt=0, le=10_000)] = Field(
        10.0, description="Users started in each second."
    )


class Sli(_Part):
    """A service level indicator: the share of good samples over a window, or a quantile of their latency."""

    probe: Literal["http", "tcp"] = Field(
        "http", description="What a sample is: a request, or only a connection."
    )
    service: str | None = Field(
        None, description="The service probed; default: the sandbox's entry."
    )
    address: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}$",
        description="host:port, where the sandbox does not know it: an attached process.",
    )
    path: str = Field("/", pattern=r"^/", description="Path of the request (http).")
    every: Seconds = Field(0.1, ge=0.01, le=60, validate_default=False, description="The schedule.")
    timeout: Seconds = Field(
        2.0, gt=0, le=60, description="A sample without an answer by then is bad."
    )
    good: str = Field(
        "status < 500",
        description="Which samples are good: `status`, `latency` (s); e.g. status < 500 and latency < 500ms.",
    )
    over: Seconds = Field(2.0, description="The window.")
    quantile: Share | None = Field(
        None, description="If given, the SLI is this quantile of the good samples' latency."
    )
    _good: Condition = PrivateAttr()

    @field_validator("good")
    @classmethod
    def _parses(cls, text: str) -> str:
        for name in names_of(parse_condition(text)):
            if name not in ("status", "latency"):
                raise ValueError(f"{name!r} is not known of a sample; there are status and latency")
        return text

    def model_post_init(self, context: Any, /) -> None:
        """Parse once."""
        self._good = parse_condition(self.good)

    @property
    def condition(self) -> Condition:
        """``good``, parsed."""
        return self._good


class Hypothesis(_Part):
    """One claim with a measurable expectation."""

    id: Name = Field(description="A short name for it, such as stays-available.")
    claim: Text = Field(description="What we believe, in a sentence.")
    expect: str = Field(description="An SLI or a timing, and its bound: availability >= 95%.")
    _expect: Comparison = PrivateAttr()

    @field_validator("expect")
    @classmethod
    def _parses(cls, text: str) -> str:
        parse_comparison(text)
        return text

    def model_post_init(self, context: Any, /) -> None:
        """Parse once."""
        self._expect = parse_comparison(self.expect)

    @property
    def comparison(self) -> Comparison:
        """``expect``, parsed."""
        return self._expect


class AlertRule(_Part):
    """An alert: fired by monitoring when a condition holds (``when``), or synthetic at a time (``at``)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$")] = Field(
        description="What the alert is called, such as ShopErrorBudgetBurn."
    )
    tier: Literal["page", "ticket", "fyi"] = Field(
        "page", description="A page wakes somebody up; a ticket can wait; an FYI needs nothing."
    )
    when: str | None = Field(None, description="Fires when this holds: availability < 98% for 2s.")
    at: Seconds | None = Field(None, description="Fires at this time, synthetically.")
    summary: Text = Field(description="What broke.")
    impact: str = Field("", description="Who feels it, and how.")
    verify: str = Field("", description="Where to verify it.")
    first_step: str = Field("", description="What to try first.")
    escalate: str = Field("", description="Whom to call.")
    runbook: str | None = Field(None, description="A file beside the scenario.")
    _when: When | None = PrivateAttr(None)

    @field_validator("when")
    @classmethod
    def _parses(cls, text: str | None) -> str | None:
        if text is not None:
            parse_when(text)
        return text

    @model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if (self.when is None) == (self.at is None):
            raise ValueError("give when (a condition) or at (a time), one of them")
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Parse once."""
        self._when = parse_when(self.when) if self.when is not None else None

    @property
    def rule(self) -> When | None:
        """``when``, parsed."""
        return self._when


def _fault(parameters: dict[str, Any]) -> Fault:
    kind = parameters.pop("inject", None)
    if not isinstance(kind, str):
        message = "`inject` is missing: the kind of fault" if kind is None else "expected text"
        hint = f"There are: {', '.join(known_kinds())}."
        raise Misfit(message, hint=hint, path=("inject",))
    try:
        found = fault_class(kind)
    except UsageError as error:
        raise Misfit(error.message, hint=error.hint, path=("inject",)) from error
    try:
        text = msgspec.json.encode(parameters)
    except TypeError:  # built in Python, with targets that are objects already
        return found.model_validate(parameters)
    return found.model_validate_json(text, strict=True)


class FaultEntry(_Part):
    """One fault of the scenario; its further keys are the fault's own parameters.

    Attributes:
        at: Seconds after the drill's start.
        lasts: Seconds until we take it back ourselves; None: until the drill ends.
        fault: The fault, built from the keys that remain.
    """

    at: Seconds = Field(description="When it is injected, after the drill's start.")
    lasts: Seconds | None = Field(
        None, description="After this time we take it back; by default at the drill's end."
    )
    fault: Any

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, dict) or isinstance(value.get("fault"), Fault):
            return value
        own = {key: value[key] for key in ("at", "lasts") if key in value}
        return own | {"fault": {key: value[key] for key in value if key not in own}}

    @field_validator("fault", mode="before")
    @classmethod
    def _build(cls, value: Any) -> Any:
        return _fault(dict(value)) if isinstance(value, dict) else value

    @property
    def breaks(self) -> Fault:
        """The fault."""
        fault: Fault = self.fault
        return fault


class Report(_Part):
    """Somebody speaks up: a customer's report, a stakeholder's question."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    at: Seconds = Field(description="When, after the drill's start.")
    sender: Literal["customer", "stakeholder"] = Field(
        "customer", alias="from", description="Who speaks up."
    )
    text: Text = Field(description="What they say.")


class Scripted(_Part):
    """Fixers by script: the same door and the same knowledge as people.

    The steps' vocabulary is in `gameday.scenarios.steps`; ``{{ unhealthy.api }}`` stands for
    the first slot of a service that `gameday sandbox ps` does not show as healthy.
    """

    reaction: Seconds = Field(3.0, description="Seconds before each step.")
    steps: list[ScriptStep] = Field(
        min_length=1, max_length=100, description="What they do, in this order."
    )
    _steps: tuple[Step, ...] = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Parse once."""
        self._steps = tuple(parse_step(text) for text in self.steps)

    @property
    def script(self) -> tuple[Step, ...]:
        """``steps``, parsed."""
        return self._steps


class Fixers(_Part):
    """Who responds. Without ``scripted``, people do; without any, the drill is a control."""

    scripted: Scripted | None = Field(None, description="Fixers that follow a script.")


class Debrief(_Part):
    """What the debrief asks beside its own questions."""

    questions: list[Text] = Field(default=[], description="Questions for the discussion.")


class Scenario(_Part):
    """A scenario: hypotheses, roles, faults, alerts and load against a sandbox."""

    api_version: Literal["gameday/v1"] = Field(
        alias="apiVersion", description="The format of this file: gameday/v1."
    )
    name: Name = Field(description="A short name, such as api-node-failure.")
    title: Text = Field(description="What happens, in a few words.")
    description: str = Field("", description="What it is about, for those who prepare it.")
    severity: str = Field(
        "SEV-3", pattern=r"^(SEV-[0-5]|P[1-4])$", description="How bad it is: SEV-0 to 5, P1 to 4."
    )
    severity_scheme: Literal["SEV-0..5", "SEV-1..5", "P1..4"] | None = Field(
        None, description="Which scheme the severity is from, where it could be several."
    )
    incident_type: Literal[
        "system-outage",
        "performance-degradation",
        "data",
        "security",
        "deployment",
        "infrastructure",
        "third-party",
        "environmental",
    ] = Field("system-outage", description="What sort of incident it is.")
    objectives: list[Text] = Field(default=[], description="What the drill is to find out.")
    duration: Seconds = Field(
        180.0, gt=0, le=86_400, description="The hard stop: everything is put back."
    )
    stabilise: Seconds = Field(
        5.0,
        description="How long SLIs must stay inside their bounds to count as mitigated or restored.",
    )
    sandbox: SandboxChoice = Field(description="Which cluster is broken.")
    roles: dict[Name, Text] = Field(default={}, description="Who takes part: automated, or a team.")
    load: Load | None = Field(None, description="Synthetic users; by default there are none.")
    slis: dict[Identifier, Sli] = Field(min_length=1, description="What is measured.")
    steady_state: dict[Identifier, Bound] = Field(
        min_length=1, description="Bounds that hold before the drill, and mean restored."
    )
    acceptable: dict[Identifier, Bound] = Field(
        default={}, description="Looser bounds that mean mitigated."
    )
    hypotheses: list[Hypothesis] = Field(default=[], description="What we believe.")
    alerts: list[AlertRule] = Field(default=[], description="What pages, and when.")
    faults: list[FaultEntry] = Field(
        default=[],
        max_length=MOST_FAULTS,
        description="What gets broken, and when. None: a control drill.",
    )
    reports: list[Report] = Field(
        default=[],
        max_length=MOST_FAULTS,
        description="What customers and stakeholders say, and when.",
    )
    fixers: Fixers = Field(default_factory=Fixers, description="Who responds.")
    hints: list[Text] = Field(
        default=[], description="What fixers get when they ask for a hint, one at a time."
    )
    runbook: str | None = Field(
        None, description="What the fixers may read; a file beside the scenario."
    )
    abort_when: list[Guard] = Field(
        default=[], description="Guard rails on SLIs: availability < 10% for 20s."
    )
    blast_radius: BlastRadiusLimits = Field(
        default_factory=BlastRadiusLimits, description="How far the drill may reach."
    )
    debrief: Debrief = Field(default_factory=Debrief, description="What the debrief asks.")
    _steady: tuple[Comparison, ...] = PrivateAttr()
    _acceptable: tuple[Comparison, ...] = PrivateAttr()
    _guards: tuple[When, ...] = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Parse once."""
        looser = self.steady_state | self.acceptable
        self._steady = tuple(parse_bound(t, n) for n, t in self.steady_state.items())
        self._acceptable = tuple(parse_bound(t, n) for n, t in looser.items())
        self._guards = tuple(parse_when(text) for text in self.abort_when)

    @property
    def steady_bounds(self) -> tuple[Comparison, ...]:
        """``steady_state``, parsed: what must hold before the drill starts and defines "restored"."""
        return self._steady

    @property
    def acceptable_bounds(self) -> tuple[Comparison, ...]:
        """``acceptable`` over ``steady_state``, parsed: defines "mitigated"."""
        return self._acceptable

    @property
    def guard_rails(self) -> tuple[When, ...]:
        """``abort_when``, parsed."""
        return self._guards
