"""The examples before a document, drawn with lm-eval's stream of random numbers.

The stream starts once per task; each document in order draws from it. So a document's examples depend on all documents
before it, and are drawn for a whole split in order, never for a part of it.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

SEED = 1234
"lm-eval's default fewshot_random_seed."

Doc = dict[str, Any]


class Sampler(Protocol):
    """Draws examples for one document after another."""

    def draw(self, count: int, doc: Doc | None) -> Sequence[int | Doc]:
        """`count` examples, other than `doc` if one is given: documents, or their numbers."""


class RandomSampler:
    """Draws at random, without repetition."""

    def __init__(self, pool: Sequence[Doc], seed: int) -> None:
        self._pool, self._random = pool, Random(seed)

    def draw(self, count: int, doc: Doc | None) -> Sequence[int]:
        """Raises ValueError if there are not enough documents."""
        everything = range(len(self._pool))
        there = sum(other != doc for other in self._pool) if count >= len(self._pool) else count
        if there < count:
            raise ValueError(f"{count} examples are needed (num_fewshot), but there are {there}")
        if not doc:
            return self._random.sample(everything, count)
        drawn = [n for n in self._random.sample(everything, count + 1) if self._pool[n] != doc][:count]
        if len(drawn) < count:  # duplicate documents: drawn again from the others, as in lm-eval
            drawn = self._random.sample([n for n in everything if self._pool[n] != doc], count)
        return drawn


class FirstSampler:
    """Takes the first of the split: all documents have the same examples."""

    def __init__(self, pool: Sequence[Doc]) -> None:
        self._pool = pool

    def draw(self, count: int, doc: Doc | None) -> Sequence[int]:
        """Raises ValueError if there are not enough documents."""
        found: list[int] = []
        for number, other in enumerate(self._pool):
            if len(found) == count:
                break
            if doc is None or other != doc:
                found.append(number)
        if len(found) < count:
            raise ValueError(f"{count} examples are needed, but there are {len(found)}")
        return found


class OwnSampler:
    """A sampler class of the task's own Python, with the interface of lm-eval's."""

    def __init__(self, kind: Callable[..., Any], pool: Sequence[Doc], seed: int) -> None:
        self._sampler = kind(list(pool), rnd=None)
        self._sampler.set_rnd(seed)

    def draw(self, count: int, doc: Doc | None) -> Sequence[Doc]:
        """The examples that the class draws."""
        return self._sampler.sample(n=count, eval_doc=doc)


def sampler(kind: str | Callable[..., Any], pool: Sequence[Doc], seed: int = SEED) -> Sampler:
    """The sampler with a given name, or of a class."""
    if isinstance(kind, str):
        return FirstSampler(pool) if kind == "first_n" else RandomSampler(pool, seed)
    return OwnSampler(kind, pool, seed)
