"""YAML files, read strictly and within bounds: duplicate keys are errors, and so are texts that would fill memory."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from shardmark.errors import Problem

FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 64
"The deepest nesting of lists and mappings that is read: Python cannot follow much more."
MAX_VALUES = 1_000_000
"The most values of a file, including those that its aliases stand for: ten lines of aliases can be a billion values."
MAX_DIGITS = 1000
"The most characters of a number; Python refuses to read and write longer ones."
TOLD_BETTER = 100_000
"The length in characters up to which a faulty text is parsed again for a better message."
MERGE = "tag:yaml.org,2002:merge"


class Bounded:
    """Makes a YAML loader name the place of a value that cannot be built, such as the 30th of February."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. Raises yaml.YAMLError, and nothing else."""
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            raise _at(node.start_mark, f"a number of {len(node.value):,} characters; at most {MAX_DIGITS:,} are read")
        try:
            return super().construct_object(node, deep)  # type: ignore
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
            shown = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else "this"
            raise _at(node.start_mark, f"{shown} is not a valid value: {error}") from error


class _Loader(Bounded, yaml.SafeLoader):
    """YAML in which a duplicate key is an error, not a silent overwrite."""


class _FastLoader(Bounded, FAST):
    """The same, in C."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, _ in node.value:
        if key_node.tag == MERGE:  # `<<: *anchor`
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise _at(key_node.start_mark, "found unhashable key: put a template, which begins with {{, in quotes")
        if key in seen:
            raise _at(seen[key], f"key {key!r} occurs twice")
        seen[key] = key_node.start_mark
    return dict(loader.construct_mapping(node, deep=True))


def _number(loader: Any, node: yaml.ScalarNode) -> float:
    """A number that means what it looks like: YAML 1.1 reads 010 as 8, and 1:30 as 90."""
    value: float = getattr(loader, f"construct_yaml_{node.tag.rpartition(':')[2]}")(node)
    digits = node.value.lstrip("+-").replace("_", "")
    if ":" in digits or (digits.isdigit() and digits != "0" and digits[0] == "0"):
        raise _at(node.start_mark, f"YAML reads {node.value} as {value}: write that, or put {node.value!r} in quotes")
    return value


for _kind in (_Loader, _FastLoader):
    _kind.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
    for _tag in ("int", "float"):
        _kind.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)


def _at(mark: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, mark)


def load_yaml(text: str | bytes, kind: Any = None) -> Any:
    """The value of a YAML text, by a loader class; None of an empty one. Raises yaml.YAMLError, and nothing else."""
    node, loader = _composed(text, kind or (_FastLoader if FAST is not yaml.SafeLoader else _Loader))
    with _named():
        try:
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()


def compose_yaml(text: str | bytes) -> yaml.Node | None:
    """The nodes of a YAML text, which know their lines. Raises yaml.YAMLError, and nothing else."""
    node, loader = _composed(text, FAST)
    loader.dispose()
    return node


def _composed(text: str | bytes, kind: Any) -> tuple[yaml.Node | None, Any]:
    with _named():
        _check_depth(text)
        loader = kind(text)
        node = loader.get_single_node()
        if node is not None:
            _check_size(node)
        return node, loader


@contextmanager
def _named() -> Iterator[None]:
    """A block that turns all errors into YAML's."""
    try:
        yield
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, yaml.YAMLError):
            raise
        raise yaml.YAMLError(str(error) or type(error).__name__) from error


def _check_depth(text: str | bytes) -> None:
    """Raise YAMLError for a text that is nested too deeply or too large, before anything is built from it."""
    depth = 0
    for number, event in enumerate(_events(text)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _at(event.start_mark, f"nested more than {MAX_DEPTH} deep")
        if number > 2 * MAX_VALUES:
            raise _at(event.start_mark, f"more than {MAX_VALUES:,} values")


def _events(text: str | bytes) -> Iterator[yaml.Event]:
    """The parser's events. For invalid YAML, the parser in Python gives the better message."""
    try:
        yield from yaml.parse(text, FAST)
    except yaml.YAMLError:
        if len(text) < TOLD_BETTER:
            for _ in yaml.parse(text, yaml.SafeLoader):
                pass
        raise


def _check_size(root: yaml.Node) -> None:
    """Raise YAMLError if there are too many values once each alias is replaced by its value."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        parts = _parts(node)
        if done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts)
            if sizes[id(node)] > MAX_VALUES:
                raise _at(node.start_mark, f"more than {MAX_VALUES:,} values, with aliases expanded")
        elif id(node) in open_nodes:
            raise _at(node.start_mark, "an alias stands for a value that contains it")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack += [(node, True), *((part, False) for part in parts)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def values_in(value: object) -> int:
    """How many values something contains, each counted as often as it occurs; at most one more than MAX_VALUES.

    A value that contains itself is infinite, and so over the limit.
    """
    sizes: dict[int, int] = {}

    def size(part: Any, depth: int) -> int:
        if not isinstance(part, dict | list | tuple):
            return 1
        if depth > MAX_DEPTH:
            return MAX_VALUES + 1
        if id(part) not in sizes:
            inner = part.values() if isinstance(part, dict) else part
            sizes[id(part)] = min(MAX_VALUES + 1, 1 + sum(size(each, depth + 1) for each in inner))
        return sizes[id(part)]

    return size(value, 0)


def read_yaml(path: Path, where: str, problems: list[Problem]) -> Any:
    """A YAML file's value, or None with a problem that names the line in `where`."""
    try:
        return load_yaml(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        problems.append(yaml_problem(error, where))
        return None


def yaml_problem(error: Exception, where: str) -> Problem:
    """The problem of a YAML file that cannot be read, with the line."""
    if isinstance(error, OSError):
        return Problem(where, "", f"cannot be read: {error.strerror}", "correct its name or its permissions")
    if isinstance(error, UnicodeDecodeError):
        what = f"not UTF-8: byte {error.start + 1} is {error.object[error.start]:#x}"
        return Problem(where, "", what, "save it as UTF-8")
    mark = getattr(error, "problem_mark", None)
    place = f"{where}:{mark.line + 1}" if mark else where
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if context := "occurrence" in what and getattr(error, "context", None):  # of an anchor
        what = f"{context}; {what}"
    fixes = {
        "'\\t'": "indent with spaces",
        "mapping values": "put a text with a colon in quotes, or correct the indent",
    }
    fix = next((fix for sign, fix in fixes.items() if sign in what), "fix the file")
    return Problem(place, "", f"not valid YAML: {what}", fix)
