"""Answers from a model that is loaded here: requests become rows, and rows of answers become predictions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from shardmark.engine.backend import Backend
from shardmark.engine.batches import OutOfMemoryError, is_out_of_memory
from shardmark.engine.generation import Answer, GenerateRow
from shardmark.engine.rows import scored_prediction, scored_rows
from shardmark.engine.sampling import Sampling
from shardmark.engine.token_model import TokenModel
from shardmark.engine.tokenization import Wording
from shardmark.engine.tokens import LogLikelihood, ScoredRow
from shardmark.errors import Problem, UserError
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Generated, Output, Prediction, Sampled, Written
from shardmark.records.request import GenerateRequest, Request, ScoredRequest
from shardmark.tasks.chat_templates import WordingError

NOT_FINITE = "try dtype: float32"
MORE_MEMORY = "give the model more GPUs, lower max_seq_len, or use a smaller dtype"


class LocalBackend(Backend):
    """Answers requests with a TokenModel, with prompts in the form that its tokenizer wants."""

    def __init__(self, record: ModelRecord, model: TokenModel) -> None:
        self.record = record
        self.model = model
        self.where = record.file
        self.wording = Wording(model.tokenizer, record.wording)

    def use_threads(self, count: int) -> None:
        """Compute with `count` cores from now on."""
        self.model.use_threads(count)

    @property
    def device_names(self) -> list[str]:
        """Names of the model's GPUs."""
        return self.model.device_names

    @property
    def methods(self) -> Mapping[str, str]:
        """How the model computes, if not in the usual way."""
        return self.model.methods

    def answer(self, requests: Mapping[str, Request]) -> Iterator[list[Prediction]]:
        """The predictions of requests by id, in lists as they finish. Raises UserError naming model and request."""
        try:
            yield from self._scored({k: r for k, r in requests.items() if not isinstance(r, GenerateRequest)})
            yield from self._generations({k: r for k, r in requests.items() if isinstance(r, GenerateRequest)})
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # A batch that runs out of memory is halved, so this happened in the trial before, or outside the requests.
            what = f"model {self.record.name}: out of memory apart from its requests: {error}"
            raise UserError(Problem(self.where, "", what, MORE_MEMORY)) from error

    def _scored(self, requests: dict[str, ScoredRequest]) -> Iterator[list[Prediction]]:
        """The predictions of scored requests. A request is finished when the last of its rows is."""
        asked = {key: self._scored_rows(key, request) for key, request in requests.items()}
        owners = [(key, n) for key, rows in asked.items() for n in range(len(rows))]
        rows = [asked[key][n] for key, n in owners]
        found: dict[str, dict[int, tuple[ScoredRow, LogLikelihood]]] = defaultdict(dict)
        for scores in self._scores(owners, rows):
            done: list[Prediction] = []
            for number, score in scores:
                key, n = owners[number]
                if not math.isfinite(score[0]):
                    raise self._problem(key, f"log-likelihood {score[0]}", NOT_FINITE)
                found[key][n] = (rows[number], score)
                if len(found[key]) == len(asked[key]):
                    values = [value for _, value in sorted(found.pop(key).items())]
                    done.append(scored_prediction(key, requests[key], values))
            yield done

    def _scores(
        self, owners: list[tuple[str, int]], rows: list[ScoredRow]
    ) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their scores, as soon as they are ready."""
        try:
            yield from self.model.score(rows)
        except OutOfMemoryError as error:
            raise self._too_large(owners[error.row][0], len(rows[error.row].inputs)) from error

    def _scored_rows(self, key: str, request: ScoredRequest) -> list[ScoredRow]:
        """The rows to score for a request: one for each pair of a choice, or for each window of a text."""
        with self._named(key):
            rows = scored_rows(self.wording, request, self.model.scoring_window)
            self._check_tokens(token for row in rows for part in (row.inputs, row.scored) for token in part)
        return rows

    def _generations(self, requests: dict[str, GenerateRequest]) -> Iterator[list[Prediction]]:
        """The predictions of generated texts. A request is finished when the last of its samples is."""
        if not requests:
            return
        rows = [row for key, request in requests.items() for row in self._generate_rows(key, request)]
        found: dict[str, dict[int, tuple[GenerateRow, Answer]]] = defaultdict(dict)
        for results in self._written(rows):
            done: list[Prediction] = []
            for row, answer in results:
                key = row.request
                if answer.end == "nan":
                    raise self._problem(key, f"a logit after {answer.tokens} new tokens is not a number", NOT_FINITE)
                found[key][row.sample] = (row, answer)
                if len(found[key]) == requests[key].samples:
                    done.append(_generate_prediction(key, [value for _, value in sorted(found.pop(key).items())]))
            if done:
                yield done

    def _generate_rows(self, key: str, request: GenerateRequest) -> list[GenerateRow]:
        """A row for each of the request's samples."""
        settings = self.record.weights
        with self._named(key):
            tokens, opened = self.wording.prompt(request.context), self.wording.opened(request.context)
            thoughts, sent = self.wording.thoughts, self.wording.sent(request)
            self._check_tokens(tokens)
        new_tokens = settings.answer_tokens(request.max_new_tokens)
        new_tokens += thoughts.free if thoughts else 0
        room = self.model.window - new_tokens
        if room < 1:
            what = f"{new_tokens} new tokens leave no room for a prompt in the window of {self.model.window}"
            lower = "max_out_len" + (", or the tokens of thoughts," if thoughts and thoughts.free else "")
            raise self._problem(key, what, f"lower {lower} or raise max_seq_len")
        first = GenerateRow(
            inputs=tokens[-room:],
            max_new_tokens=new_tokens,
            stop=request.stop,
            cut=max(0, len(tokens) - room),
            sampling=Sampling(request.temperature, request.top_k, request.top_p, request.min_new_tokens),
            request=key,
            opened=opened,
            sent=sent,
            tags=settings.reasoning_tags,
            thoughts=thoughts,
            seconds=settings.request_seconds,
            ends=() if isinstance(request.context, str) else self._turn_ends,
        )
        return [replace(first, sample=sample) for sample in range(request.samples)]

    @cached_property
    def _turn_ends(self) -> tuple[int, ...]:
        """Tokens that end answers in chats, in addition to the model's."""
        return self.wording.turn_ends(self.model.ends)

    def _check_tokens(self, tokens: Iterable[int]) -> None:
        """Raise WordingError for a token that the model has no embedding for."""
        last = max(tokens, default=0)
        if last >= self.model.rows:
            token = self.model.tokenizer.convert_ids_to_tokens(last)
            what = f"it has token {last} ({token!r}), but the weights have only {self.model.rows} rows of embeddings"
            raise WordingError(what, "use tokenizer and weights of the same model")

    def _written(self, rows: list[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        try:
            yield from self.model.generate(rows)
        except OutOfMemoryError as error:
            raise self._too_large(error.row.request, error.row.length) from error

    @contextmanager
    def _named(self, key: str) -> Iterator[None]:
        """A block in which WordingError becomes a UserError naming the model and the request."""
        try:
            yield
        except WordingError as error:
            raise self._problem(key, str(error), error.fix) from error

    def _too_large(self, key: str, length: int) -> UserError:
        return self._problem(key, f"out of memory with this request alone ({length} tokens)", MORE_MEMORY)

    def _problem(self, key: str, what: str, fix: str) -> UserError:
        return UserError(Problem(self.where, "", f"model {self.record.name}, request {key[:16]}: {what}", fix))


def _generate_prediction(key: str, values: list[tuple[GenerateRow, Answer]]) -> Written:
    """The prediction from a request's samples. One sample is stored in the prediction itself, several in a list.

    `opened` is set only if the prompt opens a thought, `sent` only if it is a chat.
    """
    opened, sent = values[0][0].opened, values[0][0].sent
    facts = [{**answer._asdict(), "marks": list(answer.marks), "cut": row.cut} for row, answer in values]
    if len(values) > 1:
        return Sampled(id=key, samples=[Output(**each) for each in facts], opened=opened, sent=sent)
    return Generated(id=key, **facts[0], opened=opened, sent=sent)
