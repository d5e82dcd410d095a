"""One link proxy in a process of its own, to measure it or to try a fault by hand.

``python -m gameday.injectors.sandbox.proxy 127.0.0.1:8080 --toxic latency:delay=0.1``
prints the address where it listens, and ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy.link import LinkProxy


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _toxic(text: str) -> Toxic:
    kind, _, rest = text.partition(":")
    pairs = (pair.partition("=") for pair in rest.split(",") if pair)
    return Toxic(kind, text, {name: float(value) for name, _, value in pairs})


async def _serve(arguments: argparse.Namespace) -> None:
    done = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    proxy = LinkProxy("link", upstream=lambda: arguments.upstream)
    for toxic in arguments.toxic:
        proxy.add(toxic)
    host, port = await proxy.start(*arguments.listen)
    print(f"{host}:{port}", flush=True)
    await done.wait()
    await proxy.close()


def main() -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m gameday.injectors.sandbox.proxy")
    parser.add_argument("upstream", type=_address, help="the server, as host:port")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), help="host:port")
    parser.add_argument(
        "--toxic", type=_toxic, action="append", default=[], help="kind:name=value,… in SI units"
    )
    try:
        asyncio.run(_serve(parser.parse_args()))
    except GamedayError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
