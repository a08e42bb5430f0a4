"""Each metric and aggregation of lm-eval beside lm-eval itself, on the same responses to tasks written for it."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from answered import wrote
from lm_eval_compare import answered, fewer_draws, oracle, same_scores
from requirements_check import need
from shardmark.records.prediction import Output, Prediction, Sampled, Scored
from shardmark.records.request import GenerateRequest
from shardmark.tasks import Sample
from shardmark.tasks.lm_eval.index import Task, find, read_index

pytestmark = [pytest.mark.lmeval, pytest.mark.slow, pytest.mark.timeout(1200)]
DRAWS = 2000
WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "big", "red,", "house.", "It", "ran;", "Größe", "12", "%"]

CODE = """
import evaluate
code = evaluate.load("code_eval")

def passed(references, predictions, k):
    return code.compute(references=references, predictions=predictions, k=k)[0]

def programs(resps, docs):
    return [[doc["head"] + text for text in texts] for texts, doc in zip(resps, docs)]

def handed_on(items):
    return items

def words(references, predictions, more=0):
    common = set(references[0].split()) & set(predictions[0].split())
    return {"common": len(common) + more, "length": len(predictions[0])}

def longest(items):
    return max(len(prediction) for _, prediction in items)

def own(doc, results):
    return {"length": len(results[0]), "odd": float("nan") if len(results[0]) % 3 == 0 else 1.5, "parts": [1, 0, 1],
            "pair": (doc["label"], int(len(results[0]) > 20)), "f1": (doc["label"], 1), "unnamed": len(results[0]) % 2}

def flat(items):
    values = [value for item in items for value in item]
    return sum(values) / len(values)

def right(items):
    return sum(gold == guess for gold, guess in items) / len(items)

def surprise(doc, results):
    return {"nats": (results[0], len(doc["text"])), "bits": (results[0], 3)}
"""


class Own(str):
    """A function of the tasks' own, as YAML spells it."""


yaml.SafeDumper.add_representer(Own, lambda dumper, name: dumper.represent_scalar("!function", f"own.{name}"))


def metrics(*names: str, **options: Any) -> list[dict[str, Any]]:
    return [{"metric": name, **options} for name in names]


BASE = {"dataset_path": "made/up", "test_split": "test", "num_fewshot": 0}
WRITE = {"output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{gold}}"}
CHOOSE = {"output_type": "multiple_choice", "doc_to_text": "{{text}}", "doc_to_target": "label"}
SLACK = {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True}
TASKS: dict[str, dict[str, Any]] = {
    "of_text": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    "of_text_own": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "process_results": Own("surprise"),
        "metric_list": [
            {"metric": "nats", "aggregation": "weighted_perplexity"},
            {"metric": "bits", "aggregation": "bits_per_byte"},
        ],
    },
    "of_continuation": {"output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": "{{gold}}"},
    "of_two": CHOOSE
    | {
        "doc_to_choice": ["no", "yes, ä"],
        "metric_list": metrics("acc", "acc_norm", "acc_bytes", "f1", "mcc", "brier_score", "exact_match"),
    },
    "of_three": CHOOSE
    | {
        "doc_to_target": "third",
        "doc_to_choice": ["no", "yes", "perhaps"],
        "metric_list": [*metrics("mcc", "acc_mutual_info"), {"metric": "f1", "aggregation": Own("right")}],
    },
    "of_several": CHOOSE | {"doc_to_target": "{{[label, third]}}", "doc_to_choice": ["no", "yes", "perhaps"]},
    "translated": WRITE | {"metric_list": metrics("bleu", "chrf", "chrf++", "ter")},
    "with_references": WRITE
    | {"metric_list": [{"metric": Own("handed_on"), "aggregation": Own("longest")}, *metrics("exact_match", **SLACK)]},
    "patterns": WRITE | {"metric_list": metrics("exact_match", regexes_to_ignore=["[,;]", "^the "])},
    "any_of_several": WRITE | {"doc_to_target": "{{[gold, text]}}", "metric_list": metrics("exact_match", **SLACK)},
    "not_scored": WRITE | {"metric_list": metrics("bypass")},
    "several_values": WRITE
    | {"metric_list": [{"metric": Own("words"), "aggregation": "mean", "higher_is_better": True, "more": 1}]},
    "judged": WRITE
    | {
        "process_results": Own("own"),
        "metric_list": [
            {"metric": "length", "aggregation": "median"},
            {"metric": "odd", "aggregation": "nanmean"},
            {"metric": "parts", "aggregation": Own("flat")},
            {"metric": "pair", "aggregation": "f1"},
            {"metric": "f1"},
        ],
    },
    "voted": WRITE
    | {
        "repeats": 3,
        "generation_kwargs": {"until": ["\n"], "do_sample": True, "temperature": 0.5},
        "filter_list": [
            {"name": "vote", "filter": [{"function": "majority_vote"}, {"function": "take_first"}]},
            {"name": "two", "filter": [{"function": "take_first_k", "k": 2}]},
        ],
    },
    "programs": WRITE
    | {
        "unsafe_code": True,
        "doc_to_target": "{{tests}}",
        "repeats": 3,
        "generation_kwargs": {"until": ["\n\n"], "do_sample": True, "temperature": 0.5},
        "metric_list": [{"metric": Own("passed"), "aggregation": "mean", "higher_is_better": True, "k": [1, 2]}],
        "filter_list": [{"name": "made", "filter": [{"function": "custom", "filter_fn": Own("programs")}]}],
    },
}


def rows(count: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    texts = [(" ".join(draw.choices(WORDS, k=draw.randrange(2, 12))), draw.choice(WORDS)) for _ in range(count)]
    return [
        {"text": text, "gold": text if n % 3 else gold, "label": n * 7 % 5 % 2, "third": n * 7 % 5 % 3}
        | {"head": f"def f(x):\n    return x + {n}", "tests": f"assert f(1) == {n + 1}\nassert f(2) > f(1)"}
        for n, (text, gold) in enumerate(texts)
    ]


def made_up(draw: random.Random, sample: Sample) -> Prediction:
    """Responses of which some are right."""
    request: Any = sample.request
    if not isinstance(request, GenerateRequest):
        logprobs = [draw.uniform(-30, -1) for _ in request.pairs]
        greedy = [draw.random() < 0.3 for _ in logprobs]
        return Scored(id=sample.request_id, logprobs=logprobs, tokens=[3] * len(logprobs), greedy=greedy, cut=0)
    words = sample.row["gold"].split()
    code = sample.target == sample.row["tests"]
    texts = [draw.choice([" + 0", " - 1", " +"]) if code else _text(draw, words) for _ in range(3)]
    if request.samples == 1:
        return wrote(sample.request_id, texts[0], end="stop")
    samples = [Output(text=text, tokens=1, end="stop", cut=0) for text in texts]
    return Sampled(id=sample.request_id, samples=samples)


def _text(draw: random.Random, words: list[str]) -> str:
    change = draw.choice([str, str.upper, lambda text: text + "!", lambda text: "the " + text])
    found = change(" ".join(words))
    return found if draw.random() < 0.6 else " ".join([*words[:4], *draw.choices(WORDS, k=3)])


def test_each_metric_and_its_standard_error_is_that_of_lm_eval(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "tasks"
    folder.mkdir()
    need("bwrap")
    (folder / "own.py").write_text(CODE)
    for name, settings in TASKS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(BASE | settings | {"task": f"every_{name}"}))
    index = read_index(folder)
    served: Any = {("made/up", None, "test"): datasets.Dataset.from_list(rows(60))}
    outputs, ours = {}, {}
    for name in sorted(index.tasks):
        (task,) = find(index, name, "")
        assert isinstance(task, Task)
        with fewer_draws(DRAWS):
            outputs[f"{name}@None"], ours[name] = answered(task, index, served, 60, made_up=made_up)
    theirs = oracle({name: [None] for name in index.tasks}, served, 60, tmp_path, outputs, DRAWS, folder)
    verdicts = {name: same_scores(ours[name], theirs[name, None]) for name in index.tasks}
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "identical"} == {}
