"""A filter of the user's own: a Python file beside the data set."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import Answers, Filter


class OwnFilter(Filter):
    """The result of the function `find(text, row)` in a file of your own."""

    protocol: ClassVar[int] = 1
    function: ClassVar[str] = "find"

    name: Literal["own"] = "own"
    file: str
    "The Python file, as a path from the project's folder or from the folder of the data set's file."
    settings: dict[str, Any] = Field(default={})
    "Passed on to the function by name."
    code: str = ""
    "The file's content: the plan puts it here."

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """The answers found by the function. Raises RenderError if it fails."""
        return [None if answer is None else self._find(answer, row) for answer in answers]

    def _find(self, text: str, row: Mapping[str, Any]) -> str | None:
        from shardmark.untrusted.own_code import OwnCodeError, own_function
        from shardmark.untrusted.templates import RenderError

        try:
            found = own_function(self.file, self.code, self.function)(text, dict(row), **self.settings)
        except OwnCodeError as error:
            raise RenderError(f"{error.place(self.file)}: {error}", "correct the file, and run again") from error
        if not isinstance(found, str | None):
            raise RenderError(f"{self.file}: find returned {found!r}, which is not a text", "return a text, or None")
        return found
