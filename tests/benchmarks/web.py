"""The service of the smallest drill: answers 200 to everything.

    web.py PORT [--detach]

With ``--detach`` it returns once the service listens, as an init script would.
"""

from __future__ import annotations

import os
import socket
import sys


def detach() -> None:
    """Go on in a child of its own session, without our output."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def main() -> None:
    """Serve, one after the other."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(128)
    if "--detach" in sys.argv:
        detach()
    while True:
        client, _ = listener.accept()
        client.settimeout(1.0)
        try:
            if client.recv(65536):
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                )
        except OSError:
            pass
        client.close()


if __name__ == "__main__":
    main()
