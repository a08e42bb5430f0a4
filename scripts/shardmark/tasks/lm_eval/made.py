"""Rows that a task's own function makes (`custom_dataset`), such as those of ruler, niah and babilong.

The function runs once, at the same point as in lm-eval: before anything else of the task, with the seeds of a run. Its
rows are stored beside those of the Hub, in a file named by everything that they were made from. The lock has the file's
SHA-256, so that different rows under the same lock are reported.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import digest, jsonl, write_whole
from shardmark.tasks.lm_eval.code import Code, code_identity
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.lm_eval.wanted import draws_lots
from shardmark.tasks.plain import as_json

FORMAT = 1
"Increased whenever the same function's rows would be stored differently than before."


def made_files(settings: TaskSettings, wanted: list[str], code: Code, where: str) -> dict[str, Path]:
    """The files of the wanted splits of a task that makes its rows; missing ones are made.

    Raises UserError for failures, and for code that is not allowed.
    """
    function = settings.custom_dataset
    if not isinstance(function, Function):
        what = f"{settings.task} names {function!r}, which is not a function"
        raise UserError(Problem(where, "custom_dataset", what, "write !function MODULE.NAME"))
    if any(draws_lots(each.file) for each in settings.processing() if each.file):
        what = f"{settings.task} generates and processes its rows with the same random numbers"
        raise UserError(Problem(where, "custom_dataset", what, "leave the task out"))
    given = {**(settings.metadata or {}), **(settings.dataset_kwargs or {})}
    about = [FORMAT, function.name, code_identity(settings.asking(), code.root), sorted(given), str(given)]
    files = {split: _kept(about, split) for split in wanted}
    if not all(file.is_file() for file in files.values()):
        found = _made(settings.task, function, given, code, where)
        for split in wanted:
            if split not in found:
                what = (
                    f"{settings.task} reads the split {split}, but its function generates {', '.join(map(str, found))}"
                )
                raise UserError(Problem(where, "custom_dataset", what, "correct the task, or leave it out"))
            write_whole(files[split], jsonl(as_json(dict(row)) for row in found[split]))
    return files


def _kept(about: list[Any], split: str) -> Path:
    from shardmark.store.hub_cache import hub_home  # only used for a path, which is no part of the rows

    return hub_home() / "shardmark" / "rows" / f"{digest([about, split])}.jsonl"


def _made(task: str, function: Function, given: dict[str, Any], code: Code, where: str) -> Mapping[str, Any]:
    """The return value of the function. Raises UserError for any exception."""
    import numpy

    code.begin([function])
    made = code.load(function)
    random.seed(0)
    numpy.random.seed(1234)
    try:
        found = made(**given)
        return {str(split): rows for split, rows in found.items()}
    except Exception as error:  # the task's own code may raise any exception
        what = f"{task}: {function.name} cannot generate rows: {type(error).__name__}: {error}"
        fix = "set what it asks for, such as a tokenizer, with lm_eval_metadata: {KEY: VALUE}; or leave the task out"
        raise UserError(Problem(where, "custom_dataset", what, fix)) from error
