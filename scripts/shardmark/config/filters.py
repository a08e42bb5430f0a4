"""How an answer is taken from what a model wrote: the filters of a data set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from shardmark.config.base import Pattern, Settings


class FirstOption(Settings):
    """The option that an answer states: `B`, `(B)`, `the answer is B`, `not A but B`; none if it states several."""

    name: Literal["first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."


class OpenCompassFirstOption(Settings):
    """OpenCompass's first_option_postprocess, for comparison with its numbers."""

    name: Literal["opencompass_first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."
    cushion: bool = False
    "Where no rule finds one, any letter of the text counts; OpenCompass's default, though few of its data sets use it."


class NumberFilter(Settings):
    """The first or last number, in a plain spelling: `$1,234.50` is `1234.50`, `−5` is `-5`, `3 × 10^8` is `3e8`."""

    name: Literal["first_number", "last_number"]
    thousands: Literal[",", "any"] = ","
    """`,`: as in English, so that 1.250 has decimals, and 2,5 are two numbers. `any`: a point or comma before exactly
    three digits separates thousands, and another comma is a decimal comma."""


class MajorityVote(Settings):
    """Of several answers to a request, the most frequent one; the first of those if there are several."""

    name: Literal["majority_vote"]
    tolerance: float | None = Field(None, ge=0)
    "Numbers that differ by no more than this are one answer, written as it first was."


class RegexFilter(Settings):
    """A match of a regular expression: its first group that took part, or all of it if it has none."""

    name: Literal["regex"]
    pattern: Pattern
    "Python's syntax; `(?i)` in front ignores case."
    select: int = 0
    "Which match: 0 the first, -1 the last."
    fallback: str | None = None
    "The answer where nothing matches; without it, there is none."


class Cut(Settings):
    """Everything from a marker on is dropped."""

    name: Literal["cut"]
    marker: str = Field(min_length=1)
    "The text at which the answer ends."


class XmlTag(Settings):
    """What stands inside the last `<tag>...</tag>`."""

    name: Literal["xml_tag"]
    tag: str = Field(pattern=r"^[A-Za-z][\w.-]*$")
    "The tag's name, e.g. answer."


class StripThinking(Settings):
    """Without what a reasoning model thinks before it answers; thoughts that never end leave no answer."""

    name: Literal["strip_thinking"]
    tag: str | None = Field(None, pattern=r"^[A-Za-z][\w.:-]*$")
    "The tag around thoughts; without it, all that are known: think, thinking, thought, reasoning, ..."


class MapFilter(Settings):
    """An answer becomes another."""

    name: Literal["map"]
    values: dict[str, str] = Field(min_length=1)
    "What becomes what, e.g. `{'yes': A, 'no': B}`; without quotes, YAML takes yes and no for true and false."
    default: str | None = None
    "What every other answer becomes; without it, there is none."


class TemplateFilter(Settings):
    """A text made of the answer and the row, such as a whole program of a prompt and its completion."""

    name: Literal["template"]
    template: str
    "Jinja template over `answer` and the row's columns, e.g. `{{ prompt }}{{ answer }}`."


class TakeFirst(Settings):
    """Of several answers to a request, only the first k."""

    name: Literal["take_first"]
    k: PositiveInt = 1
    "How many."


class PlainFilter(Settings):
    """Filters without settings.

    strip: no white space at the ends. lowercase, uppercase: all letters. first_line: the first that is not blank.
    first_capital, last_capital: the first or last capital letter. multiple_select: all capital letters, each once, in
    the order of the alphabet. fenced_code: the first block of Python between ``` lines, or all of it if there is none.
    unquote: without white space and quotes around it.
    """

    name: Literal[
        "strip",
        "lowercase",
        "uppercase",
        "first_line",
        "first_capital",
        "last_capital",
        "multiple_select",
        "fenced_code",
        "unquote",
    ]


Filter = Annotated[
    FirstOption
    | OpenCompassFirstOption
    | NumberFilter
    | RegexFilter
    | Cut
    | XmlTag
    | StripThinking
    | MapFilter
    | TemplateFilter
    | TakeFirst
    | MajorityVote
    | PlainFilter,
    Field(discriminator="name"),
]
