"""The common base of metrics that count followed instructions."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from shardmark.errors import Problem, UserError, nearest
from shardmark.metrics.base import Resampled
from shardmark.metrics.ifbench_instructions import MAY_BE_ZERO, follows, lacks
from shardmark.metrics.instructions import variants

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


class Followed(Resampled):
    """Share of prompts, or of instructions, that are followed."""

    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    known: ClassVar[Mapping[str, tuple[str, ...]]]
    "The ids of instructions, with the arguments that each needs."

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
            what = f"metric {self.name} needs instructions with their arguments, in JSON"
            raise RenderError(what, fix, key="target") from error
        if unknown := [name for name, _ in pairs if name not in self.known]:
            what = f"metric {self.name} does not know the instruction {unknown[0]!r}"
            raise RenderError(what, nearest(unknown[0], self.known), key="target")
        for name, kwargs in pairs:
            missing = [key for key in self.known[name] if not kwargs.get(key)]
            missing = [key for key in missing if key not in MAY_BE_ZERO or kwargs.get(key) is None]
            if missing:
                what = f"instruction {name!r} needs {', '.join(missing)}"
                raise RenderError(what, "add it to its kwargs", key="target")
            if lack := lacks(name):
                what = f"instruction {name!r} needs {lack[0]}, which is not here"
                raise RenderError(what, f"{lack[1]}, or leave such rows out with `where`", key="target")

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """How many instructions are followed, and of how many. A reference is JSON with ids, kwargs and prompt."""
        from shardmark.untrusted.limits import bounded

        rows = []
        for n, (response, (reference,)) in enumerate(zip(predictions, references, strict=True)):
            asked = _asked(reference)
            texts = variants(response) if self.loose else [response]
            with bounded("keywords of the row", n):  # they are patterns
                followed = [self._follows(*each, asked.prompt, texts) for each in asked.instructions]
            whole = self.level == "prompt"
            rows.append([float(all(followed)), 1.0] if whole else [float(sum(followed)), len(followed)])
        return rows

    def value(self, sums: "np.ndarray") -> float:
        return float(sums[0] / sums[1])

    def is_mean(self) -> bool:
        return self.level == "prompt"

    def is_right_or_wrong(self) -> bool:
        return self.level == "prompt"

    def _follows(self, name: str, given: dict[str, Any], prompt: str, texts: list[str]) -> bool:
        """Whether one of the texts follows an instruction. Raises UserError for what this machine does not have."""
        if lack := lacks(name):
            what = f"instruction {name!r} needs {lack[0]}, which is not on this machine"
            raise UserError(Problem(f"metric {self.name}", "", what, lack[1]))
        return any(follows(name, given, prompt, text) for text in texts)
