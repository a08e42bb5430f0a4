"""Answers of earlier versions that this version would not give: of a few models, to some of their requests.

A model's digest covers its files and settings, but not faults of the engine. So files of answers carry the version of
the engine (`ANSWERS`), and if it is an earlier one, the model's tokenizer and configs determine which answers must be
dropped. The answers of all other models stay. Before version 2:

- EOS and the like, where a tokenizer appends them, were read and scored;
- only the EOS of generation_config.json, or else of config.json, ended an answer;
- a stop string with a special token in it was never found.

Before version 3:

- a chat template that asks for the date got the day of the run.

Before version 4:

- special tokens that mark thoughts were lost, so that thoughts could not be told from answers;
- a system message that the chat template drops silently was left out;
- an empty beginning of an answer was continued, with some templates without the end of the assistant's header.

Before version 5:

- a text that begins with BOS got another one from the tokenizer.

Before version 6:

- some kinds of models saw the wrong tokens, when they scored (MISPLACED) or when they generated in batches (DISTURBED);
- the token that ends a turn by the chat template did not end an answer if no config named it;
- an effort (`reasoning: high`) left out the chat template's switch, and a budget was not told to the template;
- some special tokens that mark thoughts were lost (`LATER_MARKS`).
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config.reasoning import BUDGET, EFFORT, EFFORTS, ReasoningBudget
from shardmark.errors import UserError
from shardmark.files import read_object
from shardmark.lock.entries import chat_templates
from shardmark.plan.chats import named_templates, template_of
from shardmark.records.base import find_sealed
from shardmark.records.model import Folder, ModelRecord, Staged
from shardmark.records.request import ChoiceRequest, GenerateRequest, Message, Request, RollingRequest
from shardmark.store.partials import PARTIAL, oldest_version
from shardmark.store.predictions import ANSWERS, read_trailer
from shardmark.store.requests import read_requests
from shardmark.tasks.chat_templates import ChatTemplate, WordingError
from shardmark.tasks.requests import Chat, chats_of, is_chat
from shardmark.texts.thoughts import marks_among

Record = dict[str, Any]
_SYSTEM, _USER, _ANSWER, _EMPTY = (
    Message(role=role, content=content)
    for role, content in (("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("assistant", ""))
)
PROBED = [
    [_SYSTEM, _USER],
    [_SYSTEM, _SYSTEM, _USER],
    [_SYSTEM, _USER, _ANSWER],
    [_SYSTEM, _USER, _ANSWER, _USER],
    [_USER, _EMPTY],
]
"If a template words these as before, it does so with all others, too."

MISPLACED = {"gpt_neo", "llama4", "llama4_text"}
"Types of models that took columns in a tree of tokens for positions."
DISTURBED = {"rwkv", "trocr", "xlm", "reformer"}
"Types of models whose rows in a batch of generate changed each other's texts."
LATER_MARKS = re.compile(
    r"<\|channel>|<channel\|>|<\|inner_(?:pre|suf)fix\|>|</?mm:think>|</?ifm\|think\w*>|</?think:[0-9a-f]+>"
)
"Marks of thoughts that were not known."


def may_meet(string: str, token: str) -> bool:
    """Whether a string can contain a token's text, be part of it, or overlap one of its ends."""
    ends = range(1, min(len(string), len(token)))
    inside = string in token or token in string
    return inside or any(string[:n] == token[-n:] or string[-n:] == token[:n] for n in ends)


class OutdatedAnswers:
    """Finds a model's answers that an earlier version got wrong."""

    def __init__(self, record: ModelRecord, results: Path) -> None:
        self.record, self.results = record, results

    def spoils(self, path: Path) -> bool:
        """Whether a file of answers is of an earlier version, and has some that this version would not give."""
        version = self._version(path)
        early = version < 2 and any((self._appends, self._ends, self._special))
        dated, unmarked = version < 3 and self._reads_clock, version < 4 and self._marks_thoughts
        unsaid = version < 4 and self._leaves_unsaid
        doubled = version < 5 and self._doubles
        misread = version < 6 and self._kind in MISPLACED | DISTURBED
        unmarked = unmarked or (version < 6 and self._marks_later)
        endless, unswitched = version < 6 and self._ends_turns, version < 6 and self._sets_switch
        if not (early or dated or unmarked or unsaid or doubled or misread or endless or unswitched):
            return False
        stem = path.name.partition(".")[0]
        try:
            requests = layout.REQUESTS.file(self.results, dataset=path.parent.name, shard=stem)
            asked = read_requests(requests).values()
        except (UserError, OSError):  # the requests have changed, so nobody wants these answers
            return True
        return any(
            (early and self._spoils(request))
            or ((dated or unswitched) and is_chat(request))
            or (endless and isinstance(request, GenerateRequest) and is_chat(request))
            or (unmarked and isinstance(request, GenerateRequest))
            or (unsaid and any(map(self._unsaid, chats_of(request))))
            or (doubled and any(text.startswith(doubled) for text in _texts(request)))
            or (misread and isinstance(request, GenerateRequest) == (self._kind in DISTURBED))
            for request in asked
        )

    def _unsaid(self, chat: Chat) -> bool:
        """Whether the template once worded this chat differently."""
        with suppress(WordingError):  # a chat that is refused has no answer
            return self._template is not None and self._template.changes(*chat)
        return False

    def _spoils(self, request: Request) -> bool:
        if self._appends and (self.record.wording.meta_template or not is_chat(request)):
            return True
        if not isinstance(request, GenerateRequest):
            return False
        return self._ends or any(may_meet(stop, token) for stop in request.stop for token in self._special)

    @staticmethod
    def _version(path: Path) -> int:
        """The oldest version of the engine that gave its answers; the present one if the file is damaged."""
        if path.name.endswith(PARTIAL):
            return oldest_version(path)
        trailer = read_trailer(path)
        return trailer.answers if trailer else ANSWERS

    @cached_property
    def _folders(self) -> tuple[Path, Path] | None:
        """The folders of the tokenizer and the model, if they are on this machine."""
        record = self.record
        staged = find_sealed(layout.STAGED.file(self.results, model=record.full_name), Staged)
        words, weights = (
            place.path if isinstance(place, Folder) else staged and getattr(staged, part)
            for place, part in ((record.words, "tokenizer"), (record.source, "model"))
        )
        folders = (Path(words), Path(weights)) if words and weights else None
        return folders if folders and all(folder.is_dir() for folder in folders) else None

    @cached_property
    def _settings(self) -> Record:
        """Settings from the tokenizer's files and the model's own kwargs."""
        if not self._folders:
            return {}
        words = self._folders[0]
        files = ("special_tokens_map.json", "tokenizer_config.json")
        parts = [read_object(words / file) for file in files]
        return {key: value for part in (*parts, self.record.wording.tokenizer_kwargs) for key, value in part.items()}

    @cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer without transformers, which would import torch; None if it is not here or of another kind."""
        with suppress(Exception):  # the library may raise anything for a foreign file
            import tokenizers

            if self._folders:
                return tokenizers.Tokenizer.from_file(str(self._folders[0] / "tokenizer.json"))
        return None

    @cached_property
    def _reads_clock(self) -> bool:
        """Whether the model's chat template asks for the date."""
        if not self._folders or self.record.wording.meta_template:
            return False
        with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable files are reported elsewhere
            return any("strftime_now" in text for text in chat_templates(self._folders[0]).values())
        return False

    @cached_property
    def _template(self) -> ChatTemplate | None:
        """The model's chat template; None if no answer depends on it."""
        if not self._folders or self.record.wording.meta_template:
            return None
        return template_of(self._folders[0], self.record.wording)

    @cached_property
    def _leaves_unsaid(self) -> bool:
        """Whether the chat template words some chats differently now."""
        return any(self._unsaid(Chat(messages, is_open=True)) for messages in PROBED)

    @cached_property
    def _appends(self) -> bool:
        """Whether the tokenizer puts a token after each text."""
        if self._settings.get("add_eos_token"):
            return True
        if not self._tokenizer:
            return False
        whole, own = (self._tokenizer.encode("a", add_special_tokens=added).ids for added in (True, False))
        return bool(own) and whole[-len(own) :] != own

    @cached_property
    def _doubles(self) -> str:
        """BOS, if the tokenizer puts it before each text, also one that begins with it; else an empty text."""
        token = self._settings.get("bos_token")
        text = token.get("content") if isinstance(token, dict) else token
        if not self._tokenizer or not isinstance(text, str):
            return ""
        first = self._tokenizer.encode(text * 2, add_special_tokens=False).ids
        return text if self._tokenizer.encode(text).ids[:2] == first else ""

    @cached_property
    def _kind(self) -> str:
        """The model's type in its config."""
        return str(read_object(self._folders[1] / "config.json").get("model_type")) if self._folders else ""

    @cached_property
    def _former_ends(self) -> set[int]:
        """The former end-of-text tokens."""
        if not self._folders:
            return set()
        weights = self._folders[1]
        config = read_object(weights / "generation_config.json")
        if not config:
            config = read_object(weights / "config.json")
        return set(_told(config)) or self._own_ends

    @cached_property
    def _own_ends(self) -> set[int]:
        """The tokenizer's EOS."""
        token = self._settings.get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        number = self._tokenizer.token_to_id(text) if self._tokenizer and isinstance(text, str) else None
        return set() if number is None else {number}

    @cached_property
    def _ends(self) -> bool:
        """Whether there are new end-of-text tokens."""
        if not self._folders:
            return False
        return bool(self._all_ends - self._former_ends)

    @cached_property
    def _all_ends(self) -> set[int]:
        """The end-of-text tokens by all configs."""
        config = read_object(self._folders[1] / "config.json") if self._folders else {}
        return {*self._former_ends, *self._own_ends, *_told(config)}

    @cached_property
    def _ends_turns(self) -> bool:
        """Whether another token ends answers in chats."""
        template = template_of(self._folders[0], self.record.wording) if self._folders else None
        ends = [text for number, text in self._specials if number in self._all_ends]
        return bool(template and template.turn_end(set(self._special) - marks_among(self._special), ends))

    @cached_property
    def _sets_switch(self) -> bool:
        """Whether an effort now also sets the chat template's switch, or a budget is told to the template."""
        settings = self.record.wording
        templates = named_templates(self._folders[0], settings) if self._folders else {}
        switch = settings.switch(templates) or {}
        if isinstance(settings.reasoning, ReasoningBudget):
            return BUDGET in switch
        return settings.reasoning in EFFORTS and bool(switch.keys() - {EFFORT})

    @cached_property
    def _marks_thoughts(self) -> bool:
        """Whether some of the special tokens mark thoughts."""
        return bool(marks_among(self._special))

    @cached_property
    def _marks_later(self) -> bool:
        """Whether some of them do that were no known marks."""
        return any(map(LATER_MARKS.fullmatch, self._special)) and self.record.wording.reasoning_tags is None

    @cached_property
    def _special(self) -> list[str]:
        """The special tokens that did not end a text."""
        return [text for number, text in self._specials if number not in self._former_ends]

    @cached_property
    def _specials(self) -> list[tuple[int, str]]:
        """All special tokens."""
        added = json.loads(self._tokenizer.to_str())["added_tokens"] if self._tokenizer else []
        return [(token["id"], token["content"]) for token in added if token["special"]]


def _texts(request: Request) -> Iterator[str]:
    """The texts that a tokenizer's special tokens are put before."""
    match request:
        case GenerateRequest(context=str(text)) | RollingRequest(text=text):
            yield text
        case ChoiceRequest(pairs=pairs):
            yield from (context for context, _ in pairs if isinstance(context, str))


def _told(config: Record) -> Iterator[int]:
    """The end-of-text tokens of a config: one, several or none."""
    for part in (config, config.get("text_config")):
        told = part.get("eos_token_id") if isinstance(part, dict) else None
        yield from (number for number in (told if isinstance(told, list) else [told]) if isinstance(number, int))
