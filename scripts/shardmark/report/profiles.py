"""Summaries of all answers of a pair: the confidence of choices, and the lengths of outputs."""

import json
from math import exp, isfinite
from typing import Any

import msgspec
import numpy as np

from shardmark.records.base import Record
from shardmark.records.sample import SampleParts

BINS = 10
"The number of equally wide bins of a model's confidence, from 0 to 1."
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"The quantiles of lengths that are reported."

_ANY = msgspec.json.Decoder()


def _read(text: msgspec.Raw) -> Any:
    """The value of a JSON text; a file of samples may contain numbers and lone surrogates that JSON does not allow."""
    written = bytes(text)
    try:
        return _ANY.decode(written) if written else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(written.decode("utf-8", "replace"))


class Bin(msgspec.Struct, frozen=True, array_like=True):
    """The choices of a pair with similar confidence: their number, their mean confidence, and how many are right."""

    n: int
    confidence: float
    right: int


class Profile(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A summary of a pair's answers."""

    calibration: list[Bin] = msgspec.field(default_factory=list)
    "Bins from the least to the most confident; empty if nothing was chosen."
    lengths: list[float] = msgspec.field(default_factory=list)
    "Quantiles (`SHARES`) of outputs' lengths in characters; empty if nothing was written."

    outputs: int = 0
    "How many outputs there are."
    cut: int = 0
    "How many of them ended at a limit of tokens or time, or within a thought."

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error: the difference of confidence and accuracy, averaged over choices.

        C. Guo et al., "On calibration of modern neural networks" (ICML 2017), section 2.
        """
        total = sum(each.n for each in self.calibration)
        gaps = sum(abs(each.n * each.confidence - each.right) for each in self.calibration)
        return gaps / total if total else None


class Profiler:
    """Collects a profile, sample by sample."""

    def __init__(self) -> None:
        self._counts, self._sums, self._right = [0] * BINS, [0.0] * BINS, [0] * BINS
        self._lengths: list[int] = []
        self._cut = 0

    def add(self, sample: SampleParts, is_cut: bool) -> None:
        """Take a sample into account."""
        if bytes(sample.choices) not in (b"", b"null"):
            self._choice(sample)
        elif isinstance(output := _read(sample.output), str):
            self._lengths.append(len(output))
            self._cut += is_cut

    def profile(self) -> Profile:
        """The profile of the samples so far."""
        found = zip(self._counts, self._sums, self._right, strict=True)
        bins = [Bin(n, total / n if n else 0.0, right) for n, total, right in found]
        lengths = np.quantile(self._lengths, SHARES).tolist() if self._lengths else []
        shown = bins if any(each.n for each in bins) else []
        return Profile(calibration=shown, lengths=lengths, outputs=len(self._lengths), cut=self._cut)

    def _choice(self, sample: SampleParts) -> None:
        answer, target = _read(sample.answer), _read(sample.target)
        share = confidence(_read(sample.logprobs) or [], answer)
        if share is not None:
            place = min(BINS - 1, int(share * BINS))
            self._counts[place] += 1
            self._sums[place] += share
            self._right[place] += answer in target if isinstance(target, list) else answer == target


def confidence(logprobs: list[float | None], answer: Any) -> float | None:
    """The chosen one's share in a softmax of all choices' log-likelihoods; None if it cannot be computed."""
    known = [each for each in logprobs if each is not None and isfinite(each)]
    if type(answer) is not int or not 0 <= answer < len(logprobs) or len(known) < max(2, len(logprobs)):
        return None
    return 1 / sum(exp(min(700.0, each - known[answer])) for each in known)
