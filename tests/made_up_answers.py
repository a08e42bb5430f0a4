"""What jobs would have made of a plan, without a model: answers that are made up, and their real scores."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answered import made, scored, wrote
from shardmark import layout
from shardmark.files import read_jsonl
from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.plan import Plan
from shardmark.plan.shard_counts import Divisions
from shardmark.records.prediction import Prediction
from shardmark.scoring.score import score_dataset
from shardmark.store.predictions import write_predictions

Model = Callable[[dict[str, Any]], Prediction]
"Answers a line of a request file, to which the model's name is added."


def says_one(request: dict[str, Any]) -> Prediction:
    """A model that always says 1."""
    return wrote(request["id"], "1", end="stop")


def guesses(request: dict[str, Any]) -> Prediction:
    """A model whose answers to all kinds of requests differ, are the same each time, and others' are others."""
    number = zlib.crc32(f"{request['model']} {request['id']}".encode())
    match request["kind"]:
        case "generate":
            return wrote(request["id"], f"It is {number % 6}.\n", end="stop")
        case "rolling":
            return scored(request["id"], -1.0 - number % 50)
    logprobs = [-1.0 - (number >> place) % 8 / 4 for place in range(len(request["pairs"]))]
    return scored(request["id"], *logprobs, greedy=0)


def finish(plan: Plan, model: Model = says_one) -> None:
    """Answer every missing shard of a plan, and score what has not been scored."""
    for pair in plan.pairs:
        for shard in pair.missing:
            answer(plan, pair, shard.name, model)
        if not pair.scored:
            score(plan, pair)


def answer(plan: Plan, pair: Pair, shard: str, model: Model = says_one) -> None:
    """Write the predictions of a shard."""
    name = pair.dataset.name
    requests = read_jsonl(plan.results / "requests" / name / f"{shard}.jsonl")
    answers = [model(line | {"model": pair.model.name}) for line in requests]
    out = plan.results / "predictions" / pair.model.full_name / name / f"{shard}.jsonl"
    write_predictions(out, answers, made())


def score(plan: Plan, pair: Pair) -> None:
    """Score a model on a data set as the rule does."""
    model, dataset = pair.model.full_name, pair.dataset
    bits = Divisions(plan.results, model, plan.benchmark.run).bits(dataset.name)
    task = layout.TASKS.file(plan.results, dataset=dataset.name, task=dataset.digest)
    out = map(Path, score_files(plan.results, pair.model, dataset))
    score_dataset(task, bits, layout.MODELS.file(plan.results, model=model), plan.results, *out)
