"""The debrief: what it says, what it asks, and what it never does."""

from __future__ import annotations

import datetime
import functools
import re

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gameday.scenarios.model import Hypothesis
from gameday.scoring import events as ev
from gameday.scoring.actions import due_date
from gameday.scoring.blame import blame
from gameday.scoring.debrief import debrief
from gameday.scoring.document import Bullets, Debrief, Questions, Section, Table
from gameday.scoring.redaction import clean, redactor
from gameday.scoring.render.html import to_html
from gameday.scoring.render.json import to_json
from gameday.scoring.render.junit import to_junit
from gameday.scoring.render.markdown import to_markdown
from gameday.scoring.score import (
    AlertScore,
    Finding,
    HypothesisScore,
    Instant,
    State,
    Timing,
    Verdict,
)
from tests.drill_examples import EXAMPLES, Example, journal, nobody, node_failure, scenario

EVERY = pytest.mark.parametrize("name", EXAMPLES)
_RENDERERS = (to_markdown, to_html, to_json, to_junit)


def of(example: Example, *, names: bool = False) -> Debrief:
    return debrief(example.scenario, example.events, example.score, names=names)


@functools.cache
def made(name: str) -> Debrief:
    return of(EXAMPLES[name]())


def section(document: Debrief, name: str) -> Section:
    return next(part for part in document.sections if part.id == name)


def ids(document: Debrief) -> list[str]:
    return [part.id for part in document.sections]


@EVERY
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    for render in _RENDERERS:
        assert render(made(name)) == render(made(name))


@EVERY
def test_the_summary_is_two_sentences(name: str) -> None:
    summary = made(name).summary
    for sentence in summary:
        assert sentence.endswith(".")
        assert not sentence[0].islower()
        assert not re.search(r"[.!?]\s", sentence[:-1].replace("a.m.", ""))


@EVERY
def test_no_section_is_empty(name: str) -> None:
    document = made(name)
    assert len(ids(document)) == len(set(ids(document)))
    for part in document.sections:
        assert part.blocks
        for block in part.blocks:
            if isinstance(block, Table):
                assert block.rows
            if isinstance(block, Bullets | Questions):
                assert block.items


@EVERY
def test_everything_says_that_it_is_an_exercise(name: str) -> None:
    document = made(name)
    for render in (to_markdown, to_html):
        assert "EXERCISE" in render(document)
    assert '"exercise": true' in to_json(document)
    assert 'name="exercise" value="true"' in to_junit(document)


def test_a_whole_drill_has_every_section() -> None:
    assert ids(of(node_failure())) == [
        "believed",
        "timings",
        "impact",
        "detection",
        "response",
        "decisions",
        "mitigation",
        "resolution",
        "recovery",
        "well",
        "poorly",
        "lucky",
        "surprises",
        "factors",
        "whys",
        "lessons",
        "actions",
        "questions",
        "timeline",
        "measured",
    ]


def test_what_nobody_did_is_not_filled_with_words() -> None:
    assert "decisions" not in ids(of(nobody()))
    assert "not mitigated within" in of(nobody()).summary[1]
    assert set(ids(made("unhealthy-start"))) <= {
        "believed",
        "actions",
        "questions",
        "timeline",
        "measured",
    }
    assert set(ids(made("control"))) <= {"impact", "questions", "timeline", "measured"}


def test_headings_are_findings() -> None:
    document = of(node_failure())
    assert (
        section(document, "detection").finding
        == "Monitoring told of it 2.6 s (2.5–2.7) after the onset"
    )
    assert section(document, "mitigation").finding == "Mitigated 10.3 s (10.1–10.5) after detection"


# Names.


def test_roles_stand_in_place_of_names_everywhere() -> None:
    example = node_failure()
    finding = msgspec.structs.replace(
        example.score.findings[0], text="Ada saw it, and ADA LOVELACE said so."
    )
    score = msgspec.structs.replace(example.score, findings=(finding,))
    spoken = ev.Said(
        at=20.0, verb="note", role="scribe", name="grace", text="@Ada, Lovelace and Grace agree"
    )
    changed = Example(example.scenario, journal(*example.events, spoken), score)
    for render in _RENDERERS:
        text = render(of(changed))
        assert not re.search(r"(?i)\b(ada|lovelace|grace)\b", text)
        assert "[fixer]" in text.replace("\\", "") or render is to_junit
    assert "Ada Lovelace" in to_markdown(of(changed, names=True))


@given(
    st.text(min_size=3, max_size=12, alphabet=st.characters(categories=("Lu", "Ll"))),
    st.text(max_size=40),
)
def test_no_name_survives_as_a_word(name: str, text: str) -> None:
    role = "[role]"
    redact = redactor({name: "role"})
    found = redact(f"{text} {name} {text}")
    if name.casefold() != "role" and name not in text:
        assert not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", found.replace(role, ""))


def test_words_that_merely_contain_a_name_stay() -> None:
    assert redactor({"api": "fixer"})("apis and rapid") == "apis and rapid"
    assert redactor({})("nobody") == "nobody"


# Text.


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_cleaned_text_harms_no_terminal_and_no_parser(text: str) -> None:
    cleaned = clean(text)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned


def test_terminal_escapes_go_and_control_characters_show() -> None:
    assert clean("\x1b[31mred\x1b[0m \x07") == "red ␇"


# Blame.


@pytest.mark.parametrize(
    "text",
    [
        "It was human error.",
        "That is Bob's fault",
        "She should have checked",
        "He forgot to restart it",
        "Obviously the cache",
        "Who broke it?",
        "a careless deploy",
        "they ignored the page",
    ],
)
def test_blame_is_found_with_a_reason_and_a_proposal(text: str) -> None:
    (found,) = blame(text)
    assert found.found in text
    assert found.why
    assert found.proposal


@pytest.mark.parametrize(
    "text",
    [
        "api-2 failed to respond within 2 s",
        "The deploy went out without a canary.",
        "error 502 at /products",
        "git blame shows the commit",
        "page fault in the kernel, default config",
        "Restarted api-2, watching",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert blame(text) == []


@given(st.text())
def test_the_lint_survives_every_text(text: str) -> None:
    for found in blame(text):
        assert found.found in text


def test_our_own_words_blame_nobody() -> None:
    for name in EXAMPLES:
        if name == "hundred-notes":
            continue
        assert blame(to_markdown(made(name))) == []


def test_blaming_notes_get_a_remark_and_stay_as_they_are() -> None:
    text = to_markdown(made("hundred-notes"))
    assert "On wording" in text
    assert "should have checked the replica" in text


# Action items.


@EVERY
def test_the_proof_of_every_action_item_is_a_valid_hypothesis(name: str) -> None:
    for item in made(name).action_items:
        assert item.type in ("prevent", "detect", "respond")
        datetime.date.fromisoformat(item.due)
        if item.proof:
            (entry,) = yaml.safe_load(item.proof)
            Hypothesis.of(entry)


@EVERY
def test_action_items_have_ids_of_their_own(name: str) -> None:
    items = [item.id for item in made(name).action_items]
    assert len(items) == len(set(items))


@pytest.mark.parametrize(
    ("severity", "days"),
    [("SEV-0", 1), ("SEV-1", 1), ("P1", 1), ("SEV-2", 3), ("P2", 3), ("SEV-3", 7), ("P4", 7)],
)
def test_the_due_date_follows_from_the_severity(severity: str, days: int) -> None:
    day = datetime.date(2026, 12, 30)
    assert (due_date(severity, day) - day).days == days


def test_a_drill_in_which_all_went_well_proposes_nothing_to_prevent() -> None:
    example = node_failure()
    held = tuple(
        msgspec.structs.replace(h, verdict=Verdict.SUPPORTED) for h in example.score.hypotheses
    )
    score = msgspec.structs.replace(example.score, hypotheses=held)
    items = of(Example(example.scenario, example.events, score)).action_items
    assert {item.type for item in items} <= {"respond"}


def test_what_could_not_be_put_back_comes_first() -> None:
    first = made("died").action_items[0]
    assert first.title.startswith("Put api-2 back by hand")
    assert "gameday sandbox restart api-2" in first.why


def test_a_false_alarm_is_held_against_nobody() -> None:
    document = made("false-alarm")
    assert "declare" not in " ".join(item.title for item in document.action_items).lower()
    assert section(document, "whys")
    assert any("webhook" in item.title for item in document.action_items)


# The timeline.


@EVERY
def test_the_timeline_has_everything_that_was_said(name: str) -> None:
    example = EXAMPLES[name]()
    document = of(example)
    said = [event for event in example.events if isinstance(event, ev.Said)]
    assert sum(entry.kind == "Said" for entry in document.timeline) == len(said)
    assert list(document.timeline) == sorted(document.timeline, key=lambda entry: entry.at)


def test_the_timeline_begins_before_the_onset() -> None:
    assert of(node_failure()).timeline[0].at < 0


def test_services_come_with_owner_and_tier() -> None:
    assert ("api", "team-shop", "1", True) in of(node_failure()).drill.services


def test_the_questions_of_the_scenario_come_first() -> None:
    (own, _) = section(of(node_failure()), "questions").blocks
    assert isinstance(own, Questions)
    assert own.items == tuple(scenario().debrief.questions)


def test_a_wall_clock_out_of_the_calendar_ends_nothing() -> None:
    example = node_failure()
    wild = tuple(msgspec.structs.replace(event, wall=9e15) for event in example.events)
    for render in _RENDERERS:
        render(of(Example(example.scenario, wild, example.score)))


# Nothing is said that did not happen.


def everything(document: Debrief) -> str:
    return " ".join(to_markdown(document).split())


def asking(*hints: str) -> Example:
    """The node's failure, in which a hint is asked for twice."""
    base = node_failure()
    asked: list[ev.Event] = []
    for number, at in enumerate((22.0, 23.0)):
        text = hints[number] if number < len(hints) else "There is no further hint."
        asked.append(ev.Said(at=at, verb="hint", role="fixer"))
        asked.append(ev.Noted(at=at + 0.01, kind="hint", text=text))
    return Example(scenario(hints=list(hints)), journal(*base.events, *asked), base.score)


def test_a_hint_asked_for_in_vain_gave_nothing_away() -> None:
    document = of(asking())
    text = everything(document)
    assert "2 hints asked for, and there was none to give" in text
    for words in ("stood in no runbook", "hints gave away", "hints stand in for"):
        assert words not in text


def test_only_hints_that_were_given_belong_into_the_runbook() -> None:
    text = everything(of(asking("Look at the gateway.")))
    assert "2 hints asked for, 1 given" in text
    assert "What was needed stood in no runbook: 1 hint given" in text
    assert "Write into the runbook what the hints gave away" in text


def test_a_control_that_ran_to_its_end_asks_for_nothing_to_begin() -> None:
    example = EXAMPLES["control"]()
    open_verdict = HypothesisScore(
        "noticed", "We know.", "time_to_detect <= 15s", Verdict.INCONCLUSIVE, "No incident."
    )
    own = Finding("own-cpu", "validity", "Gameday itself used 10 % of the CPU time.")
    for findings in ((), (own,)):
        score = msgspec.structs.replace(
            example.score, exit_code=3, hypotheses=(open_verdict,), findings=findings
        )
        document = of(Example(example.scenario, example.events, score))
        assert document.action_items == ()
        assert "before it can begin" not in everything(document)


def test_what_never_began_asks_what_it_needs() -> None:
    assert "What does this drill need before it can begin?" in everything(made("unhealthy-start"))


def test_only_what_was_injected_hit_a_service() -> None:
    assert "hit by a fault" not in everything(made("unhealthy-start"))
    assert not any(hit for *_, hit in made("unhealthy-start").drill.services)
    assert "api (team-shop, tier 1, hit by a fault)" in everything(of(node_failure()))


def unseen(*more: ev.Event, alerts: tuple[AlertScore, ...] = ()) -> Example:
    """Nobody's drill without detection; what else happened is given."""
    base = nobody()
    incident = base.score.incidents[0]
    never = Timing(State.UNKNOWN, note="it was never detected")
    late = Timing(State.CENSORED, 170.0, 170.0, None, note="until the hard stop")
    changed = msgspec.structs.replace(
        incident,
        instants={n: w for n, w in incident.instants.items() if n in ("onset", "impact")},
        timings=dict.fromkeys(incident.timings, never) | {"time_to_detect": late},
    )
    score = msgspec.structs.replace(base.score, incidents=(changed,), alerts=alerts)
    kept = [
        e for e in base.events if not isinstance(e, ev.Reported | ev.AlertFired | ev.AlertDelivered)
    ]
    return Example(base.scenario, journal(*kept, *more), score)


def test_what_was_never_mitigated_has_no_time_of_mitigation() -> None:
    text = everything(of(unseen()))
    assert "unknown time" not in text
    assert "Not mitigated within the drill: it was never detected." in text
    assert "Until it was mitigated" not in text


def test_a_mitigation_before_any_detection_has_its_instant() -> None:
    example = unseen()
    incident = example.score.incidents[0]
    instants = incident.instants | {"mitigate": Instant(30.0, 30.2, "fixers")}
    incidents = (msgspec.structs.replace(incident, instants=instants),)
    score = msgspec.structs.replace(example.score, incidents=incidents)
    text = everything(of(Example(example.scenario, example.events, score)))
    assert "Mitigated at 00:24.1" in text
    assert "Until it was mitigated" not in text


def test_nothing_told_anybody_only_if_nothing_did() -> None:
    silence = "nothing told anybody"
    synthetic = msgspec.structs.replace(
        node_failure().score.alerts[0], source="synthetic", incident=0, resolved=None
    )
    before = msgspec.structs.replace(synthetic, fired=Instant(8.0, 8.0), resolved=17.0)
    over = msgspec.structs.replace(before, resolved=10.0)
    said = ev.Said(at=40.0, verb="declare", role="fixer")
    earlier = ev.Said(at=10.0, verb="declare", role="fixer")
    asked = ev.Reported(at=40.0, sender="stakeholder", text="Is it down?")
    for told in (
        unseen(alerts=(synthetic,)),
        unseen(alerts=(before,)),
        unseen(said),
        unseen(asked),
    ):
        text = everything(of(told))
        assert silence not in text
        assert "Nothing told of" not in text
        assert "were all absent" not in text
    for silent in (unseen(), unseen(earlier), unseen(alerts=(over,))):
        assert f"From the onset to the end of the drill, {silence}." in everything(of(silent))


def test_a_step_helped_only_if_there_was_one() -> None:
    def titles(source: str) -> str:
        base = node_failure()
        incident = base.score.incidents[0]
        instants = dict(incident.instants)
        del instants["mitigate"]
        if source:
            instants["mitigate"] = Instant(28.81, 28.97, source)
        late = msgspec.structs.replace(base.score.hypotheses[2], verdict=Verdict.REFUTED)
        score = msgspec.structs.replace(
            base.score,
            incidents=(msgspec.structs.replace(incident, instants=instants),),
            hypotheses=(late,),
        )
        document = of(Example(base.scenario, base.events, score))
        return " ".join(item.title for item in document.action_items)

    assert "the step that helped" in titles("fixers")
    for source in ("", "self-healed"):
        assert "the step that helped" not in titles(source)
        assert "Find the step that cuts such an impact" in titles(source)


def customer_first(at: float, *, met: bool = True) -> Example:
    """A page that fired, but after a customer had told of it ``at`` seconds after the onset."""
    base = node_failure()
    incident = base.score.incidents[0]
    told = Timing(State.MEASURED, at, at - 0.05, at, "customer")
    changed = msgspec.structs.replace(
        incident,
        instants=incident.instants | {"detect": Instant(16.0 + at, 16.0 + at, "customer")},
        timings=incident.timings | {"time_to_detect": told},
    )
    paged = msgspec.structs.replace(
        base.score.hypotheses[1], verdict=Verdict.SUPPORTED if met else Verdict.REFUTED
    )
    score = msgspec.structs.replace(
        base.score,
        incidents=(changed,),
        hypotheses=(base.score.hypotheses[0], paged),
    )
    return Example(base.scenario, base.events, score)


def test_a_page_that_fired_late_is_to_fire_sooner() -> None:
    items = {item.id: item for item in of(customer_first(2.4)).action_items}
    assert "api-node-failure/alert-on-impact" not in items
    item = items["api-node-failure/sooner-shoperrorbudgetburn"]
    assert item.title.startswith("Let ShopErrorBudgetBurn fire before users report")
    assert "ShopErrorBudgetBurn fired at 00:12.6" in item.why
    (entry,) = yaml.safe_load(item.proof)
    assert Hypothesis.of(entry).comparison.value == 2.0


@given(st.floats(0.1, 500.0))
def test_a_proof_is_never_what_this_drill_has_met(at: float) -> None:
    example = customer_first(at)
    measured = example.score.incidents[0].timings["time_to_detect"]
    for item in of(example).action_items:
        if item.proof and "time_to_detect" in item.proof:
            (entry,) = yaml.safe_load(item.proof)
            bound = Hypothesis.of(entry).comparison
            assert measured.low is not None
            assert not bound.holds(measured.low)
        elif "sooner" in item.id:
            assert "people must judge" in item.why


def test_an_alert_that_is_missing_is_still_asked_for() -> None:
    example = customer_first(2.4)
    score = msgspec.structs.replace(example.score, alerts=())
    items = of(Example(example.scenario, example.events, score)).action_items
    item = next(i for i in items if i.id == "api-node-failure/alert-on-impact")
    assert "time_to_detect <= 2s" in item.proof


def left(*changes: tuple[str, str, str, str]) -> str:
    base = node_failure()
    made = [
        ev.SandboxChanged(at=40.0 + number / 10, action=action, slot=slot, by=by, detail=detail)
        for number, (action, slot, by, detail) in enumerate(changes)
    ]
    events = [
        msgspec.structs.replace(e, steady_after=False) if isinstance(e, ev.DrillEnded) else e
        for e in base.events
    ]
    found = Finding(
        "unsteady-after", "validity", "Everything was put back, but it did not hold again."
    )
    score = msgspec.structs.replace(base.score, findings=(*base.score.findings, found))
    return everything(of(Example(base.scenario, journal(*events, *made), score)))


def test_what_people_left_behind_is_named() -> None:
    text = left(("scale", "api", "fixer", "3 to 0"), ("drain", "gateway-1", "fixer", ""))
    assert text.count("api was scaled to 0 and gateway-1 is still drained") == 2
    assert "Take back what people changed" in text
    assert "store-1 is still stopped" in left(("stop", "store-1", "fixer", ""))
    assert "api-1 is still off a network" in left(("disconnect", "api-1", "fixer", "shop"))


def test_what_was_taken_back_is_not_left_behind() -> None:
    text = left(
        ("scale", "api", "fixer", "3 to 0"),
        ("drain", "gateway-1", "fixer", ""),
        ("stop", "store-1", "fixer", ""),
        ("started", "store-1", "fixer", ""),
        ("undrain", "gateway-1", "fixer", ""),
        ("disconnect", "api-2", "fixer", "shop"),
        ("connect", "api-2", "fixer", "shop"),
        ("scale", "api", "gameday", "0 to 3"),
        ("stop", "api-1", "gameday", ""),
    )
    assert "Left behind" not in text
    assert "Find out why the steady state did not hold" in text


@pytest.mark.parametrize("ended", ["failed", "aborted"])
def test_what_ended_before_it_began_is_no_quiet_drill(ended: str) -> None:
    example = EXAMPLES["unhealthy-start"]()
    score = msgspec.structs.replace(example.score, ended=ended)
    summary = of(Example(example.scenario, example.events, score)).summary[0]
    assert summary.startswith("Nothing was injected")
    assert summary.endswith("before the scenario began.")
