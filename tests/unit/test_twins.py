"""A question is never its own example: not under another id or with other white space, however examples are picked."""

from typing import Any

import pytest

from projects import choice_settings, dataset_settings, problems
from shardmark.tasks import Sample, render

TWINS = [
    {"id": "a", "question": "Twin ocean?", "answer": "leak"},
    {"id": "b", "question": "Twin ocean?", "answer": "leak"},
    {"id": "c", "question": "  Twin \n ocean? ", "answer": "leak"},
    {"id": "d", "question": "Twin\u200b ocean?", "answer": "another answer to it"},
    {"id": "e", "question": "River twin?", "answer": "fine"},
    {"id": "f", "question": "Ocean river?", "answer": "good"},
    {"id": "g", "question": "twin ocean?", "answer": "whoever spells differently asks something else"},
]
PICKS: list[dict[str, Any]] = [
    {"count": 2},
    {"pick": "first", "count": 2},
    {"pick": "random", "count": 2},
    {"pick": "bm25", "count": 2},
    {"pick": "bm25", "count": 2, "query": "{{ id }}"},
    {"pick": "ids", "ids": ["a", "b", "c", "d", "e"]},
    {"pick": "random", "count": 3, "seed": 5},
]


def samples(given: Any, rows: Any = TWINS, examples: Any = ()) -> list[Sample]:
    return list(render(given, rows, "d.yaml", None, examples))


def shown(sample: Sample) -> str:
    """The examples of a sample."""
    request: Any = sample.request
    if request.kind == "generate" and request.messages:
        return "\n".join(message.content for message in request.messages[:-1])
    text = request.prompt if request.kind == "generate" else "".join(request.pairs[0])
    return str(text).rpartition("Q:")[0]


@pytest.mark.parametrize("few_shot", PICKS, ids=str)
def test_a_question_under_another_id_is_no_example(few_shot: dict[str, Any]) -> None:
    given = dataset_settings(prompt="Q: {{ question }}\nA:", id_column="id", few_shot=few_shot)
    for sample in samples(given)[:4]:
        assert "leak" not in shown(sample)
        assert "another answer" not in shown(sample)
    assert "leak" in "".join(shown(sample) for sample in samples(given)[4:])


@pytest.mark.parametrize("few_shot", PICKS[:5], ids=str)
def test_nor_is_one_of_another_split(few_shot: dict[str, Any]) -> None:
    source = {"file": "others.jsonl"}
    given = dataset_settings(prompt="Q: {{ question }}\nA:", id_column="id", few_shot=few_shot | {"source": source})
    (sample,) = samples(given, [{"id": "t", "question": "Twin  ocean?", "answer": "leak"}], TWINS)
    assert "leak" not in shown(sample)
    assert shown(sample).count("A:") == 2


@pytest.mark.parametrize("pick", [{}, {"pick": "first", "count": 2}])
def test_nor_is_one_of_a_fixed_list(pick: dict[str, Any]) -> None:
    few_shot = {"examples": [{k: row[k] for k in ("question", "answer")} for row in TWINS[3:]], **pick}
    given = dataset_settings(prompt="Q: {{ question }}\nA:", few_shot=few_shot)
    found = samples(given, [TWINS[0], {"question": "New?", "answer": "x"}])
    assert "another answer" not in shown(found[0])
    assert "fine" in shown(found[0])
    assert "another answer" in shown(found[1])


def test_nor_is_one_of_a_chat() -> None:
    messages = [{"role": "system", "content": "Hi"}, {"role": "user", "content": "{{ question }}"}]
    given = dataset_settings(prompt=None, messages=messages, id_column="id", few_shot={"count": 2})
    assert "leak" not in shown(samples(given)[0])


CHOICES = [
    {"n": 0, "question": "Capital?", "options": ["Paris", "Nice"], "label": 0},
    {"n": 1, "question": "Capital?", "options": ["Nice", "Paris"], "label": 1},
    {"n": 2, "question": "Capital? ", "options": ["Rome", "Paris"], "label": 1},
    {"n": 3, "question": "Capital?", "options": ["Oslo", "Bergen"], "label": 0},
    {"n": 4, "question": "River?", "options": ["Rhine", "Alps"], "label": 0},
]


@pytest.mark.parametrize("scoring", ["sum", "perplexity"])
def test_choices_tell_questions_with_one_prompt_apart(scoring: str) -> None:
    prompt = "Q: {{ question }} {{ choice }}" if scoring == "perplexity" else "Q: {{ question }}"
    few_shot = {"count": 2, "separator": " | "}
    given = choice_settings(prompt=prompt, choices="options", target="label", scoring=scoring, few_shot=few_shot)
    found = samples(given, CHOICES)
    assert shown(found[0]) == "Q: Capital? Oslo | Q: River? Rhine | "  # not 1, which is it, nor 2, which gives it away
    assert shown(found[3]) == "Q: Capital? Paris | Q: Capital? Paris | "


def test_a_prompt_without_columns_says_nothing_about_the_question() -> None:
    rows = [{"text": f"{n} is a number", "label": 0} for n in range(4)]
    given = choice_settings(
        prompt="{{ choice }}", choices=["Q: {{ text }}", "Q: no"], target="label", scoring="perplexity",
        few_shot={"count": 2, "separator": "\n"},
    )  # fmt: skip
    assert shown(samples(given, [*rows, rows[0] | {"id": 9}])[0]) == "Q: 1 is a number\nQ: 2 is a number\n"


def test_the_same_prompt_in_another_place_is_the_same_question_for_a_loglikelihood() -> None:
    rows = [{"text": "Q: a b", "last": w} for w in ("c", "leak")] + [{"text": "Q: x y", "last": "z"}]
    given = dataset_settings(
        kind="loglikelihood", prompt="{{ text }}", target="last", metrics=["accuracy"], few_shot={"count": 1}
    )
    assert "leak" not in shown(samples(given, rows)[0])


def test_too_few_other_questions_are_an_error() -> None:
    given = dataset_settings(prompt="Q: {{ question }}", few_shot={"count": 1})
    (problem, *_) = problems(samples, given, TWINS[:3])
    assert (problem.key, "1 examples are needed, but there are 0" in problem.what) == ("few_shot.count", True)


def test_what_others_are_asked_stays_as_it_was() -> None:
    rows = [{"id": n, "question": f"{n}?", "answer": str(n)} for n in range(30)]
    given = dataset_settings(prompt="Q: {{ question }}\nA:", few_shot={"pick": "random", "count": 3})
    before = samples(given, rows)
    after = samples(given, [*rows, {"id": 30, "question": "0?", "answer": "0"}])
    changed = [b.id for b, a in zip(before, after, strict=False) if b.request_id != a.request_id]
    assert len(changed) < 10  # those that draw the new row
    assert before[5].request_id == samples(given, rows)[5].request_id
