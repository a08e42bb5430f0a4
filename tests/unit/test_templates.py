"""Templates are rendered in a sandbox; what fails is told in plain words."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from shardmark.untrusted.templates import ENVIRONMENT, Expression, RenderError, Template

ROW = {"question": "Why?", "n": 3, "list": ["b", "a"], "dict": {"text": ["x", "y"], "items": "kept"}, "empty": None}


def compiled(kind: type, expression: str) -> Any:
    """An expression as it stands in either kind."""
    return kind(f"{{{{ {expression} }}}}" if kind is Template else expression)


def test_a_template_renders_columns_as_they_are() -> None:
    text = Template("{{ question }} {{ n }} {{ list[0] }} {{ dict.text[1] }} {{ empty or '' }}")(ROW)
    assert text == "Why? 3 b y "


PARTS = (
    "{{ a }}",
    "{{b}}",
    "{{- c -}}",
    "{{ self }}",
    "{{ range }}",
    "{% raw %}{{ a }}{% endraw %}",
    "{# a #}",
    "{{ ''}}",
)
VALUES = st.one_of(
    *(st.text(), st.integers(), st.booleans(), st.none(), st.floats(), st.lists(st.text(), max_size=2)),
    st.sampled_from([10**5000, "{{ a }}", "\ud800", Markup("<b>")]),
)


@given(
    parts=st.lists(st.sampled_from(PARTS) | st.text("ab {}\n\r", max_size=3), max_size=4),
    row=st.dictionaries(st.sampled_from(["a", "b", "c", "range", "self"]), VALUES),
)
@settings(deadline=None)
def test_what_is_filled_in_without_jinja_is_what_jinja_renders(parts: list[str], row: dict[str, Any]) -> None:
    def outcome(render: Callable[[dict[str, Any]], Any]) -> tuple[type, str]:
        try:
            return type(found := render(row)), found
        except Exception as error:
            return RenderError, str(error)

    try:
        template = Template("".join(parts))
    except RenderError:
        return
    quick = outcome(template)
    template._evaluate = ENVIRONMENT.from_string(template.source).render
    assert quick == outcome(template)


def test_newlines_at_the_end_are_kept() -> None:
    assert Template("{{ n }}\n\n")(ROW) == "3\n\n"


def test_nothing_is_escaped_and_nothing_in_a_row_is_a_template() -> None:
    assert Template("{{ a }}")({"a": "<b> & {{ n }} {% raw %}"}) == "<b> & {{ n }} {% raw %}"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("n", 3),
        ("n > 2", True),
        ("list", ["b", "a"]),
        ("dict.text.index('y')", 1),
        ("'ABC'[n - 1]", "C"),
        ("list[-1]", "a"),
        ("empty", None),
        ("dict['items']", "kept"),
        ("list | map('upper')", ["B", "A"]),
        ("(n, n)", [3, 3]),
        ("range(2)", [0, 1]),
    ],
)
def test_an_expression_gives_a_value(source: str, value: Any) -> None:
    assert Expression(source)(ROW) == value


def test_a_column_whose_name_is_no_word_is_asked_for_by_name() -> None:
    row = {"Correct Answer": "yes", "parts": 2}
    assert Template("{{ column('Correct Answer') }}{{ column('parts') }}")(row) == "yes2"
    assert Expression("column('Correct Answer') == 'yes'")(row) is True
    with pytest.raises(RenderError, match=r"no column 'Corect Answer': did you mean 'Correct Answer'"):
        Template("{{ column('Corect Answer') }}")(row)


def test_any_column_name_is_good() -> None:
    row = {"self": 1, "values": 2, "context": 3, "a b": 4, "range": 5}
    assert Template("{{ values }}{{ context }}{{ range }}")(row) == "235"
    assert Expression("values + range")(row) == 7


@pytest.mark.parametrize("kind", [Template, Expression])
@pytest.mark.parametrize("name", ["questoin", "Question"])
def test_a_missing_column_is_named_with_the_nearest(kind: type, name: str) -> None:
    with pytest.raises(RenderError, match=f"^no column '{name}'$") as raised:
        compiled(kind, name)(ROW)
    assert raised.value.fix == "did you mean 'question'?"


@pytest.mark.parametrize(
    "source", ["[question, nope]", "(1, [nope])", "nope.text", "nope == 1", "nope | list", "nope()"]
)
def test_a_missing_column_is_found_wherever_it_hides(source: str) -> None:
    with pytest.raises(RenderError, match=r"^no column 'nope'$"):
        Expression(source)(ROW)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("dict.txt", "has no attribute 'txt'"),
        ("list[7]", "list object has no element 7"),
        ("list[n - 4]", "index -1 would count from the end"),
        ("n / 0", "ZeroDivisionError"),
        ("dict.text.index('z')", "ValueError: 'z' is not in list"),
        ("absent | default(dict.txt)", "has no attribute 'txt'"),
    ],
)
def test_another_failure_is_not_taken_for_a_missing_column(source: str, said: str) -> None:
    with pytest.raises(RenderError) as raised:
        Expression(source)(ROW)
    assert said in str(raised.value)


def test_a_column_may_be_missing_where_the_template_says_so() -> None:
    assert Template("{{ hint | default('none') }}{% if more is defined %}!{% endif %}")(ROW) == "none"


@pytest.mark.parametrize("kind", [Template, Expression])
def test_a_method_is_no_value_because_its_text_differs_in_each_process(kind: type) -> None:
    source = "dict.items"  # Python's method hides the key
    with pytest.raises(RenderError, match="a method, not a value"):
        compiled(kind, source)(ROW)


def test_what_a_filter_makes_lazily_is_rendered_as_a_list() -> None:
    assert Template("{{ list | map('upper') }}")(ROW) == "['B', 'A']"


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (Template, "{{ question "),
        (Template, "{% if n %}"),
        (Template, "{{ n | nofilter }}"),
        (Template, "{% include '/etc/passwd' %}{% endfor %}"),
        (Expression, ""),
        (Expression, "n +"),
        (Expression, "n }} {{ n"),
        (Expression, "n | nofilter"),
    ],
)
def test_a_mistake_in_the_syntax_is_told_before_any_row(kind: type, source: str) -> None:
    with pytest.raises(RenderError, match=r"^not a valid template: "):
        kind(source)


ATTACKS = [
    "''.__class__",
    "''.__class__.__mro__",
    "question.__class__.__mro__[1].__subclasses__()",
    "list.__init__.__globals__",
    "'{0.__class__.__mro__}'.format(question)",
    "question | attr('__class__')",
    "[question] | map(attribute='__class__')",
    "list.append(1)",
    "list.clear()",
    "dict.update({'x': 1})",
    "dict.text.sort()",
    "dict.pop('text')",
]


@pytest.mark.parametrize("source", ATTACKS)
@pytest.mark.parametrize("kind", [Template, Expression])
def test_no_way_leads_out_of_the_sandbox_or_into_the_row(kind: type, source: str) -> None:
    row = copy.deepcopy(ROW)
    with pytest.raises(RenderError, match=r"unsafe|has no attribute"):
        compiled(kind, source)(row)
    assert row == ROW


@pytest.mark.parametrize("source", ["{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}"])
def test_a_template_reads_no_files(source: str) -> None:
    with pytest.raises(RenderError, match="no loader for this environment"):
        Template(source)(ROW)


def test_a_template_cannot_change_the_row_for_the_next_one() -> None:
    row = copy.deepcopy(ROW)
    assert Template("{% set n = 9 %}{% set list = [] %}{{ n }}")(row) == "9"
    assert row == ROW
