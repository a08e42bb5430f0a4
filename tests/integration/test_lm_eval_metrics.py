"""Metrics, standard errors and instructions are those of lm-evaluation-harness 0.4.13."""

import importlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from requirements_check import need
from shardmark.metrics import METRICS
from shardmark.metrics.instructions import CHECKS, follows, variants
from shardmark.scoring.load_metric import load_metric
from shardmark.scoring.statistics import estimate_by_draws

pytestmark = [pytest.mark.lmeval, pytest.mark.slow]
ORACLE = Path(__file__).parents[1] / "lm_eval_metrics_oracle.py"
DRAWS = 1000
RANDOM = random.Random(5)
LABELS = [(str(RANDOM.randrange(3)), str(RANDOM.randrange(3))) for _ in range(60)]
BITS = [(RANDOM.randrange(2), RANDOM.randrange(2)) for _ in range(60)]
WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "big", "red,", "house.", "It", "ran;", "Größe", "12"]
TEXTS = [" ".join(RANDOM.choices(WORDS, k=RANDOM.randrange(1, 12))) for _ in range(40)]
RIGHT = [[" ".join(RANDOM.choices(WORDS, k=8)) for _ in range(2)] for _ in range(40)]
LOGPROBS = [-RANDOM.expovariate(0.1) for _ in range(60)]
CHOICES = [([RANDOM.gauss(-5, 3) for _ in range(4)], RANDOM.randrange(4)) for _ in range(60)]


def oracle(jobs: list[dict[str, Any]], folder: Path) -> list[Any]:
    """What lm-eval makes of jobs."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    for package in ("langdetect", "six"):  # langdetect is an extra of lm-eval's; ours is the same
        file = Path(str(importlib.import_module(package).__file__))
        source = file.parent if file.name == "__init__.py" else file
        (folder / source.name).symlink_to(source)
    command = [need("lmeval"), str(ORACLE), str(folder / "jobs.json"), str(folder / "results.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads((folder / "results.json").read_text()))


def ours(name: str, predictions: list[Any], references: list[Any], draws: int, **options: Any) -> tuple[float, Any]:
    """Our value and standard error."""
    terms = load_metric(name).compute(predictions=predictions, references=references, **options)["terms"]
    metric = METRICS[name].model_validate({"name": name, **options})
    estimate = estimate_by_draws(terms, metric.value, draws)
    return estimate.value, estimate.stderr


def test_values_and_standard_errors_are_equal(tmp_path: Path) -> None:
    softmax = load_metric("mc2")
    probabilities = [[softmax.compute(predictions=[x], references=[[k]])["mc2"] for k in range(4)] for x, _ in CHOICES]
    gold, found = map(list, zip(*LABELS, strict=True))
    ones, guesses = ([str(bit) for bit in column] for column in zip(*BITS, strict=True))
    units = [(LOGPROBS[n], len(TEXTS[n].encode())) for n in range(40)]
    pairs = [[right, text] for right, text in zip(RIGHT, TEXTS, strict=True)]
    cases = [
        ("matthews_corrcoef", LABELS, DRAWS, 1, ours("mcc", found, gold, DRAWS)),
        ("f1", BITS, DRAWS, 1, ours("f1", guesses, [[x] for x in ones], DRAWS, average="binary", positive="1")),
        ("perplexity", LOGPROBS, DRAWS, 1, ours("perplexity", LOGPROBS, ["x"] * 60, DRAWS)),
        ("bleu", pairs, 100, 100, ours("bleu", TEXTS, RIGHT, 100)),
        ("chrf", pairs, 100, 100, ours("chrf", TEXTS, RIGHT, 100)),
        ("chrf++", pairs, 100, 100, ours("chrf", TEXTS, RIGHT, 100, word_order=2)),
        ("weighted_perplexity", units, DRAWS, 1, ours("byte_perplexity", LOGPROBS[:40], TEXTS, 100)),
        ("bits_per_byte", units, DRAWS, 1, ours("bits_per_byte", LOGPROBS[:40], TEXTS, 100)),
        (
            "brier_score",
            [[right, p] for (_, right), p in zip(CHOICES, probabilities, strict=True)],
            DRAWS,
            1,
            ours("brier", [x for x, _ in CHOICES], [[right] for _, right in CHOICES], 100),
        ),
    ]
    jobs = [{"metric": name, "items": items, "draws": draws} for name, items, draws, _, _ in cases]
    for (name, _, _, unit, (value, stderr)), (theirs, their_stderr) in zip(cases, oracle(jobs, tmp_path), strict=True):
        assert value * unit == pytest.approx(theirs, rel=1e-9), name
        if their_stderr is not None:
            assert stderr * unit == pytest.approx(their_stderr, rel=1e-9), name


def test_exact_match_is_equal_whatever_is_ignored(tmp_path: Path) -> None:
    options = [
        {},
        {"ignore_case": True},
        {"ignore_punctuation": True},
        {"ignore_numbers": True},
        {"regexes_to_ignore": ["the", r"\s+"], "ignore_case": True, "ignore_punctuation": True},
    ]
    answers = ["The cat.", "the cat", "cat", "cat 12", "THE, cat", "cat12"]
    references = ["the cat", "The cat!", "the cat", "cat 3", "thecat", "cat7"]
    jobs = [{"exact_match": each, "predictions": answers, "references": references} for each in options]
    for each, theirs in zip(options, oracle(jobs, tmp_path), strict=True):
        renamed = {key.replace("regexes_to_ignore", "ignore_patterns"): value for key, value in each.items()}
        found = load_metric("exact_match").compute(predictions=answers, references=[[r] for r in references], **renamed)
        assert found["samples"] == theirs, each


KWARGS: dict[str, list[dict[str, Any]]] = {
    "keywords:existence": [{"keywords": ["cat", "Größe"]}],
    "keywords:frequency": [{"keyword": "the", "frequency": 3, "relation": r} for r in ("less than", "at least")],
    "keywords:forbidden_words": [{"forbidden_words": ["cat", "red"]}],
    "keywords:letter_frequency": [
        {"letter": "t", "let_frequency": 6, "let_relation": r} for r in ("less than", "at least")
    ],
    "language:response_language": [{"language": "en"}, {"language": "de"}],
    "length_constraints:number_paragraphs": [{"num_paragraphs": n} for n in (1, 2, 3)],
    "length_constraints:number_words": [{"num_words": 20, "relation": r} for r in ("less than", "at least")],
    "length_constraints:nth_paragraph_first_word": [
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": w} for w in ("the", "it")
    ],
    "detectable_content:number_placeholders": [{"num_placeholders": 2}],
    "detectable_content:postscript": [{"postscript_marker": m} for m in ("P.S.", "P.P.S", "Note:")],
    "detectable_format:number_bullet_lists": [{"num_bullets": n} for n in (1, 2, 3)],
    "detectable_format:constrained_response": [{}],
    "detectable_format:number_highlighted_sections": [{"num_highlights": 2}],
    "detectable_format:multiple_sections": [{"section_spliter": "SECTION", "num_sections": 2}],
    "detectable_format:json_format": [{}],
    "detectable_format:title": [{}],
    "combination:two_responses": [{}],
    "combination:repeat_prompt": [{"prompt_to_repeat": "Say the cat"}],
    "startend:end_checker": [{"end_phrase": "Any questions?"}],
    "startend:quotation": [{}],
    "change_case:english_capital": [{}],
    "change_case:english_lowercase": [{}],
    "punctuation:no_comma": [{}],
}
PARTS = [
    "the cat",
    "It ran, 12",
    "\n\n",
    "\n\n\n\n",
    "***",
    "******",
    "\n* one",
    "\n- two",
    "\n*\n- odd",
    "*high*",
    "**strong**",
    "**",
    "[name]",
    "[]",
    "P.S. yes\np. s.  no",
    "P.P.S so",
    "Note: x",
    "SECTION 1",
    "\nSECTION 2\n",
    "<<Title>>",
    "<< >>",
    '{"a": 1}',
    "```json",
    "```",
    '"',
    "Any questions?",
    "My answer is yes.\nSay the cat",
    "THE CAT IS BIG AND RED",
    "Die Katze sitzt auf der Matte und schläft",
    "the dog sat on the big red mat",
    "\n",
    "'Tis",
    "",
]
RESPONSES = ["".join(RANDOM.choices(PARTS, k=RANDOM.randrange(1, 9))) for _ in range(80)]
RESPONSES += [
    "die Größe der Cat",
    "",
    " ",
    '"all of it"',
    '{"a": [1, 2]}',
    "```json\n{}\n```",
    "say the CAT now",
    "a******b",
    "a******a",
]
RESPONSES += ["THE CAT SAT ON THE MAT AND IT WAS VERY BIG", "1 2 3", "x. Any questions?\n", "Intro\nthe cat\nOutro"]
RESPONSES += ["a***b***c", "one\n\nthe two", "one\n\nIt is", "[a] [b]", "x\nP.S. y", "x\nP.P.S y", "x\nNote: y"]
RESPONSES += ["* a", "* a\n- b", "* a\n* b\n* c", "*a* *b*", "SECTION 1 x\nSECTION 2 y", "tttttt the the the", "1***2"]
RESPONSES += [
    " ".join(["word"] * 30),
    "<<A title>>",
    "My answer is no.",
    "This is an English sentence about the weather.",
]


def test_every_instruction_is_followed_where_lm_eval_says_so(tmp_path: Path) -> None:
    cases = [(name, kwargs) for name, many in KWARGS.items() for kwargs in many]
    jobs = [{"instructions": [n], "kwargs": [k], "prompt": "p", "responses": RESPONSES} for n, k in cases]
    for (name, kwargs), theirs in zip(cases, oracle(jobs, tmp_path), strict=True):
        for response, (strict, loose) in zip(RESPONSES, theirs, strict=True):
            assert [follows(name, kwargs, "p", response)] == strict, (name, kwargs, response)
            loosely = any(follows(name, kwargs, "p", text) for text in variants(response))
            assert [loosely] == loose, (name, kwargs, response)
        assert len({bool(strict[0]) for strict, _ in theirs}) == 2, f"{name} {kwargs}: the responses tell nothing"


def test_all_instructions_but_those_that_need_a_download_are_compared() -> None:
    assert CHECKS.keys() - KWARGS.keys() == {
        "length_constraints:number_sentences",
        "change_case:capital_word_frequency",
    }
