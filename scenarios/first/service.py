"""Two small services in one file; only Python is needed.

``front`` asks a ``back`` node for every page, each in turn. It neither retries
nor avoids a node that fails: that is what the drill shows.

Usage: service.py front PORT ENDPOINTS | service.py back PORT
"""

import itertools
import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TURN = itertools.count()


def ask_back(endpoints: str) -> bytes:
    """The answer of the next back node; where they are is read anew, as nodes come and go."""
    nodes = json.loads(Path(endpoints).read_text())["back"]
    if not nodes:
        raise OSError("no back node is linked")
    node = nodes[next(TURN) % len(nodes)]
    with urllib.request.urlopen(f"http://{node['address']}/", timeout=1) as answer:
        return bytes(answer.read())


class Handler(BaseHTTPRequestHandler):
    """Answers /health, and / with the service's own work."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, b"well\n")
        elif sys.argv[1] == "back":
            self.answer(200, b"hello from back\n")
        else:
            try:
                self.answer(200, ask_back(sys.argv[3]))
            except OSError as error:
                self.answer(502, f"back does not answer: {error}\n".encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Takes connections fast enough for a crowd."""

    request_queue_size = 256
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
