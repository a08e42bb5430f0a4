"""How far two sets of answers to the same requests agree."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from shardmark.records.certificate import Agreement, Scoring, Writing
from shardmark.records.prediction import Prediction, Scored, Written

Tokens = Callable[[str], Sequence[object]]
"Splits a text into the units that are compared."
SHOWN, CHARACTERS = 4, 60
"How many log-likelihoods or texts a message shows, and how many characters of each text."


def agreement(
    one: Mapping[str, Prediction], other: Mapping[str, Prediction], tokens: Tokens | None = None
) -> Agreement:
    """How far answers agree, by request; both sides have the same requests. `tokens` None compares characters."""
    scored = [(answer, found) for answer, found in _pairs(one, other) if isinstance(answer, Scored)]
    written = [(answer, found) for answer, found in _pairs(one, other) if not isinstance(answer, Scored)]
    return Agreement(
        scoring=_scoring(scored) if scored else None,  # type: ignore[arg-type]  # one request, one kind of answer
        writing=_writing(written, tokens) if written else None,  # type: ignore[arg-type]
    )


def apart(one: Prediction, other: Prediction, relative: float = 0.0) -> float:
    """The largest difference of log-likelihoods of one request, less what `relative`, a share of them, allows.

    For texts it is 0 if all are the same and infinite if not; for answers of different kinds it is infinite, too.
    """
    if isinstance(one, Scored) and isinstance(other, Scored) and len(one.logprobs) == len(other.logprobs):
        pairs = zip(one.logprobs, other.logprobs, strict=True)
        found = (0.0 if left == right else abs(left - right) - relative * abs(left) for left, right in pairs)
        return max((math.inf if math.isnan(each) else max(0.0, each) for each in found), default=0.0)
    if isinstance(one, Scored) or isinstance(other, Scored):
        return math.inf
    return 0.0 if _texts(one) == _texts(other) else math.inf


def text_of(answer: Prediction) -> str:
    """An answer in a few words."""
    if isinstance(answer, Scored):
        return "log-likelihoods " + ", ".join(f"{value:.4f}" for value in answer.logprobs[:SHOWN])
    return " | ".join(repr(text[:CHARACTERS]) for text in _texts(answer)[:SHOWN])


def _pairs(one: Mapping[str, Prediction], other: Mapping[str, Prediction]) -> list[tuple[Prediction, Prediction]]:
    return [(answer, other[key]) for key, answer in one.items()]


def _scoring(pairs: list[tuple[Scored, Scored]]) -> Scoring:
    differences = sorted(
        abs(left - right) for one, other in pairs for left, right in zip(one.logprobs, other.logprobs, strict=True)
    )
    same = (left == right for one, other in pairs for left, right in zip(one.greedy, other.greedy, strict=True))
    return Scoring(
        requests=len(pairs),
        choices=len(differences),
        largest=differences[-1],
        mean=statistics.fmean(differences),
        percentile=differences[-(-99 * len(differences) // 100) - 1],
        same_best=sum(_best(one) == _best(other) for one, other in pairs),
        same_greedy=sum(same),
    )


def _best(answer: Scored) -> int:
    return answer.logprobs.index(max(answer.logprobs))


def _writing(pairs: list[tuple[Written, Written]], tokens: Tokens | None) -> Writing:
    texts = [both for one, other in pairs for both in zip(_texts(one), _texts(other), strict=True)]
    places = [_place((tokens or list)(left), (tokens or list)(right)) for left, right in texts if left != right]
    return Writing(
        requests=len(texts),
        equal=sum(left == right for left, right in texts),
        first=min(places, default=None),
        median=statistics.median(places) if places else None,
        unit="token" if tokens else "character",
    )


def _texts(answer: Written) -> list[str]:
    return [output.marked for output in answer.outputs]


def _place(one: Sequence[object], other: Sequence[object]) -> int:
    """The first position where two sequences differ; the end of the shorter one if the other goes on."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
