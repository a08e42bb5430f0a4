"""Filters, which extract answers from a model's output, one file each.

They come before the configuration, whose types they are part of, and import anything heavy only when they are applied.
"""

from typing import Annotated, get_args

from pydantic import Field

from shardmark.filters.base import Filter
from shardmark.filters.cut import Cut
from shardmark.filters.fenced_code import FencedCode
from shardmark.filters.first_capital import FirstCapital
from shardmark.filters.first_line import FirstLine
from shardmark.filters.first_number import FirstNumber
from shardmark.filters.first_option import FirstOption
from shardmark.filters.last_box import LastBox
from shardmark.filters.last_capital import LastCapital
from shardmark.filters.last_number import LastNumber
from shardmark.filters.lowercase import Lowercase
from shardmark.filters.majority_vote import MajorityVote
from shardmark.filters.map import MapFilter
from shardmark.filters.multiple_select import MultipleSelect
from shardmark.filters.opencompass_first_option import OpenCompassFirstOption
from shardmark.filters.own import OwnFilter
from shardmark.filters.regex import RegexFilter
from shardmark.filters.strip import Strip
from shardmark.filters.strip_thinking import StripThinking
from shardmark.filters.take_first import TakeFirst
from shardmark.filters.template import TemplateFilter
from shardmark.filters.unquote import Unquote
from shardmark.filters.uppercase import Uppercase
from shardmark.filters.xml_tag import XmlTag

AnyFilter = Annotated[
    Cut
    | FencedCode
    | FirstCapital
    | FirstLine
    | FirstNumber
    | FirstOption
    | LastBox
    | LastCapital
    | LastNumber
    | Lowercase
    | MajorityVote
    | MapFilter
    | MultipleSelect
    | OpenCompassFirstOption
    | OwnFilter
    | RegexFilter
    | Strip
    | StripThinking
    | TakeFirst
    | TemplateFilter
    | Unquote
    | Uppercase
    | XmlTag,
    Field(discriminator="name"),
]
FILTERS: dict[str, type[Filter]] = {
    name: kind for kind in get_args(get_args(AnyFilter)[0]) for name in get_args(kind.model_fields["name"].annotation)
}
"The classes of filters by name."
