"""How many tokens a model makes of a text, without torch, without its weights and without a download.

transformers would import torch, so the tokenizer.json of a model is read by the library it is made for. A tokenizer
without such a file, or one that is not on this machine, is estimated, and said to be.
"""

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shardmark import layout
from shardmark.config import ModelConfig, Named
from shardmark.config.weights import WeightsConfig
from shardmark.engine.tokens import encode, encode_pair, prefix_token
from shardmark.files import read_json
from shardmark.plan.cost import work
from shardmark.records.base import find_sealed
from shardmark.records.model import Staged
from shardmark.records.request import ChoiceRequest, Context, Request
from shardmark.tasks.requests import is_chat


class Count(NamedTuple):
    """Tokens of one text, or of a context and what follows it."""

    tokens: int
    exact: bool
    "Whether the model's tokenizer counted them; else they are guessed from the number of characters."

    def __str__(self) -> str:
        return f"{self.tokens:,}" if self.exact else f"about {self.tokens:,}"


class Tokenizer:
    """A tokenizer.json, with as much of transformers' interface as counting needs."""

    def __init__(self, folder: Path) -> None:
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        settings = folder / "tokenizer_config.json"
        special = read_json(settings) if settings.is_file() else {}
        self.bos_token_id = self._id(special.get("bos_token"))
        self.eos_token_id = self._id(special.get("eos_token"))

    def _id(self, token: Any) -> int | None:
        text = token.get("content") if isinstance(token, dict) else token
        return self._tokenizer.token_to_id(text) if text else None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The tokens of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)


class Counter:
    """Counts with a model's tokenizer if it is on this machine, else guesses."""

    def __init__(self, model: Named[ModelConfig], results: Path, pins: dict[str, str]) -> None:
        self.name = model.name
        self._tokenizer: Tokenizer | None = None
        folder = tokenizer_folder(model, results, pins)
        if folder:
            with suppress(Exception):  # the library raises plain Exception for what it cannot read; planning names it
                self._tokenizer = Tokenizer(folder)

    def prompt(self, text: Context) -> Count:
        """The tokens of a prompt that the model is to continue, special ones included; of a chat a guess."""
        request = ChoiceRequest(pairs=[(text, "")])
        return self._count(request, lambda tokenizer: encode(tokenizer, str(text)) or [prefix_token(tokenizer)])

    def pair(self, context: Context, continuation: Context) -> Count:
        """The tokens of a context and of the continuation whose log-likelihood is asked for."""
        request = ChoiceRequest(pairs=[(context, continuation)])
        return self._count(
            request, lambda tokenizer: [*itertools.chain(*encode_pair(tokenizer, str(context), str(continuation)))]
        )

    def _count(self, request: Request, tokens: Callable[[Tokenizer], list[int]]) -> Count:
        if self._tokenizer is not None and not is_chat(request):
            with suppress(ValueError):  # no token to begin with: only transformers knows what the class may have
                return Count(len(tokens(self._tokenizer)), True)
        return Count(work([request]).read, False)


def tokenizer_folder(model: Named[ModelConfig], results: Path, pins: dict[str, str]) -> Path | None:
    """The folder with a model's tokenizer.json, if it is on this machine: its own, staged, or in the Hub's cache.

    `pins` are the Hub commits of the lock, by `repository@revision`.
    """
    settings = model.settings
    if not isinstance(settings, WeightsConfig):
        return None
    place = settings.tokenizer_path or settings.path
    if place and (folder := Path(place).expanduser()).is_dir():
        return folder if (folder / "tokenizer.json").is_file() else None
    if place:
        revision = None if settings.tokenizer_path else settings.revision
        return _cached(place, pins.get(f"{place}@{revision or 'main'}", revision))
    return _staged(results, model.name)


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of a Hub repository in the cache, if its tokenizer has been downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(repository, "tokenizer.json", revision=revision)
    except HFValidationError:
        return None
    return Path(file).parent if isinstance(file, str) else None


def _staged(results: Path, name: str) -> Path | None:
    """Where the newest staging of a model, such as a GGUF file, put its tokenizer."""
    found = sorted(
        layout.STAGED.found(results, model=layout.full_name(name, "*")), key=lambda path: path.stat().st_mtime_ns
    )
    for path in reversed(found):
        staged = find_sealed(path, Staged)
        if staged and staged.tokenizer and (Path(staged.tokenizer) / "tokenizer.json").is_file():
            return Path(staged.tokenizer)
    return None
