"""The token level: the interface that a library must provide to answer requests through `LocalBackend`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from shardmark.engine.generation import Answer, GenerateRow
from shardmark.engine.tokens import LogLikelihood, ScoredRow


class TokenModel(Protocol):
    """A loaded causal language model with token ids as input and output."""

    @property
    def tokenizer(self) -> Any:
        """A tokenizer of the transformers library."""

    @property
    def ends(self) -> Sequence[int]:
        """The tokens that end a text."""

    @property
    def window(self) -> int:
        """The most tokens that it reads and writes."""

    @property
    def scoring_window(self) -> int:
        """The most tokens that it reads before the last one that is scored."""

    @property
    def rows(self) -> int:
        """The number of tokens that it has embeddings for."""

    def score(self, rows: Sequence[ScoredRow]) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their log-likelihoods, each once, as soon as they are ready.

        Raises OutOfMemoryError with the number of a row that does not fit alone.
        """

    def generate(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, each once, as soon as they are ready.

        Raises OutOfMemoryError with a row (`.request`, `.length`) that does not fit alone.
        """

    def use_threads(self, count: int) -> None:
        """Compute with `count` cores from now on."""

    @property
    def device_names(self) -> list[str]:
        """Names of its GPUs; none on a CPU."""

    @property
    def methods(self) -> Mapping[str, str]:
        """How it computes, by part of the work, if not in the usual way."""
