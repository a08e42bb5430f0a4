"""What a text says of a number beside its value: a unit, a direction, a time of day."""

import re
from typing import NamedTuple

KINDS = (
    "mm|millimet(?:er|re)s? cm|centimet(?:er|re)s? km|kilomet(?:er|re)s? m|met(?:er|re)s? inch(?:es)? ft|foot|feet"
    " yds?|yards? miles?",
    "mg|milligrams? kg|kilograms?|kilos? g|grams? tons?|tonnes? lbs?|pounds? oz|ounces?",
    "ms|milliseconds? s|secs?|seconds? mins?|minutes? h|hrs?|hours? days? weeks? months? years?",
    "ml|milliliters? l|lit(?:er|re)s? gal|gallons? quarts? pints? cups?",
    "cents? dollars?|usd euros?|eur yen yuan",
    r"mph km\s?/\s?h|kmh|kph m\s?/\s?s",
    "c|celsius f|fahrenheit",
    r"a\.?\s?m|midnight p\.?\s?m|noon",
    r"b\.?\s?c(?:\.?\s?e)? a\.?\s?d|c\.?\s?e",
    r"(?:degrees?\s)?north (?:degrees?\s)?south (?:degrees?\s)?east (?:degrees?\s)?west",
    "degrees? radians?|rad",
    "left right",
    "up down",
    "above below",
    "clockwise counter-?clockwise|anti-?clockwise",
    "profit|gain loss",
    "more less|fewer",
)
"Words of which only one can be true of a number; those with bars between them are spellings of one."
WORDS = [(kind, word) for kind, words in enumerate(KINDS) for word in words.split()]
GAP = r"(?:[\s~$}]|\\[,;: ]|\\(?:text|mbox|mathrm|textrm|textbf)\s?\{|\^?\{?\\circ|°|square\b|cubic\b){0,12}"
END = rf"{GAP}(?:{'|'.join(f'({word})' for _, word in WORDS)})(?![A-Za-z/])"
QUANTITY = re.compile(rf"(?<![\d.,:])(?P<number>\d[\d,]{{0,30}}(?:\.\d{{1,30}})?){END}", re.IGNORECASE)
JOINT = re.compile(r"(?:[\s,.{}$~]|\\[,;: ]|\\text|\band\b)*")
TIME = r"(?<![\d.:])(\d{1,2})(?:(?:\{:\}|:)([0-5]\d))?"
CLOCK = re.compile(rf"{TIME}{GAP}([ap])\.?\s?m(?![A-Za-z])\.?", re.IGNORECASE)
HOUR = re.compile(rf"{TIME}(?![.:]?\d)()")


class Quantity(NamedTuple):
    """A number with one of the words after it."""

    number: str
    word: int
    "Its place in WORDS, the same for all spellings."
    start: int
    end: int

    @property
    def kind(self) -> int:
        """The place of the word's kind in KINDS."""
        return WORDS[self.word][0]


def quantities(text: str) -> list[Quantity]:
    """Find the numbers that such a word follows."""
    return [
        Quantity(found["number"].replace(",", ""), (found.lastindex or 0) - 2, found.start(), found.end())
        for found in QUANTITY.finditer(text)
    ]


def contradict(answer: str, reference: str) -> bool:
    """Whether an answer has the reference's number, but in another unit or direction, or as the end of a longer one.

    What only one of them says counts for nothing: the question may name a unit, and the answer repeat it.
    """
    right, said = quantities(reference), quantities(answer)
    if len(right) == 1:
        words = {each.word for each in said if (each.number, each.kind) == (right[0].number, right[0].kind)}
        return bool(words) and right[0].word not in words
    if right or len(said) < 2:
        return False
    first, last = said[-2:]  # 2 hours 30 minutes are not 30
    longer = first.kind == last.kind and first.word != last.word
    return longer and reference.strip("$ ") == last.number and bool(JOINT.fullmatch(answer, first.end, last.start))


def same_time(answer: str, reference: str) -> bool | None:
    """Whether the last time of day in an answer is the reference; None unless both are, one of them with am or pm."""
    right = list(CLOCK.finditer(reference)) or list(HOUR.finditer(reference) if ":" in reference else [])
    said = list(CLOCK.finditer(answer)) or list(HOUR.finditer(answer))
    if len(right) != 1 or not said or not (right[0][3] or said[-1][3]):
        return None
    if re.sub(r"\\[a-z]+|\W", "", reference.replace(right[0][0], "")):
        return None
    readings = [_readings(right[0]), _readings(said[-1])]
    exact = bool(right[0][3] and said[-1][3])
    return readings[0][:1] == readings[1][:1] if exact else bool(set(readings[0]) & set(readings[1]))


def _readings(time: re.Match[str]) -> list[tuple[int, int]]:
    """Hour and minute as the clock of 24 hours has them, and as that of 12 hours has them if it says am or pm."""
    hour, minute = int(time[1]), int(time[2] or 0)
    return [(hour % 12 + 12 * (time[3].lower() == "p"), minute), (hour, minute)] if time[3] else [(hour, minute)]
