"""Templates of a sandbox declaration fill in, and can neither get out nor go on for ever."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterator

import pytest
from jinja2 import TemplateError

from gameday.injectors.sandbox.local.bounded import render

VALUES = {
    "port": 80,
    "python": "/usr/bin/python3",
    "links": {"db": [{"address": "h:1", "port": 1}, {"address": "h:2", "port": 2}]},
}


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Whatever asks for hundreds of megabytes does not get them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/status") as status:  # noqa: PTH123
        used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + 100 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


TOO_FAR = [
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ ([1] * 10**9)|length }}",
    "{{ range(10**9)|list|length }}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
    "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "{% set a = [1] %}" + "{% set a = a + a %}" * 40 + "{{ a|length }}",
    "{% set a = 9 %}" + "{% set a = a * a %}" * 40 + "{{ a }}",
    "{{ 9**9**9 }}",
    "{{ 'xx'|replace('x', 'x' * 1000)|replace('x', 'x' * 1000)|replace('x', 'x' * 1000) }}",
    "{{ 'xx'.replace('x', 'x' * 1000).replace('x', 'x' * 1000).replace('x', 'x' * 1000) }}",
    "{{ range(9999)|join('x' * 100000) }}",
    "{{ ('x' * 100000).join(range(9999)|map('string')) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 'x'|format('%999999999d') }}",
    "{{ 'x'|center(10**9) }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x'|indent(10**9) }}",
    "{{ (1, 2)|tojson(indent=10**9) }}",
    "{{ lipsum(n=10**6) }}",
    "{% set x = 1e999 %}{{ x }}",
    "{{ port + 1e999 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "not " * 3000 + "1 }}",
    "x{{ port }}" * 100_000,
]
OUT = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ links.__init__.__globals__ }}",
    "{{ range.__globals__ }}",
    "{{ dict.__subclasses__() }}",
    "{{ self.__init__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ links.db.append(1) }}",
    "{{ links.clear() }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ links|map(attribute='__class__')|list }}",
    "{{ links.items|map('attr', '__globals__')|list|first }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{% block a %}{% endblock %}",
]


@pytest.mark.parametrize("text", TOO_FAR, ids=lambda text: text[:50])
def test_it_does_not_go_on_for_ever(text: str) -> None:
    begun = time.process_time()
    with pytest.raises((TemplateError, TypeError)):
        render(text, VALUES)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("text", OUT)
def test_it_does_not_get_out(text: str) -> None:
    try:
        found = render(text, VALUES)
    except (TemplateError, TypeError):
        return
    assert not re.search("<|builtin|object at", found)
    assert VALUES["links"] == {"db": [{"address": "h:1", "port": 1}, {"address": "h:2", "port": 2}]}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{ links.db|map(attribute='address')|join(',') }}", "h:1,h:2"),
        ("{% for d in links.db %}{{ loop.index }}={{ d.port }};{% endfor %}", "1=1;2=2;"),
        ("{% for k, v in links.items() %}{{ k }}{{ v|length }}{% else %}none{% endfor %}", "db2"),
        ("{% for d in links.db if d.port > 1 %}{{ d.port }}{% endfor %}", "2"),
        ("{{ 'a' ~ port ~ 1.5 }}{{ port + 1 }}{{ '%05d' % port }}", "a801.58100080"),
        ("{% set x = range(3)|list %}{{ x|sum }}{{ '-'.join(['a', 'b']) }}", "3a-b"),
        ("{{ python.split('/')|last|replace('3', '4') }}{{ {'a': 1}|tojson }}", 'python4{"a": 1}'),
        ("{% if port > 1 and not none %}yes{% endif %}{{ links.get('no') }}", "yesNone"),
    ],
)
def test_what_people_write_is_filled_in(text: str, filled: str) -> None:
    assert render(text, VALUES) == filled
