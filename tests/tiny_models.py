"""Language models of a few thousand parameters, made on the spot in the format of Hugging Face.

`random_model` has random weights, large enough that no two logits are close. `chain_model` writes what the test says:
each token is followed by one other, whatever stands before it.

torch and transformers are imported where they are used, so that collecting other tests stays quick.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.lock.lock import Lock
from shardmark.plan.models import resolve_model
from shardmark.records.model import ModelRecord, Staged
from shardmark.store.hashes import HashCache

WINDOW = 64
ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox", "gemma3", "gemma2", "mixtral")
"Those that can share prefixes. The sliding windows among them are shorter than most texts."
PECULIAR = ("gpt_oss", "llama4", "deepseek_v3", "opt", "gemma4")
"More that can: attention sinks, chunks, keys longer than values, positions with an offset, heads of two sizes."
UNSHARED = ("mamba", "bloom", "falcon", "gpt_neo")
"Those that cannot: a recurrent state, positions that cannot be given, attention and windows in code of its own."
MERGES = ("ab", "abc", "\nQ", "END")
"Texts of more than one byte that are one token, beside all bytes."


def save_tokenizer(
    folder: Path, bos: bool = True, eos: bool = True, pad: bool = True, marks: Sequence[str] = (), special: bool = True
) -> Any:
    """A byte-level BPE tokenizer with MERGES, which begins each text with BOS if it has one.

    `marks` are more tokens; `special` says whether they are left out of texts.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = {letter: n for n, letter in enumerate(sorted(level.alphabet()))}
    merges = []
    for text in MERGES:
        letters = level.pre_tokenize_str(text)[0][0]
        for end in range(2, len(letters) + 1):
            if letters[:end] not in vocab:
                vocab[letters[:end]] = len(vocab)
                merges.append((letters[: end - 1], letters[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    known = {name: f"<{name}>" for name, wanted in (("bos", bos), ("eos", eos), ("pad", pad)) if wanted}
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in known.values()])
    add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
    add([AddedToken(text, special=special, normalized=False) for text in marks])
    if bos:
        start = [("<bos>", tokenizer.token_to_id("<bos>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=start)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": text for name, text in known.items()}
    )
    fast.save_pretrained(folder)
    return fast


def random_model(
    folder: Path, architecture: str = "llama", seed: int = 0, window: int = WINDOW, **special: bool
) -> Path:
    """A model of an architecture with random weights, and its tokenizer (see save_tokenizer for `special`)."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = save_tokenizer(folder, **special)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(architecture, tokenizer, window))
    for name, parameter in model.named_parameters():
        if "norm" not in name and "ln_" not in name:
            torch.nn.init.normal_(parameter, std=0.4)
    return _save(model, folder)


def chain_model(folder: Path, *texts: str, **special: Any) -> Path:
    """A model that writes after each token the one that follows it in one of the texts, else the same token again.

    `<eos>` in a text is the end. The attention and the feed-forward part give nothing; a token's embedding is a unit
    vector of its own, and the output layer turns it into the next token's.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = save_tokenizer(folder, **special)
    size = len(tokenizer)
    shape = {"hidden_size": size, "intermediate_size": 4, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, **heads, **_tokens(tokenizer)))
    following = list(range(size))
    for text in texts:
        for token, then in pairwise(tokenizer.encode(text, add_special_tokens=False)):
            assert following[token] in (token, then), f"two tokens follow {tokenizer.decode([token])!r}"
            following[token] = then
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        model.lm_head.weight[following, range(size)] = 1.0
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
    return _save(model, folder)


def token_id(tokenizer: Any, text: str) -> int:
    """The id of the one token that a text is."""
    (token,) = tokenizer.encode(text, add_special_tokens=False)
    return int(token)


def model_record(folder: Path, **settings: Any) -> ModelRecord:
    """The plan's record of the model in a folder, for the CPU unless `settings` say more."""
    config = TransformersConfig(**{"path": str(folder), "num_gpus": 0, **settings})
    named = Named("tiny", "config/models/tiny.yaml", config)
    return resolve_model(named, Lock(folder / "no.lock"), HashCache(folder / "no.cache"))


def load_backend(folder: Path, **settings: Any) -> Any:
    """The TransformersModel in a folder, with one thread: with more, sums are rounded in another order."""
    import torch

    from shardmark.engine.transformers.model import TransformersModel

    torch.set_num_threads(1)
    return TransformersModel(model_record(folder, **settings), staged(folder))


def plain_model(folder: Path) -> Any:
    """The transformers model of a folder, never touched by the engine."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def local_backend(folder: Path, model: Any, batch_size: int | str = "auto", **settings: Any) -> Any:
    """The LocalBackend of a loaded model, as if it had been loaded with these settings."""
    from shardmark.engine.local import LocalBackend

    model.batch_size = batch_size
    return LocalBackend(model_record(folder, **settings), model)


def scores(backend: Any, rows: Any, batch_size: Any = "auto", padding: bool = True) -> list[tuple[float, bool]]:
    """The scores of rows, in their order, each made once."""
    from shardmark.engine.transformers.scoring import Scorer

    backend.batch_size, backend.batch_padding = batch_size, padding
    made = [pair for done in Scorer(backend).results(rows) for pair in done]
    assert sorted(number for number, _ in made) == list(range(len(rows)))
    return [score for _, score in sorted(made)]


def plain_score(model: Any, row: Any) -> tuple[float, bool]:
    """A row's score by one forward pass with full logits."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row.inputs]), use_cache=False).logits[0].float()[-len(row.scored) :]
    values = torch.log_softmax(logits, dim=-1)
    return (
        sum(float(value[token]) for value, token in zip(values, row.scored, strict=True)),
        logits.argmax(-1).tolist() == row.scored,
    )


@contextmanager
def cramped(model: Any, tokens: int) -> Iterator[list[int]]:
    """While it lasts, memory runs out with more than so many tokens in a forward pass, those kept included."""
    sizes: list[int] = []

    def check(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        past = kwargs["past_key_values"].get_seq_length() if kwargs.get("past_key_values") else 0
        size = kwargs["input_ids"].numel() + past
        sizes.append(size)
        if size > tokens:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield sizes
    finally:
        hook.remove()


def staged(folder: Path) -> Staged:
    """What staging a local model says."""
    return Staged(model=str(folder), tokenizer=str(folder))


def _save(model: Any, folder: Path) -> Path:
    import torch
    import transformers

    torch.set_num_threads(1)  # more only stand in each other's way
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def _tokens(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": WINDOW,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _config(architecture: str, tokenizer: Any, window: int) -> Any:
    import transformers

    tokens = _tokens(tokenizer) | {"max_position_embeddings": window}
    if architecture == "gpt2":
        tokens["n_positions"] = tokens.pop("max_position_embeddings")
        return transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, **tokens)
    if architecture == "mamba":
        return transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **tokens)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    gemma = {"head_dim": 4, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    match architecture:
        case "llama":
            return transformers.LlamaConfig(**shape, **tokens)
        case "gpt_neox":
            del shape["num_key_value_heads"]
            return transformers.GPTNeoXConfig(**shape, **tokens)
        case "mistral":
            return transformers.MistralConfig(**shape, **tokens, sliding_window=4)
        case "bert":
            return transformers.BertConfig(**shape, **tokens)
        case "doge":
            return transformers.DogeConfig(**shape, **tokens, keep_window_size=32)
        case "gpt_neo":
            local = {"attention_types": [[["global", "local"], 1]], "window_size": 6}
            return transformers.GPTNeoConfig(hidden_size=16, num_layers=2, num_heads=4, **local, **tokens)
        case "rwkv":
            return transformers.RwkvConfig(hidden_size=16, num_hidden_layers=2, **tokens)
        case "trocr":
            return transformers.TrOCRConfig(
                d_model=16, decoder_ffn_dim=24, decoder_layers=2, decoder_attention_heads=4, **tokens
            )
        case "opt":
            return transformers.OPTConfig(
                hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16, **tokens
            )
        case "gpt_oss":
            experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
            return transformers.GptOssConfig(**shape, **tokens, **experts, head_dim=4, sliding_window=4)
        case "llama4":
            chunks = {"attention_chunk_size": 5, "head_dim": 4, "num_local_experts": 2, "intermediate_size_mlp": 24}
            return transformers.Llama4TextConfig(**shape, **tokens, **chunks)
        case "deepseek_v3":
            ranks = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 6}
            groups = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
            layers = {"first_k_dense_replace": 1, "moe_intermediate_size": 16}
            shape["num_key_value_heads"] = 4
            return transformers.DeepseekV3Config(**shape, **tokens, **ranks, **groups, **layers)
        case "falcon":
            return transformers.FalconConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, **tokens)
        case "bloom":
            return transformers.BloomConfig(hidden_size=16, n_layer=2, n_head=4, **tokens)
        case "qwen3":
            return transformers.Qwen3Config(**shape, **tokens, head_dim=4)
        case "qwen2":
            return transformers.Qwen2Config(**shape, **tokens, tie_word_embeddings=True)
        case "gemma3":
            return transformers.Gemma3TextConfig(
                **shape, **gemma, **tokens, final_logit_softcapping=3.0, tie_word_embeddings=False
            )
        case "gemma4":
            own = {"hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": tokens["vocab_size"]}
            return transformers.Gemma4TextConfig(**shape, **gemma, **tokens, **own, global_head_dim=8)
        case "gemma2":
            return transformers.Gemma2Config(
                **shape,
                **gemma,
                **tokens,
                final_logit_softcapping=3.0,
                attn_logit_softcapping=2.0,
                tie_word_embeddings=False,
            )
        case "mixtral":
            return transformers.MixtralConfig(**shape, **tokens, num_local_experts=4, num_experts_per_tok=2)
    raise ValueError(f"unknown architecture {architecture}")
