"""From rows to samples: what the model is asked about a row, and what the right answer is."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from shardmark.config.dataset import DatasetConfig
from shardmark.errors import Problem, UserError, nearest
from shardmark.tasks.limits import bounded_steps
from shardmark.tasks.requests import GenerateRequest, Request, request_id
from shardmark.tasks.rows import Row
from shardmark.tasks.templates import Expression, RenderError, Template

LITERAL = re.compile(r"[^{]*")
"The text of a template before its first tag."
SHOWN = 3
"So many failing rows of one key are reported; the rest are counted."


@dataclass(frozen=True)
class Sample:
    """One row of a data set as a question with its right answer."""

    id: str
    "The row's id column, else its number among the rows, from 0."
    row: Row
    request: Request
    request_id: str
    target: Any
    "generate: list of right answers (strings). choice: index of the right choice, or a list if several are."
    choices: list[str] | None = None
    "kind choice: the choices as the row spells them."
    group: str | None = None
    "What the row has in the column `group_by`."
    head: int = 0
    "So many characters at the beginning of the prompt come from few-shot examples and template, and not from the row."
    lm_eval: dict[str, Any] = field(default_factory=dict)
    "Of a task of lm-eval, what else its metrics need: `several`, whether `target` is a list of right answers."


def render(settings: DatasetConfig, rows: Iterable[Row], where: str, limit: int | None = None) -> Iterator[Sample]:
    """Every row's sample, in order; all rows are taken, also those beyond `limit`.

    Raises UserError at the end that lists the keys and rows that fail: until then, nothing is certain.
    """
    with bounded_steps() as step:
        with step:
            renderer = _Renderer(settings, where)
        for number, row in enumerate(rows):
            if renderer.hopeless or (limit is not None and renderer.seen >= limit):
                continue
            with step:
                sample = renderer.sample(number, row)
            if sample:
                yield sample
    renderer.finish()


class _Renderer:
    """A data set's compiled templates, and what failed so far."""

    def __init__(self, settings: DatasetConfig, where: str) -> None:
        self.settings = settings
        self.where = where
        self.failures: dict[str, list[tuple[int, RenderError]]] = {}
        self.rendered = 0
        self.ids: set[str] = set()
        self.doubled: list[str] = []
        self.uncompiled: list[Problem] = []
        self.filter = self._compile(Expression, "where", settings.where or "true")
        self.prompt = self._compile(Template, "prompt", settings.prompt)
        self.target = self._compile(Expression, "target", settings.target)
        self.continuation = self._compile(Template, "continuation", settings.continuation)
        self.choices = self._compile_choices(settings.choices)
        shots = settings.few_shot
        self.shot_answer = self._compile(Template, "few_shot.answer", shots.answer if shots else "")
        self.answers = self._compile_filters()
        self._check_choice()
        if self.uncompiled:
            raise UserError(self.uncompiled)
        self.shots = self._shots()
        self.head = len(self.shots) + len(LITERAL.match(settings.prompt)[0])  # type: ignore[index]

    @property
    def seen(self) -> int:
        """Rows that are samples, or would be if they could be rendered."""
        return self.rendered + self.failed

    @property
    def hopeless(self) -> bool:
        """Whether a row took too much time or memory: the next ones would, too."""
        return any(error.endless for failed in self.failures.values() for _, error in failed)

    @property
    def failed(self) -> int:
        """Rows that could not be rendered so far."""
        return sum(map(len, self.failures.values()))

    def _compile(self, kind: type, key: str, source: str) -> Any:
        try:
            return kind(source)
        except RenderError as error:
            self.uncompiled.append(Problem(self.where, key, str(error), "mend the template"))

    def _compile_choices(self, choices: str | list[str] | None) -> Callable[[Row], Any]:
        if isinstance(choices, list):
            templates = [self._compile(Template, f"choices.{n}", text) for n, text in enumerate(choices)]
            return lambda row: [template(row) for template in templates]
        return self._compile(Expression, "choices", choices or "[]")

    def _compile_filters(self) -> list[Any]:
        """The templates among the filters, which are filled in when answers are there."""
        settings = self.settings
        chains = {f"chains.{name}": chain for name, chain in settings.chains.items()} | {"filters": settings.filters}
        return [
            self._compile(Template, f"{key}.{n}.template", each.template)
            for key, chain in chains.items()
            for n, each in enumerate(chain)
            if each.name == "template"
        ]

    def _check_choice(self) -> None:
        """All choices are the same question if none of what is asked contains the choice."""
        settings = self.settings
        if settings.kind == "choice" and not self.uncompiled:
            key = "prompt" if settings.scoring == "perplexity" else "continuation"
            asked = self.prompt.names if key == "prompt" else self.prompt.names | self.continuation.names
            if "choice" not in asked:
                what = "without {{ choice }}, all choices are the same to the model"
                self.uncompiled.append(Problem(self.where, key, what, "put {{ choice }} where the choice belongs"))

    def _shots(self) -> str:
        shots = self.settings.few_shot
        if not shots:
            return ""
        parts = []
        for number, row in enumerate(shots.examples):
            try:
                parts.append(self.prompt(row) + self.shot_answer(row) + shots.separator)
            except RenderError as error:
                raise UserError(Problem(self.where, f"few_shot.examples.{number}", str(error), error.fix)) from error
        return "".join(parts)

    def sample(self, number: int, row: Row) -> Sample | None:
        """The row's sample; None if `where` leaves it out or something fails on it."""
        key = "where"
        try:
            if not self.filter(row):
                return None
            key = "id_column"
            name = self._name(number, row)
            key = "group_by"
            group = None if self.settings.group_by is None else self._column(self.settings.group_by, row)
            key = "cluster_by"
            if self.settings.cluster_by is not None:
                self._column(self.settings.cluster_by, row)
            key = "filters"
            for template in self.answers:
                template(row | {"answer": ""})
            key = "choices"
            choices = self._choices(row)
            key = "prompt"
            request = self._request(row, choices)
            key = "target"
            target = self._target(row, choices)
        except RenderError as error:
            self.failures.setdefault(key, []).append((number, error))
            return None
        self.rendered += 1
        if name in self.ids:
            self.doubled.append(name)
        self.ids.add(name)
        return Sample(name, row, request, request_id(request), target, choices, group, self.head)

    def _name(self, number: int, row: Row) -> str:
        column = self.settings.id_column
        return str(number) if column is None else self._column(column, row)

    @staticmethod
    def _column(column: str, row: Row) -> str:
        if column not in row:
            raise RenderError(f"no column {column!r}", nearest(column, row))
        return str(row[column])

    def _choices(self, row: Row) -> list[str] | None:
        if self.settings.kind != "choice":
            return None
        choices = self.choices(row)
        if not (isinstance(choices, list | tuple) and choices):
            raise RenderError(f"expected a list of choices, found {choices!r}", "give a list, or an expression for one")
        return [str(choice) for choice in choices]

    def _request(self, row: Row, choices: list[str] | None) -> Request:
        settings = self.settings
        if choices is None:
            generation = settings.generation
            request: GenerateRequest = {
                "kind": "generate",
                "prompt": self.shots + self.prompt(row),
                "max_new_tokens": generation.max_new_tokens,
                "stop": generation.stop,
            }
            return cast(GenerateRequest, generation.model_dump(exclude_defaults=True) | request)
        if settings.scoring == "perplexity":
            return {"kind": "choice", "pairs": [["", self.shots + self.prompt(row | {"choice": c})] for c in choices]}
        pairs = []
        for choice in choices:
            values = row | {"choice": choice}
            pairs.append([self.shots + self.prompt(values), self.continuation(values)])
        return {"kind": "choice", "pairs": pairs}

    def _target(self, row: Row, choices: list[str] | None) -> Any:
        value = self.target(row)
        if choices is None:
            values = list(value) if isinstance(value, list | tuple) else [value]
            if not values or None in values:
                raise RenderError("the row has no answer", "leave such rows out with `where`")
            return [str(v) for v in values]
        if not isinstance(value, list | tuple):
            return _index(value, choices)
        if not value:
            raise RenderError("no choice is right", "leave such rows out with `where`")
        return [_index(part, choices) for part in value]

    def finish(self) -> None:
        """Raise UserError for everything that failed, for a data set without samples and for doubled ids."""
        problems = [p for key, failed in self.failures.items() for p in self._failed(key, failed)]
        if not self.ids and not problems:
            problems.append(Problem(self.where, "where", "no row is left", "loosen the condition"))
        if self.doubled:
            what = f"the id {self.doubled[0]!r} stands twice ({len(self.doubled)} ids do)"
            problems.append(Problem(self.where, "id_column", what, "name a column that is unique, or drop id_column"))
        if problems:
            raise UserError(problems)

    def _failed(self, key: str, failed: list[tuple[int, RenderError]]) -> list[Problem]:
        rows = ", ".join(str(number) for number, _ in failed[:SHOWN])
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        error = failed[0][1]
        return [Problem(self.where, key, f"row {rows}{more}: {error}", error.fix)]


def _index(value: Any, choices: list[str]) -> int:
    """The number of a right choice."""
    try:
        index = int(value)
    except (TypeError, ValueError, OverflowError):
        index = None
    if index is None or (isinstance(value, float) and index != value):
        fix = "give an expression for the index, such as choices.label.index(answerKey)"
        raise RenderError(f"expected the index of the right choice, found {value!r}", fix)
    if not 0 <= index < len(choices):
        raise RenderError(f"label {index} is outside the {len(choices)} choices", "count choices from 0")
    return index
