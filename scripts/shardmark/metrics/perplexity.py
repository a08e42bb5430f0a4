"""The metric perplexity, as lm-evaluation-harness's."""

from typing import ClassVar, Literal

from shardmark.metrics.negative_log_likelihood import NegativeLogLikelihood


class Perplexity(NegativeLogLikelihood):
    """Perplexity of whole targets: exp of their mean negative log-likelihood; lower is better."""

    protocol: ClassVar[int] = 1

    name: Literal["perplexity"]

    @staticmethod
    def units(text: str) -> int:
        return 1
