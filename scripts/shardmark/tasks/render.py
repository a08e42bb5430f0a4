"""From rows to samples: the request for each row, and its right answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from shardmark.config.dataset import DatasetConfig
from shardmark.errors import Problem, UserError, nearest
from shardmark.records.request import Request
from shardmark.tasks.circular import Turn, is_doubled, turns
from shardmark.tasks.extent import Extent, Limit
from shardmark.tasks.prompt_templates import Question
from shardmark.tasks.remarks import Remark
from shardmark.tasks.requests import request_id
from shardmark.tasks.rows import Row
from shardmark.tasks.shots import Shots
from shardmark.tasks.similar import similarity
from shardmark.tasks.twins import Twins
from shardmark.untrusted.limits import FIX, BoundError, Step, bounded_steps
from shardmark.untrusted.printed import gaps
from shardmark.untrusted.templates import Condition, RenderError

SHOWN = 3
"The most failing rows of one key that are reported; the rest are counted."


class Sample(msgspec.Struct, frozen=True):
    """One row of a data set as a question with its right answer."""

    id: str
    "The row's id column, else its number among the rows, from 0."
    row: Row
    request: Request
    request_id: str
    target: Any
    "For generate: a list of right answers (strings). Otherwise the index of the right choice, or a list of them."
    choices: list[str] | None = None
    "The choices as spelled in the row; kinds loglikelihood and rolling have one, their text."
    group: str | None = None
    "The row's value in the column `group_by`."
    head: int = 0
    "Characters at the beginning of the prompt that come from few-shot examples and template, not from the row."
    lm_eval: dict[str, Any] = msgspec.field(default_factory=dict)
    "Other facts that metrics of lm-eval's tasks need: `several`, whether `target` is a list of right answers."
    remarks: tuple[Remark, ...] = ()
    "Remarks for readers of the score."
    turns: tuple[Turn, ...] = ()
    "For a circular data set, the other rotations of its options."

    @property
    def rotations(self) -> "list[Sample]":
        """The sample as it is asked: once, or in all rotations of its options."""
        if not self.turns:
            return [self]
        own = [(turn.request, turn.request_id, turn.target, turn.choices) for turn in self.turns]
        return [self, *(replace(self, request=r, request_id=i, target=t, choices=c, turns=()) for r, i, t, c in own)]


def render(
    settings: DatasetConfig,
    rows: Iterable[Row],
    where: str,
    limit: Limit = None,
    example_rows: Iterable[Row] = (),
    extent: Extent | None = None,
) -> Iterator[Sample]:
    """The samples of the rows within `limit`, in order; all rows are read, even those beyond it.

    `extent`, made with the same limit, has counted both at the end. `example_rows` are those of `few_shot.source`.
    Raises UserError at the end that lists the keys and rows that fail: until then, samples are provisional.
    """
    place = getattr(rows, "place", lambda number: "")  # the file of a row, if there are several
    shots = settings.few_shot
    if shots and not shots.examples and not shots.source:
        rows = example_rows = list(rows)
    with bounded_steps() as step:
        with step.at(where):
            question = Question(settings, where)
        examples = _Examples(question, where, example_rows, step)
    examples.compare(where)
    with bounded_steps() as step:
        with step.at(where):
            renderer = _Renderer(settings, where, question, examples)
        extent = extent or Extent(limit, settings.group_by)
        if extent.needs_totals:
            rows = list(rows)
            for number, row in enumerate(rows):
                if not renderer.hopeless:
                    extent.add(extent.group(row), 0, renderer.keeps(number, row, step))
        for number, row in enumerate(rows):
            if renderer.hopeless:
                continue
            group, seen = extent.group(row), renderer.seen
            if extent.full(group):
                if not extent.needs_totals:
                    extent.add(group, 0, renderer.keeps(number, row, step))
                continue
            sample = renderer.bounded_sample(number, row, step)
            taken = renderer.seen - seen
            extent.add(group, taken, 0 if extent.needs_totals else taken)
            if sample:
                yield sample
    renderer.finish(place)


class _Examples:
    """The worked examples of a data set."""

    def __init__(self, question: Question, where: str, rows: Iterable[Row], step: Step) -> None:
        """Read the rows that may be examples. Raises UserError for one that cannot be rendered."""
        self.settings, self.question, self.where = question.settings.few_shot, question, where
        self.shots: Shots | None = None
        self._rendered: dict[int, Any] = {}
        self._texts: list[str] = []
        self._pool: list[Row] = []
        self._places: list[int] = []
        "The number of each of them among the rows it was chosen from."
        if self.settings:
            self._pool = self.settings.examples or list(self._filtered(rows, step))
            self.twins = Twins(question, self._pool, lambda number: self._step(number, step))
            if self.settings.pick in ("bm25", "embedding"):
                for number in range(len(self._pool)):
                    with self._step(number, step):
                        self._texts.append(question.query(self._pool[number]))

    def _filtered(self, rows: Iterable[Row], step: Step) -> Iterator[Row]:
        assert self.settings
        with step.at(self.where):
            own = self.settings.where
            keep = self.question.filter if own is None else Condition(own, "few_shot.where")
        for number, row in enumerate(rows):
            with self._named(number), step.at(f"{self.where}: few_shot.where: row {number} of the examples"):
                kept = keep(row)
            if kept:
                self._check_group(number, row)
                self._places.append(number)
                yield row

    @contextmanager
    def _step(self, number: int, step: Step) -> Iterator[None]:
        """A step that processes a row of the pool."""
        place = self._place(number)
        with self._named(place), step.at(f"{self.where}: few_shot: row {place} of the examples"):
            yield

    def _check_group(self, number: int, row: Row) -> None:
        """Raise UserError if the column that groups examples is empty."""
        column = self.settings and self.settings.same
        if column in row:
            with self._named(number):
                _column(row, str(column), "few_shot.same")

    def compare(self, where: str) -> None:
        """Prepare to choose examples: libraries are loaded here, outside the bounds on templates."""
        if self.settings:
            similar = similarity(self.settings, self._texts, self.question.query, where)
            self.shots = Shots(self.settings, self._pool, self.question.settings.id_column, similar, self.twins.of)

    def of(self, row: Row) -> list[Any]:
        """The examples of a row in the order in which they precede its question. Raises RenderError."""
        return [self._example(number) for number in self.shots.of(row)] if self.shots else []

    def head(self) -> int:
        """The number of characters that all prompts begin with."""
        if self.shots and not self.shots.is_fixed:
            return 0
        try:
            fixed = [self._example(number) for number in self.shots.fixed()] if self.shots else []
        except RenderError:  # each row will report it
            return 0
        return self.question.context.head(fixed)

    def _place(self, number: int) -> int:
        return self._places[number] if self._places else number

    def _example(self, number: int) -> Any:
        if number not in self._rendered:
            with self._named(self._place(number)):
                self._rendered[number] = self.question.example(self._pool[number])
        return self._rendered[number]

    @contextmanager
    def _named(self, number: int) -> Iterator[None]:
        """A block whose RenderError becomes a UserError about an example."""
        try:
            with _BOUND_AS_RENDER_ERROR:
                yield
        except RenderError as error:
            if self.settings and self.settings.examples:
                raise UserError(Problem(self.where, f"few_shot.examples.{number}", str(error), error.fix)) from error
            what = f"row {number} of the examples: {error.key}: {error}"
            raise UserError(Problem(self.where, "few_shot", what, error.fix)) from error


class _Renderer:
    """A data set's question and examples, with the failures so far."""

    def __init__(self, settings: DatasetConfig, where: str, question: Question, examples: _Examples) -> None:
        self.settings = settings
        self.where = where
        self.question = question
        self.examples = examples
        self.failures: dict[str, list[tuple[int, RenderError]]] = {}
        self.failed = 0
        "The number of rows that could not be rendered so far."
        self.rendered = 0
        self.ids: set[str] = set()
        self.doubled: list[str] = []
        self.head = examples.head()

    @property
    def seen(self) -> int:
        """The number of rows that are samples, or would be if they could be rendered."""
        return self.rendered + self.failed

    @property
    def hopeless(self) -> bool:
        """Whether a row took too much time or memory: the next ones would, too."""
        return any(error.endless for failed in self.failures.values() for _, error in failed)

    def keeps(self, number: int, row: Row, step: Step) -> bool:
        """Whether `where` keeps a row; a row on which it fails counts as kept."""
        if self.settings.where is None:
            return True
        try:
            with _BOUND_AS_RENDER_ERROR, step.at(f"{self.where}: row {number}"):
                return bool(self.question.filter(self.question.numbered(number, row)))
        except RenderError as error:
            if error.endless:
                self.failures.setdefault(error.key, []).append((number, error))
            return True

    def bounded_sample(self, number: int, row: Row, step: Step) -> Sample | None:
        """The row's sample, rendered as one bounded step."""
        try:
            with _BOUND_AS_RENDER_ERROR, step.at(f"{self.where}: row {number}"):
                return self.sample(number, row)
        except RenderError as error:
            self.failures.setdefault(error.key, []).append((number, error))
            self.failed += 1
            return None

    def sample(self, number: int, row: Row) -> Sample | None:
        """The row's sample; None if `where` leaves it out or something fails on it."""
        row = self.question.numbered(number, row)
        errors: list[RenderError] = []
        gathered = _Gathered(errors)
        with gathered:
            if not self.question.filter(row):
                return None
        name = group = choices = target = request = None
        rotations: list[Turn] = []
        remarks: tuple[Remark, ...] = ()
        if not errors:
            with gathered:
                name, group = self._name(number, row), self._group(row)
                if self.settings.cluster_by is not None:
                    _column(row, self.settings.cluster_by, "cluster_by")
            with gathered:
                self.question.check_filters(row)
                if not self.seen:
                    self.question.check_braces(row)
            with gathered:
                choices = self.question.choices(row)
                with gathered:
                    target = self.question.target(row, choices)
                shots = self.examples.of(row)
                request = self.question.request(row, choices, shots)
                if self.settings.circular and not errors:
                    rotations = turns(self.question, self.settings.circular, row, target, shots)
                    if is_doubled(self.settings.circular, row, target):
                        remarks = ("doubled_option",)
        for error in errors:
            self.failures.setdefault(error.key, []).append((number, error))
        if errors or name is None or request is None:
            self.failed += 1
            return None
        self.rendered += 1
        if name in self.ids:
            self.doubled.append(name)
        self.ids.add(name)
        asked = request_id(request)
        return Sample(
            name, row, request, asked, target, choices, group, self.head, remarks=remarks, turns=tuple(rotations)
        )

    def _name(self, number: int, row: Row) -> str:
        column = self.settings.id_column
        return str(number) if column is None else _column(row, column, "id_column")

    def _group(self, row: Row) -> str | None:
        column = self.settings.group_by
        return None if column is None else _column(row, column, "group_by")

    def finish(self, place: Callable[[int], str]) -> None:
        """Raise UserError for all failures, for a data set without samples and for duplicate ids.

        `place` returns the text to add to the number of a row.
        """
        problems = [self._failed(key, failed, place) for key, failed in self.failures.items()]
        if not self.ids and not problems:
            problems.append(Problem(self.where, "where", "no row is left", "relax the condition"))
        if self.doubled:
            more = f" ({len(self.doubled)} ids do)" if self.doubled[1:] else ""
            what = f"the id {self.doubled[0]!r} occurs twice{more}"
            problems.append(Problem(self.where, "id_column", what, "name a column that is unique, or drop id_column"))
        if problems:
            raise UserError(problems)

    def _failed(self, key: str, failed: Sequence[tuple[int, RenderError]], place: Callable[[int], str]) -> Problem:
        rows = ", ".join(f"{number}{place(number)}" for number, _ in failed[:SHOWN])
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        error = failed[0][1]
        return Problem(self.where, key, f"row {rows}{more}: {error}", error.fix)


class _BoundAsRenderError:
    """A block whose BoundError becomes a RenderError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BoundError):
            raise RenderError(error.what, FIX, True, error.key) from error


_BOUND_AS_RENDER_ERROR = _BoundAsRenderError()


class _Gathered:
    """Blocks whose RenderErrors are added to a list, so that other errors in the row are found as well."""

    def __init__(self, errors: list[RenderError]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, RenderError):
            self._errors.append(error)
            return True
        return False


def _column(row: Row, column: str, key: str) -> str:
    if column not in row:
        raise RenderError(f"no column {column!r}", nearest(column, row), key=key)
    for place, what in gaps(row[column], column):
        raise RenderError(f"column {place} is {what}", "correct the row, or leave it out with `where`", key=key)
    return str(row[column])
