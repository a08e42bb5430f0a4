"""Jinja in a sandbox: data sets' templates come from files that are shared, and are not trusted."""

import re
from collections.abc import Iterable
from typing import Any

from jinja2 import StrictUndefined, TemplateError, Undefined, meta, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shardmark.errors import nearest
from shardmark.tasks.limits import FIX, TooLong, note_key, stopped


def _plain(value: Any) -> Any:
    """The value as JSON has it. Raises for what is undefined, and for methods, whose text differs in each process."""
    if isinstance(value, Undefined):
        str(value)  # raises
    elif isinstance(value, Iterable) and not isinstance(value, str | dict):
        return [_plain(part) for part in value]
    elif callable(value):
        raise TypeError("a method, not a value: call it with (), or write column['key'] for the key of that name")
    return value


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, without numbers so large that no signal could interrupt what is done with them."""

    intercepted_binops = frozenset(["**", "*"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_size(operator, left, right)
        return super().call_binop(context, operator, left, right)


MAX_EXPONENT = 100
MAX_BITS = 1 << 16
"Of an integer that is a product or a power."


def check_size(operator: str, left: Any, right: Any) -> None:
    """Raise OverflowError for an operation whose result would be a number that is too large."""
    if operator == "**" and abs(right) > MAX_EXPONENT:
        raise OverflowError(f"an exponent of {right} is more than {MAX_EXPONENT}")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise OverflowError(f"an integer of more than {MAX_BITS} bits")


@pass_context
def _plain_at_runtime(context: Context, value: Any) -> Any:
    """The value as JSON has it. As it wants the context, Jinja evaluates nothing while it compiles, out of bounds."""
    return _plain(value)


ENVIRONMENT = _Environment(
    undefined=StrictUndefined, finalize=_plain_at_runtime, keep_trailing_newline=True, optimized=False
)


def indices(values: Iterable[Any], wanted: Any) -> list[int]:
    """Where a value stands in a list, from 0: `indices(labels, 1)` are the right choices."""
    return [number for number, value in enumerate(values) if value == wanted]


ENVIRONMENT.globals["indices"] = indices


class RenderError(Exception):
    """A template that fails on a row; says what and how to mend it."""

    def __init__(self, what: str, fix: str = "", endless: bool = False, key: str = "") -> None:
        super().__init__(what)
        self.fix = fix
        self.endless = endless
        "Whether it took too much time or memory."
        self.key = key
        "The setting that it is about."


def _known(message: str) -> str:
    """The nearest name, where a template uses a filter or a test that Jinja has not."""
    missing = re.match(r"No (filter|test) named '(.*)'", message)
    return (
        nearest(missing[2], {"filter": ENVIRONMENT.filters, "test": ENVIRONMENT.tests}[missing[1]]) if missing else ""
    )


def _undeclared(tree: nodes.Template) -> set[str]:
    """The names that a template takes from its row, as meta.find_undeclared_variables, which evaluates constants."""
    found = meta.TrackingCodeGenerator(ENVIRONMENT)
    found.optimizer = None
    found.visit(tree)
    return found.undeclared_identifiers


class _Compiled:
    """What a template and an expression share: their source, the names they use, and errors in plain words."""

    def __init__(self, source: str, key: str = "") -> None:
        self.source = source
        self.key = key
        try:
            self._evaluate = self._compile(source)
            self.names = _undeclared(ENVIRONMENT.parse(self._as_template(source)))
        except TemplateError as error:
            raise RenderError(f"not a valid template: {error.message}", _known(str(error.message)), key=key) from error
        except (MemoryError, TooLong) as error:
            raise RenderError(f"it cannot be compiled: {stopped(error)}", FIX, True, key) from error
        except Exception as error:  # Python's own, such as for blocks nested too deeply, or too long a number
            what = f"not a valid template: {type(error).__name__}: {error}"
            raise RenderError(what, "simplify the template", key=key) from error

    def __call__(self, values: dict[str, Any]) -> Any:
        """The result for a row. Raises RenderError."""
        if self.key:
            note_key(self.key)
        try:
            return self._evaluate(values)
        except (MemoryError, TooLong) as error:
            raise RenderError(stopped(error), FIX, True, self.key) from error
        except Exception as error:  # templates run the row's own methods and filters: any exception may come out
            for name in self.names - values.keys():
                if str(error) == f"{name!r} is undefined":
                    raise RenderError(f"no column {name!r}", nearest(name, values), key=self.key) from error
            what = f"{type(error).__name__}: {error}"
            raise RenderError(what, "mend the template, or the row", key=self.key) from error

    def _compile(self, source: str) -> Any:
        raise AttributeError(source)

    def _as_template(self, source: str) -> str:
        return source


class Template(_Compiled):
    """A text with `{{ column }}` in it; renders to a string."""

    def _compile(self, source: str) -> Any:
        return ENVIRONMENT.from_string(source).render


class Expression(_Compiled):
    """A Jinja expression such as `choices.label.index(answerKey)`; evaluates to a Python value."""

    def _compile(self, source: str) -> Any:
        evaluate = ENVIRONMENT.compile_expression(source, undefined_to_none=False)
        return lambda values: _plain(evaluate(values))

    def _as_template(self, source: str) -> str:
        return "{{" + source + "}}"
