"""A task's documents as requests: lm-eval's questions about each, and the facts needed to score the answer."""

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from shardmark.errors import Problem, UserError
from shardmark.records.request import Context
from shardmark.tasks.extent import Extent, share
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.contexts import Contexts
from shardmark.tasks.lm_eval.fewshot import Doc, Sampler, sampler
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.judging import choice_number
from shardmark.tasks.lm_eval.prompts import Prompts
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.lm_eval.style import Style
from shardmark.tasks.plain import type_name
from shardmark.tasks.remarks import Remark
from shardmark.untrusted.limits import FIX, TooLong, stopped

if TYPE_CHECKING:
    from datasets import Dataset

TEXT = Style()
"The style in which contexts are texts."

Splits = Mapping[str, Any]
"The rows of each split by its name, as a `datasets.Dataset`."


@dataclass(frozen=True)
class Document:
    """One document of a task."""

    doc: Doc
    arguments: list[tuple[Any, ...]]
    "lm-eval's arguments for a model: (context, continuation), (context, generation settings) or (text,)."
    gold: Any
    "The right answer: a text, the number of a choice, or a list of either."
    several_gold: bool
    "Whether any of a list of right answers counts, as the first document of a task decides."
    choices: list[str] | None
    head: int
    "The number of characters that the contexts of all documents begin with: description and, if fixed, examples."
    remarks: tuple[Remark, ...] = ()


def documents(
    settings: TaskSettings,
    splits: Splits,
    code: Code,
    where: str,
    limit: int | float | None,
    style: Style = TEXT,
    extent: Extent | None = None,
    chosen: Sequence[int] = (),
) -> Iterator[Document]:
    """The documents of the scored split within the limit, in order; `extent` counts them.

    `chosen` are the numbers of those that are asked, in order, if not all. Raises UserError for failures, with the
    document's number.
    """
    place = str(settings.eval_split)
    number = -1
    try:
        _seed()
        code.begin([*settings.asking(), *settings.judging()])
        with _on_disk(settings, splits) as stored:
            tried, docs, pool = _docs(settings, stored, code, where)
            place = f"{settings.task}, document 0"
            task = _Task(settings, code, tried, pool, style)
            numbers = chosen or range(len(docs))
            if chosen and chosen[-1] >= len(docs):
                what = f"there is no document {chosen[-1]}: {settings.task} has {len(docs):,}, numbered from 0"
                raise UserError(Problem(where, f"samples.{settings.task}", what, "choose others"))
            numbers = numbers if limit is None else numbers[: share(limit, len(docs))]
            if extent:
                extent.add(settings.task if extent.group_by else "", len(numbers), len(docs))
            wanted = {*numbers}
            for number, doc in enumerate(islice(docs, max(wanted, default=-1) + 1)):
                if number in wanted:
                    place = f"{settings.task}, document {number}"
                    yield task.document(doc)
    except (UserError, GeneratorExit, KeyboardInterrupt):
        raise
    except (MemoryError, TooLong) as error:
        raise UserError(Problem(where, place, stopped(error), FIX)) from error
    except Exception as error:  # templates and the task's own code may raise any exception
        what = f"{type(error).__name__}: {error}"
        raise UserError(Problem(where, place, what, "fix the task, or leave it out")) from error
    if number < 0:
        raise UserError(Problem(where, settings.task, "the split has no documents", "name another split"))


@contextmanager
def _on_disk(settings: TaskSettings, splits: Splits) -> Iterator[Splits]:
    """The splits as files for a task that processes them, as lm-eval gets them from the Hub.

    `datasets` then caches the results of `map`, and returns them when lm-eval processes the same rows again: random
    numbers are drawn only once.
    """
    if not settings.processing():
        yield splits
        return
    from datasets import load_from_disk

    with tempfile.TemporaryDirectory(prefix="shardmark-lm-eval-") as folder:
        stored = dict(splits)
        for number, (name, rows) in enumerate(splits.items()):
            if len(rows):
                rows.save_to_disk(f"{folder}/{number}")
                stored[name] = load_from_disk(f"{folder}/{number}")
        yield stored


def _docs(settings: TaskSettings, splits: Splits, code: Code, where: str) -> tuple[Any, Any, Sequence[Doc]]:
    """The documents that lm-eval tries a task out with, those it scores, and those that examples are drawn from.

    Some tasks draw random numbers while they process documents. lm-eval seeds Python's and NumPy's generators once per
    run, and processes the examples' split once, whether it needs examples or not, then the scored one twice.
    """
    seen = _state()
    pool = _pool(settings, splits, code)
    scored = splits[str(settings.eval_split)]
    tried = _processed(scored, settings.process_docs, code)
    docs = _processed(scored, settings.process_docs, code)
    if pool is None and _state() != seen:
        what = f"{settings.task} draws random numbers for documents, and lm-eval draws for {settings.shot_split} first"
        raise UserError(Problem(where, "data_root", what, f"provide the split {settings.shot_split}, too"))
    return tried, docs, pool or ()


def _pool(settings: TaskSettings, splits: Splits, code: Code) -> Sequence[Doc] | None:
    """The documents that examples are drawn from; None if none are needed and their split is not there."""
    shots = settings.shots
    if shots.split is None and shots.samples is not None:
        found = code.load(shots.samples)() if isinstance(shots.samples, Function) else shots.samples
        return list(found)
    if not settings.num_fewshot and settings.shot_split not in splits:
        return None
    process = shots.process_docs if shots.split is not None else settings.process_docs
    return _processed(splits[str(settings.shot_split)], process, code)


def _processed(rows: "Dataset", process: Function | None, code: Code) -> Any:
    return rows if process is None else code.load(process)(rows)


def _seed() -> None:
    import numpy

    random.seed(0)
    numpy.random.seed(1234)


def _state() -> Any:
    import numpy

    return random.getstate(), str(numpy.random.get_state(legacy=False))


def _texts(choices: Iterable[object]) -> list[str]:
    """Choices, all of which must be texts. Raises TypeError for others, whose length lm-eval cannot determine."""
    found: list[str] = []
    for number, choice in enumerate(choices):
        if not isinstance(choice, str):
            what = f"choice {number} is {choice!r}, a {type_name(choice)}"
            raise TypeError(f"{what}, but must be text: put it in quotes, or append | string")
        found.append(choice)
    return found


def _chosen(choices: list[str], number: Any) -> str:
    try:
        return choices[number]
    except (IndexError, TypeError) as error:
        raise ValueError(f"doc_to_target is {number!r}, not the number of one of {len(choices)} choices") from error


class _Task:
    """A task with its documents loaded."""

    def __init__(self, settings: TaskSettings, code: Code, docs: "Dataset", pool: Sequence[Doc], style: Style) -> None:
        self.settings, self.style = settings, style
        prompts = self.prompts = Prompts(settings, code, list(docs.features.keys()))
        first = docs[0]
        chooses = settings.doc_to_choice is not None
        self.several_inputs = chooses and isinstance(prompts.text(first), int)
        if self.several_inputs and settings.output_type != "multiple_choice":
            what = "its text is a number, by which lm-eval takes the choices for questions, as in multiple_choice only"
            raise ValueError(f"{what}: add a word to doc_to_text, or leave doc_to_choice out")
        self.several_gold = isinstance(prompts.target(first), list)
        self.unconditional = any(metric.get("metric") == "acc_mutual_info" for metric in settings.metric_list or ())
        kind = settings.shots.sampler
        drawing: Sampler | None = None
        if settings.num_fewshot:
            drawing = sampler(code.load(kind) if isinstance(kind, Function) else kind, pool, style.fewshot_seed)
        self.contexts = Contexts(prompts, pool, drawing, self.several_inputs, style)
        self.arguments: Callable[..., list[tuple[Any, ...]]] = getattr(self, f"_{settings.output_type}")

    def document(self, doc: Doc) -> Document:
        """The next document; the documents must be requested in order."""
        prompts, settings = self.prompts, self.settings
        head = self.contexts.head(doc)
        text = prompts.text(doc)
        choices = _texts(prompts.choices(doc)) if settings.doc_to_choice is not None else None
        target = prompts.target(doc)
        contexts = self.contexts.contexts(doc, head, text, choices)
        gold = text if self.several_inputs else target
        arguments = self.arguments(contexts, target, choices)
        remarks: list[Remark] = []
        whole = settings.output_type == "loglikelihood_rolling"  # prompts of that type have no examples
        if not whole and self.contexts.holds_answer(doc, head, text, choices, target):
            remarks.append("own_answer")
        if settings.output_type == "multiple_choice" and settings.process_results is None and choices is not None:
            golds = gold if self.several_gold and isinstance(gold, list) else [gold]
            if any(choice_number(one, choices) is None for one in golds):
                remarks.append("no_choice")
        if settings.output_type == "generate_until" and settings.process_results is None and choices is not None:
            _chosen(choices, target)  # scoring compares the answer with it
        common = self.contexts.common(head)
        return Document(doc, arguments, gold, self.several_gold, choices, common, tuple(remarks))

    def _loglikelihood(
        self, contexts: list[Context], target: object, choices: list[str] | None
    ) -> list[tuple[Any, ...]]:
        return [(contexts[0], target)]

    def _loglikelihood_rolling(
        self, contexts: list[Context], target: object, choices: list[str] | None
    ) -> list[tuple[Any, ...]]:
        return [(target,)]

    def _generate_until(
        self, contexts: list[Context], target: object, choices: list[str] | None
    ) -> list[tuple[Any, ...]]:
        return [(contexts[0], self.settings.generation)]

    def _delimiter(self) -> str:
        """The delimiter before a choice: none in a chat, unless the answer has a given beginning."""
        begun = self.settings.gen_prefix
        apart = not self.style.apply_chat_template or (begun and not str(begun)[-1].isspace())
        return self.settings.target_delimiter if apart else ""

    def _multiple_choice(self, contexts: list[Context], target: object, choices: list[str]) -> list[tuple[Any, ...]]:
        delimiter = self._delimiter()
        if self.several_inputs:
            pairs = [(context, f"{delimiter}{target}") for context in contexts]
        else:
            pairs = [(contexts[0], f"{delimiter}{choice}") for choice in choices]
        if self.unconditional:
            pairs += [("", f"{delimiter}{choice}") for choice in choices]
        return pairs
