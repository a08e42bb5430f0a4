"""`parts`: one file of config/datasets that stands for many data sets, such as subjects or languages."""

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ConfigDict, Field

from shardmark.config.base import validate
from shardmark.config.dataset import Topic, Variables
from shardmark.errors import Problem
from shardmark.settings import Settings

Values = dict[str, Any]
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NAME = "name"
"The variable for the part's own name."


class _Parts(Settings):
    """The keys of a file with parts that concern all of them."""

    model_config = ConfigDict(extra="ignore")

    parts: list[str] | dict[str, Variables]
    parts_mean: Literal["macro", "micro"] = "macro"
    description: str = ""
    topics: list[Topic] = Field(default=[])


def has_parts(values: object) -> bool:
    """Whether the values of a file in config/datasets stand for several data sets."""
    return isinstance(values, dict) and "parts" in values


def split(stem: str, values: Values, where: str, problems: list[Problem]) -> dict[str, Values]:
    """The values of a file and of its data sets, by name: its own are those of a group of `STEM.PART` for each part.

    `${name}` in a text is the part's name, and `${key}` a value that `parts` gives it. Empty if parts are wrong.
    """
    wrong: list[Problem] = []
    found = validate(_Parts, values, where, wrong)
    if found is not None:
        own = found.parts if isinstance(found.parts, dict) else {part: {} for part in found.parts}
        wrong += _misfits(own, found.parts, values, where)
    problems += wrong
    if found is None or wrong:
        return {}
    shared = {key: value for key, value in values.items() if key not in ("parts", "parts_mean")}
    group: Values = found.model_dump(include={"description", "topics"})
    group |= {"group": [f"{stem}.{part}" for part in own], "mean": found.parts_mean}
    members = {
        f"{stem}.{part}": _filled(shared, variables | {NAME: part})
        | {"description": f"{found.description} ({part})" if found.description else part}
        for part, variables in own.items()
    }
    return {stem: group} | members


def _misfits(own: dict[str, Variables], given: object, values: Values, where: str) -> Iterator[Problem]:
    """The faults of parts and of their values."""
    if not own:
        yield Problem(where, "parts", "names no parts", "name at least one, or drop the key")
    if isinstance(given, list) and (twice := [part for part in own if given.count(part) > 1]):
        yield Problem(where, "parts", f"{twice[0]} occurs twice", "keep one")
    for part in own:
        if not PART.fullmatch(part):
            yield Problem(where, "parts", f"{part!r} cannot be the name of a part", "use letters, digits, - and _")
    variables = {key for each in own.values() for key in each}
    for part, each in own.items():
        if missing := sorted(variables - each.keys()):
            yield Problem(where, f"parts.{part}", f"gives no {', '.join(missing)}, unlike other parts", "add it")
    if NAME in variables:
        yield Problem(where, "parts", f"{NAME} always stands for the part's name", "use another word")
    texts = str({key: value for key, value in values.items() if key != "parts"})
    unused = sorted(key for key in variables if f"${{{key}}}" not in texts)
    if unused:
        yield Problem(where, "parts", f"nothing uses {', '.join(unused)}", f"write ${{{unused[0]}}}, or drop it")
    if own and not variables and f"${{{NAME}}}" not in texts:
        yield Problem(where, "parts", "all parts are the same", f"write ${{{NAME}}} where they differ")


def _filled(value: Any, variables: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, variables) for part in value]
    if isinstance(value, str) and "${" in value:
        for key, text in variables.items():
            value = value.replace(f"${{{key}}}", text)
    return value
