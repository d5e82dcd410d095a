"""A proxy of packets, where the kernel has no packet queue: a tun device of our own.

Routes lead packets into the device (`detour`), this process reads them there, and sends each
on when it is given back, as it was. It looks to its user like a `PacketQueue`. The
device lives as long as its descriptor: if this process is gone, however it ended, the route into it is
gone, too, and packets go the way that they would have gone.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import struct
from collections.abc import Iterator

from gameday.injectors.sandbox.netns.packets import MOST_WAITING, Packet

__all__ = ["TUN", "PacketTunnel"]

TUN = "/dev/net/tun"
"""The device from which the kernel gives tun devices."""
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_PLAIN = 0x0001 | 0x1000  # IFF_TUN | IFF_NO_PI: packets from their IP header on
_SO_MARK = 36
_LONGEST = 1 << 16


class PacketTunnel:
    """A tun device of this network namespace.

    Args:
        device: Its name; nobody else's.
        mark: The firewall mark of what was given back, so that it is not led here again.

    Raises:
        OSError: if it cannot be had.
    """

    def __init__(self, device: str, mark: int) -> None:
        self._mark = mark
        self._senders: dict[int, socket.socket] = {}
        self._waiting: dict[int, bytes] = {}
        self._count = itertools.count(1)
        self._tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._tun, _SET_INTERFACE, struct.pack("16sH22x", device.encode(), _PLAIN))
        except OSError:
            os.close(self._tun)
            raise

    def fileno(self) -> int:
        """For `select`: readable when packets have come."""
        return self._tun

    def taken(self) -> Iterator[Packet]:
        """The packets that have come since."""
        while True:
            try:
                payload = os.read(self._tun, _LONGEST)
            except BlockingIOError:
                return
            if len(self._waiting) >= MOST_WAITING:
                self._send(payload)
                continue
            number = next(self._count)
            self._waiting[number] = payload
            yield Packet(number, 0, payload)

    def give_back(self, packet: int, payload: bytes = b"") -> None:
        """Let a packet go on; with ``payload`` in its place, if given."""
        self._send(payload or self._waiting[packet])
        del self._waiting[packet]

    def _send(self, payload: bytes) -> None:
        version = payload[0] >> 4
        to = payload[16:20] if version == 4 else payload[24:40]
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        if version not in self._senders:
            self._senders[version] = sender = socket.socket(
                family, socket.SOCK_RAW, socket.IPPROTO_RAW
            )
            sender.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
        try:
            self._senders[version].sendto(payload, (socket.inet_ntop(family, to), 0))
        except OSError:  # it is lost, as packets are
            pass
