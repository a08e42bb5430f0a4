"""The choice that a model prefers, from the log-likelihoods of all choices."""

from collections.abc import Sequence


def preferred(scoring: str, logprobs: Sequence[float], tokens: Sequence[int], choices: Sequence[str]) -> int:
    """The index of the first best choice. See `ranked` for the arguments."""
    values = ranked(scoring, logprobs, tokens, choices)
    return values.index(max(values))


def is_tied(scoring: str, logprobs: Sequence[float], tokens: Sequence[int], choices: Sequence[str]) -> bool:
    """Whether another choice is exactly as good as the best, so that only their order decides."""
    values = ranked(scoring, logprobs, tokens, choices)
    return values.count(max(values)) > 1


def ranked(scoring: str, logprobs: Sequence[float], tokens: Sequence[int], choices: Sequence[str]) -> list[float]:
    """The values by which choices are compared; the highest wins.

    `logprobs` are summed log-likelihoods (nats) and `tokens` the numbers of scored tokens. sum: as they are. token and
    perplexity: mean over tokens (the lowest perplexity is the highest mean). char, byte: divided by the length of the
    choice in characters or UTF-8 bytes, without the text that joins it to the prompt, as lm-evaluation-harness's
    acc_norm and acc_bytes.
    """
    divisors: dict[str, Sequence[float]] = {
        "sum": [1] * len(logprobs),
        "token": tokens,
        "perplexity": tokens,
        "char": [len(choice) or 1 for choice in choices],
        "byte": [len(choice.encode(errors="surrogatepass")) or 1 for choice in choices],
    }
    return [logprob / divisor for logprob, divisor in zip(logprobs, divisors[scoring], strict=True)]
