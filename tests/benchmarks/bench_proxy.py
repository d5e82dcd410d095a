"""The link proxy beside no proxy and beside Toxiproxy: added latency, and throughput.

    python tests/benchmarks/bench_proxy.py [--json]

In one run, interleaved: every round pings over one persistent connection (64 bytes
there and back) and then sends one bulk stream, each way in turn, and each round
begins with another way. Client, server and each proxy are processes of their own.
Toxiproxy is built from its Go module, once, under ``~/.cache/gameday-bench``; where
that is not possible the rest is measured without it.

Prints what falls short and ends with 0 also then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PROMISE = 200e-6  # seconds that the proxy may add at p50
TOXIPROXY = "v2.12.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@{TOXIPROXY}"
PING = 64  # bytes
CHUNK = bytes(1 << 20)

Address = tuple[str, int]


# --- the server, in a process of its own: the first byte says what it does ------------------


def serve() -> None:
    """Echo (``e``), or take as many bytes as said and then answer (``s``), until stdin ends."""
    listener = socket.create_server((HOST, 0), backlog=128)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            threading.Thread(target=_answer, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


def _answer(end: socket.socket) -> None:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with end:
        if end.recv(1) == b"e":
            while data := end.recv(1 << 16):
                end.sendall(data)
            return
        # The size is said beforehand: Toxiproxy passes no half-close on.
        left, buffer = int.from_bytes(end.recv(8, socket.MSG_WAITALL)), bytearray(1 << 20)
        while left and (count := end.recv_into(buffer)):
            left -= count
        end.sendall(b"." if not left else b"!")


# --- the ways to it -------------------------------------------------------------------------


@contextlib.contextmanager
def process(*argv: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, by its handle, when the block is left."""
    with subprocess.Popen(argv, text=True, **options) as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()


def _said(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    line = running.stdout.readline().strip()
    if not line:
        raise SystemExit(f"{running.args!r} did not start")
    return line


def start_server(ends: contextlib.ExitStack) -> Address:
    """The server that every way leads to."""
    pipe = subprocess.PIPE
    argv = (sys.executable, __file__, "--serve")
    return HOST, int(_said(ends.enter_context(process(*argv, stdin=pipe, stdout=pipe))))


def start_ours(ends: contextlib.ExitStack, server: Address) -> Address:
    """Our proxy, without a fault on it."""
    argv = (sys.executable, "-m", "gameday.injectors.sandbox.proxy", f"{HOST}:{server[1]}")
    said = _said(ends.enter_context(process(*argv, stdout=subprocess.PIPE)))
    return HOST, int(said.rpartition(":")[2])


def build_toxiproxy() -> Path | str:
    """Its program, built if it is not there yet; else why there is none."""
    folder = Path.home() / ".cache" / "gameday-bench" / f"toxiproxy-{TOXIPROXY}"
    program = folder / "server"
    if program.exists():
        return program
    go = shutil.which("go") or "/usr/local/go/bin/go"
    try:
        subprocess.run(
            [go, "install", MODULE],
            env={**os.environ, "GOBIN": str(folder)},
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    except FileNotFoundError:
        return "no Go compiler on this machine"
    except subprocess.TimeoutExpired:
        return "building it took more than 10 minutes"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        return lines[-1] if lines else "building it failed"
    return program


def start_toxiproxy(ends: contextlib.ExitStack, program: Path, server: Address) -> Address:
    """Toxiproxy with one proxy, made by its HTTP API, and no toxic on it."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    argv = (str(program), "-host", HOST, "-port", str(port))
    quiet = subprocess.DEVNULL
    ends.enter_context(process(*argv, stdout=quiet, stderr=quiet))
    body = {
        "name": "link",
        "listen": f"{HOST}:0",
        "upstream": f"{server[0]}:{server[1]}",
        "enabled": True,
    }
    request = urllib.request.Request(
        f"http://{HOST}:{port}/proxies", json.dumps(body).encode(), method="POST"
    )
    for attempt in range(100):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return HOST, int(json.load(answer)["listen"].rpartition(":")[2])
        except OSError:
            if attempt == 99:
                raise
            time.sleep(0.05)
    raise AssertionError


# --- measuring ------------------------------------------------------------------------------


@dataclass
class Way:
    """One way to the server, and what was measured over it, in seconds and bytes per second."""

    name: str
    address: Address
    pings: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def medians(self) -> list[float]:
        """The p50 of each round."""
        return [statistics.median(times) for times in self.pings]

    @property
    def p50(self) -> float:
        """The median over the rounds of their p50."""
        return statistics.median(self.medians())

    @property
    def p99(self) -> float:
        """Of all pings together."""
        return statistics.quantiles([t for times in self.pings for t in times], n=100)[98]

    @property
    def rate(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rates)


def connect(way: Way, mode: bytes) -> socket.socket:
    """A connection over ``way`` for echo (``e``) or bulk (``s``)."""
    end = socket.create_connection(way.address, timeout=120)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.sendall(mode)
    return end


def ping(end: socket.socket, count: int) -> list[float]:
    """The times of ``count`` round trips, one after the other."""
    message, times, clock = bytes(PING), [], time.perf_counter
    for _ in range(count):
        start = clock()
        end.sendall(message)
        left = PING
        while left:
            left -= len(end.recv(left)) or _ended()
        times.append(clock() - start)
    return times


def _ended() -> int:
    raise SystemExit("a connection ended before its answer")


def bulk(way: Way, chunks: int) -> float:
    """Bytes per second of one stream, until the server has said that it has all of it."""
    with connect(way, b"s") as end:
        start = time.perf_counter()
        end.sendall((chunks * len(CHUNK)).to_bytes(8))
        for _ in range(chunks):
            end.sendall(CHUNK)
        answer = end.recv(1)
        seconds = time.perf_counter() - start
    if answer != b".":
        raise SystemExit(f"{way.name}: not all of {chunks * len(CHUNK)} bytes arrived")
    return chunks * len(CHUNK) / seconds


def measure(ways: list[Way], *, rounds: int, pings: int, chunks: int) -> None:
    """All rounds, after one that does not count."""
    with contextlib.ExitStack() as ends:
        open_ends = {way.name: ends.enter_context(connect(way, b"e")) for way in ways}
        for number in range(-1, rounds):
            turn = number % len(ways)
            order = ways[turn:] + ways[:turn]
            for way in order:
                times = ping(open_ends[way.name], pings)
                if number >= 0:
                    way.pings.append(times)
            for way in order:
                rate = bulk(way, chunks)
                if number >= 0:
                    way.rates.append(rate)


# --- telling --------------------------------------------------------------------------------


def added(way: Way, direct: Way) -> float:
    """What ``way`` adds at p50: the median of the differences, round by round."""
    pairs = zip(way.medians(), direct.medians(), strict=True)
    return statistics.median(ours - theirs for ours, theirs in pairs)


def report(ways: list[Way], missing: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures as plain data: microseconds, and megabytes (10^6 bytes) per second."""
    direct, ours, *others = ways
    figures = {
        way.name: {
            "p50_us": round(way.p50 * 1e6, 1),
            "p50_us_rounds": [round(median * 1e6, 1) for median in way.medians()],
            "p99_us": round(way.p99 * 1e6, 1),
            "added_p50_us": round(added(way, direct) * 1e6, 1),
            "throughput_mb_s": round(way.rate / 1e6),
            "throughput_of_direct": round(way.rate / direct.rate, 3),
        }
        for way in ways
    }
    result: dict[str, Any] = {
        "benchmark": "link proxy",
        "rounds": arguments.rounds,
        "pings_per_way": arguments.rounds * arguments.pings,
        "bulk_mib_per_round": arguments.mebibytes,
        "load_average": round(os.getloadavg()[0], 1),
        "ways": figures,
        "promise": {
            "what": "added p50",
            "bound_us": round(PROMISE * 1e6),
            "measured_us": figures[ours.name]["added_p50_us"],
            "verdict": "pass" if added(ours, direct) <= PROMISE else "short",
        },
    }
    for other in others:
        result["beside_toxiproxy"] = {
            "p50_ratio": round(ours.p50 / other.p50, 3),
            "p99_ratio": round(ours.p99 / other.p99, 3),
            "throughput_ratio": round(ours.rate / other.rate, 3),
        }
    if missing is not None:
        result["toxiproxy_missing"] = missing
    return result


def show(result: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"Link proxy: {result['pings_per_way']} pings of {PING} bytes and {result['rounds']} streams "
        f"of {result['bulk_mib_per_round']} MiB each way, interleaved",
        "",
        f"  {'':<20}{'p50':>10}{'(rounds)':>16}{'p99':>11}{'added p50':>12}{'throughput':>13}{'of direct':>11}",
    ]
    for name, way in result["ways"].items():
        low, high = min(way["p50_us_rounds"]), max(way["p50_us_rounds"])
        plus = "" if name == "direct" else f"{way['added_p50_us']:+.0f} µs"
        lines.append(
            f"  {name:<20}{way['p50_us']:>7.0f} µs{f'({low:.0f}–{high:.0f})':>16}{way['p99_us']:>8.0f} µs"
            f"{plus:>12}{way['throughput_mb_s']:>8} MB/s{way['throughput_of_direct']:>10.2f}×"
        )
    lines.append("")
    if beside := result.get("beside_toxiproxy"):
        lines.append(
            f"  Ours beside Toxiproxy {TOXIPROXY}: p50 {beside['p50_ratio']:.2f}×, "
            f"p99 {beside['p99_ratio']:.2f}×, throughput {beside['throughput_ratio']:.2f}×"
        )
    if why := result.get("toxiproxy_missing"):
        lines.append(f"  Toxiproxy was not measured: {why}")
    promise = result["promise"]
    lines.append(
        f"  Promised: added p50 of at most {promise['bound_us']} µs; "
        f"measured {promise['measured_us']:.0f} µs: {promise['verdict']}"
    )
    lines.append(f"  Load average of this machine, ourselves included: {result['load_average']}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; 0 whatever came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--pings", type=int, default=500, help="in each round")
    parser.add_argument("--mebibytes", type=int, default=256, help="sent in each round")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.serve:
        serve()
        return 0
    program = build_toxiproxy()
    with contextlib.ExitStack() as ends:
        server = start_server(ends)
        ways = [Way("direct", server), Way("gameday", start_ours(ends, server))]
        if isinstance(program, Path):
            ways.append(Way("toxiproxy", start_toxiproxy(ends, program, server)))
        measure(ways, rounds=arguments.rounds, pings=arguments.pings, chunks=arguments.mebibytes)
    missing = program if isinstance(program, str) else None
    result = report(ways, missing, arguments)
    print(json.dumps(result, indent=2) if arguments.json else show(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
