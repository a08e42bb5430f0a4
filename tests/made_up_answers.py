"""What jobs would have made of a plan, without a model: answers that are made up, and their real scores."""

from pathlib import Path

from answered import made, wrote
from shardmark import layout
from shardmark.files import read_jsonl
from shardmark.plan import Pair, Plan, score_files
from shardmark.plan.shard_counts import Divisions
from shardmark.scoring.score import score_dataset
from shardmark.store.predictions import write_predictions


def finish(plan: Plan) -> None:
    """Answer every missing shard of a plan, and score what has not been scored."""
    for pair in plan.pairs:
        for shard in pair.missing:
            answer(plan, pair, shard.name)
        if not pair.scored:
            score(plan, pair)


def answer(plan: Plan, pair: Pair, shard: str) -> None:
    """Write the predictions of a shard: a model that always says 1."""
    name = pair.dataset.name
    requests = read_jsonl(plan.results / "requests" / name / f"{shard}.jsonl")
    answers = [wrote(line["id"], "1", end="stop") for line in requests]
    out = plan.results / "predictions" / pair.model.full_name / name / f"{shard}.jsonl"
    write_predictions(out, answers, made())


def score(plan: Plan, pair: Pair) -> None:
    """Score a model on a data set as the rule does."""
    model, dataset = pair.model.full_name, pair.dataset
    bits = Divisions(plan.results, model, plan.benchmark.run).bits(dataset.name)
    task = layout.TASKS.file(plan.results, dataset=dataset.name, task=dataset.digest)
    out = map(Path, score_files(plan.results, pair.model, dataset))
    score_dataset(task, bits, layout.MODELS.file(plan.results, model=model), plan.results, *out)
