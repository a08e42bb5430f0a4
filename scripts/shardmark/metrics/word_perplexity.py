"""The metric word_perplexity."""

from typing import ClassVar, Literal

from shardmark.metrics.negative_log_likelihood import PerWord


class WordPerplexity(PerWord):
    """Perplexity per word: exp of the negative log-likelihood of all texts over their words; lower is better."""

    protocol: ClassVar[int] = 1

    name: Literal["word_perplexity"]
