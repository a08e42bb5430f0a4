"""Remarks for readers of a score on the samples behind it, counted while they are rendered."""

from collections.abc import Mapping
from typing import Literal

Remark = Literal["own_answer", "no_choice", "doubled_option"]

TEXTS: dict[Remark, str] = {
    "own_answer": "prompts contain their own question with its answer among the examples, as in lm-eval",
    "no_choice": "samples have a right answer that is not among their choices, so no answer is right, as in lm-eval",
    "doubled_option": "samples have the right option twice, only one of which counts in each rotation",
}


def told(counts: Mapping[Remark, int], samples: int) -> list[str]:
    """The remarks in words, each with the number of samples it applies to."""
    return [f"{counts[remark]:,} of {samples:,} {text}" for remark, text in TEXTS.items() if counts.get(remark)]
