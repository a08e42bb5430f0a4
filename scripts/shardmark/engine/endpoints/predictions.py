"""The prediction of a request from the replies to its questions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.endpoints.answers import Reply
from shardmark.engine.endpoints.questions import Question
from shardmark.engine.rows import scored_prediction
from shardmark.engine.thoughts import thought_tokens
from shardmark.engine.tokens import encode
from shardmark.records.prediction import Generated, Output, Prediction, Sampled
from shardmark.records.request import GenerateRequest, Request
from shardmark.texts.thoughts import thoughts_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = tuple[Question, Reply]


class Predictions:
    """Turns replies into predictions. Counts tokens itself if the endpoint does not and there is a tokenizer."""

    def __init__(self, settings: OpenaiConfig, tokenizer: "PreTrainedTokenizerBase | None") -> None:
        self._tags = settings.reasoning_tags
        self._tokenizer = tokenizer

    def of(self, key: str, request: Request, parts: Sequence[Part]) -> Prediction:
        """The prediction of a request from all of its parts, in order."""
        if isinstance(request, GenerateRequest):
            facts = [self._facts(*part) for part in parts]
            opened, sent = parts[0][0].opened, parts[0][0].sent
            if len(parts) == 1:
                return Generated(id=key, **facts[0], opened=opened, sent=sent)
            return Sampled(id=key, samples=[Output(**each) for each in facts], opened=opened, sent=sent)
        values = [(question.row, reply.score) for question, reply in parts if question.row and reply.score]
        return replace(
            scored_prediction(key, request, values),
            read=sum(_read(*part) for part in parts),
            written=sum(1 if reply.usage.written is None else reply.usage.written for _, reply in parts),
            served="\n".join(dict.fromkeys(reply.served for _, reply in parts)),
        )

    def _facts(self, question: Question, reply: Reply) -> dict[str, Any]:
        written, thought = reply.usage.written, reply.usage.thought or 0
        if self._tokenizer and (written is None or not thought):
            tokens = encode(self._tokenizer, reply.text, add_special_tokens=False)
            written = len(tokens) if written is None else written
            found = thoughts_in(question.opened + reply.text, tags=self._tags)
            if not thought and (found.end or found.unfinished):
                thought = min(written, thought_tokens(self._tokenizer, tokens, question.opened, self._tags))
        return {
            "text": reply.text,
            "tokens": written or 0,
            "end": reply.end,
            "cut": question.cut,
            "thought": thought,
            "reasoning": reply.reasoning,
            "read": _read(question, reply),
            "served": reply.served,
        }


def _read(question: Question, reply: Reply) -> int:
    """The number of tokens read. If the endpoint does not say: the number sent, or 0 if it was sent a text."""
    if reply.usage.read is not None:
        return reply.usage.read
    prompt = question.body.get("prompt")
    return len(prompt) if isinstance(prompt, list) else 0
