"""A gateway that goes out once, at a random instant, and keeps the exact times to itself.

    gateway.py --serve HOST PORT    serves alone: the outsider is somebody else, in Docker's case
    gateway.py HOST PORT      with OUTAGE_KIND (pause or restart), OUTAGE_WAIT and
                              OUTAGE_LENGTH in seconds, OUTAGE_RECORD a file

The process that was started is the outsider. It forks the one that serves, stops and
continues or kills and replaces it, and notes CLOCK_MONOTONIC before and after each
system call. It is the parent, so ``waitpid`` tells it for certain that the other one has
stopped, or has ended with its sockets closed; that it runs again, the server's first
instruction tells. Nobody else learns of it before the end.

Each instant is therefore an interval. ``from``: the server was well at its low end and
out at its high end. ``until``: it was still out at the low end, and could answer again
at the high end (running again, or listening with a backlog of 512).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

LINGER = 1.0  # seconds that a client may take over its request
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
clock = time.monotonic


def serve(address: tuple[str, int], said: int) -> None:
    """Answer until killed; writes when it began to listen, and a line at the first request."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    before = clock()
    listener.listen(512)
    os.write(said, f"{before!r} {clock()!r}\n".encode())
    signal.signal(signal.SIGCONT, lambda number, frame: os.write(said, b"%r\n" % clock()))
    events = select.epoll()
    events.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    asked = False
    while True:
        for number, _ in events.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                clients[client.fileno()] = client
                events.register(client, select.EPOLLIN)
                continue
            client = clients.pop(number)
            events.unregister(client)
            request = receive(client)
            if request:
                send(client)
            client.close()
            if request and not asked:
                asked = True
                os.write(said, b"asked\n")


def receive(client: socket.socket) -> bytes:
    """A request in one piece, as probes send it; empty for a mere connection."""
    try:
        return client.recv(65536)
    except OSError:
        return b""


def send(client: socket.socket) -> None:
    """The answer, which fits any socket's buffer."""
    try:
        client.send(ANSWER)
    except OSError:
        return


class Outsider:
    """The parent of the process that serves."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.hear, self.say = os.pipe()
        self.heard = b""
        self.child = 0

    def start(self) -> tuple[float, float]:
        """Fork a server; before and after its call of listen."""
        self.child = os.fork()
        if self.child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            serve(self.address, self.say)
        before, after = self.line().split()
        return float(before), float(after)

    def line(self) -> str:
        """The next line that the server writes."""
        while b"\n" not in self.heard:
            self.heard += os.read(self.hear, 4096)
        line, _, self.heard = self.heard.partition(b"\n")
        return line.decode()

    def stop(self) -> tuple[float, float]:
        """Stop it; returns once it has stopped."""
        before = clock()
        os.kill(self.child, signal.SIGSTOP)
        os.waitpid(self.child, os.WUNTRACED)
        return before, clock()

    def go_on(self) -> tuple[float, float]:
        """Let it go on; before that, and when it ran again: a busy machine may let it wait."""
        before = clock()
        os.kill(self.child, signal.SIGCONT)
        return before, float(self.line())

    def kill(self) -> tuple[float, float]:
        """Kill it; returns once its sockets are closed and it is gone."""
        before = clock()
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        return before, clock()

    def out(self, kind: str, length: float) -> dict[str, object]:
        """The outage."""
        begun = self.stop() if kind == "pause" else self.kill()
        time.sleep(max(0.0, begun[1] + length - clock()))
        ended = self.go_on() if kind == "pause" else self.start()
        return {"kind": kind, "from": begun, "until": ended}


def main() -> None:
    """Serve, go out once after the first request, serve until told to stop."""
    if sys.argv[1] == "--serve":
        serve((sys.argv[2], int(sys.argv[3])), 1)
    outsider = Outsider((sys.argv[1], int(sys.argv[2])))

    def leave(number: int, frame: object) -> None:
        os.kill(outsider.child, signal.SIGKILL)
        sys.exit(0)

    outsider.start()
    signal.signal(signal.SIGTERM, leave)
    while outsider.line() != "asked":
        pass
    time.sleep(float(os.environ["OUTAGE_WAIT"]))
    truth = outsider.out(os.environ["OUTAGE_KIND"], float(os.environ["OUTAGE_LENGTH"]))
    record = os.environ["OUTAGE_RECORD"]
    with open(f"{record}.new", "w") as file:  # noqa: PTH123 - started without site, for speed
        json.dump(truth, file)
    os.replace(f"{record}.new", record)  # noqa: PTH105 - the same
    signal.pause()


if __name__ == "__main__":
    main()
