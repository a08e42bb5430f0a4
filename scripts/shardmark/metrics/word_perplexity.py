"""Perplexity per word, as a local `evaluate` module: it is loaded by path and never fetched."""

from shardmark.metrics import surprise


class WordPerplexity(surprise.PerWord):
    """Perplexity per word: exp of the negative log-likelihood of all texts over their words."""
