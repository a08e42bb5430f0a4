"""The rotations of a row's options for circular evaluation (OpenCompass's CircularEval).

In rotation r, the option in place p is the one that was in place p + r, so that the right one moves r places forward.
The prompt, and the row that filters and templates get, have the options in their new places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shardmark.config.circular import Circular
from shardmark.errors import nearest
from shardmark.records.request import ChoiceRequest, Request
from shardmark.tasks.prompt_templates import Question
from shardmark.tasks.requests import request_id
from shardmark.tasks.rows import Row
from shardmark.untrusted.templates import RenderError

OPTIONS = "circular.options"


@dataclass(frozen=True)
class Turn:
    """A row asked with its options in other places."""

    request: Request
    request_id: str
    target: Any
    choices: list[str] | None


def rotated(row: Row, options: str | list[str], turn: int) -> Row:
    """The row with its options moved `turn` places forward. Raises RenderError if there are none."""
    values = options_of(row, options)
    values = values[turn:] + values[:turn]
    if isinstance(options, list):
        return row | dict(zip(options, values, strict=True))
    return _with(row, options.split("."), values)


def options_of(row: Row, options: str | list[str]) -> list[Any]:
    """The options of a row. Raises RenderError if there are none."""
    if isinstance(options, list):
        return [_part(row, column) for column in options]
    value: Any = row
    for name in options.split("."):
        value = _part(value, name)
    if not isinstance(value, list | tuple) or len(value) < 2:
        fix = "name the column with the list of options, or leave such rows out with `where`"
        raise RenderError(f"expected a list of two options or more in {options}, found {value!r}", fix, key=OPTIONS)
    return list(value)


def _part(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise RenderError(f"no column {name!r}", nearest(name, value if isinstance(value, dict) else ()), key=OPTIONS)
    return value[name]


def _with(row: Row, path: Sequence[str], values: list[Any]) -> Row:
    name, *rest = path
    return row | {name: _with(row[name], rest, values) if rest else values}


def turns(question: Question, circular: Circular, row: Row, target: Any, examples: Sequence[Any]) -> list[Turn]:
    """The rotations of a row except the first, which is the row itself; worked examples stay as they are.

    `target` is the right answer for the row as it is. Raises RenderError for options that do not match the choices,
    target or prompt.
    """
    options = options_of(row, circular.options)
    if _has_letter(target) and len(circular.letters) < len(options):
        what = f"the row has {len(options)} options, but letters has only {len(circular.letters)}"
        raise RenderError(what, "give a letter for each option", key="circular.letters")
    choices = question.choices(row)
    if choices is not None and len(choices) != len(options):
        what = f"the row has {len(options)} options, but {len(choices)} choices"
        raise RenderError(what, "name the options that the choices stand for", key=OPTIONS)
    found = []
    for turn in range(1, len(options)):
        turned = rotated(row, circular.options, turn)
        own = question.choices(turned)
        if choices is not None and own == choices and sorted(choices) == sorted(map(str, options)):
            what = "the choices are the options, but do not follow when these are rotated"
            raise RenderError(what, "name the column that `choices` takes them from", key=OPTIONS)
        request = question.request(turned, own, examples)
        found.append(Turn(request, request_id(request), _moved(circular, target, turn, len(options)), own))
    first = question.request(row, choices, examples)
    if len({*map(str, options)}) == len(options) and any(_asks(turn.request) == _asks(first) for turn in found):
        what = "rotating the options changes nothing that is asked"
        raise RenderError(what, "show the options in their order in the prompt, or drop circular", key="circular")
    return found


def _asks(request: Request) -> Any:
    """The question, independent of the order of the choices."""
    return sorted(map(repr, request.pairs)) if isinstance(request, ChoiceRequest) else request


def is_doubled(circular: Circular, row: Row, target: Any) -> bool:
    """Whether a right option is among the options twice, once as a wrong one."""
    options = options_of(row, circular.options)
    right = {_place(circular, one, len(options)) for one in (target if isinstance(target, list) else [target])}
    return any(option in [options[place] for place in right] for n, option in enumerate(options) if n not in right)


def _has_letter(target: Any) -> bool:
    """Whether options are named by letters: otherwise they are indices of choices."""
    return isinstance(target, str) or (isinstance(target, list) and any(isinstance(one, str) for one in target))


def _moved(circular: Circular, target: Any, turn: int, options: int) -> Any:
    """The right answer after a rotation: indices of choices, or letters."""
    if isinstance(target, list):
        return [_moved(circular, one, turn, options) for one in target]
    place = (_place(circular, target, options) - turn) % options
    return place if isinstance(target, int) else circular.letters[place]


def _place(circular: Circular, target: Any, options: int) -> int:
    """The place of a right option, from 0, by its index or its letter."""
    if isinstance(target, int):
        return target
    letters = circular.letters[:options]
    if len(target) != 1 or target not in letters:
        fix = "set target to the letter of the right option, or circular.letters to the names of the options"
        raise RenderError(f"expected one of the letters {letters}, found {target!r}", fix, key="target")
    return letters.index(target)
