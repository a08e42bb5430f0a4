"""The samples of lm-eval's tasks, in the order of tasks and documents."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain, count
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.tasks.extent import Extent
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.documents import Document, Splits, documents
from shardmark.tasks.lm_eval.judging import unfit_for_several
from shardmark.tasks.lm_eval.requests import request_of
from shardmark.tasks.lm_eval.select import LmEvalDataset
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.plain import as_json, is_numpy, type_name
from shardmark.tasks.render import Sample
from shardmark.tasks.requests import request_id
from shardmark.untrusted.limits import bounded_steps


def samples(
    dataset: LmEvalDataset,
    splits: Callable[[TaskSettings], Splits],
    code: Code,
    limit: int | float | None,
    extent: Extent | None = None,
) -> Iterator[Sample]:
    """The samples of a data set, at most `limit`, or this fraction, of each task's that its file chooses.

    Raises UserError.

    `extent` counts these and all rows. Templates alone are bounded in time and memory; a task's own code may take what
    it needs.
    """
    problems: list[Problem] = []
    for task in dataset.tasks:
        chosen = sorted({*dataset.chosen.get(task.task, ())})
        found = documents(task, splits(task), code, dataset.file, limit, dataset.style, extent, chosen)
        with nullcontext() if task.asking() else bounded_steps() as step:
            try:
                for number in chain(chosen, count(len(chosen))):
                    with step.at(f"{dataset.file}: {task.task}, document {number}") if step else nullcontext():
                        document = next(found, None)
                    if document is None:
                        break
                    if number == (chosen[0] if chosen else 0):
                        _check(dataset, task, document)
                    yield _sample(dataset, task, number, document)
            except UserError as error:
                problems += error.problems
    if problems:
        raise UserError(problems)


def _check(dataset: LmEvalDataset, task: TaskSettings, first: Document) -> None:
    """Check conditions that only documents show: the first decides whether there are several right answers."""
    if first.several_gold and (metrics := unfit_for_several(task)):
        what = (
            f"{', '.join(metrics)} cannot be aggregated over documents with several right answers; lm-eval cannot, "
            "either"
        )
        raise UserError(Problem(dataset.file, task.task, what, "leave the task out, or correct its doc_to_target"))


def _sample(dataset: LmEvalDataset, task: TaskSettings, number: int, document: Document) -> Sample:
    try:
        request = request_of(task, document.arguments)
        row, choices = as_json(document.doc), as_json(document.choices, "doc_to_choice")
        gold = _gold(task, document.gold)
    except (ValueError, TypeError) as error:
        where = f"{task.task}, document {number}"
        raise UserError(Problem(dataset.file, where, str(error), "fix the task, or leave it out")) from error
    name = f"{task.task}/{number}" if dataset.group else str(number)
    group = task.task if dataset.group else None
    head = 0 if dataset.group else document.head
    several = {"several": True} if document.several_gold else {}
    return Sample(name, row, request, request_id(request), gold, choices, group, head, several, document.remarks)


def _gold(task: TaskSettings, value: Any) -> Any:
    """The right answer as JSON. Raises TypeError for other values, and for arrays that lm-eval cannot compare."""
    single = is_numpy(value) and task.output_type == "multiple_choice" and value.ndim and value.size == 1
    if single:
        value = value.reshape(())
    if is_numpy(value) and value.ndim and task.process_results is None:
        what = f"doc_to_target: a {type_name(value)} of {value.size} values, which lm-eval cannot compare"
        raise TypeError(f"{what}: return a number, a text or a list instead")
    return as_json(value, "doc_to_target")
