"""The drills of the campaign of real kills: what each breaks, what dies, when, and what is promised."""

from __future__ import annotations

import random
from dataclasses import dataclass

PROMISED = 2.0
"""Seconds from the kill to everything undone, where the watchdog lives."""

FAULTS = {
    "process.kill": "target: {service: back}",
    "process.pause": "target: {service: back}",
    "process.crashloop": "target: {service: back}",
    "cpu.burn": "target: {service: front}",
    "memory.hog": "target: {service: back}",
    "disk.fill": "target: {service: back}",
    "net.latency": "target: {link: front->back}, delay: 300ms",
    "net.blackhole": "target: {link: front->back}",
    "net.reset": "target: {link: front->back}",
    "net.bandwidth": "target: {link: front->back}, rate: 8kbit/s",
}

ENDINGS = (
    "runner SIGKILL",
    "runner SIGTERM",
    "runner SIGINT",
    "runner SIGINT twice",
    "runner SIGHUP",
    "runner SIGQUIT",
    "runner out of memory",
    "runner frozen",
    "terminal closed",
    "parent killed",
    "watchdog SIGKILL",
    "watchdog frozen",
    "supervisor SIGKILL",
    "supervisor frozen, runner SIGKILL",
    "watchdog and supervisor SIGKILL",
    "runner and supervisor SIGKILL",
    "runner and watchdog SIGKILL",
    "runner, watchdog and supervisor SIGKILL",
    "recover killed too",
    "watchdog frozen, runner SIGKILL",
    "undo log removed, runner SIGKILL",
    "disk full",
    "clock jumps",
)
BOTH = {
    "runner and watchdog SIGKILL",
    "runner, watchdog and supervisor SIGKILL",
    "recover killed too",
    "watchdog frozen, runner SIGKILL",
}
"""Where nobody is left who could put anything back; judged after `gameday recover`."""
WATCHED = (
    "runner SIGKILL",
    "runner frozen",
    "runner and supervisor",
    "supervisor frozen",
)
"""Where the watchdog alone puts everything back, and has 2 s for it."""
INSTANTS = ("at any time", "while starting", "armed", "injected", "undoing")


@dataclass(frozen=True)
class Job:
    """One drill: what breaks, what dies, and when."""

    seed: int
    fault: str
    ending: str
    instant: str
    delay: float


def job(seed: int) -> Job:
    """The drill of that seed. Consecutive seeds go through every fault and every ending, and in
    the end through every pair of them."""
    rng = random.Random(seed)
    instant = rng.choice(INSTANTS)
    delay = {"at any time": rng.uniform(0.0, 4.0), "while starting": rng.uniform(0.0, 1.2)}.get(
        instant, rng.choice((0.0, rng.uniform(0, 0.01), rng.uniform(0, 0.2)))
    )
    return Job(
        seed=seed,
        fault=list(FAULTS)[(seed + seed // len(ENDINGS)) % len(FAULTS)],
        ending=ENDINGS[seed % len(ENDINGS)],
        instant=instant,
        delay=delay,
    )
