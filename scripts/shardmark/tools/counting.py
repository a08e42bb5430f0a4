"""Count a model's tokens of a text without torch, without its weights and without a download.

transformers would import torch, so a model's tokenizer.json is read by the library that it is made for. If a tokenizer
has no such file, or is not on this machine, counts are estimates, and marked as such.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from shardmark import layout
from shardmark.config import ModelConfig, Named
from shardmark.config.wording import WordedConfig
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
"tokenizer_kwargs with which the counts of the bare library remain right."


class Count(NamedTuple):
    """The number of tokens of one text, or of a context and its continuation."""

    tokens: int
    exact: bool
    "Whether the model's tokenizer counted them; else they are estimated from the number of characters."

    def __str__(self) -> str:
        return f"{self.tokens:,}" if self.exact else f"about {self.tokens:,}"


class Tokenizer:
    """A tokenizer.json, with the part of transformers' interface that tokenizing requests needs."""

    def __init__(self, folder: Path, settings: WordedConfig) -> None:
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        named = special_tokens(folder, settings.tokenizer_kwargs)
        self.bos_token, self.eos_token = named.get("bos_token") or None, named.get("eos_token") or None
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
        """The text of a chat; `how` as in transformers, with the chat_template_kwargs of the model's file added."""
        return self._apply(messages, **how)

    def piece(self, number: int) -> str:
        """The text of a token, or its name if it is a part of a character."""
        text = self.text([number], [number])
        return str(self._tokenizer.id_to_token(number)) if not text or "\ufffd" in text else text

    def text(self, before: list[int], tokens: list[int]) -> str:
        """The text of tokens that follow others, including special ones."""
        head, whole = (
            str(self._tokenizer.decode(numbers, skip_special_tokens=False)) for numbers in (before, before + tokens)
        )
        return whole[len(head) :]


class Read(NamedTuple):
    """The tokens that a model reads for a request, or for one of its choices."""

    context: list[int]
    scored: list[int]
    "The tokens whose log-likelihood is asked for; none if the model is to continue."


class Counter:
    """Tokenizes requests as the engine does, with a model's tokenizer if it is on this machine; else estimates."""

    def __init__(self, model: Named[ModelConfig], results: Path, pins: dict[str, str]) -> None:
        self.name, self.settings = model.name, model.settings
        self.tokenizer: Tokenizer | None = None
        self.window: int | None = None
        "The most tokens that the model reads and writes, if known."
        self.answer_tokens = model.settings.answer_tokens
        "A function from the tokens that a data set asks for to the most tokens of an answer."
        self.thought_tokens = 0
        "Tokens of thoughts in addition to those of an answer."
        settings, folder = model.settings, tokenizer_folder(model, results, pins)
        self._folder = folder
        if not isinstance(settings, WordedConfig):
            return
        self.thought_tokens = settings.thought_tokens
        own = Path(getattr(settings, "path", None) or "").expanduser()
        self.window = window_of(settings, own if own.parts and own.is_dir() else folder)
        if folder and settings.tokenizer_kwargs.keys() <= KNOWN:
            with suppress(Exception):  # the library raises plain Exception for an unreadable file; planning names it
                self.tokenizer = Tokenizer(folder, settings)
                self._wording = Wording(cast("PreTrainedTokenizerBase", self.tokenizer), settings)
                if thoughts := self._wording.thoughts:
                    self.thought_tokens = thoughts.free

    @property
    def has_template(self) -> bool:
        """Whether the model is known to have a template for chats."""
        if isinstance(self.settings, WordedConfig) and self.settings.meta_template:
            return True
        return bool(self._folder and chat_template(self._folder))

    def text(self, context: Context) -> str:
        """The text of a chat in the model's wording. Raises WordingError."""
        return self._wording.text(context)

    def read(self, context: Context, continuation: Context | None = None) -> Read | None:
        """The tokens that the model reads, if its tokenizer is here. Raises WordingError if it cannot be asked."""
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
        """The tokens of a prompt that the model is to continue, including special ones."""
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
    if not isinstance(settings, WordedConfig):
        return None
    own: str | None = getattr(settings, "path", None)
    place = settings.tokenizer_path or own
    if place and (folder := Path(place).expanduser()).is_dir():
        return folder if (folder / "tokenizer.json").is_file() else None
    if place:
        revision = None if settings.tokenizer_path else getattr(settings, "revision", None)
        return _cached(place, pins.get(f"{place}@{revision or 'main'}", revision))
    return _staged(results, model.name)


def _cached(repository: str, revision: str | None) -> Path | None:
    """The cached folder of a Hub repository, if its tokenizer has been downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(repository, "tokenizer.json", revision=revision)
    except HFValidationError:
        return None
    return Path(file).parent if isinstance(file, str) else None


def _staged(results: Path, name: str) -> Path | None:
    """The folder of the tokenizer in the newest staging of a model, such as a GGUF file."""
    found = sorted(
        layout.STAGED.found(results, model=layout.full_name(name, "*")), key=lambda path: path.stat().st_mtime_ns
    )
    for path in reversed(found):
        staged = find_sealed(path, Staged)
        if staged and staged.tokenizer and (Path(staged.tokenizer) / "tokenizer.json").is_file():
            return Path(staged.tokenizer)
    return None
