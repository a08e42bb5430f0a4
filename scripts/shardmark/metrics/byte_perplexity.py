"""Perplexity per UTF-8 byte, as a local `evaluate` module: it is loaded by path and never fetched."""

from shardmark.metrics import surprise


class BytePerplexity(surprise.PerByte):
    """Perplexity per UTF-8 byte: exp of the negative log-likelihood of all texts over their bytes."""
