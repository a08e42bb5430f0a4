"""The page of differences between two reports."""

from collections.abc import Sequence
from pathlib import Path

from .changes import Change
from .render import environment, write_page
from .results import samples_link
from .text import clean

MOST_FLIPS = 200
"The most samples of a model on a data set that the page shows."


def write_changes(path: Path, changes: Sequence[Change], before: str, after: str) -> None:
    """Write the page: a table of scores that moved, then samples that flipped, each with what changed.

    If it lies beside the pages of the later report, it has links to the samples there.
    """
    shared = {"run": clean(after), "pages": (), "page": None}
    context = shared | {"changes": changes, "before": clean(before), "after": clean(after), "most": MOST_FLIPS}
    context |= {"linked": (path.parent / "samples.html").is_file(), "samples_link": samples_link}
    write_page(environment(), "changes.html.j2", path, context)
