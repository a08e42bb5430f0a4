"""Infer random requests of a finished report again, and check whether the answers are the same."""

import random
import tempfile
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shardmark import layout
from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.plan.endpoints import use_max_cost
from shardmark.plan.plan import Plan
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.scoring.agreement import apart, text_of
from shardmark.store.predictions import read_predictions, read_trailer
from shardmark.store.requests import read_requests
from shardmark.tools.asking import answer
from shardmark.tools.needs import shards_of
from shardmark.tools.planned import plan_run, without_store

REQUESTS = 20
"How many requests are inferred again by default, over all models and data sets together."
TOLERANCE = {"float32": 1e-4}
ROUGH = 0.1
"Tolerances of log-likelihoods by dtype, and for types that are less precise or unknown."
RELATIVE = 1e-6
"The tolerance relative to a log-likelihood: that of a long text is a sum of thousands."


class Chosen(NamedTuple):
    """A request of a finished report, and its answer."""

    model: ModelRecord
    dataset: str
    request: Request
    key: str
    before: Prediction
    by: str
    "Who answered it, if the answer came from a shared store; else empty."


class Compared(NamedTuple):
    """A request that was inferred again."""

    chosen: Chosen
    after: Prediction
    distance: float
    "The largest difference of log-likelihoods; for texts, 0 if they are the same, else infinite."
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether both answers are the same except for rounding."""
        return self.distance <= self.tolerance


def audit(
    run: Merged, root: Path, count: int = REQUESTS, seed: int = 0, tolerance: float | None = None
) -> Iterator[Compared]:
    """Infer `count` requests of a run's scores again; the selection depends on `seed` and on the results.

    `tolerance` is the largest accepted difference of log-likelihoods, None for what the precision allows; texts must be
    the same. Raises UserError if nothing is scored yet, or if predictions are gone.
    """
    if count < 1:
        raise UserError(Problem("--requests", "", f"at least one request is inferred again (given: {count})", "-n 20"))
    use_max_cost(run.config)
    plan = plan_run(without_store(run), root, local=True)
    by_model: dict[str, list[Chosen]] = defaultdict(list)
    for chosen in draw(plan, count, random.Random(seed)):
        by_model[chosen.model.full_name].append(chosen)
    for found in by_model.values():
        yield from _again(found, plan.results, tolerance)


def draw(plan: Plan, count: int, lot: random.Random) -> list[Chosen]:
    """A random sample of the scored requests, each equally likely. Raises UserError."""
    files = list(_files(plan))
    sizes = [size for _, _, size in files]
    if not files:
        what = "nothing of this run is scored yet, so there is nothing to compare with"
        raise UserError(Problem(str(plan.results), "", what, "run it first"))
    ends = list(accumulate(sizes))
    picked: dict[int, list[int]] = defaultdict(list)
    for number in sorted(lot.sample(range(ends[-1]), min(count, ends[-1]))):
        at = bisect(ends, number)
        picked[at].append(number - (ends[at] - sizes[at]))
    return [chosen for at, numbers in picked.items() for chosen in _chosen(*files[at][:2], numbers)]


def _files(plan: Plan) -> Iterator[tuple[ModelRecord, Path, int]]:
    """The prediction files of scored pairs, with the number of predictions in each."""
    problems = []
    for pair in plan.pairs:
        fields = {"model": pair.model.full_name, "dataset": pair.dataset.name}
        for shard in sorted(shards_of(plan, pair) or ()) if pair.scored else ():
            path = layout.PREDICTIONS.file(plan.results, shard=shard, **fields)
            if trailer := read_trailer(path):
                yield pair.model, path, trailer.count
            else:
                what = "these predictions are scored, but are gone or damaged"
                problems.append(Problem(str(path), "", what, "leave this pair out with --config datasets=..."))
    if problems:
        raise UserError(problems)


def _chosen(model: ModelRecord, path: Path, numbers: Iterable[int]) -> Iterator[Chosen]:
    results, fields = layout.PREDICTIONS.results(path), layout.PREDICTIONS.fields(path)
    asked = read_requests(layout.REQUESTS.file(results, dataset=fields["dataset"], shard=fields["shard"]))
    answers, trailer = read_predictions(path)
    keys = sorted(answers)
    if keys != sorted(asked):
        what = "its requests do not match its shard"
        raise UserError(Problem(str(path), "", what, "snakemake verify --profile local"))
    by = ", ".join(dict.fromkeys(taken.by for taken in trailer.taken))
    for key in (keys[number] for number in numbers):
        yield Chosen(model, fields["dataset"], asked[key], key, answers[key], by)


def _again(found: list[Chosen], results: Path, tolerance: float | None) -> Iterator[Compared]:
    """A model's new answers, compared with the old ones."""
    model = found[0].model
    allowed = TOLERANCE.get(model.dtype or "", ROUGH) if tolerance is None else tolerance
    by_kind: dict[str, dict[str, Request]] = defaultdict(dict)
    for chosen in sorted(found, key=lambda each: each.key):
        by_kind[chosen.request.kind][chosen.key] = chosen.request
    after: dict[str, Prediction] = {}
    with tempfile.TemporaryDirectory(dir=results, prefix=".audit.") as folder:  # so that no known answer is taken over
        for asked in by_kind.values():
            fields = {"model": model.full_name, "dataset": "_audit", "shard": digest([*asked])}
            out = layout.PREDICTIONS.file(folder, **fields)
            answer(model, results, asked, out)
            after |= read_predictions(out)[0]
    for chosen in found:
        distance = apart(chosen.before, after[chosen.key], RELATIVE)
        yield Compared(chosen, after[chosen.key], distance, allowed)


def audit_table(found: Iterable[Compared]) -> Table:
    """A line for each model and data set."""
    columns = ("model", "data set", "inferred again", "agree", "largest difference", "tolerance")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    pairs: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for each in found:
        pairs[each.chosen.model.name, each.chosen.dataset].append(each)
    for (model, dataset), compared in sorted(pairs.items()):
        largest = max(each.distance for each in compared)
        shown = "another text" if largest == float("inf") else f"{largest:.2g}"
        agree = sum(each.agrees for each in compared)
        table.add_row(model, dataset, str(len(compared)), str(agree), shown, f"{compared[0].tolerance:g}")
    return table


def differences(found: Iterable[Compared]) -> Iterator[str]:
    """A line for each request whose answers do not agree."""
    for each in found:
        if not each.agrees:
            chosen = each.chosen
            whose = f" (reused from {chosen.by})" if chosen.by else ""
            name = f"{chosen.model.name} on {chosen.dataset}, request {chosen.key[:16]}{whose}"
            yield f"{name}: {text_of(chosen.before)} before, {text_of(each.after)} now"
