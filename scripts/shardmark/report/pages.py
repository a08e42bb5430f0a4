"""Where the sample pages lie and how they link to each other."""

from collections.abc import Sequence
from typing import NamedTuple

from .results import Pair, Results
from .samples import PAGE_SIZE


class Page(NamedTuple):
    """A page number and its file name; number 0 stands for a gap between page numbers."""

    number: int
    file: str


GAP = Page(0, "")


def page(number: int) -> Page:
    """A page by its number, the first being 1."""
    return Page(number, "index.html" if number == 1 else f"page-{number}.html")


def count_pages(samples: int) -> int:
    """How many pages the samples fill; one if there are none."""
    return max(1, -(-samples // PAGE_SIZE))


def pager(current: int, total: int, around: int = 2) -> Sequence[Page]:
    """The first, the last and the pages around the current one, with gaps between."""
    near = range(current - around, current + around + 1)
    numbers = sorted({1, total, *(number for number in near if 1 <= number <= total)})
    pages: list[Page] = []
    for number in numbers:
        if pages and pages[-1].number == number - 2:
            pages.append(page(number - 1))
        elif pages and pages[-1].number < number - 2:
            pages.append(GAP)
        pages.append(page(number))
    return pages


class Sibling(NamedTuple):
    """Another model's page of the same samples."""

    model: str
    href: str


def siblings(results: Results, pair: Pair, number: int) -> list[Sibling]:
    """The other models' pages of the same number; a shorter set's first page instead."""
    found = []
    for other in results:
        same = other.scores.dataset.name == pair.scores.dataset.name
        if same and other is not pair and other.samples:
            file = page(number if number <= count_pages(other.scores.counts.samples) else 1).file
            found.append(Sibling(other.scores.model.name, f"../../../{other.folder}/{file}"))
    return found
