"""Whether a model's backend answers the kinds of requests that data sets make, checked before anything runs."""

import re
from collections.abc import Iterable
from pathlib import Path

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.config.search_path import config_files
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


def kind_problems(models: Iterable[ModelRecord], datasets: Iterable[DatasetRecord], root: Path) -> list[Problem]:
    """A problem for each model whose backend cannot answer some data sets; `root` is the folder that holds config/."""
    datasets = list(datasets)
    return [problem for model in models if (problem := _problem(model, datasets, root))]


def _problem(model: ModelRecord, datasets: list[DatasetRecord], root: Path) -> Problem | None:
    can = model.settings.kinds
    beyond = [f"{dataset.name} ({dataset.kind})" for dataset in datasets if not ASKS[dataset.kind] <= can]
    if not beyond:
        return None
    backend = model.settings.backend
    what = f"model {model.name} ({backend}) answers only requests of kind {', '.join(sorted(can))}"
    others = [
        name for dataset in datasets if not ASKS[dataset.kind] <= can and (name := _generated(dataset.name, root))
    ]
    instead = f"ask {', '.join(others)} instead, or " if others and "generate" in can else ""
    if isinstance(model.settings, OpenaiConfig):
        how = "api: completions and a tokenizer_path, if it returns log-probabilities of prompts"
    else:
        how = "another backend"
    fix = f"{instead}move these data sets to a separate run with other models, or give the model {how}"
    return Problem(model.file, "backend", f"{what}, but these data sets ask others: {', '.join(beyond)}", fix)


def _generated(name: str, root: Path) -> str | None:
    """The data set with the same questions and generated answers, if there is one with the corresponding name."""
    stem = re.sub(r"_(ppl|mc|ll|choice)$", "", name)
    other = f"{stem}_gen"
    return other if other in config_files("datasets", root, []).all else None
