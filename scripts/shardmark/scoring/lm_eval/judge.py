"""Score lm-eval's tasks: samples with their scores, and the metrics."""

import random
from pathlib import Path

import msgspec
import numpy as np

from shardmark.errors import Problem, UserError
from shardmark.records.base import MADE_ANEW, Unreadable, convert
from shardmark.records.dataset import LmEvalJudging, TaskHeader, TaskLine
from shardmark.records.origin import LmEvalOrigin
from shardmark.records.prediction import Prediction
from shardmark.records.request import Request
from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.scoring.lm_eval.evaluate_metrics import load_here
from shardmark.scoring.lm_eval.groups import group_metrics
from shardmark.scoring.lm_eval.task import Task
from shardmark.tasks.lm_eval.code import Code, install, judging_with
from shardmark.tasks.lm_eval.files import functions, restored
from shardmark.untrusted.limits import bounded_steps


def judge(
    lines: list[TaskLine], asked: dict[str, Request], answers: dict[str, Prediction], header: TaskHeader
) -> tuple[list[Sample], dict[str, Metric]]:
    """The samples of a task file with their scores, and the metrics. Raises UserError for code that fails."""
    dataset, origin = header.dataset, header.dataset.origin
    assert isinstance(origin, LmEvalOrigin)
    try:
        judged = convert(header.settings.get("lm_eval"), LmEvalJudging)
    except Unreadable as error:
        raise UserError(Problem(dataset.where, "lm_eval", str(error), MADE_ANEW)) from error
    root = Path(origin.lm_eval.tasks)
    code = Code(root, origin.lm_eval.code, dataset.name)
    samples: list[Sample] = []
    metrics: dict[str, dict[str, Metric]] = {}
    for name, settings in judged.tasks.items():
        own = [line for line in lines if line.group in (None, name)]
        _seed()
        try:
            with judging_with(load_here), bounded_steps() as step:
                step.name(dataset.where)
                rules = msgspec.structs.replace(
                    settings,
                    metric_list=restored(settings.metric_list, root),
                    filter_list=restored(settings.filter_list, root),
                    process_results=restored(settings.process_results, root),
                )
                code.begin(functions([rules.metric_list, rules.filter_list, rules.process_results]))
                task = Task(name, rules, code)
                results = task.results(own, answers)
                samples += task.samples(own, asked, answers, results)
                metrics[name] = task.measured(results)
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:  # the tasks' own code: any exception may come out
            what = f"{name} cannot be scored: {type(error).__name__}: {_first_words(error)}"
            fix = install(error) if isinstance(error, ModuleNotFoundError) else "fix the task, or leave it out"
            raise UserError(Problem(dataset.name, "lm_eval", what, fix)) from error
    if not judged.groups:
        return samples, next(iter(metrics.values()))
    return samples, group_metrics(judged.groups, metrics)


def _first_words(error: Exception) -> str:
    """The first line of an error's message that has letters or digits."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def _seed() -> None:
    """Seed the generators as lm-eval does once per run: some tasks break ties at random."""
    random.seed(0)
    np.random.seed(1234)
