"""JUnit XML: one test case for each hypothesis, for CI systems that read nothing else.

Refuted is a failure. Inconclusive is an error, because a skipped test would pass
for green while nothing was shown. A drill that was aborted, or that left
something behind, is an error of its own, whatever its hypotheses say.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from gameday.scoring.document import Debrief
from gameday.scoring.render import figures
from gameday.scoring.score import HypothesisScore, State, Verdict

__all__ = ["to_junit"]

_OF_THE_DRILL = {
    4: "aborted by a guard rail or a person",
    5: "something could not be put back",
    6: "refused before anything was started",
    70: "a fault of Gameday's own",
}


def to_junit(debrief: Debrief) -> str:
    """The document, with its XML declaration."""
    drill = debrief.drill
    suite = ET.Element("testsuite", name=drill.scenario, timestamp=drill.started.removesuffix("Z"))
    suite.append(_properties(debrief))
    for score in debrief.hypotheses:
        suite.append(_case(drill.scenario, score))
    if drill.exit_code in _OF_THE_DRILL:
        suite.append(_drill_itself(debrief))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", "0")
    suite.set("time", f"{drill.duration:.3f}")
    root = ET.Element("testsuites", name="gameday")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _properties(debrief: Debrief) -> ET.Element:
    drill = debrief.drill
    values = {
        "exercise": "true",
        "drill": drill.id,
        "outcome": drill.outcome,
        "exit_code": str(drill.exit_code),
        "severity": drill.severity,
        "summary": " ".join(debrief.summary),
    }
    for incident in debrief.incidents:
        for name, timing in sorted(incident.timings.items()):
            if timing.state is not State.NOT_APPLICABLE:
                values[f"incident {incident.number} {name}"] = figures.timing(timing)
    properties = ET.Element("properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", name=name, value=value)
    return properties


def _case(scenario: str, score: HypothesisScore) -> ET.Element:
    case = ET.Element("testcase", classname=f"gameday.{scenario}", name=score.id, time="0")
    message = f"{score.claim} Expected {score.expect}. {score.evidence}"
    if score.verdict is Verdict.REFUTED:
        ET.SubElement(case, "failure", type="refuted", message=score.evidence).text = message
    elif score.verdict is Verdict.INCONCLUSIVE:
        ET.SubElement(case, "error", type="inconclusive", message=score.evidence).text = message
    else:
        ET.SubElement(case, "system-out").text = message
    return case


def _drill_itself(debrief: Debrief) -> ET.Element:
    drill = debrief.drill
    case = ET.Element("testcase", classname=f"gameday.{drill.scenario}", name="drill", time="0")
    what = _OF_THE_DRILL[drill.exit_code]
    left = [f"{i.fault} on {i.target}: {i.detail}" for i in debrief.injections if i.how == "failed"]
    error = ET.SubElement(case, "error", type=drill.outcome, message=what)
    error.text = "\n".join([what, *left])
    return case
