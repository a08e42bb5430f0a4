"""The window of a model and its end-of-text tokens: the same for every engine."""

from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from shardmark.files import read_object

DEFAULT_WINDOW = 2048


def ending_tokens(tokenizer: PreTrainedTokenizerBase, generation: int | list[int] | None, folder: str) -> list[int]:
    """The end-of-text tokens: those of the generation config, config.json and the tokenizer.

    config.json counts as written, without the defaults that the library fills in.
    """
    written = read_object(Path(folder) / "config.json")
    inner = written.get("text_config")
    told = [generation, written.get("eos_token_id"), tokenizer.eos_token_id]
    told.append(inner.get("eos_token_id") if isinstance(inner, dict) else None)
    ends = [end for ends in told for end in (ends if isinstance(ends, list) else [ends])]
    return list(dict.fromkeys(end for end in ends if isinstance(end, int)))  # 0 is a token


def own_window(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The model's own window in tokens, from its config or its tokenizer."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
        if getattr(text, name, None):
            return int(getattr(text, name))
    return tokenizer.model_max_length if tokenizer.model_max_length < 1 << 30 else DEFAULT_WINDOW
