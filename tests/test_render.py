"""The renderers: figures, Markdown, HTML, JSON, JUnit and the picture."""

from __future__ import annotations

import functools
import html
import html.parser
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gameday.scoring.debrief import debrief
from gameday.scoring.document import Axis, Bar, Debrief, Line, Mark, Picture
from gameday.scoring.render import figures
from gameday.scoring.render.html import to_html
from gameday.scoring.render.json import json_schema, to_json
from gameday.scoring.render.junit import to_junit
from gameday.scoring.render.markdown import escape, to_markdown
from gameday.scoring.render.strip import strip
from gameday.scoring.render.timeline import svg
from gameday.scoring.score import Instant, State, Timing
from tests.drill_examples import EXAMPLES

EVERY = pytest.mark.parametrize("name", EXAMPLES)


@functools.cache
def made(name: str) -> Debrief:
    example = EXAMPLES[name]()
    return debrief(example.scenario, example.events, example.score)


# Figures.


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (12.31, 12.47, "12.4 s (12.3–12.5)"),
        (12.4, None, "12.4 s"),
        (0.31, 0.36, "330 ms (310–360)"),
        (60.0, 61.2, "61 s (60–62)"),
        (118.0, 125.0, "2 min 2 s (1 min 58 s to 2 min 5 s)"),
        (4.0, 30.0, "20 s (0–30)"),
        (-3.2, -3.0, "3.1 s (3.0–3.2) before"),
        (0.0, 0.0, "0 ms"),
        (3600.0, 3600.0, "1 h"),
    ],
)
def test_a_figure_has_its_bound(low: float, high: float | None, shown: str) -> None:
    assert figures.figure(low, high) == shown


def test_a_censored_duration_is_never_a_number_of_its_own() -> None:
    timing = Timing(State.CENSORED, 252.9, 252.9, None)
    assert figures.to_timing("mitigated", timing) == "not mitigated within 4 min 12 s"
    assert figures.timing(Timing(State.UNKNOWN)) == "unknown"
    assert figures.timing(Timing(State.NOT_APPLICABLE)) == "not applicable"


_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def _parse(text: str, unit: str = "") -> float:
    parts = re.findall(r"([\d.]+)\s*(ms|min|s|h)?", text)
    return sum(float(number) * _SECONDS[own or unit] for number, own in parts)


@given(st.floats(0, 1e5), st.floats(0, 1e4))
def test_a_shown_interval_contains_the_measured_one(low: float, width: float) -> None:
    high = low + width
    text = figures.figure(low, high)
    found = re.fullmatch(r"(.+?) \((.+?)(?:–| to )(.+)\)", text)
    if found is None:
        return
    unit = "ms" if found[1].endswith("ms") else "s"
    middle, left, right = (_parse(part, unit) for part in found.groups())
    assert left <= low + 1e-6
    assert right >= high - 1e-6
    assert left <= middle <= right


@given(st.floats(0.002, 1e5), st.floats(0.0011, 1e4))
def test_the_last_digit_is_not_finer_than_a_tenth_of_the_bound(low: float, width: float) -> None:
    main = figures.figure(low, low + width).split(" (")[0]
    digits = re.search(r"\.(\d+) s", main)
    finest = 10.0 ** -len(digits[1]) if digits else 0.001 if main.endswith("ms") else 1.0
    assert finest <= max(width, 1.0)
    if digits is not None:
        assert finest >= width * 0.0999
    if width >= 1 and low >= 1:
        assert digits is None


@given(st.floats(-1e6, 1e6))
def test_a_clock_never_shows_sixty(at: float) -> None:
    text = figures.clock(at)
    assert ":60" not in text
    sign = -1 if text.startswith("−") else 1
    value = 0.0
    for part in text.lstrip("−").split(":"):
        value = value * 60 + float(part)
    assert math.isclose(sign * value, at, abs_tol=0.0501)


@given(st.floats(0, 1))
def test_a_failure_is_never_rounded_away(value: float) -> None:
    shown = figures.share(value, samples=100_000)
    assert (shown == "100 %") == (value == 1.0)
    assert (shown == "0 %") == (value == 0.0)


def test_an_instant_shows_its_bound_only_where_it_can_be_seen() -> None:
    assert figures.instant(Instant(16.0, 16.02), 6.0) == "00:10.0"
    assert figures.instant(Instant(16.0, 16.2), 6.0) == "00:10.1 (00:10.0–00:10.2)"


# Markdown.


@EVERY
def test_markdown_has_the_structure_that_the_document_has(name: str) -> None:
    document = made(name)
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(document))
    headings = [
        tokens[n + 1].content
        for n, t in enumerate(tokens)
        if t.type == "heading_open" and t.tag == "h2"
    ]
    assert len(headings) == len(document.sections)
    assert not [
        token for token in tokens if token.type in ("html_block", "hr") and token.tag != "hr"
    ]
    tables = sum(type(block).__name__ == "Table" for s in document.sections for block in s.blocks)
    assert sum(token.type == "table_open" for token in tokens) == tables


@EVERY
def test_every_row_of_a_markdown_table_has_the_same_cells(name: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(made(name)))
    width = cells = 0
    for token in tokens:
        if token.type == "tr_open":
            cells = 0
        elif token.type in ("th_open", "td_open"):
            cells += 1
        elif token.type == "tr_close":
            assert cells == width or not width
            width = cells
        elif token.type == "table_close":
            width = 0


@given(
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")),
        min_size=1,
    )
)
def test_escaped_text_reads_as_it_was_typed(text: str) -> None:
    rendered = MarkdownIt("commonmark").enable("strikethrough").renderInline(escape(text))
    assert "<" not in rendered
    assert html.unescape(rendered) == text


# HTML.


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(document: Debrief) -> _Page:
    parser = _Page()
    parser.feed(to_html(document))
    return parser


@EVERY
def test_a_page_needs_no_script_and_asks_nobody_for_anything(name: str) -> None:
    text = to_html(made(name))
    found = page(made(name))
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    for _, attributes in found.tags:
        assert not {"src", "href", "srcset", "xlink:href"} & attributes.keys()
        assert not [key for key in attributes if key.startswith("on")]
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#wide-hatch", "#narrow-hatch"}
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert text.isprintable() or not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


def test_what_people_typed_is_shown_and_does_nothing() -> None:
    found = page(made("hundred-notes"))
    assert any("<script>alert(1)</script>" in text for text in found.text)
    assert any("X" * 80 in text for text in found.text)


@EVERY
def test_the_levels_of_headings_leave_no_gap(name: str) -> None:
    levels = [int(tag[1]) for tag, _ in page(made(name)).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@EVERY
def test_both_pictures_are_well_formed_and_have_words_for_them(name: str) -> None:
    document = made(name)
    if document.picture is None:
        return
    for width in (920, 350):
        root = ET.fromstring(svg(document.picture, width=width, standalone=True))
        assert root.get("role") == "img"
        assert root[0].text
        assert document.picture.description == root[1].text


# JSON and JUnit.


@EVERY
def test_json_follows_its_schema(name: str) -> None:
    text = to_json(made(name))
    data = json.loads(text, parse_constant=pytest.fail)
    jsonschema.validate(data, json_schema())
    assert {"drill", "incidents", "hypotheses", "injections", "impact"} < data.keys()
    assert {"findings", "action_items", "timeline"} < data.keys()
    assert [entry["at"] for entry in data["timeline"]] == sorted(e["at"] for e in data["timeline"])


def test_every_key_of_the_json_is_documented() -> None:
    documentation = (Path(__file__).parent.parent / "docs" / "debrief-json.md").read_text("utf-8")
    for definition in json_schema()["$defs"].values():
        for key in definition.get("properties", {}):
            assert f"`{key}`" in documentation, key


@EVERY
def test_junit_has_a_case_for_each_hypothesis(name: str) -> None:
    document = made(name)
    suite = ET.fromstring(to_junit(document))[0]
    own = document.drill.exit_code in (4, 5, 70)
    assert len(suite.findall("testcase")) == len(document.hypotheses) + own
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    if document.drill.exit_code:
        assert suite.findall("testcase/failure") or suite.findall("testcase/error")


# The picture.

_instant = st.floats(-10, 400)
_label = st.text(min_size=1, max_size=90)
_mark = st.builds(
    Mark,
    kind=st.sampled_from(["page", "ticket", "fyi", "report", "said", "hands"]),
    at=_instant,
    label=_label,
)


@st.composite
def _pictures(draw: st.DrawFn) -> Picture:
    start = draw(st.floats(-10, 0))
    end = draw(st.floats(1, 400))
    series = tuple(
        (start + n * (end - start) / 50, draw(st.one_of(st.none(), st.floats(0, 1))))
        for n in range(50)
    )
    bar = Bar(
        "process.kill api-2",
        draw(_instant),
        (1.0, 2.0),
        draw(st.sampled_from([None, (30.0, 31.0)])),
        True,
        "undone",
    )
    return Picture(
        Axis(start, end, (("running", 0.0, end),), draw(st.one_of(st.none(), _instant))),
        (
            Line(
                "availability", series, 0.99, "steady ≥ 99 %", True, 0.5, ((3.0, 3.1, None, None),)
            ),
        ),
        (bar,),
        tuple(draw(st.lists(_mark, max_size=12))),
        tuple(draw(st.lists(_mark, max_size=40))),
        (),
    )


@given(_pictures(), st.sampled_from([350, 920]))
def test_marks_stay_inside_and_labels_never_overlap(picture: Picture, width: int) -> None:
    from gameday.scoring.redaction import clean_document

    picture = clean_document(picture)
    root = ET.fromstring(svg(picture, width=width))
    _, _, w, h = map(float, root.attrib["viewBox"].split())
    space = "{http://www.w3.org/2000/svg}"
    boxes: list[tuple[float, float, float]] = []
    for text in root.iter(f"{space}text"):
        x, y, long = float(text.attrib["x"]), float(text.attrib["y"]), len(text.text or "") * 6.9
        assert 0 <= y <= h
        if text.get("class") == "halo" and " 0" in (text.text or ""):
            left = x - long if text.get("text-anchor") == "end" else x
            assert left >= -8
            assert left + long <= w + 8
            boxes.append((y, left, left + long))
    for number, (y, left, right) in enumerate(boxes):
        for other_y, other_left, other_right in boxes[number + 1 :]:
            assert y != other_y or right <= other_left + 8 or other_right <= left + 8


@EVERY
def test_the_picture_in_text_fits_eighty_columns(name: str) -> None:
    picture = made(name).picture
    if picture is not None:
        assert all(len(line) <= 84 for line in strip(picture).splitlines())


def test_importing_the_renderers_does_not_load_the_template_engine() -> None:
    code = (
        "import sys; import gameday.scoring.render.html, gameday.scoring.render.markdown;"
        "sys.exit('jinja2' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# In a browser.

_CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script, from ``GAMEDAY_AXE`` or from the npm registry."""
    given_path = os.environ.get("GAMEDAY_AXE")
    if given_path:
        return Path(given_path).read_text("utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core is needed: set GAMEDAY_AXE to its axe.min.js, or install npm")
    folder = tmp_path_factory.mktemp("axe")
    command = [
        npm,
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--silent",
        "axe-core@4",
    ]
    if subprocess.run(command, capture_output=True, check=False, timeout=90).returncode:
        pytest.skip("axe-core could not be fetched; set GAMEDAY_AXE to its axe.min.js")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def browse(folder: Path, text: str, *, width: int, dark: bool = False) -> str:
    """The page's text after its scripts ran, as headless Chromium has it."""
    assert _CHROMIUM is not None
    (folder / "page.html").write_text(text, "utf-8")
    command = [
        _CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=30000",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        "--dump-dom",
        (folder / "page.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, check=True, timeout=100)
    found = re.search(r"<pre id=\"result\">(.*?)</pre>", done.stdout.decode(), re.DOTALL)
    assert found, done.stdout[-500:]
    return html.unescape(found[1])


_REPORT = """<script>{axe}</script><script>
axe.run().then(r => {{
  const lines = r.violations.map(v => v.id + ": " + v.nodes.map(n => n.target).join(" | "));
  const scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.body.innerHTML = '<pre id="result"></pre>';
  document.getElementById("result").textContent = [scheme, r.passes.length > 10, ...lines].join("\\n");
}});</script></body>"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.short_form("node-failure-light", "three-incidents-dark")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["node-failure", "hundred-notes", "three-incidents", "empty"])
def test_axe_finds_nothing(name: str, dark: bool, axe: str, tmp_path: Path) -> None:
    text = to_html(made(name)).replace("</body>", _REPORT.format(axe=axe))
    scheme, passed, *violations = browse(tmp_path, text, width=1280, dark=dark).split("\n")
    assert scheme == ("dark" if dark else "light")
    assert passed == "true"
    assert violations == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", ["node-failure", "hundred-notes", "three-incidents"])
def test_a_phone_never_scrolls_sideways(name: str, tmp_path: Path) -> None:
    inner = to_html(made(name)).replace("&", "&amp;").replace('"', "&quot;")
    text = (
        f'<!DOCTYPE html><body><iframe id="phone" style="width:390px;height:800px;border:0" srcdoc="{inner}">'
        '</iframe><script>addEventListener("load", () => {'
        'const root = document.getElementById("phone").contentDocument.documentElement;'
        "const sizes = [root.scrollWidth, root.clientWidth, "
        'getComputedStyle(root.querySelector(".narrow")).display];'
        "document.body.innerHTML = '<pre id=\"result\">' + sizes.join(' ') + '</pre>';});</script></body>"
    )
    scroll, client, narrow = browse(tmp_path, text, width=800).split()
    assert int(scroll) <= int(client) == 390 or int(scroll) <= int(client) <= 390
    assert narrow == "block"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.short_form("node-failure-1000", "three-incidents-1000", "false-alarm-1280")
@pytest.mark.parametrize("width", [1000, 1280])
@pytest.mark.parametrize("name", ["node-failure", "three-incidents", "false-alarm"])
def test_no_table_hides_a_column_where_there_is_room(name: str, width: int, tmp_path: Path) -> None:
    inner = to_html(made(name)).replace("&", "&amp;").replace('"', "&quot;")
    text = (
        f'<!DOCTYPE html><body><iframe id="page" style="width:{width}px;height:800px;border:0" '
        f'srcdoc="{inner}"></iframe><script>addEventListener("load", () => {{'
        'const page = document.getElementById("page").contentDocument;'
        "const cut = [...page.querySelectorAll('.many')].filter(e => e.scrollWidth > e.clientWidth);"
        "const root = page.documentElement;"
        "const words = [page.querySelectorAll('.many').length > 0, "
        "root.scrollWidth <= root.clientWidth, ...cut.map(e => e.ariaLabel)];"
        "document.body.innerHTML = '<pre id=\"result\">' + words.join(', ') + '</pre>';});</script></body>"
    )
    assert browse(tmp_path, text, width=1400) == "true, true"


def test_short_tables_stay_together_in_print() -> None:
    text = to_html(made("hundred-notes"))
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        rows = table.count("<tr>") - 1
        assert table.startswith('<table class="brief">') == (rows <= 8)
    print_rules = text[text.index("@media print") :]
    assert "table.brief { break-inside: avoid; }" in print_rules


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("size", ["A4", "letter"])
def test_a_small_drill_is_six_pages_on_paper(size: str, tmp_path: Path) -> None:
    """What is handed around: five pages and the timeline."""
    assert _CHROMIUM is not None
    text = to_html(made("node-failure")).replace("@page {", f"@page {{ size: {size};", 1)
    (tmp_path / "page.html").write_text(text, "utf-8")
    command = [
        _CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--no-pdf-header-footer",
        f"--print-to-pdf={tmp_path / 'page.pdf'}",
        (tmp_path / "page.html").as_uri(),
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=100)
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 3 <= len(pages) <= 6
