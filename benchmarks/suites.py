"""The tables of docs/datasets.md: whose prompts each data set has, and what each suite takes. Prints both.

What a suite takes is the prior of plan/cost.py for a model of 8 billion bfloat16 parameters on one GPU, every answer
taken to fill its limit. Rows are counted as published (ROWS); a prompt is as long as that of the made-up rows, and at
least TYPICAL characters, since real questions are longer.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from repository_datasets import DATASETS, GROUPS, NAMES, rendered  # noqa: E402
from shardmark.config import load  # noqa: E402
from shardmark.config.backends.transformers import TransformersConfig  # noqa: E402
from shardmark.config.suite import PREFIX, read_suite, suite_names  # noqa: E402
from shardmark.plan.cost import prior_seconds, tokens_of, work  # noqa: E402
from shardmark.records.model import Commit, HubRepository, ModelRecord  # noqa: E402

TYPICAL = 1200
"Characters of a question with its choices, or of a problem."
BETWEEN = "<!-- {} -->"
ROWS = {
    "ARC_c": 1165,
    "ARC_e": 2365,
    "MedQA": 2037,
    "MedXpertQA": 2450,
    "aime": 30,
    "anli": 1067,
    "bbeh": 4520,
    "bbh-": 241,
    "bbh_cot": 241,
    "belebele": 900,
    "beyondaime": 100,
    "ceval": 26,
    "cmath": 1098,
    "cmmlu": 173,
    "gpqa_diamond": 198,
    "gsm8k": 1319,
    "gsm_plus": 9200,
    "hellaswag": 10042,
    "hmmt2026": 33,
    "humaneval": 164,
    "ifeval": 541,
    "lambada": 5153,
    "livecodebench": 1055,
    "livemathbench_hard": 45,
    "math_500": 500,
    "mbpp_gen": 500,
    "mbpp_plus": 378,
    "medmcqa": 4183,
    "mgsm": 250,
    "minerva_math": 714,
    "mmlu_gen": 14042,
    "mmlu_ppl": 14042,
    "mmlu_pro": 12032,
    "mmlu_redux": 93,
    "mmmlu": 14042,
    "musr": 252,
    "obqa": 500,
    "olymmath": 100,
    "piqa": 1838,
    "simpleqa": 4326,
    "siqa": 1954,
    "svamp": 300,
    "truthfulqa": 817,
    "winogrande": 1267,
    "zebralogic": 3259,
}
"By the beginning of a name, the rows of a data set, of one part on average where a file has parts."


def eight_billion() -> ModelRecord:
    """A model of 8 billion parameters on one GPU."""
    source = HubRepository(path="org/m", identity=Commit(repository="org/m", commit="0" * 40), parameters=8 * 10**9)
    settings = TransformersConfig.model_validate({"path": "org/m"})
    return ModelRecord(
        name="m", digest="0", file="", source=source, tokenizer=None, dtype="bfloat16", settings=settings
    )


def rows_of(name: str) -> int:
    """The rows of a data set. Raises KeyError where ROWS does not say."""
    found = [start for start in ROWS if name.startswith(start)]
    return ROWS[max(found, key=len)] if found else ROWS[name]


@functools.cache
def tokens_read(name: str) -> int:
    """What a model reads of the first made-up row."""
    return work([sample.request for sample in rendered(DATASETS[name])[:1]]).read


def gpu_seconds(name: str, model: ModelRecord) -> float:
    """What a data set takes, but for loading the model."""
    settings = DATASETS[name].settings
    stem = name.partition(".")[0]
    like = name if "." not in name else GROUPS[stem].members[0]
    read, count = max(tokens_read(like), TYPICAL // 4), rows_of(name)
    written = [settings.generation.max_new_tokens] * count if settings.kind == "generate" else []
    return prior_seconds(model, tokens_of(read * count, written), count)


def suites() -> Iterator[str]:
    """The table of suites."""
    model = eight_billion()
    yield "| suite | data sets | GPU-hours of a model of 8B | for |"
    yield "|---|---|---|---|"
    for name in suite_names(ROOT):
        suite = read_suite(name, ROOT, [])
        assert suite is not None
        benchmark = load({"models": ["demo_small"], "datasets": [PREFIX + name]}, ROOT, "", [])
        hours = sum(gpu_seconds(dataset.name, model) for dataset in benchmark.datasets) / 3600
        named = ", ".join(f"`{each}`" for each in suite.datasets)
        yield f"| `{PREFIX}{name}` | {named} | {hours:.1f} | {suite.description} |"


def datasets() -> Iterator[str]:
    """The table of data sets that say whose prompts they have; of a file with parts the first."""
    yield "| data set | rows from | licence | prompts are those of |"
    yield "|---|---|---|---|"
    for name in sorted(NAMES, key=str.casefold):
        parts = GROUPS[name].members if name in GROUPS else []
        settings = DATASETS[parts[0] if parts else name].settings
        if settings.same_as and (name in DATASETS or parts[0].startswith(f"{name}.")):
            peer, _, task = settings.same_as.partition(":")
            whose = {"lm_eval": "lm-eval's", "opencompass": "OpenCompass's"}[peer]
            told = f" ({len(parts)} parts)" if parts else ""
            rows = f"[{settings.source.hub}]({settings.paper})"
            yield f"| `{name}`{told} | {rows} | {settings.licence} | {whose} `{task}` |"


TABLES = {"suites": suites, "datasets": datasets}

if __name__ == "__main__":
    for title, lines in TABLES.items():
        print(BETWEEN.format(title), *lines(), BETWEEN.format(f"end of {title}"), "", sep="\n")
