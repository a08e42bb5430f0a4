"""The first member of an archive that `pack` writes: the list of its files, and where each of them belongs."""

from typing import Any, Literal

from shardmark.records.base import Record

Place = Literal["project", "hub", "rows", "results", "outside"]
"""Where a file belongs: the folder that runs are started in, the Hub's cache, the rows kept beside it, the results
folder, or, for a file that was in none of these, a folder to be named."""


class PackedFile(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file in an archive."""

    place: Place
    name: str
    "The path below its place."
    sha256: str
    "SHA-256 of the content, which is also the name of the archive's member that holds it."
    size: int
    "In bytes."
    blob: str = ""
    "The name of the content in the Hub's cache, where `name` is a link to it; empty for a plain file."


class Manifest(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of an archive."""

    archive: int
    "The version of the format."
    run: str
    shardmark: str
    "The version of Shardmark that packed it, with its commit."
    config: dict[str, Any]
    "The run's configuration, including what the command line gave."
    needs: list[str]
    "Requirements that the other machine must provide by itself, such as packages."
    files: list[PackedFile]
    "Sorted by place and name."
