"""The common base of perplexities: the log-likelihood of texts, relative to their length."""

import abc
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from shardmark.metrics.base import Resampled, View, check_one_target

if TYPE_CHECKING:
    import numpy as np

WHITE_SPACE = re.compile(r"\s+")


class NegativeLogLikelihood(Resampled):
    """Mean negative log-likelihood (nats) per unit of text, from which a metric computes its value."""

    kinds: ClassVar[frozenset[str]] = frozenset({"choice", "loglikelihood", "rolling"})
    reads: ClassVar[View] = "likelihood"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    @staticmethod
    @abc.abstractmethod
    def units(text: str) -> int:
        """How many units a text has."""

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError for several right choices: only one text has this likelihood."""
        check_one_target(self.name, targets)

    def terms(self, predictions: Sequence[float], references: Sequence[str]) -> list[list[float]]:
        return [[-logprob, float(self.units(text))] for logprob, text in zip(predictions, references, strict=True)]

    def value(self, sums: "np.ndarray") -> float:
        import numpy as np

        with np.errstate(over="ignore"):  # infinite, then
            return float(np.exp(sums[0] / sums[1]))


class PerWord(NegativeLogLikelihood, abc.ABC):
    """Words are separated by white space, as lm-evaluation-harness counts: leading white space adds an empty one."""

    @staticmethod
    def units(text: str) -> int:
        return len(WHITE_SPACE.split(text))


class PerByte(NegativeLogLikelihood):
    """The unit is a byte of the text in UTF-8."""

    @staticmethod
    def units(text: str) -> int:
        return len(text.encode())
