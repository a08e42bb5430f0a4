"""Jinja in a sandbox: data sets' templates come from files that are shared, and are not trusted."""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError, meta, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from shardmark.errors import nearest
from shardmark.untrusted import printed
from shardmark.untrusted.limits import FIX, TooLong, note_key, stopped
from shardmark.untrusted.pickled import unpacked


class PlainGlobals(Environment):
    """Templates whose globals are a plain dict: they are copied for each row, and a ChainMap is slow to copy."""

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """The globals of a template; `d` takes precedence over the environment's."""
        return dict(super().make_globals(d))


class _Environment(PlainGlobals, ImmutableSandboxedEnvironment):
    """The sandbox, without numbers so large that no signal could interrupt work on them.

    Nothing is printed that has no text of its own (printed.py).
    """

    intercepted_binops = frozenset(["**", "*", "%"])
    code_generator_class = printed.PrintingCodeGenerator
    joined = staticmethod(printed.joined)
    place = staticmethod(printed.place)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            return printed.percent(left, right) if isinstance(left, str) else left % right
        check_size(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Any:
        return None if super().wrap_str_format(value) is None else printed.formatted(self, value)


MAX_EXPONENT = 100
MAX_BITS = 1 << 16
"The most bits of an integer that is a product or a power."


def check_size(operator: str, left: Any, right: Any) -> None:
    """Raise OverflowError for an operation whose result would be too large a number."""
    if operator == "**" and abs(right) > MAX_EXPONENT:
        raise OverflowError(f"an exponent of {right} is more than {MAX_EXPONENT}")
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise OverflowError(f"an integer of more than {MAX_BITS} bits")


@pass_context
def _printed(context: Context, value: object) -> Any:
    """The value in its printed form.

    It takes the context so that Jinja does not evaluate anything while it compiles, out of bounds.
    """
    return printed.printed(value)


ENVIRONMENT = _Environment(undefined=StrictUndefined, finalize=_printed, keep_trailing_newline=True, optimized=False)
printed.look_everywhere(ENVIRONMENT)


def indices(values: Iterable[Any], wanted: object) -> list[int]:
    """The positions of a value in a list, from 0: `indices(labels, 1)` are the right choices."""
    return [number for number, value in enumerate(values) if value == wanted]


@pass_context
def column(context: Context, name: str) -> Any:
    """The value of a column whose name is not an identifier, such as `column('Correct Answer')`."""
    value = context.resolve_or_missing(name)
    if value is missing:
        raise printed.NoText(
            f"no column {name!r}: {nearest(name, context.get_all().keys() - ENVIRONMENT.globals.keys())}"
        )
    return value


def regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """The text with each match of a pattern replaced, as in lm-eval's templates."""
    return re.sub(pattern, replacement, text, count=count)


ENVIRONMENT.globals |= {"indices": indices, "column": column}
ENVIRONMENT.filters |= {"unpacked": unpacked, "regex_replace": regex_replace}


OWN_NAMES = frozenset(["self", "super", "loop", "caller", "varargs", "kwargs"])
"Names that Jinja itself defines."

MISSING_FIX = "leave such rows out with `where`, or write what to use instead, as in {{ column or '' }}"


ODD_NAME = "write column('NAME') for a column whose name has spaces or other signs, or correct the template"

SHOWN = 3
"The most places in a column that a message names."


class RenderError(Exception):
    """A template that fails on a row; says what is wrong and how to fix it."""

    def __init__(self, what: str, fix: str = "", endless: bool = False, key: str = "") -> None:
        super().__init__(what)
        self.fix = fix
        self.endless = endless
        "Whether it took too much time or memory."
        self.key = key
        "The setting that the error is about."


def _fix(message: str, source: str, is_expression: bool) -> str:
    """What to do about a template that is not valid."""
    if missing := re.match(r"No (filter|test) named '(.*)'", message):
        return nearest(missing[2], {"filter": ENVIRONMENT.filters, "test": ENVIRONMENT.tests}[missing[1]])
    if is_expression and "{{" in source:
        return "write the expression without {{ }}; `~` joins texts"
    return ODD_NAME if "end of print statement" in message else ""


def names_read(source: str, *extensions: str) -> set[str]:
    """The names that a template reads and does not set, found without evaluating anything. Raises TemplateError.

    Jinja's meta.find_undeclared_variables evaluates constants, and `'x' * 10**10` takes all memory, out of all bounds.
    """
    found = meta.TrackingCodeGenerator(ENVIRONMENT)
    found.optimizer = None
    found.visit(ENVIRONMENT.overlay(extensions=extensions).parse(source))
    return found.undeclared_identifiers


class _Compiled:
    """The common part of templates and expressions: their source, the names they use, and errors in plain words."""

    def __init__(self, source: str, key: str = "") -> None:
        self.source = source
        self.key = key
        try:
            self._evaluate = self._compile(source)
            self.names = names_read(self._as_template(source))
        except TemplateError as error:
            fix = _fix(str(error.message), source, self._as_template(source) != source)
            raise RenderError(f"not a valid template: {error.message}", fix, key=key) from error
        except (MemoryError, TooLong) as error:
            raise RenderError(f"it cannot be compiled: {stopped(error)}", FIX, True, key) from error
        except Exception as error:  # Python's own, such as for blocks nested too deeply or too long a number
            what = f"not a valid template: {type(error).__name__}: {error}"
            raise RenderError(what, "simplify the template", key=key) from error

    def __call__(self, values: dict[str, Any]) -> Any:
        """The result for a row. Raises RenderError."""
        try:
            if (result := self._without_jinja(values)) is not None:
                return result
            if self.key:
                note_key(self.key)
            return self._evaluate(values)
        except (MemoryError, TooLong) as error:
            raise RenderError(stopped(error), FIX, True, self.key) from error
        except printed.NoValue as error:
            raise RenderError(self.gaps(values) or str(error), MISSING_FIX, key=self.key) from error
        except printed.NoText as error:
            raise RenderError(str(error), "fix the template", key=self.key) from error
        except Exception as error:  # templates run the row's own methods and filters: any exception may come out
            for name in self.names - values.keys():
                if str(error) == f"{name!r} is undefined":
                    odd = [each for each in values if each and not each.isidentifier() and each in self.source]
                    fix = f"write column({odd[0]!r})" if odd else nearest(name, values)
                    raise RenderError(f"no column {name!r}", fix, key=self.key) from error
            what = f"{type(error).__name__}: {error}"
            raise RenderError(what, "fix the template, or the row", key=self.key) from error

    def gaps(self, values: dict[str, Any]) -> str:
        """The missing values in the columns that it uses: only those that would be printed, if that can be told."""
        found = {name: [*printed.gaps(values[name], name)] for name in sorted(self.names & values.keys())}
        found = {name: places for name, places in found.items() if places}
        others = {name: values | dict.fromkeys(found.keys() - {name}, "") for name in found}
        guilty = [name for name in found if len(found) == 1 or self._prints(others[name])] or found
        return " and ".join(f"column {place} is {what}" for name in guilty for place, what in found[name][:SHOWN])

    def _prints(self, values: dict[str, Any]) -> bool:
        """Whether a missing value would be printed."""
        try:
            self._evaluate(values)
        except printed.NoValue:
            return True
        except Exception:  # the placeholder for the others does not fit
            return False
        return False

    def _without_jinja(self, values: dict[str, Any]) -> Any:
        """The result, if it takes only texts and numbers of the row; else None."""

    def _compile(self, source: str) -> Any:
        raise AttributeError(source)

    def _as_template(self, source: str) -> str:
        return source


_Parts = list[tuple[str | None, str]]
"Texts, and in their place None and the name of a column."


def _filled_in(source: str) -> _Parts | None:
    """The parts of a template that consists of text and columns only, as most do; None for any other."""
    match ENVIRONMENT.parse(source).body:
        case [nodes.Output(nodes=parts)]:
            plain = [part for part in parts if isinstance(part, nodes.TemplateData | nodes.Name)]
            own = any(isinstance(part, nodes.Name) and part.name in OWN_NAMES for part in plain)
            if not own and len(plain) == len(parts):
                return [(None, part.name) if isinstance(part, nodes.Name) else (part.data, "") for part in plain]
    return None


def _fill_in(parts: _Parts, values: dict[str, Any]) -> str | None:
    """The text that Jinja would make of the parts, but faster.

    None if a value is missing, or is neither a text nor an integer.
    """
    texts = []
    for text, name in parts:
        if text is None:
            value = values.get(name)
            if type(value) is not str:
                if type(value) is not int:
                    return None
                value = str(value)
            text = value
        texts.append(text)
    return "".join(texts)


class Template(_Compiled):
    """A text with `{{ column }}` in it; renders to a string."""

    def _compile(self, source: str) -> Any:
        render = ENVIRONMENT.from_string(source).render
        self._parts: _Parts | None = [(render({}), "")] if "{" not in source else _filled_in(source)
        return render

    def _without_jinja(self, values: dict[str, Any]) -> str | None:
        return None if self._parts is None else _fill_in(self._parts, values)


class Expression(_Compiled):
    """A Jinja expression such as `choices.label.index(answerKey)`; evaluates to a Python value."""

    _column: str | None = None
    "The column that it consists of."

    def _compile(self, source: str) -> Any:
        evaluate = ENVIRONMENT.compile_expression(source, undefined_to_none=False)
        match _filled_in(self._as_template(source)):
            case [(None, name)]:
                self._column = name
                return lambda values: printed.plain(values[name] if name in values else evaluate(values))
        return lambda values: printed.plain(evaluate(values))

    def _without_jinja(self, values: dict[str, Any]) -> Any:
        value = values.get(self._column) if self._column is not None else None
        if type(value) is list and printed.PLAIN.issuperset(map(type, value)):
            return [*value]
        return value if type(value) in printed.PLAIN else None

    def _as_template(self, source: str) -> str:
        return "{{" + source + "}}"


class Condition(Expression):
    """An expression for whether to keep a row."""

    def __call__(self, values: dict[str, Any]) -> bool:
        """Whether to keep it. Raises RenderError, also for the text "false", which Jinja takes as true."""
        value = super().__call__(values)
        if isinstance(value, str) and value.strip().lower() == "false":
            fix = f"compare it (`{self.source} == 'true'`), or make the column a bool (source.types)"
            raise RenderError(f"it is the text {value!r}, which would count as true", fix, key=self.key)
        return bool(value)
