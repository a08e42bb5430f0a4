"""Values that a template may print: texts, numbers and booleans, and lists and mappings of them.

Python has a text for everything: "None" and "nan" for missing values, an address in memory for a method. A model would
be asked these. So every value that becomes a text in a template is checked first, however it becomes one.
"""

import math
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from functools import update_wrapper
from typing import Any

from jinja2 import Environment, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import FILTERS, do_format, do_join, do_tojson, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.sandbox import SandboxedFormatter
from jinja2.utils import pass_eval_context

LAZY = Iterator | ItemsView | KeysView | ValuesView | range | bytes | set | frozenset  # type: ignore[type-arg]
"Types printed as the list of their parts, besides lists and tuples."

LISTS = list | tuple | LAZY  # type: ignore[type-arg]
"All types printed as the list of their parts; a union takes time to make."

PLAIN = frozenset([str, int, float, bool, type(None)])
"Types that need no further check."

TEXT_FILTERS = (
    *("capitalize", "center", "e", "escape", "filesizeformat", "forceescape", "indent", "lower", "pprint", "replace"),
    *("safe", "string", "striptags", "title", "trim", "truncate", "upper", "urlencode", "urlize"),
    *("wordcount", "wordwrap", "xmlattr"),
)
"Jinja's filters that make a text of any value; `default` and the filters that select are not among them."

RANDOM_FILTERS, RANDOM_GLOBALS = ("random",), ("lipsum",)
"Names of filters and globals that would make another prompt each time."


class NoText(TypeError):
    """Raised for a value without a text of its own that would be printed."""


class NoValue(NoText):
    """Raised for null, NaN or an infinite number that would be printed."""


def missing(value: object) -> str | None:
    """The name of a missing value: null, NaN, or infinite; None for any other."""
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    return None


def gaps(value: object, path: str) -> Iterator[tuple[str, str]]:
    """The places in a value, called `path`, where something is missing, with its name."""
    if what := missing(value):
        yield path, what
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from gaps(part, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from gaps(part, f"{path}[{number}]")


def plain(value: object) -> Any:
    """The value as in JSON, including null and NaN. Raises NoText for an object that has no text of its own."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, LISTS) and not callable(value):  # Jinja's `loop` is both
        return [plain(part) for part in value]
    _check(value)
    return value


def _check(value: object) -> None:
    """Raise NoText unless Python's own text of a value is fit for a prompt."""
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, Undefined):
        str(value)  # raises, except for an `if` without `else`, which is empty
    elif isinstance(value, dict | list | tuple):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(part)
    elif callable(value):
        raise NoText("a method, not a value: call it with (), or write column['key'] for the key of that name")
    elif isinstance(value, LAZY):
        raise NoText(f"a {type(value).__name__}, which has no text form: make it a list")
    else:
        raise NoText(f"an object of type {type(value).__name__}, which has no text form")


def printed(value: object) -> Any:
    """The value in its printed form. Raises NoText if it, or a part of it, has no text of its own."""
    if isinstance(value, str):
        return value
    value = plain(value)
    for path, what in gaps(value, ""):
        raise NoValue(f"{what} would be printed" + f" (at {path})" * bool(path))
    return value


class _Printed(dict[Any, Any]):
    """The values of a format string, checked as they are used."""

    def __getitem__(self, key: object) -> Any:
        return printed(super().__getitem__(key))


class _Formatter(SandboxedFormatter):
    """Jinja's formatter in a sandbox, which checks each value."""

    def convert_field(self, value: object, conversion: str | None) -> Any:
        return super().convert_field(printed(value), conversion)


class PrintingCodeGenerator(CodeGenerator):
    """Compiles `a ~ b` and `a[b]` so that the environment checks the operands."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Const | nodes.Neg | nodes.Slice):
            return super().visit_Getitem(node, frame)
        self.write("environment.getitem(")
        self.visit(node.node, frame)
        self.write(", environment.place(")
        self.visit(node.arg, frame)
        self.write("))")


def place(index: Any) -> Any:
    """The computed index of an item; of a negative one, such as the label -1 of a row without an answer, NoText."""
    if isinstance(index, int) and index < 0:
        raise NoText(f"index {index} would count from the end; a label of -1 or 0 may mean that there is none")
    return index


def joined(parts: Iterable[Any]) -> str:
    """The result of `a ~ b`."""
    return "".join(str(_as_is(part)) for part in parts)


def percent(text: str, values: object) -> str:
    """The result of `text % values`."""
    if isinstance(values, dict) and "%(" in text:
        return text % _Printed(values)
    return text % _as_is(values)


def formatted(environment: Environment, method: Any) -> Callable[..., str]:
    """A text's `format` or `format_map` that checks its arguments."""
    text, formatter = method.__self__, _Formatter(environment)

    def wrapper(*args: Any, **kwargs: Any) -> str:
        if method.__name__ == "format_map":
            (kwargs,), args = args, ()
        return formatter.vformat(text, args, kwargs)

    return update_wrapper(wrapper, method)


def _as_is(value: object) -> Any:
    """The value itself, if Python's own text of it may be printed. Raises NoText."""
    _check(value)
    printed(value)
    return value


def _looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that checks its arguments first; Jinja's marks for extra arguments stay."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        values = args[1:] if hasattr(function, "jinja_pass_arg") else args
        for value in (*values, *kwargs.values()):
            _as_is(value)
        return function(*args, **kwargs)

    return update_wrapper(wrapper, function)


@pass_eval_context
def _join(context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's join, which checks each part."""
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    return str(do_join(context, [_as_is(part) for part in value], _as_is(d)))


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    """Jinja's format, which checks each value."""
    if args and kwargs:
        return do_format(value, *args, **kwargs)  # raises
    return percent(str(_as_is(value)), kwargs or args)


@pass_eval_context
def _tojson(context: EvalContext, value: object, indent: int | None = None) -> Any:
    """Jinja's tojson: JSON has null, but no NaN."""
    for path, what in gaps(value, ""):
        if what != "null":
            raise NoValue(f"{what}, which JSON does not have" + f" (at {path})" * bool(path))
    return do_tojson(context, value, indent)


def look_everywhere(environment: Environment) -> None:
    """Make all filters of an environment check the values that they turn into text, and drop the random ones."""
    for name in TEXT_FILTERS:
        environment.filters[name] = _looking(FILTERS[name])
    environment.filters |= {"join": _join, "format": _format, "tojson": _tojson}
    for name in RANDOM_FILTERS:
        del environment.filters[name]
    for name in RANDOM_GLOBALS:
        del environment.globals[name]
