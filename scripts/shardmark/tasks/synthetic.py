"""Rows made here from a seed: needles in haystacks of repeated sentences, and the tasks of RULER (ruler.py).

Lengths are in words, not in a model's tokens, so that all models are asked the same. Random numbers come from
`random.random` alone, which gives the same numbers in all versions of Python, and each row has its own generator. The
rows are stored beside those of the Hub, in a file named by everything that they were made from, and the lock has its
SHA-256.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from shardmark.config.synthetic import Needle, Ruler
from shardmark.files import digest, jsonl, write_whole
from shardmark.tasks.columnar_files import Row
from shardmark.tasks.ruler import ruler

FORMAT = 1
"Increased whenever other rows would be made from the same settings."
SENTENCES = ("The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.")
HIDDEN = "One of the special magic numbers for {key} is: {value}."
FIRST = "amber brisk calm dusty eager fancy gentle hollow icy jolly keen lively mellow noble odd plain quiet rapid"
SECOND = "anchor basket candle dragon engine forest garden hammer island jacket kettle lantern mirror needle orchard"


def synthetic_file(made: Needle | Ruler) -> Path:
    """The file with the rows, which is made if it does not exist."""
    from shardmark.store.hub_cache import hub_home  # only used for a path, which is no part of the rows

    file = hub_home() / "shardmark" / "rows" / f"{digest(['synthetic', FORMAT, made.model_dump()])}.jsonl"
    if not file.is_file():
        write_whole(file, jsonl(ruler(made) if isinstance(made, Ruler) else needles(made)))
    return file


def needles(made: Needle) -> Iterator[Row]:
    """A row for each length, depth and repetition: its text holds `made.needles` needles, one of which is asked for."""
    for length in made.lengths:
        for depth in made.depths:
            for number in range(made.rows):
                lots = random.Random(f"{made.seed} {length} {depth} {number}")
                keys = _several(made.needles, lots)
                values = [str(1_000_000 + int(lots.random() * 9_000_000)) for _ in keys]
                hidden = [HIDDEN.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
                yield {
                    "id": f"{length}-{depth}-{number}",
                    "context": _haystack(length, depth, hidden, lots),
                    "key": keys[0],
                    "answer": values[0],
                    "length": length,
                    "depth": depth,
                }


def _several(count: int, lots: random.Random) -> list[str]:
    """Random distinct names."""
    found: dict[str, None] = {}
    while len(found) < count:
        first, second = (words[int(lots.random() * len(words))] for words in (FIRST.split(), SECOND.split()))
        found[f"{first}-{second}"] = None
    return list(found)


def _haystack(length: int, depth: int, hidden: list[str], lots: random.Random) -> str:
    """Sentences with `length` words in total: the first hidden one at a depth in percent, the others anywhere."""
    words = length - sum(len(sentence.split()) for sentence in hidden)
    sentences: list[str] = []
    while words > 0:
        sentences.append(SENTENCES[len(sentences) % len(SENTENCES)])
        words -= len(sentences[-1].split())
    places = [round(len(sentences) * depth / 100), *(int(lots.random() * (len(sentences) + 1)) for _ in hidden[1:])]
    for place, sentence in sorted(zip(places, hidden, strict=True), reverse=True):
        sentences.insert(place, sentence)
    return " ".join(sentences)
