"""The data sets of config/datasets, on made-up rows with the real columns: each asks exactly what is written down.

tests/fixtures/data is laid out like a data_root. tests/fixtures/prompts/NAME.txt is what `prompts` shows of the first
sample; after a deliberate change, write it anew with SHARDMARK_WRITE_PROMPTS=1.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from shardmark.config import Benchmark, DatasetConfig, Named, load
from shardmark.config.merge import Merged
from shardmark.errors import Problem
from shardmark.tasks import Sample, read_rows, render, rows_file
from shardmark.tools.prompts import show_prompts
from shardmark.tools.reading import MARGIN

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
DATA = FIXTURES / "data"
NAMES = sorted(path.stem for path in (ROOT / "config/datasets").rglob("*.yaml") if not path.stem.startswith("_"))


@functools.cache
def repository() -> Benchmark:
    found: list[Problem] = []
    benchmark = load({"models": ["demo_small"], "datasets": ["*"]}, ROOT, "config", found)
    assert found == []
    return benchmark


DATASETS = {dataset.name: dataset for dataset in repository().datasets}
GROUPS = {group.name: group for group in repository().groups}
OWN = [name for name, dataset in DATASETS.items() if not dataset.settings.source.file]
"Those whose rows are not in the repository."


def rendered(dataset: Named[DatasetConfig]) -> list[Sample]:
    settings = dataset.settings
    examples = settings.example_source()
    shots = _rows(examples, dataset.file) if examples else ()
    return list(render(settings, _rows(settings.source, dataset.file), dataset.file, None, shots))


def _rows(source: Any, where: str) -> Any:
    path = rows_file(source, str(DATA), where)
    assert path is not None
    return read_rows(path)


def first(name: str) -> Any:
    return rendered(DATASETS[name])[0]


def test_every_file_is_a_data_set_or_a_group() -> None:
    assert {*DATASETS, *GROUPS} == set(NAMES)
    assert len(OWN) >= 40
    assert all(group.members for group in GROUPS.values())


@pytest.mark.parametrize("name", OWN)
def test_a_data_set_asks_its_five_rows(name: str) -> None:
    samples = rendered(DATASETS[name])
    assert len(samples) == 5
    assert len({sample.request_id for sample in samples}) == 5
    assert DATASETS[name].settings.description


@pytest.mark.parametrize("name", OWN)
def test_the_first_sample_is_what_is_written_down(name: str) -> None:
    run = Merged({"models": ["demo_small"], "datasets": [name], "data_root": str(DATA)}, "test")
    shown = [line.replace(f"{DATA}/", "") for line in show_prompts(run, ROOT, [], 1)]
    lines = [line for line in shown if line.startswith(MARGIN) or not line.startswith(("  ", "as demo_small reads"))]
    text = "\n".join(lines) + "\n"
    file = FIXTURES / "prompts" / f"{name}.txt"
    if os.environ.get("SHARDMARK_WRITE_PROMPTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


# What reference descriptions of OpenCompass's tasks say, word for word


def test_mmlu_ppl() -> None:
    sample = first("mmlu_ppl")
    text = sample.request.pairs[1][1]
    head = "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
    shot = "Which abstract_algebra is 0?\nA. 0\nB. -1\nC. -2\nD. -3\nAnswer: A\n\n"
    assert text.startswith(head + shot)
    assert text.endswith("Answer: A\n\nWhich is 0?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: B")
    assert (text.count("Answer: "), sample.group, sample.request.pairs[1][0]) == (6, "abstract_algebra", "")


def test_mbpp_gen() -> None:
    text = first("mbpp_gen").request.prompt
    asked = "You are an expert Python programmer, and here is your task: Write a function to add {}. "
    asked += "Your code should pass these tests:\n\n assert add(1) == {}\nassert add(0) == {}  \n\n[BEGIN]\n"
    shots = [f"{asked.format(n, n + 1, n)} 'def add(x):\n    return x + {n}' \n[DONE] \n\n \n" for n in (2, 3, 4)]
    assert text == "".join(shots) + asked.format(11, 12, 11)


def test_humaneval_gen() -> None:
    sample = first("humaneval_gen")
    assert sample.request.prompt == (
        "Read the following function signature and docstring, and fully implement the function described. "
        "Your response should only contain the code for this function.\n" + sample.row["prompt"]
    )
    assert sample.target == [sample.row["test"] + "\ncheck(add_0)"]


def test_a_perplexity_prompt_joins_turns_by_a_newline() -> None:
    assert first("hellaswag_ppl").request.pairs[2][1] == "A fox sits by a pond. it\neats nectar."
    assert first("winogrande_ppl").request.pairs[0][1].startswith("Good sentence: The fox chased the hen because the")


def test_bbh_has_three_examples_of_the_same_task() -> None:
    text = first("bbh-navigate").request.prompt
    assert text.count("of navigate?") == 4
    assert text.startswith(
        "Follow the given examples and answer the question.\n\nQ: Made-up question 1 of navigate?\nA: (B)"
    )
    assert len(GROUPS["bbh_gen"].members) == 27


def test_truthfulqa_mc_has_several_right_choices() -> None:
    assert first("truthfulqa_mc").target == [1, 2]


@pytest.mark.parametrize("language", ["en", "de", "zh", "te"])
def test_mgsm_takes_the_last_number_after_the_answer_in_its_language(language: str) -> None:
    from shardmark.filters.chain import apply_filters

    settings = DATASETS[f"mgsm_{language}_gen"].settings
    words = {"en": "Answer: 1,234", "de": "Antwort: 1234.", "zh": "答案：1234", "te": "సమాధానం: 1234"}[language]
    assert apply_filters([f"5 + 7 = 12\n{words}", "99"], settings.filters, {}) == ["1234", None]
