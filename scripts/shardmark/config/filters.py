"""How an answer is taken from what a model wrote: the filters of a data set."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from shardmark.config.base import Pattern, Settings


class FirstOption(Settings):
    """The first option letter that stands for itself: `A`, `(B)`, `C)`, `the answer is A`; case matters."""

    name: Literal["first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."


class OpenCompassFirstOption(Settings):
    """OpenCompass's first_option_postprocess with cushion=False, for comparison with its numbers."""

    name: Literal["opencompass_first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."


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
    tag: str = Field("think", pattern=r"^[A-Za-z][\w.-]*$")
    "The tag around thoughts."


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
    "So many."


class PlainFilter(Settings):
    """Filters without settings.

    strip: no white space at the ends. lowercase, uppercase: all letters. first_line: up to the first newline.
    first_number, last_number: the first or last number. first_capital, last_capital: the first or last capital letter.
    multiple_select: all capital letters, each once, in the order of the alphabet. fenced_code: the first block
    between ``` lines, or all of it if there is none. majority_vote: of several answers, the one that is most frequent.
    """

    name: Literal[
        "strip",
        "lowercase",
        "uppercase",
        "first_line",
        "first_number",
        "last_number",
        "first_capital",
        "last_capital",
        "multiple_select",
        "fenced_code",
        "majority_vote",
    ]


Filter = Annotated[
    FirstOption
    | OpenCompassFirstOption
    | RegexFilter
    | Cut
    | XmlTag
    | StripThinking
    | MapFilter
    | TemplateFilter
    | TakeFirst
    | PlainFilter,
    Field(discriminator="name"),
]
