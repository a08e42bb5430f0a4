"""Which choice a model prefers, from the log-likelihoods of all."""

from collections.abc import Sequence


def preferred(scoring: str, logprobs: Sequence[float], tokens: Sequence[int], choices: Sequence[str]) -> int:
    """The index of the first best choice.

    `logprobs` are summed log-likelihoods (nats) and `tokens` the numbers of scored tokens. sum: as they are. token
    and perplexity: mean over tokens (the lowest perplexity is the highest mean). char, byte: divided by the length of
    the choice in characters or UTF-8 bytes, without what joins it to the prompt, as lm-evaluation-harness's acc_norm
    and acc_bytes.
    """
    divisors: dict[str, Sequence[float]] = {
        "sum": [1] * len(logprobs),
        "token": tokens,
        "perplexity": tokens,
        "char": [len(choice) or 1 for choice in choices],
        "byte": [len(choice.encode(errors="surrogatepass")) or 1 for choice in choices],
    }
    ranked = [logprob / divisor for logprob, divisor in zip(logprobs, divisors[scoring], strict=True)]
    return ranked.index(max(ranked))
