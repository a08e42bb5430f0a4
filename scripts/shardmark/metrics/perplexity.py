"""Perplexity of whole targets, as a local `evaluate` module: it is loaded by path and never fetched."""

from shardmark.metrics import surprise


class Perplexity(surprise.Surprise):
    """Perplexity of whole targets: exp of their mean negative log-likelihood, as lm-evaluation-harness's."""

    @staticmethod
    def units(text: str) -> int:
        return 1
