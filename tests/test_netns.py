"""Network faults in network namespaces: the laws, and what traffic meets, on real networks."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from gameday.injectors.errors import Refused, SandboxGone, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import detour, helpers, kinds, mark
from gameday.injectors.sandbox.netns.mark import InForce
from gameday.injectors.sandbox.netns.namespace import Namespace
from gameday.injectors.sandbox.netns.preflight import lacks
from tests.namespaces import (
    FAR,
    FAR_6,
    NEAR,
    NEAR_6,
    OTHER,
    Pair,
    connect,
    listen,
    no_packet_queue,
    sh_in,
    udp,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

FIGURES = {"delay": 0.05, "jitter": 0.01, "rate": 1e6, "share": 0.1, "refused": 1.0, "one_way": 1.0}
USERS = """
iptables -A INPUT -s 192.0.2.7 -m comment --comment "the user's own; gameday" -j DROP
iptables -t mangle -A OUTPUT -p tcp --dport 81 -j MARK --set-mark 7
iptables -N MINE
iptables -P FORWARD DROP
ip6tables -A OUTPUT -d 2001:db8::7 -j REJECT
tc qdisc add dev eth0 root handle 1: htb default 1
tc class add dev eth0 parent 1: classid 1:1 htb rate 1gbit
tc filter add dev eth0 parent 1: protocol ip prio 3 u32 match ip dport 81 0xffff flowid 1:1
tc qdisc add dev eth0 clsact
tc filter add dev eth0 egress protocol ip pref 7 u32 match ip dport 82 0xffff action mirred egress redirect dev lo
"""

_counter = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cannot() -> dict[str, str]:
    return lacks()


@pytest.fixture
def pair(needs: Callable[[bool, str], None], cannot: dict[str, str]) -> Iterator[Pair]:
    needs(not cannot, f"network faults cannot be made here: {cannot}")
    made = Pair()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["queue", "proxy"])
def way(request: pytest.FixtureRequest, pair: Pair) -> Iterator[str]:
    """How packets are held: by a packet queue or, where none is to be had, by a proxy."""
    with no_packet_queue(pair.near) if request.param == "proxy" else contextlib.nullcontext():
        yield request.param


def tag() -> str:
    return f"gameday-test-{os.getpid()}-{next(_counter):08x}"


def toxic(kind: str, **parameters: float) -> Toxic:
    declared = kinds.KINDS[kind].parameters
    return Toxic(kind, tag(), parameters or {name: FIGURES[name] for name in declared})


def mine() -> list[process.ProcessId]:
    found = process.process_id(os.getpid())
    assert found is not None
    return [found]


# The laws


@pytest.mark.parametrize("peers", [(FAR,), (FAR, FAR_6, "10.99.7.0/24"), ()], ids=str)
@pytest.mark.parametrize("kind", kinds.KINDS)
async def test_what_is_added_is_seen_and_what_is_removed_is_gone(
    kind: str, peers: tuple[str, ...], pair: Pair
) -> None:
    sh_in(pair.near, USERS)
    namespace = Namespace(pair.near, mine())
    before, one = await namespace.fingerprint(), toxic(kind)
    assert not await namespace.remove(one.tag)  # nothing of it is there yet
    assert await namespace.fingerprint() == before

    await namespace.add(one, peers)
    (seen,) = await Namespace(pair.near).toxics()
    direction = "out" if kind == "partition" else kinds.KINDS[kind].direction
    assert (seen.toxic, set(seen.peers), seen.direction) == (one, set(peers), direction)
    during = await namespace.fingerprint()
    assert during != before
    for name, lines in before.items():  # what was there is there
        rest = iter(during[name].splitlines())
        assert all(line in rest for line in lines.splitlines())
    assert bool(helpers.find(one.tag)) == (kind in kinds.QUEUED)

    assert await Namespace(pair.near).remove(one.tag)
    assert await namespace.fingerprint() == before
    assert not await namespace.remove(one.tag)
    assert await namespace.fingerprint() == before
    assert await namespace.toxics() == ()
    assert not helpers.find(one.tag)


@pytest.mark.parametrize("peers", [(FAR,), (FAR, FAR_6, "10.99.7.0/24"), ()], ids=str)
async def test_without_a_packet_queue_a_proxy_holds_what_goes_out(
    peers: tuple[str, ...], pair: Pair
) -> None:
    sh_in(pair.near, USERS)
    namespace, one = Namespace(pair.near, mine()), toxic("latency")
    before = await namespace.fingerprint()
    with no_packet_queue(pair.near):
        await namespace.add(one, peers)
        (seen,) = await Namespace(pair.near).toxics()
        assert (seen.toxic, set(seen.peers), seen.direction) == (one, set(peers), "out")
        assert detour.device(one.tag) in sh_in(pair.near, "ip link show")
        during = await namespace.fingerprint()
        assert {name for name in during if during[name] != before.get(name)} == {
            *("iptables mangle", "ip -4 rule", f"tc {detour.device(one.tag)}"),
            *(() if peers == (FAR,) else ("ip6tables mangle", "ip -6 rule")),
        }
        with pytest.raises(Unsupported, match="delayed already"):
            await namespace.add(toxic("latency"), [FAR])
        with pytest.raises(Unsupported, match="one direction only"):
            await namespace.add(toxic("latency"), ["192.0.2.1"], direction="both")
        with pytest.raises(Unsupported, match="no packet queue"):
            await namespace.add(toxic("corrupt"), [FAR])
        assert await namespace.fingerprint() == during
        rule = f"fwmark {detour.number(one.tag):#x} lookup {detour.number(one.tag)}"
        sh_in(pair.near, f"ip -4 rule delete {rule}; ip -6 rule delete {rule} || true")
        assert await namespace.toxics() == ()  # nothing is led to it now
        sh_in(pair.near, f"ip -4 rule add {rule}")
    assert await Namespace(pair.near).remove(one.tag)
    assert await namespace.fingerprint() == before
    assert not await namespace.remove(one.tag)
    assert await namespace.toxics() == ()


async def test_a_proxy_finds_its_way_where_devices_have_no_ipv6_unless_told(pair: Pair) -> None:
    """As in containers: it is on only in the interfaces of networks that have it."""
    sh_in(pair.near, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    namespace, one = Namespace(pair.near, mine()), toxic("latency", delay=0.1)
    with no_packet_queue(pair.near), _echo(pair, FAR_6) as ask:
        await namespace.add(one)
        assert ask() > 0.1
        assert await namespace.remove(one.tag)
        assert ask() < 0.1
        sh_in(pair.near, "ip -6 address flush dev eth0")
        sh_in(pair.near, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        await namespace.add(one)
        assert [seen.toxic for seen in await namespace.toxics()] == [one]
        assert await namespace.remove(one.tag)


async def test_a_proxy_holds_the_packets_of_connections_that_are_open(pair: Pair) -> None:
    namespace, one = Namespace(pair.near, mine()), toxic("latency", delay=0.1)
    text = os.urandom(3 << 20)
    with no_packet_queue(pair.near), _joined(pair) as (near, far):
        await namespace.add(one, [FAR])
        await namespace.add(toxic("latency", delay=5.0), [OTHER])  # other packets
        sender = threading.Thread(target=near.sendall, args=(text,))
        began = time.perf_counter()
        sender.start()
        got = far.recv(1 << 20)
        assert time.perf_counter() - began > 0.1
        assert await namespace.remove(one.tag)  # in the midst of it
        while len(got) < len(text):
            got += far.recv(1 << 20)
        sender.join()
        assert got == text


@pytest.mark.parametrize("users", [True, False])
async def test_many_at_once_come_and_go_one_by_one(users: bool, pair: Pair) -> None:
    if users:
        sh_in(pair.near, USERS)
    namespace = Namespace(pair.near, mine())
    before = await namespace.fingerprint()
    everything = [*map(toxic, kinds.KINDS), toxic("bandwidth", rate=5e5), toxic("loss")]
    async with anyio.create_task_group() as group:  # at the same time
        for one in everything:
            group.start_soon(namespace.add, one, [FAR])
    random.shuffle(everything)
    while everything:
        assert {one.toxic.tag for one in await namespace.toxics()} == {t.tag for t in everything}
        one, *everything = everything
        assert await namespace.remove(one.tag)
    assert await namespace.fingerprint() == before


async def test_what_the_user_puts_beside_ours_stays(pair: Pair) -> None:
    namespace, one = Namespace(pair.near), toxic("bandwidth")
    await namespace.add(one, [FAR])
    theirs = "tc filter add dev eth0 egress protocol ip pref 7 u32 match ip dport 82 0xffff action mirred egress redirect dev lo"
    sh_in(pair.near, theirs + "; iptables -t mangle -A INPUT -s 192.0.2.7 -j DROP")
    assert await namespace.remove(one.tag)
    left = await namespace.fingerprint()
    assert "device lo" in left["tc eth0"]
    assert "192.0.2.7" in left["iptables mangle"]


async def test_three_faults_are_on_the_same_packets_and_a_fourth_is_refused(pair: Pair) -> None:
    namespace = Namespace(pair.near, mine())
    for kind in kinds.QUEUED:
        await namespace.add(toxic(kind), [FAR])
    await namespace.add(toxic("latency"), [OTHER])  # other packets
    before, fourth = await namespace.fingerprint(), toxic("latency")
    with pytest.raises(Unsupported, match="no room"):
        await namespace.add(fourth, [])
    assert await namespace.fingerprint() == before
    assert not helpers.find(fourth.tag)


async def test_what_fails_leaves_nothing(pair: Pair) -> None:
    sh_in(pair.near, "tc qdisc add dev eth0 ingress")
    namespace = Namespace(pair.near)
    before = await namespace.fingerprint()
    with pytest.raises(Unsupported, match="ingress"):
        await namespace.add(toxic("bandwidth"), [FAR])
    assert await namespace.fingerprint() == before


@pytest.mark.parametrize("kind", ["latency", "bandwidth", "loss"])
def test_whoever_is_killed_while_adding_leaves_what_can_be_removed(kind: str, pair: Pair) -> None:
    _kill_adders(kind, pair)


def test_whoever_is_killed_while_adding_a_proxy_leaves_what_can_be_removed(pair: Pair) -> None:
    with no_packet_queue(pair.near):
        _kill_adders("latency", pair)


def _kill_adders(kind: str, pair: Pair) -> None:
    before = Namespace(pair.near).fingerprint_now()
    program = (
        "import sys; from gameday.injectors.sandbox.base import Toxic\n"
        "from gameday.injectors.sandbox.netns.namespace import Namespace\n"
        f"print(flush=True); Namespace({pair.near}).add_now(Toxic({kind!r}, sys.argv[1], "
        f"{toxic(kind).parameters}), [{FAR!r}])"
    )
    for _ in range(6):
        one = tag()
        adder = subprocess.Popen([sys.executable, "-c", program, one], stdout=subprocess.PIPE)
        assert adder.stdout is not None
        adder.stdout.readline()
        time.sleep(random.uniform(0, 0.15))
        adder.kill()
        adder.communicate()
        Namespace(pair.near).remove_now(one)
        # A command that the killed one had begun may end after our look.
        time.sleep(0.1)
        Namespace(pair.near).remove_now(one)
        assert Namespace(pair.near).fingerprint_now() == before
        assert not helpers.find(one)


# Who may be hit, by what, and where


def _lacks_elsewhere(program: str, **environment: str) -> set[str]:
    program = f"import os; from gameday.injectors.sandbox.netns import preflight; {program}; "
    program += "print(*set(preflight.lacks().values()), sep='\\n')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return set(done.stdout.splitlines())


def test_what_cannot_be_done_has_a_reason(pair: Pair, tmp_path: Path) -> None:
    assert _lacks_elsewhere("os.seteuid(65534)") == {
        "network faults on a process need root on its host"
    }
    (why,) = _lacks_elsewhere("pass", PATH=str(tmp_path))
    assert why == "nsenter is not on this machine (Debian: util-linux)"
    # One kind may be out of reach, and the others not.
    (tmp_path / "ip").write_text(
        "#!/bin/sh\ncase $* in *ifb*) echo no ifb here >&2; exit 2;; esac\nexec /sbin/ip $*\n"
    )
    (tmp_path / "ip").chmod(0o755)
    (why,) = _lacks_elsewhere("pass", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "no ifb here" in why


async def test_a_process_without_a_network_of_its_own_is_refused() -> None:
    with pytest.raises(Refused, match="no network of its own"):
        await Namespace(os.getpid()).add(toxic("loss"), [FAR])


async def test_a_process_that_is_gone_has_nothing(pair: Pair, way: str) -> None:
    namespace, one = Namespace(pair.near), toxic("latency")
    await namespace.add(one, [FAR])
    pair.end_near()
    assert not process.wait_gone(helpers.find(one.tag), 5)  # it held the namespace
    with pytest.raises(SandboxGone):
        await namespace.add(toxic("loss"), [FAR])
    assert not await namespace.remove(one.tag)
    assert await namespace.toxics() == ()
    assert await namespace.fingerprint() == {}


@pytest.mark.parametrize(
    ("one", "peers", "direction"),
    [
        (Toxic("lag", "t"), [], ""),
        (Toxic("latency", "t"), [], ""),
        (Toxic("latency", "t", {"delay": 1, "dealy": 1}), [], ""),
        (Toxic("loss", "t", {"share": 1.1}), [], ""),
        (Toxic("loss", "t", {"share": float("nan")}), [], ""),
        (Toxic("loss", "a b", {"share": 0.1}), [], ""),
        (Toxic("loss", "t", {"share": 0.1}), ["api-1"], ""),
        (Toxic("loss", "t", {"share": 0.1}), [], "up"),
        (Toxic("reset", "t"), [], "in"),
    ],
)
def test_what_is_impossible_is_refused(one: Toxic, peers: list[str], direction: str) -> None:
    with pytest.raises(UsageError):
        kinds.checked(one, peers, direction)


def test_a_comment_names_the_fault_and_fits() -> None:
    one = Toxic("latency", "t" * 100, {"delay": 0.1 + 0.2, "jitter": 1e-9})
    text = mark.write(one, "both")
    assert mark.read(text) == InForce(one, (), "both")
    assert len(text) <= 255
    assert mark.read("gameday") is None
    assert mark.read("gameday|t|loss|in|share=x") is None


# Helpers


async def test_if_a_helper_is_killed_traffic_goes_on_at_once(pair: Pair, way: str) -> None:
    namespace, one = Namespace(pair.near, mine()), toxic("latency", delay=2.0)
    await namespace.add(one, [FAR])
    with _echo(pair, FAR) as ask:
        (helper,) = helpers.find(one.tag)
        process.signal_process(helper, signal.SIGKILL)
        process.wait_gone([helper], 2)
        assert ask() < 1
    assert await namespace.toxics() == ()  # its rules do nothing
    assert await namespace.remove(one.tag)
    assert not await namespace.remove(one.tag)


def test_a_helper_ends_with_the_last_of_its_owners(pair: Pair, way: str) -> None:
    owners = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        ids = [process.process_id(owner.pid) for owner in owners]
        sandbox, one = tag(), toxic("latency")
        marks = {"GAMEDAY_SANDBOX": sandbox}
        namespace = Namespace(pair.near, [i for i in ids if i], marks)
        namespace.add_now(one, [FAR])
        (helper,) = helpers.find(one.tag)
        assert process.variables(helper, "GAMEDAY_SANDBOX") == (sandbox,)
        owners[0].kill()
        owners[0].wait()
        time.sleep(0.3)
        assert process.is_alive(helper)
    finally:
        for owner in owners:
            owner.kill()
            owner.wait()
    assert not process.wait_gone([helper], 1)


def test_owners_that_were_gone_before_leave_no_helper(pair: Pair) -> None:
    gone = process.ProcessId(process.boot_id(), 2**22 - 1, 1)
    one = toxic("latency")
    Namespace(pair.near, [gone]).add_now(one, [FAR])
    assert not process.wait_gone(helpers.find(one.tag), 5)


async def test_what_a_helper_holds_goes_on_in_order_when_the_fault_is_removed(
    pair: Pair, way: str
) -> None:
    namespace, one = Namespace(pair.near, mine()), toxic("latency", delay=30.0)
    ends = [udp(pair.far, FAR), udp(pair.near, NEAR)]
    sender, receiver = ends if way == "queue" else reversed(ends)
    with sender, receiver:
        await namespace.add(one, [FAR])
        for number in range(100):
            sender.sendto(bytes([number]), receiver.getsockname())
        receiver.settimeout(0.2)
        with pytest.raises(TimeoutError):
            receiver.recv(9)
        assert await namespace.remove(one.tag)
        assert [receiver.recv(9)[0] for _ in range(100)] == list(range(100))


async def test_jitter_keeps_the_order(pair: Pair, way: str) -> None:
    sender, receiver = udp(pair.near, NEAR), udp(pair.far, FAR)
    with sender, receiver:
        await Namespace(pair.near, mine()).add(
            toxic("latency", delay=0.02, jitter=0.02), [FAR], direction="out"
        )
        for number in range(200):
            sender.sendto(bytes([number]), receiver.getsockname())
        assert [receiver.recv(9)[0] for _ in range(200)] == list(range(200))


# What traffic meets


@contextlib.contextmanager
def _echo(pair: Pair, address: str) -> Iterator[Callable[[], float]]:
    """Somebody at the far end who answers each datagram; and how long one takes, in seconds."""
    far, near = udp(pair.far, address), udp(pair.near, NEAR_6 if ":" in address else NEAR)
    over = threading.Event()
    far.settimeout(0.1)

    def answer() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                far.sendto(*far.recvfrom(2048))

    def ask() -> float:
        began = time.perf_counter()
        near.sendto(b"x", far.getsockname())
        near.recv(9)
        return time.perf_counter() - began

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with far, near:
            ask()
            yield ask
            over.set()
            thread.join()
    finally:
        over.set()


@contextlib.contextmanager
def _joined(pair: Pair, address: str = FAR) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with listen(pair.far, address) as door, connect(pair.near, door) as near:
        far, _ = door.accept()
        with far:
            near.settimeout(3)
            far.settimeout(3)
            yield near, far


def _lacks_nothing(sender: socket.socket, receiver: socket.socket, count: int) -> list[int]:
    """Send numbered datagrams, slowly enough for any receiver; the numbers that arrived."""
    arrived: list[int] = []

    def receive() -> None:
        receiver.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                arrived.append(int.from_bytes(receiver.recv(100)[:4], "big"))

    thread = threading.Thread(target=receive)
    thread.start()
    for number in range(count):
        sender.sendto(number.to_bytes(4, "big") + b"gameday" * 4, receiver.getsockname())
        if number % 50 == 49:
            time.sleep(0.001)
    thread.join()
    return arrived


@pytest.mark.alone
@pytest.mark.short_form(f"queue-{FAR_6}-False", f"proxy-{FAR}-False")
@pytest.mark.parametrize(("address", "everybody"), [(FAR, False), (FAR_6, False), (FAR, True)])
async def test_latency_is_what_was_asked(
    address: str, everybody: bool, pair: Pair, way: str
) -> None:
    namespace = Namespace(pair.near, mine())
    with _echo(pair, address) as ask, _echo(pair, OTHER) as ask_other:
        usual = statistics.median(ask() for _ in range(50))
        await namespace.add(toxic("latency", delay=0.05), () if everybody else [address])
        added = statistics.median(ask() for _ in range(100)) - usual
        print(f"50 ms asked, {added * 1000:.2f} ms measured")
        assert added == pytest.approx(0.05, rel=0.1)
        assert (statistics.median(ask_other() for _ in range(50)) > 0.04) is everybody
    with listen(pair.far, address) as door:  # connecting is not delayed, an answer is
        took = []
        for _ in range(9):
            began = time.perf_counter()
            with connect(pair.near, door) as near:
                took.append(time.perf_counter() - began)
                far, _ = door.accept()
                with far:
                    far.sendall(b"x")
                    near.recv(1)
                    answered = time.perf_counter() - began
        assert statistics.median(took) < 0.04
        assert answered > 0.045


@pytest.mark.alone
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_loss_is_what_was_asked_and_nobody_is_told(direction: str, pair: Pair) -> None:
    namespace = Namespace(pair.near)
    near, far, other = udp(pair.near, NEAR), udp(pair.far, FAR), udp(pair.far, OTHER)
    with near, far, other:
        await namespace.add(toxic("loss", share=0.1), [FAR])
        ways = {"in": (far, near), "out": (near, far)}
        lost = 1 - len(_lacks_nothing(*ways[direction], 20_000)) / 20_000
        print(f"10 % asked, {lost:.2%} of 20,000 lost")
        assert lost == pytest.approx(0.1, rel=0.1)
        assert len(_lacks_nothing(near, other, 1000)) == 1000


@pytest.mark.alone
@pytest.mark.short_form("in")
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_bandwidth_is_what_was_asked_each_way(direction: str, pair: Pair) -> None:
    sh_in(pair.near, USERS)
    namespace, one = Namespace(pair.near), toxic("bandwidth", rate=1e6)
    await namespace.add(one, [FAR, FAR_6])
    with _joined(pair) as (near, far):
        sender, receiver = (far, near) if direction == "in" else (near, far)
        rate = _throughput(sender, receiver, 8)
        print(f"1 Mbit/s asked, {rate / 1e6:.3f} Mbit/s of payload measured")
        assert rate == pytest.approx(1e6, rel=0.1)
    with _joined(pair, OTHER) as (near, far):
        assert _throughput(near, far, 1) > 50e6
    assert await namespace.remove(one.tag)
    with _joined(pair) as (near, far):
        assert _throughput(near, far, 1) > 50e6


def _throughput(sender: socket.socket, receiver: socket.socket, seconds: float) -> float:
    """Bits of payload per second, from the first second on: TCP finds its pace."""
    over = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                sender.send(b"x" * 8192)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    began = time.monotonic()
    skip = min(1.0, seconds / 4)
    size, counted = 0, 0.0
    while (now := time.monotonic()) < began + seconds:
        got = len(receiver.recv(1 << 16))
        if now > began + skip:
            counted = counted or now
            size += got
    rate = size * 8 / (time.monotonic() - counted)
    over.set()
    for end in (receiver, sender):
        with contextlib.suppress(OSError):  # the other's end may have come already
            end.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    return rate


@pytest.mark.parametrize("kind", ["blackhole", "partition"])
async def test_what_vanishes_vanishes_silently_and_comes_again(kind: str, pair: Pair) -> None:
    namespace, one = Namespace(pair.near), Toxic(kind, tag())
    near_udp, far_udp = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near_udp, far_udp, _joined(pair) as (near, far), _joined(pair, OTHER) as (a, b):
        await namespace.add(one, [FAR])
        assert _lacks_nothing(near_udp, far_udp, 10) == []  # and sending is no error
        assert _lacks_nothing(far_udp, near_udp, 10) == []
        near.sendall(b"question")
        far.sendall(b"word")
        for end in (near, far):
            end.settimeout(0.3)
            with pytest.raises(TimeoutError):
                end.recv(99)
        with listen(pair.far, FAR) as door, pytest.raises(TimeoutError):
            connect(pair.near, door, within=0.3)
        a.sendall(b"x")
        assert b.recv(9) == b"x"
        assert await namespace.remove(one.tag)
        near.settimeout(10)
        far.settimeout(10)
        assert far.recv(99) == b"question"
        assert near.recv(99) == b"word"


async def test_a_partition_can_be_one_way(pair: Pair) -> None:
    namespace = Namespace(pair.near)
    near, far = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near, far:
        one = Toxic("partition", tag(), {"one_way": 1})
        await namespace.add(one, [FAR])
        assert (len(_lacks_nothing(near, far, 10)), len(_lacks_nothing(far, near, 10))) == (0, 10)
        await namespace.remove(one.tag)
        await namespace.add(Toxic("partition", tag()), [FAR], direction="in")
        assert (len(_lacks_nothing(near, far, 10)), len(_lacks_nothing(far, near, 10))) == (10, 0)


@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("everybody", [False, True])
async def test_reset_breaks_open_connections_and_new_ones(
    everybody: bool, address: str, pair: Pair
) -> None:
    namespace, one = Namespace(pair.near), Toxic("reset", tag())
    with _joined(pair, address) as (near, far), _joined(pair, OTHER) as (a, b):
        with listen(pair.near, "127.0.0.1") as local, connect(pair.near, local) as own:
            await namespace.add(one, () if everybody else [address])
            for end in (near, far):  # idle as they are
                with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
                    end.recv(9)
            own.sendall(b"x")  # loopback is not hit
        with listen(pair.far, address) as door, pytest.raises(ConnectionRefusedError):
            connect(pair.near, door)
        own_address = NEAR_6 if ":" in address else NEAR
        with listen(pair.near, own_address) as door, pytest.raises(ConnectionError):
            connect(pair.far, door)
        if not everybody:
            a.sendall(b"x")
            assert b.recv(9) == b"x"
    assert await namespace.remove(one.tag)
    with _joined(pair, address) as (near, far):
        near.sendall(b"x")
        assert far.recv(9) == b"x"


@pytest.mark.short_form(f"in-{FAR_6}", f"out-{FAR}")
@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_corrupt_packets_are_found_out_by_their_receiver(
    direction: str, address: str, pair: Pair
) -> None:
    near, far = udp(pair.near, NEAR_6 if ":" in address else NEAR), udp(pair.far, address)
    with near, far:
        await Namespace(pair.near, mine()).add(
            toxic("corrupt", share=0.2), [address], direction=direction
        )
        ways = {"in": (far, near), "out": (near, far)}
        arrived = _lacks_nothing(*ways[direction], 5000)
        assert 1 - len(arrived) / 5000 == pytest.approx(0.2, rel=0.2)
        assert arrived == sorted(arrived)
        assert len(_lacks_nothing(*reversed(ways[direction]), 500)) == 500
    with _joined(pair, address) as (a, b):  # TCP sends again
        text = os.urandom(20_000)
        a.sendall(text)
        got = b""
        b.settimeout(20)
        while len(got) < len(text):
            got += b.recv(1 << 16)
        assert got == text


@pytest.mark.short_form(f"in-{FAR_6}-True", f"out-{FAR}-False")
@pytest.mark.parametrize("peers", [True, False])
@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_duplicates_arrive(direction: str, address: str, peers: bool, pair: Pair) -> None:
    near, far = udp(pair.near, NEAR_6 if ":" in address else NEAR), udp(pair.far, address)
    with near, far:
        await Namespace(pair.near, mine()).add(
            toxic("duplicate", share=0.2), [address] if peers else (), direction=direction
        )
        ways = {"in": (far, near), "out": (near, far)}
        arrived = _lacks_nothing(*ways[direction], 5000)
        assert len(set(arrived)) == 5000
        assert len(arrived) / 5000 == pytest.approx(1.2, rel=0.04)
        assert len(_lacks_nothing(*reversed(ways[direction]), 500)) == 500


async def test_faults_on_the_same_packets_all_hit_them(pair: Pair) -> None:
    namespace = Namespace(pair.near, mine())
    near, far = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near, far:
        await namespace.add(toxic("latency", delay=0.2), [FAR], direction="in")
        await namespace.add(toxic("corrupt", share=0.3), [FAR], direction="in")
        await namespace.add(toxic("duplicate", share=1.0), (), direction="in")
        await namespace.add(toxic("loss", share=0.5), [FAR])
        began = time.perf_counter()
        arrived = _lacks_nothing(far, near, 4000)
        assert time.perf_counter() - began > 0.2
        assert len(set(arrived)) < 0.6 * 4000
        assert len(arrived) > 1.1 * len(set(arrived))


# Names


def _ask_name(pid: int, server: str, within: float = 0.5) -> str:
    """What becomes of a query for a name: ``answered``, ``refused`` or ``silent``."""
    with udp(pid, "0.0.0.0") as resolver:
        resolver.connect((server, 53))
        resolver.settimeout(within)
        try:
            resolver.send(b"a query")
            resolver.recv(99)
        except TimeoutError:
            return "silent"
        except (ConnectionRefusedError, PermissionError):
            return "refused"
    return "answered"


@contextlib.contextmanager
def _name_server(pid: int, address: str, port: int) -> Iterator[None]:
    over = threading.Event()
    with udp(pid, address, port) as server:
        server.settimeout(0.1)

        def answer() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    server.sendto(*server.recvfrom(2048))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(("refused", "becomes"), [(0.0, "silent"), (1.0, "refused")])
async def test_queries_for_names_fail(refused: float, becomes: str, pair: Pair) -> None:
    # As Docker's own name server does: it listens on another port of loopback.
    sh_in(
        pair.near,
        "iptables -t nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:40053\n"
        "iptables -t nat -A POSTROUTING -s 127.0.0.11 -p udp --sport 40053 -j SNAT --to :53",
    )
    namespace, one = Namespace(pair.near), toxic("dns", refused=refused)
    with (
        _name_server(pair.near, "127.0.0.11", 40053),
        _name_server(pair.far, FAR, 53),
        _name_server(pair.far, OTHER, 53),
    ):
        servers = ("127.0.0.11", FAR, OTHER)
        assert [_ask_name(pair.near, server) for server in servers] == ["answered"] * 3
        await namespace.add(one, ())
        assert [_ask_name(pair.near, server) for server in servers] == [becomes] * 3
        with udp(pair.near, NEAR) as near, udp(pair.far, FAR) as far:
            assert len(_lacks_nothing(near, far, 10)) == 10
        await namespace.remove(one.tag)
        assert [_ask_name(pair.near, server) for server in servers] == ["answered"] * 3
        await namespace.add(toxic("dns", refused=refused), [FAR])
        assert [_ask_name(pair.near, server) for server in servers] == [
            "answered",
            becomes,
            "answered",
        ]
    with listen(pair.far, OTHER, 53) as door:
        with connect(pair.near, door):
            pass
        await namespace.add(toxic("dns", refused=refused), [OTHER])
        with pytest.raises(ConnectionRefusedError if refused else TimeoutError):
            connect(pair.near, door, within=0.5)
