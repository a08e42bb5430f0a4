"""The data sets of config/datasets, and made-up rows for them with the real columns."""

import functools
from pathlib import Path
from typing import Any

from shardmark.config import Benchmark, DatasetConfig, Named, load
from shardmark.errors import Problem
from shardmark.tasks import FileRows, Sample, render, rows_files

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests/fixtures"
DATA = FIXTURES / "data"
NAMES = sorted(path.stem for path in (ROOT / "config/datasets").rglob("*.yaml") if not path.stem.startswith("_"))


@functools.cache
def repository() -> Benchmark:
    """All of config/datasets."""
    found: list[Problem] = []
    benchmark = load({"models": ["demo_small"], "datasets": ["*"]}, ROOT, "config", found)
    assert found == []
    return benchmark


DATASETS = {dataset.name: dataset for dataset in repository().datasets}
GROUPS = {group.name: group for group in repository().groups}
FIRST = {group.members[0] for group in GROUPS.values()}
ENDS = {part for group in GROUPS.values() for part in (group.members[0], group.members[-1]) if "." in part}
OWN = [name for name, dataset in DATASETS.items() if dataset.settings.source.hub]
"Those whose rows are not in the repository."
SHOWN = [name for name in OWN if "." not in name or name in ENDS]
"Those of them that have made-up rows: of a file with parts the first and the last."


def rendered(dataset: Named[DatasetConfig]) -> list[Sample]:
    """The samples of a data set's made-up rows."""
    settings = dataset.settings
    examples = settings.example_source()
    shots = rows_of(examples, dataset.file) if examples else ()
    return list(render(settings, rows_of(settings.source, dataset.file), dataset.file, None, shots))


def rows_of(source: Any, where: str) -> Any:
    """The made-up rows of a source."""
    paths = rows_files(source, str(DATA), where)
    assert paths
    return FileRows(paths, source)
