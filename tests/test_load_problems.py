"""The loader's problems: every mistake of a scenario is told at once, where it stands, and once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from gameday.injectors.errors import ScenarioError
from gameday.scenarios.catalog import CATALOGUE, find_scenario
from gameday.scenarios.load import load_scenario, load_text
from tests.good_scenario import CLUSTER, GOOD, changed, folder, problems

__all__ = ["folder"]


# Every problem at once


def test_every_problem_is_reported_at_its_place(folder: Path) -> None:
    (folder / "bad.yaml").write_text(
        """\
apiVersion: gameday/v2
name: Bad name
titel: Bad
duration: 3
sandbox: {file: sandbox.yaml}
load: {journey: visit.py, users: true, spawn_rate: "ten"}
slis:
  availability: {path: products, every: 50ms, good: "status < 500 and latncy < 500ms"}
steady_state: {availability: "over 3"}
hypotheses:
  - {id: a, claim: x, expect: "availabilty >= 95%"}
  - {id: a, claim: x, expect: "time_to_detect <= 15%"}
alerts:
  - {name: A, when: "availability < 98% for 2s", sumary: s}
faults:
  - {at: 10s, inject: proces.kill, target: {service: api}}
  - {at: 10s, inject: net.latency, target: {link: api-db}, delay: 200ms, jiter: 50ms}
  - {at: 9m, inject: process.kill, target: {service: api, count: 9}}
reports:
  - {at: -3s, from: boss, text: ""}
"""
    )
    found = problems(folder / "bad.yaml")
    assert [one.split(" | ")[0] for one in found] == [
        "1:13 apiVersion: found the text 'gameday/v2', expected gameday/v1",
        "2:7 name: found the text 'Bad name', expected lower-case letters, digits and dashes, "
        "such as api-node-failure",
        "3:1 `titel` is no key",
        "4:11 duration: 3 has no unit; write 3s or 3ms",
        "6:34 load.users: found true, expected a whole number",
        "6:52 load.spawn_rate: found the text 'ten', expected a number",
        "8:24 slis.availability.path: found the text 'products', expected a path that begins "
        "with /",
        "8:53 slis.availability.good: 'latncy' is not known of a sample; there are status and "
        "latency",
        "9:30 steady_state.availability: in 'over 3': found 'over', expected one of < <= > >= "
        "== !=",
        "11:31 hypothesis a: there is no SLI or timing 'availabilty'",
        "12:10 the hypothesis a is given twice; first at line 11",
        "12:31 hypothesis a: time_to_detect is a duration; 15 % is none",
        "14:50 `sumary` is no key of alerts[0]",
        "16:23 faults[0].inject: there is no fault 'proces.kill'",
        "17:51 faults[1].target.link: 'api-db' is not a link; write it as api->store or "
        "api-1->store",
        "17:74 `jiter` is no key of faults[1]",
        "18:66 the target asks for 9, but only 3 match",
        "20:10 reports[0].at: '-3s' is negative; write it as 500ms, 10s, 3m or 1m30s",
        "20:21 reports[0].from: found the text 'boss', expected one of customer, stakeholder",
        "20:33 reports[0].text: found the text '', expected at least one character",
    ]
    hints = dict(re.findall(r"^(\d+:\d+) .* \| (.*)$", "\n".join(found), re.MULTILINE))
    assert hints["3:1"] == "Did you mean `title`?"
    assert hints["11:31"] == "Did you mean availability?"
    assert hints["14:50"] == "Did you mean `summary`?"
    assert hints["16:23"].startswith("Did you mean process.kill?")
    assert hints["17:74"] == "Did you mean `jitter`?"


def test_the_problem_is_shown_as_editors_take_it(folder: Path) -> None:
    path = folder / "changed.yaml"
    path.write_text(GOOD.replace("users: 20", "usres: 20"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path}:9:27: `usres` is no key of load\n    Did you mean `users`?"
    )


CHECKS = [
    # names that meet
    ('{availability: ">= 99%", slow', '{availabilty: ">= 99%", slow', "13:16", "availability?"),
    ('{availability: ">= 97%"}', '{fast: ">= 97%"}', "14:14", "There are: availability, slow."),
    ("when: availability <", "when: availabilty <", "20:11", "Did you mean availability?"),
    ("when: availability <", "when: time_to_detect <", "20:11", "is a timing; expected an SLI"),
    ("[availability < 10%", "[avail < 10%", "36:14", "Did you mean availability?"),
    ("id: told", "id: stays", "17:10", "hypothesis stays is given twice; first at line 16"),
    ("name: Fyi", "name: Burn", "27:12", "the alert Burn is given twice; first at line 19"),
    # units
    ('"availability >= 95%"', '"availability >= 95ms"', "16:43", "is a share; 95 ms is none"),
    ('"availability >= 95%"', '"availability >= 95"', "16:43", "Write it as 95%."),
    ('"availability >= 95%"', '"slow <= 95%"', "16:43", "slow is a duration; 95 % is none"),
    ('"time_to_detect <= 15s"', '"time_to_detect <= 15"', "17:45", "is a duration; 15 is none"),
    ('">= 99%", slow', '">= 99s", slow', "13:30", "1 min 39 s is none"),
    ("latency < 500ms", "latency < 500", "11:54", "latency is a duration; 500 is none"),
    ("status < 500 and", "status < 5% and", "11:54", "status is a number; 5 % is none"),
    # bounds and windows that make sense
    ('">= 97%"', '">= 99.5%"', "14:28", "tighter than steady_state"),
    ("over: 2s", "over: 10ms", "11:96", "the window (10 ms) is shorter than"),
    ("slow: {quantile: 99%}", "slow: {quantile: 99%, probe: tcp, good: status < 400}", "12:43", "a tcp probe has no status"),
    # times
    ("at: 10s", "at: 2m", "29:10", "a fault at 2 min comes after the drill's end (2 min)"),
    ("at: 40s", "at: 10m", "32:10", "a report at 10 min comes after"),
    ("at: 5s", "at: 5m", "27:32", "an alert at 5 min comes after"),
    ("lasts: 10s", "lasts: 0s", "30:22", "the fault would end as it begins"),
    ("for 2s", "for 3m", "20:11", "3 min is not shorter than the drill (2 min)"),
    ("duration: 2m", "duration: 2m\nstabilise: 2m", "7:12", "stabilise (2 min) is not shorter"),
    ("reaction: 3s", "reaction: 30s", "34:24", "take at least 2 min 30 s"),
    ("duration: 2m", "duration: 25h", "6:11", "expected at most"),
    ("duration: 2m", "duration: -2m", "6:11", "'-2m' is negative"),
    ("duration: 2m", "duration: 1:30", "6:11", "'1:30' is not a duration"),
    ("duration: 2m", "duration: 2024-01-01", "6:11", "'2024-01-01' is not a duration"),
    ("duration: 2m", "duration: yes", "6:11", "'yes' is not a duration"),
    ("duration: 2m", "duration: [2m]", "6:11", "found a list, expected a duration such as 500ms"),
    ("duration: 2m", "duration:", "6:10", "found nothing, expected a duration such as"),
    ("duration: 2m", "duration: 2.5", "6:11", "2.5 has no unit; write 2.5s"),
    # targets
    ("service: api, count: 1", "service: apy", "29:55", "no service 'apy' | Did you mean api?"),
    ("service: api, count: 1", "slot: api-4", "29:52", "no slot 'api-4'; api has 3"),
    ("service: api, count: 1", "slot: web-2, count: 1", "29:52", "web has 1"),
    ("service: api, count: 1", "service: api, count: 4", "29:67", "asks for 4, but only 3 match"),
    ("service: api, count: 1", "service: api, slot: api-1", "29:45", "give one of service, slot and label"),
    ("service: api, count: 1", "service: api, count: 1, share: 5%", "29:45", "count or share"),
    ("service: api, count: 1", "service: api, cuont: 1", "29:60", "Did you mean `count`?"),
    ("link: api->db", "link: web->db", "30:63", "no link web->db | There are: web->api, api->db."),
    ("link: api->db", "link: api-9->db", "30:63", "no service or slot 'api-9'"),
    ("link: api->db", "link: api->db, count: 4", "30:79", "asks for 4, but only 3 match"),
    ("target: {service: api, count: 1}", "target: api", "29:45", "expected keys with values"),
    ("inject: process.kill", "inject: 3", "29:23", "found the number 3, expected text"),
    ("delay: 200ms", "delay: 200", "30:80", "200 has no unit"),
    ("delay: 200ms", "delay: 2h", "30:80", "2 h is outside 1 ms to 1 min"),
    ("delay: 200ms, ", "", "30:5", "`delay` is missing"),
    # services
    ("slow: {quantile: 99%}", "slow: {quantile: 99%, service: wbe}", "12:34", "Did you mean web?"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, replicas: {apo: 2}}", "7:42", "mean api?"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, environment: {apo: {A: b}}}", "7:45", "api?"),
    ("{file: sandbox.yaml}", "{kind: local, environment: {api: {A: [b]}}}", "7:47", "found a list"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, environment: {api: {A: 1}}}", "7:54", 'in quotes: "1"'),
    ("{file: sandbox.yaml}", "{app: shp}", "7:16", "no application 'shp' | Did you mean shop?"),
    ("{file: sandbox.yaml}", "{app: shop, file: sandbox.yaml}", "7:10", "give app"),
    ("{file: sandbox.yaml}", "{}", "7:10", "give app"),
    ("{file: sandbox.yaml}", "{kind: lokal}", "7:17", "Did you mean local?"),
    ("{file: sandbox.yaml}", "{kind: attached, app: shop}", "7:10", "leave out app and file"),
    ("{file: sandbox.yaml}", "{kind: attached}", "30:35", "needs links, which a sandbox of kind attached lacks"),
    # fixers
    ("steps: [ack,", "steps: [akc,", "34:36", "Did you mean ack?"),
    ("unhealthy.api", "unhealthy.apy", "34:51", "no service 'apy' | Did you mean api?"),
    ('"restart {{ unhealthy.api }}"', "restart api-7", "34:51", "no slot 'api-7'; api has 3"),
    ('"restart {{ unhealthy.api }}"', "scale apis 3", "34:51", "no service 'apis'"),
    ("steps: [ack, identify, \"restart {{ unhealthy.api }}\", mitigate, resolve]", "steps: []", "34:35", "at least one entry"),
    # files beside it
    ("runbooks/a.md", "runbooks/b.md", "26:14", "there is no such file | Did you mean"),
    ("runbooks/a.md", "/etc/passwd", "26:14", "leads out of the scenario's folder"),
    ("runbooks/a.md", "../a.md", "26:14", "leads out of the scenario's folder"),
    ("runbooks/a.md", "runbooks", "26:14", "found a directory"),
    ("runbooks/a.md", "out.md", "26:14", "is a link out of the scenario's folder"),
    ("runbooks/a.md", '""', "26:14", "expected the name of a file"),
    ("file: sandbox.yaml", "file: ../sandbox.yaml", "7:17", "leads out of the scenario's folder"),
    ("file: sandbox.yaml", "file: sandbx.yaml", "7:17", "there is no such file"),
    ("visit.py", "browse", "9:17", "expected a locustfile beside the scenario"),
    ("visit.py", "other.py", "9:17", "there is no such file"),
    ("visit.py", "../visit.py", "9:17", "leads out of the scenario's folder"),
    # pages, roles, severities
    ("    impact: Customers see it.\n", "", "19:5", "the page Burn lacks impact (who feels it)"),
    ("when: availability < 98% for 2s", "at: 3s\n    when: availability < 98%", "19:5", "one of them"),
    ("fixer: on-call", "fixr: on-call", "8:29", "Did you mean fixer?"),
    ("fixer: on-call", "Fixer: on-call", "8:29", "found the key 'Fixer', expected lower-case"),
    ("severity: SEV-2", "severity: SEV-9", "4:11", "expected SEV-0 to SEV-5 or P1 to P4"),
    ("severity: SEV-2", "severity: SEV-2\nseverity_scheme: P1..4", "4:11", "not in the scheme P1..4"),
    ("title: A scenario that is fine", "title: 3", "3:8", 'put it in quotes: "3"'),
    ("title: A scenario that is fine\n", "", "1:1", "`title` is missing"),
    ("users: 20", "users: 0", "9:34", "found the number 0, expected at least 1"),
    ("users: 20", 'users: "20"', "9:34", "Numbers are written without quotes."),
    ("users: 20", "users: 2.5", "9:34", "expected a whole number"),
    ("spawn_rate: 2.5", "spawn_rate: 1_2", "9:50", "found the text '1_2', expected a number | Write it as 12."),
    ("impact: Customers see it.", 'impact: ""', "22:13", "the page Burn: `impact` is empty, expected who feels it"),
    ("every: 50ms", "every: 0", "11:42", "found the number 0, expected at least 10 ms"),
    ("every: 50ms", 'every: "0s"', "11:42", "found the text '0s', expected at least 10 ms"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: x}", "7:25", "blast_radius.at_most: found the text 'x', expected a count"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: 2 of 1}", "7:25", "found the text '2 of 1', expected a count"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: -1}", "7:25", "found the number -1, expected a count"),
    ("inject: process.kill, ", "", "29:5", "`inject` is missing from faults[0] | The kind of fault. There are: process.kill,"),
    ("inject: process.kill", "injct: process.kill", "29:5", "`inject` is missing from faults[0] | The kind of fault. Did you mean it by `injct`?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "message"), CHECKS)
def test_a_mistake_is_found_where_it_stands(
    folder: Path, old: str, new: str, place: str, message: str
) -> None:
    outside = folder.parent / f"{folder.name}-outside.md"
    outside.write_text("")
    (folder / "out.md").symlink_to(outside)
    found = changed(folder, old, new)
    assert any(one.startswith(f"{place} ") and message in one for one in found), found


@pytest.mark.parametrize(
    ("faults", "clash"),
    [
        ("{at: 1s, inject: process.kill, target: {service: api}}", True),
        ("{at: 1s, inject: process.kill, target: {slot: api-2}}", True),
        ("{at: 1s, inject: process.kill, target: {slot: api-1}}", False),
        ("{at: 1s, lasts: 9s, inject: process.kill, target: {slot: api-2}}", False),
        ("{at: 30s, inject: process.kill, target: {slot: api-2}}", False),
        ("{at: 29s, inject: process.crashloop, target: {service: api}}", True),
        ("{at: 1s, inject: disk.fill, target: {slot: api-2}}", False),
    ],
)
def test_faults_that_exclude_each_other_cannot_meet(folder: Path, faults: str, clash: bool) -> None:
    begin, end = GOOD.index("faults:\n") + 8, GOOD.index("reports:")
    pause = "  - {at: 10s, lasts: 20s, inject: process.pause, target: {slot: api-2}}\n"
    path = folder / "faults.yaml"
    path.write_text(GOOD[:begin] + pause + f"  - {faults}\n" + GOOD[end:])
    if clash:
        (found,) = problems(path)
        assert found.startswith("30:5 ")
        assert "exclude each other, and both can be in force at api-2" in found
    else:
        load_scenario(path)


def test_another_role_is_the_teams_own_business(folder: Path) -> None:
    path = folder / "roles.yaml"
    path.write_text(GOOD.replace("fixer: on-call", "deputy: Ann's team, planning-lead: them"))
    assert set(load_scenario(path).scenario.roles) == {"breaker", "deputy", "planning-lead"}


# One mistake, one problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("duration: 2m", "duration: .inf", "found the number .inf"),
        ("duration: 2m", "duration: 0s", "expected more than 0 s"),
        ("slis:", "sils:", "`sils` is no key"),
    ],
)
def test_what_only_follows_from_a_mistake_is_not_told(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    shown = [
        problem.message for problem in caught.value.problems if "runbook" not in problem.message
    ]
    assert len(shown) == 1, shown
    assert said in shown[0]


SHOP = (CATALOGUE / "slow-store.yaml").read_text()


def shop(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """The problems of a shipped scenario with some changes."""
    shutil.copytree(CATALOGUE / "runbooks", folder / "shop" / "runbooks")
    text = SHOP
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "shop" / "a.yaml").write_text(text)
    return problems(folder / "shop" / "a.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SHOP_STORE_TIMEOUT: 3s", "SHOP_STORE_TIMEOUT: 3", "found the number 3, expected text"),
        ("kind: local", "kind: kubernetes", "sandbox.kind: found the text 'kubernetes'"),
        ("  app: shop", "  ap: shop", "`ap` is no key of sandbox"),
        ("  app: shop", "  app: shop\n  file: a.yaml", "give app"),
        ("  app: shop", "  app: shop\n  replicas: {api: many}", "found the text 'many'"),
        ("  app: shop", "  app: shpo", "there is no application 'shpo'"),
    ],
)
def test_a_bad_sandbox_brings_no_second_problem(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (found,) = shop(tmp_path, (old, new))
    assert said in found


def test_a_bad_variable_hides_no_other_problem(tmp_path: Path) -> None:
    bad = ("SHOP_STORE_TIMEOUT: 3s", "SHOP_STORE_TIMEOUT: 3")
    found = shop(tmp_path, bad, ("link: api->store", "link: api->stor"), ("browse", "brows"))
    assert [one.split(" | ")[-1] for one in found] == [
        'If it is text, put it in quotes: "3".',
        "Did you mean browse?",
        "Did you mean store?",
    ]


def test_of_a_file_that_is_none_of_ours_little_is_shown() -> None:
    secret = "$y$j9T$aVerySecretHash/AndMore"
    for text in (f"root:{secret}:19797:0:::\nbin:*:19797:::::\n", f"root:{secret}:1:\n", secret):
        with pytest.raises(ScenarioError) as caught:
            load_text(text, "a.yaml")
        assert "$y$j9T" in str(caught.value)
        assert "Hash" not in str(caught.value)
    with pytest.raises(ScenarioError, match="`an_unknown_key_of_a_scenario` is no key"):
        load_text(f"{GOOD}an_unknown_key_of_a_scenario: 1\n", "a.yaml")


def test_a_folder_is_told_as_one(folder: Path) -> None:
    (folder / "drills").mkdir()
    for name in ("drills", "drills/", "."):
        (found,) = problems(find_scenario(name, folder))
        assert "found a directory, expected a file" in found
    with pytest.raises(ScenarioError, match="there is no scenario of this name"):
        find_scenario("drill", folder)


def test_a_bad_step_hides_no_other_step(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    text = re.sub(r"(?ms)^fixers:.*?(?=^\S|\Z)", "", GOOD)
    steps = '["restart {{ unhealthy.wbe }}", "dance", "until quiet"]'
    path.write_text(text + f"\nfixers: {{scripted: {{steps: {steps}}}}}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    told = str(caught.value)
    assert "there is no service 'wbe'" in told
    assert "'dance' is no step" in told
