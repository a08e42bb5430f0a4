"""Requests in the shapes of well-known tasks, made up from common words: lengths matter here, answers do not."""

import random
from collections.abc import Callable

Pairs = list[list[str]]
"[context, continuation] of each choice of a document."

WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they "
    "which one you were all her she there would their we him been has when who will no more if out so up said "
    "what its about than into them can only other time new some could these two may first then do any like my now "
    "over such our man me even most made after also did many off before must well back through years where much "
    "your way down should because long each just state those people too mr how little good world make very year "
    "still see own work men day get here old life both between being under three never know same last another "
    "while us might great go come since against right came take used himself few house American use place during "
    "high without again home around small however found part school thought went say general once upon water less "
    "light heat metal energy plant animal cell force earth moon star river stone glass"
)

LEXICON = WORDS.split(" ")


def _words(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choice(LEXICON) for _ in range(draw.randint(least, most)))


def _question(draw: random.Random) -> str:
    return f"Question: {_words(draw, 14, 30).capitalize()}?\nAnswer:"


def _shots(draw: random.Random) -> str:
    return "".join(f"{_question(draw)} {_words(draw, 3, 9)}\n\n" for _ in range(5))


def _choices(draw: random.Random, context: str, least: int, most: int) -> Pairs:
    return [[context, f" {_words(draw, least, most)}"] for _ in range(4)]


def fixed_shots(documents: int) -> list[Pairs]:
    """ARC or PIQA style: five examples for all documents, four choices of some words."""
    draw = random.Random(1)
    shots = _shots(draw)
    return [_choices(draw, shots + _question(draw), 3, 9) for _ in range(documents)]


def one_letter(documents: int) -> list[Pairs]:
    """MMLU style: the choices stand in the context, and are named by a letter."""
    draw = random.Random(2)

    def listed() -> str:
        options = "".join(f"{letter}. {_words(draw, 3, 12)}\n" for letter in "ABCD")
        return f"{_words(draw, 15, 45).capitalize()}?\n{options}Answer:"

    shots = "The following are multiple choice questions (with answers) about stones.\n\n"
    shots += "".join(f"{listed()} {draw.choice('ABCD')}\n\n" for _ in range(5))
    contexts = [shots + listed() for _ in range(documents)]
    return [[[context, f" {letter}"] for letter in "ABCD"] for context in contexts]


def random_shots(documents: int) -> list[Pairs]:
    """As fixed_shots, but each document has examples of its own."""
    draw = random.Random(3)
    return [_choices(draw, _shots(draw) + _question(draw), 3, 9) for _ in range(documents)]


def no_shots(documents: int) -> list[Pairs]:
    """HellaSwag style: a passage and four endings."""
    draw = random.Random(4)
    return [
        _choices(draw, f"{_words(draw, 4, 8).capitalize()}: {_words(draw, 25, 60)}", 15, 35) for _ in range(documents)
    ]


CASES: dict[str, tuple[Callable[[int], list[Pairs]], int, dict[str, float]]] = {
    "multi-token, 5 fixed shots": (fixed_shots, 64, {"gemma": 14.0, "llama": 9.0}),
    "one-letter, 5 fixed shots": (one_letter, 128, {"gemma": 12.0, "llama": 6.0}),
    "multi-token, 5 random shots": (random_shots, 64, {"gemma": 6.5, "llama": 3.4}),
    "multi-token, 0-shot": (no_shots, 64, {"gemma": 3.0, "llama": 2.0}),
}
"By name: the function that makes so many documents' pairs, how many, and by model the ratio that is aimed at."
