"""Models of Hugging Face transformers: loading, scoring and generation."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.backends.vllm import VllmConfig
from shardmark.engine.backend import Beat
from shardmark.engine.batches import Limit
from shardmark.engine.generation import Answer, GenerateRow, Scheduler
from shardmark.engine.local import LocalBackend
from shardmark.engine.sampling import GREEDY
from shardmark.engine.tokens import LogLikelihood, ScoredRow
from shardmark.engine.transformers.batching_support import NEAR, ROUGHLY, moving_ropes, why_not_continuous
from shardmark.engine.transformers.bounds import ending_tokens, own_window
from shardmark.engine.transformers.continuous_batch import ContinuousBatch
from shardmark.engine.transformers.decode_graphs import DecodeGraphs
from shardmark.engine.transformers.loading import check_causal, input_device, load_model, precision
from shardmark.engine.transformers.memory import activation_bytes, cache_bytes, free_for, logits_bytes
from shardmark.engine.transformers.packed import PackedLayers, PackedLinear, is_faster, pack_linears
from shardmark.engine.transformers.plain_generation import PlainGeneration, batch_difference
from shardmark.engine.transformers.scoring import Scorer
from shardmark.engine.transformers.screening import LEAST_NEW_TOKENS, Screen, screenable
from shardmark.engine.transformers.sharing import columns_matter
from shardmark.engine.transformers.weights import check_vocabulary, rows_of, tokenizer_kwargs
from shardmark.errors import Problem, UserError
from shardmark.processes.imports import without_collection
from shardmark.records.model import ModelRecord, Staged

log = logging.getLogger(__name__)

CPU_SCORING_TOKENS = 1024
"Scoring on a CPU gains nothing from larger batches."
MEMORY_SHARE = 0.5
"The share of the free memory to plan with; the rest is for what the estimate misses."
MAX_GENERATING_ROWS = {"cpu": 64, "cuda": 256}
"More rows hardly make generation faster."


class TransformersModel:
    """A causal language model on its devices: a TokenModel."""

    def __init__(
        self,
        record: ModelRecord,
        staged: Staged,
        batch_size: int | str = "auto",
        batch_padding: bool = True,
        cuda_graphs: bool = True,
    ) -> None:
        """Load the staged files. Raises UserError naming the model's file."""
        self.batch_size, self.batch_padding = batch_size, batch_padding
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_default_handler()
        transformers.utils.logging.enable_propagation()
        settings = record.weights
        self.on_gpus = record.on_gpus
        try:
            with without_collection():  # it makes an object for each of up to 262,144 tokens, several times
                self.tokenizer = AutoTokenizer.from_pretrained(staged.tokenizer, **tokenizer_kwargs(settings))
            model = load_model(record, staged)
            check_vocabulary(record, model, self.tokenizer, staged.tokenizer)
            check_causal(record, model)
        except UserError:
            raise
        except Exception as error:  # damaged weights, foreign kwargs: whatever it is, the user must know which model
            what = f"model {record.name} cannot be loaded: {error}"
            raise UserError(Problem(record.file, "path", what, "see the log; correct path or kwargs")) from error
        self.model: Any = model
        self._packs = settings.pack_weights == "auto" and not settings.why_not_packed and is_faster()
        self._packed = PackedLayers()
        self._screen: Screen | None = None
        self._prepared: tuple[bool, ...] = ()
        self._graphs = DecodeGraphs(model, "" if cuda_graphs else "cuda_graphs is false")
        self.rows = rows_of(model)
        "The number of tokens that the model has embeddings for."
        self.window = settings.max_seq_len or own_window(model.config, self.tokenizer)
        self.scoring_window = self.window
        _check_positions(record, model, self.window)
        self.ends = ending_tokens(self.tokenizer, model.generation_config.eos_token_id, staged.model)
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else (self.ends or [0])[0]
        # Sampling settings and penalties that come with the weights would make greedy decoding something else.
        model.generation_config = GenerationConfig(
            eos_token_id=self.ends or None, bos_token_id=self.tokenizer.bos_token_id, pad_token_id=self.pad
        )

    def on_forward(self, told: Callable[[], None]) -> None:
        """Call a function at each pass through the model: all begin with the embeddings, or are replayed."""
        self._graphs.replayed = told
        self.model.get_input_embeddings().register_forward_hook(lambda *_: told())

    @property
    def device(self) -> torch.device:
        """The device for inputs."""
        return input_device(self.model)

    def limit(self, batch_size: int | str, padding: bool, new_tokens: int = 0) -> Limit:
        """The bound on batches: the given number of rows, or as many tokens as fit into free memory."""
        if batch_size != "auto":
            return Limit(rows=int(batch_size), padding=padding)
        per_token = activation_bytes(self.model) + (cache_bytes(self.model) if new_tokens else logits_bytes(self.model))
        tokens = max(1, int(MEMORY_SHARE * free_for(self.model) / per_token))
        if new_tokens:
            return Limit(rows=MAX_GENERATING_ROWS.get(self.device.type, 64), tokens=tokens, padding=padding)
        return Limit(tokens=min(tokens, CPU_SCORING_TOKENS) if self.device.type == "cpu" else tokens, padding=padding)

    @property
    def device_names(self) -> list[str]:
        """Names of the GPUs that it may use."""
        names = range(torch.cuda.device_count()) if self.on_gpus else ()
        return [torch.cuda.get_device_name(number) for number in names]

    @property
    def methods(self) -> dict[str, str]:
        """How a CPU multiplies matrices, and how decode steps run, if not in the usual way."""
        packed = any(isinstance(module, PackedLinear) for module in self.model.modules())
        found = {"products": "oneDNN with packed weights"} if packed else {}
        found |= {"decoding": "output weights in 8 bits, then float32"} if self._screen and self._prepared[0] else {}
        return found | ({"decoding": "CUDA graphs"} if self._graphs.compared else {})

    @staticmethod
    def use_threads(count: int) -> None:
        """Compute with `count` cores from now on."""
        torch.set_num_threads(count)

    @staticmethod
    def free() -> None:
        """Release cached memory of the device."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @cached_property
    def why_plain(self) -> str | None:
        """The reason why rows of this model are generated in plain batches, or None; found out, and logged, once."""
        reason = why_not_continuous(self.model)
        if reason:
            log.warning("generating in plain batches, without shared prefixes: %s", reason)
        return reason

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self)

    def score(self, rows: Sequence[ScoredRow]) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their log-likelihoods, as soon as they are ready. Raises OutOfMemoryError."""
        if rows:
            self._packed.unpack()  # which moves log-likelihoods by more than tests allow
            self._screen, self._prepared = None, ()
        return self._scorer.results(rows)

    def generate(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, as soon as they are ready. Raises OutOfMemoryError."""
        longest = max(row.max_new_tokens for row in rows)
        limit = self.limit(self.batch_size, self.batch_padding, longest)
        return self.generation(limit, longest if all(row.sampling == GREEDY for row in rows) else 0).results(rows)

    def generation(self, limit: Limit, greedy_tokens: int = 0) -> Scheduler | PlainGeneration:
        """The generator of answers with this model, in batches within a limit.

        `greedy_tokens` is the length that answers may have if no row samples.
        """
        if self._packs:
            self._prepare(greedy_tokens > 0, greedy_tokens >= LEAST_NEW_TOKENS)
        if not self.why_plain:
            batch = ContinuousBatch(self.model, self._graphs, self._screen)
            return Scheduler(batch, self.tokenizer, self.ends, limit, self.free)
        together, padded = self._batches
        limit = replace(limit, rows=limit.rows if together else 1, padding=limit.padding and padded)
        return PlainGeneration(self.model, self.tokenizer, self.ends, self.pad, limit, self.free)

    def _prepare(self, *wanted: bool) -> None:
        """Pack the weights for rows of which none samples, or any, and for long or short answers; at most once each."""
        if wanted == self._prepared:
            return
        greedy, long = wanted
        head = screenable(self.model) if greedy and not self.why_plain else None
        if head and long and not self._screen:
            self._screen = Screen(head.weight)
        self._packed.groups += pack_linears(self.model, but=head).groups
        self._prepared = wanted

    @cached_property
    def _batches(self) -> tuple[bool, bool]:
        """Whether plain batches may have several rows, and padding. Found out once, by a trial where it must be."""
        if moving_ropes(self.model.config):
            return False, False
        if not self._alike(9, 9):
            return False, False
        columns = columns_matter(self.model.config.get_text_config(), self.window)
        stateful = getattr(self.model, "_is_stateful", False)  # a state may remember the padding
        return True, not stateful and not columns and self._alike(9, 5)

    def _alike(self, *lengths: int) -> bool:
        difference = batch_difference(self.model, self.pad, lengths)
        if fault := difference > NEAR.get(precision(self.model), ROUGHLY):
            log.warning("not generating rows of %s tokens in one batch: a trial was off by %.2g", lengths, difference)
        return not fault


def open_backend(record: ModelRecord, staged: Staged, beat: Beat) -> LocalBackend:
    """The backend of `backend: transformers`, and the scorer of `backend: vllm`. Raises UserError."""
    settings = record.settings
    assert isinstance(settings, TransformersConfig | VllmConfig)
    graphs = settings.cuda_graphs if isinstance(settings, TransformersConfig) else True
    model = TransformersModel(record, staged, settings.batch_size, settings.batch_padding, graphs)
    model.on_forward(beat)
    return LocalBackend(record, model)


def _check_positions(record: ModelRecord, model: PreTrainedModel, window: int) -> None:
    """Raise UserError if the model has a table of position embeddings that is smaller than the window."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Embedding) and (last == "wpe" or "pos" in last):
            size = module.num_embeddings - getattr(module, "offset", 0)
            if window > size:
                what = f"model {record.name} has a table of {size} positions, but should read {window} tokens"
                raise UserError(Problem(record.file, "max_seq_len", what, f"set it to {size} or less"))
