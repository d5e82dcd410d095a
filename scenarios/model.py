"""The scenario file's model: what a valid file may say.

`gameday schema` prints the JSON Schema that follows from it. Problems of a
single value are found here; what needs the whole file (a hypothesis on an SLI
that does not exist, two faults that exclude each other) in
`gameday.scenarios.load`, which also gives every problem its line and column.
"""

# Annotations are types here, not texts: each text would be evaluated at every start.

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gameday.injectors.errors import UsageError
from gameday.injectors.fault import Fault, Seconds, Share
from gameday.injectors.models import Check, Flattened, Misfit, Model
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
from gameday.scenarios.source import nearest
from gameday.scenarios.steps import Step, parse_step

__all__ = [
    "DURATION",
    "MOST_FAULTS",
    "STABILISE",
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

DURATION = 180.0
"""How long a drill takes at most whose scenario does not say it, in seconds."""

STABILISE = 5.0
"""How long SLIs must stay inside their bounds where the scenario does not say it, in seconds."""

MOST_FAULTS = 100
"""Faults in one scenario; alerts and hypotheses likewise."""


def _pattern(pattern: str, expected: str) -> Meta:
    return Meta(pattern=pattern, extra={"expected": expected})


Name = Annotated[
    str,
    _pattern(
        r"^[a-z0-9][a-z0-9-]{0,62}$",
        "lower-case letters, digits and dashes, such as api-node-failure",
    ),
]
Identifier = Annotated[
    str,
    _pattern(
        r"^[a-z][a-z0-9_]{0,62}$",
        "lower-case letters, digits and underscores, such as availability",
    ),
]
AlertName = Annotated[
    str,
    _pattern(
        r"^[A-Za-z][A-Za-z0-9_]{0,99}$",
        "letters, digits and underscores, such as ShopErrorBudgetBurn",
    ),
]
Severity = Annotated[str, _pattern(r"^(SEV-[0-5]|P[1-4])$", "SEV-0 to SEV-5 or P1 to P4")]
UrlPath = Annotated[str, _pattern(r"^/", "a path that begins with /")]
Text = Annotated[str, Meta(min_length=1, max_length=10_000)]


def _parses(parse: Callable[[Any], object]) -> Check:
    """The text is kept as it was written; what it says is read from it where it is needed."""

    def check(text: Any) -> Any:
        parse(text)
        return text

    return Check(check)


def _parse_good(text: str) -> Condition:
    condition = parse_condition(text)
    for name in names_of(condition):
        if name not in ("status", "latency"):
            raise ValueError(f"{name!r} is not known of a sample; there are status and latency")
    return condition


Bound = Annotated[
    str,
    _parses(lambda text: parse_bound(text, "")),
    Meta(extra_json_schema={"pattern": "^ *(<=|>=|==|!=|<|>)", "examples": [">= 99%"]}),
]
AtMost = Annotated[
    int | str,
    _parses(parse_most),
    Meta(
        extra_json_schema={
            "minimum": 0,
            "examples": ["1 of 3", "30%"],
        }
    ),
]
Rule = Annotated[str, _parses(parse_when)]


class BlastRadiusLimits(Model):
    """How far the drill may reach; what goes further is refused before anything is touched."""

    at_most: Annotated[
        AtMost | None,
        Meta(
            description="How many of a service's replicas, or of the links between two services, may be "
            "hit at a time: 1 of 3, 30%, or a number. Shares are rounded down."
        ),
    ] = None
    protected: Annotated[
        list[Text],
        Meta(
            description="Services, slots and links that are never a target: store, api-1, gateway->api."
        ),
    ] = []
    at_once: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="How many faults may be in force at a time."),
    ] = None

    @property
    def most(self) -> Most | None:
        """``at_most``, parsed."""
        return parse_most(self.at_most) if self.at_most is not None else None


class SandboxChoice(Model):
    """Which cluster is broken."""

    kind: Annotated[
        Literal["local", "attached", "docker"], Meta(description="The kind of sandbox.")
    ] = "local"
    app: Annotated[str | None, Meta(description="A shipped application, such as `shop`.")] = None
    file: Annotated[
        str | None, Meta(description="A sandbox declaration of your own, beside the scenario file.")
    ] = None
    compose: Annotated[
        str | None,
        Meta(
            description="A Compose file beside the scenario file, brought up for the drill (docker)."
        ),
    ] = None
    project: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")] | None,
        Meta(
            description="The Compose project's name; without `compose` and `app`, one that runs (docker)."
        ),
    ] = None
    label: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9._/-]+(=.*)?$")] | None,
        Meta(
            description="A label of containers that run: app=shop (docker).",
        ),
    ] = None
    environment: Annotated[
        dict[str, dict[str, str]],
        Meta(
            description="Environment variables to add, by service: switch retries on, shorten a timeout."
        ),
    ] = {}
    replicas: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=100)]],
        Meta(description="Replicas by service, where the scenario wants others."),
    ] = {}

    def __post_init__(self) -> None:
        given = {name for name in _SOURCES if getattr(self, name) is not None}
        known = _SOURCES_OF[self.kind]
        if alien := sorted(given - {name for choice in known for name in choice}):
            raise ValueError(
                f"{alien[0]} is not for a sandbox of kind {self.kind}; {_WANTED[self.kind]}"
            )
        if given not in known:
            raise ValueError(_WANTED[self.kind])

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


class Load(Model):
    """Synthetic users, by Locust."""

    journey: Annotated[
        str, Meta(description="A journey of the application, or a locustfile beside the scenario.")
    ] = "browse"
    users: Annotated[int, Meta(ge=1, le=10_000, description="How many of them at once.")] = 10
    spawn_rate: Annotated[
        float, Meta(gt=0, le=10_000, description="Users started in each second.")
    ] = 10.0


class Sli(Model):
    """A service level indicator: the share of good samples over a window, or a quantile of their latency."""

    probe: Annotated[
        Literal["http", "tcp"],
        Meta(description="What a sample is: a request, or only a connection."),
    ] = "http"
    service: Annotated[
        str | None, Meta(description="The service probed; default: the sandbox's entry.")
    ] = None
    address: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}$")] | None,
        Meta(
            description="host:port, where the sandbox does not know it: an attached process.",
        ),
    ] = None
    path: Annotated[UrlPath, Meta(description="Path of the request (http).")] = "/"
    every: Annotated[Seconds, Meta(ge=0.01, le=60, description="The schedule.")] = 0.1
    timeout: Annotated[
        Seconds, Meta(gt=0, le=60, description="A sample without an answer by then is bad.")
    ] = 2.0
    good: Annotated[
        str,
        _parses(_parse_good),
        Meta(
            description="Which samples are good: `status`, `latency` (s); e.g. status < 500 and latency < 500ms."
        ),
    ] = "status < 500"
    over: Annotated[Seconds, Meta(description="The window.")] = 2.0
    quantile: Annotated[
        Share | None,
        Meta(description="If given, the SLI is this quantile of the good samples' latency."),
    ] = None

    @property
    def condition(self) -> Condition:
        """``good``, parsed."""
        return parse_condition(self.good)


class Hypothesis(Model):
    """One claim with a measurable expectation."""

    id: Annotated[Name, Meta(description="A short name for it, such as stays-available.")]
    claim: Annotated[Text, Meta(description="What we believe, in a sentence.")]
    expect: Annotated[
        str,
        _parses(parse_comparison),
        Meta(description="An SLI or a timing, and its bound: availability >= 95%."),
    ]

    @property
    def comparison(self) -> Comparison:
        """``expect``, parsed."""
        return parse_comparison(self.expect)


class AlertRule(Model):
    """An alert: fired by monitoring when a condition holds (``when``), or synthetic at a time (``at``)."""

    name: Annotated[
        AlertName,
        Meta(description="What the alert is called, such as ShopErrorBudgetBurn."),
    ]
    tier: Annotated[
        Literal["page", "ticket", "fyi"],
        Meta(description="A page wakes somebody up; a ticket can wait; an FYI needs nothing."),
    ] = "page"
    when: Annotated[
        Rule | None, Meta(description="Fires when this holds: availability < 98% for 2s.")
    ] = None
    at: Annotated[Seconds | None, Meta(description="Fires at this time, synthetically.")] = None
    summary: Annotated[Text, Meta(description="What broke.")]
    impact: Annotated[str, Meta(description="Who feels it, and how.")] = ""
    verify: Annotated[str, Meta(description="Where to verify it.")] = ""
    first_step: Annotated[str, Meta(description="What to try first.")] = ""
    escalate: Annotated[str, Meta(description="Whom to call.")] = ""
    runbook: Annotated[str | None, Meta(description="A file beside the scenario.")] = None

    def __post_init__(self) -> None:
        if (self.when is None) == (self.at is None):
            raise ValueError("give when (a condition) or at (a time), one of them")

    @property
    def rule(self) -> When | None:
        """``when``, parsed."""
        return parse_when(self.when) if self.when is not None else None


def _fault(given: dict[str, Any]) -> tuple[type[Fault], dict[str, Any]]:
    """The kind that ``inject`` names, and its parameters."""
    kind = given.get("inject")
    hint = f"There are: {', '.join(known_kinds())}."
    if "inject" not in given:
        near = nearest("inject", tuple(given))
        hint = f"Did you mean it by `{near}`?" if near else hint
        raise Misfit("The kind of fault.", hint=hint, path=("inject",), missing=True)
    if not isinstance(kind, str):
        raise Misfit("expected text", hint=hint, path=("inject",))
    try:
        found = fault_class(kind)
    except UsageError as error:
        raise Misfit(error.message, hint=error.hint, path=("inject",)) from error
    return found, {key: value for key, value in given.items() if key != "inject"}


class FaultEntry(Model):
    """One fault of the scenario; its further keys are the fault's own parameters."""

    at: Annotated[Seconds, Meta(description="When it is injected, after the drill's start.")]
    lasts: Annotated[
        Seconds | None,
        Meta(description="After this time we take it back; by default at the drill's end."),
    ] = None
    fault: Annotated[Any, Flattened(_fault, keys=("inject",))]

    @property
    def breaks(self) -> Fault:
        """The fault."""
        fault: Fault = self.fault
        return fault


class Report(Model):
    """Somebody speaks up: a customer's report, a stakeholder's question."""

    at: Annotated[Seconds, Meta(description="When, after the drill's start.")]
    sender: Annotated[Literal["customer", "stakeholder"], Meta(description="Who speaks up.")] = (
        msgspec.field(name="from", default="customer")
    )
    text: Annotated[Text, Meta(description="What they say.")]


class Scripted(Model):
    """Fixers by script: the same door and the same knowledge as people.

    The steps' vocabulary is in `gameday.scenarios.steps`; ``{{ unhealthy.api }}`` stands for
    the first slot of a service that `gameday sandbox ps` does not show as healthy.
    """

    reaction: Annotated[Seconds, Meta(description="Seconds before each step.")] = 3.0
    steps: Annotated[
        list[Annotated[Text, _parses(parse_step)]],
        Meta(min_length=1, max_length=100, description="What they do, in this order."),
    ]

    @property
    def script(self) -> tuple[Step, ...]:
        """``steps``, parsed."""
        return tuple(parse_step(text) for text in self.steps)


class Fixers(Model):
    """Who responds. Without ``scripted``, people do; without any, the drill is a control."""

    scripted: Annotated[Scripted | None, Meta(description="Fixers that follow a script.")] = None


class Debrief(Model):
    """What the debrief asks beside its own questions."""

    questions: Annotated[list[Text], Meta(description="Questions for the discussion.")] = []


class Scenario(Model):
    """A scenario: hypotheses, roles, faults, alerts and load against a sandbox."""

    api_version: Annotated[
        Literal["gameday/v1"], Meta(description="The format of this file: gameday/v1.")
    ] = msgspec.field(name="apiVersion")
    name: Annotated[Name, Meta(description="A short name, such as api-node-failure.")]
    title: Annotated[Text, Meta(description="What happens, in a few words.")]
    description: Annotated[str, Meta(description="What it is about, for those who prepare it.")] = (
        ""
    )
    severity: Annotated[
        Severity,
        Meta(description="How bad it is: SEV-0 to 5, P1 to 4."),
    ] = "SEV-3"
    severity_scheme: Annotated[
        Literal["SEV-0..5", "SEV-1..5", "P1..4"] | None,
        Meta(description="Which scheme the severity is from, where it could be several."),
    ] = None
    incident_type: Annotated[
        Literal[
            "system-outage",
            "performance-degradation",
            "data",
            "security",
            "deployment",
            "infrastructure",
            "third-party",
            "environmental",
        ],
        Meta(description="What sort of incident it is."),
    ] = "system-outage"
    objectives: Annotated[list[Text], Meta(description="What the drill is to find out.")] = []
    duration: Annotated[
        Seconds, Meta(gt=0, le=86_400, description="The hard stop: everything is put back.")
    ] = DURATION
    stabilise: Annotated[
        Seconds,
        Meta(
            description="How long SLIs must stay inside their bounds to count as mitigated or restored."
        ),
    ] = STABILISE
    sandbox: Annotated[SandboxChoice, Meta(description="Which cluster is broken.")]
    roles: Annotated[
        dict[Name, Text], Meta(description="Who takes part: automated, or a team.")
    ] = {}
    load: Annotated[
        Load | None, Meta(description="Synthetic users; by default there are none.")
    ] = None
    slis: Annotated[dict[Identifier, Sli], Meta(min_length=1, description="What is measured.")]
    steady_state: Annotated[
        dict[Identifier, Bound],
        Meta(min_length=1, description="Bounds that hold before the drill, and mean restored."),
    ]
    acceptable: Annotated[
        dict[Identifier, Bound], Meta(description="Looser bounds that mean mitigated.")
    ] = {}
    hypotheses: Annotated[list[Hypothesis], Meta(description="What we believe.")] = []
    alerts: Annotated[list[AlertRule], Meta(description="What pages, and when.")] = []
    faults: Annotated[
        list[FaultEntry],
        Meta(
            max_length=MOST_FAULTS, description="What gets broken, and when. None: a control drill."
        ),
    ] = []
    reports: Annotated[
        list[Report],
        Meta(max_length=MOST_FAULTS, description="What customers and stakeholders say, and when."),
    ] = []
    fixers: Annotated[Fixers, Meta(description="Who responds.")] = msgspec.field(
        default_factory=Fixers
    )
    hints: Annotated[
        list[Text], Meta(description="What fixers get when they ask for a hint, one at a time.")
    ] = []
    runbook: Annotated[
        str | None, Meta(description="What the fixers may read; a file beside the scenario.")
    ] = None
    abort_when: Annotated[
        list[Annotated[Rule, Meta(examples=["availability < 10% for 20s"])]],
        Meta(description="Guard rails on SLIs: availability < 10% for 20s."),
    ] = []
    blast_radius: Annotated[BlastRadiusLimits, Meta(description="How far the drill may reach.")] = (
        msgspec.field(default_factory=BlastRadiusLimits)
    )
    debrief: Annotated[Debrief, Meta(description="What the debrief asks.")] = msgspec.field(
        default_factory=Debrief
    )

    @property
    def steady_bounds(self) -> tuple[Comparison, ...]:
        """``steady_state``, parsed: what must hold before the drill starts and defines "restored"."""
        return tuple(parse_bound(text, name) for name, text in self.steady_state.items())

    @property
    def acceptable_bounds(self) -> tuple[Comparison, ...]:
        """``acceptable`` over ``steady_state``, parsed: defines "mitigated"."""
        looser = self.steady_state | self.acceptable
        return tuple(parse_bound(text, name) for name, text in looser.items())

    @property
    def guard_rails(self) -> tuple[When, ...]:
        """``abort_when``, parsed."""
        return tuple(parse_when(text) for text in self.abort_when)
