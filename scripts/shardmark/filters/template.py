"""The filter template."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shardmark.filters.base import Answers, Filter

if TYPE_CHECKING:
    from shardmark.untrusted.templates import Template


class TemplateFilter(Filter):
    """A text made from the answer and the row, such as a whole program from a prompt and its completion."""

    protocol: ClassVar[int] = 1
    bounded_by: ClassVar[str] = "template"
    name: Literal["template"]
    template: str
    "Jinja template over `answer` and the row's columns, e.g. `{{ prompt }}{{ answer }}`."

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """The rendered answers. Raises RenderError if a template fails, BoundError if it takes too long."""
        return [None if answer is None else _rendered(self.template, {**row, "answer": answer}) for answer in answers]

    def templates(self) -> dict[str, str]:
        return {"template": self.template}


def _rendered(source: str, values: dict[str, Any]) -> str:
    from shardmark.untrusted.limits import BoundError
    from shardmark.untrusted.templates import RenderError

    try:
        return str(_compiled(source)(values))
    except RenderError as error:
        if error.endless:
            raise BoundError(str(error)) from error
        raise


@lru_cache
def _compiled(source: str) -> "Template":
    from shardmark.untrusted.templates import Template  # Jinja, which commands that only read settings do without

    return Template(source)
