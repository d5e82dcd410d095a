"""Inputs by hypothesis: made from what a form is built of, not from what is shipped."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.torture.mutations import FRAGMENTS, corpus

__all__ = ["inputs"]

_TEXTS = st.text(max_size=60) | st.text(st.characters(exclude_categories=[]), max_size=20)
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_KEYS = st.sampled_from(
    [
        *("apiVersion", "name", "title", "severity", "duration", "sandbox", "kind", "app", "file"),
        *(
            "roles",
            "load",
            "journey",
            "users",
            "slis",
            "path",
            "every",
            "good",
            "over",
            "steady_state",
        ),
        *(
            "hypotheses",
            "id",
            "claim",
            "expect",
            "alerts",
            "when",
            "tier",
            "runbook",
            "faults",
            "at",
        ),
        *("inject", "target", "service", "count", "slot", "link", "fixers", "scripted", "steps"),
        *("services", "command", "replicas", "links", "health", "http", "environment", "files"),
    ]
)
_VALUES = st.sampled_from(
    [
        "gameday/v1",
        "local",
        "shop",
        "10s",
        "95%",
        "availability >= 95%",
        "process.kill",
        "api",
        1,
        2,
    ]
)


def _documents() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | _NUMBERS | _TEXTS | _VALUES | _VALUES
    inner = st.recursive(
        leaves,
        lambda one: st.lists(one, max_size=4) | st.dictionaries(_KEYS | _TEXTS, one, max_size=6),
        max_leaves=20,
    )
    return st.dictionaries(_KEYS, inner, max_size=12)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def inputs(form: str) -> st.SearchStrategy[bytes]:
    """Inputs of a form."""
    if form in FRAGMENTS:
        words = [word for text in FRAGMENTS[form] for word in text.split(" ") if len(word) < 50]
        said = st.lists(st.sampled_from(words) | _TEXTS | _NUMBERS.map(str), max_size=8)
        return said.map(" ".join).map(_utf8) | st.binary(max_size=80)
    if form in ("scenario", "cluster", "any"):
        return _documents().map(json.dumps).map(_utf8) | _TEXTS.map(_utf8) | st.binary(max_size=200)
    lines = st.sampled_from([line for one in corpus(form) for line in one.splitlines()])
    made = st.dictionaries(
        st.sampled_from(["verb", "text", "step", "type", "seq", "at", "id"]) | _TEXTS,
        _NUMBERS | _TEXTS,
        max_size=5,
    )
    line = lines | made.map(json.dumps).map(_utf8) | st.binary(max_size=60)
    return st.lists(line, max_size=6).map(b"\n".join)
