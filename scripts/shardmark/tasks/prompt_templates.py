"""A data set's compiled templates: the prompts of rows, with worked examples, and the right answers."""

from collections.abc import Sequence
from typing import Any, TypeVar

from shardmark.config.dataset import DatasetConfig
from shardmark.errors import Problem, UserError
from shardmark.metrics.exact_match import ExactMatch
from shardmark.records.request import ChoiceRequest, Context, GenerateRequest, Request, RollingRequest
from shardmark.tasks.prompt_contexts import ChatContext, OneTurnContext, TextContext
from shardmark.tasks.rows import Row
from shardmark.untrusted.printed import missing
from shardmark.untrusted.templates import Condition, Expression, RenderError, Template

T = TypeVar("T", Template, Expression, Condition)
VARIABLE = {"choice": "choice", "loglikelihood": "target", "generate": "target", "rolling": ""}
"The templates' variable for a row's answer."
NUMBER = "row_number"
"The templates' variable for a row's number, from 0, by which some benchmarks rotate the options."


class Question:
    """The questions of a data set about its rows. Its methods raise RenderError with the key that fails."""

    def __init__(self, settings: DatasetConfig, where: str) -> None:
        """Compile the templates. Raises UserError with every invalid one. A prompt takes precedence over messages."""
        self.settings = settings = (
            settings if settings.prompt is None else settings.model_copy(update={"messages": None})
        )
        self._where, self._problems = where, list[Problem]()
        self._numbered = False
        "Whether a template uses the row's number."
        self.filter = self._compile(Condition, "where", settings.where) if settings.where else _keep
        self._target = self._compile(Expression, "target", settings.target or "none")
        self._choices = self._compile_choices(settings.choices)
        variable = f"{{{{ {VARIABLE[settings.kind]} }}}}" if settings.kind != "rolling" else ""
        spaced = f" {variable}" if variable else ""
        continuation = settings.continuation
        if continuation is None:
            continuation = spaced if settings.messages is None else variable
        self._whole = settings.scoring == "perplexity"
        self._continuation = self._compile(Template, "continuation", "" if self._whole else continuation)
        shots = settings.few_shot
        if shots and shots.answer is not None:
            answer = shots.answer
        elif self._whole:
            answer = ""
        else:
            answer = spaced if settings.fewshot_as_multiturn is False else continuation
        self._answer = self._compile(Template, "few_shot.answer", answer)
        self._query = self._compile(Template, "few_shot.query", shots.query) if shots and shots.query else None
        self._filters = self._compile_filters()
        self.context = self._compile_context()
        self._check_choice()
        if self._problems:
            raise UserError(self._problems)

    def _compile(self, kind: type[T], key: str, source: str) -> T:
        try:
            compiled = kind(source, key)
            self._numbered |= NUMBER in compiled.names
            return compiled
        except RenderError as error:
            self._problems.append(Problem(self._where, key, str(error), error.fix or "fix the template"))
            return kind("0")  # it is never rendered

    def _compile_choices(self, choices: str | list[str] | None) -> Any:
        if isinstance(choices, list):
            templates = [self._compile(Template, f"choices.{n}", text) for n, text in enumerate(choices)]
            return lambda row: [template(row) for template in templates]
        return self._compile(Expression, "choices", choices or "[]")

    def _compile_context(self) -> TextContext | ChatContext | OneTurnContext:
        settings = self.settings
        if settings.messages is None:
            separator = settings.few_shot.separator if settings.few_shot else ""
            preamble = self._compile(Template, "preamble", settings.preamble)
            return TextContext(preamble, self._compile(Template, "prompt", str(settings.prompt)), separator)
        messages = [
            (message.role, self._compile(Template, f"messages.{n}.content", message.content))
            for n, message in enumerate(settings.messages)
        ]
        if settings.fewshot_as_multiturn is False and settings.few_shot:
            return OneTurnContext(messages, settings.few_shot.separator)
        return ChatContext(messages)

    def _compile_filters(self) -> list[Template]:
        """The templates among the filters, which are filled in when the answers are known."""
        settings = self.settings
        chains = {f"chains.{name}": chain for name, chain in settings.chains.items()} | {"filters": settings.filters}
        return [
            self._compile(Template, f"{key}.{n}.{setting}", template)
            for key, chain in chains.items()
            for n, each in enumerate(chain)
            for setting, template in each.templates().items()
        ]

    def numbered(self, number: int, row: Row) -> Row:
        """The row with its number, if a template uses it and no column has that name."""
        return {NUMBER: number} | row if self._numbered else row

    def check_filters(self, row: Row) -> None:
        """Raise RenderError if a template among the filters cannot be filled in."""
        for template in self._filters:
            template(row | {"answer": ""})

    def check_braces(self, row: Row) -> None:
        """Raise RenderError for a prompt in Python's notation, which every row would be asked with its braces."""
        prompt = self.settings.prompt or ""
        if "{{" not in prompt and (name := next((name for name in row if f"{{{name}}}" in prompt), None)):
            what = f"{{{name}}} is text: every row would be asked the same"
            raise RenderError(what, f"write {{{{ {name} }}}} for a column", key="prompt")

    def _check_choice(self) -> None:
        """Add a problem if all choices give the same question, because nothing in it contains the choice."""
        if self.settings.kind == "choice" and not self._problems:
            asked = self.context.names | self._continuation.names
            if "choice" not in asked:
                key = ("messages" if self.settings.messages else "prompt") if self._whole else "continuation"
                what = "without {{ choice }}, all choices are the same to the model"
                self._problems.append(Problem(self._where, key, what, "put {{ choice }} where the choice belongs"))

    def choices(self, row: Row) -> list[str] | None:
        """The choices of a row; kinds loglikelihood and rolling have only the right one. None for generated answers."""
        kind = self.settings.kind
        if kind == "generate":
            return None
        if kind == "loglikelihood":
            return [self._answer_of(row)[0]]
        if kind == "rolling":
            return [self._text(row)]
        choices = self._choices(row)
        if not (isinstance(choices, list | tuple) and choices):
            what = f"expected a list of choices, found {choices!r}"
            fix = "give a list, or an expression for one; in a table, source.types makes a cell JSON"
            raise RenderError(what, fix, key="choices")
        if len(choices) == 1:
            what = f"there is only one choice, {choices[0]!r}, so the answer would always be right"
            raise RenderError(what, "leave such rows out with `where`, or correct them", key="choices")
        return [_as_text(choice, "choices", f": it is choice {number}") for number, choice in enumerate(choices)]

    def _answer_of(self, row: Row) -> list[str]:
        value = self._target(row)
        values = list(value) if isinstance(value, list | tuple) else [value]
        if not values or any(value is None for value in values):
            raise RenderError(
                f"the row has no target{self._gaps(row)}", "leave such rows out with `where`", key="target"
            )
        return [_as_text(v, "target", self._gaps(row)) for v in values]

    def _gaps(self, row: Row) -> str:
        """Missing values in the columns that the target uses, to append to an error message."""
        told = self._target.gaps(row)
        return f": {told}" if told else ""

    def _text(self, row: Row) -> str:
        text = str(self.context(row))
        if not text:
            raise RenderError("the text is empty", "leave such rows out with `where`", key="prompt")
        return text

    def target(self, row: Row, choices: list[str] | None) -> Any:
        """The right answer: a list of answers, or the index of a choice, or a list of indices."""
        if choices is None:
            answers = self._answer_of(row)
            self._check_targets(answers)
            self._check_found(answers)
            return answers
        if self.settings.kind != "choice":
            return 0
        value = self._target(row)
        if not isinstance(value, list | tuple):
            return self._index(value, choices)
        if not value:
            raise RenderError("no choice is right", "leave such rows out with `where`", key="target")
        right = list(dict.fromkeys(self._index(part, choices) for part in value))
        self._check_targets([str(index) for index in right])
        return right

    def _check_targets(self, targets: list[str]) -> None:
        for metric in self.settings.metrics:
            metric.check_targets(targets)

    def _check_found(self, targets: list[str]) -> None:
        """Raise RenderError if no answer that is found could be right, as where a row has no label."""
        settings = self.settings
        for metric in settings.metrics:
            filters = settings.filters if metric.chain is None else settings.chains[metric.chain]
            if not isinstance(metric, ExactMatch) or metric.ignores() or not filters:
                continue
            if not any(map(filters[-1].finds, targets)):
                what = f"{targets[0]!r} is no answer that the filter {filters[-1].name} can give"
                raise RenderError(what, "leave such rows out with `where`, or correct them", key="target")

    def _index(self, value: Any, choices: list[str]) -> int:
        try:
            index = int(value)
        except (TypeError, ValueError, OverflowError):
            index = None
        if index is None or (isinstance(value, float) and index != value):
            fix = "give an expression for the index, such as choices.label.index(answerKey)"
            raise RenderError(f"expected the index of the right choice, found {value!r}", fix, key="target")
        if not 0 <= index < len(choices):
            what = f"label {index} is outside the {len(choices)} choices"
            raise RenderError(what, "count choices from 0", key="target")
        if self.settings.duplicate_choices == "refuse" and choices.count(choices[index]) > 1:
            what = f"the right choice {choices[index]!r} occurs twice among the choices"
            fix = "correct the row, leave it out with `where`, or set duplicate_choices: keep"
            raise RenderError(what, fix, key="choices")
        return index

    def request(self, row: Row, choices: list[str] | None, examples: Sequence[Any]) -> Request:
        """The request for a row."""
        kind = self.settings.kind
        if choices is None:
            return self._generate(row, examples)
        if kind == "rolling":
            return RollingRequest(text=choices[0])
        values = [row | {VARIABLE[kind]: choice} for choice in choices]
        if self._whole:
            return ChoiceRequest(pairs=[("", self.context(v, examples)) for v in values])
        if VARIABLE[kind] in self.context.reads:
            contexts = [self.context(v, examples) for v in values]
        else:  # nearly always: rendering one text is faster than four equal ones
            contexts = [self.context(values[0], examples)] * len(values)
        return ChoiceRequest(pairs=[(one, self._continued(v)) for one, v in zip(contexts, values, strict=True)])

    def _continued(self, row: Row) -> str:
        text, continued = str(self._continuation(row)), row[VARIABLE[self.settings.kind]]
        if not (text if continued else text.strip()):
            key = {"choice": "choices", "loglikelihood": "target"}[self.settings.kind]
            what = f"nothing to score: with {VARIABLE[self.settings.kind]} {continued!r} the continuation is empty"
            raise RenderError(what, "leave such rows out with `where`, or set `continuation`", key=key)
        return text

    def _generate(self, row: Row, examples: Sequence[Any]) -> GenerateRequest:
        context: Context = self.context(row, examples)
        said: dict[str, Any] = {"prompt": context} if isinstance(context, str) else {"messages": context}
        return GenerateRequest(**said, **self.settings.generation.model_dump())

    def example(self, row: Row) -> Any:
        """A row as a worked example, with its right answer.

        An example given by the user may hold the answer itself. A data set's column of the same name is ignored, except
        in the prompt of a question with a generated answer, where no answer is known.
        """
        variable, shots = VARIABLE[self.settings.kind], self.settings.few_shot
        given = variable in row and shots and shots.examples
        if given or variable not in self.context.names | self._answer.names:
            return self.context.example(row, self._answer(row))
        choices = self.choices(row)
        target = self.target(row, choices)
        first = target[0] if isinstance(target, list) else target
        answered = row | {variable: first if choices is None else choices[first]}
        return self.context.example(row if choices is None else answered, self._answer(answered))

    def query(self, row: Row) -> str:
        """The text of a row for finding similar examples."""
        return self._query(row) if self._query else self._unanswered(row)

    def asked(self, row: Row) -> str:
        """The question of a row, without examples; if no column is in it, the answer is part of the question.

        For choices, `answered` says more.
        """
        kind = self.settings.kind
        if kind == "choice" or (self.context.names - {VARIABLE[kind]}) & row.keys():
            return self._unanswered(row)
        if kind == "generate":
            raise RenderError("it uses no column", key="prompt")
        return self._unanswered(row) + self._continuation(row | {VARIABLE[kind]: self._answer_of(row)[0]})

    def answered(self, row: Row) -> tuple[list[str], list[int]]:
        """The question of a row with each of its choices, and the numbers of the right ones."""
        shots = self.settings.few_shot
        if "choice" in row and shots and shots.examples:
            return [str(self.context.query(row)) + self._continuation(row)], [0]
        choices = self.choices(row) or []
        right = self.target(row, choices)
        values = [row | {"choice": choice} for choice in choices]
        texts = [str(self.context.query(value)) + self._continuation(value) for value in values]
        return texts, right if isinstance(right, list) else [right]

    def _unanswered(self, row: Row) -> str:
        return str(self.context.query(row | {"choice": ""} if self.settings.kind == "choice" else row))


def _keep(row: Row) -> bool:
    """The condition of a data set without `where`."""
    return True


def _as_text(value: object, key: str, why: str) -> str:
    """A text, a number or a bool as text. Raises RenderError, with `why`, for missing and compound values."""
    if type(value) is str:  # nearly always
        return value
    if missing(value) or isinstance(value, dict | list | tuple):
        shown = "null" if value is None else repr(value)
        fix = "leave such rows out with `where`" if missing(value) else "use a part of it, or join its parts"
        raise RenderError(f"expected a text or a number, found {shown}{why}", fix, key=key)
    return str(value)
