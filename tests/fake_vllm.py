"""vLLM's engine as far as Shardmark calls it, over a model of transformers: a few rows at a time, a token a step."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch


class SamplingParams(SimpleNamespace):
    """vLLM's settings of a request; some must lie within bounds."""

    def __init__(self, **settings: Any) -> None:
        usual = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": None, "min_tokens": 0, "max_tokens": 16}
        super().__init__(**(usual | settings))
        assert self.min_tokens <= self.max_tokens
        assert 0 <= self.temperature <= 2


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of vLLM's names."""
    kinds = SimpleNamespace(DELTA="delta", FINAL_ONLY="final")
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SamplingParams))
    params = SimpleNamespace(RequestOutputKind=kinds)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


class FakeEngine:
    """Rows wait, run in a batch of `room`, and end with a token that stops them or at their length."""

    def __init__(
        self, model: Any, room: int = 4, change: Callable[[int, int], int] = lambda rows, token: token
    ) -> None:
        """`change` says which token is chosen instead of one, in a batch of so many rows."""
        self.model, self.room, self.change = model, room, change
        self.waiting: list[SimpleNamespace] = []
        self.asked: list[SimpleNamespace] = []
        self.aborted: list[str] = []
        self.broken: set[str] = set()
        self.fails_at = -1
        self.steps = 0
        self.engine_core = SimpleNamespace(get_output=self._outputs)

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Any) -> None:
        assert name not in {row.name for row in self.asked}
        row = SimpleNamespace(name=name, prompt=prompt["prompt_token_ids"], params=params, written=[], told=0)
        self.asked.append(row)
        self.waiting.append(row)

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        self.waiting = [row for row in self.waiting if row.name not in names]

    def step(self) -> list[Any]:
        return [output.told for output in self.engine_core.get_output().outputs if output.told]

    def _outputs(self) -> Any:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("the engine has died")
        batch = self.waiting[: self.room]
        outputs = [self._advanced(row, len(batch)) for row in batch]
        self.waiting = [row for row in self.waiting if row not in batch or not self._end(row)]
        return SimpleNamespace(outputs=outputs)

    def _advanced(self, row: Any, batch: int) -> Any:
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([row.prompt + row.written]), use_cache=False).logits[0].float()
        if len(row.written) < row.params.min_tokens:
            logits[-1, row.params.stop_token_ids] = -torch.inf
        row.written.append(self.change(batch, int(logits[-1].argmax())))
        end = self._end(row)
        told = None
        if end or row.params.output_kind == "delta":
            new, row.told = row.written[row.told :], len(row.written)
            scores = self._prompt(row, logits) if row.params.prompt_logprobs is not None else None
            outputs = [SimpleNamespace(token_ids=new, finish_reason=end)]
            told = SimpleNamespace(request_id=row.name, finished=bool(end), outputs=outputs, prompt_logprobs=scores)
        # the core knows requests by names of its own
        return SimpleNamespace(request_id=f"{row.name}-9f2c", num_nans_in_logits=row.name in self.broken, told=told)

    def _end(self, row: Any) -> str | None:
        if row.written and row.written[-1] in row.params.stop_token_ids:
            return "stop"
        return "length" if len(row.written) >= row.params.max_tokens else None

    def _prompt(self, row: Any, logits: torch.Tensor) -> list[Any]:
        values = logits.log_softmax(-1)
        told: list[Any] = [None]
        for place, token in enumerate(row.prompt[1:]):
            value = values[place, token]
            rank = int((values[place] >= value).sum())
            told.append({token: SimpleNamespace(logprob=float(value), rank=rank)})
        return told
