"""lm-eval's own tasks: our requests and scores are lm-eval's, on the same rows and responses.

docs/lm_eval_tasks.md has the tables of all tasks, made by benchmarks/lm_eval_tasks.py.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from lm_eval_compare import compare, compare_scores, local_tasks
from requirements_check import need
from shardmark.tasks.lm_eval.data import DataMap
from shardmark.tasks.lm_eval.index import Index, Task, read_index, tasks_folder
from shardmark.tasks.lm_eval.style import Style

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

CHATS = [
    *("arc_easy", "winogrande", "copa", "mmlu_anatomy", "gsm8k_cot", "mbpp", "humaneval_instruct", "lambada_openai"),
    *("hellaswag", "piqa", "boolq", "openbookqa", "sglue_rte", "cb", "wic", "truthfulqa_mc1", "gsm8k", "nq_open"),
    *("mgsm_direct_en", "bbh_cot_fewshot_snarks", "ifeval", "arc_challenge_chat"),
]
"Choices, contexts that vary, descriptions, examples of different kinds, answers that are begun."

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
    "cb",
    "humaneval",
    "mbpp",
    "truthfulqa_mc2",
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
        ("bbh_cot_fewshot_snarks", 5): "refused by both: ValueError: 5 examples are needed, but there are 3",
        ("leaderboard_bbh_snarks", 5): "refused by both: ValueError: 5 examples are needed, but there are 3",
        ("mbpp", 5): "refused by both: ValueError: 5 examples are needed, but there are 3",
    }


@pytest.mark.parametrize("multiturn", [True, False])
def test_chats_are_those_of_lm_eval(found: Any, multiturn: bool, tmp_path: Path) -> None:
    index, tasks, data = found
    chosen = [tasks[name] for name in CHATS]
    verdicts = compare(chosen, index, data, 12, tmp_path, Style(True, multiturn, "Be brief."), counts=(0, 3))
    assert {key: verdict for key, verdict in verdicts.items() if verdict != "identical"} == {}
    assert len(verdicts) >= 40


def test_another_seed_and_other_settings_of_generation_are_as_in_lm_eval(found: Any, tmp_path: Path) -> None:
    index, tasks, data = found
    chosen = [tasks[name] for name in ("arc_easy", "gsm8k", "nq_open", "mgsm_direct_en")]
    generation = {"max_gen_toks": 33, "temperature": 0.7, "do_sample": True, "until": ["x"]}
    style = Style(True, fewshot_seed=7)
    verdicts = compare(chosen, index, data, 12, tmp_path, style, counts=(3,), generation=generation)
    assert set(verdicts.values()) == {"identical"}


def test_chosen_documents_and_their_examples_are_those_of_lm_evals_samples(found: Any, tmp_path: Path) -> None:
    index, tasks, data = found
    chosen = [tasks[name] for name in ("arc_easy", "mmlu_anatomy", "copa")]
    verdicts = compare(chosen, index, data, None, tmp_path, counts=(0, 3), chosen=(0, 3, 41))
    assert len(verdicts) == 6
    assert set(verdicts.values()) == {"identical"}


def test_scores_and_standard_errors_are_those_of_lm_eval(found: Any, tmp_path: Path) -> None:
    need("bwrap")
    index, tasks, data = found
    chosen = [tasks[name] for name in SCORES]
    verdicts = compare_scores(chosen, index, data, 100, tmp_path)
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "identical"} == {}
