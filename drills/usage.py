"""How much CPU a drill used, beside what the whole host did: part of what was disturbed."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import msgspec

__all__ = ["Usage"]


class Usage(msgspec.Struct):
    """CPU seconds, of ours and of the host, since it was made."""

    own: float = msgspec.field(default_factory=lambda: _own_cpu())
    host: float = msgspec.field(default_factory=lambda: _host_cpu())

    def since(self) -> tuple[float, float]:
        """Ours and the host's."""
        return _own_cpu() - self.own, _host_cpu() - self.host


def _own_cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _host_cpu() -> float:
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    ticks = [int(number) for number in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
