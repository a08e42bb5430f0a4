"""RULER's tasks: each row holds its answers as RULER hides them, and a seed's rows never change."""

import re
from collections import Counter
from typing import Any, get_args

import pytest

from repository_datasets import DATASETS, GROUPS
from shardmark.config.synthetic import Ruler, RulerTask
from shardmark.files import sha256
from shardmark.tasks import render
from shardmark.tasks.ruler import NEEDLES, ruler

TASKS = get_args(RulerTask)
PINNED = "a29d945e2dc34eff0e84b54a1d909b415abdeec352d1e31182505355d84ffbda"
"Other rows would be other data sets: raise FORMAT of tasks/synthetic.py with it."


def rows(task: str, **changes: Any) -> list[dict[str, Any]]:
    return list(ruler(Ruler.model_validate({"name": "ruler", "task": task, "lengths": [1000], "rows": 2} | changes)))


def test_the_rows_of_a_seed_never_change() -> None:
    assert sha256([rows(task) for task in TASKS]) == PINNED


@pytest.mark.parametrize("task", TASKS)
def test_a_row_has_its_length_and_another_length_leaves_the_rest(task: str) -> None:
    found = rows(task, lengths=[1000, 3000])
    assert found[:2] == rows(task)
    assert rows(task, seed=1) != rows(task)
    assert [row["id"] for row in found] == ["1000-0", "1000-1", "3000-0", "3000-1"]
    more = {"vt": 300, "cwe": 500}.get(task, 60)  # a solved example, and the question
    for row in found:
        assert -60 < len(row["input"].split()) - row["length"] < more


@pytest.mark.parametrize(("name", "task"), NEEDLES.items())
def test_the_values_of_the_keys_that_are_asked_for_are_hidden_once(name: str, task: Any) -> None:
    for row in rows(name):
        text, question = row["input"].rsplit("\nWhat ", 1)
        hidden = re.findall(r"^One of the special magic (\w+) for (\S+) is: (\S+)\.$", text, re.MULTILINE)
        assert {kind for kind, _, _ in hidden} == {task.value}
        assert len({value for _, _, value in hidden}) == len(hidden)
        asked = [key for key in {key for _, key, _ in hidden} if key in question]
        assert len(asked) == task.asked
        assert {value for _, key, value in hidden if key in asked} == set(row["outputs"])
        assert len(row["outputs"]) == task.asked * task.values
        several = len(row["outputs"]) > 1
        assert row["input"].startswith("Some special magic" if several else "A special magic")
        assert row["answer_prefix"].endswith("in the provided text are" if several else "in the provided text is")
        assert (len(hidden) > 50) == (task.among == "needles")


def test_one_value_is_asked_for_in_the_singular() -> None:
    (row, _) = rows("niah_multikey_1")
    head, *_, question = row["input"].split("\n")
    assert head == (
        "A special magic number is hidden within the following text. Make sure to memorize it."
        " I will quiz you about the number afterwards."
    )
    assert re.fullmatch(r"What is the special magic number for [\w-]+ mentioned in the provided text\?", question)


def test_a_value_passes_through_the_variables_in_order() -> None:
    for row in rows("vt"):
        example, text = row["input"].split("\n\nMemorize")
        asked = re.search(r"assigned the value (\d+) in the text", text)
        assert asked
        steps = re.findall(r"^VAR (\w+) = (?:VAR )?(\w+) ?$", text, re.MULTILINE)
        assert [name for name, _ in steps] == row["outputs"]
        assert [value for _, value in steps] == [asked.group(1), *row["outputs"][:-1]]
        names = [name for name, _ in re.findall(r"^VAR (\w+) = (?:VAR )?(\w+) ?$", example, re.MULTILINE)]
        assert example.endswith(f"they are:  {' '.join(names)}")
        assert len(set(names)) == 5


def test_the_common_words_come_more_often_than_the_others() -> None:
    for row in rows("cwe", lengths=[1000, 4000]):
        example, text = row["input"].split("\nBelow is")
        counts = Counter(re.findall(r"\d+\. (\S+)", text))
        assert {word for word, count in counts.items() if count == 30} == set(row["outputs"])
        assert {count for word, count in counts.items() if word not in row["outputs"]} == {3}
        listed, answer = example.split("the list are: ")
        counts = Counter(re.findall(r"\d+\. (\S+)", listed))
        assert set(re.findall(r"\d+\. (\S+)", answer)) == {word for word, count in counts.items() if count == 10}


def test_the_three_most_frequent_coded_words_come_after_the_dots() -> None:
    for row in rows("fwe"):
        text = row["input"].split("coded words. ")[1].split("\nQuestion")[0]
        common = Counter(text.split()).most_common(5)
        assert [word for word, _ in common[:4]] == ["...", *row["outputs"]]
        assert len({count for _, count in common}) == 5


def test_the_shipped_files_are_all_the_tasks_and_ask_with_the_answer_begun() -> None:
    shipped = [name for name in DATASETS if name.startswith("ruler_")]
    assert sorted(DATASETS[name].settings.source.synthetic.task for name in shipped) == sorted(TASKS)  # type: ignore[union-attr]
    assert set(GROUPS["ruler_gen"].members) == set(shipped)
    settings = DATASETS["ruler_niah_gen.niah_multivalue"].settings
    (sample, _) = render(settings, rows("niah_multivalue"), "d")
    text = sample.request.prompt  # type: ignore[union-attr]
    assert isinstance(text, str)
    assert text.endswith(f"in the provided text? {sample.row['answer_prefix']}")
    assert sample.target == sample.row["outputs"]
