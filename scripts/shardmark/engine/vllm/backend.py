"""The backend of models that vLLM runs. Tokenization and texts are the same as for every other engine."""

from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

from shardmark.config.backends.vllm import VllmConfig
from shardmark.engine.backend import Beat
from shardmark.engine.local import LocalBackend
from shardmark.engine.transformers.bounds import ending_tokens, own_window
from shardmark.engine.transformers.weights import tokenizer_kwargs
from shardmark.engine.vllm.arguments import engine_arguments, prepare_environment
from shardmark.engine.vllm.model import VllmModel
from shardmark.errors import Problem, UserError
from shardmark.records.engine import VLLM, EngineUse
from shardmark.records.model import ModelRecord, Staged

BESIDE = 2
"Tokens that vLLM needs room for besides those it reads to score: the last one that is scored, and one it writes."


class VllmBackend(LocalBackend):
    """Answers requests with vLLM."""

    model: VllmModel

    def use(self) -> EngineUse:
        """Facts about the engine: how many repeated greedy answers depended on the batch."""
        model = self.model
        return EngineUse(name=VLLM, repeated=model.repeated, differing=model.differing, batch_invariant=model.invariant)


def open_backend(record: ModelRecord, staged: Staged, beat: Beat) -> VllmBackend:
    """The backend of `backend: vllm`. Raises UserError with vLLM's message, file and key."""
    settings = record.settings
    assert isinstance(settings, VllmConfig)
    invariant = prepare_environment(record.on_gpus)
    from vllm import EngineArgs  # only here, because it reads the environment when it is imported
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        tokenizer = AutoTokenizer.from_pretrained(staged.tokenizer, **tokenizer_kwargs(settings))
        config = AutoConfig.from_pretrained(staged.model, trust_remote_code=settings.trust_remote_code)
        own = own_window(config, tokenizer)
        window = settings.max_seq_len or own
        length = max(window, min(own, window + BESIDE))
        ends = ending_tokens(tokenizer, _generation_ends(staged.model, config), staged.model)
        wanted = EngineArgs(**engine_arguments(settings, staged, length, config))
        engine = LLMEngine.from_engine_args(wanted, usage_context=UsageContext.LLM_CLASS)  # batches as large as offline
    except Exception as error:  # weights, arguments, memory: whatever it is, the user must know which model
        what = f"model {record.name}: vLLM does not start: {error}"
        raise UserError(
            Problem(record.file, "vllm_kwargs", what, "see the worker's log; correct the model's file")
        ) from error
    beat()
    rows = int(config.get_text_config().vocab_size)
    windows = {"window": window, "scoring_window": min(window, length - BESIDE)}
    model = VllmModel(engine, tokenizer, **windows, rows=rows, ends=ends, beat=beat, invariant=invariant)
    return VllmBackend(record, model)


def _generation_ends(folder: str, config: PreTrainedConfig) -> Any:
    """The end-of-text tokens by generation_config.json, or by transformers' reading of a config without one."""
    try:
        return GenerationConfig.from_pretrained(folder).eos_token_id
    except OSError:
        return GenerationConfig.from_model_config(config).eos_token_id
