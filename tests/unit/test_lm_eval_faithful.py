"""Where lm-eval's tasks could have given another number than lm-eval without a word."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects import problems, write_yaml
from shardmark.config import LmEvalConfig, Named
from shardmark.errors import UserError
from shardmark.records.base import convert
from shardmark.records.dataset import LmEvalJudging
from shardmark.records.score import Metric
from shardmark.scoring.lm_eval.groups import group_metrics
from shardmark.scoring.lm_eval.values import choice_values
from shardmark.tasks import Sample
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.data import as_dataset, parts, read_data_map
from shardmark.tasks.lm_eval.files import read_config
from shardmark.tasks.lm_eval.index import Task, find, read_index
from shardmark.tasks.lm_eval.prompts import apply_template
from shardmark.tasks.lm_eval.samples import samples
from shardmark.tasks.lm_eval.select import LmEvalDataset, select
from shardmark.tasks.lm_eval.settings import task_settings
from shardmark.tasks.plain import as_json
from shardmark.tasks.remarks import told

CHOICE: dict[str, Any] = {
    "dataset_path": "some/data",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{q}}\nA:",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": "label",
}
ROWS = [{"q": f"q{n}", "label": n % 2, "parts": list("abcdefgh")} for n in range(6)]


PINNED = (
    '{"tasks": {"a": {"output_type": "multiple_choice", "metric_list": [{"metric": "acc", "aggregation": "mean'
    '", "higher_is_better": true, "k": 2}], "filter_list": null, "process_results": {"!function": "a_code.proc'
    'ess", "in": "."}, "repeats": 1, "unsafe_code": false, "num_fewshot": 0, "version": 1.5}}, "groups": [{"na'
    'me": "g", "tasks": ["a"], "aggregates": [{"weight_by_size": true, "metric": "acc", "filter_list": "none"}'
    "]}]}"
)
"As before there was a record of it."


def chosen(root: Path, pattern: str) -> list[LmEvalDataset]:
    found: list[Any] = []
    made = select(Named(pattern, "c.yaml", LmEvalConfig(lm_eval=pattern)), read_index(root), None, found)
    if found:
        raise UserError(found)
    return made


def rendered(root: Path, pattern: str, rows: Any = ROWS, **splits: Any) -> list[Sample]:
    """The samples of the data sets that a name stands for, all splits from the same rows unless given."""

    def split_of(task: Any) -> Any:
        given = {name: as_dataset(found) for name, found in splits.items()}
        return {str(name): as_dataset(rows) for name in {task.eval_split, task.shot_split}} | given

    code = Code(root, True)
    return [sample for dataset in chosen(root, pattern) for sample in samples(dataset, split_of, code, None)]


def task(root: Path, name: str, code: str = "", **keys: Any) -> None:
    """A task file; a value `!f` stands for the function of that name in the task's own module."""
    config = CHOICE | {"task": name} | keys
    file = write_yaml(root / f"{name}.yaml", config)
    module = f"{name}_code"
    text = file.read_text()
    for word in ("target", "process", "text"):
        text = text.replace(f"'!{word}'", f"!function {module}.{word}")
    file.write_text(text)
    (root / f"{module}.py").write_text(code)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("np.int32(doc['label'])", 1),
        ("np.argmax([0, 5])", 1),
        ("np.round(doc['label'] > 0, 0).astype(np.int32)", 1),
        ("np.bool_(True)", True),
        ("np.float64(1)", 1.0),
        ("np.float32(1)", 1.0),
        ("np.str_('no')", "no"),
        ("np.array(1)", 1),
        ("np.array([1])", 1),
        ("[np.int64(1), np.int64(0)]", [1, 0]),
        ("1.0", 1.0),
    ],
)
def test_a_right_answer_of_numpy_is_the_number_it_is(made: str, expected: Any, tmp_path: Path) -> None:
    task(tmp_path, "t", f"import numpy as np\ndef target(doc):\n    return {made}\n", doc_to_target="!target")
    sample = rendered(tmp_path, "t", ROWS[1:2])[0]
    assert (sample.target, type(sample.target)) == (expected, type(expected))
    several = bool(sample.lm_eval)
    values = choice_values(sample.target, sample.choices or [], [(-3.0, False), (-1.0, True)], several)
    assert (values["acc"], values["exact_match"]) == (1.0, 1)
    assert sample.remarks == ()


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("np.array([0, 1])", "numpy.ndarray of 2 values, which lm-eval cannot compare"),
        ("{0}", "a set, which JSON does not have"),
        ("object()", "doc_to_target: a object"),
        ("1j", "a complex"),
        ("np.datetime64('2020-01-01')", "numpy.datetime64"),
    ],
)
def test_a_right_answer_that_is_no_json_is_refused_by_name(made: str, what: str, tmp_path: Path) -> None:
    task(tmp_path, "t", f"import numpy as np\ndef target(doc):\n    return {made}\n", doc_to_target="!target")
    (problem,) = problems(rendered, tmp_path, "t")
    assert problem.key == "t, document 0"
    assert what in problem.what


def test_numbers_become_no_texts_on_the_way_to_json() -> None:
    found = as_json({"a": np.arange(3), "b": (np.float32(0.1), np.True_), "c": np.array([["x"]]), "d": np.uint8(3)})
    assert found == {"a": [0, 1, 2], "b": [0.1, True], "c": [["x"]], "d": 3}
    with pytest.raises(TypeError, match=r"a\[1\]\.b: a set"):
        as_json({"a": [1, {"b": {2}}]})


def test_a_right_answer_that_is_no_choice_is_counted(tmp_path: Path) -> None:
    task(tmp_path, "t")
    found = rendered(tmp_path, "t", [{"q": "x", "label": label} for label in (0, -1, 2, 1)])
    assert [sample.remarks for sample in found] == [(), ("no_choice",), ("no_choice",), ()]
    assert told({"no_choice": 2}, 4)[0].startswith("2 of 4 samples have a right answer that is not among")


STATEFUL = """
import random
from lot_helper import seen
rng = random.Random(42)
def process(rows):
    def one(doc):
        parts = list(doc["parts"])
        rng.shuffle(parts)
        return {"q": "".join(parts)}
    return rows.map(one)
def text(doc):
    seen.append(doc["q"])
    return f"{len(seen)} {doc['q']}"
"""


def test_what_a_task_asks_depends_on_no_other_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lot_helper.py").write_text("seen = []\n")
    (tmp_path / "lot.py").write_text(STATEFUL)
    for name in ("a", "b"):
        file = write_yaml(tmp_path / f"{name}.yaml", CHOICE | {"task": name, "process_docs": "P", "doc_to_text": "T"})
        text = file.read_text().replace("process_docs: P", "process_docs: !function lot.process")
        file.write_text(text.replace("doc_to_text: T", "doc_to_text: !function lot.text"))
    write_yaml(tmp_path / "g.yaml", {"group": "g", "task": ["a", "b"], "aggregate_metric_list": [{"metric": "acc"}]})
    alone = [sample.request for sample in rendered(tmp_path, "b")]
    assert [sample.request for sample in rendered(tmp_path, "g")] == alone * 2
    assert [sample.request for sample in rendered(tmp_path, "b")] == alone


GLOBAL = "import random\ndef process(rows):\n    return rows.map(lambda doc: {'q': str(random.random())})\n"


def test_lots_are_drawn_once_for_rows_that_are_processed_again_as_datasets_keeps_them(tmp_path: Path) -> None:
    import random

    task(tmp_path, "same", GLOBAL, process_docs="!process")
    task(tmp_path, "other", GLOBAL, process_docs="!process", training_split="train")
    random.seed(0)
    drawn = [f"Q: {random.random()}\nA:" for _ in range(2 * len(ROWS))]

    def asked(name: str, **splits: Any) -> list[Any]:
        return [sample.request.pairs[0][0] for sample in rendered(tmp_path, name, **splits)]

    assert asked("same") == drawn[: len(ROWS)]
    assert asked("other") == drawn[len(ROWS) :]  # the split of the examples is processed first, asked for or not


def test_a_task_that_draws_lots_reads_the_split_of_its_examples(tmp_path: Path) -> None:
    task(tmp_path, "t", GLOBAL, process_docs="!process", training_split="train")
    write_yaml(tmp_path / "map.yaml", {"some/data": "{split}.jsonl"})
    (tmp_path / "test.jsonl").write_text("{}\n")
    settings = task_settings(Task("t", read_config(tmp_path / "t.yaml"), ""))
    (problem,) = problems(parts, settings, read_data_map(tmp_path / "map.yaml", tmp_path), "c.yaml")
    assert "has no train split there, which t needs" in problem.what


def files_of(given: Any, path: str = "json", split: str = "test", **kwargs: Any) -> Any:
    keys = {"dataset_path": path, "test_split": split, "dataset_kwargs": {"data_files": given} | kwargs}
    return task_settings(Task("t", {"task": "t"} | CHOICE | keys, ""))


def test_tasks_that_differ_in_data_files_read_different_files(tmp_path: Path) -> None:
    for name in ("one", "two", "both"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    mapping = {"hf://x/a.jsonl": "one.jsonl", "hf://x/b.jsonl": "two.jsonl", "a.jsonl, b.jsonl": "both.jsonl"}
    write_yaml(tmp_path / "map.yaml", {"json": mapping | {"d/a.jsonl": "two.jsonl"}, "csv": "one.jsonl"})
    data = read_data_map(tmp_path / "map.yaml", tmp_path)

    def read(*given: Any, **keys: Any) -> str:
        (part,) = parts(files_of(*given, **keys), data, "c.yaml")
        assert part.file
        return part.file.stem

    assert read({"test": "hf://x/a.jsonl"}) == "one"
    assert read({"train": "hf://x/a.jsonl", "test": "hf://x/b.jsonl"}) == "two"
    assert read({"test": ["a.jsonl", "b.jsonl"]}) == "both"
    assert read("hf://x/a.jsonl", split="train") == "one"
    assert read(["a.jsonl", "b.jsonl"], split="train") == "both"
    assert read("a.jsonl", split="train", data_dir="d") == "two"
    (absent,) = problems(parts, files_of({"test": "c.jsonl"}), data, "c.yaml")
    assert 'json: {"c.jsonl": FILE}' in absent.fix
    (starred,) = problems(parts, files_of({"test": "c.csv"}, "csv"), data, "c.yaml")
    assert "one file for all (*) is not enough" in starred.fix
    (other,) = problems(parts, files_of("a.jsonl"), data, "c.yaml")
    assert "reads the split test, but its data_files have train" in other.what


def test_an_if_without_else_prints_nothing() -> None:
    assert apply_template("[{{ body if body is defined }}]{{ (1 if q == 'y') }}", {"q": "x"}) == "[]"
    assert apply_template("{{ body if body is defined }}", {"body": "b"}) == "b"
    with pytest.raises(Exception, match="undefined"):
        apply_template("{{ body }}", {})


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"doc_to_choice": [True, False]}, "doc_to_choice"),
        ({"doc_to_choice": {"a": "x", "b": False}}, "doc_to_choice"),
        ({"doc_to_choice": [1, 2]}, "doc_to_choice"),
        ({"doc_to_choice": ["x", None]}, "doc_to_choice"),
        ({"doc_to_choice": [1.5, "x"]}, "doc_to_choice"),
        ({"doc_to_target": True}, "doc_to_target"),
        ({"doc_to_text": False}, "doc_to_text"),
        ({"description": True}, "description"),
        ({"gen_prefix": 5}, "gen_prefix"),
        ({"dataset_name": False}, "dataset_name"),
        ({"fewshot_config": {"doc_to_choice": [True, "x"]}}, "fewshot_config.doc_to_choice"),
        ({"filter_list": [{"name": "n", "filter": [{"function": "map", "mapping_dict": {True: "A"}}]}]},
         "filter_list.0.filter.0.mapping_dict"),
        ({"metric_list": [{"metric": "acc", "regexes_to_ignore": [5]}]}, "metric_list.0.regexes_to_ignore"),
    ],
)  # fmt: skip
def test_text_that_yaml_takes_for_something_else_is_to_be_put_in_quotes(keys: Any, where: str) -> None:
    found = problems(task_settings, Task("t", {"task": "t"} | CHOICE | keys, "t.yaml"))
    assert {problem.key for problem in found} == {where}
    assert all("put it in quotes" in problem.fix for problem in found)


def test_choices_that_a_row_or_function_gives_must_be_text_too(tmp_path: Path) -> None:
    task(tmp_path, "t", doc_to_choice="{{[1, 2]}}")
    (problem,) = problems(rendered, tmp_path, "t")
    assert "choice 0 is 1, a int, but must be text" in problem.what


def test_prompts_that_contain_their_own_answer_are_counted(tmp_path: Path) -> None:
    task(tmp_path, "own", num_fewshot=2)
    found = rendered(tmp_path, "own")
    held = [f"Q: {sample.row['q']}\nA: {sample.choices[sample.target]}\n\n" in context(sample) for sample in found]  # type: ignore[index]
    assert any(held)
    assert [sample.remarks == ("own_answer",) for sample in found] == held
    task(tmp_path, "apart", num_fewshot=2, fewshot_split="test")
    assert all(sample.remarks == () for sample in rendered(tmp_path, "apart"))
    task(tmp_path, "whole", num_fewshot=2, output_type="loglikelihood_rolling", doc_to_choice=None, doc_to_target="q")
    assert all(sample.remarks == () for sample in rendered(tmp_path, "whole"))  # has no examples in its prompts


def test_the_same_question_in_another_row_counts_as_well(tmp_path: Path) -> None:
    task(tmp_path, "t", num_fewshot=1, fewshot_split="train", fewshot_config={"sampler": "first_n"})
    twins = [{"q": "q0", "label": 0, "id": 9}]
    assert [sample.remarks for sample in rendered(tmp_path, "t", ROWS[:2], train=twins)] == [("own_answer",), ()]
    others = [{"q": "q0", "label": 1, "id": 9}]
    assert [sample.remarks for sample in rendered(tmp_path, "t", ROWS[:2], train=others)] == [(), ()]


def context(sample: Sample) -> str:
    return str(sample.request.pairs[0][0])


def test_a_group_of_several_kinds_is_one_data_set_with_lm_evals_aggregate(tmp_path: Path) -> None:
    task(tmp_path, "chosen")
    task(tmp_path, "written", output_type="generate_until", doc_to_choice=None, doc_to_target="q")
    members = {"group": "g", "task": ["chosen", "written"], "aggregate_metric_list": [{"metric": "acc"}]}
    write_yaml(tmp_path / "g.yaml", members)
    (dataset,) = chosen(tmp_path, "g")
    assert (dataset.name, dataset.kind) == ("lm_eval.g", "mixed")
    kinds = {sample.group: sample.request.kind for sample in rendered(tmp_path, "g")}
    assert kinds == {"chosen": "choice", "written": "generate"}
    metric = Metric(value=0.5, stderr=0.1, ci95=None, n=4, higher_is_better=True, percent=True)
    judging = convert(dataset.described()["lm_eval"], LmEvalJudging)
    found = group_metrics(judging.groups, {"chosen": {"acc": metric}, "written": {"exact_match": metric}})
    assert list(found) == ["acc", "acc (chosen)", "exact_match (written)"]
    assert (found["acc"].value, found["acc"].n) == (0.5, 4)


def test_what_scoring_is_told_keeps_the_bytes_that_name_scores(tmp_path: Path) -> None:
    own = {"metric": "acc", "aggregation": "mean", "higher_is_better": True, "k": 2}
    code = "def process(*_): ..."
    task(tmp_path, "a", code, metric_list=[own], process_results="!process", metadata={"version": 1.5})
    entries = [{"weight_by_size": True, "metric": "acc", "filter_list": "none"}]
    write_yaml(tmp_path / "g.yaml", {"group": "g", "task": ["a"], "aggregate_metric_list": entries})
    (dataset,) = chosen(tmp_path, "g")
    assert json.dumps(dataset.described()["lm_eval"]) == PINNED


def test_a_task_that_a_group_names_twice_counts_once_and_other_tasks_of_its_name_are_refused(tmp_path: Path) -> None:
    task(tmp_path, "a")
    task(tmp_path, "b")
    aggregates = [{"metric": "acc", "weight_by_size": False}]
    write_yaml(tmp_path / "g.yaml", {"group": "g", "task": ["a", "b", "b"], "aggregate_metric_list": aggregates})
    write_yaml(tmp_path / "outer.yaml", {"group": "outer", "task": [{"task": "g", "num_fewshot": 5}]})
    (dataset,) = chosen(tmp_path, "g")
    assert dataset.described()["lm_eval"]["groups"][0]["tasks"] == ["a", "b"]
    (problem,) = problems(find, read_index(tmp_path), "outer", "c.yaml")
    assert "several tasks named g, of which lm-eval scores only one" in problem.what


@pytest.mark.parametrize(
    ("entry", "key"),
    [({"metric": "acc", "aggregation": "median"}, "aggregation"), ({"metric": "acc", "weight_by_sizes": 1}, "")],
)
def test_what_lm_eval_refuses_of_a_groups_aggregates_is_refused(entry: Any, key: str, tmp_path: Path) -> None:
    task(tmp_path, "a")
    write_yaml(tmp_path / "g.yaml", {"group": "g", "task": ["a"], "aggregate_metric_list": [entry]})
    (problem,) = problems(find, read_index(tmp_path), "g", "c.yaml")
    assert problem.key.startswith("aggregate_metric_list.0")
    assert key in problem.key
