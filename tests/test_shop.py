"""The shop, as real processes: what it answers, how it fails, and that it stops."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.local.cluster import Cluster
from gameday.scenarios.shop.balancer import HealthPolicy, Replica, RetryBudget
from gameday.scenarios.shop.endpoints import Endpoint
from gameday.scenarios.shop.sessions import LIFETIME, Signer, rounds_for
from gameday.scenarios.shop.settings import Settings

SHOP = Path(__file__).parent.parent / "scenarios" / "shop"
PATIENCE = 20.0
QUICK_CHECKS = {"SHOP_HEALTH_EVERY": "100ms"}
LONG_LIMITS = {  # a busy machine is no fault of the shop
    "SHOP_API_TIMEOUT": "10s",
    "SHOP_STORE_TIMEOUT": "5s",
    "SHOP_HEALTH_TIMEOUT": "5s",
}

processes = pytest.mark.sandbox


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Server:
    """One process of the shop; its log is a file."""

    def __init__(
        self, slot: str, folder: Path, env: Mapping[str, str], *, prefix: Sequence[str] = ()
    ) -> None:
        self.slot = slot
        self.log = folder / f"{slot}.log"
        self.log.touch()
        self._seen = self.log.stat().st_size
        environment = {**QUICK_CHECKS, **LONG_LIMITS, "GAMEDAY_SLOT": slot, **env}
        module = f"gameday.scenarios.shop.{slot.rsplit('-', 1)[0]}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module], env=environment, stdout=log, stderr=log
            )

    def lines(self, message: str = "") -> list[dict[str, Any]]:
        with self.log.open("rb") as log:
            log.seek(self._seen)
            found = [json.loads(line) for line in log]
        return [line for line in found if message in ("", line["message"])]

    @cached_property
    def address(self) -> str:
        eventually(lambda: bool(self.lines("listening")) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return str(self.lines("listening")[-1]["address"])

    def ask(self, path: str, body: object = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, fields)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def statuses(self, path: str, count: int) -> Counter[int]:
        return Counter(self.ask(path).status for _ in range(count))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


def serves(gateway: Server) -> None:
    """Wait until the gateway, and what it needs, answers."""
    eventually(lambda: gateway.ask("/products").status == 200)


class Shop:
    """A whole shop on free ports, without a supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoints = folder / "endpoints.json"
        self.started: list[Server] = []
        self.store = self.start("store-1", DATA=str(folder / "data"))
        self.apis = [self.start(f"api-{number}") for number in (1, 2, 3)]
        self.gateway = self.start("gateway-1")
        self.link(self.apis)

    def start(self, slot: str, **env: str) -> Server:
        server = Server(slot, self.folder, {"ENDPOINTS": str(self.endpoints)} | env)
        self.started.append(server)
        return server

    def link(self, apis: list[Server]) -> None:
        """Say where everybody is, as the supervisor does: by renaming a new file over the old."""
        found = {"api": apis, "store": [self.store]}
        write_endpoints(
            self.endpoints,
            {name: [(one.slot, one.address) for one in many] for name, many in found.items()},
        )

    def restart(self, server: Server, **env: str) -> Server:
        """Start the slot again at its old address."""
        port = server.address.rsplit(":", 1)[1]
        return self.start(server.slot, PORT=port, **env)

    def stop(self) -> None:
        for server in self.started:
            if server.process.poll() is None:
                server.kill()


def write_endpoints(path: Path, services: dict[str, list[tuple[str, str]]]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(
        json.dumps(
            {
                service: [{"slot": slot, "address": address} for slot, address in replicas]
                for service, replicas in services.items()
            }
        )
    )
    fresh.rename(path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    running = Shop(tmp_path_factory.mktemp("shop"))
    try:
        serves(running.gateway)
        yield running
    finally:
        running.stop()


@contextmanager
def started(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


@processes
def test_products(shop: Shop) -> None:
    first = shop.gateway.ask("/products")
    listing = first.json()
    assert first.headers["Content-Type"].startswith("application/json")
    assert (listing["page"], listing["pages"], len(listing["products"])) == (1, 9, 24)
    assert all(one["stock"] > 0 and one["price_cents"] > 0 for one in listing["products"])
    names = {
        one["name"]
        for page in range(1, 10)
        for one in shop.gateway.ask(f"/products?page={page}").json()["products"]
    }
    assert len(names) == 200
    assert shop.gateway.ask("/products?page=10").json()["products"] == []
    assert shop.gateway.ask("/products/7").json()["id"] == 7


@processes
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/products/9999", None, 404),
        ("/products/abc", None, 400),
        ("/products?page=0", None, 400),
        ("/products?page=-1", None, 400),
        ("/nowhere", None, 404),
        ("/products", {}, 405),
        ("/cart", [], 400),
        ("/cart", {"product": "x"}, 400),
        ("/cart", {"product": True}, 400),
        ("/cart", {"product": 1, "quantity": 0}, 400),
        ("/cart", {"product": 9999}, 404),
        ("/checkout", {}, 409),
    ],
)
def test_what_makes_no_sense_is_refused(shop: Shop, path: str, body: object, status: int) -> None:
    reply = shop.gateway.ask(path, body)
    assert reply.status == status
    assert reply.json()["error"]
    assert reply.json()["request_id"] == reply.headers["X-Request-Id"]


@processes
def test_pages_for_browsers(shop: Shop) -> None:
    for path in ("/", "/products", "/products?page=9", "/products/7", "/cart", "/products/9999"):
        page = shop.gateway.ask(path, Accept="text/html")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.body.startswith(b"<!doctype html>")
    packed = shop.gateway.ask("/products", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["page"] == 1


@processes
def test_an_order_outlives_the_store(shop: Shop) -> None:
    before = shop.gateway.ask("/products/5").json()["stock"]
    added = shop.gateway.ask("/cart", {"product": 5, "quantity": 2})
    cookie = added.headers["Set-Cookie"].partition(";")[0]
    shop.gateway.ask("/cart", {"product": 6}, Cookie=cookie)
    cart = shop.gateway.ask("/cart", Cookie=cookie).json()
    assert [(one["product"], one["quantity"]) for one in cart["items"]] == [(5, 2), (6, 1)]
    order = shop.gateway.ask("/checkout", {}, Cookie=cookie)
    assert order.status == 201
    assert order.json()["total_cents"] == cart["total_cents"]
    assert shop.gateway.ask("/cart", Cookie=cookie).json()["items"] == []
    assert shop.gateway.ask("/products/5").json()["stock"] == before - 2

    shop.store.kill()
    assert shop.gateway.ask("/products").status == 503
    assert shop.gateway.ask("/healthz").status == 200
    assert shop.apis[0].ask("/healthz").status == 200
    assert shop.apis[0].ask("/readyz").status == 503
    shop.store = shop.restart(shop.store, DATA=str(shop.folder / "data"))
    number = order.json()["id"]
    assert shop.store.ask(f"/orders/{number}").json()["lines"][0]["product"] == 5
    serves(shop.gateway)
    with sqlite3.connect(f"file:{shop.folder}/data/shop.sqlite3?mode=ro", uri=True) as database:
        rows = database.execute("SELECT total_cents FROM orders WHERE id = ?", (number,))
        assert rows.fetchall() == [(cart["total_cents"],)]
    database.close()


@processes
def test_a_forged_session_is_a_new_one(shop: Shop) -> None:
    cookie = shop.gateway.ask("/cart", {"product": 5}).headers["Set-Cookie"].partition(";")[0]
    forged = cookie[:-1] + ("0" if cookie[-1] != "0" else "1")
    assert shop.gateway.ask("/cart", Cookie=cookie).json()["items"]
    assert not shop.gateway.ask("/cart", Cookie=forged).json()["items"]


@processes
def test_a_request_can_be_followed_through_the_logs(shop: Shop) -> None:
    shop.gateway.ask("/products?page=2", X_Request_Id="follow-me")
    servers = [shop.gateway, *shop.apis, shop.store]

    def found() -> list[dict[str, Any]]:
        return [
            line
            for one in servers
            for line in one.lines("request")
            if line["request_id"] == "follow-me"
        ]

    eventually(lambda: len(found()) == 4)
    assert [line["service"] for line in found()] == ["gateway", "api", "store", "store"]
    for server in servers:
        for line in server.lines():
            assert {"time", "level", "service", "slot", "message"} <= line.keys()
            assert line["slot"] == server.slot
    assert {"path", "route", "status", "duration_ms", "method"} <= found()[0].keys()
    hostile = shop.gateway.ask("/products", X_Request_Id='x" , y')
    assert hostile.headers["X-Request-Id"] != 'x" , y'


def metric(server: Server, name: str) -> float:
    for line in server.ask("/metrics").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@processes
def test_metrics(shop: Shop) -> None:
    name = 'shop_requests_total{method="GET",route="/products/{id}",status="200"}'
    before = metric(shop.gateway, name)
    assert shop.gateway.statuses("/products/3", 4) == {200: 4}
    assert metric(shop.gateway, name) == before + 4
    assert metric(shop.gateway, 'shop_request_duration_seconds_count{route="/products/{id}"}') > 3
    assert metric(shop.apis[0], 'shop_upstream_attempts_total{outcome="ok",upstream="store-1"}') > 0
    assert metric(shop.gateway, 'shop_upstream_up{upstream="api-2"}') == 1
    assert metric(shop.store, "shop_orders_total") >= 0
    assert metric(shop.store, "shop_disk_free_bytes") > 0
    assert metric(shop.store, "process_resident_memory_bytes") < 200e6


@processes
def test_one_dead_replica_costs_a_third_unless_the_gateway_works_around_it(shop: Shop) -> None:
    retrying = shop.start("gateway-2", SHOP_RETRIES="1")
    ejecting = shop.start("gateway-3", SHOP_EJECT="1")
    serves(retrying)
    serves(ejecting)
    dead = shop.apis[1]
    dead.kill()
    try:
        assert shop.gateway.statuses("/products", 30) == {200: 20, 502: 10}
        assert retrying.statuses("/products", 30) == {200: 30}
        assert metric(retrying, 'shop_retries_total{result="made"}') >= 10
        assert posts(retrying) == {201: 4, 502: 2}

        down = 'shop_upstream_in_rotation{upstream="api-2"}'
        eventually(lambda: metric(ejecting, down) == 0)
        assert ejecting.statuses("/products", 30) == {200: 30}
        eventually(lambda: not replica_status(shop.gateway, "api-2")["up"])
        assert replica_status(shop.gateway, "api-2")["in_rotation"]
        assert replica_status(shop.gateway, "api-1")["up"]
        assert shop.gateway.statuses("/products", 30) == {200: 20, 502: 10}
        failed = shop.gateway.lines("attempt failed")
        assert {line["upstream"] for line in failed} == {"api-2"}
    finally:
        shop.apis[1] = shop.restart(dead)
    assert shop.apis[1].ask("/healthz").status == 200
    assert shop.gateway.statuses("/products", 9) == {200: 9}
    eventually(lambda: metric(ejecting, down) == 1)
    eventually(lambda: ejecting.ask("/products").headers["X-Served-By"] == "api-2")


def posts(gateway: Server) -> Counter[int]:
    """What becomes of requests that must not be retried."""
    return Counter(gateway.ask("/cart", {"product": 1}).status for _ in range(6))


def replica_status(gateway: Server, slot: str) -> dict[str, Any]:
    replicas: list[dict[str, Any]] = gateway.ask("/status").json()["api"]
    return next(one for one in replicas if one["slot"] == slot)


@processes
def test_retries_have_a_budget(shop: Shop) -> None:
    gateway = shop.start("gateway-2", SHOP_RETRIES="2", SHOP_RETRY_BUDGET="0", SHOP_RETRY_FLOOR="0")
    serves(gateway)
    dead = shop.apis[2]
    dead.kill()
    try:
        statuses = gateway.statuses("/products", 30)
    finally:
        shop.apis[2] = shop.restart(dead)
    assert statuses[502] == 9  # one retry was in the budget from the start
    assert metric(gateway, 'shop_retries_total{result="over_budget"}') == 9
    assert shop.apis[2].ask("/healthz").status == 200


@processes
def test_a_drained_replica_gets_no_requests(shop: Shop) -> None:
    def served_by() -> set[str]:
        return {shop.gateway.ask("/products/1").headers["X-Served-By"] for _ in range(6)}

    assert served_by() == {"api-1", "api-2", "api-3"}
    shop.link(shop.apis[:2])
    eventually(lambda: served_by() == {"api-1", "api-2"})
    assert 'upstream="api-3"' not in str(
        [line for line in shop.gateway.ask("/metrics").body.splitlines() if b"upstream_up{" in line]
    )
    shop.endpoints.write_text("{ torn")
    time.sleep(0.3)
    assert served_by() == {"api-1", "api-2"}
    assert shop.gateway.lines("the endpoints are malformed")
    shop.link([])
    eventually(lambda: shop.gateway.ask("/products").status == 503)
    assert shop.gateway.ask("/readyz").status == 503
    shop.link(shop.apis)
    eventually(lambda: served_by() == {"api-1", "api-2", "api-3"})


@processes
def test_a_store_that_never_answers(shop: Shop, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoints = tmp_path / "endpoints.json"
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        write_endpoints(endpoints, {"store": [("store-1", address)]})
        options = {"ENDPOINTS": str(endpoints), "SHOP_STORE_TIMEOUT": "200ms"}
        with started(Server("api-9", tmp_path, options)) as api:
            reply = api.ask("/products")
            assert reply.status == 503
            assert "did not answer within 200 ms" in reply.json()["error"]
            assert api.lines("store call failed")[0]["outcome"] == "timeout"
            assert api.ask("/healthz").status == 200


@processes
def test_a_cache_hides_a_dead_store_for_a_while(shop: Shop) -> None:
    api = shop.start("api-8", SHOP_CACHE="1m")
    assert api.ask("/products").status == 200
    shop.store.process.send_signal(signal.SIGSTOP)
    try:
        assert api.ask("/products").status == 200
    finally:
        shop.store.process.send_signal(signal.SIGCONT)


@processes
def test_overload_is_refused_if_asked_for(shop: Shop) -> None:
    gateway = shop.start("gateway-2", SHOP_MAX_IN_FLIGHT="1", SHOP_API_TIMEOUT="1")
    serves(gateway)
    for api in shop.apis:
        api.process.send_signal(signal.SIGSTOP)
    try:
        first = http.client.HTTPConnection(gateway.address, timeout=PATIENCE)
        first.request("GET", "/products")
        eventually(lambda: gateway.ask("/status").json()["in_flight"] == 1)
        assert gateway.ask("/products").status == 503
        assert first.getresponse().status == 504
        first.close()
    finally:
        for api in shop.apis:
            api.process.send_signal(signal.SIGCONT)


@processes
def test_a_full_disk(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mount = f'mount -t tmpfs -o size=512k tmpfs {data} && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    environment = {"PATH": "/usr/bin:/bin", "DATA": str(data)}
    with started(Server("store-1", tmp_path, environment, prefix=prefix)) as store:
        assert store.ask("/carts/a", {"product": 1, "quantity": 1}).status == 200
        inside = Path(f"/proc/{store.process.pid}/root{data}")
        filler = inside / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 1024 * 1024)

        def full() -> bool:
            """Frames of the write-ahead log that are there already are used up first."""
            statuses = (
                store.ask("/carts/a", {"product": n, "quantity": 1}).status for n in range(1, 99)
            )
            return 507 in statuses

        eventually(full)
        order = store.ask("/orders", {"session": "a"})
        assert order.status in (200, 507)
        lines = store.lines("the disk is full")
        assert lines[0]["level"] == "error"
        assert lines[0]["disk_free_bytes"] < 64 * 1024
        assert metric(store, "shop_disk_full_total") > 0
        assert store.ask("/products?page=1").status == 200
        filler.unlink()
        assert store.ask("/carts/a", {"product": 1, "quantity": 1}).status == 200
        assert store.ask("/readyz").json()["disk_free_bytes"] > 0


@processes
@pytest.mark.parametrize("service", ["gateway", "api", "store"])
def test_sigterm_ends_it_with_0(service: str, tmp_path: Path) -> None:
    with started(Server(f"{service}-1", tmp_path, {"DATA": str(tmp_path)})) as server:
        idle = http.client.HTTPConnection(server.address, timeout=PATIENCE)
        idle.request("GET", "/healthz")
        idle.getresponse().read()  # a kept-alive connection must not hold it up
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        assert server.lines()[-1]["message"] == "stopped"
        idle.close()


@processes
@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"SHOP_RETRIES": "many"}, 2, "SHOP_RETRIES: 'many' is not a whole number"),
        ({"SHOP_EJECT": "perhaps"}, 2, "SHOP_EJECT"),
        ({"HOST": "192.0.2.1"}, 1, "192.0.2.1"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, env: dict[str, str], code: int, says: str
) -> None:
    server = Server("gateway-1", tmp_path, env)
    assert server.process.wait(PATIENCE) == code
    assert says in server.lines()[-1]["error"]


@processes
@pytest.mark.slow
def test_the_journeys_run_under_plain_locust(shop: Shop, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(SHOP / "journeys.py"), "--headless"]
    command += ["--users", "20", "--spawn-rate", "20", "--run-time", "3s", "--only-summary"]
    command += ["--host", f"http://{shop.gateway.address}", "--json", "--exit-code-on-error", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert entries.keys() <= {"/products", "/products/[id]", "/cart", "/checkout"}
    assert entries["/products"]["num_requests"] > 5
    assert sum(entry["num_failures"] for entry in entries.values()) == 0


def test_the_declaration_is_one() -> None:
    cluster = Cluster.of(yaml.safe_load((SHOP / "shop.yaml").read_text()))
    services = {name: (one.replicas, one.links) for name, one in cluster.services.items()}
    assert services == {"store": (1, []), "api": (3, ["store"]), "gateway": (1, ["api"])}


POLICY = HealthPolicy(every=1, timeout=1, fall=3, rise=2, eject=True)


@given(st.lists(st.booleans()))
def test_a_replica_changes_only_after_enough_checks_in_a_row(checks: list[bool]) -> None:
    replica, up = Replica(Endpoint("api-1", "a:1")), True
    for number, passed in enumerate(checks, start=1):
        need = POLICY.fall if up else POLICY.rise
        last = checks[max(0, number - need) : number]
        changes = len(last) == need and all(one != up for one in last)
        assert replica.record("" if passed else "refused", POLICY) == changes
        up = up != changes
        assert replica.up == up


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60), st.floats(0, 1))
def test_retries_stay_within_their_budget(steps: list[tuple[float, bool]], share: float) -> None:
    floor, now, requests, taken = 2.0, 0.0, 0, 0
    budget = RetryBudget(share, floor, now)
    for wait, retry in steps:
        now += wait
        budget.request(now)
        requests += 1
        taken += retry and budget.take()
    assert taken <= 10 * floor + share * requests + floor * now + 1e-6


SIGNER = Signer("secret", 3)


@given(st.text(max_size=60))
def test_no_text_is_a_session(cookie: str) -> None:
    session, fresh = SIGNER.renew(cookie, now=1000.0)
    assert session not in cookie
    assert SIGNER.renew(fresh, now=1001.0)[0] == session


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_no_changed_cookie_is_that_session(place: int, character: str) -> None:
    session, cookie = SIGNER.renew("", now=1000.0)
    place %= len(cookie)
    forged = cookie[:place] + character + cookie[place + 1 :]
    assert (SIGNER.renew(forged, now=1000.0)[0] == session) == (forged == cookie)


def test_sessions_outlive_the_gateway_but_not_their_time() -> None:
    session, cookie = Signer("secret", 4).renew("", now=1000.0)
    assert SIGNER.renew(cookie, now=1000.0)[0] == session
    assert SIGNER.renew(cookie, now=1000.0 + LIFETIME)[0] != session
    assert Signer("other", 4).renew(cookie, now=1000.0)[0] != session
    assert Signer("secret", 1000).renew("", 0.0)[1].split(".")[1] == "1000"
    assert rounds_for(0) == 1
    assert rounds_for(0.01) > rounds_for(0.001) > 1


def test_settings_are_read_with_their_units() -> None:
    settings = Settings({"A": "400ms", "B": "2", "C": "on", "D": "20%", "E": "", "F": "7"})
    assert settings.seconds("A", 1.0) == 0.4
    assert settings.seconds("B", 1.0) == 2.0
    assert settings.switch("C", False) is True
    assert settings.share("D", 0.0) == 0.2
    assert settings.whole("E", 5) == 5
    assert settings.whole("F", 5) == 7
    settings.secret("F", "")
    assert settings.used["F"] == "(hidden)"


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", "1 x"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^WAIT: "):
        Settings({"WAIT": text}).seconds("WAIT", 1.0)
