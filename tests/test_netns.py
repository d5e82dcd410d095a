"""Network faults in network namespaces: the laws, who may be hit, and the helpers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from gameday.injectors.errors import Refused, SandboxGone, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import detour, helpers, kinds, mark
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.mark import InForce
from gameday.injectors.sandbox.netns.namespace import Namespace
from tests.namespaces import (
    FAR,
    FAR_6,
    NEAR,
    OTHER,
    Pair,
    no_packet_queue,
    sh_in,
    udp,
)
from tests.network_faults import (
    USERS,
    anyio_backend,
    cannot,
    echo,
    joined,
    mine,
    pair,
    tag,
    toxic,
    way,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
__all__ = ["anyio_backend", "cannot", "pair", "way"]

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
    with no_packet_queue(pair.near), echo(pair, FAR_6) as ask:
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
    with no_packet_queue(pair.near), joined(pair) as (near, far):
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


async def test_our_own_take_turns_however_long_it_takes(pair: Pair) -> None:
    """Not as with others, who may be frozen: beside them we would go on after a second."""
    namespace, one = Namespace(pair.near, mine()), toxic("loss")
    await namespace.add(one, [FAR])
    who = process.process_id(pair.near)
    assert who is not None
    with Inside(who).alone():
        remover = threading.Thread(target=namespace.remove_now, args=(one.tag,))
        remover.start()
        await anyio.sleep(1.5)
        assert await namespace.toxics()
    await anyio.to_thread.run_sync(remover.join)
    assert not await namespace.toxics()


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
    with echo(pair, FAR) as ask:
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
