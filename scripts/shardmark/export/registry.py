"""The formats that a report can be exported to."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from shardmark.errors import Problem, UserError, nearest
from shardmark.printable import printable

if TYPE_CHECKING:
    from .finished import Finished

FORMATS = {
    "lm-eval": "lm_eval:export_lm_eval",
    "every-eval-ever": "every_eval:export_every_eval",
    "hub": "hub:export_hub",
    "parquet": "parquet:export_parquet",
}
"The function of each format, which writes to a folder and returns what it had to leave out."


def export(report: Path, formats: Sequence[str], out: Path) -> list[str]:
    """Write a report in some formats, each into the folder of its name; returns what was left out, and why, by format.

    Raises UserError.
    """
    from .finished import read_finished  # here, since --help needs none of the report's packages

    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(Problem("FORMAT", "", f"{name!r} is not a format", nearest(name, FORMATS)) for name in unknown)
    finished = read_finished(report)
    told = []
    for name in formats:
        left_out = _function(name)(finished, out / name)
        told += [f"{name}: {out / name}", *(printable(f"{name}: left out: {what}") for what in left_out)]
    return told


def _function(name: str) -> "Callable[[Finished, Path], list[str]]":
    """The function of a format, imported on demand: each has heavy packages of its own."""
    module, _, function = FORMATS[name].partition(":")
    found: Callable[[Finished, Path], list[str]] = getattr(import_module(f"shardmark.export.{module}"), function)
    return found
