"""The inputs of a report's parts: everything read and found, once for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from shardmark.records.certificate import Certificate

from .changes import Change, Previous
from .chunks import Chunks
from .leaderboard import Leaderboard
from .paired import Comparisons
from .parts import Parts
from .render import write_page
from .results import Results


class Certified(NamedTuple):
    """A certificate, and the path of its file."""

    path: Path
    certificate: Certificate


@dataclass(frozen=True)
class Site:
    """A report that is being built in `folder`."""

    run: str
    folder: Path
    results: Results
    board: Leaderboard
    compared: Comparisons
    facts: dict[str, Any]
    env: Environment
    chunks: Chunks
    parts: Parts
    certified: Sequence[Certified] = ()
    previous: Previous | None = None
    "The report before this one, if the page of changes is to be made."
    changes: Sequence[Change] = ()
    "What differs from it."
    pages: Sequence["Page"] = field(default_factory=tuple)
    "All pages, for their navigation."

    def write(
        self, page: "Page", template: str, scripts: Sequence[str] = (), styles: Sequence[str] = (), **context: Any
    ) -> None:
        """Render a page of the report with scripts and styles of `templates/`; with loader.js it may load chunks."""
        shared = {"run": self.run, "results": self.results, "board": self.board, "facts": self.facts}
        about = {"pages": self.pages, "page": page, **shared, **context}
        write_page(self.env, template, self.folder / page.file, about, scripts, styles)


class Page(NamedTuple):
    """A page of the report: its file, its name in the navigation, and the function that writes it."""

    file: str
    title: str
    write: Callable[[Site, "Page"], None]
    wanted: Callable[[Results], bool] = lambda results: True
    "Whether a report of these results has the page."
