"""Models that vLLM runs: it writes answers; the tree engine scores choices, unless vLLM is to do that, too."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, ValidationInfo, model_validator

from shardmark.config.backends.transformers import PACKAGES, TransformersConfig
from shardmark.config.secrets import OPEN, secrets_in
from shardmark.config.weights import PLACEMENT, WeightsConfig
from shardmark.records.engine import TREE, VLLM
from shardmark.settings import AS_WRITTEN, Wrong, refusal

OURS = {
    "model": "path",
    "model_weights": "path",
    "revision": "revision",
    "code_revision": "revision",
    "tokenizer": "tokenizer_path",
    "tokenizer_revision": "tokenizer_path",
    "hf_config_path": "path",
    "dtype": "dtype",
    "max_model_len": "max_seq_len",
    "trust_remote_code": "trust_remote_code",
    "tensor_parallel_size": "num_gpus",
    "enable_lora": "path, with the adapter merged into the weights",
}
"Arguments of vLLM that are settings of a model here."
DECIDED = {
    "seed": "samples depend only on the request; to draw others, change `seed` in the data set's generation",
    "data_parallel_size": "shards already run in parallel on all GPUs",
    "generation_config": "the data set's generation says how answers are generated",
    "override_generation_config": "the data set's generation says how answers are generated",
    "logits_processors": "the data set's generation says how answers are generated",
    "reasoning_parser": "reasoning and reasoning_tags say how thoughts are marked",
    "reasoning_config": "reasoning and reasoning_tags say how thoughts are marked",
    "logprobs_mode": "log-likelihoods are always the model's own",
    "skip_tokenizer_init": "Shardmark tokenizes texts itself",
    "tokenizer_mode": "Shardmark tokenizes texts itself",
    "runner": "models are used for generation only",
    "convert": "models are used for generation only",
    "enable_sleep_mode": "a worker keeps its model loaded",
    "device_ids": "a job leases its GPUs, and vLLM sees no others",
    "hf_token": "files are fetched before vLLM starts; the environment variable HF_TOKEN holds a key of the Hub",
}
"Arguments of vLLM that would break our promises to users, with their replacements."
ANOTHER_MODEL = frozenset(
    [
        "disable_sliding_window",
        "enable_mamba_cache_stochastic_rounding",
        "hf_overrides",
        "kv_cache_dtype",
        "load_format",
        "mamba_cache_dtype",
        "mamba_ssm_cache_dtype",
        "model_class_overrides",
        "model_impl",
        "quantization",
        "quantization_config",
    ]
)
"Arguments that turn the weights into another model, which the tree engine does not support."
SPEED = frozenset(
    [
        "aggregate_engine_logging",
        "async_scheduling",
        "block_size",
        "collect_detailed_traces",
        "compilation_config",
        "cpu_distributed_timeout_seconds",
        "cpu_offload_gb",
        "cudagraph_capture_sizes",
        "cudagraph_metrics",
        "custom_histogram_buckets",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "distributed_timeout_seconds",
        "download_dir",
        "enable_chunked_prefill",
        "enable_expert_parallel",
        "enable_layerwise_nvtx_tracing",
        "enable_logging_iteration_details",
        "enable_mfu_metrics",
        "enable_mm_processor_stats",
        "enable_prefix_caching",
        "enforce_eager",
        "fail_on_environ_validation",
        "gpu_memory_utilization",
        "jit_monitor_verbose",
        "kv_cache_memory_bytes",
        "kv_cache_metrics",
        "kv_cache_metrics_sample",
        "kv_events_config",
        "kv_offloading_backend",
        "kv_offloading_size",
        "limit_mm_per_prompt",
        "log_config_file",
        "log_level",
        "logging_config",
        "long_prefill_token_threshold",
        "max_cudagraph_capture_size",
        "max_logprobs",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "mm_processor_cache_gb",
        "num_gpu_blocks_override",
        "numa_bind",
        "numa_bind_cpus",
        "numa_bind_nodes",
        "optimization_level",
        "otlp_traces_endpoint",
        "per_request_spec_decode_metrics",
        "performance_mode",
        "pipeline_parallel_size",
        "prefix_caching_hash_algo",
        "profiler_config",
        "pt_load_map_location",
        "ray_workers_use_nsight",
        "safetensors_load_strategy",
        "safetensors_prefetch_block_size",
        "safetensors_prefetch_num_threads",
        "scheduling_policy",
        "served_model_name",
        "show_hidden_metrics_for_version",
        "shutdown_timeout",
        "skip_mm_profiling",
        "stream_interval",
        "swap_space",
        "use_tqdm_on_load",
    ]
)
"""Arguments of vLLM for where and how fast a model runs, and for logs. They change at most the last bits of a number,
as batches do. All others count in the digest, also those that choose kernels or divide experts and contexts."""

DIVISOR = "give a divisor of num_gpus"


class VllmConfig(WeightsConfig):
    """A model, how vLLM runs it, and the devices it needs. The file's name is the model's name."""

    factory: ClassVar[str] = "shardmark.engine.vllm.backend:open_backend"
    protocol: ClassVar[int] = 1

    backend: Literal["vllm"] = "vllm"
    "The backend that runs the model."
    scoring: Literal["tree", "vllm"] = "tree"
    "The engine for log-likelihoods: that of transformers models, which shares prompts, or vLLM, which does not."
    vllm_kwargs: dict[str, Any] = Field(default={})
    "Passed on to vLLM's EngineArgs, e.g. {gpu_memory_utilization: 0.85, enforce_eager: true}."
    batch_size: PositiveInt | Literal["auto"] = "auto"
    "Rows in a batch: vLLM's max_num_seqs, and the tree engine's batch size; auto leaves it to them."
    batch_padding: bool = True
    "For the tree engine. false: only rows of equal length share a batch, so that nothing is padded."

    def engines(self) -> dict[str, list[str]]:
        """The kinds of requests that each engine answers, by its name."""
        if self.scoring == VLLM:
            return {VLLM: ["generate", "choice", "rolling"]}
        return {VLLM: ["generate"], TREE: ["choice", "rolling"]}

    def factory_of(self, engine: str) -> str:
        """The `factory` of one of its engines."""
        return TransformersConfig.factory if engine == TREE else self.factory

    @property
    def rows_in_batch(self) -> int | str:
        """The most rows in a batch."""
        return self.vllm_kwargs.get("max_num_seqs", self.batch_size)

    def package_names(self) -> list[str]:
        """The packages that it is loaded and run with, some of them in an engine's own environment."""
        return ["vllm", *PACKAGES]

    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer."""
        scoring: dict[str, Any] = {"scoring": self.scoring}
        if self.scoring == TREE:
            scoring["tree"] = TransformersConfig.protocol
        kwargs = {key: value for key, value in self.vllm_kwargs.items() if key not in SPEED}
        return super().identity() | scoring | {"vllm_kwargs": kwargs}

    @model_validator(mode="after")
    def _fits_vllm(self, info: ValidationInfo) -> "VllmConfig":
        if info.context != AS_WRITTEN and (wrong := list(self._faults())):
            raise refusal(VllmConfig, wrong)
        return self

    def _faults(self) -> Iterator[Wrong]:
        for key in self.vllm_kwargs:
            if key in OURS:
                yield Wrong(("vllm_kwargs", key), "is a separate setting here", f"give {OURS[key]}")
            elif key in DECIDED:
                yield Wrong(("vllm_kwargs", key), "is set by Shardmark", f"drop it: {DECIDED[key]}")
            elif key in ANOTHER_MODEL and self.scoring == TREE:
                what = "changes the model for vLLM only, while the tree engine would score the unchanged one"
                yield Wrong(("vllm_kwargs", key), what, "add scoring: vllm")
        for path in secrets_in({key: value for key, value in self.vllm_kwargs.items() if key not in DECIDED}):
            fix = "drop it, and set the environment variable that vLLM or its library reads"
            yield Wrong(("vllm_kwargs", *path.split(".")), OPEN, fix)
        if "max_num_seqs" in self.vllm_kwargs and self.batch_size != "auto":
            yield Wrong(("vllm_kwargs", "max_num_seqs"), "batch_size already sets it", "keep one")
        if self.adapter:
            what = "is not supported with vLLM"
            yield Wrong(("adapter",), what, "merge it into the weights, or use backend: transformers")
        for key in self.model_kwargs:
            if self.scoring == VLLM or key not in PLACEMENT:
                what = "applies to transformers only: vLLM would generate without it"
                yield Wrong(("model_kwargs", key), what, "drop it; vLLM's arguments go into vllm_kwargs")
        if uneven := self.uneven_stages():
            yield Wrong(("vllm_kwargs", "pipeline_parallel_size"), uneven, DIVISOR)

    def uneven_stages(self) -> str:
        """The reason why the GPUs cannot be divided into the stages of a pipeline; empty if they can."""
        stages = self.vllm_kwargs.get("pipeline_parallel_size", 1)
        if not isinstance(stages, int) or not self.num_gpus or (stages > 0 and self.num_gpus % stages == 0):
            return ""
        return f"{self.num_gpus} GPUs (num_gpus) cannot be divided into {stages} equal stages"


SETTINGS = VllmConfig
