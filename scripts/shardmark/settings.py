"""The common base of all settings: strict types, unknown keys refused, a docstring per key for the JSON schema."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Annotated, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

AS_WRITTEN = {"as_written": True}
"The context that skips rules between keys: for settings of a record, which were checked when it was made."


class Settings(BaseModel):
    """Base of every section of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="wrap")
    @classmethod
    def _no_number_is_yes_or_no(
        cls, values: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Refuse `true` and `false` where a number belongs: pydantic reads them as 1 and 0."""
        found = handler(values)
        if isinstance(values, dict) and info.context != AS_WRITTEN:
            wrong = [
                Wrong((name, *path), f"should be a number, not {str(value).lower()}", "give a number")
                for name in cls.model_fields
                if name in values
                for path, value in _counted(values[name], getattr(found, name))
            ]
            if wrong:
                raise refusal(cls, wrong)
        return found

    @classmethod
    def as_written(cls, values: object) -> Self:
        """Settings that an earlier Shardmark may have written: removed keys and newer rules are ignored.

        Raises ValueError.
        """
        try:
            return cls.model_validate(values, extra="ignore", context=AS_WRITTEN)
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
            raise ValueError("; ".join(wrong)) from error

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        properties = handler.resolve_ref_schema(found)["properties"]
        for key, meaning in meanings(cls).items():
            properties[key] = dict(sorted({**properties[key], "description": meaning}.items()))
        return found


def _counted(given: object, read: object) -> Iterator[tuple[tuple[str | int, ...], bool]]:
    """Each truth value that was read as a number, with its path."""
    if isinstance(given, bool) and isinstance(read, int | float) and not isinstance(read, bool):
        yield (), given
    items: Iterable[tuple[str | int, object, object]] = ()
    if isinstance(given, list) and isinstance(read, list | tuple) and len(given) == len(read):
        items = zip(range(len(given)), given, read, strict=True)
    elif isinstance(given, dict) and isinstance(read, dict):
        items = ((key, given[key], read[key]) for key in given if key in read)
    for key, one, other in items:
        yield from (((key, *path), value) for path, value in _counted(one, other))


@cache
def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """The meanings of keys, from the docstrings below them.

    These are read from the source on demand. Pydantic's `use_attribute_docstrings` reads them whenever a class is made,
    which takes longer than everything else, in every command.
    """
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if issubclass(part, Settings) and part.__annotations__:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
            assert isinstance(tree, ast.ClassDef)
            for key, text in pairwise(tree.body):
                match key, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                        found[name] = inspect.cleandoc(words)
    return {key: found[key] for key in kind.model_fields if key in found}


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


class Wrong(NamedTuple):
    """A finding of a rule between keys: the key, by its path, what is wrong with it, and how to fix it."""

    key: tuple[str | int, ...]
    what: str
    fix: str


def refusal(kind: type[BaseModel], wrong: Iterable[Wrong]) -> ValidationError:
    """An error for validators to raise, in which each key is reported separately, with its fix."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("rule", "{what}", {"what": what, "fix": fix}), "loc": key, "input": {}}
        for key, what, fix in wrong
    ]
    return ValidationError.from_exception_data(kind.__name__, details)


Pattern = Annotated[str, AfterValidator(_compiles)]
"A regular expression."
