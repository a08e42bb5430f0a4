"""Whether a model can reason as its file says: the switches of its chat template, and the marks of its thoughts."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark.config.reasoning import DROP_SWITCH, NO_SWITCH, NO_TAGS, NO_THOUGHTS, give_tags
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem
from shardmark.files import read_json
from shardmark.lock.entries import tokenizer_here
from shardmark.plan.chats import named_templates
from shardmark.plan.template_lookup import templates_elsewhere
from shardmark.records.model import GgufFile, HubRepository, ModelRecord
from shardmark.texts.thoughts import Tags, known_tags, tags_to_name


def reasoning_problems(models: Iterable[ModelRecord], results: Path) -> list[Problem]:
    """A problem for each model that is known not to reason as its file says; staging checks the others."""
    return [problem for record in models for problem in _faults(record, results)]


def _faults(record: ModelRecord, results: Path) -> Iterator[Problem]:
    """Known problems that keep a model from reasoning as its file says."""
    words = record.words
    if folder := tokenizer_here(record, results):
        yield from faults(record, folder)
    elif isinstance(words, GgufFile | HubRepository) and record.wording.reasoning is not None:
        templates = named_templates(None, record.wording, templates_elsewhere(words)[1])
        if templates:
            yield from _switch_faults(record, templates)


def faults(record: ModelRecord, folder: Path) -> Iterator[Problem]:
    """Problems that keep a model with the tokenizer in a folder from reasoning as its file says."""
    settings = record.settings
    if not isinstance(settings, WordedConfig) or not settings.tells_of_reasoning:
        return
    with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable files are reported elsewhere
        templates = named_templates(folder, settings)
        wrong = list(_switch_faults(record, templates))
        yield from wrong
        if not wrong and settings.reasoning not in NO_THOUGHTS and not tags_of(settings, templates, folder):
            key = "reasoning" if settings.reasoning is not None else "reasoning_tokens"
            yield Problem(record.file, key, NO_TAGS, give_tags(settings.template_text(templates)))


def _switch_faults(record: ModelRecord, templates: dict[str, str]) -> Iterator[Problem]:
    """A problem if the chat templates, by name, lack the reasoning switch that the model's file asks for."""
    if record.wording.switch(templates) is None:
        yield Problem(record.file, "reasoning", NO_SWITCH.format(record.wording.reasoning), DROP_SWITCH)


def tags_of(settings: WordedConfig, templates: dict[str, str], folder: Path) -> Tags | None:
    """The marks of a model's thoughts by its file, its chat template or its tokenizer."""
    template = settings.template_text(templates)
    if settings.reasoning_tags or tags_to_name(template):
        return settings.reasoning_tags
    return known_tags([template]) or known_tags(_tokens(folder))


def _tokens(folder: Path) -> list[str]:
    """The tokens that were added to a tokenizer's vocabulary."""
    found: list[Any] = []
    with suppress(OSError, ValueError, AttributeError):
        found += read_json(folder / "tokenizer.json").get("added_tokens") or []
    with suppress(OSError, ValueError, AttributeError):
        found += (read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}).values()
    return [str(token["content"]) for token in found if isinstance(token, dict) and "content" in token]
