"""Mistakes of the user, reported together; each names the file, the key and the fix."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shardmark.printable import printable, redacted

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
PATH_ERRORS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


@dataclass(frozen=True)
class Problem:
    """One thing that the user has to fix."""

    where: str
    "The file (with a line if known) or the command-line option that is wrong."
    key: str
    "The key inside it; empty for the whole file."
    what: str
    "What is wrong."
    fix: str = ""
    "What to do about it."
    line: str = ""
    "The place of the key, as `file:line`, if it has been looked up; the file may be an included one."

    def __str__(self) -> str:
        place = f"{self.where}: {self.key}" if self.key else self.where
        line = f"\n    line: {self.line}" if self.line else ""
        return printable(redacted(f"{place}: {self.what}{line}" + (f"\n    fix: {self.fix}" if self.fix else "")))


class UserError(Exception):
    """Raised once, with every problem found."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        return self.told()

    def told(self, more: str = "") -> str:
        """All problems below their count, with `more` after the count, such as "; nothing was run"."""
        count = len(self.problems)
        head = f"{count} problem{'s' * (count > 1)} found{more}:"
        return "\n".join([head, *(f"  {n}. {problem}" for n, problem in enumerate(self.problems, 1))])


def disk_problem(error: OSError, where: object) -> Problem | None:
    """The problem for a file that cannot be written; None for an error of another kind.

    `where` is named if the error itself names no file.
    """
    if error.errno not in DISK_ERRORS:
        return None
    fix = "free some disk space or fix the permissions, then run again: finished work is kept"
    return Problem(str(error.filename or where), "", error.strerror or str(error), fix)


def path_problem(error: OSError) -> Problem | None:
    """The problem for a path of the user's that does not lead to a file; None for an error of another kind."""
    if error.errno not in PATH_ERRORS or error.filename is None:
        return None
    return Problem(str(error.filename), "", error.strerror or str(error), "correct the path")


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion for a name that is not among the known ones: "did you mean ...?" or the list."""
    import difflib  # here: most commands start and end without it

    known = sorted(known)
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
    return f"known: {', '.join(known[:30])}{', ...' if len(known) > 30 else ''}" if known else "there are none"


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """A block whose UserError joins a list of problems, so that checking goes on after it."""
    try:
        yield
    except UserError as error:
        problems += error.problems
