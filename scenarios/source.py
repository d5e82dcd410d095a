"""A file's text, read with care: whatever lies at the path, the answer is text or one clear problem.

Nothing here blocks (a FIFO, a device) and nothing is read beyond the limit.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path

from gameday.injectors.errors import Problem, ScenarioError
from gameday.injectors.units import show_size

__all__ = ["SOURCE_LIMIT", "decode", "nearest", "read_source"]

SOURCE_LIMIT = 1024 * 1024
"""Bytes of the largest file that is read."""

_LISTED = 1000
_COMPARED = 200
_PREFIX = 3
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def nearest(word: str, known: list[str] | tuple[str, ...], *, cutoff: float = 0.6) -> str:
    """The known word closest to ``word``, or the only one that it begins; empty if there is none."""
    folded = {one.lower().replace("-", "_"): one for one in reversed(known[:_COMPARED])}
    wanted = word[:80].lower().replace("-", "_")
    import difflib

    close = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=cutoff)
    if not close and len(wanted) >= _PREFIX:
        close = [one for one in folded if one.startswith(wanted)]
    return folded[close[0]] if len(close) == 1 else ""


def read_source(path: Path, *, limit: int = SOURCE_LIMIT) -> str:
    """The text of the file at ``path``, without a byte order mark.

    Raises:
        ScenarioError: if there is no such file, or it is no UTF-8 text within the limit.
    """
    return decode(_read(path, limit), str(path))


def decode(raw: bytes, name: str) -> str:
    """Bytes as UTF-8 text, without a byte order mark.

    Raises:
        ScenarioError: says where the first byte stands that is not.
    """
    if raw.startswith(_WIDE):
        raise _failed(name, "the file is UTF-16; expected UTF-8", hint="Save it again as UTF-8.")
    if b"\0" in raw:
        place = raw.index(b"\0") + 1
        raise _failed(name, f"the file is binary (byte {place} is NUL); expected UTF-8 text")
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        begin = before.rfind(b"\n") + 1
        problem = Problem(
            f"the file is not UTF-8: found the byte 0x{error.object[error.start]:02x}",
            line=before.count(b"\n") + 1,
            column=len(before[begin:].decode("utf-8", "replace")) + 1,
            hint="Save it again as UTF-8.",
        )
        raise ScenarioError(name, [problem]) from None


def _failed(name: str, message: str, *, hint: str = "") -> ScenarioError:
    return ScenarioError(name, [Problem(message, hint=hint)])


def _read(path: Path, limit: int) -> bytes:
    name = str(path)
    if "\0" in name:
        raise _failed(name.replace("\0", "?"), "a path cannot contain a NUL character")
    try:
        _refuse_kind(name, path.stat().st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        _refuse_kind(name, os.fstat(descriptor).st_mode)
        return _read_within(descriptor, name, limit)
    except OSError as error:
        raise _failed(name, f"the file cannot be read: {_why(error)}") from None
    finally:
        os.close(descriptor)


def _read_within(descriptor: int, name: str, limit: int) -> bytes:
    size = os.fstat(descriptor).st_size
    chunks: list[bytes] = []
    total = 0
    while size <= limit and total <= limit:
        chunk = os.read(descriptor, limit + 1 - total)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        total += len(chunk)
    found = show_size(size) if size > limit else f"more than {show_size(limit)}"
    raise _failed(
        name, f"the file is too large: found {found}, expected at most {show_size(limit)}"
    )


def _refuse_kind(name: str, mode: int) -> None:
    for matches, kind in _KINDS:
        if matches(mode):
            raise _failed(name, f"found {kind}, expected a file")


def _why(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _cannot_open(path: Path, error: OSError) -> ScenarioError:
    if error.errno == errno.ENOENT:
        return _failed(str(path), "there is no such file", hint=_similar(path))
    if error.errno == errno.EACCES:
        return _failed(
            str(path), "the file cannot be read: permission denied", hint=f"See `ls -l {path}`."
        )
    return _failed(str(path), f"the file cannot be opened: {_why(error)}")


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either."
    try:
        names = [entry.name for entry in islice(os.scandir(path.parent), _LISTED)]
    except OSError:
        return ""
    close = nearest(path.name, sorted(names))
    return f"Did you mean {path.parent / close}?" if close else ""
