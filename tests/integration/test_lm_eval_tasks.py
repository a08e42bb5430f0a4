"""lm-eval's own tasks: our requests and scores are lm-eval's, on the same rows and responses.

docs/lm_eval_tasks.md has the tables of all tasks, made by benchmarks/lm_eval_tasks.py.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from lm_eval_compare import answered, compare, local_tasks, oracle, rows_of
from shardmark.tasks.lm_eval.data import DataMap
from shardmark.tasks.lm_eval.index import Index, Task, read_index, tasks_folder

pytestmark = [pytest.mark.lmeval, pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(3600)]

REQUESTS = [
    "arc_easy",
    "hellaswag",
    "piqa",
    "winogrande",
    "boolq",
    "openbookqa",
    "sciq",
    "social_iqa",
    "copa",
    "sglue_rte",
    "cb",
    "wic",
    "wsc",
    "wsc273",
    "mmlu_anatomy",
    "mmlu_law_generative",
    "truthfulqa_mc1",
    "gsm8k",
    "gsm8k_cot",
    "mgsm_direct_en",
    "bbh_cot_fewshot_snarks",
    "lambada_openai",
    "nq_open",
    "humaneval",
    "mbpp",
    "ifeval",
    "leaderboard_bbh_snarks",
]
"One or two of each kind; the table has them all."

SCORES = [
    "arc_easy",
    "hellaswag",
    "winogrande",
    "boolq",
    "openbookqa",
    "copa",
    "truthfulqa_mc1",
    "mmlu_anatomy",
    "gsm8k",
    "gsm8k_cot",
    "bbh_cot_fewshot_snarks",
    "lambada_openai",
    "nq_open",
    "mgsm_direct_en",
    "arc_challenge_chat",
]


@pytest.fixture(scope="module")
def found() -> tuple[Index, dict[str, Task], DataMap]:
    index = read_index(tasks_folder(Path(os.environ["SHARDMARK_LM_EVAL"]), "SHARDMARK_LM_EVAL"))
    tasks, data = local_tasks(index, Path(os.environ["SHARDMARK_DATA_ROOT"]))
    return index, {task.name: task for task in tasks}, data


def test_requests_are_those_of_lm_eval(found: Any, tmp_path: Path) -> None:
    index, tasks, data = found
    chosen = [tasks[name] for name in REQUESTS if name in tasks]
    assert len(chosen) > 20
    verdicts = compare(chosen, index, data, 50, tmp_path)
    assert {key: verdict for key, verdict in verdicts.items() if verdict != "identical"} == {
        ("bbh_cot_fewshot_snarks", 5): "refused by both: ValueError: 5 examples are wanted, and there are 3",
        ("leaderboard_bbh_snarks", 5): "refused by both: ValueError: 5 examples are wanted, and there are 3",
        ("mbpp", 5): "refused by both: ValueError: 5 examples are wanted, and there are 3",
    }


def test_scores_and_standard_errors_are_those_of_lm_eval(found: Any, tmp_path: Path) -> None:
    index, tasks, data = found
    chosen = [tasks[name] for name in SCORES]
    rows, _ = rows_of(chosen, data)
    outputs, ours = {}, {}
    for task in chosen:
        outputs[f"{task.name}@None"], ours[task.name] = answered(task, index, rows, 100)
    theirs = oracle({task.name: [None] for task in chosen}, rows, 100, tmp_path, outputs)
    for task in chosen:
        scores = {name.removesuffix(",none"): pair for name, pair in theirs[task.name, None]["scores"].items()}
        assert ours[task.name].keys() == scores.keys()
        for name, (value, stderr) in scores.items():
            assert ours[task.name][name]["value"] == pytest.approx(value, rel=1e-12), (task.name, name)
            if name != "perplexity":  # lm-eval draws samples again; ours follows from the mean's
                assert ours[task.name][name]["stderr"] == pytest.approx(stderr, rel=1e-12), (task.name, name)
