"""The network faults that the proxy knows, and how a `Toxic` becomes one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy.bandwidth import Bandwidth
from gameday.injectors.sandbox.proxy.behaviour import Behaviour
from gameday.injectors.sandbox.proxy.blackhole import Blackhole
from gameday.injectors.sandbox.proxy.latency import Latency
from gameday.injectors.sandbox.proxy.reset import Reset

__all__ = ["BEHAVIOURS", "build"]

BEHAVIOURS: tuple[type[Behaviour], ...] = (Latency, Blackhole, Reset, Bandwidth)


def build(toxic: Toxic) -> Behaviour:
    """The behaviour that ``toxic`` asks for.

    Raises:
        UsageError: if the kind is unknown, or a parameter is unknown, missing or impossible.
    """
    for behaviour in BEHAVIOURS:
        if behaviour.kind == toxic.kind:
            break
    else:
        known = ", ".join(behaviour.kind for behaviour in BEHAVIOURS)
        raise UsageError(f"a link has no fault {toxic.kind!r}", hint=f"There are: {known}.")
    declared = {field.name: field for field in dataclasses.fields(behaviour) if field.init}
    for name in toxic.parameters:
        if name not in declared:
            takes = ", ".join(declared) or "none"
            raise UsageError(
                f"{toxic.kind} has no parameter {name!r}", hint=f"Its parameters: {takes}."
            )
    for name, field in declared.items():
        if name in toxic.parameters:
            _check(toxic.kind, field, toxic.parameters[name])
        elif field.default is dataclasses.MISSING:
            raise UsageError(
                f"{toxic.kind} lacks its parameter {name!r}",
                hint=f"Give it in {field.metadata['unit']}.",
            )
    make: Callable[..., Behaviour] = behaviour
    return make(**toxic.parameters)


def _check(kind: str, field: dataclasses.Field[Any], value: object) -> None:
    unit, above, least = (field.metadata[key] for key in ("unit", "above", "least"))
    bound = f"greater than {above:g}" if above is not None else f"at least {least:g}"
    usable = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= least
        and (above is None or value > above)
    )
    if not usable:
        raise UsageError(
            f"{kind}: {field.name} is {value!r}", hint=f"It is a number of {unit}, {bound}."
        )
