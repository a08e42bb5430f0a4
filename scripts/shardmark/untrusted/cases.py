"""Cases of programming contests, in LiveCodeBench's form, as tests for the sandbox.

A script reads each input and must print the output; for a function, each line of the input is an argument and the
output is the result, both in JSON. Equality is LiveCodeBench's: lines are equal without the white space around them, or
as the same decimal numbers; a tuple equals a list.
"""

import json
from typing import Any, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class Case:
    """An input to a program, and the output it must give."""

    input: str
    output: str


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Cases:
    """The cases that a program is judged by."""

    cases: list[Case]
    function: str | None = None
    "The function, or method of the class Solution, that is called; without it, the program is a script."


class Tests(NamedTuple):
    """Tests for the sandbox, and the number of their cases."""

    source: str
    number: int


READER = TypeAdapter(Cases)

SCRIPT = """
import json
from decimal import Decimal


def lines(text):
    return [line.strip() for line in text.strip().split("\\n")]


def numbers(line):
    try:
        return [Decimal(word) for word in line.split()]
    except ArithmeticError:
        return None


def same(told, wanted):
    return told == wanted or (numbers(told) is not None and numbers(told) == numbers(wanted))


for case in json.loads({cases!r}):
    __limit_time__({seconds})
    told, wanted = lines(__script__(case["input"])), lines(case["output"])
    assert len(told) == len(wanted), f"{{len(told)}} lines instead of {{len(wanted)}} for {{case['input'][:100]!r}}"
    for line, right in zip(told, wanted):
        assert same(line, right), f"{{line[:100]!r}} instead of {{right[:100]!r}} for {{case['input'][:100]!r}}"
"""
FUNCTION = """
import json

try:
    called = Solution().{function}
except NameError:
    called = {function}
for case in json.loads({cases!r}):
    __limit_time__({seconds})
    told = called(*[json.loads(line) for line in case["input"].split("\\n")])
    told, wanted = list(told) if isinstance(told, tuple) else told, json.loads(case["output"])
    assert told == wanted, f"{{repr(told)[:100]}} instead of {{repr(wanted)[:100]}} for {{case['input'][:100]!r}}"
"""


def read_cases(target: str) -> Cases:
    """The cases in a target's JSON. Raises ValueError."""
    try:
        found = READER.validate_json(target)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from error
    if not found.cases:
        raise ValueError("cases: there are none")
    if found.function is not None and not found.function.isidentifier():
        raise ValueError(f"function: {found.function!r} is not a name")
    if found.function is not None:
        for case in found.cases:
            for text in (*case.input.split("\n"), case.output):
                json.loads(text)
    return found


def tests_of(target: str, seconds: float) -> Tests:
    """The tests made from a target's cases, each with a limit of computing time in seconds. Raises ValueError."""
    found = read_cases(target)
    given: Any = [{"input": case.input, "output": case.output} for case in found.cases]
    template = SCRIPT if found.function is None else FUNCTION
    return Tests(template.format(cases=json.dumps(given), seconds=seconds, function=found.function), len(given))
