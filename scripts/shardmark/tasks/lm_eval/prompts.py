"""A document's prompt by lm-eval's rules: text, target and choices, with the task's Jinja in a sandbox."""

import ast
from collections.abc import Callable, Collection
from functools import lru_cache
from types import GeneratorType
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.untrusted.templates import PlainGlobals, check_size, regex_replace

Doc = dict[str, Any]


class _Environment(PlainGlobals, SandboxedEnvironment):
    """lm-eval's environment in a sandbox. Each task gets its own documents, so templates may change them."""

    intercepted_binops = frozenset(["**", "*"])

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> Any:
        check_size(operator, left, right)
        return super().call_binop(context, operator, left, right)


@pass_context
def _stable(context: Context, value: object) -> Any:
    """The value; raises for values printed with their address in memory, which would be another request each time.

    An `if` without `else` that is false gives Jinja's lenient Undefined, which prints nothing in lm-eval, too. Because
    this needs the context, Jinja evaluates nothing while it compiles.
    """
    if isinstance(value, GeneratorType) or (callable(value) and not isinstance(value, Undefined)):
        raise TypeError(f"a {type(value).__name__}, not a value: call it, or make it a list")
    return value


ENVIRONMENT = _Environment(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_stable, optimized=False)
ENVIRONMENT.filters["regex_replace"] = regex_replace


@lru_cache(maxsize=512)
def _compiled(source: str) -> Template:
    return ENVIRONMENT.from_string(source)


def apply_template(source: str, doc: Doc) -> str:
    """The text of a template for a document."""
    return _compiled(source).render(**doc)


class Prompts:
    """A task's expressions, evaluated for documents.

    `columns` are those of its scored documents: an expression equal to one of them is taken from the document; any
    other string is a template.
    """

    def __init__(self, settings: TaskSettings, code: Code, columns: Collection[str]) -> None:
        self.settings, self.code, self.columns = settings, code, frozenset(columns)
        self._digits = settings.doc_to_choice is not None

    def text(self, doc: Doc, expression: Any = None) -> Any:
        """The question: a string, or the number of the right context if contexts vary."""
        expression = self.settings.doc_to_text if expression is None else expression
        if isinstance(expression, int):
            return expression
        if isinstance(expression, str):
            if expression in self.columns:
                return doc[expression]
            text = apply_template(expression, doc)
            return ast.literal_eval(text) if self._digits and text.isdigit() else text
        return self._call(expression)(doc)

    def target(self, doc: Doc, expression: Any = None) -> Any:
        """The right answer: a string, the number of a choice, or a list of either."""
        expression = self.settings.doc_to_target if expression is None else expression
        if isinstance(expression, int | list):
            return expression
        if isinstance(expression, str):
            if expression in self.columns:
                return doc[expression]
            return self._read_target(apply_template(expression, doc))
        return self._call(expression)(doc)

    def _read_target(self, text: str) -> Any:
        if self._digits and text.isdigit():
            return ast.literal_eval(text)
        if len(text) >= 2 and text[0] == "[" and text[-1] == "]":
            try:
                return ast.literal_eval(text)
            except (SyntaxError, ValueError):
                return text
        return text

    def choices(self, doc: Doc, expression: Any = None) -> Any:
        """The choices, in order."""
        expression = self.settings.doc_to_choice if expression is None else expression
        if isinstance(expression, str):
            return doc[expression] if expression in self.columns else ast.literal_eval(apply_template(expression, doc))
        if isinstance(expression, list):
            return expression
        if isinstance(expression, dict):
            return list(expression.values())
        return self._call(expression)(doc)

    def prefix(self, doc: Doc) -> str | None:
        """The beginning of the answer, as part of the question."""
        given = self.settings.gen_prefix
        if given is None:
            return None
        return doc[given] if given in self.columns else apply_template(given, doc)

    @staticmethod
    def field(doc: Doc, expression: str | None) -> Any:
        """A column, or a template's text; None without an expression."""
        if not expression:
            return None
        return doc[expression] if expression in doc else apply_template(expression, doc)

    def _call(self, expression: Any) -> Callable[[Doc], Any]:
        if isinstance(expression, Function):
            return self.code.load(expression)
        raise TypeError(f"{expression!r} is neither a template nor a function")
