"""A service that says what happens to it: memory, disk, calls, and who it is.

``/health``, ``/pid``, ``/allocate?bytes=``, ``/write?bytes=``, ``/spin?times=``, ``/payload?bytes=``.
Answers 507 with the name of the errno, or MemoryError, where the machine says no.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

DATA = Path(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: int(values[0]) for key, values in parse_qs(parts.query).items()}
        try:
            status, body = 200, self.answer(parts.path, query)
        except MemoryError:
            status, body = 507, b"MemoryError"
        except OSError as error:
            status, body = 507, errno.errorcode.get(error.errno or 0, "?").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path: str, query: dict[str, int]) -> bytes:
        match path:
            case "/pid":
                return str(os.getpid()).encode()
            case "/allocate":
                return str(len(bytearray(query["bytes"]))).encode()
            case "/write":
                file = DATA / "written"
                try:
                    with file.open("wb") as out:
                        out.write(bytes(query["bytes"]))
                        out.flush()
                        os.fsync(out.fileno())
                finally:
                    file.unlink(missing_ok=True)
                return b"written"
            case "/spin":
                begun, had = time.monotonic(), time.thread_time()
                sum(number * number for number in range(query["times"]))
                return f"{time.thread_time() - had} {time.monotonic() - begun}".encode()
            case "/payload":
                return bytes(query["bytes"])
        return b"well"

    def log_message(self, *args: object) -> None:
        print(*args, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server((os.environ.get("HOST", "127.0.0.1"), int(sys.argv[1])), Handler).serve_forever()
