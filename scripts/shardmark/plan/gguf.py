"""The header of a GGUF file (github.com/ggml-org/ggml, docs/gguf.md), and what transformers does not read of it.

transformers takes sizes from the header, and leaves out, without a word, most of what else changes a model: scaled
rotary embeddings (Llama 3, Gemma 3, Phi 3), those of a part of each head, windows, soft-capping. `missed_settings` has
these as settings of config.json, or refuses the file. Of the tokenizer's header it leaves out how texts are split:
`missed_tokenizer` and `misread_tokens`. The gguf package takes 20 s for the 262,144 tokens of Gemma 3, this 0.1 s.
"""

import array
import json
import math
import reprlib
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shardmark.files import read_object

TEMPLATE, TOKENS, TYPES = "tokenizer.chat_template", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"GGUF's value types that have a fixed size."
TEXT, ARRAY = 8, 9
LONGEST = 2**26
"The most bytes of a text in a header; a file that claims more is invalid."
LAYERS = 1024
"The most numbers in an array that is read."
UNREADABLE = (OSError, ValueError, KeyError, struct.error, RecursionError)
"Exceptions that reading an invalid GGUF file may raise."

ROTATED = {"phi3": 1.0, "stablelm": 0.25, "nemotron": 0.5}
"The part of each head that transformers rotates, whatever the header says."
FREQUENCY = {"starcoder2": 10000.0, "stablelm": 10000.0}
"The base of rotary embeddings that transformers takes, whatever the header says."
WINDOWS_READ = {"gemma2", "gemma3", "gemma4", "gpt-oss"}
"Architectures of which transformers reads the sliding window."
LARGEST = {"gemma2": 46, "gemma3": 62}
"The layers of Gemma's models of 27B, which scale queries by the width over the heads, others by key_length."
CAPPED = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
"Gemma 2's soft-capping in transformers, whatever the header says."
READ = {
    *("context_length", "vocab_size", "block_count", "embedding_length", "feed_forward_length", "tensor_data_layout"),
    *("expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length"),
    *(f"attention.{key}" for key in ("head_count", "head_count_kv", "key_length", "value_length", "sliding_window")),
    *("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.relative_buckets_count"),
    *("rope.dimension_count", "rope.freq_base", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size"),
    *("ssm.time_step_rank", "ssm.group_count", "shortconv.l_cache", "decoder_start_token_id", "pooling_type"),
    *(f"rope.scaling.{key}" for key in ("type", "factor", "original_context_length", "attn_factor", "finetuned")),
    *(f"rope.scaling.yarn_{key}" for key in ("beta_fast", "beta_slow", "log_multiplier", "ext_factor", "attn_factor")),
}
"Values that transformers or this module reads, that the tensors' shapes tell, or that change nothing."
READ_OF = {
    "gemma2": set(CAPPED),
    "gemma3": {"final_logit_softcapping"},
    "gemma4": {
        *("final_logit_softcapping", "embedding_length_per_layer_input", "rope.dimension_count_swa"),
        *("attention.key_length_swa", "attention.value_length_swa"),
    },
    "minimax-m2": {"expert_gating_func"},
    "stablelm": {"use_parallel_residual"},
    **{
        kind: {"rope.dimension_sections", "full_attention_interval", "nextn_predict_layers"}
        for kind in ("qwen35", "qwen35moe")
    },
}
"Those of one architecture."
USUAL = {"attention.causal": True, "rope.scale_linear": 1.0}
"The only value that transformers' models have."
USUAL_OF: dict[str, dict[str, Any]] = {
    "gemma3": {"rope.freq_base_swa": 10000.0, "attention.sliding_window_pattern": 6},
    "gemma4": {"rope.freq_base_swa": 10000.0, "rope.freq_base": 1000000.0},
    "qwen3moe": {"expert_weights_norm": True},
}
"Those of one architecture."
YARN_UNREAD = ("attn_factor", "yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor")
"Values of YaRN for which transformers has no setting, or another formula."
WHOLE_WORDS = {
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
    "tekken",
}
"The kinds of splitting after which a word in the vocabulary is one token, and that begin texts with BOS, unless told."
GPT2 = {"gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling"}
QWEN2 = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"}
SPLITS = {
    *WHOLE_WORDS,
    *GPT2,
    *QWEN2,
    *("dbrx", "smaug-bpe", "qwen35", "gpt-4o", "llama4", "kanana2"),
    "talkie",
    "minimax-m2",
}
"The kinds of splitting texts into words (tokenizer.ggml.pre) that transformers gets right."
SPLITS_OF = {
    **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe"), frozenset(QWEN2)),
    **dict.fromkeys(("qwen35", "qwen35moe"), frozenset(("qwen35",))),
    **dict.fromkeys(("gpt2", "starcoder2", "mamba"), frozenset(GPT2)),
}
"Those of architectures whose tokenizers split texts in their own way, whatever the header says."
GEMMA = {"gemma", "gemma2", "gemma3", "gemma4"}
"Architectures whose tokenizers are SentencePiece's without a space before texts."
UNSPLIT = {"t5", "bert", "rwkv", "plamo2", "none"}
"Kinds of tokenizers (tokenizer.ggml.model) that no causal model of transformers has, or that it cannot read."
CONTROL, USER_DEFINED = 3, 4
"Types of tokens that are matched in texts before these are split."
BYTES = {*map(chr, range(33, 127)), *map(chr, range(161, 173)), *map(chr, range(174, 324))}
"The characters that stand for bytes in vocabularies like GPT-2's."


class MisreadError(Exception):
    """Something in the header changes the model or its tokens, and cannot be told to transformers."""


@dataclass(frozen=True)
class Header:
    """The header's values, without long arrays, and the places of tensors."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, tuple[int, int, int]]
    "The number of values, the type and the offset of each tensor."
    whole_tokens: list[str]
    "The tokens of the types CONTROL and USER_DEFINED, if the vocabulary is like GPT-2's."

    def of_model(self, key: str, default: Any = None) -> Any:
        """A value of the model's architecture."""
        return self.values.get(f"{self.architecture}.{key}", default)

    @property
    def architecture(self) -> str:
        """The kind of model."""
        return str(self.values.get("general.architecture"))

    def floats(self, name: str) -> list[float]:
        """The values of a small tensor in float32."""
        count, kind, offset = self.tensors[name]
        if kind != 0:
            raise MisreadError(f"{name} is not in float32")
        values = array.array("f")
        with self.path.open("rb") as file:
            file.seek(offset)
            values.fromfile(file, count)
        return list(values)


def read_header(path: Path) -> Header:
    """The header of a GGUF file. Raises the exceptions in UNREADABLE."""
    values: dict[str, Any] = {}
    found: dict[str, tuple[int, int, int]] = {}
    places: dict[str, int] = {}
    with _opened(path) as (file, tensors, count):
        for _ in range(count):
            key, (kind,) = _text(file), _numbers(file, "<I")
            place = file.tell()
            values[key] = _value(file, kind)
            if key in (TOKENS, TYPES):
                places[key] = place
        for _ in range(tensors):
            name, (rank,) = _text(file), _numbers(file, "<I")
            size = math.prod(_numbers(file, f"<{rank}Q"))
            found[name] = (size, *_numbers(file, "<IQ"))
        step = values.get("general.alignment") or 32
        begin = -(-file.tell() // step) * step
        byte_level = values.get("tokenizer.ggml.model") == "gpt2" and {TOKENS, TYPES} <= places.keys()
        whole = _whole_tokens(file, places) if byte_level else []
    places_of = {name: (size, kind, begin + at) for name, (size, kind, at) in found.items()}
    return Header(path, values, places_of, whole)


def gguf_template(path: Path) -> str:
    """The chat template in the header of a GGUF file; "" without one. Raises the exceptions in UNREADABLE."""
    with _opened(path) as (file, _, count):
        for _ in range(count):
            key, (kind,) = _text(file), _numbers(file, "<I")
            value = _value(file, kind)
            if key == TEMPLATE:
                return value if isinstance(value, str) else ""
    return ""


def missed(path: Path) -> str:
    """What this module knows of a file, as JSON. Raises MisreadError, and the exceptions in UNREADABLE."""
    header = read_header(path)
    try:
        return json.dumps([missed_settings(header), misread_tokens(header), missed_tokenizer(header)])
    except (TypeError, ZeroDivisionError) as error:
        raise MisreadError(f"its header lacks sizes of the model: {error}") from error


def missed_settings(header: Header) -> dict[str, Any]:
    """Settings of config.json that the header has, and transformers leaves out. Raises MisreadError."""
    kind, told = header.architecture, header.of_model
    _refuse_unread(header)
    settings: dict[str, Any] = {}
    rope = _scaled_rope(header)
    heads = told("attention.head_count") or 1
    size = told("attention.key_length") or (told("embedding_length") or 0) // (heads if isinstance(heads, int) else 1)
    if (turned := told("rope.dimension_count")) and size and ROTATED.get(kind, turned / size) != turned / size:
        rope["partial_rotary_factor"] = turned / size
    if (base := told("rope.freq_base")) and FREQUENCY.get(kind, base) != base:
        rope["rope_theta"] = base
    window = told("attention.sliding_window")
    if window and window < told("context_length", math.inf) and kind not in WINDOWS_READ:
        if kind not in ("phi3", "starcoder2"):
            raise MisreadError(f"transformers does not read {kind}.attention.sliding_window ({window})")
        settings["sliding_window"] = window
    if kind in LARGEST:
        scalar = told("embedding_length") // heads if told("block_count") == LARGEST[kind] else size
        settings |= {"query_pre_attn_scalar": scalar} if scalar != 256 else {}
    if kind == "gemma2":
        settings |= {key: told(key) for key, usual in CAPPED.items() if told(key, usual) != usual}
    elif kind in READ_OF and (cap := told("final_logit_softcapping")):
        settings["final_logit_softcapping"] = cap
    if rope.get("rope_type") == "longrope":  # transformers looks for it in both places
        settings["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return settings | ({"rope_parameters": rope} if rope else {})


def unread_tensors(folder: Path, path: Path) -> str:
    """The names of tensors in a GGUF file that the model made of it in a folder has no place for.

    transformers leaves them out without a word. Raises the exceptions in UNREADABLE.
    """
    from safetensors import SafetensorError, safe_open

    own: Counter[int] = Counter()
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="np") as opened:
                own.update(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{file}: {error}") from error
    header = read_header(path)
    if not own or header.of_model("nextn_predict_layers"):  # layers that only guess ahead
        return ""
    tensors = {name: size for name, (size, *_) in header.tensors.items() if not name.startswith("rope_f")}
    if read_object(folder / "config.json").get("tie_word_embeddings"):
        tensors.pop("output.weight", None)
    if sum(tensors.values()) <= sum(size * count for size, count in own.items()):
        return ""
    own.subtract(tensors.values())
    biases_first = sorted(tensors, key=lambda name: name.endswith(".weight"))
    return ", ".join([name for name in biases_first if own[tensors[name]] < 0][:5])


def _refuse_unread(header: Header) -> None:
    """Raise MisreadError if the header has a value that transformers does not read and that may change the model."""
    kind = header.architecture
    if (parts := header.values.get("split.count") or 1) > 1:
        raise MisreadError(f"it is one of {parts} parts (split.count)")
    read, usual = READ | READ_OF.get(kind, set()), USUAL | USUAL_OF.get(kind, {})
    if kind == "gemma4":  # five layers with a window, then one without; so is the last one
        layers = header.of_model("block_count")
        usual["attention.sliding_window_pattern"] = [n % 6 != 5 and n != layers - 1 for n in range(layers)]
    for name, value in header.values.items():
        key = name.removeprefix(f"{kind}.")
        if key != name and (value != usual[key] if key in usual else value and key not in read):
            raise MisreadError(f"transformers does not read {name} ({reprlib.repr(value)})")


def _scaled_rope(header: Header) -> dict[str, Any]:
    """How rotary embeddings are scaled, in transformers' words."""
    kind, told = header.architecture, header.of_model
    scaling, factor = told("rope.scaling.type", "none"), told("rope.scaling.factor") or 1.0
    first = told("rope.scaling.original_context_length")
    if "rope_freqs.weight" in header.tensors and kind != "gemma4":  # transformers knows which part that leaves out
        return _llama3(header)
    if "rope_factors_long.weight" in header.tensors:
        parts: dict[str, Any] = {
            f"{name}_factor": header.floats(f"rope_factors_{name}.weight") for name in ("long", "short")
        }
        parts |= {"attention_factor": scale} if (scale := told("rope.scaling.attn_factor")) else {}
        factor = told("context_length") / first
        return {"rope_type": "longrope", "original_max_position_embeddings": first, "factor": factor, **parts}
    if kind == "gpt-oss" or scaling == "none" or factor == 1:
        return {}
    if scaling == "linear":
        return {"rope_type": "linear", "factor": factor}
    if scaling == "yarn" and first and not any(told(f"rope.scaling.{key}") for key in YARN_UNREAD):
        betas = {key: told(f"rope.scaling.yarn_{key}") for key in ("beta_fast", "beta_slow")}
        given = {key: beta for key, beta in betas.items() if beta}
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": first, **given}
    raise MisreadError(f"transformers does not read {kind}.rope.scaling.type ({scaling})")


def _llama3(header: Header) -> dict[str, Any]:
    """The setting that gives the factors in rope_freqs.weight, as all Llama 3.x have them."""
    factors = header.floats("rope_freqs.weight")
    if max(factors) == min(factors) == 1:
        return {}
    base = header.of_model("rope.freq_base", 10000.0)
    rope = {"factor": max(factors), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    for first in (8192, header.of_model("rope.scaling.original_context_length", 8192)):
        lengths = [2 * math.pi * base ** (n / len(factors)) for n in range(len(factors))]
        smooth = [min(1.0, max(0.0, (first / length - 1) / 3)) for length in lengths]
        wanted = [1 / ((1 - part) / max(factors) + part) for part in smooth]
        if all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(factors, wanted, strict=True)):
            return {"rope_type": "llama3", "original_max_position_embeddings": first, **rope}
    raise MisreadError("rope_freqs.weight, which transformers does not read, is not that of Llama 3")


def misread_tokens(header: Header) -> str:
    """The key in the header by which transformers would split texts otherwise than the model expects; else ""."""
    told = header.values.get
    model, split = told("tokenizer.ggml.model"), told("tokenizer.ggml.pre")
    kind = header.architecture
    splits = SPLITS_OF.get(kind, frozenset() if kind in GEMMA else SPLITS)
    if model == "gpt2" and split not in splits and (split or kind != "gpt2"):
        return f"tokenizer.ggml.pre ({split or 'missing'})"
    if model in UNSPLIT or (model == "llama" and kind in SPLITS_OF):
        return f"tokenizer.ggml.model ({model})"
    if kind == "mamba" and told("tokenizer.ggml.add_bos_token"):
        return "tokenizer.ggml.add_bos_token (True)"
    if model == "gpt2" and (token := next((token for token in header.whole_tokens if not BYTES.issuperset(token)), "")):
        return f"tokenizer.ggml.token_type (of {token!r})"
    if model == "llama" and told("tokenizer.ggml.add_space_prefix", kind not in GEMMA) is (kind in GEMMA):
        return f"tokenizer.ggml.add_space_prefix ({told('tokenizer.ggml.add_space_prefix')})"
    return ""


def missed_tokenizer(header: Header) -> dict[str, bool]:
    """Settings of the tokenizer that the header implies, as llama.cpp reads it, and transformers does not set."""
    told = header.values
    if told.get("tokenizer.ggml.model") != "gpt2" or told.get("tokenizer.ggml.pre") not in WHOLE_WORDS:
        return {}
    begins = "tokenizer.ggml.bos_token_id" in told and "tokenizer.ggml.add_bos_token" not in told
    return {"ignore_merges": True} | ({"add_bos_token": True} if begins else {})


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
    """A file after its first words, with the number of its tensors and of its values."""
    with path.open("rb") as file:
        magic, version, tensors, count = _numbers(file, "<4sIQQ")
        if magic != b"GGUF" or version < 2:
            raise ValueError(f"not a GGUF file of version 2 or later: {magic!r} {version}")
        yield file, tensors, count


def _numbers(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _text(file: BinaryIO) -> str:
    (length,) = _numbers(file, "<Q")
    text = file.read(length) if length <= LONGEST else b""
    if len(text) < length:
        raise ValueError(f"a text of {length:,} bytes is cut off")
    return text.decode("utf-8", "replace")


def _whole_tokens(file: BinaryIO, places: dict[str, int]) -> list[str]:
    """The tokens of the types CONTROL and USER_DEFINED."""
    file.seek(places[TYPES])
    inner, count = _numbers(file, "<IQ")
    types = _numbers(file, f"<{count}{FORMATS[inner][1]}")
    file.seek(places[TOKENS] + struct.calcsize("<IQ"))
    return [token for kind in types if (token := _text(file)) and kind in (CONTROL, USER_DEFINED)]


def _value(file: BinaryIO, kind: int) -> Any:
    """A number, a text or an array of few numbers; None for other arrays, which are skipped."""
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        return _numbers(file, FORMATS[kind])[0]
    inner, count = _numbers(file, "<IQ")
    if inner in FORMATS and count <= LAYERS:
        return list(_numbers(file, f"<{count}{FORMATS[inner][1]}"))
    if inner in FORMATS:
        file.seek(struct.calcsize(FORMATS[inner]) * count, 1)
    elif inner == TEXT:
        for _ in range(count):
            file.seek(struct.unpack("<Q", file.read(8))[0], 1)
    else:
        for _ in range(count):
            _value(file, inner)
    return None
