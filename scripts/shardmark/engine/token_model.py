"""The level of tokens: what a library must give to answer requests through `LocalBackend`."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from shardmark.engine.generation import Answer, GenerateRow
from shardmark.engine.tokens import LogLikelihood, ScoredRow


class TokenModel(Protocol):
    """A loaded causal language model that takes and gives token ids."""

    @property
    def tokenizer(self) -> Any:
        """A tokenizer of transformers."""

    @property
    def window(self) -> int:
        """How many tokens it reads and writes at most."""

    @property
    def rows(self) -> int:
        """How many tokens it has embeddings for."""

    def score(self, rows: Sequence[ScoredRow]) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their log-likelihoods, each once, as soon as they are there.

        Raises OutOfMemoryError with the number of a row that does not fit alone.
        """

    def generate(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, each once, as soon as they are there.

        Raises OutOfMemoryError with a row (`.request`, `.length`) that does not fit alone.
        """

    def use_threads(self, count: int) -> None:
        """Compute with this many cores from now on."""

    @property
    def device_names(self) -> list[str]:
        """What its GPUs are called; none on a CPU."""
