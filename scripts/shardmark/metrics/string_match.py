"""The metric string_match.

That of RULER (Hsieh et al. 2024, https://arxiv.org/abs/2404.06654): its string_match_all and string_match_part.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean
from shardmark.texts.words import as_seen


class StringMatch(Mean):
    """Share of the targets that are in the answer, wherever they are and in whatever case."""

    protocol: ClassVar[int] = 3

    name: Literal["string_match"]
    part: Literal["all", "any"] = "all"
    "all: the share of the targets that are in the answer. any: whether one of them is."

    def is_right_or_wrong(self) -> bool:
        return self.part == "any"

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError for an empty target, which every answer contains."""
        from shardmark.untrusted.templates import RenderError

        if "" in targets:
            what = "metric string_match would find the empty target in every answer"
            raise RenderError(what, "leave such rows out with `where`, or correct them", key="target")

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """The share of each sample's references that its answer contains, or 1.0 if it contains one."""
        found = [
            [as_seen(right).lower() in as_seen(answer).lower() for right in rights]
            for answer, rights in zip(predictions, references, strict=True)
        ]
        return [float(any(each)) if self.part == "any" else sum(each) / max(1, len(each)) for each in found]
