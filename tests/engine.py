"""A Docker Engine for tests: the one that runs, or one of our own; and the images that they run.

An engine of our own has its data, its socket and its state in one temporary folder. It
changes no packet filter of the machine, and nothing of it stays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gameday"
BASE = "gameday-test-base"
PACKAGES = (
    *("haproxy", "iproute2", "iptables", "libfaketime", "nginx-light", "procps", "redis-server"),
    *("python3", "python3-pip"),
)
"""What the root file system of the base image holds beside Debian's essential packages."""
LIBRARIES = ("aiohttp>=3.10", "anyio>=4.4", "msgspec>=0.20", "prometheus-client>=0.21")
"""What it holds of Python, so that our own images need no network."""
FAKETIME = "trixie"
"""Where the source of a libfaketime comes from that lets programs sleep: the package of bookworm does not."""
CLOCK = "/etc/clock"
"""The file of the base image by which that library goes, if a container is started as `CLOCK_SET` says."""
CLOCK_SET = {
    "LD_PRELOAD": "/usr/local/lib/faketime/libfaketimeMT.so.1",
    "FAKETIME_TIMESTAMP_FILE": CLOCK,
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DISABLE_SHM": "1",
}
_STARTS_WITHIN = 60.0
_ENDS_WITHIN = 60.0


def why_not() -> str:
    """Why there can be no engine here; empty if there can."""
    if sys.platform != "linux":
        return "the tests' Docker Engine needs Linux"
    if shutil.which("docker") is None:
        return "Docker's client is not installed (Debian: docker.io)"
    if not _archive().exists() and shutil.which("mmdebstrap") is None:
        return "there is no image to test with, and no mmdebstrap to make one"
    if not _archive().exists() and shutil.which("cc") is None:
        return "there is no image to test with, and no C compiler to make its libfaketime"
    if not _has_compose() and not _built().exists() and shutil.which("go") is None:
        return "there is no Docker Compose, and no Go to build one"
    if _answers(os.environ | {}):
        return ""
    if shutil.which("dockerd") is None:
        return "no Docker Engine answers, and there is no dockerd to start (Debian: docker.io)"
    if os.geteuid() != 0:
        return "no Docker Engine answers, and only root can start one"
    return ""


@contextmanager
def engine() -> Iterator[dict[str, str]]:
    """An engine that answers; yields the variables by which it is found."""
    if _answers(os.environ | {}):
        yield {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
        return
    with tempfile.TemporaryDirectory(prefix="gameday-engine-") as folder:
        where = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        bridge = Path("/sys/class/net/docker0").exists()
        log = (Path(folder) / "log").open("wb")
        daemon = subprocess.Popen(
            [
                *("dockerd", "--host", where["DOCKER_HOST"], "--data-root", f"{folder}/data"),
                *("--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
                *("--iptables=false", "--ip6tables=false"),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + _STARTS_WITHIN
            while not _answers(os.environ | where):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    said = (Path(folder) / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"dockerd does not start:\n{said}")
                time.sleep(0.1)
            yield where
        finally:
            _end(daemon, where)
            log.close()
            _clear(Path(folder), bridge)


def _answers(environment: dict[str, str]) -> bool:
    if shutil.which("docker") is None:
        return False
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(asked, env=environment, capture_output=True, check=False)
    return done.returncode == 0


def _end(daemon: subprocess.Popen[bytes], where: dict[str, str]) -> None:
    """Its containers first: behind its back they would live on."""
    if daemon.poll() is None:
        environment = os.environ | where
        listed = subprocess.run(
            ["docker", "ps", "-aq"], env=environment, capture_output=True, text=True, check=False
        ).stdout.split()
        if listed:
            subprocess.run(
                ["docker", "rm", "-fv", *listed],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        daemon.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(_ENDS_WITHIN)
    if daemon.poll() is None:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _clear(folder: Path, bridge: bool) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    if not bridge and Path("/sys/class/net/docker0").exists():
        subprocess.run(["ip", "link", "delete", "docker0"], check=False)


# --- images -----------------------------------------------------------------------------------


def base_image(where: dict[str, str]) -> str:
    """The base image: a Debian of this machine's own release; made once, and kept by its contents."""
    archive = _archive()
    name = f"{BASE}:{archive.stem.removeprefix('base-')}"
    environment = os.environ | where
    if _call(["docker", "images", "-q", name], environment).strip():
        return name
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(f".{os.getpid()}.tar")
        try:
            _make(partial)
            partial.rename(archive)
        finally:
            partial.unlink(missing_ok=True)
    _call(["docker", "import", str(archive), name], environment)
    return name


def _archive() -> Path:
    key = hashlib.sha256(f"{PACKAGES} {LIBRARIES} {FAKETIME} {_release()}".encode()).hexdigest()[
        :12
    ]
    return CACHE / f"base-{key}.tar"


def _make(archive: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gameday-base-") as work:
        folder = Path(work) / "libraries"
        _call(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)),
                *("--python-version", _python(), "--only-binary=:all:", *LIBRARIES),
            ],
            dict(os.environ),
        )
        _call(
            [
                *("mmdebstrap", "--quiet", "--variant=essential"),
                f"--include={','.join(PACKAGES)}",
                f"--customize-hook=sync-in {folder} /usr/lib/python3/dist-packages",
                '--customize-hook=mkdir -p "$1/usr/local/lib/faketime"',
                f"--customize-hook=copy-in {_faketime(Path(work))} /usr/local/lib/faketime",
                f'--customize-hook=echo +0 > "$1{CLOCK}"',
                *(_release(), str(archive)),
            ],
            dict(os.environ),
        )


def _faketime(work: Path) -> Path:
    """The library, built here: that of another release may want a younger libc."""
    for part in ("lists/partial", "cache/archives/partial", "source"):
        (work / part).mkdir(parents=True)
    (work / "list").write_text(f"deb-src {_mirror()} {FAKETIME} main\n")
    where = {"sourcelist": work / "list", "sourceparts": "/dev/null"}
    options = [f"Dir::Etc::{name}={place}" for name, place in where.items()]
    options += [f"Dir::State::lists={work}/lists", f"Dir::Cache={work}/cache"]
    apt = ["apt-get", "--quiet", *(word for each in options for word in ("-o", each))]
    source = work / "source"
    _call([*apt, "update"], dict(os.environ))
    _call([*apt, "source", "--tar-only", "--download-only", "faketime"], dict(os.environ), source)
    (packed,) = source.glob("*.orig.tar.*z")
    _call(["tar", "xf", str(packed), "--strip-components=1"], dict(os.environ), source)
    flags = "FAKETIME_COMPILE_CFLAGS=-Wno-error"
    _call(["make", "-C", "src", flags, "libfaketimeMT.so.1"], dict(os.environ), source)
    return source / "src" / "libfaketimeMT.so.1"


def _mirror() -> str:
    """Where this machine has its own Debian packages from."""
    asked = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"]
    lines = _call([*asked, "Created-By: Packages"], dict(os.environ)).splitlines()
    return next(
        uri for name, _, uri in (line.partition(" ") for line in lines) if name == _release()
    )


def _python() -> str:
    """The version of Python that this Debian has, whatever runs the tests."""
    found = _call(["apt-cache", "show", "python3-minimal"], dict(os.environ))
    version = next(line for line in found.splitlines() if line.startswith("Version:"))
    return ".".join(version.split()[1].split(".")[:2])


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return found.get("VERSION_CODENAME", "stable").strip('"')


def _call(argv: list[str], environment: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(
        argv, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}"[-4000:])
    return done.stdout


# --- Docker Compose -----------------------------------------------------------------------------

COMPOSE = "v2.40.3"


def _has_compose() -> bool:
    asked = ["docker", "compose", "version"]
    found = shutil.which("docker-compose")
    return found is not None or not subprocess.run(asked, capture_output=True).returncode


def _built() -> Path:
    return CACHE / f"compose-{COMPOSE}" / "docker-compose"


def compose() -> str:
    """Docker Compose: the one that is installed, else built from its source; PATH with it."""
    path = os.environ["PATH"]
    if _has_compose():
        return path
    folder = _built().parent
    if not _built().exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gameday-compose-") as work:
            module = "github.com/docker/compose/v2/cmd"
            version = f"-X github.com/docker/compose/v2/internal.Version={COMPOSE}"
            for words in (
                ("mod", "init", "build"),
                ("get", f"{module}@{COMPOSE}"),
                ("build", "-ldflags", f"-s -w {version}", "-o", "docker-compose", module),
            ):
                done = subprocess.run(
                    ["go", *words], cwd=work, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RuntimeError(f"go {' '.join(words)} failed:\n{done.stderr[-2000:]}")
            shutil.copy(Path(work) / "docker-compose", folder / f"{os.getpid()}")
            (folder / f"{os.getpid()}").rename(folder / "docker-compose")
    return f"{folder}:{path}"


def prepare() -> None:
    """Make what takes long, if it is not there: it would disturb the tests that measure."""
    if why_not():
        return  # the tests say so
    compose()
    if not _archive().exists() and not _answers(os.environ | {}):
        with engine() as found:
            base_image(found)


if __name__ == "__main__":
    prepare()
