"""Realistic made-up results, the same for the same arguments: 3 models x 4 data sets x ~120 samples."""

import base64
import json
import math
import random
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.records.timings import Timings

MODELS = {"demo_large": 0.86, "demo_base": 0.79, "demo_tiny": 0.42}
DATASETS = {
    "demo_arithmetic": ("generate", "accuracy", None),
    "demo_capitals": ("choice", "accuracy", 0.25),
    "demo_translation": ("generate", "accuracy", None),
    "demo_reading_comprehension": ("generate", "token_f1", None),
}
MISSING = ("demo_tiny", "demo_reading_comprehension")
FACTS = {
    "generated": "2026-11-23T22:31:00Z",
    "command": "snakemake --cores 2 --configfile config/demo.yaml results/runs/demo/report",
    "config": {"run": "demo", "seed": 1, "models": list(MODELS), "datasets": list(DATASETS)},
    "host": "bench-01",
}
CAPITALS = [
    ("France", "Paris"), ("Japan", "Tokyo"), ("Türkiye", "Ankara"), ("Brasil", "Brasília"),
    ("Ísland", "Reykjavík"), ("България", "София"), ("日本", "東京"), ("مصر", "القاهرة"),
]  # fmt: skip
PASSAGE = (
    "The tide gauge at Brest has been read since 1807. Its keepers noted the level twice a day, at first "
    "by eye and from 1846 on by a float that drove a pencil. The series is the longest in the world."
)


def read_chunk(text: bytes) -> bytes:
    """The JSON in a chunk's file."""
    literal = text.split(b'"')[3]
    return zlib.decompress(base64.b64decode(literal))


def make_metric(value: float | None, **more: Any) -> Metric:
    """An estimate; a fraction of 100 samples without an error, unless said otherwise."""
    return Metric(**{"value": value, "stderr": None, "ci95": None, "n": 100, "percent": True, **more})


def make_sample(**more: Any) -> Sample:
    """A sample that nothing was answered to, unless said otherwise."""
    nothing = {"prompt": "", "output": None, "answer": None, "target": None, "scores": {}, "truncated": 0, "row": None}
    return Sample(**{"sample": "s", "request": "", **nothing, **more})


def make_timings(**more: Any) -> Timings:
    """How long inference took, as the score step notes it."""
    times = {"started": "2026-11-23T22:00:00Z", "finished": "2026-11-23T22:04:30Z"}
    took = {"seconds": 12.5, "load_seconds": 0.5, "requests": 5, "reused": 0, "batch_size": "auto"}
    return Timings(**{**took, **times, **more})


def read_data(report: Path, name: str) -> Any:
    """The value of a chunk of a report."""
    return json.loads(read_chunk((report / "data" / f"{name}.js").read_bytes()))


def read_index(report: Path, dataset: str) -> Any:
    """The index of a data set's samples."""
    catalog = read_data(report, "catalog")
    (found,) = [each["index"] for each in catalog["datasets"] if each["name"] == dataset]
    return read_data(report, found)


def read_texts(report: Path, dataset: str, model: str) -> list[dict[str, Any]]:
    """The samples of a pair as the explorer of a report has them."""
    (index,) = [each for each in read_index(report, dataset)["models"] if each["model"] == model]
    layers = [[one for _, chunk in chunks for one in read_data(report, chunk)] for chunks in index["layers"].values()]
    return [row | prompt | answer for row, prompt, answer in zip(*layers, strict=True)]


class Files(NamedTuple):
    """The paths of the score files and of the sample files."""

    scores: list[Path]
    samples: list[Path]


def write_results(
    root: Path,
    models: Iterable[str] = tuple(MODELS),
    datasets: Iterable[str] = tuple(DATASETS),
    missing: Iterable[tuple[str, str]] = (MISSING,),
    n: int = 120,
) -> Files:
    """Write score and sample files of all pairs but the missing ones below `root`."""
    files = Files([], [])
    datasets = list(datasets)
    for model in models:
        for dataset in datasets:
            if (model, dataset) not in set(missing):
                samples = make_samples(model, dataset, n)
                write_pair(root, files, make_scores(model, dataset, samples), samples)
    return files


def write_pair(root: Path, files: Files, scores: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """Write one pair's two files and add them to `files`."""
    model, dataset = scores["model"], scores["dataset"]
    folder = f"{model['name']}@{model['digest']}"
    name = f"{dataset['name']}@{digest_of(folder, dataset['name'])}"
    scores_path = root / "scores" / folder / f"{name}.json"
    samples_path = root / "samples" / folder / f"{name}.jsonl"
    for path in (scores_path, samples_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    scores_path.write_text(json.dumps(scores), "utf-8")
    samples_path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), "utf-8")
    files.scores.append(scores_path)
    files.samples.append(samples_path)


def digest_of(*parts: str) -> str:
    """Return a made-up hexadecimal digest of 16 characters that depends on `parts` only."""
    return f"{random.Random('/'.join(parts)).getrandbits(64):016x}"


def make_samples(model: str, dataset: str, n: int = 120) -> list[dict[str, Any]]:
    """Make n scored samples; better models get more of them right."""
    chosen = random.Random(f"{model}/{dataset}")
    makers = {"demo_capitals": _capital, "demo_translation": _translation, "demo_arithmetic": _sum}
    make = makers.get(dataset, _reading)
    count = {"demo_capitals": n - 4, "demo_translation": n // 2}.get(dataset, n)
    samples = [make(chosen, index, chosen.random() < MODELS.get(model, 0.5)) for index in range(count)]
    for sample in samples:
        sample["request"] = f"{random.Random(sample['prompt']).getrandbits(256):064x}"
    return samples


def _sum(chosen: random.Random, index: int, right: bool) -> dict[str, Any]:
    shots = [(chosen.randint(10, 99), chosen.randint(10, 99)) for _ in range(13)]
    *examples, (a, b) = shots[-(13 if index % 5 == 0 else 1) :]
    prompt = "".join(f"Q: {x} + {y} = ?\nA: {x + y}\n\n" for x, y in examples) + f"Q: {a} + {b} = ?\nA:"
    answer = str(a + b if right else a + b + chosen.choice([-10, 1, 10])) if right or index % 9 else None
    output = f" {answer}\n\nQ: " if answer else " I am\tnot sure  about that.\n"
    return {
        "sample": f"arith-{index:04d}", "prompt": prompt, "output": output, "answer": answer,
        "target": str(a + b), "scores": {"accuracy": float(right), "answered": float(answer is not None)},
        "truncated": 5 * int(index == 17), "end": "stop" if answer else "length",
        "row": {"a": a, "b": b, "split": "test"},
        "group": "carry" if a % 10 + b % 10 > 9 else "no carry",
    }  # fmt: skip


def _capital(chosen: random.Random, index: int, right: bool) -> dict[str, Any]:
    country, capital = CAPITALS[index % len(CAPITALS)]
    others = [city for _, city in chosen.sample(CAPITALS, 5) if city != capital][:3]
    choices = chosen.sample([capital, *others], 4)
    pick = capital if right else others[0]
    logprobs = [-chosen.uniform(6, 14) + (7 if choice == pick else 0) for choice in choices]
    pick = choices[logprobs.index(max(logprobs))]
    return {
        "sample": f"capital/{index:03d} {country}", "prompt": f"The capital of {country} is",
        "choices": choices,
        "logprobs": logprobs, "tokens": [len(choice) // 3 + 1 for choice in choices],
        "output": pick, "answer": choices.index(pick), "target": choices.index(capital),
        "scores": {"accuracy": float(pick == capital), "accuracy_norm": float(right)},
        "truncated": 0, "row": {"country": country, "capital": capital},
    }  # fmt: skip


def _translation(chosen: random.Random, index: int, right: bool) -> dict[str, Any]:
    pairs = [("猫が好きです。", "I like cats."), ("Wo ist der Bahnhof?", "Where is the station?")]
    source, target = chosen.choice(pairs)
    output = f"\n  {target if right else 'It is raining 🌧️ today.'} "
    return {
        "sample": f"tr-{index}", "prompt": f"Translate into English.\n\n{source}\n→", "output": output,
        "answer": output.strip(), "target": [target, target.rstrip(".?")],
        "scores": {"accuracy": float(right)}, "truncated": 0, "row": {"source": source},
    }  # fmt: skip


def _reading(chosen: random.Random, index: int, right: bool) -> dict[str, Any]:
    prompt = f"{PASSAGE * (1 + index % 12)}\n\nQuestion: Since when has the gauge been read?\nAnswer:"
    score = 1.0 if right else chosen.choice([0.0, 0.4, 2 / 3])
    answer = "since 1807" if right else chosen.choice(["1846", "since the tide", "the 1807 float"])
    return {
        "sample": f"read-{index:03d}", "prompt": prompt, "output": f" {answer}.", "answer": answer,
        "target": ["1807", "since 1807"], "scores": {"token_f1": score, "exact_match": float(right)},
        "truncated": int(index % 50 == 49), "row": {"passage": PASSAGE, "answers": ["1807"]},
        "group": f"passages of {1 + index % 3}",
    }  # fmt: skip


def make_scores(model: str, dataset: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Make the score file that belongs to the samples."""
    kind, primary, chance = DATASETS.get(dataset, ("generate", "token_f1", None))
    names = sorted(samples[0]["scores"], key=lambda name: name != primary)
    return {
        "protocol": 1,
        "model": {
            "name": model, "digest": digest_of("model", model), "description": f"A toy model, {model}.",
            "source": f"demo/models/{model}", "revision": None, "dtype": "float32", "num_gpus": 0,
        },
        "dataset": {
            "name": dataset, "digest": digest_of("dataset", dataset), "kind": kind, "chance": chance,
            "description": f"Made-up questions of {dataset}.", "source": f"demo/data/{dataset}.jsonl",
            "revision": None,
        },
        "primary": primary,
        "metrics": {name: fraction([sample["scores"][name] for sample in samples]) for name in names},
        "counts": {
            "samples": len(samples), "requests": len(samples) * (4 if kind == "choice" else 1),
            "truncated": sum(sample["truncated"] > 0 for sample in samples),
            "unanswered": sum(sample["answer"] is None for sample in samples), "near_misses": 0,
        },
        "provenance": _provenance(model, dataset, len(samples) * (4 if kind == "choice" else 1)),
    }  # fmt: skip


def fraction(scores: list[float]) -> dict[str, Any]:
    """Make the metric that is the mean of scores within 0 to 1, with a normal interval cut to 0 to 1."""
    n, value = len(scores), sum(scores) / len(scores)
    stderr = math.sqrt(sum((score - value) ** 2 for score in scores) / (n - 1) / n)
    ci95 = [max(0.0, value - 1.96 * stderr), min(1.0, value + 1.96 * stderr)]
    return {"value": value, "stderr": stderr, "ci95": ci95, "n": n, "higher_is_better": True, "percent": True}


def _provenance(model: str, dataset: str, requests: int) -> dict[str, Any]:
    chosen = random.Random(f"time of {model}/{dataset}")
    return {
        "shardmark": "0.1.0", "git_commit": digest_of("commit") * 2 + "0badcafe", "python": "3.11.7",
        "packages": {"torch": "2.13.0", "transformers": "5.2.0", "tokenizers": "0.23.1", "numpy": "2.4.6"},
        "hardware": {"cpu": "AMD EPYC 9354", "cores": 2, "memory_gb": 23.4, "gpus": []},
        "inference": {
            "shards": [digest_of(model, dataset, str(shard)) for shard in range(3)], "predicted_seconds": 100,
            "seconds": chosen.uniform(4, 300), "load_seconds": chosen.uniform(0.5, 6), "batch_size": "auto",
            "started": "2026-11-23T22:00:00Z", "finished": "2026-11-23T22:04:30Z", "requests": requests, "reused": 0,
        },
        "rows": {"file": f"demo/data/{dataset}.jsonl"},
        "config": {
            "model": {"name": model, "dtype": "float32", "batch_size": "auto"},
            "dataset": {"name": dataset, "max_new_tokens": 32, "stop": ["\n\n"]},
        },
    }  # fmt: skip
