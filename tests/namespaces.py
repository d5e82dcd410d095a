"""Two networks with a wire between them, as two containers have, and sockets in them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from gameday.injectors.sandbox.netns.packets import NUMBERS, PacketQueue

__all__ = ["FAR", "FAR_6", "NEAR", "NEAR_6", "OTHER", "Pair", "no_packet_queue", "run_in", "sh_in"]

NEAR, NEAR_6 = "10.99.0.1", "fd99::1"
FAR, OTHER, FAR_6 = "10.99.0.2", "10.99.0.3", "fd99::2"
"""The far end's addresses: two, as if there were two peers, and one of IPv6."""

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_T = TypeVar("_T")


class Pair:
    """Two processes, each in a network namespace of its own, joined by a pair of interfaces."""

    def __init__(self) -> None:
        self._rooms = [_room(), _room()]
        self.near, self.far = (room.pid for room in self._rooms)
        subprocess.run(
            [
                *("ip", "link", "add", "eth0", "netns", str(self.near), "type", "veth"),
                *("peer", "name", "eth0", "netns", str(self.far)),
            ],
            check=True,
        )
        for pid in (self.near, self.far):
            # Without the search for others with the same address, which takes seconds.
            quick = "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad"
            sh_in(pid, f"{quick}; ip link set lo up; ip link set eth0 up")
        for pid, addresses in ((self.near, (NEAR, NEAR_6)), (self.far, (FAR, OTHER, FAR_6))):
            for address in addresses:
                length = "64 nodad" if ":" in address else "24"
                sh_in(pid, f"ip address add {address}/{length} dev eth0")
        self._meet()

    def _meet(self) -> None:
        """Wait until both ends know each other."""
        with udp(self.far, FAR_6) as there, udp(self.near, NEAR_6) as here:
            there.settimeout(0.2)
            for _ in range(50):
                here.sendto(b"x", there.getsockname())
                try:
                    there.recv(1)
                except TimeoutError:
                    continue
                return
        raise TimeoutError("nothing crosses the wire between both networks")

    def close(self) -> None:
        """End both processes, and with them all that is in their networks."""
        for room in self._rooms:
            room.kill()
            room.wait()
            if room.stdin:
                room.stdin.close()
            if room.stdout:
                room.stdout.close()

    def end_near(self) -> None:
        """End the near one."""
        self._rooms[0].kill()
        self._rooms[0].wait()


def _room() -> subprocess.Popen[bytes]:
    room = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert room.stdout is not None
    assert room.stdout.readline() == b"\n", "no network namespace can be made"
    return room


def sh_in(pid: int, script: str) -> str:
    """Run a shell script in a process's network; what it printed."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-ec", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run_in(pid: int, make: Callable[[], _T]) -> _T:
    """What ``make`` gives in a process's network. A socket that it opens stays there."""
    made: list[_T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
            made.append(make())
        except OSError as error:
            failed.append(error)
        finally:
            os.close(fd)

    thread = threading.Thread(target=enter)  # a namespace is a thread's own
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


@contextlib.contextmanager
def no_packet_queue(pid: int) -> Iterator[None]:
    """Hold every packet queue that ours would take in a process's network, so that there is none left."""
    held = run_in(pid, lambda: PacketQueue(copy=False))
    try:
        for number in NUMBERS[1:]:
            held.bind(number)
        yield
    finally:
        held.close()


def udp(pid: int, address: str, port: int = 0) -> socket.socket:
    """A socket for datagrams, bound to an address in a process's network."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def make() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        made.bind((address, port))
        made.settimeout(3)
        return made

    return run_in(pid, make)


def listen(pid: int, address: str, port: int = 0) -> socket.socket:
    """A socket that listens for TCP connections in a process's network."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = run_in(pid, lambda: socket.create_server((address, port), family=family))
    made.settimeout(30)  # a lost handshake is repeated after 1, 3, 7 and 15 s
    return made


def connect(pid: int, to: socket.socket, within: float = 30) -> socket.socket:
    """A TCP connection from a process's network to one that listens."""
    address = to.getsockname()[:2]
    return run_in(pid, lambda: socket.create_connection(address, within))
