"""From raw outputs to answers."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmark import filters as registry
from shardmark.filters import FILTERS
from shardmark.filters.base import Filter
from shardmark.filters.chain import filter_steps
from shardmark.settings import meanings
from shardmark.texts.numbers import exact


def made(settings: dict[str, Any]) -> Filter:
    return FILTERS[settings["name"]].model_validate(settings)


def apply(texts: list[str], filters: list[dict[str, Any]], *, opened: list[str] | None = None) -> list[str | None]:
    return filter_steps(texts, [made(settings) for settings in filters], {"q": "why"}, opened=opened or [])[-1]


def found(name: str, text: str, **settings: Any) -> str | None:
    return apply([text], [{"name": name, **settings}])[0]


def first_option(text: str, options: str) -> str | None:
    return found("first_option", text, options=options)


def opencompass_first_option(text: str, options: str, **settings: Any) -> str | None:
    return found("opencompass_first_option", text, options=options, **settings)


def test_the_last_block_of_python_may_count() -> None:
    text = "Slow:\n```python\na = 1\n```\nFast:\n```python\nb = 1\n```\nIt prints\n```text\n1\n```"
    assert [found("fenced_code", text, block=which) for which in ("first", "last")] == ["a = 1", "b = 1"]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("$\\boxed{17}$, no: $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("\\boxed{42} and \\fbox{ }", "42"),
        ("\\boxed{4", None),
        ("42", None),
    ],
)
def test_the_last_box_is_the_last_that_closes_and_is_not_empty(text: str, content: str | None) -> None:
    assert found("last_box", text) == content


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A", "A"),
        (" B.", "B"),
        ("(C)", "C"),
        ("[D]", "D"),
        ("C) because", "C"),
        ("**A**", "A"),
        ("B\nThe next question", "B"),
        ("A\nbecause it rains", "A"),
        ("C because it rains", "C"),
        ("A because it rains", "A"),
        ("A is right", "A"),
        ("B, not C", "B"),
        ("The answer is B", "B"),
        ("the answer is: (D).", "D"),
        ("A or C? The answer is C", "C"),
        ("The correct answer is option B", "B"),
        ("Answer: C", "C"),
        ("ANSWER C", "C"),
        ("So **Answer: D**", "D"),
        ("I think A", "A"),
        ("A dog is B", "B"),
        ("A dog and a cat", None),
        ("no", None),
        ("", None),
        ("ABC", None),
        ("Because", None),
        ("a", "A"),
        ("E", None),
        ("B's", None),
        ("B’s", None),
        ("vitaminC", None),
        ("The answer is Cats, so D", "D"),
        ("选B。", "B"),
        ("答案：B。", "B"),
        ("The final current is 3 A", None),
        ("The answer is B. It boils at 25 °C.", "B"),
        ("The closest answer is 300 degrees C, so (D)", "D"),
        ("A) finite group\nB) infinite group\nC) empty set\nD) ring", None),
        ("A is correct. D is also correct. The answer is (A) and (D).", None),
        ("B\n\nThe answers are A and C", "B"),
        ("The right answer is A or C. Looking closer, C is right.", "C"),
        ("The possible answers are A, B and C. I think B.", "B"),
        ("Answer: not A, B", None),
        ("(a) The mass is 5 g.\n(b) The volume is 2 l.", None),
        ("a) It falls. b) It rises. The answer is C", "C"),
        ("(A) It floats. (B) is wrong.", "A"),
        ("三棱柱的顶点都在一个球面上，说明这个球的半径就是三棱柱的棱长a。选项都不正确。", None),
        ("The moment of inertia is given by $I = C r^2$." + 10 * " We solve the equation for the radius.", None),
        ("So it is (C) the moment of inertia." + 10 * " We solve the equation for the radius.", "C"),
    ],
)
def test_an_option_is_a_letter_that_stands_for_itself(text: str, answer: str | None) -> None:
    assert first_option(text, "ABCD") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Which star is the nearest? The sun is a", None),
        ("A planet orbits it. It is a", None),
        ("Rain is made of a ", None),
        ("The answer is a", "A"),
        ("The correct one is a", "A"),
        ("It is a.", "A"),
        ("It is A", "A"),
        ("The answer is B, because the sun is a", "B"),
        ("B. Of the stars, the sun is a", "B"),
        ("Say this a", "A"),
    ],
)
def test_an_article_at_which_a_text_is_cut_off_is_no_option(text: str, answer: str | None) -> None:
    assert first_option(text, "ABCD") == answer


@pytest.mark.parametrize(
    ("text", "answer"), [("I think so", None), ("I", "I"), ("I think H", "H"), ("I is right", "I")]
)
def test_the_first_option_is_not_the_word_i(text: str, answer: str | None) -> None:
    assert first_option(text, "ABCDEFGHI") == answer


def test_options_may_be_small_letters() -> None:
    assert first_option("a dog is b", "abc") == "b"
    assert first_option("(c) a dog", "abc") == "c"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A", None),
        (" A", None),
        ("(B)", None),
        ("B) a house", None),
        ("A.", "A"),
        ("A house", "A"),
        ("It is B", "B"),
        ("It is B.", "B"),
        ("The answer is C", "C"),
        ("The answer is (C) for sure", "C"),
        ("The answer is **C** for sure", "C"),
        ("Answer: C and more", "C"),
        ("answer: c and more", None),
        ("It is D then", None),
        ("1. Either D or B then", "B"),
        ("答案是B，因为", "B"),
        ("选 C 项", "C"),
        ("A项错误，所以 D。", "D"),
        ("no", None),
        ("", None),
    ],
)
def test_opencompass_finds_what_it_finds(text: str, answer: str | None) -> None:
    assert opencompass_first_option(text, "ABCD") == answer


def test_any_letter_is_opencompass_cushion() -> None:
    assert opencompass_first_option("(C)", "ABCD") is None
    assert opencompass_first_option("(C)", "ABCD", cushion=True) == "C"
    assert opencompass_first_option("D: x, B: y", "ABCD", cushion=True) == "D"


@given(st.text(), st.sampled_from(["ABCD", "abc", "I"]))
def test_an_option_is_one_of_the_letters(text: str, options: str) -> None:
    for find in (first_option, opencompass_first_option):
        answer = find(text, options)
        assert answer is None or (len(answer) == 1 and answer in options)


@given(
    st.lists(st.sampled_from(["A", "B", "C", " or ", ", ", "not ", "the answer is ", "so ", "\n", ". ", "is wrong"]))
)
def test_options_are_found_in_any_order_of_words(parts: list[str]) -> None:
    assert first_option("".join(parts), "ABC") in {"A", "B", "C", None}


def test_small_letters_are_others_only_where_both_are_options() -> None:
    assert first_option("The answer is b.", "ABab") == "b"
    assert first_option("The answer is B.", "ABab") == "B"


HOSTILE = {
    "letters": "A B " * 6_000,
    "lists": "A or B " * 3_000,
    "answers": "the answer is not A " * 1_000,
    "boxes": "\\boxed{" * 3_000,
    "stars": "*" * 25_000,
    "labels": "A. x\nB. y\n" * 2_000,
    "digits": "1" * 25_000,
    "groups": "1,111" * 5_000,
    "spaces": "1 111 " * 4_000,
    "powers": "10^" * 7_000,
    "fences": "```\n" * 6_000,
    "late": "x ```" * 5_000,
    "thoughts": "<think>" * 3_000,
    "ends": "</think>\n```\n" * 1_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_filter_takes_grows_with_the_text_not_its_square(kind: str) -> None:
    filters = [
        {"name": name} for name in ("first_number", "last_number", "fenced_code", "strip_thinking", "first_line")
    ]
    filters += [{"name": "first_option", "options": "ABCD"}, {"name": "xml_tag", "tag": "think"}]
    began = time.process_time()
    for settings in filters:
        apply([HOSTILE[kind]], [settings])
    assert time.process_time() - began < 10  # one second on a slow machine; minutes if squared


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,234.50", "1234.50"),
        ("-3", "-3"),
        ("-$5", "-5"),
        ("1.", "1"),
        ("12.", "12"),
        ("3/4 is 0.75.", "0.75"),
        ("first 10, then 20 apples", "20"),
        ("half is .5", "0.5"),
        ("1,000,000 in all", "1000000"),
        ("x=-7", "-7"),
        ("it takes 5-7 days", "7"),
        ("10 - 3", "3"),
        ("10 + -3", "-3"),
        ("Apollo-11", "11"),
        ("€-.5", "-0.5"),
        ("none", None),
        ("", None),
        ("$", None),
        ("a - b.", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    assert found("last_number", text) == number


@given(st.text() | st.lists(st.sampled_from([*"0123456789.,-$ x"])).map("".join))
def test_a_number_that_is_found_is_one(text: str) -> None:
    number = found("last_number", text)
    assert number is None or len(text) > 1000 or exact(number) is not None


@pytest.mark.parametrize(
    ("text", "filters", "answer"),
    [
        ("a b", [], "a b"),
        (" a \n", [{"name": "strip"}], "a"),
        ("\n\n a\nb", [{"name": "first_line"}], " a"),
        ("a Q: b Q: c", [{"name": "cut", "marker": "Q:"}], "a "),
        ("a b", [{"name": "cut", "marker": "Q:"}], "a b"),
        ("ANSWER : C", [{"name": "regex", "pattern": r"(?i)answer\s*:\s*([A-D])"}], "C"),
        ("see 12 or 13", [{"name": "regex", "pattern": r"\d+"}], "12"),
        ("see", [{"name": "regex", "pattern": r"\d+"}], None),
        ("b", [{"name": "regex", "pattern": r"(a)|b"}], None),
        ("7 Q: 8", [{"name": "cut", "marker": "Q:"}, {"name": "last_number"}], "7"),
        ("7 Q: 8", [{"name": "last_number"}, {"name": "cut", "marker": "Q:"}], "8"),
        ("no", [{"name": "last_number"}, {"name": "strip"}, {"name": "first_line"}], None),
        ("(B)", [{"name": "first_option", "options": "AB"}], "B"),
        ("(B)", [{"name": "opencompass_first_option", "options": "AB"}], None),
        ("Yes", [{"name": "lowercase"}], "yes"),
        ("Yes", [{"name": "uppercase"}], "YES"),
        ("7 of $1,234", [{"name": "first_number"}], "7"),
        ("about $1,234 or 5", [{"name": "first_number"}], "1234"),
        ("none", [{"name": "first_number"}], None),
        ("say B or C", [{"name": "first_capital"}], "B"),
        ("say B or C", [{"name": "last_capital"}], "C"),
        ("nothing", [{"name": "first_capital"}], None),
        ("nothing", [{"name": "last_capital"}], None),
        ("C and A, so AC", [{"name": "multiple_select"}], "AC"),
        ("nothing", [{"name": "multiple_select"}], None),
        ("1 2 3", [{"name": "regex", "pattern": r"\d", "select": -1}], "3"),
        ("1 2 3", [{"name": "regex", "pattern": r"\d", "select": 3}], None),
        ("x", [{"name": "regex", "pattern": r"\d", "fallback": "[invalid]"}], "[invalid]"),
        ("b", [{"name": "regex", "pattern": r"(a)|(b)"}], "b"),
        ("<answer> 4 </answer> <answer>5\n</answer>", [{"name": "xml_tag", "tag": "answer"}], "5"),
        ("<answer>4", [{"name": "xml_tag", "tag": "answer"}], None),
        ("<think>3?\n</think>\n4", [{"name": "strip_thinking"}], "4"),
        ("3?\n</think>\n4", [{"name": "strip_thinking"}], "4"),
        ("<think>3?", [{"name": "strip_thinking"}], None),
        ("4", [{"name": "strip_thinking"}], "4"),
        ("<think>a</think>b</think>c", [{"name": "strip_thinking"}], "c"),
        ("Here:\n```python\nx = 1\n```\nand\n```\ny\n```", [{"name": "fenced_code"}], "x = 1"),
        ("```\nx = 1", [{"name": "fenced_code"}], "x = 1"),
        ("```py\n```", [{"name": "fenced_code"}], ""),
        ("x = 1", [{"name": "fenced_code"}], "x = 1"),
        ("yes", [{"name": "map", "values": {"yes": "A", "no": "B"}}], "A"),
        ("so", [{"name": "map", "values": {"yes": "A"}}], None),
        ("so", [{"name": "map", "values": {"yes": "A"}, "default": "C"}], "C"),
        ("x", [{"name": "template", "template": "{{ q }}: {{ answer }}"}], "why: x"),
    ],
)
def test_filters_follow_one_another_until_one_finds_nothing(
    text: str, filters: list[dict[str, Any]], answer: str | None
) -> None:
    assert apply([text], filters) == [answer]


def test_each_answer_to_a_request_is_filtered() -> None:
    assert apply(["a 1", "b", "c 3"], [{"name": "last_number"}]) == ["1", None, "3"]


@pytest.mark.parametrize(
    ("answers", "vote"),
    [
        (["1", "2", "2"], "2"),
        (["1", "2"], "1"),
        (["x", "x", "3"], "3"),
        (["x"], None),
    ],
)
def test_the_majority_is_of_the_answers_that_were_found(answers: list[str], vote: str | None) -> None:
    assert apply(answers, [{"name": "last_number"}, {"name": "majority_vote"}]) == [vote]


def test_a_thought_that_the_prompt_has_opened_may_be_cut() -> None:
    filters = [{"name": "strip_thinking"}, {"name": "last_number"}]
    assert apply(["12 and 3", "12</think>3"], filters, opened=["<think>"] * 2) == [None, "3"]
    assert apply(["12 and 3"], filters, opened=[""]) == ["3"]
    assert apply(["12 and 3"], filters[1:], opened=["<think>"]) == ["3"]
    first = [{"name": "take_first"}, *filters]
    assert apply(["12 and 3", "4"], first, opened=["<think>"] * 2) == [None]


def test_filters_after_a_vote_go_on_with_its_answer() -> None:
    filters = [{"name": "majority_vote"}, {"name": "strip"}]
    assert apply([" b", "a", " b"], filters) == ["b"]


def test_the_first_answers_are_taken() -> None:
    assert apply(["a", "b", "c"], [{"name": "take_first", "k": 2}]) == ["a", "b"]


SETTINGS = {"options": "AB", "pattern": "b", "marker": "b", "tag": "b", "values": {"b": "c"}, "template": "b"}
SETTINGS |= {"file": "own.py", "code": "def find(text, row):\n    return text"}
EXAMPLES = {
    name: made({"name": name, **{key: value for key, value in SETTINGS.items() if key in kind.model_fields}})
    for name, kind in FILTERS.items()
}


def test_each_file_is_a_filter_of_its_name() -> None:
    files = {path.stem for path in Path(registry.__file__).parent.glob("*.py")}
    assert files - {"__init__", "base", "chain"} == FILTERS.keys()
    assert all(kind.__module__ == f"shardmark.filters.{name}" for name, kind in FILTERS.items())


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_says_what_it_needs_to_say(name: str) -> None:
    each = EXAMPLES[name]
    assert each.protocol >= 1
    assert each.bounded_by in {"", *type(each).model_fields}
    assert each.templates() == {key: value for key, value in each.templates().items() if getattr(each, key) == value}
    assert meanings(type(each)).keys() == type(each).model_fields.keys() - {"name"}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("answers", [["a b 1"], ["a", "b", "b"], [None], ["b", None]])
def test_a_filter_leaves_as_many_answers_as_it_says(name: str, answers: list[str | None]) -> None:
    each = EXAMPLES[name]
    assert len(each.apply(answers, {}, [])) == each.left(len(answers))
    if answers == [None]:
        assert each.apply(answers, {}, [""]) == [None]
