"""Check settings: report what is wrong with a file, by key, and how to fix it."""

import json
import re
from collections import defaultdict
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from shardmark.config.secrets import is_secret
from shardmark.errors import Problem, nearest
from shardmark.settings import Settings, meanings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

QUOTES = "put it in quotes: YAML does not read numbers, yes, no, on and off as text"
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Chat = bool | Literal["auto"]
"Whether models are asked in chats; auto: the models that have a template for them."
S = TypeVar("S", bound=Settings)
SHOWN = 20
"The most wrong keys of a file that are named; the others are only counted."


def validate(kind: type[S], values: object, where: str, problems: list[Problem]) -> S | None:
    """The settings in `values`, or None with one problem for each wrong key."""
    if not isinstance(values, dict):
        what = f"expected keys and values, found {type(values).__name__}"
        problems.append(Problem(where, "", what, "write each setting as `key: value`"))
        return None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        by_key: dict[str, list[ErrorDetails]] = defaultdict(list)
        for detail in error.errors():
            by_key[_key(detail, values)].append(detail)
        shown = islice(by_key.items(), SHOWN)
        problems += [_problem(kind, key, details, where) for key, details in shown]
        if (more := len(by_key) - SHOWN) > 0:
            problems.append(Problem(where, "", f"{more:,} more keys are wrong", "fix the others first"))
        return None


def _key(detail: "ErrorDetails", values: Any) -> str:
    """The key as the user wrote it; pydantic's location also contains the types it tried."""
    keys = []
    for part in detail["loc"]:
        here = values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
        if part in here:
            values = values[part]
            keys.append(str(part))
    if detail["type"] == "missing":
        keys.append(str(detail["loc"][-1]))
    return ".".join(keys or map(str, detail["loc"][:1]))  # the latter for a key that a validator made


def _problem(kind: type[Settings], key: str, details: "list[ErrorDetails]", where: str) -> Problem:
    """Pydantic's errors of one key (one for each type it may have) in our words."""
    detail = details[0]
    if detail["type"] == "extra_forbidden":
        return Problem(where, key, "unknown key", _right_key(kind, key))
    if detail["type"] == "missing":
        return Problem(where, key, "is required", "add it")
    found, context = detail.get("input"), detail.get("ctx", {})
    if detail["type"] == "union_tag_invalid":
        known = re.findall(r"'([^']+)'", context["expected_tags"])
        return Problem(where, f"{key}.name", f"there is no {context['tag']!r}", nearest(context["tag"], known))
    messages = [detail["msg"].removeprefix("Value error, ") for detail in details]
    what = ", or ".join(message[0].lower() + message[1:] for message in messages)
    is_shown = isinstance(found, str | int | float | bool | None) and not is_secret(key, str(found))
    shown = f" (found {found!r})" if is_shown else ""
    if detail["type"] == "literal_error" and len(details) == 1:
        return Problem(where, key, what + shown, nearest(str(found), re.findall(r"'([^']+)'", context["expected"])))
    if detail["type"] == "string_type" and isinstance(found, bool | int | float):
        return Problem(where, key, what + shown, QUOTES)
    if len(details) == 1 and detail["type"] == "list_type" and isinstance(found, str):
        listed = found if re.fullmatch(r"[\w.-]+", found) else json.dumps(found, ensure_ascii=False)
        return Problem(where, key, what + shown, f"write a list: [{listed}]")
    if detail["type"] == "model_attributes_type":
        return Problem(where, key, f"expected a name, or keys and values{shown}", "write NAME, or {name: NAME, ...}")
    if len(details) == 1 and detail["type"] == "model_type":
        keys = ", ".join(_schema(kind)["$defs"][context["class_name"]]["properties"])
        return Problem(where, key, f"expected keys and values{shown}", f"write {{KEY: VALUE, ...}}; keys: {keys}")
    return Problem(where, key, what + shown, context.get("fix") or _meaning(kind, key))


def _meaning(kind: type[BaseModel], key: str) -> str:
    """The meaning of a key, from its docstring; empty if the key is not one of the first level."""
    name, _, rest = key.partition(".")
    field = kind.model_fields.get(name)
    if field is None:
        return ""
    if not rest:
        meaning = meanings(kind).get(name)
        return f"{name}: {meaning}" if meaning else ""
    inside = field.annotation
    return _meaning(inside, rest) if isinstance(inside, type) and issubclass(inside, BaseModel) else ""


def _right_key(kind: type[BaseModel], key: str) -> str:
    """The section that an unknown key belongs to, or the most similar key of its own section."""
    schema = _schema(kind)
    sections = {"": set(schema["properties"])}
    for name, value in schema["properties"].items():
        if kinds := re.findall(r"#/\$defs/(\w+)", str(value)):
            sections[name] = {key for kind in kinds for key in schema["$defs"][kind]["properties"]}
    *path, name = key.split(".")
    here = path[0] if path else ""
    for section, keys in sections.items():
        is_list = section and schema["properties"][section].get("type") == "array"
        if len(path) < 2 and name in keys and section != here and not is_list:
            return f"it belongs in {section}" if section else "it belongs at the top level of the file"
    return nearest(name, sections.get(here, sections[""]) - {name})


@lru_cache(maxsize=16)
def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema()
