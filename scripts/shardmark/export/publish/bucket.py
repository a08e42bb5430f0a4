"""Publish a report to a place that fsspec reaches, such as an S3 bucket."""

import fsspec

from shardmark.errors import Problem, UserError
from shardmark.printable import one_line, redacted
from shardmark.store.shared import OPTIONS, PACKAGES

from .publication import MARKER, Publication, foreign


def publish(wanted: Publication, address: str) -> str:
    """Upload all files of a report, the front page last, then remove those that only an earlier one had.

    A page that is open meanwhile may see a mixture of both for a moment: a bucket cannot rename a folder. Raises
    UserError if the place cannot be written to, or contains something else.
    """
    scheme = address.partition("://")[0]
    try:
        files, root = fsspec.url_to_fs(address, skip_instance_cache=True, **OPTIONS.get(scheme, {}))
        _put(wanted, files, f"{root.rstrip('/')}/{wanted.below}".rstrip("/"), address)
    except ImportError as error:
        fix = f"pip install {PACKAGES.get(scheme, f'what fsspec needs for {scheme}://')}"
        raise UserError(Problem(address, "", one_line(error), fix)) from error
    except UserError:
        raise
    except Exception as error:  # each of fsspec's many file systems has its own errors
        fix = "correct the address, or check your permissions there, then publish again"
        raise UserError(Problem(address, "", f"{type(error).__name__}: {one_line(error)}", fix)) from error
    return redacted(f"published: {address}/{wanted.place('index.html')}")


def _put(wanted: Publication, files: fsspec.AbstractFileSystem, folder: str, address: str) -> None:
    try:
        there = set(files.find(folder))
    except FileNotFoundError:
        there = set()
    marker = f"{folder}/{MARKER}"
    if there and marker not in there:
        raise foreign(f"{address}/{wanted.below}")
    files.makedirs(folder, exist_ok=True)
    files.pipe_file(marker, wanted.marker)  # first: the remains of an interrupted upload are then known as ours
    names = wanted.files()
    for parent in sorted({f"{folder}/{name}".rpartition("/")[0] for name in names}):
        files.makedirs(parent, exist_ok=True)
    for name in names:
        files.put_file(str(wanted.report / name), f"{folder}/{name}")
    old = there - {marker, *(f"{folder}/{name}" for name in names)}
    if gone := sorted(name for name in old if wanted.replaces(wanted.place(name.removeprefix(f"{folder}/")))):
        files.rm(gone)
