"""Whether a model's backend answers what a data set asks, said before anything runs."""

from collections.abc import Iterable

from shardmark.errors import Problem
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import ModelRecord

ASKS = {
    "generate": {"generate"},
    "choice": {"choice"},
    "loglikelihood": {"choice"},
    "rolling": {"rolling"},
    "mixed": {"generate", "choice"},
}
"The kinds of requests that each kind of data set makes."


def kind_problems(models: Iterable[ModelRecord], datasets: Iterable[DatasetRecord]) -> list[Problem]:
    """A problem for each model whose backend cannot answer some data sets."""
    datasets = list(datasets)
    return [problem for model in models if (problem := _problem(model, datasets))]


def _problem(model: ModelRecord, datasets: list[DatasetRecord]) -> Problem | None:
    can = model.settings.kinds
    beyond = [f"{dataset.name} ({dataset.kind})" for dataset in datasets if not ASKS[dataset.kind] <= can]
    if not beyond:
        return None
    backend = model.settings.backend
    what = f"model {model.name} ({backend}) answers requests of kind {', '.join(sorted(can))} only"
    fix = "leave these data sets to other models, in a run of their own, or give the model another backend"
    return Problem(model.file, "backend", f"{what}, and these ask others: {', '.join(beyond)}", fix)
