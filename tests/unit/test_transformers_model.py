"""The batched engine against plain computations: full logits, no cache, one row at a time."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from shardmark.engine.tokens import ScoredRow
from shardmark.errors import UserError

NEAR = 1e-4
LENGTHS = (1, 12, 5, 9, 2, 7, 12)


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def backend(folder: Path) -> Any:
    return tiny_models.load_backend(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    return tiny_models.plain_model(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.load_backend(tiny_models.random_model(tmp_path_factory.mktemp("llama")))


def prompts(seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(256) for _ in range(length)] for length in LENGTHS]


def plain_logits(model: Any, inputs: list[int]) -> Any:
    """Float32 logits at every position of one row."""
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([inputs]), use_cache=False).logits[0].float()


def plain_generate(model: Any, inputs: list[int], new: int, ends: list[int]) -> tuple[list[int], str]:
    """Greedy tokens without the EOS, and what ended them."""
    tokens: list[int] = []
    while len(tokens) < new:
        token = int(plain_logits(model, inputs + tokens)[-1].argmax())
        if token in ends:
            return tokens, "eos"
        tokens.append(token)
    return tokens, "length"


def generate(backend: Any, prompts: list[Any], new: int = 8, stop: tuple[str, ...] = ()) -> list[tuple[str, int, str]]:
    from shardmark.engine.batches import Limit
    from shardmark.engine.generation import GenerateRow

    inputs = [backend.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    rows = [GenerateRow(tokens, new, list(stop)) for tokens in inputs]
    found = {id(row): answer for done in backend.generation(Limit()).results(rows) for row, answer in done}
    return [(found[id(row)].text, found[id(row)].tokens, found[id(row)].end) for row in rows]


# Generation


def test_generation_is_the_argmax_of_full_logits_one_row_at_a_time(backend: Any, plain: Any) -> None:
    found = generate(backend, prompts(), new=10)
    for inputs, (text, count, end) in zip(prompts(), found, strict=True):
        tokens, wanted_end = plain_generate(plain, inputs, 10, backend.ends)
        assert text == backend.tokenizer.decode(tokens, skip_special_tokens=True)
        assert (count, end) == (len(tokens), wanted_end)


def test_generation_does_not_depend_on_the_batch(backend: Any) -> None:
    together = generate(backend, prompts(3))
    assert [generate(backend, [prompt])[0] for prompt in prompts(3)] == together
    assert generate(backend, prompts(3)[::-1]) == together[::-1]


def test_the_sequence_may_fill_the_window(backend: Any, plain: Any) -> None:
    inputs = [n % 256 for n in range(7, 7 + tiny_models.WINDOW - 3)]
    tokens, end = plain_generate(plain, inputs, 3, backend.ends)
    text = backend.tokenizer.decode(tokens, skip_special_tokens=True)
    assert generate(backend, [inputs, [1]], new=3)[0] == (text, len(tokens), end)


@pytest.mark.parametrize(
    ("architecture", "lengths"), [("trocr", (9, 5, 7)), ("rwkv", (9, 9, 9))], ids=["padding", "states"]
)
def test_rows_that_would_disturb_each_other_are_generated_apart(
    tmp_path: Path, architecture: str, lengths: tuple[int, ...]
) -> None:
    backend = tiny_models.load_backend(tiny_models.random_model(tmp_path, architecture))
    rows = [[(31 * n + 7 * m) % 256 for n in range(length)] for m, length in enumerate(lengths)]
    found = generate(backend, rows)
    for inputs, (text, _, _) in zip(rows, found, strict=True):
        tokens, _ = plain_generate(backend.model, inputs, 8, backend.ends)
        assert text == backend.tokenizer.decode(tokens, skip_special_tokens=True)


SAMPLING = {"do_sample": True, "temperature": 3.0, "top_k": 5, "repetition_penalty": 5.0, "min_new_tokens": 9}


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_decoding_settings_that_come_with_the_weights_change_nothing(tmp_path: Path, file: str) -> None:
    folder = tiny_models.random_model(tmp_path)
    before = generate(tiny_models.load_backend(folder), prompts(), new=12)
    settings = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(settings | SAMPLING))
    assert generate(tiny_models.load_backend(folder), prompts(), new=12) == before


def test_the_penalty_of_the_test_above_would_change_the_output(tmp_path: Path) -> None:
    import torch

    backend = tiny_models.load_backend(tiny_models.random_model(tmp_path))
    inputs = torch.tensor([prompts()[1]])
    arguments = {"input_ids": inputs, "attention_mask": torch.ones_like(inputs), "max_new_tokens": 12}
    penalised = backend.model.generate(**arguments, do_sample=False, repetition_penalty=5.0)
    assert penalised.tolist() != backend.model.generate(**arguments, do_sample=False).tolist()


# Where a generation ends. The chain models write what the test says.


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """1 tells of x, abc, y, newline-Q and z, 2 ends at once, 3 repeats itself, 4 goes round."""
    folder = tmp_path_factory.mktemp("story")
    return tiny_models.load_backend(tiny_models.chain_model(folder, "1xabcy\nQz<eos>", "2<eos>", "4ENDwEND"))


def test_the_text_ends_before_eos_which_is_not_counted(story: Any) -> None:
    assert generate(story, ["1"]) == [("xabcy\nQz", 5, "eos")]


def test_eos_at_once_is_an_empty_text(story: Any) -> None:
    assert generate(story, ["2"]) == [("", 0, "eos")]


def test_the_end_is_length_when_all_tokens_are_used(story: Any) -> None:
    assert generate(story, ["1"], new=5) == [("xabcy\nQz", 5, "length")]
    assert generate(story, ["3"], new=4) == [("3333", 4, "length")]


def test_eos_as_the_last_allowed_token_is_eos(story: Any) -> None:
    assert generate(story, ["1"], new=6) == [("xabcy\nQz", 5, "eos")]


@pytest.mark.parametrize(
    ("stop", "text", "count"),
    [
        ("\n", "xabcy", 4),  # the first half of a token
        ("b", "xa", 2),  # inside a token
        ("Q", "xabcy\n", 4),  # the last half of a token
        ("cy", "xab", 3),  # spans two tokens
        ("xabcy\nQz", "", 5),  # spans them all
        ("x", "", 1),  # at once
    ],
)
def test_a_stop_string_ends_the_text_wherever_it_lies_among_tokens(
    story: Any, stop: str, text: str, count: int
) -> None:
    assert generate(story, ["1"], new=20, stop=(stop,)) == [(text, count, "stop")]


def test_a_stop_string_that_never_comes_changes_nothing(story: Any) -> None:
    assert generate(story, ["1"], stop=("never",)) == generate(story, ["1"])


def test_a_stop_string_in_the_prompt_does_not_count(story: Any) -> None:
    assert generate(story, ["y\nQ1"], stop=("\nQ1", "y\nQ1x")) == [("xabcy\nQz", 5, "eos")]


def test_the_first_of_several_stop_strings_counts(story: Any) -> None:
    assert generate(story, ["1"], stop=("z", "\n", "y\nQ")) == [("xabc", 4, "stop")]


def test_a_stop_string_with_the_last_allowed_token_is_a_stop(story: Any) -> None:
    assert generate(story, ["1"], new=3, stop=("y",)) == [("xabc", 3, "stop")]


def test_each_row_of_a_batch_ends_for_its_own_reason_and_counts_its_own_tokens(story: Any) -> None:
    alone = [("xabcy", 4, "stop"), ("", 0, "eos"), ("3" * 9, 9, "length"), ("ENDw" * 4 + "END", 9, "length")]
    assert [generate(story, [p], new=9, stop=("\n",))[0] for p in "1234"] == alone
    assert generate(story, list("1234"), new=9, stop=("\n",)) == alone
    assert generate(story, ["3" * 20 + "1", "2", "13", "554"], new=9, stop=("\n",)) == alone


@pytest.mark.parametrize("special", [{"pad": False}, {"eos": False}, {"eos": False, "pad": False}])
def test_counts_of_stopped_rows_do_not_depend_on_how_finished_rows_are_padded(
    tmp_path: Path, special: dict[str, bool]
) -> None:
    backend = tiny_models.load_backend(tiny_models.chain_model(tmp_path, "1x!y", **special))
    assert backend.tokenizer.decode([0]) == "!"  # what pads where nothing else can
    assert generate(backend, list("13"), new=9, stop=("x",)) == [("", 1, "stop"), ("3" * 9, 9, "length")]
    assert generate(backend, list("31"), new=9, stop=("y",)) == [("3" * 9, 9, "length"), ("x!", 3, "stop")]


@pytest.mark.parametrize("start", [1, 12, 37])
def test_a_stop_string_is_found_at_the_end_of_a_long_text_however_long_it_is(tmp_path: Path, start: int) -> None:
    chain = "0123456789*+-./:;<=>?@GHIJKLMNOPRSTUVW"
    backend = tiny_models.load_backend(tiny_models.chain_model(tmp_path, chain))
    stop = chain[start:]
    assert generate(backend, ["0"], new=60, stop=(stop,)) == [(chain[1:start], len(chain) - 1, "stop")]


def test_special_tokens_do_not_hide_a_stop_string(tmp_path: Path) -> None:
    backend = tiny_models.load_backend(tiny_models.chain_model(tmp_path, "1x<bos>yz"))
    assert generate(backend, ["1"], new=9, stop=("xy",)) == [("", 3, "stop")]


def test_a_stop_string_of_several_bytes_ends_where_its_last_byte_is_written(tmp_path: Path) -> None:
    backend = tiny_models.load_backend(tiny_models.chain_model(tmp_path, "1→é<eos>"))
    assert generate(backend, ["1"], new=9) == [("→é", 5, "eos")]
    assert generate(backend, ["1"], new=9, stop=("é",)) == [("→", 5, "stop")]
    assert generate(backend, ["1"], new=9, stop=("→é",)) == [("", 5, "stop")]


def test_several_tokens_can_end_a_text(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "1xy")
    config = json.loads((folder / "generation_config.json").read_text())
    tokenizer = tiny_models.save_tokenizer(tmp_path)
    config["eos_token_id"] = [tokenizer.eos_token_id, tiny_models.token_id(tokenizer, "y")]
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert generate(tiny_models.load_backend(folder), ["1"]) == [("x", 1, "eos")]


def test_the_token_0_can_end_a_text(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "1x!")  # "!" is the token 0
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": 0}))
    assert generate(tiny_models.load_backend(folder), ["1"]) == [("x", 1, "eos")]


@pytest.mark.parametrize(
    "special",
    [{"pad": False}, {"bos": False}, {"bos": False, "pad": False}, {"eos": False}, {"pad": False, "eos": False}],
)
def test_a_tokenizer_may_lack_special_tokens(tmp_path: Path, special: dict[str, bool]) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_models.random_model(tmp_path, **special)
    backend = tiny_models.load_backend(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    for inputs, (text, count, end) in zip(prompts(), generate(backend, prompts()), strict=True):
        tokens, wanted_end = plain_generate(plain, inputs, 8, backend.ends)
        assert (text, count, end) == (
            backend.tokenizer.decode(tokens, skip_special_tokens=True),
            len(tokens),
            wanted_end,
        )
    rows = [ScoredRow(prompt, [7], 0) for prompt in prompts()]
    for row, (value, _) in zip(rows, tiny_models.scores(backend, rows), strict=True):
        assert value == pytest.approx(tiny_models.plain_score(plain, row)[0], abs=NEAR)


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not None}))


ENDS = {
    "the tokenizer's": lambda folder: edit_json(folder / "tokenizer_config.json", eos_token="<pad>"),
    "config's": lambda folder: edit_json(folder / "config.json", eos_token_id=263),
    "one of config's": lambda folder: edit_json(folder / "config.json", eos_token_id=[262, 263]),
    "generation_config's": lambda folder: edit_json(folder / "generation_config.json", eos_token_id=263),
}
"What calls <pad>, which is 263, the end of a text; the rest says <eos>, 262."


@pytest.mark.parametrize("whose", ENDS)
def test_an_eos_ends_a_text_whoever_calls_it_so(tmp_path: Path, whose: str) -> None:
    folder = tiny_models.chain_model(tmp_path, "1xy<pad>z", "2w<eos>z")
    ENDS[whose](folder)
    backend = tiny_models.load_backend(folder)
    assert [backend.tokenizer.convert_tokens_to_ids(text) for text in ("<eos>", "<pad>")] == [262, 263]
    assert generate(backend, ["1", "2"], new=9) == [("xy", 2, "eos"), ("w", 1, "eos")]


def test_config_ends_a_text_as_it_is_written_not_by_default(tmp_path: Path) -> None:
    """LlamaConfig has an EOS of its own, 2, which is `#` here."""
    folder = tiny_models.chain_model(tmp_path, "1#x<eos>")
    edit_json(folder / "config.json", eos_token_id=None)
    backend = tiny_models.load_backend(folder)
    assert backend.model.config.eos_token_id == tiny_models.token_id(backend.tokenizer, "#")
    assert generate(backend, ["1"]) == [("#x", 2, "eos")]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """1 writes special tokens between letters."""
    folder = tmp_path_factory.mktemp("marked")
    return tiny_models.load_backend(tiny_models.chain_model(folder, "1x<bos>y<pad>zw<eos>", "2x", "5v<bos>"))


SPECIAL_STOPS = [
    ("<bos>", "x", 2),  # the token
    ("y<pad>", "xy", 4),  # text before it
    ("<pad>z", "xyz", 5),  # text after it: what is left without the token stays, as in lm-eval
    ("x<bos>y<pad>z", "xyz", 5),  # several
    ("os>y", "xy", 3),  # a part of the token
    ("<", "x", 2),
    ("yz", "x", 5),  # what is next to each other without it
]


@pytest.mark.parametrize(("stop", "text", "count"), SPECIAL_STOPS)
def test_a_stop_string_may_be_or_have_special_tokens(marked: Any, stop: str, text: str, count: int) -> None:
    assert generate(marked, ["1"], new=9, stop=(stop, "never")) == [(text, count, "stop")]


def test_a_special_token_that_is_no_stop_string_goes_on_being_left_out(marked: Any) -> None:
    assert generate(marked, ["1"], new=20, stop=("never", "<none>", "<bos><pad>")) == [("xyzw", 6, "eos")]


def test_an_added_token_that_is_not_special_is_text(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "1x<bos>y<eos>")
    edit = json.loads((folder / "tokenizer.json").read_text())
    for token in edit["added_tokens"]:
        token["special"] = token["content"] != "<bos>"
    (folder / "tokenizer.json").write_text(json.dumps(edit))
    edit_json(folder / "tokenizer_config.json", bos_token=None)
    backend = tiny_models.load_backend(folder)
    assert "<bos>" not in backend.tokenizer.all_special_tokens
    assert generate(backend, ["1"], stop=("<bos>",)) == [("x", 2, "stop")]
    assert generate(backend, ["1"]) == [("x<bos>y", 3, "eos")]


def test_an_output_that_is_no_number_is_said_so_for_its_row_only(tmp_path: Path) -> None:
    backend = tiny_models.load_backend(tiny_models.chain_model(tmp_path, "1xyz<eos>"))
    poison = tiny_models.token_id(backend.tokenizer, "z")
    backend.model.model.embed_tokens.weight.data[poison] = float("nan")
    assert generate(backend, ["1", "5"], new=6) == [("", 3, "nan"), ("555555", 6, "length")]
    assert generate(backend, ["1"], new=3) == [("xyz", 3, "length")]
    assert generate(backend, ["1", "5"], new=6, stop=("y",)) == [("x", 2, "stop"), ("555555", 6, "length")]


def test_an_output_that_is_no_number_is_not_taken_for_an_eos_with_id_0(tmp_path: Path) -> None:
    folder = tiny_models.chain_model(tmp_path, "1x!")
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": 0}))
    backend = tiny_models.load_backend(folder)
    backend.model.model.embed_tokens.weight.data[tiny_models.token_id(backend.tokenizer, "x")] = float("nan")
    assert generate(backend, ["1"]) == [("", 1, "nan")]


# Loading


@pytest.mark.parametrize("architecture", ["gpt2", "opt"])
def test_a_window_beyond_the_table_of_positions_names_model_and_key(tmp_path: Path, architecture: str) -> None:
    folder = tiny_models.random_model(tmp_path, architecture)
    size = tiny_models.WINDOW
    assert tiny_models.load_backend(folder, max_seq_len=size).window == size
    with pytest.raises(
        UserError, match=rf"tiny.yaml: max_seq_len: model tiny has a table of {size} positions"
    ) as caught:
        tiny_models.load_backend(folder, max_seq_len=size + 1)
    assert f"fix: set it to {size} or less" in str(caught.value)


def test_a_window_beyond_the_models_own_is_fine_without_a_table(llama: Any) -> None:
    assert tiny_models.load_backend(Path(llama.model.name_or_path), max_seq_len=1000).window == 1000


def test_the_window_is_the_models_own_or_the_one_that_is_set(folder: Path, backend: Any) -> None:
    assert backend.window == tiny_models.WINDOW
    assert tiny_models.load_backend(folder, max_seq_len=16).window == 16


def test_each_step_is_told_whatever_way_a_model_is_run(backend: Any) -> None:
    told: list[int] = []
    backend.on_forward(lambda: told.append(1))
    tiny_models.scores(backend, [ScoredRow([1, 2, 3], [4], 0)])
    scored = len(told)
    generate(backend, [[1, 2, 3]])
    assert 0 < scored < len(told)


def test_batches_are_bounded_by_what_is_set_or_by_memory(backend: Any) -> None:
    assert backend.limit(3, False).rows == 3
    assert backend.limit(3, False).padding is False
    scoring, generating = backend.limit("auto", True), backend.limit("auto", True, new_tokens=10)
    assert scoring.rows is None
    assert 1 <= scoring.tokens <= 4096
    assert generating.rows == 64
    assert generating.tokens >= 1


def test_sizes_given_for_each_layer_or_not_at_all_do_not_stop_the_estimate(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = llama.limit("auto", True, 5).tokens
    config = vars(llama.model.config)
    monkeypatch.setitem(config, "intermediate_size", [24, 24])
    assert llama.limit("auto", True, 5).tokens == pytest.approx(usual, rel=0.5)
    for name in ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"):
        monkeypatch.setitem(config, name, None)
    assert llama.limit("auto", True, 5).tokens >= 1


def test_the_same_option_for_weights_and_tokenizer_is_no_clash(llama: Any, tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path)
    kwargs = {"padding_side": "left", "truncation": "left", "trust_remote_code": True}
    backend = tiny_models.load_backend(folder, tokenizer_kwargs=kwargs)
    assert generate(backend, prompts()) == generate(llama, prompts())


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"num_gpus": 0}, None),
        ({"num_gpus": 1}, None),
        ({"num_gpus": 2}, "auto"),
        ({"num_gpus": 2, "model_kwargs": {"device_map": "sequential"}}, "sequential"),
    ],
)
def test_several_gpus_share_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], wanted: str | None
) -> None:
    from transformers import AutoModelForCausalLM

    seen = []

    def from_pretrained(*_: Any, device_map: str | None = None, **__: Any) -> None:
        seen.append(device_map)
        raise OSError("there are no GPUs here")

    folder = tiny_models.random_model(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(UserError, match="there are no GPUs here"):
        tiny_models.load_backend(folder, **settings)
    assert seen == [wanted]


def damage_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def lose_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize("harm", [damage_weights, lose_weights, lose_tokenizer])
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, harm: Any) -> None:
    from shardmark.engine.transformers.model import TransformersModel

    folder = tiny_models.random_model(tmp_path)
    record = tiny_models.model_record(folder)
    harm(folder)
    with pytest.raises(UserError, match=r"config/models/tiny.yaml: path: model tiny cannot be loaded"):
        TransformersModel(record, tiny_models.staged(folder))


def test_a_model_that_sees_what_it_is_to_predict_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path, "bert")
    with pytest.raises(UserError, match=r"tiny.yaml: path: model tiny is not causal"):
        tiny_models.load_backend(folder)
    edit_json(folder / "config.json", is_decoder=True)
    tiny_models.load_backend(folder)


def test_an_unknown_model_option_names_the_model(tmp_path: Path) -> None:
    folder = tiny_models.random_model(tmp_path)
    with pytest.raises(UserError, match="model tiny cannot be loaded"):
        tiny_models.load_backend(folder, model_kwargs={"attn_implementation": "no such thing"})
