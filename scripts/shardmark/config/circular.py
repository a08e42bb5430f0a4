"""Circular evaluation: a question with choices is asked once for each rotation of its options."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from shardmark.settings import Settings

Options = (
    Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]
)


class Circular(Settings):
    """Ask all rotations of a row's options; the row is right if all of them are."""

    options: Options
    "The column with the list of options, `choices.text` for one within a column; or the columns with an option each."
    letters: str = Field("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_length=2)
    "For kind generate: the target's names for the options, in their order, one character each."

    @model_validator(mode="after")
    def _distinct(self) -> "Circular":
        for key, values in (("options", self.options), ("letters", list(self.letters))):
            doubled = sorted({value for value in values if isinstance(values, list) and values.count(value) > 1})
            if doubled:
                raise ValueError(f"{key} has {doubled[0]!r} twice")
        return self


def _options_alone(values: object) -> object:
    """`circular: choices.text` is short for `circular: {options: choices.text}`."""
    return {"options": values} if isinstance(values, str | list) else values


AnyCircular = Annotated[Circular, BeforeValidator(_options_alone, json_schema_input_type=Circular | Options)]
