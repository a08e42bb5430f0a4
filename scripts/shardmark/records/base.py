"""Records as JSON: written with a version, read strictly."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import msgspec

from shardmark.errors import Problem, UserError
from shardmark.files import SEAL, read_sealed

if TYPE_CHECKING:
    from shardmark.settings import Settings

FORMAT = "format"
"The key of a file's version. A file without it has version 1."
MADE_ANEW = "delete it; the next run recreates it"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record. Unknown keys are errors: a misspelt key must not pass for an absent one."""


class Sparse(Record, omit_defaults=True):
    """A record that omits keys with their default value when it is written.

    msgspec alone would omit only the default object itself, and write an equal number of another type.
    """

    def __post_init__(self) -> None:
        for name, default in _defaults(type(self)):
            value = getattr(self, name)
            if value is not default and value == default:
                msgspec.structs.force_setattr(self, name, default)


@cache
def _defaults(kind: type[Record]) -> list[tuple[str, Any]]:
    return [(f.name, f.default) for f in msgspec.structs.fields(kind) if f.default is not msgspec.NODEFAULT]


R = TypeVar("R")


class Unreadable(ValueError):
    """A text that is not a record of its kind; says what is wrong, and at which key."""


def to_json(record: object) -> Any:
    """The plain JSON value of a record, with keys in the order of its definition."""
    return msgspec.to_builtins(record, enc_hook=_dumped)


def shallow(record: Record) -> dict[str, Any]:
    """The values of a record as they are, in the order of its definition, without those that it omits when written.

    For rows of data sets, which json writes: it knows subclasses of numbers, and `to_json` does not. Lists of records
    become lists of their values.
    """
    values = msgspec.structs.asdict(record)
    for name, default in _omitted(type(record)):
        if values[name] == default:
            del values[name]
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], Record):
            values[name] = [shallow(part) for part in value]
    return values


@cache
def _omitted(kind: type[Record]) -> list[tuple[str, Any]]:
    """The fields that a record of this kind omits when it is written, with their default values."""
    if not kind.__struct_config__.omit_defaults:
        return []
    fields = msgspec.structs.fields(kind)
    return [*_defaults(kind), *((f.name, f.default_factory()) for f in fields if f.default_factory in (list, dict))]


def _dumped(settings: "Settings") -> Any:
    """Settings (pydantic's models) as a part of a record."""
    return settings.model_dump()


def _settings(kind: "type[Settings]", value: object) -> Any:
    return kind.as_written(value)


@cache
def _decoder(kind: type[R]) -> "msgspec.json.Decoder[R]":
    """The decoder of a kind, made once: analysing a union takes longer than reading a line."""
    return msgspec.json.Decoder(kind, dec_hook=_settings)


def decode(text: bytes | str, kind: type[R], version: int = 1) -> R:
    """The record in a JSON text of format `version` or an older one. Raises Unreadable.

    `kind` may be a record's class or a union of them. Lone surrogates, which msgspec refuses, are read as json reads
    them.
    """
    try:
        return _decoder(kind).decode(text)  # type: ignore[arg-type]  # a class is hashable
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a surrogate, a version, or a mistake: the slow way finds out which
    return convert(parse(text), kind, version)


def parse(text: bytes | str) -> Any:
    """The plain value in a JSON text, lone surrogates and all. Raises Unreadable."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error


def convert(value: object, kind: type[R], version: int = 1) -> R:
    """The record in a plain JSON value, of format `version` or an older one. Raises Unreadable."""
    if isinstance(value, dict) and FORMAT in value:
        found = value[FORMAT]
        if not isinstance(found, int) or isinstance(found, bool):
            raise Unreadable(f"{FORMAT}: not a whole number: {found!r}")
        if found > version:
            raise Unreadable(f"written by a newer Shardmark (format {found}; this one reads up to {version})")
        value = {key: part for key, part in value.items() if key != FORMAT}
    try:
        return msgspec.convert(value, type=kind, dec_hook=_settings)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def read_sealed_record(path: Path, kind: type[R]) -> R:
    """The record in a sealed file, read without checking the seal. Raises UserError with what to do.

    For files that a plan has just written or checked.
    """
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise Unreadable(f"not an object: {value!r}")
        return convert({key: part for key, part in value.items() if key != SEAL}, kind)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(Problem(str(path), "", f"cannot be read: {error}", MADE_ANEW)) from error


def find_sealed(path: Path, kind: type[R]) -> R | None:
    """The record in a sealed file; None if the file is missing or is to be made again."""
    try:
        return convert(read_sealed(path), kind)
    except Unreadable:
        return None
