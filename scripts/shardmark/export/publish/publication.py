"""A report to publish, and what marks a folder that holds one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.files import json_line
from shardmark.report.folder import REPORT

MARKER = ".shardmark-report.json"
"The marker file in the folder of a publication."


@dataclass(frozen=True)
class Publication:
    """A report to publish, and its destination."""

    report: Path
    "The report's own folder, whose name has its digest."
    below: str
    "The folder within the destination; empty for the destination itself."

    @property
    def marker(self) -> bytes:
        """The content of the marker file."""
        return json_line({"shardmark_report": self.report.name}).encode()

    def files(self) -> list[str]:
        """The report's files, relative to it, the front page last. Hidden ones are Snakemake's and left out."""
        found = [path.relative_to(self.report).as_posix() for path in sorted(_visible(self.report))]
        return sorted(found, key=lambda name: name == "index.html")

    def place(self, name: str) -> str:
        """The path of a report's file at the destination."""
        return f"{self.below}/{name}" if self.below else name

    def replaces(self, place: str) -> bool:
        """Whether a file at the destination may be of an earlier report; others, such as CNAME, stay."""
        return place.removeprefix(f"{self.below}/").partition("/")[0] in {*REPORT, MARKER}


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.name.startswith("."):
            yield from _visible(path) if path.is_dir() else [path]


def foreign(where: str) -> UserError:
    """The error to raise for a folder that contains anything other than a publication."""
    what = f"contains files but no {MARKER}: they are not a published report, but would be replaced"
    return UserError(Problem(where, "", what, "name another folder with --below, or move them away"))


def publication(report: Path, below: str | None) -> Publication:
    """The publication of a report, or of the link to a run's newest one. Raises UserError."""
    folder = report.resolve()
    if not (folder / "index.html").is_file():
        raise UserError(Problem(str(report), "", "contains no report", "run first, or name a folder of reports/"))
    name = folder.name.rpartition("@")[0] or folder.name
    parts = [part for part in (name if below is None else below).split("/") if part not in ("", ".")]
    if ".." in parts or ".git" in parts:
        raise UserError(
            Problem("--below", "", f"{below!r} is outside the place to publish to", "name a folder inside it")
        )
    return Publication(folder, "/".join(parts))
