"""What a template prints: never null, NaN or an address in memory, however it becomes a text."""

from typing import Any

import pytest

from projects import choice_settings, dataset_settings, problems
from shardmark.tasks import render
from shardmark.untrusted.templates import Expression, RenderError, Template

ROW: dict[str, Any] = {
    "x": None, "n": float("nan"), "i": float("inf"), "a": {"b": None, "c": ["y", None]}, "l": ["q", None],
    "ok": "t", "num": 3, "ls": ["p", "q"],
}  # fmt: skip
MISSING = {
    "{{ x }}": "column x is null",
    "{{ n }}": "column n is NaN",
    "{{ i }}": "column i is infinite",
    "{{ -i }}": "column i is infinite",
    "{{ l[1] }}": "column l[1] is null",
    "{{ a.c | last }}": "column a.b is null and column a.c[1] is null",
    "{{ l | join(', ') }}": "column l[1] is null",
    "{{ [a] | map(attribute='b') | join }}": "column a.b",
    "{{ [a] | join(attribute='b') }}": "column a.b",
    "{{ 'q' ~ x }}": "column x is null",
    "{{ (x or '') ~ n }}": "column n is NaN",
    "{{ '%s' % x }}": "column x is null",
    "{{ '%s %s' % (ok, x) }}": "column x is null",
    "{{ '%(a)s' % {'a': x} }}": "column x is null",
    "{{ '%.1f' % n }}": "column n is NaN",
    "{{ '%s' | format(x) }}": "column x is null",
    "{{ '%(k)s' | format(k=x) }}": "column x is null",
    "{{ '{}'.format(x) }}": "column x is null",
    "{{ '{k!r}'.format(k=x) }}": "column x is null",
    "{{ '{0[b]}'.format(a) }}": "column a.b",
    "{{ '{q}'.format_map({'q': x}) }}": "column x is null",
    "{{ x | upper }}": "column x is null",
    "{{ x | trim }}": "column x is null",
    "{{ x | string }}": "column x is null",
    "{{ l | map('string') | join }}": "column l[1] is null",
    "{{ l | map('upper') }}": "column l[1] is null",
    "{{ [x] | string }}": "column x is null",
    "{{ ok | replace('t', x) }}": "column x is null",
    "{{ x | d('') }}": "column x is null",
    "{{ n | round(1) }}": "column n is NaN",
    "{{ n | tojson }}": "column n is NaN",
    "{% for c in l %}{{ c }}{% endfor %}": "column l[1] is null",
    "{% set y = x %}{{ y }}": "column x is null",
    "{% set y %}{{ x }}{% endset %}{{ y }}": "column x is null",
    "{% macro m(v) %}{{ v }}{% endmacro %}{{ m(x) }}": "column x is null",
    "{% filter upper %}{{ x }}{% endfilter %}": "column x is null",
    "{{ ls }} {{ l }}": "column l[1] is null",
    "{{ a }}": "column a.b is null",
    "{{ {'k': x} }}": "column x is null",
}


@pytest.mark.parametrize("source", MISSING)
def test_what_is_missing_is_never_printed(source: str) -> None:
    with pytest.raises(RenderError) as told:
        Template(source, "prompt")(ROW)
    assert MISSING[source] in str(told.value)
    assert "{{ column or '' }}" in told.value.fix


PRINTED = {
    "{{ x or '' }}": "",
    "{% if x %}{{ x }}{% endif %}": "",
    "{{ x | default('', true) }}": "",
    "{{ ok if x }}": "",
    "{{ ok if x }}{{ 'a' ~ (ok if x) ~ 'b' }}": "ab",
    "{{ 'none' if x is none else x }}": "none",
    "{{ x | tojson }}": "null",
    "{{ l | select | join }}": "q",
    "{{ '%(a)s' % {'a': 1, 'b': x} }}": "1",
    "{{ '{0[k]}'.format({'k': 1, 'b': x}) }}": "1",
    "{{ 'a' ~ 1 ~ true ~ 1.5 ~ ls }}": "a1True1.5['p', 'q']",
    "{{ '%s-%s' % (ok, num) }}": "t-3",
    "{{ '%d%%' | format(num) }}": "3%",
    "{{ '%(k)s' | format(k=num) }}": "3",
    "{{ '{} {:.2f} {k}'.format(ok, 1.5, k=num) }}": "t 1.50 3",
    "{{ 7 % num }}": "1",
    "{{ ls | map('upper') }}": "['P', 'Q']",
    "{{ {'k': 1}.items() }}": "[['k', 1]]",
    "{{ ls | reverse }}": "['q', 'p']",
    "{{ ls | tojson }}": '["p", "q"]',
}


@pytest.mark.parametrize("source", PRINTED)
def test_what_makes_a_text_of_it_is_fine(source: str) -> None:
    assert Template(source)(ROW) == PRINTED[source]


@pytest.mark.parametrize(
    "source",
    [
        "['x'.format] | map('string') | list", "ok.upper ~ ''", "[ok.upper] | join", "'%s' % ok.upper",
        "'{}'.format(ok.upper)", "'%s' | format(ok.upper)", "ls | map('upper') | string", "[ok.upper]",
        "{'a': ls | map('upper')}", "[ls | map('upper')] | string", "range | string", "namespace()", "cycler('a')",
        "joiner()", "{'k': ok.upper}", "ok.upper | pprint", "[ok.upper] | string", "'%r' % [ok.upper]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Template, Expression])
def test_an_object_without_a_text_of_its_own_is_refused(kind: Any, source: str) -> None:
    with pytest.raises(RenderError, match=r"no text form|a method, not a value"):
        kind("{{ " + source + " }}" if kind is Template else source)(ROW)


@pytest.mark.parametrize("source", ["{{ self }}", "{% for c in ls %}{{ loop }}{% endfor %}"])
def test_nor_is_jinja_itself_printed(source: str) -> None:
    with pytest.raises(RenderError):
        Template(source)(ROW)


@pytest.mark.parametrize("source", ["{{ ls | random }}", "{{ lipsum() }}"])
def test_nothing_is_drawn_by_lot(source: str) -> None:
    with pytest.raises(RenderError):
        Template(source)(ROW)


GOOD = {"id": "r", "q": "Why?", "a": "so", "g": "x"}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), [None]])
@pytest.mark.parametrize(
    ("column", "key"),
    [("q", "prompt"), ("a", "target"), ("id", "id_column"), ("g", "group_by"), ("c", "cluster_by"), ("s", "choices")],
)
def test_a_row_without_a_value_is_named_with_its_column(value: Any, column: str, key: str) -> None:
    rows = [GOOD | {"id": str(n), "s": "maybe", "c": "c"} for n in range(5)]
    rows[3][column] = value
    words: dict[str, Any] = {"prompt": "{{ q }}", "id_column": "id", "group_by": "g", "cluster_by": "c"}
    if key == "choices":
        given = choice_settings(**words, choices="[a, s]", target="0")
    else:
        given = dataset_settings(**words, target="a")
    (problem,) = problems(lambda: list(render(given, rows, "d.yaml")))
    assert (problem.where, problem.key) == ("d.yaml", key)
    assert problem.what.startswith("row 3: ")
    if key != "choices":
        assert f"column {column}" in problem.what


@pytest.mark.parametrize("column", ["q", "a", "g"])
def test_an_example_without_a_value_is_named(column: str) -> None:
    rows = [GOOD | {"q": f"{n}?"} for n in range(5)]
    rows[1][column] = None
    few_shot = {"count": 2, "where": "q != '0?'", "same": "g", "source": {"file": "e.jsonl"}}
    given = dataset_settings(prompt="{{ q }}", target="a", few_shot=few_shot)
    (problem,) = problems(lambda: list(render(given, [GOOD], "d.yaml", None, rows)))
    assert "row 1 of the examples" in problem.what
    assert f"column {column} is null" in problem.what


def test_an_example_of_ones_own_without_a_value_is_named() -> None:
    given = dataset_settings(prompt="{{ q }}", target="a", few_shot={"examples": [{"q": None, "a": "x"}]})
    (problem,) = problems(lambda: list(render(given, [GOOD], "d.yaml")))
    assert (problem.key, problem.what) == ("few_shot.examples.0", "column q is null")


def test_rows_without_a_value_may_be_left_out() -> None:
    given = dataset_settings(prompt="{{ q }}", target="a", where="q is not none")
    assert len(list(render(given, [GOOD, GOOD | {"q": None}], "d.yaml"))) == 1
