"""Monitoring: SLIs, alert rules and guard rails, evaluated as samples arrive.

Deterministic and without effects: samples in, signals out. The windows are
those of scoring (`gameday.scoring.samples`), so that what fires during the
drill and what the debrief says afterwards rest on the same figures.
"""

from __future__ import annotations

import math

import msgspec

from gameday.injectors.units import show_duration
from gameday.scenarios.expressions import Condition, When, names_of
from gameday.scenarios.model import Scenario
from gameday.scoring.events import Sample
from gameday.scoring.render import figures
from gameday.scoring.samples import Window, is_void

__all__ = ["Cleared", "Crossed", "Fired", "GuardBroken", "Monitor", "Signal"]


_SLACK = 1e-9


class Crossed(msgspec.Struct, frozen=True):
    """An SLI left (``inside`` False) or entered the bounds ``steady`` or ``acceptable``."""

    sli: str
    bounds: str
    inside: bool
    value: float


class Fired(msgspec.Struct, frozen=True):
    """The rule of that entry of ``alerts`` holds; ``since`` is when the deciding sample was done."""

    entry: int
    since: float
    value: str


class Cleared(msgspec.Struct, frozen=True):
    """That rule no longer holds."""

    entry: int


class GuardBroken(msgspec.Struct, frozen=True):
    """A guard rail was broken: the drill must be aborted."""

    why: str


Signal = Crossed | Fired | Cleared | GuardBroken


class _Rule(msgspec.Struct):
    when: When
    since: float | None = None
    firing: bool = False


class Monitor(msgspec.Struct):
    """Takes each sample in once, in the order of arrival."""

    scenario: Scenario
    values: dict[str, float] = msgspec.field(default_factory=dict)
    _windows: dict[str, Window] = msgspec.field(default_factory=dict)
    _inside: dict[tuple[str, str], bool] = msgspec.field(default_factory=dict)
    _rules: dict[int, _Rule] = msgspec.field(default_factory=dict)
    _guards: list[_Rule] = msgspec.field(default_factory=list)
    _clocks: dict[str, float] = msgspec.field(default_factory=dict)
    _clock: float = -math.inf

    def __post_init__(self) -> None:
        self._windows = {name: Window(sli) for name, sli in self.scenario.slis.items()}
        self._rules = {
            index: _Rule(alert.rule)
            for index, alert in enumerate(self.scenario.alerts)
            if alert.rule is not None
        }
        self._guards = [_Rule(guard) for guard in self.scenario.guard_rails]

    def observe(self, sample: Sample) -> list[Signal]:
        """What the sample changes; a void one changes nothing."""
        if is_void(sample, self.scenario.slis[sample.sli]):
            return []
        self._clock = max(self._clock, sample.done)
        now = self._clocks[sample.sli] = max(self._clocks.get(sample.sli, -math.inf), sample.done)
        window = self._windows[sample.sli]
        window.add(sample)
        value = window.value(now)
        if value is None or not window.settled:
            return []
        self.values[sample.sli] = value
        return [*self._crossings(sample.sli, value), *self._alerts(sample), *self._broken(sample)]

    def _crossings(self, sli: str, value: float) -> list[Signal]:
        found: list[Signal] = []
        for name, bounds in (
            ("steady", self.scenario.steady_bounds),
            ("acceptable", self.scenario.acceptable_bounds),
        ):
            bound = next((bound for bound in bounds if bound.name == sli), None)
            if bound is None:
                continue
            inside = bound.holds(value)
            if self._inside.get((name, sli)) is not inside:
                self._inside[name, sli] = inside
                found.append(Crossed(sli, name, inside, value))
        return found

    def _alerts(self, sample: Sample) -> list[Signal]:
        found: list[Signal] = []
        for entry, rule in self._rules.items():
            if sample.sli not in names_of(rule.when.condition):
                continue
            held = self._held(rule, sample)
            if held and not rule.firing:
                found.append(Fired(entry, sample.done, self._shown(rule.when.condition)))
            elif rule.firing and not held:
                found.append(Cleared(entry))
            rule.firing = held
        return found

    def _broken(self, sample: Sample) -> list[Signal]:
        return [
            GuardBroken(f"{rule.when}; it was {self._shown(rule.when.condition)}")
            for rule in self._guards
            if sample.sli in names_of(rule.when.condition) and self._held(rule, sample)
        ]

    def _held(self, rule: _Rule, sample: Sample) -> bool:
        """Does the condition hold, and has it held for long enough?"""
        if not rule.when.condition.evaluate(self.values):
            rule.since = None
            return False
        rule.since = self._clock if rule.since is None else rule.since
        return self._clock - rule.since >= rule.when.hold - _SLACK

    def _shown(self, condition: Condition) -> str:
        parts = []
        for name in names_of(condition):
            if name in self.values:
                value, share = self.values[name], self.scenario.slis[name].quantile is None
                parts.append(f"{name} {figures.share(value) if share else show_duration(value)}")
        return ", ".join(parts)
