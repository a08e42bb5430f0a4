"""The metric byte_perplexity."""

from typing import ClassVar, Literal

from shardmark.metrics.negative_log_likelihood import PerByte


class BytePerplexity(PerByte):
    """Perplexity per UTF-8 byte: exp of the negative log-likelihood of all texts over their bytes; lower is better."""

    protocol: ClassVar[int] = 1

    name: Literal["byte_perplexity"]
