"""From requests to predictions, with a backend that is already loaded."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from shardmark.engine.batches import Batches, Limit, OutOfMemoryError
from shardmark.engine.tokens import ScoredRow, encode, encode_pair, fit_window, prefix_token
from shardmark.engine.transformers_backend import GenerateRow, TransformersBackend
from shardmark.errors import Problem, UserError

Prediction = dict[str, Any]
GIVE_PREFIX = "give the tokenizer a BOS or EOS token"
NOT_FINITE = "try dtype: float32"


class Engine:
    """Answers requests with a model, in batches that fit."""

    def __init__(self, record: dict[str, Any], backend: TransformersBackend) -> None:
        self.record = record
        self.backend = backend
        self.where = record["file"]

    def answer(self, requests: dict[str, Any]) -> Iterator[list[Prediction]]:
        """The predictions of requests by id, in lists as they are done. Raises UserError naming model and request."""
        yield from self._choices({k: r for k, r in requests.items() if r["kind"] == "choice"})
        groups: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = defaultdict(dict)
        for key, request in requests.items():
            if request["kind"] == "generate":
                groups[request["max_new_tokens"], tuple(request["stop"])][key] = request
        for group in groups.values():
            yield from self._generations(group)

    def _limit(self, new_tokens: int = 0) -> Limit:
        settings = self.record["settings"]
        return self.backend.limit(settings["batch_size"], settings["batch_padding"], new_tokens)

    def _choices(self, requests: dict[str, Any]) -> Iterator[list[Prediction]]:
        """A request is done when the last of its pairs is."""
        rows: list[tuple[str, int, ScoredRow]] = []
        for key, request in requests.items():
            rows += [(key, n, self._scored_row(key, pair)) for n, pair in enumerate(request["pairs"])]
        found: dict[str, dict[int, tuple[ScoredRow, tuple[float, bool]]]] = defaultdict(dict)
        batches = Batches[tuple[str, int, ScoredRow], tuple[float, bool]](
            length=lambda row: len(row[2].inputs),
            run=lambda batch: self.backend.score([row for _, _, row in batch]),
            limit=self._limit(),
            free=self.backend.free,
        )
        for results in self._named(batches, rows):
            done = []
            for (key, n, row), result in results:
                if not math.isfinite(result[0]):
                    raise self._problem(key, f"log-likelihood {result[0]}", NOT_FINITE)
                found[key][n] = (row, result)
                if len(found[key]) == len(requests[key]["pairs"]):
                    done.append(_choice_prediction(key, [value for _, value in sorted(found.pop(key).items())]))
            yield done

    def _scored_row(self, key: str, pair: list[str]) -> ScoredRow:
        try:
            context, continuation = encode_pair(self.backend.tokenizer, *pair)
        except ValueError as error:
            raise self._problem(key, str(error), GIVE_PREFIX) from error
        if not continuation:
            raise self._problem(key, f"the choice {pair[1]!r} becomes no token", "mend the data set's choices")
        return fit_window(context, continuation, self.backend.window)

    def _generations(self, requests: dict[str, Any]) -> Iterator[list[Prediction]]:
        rows = [(key, self._generate_row(key, request)) for key, request in requests.items()]
        new_tokens = rows[0][1].max_new_tokens
        batches = Batches[tuple[str, GenerateRow], tuple[str, int, str]](
            length=lambda row: len(row[1].inputs) + new_tokens,
            run=lambda batch: self.backend.generate([row for _, row in batch]),
            limit=self._limit(new_tokens),
            free=self.backend.free,
        )
        for results in self._named(batches, rows):
            for (key, _), (_, tokens, end) in results:
                if end == "nan":
                    raise self._problem(key, f"a logit after {tokens} new tokens is not a number", NOT_FINITE)
            yield [
                {"id": key, "text": text, "tokens": tokens, "end": end, "cut": row.cut}
                for (key, row), (text, tokens, end) in results
            ]

    def _generate_row(self, key: str, request: Any) -> GenerateRow:
        limit = self.record["settings"]["max_out_len"]
        new_tokens = min(request["max_new_tokens"], limit or request["max_new_tokens"])
        room = self.backend.window - new_tokens
        if room < 1:
            what = f"{new_tokens} new tokens leave no room for a prompt in the window of {self.backend.window}"
            raise self._problem(key, what, "lower max_out_len or raise max_seq_len")
        try:
            tokens = encode(self.backend.tokenizer, request["prompt"]) or [prefix_token(self.backend.tokenizer)]
        except ValueError as error:
            raise self._problem(key, str(error), GIVE_PREFIX) from error
        return GenerateRow(tokens[-room:], new_tokens, request["stop"], max(0, len(tokens) - room))

    def _named(self, batches: Any, rows: list[Any]) -> Iterator[list[Any]]:
        try:
            yield from batches.results(rows)
        except OutOfMemoryError as error:
            key, length = error.row[0], batches.length(error.row)
            fix = "give the model more GPUs, lower max_seq_len, or use a smaller dtype"
            raise self._problem(key, f"out of memory with this request alone ({length} tokens)", fix) from error

    def _problem(self, key: str, what: str, fix: str) -> UserError:
        return UserError(Problem(self.where, "", f"model {self.record['name']}, request {key[:16]}: {what}", fix))


def _choice_prediction(key: str, values: list[tuple[ScoredRow, tuple[float, bool]]]) -> Prediction:
    return {
        "id": key,
        "logprobs": [logprob for _, (logprob, _) in values],
        "tokens": [len(row.scored) for row, _ in values],
        "greedy": [greedy for _, (_, greedy) in values],
        "cut": max(row.cut for row, _ in values),
    }
