"""Circular evaluation: all rotations of a question's options are asked, and count as one sample."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import choice_settings, dataset_settings, problems, property_test
from shardmark.config.base import validate
from shardmark.config.dataset import DatasetConfig
from shardmark.tasks import Sample, render
from shardmark.tasks.circular import options_of, rotated

SHOWN = "{{ q }}\nA. {{ options[0] }}\nB. {{ options[1] }}\nC. {{ options[2] }}\nAnswer:"
ROW = {"q": "Capital of Italy?", "options": ["Rome", "Paris", "Bonn"], "right": 0}
LETTERS: dict[str, Any] = {"prompt": SHOWN, "target": "'ABC'[right]", "circular": "options"}
CHOICE: dict[str, Any] = {"prompt": SHOWN, "choices": ["A", "B", "C"], "target": "right", "circular": "options"}


def sample(settings: DatasetConfig, *rows: dict[str, Any]) -> Sample:
    return next(iter(list(render(settings, rows or [ROW], "d.yaml"))))


def shown(request: Any) -> list[str]:
    """The options of a prompt, in their places."""
    text = request.prompt if request.kind == "generate" else request.pairs[0][0]
    return [line[3:] for line in text.split("\n")[1:-1]]


@property_test
@given(st.lists(st.text(), min_size=2, max_size=6), st.data())
def test_each_option_stands_once_in_each_place(options: list[str], data: st.DataObject) -> None:
    rows = [rotated({"o": {"text": options}, "n": 1}, "o.text", turn) for turn in range(len(options))]
    for place in range(len(options)):
        assert sorted(row["o"]["text"][place] for row in rows) == sorted(options)
    right = data.draw(st.integers(0, len(options) - 1))
    for turn, row in enumerate(rows):
        assert row["o"]["text"][(right - turn) % len(options)] == options[right]
    columns = [f"c{n}" for n in range(len(options))]
    row = dict(zip(columns, options, strict=True))
    assert [options_of(rotated(row, columns, turn), columns) for turn in range(len(options))] == [
        row["o"]["text"] for row in rows
    ]


def test_the_row_as_it_stands_is_asked_first_and_stays_what_it_is() -> None:
    plain, circular = (sample(dataset_settings(**LETTERS | {"circular": value})) for value in (None, "options"))
    assert circular.request_id == plain.request_id
    assert (circular.target, circular.id, circular.row) == (plain.target, plain.id, plain.row)
    assert plain.turns == ()


@pytest.mark.parametrize("settings", [dataset_settings(**LETTERS), choice_settings(**CHOICE)])
def test_the_target_goes_with_its_option(settings: DatasetConfig) -> None:
    found = sample(settings)
    asked = [shown(each.request) for each in (found, *found.turns)]
    assert asked == [["Rome", "Paris", "Bonn"], ["Paris", "Bonn", "Rome"], ["Bonn", "Rome", "Paris"]]
    targets = [each.target for each in (found, *found.turns)]
    assert targets == ([["A"], ["C"], ["B"]] if settings.kind == "generate" else [0, 2, 1])
    assert len({each.request_id for each in (found, *found.turns)}) == 3


def test_choices_that_are_the_options_go_with_them() -> None:
    settings = choice_settings(**CHOICE | {"choices": "options", "prompt": "{{ options | join(', ') }}: {{ q }}"})
    found = sample(settings)
    assert found.turns[0].choices == ["Paris", "Bonn", "Rome"]
    assert [turn.choices[turn.target] for turn in found.turns if turn.choices] == ["Rome", "Rome"]


def test_options_may_be_columns_and_letters_digits() -> None:
    row = {"q": "?", "one": "Rome", "two": "Paris", "right": "2"}
    prompt = "{{ q }}\n1. {{ one }}\n2. {{ two }}\n"
    circular = {"options": ["one", "two"], "letters": "12"}
    found = sample(dataset_settings(prompt=prompt, target="right", circular=circular), row)
    assert [(shown(each.request), each.target) for each in (found, *found.turns)] == [
        (["Rome", "Paris"], ["2"]),
        (["Paris", "Rome"], ["1"]),
    ]


def test_all_right_answers_go_with_their_options() -> None:
    found = sample(choice_settings(**CHOICE | {"target": "[0, 2]"}))
    assert [turn.target for turn in found.turns] == [[2, 1], [1, 0]]


def test_examples_stay_as_they_are() -> None:
    examples = [{"q": "1?", "options": ["x", "y", "z"], "right": 2}]
    found = sample(dataset_settings(**LETTERS, few_shot={"examples": examples}))
    begins = "1?\nA. x\nB. y\nC. z\nAnswer: C\n\n"
    assert all(each.request.prompt.startswith(begins) for each in (found, *found.turns))  # type: ignore[union-attr]


def test_rows_may_have_different_numbers_of_options() -> None:
    rows = [{"q": "?", "options": list("uvwxyz")[:n], "right": 1} for n in (2, 4)]
    settings = dataset_settings(
        prompt="{% for o in options %}{{ o }} {% endfor %}", target="'ABCDEF'[right]", circular="options"
    )
    found = list(render(settings, rows, "d.yaml"))
    assert [len(each.turns) for each in found] == [1, 3]


def test_a_right_option_that_stands_twice_is_told() -> None:
    rows = [ROW | {"options": options} for options in (["x", "y", "x"], ["x", "y", "y"])]
    for settings in (dataset_settings(**LETTERS), choice_settings(**CHOICE)):
        assert [each.remarks for each in render(settings, rows, "d.yaml")] == [("doubled_option",), ()]
    both = choice_settings(**CHOICE | {"target": "[0, 2]"})
    assert [each.remarks for each in render(both, rows[:1], "d.yaml")] == [()]


# Bad input


@pytest.mark.parametrize(
    ("settings", "key", "what"),
    [
        (LETTERS | {"circular": "option"}, "circular.options", "no column 'option'"),
        (LETTERS | {"circular": "options.text"}, "circular.options", "no column 'text'"),
        (LETTERS | {"circular": "q"}, "circular.options", "expected a list of two options or more in q"),
        (LETTERS | {"circular": ["q", "x"]}, "circular.options", "no column 'x'"),
        (LETTERS | {"target": "options[0]"}, "target", "expected one of the letters ABC, found 'Rome'"),
        (LETTERS | {"target": "'D'"}, "target", "expected one of the letters ABC, found 'D'"),
        (
            LETTERS | {"circular": {"options": "options", "letters": "AB"}},
            "circular.letters",
            "the row has 3 options, but letters has only 2",
        ),
        (LETTERS | {"prompt": "{{ q }}"}, "circular", "rotating the options changes nothing that is asked"),
    ],
)
def test_options_that_do_not_fit_are_told_before_anything_is_asked(
    settings: dict[str, Any], key: str, what: str
) -> None:
    (problem,) = problems(sample, dataset_settings(**settings))
    assert (problem.where, problem.key) == ("d.yaml", key)
    assert what in problem.what
    assert problem.fix


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"choices": ["A", "B"]}, "circular.options", "the row has 3 options, but 2 choices"),
        ({"choices": ["Rome", "Paris", "Bonn"]}, "circular.options", "the choices are the options, but do not follow"),
        ({"choices": "options", "prompt": "{{ q }}"}, "circular", "rotating the options changes nothing"),
    ],
)
def test_choices_that_do_not_go_with_the_options_are_told(changes: dict[str, Any], key: str, what: str) -> None:
    (problem,) = problems(sample, choice_settings(**CHOICE | changes))
    assert problem.key == key
    assert what in problem.what


def test_settings_that_do_not_fit_are_told_together() -> None:
    found: list[Any] = []
    values = {"source": {"file": "d.jsonl"}, "kind": "generate", **LETTERS, "chance": 0.25}
    values |= {"generation": {"temperature": 1.0, "samples": 2}, "metrics": ["exact_match", "rouge"]}
    assert validate(DatasetConfig, values, "f.yaml", found) is None
    assert [problem.key for problem in found] == ["generation.samples", "chance", "metrics.1"]
    assert all(problem.fix for problem in found)


@pytest.mark.parametrize(
    ("kind", "circular", "said"),
    [
        ("loglikelihood", "options", "kind loglikelihood has no circular"),
        ("generate", [], "at least 2 items"),
        ("generate", ["a", "a"], "options has 'a' twice"),
        ("generate", {"options": "o", "letters": "AA"}, "letters has 'A' twice"),
        ("choice", {"options": "o", "letters": "1234"}, "circular.letters: has no effect"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: str, circular: Any, said: str) -> None:
    found: list[Any] = []
    metrics = ["exact_match"] if kind == "generate" else ["accuracy"]
    values = {"source": {"file": "d"}, "kind": kind, "prompt": "q", "target": "a", "metrics": metrics}
    values |= {"choices": "c"} if kind == "choice" else {}
    assert validate(DatasetConfig, values | {"circular": circular}, "f.yaml", found) is None
    assert said in "\n".join(map(str, found))


def test_data_sets_without_it_are_what_they_were() -> None:
    assert "circular" not in dataset_settings().model_dump()
