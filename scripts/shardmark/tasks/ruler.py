"""RULER's tasks, made here from a seed: Hsieh et al. 2024, https://arxiv.org/abs/2404.06654.

Texts, questions, and how often a word comes are those of its repository (commit c3f5e3b), with lengths in words instead
of a model's tokens. Needles that it hides in essays are hidden in its repeated sentences here, since the essays may not
be passed on; and words are from the lists below. The random numbers are those of `random.random` alone, which are the
same in all versions of Python.
"""

import math
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from shardmark.config.synthetic import WORDS, Ruler
from shardmark.tasks.columnar_files import Row

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
ADJECTIVES = """
able agile amber ample ancient arctic arid azure basic bitter bland bleak blunt bold brave brief bright brisk broad
bronze bulky busy calm candid careful cheap chilly civil clean clever cloudy coarse cold complex cosy crisp curly
curved cynical damp dapper daring deep dense dim distant docile dry dusty eager early elder empty equal exact faint
fair famous fancy fast fierce final firm flat fluffy foggy formal frank fresh frosty frugal gentle giant glad gloomy
golden grand grave green gritty hardy harsh hasty hazy heavy hollow honest huge humble icy ideal inner ivory jolly
juicy keen kind large late lazy lean level light limp linear lively lofty lonely long loose loud loyal lucky mellow
merry mild minor misty modern modest moist muddy narrow nasty neat nervous nimble noble noisy novel odd opaque orange
outer pale patient plain polite proud pure quaint quick quiet rapid rare ready rigid ripe robust rough round royal
rural rusty salty secret shaggy shallow sharp shiny silent silky simple sleepy slim slow small smooth snowy sober soft
solar solid sour spare
"""
NOUNS = """
acorn actor album almond anchor ankle apron arrow artist autumn badge baker balcony banjo barn basket beacon beetle
bell bench berry bishop blanket blossom boat bottle bridge brush bucket button cabin cactus camera candle canyon
captain carpet carrot castle cellar cherry chimney cinema circle clock coat cobbler coffee collar comet copper corner
cotton crayon cricket crown curtain dancer desert diary dinner doctor dolphin donkey door dragon drum eagle elbow
engine eraser fabric falcon farmer feather fence fiddle finger flute forest fossil fountain garden garlic ginger
glacier glove goose grape guitar hammer harbor harvest hat helmet hill honey horse island jacket jewel judge jungle
kettle kitchen kitten ladder lake lamp lantern lawyer leaf lemon letter library lizard locket magnet mango map marble
market meadow medal melon mirror mitten monkey mountain museum needle nickel notebook ocean office olive onion orchard
otter oven owl palace panda paper parrot pasture peanut pebble pencil pepper pianist pigeon pillow pilot planet plaza
pocket poet pond potato prairie puzzle
"""
PAIR = ADJECTIVES.split(), NOUNS.split()
"The words that a key is made of."
DOTS = "..."
"The commonest of the coded words, which is no answer."


class Needles(NamedTuple):
    """The needles of a task, and what they are hidden in."""

    among: str = "noise"
    "noise: repeated sentences. needles: other needles."
    key: str = "words"
    value: str = "numbers"
    keys: int = 1
    values: int = 1
    "How many values each key has."
    asked: int = 1
    "How many keys are asked for."


NEEDLES: Mapping[str, Needles] = {
    "niah_single_1": Needles(),
    "niah_single_3": Needles(value="uuids"),
    "niah_multikey_1": Needles(keys=4),
    "niah_multikey_2": Needles(among="needles"),
    "niah_multikey_3": Needles(among="needles", key="uuids", value="uuids"),
    "niah_multivalue": Needles(values=4),
    "niah_multiquery": Needles(keys=4, asked=4),
}
"RULER's own names."


def ruler(made: Ruler) -> Iterator[Row]:
    """`made.rows` rows for each length, with the columns of RULER's: input, answer_prefix and outputs."""
    make = {"vt": _chains, "cwe": _common_words, "fwe": _frequent_words}.get(made.task)
    for length in made.lengths:
        for number in range(made.rows):
            lots = _Lots(f"{made.seed} {made.task} {length} {number}")
            row = make(length, lots) if make else _needles(NEEDLES[made.task], length, lots)
            yield {"id": f"{length}-{number}", **row, "length": length}


class _Lots(random.Random):
    """A row's own random numbers, all drawn by `random`."""

    def below(self, limit: int) -> int:
        return int(self.random() * limit)

    def text(self, letters: str, length: int) -> str:
        return "".join(letters[self.below(len(letters))] for _ in range(length))

    def mixed(self, values: Sequence[Any]) -> list[Any]:
        """The values in random order."""
        found = list(values)
        for last in range(len(found) - 1, 0, -1):
            other = self.below(last + 1)
            found[last], found[other] = found[other], found[last]
        return found

    def places(self, count: int, limit: int) -> list[int]:
        """Different numbers below `limit`, sorted."""
        return sorted(self.mixed(range(limit))[:count])

    def several(self, kind: str, count: int) -> list[str]:
        """Different words, numbers or UUIDs."""
        found: dict[str, None] = {}
        while len(found) < count:
            found[self._one(kind)] = None
        return list(found)

    def _one(self, kind: str) -> str:
        if kind == "words":
            return "-".join(words[self.below(len(words))] for words in PAIR)
        if kind == "numbers":
            return str(1_000_000 + self.below(9_000_000))
        digits = self.text("0123456789abcdef", 30)
        variant = "89ab"[self.below(4)]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-{digits[18:]}"


def _row(text: str, prefix: str, outputs: list[str]) -> Row:
    return {"input": text, "answer_prefix": prefix, "outputs": outputs}


def _needles(task: Needles, length: int, lots: _Lots) -> Row:
    """Keys with values, each on a line of its own; the values of some keys are asked for."""
    hidden = task.keys * task.values
    lines = (length - hidden * WORDS) // (len(NOISE.split()) if task.among == "noise" else WORDS)
    others = lines if task.among == "needles" else 0
    keys, values = lots.several(task.key, task.keys + others), lots.several(task.value, hidden + others)
    text = [_needle(task, *pair) for pair in zip(keys[task.keys :], values[hidden:], strict=True)] or [NOISE] * lines
    own = {key: values[n * task.values : (n + 1) * task.values] for n, key in enumerate(keys[: task.keys])}
    needles = lots.mixed([_needle(task, key, value) for key, each in own.items() for value in each])
    for place, needle in zip(reversed(lots.places(hidden, lines)), needles, strict=True):
        text.insert(place, needle)
    asked = lots.mixed(list(own))[: task.asked]
    query = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"
    outputs = [value for key in asked for value in own[key]]
    kind = task.value if len(outputs) > 1 else task.value[:-1]
    head, are, what = ("Some", "are", "are all") if len(outputs) > 1 else ("A", "is", "is")
    return _row(
        f"{head} special magic {kind} {are} hidden within the following text. Make sure to memorize it."
        f" I will quiz you about the {kind} afterwards.\n"
        + "\n".join(text)
        + f"\nWhat {what} the special magic {kind} for {query} mentioned in the provided text?",
        f"The special magic {kind} for {query} mentioned in the provided text {are}",
        outputs,
    )


def _needle(task: Needles, key: str, value: str) -> str:
    return f"One of the special magic {task.value} for {key} is: {value}."


def _chains(length: int, lots: _Lots) -> Row:
    """A variable's value passes to four others; before it a solved example, as RULER has."""
    text, prefix, names = _chain(10, 3, lots)
    example = f"{text} {prefix}  {' '.join(names)}\n\n"
    text, prefix, names = _chain((length - 24) // len(NOISE.split()), 5, lots)
    return _row(example + text, prefix, names)


def _chain(lines: int, letters: int, lots: _Lots) -> tuple[str, str, list[str]]:
    names: list[str] = []
    while len(names) < 5:
        name = lots.text(string.ascii_uppercase, letters)
        names += [name] if name not in names else []
    value = 10_000 + lots.below(90_000)
    steps = [f"VAR {names[0]} = {value}", *(f"VAR {after} = VAR {before} " for before, after in pairwise(names))]
    text = [NOISE] * lines
    for number, (place, step) in enumerate(zip(lots.places(len(steps), lines), steps, strict=True)):
        text.insert(place + number, step)
    asked = (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
        + "\n".join(text)
        + f"\nQuestion: Find all variables that are assigned the value {value} in the text above."
    )
    said = f"{len(names)} variables are assigned the value {value}, they are:"
    return asked, f"Answer: According to the chain(s) of variable assignment in the text above, {said}", names


def _common_words(length: int, lots: _Lots) -> Row:
    """Ten words come 30 times, the others 3 times; before it a solved example, as RULER has."""
    text, prefix, common = _list(40, 10, lots)
    example = f"{text} {prefix} {' '.join(f'{n}. {word}' for n, word in enumerate(common, 1))}\n"
    text, prefix, common = _list(10 + (length // 2 - 300) // 3, 30, lots)
    return _row(example + text, prefix, common)


def _list(words: int, often: int, lots: _Lots) -> tuple[str, str, list[str]]:
    found = lots.several("words", words)
    entries = lots.mixed(found[:10] * often + found[10:] * 3)
    text = (
        "Below is a numbered list of words. In these words, some appear more often than others."
        " Memorize the ones that appear most often.\n"
        + " ".join(f"{n}. {word}" for n, word in enumerate(entries, 1))
        + "\nQuestion: What are the 10 most common words in the above list?"
    )
    return text, "Answer: The top 10 words that appear most often in the list are:", found[:10]


def _frequent_words(length: int, lots: _Lots) -> Row:
    """Coded words whose frequencies are those of a zeta distribution with exponent 2; the commonest is dots."""
    words: dict[str, None] = {DOTS: None}
    while len(words) < length // 25:
        words[lots.text(string.ascii_lowercase, 6)] = None
    coded = list(words)
    counts = [int(length * 6 / (math.pi * rank) ** 2) for rank in range(1, len(coded) + 1)]
    text = " ".join(lots.mixed([word for word, count in zip(coded, counts, strict=True) for _ in range(count)]))
    return _row(
        "Read the following coded text and track the frequency of each coded word."
        f" Find the three most frequently appeared coded words. {text}\n"
        "Question: Do not provide any explanation. Please ignore the dots '....'."
        " What are the three most frequently appeared words in the above coded text?",
        "Answer: According to the coded text above, the three most frequently appeared words are:",
        coded[1:4],
    )
