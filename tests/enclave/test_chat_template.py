"""A chat template is the publisher's program: it may not run long, grow large, reach out, or leak what it was given."""

import json
import time
from typing import NamedTuple

import pytest

from anchorhold.enclave.model import budget
from anchorhold.enclave.model.engine import EngineRefused, ModelRefused
from anchorhold.enclave.model.template_engine import MAX_SOURCE, ChatTemplate


class Turn(NamedTuple):
    role: str
    content: str
    calls: str | None = None


CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = (Turn("user", "hi"), Turn("assistant", "hello"), Turn("user", "SECRET-7 {{ 7*7 }}"))


def render(source: str, *turns: Turn, **special: str) -> str:
    return ChatTemplate(source, special).render(turns or TURNS)


def test_a_real_template_renders_as_transformers_renders_it() -> None:
    text = render(CHATML)
    assert text == (
        "<|im_start|>system\nYou are helpful<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello"
        "<|im_end|>\n<|im_start|>user\nSECRET-7 {{ 7*7 }}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_tools_of_common_templates_work() -> None:
    source = (
        "{%- set ns = namespace(n=0, text='') -%}"
        "{% macro show(m) %}[{{ m.role|upper ~ ':' ~ m['content']|trim }}]{% endmacro %}"
        "{% for m in messages[1:] if m.role in ['user', 'assistant'] %}{% set ns.n = ns.n + 1 %}{{ show(m) }}"
        "{% if loop.last %}{{ bos_token }}{% endif %}{% endfor %}{{ ns.n * 2 }}|{{ messages|length }}|"
        "{{ {'a': [1, 'é']}|tojson }}|{{ 'a-b'.split('-')|join('+') }}|{{ 'x'.replace('x', 'yy') }}|{{ 7 % 4 }}"
    )
    turns = (Turn("system", "s"), Turn("user", " hi "), Turn("assistant", "yo"))
    assert render(source, *turns, bos_token="<s>") == '[USER:hi][ASSISTANT:yo]<s>4|3|{"a": [1, "é"]}|a+b|yy|3'


def grow(start: str, step: str, end: str = "", rounds: int = 99) -> str:
    """A loop that makes a variable larger each round."""
    return f"{{% set ns = namespace(t={start}) %}}{{% for i in range({rounds}) %}}{step}{{% endfor %}}{end}"


LOOPS = {
    "nested-ranges": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "one-huge-range": "{% for a in range(10**9) %}{% endfor %}",
    "filtered-loop": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}",
    "recursive-macro": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "doubling-text": grow("'aaaa'", "{% set ns.t = ns.t + ns.t %}"),
    "doubling-tilde": grow("'aaaa'", "{% set ns.t = ns.t ~ ns.t %}"),
    "doubling-list": grow("[1]", "{% set ns.t = ns.t + ns.t %}"),
    "nesting-list": grow("[1]", "{% set ns.t = [ns.t, ns.t] %}", "{{ ns.t }}"),
    "nesting-dict": grow("{}", "{% set ns.t = dict(a=ns.t, b=ns.t) %}"),
    "nesting-namespace": grow("0", "{% set ns.t = namespace(a=ns.t, b=ns.t) %}", "{{ ns.t }}", 40),
    "namespace-as-string": "{% set ns=namespace(t=0) %}{{ ns|string }}",
    "multiplied-text": "{{ 'a' * 10000000000 }}",
    "multiplied-number": grow("9", "{% set ns.t = ns.t * ns.t %}"),
    "power": "{{ 9 ** 9 ** 9 }}",
    "width": "{{ '%1000000000d' % 1 }}",
    "replace": "{{ messages[0].content.replace('', 'b' * 1000000).replace('b', 'c' * 1000000) }}",
    "replace-filter": "{{ ('b' * 1000000)|replace('b', 'c' * 1000000) }}",
    "join": "{{ range(99999)|join('c' * 1000000) }}",
    "join-method": "{{ ('c' * 1000000).join(messages|map(attribute='role')|list * 1000) }}",
    "set-block": "{% set x %}{% for i in range(9999) %}{{ 'c' * 100000 }}{% endfor %}{% endset %}{{ x }}",
    "output": "{% for i in range(99999) %}{{ 'c' * 100000 }}{% endfor %}",
    "slices": grow("'a' * 2000000", "{% set x = ns.t[1:] %}", "", 9999),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_template_that_loops_or_grows_is_stopped_by_a_limit(name: str) -> None:
    before = time.monotonic()
    with pytest.raises(EngineRefused) as refused:
        render(LOOPS[name], Turn("user", "abc" * 1000))
    assert refused.value.code in {"template-limit", "template-failed"}
    assert time.monotonic() - before < 20 * budget.MAX_SECONDS  # not a timing: without limits none of these ends


def test_the_steps_stop_a_template_whose_clock_stands_still() -> None:
    loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    with pytest.raises(EngineRefused, match=f"more than {budget.MAX_STEPS} steps"):
        ChatTemplate(loops, {}, lambda: 0.0).render(TURNS)


def test_the_clock_stops_a_template_that_has_steps_left() -> None:
    ticks = iter(range(10**6))
    with pytest.raises(EngineRefused, match=r"more than 1\.0 s"):
        ChatTemplate("{% for i in range(999) %}{% endfor %}", {}, lambda: float(next(ticks))).render(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ '{:>1000000000}'.format('a') }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'.encode() }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ lipsum() }}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(EngineRefused):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% for %}",
        "{{ x|pprint }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 1.5|round(1000000000, 'ceil') }}",
        "x" * (MAX_SOURCE + 1),
    ],
)
def test_a_template_outside_the_language_is_refused_when_loaded(source: str) -> None:
    with pytest.raises(ModelRefused):
        ChatTemplate(source, {})


def test_no_refusal_quotes_a_message() -> None:
    for source in (
        "{{ raise_exception(messages[2].content) }}",
        "{{ messages[2].content + 1 }}",
        "{{ {}[messages[2]] }}",
    ):
        with pytest.raises(EngineRefused) as refused:
            render(source)
        assert "SECRET-7" not in json.dumps([str(refused.value), repr(refused.value), refused.value.code])
        assert refused.value.__cause__ is None
