"""A token model that vLLM runs: rows join its batch as it has room, and leave as they finish.

The end of a row and its text are decided as in every other engine (`RunningRow`): vLLM only says which token comes
next. A row that ends before vLLM knows is aborted there. A row whose thought has used up its budget is sent again, with
the tokens it has written and the closing mark as its prompt, whose keys and values vLLM still has.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from shardmark.engine.generation import Answer, GenerateRow, RunningRow
from shardmark.engine.prefixes import shared_prefixes
from shardmark.engine.tokens import LogLikelihood, ScoredRow

REPEATED, REPEATED_TOKENS = 4, 32
"Greedy answers that are asked for again to see whether they depend on the batch, and the tokens of each."
GENERATED_AT_ONCE, SCORED_AT_ONCE = 1024, 256
"The most rows that vLLM has at a time. For scored rows it keeps a Python object for each token of each prompt."
GREEDY_BELOW = 1e-5
"The temperature below which vLLM is greedy."
TEMPERATURES = (0.01, 2.0)
"The temperatures that vLLM accepts; it computes with any."
_set_threads = torch.set_num_threads
"The function before vLLM replaces it, on a CPU, by one that only warns: no threads are bound here."


@dataclass(eq=False)
class _Asked:
    """A row that vLLM is working on."""

    running: RunningRow
    watched: bool
    "Whether a token may end or change the row without vLLM's knowledge."
    name: str = ""
    "vLLM's name for it."
    drawn: list[int] = field(default_factory=list)
    "All tokens that vLLM has chosen for it."
    parts: int = 0
    "The number of times it has been sent."


class VllmModel:
    """A model in vLLM's LLMEngine: a TokenModel."""

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        *,
        window: int,
        scoring_window: int,
        rows: int,
        ends: Sequence[int],
        beat: Callable[[], None] = lambda: None,
        invariant: bool = False,
    ) -> None:
        """`engine` is vLLM's; `invariant` says that no answer depends on the batch."""
        self.engine, self.tokenizer, self.ends, self.beat = engine, tokenizer, list(ends), beat
        self.window, self.scoring_window, self.rows, self.invariant = window, scoring_window, rows, invariant
        self.repeated = self.differing = 0
        self._numbers = itertools.count()
        self._broken: set[str] = set()
        self._note_broken()

    def use_threads(self, count: int) -> None:
        """Compute with `count` cores from now on."""
        _set_threads(count)

    @property
    def device_names(self) -> list[str]:
        """Names of the GPUs that it may use."""
        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]

    @property
    def methods(self) -> dict[str, str]:
        """Always empty: vLLM decides how it computes."""
        return {}

    def generate(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, as soon as they are ready."""
        order = shared_prefixes([row.inputs for row in rows], [row.length for row in rows])
        waiting = (rows[number] for number, _ in order)
        asked: dict[str, _Asked] = {}
        first: list[_Asked] = []
        try:
            while True:
                for row in itertools.islice(waiting, GENERATED_AT_ONCE - len(asked)):
                    one = _Asked(RunningRow(row, self.tokenizer, self.ends), _is_watched(row))
                    self._ask(one, asked)
                    if len(first) < REPEATED and row.sampling.temperature < GREEDY_BELOW:
                        first.append(one)
                if not asked:
                    break
                if done := [answer for output in self._step() for answer in self._heard(output, asked)]:
                    yield done
        finally:  # the caller no longer wants the rest, or something has failed
            self._abort(asked)
        if len(rows) > 1 and not self.repeated:
            self._repeat(first)

    def score(self, rows: Sequence[ScoredRow]) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their log-likelihoods, as soon as they are ready. vLLM computes each prompt as a whole."""
        params = self._params(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        waiting = iter(enumerate(rows))
        asked: dict[str, int] = {}
        try:
            while True:
                for number, row in itertools.islice(waiting, SCORED_AT_ONCE - len(asked)):
                    asked[self._add([*row.inputs, row.scored[-1]], params)] = number
                if not asked:
                    return
                outputs = [output for output in self._step() if output.finished]
                if done := [(asked.pop(output.request_id), output) for output in outputs]:
                    yield [(number, _log_likelihood(output.prompt_logprobs, rows[number])) for number, output in done]
        finally:
            self._abort(asked)

    def _ask(self, one: _Asked, asked: dict[str, _Asked]) -> None:
        """Send a row to vLLM, from the tokens it has so far."""
        running, sampling = one.running, one.running.row.sampling
        left = running.row.max_new_tokens - len(running.generated)
        params = self._params(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=_seed(running.row, one.parts) if sampling.temperature >= GREEDY_BELOW else None,
            max_tokens=left,
            min_tokens=min(left, max(0, sampling.min_new_tokens - len(running.generated))),
            ends=running.ends,
            each_step=one.watched,
        )
        one.parts += 1
        one.name = self._add(running.sequence, params)
        asked[one.name] = one

    def _heard(self, output: Any, asked: dict[str, _Asked]) -> Iterator[tuple[GenerateRow, Answer]]:
        """The answer of a row, if it ends with the tokens that vLLM has just chosen."""
        one = asked.get(output.request_id)
        if one is None:
            return
        running, (chosen,) = one.running, output.outputs
        broken = output.request_id in self._broken
        answer = running.take(0, finite=False) if broken else None
        for token in () if broken else chosen.token_ids:
            one.drawn.append(token)
            if answer := running.take(token, finite=True):
                break
            if running.due is not None:
                answer = _say_due(running)
                self._abort([output.request_id])
                del asked[output.request_id]
                if answer is None:
                    self._ask(one, asked)
                    return
                break
        if answer is None and output.finished:
            raise RuntimeError(f"vLLM ended request {running.row.request[:16]} early: {chosen.finish_reason}")
        if answer is not None:
            if not output.finished:
                self._abort([output.request_id])
            asked.pop(output.request_id, None)
            yield running.row, answer

    def _repeat(self, first: Sequence[_Asked]) -> None:
        """Ask for some greedy answers again, each alone in the batch, and count those that differ."""
        for one in first:
            before = one.drawn[:REPEATED_TOKENS]
            if not before or one.parts > 1:
                continue
            inputs, least = one.running.row.inputs, one.running.row.sampling.min_new_tokens
            new, ends = len(before), one.running.ends
            params = self._params(max_tokens=new, min_tokens=min(least, new), ends=ends, from_cache=False)
            name = self._add(inputs, params)
            found: list[int] = []
            while not found:
                found = [token for output in self._step() if output.request_id == name for token in _tokens(output)]
            self.repeated += 1
            self.differing += found != before

    def _params(
        self,
        temperature: float = 0.0,
        ends: Sequence[int] | None = None,
        each_step: bool = False,
        prompt_logprobs: int | None = None,
        from_cache: bool | None = None,
        **settings: Any,
    ) -> Any:
        """vLLM's SamplingParams. Only end-of-text tokens and its length end a row there."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        low, high = TEMPERATURES
        params = SamplingParams(
            temperature=min(max(temperature, low), high) if temperature >= GREEDY_BELOW else 0.0,
            output_kind=RequestOutputKind.DELTA if each_step else RequestOutputKind.FINAL_ONLY,
            prompt_logprobs=prompt_logprobs,
            skip_reading_prefix_cache=None if from_cache is None else not from_cache,
            stop_token_ids=list(self.ends if ends is None else ends),
            ignore_eos=True,  # which would be only the tokenizer's
            detokenize=False,
            skip_clone=True,  # spares a deep copy, with another check, per request
            **settings,
        )
        if temperature >= GREEDY_BELOW:
            params.temperature = temperature
        return params

    def _add(self, tokens: Sequence[int], params: Any) -> str:
        name = str(next(self._numbers))
        self.engine.add_request(name, {"prompt_token_ids": list(tokens)}, params)
        return name

    def _step(self) -> list[Any]:
        outputs: list[Any] = self.engine.step()
        self.beat()
        return outputs

    def _abort(self, names: Sequence[str] | dict[str, Any]) -> None:
        if names:
            self.engine.abort_request(list(names))

    def _note_broken(self) -> None:
        """Note rows with NaN logits: the core's outputs report them, but the engine's don't."""
        core = self.engine.engine_core
        get_output = core.get_output

        def noted() -> Any:
            found = get_output()
            self._broken |= {
                output.request_id.partition("-")[0] for output in found.outputs if output.num_nans_in_logits
            }
            return found

        core.get_output = noted


def _is_watched(row: GenerateRow) -> bool:
    """Whether a row may be ended or changed by something that vLLM does not look for."""
    return bool(row.stop or row.thoughts or row.seconds is not None)


def _say_due(running: RunningRow) -> Answer | None:
    """Write the mark that must come next; returns the answer if the row ends with it."""
    while (token := running.due) is not None:
        if answer := running.take(token, finite=True):
            return answer
    return None


def _tokens(output: Any) -> list[int]:
    return [int(token) for token in output.outputs[0].token_ids]


def _seed(row: GenerateRow, part: int) -> int:
    """The seed of a sample of a request. As in every engine it depends on these two alone."""
    digest = hashlib.sha256(f"{row.request}:{row.sample}:{part}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _log_likelihood(logprobs: Sequence[Any], row: ScoredRow) -> LogLikelihood:
    """The log-likelihood from vLLM's values for each token of a prompt. Raises RuntimeError if some are missing."""
    tokens = [*row.inputs, row.scored[-1]][-len(row.scored) :]
    told = list(logprobs or ())[-len(row.scored) :]
    if len(logprobs or ()) != len(row.inputs) + 1 or tokens != row.scored:
        raise RuntimeError(f"vLLM returned {len(logprobs or ())} log-probabilities for {len(row.inputs) + 1} tokens")
    values = [each[token] for each, token in zip(told, tokens, strict=True)]
    return sum(value.logprob for value in values), all(value.rank == 1 for value in values)
