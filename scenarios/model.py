"""The scenario file's model: what a valid file may say.

`gameday schema` prints the JSON Schema that follows from it. Problems of a
single value are found here; what needs the whole file (a hypothesis on an SLI
that does not exist, two faults that exclude each other) in
`gameday.scenarios.load`, which also gives every problem its line and column.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic.json_schema import WithJsonSchema

from gameday.injectors.fault import Fault, Seconds, Share
from gameday.injectors.registry import fault_class
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

__all__ = [
    "TIMINGS",
    "AlertRule",
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

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Bound = Annotated[
    str,
    WithJsonSchema({"type": "string", "pattern": "^(<=|>=|==|!=|<|>)", "examples": [">= 99%"]}),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class SandboxChoice(_Part):
    """Which cluster is broken."""

    kind: Literal["local", "attached"] = Field("local", description="The kind of sandbox.")
    app: str | None = Field(None, description="A shipped application, such as `shop`.")
    file: str | None = Field(
        None, description="A sandbox declaration of your own, beside the scenario file."
    )
    environment: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Environment variables to add, by service: switch retries on, shorten a timeout.",
    )
    replicas: dict[str, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=dict, description="Replicas by service, where the scenario wants others."
    )

    @model_validator(mode="after")
    def _one_source(self) -> SandboxChoice:
        if self.kind == "local" and (self.app is None) == (self.file is None):
            raise ValueError("give app (a shipped application) or file (a declaration of your own)")
        return self


class Load(_Part):
    """Synthetic users, by Locust."""

    journey: str = Field(
        "browse", description="A journey of the application, or a locustfile beside the scenario."
    )
    users: Annotated[int, Field(ge=1, le=10_000)] = 10
    spawn_rate: Annotated[float, Field(gt=0, le=10_000)] = Field(
        10.0, description="Users started in each second."
    )


class Sli(_Part):
    """A service level indicator: the share of good samples over a window, or a quantile of their latency."""

    probe: Literal["http", "tcp"] = "http"
    service: str | None = Field(
        None, description="The service probed; default: the sandbox's entry."
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

    id: Name
    claim: Text
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

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$")]
    tier: Literal["page", "ticket", "fyi"] = "page"
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
    def _one_trigger(self) -> AlertRule:
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


class FaultEntry(_Part):
    """One fault of the scenario; its further keys are the fault's own parameters.

    Attributes:
        at: Seconds after the drill's start.
        lasts: Seconds until we take it back ourselves; None: until the drill ends.
        fault: The fault, built from the keys that remain.
    """

    at: Seconds
    lasts: Seconds | None = None
    fault: Any

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "fault" in value:
            return value
        rest = dict(value)
        kind = rest.pop("inject", None)
        if not isinstance(kind, str):
            raise ValueError("an entry of faults needs `inject`, the kind of fault")
        own = {key: rest.pop(key) for key in ("at", "lasts") if key in rest}
        return own | {"fault": fault_class(kind).model_validate(rest)}

    @property
    def breaks(self) -> Fault:
        """The fault."""
        fault: Fault = self.fault
        return fault


class Report(_Part):
    """Somebody speaks up: a customer's report, a stakeholder's question."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    at: Seconds
    sender: Literal["customer", "stakeholder"] = Field("customer", alias="from")
    text: Text


class Scripted(_Part):
    """Fixers by script: the same door and the same knowledge as people.

    Steps: ``ack``, ``declare``, ``identify [text]``, ``mitigate``, ``resolve``, ``all-clear``,
    ``note TEXT``, ``update TEXT``, ``hint``, ``wait DURATION``, ``until healthy``,
    ``restart SLOT``, ``drain SLOT``, ``scale SERVICE N``; with ``{{ unhealthy.api }}`` for
    the first slot of a service that `gameday sandbox ps` shows as not healthy.
    """

    reaction: Seconds = Field(3.0, description="Seconds before each step.")
    steps: list[Text] = Field(min_length=1, max_length=100)


class Fixers(_Part):
    """Who responds. Without ``scripted``, people do; without any, the drill is a control."""

    scripted: Scripted | None = None


class Debrief(_Part):
    """What the debrief asks beside its own questions."""

    questions: list[Text] = Field(default_factory=list)


class Scenario(_Part):
    """A scenario: hypotheses, roles, faults, alerts and load against a sandbox."""

    api_version: Literal["gameday/v1"] = Field(alias="apiVersion")
    name: Name
    title: Text
    description: str = ""
    severity: str = Field("SEV-3", pattern=r"^(SEV-[0-5]|P[1-4])$")
    severity_scheme: Literal["SEV-0..5", "SEV-1..5", "P1..4"] | None = None
    incident_type: Literal[
        "system-outage",
        "performance-degradation",
        "data",
        "security",
        "deployment",
        "infrastructure",
        "third-party",
        "environmental",
    ] = "system-outage"
    objectives: list[Text] = Field(default_factory=list)
    duration: Seconds = Field(
        180.0, gt=0, le=86_400, description="The hard stop: everything is put back."
    )
    stabilise: Seconds = Field(
        5.0,
        description="How long SLIs must stay inside their bounds to count as mitigated or restored.",
    )
    sandbox: SandboxChoice
    roles: dict[Name, Text] = Field(default_factory=dict)
    load: Load | None = None
    slis: dict[Identifier, Sli] = Field(min_length=1)
    steady_state: dict[Identifier, Bound] = Field(min_length=1)
    acceptable: dict[Identifier, Bound] = Field(default_factory=dict)
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    alerts: list[AlertRule] = Field(default_factory=list)
    faults: list[FaultEntry] = Field(default_factory=list)
    reports: list[Report] = Field(default_factory=list)
    fixers: Fixers = Field(default_factory=Fixers)
    hints: list[Text] = Field(default_factory=list)
    runbook: str | None = Field(
        None, description="What the fixers may read; a file beside the scenario."
    )
    abort_when: list[str] = Field(
        default_factory=list, description="Guard rails on SLIs: availability < 10% for 20s."
    )
    debrief: Debrief = Field(default_factory=Debrief)
    _steady: tuple[Comparison, ...] = PrivateAttr()
    _acceptable: tuple[Comparison, ...] = PrivateAttr()
    _guards: tuple[When, ...] = PrivateAttr()

    @field_validator("steady_state", "acceptable")
    @classmethod
    def _bounds_parse(cls, bounds: dict[str, str]) -> dict[str, str]:
        for name, text in bounds.items():
            parse_bound(text, name)
        return bounds

    @field_validator("abort_when")
    @classmethod
    def _guards_parse(cls, guards: list[str]) -> list[str]:
        for text in guards:
            parse_when(text)
        return guards

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
