"""How many tokens a model makes of a text, without torch, without its weights and without a download.

transformers would import torch, so the tokenizer.json of a model is read by the library it is made for. A tokenizer
without such a file, or one that is not on this machine, is estimated, and said to be.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from shardmark import layout
from shardmark.config import ModelConfig, Named
from shardmark.config.weights import WeightsConfig
from shardmark.engine.tokenization import GIVE_PREFIX, Wording
from shardmark.lock.entries import chat_template, given_template
from shardmark.plan.chats import chat_applier, named_templates, special_tokens
from shardmark.plan.context_lengths import window_of
from shardmark.plan.cost import work
from shardmark.records.base import find_sealed
from shardmark.records.model import Staged
from shardmark.records.request import ChoiceRequest, Context
from shardmark.tasks.chat_templates import WordingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KNOWN = {"chat_template", "bos_token", "eos_token", "pad_token", "padding_side", "truncation_side"}
"tokenizer_kwargs after which tokens are counted as without the library that reads them."


class Count(NamedTuple):
    """Tokens of one text, or of a context and what follows it."""

    tokens: int
    exact: bool
    "Whether the model's tokenizer counted them; else they are guessed from the number of characters."

    def __str__(self) -> str:
        return f"{self.tokens:,}" if self.exact else f"about {self.tokens:,}"


class Tokenizer:
    """A tokenizer.json, with as much of transformers' interface as putting requests into tokens needs."""

    def __init__(self, folder: Path, settings: WeightsConfig) -> None:
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        named = special_tokens(folder, settings.tokenizer_kwargs)
        self.bos_token, self.eos_token = named.get("bos_token"), named.get("eos_token")
        self.bos_token_id, self.eos_token_id = map(self._id, (self.bos_token, self.eos_token))
        self.chat_template = named_templates(folder, settings) or given_template(settings)
        if apply := chat_applier(folder, settings):
            self._apply = apply
        self.added_tokens_decoder = self._tokenizer.get_added_tokens_decoder()
        self.special = {number for number, token in self.added_tokens_decoder.items() if token.special}
        "The ids of the special tokens."

    def _id(self, text: str | None) -> int | None:
        return self._tokenizer.token_to_id(text) if text else None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The tokens of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool = False, **how: Any) -> str:
        """The text of a chat; `how` as of transformers, with the chat_template_kwargs of the model's file in it."""
        return self._apply(messages, **how)

    def piece(self, number: int) -> str:
        """The text of a token; its name if it is a part of a character."""
        text = self.text([number], [number])
        return str(self._tokenizer.id_to_token(number)) if not text or "\ufffd" in text else text

    def text(self, before: list[int], tokens: list[int]) -> str:
        """The text of tokens after others, special ones included."""
        head, whole = (
            str(self._tokenizer.decode(numbers, skip_special_tokens=False)) for numbers in (before, before + tokens)
        )
        return whole[len(head) :]


class Read(NamedTuple):
    """The tokens that a model reads for a request, or for one of its choices."""

    context: list[int]
    scored: list[int]
    "Those whose log-likelihood is asked for; none if the model is to go on."


class Counter:
    """Puts requests into tokens as the engine does, with a model's tokenizer if it is on this machine; else guesses."""

    def __init__(self, model: Named[ModelConfig], results: Path, pins: dict[str, str]) -> None:
        self.name, self.settings = model.name, model.settings
        self.tokenizer: Tokenizer | None = None
        self.window: int | None = None
        "How many tokens the model reads and writes at most, if that is known."
        self.longest_answer = model.settings.max_out_len
        self.thought_tokens = 0
        "Tokens of thoughts beside those of an answer."
        settings, folder = model.settings, tokenizer_folder(model, results, pins)
        self._folder = folder
        if not isinstance(settings, WeightsConfig):
            return
        self.thought_tokens = settings.thought_tokens
        own = Path(settings.path or "").expanduser()
        self.window = window_of(settings, own if settings.path and own.is_dir() else folder)
        if folder and settings.tokenizer_kwargs.keys() <= KNOWN:
            with suppress(Exception):  # the library raises plain Exception for what it cannot read; planning names it
                self.tokenizer = Tokenizer(folder, settings)
                self._wording = Wording(cast("PreTrainedTokenizerBase", self.tokenizer), settings)
                if thoughts := self._wording.thoughts:
                    self.thought_tokens = thoughts.free

    @property
    def has_template(self) -> bool:
        """Whether the model is known to have a template for chats."""
        if isinstance(self.settings, WeightsConfig) and self.settings.meta_template:
            return True
        return bool(self._folder and chat_template(self._folder))

    def text(self, context: Context) -> str:
        """The text of a chat in the model's words. Raises WordingError."""
        return self._wording.text(context)

    def read(self, context: Context, continuation: Context | None = None) -> Read | None:
        """What the model reads, if its tokenizer is here. Raises WordingError for what it cannot be asked."""
        if self.tokenizer is None:
            return None
        try:
            if continuation is None:
                return Read(self._wording.prompt(context), [])
            return Read(*self._wording.pair(context, continuation))
        except WordingError as error:
            if error.fix == GIVE_PREFIX:  # only transformers knows what the tokenizer's class may have
                return None
            raise

    def prompt(self, context: Context) -> Count:
        """The tokens of a prompt that the model is to continue, special ones included."""
        return self._count(context, None)

    def pair(self, context: Context, continuation: Context) -> Count:
        """The tokens of a context and of the continuation whose log-likelihood is asked for."""
        return self._count(context, continuation)

    def _count(self, context: Context, continuation: Context | None) -> Count:
        with suppress(WordingError):
            if read := self.read(context, continuation):
                return Count(len(read.context) + len(read.scored), True)
        return Count(work([ChoiceRequest(pairs=[(context, continuation or "")])]).read, False)


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
