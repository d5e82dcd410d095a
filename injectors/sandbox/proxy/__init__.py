"""The link proxy: every link of a local sandbox is one TCP listener of ours, with faults on it.

Without a fault a connection is two sockets and no copy kept; each fault is one
small file beside this one::

    latency.py     data towards the client arrives later
    bandwidth.py   each way carries so many bits in a second
    blackhole.py   nothing arrives, nothing is told
    reset.py       connections are reset

To add one: write a dataclass with a `kind`, its parameters with their units
(`behaviour.parameter`), ``hit`` and ``lift``, and name it in
`registry.BEHAVIOURS`. What it may do to a connection: `Connection.reset`,
`Connection.cut` and `mend`, and `Pipe.insert` of a `Stage` that holds data for a
while. Whoever waits is a timer of a stage, so that every wait can be cancelled.

The sockets are driven by `loop.add_reader` and `loop.add_writer` rather than by
asyncio's transports: a little quicker for a ping and a third quicker in bulk, and
a reset, a half-close and a partial write are then exactly what the peer sees.
"""

from gameday.injectors.sandbox.proxy.link import LinkProxy
from gameday.injectors.sandbox.proxy.registry import BEHAVIOURS, build
from gameday.injectors.sandbox.proxy.stats import Stats

__all__ = ["BEHAVIOURS", "LinkProxy", "Stats", "build"]
