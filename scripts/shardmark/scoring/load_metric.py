"""Load metrics with `evaluate` from the neighbouring file: nothing is looked up on a hub."""

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

MODULE = Path(__file__).with_name("evaluate_module.py")


@functools.cache
def load_metric(name: str) -> Any:
    """The metric of that name as a module of `evaluate`."""
    return _module()(config_name=name, keep_in_memory=True)


@functools.cache
def _module() -> Any:
    """The class of the module, kept because `evaluate` takes longer to find it than to make a metric of it."""
    os.environ["HF_EVALUATE_OFFLINE"] = "1"
    with _as_if_not_installed("transformers", "scipy.stats"):  # which evaluate imports if it can: 7 s, for nothing
        import evaluate
    return type(evaluate.load(str(MODULE), config_name="accuracy", keep_in_memory=True))


class _Refusal(MetaPathFinder):
    """A finder that comes first and reports packages as not installed."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(f"{package}." for package in packages)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if f"{name}.".startswith(self._packages):
            raise ModuleNotFoundError(f"{name} is not imported here", name=name)


@contextmanager
def _as_if_not_installed(*packages: str) -> Iterator[None]:
    """A block in which imports do without these packages, unless they have been imported before."""
    refusal = _Refusal(packages)
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)
