"""Models of Hugging Face transformers: log-likelihoods and greedy generation in batches."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from shardmark.engine.batches import Limit
from shardmark.engine.tokens import ScoredRow
from shardmark.errors import Problem, UserError

log = logging.getLogger(__name__)

CPU_SCORING_TOKENS = 1024
"Scoring on a CPU gains nothing from larger batches."
MEMORY_SHARE = 0.5
"Of the free memory, so much is planned with; what the estimate misses has the rest."
MAX_GENERATING_ROWS = 64
"More rows hardly speed generation up, but each waits for the longest."
LOGITS_BYTES = 1 << 30
"The softmax works on about so many bytes of float32 logits at once."
DEFAULT_WINDOW = 2048


@dataclass(frozen=True)
class GenerateRow:
    """A tokenized prompt and when its continuation ends."""

    inputs: list[int]
    max_new_tokens: int
    stop: list[str]
    cut: int
    "Tokens that were dropped on the left because the window is too short."


class TransformersBackend:
    """A causal language model on its devices."""

    def __init__(self, record: dict[str, Any], staged: dict[str, str]) -> None:
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_default_handler()
        transformers.utils.logging.enable_propagation()
        settings = record["settings"]
        trust = {"trust_remote_code": settings["trust_remote_code"]}
        tokenizer_kwargs = {k: v for k, v in settings["tokenizer_kwargs"].items() if k != "truncation"}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(staged["tokenizer"], **(trust | tokenizer_kwargs))
            spread = {"device_map": "auto"} if settings["num_gpus"] > 1 else {}
            kwargs = {"dtype": getattr(torch, record["dtype"]), **trust, **spread, **settings["model_kwargs"]}
            model = AutoModelForCausalLM.from_pretrained(staged["model"], **kwargs)
        except Exception as error:  # damaged weights, foreign kwargs: whatever it is, the user must know which model
            what = f"model {record['name']} cannot be loaded: {error}"
            raise UserError(Problem(record["file"], "path", what, "see the log; correct path or kwargs")) from error
        if not hasattr(model, "hf_device_map"):
            model.to("cuda" if settings["num_gpus"] else "cpu")
        self.model: Any = model.eval()
        self.window = settings["max_seq_len"] or _window(model.config, self.tokenizer)
        ends = model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends  # 0 is a token
        self.ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else (self.ends or [0])[0]
        # Sampling settings and penalties that come with the weights would make greedy decoding something else.
        model.generation_config = GenerationConfig(
            eos_token_id=self.ends or None, bos_token_id=self.tokenizer.bos_token_id, pad_token_id=self.pad
        )

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return torch.device(self.model.device)

    def limit(self, batch_size: int | str, padding: bool, new_tokens: int = 0) -> Limit:
        """The bound on batches: the given number of rows, or what fits the free memory."""
        if batch_size != "auto":
            return Limit(rows=int(batch_size), padding=padding)
        tokens = max(1, int(MEMORY_SHARE * self._free_bytes() / self._bytes_per_token(new_tokens > 0)))
        if new_tokens:
            return Limit(rows=MAX_GENERATING_ROWS, tokens=tokens, padding=padding)
        return Limit(tokens=min(tokens, CPU_SCORING_TOKENS) if self.device.type == "cpu" else tokens, padding=padding)

    def _free_bytes(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

    def _bytes_per_token(self, cached: bool) -> int:
        """Estimated memory for one more token in a batch: activations of a layer, the cache, and logits."""
        config = self.model.config.get_text_config()

        def size(name: str) -> int:
            value = getattr(config, name, None) or 0
            return int(value if isinstance(value, int) else max(value))  # some models give one for each layer

        width = torch.finfo(self.model.dtype).bits // 8
        activations = width * (16 * size("hidden_size") + 3 * size("intermediate_size"))
        heads = size("num_key_value_heads") or size("num_attention_heads")
        head = size("head_dim") or size("hidden_size") // max(1, size("num_attention_heads"))
        cache = 2 * width * size("num_hidden_layers") * heads * head if cached else 0
        return activations + cache + (0 if cached else width * size("vocab_size"))

    @staticmethod
    def free() -> None:
        """Give cached memory back to the device."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def score(self, rows: Sequence[ScoredRow]) -> list[tuple[float, bool]]:
        """For each row the summed log-likelihood (nats, float32) of its scored tokens, and whether each is the argmax.

        Right-padded: causal attention then never sees the padding. The output layer runs only at scored positions.
        """
        inputs, mask = self._padded([row.inputs for row in rows], left=False)
        where = [
            (n, position)
            for n, row in enumerate(rows)
            for position in range(len(row.inputs) - len(row.scored), len(row.inputs))
        ]
        targets = torch.tensor([token for row in rows for token in row.scored])
        values, best = self._at_positions(inputs, mask, torch.tensor(where), targets)
        counts = [len(row.scored) for row in rows]
        return [
            (float(v.double().sum()), bool(b.all()))
            for v, b in zip(values.split(counts), best.split(counts), strict=True)
        ]

    def _at_positions(
        self, inputs: torch.Tensor, mask: torch.Tensor, where: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-likelihood and argmax-equality of each target at its (row, position).

        A hook in front of the output layer keeps only these positions of the hidden states. What a model does with
        its logits afterwards (scaling, soft-capping) so stays the model's own code.
        """

        calls = 0

        def gather(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            nonlocal calls
            calls += 1
            at = where.to(args[0].device)
            return (args[0][at[:, 0], at[:, 1]].unsqueeze(0), *args[1:])

        hook = self.model.get_output_embeddings().register_forward_pre_hook(gather)
        try:
            logits = self.model(input_ids=inputs, attention_mask=mask, use_cache=False).logits[0]
        finally:
            hook.remove()
        if calls != 1 or len(logits) != len(targets):
            raise RuntimeError(f"{type(self.model).__name__} does not take its logits from its output embeddings")
        values, best = [], []
        step = max(1, LOGITS_BYTES // (8 * logits.shape[-1]))  # in parts: logsumexp makes a copy
        for part, wanted in zip(logits.split(step), targets.to(logits.device).split(step), strict=True):
            part = part.float()
            chosen = part.gather(1, wanted[:, None])[:, 0]
            values.append((chosen - part.logsumexp(1)).cpu())
            best.append((part.argmax(1) == wanted).cpu())
        return torch.cat(values), torch.cat(best)

    def _padded(self, rows: Sequence[list[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, rows))
        inputs = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for n, row in enumerate(rows):
            place = slice(longest - len(row), None) if left else slice(0, len(row))
            inputs[n, place] = torch.tensor(row)
            mask[n, place] = 1
        return inputs.to(self.device), mask.to(self.device)

    @torch.inference_mode()
    def generate(self, rows: Sequence[GenerateRow]) -> list[tuple[str, int, str]]:
        """For each row the greedy continuation: its text, its number of tokens, and what ended it.

        The text ends before the first stop string; the number counts the tokens up to the one that completed it, but
        no EOS. The end is "stop", "eos", "length", or "nan" where the model's output was not finite. All rows of a
        batch must want the same number of new tokens and the same stops.
        """
        inputs, mask = self._padded([row.inputs for row in rows], left=True)
        stops, finite = StopStrings(self.tokenizer, rows[0].stop, inputs.shape[1]), FiniteCheck()
        output = self.model.generate(
            input_ids=inputs,
            attention_mask=mask,
            max_new_tokens=rows[0].max_new_tokens,
            do_sample=False,
            logits_processor=LogitsProcessorList([finite]),
            stopping_criteria=StoppingCriteriaList([stops]),
        )
        generated = output[:, inputs.shape[1] :].tolist()
        results = [self._ended(tokens[: stops.lengths.get(n)], rows[0].stop) for n, tokens in enumerate(generated)]
        good = torch.stack(finite.steps, dim=1).tolist()
        return [
            (text, count, end) if all(good[n][: count + (end == "eos")]) else ("", good[n].index(False), "nan")
            for n, (text, count, end) in enumerate(results)
        ]

    def _ended(self, tokens: list[int], stop: list[str]) -> tuple[str, int, str]:
        ends = [n for n, token in enumerate(tokens) if token in self.ends]
        kept = tokens[: ends[0]] if ends else tokens
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        found = [place for string in stop if (place := text.find(string)) >= 0]
        if found:
            return text[: min(found)], len(kept), "stop"
        return text, len(kept), "eos" if ends else "length"


class FiniteCheck(LogitsProcessor):
    """Notes for each step which rows' largest logit is a finite number: an argmax of NaN would pass for an answer."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(scores.amax(-1).isfinite())
        return scores


class StopStrings(StoppingCriteria):
    """Ends a row when one of some strings appears in what it has generated. Only the newest tokens are decoded."""

    def __init__(self, tokenizer: Any, stop: list[str], start: int) -> None:
        self.tokenizer, self.stop, self.start = tokenizer, stop, start
        self.lengths: dict[int, int] = {}
        "By row, the number of new tokens when a stop string appeared; what follows them is padding or ignored."
        longest = max((len(string.encode()) for string in stop), default=0)
        self.tail = longest + 8  # a token holds at least a byte; some more, because a character's bytes may straddle

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        going = [n for n in range(len(input_ids)) if n not in self.lengths]
        if self.stop and going:
            tails = input_ids[going, self.start :][:, -self.tail :]
            for n, text in zip(going, self.tokenizer.batch_decode(tails, skip_special_tokens=True), strict=True):
                if any(string in text for string in self.stop):
                    self.lengths[n] = input_ids.shape[1] - self.start
        return torch.tensor([n in self.lengths for n in range(len(input_ids))], device=input_ids.device)


def _window(config: Any, tokenizer: Any) -> int:
    """The model's own window in tokens."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
        if getattr(text, name, None):
            return int(getattr(text, name))
    return tokenizer.model_max_length if tokenizer.model_max_length < 1 << 30 else DEFAULT_WINDOW
