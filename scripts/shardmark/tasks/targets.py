"""What metrics need as a target, checked before anything is asked."""

import ast
import json
import warnings
from collections.abc import Callable

from shardmark.errors import nearest
from shardmark.untrusted.templates import RenderError

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


def check_ifeval(targets: list[str]) -> None:
    """Raise RenderError unless there is one target, JSON with the ids of instructions, their kwargs, and the prompt."""
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
            raise RenderError(f"instruction {name!r} needs {', '.join(missing)}", "add it to its kwargs", key="target")


def check_tests(targets: list[str]) -> None:
    """Raise RenderError unless the targets are a Python program: no answer could pass what is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse("\n".join(targets))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = f"metric pass_at_k runs the target as tests, which are no Python: {error}"
        raise RenderError(what, "give code such as `assert f(1) == 2`", key="target") from error


CHECKS: dict[str, Callable[[list[str]], None]] = {"ifeval": check_ifeval, "pass_at_k": check_tests}
"By the name of the metric."
