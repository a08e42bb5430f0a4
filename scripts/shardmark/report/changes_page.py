"""The page of differences between two reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .changes import Change
from .facts import finished
from .formats import moment
from .pair import samples_link
from .render import environment, write_page
from .site import Page, Site
from .text import clean

MOST_FLIPS, LEAST_FLIPS, ALL_FLIPS = 200, 3, 1000
"The most and least samples of a model on a data set that the page shows, and the most of all, if each has the least."


def write_changes(path: Path, changes: Sequence[Change], before: str, after: str) -> None:
    """Write the page: a table of scores that moved, then samples that flipped, each with what changed.

    If it lies beside the pages of the later report, it has links to the samples there.
    """
    linked = (path.parent / "samples.html").is_file()
    context = {"run": clean(after), "pages": (), "page": None} | _context(changes, before, after, linked)
    write_page(environment(), "changes.html.j2", path, context, ["sort.js"])


def write_previous(site: Site, page: Page) -> None:
    """Write the page of differences from the run's previous report."""
    assert site.previous
    before = f"{site.previous.name} of {moment(finished(site.previous.results))}"
    linked = any(each.title == "Samples" for each in site.pages)
    site.write(page, "changes.html.j2", ["sort.js"], **_context(site.changes, before, site.run, linked))


def _context(changes: Sequence[Change], before: str, after: str, linked: bool) -> dict[str, Any]:
    flipped = sum(bool(change.flips) for change in changes)
    most = min(MOST_FLIPS, max(LEAST_FLIPS, ALL_FLIPS // max(1, flipped)))
    return {
        "changes": changes, "before": clean(before), "after": clean(after), "most": most,
        "linked": linked, "samples_link": samples_link,
    }  # fmt: skip
