"""Values of rows, YAML and the tasks' own Python as JSON: NumPy's as Python's, and no invented ones.

A number that became a text on the way would later be compared with numbers, and no answer would be right.
"""

import datetime
import decimal
import uuid
from typing import Any

PRINTED = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, bytes)
"Types that JSON lacks and that templates print as `str` does: they become that text."


def as_json(value: object, where: str = "") -> Any:
    """The value with Python's own numbers, texts, lists and dictionaries; dates and bytes as templates print them.

    Raises TypeError for anything else, with its place in the value (after `where`) and its type.
    """
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, dict):
        return {str(key): as_json(part, f"{where}.{key}" if where else str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part, f"{where}[{number}]") for number, part in enumerate(value)]
    if isinstance(value, PRINTED):
        return str(value)
    if is_numpy(value):
        return _from_numpy(value, where)
    for kind in (str, bool, int, float):  # a subclass, such as a member of a string enumeration
        if isinstance(value, kind):
            return kind(value)
    raise _unfit(value, where)


def _unfit(value: object, where: str) -> TypeError:
    return TypeError(f"{where}{': ' if where else ''}a {type_name(value)}, which JSON does not have")


def type_name(value: object) -> str:
    """The name of a value's type in errors."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def is_numpy(value: object) -> bool:
    """Whether a value is a NumPy scalar or array, checked without importing NumPy."""
    return type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype")


def _from_numpy(value: Any, where: str) -> Any:
    """A NumPy value as JSON. A short float becomes the number as printed: 0.1, not 0.10000000149011612."""
    if value.dtype.kind not in "biufUO":
        raise _unfit(value, where)
    if value.ndim:
        return [as_json(part, f"{where}[{number}]") for number, part in enumerate(value)]
    if value.dtype.kind == "f":
        return float(str(value) if value.dtype.itemsize < 8 else value)
    return as_json(value.item(), where)
