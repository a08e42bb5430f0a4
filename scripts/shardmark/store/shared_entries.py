"""The entries of a shared store: a prediction file after a signed line that names its owner and its requests.

predictions/{model digest}/{data set}/{shard}.{key}.jsonl, where `key` is the fingerprint of the owner's key. An entry
is never replaced, so two owners' answers to the same shard stand side by side. The owner's key tells its own entries
from forged ones; in all others, checksums show damage, but nothing shows who made them.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import canonical_json, digest, json_line
from shardmark.records.base import Unreadable, decode, to_json
from shardmark.records.prediction import Prediction
from shardmark.records.shared import EntryHeader
from shardmark.records.trailer import Trailer
from shardmark.store.predictions import parse_predictions

FORMAT = 1
"The version of the store and of its entries."
ID_DIGITS = 12
"Digits of a request's id in an entry's first line: with a million requests, two share them in one of 500 cases."
KEY = "SHARDMARK_STORE_KEY"
"The variable with the key that signs entries; without it, the key in KEY_FILE is used."
KEY_FILE = Path("shardmark/store.key")
"Relative to the user's settings folder."
LONGEST = 200
"The most characters of a name that an owner gives to anything: it is shown."
SHORTEST = 16
"The fewest characters of a key in the variable."
PATH = re.compile(
    rf"predictions/(?P<model>{layout.DIGEST})/(?P<dataset>[^/@.\s][^/@\x00-\x1f\x7f]*)"
    rf"/(?P<shard>{layout.DIGEST})\.(?P<key>{layout.DIGEST})\.jsonl"
)


class EntryRefused(ValueError):
    """The reason why an entry is not trusted."""


@dataclass(frozen=True)
class StoreKey:
    """The key that signs a person's entries on all of their machines."""

    secret: bytes

    @property
    def name(self) -> str:
        """The key's fingerprint, which reveals nothing of it."""
        return self.sign({"shardmark": "store"})[:16]

    def sign(self, value: object) -> str:
        """HMAC-SHA256 of a JSON value."""
        return hmac.new(self.secret, canonical_json(value).encode(), hashlib.sha256).hexdigest()


def store_key(make: bool = False) -> StoreKey | None:
    """The user's key; None if there is none, unless one is to be made. Raises UserError."""
    if given := os.environ.get(KEY):
        if len(given) < SHORTEST:
            fix = f"give at least {SHORTEST} characters, such as those of openssl rand -hex 32"
            raise UserError(Problem(KEY, "", "is too short for a key", fix))
        return StoreKey(given.encode())
    path = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / KEY_FILE
    if not path.exists():
        if not make:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode())
    secret = path.read_bytes()
    if len(secret) < SHORTEST:  # a full disk left an empty file: everybody has that key
        fix = "remove it: the next push makes a new one; or restore it from another machine"
        raise UserError(Problem(str(path), "", "holds no key", fix))
    return StoreKey(secret)


class Entry(NamedTuple):
    """An entry's place in the store, as told by its path."""

    model: str
    "The model's digest."
    dataset: str
    shard: str
    key: str
    size: int
    "In bytes."

    @property
    def path(self) -> str:
        """The path relative to the store's address."""
        return f"predictions/{self.model}/{self.dataset}/{self.shard}.{self.key}.jsonl"


def entry_at(path: str, size: int) -> Entry | None:
    """The entry with a path relative to the store's address; None if it is not an entry's."""
    found = PATH.fullmatch(path)
    return Entry(**found.groupdict(), size=size) if found else None


def write_entry(entry: Entry, body: bytes, ids: list[str], owner: Mapping[str, str], key: StoreKey) -> bytes:
    """The content of an entry with a prediction file; `owner` has `by`, `shardmark` and the model's `name`."""
    facts = {
        "store": FORMAT,
        "by": owner["by"],
        "key": entry.key,
        "shardmark": owner["shardmark"],
        "model": entry.model,
        "name": owner["name"],
        "dataset": entry.dataset,
        "shard": entry.shard,
        "ids": "".join(key[:ID_DIGITS] for key in ids),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return json_line(facts | {"signature": key.sign(facts)}).encode() + body


def ids_of(header: EntryHeader) -> set[str]:
    """The first digits of the ids of the requests that an entry answers."""
    return {header.ids[at : at + ID_DIGITS] for at in range(0, len(header.ids), ID_DIGITS)}


def read_header(line: bytes, entry: Entry, own: StoreKey | None) -> EntryHeader:
    """The first line of an entry. Raises EntryRefused if it is of another entry, or forged in the name of `own`.

    The signatures of other owners cannot be checked.
    """
    try:
        header = decode(line, EntryHeader)
    except Unreadable as error:
        raise EntryRefused(f"its first line cannot be read: {error}") from error
    if header.store > FORMAT:
        raise EntryRefused("it was written by a newer Shardmark")
    if any(len(name) > LONGEST or not name.isprintable() for name in (header.by, header.shardmark, header.name)):
        raise EntryRefused("its first line has an invalid name")
    if (header.model, header.dataset, header.shard, header.key) != entry[:4]:
        raise EntryRefused(f"it belongs to {header.model}/{header.dataset}/{header.shard} and key {header.key}")
    if own and own.name == header.key:
        facts = {key: value for key, value in to_json(header).items() if key != "signature"}
        if not hmac.compare_digest(own.sign(facts), header.signature):
            raise EntryRefused("it has the name of your key, but was not signed with it")
    return header


def read_entry(
    content: bytes, entry: Entry, own: StoreKey | None
) -> tuple[EntryHeader, dict[str, Prediction], Trailer]:
    """An entry with its predictions by request id, all checked. Raises EntryRefused."""
    line, newline, body = content.partition(b"\n")
    header = read_header(line + newline, entry, own)
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise EntryRefused("its prediction file does not match the hash in its first line")
    place = layout.PREDICTIONS.file(
        "", model=layout.full_name("_", entry.model), dataset=entry.dataset, shard=entry.shard
    )
    try:
        predictions, trailer = parse_predictions(body, place)
    except UserError as error:
        raise EntryRefused(error.problems[0].what) from error
    if trailer.model != entry.model:
        raise EntryRefused("its trailer does not name its model")
    if digest(sorted(predictions)) != entry.shard:
        raise EntryRefused(f"its {len(predictions)} requests are not those of shard {entry.shard}")
    if ids_of(header) != {key[:ID_DIGITS] for key in predictions}:
        raise EntryRefused("its first line does not name the requests that it answers")
    return header, predictions, trailer
