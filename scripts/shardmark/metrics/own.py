"""A metric of the user's own: a Python file beside the data set."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from shardmark.errors import Problem, UserError
from shardmark.metrics.base import Mean, View


class OwnMetric(Mean):
    """Mean of the values of the function `score(prediction, references, row)` in a file of your own."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    reads: ClassVar[View] = "with_row"
    function: ClassVar[str] = "score"

    name: Literal["own"] = "own"
    file: str
    "The Python file, as a path from the project's folder or from the folder of the data set's file."
    settings: dict[str, Any] = Field(default={})
    "Passed on to the function by name."
    right_or_wrong: bool = False
    "Whether it returns only 0 and 1, so that `repeats` may count right answers."
    lower_is_better: bool = False
    "Whether a smaller value is better."
    fraction: bool = True
    "Whether the value is a share, shown in percent."
    code: str = ""
    "The file's content: the plan puts it here."

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether more is better, according to the settings."""
        return not self.lower_is_better

    @property
    def percent(self) -> bool:  # type: ignore[override]
        """Whether the value is shown in percent, according to the settings."""
        return self.fraction

    def is_right_or_wrong(self) -> bool:
        return self.right_or_wrong

    def title(self, answers: int) -> str:
        named = self if self.label else self.model_copy(update={"label": Path(self.file).stem})
        return super(OwnMetric, named).title(answers)

    def scores(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """A score for each sample. Raises UserError.

        A reference is JSON: the right answers, the row, and the sample's name.
        """
        return [self._score(text, **json.loads(known)) for text, known in zip(predictions, references, strict=True)]

    def _score(self, prediction: str, right: list[str], row: Any, sample: str) -> float:
        from shardmark.untrusted.own_code import OwnCodeError, own_function

        try:
            found = own_function(self.file, self.code, self.function)(prediction, right, row, **self.settings)
        except OwnCodeError as error:
            raise self._refused(error.place(self.file), sample, str(error)) from error
        if not isinstance(found, int | float) or not abs(found) <= sys.float_info.max:
            raise self._refused(self.file, sample, f"score returned {found!r}, which is not a finite number")
        if self.right_or_wrong and found not in (0, 1):
            raise self._refused(self.file, sample, f"score returned {found!r}, but right_or_wrong promises 0 or 1")
        if self.fraction and not 0 <= found <= 1:
            what = f"score returned {found!r}, but a fraction, which is shown in percent, is from 0 to 1"
            raise self._refused(self.file, sample, what, "correct the file, or set fraction: false, and run again")
        return float(found)

    @staticmethod
    def _refused(place: str, sample: str, what: str, fix: str = "correct the file, and run again") -> UserError:
        return UserError(Problem(place, "", f"{what} (sample {sample})", fix))
