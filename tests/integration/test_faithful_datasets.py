"""Data sets whose file says `same_as` ask word for word what lm-eval's task or OpenCompass's configuration asks.

All of the same made-up rows, tests/fixtures/data; of files with parts the first and the last are asked.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_compare import ORACLE
from repository_datasets import DATASETS, SHOWN, rendered, rows_of
from shardmark.config.dataset import DatasetConfig
from shardmark.records.request import ChoiceRequest, GenerateRequest
from shardmark.tasks import Sample

Row = dict[str, Any]


def of(peer: str) -> dict[str, str]:
    """By data set, what it is the same as, of one of the two."""
    same = {name: DATASETS[name].settings.same_as or "" for name in SHOWN}
    return {name: told.removeprefix(f"{peer}:") for name, told in same.items() if told.startswith(f"{peer}:")}


def texts(sample: Sample) -> list[Any]:
    """What a sample asks: one prompt, or pairs of context and continuation."""
    if isinstance(sample.request, GenerateRequest):
        return [sample.request.prompt]
    assert isinstance(sample.request, ChoiceRequest)
    return [list(pair) for pair in sample.request.pairs]


@pytest.fixture(scope="module")
def lm_eval(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What lm-eval asks in each of the tasks, or an error."""
    here = tmp_path_factory.mktemp("oracle")
    rows, tasks = [], {}
    for name, task in of("lm_eval").items():
        settings = DATASETS[name].settings
        splits = dict.fromkeys(("train", "validation", "test", "dev", "eval"), settings.source)
        if own := settings.example_source():
            splits[own.split] = own
        for split, source in splits.items():
            file = here / f"{name}-{split}.json"
            file.write_text(json.dumps(list(rows_of(source, ""))), "utf-8")
            rows += [
                {"hub": settings.source.hub, "config": config, "split": split, "rows": str(file)}
                for config in {settings.source.config, None if settings.source.config == "default" else "default"}
            ]
        tasks[task] = [None if settings.few_shot else 0]
    style = {
        "apply_chat_template": False,
        "fewshot_as_multiturn": False,
        "system_instruction": "",
        "fewshot_seed": 1234,
    }
    job = {"rows": rows, "tasks": tasks, "limit": 5, "style": style, "draws": 0}
    (here / "job.json").write_text(json.dumps(job), "utf-8")
    command = [os.environ["SHARDMARK_LM_EVAL"], str(ORACLE), str(here / "job.json"), str(here / "out.jsonl")]
    subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(here / "hf")})
    found = map(json.loads, (here / "out.jsonl").read_text("utf-8").splitlines())
    return {line["task"]: line for line in found}


@pytest.mark.lmeval
@pytest.mark.slow
@pytest.mark.parametrize("name", of("lm_eval"))
def test_a_data_set_asks_what_lm_eval_asks(name: str, lm_eval: dict[str, Any]) -> None:
    there = lm_eval[of("lm_eval")[name]]
    if "required" in there.get("error", ""):
        pytest.skip(f"lm-eval has not what this task needs: {there['error']}")
    assert "error" not in there, there["error"]
    samples = rendered(DATASETS[name])
    theirs = [there["arguments"][n] for n in range(5)]
    if DATASETS[name].settings.where:
        kept = {json.dumps(sample.row, sort_keys=True) for sample in samples}
        rows = [json.dumps(row, sort_keys=True) for row in rows_of(DATASETS[name].settings.source, "")]
        theirs = [asked for asked, row in zip(theirs, rows, strict=True) if row in kept]
    if isinstance(samples[0].request, GenerateRequest):  # what else lm-eval adds to a prompt are choices or settings
        theirs = [[asked[0][0]] for asked in theirs]
    assert [texts(sample) for sample in samples] == theirs


def _math_pro(row: Row) -> Row:
    options = [option for option in enumerate(row["options"]) if option[1] != "N/A"]
    shown = "".join(f"{'ABCDEFGHIJKLMNOP'[n]}. {option}\n" for n, option in options)
    return row | {"options_str": shown.strip()}


def _gpqa(row: Row, number: int) -> Row:
    given = [row["Correct Answer"], *(row[f"Incorrect Answer {n}"] for n in (1, 2, 3))]
    order = ["ABCD", "BCDA", "CDAB", "DABC"][(number + 1) % 4]  # OpenCompass counts from 1
    return {"question": row["Question"]} | {"ABCD"[n]: given["ABCD".index(letter)] for n, letter in enumerate(order)}


def _lcb_format(starter: str) -> str:
    if starter:
        said = (
            "You will use the following starter code to write the solution to the problem and enclose your code within "
        )
        return f"### Format: {said}delimiters.\n```python\n{starter}\n```\n\n"
    said = "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the "
    said += "sample inputs). Enclose your code within delimiters as follows."
    return f"### Format: {said}\n```python\n# YOUR CODE HERE\n```\n\n"


def _options(row: Row, letters: str = "ABCDE") -> Row:
    """The options of a row by their letters, whatever column holds them."""
    given = row.get("endings") or row.get("options") or row.get("choices")
    return dict(zip(letters, given["text"] if isinstance(given, dict) else given or (), strict=False))


def _arc(row: Row, number: int) -> Row:
    return row | {f"text{letter}": option for letter, option in _options(row).items()}


def _sentences(row: Row, number: int) -> Row:
    return row | {f"opt{n}": row["sentence"].replace("_", row[f"option{n}"]) for n in (1, 2)}


def _supergpqa(row: Row) -> str:
    """The template that OpenCompass has beside its configuration, filled in as it does."""
    folder = Path(os.environ["SHARDMARK_OPENCOMPASS"]) / "opencompass/datasets/supergpqa/supergpqa_dataset_config"
    template = yaml.safe_load((folder / "prompt/zero-shot.yaml").read_text("utf-8"))["prompt_format"][0]
    options = "\n".join(f"{chr(65 + n)}) {option}" for n, option in enumerate(row["options"]))
    return str(template.format(f"{row['question']}\n{options}"))


def _musr(row: Row, part: str) -> Row:
    """The prompt that OpenCompass's loader puts together, with the hint in its source."""
    source = Path(os.environ["SHARDMARK_OPENCOMPASS"]) / "opencompass/datasets/musr/musr.py"
    settings = source.read_text("utf-8").partition("DATASET_CONFIGS = ")[2].partition("\n}\n")[0] + "\n}"
    told = ast.literal_eval(re.sub(r"\w+_solved_ex", "None", settings))[part]
    choices = "\n".join(f"{n} - {choice}" for n, choice in enumerate(ast.literal_eval(row["choices"]), 1))
    before, after = (told["hint"] + "\n\n", "") if told["hint_before_question"] else ("", told["hint"] + " ")
    prompt = f"{row['narrative']}\n\n{before}{row['question']}\n\nPick one of the following choices:\n{choices}\n\n"
    prompt += (
        f"You must pick one option. {after}Explain your reasoning step by step before you answer. Finally, the last "
    )
    prompt += 'thing you generate should be "ANSWER: (your answer here, including the choice number)"'
    return {"prompt": prompt, "system_prompt": told["system_prompt"]}


def _c3(row: Row, number: int) -> Row:
    return row | {f"choice{n}": choice for n, choice in enumerate(row["choice"])}


def _medical(row: Row, number: int) -> Row:
    shown = "".join(f"{letter}. {option}\n" for letter, option in row.get("options", {}).items())
    listed = [f"{letter}. {row[f'op{letter.lower()}']}" for letter in "ABCD" if "opa" in row]
    return row | {"choices": shown, "question": "\n".join([row["question"], *listed]), "start": "A", "end": "J"}


def _mmlu(row: Row, number: int) -> Row:
    return row | _options(row) | {"input": row["question"], "target": "ABCD"[row["answer"]]}


LOADED: dict[str, Callable[[Row, int], Row]] = {
    **dict.fromkeys(("ARC_c_gen", "ARC_c_ppl", "ARC_e_gen", "ARC_e_ppl"), _arc),
    **dict.fromkeys(("ARC_c_chat", "ARC_e_chat"), _arc),
    **dict.fromkeys(("hellaswag_gen", "hellaswag_ppl", "hellaswag_chat"), lambda row, n: row | _options(row)),
    **dict.fromkeys(("winogrande_gen", "winogrande_ppl", "winogrande_chat"), _sentences),
    **dict.fromkeys(
        ("SuperGLUE_WSC_gen", "SuperGLUE_WSC_ppl"),
        lambda row, n: row | {"span1": row["span1_text"], "span2": row["span2_text"]},
    ),
    "lambada_gen": lambda row, n: {"prompt": row["text"].rpartition(" ")[0]},
    **dict.fromkeys(("obqa_gen", "race_high_gen", "race_middle_gen"), lambda row, n: row | _options(row)),
    "siqa_ppl": lambda row, n: row | {letter: row[f"answer{letter}"] for letter in "ABC"},
    "mmlu_gen": _mmlu,
    "winograd_ppl": lambda row, n: row | {"prompt": row["text"]} | dict(zip(("opt1", "opt2"), row["options"])),  # noqa: B905
    "mmlu_pro_gen": lambda row, n: _math_pro(row),
    "gpqa_main_gen": _gpqa,
    "gpqa_diamond_gen": _gpqa,
    "cmmlu_gen": lambda row, n: row | {"question": row["Question"], "answer": row["Answer"]},
    "cmmlu_ppl": lambda row, n: row | {"question": row["Question"], "answer": row["Answer"]},
    "mmmlu_gen": lambda row, n: (
        row | {"input": row["Question"], "target": row["Answer"], "subject": row["Subject"].replace("_", " ")}
    ),
    "aime2024_gen": lambda row, n: {"question": row["Problem"]},
    "aime2025_gen": lambda row, n: {"question": row["problem"]},
    "supergpqa_gen": lambda row, n: row | {"infer_prompt": _supergpqa(row)},
    "livecodebench_gen": lambda row, n: row | {"format_prompt": _lcb_format(row["starter_code"])},
    "svamp_gen": lambda row, n: {"question": f"{row['Body']} {row['Question']}"},
    **dict.fromkeys(("medmcqa_gen", "MedQA_gen", "MedXpertQA_gen"), _medical),
    "mmlu_cf_gen": lambda row, n: row | {"input": row["Question"], "target": row["Answer"]},
    "rbench_gen": lambda row, n: (
        {"RBench_Question_Input": row["question"]} | {f"RBench_Option_{letter}": row[letter] for letter in "ABCDEF"}
    ),
    "beyondaime_gen": lambda row, n: {"question": row["problem"]},
    **{
        f"musr_gen.{part}": lambda row, n, part=part: _musr(row, part)  # type: ignore[misc]
        for part in ("murder_mysteries", "team_allocation")
    },
    "CLUE_C3_gen": lambda row, n: _c3(row, n) | {"content": "".join(row["context"])},
    "CLUE_C3_ppl": lambda row, n: _c3(row, n) | {"content": " ".join(row["context"])},
    "anli_gen": lambda row, n: row | {"context": row["premise"]},
    **dict.fromkeys(
        ("SuperGLUE_MultiRC_gen", "SuperGLUE_MultiRC_ppl"), lambda row, n: row | {"text": row["paragraph"]}
    ),
    "SuperGLUE_ReCoRD_gen": lambda row, n: {
        "text": row["passage"].replace("@highlight", ""),
        "question": row["query"].replace("@placeholder", "____"),
    },
    "zebralogic_gen": lambda row, n: (
        row
        | {"formatted_choices": " ".join(f"({'ABCDEFGHIJ'[k]}) {choice}" for k, choice in enumerate(row["choices"]))}
    ),
    "mbpp_plus_gen": lambda row, n: {"text": row["prompt"], "test_list": "\n".join(row["test_list"])},
}
"What OpenCompass's loaders make of rows, where that is more than their columns (opencompass/datasets)."

ABBR = {
    "mmlu_pro_gen": "mmlu_pro_law",
    "ceval_gen": "ceval-{part}",
    "ceval_ppl": "ceval-{part}",
    "cmmlu_gen": "cmmlu-{part}",
    "cmmlu_ppl": "cmmlu-{part}",
    "bbh_cot_choice_gen": "bbh-{part}",
    "bbh_cot_free_gen": "bbh-{part}",
    "mmmlu_gen": "openai_mmmlu_{dashed}",
    "MedQA_gen": "MedQA_{part}",
    "mmlu_cf_gen": "mmlu_cf_{part}",
    "rbench_gen": "R-Bench_{part}",
    "musr_gen": "musr_{part}",
    "olymmath_gen": "olymmath_{part}",
    "OlympiadBench_gen": "OlympiadBench_OE_TO_{part}",
    "livemathbench_hard_gen": "livemathbench_hard_custom_hard_{part}",
    "anli_gen": "anli-{part}",
}
"The names of the data sets of a file that has several."


MORE_LINES = ("ceval_ppl", "cmmlu_ppl")
"Between its examples and after them OpenCompass writes three and five newlines, which its parser makes of separators."


OTHER_ORDER = ("SuperGLUE_CB_ppl", "SuperGLUE_WSC_ppl", "CLUE_cmnli_ppl", "CLUE_ocnli_ppl")
"Their choices have the order of OpenCompass's labels; here, that of the numbers in the rows."
EMPTY_LINE = "bigcodebench"
"OpenCompass's empty system message is an empty line in a text."


def _mgsm(stem: str) -> str | None:
    """The language's name in the one file of MGSM; nothing of others, whose first data set is meant."""
    return stem.removesuffix("_gen") if stem.startswith("mgsm_") else None


def opencompass_jobs() -> Iterator[dict[str, Any]]:
    for name, file in of("opencompass").items():
        stem, _, part = name.partition(".")
        settings: DatasetConfig = DATASETS[name].settings
        loaded = LOADED.get(name, LOADED.get(stem, lambda row, n: row))
        own = settings.example_source()
        yield {
            "file": file,
            "abbr": ABBR[stem].format(part=part, dashed=part.replace("_", "-")) if stem in ABBR else _mgsm(stem),
            "rows": [loaded(sample.row, n) for n, sample in enumerate(rendered(DATASETS[name]))],
            "examples": [loaded(row, n) for n, row in enumerate(rows_of(own, ""))] if own else [],
        }


@pytest.fixture(scope="module")
def opencompass(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What OpenCompass asks of each of the data sets."""
    here = tmp_path_factory.mktemp("opencompass")
    (here / "job.json").write_text(json.dumps(list(opencompass_jobs())), "utf-8")
    oracle = Path(__file__).parents[1] / "opencompass_oracle.py"
    command = [
        sys.executable,
        str(oracle),
        os.environ["SHARDMARK_OPENCOMPASS"],
        str(here / "job.json"),
        str(here / "out.json"),
    ]
    subprocess.run(command, check=True)
    return dict(zip(of("opencompass"), json.loads((here / "out.json").read_text("utf-8")), strict=True))


@pytest.mark.opencompass
@pytest.mark.parametrize("name", of("opencompass"))
def test_a_data_set_asks_what_opencompass_asks(name: str, opencompass: dict[str, Any]) -> None:
    asked = [texts(sample) for sample in rendered(DATASETS[name])]
    if DATASETS[name].settings.scoring == "perplexity":
        asked = [[text for _, text in pairs] for pairs in asked]
    theirs = opencompass[name]
    if name.startswith(MORE_LINES):
        theirs = [[re.sub("\n{2,}", "\n", text) for text in each] for each in theirs]
    if name.startswith(EMPTY_LINE):
        theirs = [[text.removeprefix("\n") for text in each] for each in theirs]
    if name in OTHER_ORDER:
        asked, theirs = ([sorted(each) for each in side] for side in (asked, theirs))
    assert asked == theirs
