"""Who listens where: the TCP ports of a process, asked of the kernel directly.

``/proc/net/tcp`` walks the table of all connections for it, which takes milliseconds on a
large machine; the kernel's socket monitor (sock_diag(7)) gives the listening sockets alone.
It sees the network namespace of whoever asks, so for others the table is read after all.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from gameday.injectors.sandbox.process import tree
from gameday.injectors.undo import ProcessId

__all__ = ["listening_ports"]

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_TCP_LISTEN = 10
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states; any socket
_PORT, _INODE = struct.Struct("!4xH"), struct.Struct("=68xI")  # of struct inet_diag_msg

_LISTENING = "0A"  # TCP_LISTEN, in proc(5)'s net/tcp


def listening_ports(process: ProcessId) -> frozenset[int]:
    """TCP ports on which the process or a descendant listens.

    Empty if it is gone, and where its descriptors cannot be seen.
    """
    sockets: set[int] = set()
    for member in tree(process):
        sockets |= _sockets(member.pid)
    if not sockets:
        return frozenset()
    found = _asked() if _in_our_network(process.pid) else None
    if found is None:
        found = _read(process.pid)
    return frozenset(port for port, inode in found if inode in sockets)


def _sockets(pid: int) -> set[int]:
    """The inodes of a process's sockets."""
    folder, found = f"/proc/{pid}/fd", set()
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - in loops over /proc
            kind, _, inode = os.readlink(f"{folder}/{name}").partition(":[")  # noqa: PTH115 - the same
            if kind == "socket":
                found.add(int(inode[:-1]))
    except OSError:  # gone, or not ours to look into
        pass
    return found


def _in_our_network(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")  # noqa: PTH115
    except OSError:
        return False


def _asked() -> list[tuple[int, int]] | None:
    """Port and inode of every listening socket of our network; None where nobody may ask."""
    found: list[tuple[int, int]] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            for family in (socket.AF_INET, socket.AF_INET6):
                request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
                length = _HEADER.size + len(request)
                header = _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _DUMP, 0, 0)
                kernel.send(header + request)
                found += _answers(kernel)
    except OSError:
        return None
    return found


def _answers(kernel: socket.socket) -> Iterator[tuple[int, int]]:
    while True:
        data = kernel.recv(1 << 16)
        at = 0
        while at < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError("the kernel does not tell")
            body = at + _HEADER.size
            yield _PORT.unpack_from(data, body)[0], _INODE.unpack_from(data, body)[0]
            at += (length + 3) & ~3


def _read(pid: int) -> list[tuple[int, int]]:
    """The same, from the tables of that process's network."""
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in _lines(f"/proc/{pid}/net/{table}")
    ]
    return [
        (int(fields[1].rpartition(":")[2], 16), int(fields[9]))
        for fields in lines
        if fields[3] == _LISTENING
    ]


def _lines(table: str) -> list[str]:
    try:
        return Path(table).read_text().splitlines()[1:]
    except OSError:  # gone, or a kernel without IPv6
        return []
