"""Worked examples: which stand before a question depends on it and on what may be one, and on nothing else."""

import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from projects import choice_settings, dataset_settings, problems
from shardmark.config import DatasetConfig
from shardmark.tasks import Sample, render

ROWS = [{"question": f"{n}?", "answer": str(n), "subject": "even" if n % 2 == 0 else "odd"} for n in range(40)]
OTHERS = [{"question": f"other {n}?", "answer": f"o{n}", "subject": "odd"} for n in range(6)]
SHOT = "Q: {}?\nA: {}\n\n"


def settings(prompt: str = "Q: {{ question }}\nA:", **few_shot: Any) -> DatasetConfig:
    return dataset_settings(prompt=prompt, few_shot=few_shot)


def samples(given: DatasetConfig, rows: list[Any] = ROWS, *arguments: Any, **keywords: Any) -> list[Sample]:
    return list(render(given, rows, "d.yaml", *arguments, **keywords))


def shots(sample: Sample) -> list[str]:
    """The questions of a sample's examples."""
    request: Any = sample.request
    return [part.split("?")[0].strip() for part in request.prompt.split("Q: ")[1:-1]]


def test_the_first_rows_are_examples_but_never_the_row_itself() -> None:
    found = samples(settings(count=2))
    assert [shots(sample) for sample in found[:4]] == [["1", "2"], ["0", "2"], ["0", "1"], ["0", "1"]]
    assert found[3].request.prompt.startswith(SHOT.format(0, 0) + SHOT.format(1, 1))


def test_nor_is_a_row_that_is_equal() -> None:
    assert shots(samples(settings(count=2), [ROWS[0], ROWS[0], ROWS[1], ROWS[2]])[0]) == ["1", "2"]


def test_examples_come_from_another_source() -> None:
    given = settings(count=2, source={"file": "others.jsonl"})
    assert shots(samples(given, example_rows=OTHERS)[5]) == ["other 0", "other 1"]


def test_what_a_source_leaves_out_is_as_in_that_of_the_data_set() -> None:
    source = {"hub": "org/name", "config": "main", "split": "test", "local": "name/test.jsonl"}
    few_shot = {"count": 1, "source": {"split": "train", "local": "name/train.jsonl"}}
    found = dataset_settings(source=source, few_shot=few_shot).example_source()
    assert found is not None
    assert found.model_dump(exclude_defaults=True) == {
        "hub": "org/name", "config": "main", "split": "train", "local": "name/train.jsonl",
    }  # fmt: skip


def test_ids_are_numbers_or_those_of_the_id_column() -> None:
    assert shots(samples(settings(pick="ids", ids=[3, 0]))[9]) == ["3", "0"]
    assert shots(samples(settings(pick="ids", ids=[3, 0]))[3]) == ["0"]
    named = dataset_settings(id_column="question", few_shot={"pick": "ids", "ids": ["7?", "5?"]})
    assert shots(samples(named)[0]) == ["7", "5"]


def test_examples_may_share_a_column_with_the_question() -> None:
    assert shots(samples(settings(count=2, same="subject"))[20]) == ["0", "2"]
    assert shots(samples(settings(count=2, same="subject"))[21]) == ["1", "3"]
    assert shots(samples(settings(pick="ids", ids=[2, 0], same="subject"))[21]) == ["5", "1"]


@pytest.mark.parametrize("own", ["question in ['8?', '9?', '10?']", None])
def test_rows_may_be_left_out_as_examples(own: str | None) -> None:
    given = dataset_settings(where="(answer | int) > 7", few_shot={"count": 2, "where": own})
    assert shots(samples(given)[9]) == ["8", "9"]


def test_random_examples_are_drawn_for_each_row_by_itself() -> None:
    given = settings(pick="random", count=3)
    found = samples(given)
    assert all(len(set(shots(sample))) == 3 and sample.row["answer"] not in shots(sample) for sample in found)
    assert len({tuple(shots(sample)) for sample in found}) > 35
    assert samples(given, ROWS, 5) == found[:5], "a limit changes none"
    assert samples(settings(pick="random", count=3, seed=1)) != found
    mixed = random.Random(1).sample(ROWS, len(ROWS))
    assert {s.request_id for s in samples(given, mixed)} == {s.request_id for s in found}, "nor does the order"


def test_random_examples_are_spread_evenly() -> None:
    pool = [{"question": f"p{n}?", "answer": "x"} for n in range(10)]
    rows = [{"question": f"{n}?", "answer": "x"} for n in range(2000)]
    given = settings(pick="random", count=2, source={"file": "pool.jsonl"})
    counts = Counter(shot for sample in samples(given, rows, example_rows=pool) for shot in shots(sample))
    assert set(counts) == {f"p{n}" for n in range(10)}
    assert all(320 < count < 480 for count in counts.values())  # 400 expected, sd 18


def test_an_edited_row_changes_only_its_own_prompt_and_those_it_is_an_example_for() -> None:
    given = settings(pick="random", count=2)
    before = samples(given)
    after = samples(given, [*ROWS[:7], ROWS[7] | {"answer": "seven"}, *ROWS[8:]])
    changed = [one.id for one, two in zip(before, after, strict=True) if one.request_id != two.request_id]
    touched = {one.id for one in [*before, *after] if "7" in shots(one)} | {"7"}
    assert set(changed) <= touched
    assert 1 < len(touched) < 20


def test_an_inserted_row_changes_few_prompts() -> None:
    given = settings(pick="random", count=2)
    before = {sample.request_id for sample in samples(given)}
    new = {"question": "new?", "answer": "new", "subject": "odd"}
    after = samples(given, [new, *ROWS])
    lost = before - {sample.request_id for sample in after}
    assert len(lost) == sum("new" in shots(sample) for sample in after) < 10


def test_bm25_finds_the_rows_that_share_rare_words() -> None:
    rows = [{"question": q, "answer": "x"} for q in ("the red fox", "the blue whale", "a red whale", "the old oak")]
    found = samples(settings(pick="bm25", count=2, query="{{ question }}"), rows)
    asked = [{"question": "was the whale blue"}, {"question": "RED!"}]
    given = settings(pick="bm25", count=1, query="{{ question }}", source={"file": "x"})
    (blue, red) = samples(given, [row | {"answer": "x"} for row in asked], example_rows=rows)
    assert "the blue whale" in blue.request.prompt
    assert "the red fox" in red.request.prompt
    assert len({sample.request_id for sample in found}) == 4


class ByLength:
    """Stands for a sentence-transformers model: a text's embedding tells how many letters it has."""

    def __init__(self, folder: str, **options: Any) -> None:
        assert options == {"device": "cpu", "local_files_only": True}

    def encode(self, texts: list[str], **options: Any) -> Any:
        import numpy as np

        angles = np.array([len(text) / 100 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def embedding_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = ByLength  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


def test_the_nearest_embeddings_are_examples_the_nearest_first(embedding_model: str) -> None:
    rows = [{"question": "x" * n, "answer": "x"} for n in (1, 30, 4, 20, 5)]
    found = samples(
        settings("Q: {{ question }}?\nA:", pick="embedding", count=2, embedding_model=embedding_model), rows
    )
    assert [[len(text) for text in shots(sample)] for sample in found] == [
        [4, 5], [20, 5], [5, 1], [30, 5], [4, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(("pick", "package"), [("bm25", "bm25s"), ("embedding", "sentence-transformers")])
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, embedding_model: str, pick: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    extra = {"embedding_model": embedding_model} if pick == "embedding" else {}
    (problem,) = problems(samples, settings(pick=pick, count=1, **extra))
    assert (problem.key, problem.what) == ("few_shot.pick", f"the package {package} is not installed")
    assert problem.fix.startswith(f"pip install {package}")


def test_an_embedding_model_that_is_not_there_is_named() -> None:
    (problem,) = problems(samples, settings(pick="embedding", count=1, embedding_model="nowhere"))
    assert (problem.key, problem.what) == ("few_shot.embedding_model", "no model in nowhere")


@pytest.mark.parametrize(
    ("few_shot", "key", "said"),
    [
        ({"count": 40}, "few_shot.count", "row 0, 1, 2 and 37 more: 40 examples are needed, but there are 39"),
        ({"count": 1, "same": "subjct"}, "few_shot.same", "row 0, 1, 2 and 37 more: no column 'subjct'"),
        ({"pick": "ids", "ids": [99]}, "few_shot.ids", "row 0, 1, 2 and 37 more: there is no example '99'"),
        ({"count": 1, "answer": "{{ anwser }}"}, "few_shot", "row 0 of the examples: few_shot.answer: no column"),
        ({"count": 1, "where": "nothing"}, "few_shot", "row 0 of the examples: few_shot.where: no column 'nothing'"),
        ({"pick": "bm25", "count": 1, "query": "{{ x }}"}, "few_shot", "row 0 of the examples: few_shot.query: no"),
    ],
)
def test_what_is_wrong_with_examples_is_told(few_shot: dict[str, Any], key: str, said: str) -> None:
    (problem,) = problems(samples, settings(**few_shot))
    assert problem.key == key
    assert problem.what.startswith(said)


def test_examples_of_choices_show_the_right_one() -> None:
    rows = [{"q": f"{n}?", "options": ["yes", "no"], "label": n % 2} for n in range(3)]
    (sample, *_) = samples(choice_settings(few_shot={"count": 2}), rows)
    assert sample.request.pairs[0] == ("1? no\n\n2? yes\n\n0?", " yes")
    whole = choice_settings(prompt="{{ q }} {{ choice }}.", scoring="perplexity", few_shot={"count": 1})
    assert samples(whole, rows)[0].request.pairs[1] == ("", "1? no.\n\n0? no.")


def test_prompts_with_the_same_examples_say_how_long_these_are() -> None:
    head = len("Q: a?\nA: 0\n\n" + "Q: ")
    examples = [{"question": "a?", "answer": "0"}]
    assert {sample.head for sample in samples(settings(examples=examples))} == {head}
    assert {sample.head for sample in samples(settings(pick="random", count=1))} == {0}


def test_a_preamble_stands_once_before_the_examples() -> None:
    given = dataset_settings(preamble="About {{ subject }}.\n", few_shot={"count": 1, "source": {"file": "x"}})
    sample = samples(given, ROWS[:1], example_rows=OTHERS)[0]
    assert sample.request.prompt == "About even.\nQ: other 0?\nA: o0\n\nQ: 0?\nA:"
    assert sample.head == len("About ")
