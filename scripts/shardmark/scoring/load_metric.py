"""Load metrics with `evaluate`, from the file beside this one: nothing is looked up on a hub."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

MODULE = Path(__file__).with_name("evaluate_module.py")


@functools.cache
def load_metric(name: str) -> Any:
    """The metric of that name as a module of `evaluate`."""
    os.environ["HF_EVALUATE_OFFLINE"] = "1"
    with _as_if_not_installed("transformers"):  # whose pipelines evaluate imports if it can: 6 s, and nothing is used
        import evaluate
    return evaluate.load(str(MODULE), config_name=name, keep_in_memory=True)


class _Refusal(MetaPathFinder):
    """A finder that comes first, and finds that a package is not there."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self._package:
            raise ModuleNotFoundError(f"{name} is not imported here", name=name)


@contextmanager
def _as_if_not_installed(package: str) -> Iterator[None]:
    """What is imported meanwhile does without a package, unless that has been imported before."""
    refusal = _Refusal(package)
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)
